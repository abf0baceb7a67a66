//! Ordinary traffic and none: no incident.

use std::time::Duration;

use ftagent::clock;
use ftagent::detect::baseline::{self, Baseline, Judgement, LearningCaps, SecondValues};
use ftagent::ledger::{self, Ledger};

use crate::common::agent::Agent;
use crate::common::event::told;
use crate::common::generate;
use crate::common::netns::{HOST_LINK, Lab, Offload};
use crate::common::process::{Scratch, finish};
use crate::story::{ENDS, MOST_IDLE_KIB, assert_memory, seconds, silent};

#[test]
fn an_idle_link_is_silent_and_its_seconds_are_told() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let agent = Agent::start(&lab, &["--threshold-pps", "20", "--seconds"]);
    std::thread::sleep(Duration::from_secs(5));
    assert_memory("idle", &agent, MOST_IDLE_KIB);
    let seen = agent.stop();
    assert!(
        seen.iter().all(|seen| seen.event.incident().is_none()),
        "{}",
        told(&seen)
    );
    // Windows close by the clock when no packet comes: four whole seconds lie within five.
    assert!(
        seconds(&seen).count() >= 4,
        "silence is told as seconds of zero:\n{}",
        told(&seen)
    );
    assert!(
        seconds(&seen).all(|second| second.pps <= 5),
        "{}",
        told(&seen)
    );
}

/// A state directory of an agent that has watched a silent link for so many seconds, until now.
fn watched_for(seconds: u64) -> Scratch {
    let mut baseline = Baseline::new(baseline::Settings::default());
    let now = clock::now().as_seconds();
    for second in now - seconds..now {
        let (values, caps) = (SecondValues::new(), LearningCaps::default());
        baseline.second(second, &values, Judgement::Quiet, &caps);
    }
    let state = Scratch::new();
    let settings = ledger::Settings {
        dir: Some(state.path().to_path_buf()),
        ..ledger::Settings::default()
    };
    let (ledger, _) = Ledger::open(settings).expect("a new directory can be used");
    ledger.baseline(baseline.state());
    ledger.close(Duration::from_secs(5));
    state
}

#[test]
fn it_says_at_which_limits_it_watches_and_when_learning_changes_them() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let starting = "limit 20,000 packets/s (2 x the floor for learned limits, while learning starts); bits: limit 200.0 \
                    Mbit/s (2 x the floor for learned limits, while learning starts)";
    let later = "limit 10,000 packets/s (the floor for learned limits); bits: limit 100.0 Mbit/s (the floor for learned \
                 limits)";
    let nothing = "no limit for 10 s, then 6 x the busiest second so far, at least 20,000 packets/s (2 x the floor for \
                   learned limits, while learning starts); bits: no limit for 10 s, then 6 x the busiest second so far, \
                   at least 200.0 Mbit/s (2 x the floor for learned limits, while learning starts)";
    let stages = [
        (0, nothing, "limits while learning starts", starting),
        (295, starting, "limits while warming up", later),
        (3_595, later, "limits as learned", later),
    ];
    let mut agents = Vec::new();
    for (watched, at_first, stage, then) in stages {
        let state = watched_for(watched);
        let agent = Agent::start_in(&lab, &[HOST_LINK], state.path(), &[]);
        let greeting = format!("watching {HOST_LINK} (veth, MTU 1500); packets: {at_first}");
        assert!(agent.log().ends_with(&greeting), "{}", agent.log());
        agents.push((agent, state, format!("{stage}: packets: {then}")));
    }
    for (agent, _state, notice) in &agents {
        assert!(
            agent.says(notice, Duration::from_secs(30)),
            "{notice}\n{}",
            agent.log()
        );
    }
    for (agent, _state, _) in agents {
        let log = agent.log();
        let told = log.matches("ftagent: limits ").count();
        assert_eq!(told, 1, "{log}");
        agent.stop();
    }
}

#[test]
fn a_download_below_the_limit_is_silent() {
    download(Offload::Off, 10_000);
}

#[test]
fn a_download_in_merged_frames_is_silent() {
    // One frame of up to 64 KiB stands for forty packets, and the interface counts frames.
    download(Offload::Default, 100);
}

/// Two hundred megabits a second into the host, under limits of five times that.
fn download(offload: Offload, at_least_pps: u64) {
    let Some(lab) = Lab::new(offload, &["iperf3", "ss"]) else {
        return;
    };
    let _server = generate::iperf3_server(&lab);
    let limits = ["--threshold-pps", "100000", "--threshold-bps", "1000000000"];
    silent("download", &lab, &limits, at_least_pps, || {
        let mut client = generate::iperf3_download(&lab, 200, 4);
        let done = finish(&mut client, Duration::from_secs(20));
        assert_eq!(done.code, Some(0), "iperf3: {}{}", done.stdout, done.stderr);
    });
}

#[test]
fn hundreds_of_clients_below_the_limit_are_silent() {
    let Some(lab) = Lab::new(Offload::Default, &["nginx", "wrk", "ab", "curl"]) else {
        return;
    };
    let _server = generate::nginx(&lab);
    silent(
        "web clients",
        &lab,
        &["--threshold-pps", "400000"],
        1_000,
        || {
            generate::wrk(&lab, 300, 2).wait(ENDS);
            generate::ab(&lab, 2_000, 100).wait(ENDS);
        },
    );
}

#[test]
fn a_name_server_below_the_limit_is_silent() {
    let Some(lab) = Lab::new(Offload::Default, &["knotd", "dnsperf"]) else {
        return;
    };
    let _server = generate::knot(&lab);
    let limits = ["--threshold-pps", "10000", "--threshold-bps", "100000000"];
    silent("names asked for", &lab, &limits, 1_000, || {
        let done = finish(&mut generate::queries(&lab, 2_000, 4), ENDS);
        let answered = generate::completed(&done.stdout);
        assert!(answered >= 4_000, "dnsperf: {}{}", done.stdout, done.stderr);
    });
}
