//! Any bytes as a capture file: frames up to the end or to an error, each of them classified or refused.

#![no_main]

use ftagent::capture::replay::CaptureReader;
use ftagent::capture::{Capture, PacketSource};
use ftagent::classify::{Classifier, Settings, Vantage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let classifier = Classifier::new(Settings {
        vantage: Vantage::Hosts(Vec::new()),
        tunnel_peers: Vec::new(),
    });
    let Ok(mut reader) = CaptureReader::new(input, "fuzzed") else {
        return;
    };
    // No record is shorter than a byte: a reader that hands out more frames than that does not move on.
    for _ in 0..=input.len() {
        match reader.next() {
            Ok(Capture::Frame(frame)) => {
                assert!(frame.data.len() <= input.len());
                let _ = classifier.classify(&frame);
            }
            Ok(Capture::Idle) => panic!("a file is never idle"),
            Ok(Capture::End) | Err(_) => return,
        }
    }
    panic!("more frames than bytes");
});
