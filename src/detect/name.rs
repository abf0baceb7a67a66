//! From an excess to a name: family, subtype, shares, confidence, and who came second.

use super::baseline::Unit;
use super::vector::{Excess, Family, Vector, permille};
use super::vector::{
    JOINED_PERMILLE, MULTI_PACKETS, MULTI_PERMILLE, NAMED_PERMILLE, UDP_FRAGMENT_PERMILLE,
};
use crate::classify::TrafficClass;
use crate::count::{Count, WINDOWS_PER_SECOND};

/// What naming needs beside the excess.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// In which unit shares are judged.
    pub unit: Unit,
    /// The packet limit in force, or the floor where there is none yet.
    pub limit_pps: u64,
    /// The bit limit in force, or the floor where there is none yet.
    pub limit_bps: u64,
}

/// One vector's part of the excess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The vector.
    pub vector: Vector,
    /// The family it belongs to.
    pub family: Family,
    /// What it is called.
    pub subtype: &'static str,
    /// Excess packets and bits.
    pub excess: Count,
    /// Part of all excess packets, in permille.
    pub packets_permille: u64,
    /// Part of all excess bits, in permille.
    pub bits_permille: u64,
}

/// A family and its part of the excess in the unit of the trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyShare {
    /// The family.
    pub family: Family,
    /// Excess packets and bits of all its vectors.
    pub excess: Count,
    /// Part of all excess packets, in permille.
    pub packets_permille: u64,
    /// Part of all excess bits, in permille.
    pub bits_permille: u64,
}

impl FamilyShare {
    const fn permille(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Packets => self.packets_permille,
            Unit::Bits => self.bits_permille,
        }
    }
}

/// How sure the name is, 0 to 100, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confidence {
    /// The figure: the smaller of the two parts, within the cap.
    pub percent: u64,
    /// Share of the excess that the name explains, in permille.
    pub purity_permille: u64,
    /// What kind of evidence it rests on: 1,000 payload or behaviour, 850 headers, 700 no baseline.
    pub evidence_permille: u64,
    /// How many packets it rests on: 500 for one, near 1,000 for many.
    pub sample_permille: u64,
    /// The most it can be, and why, when something could not be known.
    pub cap: Option<(u64, &'static str)>,
}

impl Confidence {
    /// Every cap there is.
    pub const CAPS: [(u64, &str); 1] = [CAP_BLINDFOLD];
}

/// What an excess is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The family.
    pub family: Family,
    /// The subtype; several joined by `+`.
    pub subtype: String,
    /// The families it was named after: two for multi-vector, none when it is unknown.
    pub named: Vec<Family>,
    /// Whether capture shows too little to name anything.
    pub blind: bool,
    /// How sure.
    pub confidence: Confidence,
    /// Everything above normal.
    pub excess: Count,
    /// Every vector with a part worth naming, largest first.
    pub shares: Vec<Share>,
    /// The families, largest first in the unit judged.
    pub families: Vec<FamilyShare>,
}

/// A vector is listed from this share of packets or bits on, in permille: below, it is the noise that the excess rule
/// already calls noise.
const LISTED_PERMILLE: u64 = 20;

/// The most confidence there is without a baseline and without knowing what the host's own packets paid for.
const CAP_BLINDFOLD: (u64, &str) = (
    40,
    "no baseline yet, and the host's own answers are not weighed",
);

impl Name {
    /// Whether packets of a class are part of what was named: all of them when nothing could be.
    #[must_use]
    pub fn has_class(&self, class: TrafficClass) -> bool {
        let belongs =
            |share: &Share| self.named.contains(&share.family) && share.vector.has_class(class);
        self.named.is_empty() || self.shares.iter().any(belongs)
    }

    /// The family that came second, if any did.
    #[must_use]
    pub fn runner_up(&self) -> Option<&FamilyShare> {
        self.families
            .iter()
            .find(|share| share.family != self.leader().map_or(Family::Unknown, |l| l.family))
    }

    /// The family with most of the excess, if there is any.
    #[must_use]
    pub fn leader(&self) -> Option<&FamilyShare> {
        self.families.first()
    }
}

impl Excess {
    /// Names the excess.
    #[must_use]
    pub fn name(&self, context: &Context) -> Name {
        let total = self.total();
        let unit = context.unit;
        let shares = self.shares(total, unit);
        let families = families(&shares, total, unit);
        let named = self.named(&families, context);
        let (family, confidence) = match named.as_slice() {
            [] => (Family::Unknown, Confidence::default()),
            [leader] => (leader.family, self.confidence(&named, unit)),
            _ => (Family::MultiVector, self.confidence(&named, unit)),
        };
        let subtypes: Vec<String> = named
            .iter()
            .map(|share| subtype_of(share.family, &shares, unit))
            .collect();
        Name {
            family,
            subtype: match subtypes.as_slice() {
                [] => "unclassified".to_owned(),
                subtypes => subtypes.join("+"),
            },
            named: named.iter().map(|share| share.family).collect(),
            blind: self.is_blind(),
            confidence,
            excess: total,
            shares,
            families,
        }
    }

    /// The families that give the name: two, one, or none.
    fn named(&self, families: &[FamilyShare], context: &Context) -> Vec<FamilyShare> {
        if self.is_blind() {
            return Vec::new();
        }
        if let Some(both) = self.multi(families, context) {
            return both.to_vec();
        }
        let leader = families
            .iter()
            .find(|share| share.family != Family::Unknown);
        leader
            .filter(|leader| leader.permille(context.unit) >= NAMED_PERMILLE)
            .map(|leader| vec![*leader])
            .unwrap_or_default()
    }

    /// Every vector's part, largest first.
    fn shares(&self, total: Count, unit: Unit) -> Vec<Share> {
        let mut shares: Vec<Share> = self
            .labelled()
            .into_iter()
            .filter(|(_, _, excess)| excess.packets > 0)
            .map(|(vector, subtype, excess)| Share {
                vector,
                family: vector.family(),
                subtype,
                excess,
                packets_permille: permille(excess.packets, total.packets),
                bits_permille: permille(excess.bits, total.bits),
            })
            .filter(|share| {
                share.packets_permille >= LISTED_PERMILLE || share.bits_permille >= LISTED_PERMILLE
            })
            .collect();
        // A stable sort: equal shares keep the fixed order of the vectors.
        shares.sort_by_key(|share| std::cmp::Reverse(unit.of(share.excess)));
        shares
    }

    /// The vectors with their names. Plain UDP and its fragments are one flood with one name.
    fn labelled(&self) -> Vec<(Vector, &'static str, Count)> {
        let fragments = self.vector(Vector::UdpFragment);
        let mut udp = self.vector(Vector::Udp);
        udp.merge(fragments);
        let fragmented = permille(fragments.packets, udp.packets) >= UDP_FRAGMENT_PERMILLE;
        Vector::all()
            .filter(|vector| *vector != Vector::UdpFragment)
            .map(|vector| match vector {
                Vector::Udp if fragmented => (vector, Vector::UdpFragment.subtype(udp), udp),
                Vector::Udp => (vector, vector.subtype(udp), udp),
                _ => (
                    vector,
                    vector.subtype(self.vector(vector)),
                    self.vector(vector),
                ),
            })
            .collect()
    }

    /// The two families that make it multi-vector, if two do.
    fn multi(&self, families: &[FamilyShare], context: &Context) -> Option<[FamilyShare; 2]> {
        let per_second =
            |value: u64| value.saturating_mul(WINDOWS_PER_SECOND) / self.windows().max(1);
        let counts = |share: &&FamilyShare| {
            let in_packets = share.packets_permille >= MULTI_PERMILLE
                && per_second(share.excess.packets) >= context.limit_pps / 10;
            let in_bits = share.bits_permille >= MULTI_PERMILLE
                && per_second(share.excess.bits) >= context.limit_bps / 10;
            share.family != Family::Unknown
                && share.excess.packets > MULTI_PACKETS
                && (in_packets || in_bits)
        };
        let mut both = families.iter().filter(counts);
        Some([*both.next()?, *both.next()?])
    }

    /// How sure a name after these families is.
    fn confidence(&self, named: &[FamilyShare], unit: Unit) -> Confidence {
        let purity: u64 = named.iter().map(|share| share.permille(unit)).sum();
        let purity_permille = purity.min(1_000);
        let packets: u64 = named.iter().map(|share| share.excess.packets).sum();
        let evidence_permille = if !self.baseline_known() {
            700
        } else if self.proven() * 2 >= packets {
            1_000
        } else {
            850
        };
        let captured = packets.min(self.captured());
        let sample_permille = 1_000 - (2_000 / captured.isqrt().max(1)).min(500);
        let name = purity_permille * evidence_permille / 1_000 * sample_permille / 1_000 / 10;
        let cap = (!self.baseline_known()).then_some(CAP_BLINDFOLD);
        let percent = name.min(cap.map_or(100, |(most, _)| most));
        Confidence {
            percent,
            purity_permille,
            evidence_permille,
            sample_permille,
            cap,
        }
    }
}

/// The families' parts, largest first in `unit`.
fn families(shares: &[Share], total: Count, unit: Unit) -> Vec<FamilyShare> {
    let mut families: Vec<FamilyShare> = Family::ALL
        .into_iter()
        .map(|family| {
            let mut excess = Count::default();
            for share in shares.iter().filter(|share| share.family == family) {
                excess.merge(share.excess);
            }
            FamilyShare {
                family,
                excess,
                packets_permille: permille(excess.packets, total.packets),
                bits_permille: permille(excess.bits, total.bits),
            }
        })
        .filter(|share| share.excess.packets > 0)
        .collect();
    families.sort_by_key(|share| std::cmp::Reverse(unit.of(share.excess)));
    families
}

/// What a family is called in detail: its largest vector, and those that come near it.
fn subtype_of(family: Family, shares: &[Share], unit: Unit) -> String {
    let own: Vec<&Share> = shares
        .iter()
        .filter(|share| share.family == family)
        .collect();
    let whole: u64 = own.iter().map(|share| unit.of(share.excess)).sum();
    let part = |share: &Share| permille(unit.of(share.excess), whole);
    match own.as_slice() {
        [] => "unclassified".to_owned(),
        [only] => only.subtype.to_owned(),
        // TCP flag floods that mix flags are one tool's work, not several vectors.
        [first, ..] if family == Family::TcpFlood && part(first) < 500 => "tcp_generic".to_owned(),
        [first, ..] if family == Family::TcpFlood => first.subtype.to_owned(),
        [first, rest @ ..] => {
            let mut subtype = first.subtype.to_owned();
            for share in rest.iter().filter(|share| part(share) >= JOINED_PERMILLE) {
                subtype.push('+');
                subtype.push_str(share.subtype);
            }
            subtype
        }
    }
}
