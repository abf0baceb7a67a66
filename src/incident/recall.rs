//! An incident from its report: what was stored is gone on with after a restart, and explained long afterwards.
//!
//! A report says everything that is told about an incident. What nobody is told and the incident still needs, [`Kept`]
//! holds beside it. Reports come out of a file: lists are cut to their bounds, and what cannot be read is left out. Pure.

use serde::{Deserialize, Serialize};

use super::account::LISTED;
use super::report::{in_millis, thousandths};
use super::{
    CurvePoint, Fired, ForensicFacts, Forensics, Incident, IncidentId, ProtocolShares, Report,
    Scale, Standing, VectorPart,
};
use crate::clock::Timestamp;
use crate::count::{Count, Distinct, LENGTH_BOUNDS, Loss, SourceCount};
use crate::detect::{Confidence, Family, FamilyShare, Normal, TriggerId, Unit, percent, permille};

/// No 64-bit count of packets has sources with more entropy than 64 bits.
const ENTROPY_MILLIBITS_MOST: u64 = 64_000;

/// A stored count that is higher was not written by us: at 100 million packets a second it takes 365 years, and fifteen of
/// them add up to less than 64 bits hold.
const COUNT_MOST: u64 = 1 << 60;

/// Vectors and families are this many at most; a report that lists more was not written by us.
const LISTED_VECTORS: usize = 64;

/// What a report does not tell and its incident needs: to go on after a restart, and to be explained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The end of the newest window that was looked at.
    pub seen_until: Option<Timestamp>,
    /// When its last window above the limit ended.
    pub last_above_at: Option<Timestamp>,
    /// Since when everything that fired was below its limit, if it was.
    pub clear_since: Option<Timestamp>,
    /// When it was resolved, if it is.
    pub resolved_at: Option<Timestamp>,
    /// For how long everything has to stay below before it is resolved.
    pub hold_ms: u64,
    /// When that hold last grew.
    pub hold_grown_at: Option<Timestamp>,
    /// Triggers whose limit the platform had set.
    pub platform_triggers: Vec<String>,
    /// The unit its severity was measured in: `pps` or `bps`.
    pub severity_unit: String,
    /// What its severity was measured with, in that unit.
    pub severity_base: u64,
    /// The mean that came from, if there was one.
    pub severity_mean: Option<u64>,
    /// 99th percentile of quiet seconds in packets a second when it opened.
    pub baseline_p99_pps: Option<u64>,
    /// The same in bits.
    pub baseline_p99_bps: Option<u64>,
    /// The platform's mean when it opened, in packets a second.
    pub platform_mean_pps: Option<u64>,
    /// Share of the excess that the name explains, in permille.
    pub purity_permille: u64,
    /// What kind of evidence it rests on, in permille.
    pub evidence_permille: u64,
    /// How many packets it rests on, in permille.
    pub sample_permille: u64,
    /// The most the confidence could be, in percent, when something could not be known.
    pub confidence_cap: Option<u64>,
    /// Packets above normal.
    pub excess_packets: u64,
    /// Bits above normal.
    pub excess_bits: u64,
    /// Every family's part of them, largest first.
    pub families: Vec<FamilyExcess>,
    /// When the limit it crossed lies below normal traffic: one that would fit, in the unit of its severity.
    pub fitting_limit: Option<u64>,
}

/// One family's part of an incident's excess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyExcess {
    /// The family.
    pub family: Family,
    /// Packets above normal.
    pub packets: u64,
    /// Bits above normal.
    pub bits: u64,
}

impl Kept {
    pub(super) fn of(incident: &Incident) -> Self {
        let Standing {
            seen_until,
            clear_since,
            hold_millis,
            hold_grown_at,
            resolved_at,
        } = incident.standing;
        let by_platform = incident.fired.iter().filter(|fired| fired.by_platform);
        let excess_of = |share: &FamilyShare| FamilyExcess {
            family: share.family,
            packets: share.excess.packets,
            bits: share.excess.bits,
        };
        let confidence = incident.confidence;
        Self {
            seen_until: Some(in_millis(seen_until)),
            last_above_at: Some(in_millis(incident.last_above_at)),
            clear_since: clear_since.map(in_millis),
            resolved_at: resolved_at.map(in_millis),
            hold_ms: hold_millis,
            hold_grown_at: hold_grown_at.map(in_millis),
            platform_triggers: by_platform
                .map(|fired| fired.id.name().to_owned())
                .collect(),
            severity_unit: incident.scale.unit.short().to_owned(),
            severity_base: incident.scale.base,
            severity_mean: incident.scale.mean,
            baseline_p99_pps: incident.normal.p99_pps,
            baseline_p99_bps: incident.normal.p99_bps,
            platform_mean_pps: incident.normal.platform_mean_pps,
            purity_permille: confidence.purity_permille,
            evidence_permille: confidence.evidence_permille,
            sample_permille: confidence.sample_permille,
            confidence_cap: confidence.cap.map(|(most, _)| most),
            excess_packets: incident.excess.packets,
            excess_bits: incident.excess.bits,
            families: incident.families.iter().map(excess_of).collect(),
            fitting_limit: incident.fitting_limit,
        }
    }

    fn scale(&self) -> Scale {
        let unit = if self.severity_unit == Unit::Bits.short() {
            Unit::Bits
        } else {
            Unit::Packets
        };
        Scale {
            unit,
            base: self.severity_base.max(1),
            mean: self.severity_mean,
        }
    }

    fn confidence(&self, percent: u64) -> Confidence {
        let is_kept = |(most, _): &(u64, &str)| Some(*most) == self.confidence_cap;
        Confidence {
            percent,
            purity_permille: self.purity_permille,
            evidence_permille: self.evidence_permille,
            sample_permille: self.sample_permille,
            cap: Confidence::CAPS.into_iter().find(is_kept),
        }
    }

    fn families(&self) -> Vec<FamilyShare> {
        let share = |part: &FamilyExcess| FamilyShare {
            family: part.family,
            excess: Count {
                packets: part.packets,
                bits: part.bits,
            },
            packets_permille: permille(part.packets, self.excess_packets),
            bits_permille: permille(part.bits, self.excess_bits),
        };
        self.families
            .iter()
            .take(LISTED_VECTORS)
            .map(share)
            .collect()
    }
}

impl Report {
    /// The incident that this is the report of, to the millisecond; `None` when the id is none of ours. Of a report
    /// without [`Report::kept`], as an older version stored it, it is what is told that comes back.
    #[must_use]
    pub fn incident(&self) -> Option<Incident> {
        let id = IncidentId::parse(&self.id)?;
        let unknown = Kept::default();
        let kept = self.kept.as_ref().unwrap_or(&unknown);
        let last_above_at = kept.last_above_at.or(self.ended_at);
        let last_above_at = last_above_at.unwrap_or(self.opened_at);
        Some(Incident {
            id,
            family: self.attack_family,
            subtype: self.attack_subtype.clone(),
            severity: self.severity,
            scale: kept.scale(),
            confidence: kept.confidence(self.confidence),
            vectors: self.vector_parts(),
            families: kept.families(),
            excess: Count {
                packets: kept.excess_packets,
                bits: kept.excess_bits,
            },
            started_at: self.started_at,
            opened_at: self.opened_at,
            detected_after_millis: self.detected_after_ms,
            last_above_at,
            ended_at: self.ended_at,
            ended_unseen: self.ended_unseen,
            interruptions: self.interruptions,
            peak_pps: self.peak_pps,
            peak_bps: self.peak_bps,
            peak_is_provisional: self.peak_is_provisional,
            total: Count {
                packets: self.packets,
                bits: self.bits,
            },
            protocols: ProtocolShares {
                tcp: permille_from(self.protocol_breakdown.tcp),
                udp: permille_from(self.protocol_breakdown.udp),
                icmp: permille_from(self.protocol_breakdown.icmp),
            },
            tcp_flags: self.flags(),
            forensics: self.forensics.as_ref().map(recalled).unwrap_or_default(),
            sources: Distinct {
                count: self.source_ip_count,
                exact: self.source_ip_count_exact,
            },
            top_sources: self.sources(),
            top_ports: self
                .top_dst_ports
                .iter()
                .take(LISTED)
                .map(|port| (port.port, port.count))
                .collect(),
            fired: self.fired(kept),
            normal: Normal {
                mean_pps: self.baseline_pps,
                mean_bps: self.baseline_bps,
                p99_pps: kept.baseline_p99_pps,
                p99_bps: kept.baseline_p99_bps,
                platform_mean_pps: kept.platform_mean_pps,
            },
            pulses: self.pulses,
            campaign: self.campaign,
            fitting_limit: kept.fitting_limit,
            loss: Loss {
                ring: bounded(self.lost_ring),
                interface: bounded(self.lost_interface),
                delayed: bounded(self.delayed),
            },
            from_interface: self.from_interface,
            capture_blind: self.capture_blind,
            standing: Standing {
                seen_until: kept.seen_until.unwrap_or(last_above_at),
                clear_since: kept.clear_since,
                hold_millis: kept.hold_ms,
                hold_grown_at: kept.hold_grown_at,
                resolved_at: kept.resolved_at,
            },
        })
    }

    fn vector_parts(&self) -> Vec<VectorPart> {
        let part = |share: &super::VectorShare| VectorPart {
            family: share.family,
            subtype: share.subtype.clone(),
            excess: Count {
                packets: share.packets,
                bits: share.bits,
            },
            packets_permille: permille_from(share.packets_pct),
            bits_permille: permille_from(share.bits_pct),
        };
        self.vectors.iter().take(LISTED_VECTORS).map(part).collect()
    }

    fn sources(&self) -> Vec<SourceCount> {
        let listed = self.top_src_ips.iter().take(LISTED);
        listed
            .filter_map(|source| {
                Some(SourceCount {
                    address: source.ip.parse().ok()?,
                    packets: source.count,
                    error: source.error,
                })
            })
            .collect()
    }

    /// The triggers that are known; each fires once at most.
    fn fired(&self, kept: &Kept) -> Vec<Fired> {
        const ALL: [TriggerId; 4] = [
            TriggerId::SetPackets,
            TriggerId::SetBits,
            TriggerId::LearnedPackets,
            TriggerId::LearnedBits,
        ];
        let listed = self.triggers.iter().take(ALL.len());
        listed
            .filter_map(|told| {
                Some(Fired {
                    id: ALL.into_iter().find(|id| id.name() == told.id)?,
                    value: told.value,
                    limit: told.limit,
                    origin: told.origin.clone(),
                    by_platform: kept.platform_triggers.contains(&told.id),
                    at: told.at,
                })
            })
            .collect()
    }

    fn flags(&self) -> [u64; 8] {
        let flags = self.tcp_flag_breakdown;
        [
            flags.fin, flags.syn, flags.rst, flags.psh, flags.ack, flags.urg, flags.ece, flags.cwr,
        ]
        .map(bounded)
    }
}

fn recalled(facts: &ForensicFacts) -> Forensics {
    let mut forensics = Forensics {
        captured: Count {
            packets: bounded(facts.captured_packets),
            bits: bounded(facts.captured_bits),
        },
        tcp: bounded(facts.protocol_counts.tcp),
        udp: bounded(facts.protocol_counts.udp),
        icmp: bounded(facts.protocol_counts.icmp),
        fragments: bounded(facts.fragment_count),
        ttls: facts
            .ttl_distribution
            .iter()
            .take(super::forensics::LISTED_TTLS)
            .map(|entry| (entry.ttl, bounded(entry.count)))
            .collect(),
        curve: facts
            .velocity_curve
            .iter()
            .take(super::forensics::CURVE_POINTS)
            .map(|point| CurvePoint {
                after_millis: point.t_ms,
                pps: point.pps,
            })
            .collect(),
        curve_step_seconds: facts.velocity_step_seconds,
        entropy_millibits: facts
            .src_ip_entropy
            .map(|bits| written_as(bits, ENTROPY_MILLIBITS_MOST, thousandths)),
        ..Forensics::default()
    };
    let bounds = LENGTH_BOUNDS.into_iter().map(Some).chain([None]);
    for (bound, frames) in bounds.zip(&mut forensics.lengths) {
        let bucket = facts
            .frame_lengths
            .iter()
            .find(|each| each.up_to_bytes == bound);
        *frames = bucket.map_or(0, |bucket| bounded(bucket.count));
    }
    forensics
}

/// A count that can be added to for ever.
fn bounded(count: u64) -> u64 {
    count.min(COUNT_MOST)
}

/// The permille that [`percent`] writes as this.
fn permille_from(written: f64) -> u64 {
    written_as(written, 1_000, percent)
}

/// The least number up to `most` that `write` does not write as less. Found by asking: that way it is the very one that
/// was written, whatever rounding does.
fn written_as(written: f64, most: u64, write: impl Fn(u64) -> f64) -> u64 {
    (0..most)
        .find(|value| write(*value) >= written)
        .unwrap_or(most)
}
