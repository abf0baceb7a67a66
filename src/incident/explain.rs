//! The numbers behind a verdict, as sentences.
//!
//! Says what was seen, against which limit from where, what normal was, what each vector contributed, who came second,
//! and what would have had to differ for another verdict. Everything comes from the [`Incident`] itself, so that an
//! explanation can be given long after the traffic is gone.

use super::{Incident, Severity};
use crate::count::Count;
use crate::detect::baseline::Unit;
use crate::detect::{Family, FamilyShare, MULTI_PACKETS, MULTI_PERMILLE, NAMED_PERMILLE};
use crate::words::{Bits, Duration, Percent, Thousands};

/// Why an incident is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What was seen and concluded, in order.
    pub sentences: Vec<String>,
    /// What would have led to another verdict.
    pub otherwise: Vec<String>,
    /// The largest family that the name does not already say.
    pub runner_up: Option<FamilyShare>,
    /// The peak from which on it would be more severe, in the unit of the incident's scale; `None` when nothing is.
    pub worse_from: Option<u64>,
    /// The peak below which it would be less severe; `None` when nothing is.
    pub milder_below: Option<u64>,
}

/// Fewer packets than this make no source worth naming: what the source lists ask for, too, once they are estimates.
const STANDS_OUT_PACKETS: u64 = 10;

impl Explanation {
    /// Explains an incident.
    #[must_use]
    pub fn of(incident: &Incident) -> Self {
        let mut sentences = vec![seen(incident)];
        sentences.extend(opened(incident));
        sentences.push(normal(incident));
        sentences.push(severity(incident));
        sentences.extend(named(incident));
        sentences.push(confidence(incident));
        sentences.push(sources(incident));
        sentences.extend(caveats(incident));
        let (milder, worse) = neighbours(incident);
        Self {
            sentences,
            otherwise: otherwise(incident),
            runner_up: runner_up(incident).copied(),
            worse_from: worse.map(|(from, _)| from),
            milder_below: milder.map(|(below, _)| below),
        }
    }
}

/// A rate in words: `12,400 packets/s` or `1.7 Gbit/s`.
fn rate(value: u64, unit: Unit) -> String {
    format!("{}/s", amount(value, unit))
}

/// An amount in words: `12,400 packets` or `1.7 Gbit`.
fn amount(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Packets if value == 1 => "1 packet".to_owned(),
        Unit::Packets => format!("{} packets", Thousands(value)),
        Unit::Bits => Bits(value).to_string(),
    }
}

/// Both rates: `12,400 packets/s and 1.7 Gbit/s`.
fn rates(packets: u64, bits: u64) -> String {
    format!(
        "{} and {}",
        rate(packets, Unit::Packets),
        rate(bits, Unit::Bits)
    )
}

/// Both shares: `25 % of packets and 2.5 % of bits`.
fn shares(packets_permille: u64, bits_permille: u64) -> String {
    format!(
        "{} of packets and {} of bits",
        Percent(packets_permille),
        Percent(bits_permille)
    )
}

fn seen(incident: &Incident) -> String {
    let peak = rates(incident.peak_pps, incident.peak_bps);
    let origin = if incident.from_interface {
        "as the interface counted"
    } else {
        "as captured"
    };
    let estimate = if incident.peak_is_provisional {
        ", estimated from less than a second"
    } else {
        ""
    };
    let came_back = match incident.pulses {
        0 => String::new(),
        1 => " It ended once in between and came back.".to_owned(),
        pulses => format!(" It ended {pulses} times in between and came back."),
    };
    let when = match incident.ended_at {
        Some(ended_at) => format!(
            "It lasted {}, from {} to {ended_at}.",
            Duration(ended_at.millis_since(incident.started_at)),
            incident.started_at,
        ),
        None => format!("It began at {} and goes on.", incident.started_at),
    };
    format!("Inbound traffic peaked at {peak}, {origin}{estimate}. {when}{came_back}")
}

fn opened(incident: &Incident) -> Vec<String> {
    let delay = Duration(incident.detected_after_millis);
    incident
        .fired
        .iter()
        .enumerate()
        .map(|(position, fired)| {
            let unit = fired.id.unit();
            let how = if fired.id.is_set() {
                "a set limit opens at once"
            } else {
                "a learned limit opens after three of four windows of 50 ms"
            };
            let reached = format!(
                "{} in one second reached the limit of {}, {} (trigger {}: {how})",
                amount(fired.value, unit),
                rate(fired.limit, unit),
                fired.origin,
                fired.id.name(),
            );
            if position == 0 {
                format!("Recognised {delay} after its first packet: {reached}.")
            } else {
                format!("At {} another limit was crossed: {reached}.", fired.at)
            }
        })
        .collect()
}

fn normal(incident: &Incident) -> String {
    let normal = &incident.normal;
    match (normal.mean_pps, normal.p99_pps) {
        (Some(mean), Some(p99)) => format!(
            "Normal before it: {} on average; 99 % of seconds at or below {} and {}.",
            rates(mean, normal.mean_bps.unwrap_or(0)),
            rate(p99, Unit::Packets),
            rate(normal.p99_bps.unwrap_or(0), Unit::Bits),
        ),
        _ => {
            "What is normal here was not known yet, so all of it counts as above normal.".to_owned()
        }
    }
}

fn severity(incident: &Incident) -> String {
    if let Some(fitting) = incident.fitting_limit {
        let limit = incident.fired.first().map_or(0, |fired| fired.limit);
        let unit = incident.scale.unit;
        return format!(
            "Severity low: the limit of {} lies below what is normal here, and nothing above normal was found. A limit \
             of {} would fit.",
            rate(limit, unit),
            rate(fitting, unit),
        );
    }
    let scale = incident.scale;
    let peak = scale.of(incident.peak_pps, incident.peak_bps);
    let tenths = peak.saturating_mul(10) / scale.base;
    let base = match scale.mean {
        Some(mean) if mean == scale.base => "the mean of quiet seconds".to_owned(),
        Some(mean) => format!(
            "the least that counts as normal with this limit; the mean of quiet seconds is {}",
            rate(mean, scale.unit)
        ),
        None => "the least that counts as normal with this limit; no mean is known yet".to_owned(),
    };
    format!(
        "Severity {}: the peak is {}.{} times {} ({base}).",
        incident.severity,
        Thousands(tenths / 10),
        tenths % 10,
        rate(scale.base, scale.unit),
    )
}

fn named(incident: &Incident) -> Vec<String> {
    if incident.capture_blind {
        return vec![
            "Capture saw too little of what the interface counted to say what it is: the name is unknown.".to_owned(),
        ];
    }
    let mut sentences = Vec::new();
    if incident.vectors.is_empty() {
        sentences.push("No class of traffic stood out from what was normal.".to_owned());
    } else {
        let parts: Vec<String> = incident
            .vectors
            .iter()
            .map(|share| {
                format!(
                    "{} has {}",
                    share.subtype,
                    shares(share.packets_permille, share.bits_permille)
                )
            })
            .collect();
        sentences.push(format!(
            "Above normal were {} ({}): {}.",
            amount(incident.excess.packets, Unit::Packets),
            Bits(incident.excess.bits),
            parts.join("; "),
        ));
    }
    let second = match runner_up(incident) {
        Some(second) => format!(
            "the runner-up is {} with {}",
            second.family,
            shares(second.packets_permille, second.bits_permille)
        ),
        None => "there is no runner-up".to_owned(),
    };
    sentences.push(format!(
        "That makes it {}/{}; {second}.",
        incident.family, incident.subtype
    ));
    sentences
}

/// The largest family that the name does not already say.
fn runner_up(incident: &Incident) -> Option<&FamilyShare> {
    let named = if incident.family == Family::MultiVector {
        2
    } else {
        0
    };
    incident
        .families
        .iter()
        .skip(named)
        .find(|share| share.family != incident.family)
}

fn confidence(incident: &Incident) -> String {
    let confidence = &incident.confidence;
    let evidence = match confidence.evidence_permille {
        1_000 => "payload or behaviour prove it",
        850 => "headers alone say it",
        700 => "normal is not known",
        _ => return "Confidence 0 %: nothing has the share that a name needs.".to_owned(),
    };
    let cap = confidence
        .cap
        .map(|(most, why)| format!("; at most {most} %: {why}"))
        .unwrap_or_default();
    format!(
        "Confidence {} %: the name explains {} of the excess, x {} because {evidence}, x {} for the size of the \
         sample{cap}.",
        confidence.percent,
        Percent(confidence.purity_permille),
        Percent(confidence.evidence_permille),
        Percent(confidence.sample_permille),
    )
}

fn sources(incident: &Incident) -> String {
    let exact = if incident.sources.exact { "" } else { "about " };
    let count = incident.sources.count;
    let plural = if count == 1 { "source" } else { "sources" };
    let largest = match incident.top_sources.as_slice() {
        [] => "none of them stands out".to_owned(),
        [largest, ..] if largest.packets < STANDS_OUT_PACKETS => format!(
            "none sent more than {}",
            amount(largest.packets, Unit::Packets)
        ),
        [largest, ..] => format!(
            "{} sent most, {}{}",
            largest.address,
            if largest.error > 0 { "at least " } else { "" },
            amount(largest.packets, Unit::Packets)
        ),
    };
    format!(
        "It came from {exact}{} {plural}; {largest}.",
        Thousands(count)
    )
}

fn caveats(incident: &Incident) -> Vec<String> {
    let loss = &incident.loss;
    let mut caveats = Vec::new();
    if loss.ring > 0 {
        caveats.push(format!(
            "Capture lost {} in its ring; shares are scaled to what the interface counted.",
            amount(loss.ring, Unit::Packets)
        ));
    }
    if loss.interface > 0 {
        caveats.push(format!(
            "The interface itself missed {}.",
            amount(loss.interface, Unit::Packets)
        ));
    }
    caveats.extend(interruptions(incident));
    if incident.campaign != incident.id.sequence {
        caveats.push(format!(
            "It belongs to the campaign that incident number {} began.",
            incident.campaign
        ));
    }
    caveats
}

fn interruptions(incident: &Incident) -> Option<String> {
    let times = match incident.interruptions {
        0 => return None,
        1 => "once".to_owned(),
        times => format!("{} times", Thousands(times.into())),
    };
    let what = if incident.ended_unseen {
        "its end was not seen, and it is told as it was last seen"
    } else {
        "what came in between is not counted, and sources, ports and vectors are those since the last start"
    };
    Some(format!(
        "The agent was restarted {times} while it went on: {what}."
    ))
}

fn otherwise(incident: &Incident) -> Vec<String> {
    let mut otherwise: Vec<String> = incident
        .fired
        .iter()
        .map(|fired| {
            format!(
                "Below {} in every second, trigger {} would not have fired.",
                rate(fired.limit, fired.id.unit()),
                fired.id.name()
            )
        })
        .collect();
    let (milder, worse) = neighbours(incident);
    let unit = incident.scale.unit;
    otherwise.extend(worse.map(|(from, level)| {
        format!(
            "With a peak of {} or more it would be {level}.",
            rate(from, unit)
        )
    }));
    otherwise.extend(milder.map(|(below, level)| {
        format!(
            "With a peak below {} it would be {level}.",
            rate(below, unit)
        )
    }));
    otherwise.extend(other_names(incident));
    otherwise
}

/// A peak and the severity beyond it.
type Bound = Option<(u64, Severity)>;

/// The peaks at which the severity would be another: below the first, from the second on.
fn neighbours(incident: &Incident) -> (Bound, Bound) {
    // Below normal traffic no peak makes a limit's incident worse.
    if incident.fitting_limit.is_some() {
        return (None, None);
    }
    let scale = incident.scale;
    let peak = scale.of(incident.peak_pps, incident.peak_bps);
    let mut level = Severity::Low;
    let mut milder = None;
    for (ratio, next) in Severity::BANDS {
        let from = scale.base.saturating_mul(ratio);
        if peak < from {
            return (milder, Some((from, next)));
        }
        milder = Some((from, level));
        level = next;
    }
    (milder, None)
}

fn other_names(incident: &Incident) -> Vec<String> {
    let unit = incident.scale.unit;
    let share = |of: &FamilyShare| {
        unit.of(Count {
            packets: of.packets_permille,
            bits: of.bits_permille,
        })
    };
    let of_unit = match unit {
        Unit::Packets => "packets",
        Unit::Bits => "bits",
    };
    let beside = |family: &str| {
        format!(
            "With {} of packets or bits, more than {} packets and a tenth of the limit, {family} would be named beside \
             it.",
            Percent(MULTI_PERMILLE),
            Thousands(MULTI_PACKETS)
        )
    };
    match (incident.family, incident.families.as_slice()) {
        (Family::Unknown, [first, ..]) if first.family != Family::Unknown => vec![format!(
            "With {} of {of_unit} it would be {}, which has {}.",
            Percent(NAMED_PERMILLE),
            first.family,
            Percent(share(first))
        )],
        (Family::MultiVector, [first, second, ..]) => vec![format!(
            "With {} below {} of packets and of bits it would be {} alone.",
            second.family,
            Percent(MULTI_PERMILLE),
            first.family
        )],
        (family, [first, second, ..]) if first.family == family => {
            let missing = unit.of(first.excess).saturating_sub(unit.of(second.excess));
            vec![
                format!(
                    "With {} more than it has, {} would lead.",
                    amount(missing, unit),
                    second.family
                ),
                beside(second.family.name()),
            ]
        }
        (family, [first]) if first.family == family => vec![beside("another family")],
        _ => Vec::new(),
    }
}
