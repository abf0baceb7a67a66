//! Any bytes behind any link type, seen from every vantage: a sample that is true to itself, or a reason.

#![no_main]

use std::net::IpAddr;

use ftagent::capture::{Frame, LinkType};
use ftagent::classify::{
    Classifier, Content, Fragment, Sample, Settings, TrafficClass, Undecodable, Vantage,
};
use ftagent::clock::Timestamp;
use libfuzzer_sys::fuzz_target;

/// What the golden frames call theirs; see `tests/decode.rs`.
const OUR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const HOST: [u8; 4] = [203, 0, 113, 80];
const PEER: [u8; 4] = [198, 51, 100, 7];

// The first byte is the link type, the second how much longer the frame was on the wire, in units of 16 bytes.
fuzz_target!(|input: &[u8]| {
    let [link, missing, data @ ..] = input else {
        return;
    };
    let link = match link % 6 {
        0 => LinkType::Ethernet,
        1 => LinkType::RawIp,
        2 => LinkType::BsdNull,
        3 => LinkType::BsdLoop,
        4 => LinkType::LinuxCooked,
        _ => LinkType::LinuxCooked2,
    };
    let wire_bytes = u32::try_from(data.len()).unwrap() + u32::from(*missing) * 16;
    let frame = Frame {
        at: Timestamp::from_seconds(1),
        link,
        wire_bytes,
        data,
    };
    let interface = Vantage::Interface {
        mac: Some(OUR_MAC),
        addresses: vec![IpAddr::from(HOST)],
    };
    let file = Vantage::Hosts(vec![
        "203.0.113.0/24".parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    ]);
    for (vantage, tunnel_peers) in [(interface, vec![IpAddr::from(PEER)]), (file, Vec::new())] {
        let classifier = Classifier::new(Settings {
            vantage,
            tunnel_peers,
        });
        if let Ok(sample) = classifier.classify(&frame) {
            check(&sample, &frame);
        }
    }
});

fn check(sample: &Sample, frame: &Frame<'_>) {
    assert_eq!((sample.at, sample.wire_bytes), (frame.at, frame.wire_bytes));
    assert_eq!(
        sample.service.is_some(),
        sample.class == TrafficClass::UdpReflected
    );
    if let Some(service) = sample.service {
        assert!(service.ports().contains(&sample.source_port));
        assert!(
            matches!(sample.content, Content::Unrecognised)
                || sample.content == Content::Answer(service)
        );
    }
    if matches!(sample.fragment, Fragment::Later { .. }) {
        assert_eq!(sample.class, TrafficClass::Fragment);
    }
    if sample.class.is_tcp() {
        assert_eq!(sample.protocol, 6);
    } else {
        assert_eq!(
            (sample.flags, sample.sequence, sample.acknowledgement),
            (0, 0, 0)
        );
    }
    if sample.class.is_udp() {
        assert_eq!(sample.protocol, 17);
    }
    if sample.class == TrafficClass::NotIp {
        assert!(sample.source.is_unspecified() && sample.destination.is_unspecified());
        assert_eq!(
            (sample.protocol, sample.inner, sample.flaw),
            (0, None, None)
        );
    }
    if sample.flaw == Some(Undecodable::TunnelDepth) {
        assert!(sample.inner.is_some());
    }
}
