//! What the operator does and sees: a configuration read again, a key that is nowhere, an end in time.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use ftagent::clock;
use ftagent::demo::platform::{Endpoint, Fault, Serves};
use rustix::process::Signal;

use crate::common::event::Event;
use crate::common::process::until;
use crate::common::tell;
use crate::node::{KEY, Node};

#[test]
fn a_configuration_is_taken_over_as_a_whole_or_not_at_all() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let mut agent = node.start(&["--seconds"]);
    node.wait_for_limit();
    let good = std::fs::read_to_string(&node.config).expect("the configuration");

    std::fs::write(
        &node.config,
        format!("{good}[detection]\npps_treshold = 7\n"),
    )
    .expect("a mistake");
    agent.signal(Signal::HUP);
    let said = until(Duration::from_secs(3), || {
        agent.log().contains("pps_treshold: no such setting")
    });
    assert!(said, "{}", agent.log());
    assert!(
        agent.log().contains("the old one stays in force"),
        "{}",
        agent.log()
    );

    let set = format!("{good}[detection]\npps_threshold = 500000\n");
    std::fs::write(&node.config, set).expect("a higher limit");
    agent.signal(Signal::HUP);
    let said = until(Duration::from_secs(3), || {
        agent.log().contains("detection.pps_threshold: now 500")
    });
    assert!(said, "{}", agent.log());
    node.flood(10_000).wait(Duration::from_secs(20));
    let opened = agent.wait_for(Duration::from_millis(500), Event::opens);
    assert!(
        opened.is_none(),
        "a local limit wins over the platform's\n{}",
        agent.told()
    );
    agent.stop();
    node.assert_all_right();
}

#[test]
fn the_key_is_in_no_output_and_in_no_file_of_the_agent() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let mut agent = node.start(&["--seconds"]);
    node.wait_for_limit();
    // Everything that may go wrong with a key, at debug level.
    for fault in [
        Fault::status(401),
        Fault::status(400),
        Fault::reset(),
        Fault::status(500),
    ] {
        node.platform.set_fault_everywhere(fault.times(3));
        std::thread::sleep(Duration::from_secs(2));
    }
    node.platform.clear_faults();
    node.flood(5_000).wait(Duration::from_secs(20));
    let _ = agent.wait_for(Duration::from_secs(2), Event::opens);
    let told = agent.told();
    agent.stop();
    let part = &KEY[8..KEY.len() - 4];
    assert!(!told.contains(part), "{told}");
    let files = files_in(node.state.path());
    assert!(!files.is_empty(), "something was stored");
    for (path, content) in files {
        assert!(
            !content
                .windows(part.len())
                .any(|window| window == part.as_bytes()),
            "{path}"
        );
    }
}

#[test]
fn an_end_comes_in_time_whatever_the_platform_does() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let agent = node.start(&[]);
    node.wait_for_limit();
    node.platform.set_fault_everywhere(Fault::silent());
    std::thread::sleep(Duration::from_secs(2));
    let begun = clock::monotonic();
    // Panics when it takes longer than the product's 3 s.
    agent.stop();
    tell!("ended after {} ms", begun.elapsed().as_millis());
    for path in std::fs::read_dir(node.state.path()).expect("a state directory") {
        let metadata = path.and_then(|entry| entry.metadata()).expect("a file");
        assert_eq!(metadata.permissions().mode() & 0o077, 0);
    }
}

#[test]
fn a_refused_key_is_said_once_and_detection_goes_on() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let mut agent = node.start(&["--threshold-pps", "1000"]);
    node.wait_for_limit();
    node.platform.set_fault_everywhere(Fault::status(401));
    let said = until(Duration::from_secs(20), || agent.log().contains("API key"));
    assert!(said, "{}", agent.log());
    node.flood(10_000).wait(Duration::from_secs(20));
    let opened = agent.wait_for(Duration::from_secs(2), Event::opens);
    assert!(opened.is_some(), "{}", agent.told());
    let lines = agent.log();
    let lines = lines
        .lines()
        .filter(|line| line.contains("API key"))
        .count();
    assert!(lines <= 2, "said once, not each time: {}", agent.log());
    let before = node.platform.recorded().len();
    std::thread::sleep(Duration::from_secs(5));
    let asked = node.platform.recorded();
    let asked = asked
        .iter()
        .skip(before)
        .filter(|each| each.endpoint != Endpoint::Health);
    assert!(asked.count() <= 2, "a refused key is not tried each second");
    agent.stop();
}

fn files_in(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a state directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.is_file())
        .map(|path| {
            let content = std::fs::read(&path).expect("a file of ours");
            (path.display().to_string(), content)
        })
        .collect()
}
