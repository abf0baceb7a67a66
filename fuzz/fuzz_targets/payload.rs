//! Any payload between any two ports, in UDP and in TCP, whole and cut by the snap length.

#![no_main]

use ftagent::capture::{Frame, LinkType};
use ftagent::classify::{Classifier, Content, Sample, Service, Settings, TrafficClass, Vantage};
use ftagent::clock::Timestamp;
use libfuzzer_sys::fuzz_target;

const UDP: u8 = 17;
const TCP: u8 = 6;

// Two bytes choose the ports, so that every service is met often; the third byte cuts.
fuzz_target!(|input: &[u8]| {
    let [source, destination, cut, payload @ ..] = input else {
        return;
    };
    let payload = payload.get(..1_400).unwrap_or(payload);
    let (source, destination) = (port(*source), port(*destination));
    let classifier = Classifier::new(Settings {
        vantage: Vantage::Hosts(Vec::new()),
        tunnel_peers: Vec::new(),
    });
    for protocol in [UDP, TCP] {
        let packet = packet(protocol, source, destination, payload);
        let wire_bytes = u32::try_from(packet.len()).unwrap();
        let kept = packet.len() - usize::from(*cut).min(payload.len());
        for data in [&packet[..], &packet[..kept]] {
            let frame = Frame {
                at: Timestamp::from_seconds(1),
                link: LinkType::RawIp,
                wire_bytes,
                data,
            };
            let sample = classifier.classify(&frame).expect("the headers are there");
            check(&sample, source, u32::try_from(payload.len()).unwrap());
        }
    }
});

fn check(sample: &Sample, source: u16, payload_bytes: u32) {
    assert_eq!(
        (
            sample.source_port,
            sample.flaw_of_its_own(),
            sample.payload_bytes
        ),
        (source, false, payload_bytes)
    );
    assert_eq!(
        sample.service.is_some(),
        sample.class == TrafficClass::UdpReflected
    );
    let Some(service) = sample.service else {
        return;
    };
    assert_eq!(Service::on_port(source), Some(service));
    assert!(
        matches!(sample.content, Content::Unrecognised)
            || sample.content == Content::Answer(service)
    );
    if sample.content == Content::Unrecognised {
        assert!(service.port_alone());
    }
}

/// What is wrong with the packet itself; payloads at a tunnel's port may well be broken tunnels.
trait FlawOfItsOwn {
    fn flaw_of_its_own(&self) -> bool;
}

impl FlawOfItsOwn for Sample {
    fn flaw_of_its_own(&self) -> bool {
        use ftagent::classify::Undecodable::{TunnelDepth, TunnelInner};
        !matches!(self.flaw, None | Some(TunnelDepth | TunnelInner))
    }
}

/// The ports of all services, then the tunnels', then one that is nobody's.
fn port(choice: u8) -> u16 {
    let mut ports = Service::ALL
        .iter()
        .flat_map(|service| service.ports())
        .copied()
        .chain([4_789, 6_081]);
    ports.nth(usize::from(choice)).unwrap_or(45_678)
}

fn packet(protocol: u8, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let header_bytes = if protocol == UDP { 8 } else { 20 };
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&length(20 + header_bytes + payload.len()));
    packet.extend_from_slice(&[
        0, 0, 0, 0, 64, protocol, 0, 0, 198, 51, 100, 7, 203, 0, 113, 80,
    ]);
    packet.extend_from_slice(&source.to_be_bytes());
    packet.extend_from_slice(&destination.to_be_bytes());
    if protocol == UDP {
        packet.extend_from_slice(&length(header_bytes + payload.len()));
        packet.extend_from_slice(&[0, 0]);
    } else {
        packet.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    }
    packet.extend_from_slice(payload);
    packet
}
