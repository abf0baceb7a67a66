//! The numbers behind a verdict, as sentences.
//!
//! Says what was seen, against which limit from where, what normal was, what each vector contributed, who came second,
//! and what would have had to differ for another verdict. Everything comes from the [`Incident`] itself, so that an
//! explanation can be given long after the traffic is gone.

use super::{Incident, Severity};
use crate::detect::baseline::Unit;
use crate::detect::{Family, MULTI_PERMILLE, NAMED_PERMILLE};
use crate::words::{Bits, Duration, Percent, Thousands};

/// Why an incident is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What was seen and concluded, in order.
    pub sentences: Vec<String>,
    /// What would have led to another verdict.
    pub otherwise: Vec<String>,
}

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
        Self {
            sentences,
            otherwise: otherwise(incident),
        }
    }
}

/// A rate in words: `12,400 packets/s` or `1.7 Gbit/s`.
fn rate(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Packets => format!("{} packets/s", Thousands(value)),
        Unit::Bits => format!("{}/s", Bits(value)),
    }
}

fn seen(incident: &Incident) -> String {
    let peak = format!(
        "{} and {}",
        rate(incident.peak_pps, Unit::Packets),
        rate(incident.peak_bps, Unit::Bits)
    );
    let origin = if incident.from_interface {
        "by the interface's counters"
    } else {
        "as captured"
    };
    let estimate = if incident.peak_is_provisional {
        ", an estimate from less than a second"
    } else {
        ""
    };
    let came_back = match incident.pulses {
        0 => String::new(),
        1 => ", and came back once".to_owned(),
        pulses => format!(", and came back {pulses} times"),
    };
    match incident.ended_at {
        Some(ended_at) => format!(
            "From {} to {} ({}) inbound traffic reached {peak}, {origin}{estimate}{came_back}.",
            incident.started_at,
            ended_at,
            Duration(ended_at.millis_since(incident.started_at)),
        ),
        None => format!(
            "Since {} inbound traffic has reached {peak}, {origin}{estimate}{came_back}.",
            incident.started_at
        ),
    }
}

fn opened(incident: &Incident) -> Vec<String> {
    let delay = Duration(incident.detected_after_millis);
    incident
        .fired
        .iter()
        .enumerate()
        .map(|(position, fired)| {
            let trigger = &fired.trigger;
            let unit = trigger.id.unit();
            let crossed = format!(
                "{} in one second crossed the limit of {} ({}; trigger {}, {})",
                rate(trigger.value, unit),
                rate(trigger.limit.value, unit),
                trigger.limit.origin,
                trigger.id.name(),
                if trigger.id.is_set() {
                    "which opens at once"
                } else {
                    "confirmed over three of four windows"
                },
            );
            if position == 0 {
                format!("It was recognised {delay} after its first packet: {crossed}.")
            } else {
                format!("At {} also {crossed}.", fired.at)
            }
        })
        .collect()
}

fn normal(incident: &Incident) -> String {
    let normal = &incident.normal;
    match (normal.mean_pps, normal.p99_pps) {
        (Some(mean), Some(p99)) => format!(
            "Normal when it opened: {} on average, 99 % of seconds at or below {} ({} and {}).",
            rate(mean, Unit::Packets),
            rate(p99, Unit::Packets),
            rate(normal.mean_bps.unwrap_or(0), Unit::Bits),
            rate(normal.p99_bps.unwrap_or(0), Unit::Bits),
        ),
        _ => "What is normal here was not known yet: everything seen counts as above normal."
            .to_owned(),
    }
}

fn severity(incident: &Incident) -> String {
    if let Some(fitting) = incident.fitting_limit {
        let limit = incident
            .fired
            .first()
            .map_or(0, |fired| fired.trigger.limit.value);
        let unit = incident.scale.unit;
        return format!(
            "Severity low: the limit of {} lies below what is normal here and nothing above normal was found; {} would \
             fit.",
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
            "the least base for this limit; the mean of quiet seconds is {}",
            rate(mean, scale.unit)
        ),
        None => "the least base for this limit; no mean is known yet".to_owned(),
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
                    "{} {} of the packets and {} of the bits",
                    share.subtype,
                    Percent(share.packets_permille),
                    Percent(share.bits_permille)
                )
            })
            .collect();
        sentences.push(format!(
            "Of {} packets above normal ({}): {}.",
            Thousands(incident.excess.packets),
            Bits(incident.excess.bits),
            parts.join("; "),
        ));
    }
    sentences.push(format!(
        "That makes it {} ({}).",
        incident.family, incident.subtype
    ));
    if let Some(second) = runner_up(incident) {
        sentences.push(format!(
            "Next comes {} with {} of the packets and {} of the bits.",
            second.family,
            Percent(second.packets_permille),
            Percent(second.bits_permille),
        ));
    }
    sentences
}

/// The largest family that the name does not already say.
fn runner_up(incident: &Incident) -> Option<&crate::detect::FamilyShare> {
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
    let why = match confidence.evidence_permille {
        1_000 => "payload or behaviour prove it",
        850 => "headers alone say it",
        700 => "normal is not known",
        _ => "nothing reached the share that a name needs",
    };
    let cap = confidence
        .cap
        .map(|(most, why)| format!("; at most {most} %, because of {why}"))
        .unwrap_or_default();
    format!("Confidence {} %: {why}{cap}.", confidence.percent)
}

fn sources(incident: &Incident) -> String {
    let exact = if incident.sources.exact { "" } else { "about " };
    let count = incident.sources.count;
    let list = match incident.top_sources.as_slice() {
        [] => "; none of them stands out".to_owned(),
        [largest, ..] => format!(
            "; the largest is {} with {} packets",
            largest.address,
            Thousands(largest.packets)
        ),
    };
    let plural = if count == 1 { "source" } else { "sources" };
    format!("It came from {exact}{} {plural}{list}.", Thousands(count))
}

fn caveats(incident: &Incident) -> Vec<String> {
    let loss = &incident.loss;
    let mut caveats = Vec::new();
    if loss.ring > 0 {
        caveats.push(format!(
            "Capture lost {} packets in its ring; shares are scaled to what the interface counted.",
            Thousands(loss.ring)
        ));
    }
    if loss.interface > 0 {
        caveats.push(format!(
            "The interface itself missed {} packets.",
            Thousands(loss.interface)
        ));
    }
    if incident.campaign != incident.id.sequence {
        caveats.push(format!(
            "It belongs to the campaign that began with incident {}.",
            incident.campaign
        ));
    }
    caveats
}

fn otherwise(incident: &Incident) -> Vec<String> {
    let mut otherwise: Vec<String> = incident
        .fired
        .iter()
        .map(|fired| {
            let trigger = &fired.trigger;
            format!(
                "Below {} in every second, {} would not have fired.",
                rate(trigger.limit.value, trigger.id.unit()),
                trigger.id.name()
            )
        })
        .collect();
    if incident.fitting_limit.is_none() {
        otherwise.extend(other_severities(incident));
    }
    otherwise.extend(other_names(incident));
    otherwise
}

fn other_severities(incident: &Incident) -> Vec<String> {
    let scale = incident.scale;
    let peak = scale.of(incident.peak_pps, incident.peak_bps);
    let bands = Severity::BANDS.map(|(ratio, level)| (scale.base.saturating_mul(ratio), level));
    let higher = bands.iter().find(|(from, _)| *from > peak);
    let lower = bands.iter().rev().find(|(from, _)| *from <= peak);
    let up = higher.map(|(from, level)| {
        format!(
            "From a peak of {} on it would be {level}.",
            rate(*from, scale.unit)
        )
    });
    let down = lower.map(|(from, _)| {
        format!(
            "With a peak below {} it would be less than {}.",
            rate(*from, scale.unit),
            incident.severity
        )
    });
    up.into_iter().chain(down).collect()
}

fn other_names(incident: &Incident) -> Vec<String> {
    let mut names = Vec::new();
    match (incident.family, incident.families.as_slice()) {
        (Family::Unknown, [first, ..]) => names.push(format!(
            "With {} of the excess it would be named {}; it has {}.",
            Percent(NAMED_PERMILLE),
            first.family,
            Percent(first.packets_permille)
        )),
        (Family::MultiVector, [_, second, ..]) => names.push(format!(
            "With {} below {} of packets and of bits it would be named after the other alone.",
            second.family,
            Percent(MULTI_PERMILLE)
        )),
        (family, [first, rest @ ..]) if first.family == family => {
            if let Some(second) = rest.first() {
                let missing = first.excess.packets.saturating_sub(second.excess.packets);
                names.push(format!(
                    "With {} more packets {} would have led; from {} of the packets or bits on, both would be named.",
                    Thousands(missing),
                    second.family,
                    Percent(MULTI_PERMILLE)
                ));
            } else {
                names.push(format!(
                    "Another family would have needed {} of the packets or bits to be named beside it; there was none.",
                    Percent(MULTI_PERMILLE)
                ));
            }
        }
        _ => {}
    }
    names
}
