//! Attacks that were recorded elsewhere, played into the lab: what lies beside the repository in `shared/corpus`.

use std::path::{Path, PathBuf};

use crate::common::generate;
use crate::common::netns::{Lab, Offload};
use crate::common::tell;
use crate::story::{Named, flood};

/// A recorded attack and how it is played. They are short: each is looped until it has lasted two to five seconds.
struct Recorded<'a> {
    file: &'a str,
    victim: &'a str,
    /// Picks its packets out of what tcpdump sees.
    packets: &'a str,
    times: u32,
    pause_millis: u32,
}

/// Plays a recorded attack, if it is there, and checks the whole story.
fn play(name: &str, recorded: &Recorded<'_>, named: &Named<'_>) {
    let file = corpus().join("attacks").join(recorded.file);
    if !file.is_file() {
        tell!(
            "skipped: no {} (FTAGENT_SHARED names the directory that holds corpus)",
            file.display()
        );
        return;
    }
    let Some(lab) = Lab::new(Offload::Default, &["tcprewrite", "tcpreplay"]) else {
        return;
    };
    let file = generate::redirected(&lab, &file, recorded.victim);
    flood(name, &lab, named, recorded.packets, || {
        vec![generate::tcpreplay(
            &lab,
            &file,
            recorded.times,
            recorded.pause_millis,
        )]
    });
}

fn corpus() -> PathBuf {
    let shared = std::env::var_os("FTAGENT_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    shared.join("corpus")
}

#[test]
fn a_recorded_isakmp_amplification_opens_and_resolves() {
    // 3,984 answers in 0.4 s.
    let recorded = Recorded {
        file: "udp_amp_isakmp_4500.pcap",
        victim: "10.10.10.10",
        packets: "udp src port 4500",
        times: 6,
        pause_millis: 0,
    };
    let named = Named {
        family: "udp_flood",
        subtypes: &["isakmp_amplification"],
    };
    play("recorded ISAKMP amplification", &recorded, &named);
}

#[test]
fn a_recorded_dns_amplification_opens_and_resolves() {
    // 7,057 answers and errors in 1.1 s.
    let recorded = Recorded {
        file: "dns_amp_ddostheinter_net.pcap",
        victim: "227.213.154.241",
        packets: "udp src port 53",
        times: 3,
        pause_millis: 0,
    };
    let named = Named {
        family: "dns_flood",
        subtypes: &["dns_amplification"],
    };
    play("recorded DNS amplification", &recorded, &named);
}

#[test]
fn a_recorded_burst_of_syns_opens_and_resolves_when_it_goes_on() {
    // 257 SYNs in 12 ms, twenty times a second.
    let recorded = Recorded {
        file: "syn_spoofed_burst_8080.pcap",
        victim: "10.0.2.10",
        packets: "tcp dst port 8080",
        times: 80,
        pause_millis: 38,
    };
    let named = Named {
        family: "syn_flood",
        subtypes: &["syn_flood"],
    };
    play("recorded SYN bursts", &recorded, &named);
}
