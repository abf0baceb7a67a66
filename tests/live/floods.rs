//! Floods: each is one incident of the right name that opens and resolves.

use crate::common::generate::{self, Frames};
use crate::common::netns::{Lab, Offload};
use crate::common::process::Running;
use crate::story::{Named, PACKETS, PAUSE_MICROS, flood};

#[test]
fn a_syn_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &["hping3"]) else {
        return;
    };
    let named = Named {
        family: "syn_flood",
        subtypes: &["syn_flood"],
    };
    flood("SYN", &lab, &named, "tcp[tcpflags] == tcp-syn", || {
        vec![generate::hping3(
            &lab,
            &["-S", "-p", "80", "--rand-source"],
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn a_udp_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "udp_flood",
        subtypes: &["small_packet_flood"],
    };
    flood("UDP", &lab, &named, "udp dst port 9000", || {
        vec![generate::trafgen(
            &lab,
            &Frames::udp(&lab),
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn an_icmp_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &["hping3"]) else {
        return;
    };
    let named = Named {
        family: "icmp_flood",
        subtypes: &["ping_flood"],
    };
    flood("ICMP", &lab, &named, "icmp[icmptype] == icmp-echo", || {
        vec![generate::hping3(
            &lab,
            &["--icmp", "--rand-source"],
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn a_dns_amplification_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "dns_flood",
        subtypes: &["dns_amplification"],
    };
    flood("DNS amplification", &lab, &named, "udp src port 53", || {
        vec![generate::trafgen(
            &lab,
            &Frames::dns_answers(&lab),
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn an_ntp_amplification_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "udp_flood",
        subtypes: &["ntp_amplification"],
    };
    flood(
        "NTP amplification",
        &lab,
        &named,
        "udp src port 123",
        || {
            vec![generate::trafgen(
                &lab,
                &Frames::ntp_answers(&lab),
                PACKETS,
                PAUSE_MICROS,
            )]
        },
    );
}

#[test]
fn requests_over_kept_connections_open_and_resolve() {
    let Some(lab) = Lab::new(Offload::Off, &["nginx", "wrk", "curl"]) else {
        return;
    };
    let named = Named {
        family: "http_flood",
        subtypes: &["http_get_flood", "single_source_abuse"],
    };
    let _server = generate::nginx(&lab);
    flood("HTTP, kept alive", &lab, &named, "tcp dst port 80", || {
        vec![generate::wrk(&lab, 50, 3)]
    });
}

#[test]
fn requests_over_new_connections_open_and_resolve() {
    let Some(lab) = Lab::new(Offload::Off, &["nginx", "ab", "curl"]) else {
        return;
    };
    let named = Named {
        family: "http_flood",
        subtypes: &["http_get_flood", "single_source_abuse"],
    };
    let _server = generate::nginx(&lab);
    flood(
        "HTTP, new connections",
        &lab,
        &named,
        "tcp dst port 80",
        || vec![generate::ab(&lab, 8_000, 50)],
    );
}

#[test]
fn an_ack_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "tcp_flood",
        subtypes: &["ack_flood"],
    };
    flood("ACK", &lab, &named, "tcp dst port 443", || {
        vec![generate::trafgen(
            &lab,
            &Frames::ack(&lab),
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn a_fragment_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &["hping3"]) else {
        return;
    };
    let named = Named {
        family: "fragment_flood",
        subtypes: &["ip_fragment_flood"],
    };
    // Six fragments from each packet of 84 bytes.
    flood("fragments", &lab, &named, "ip[6:2] & 0x3fff != 0", || {
        vec![generate::hping3(
            &lab,
            &["-S", "-f", "-d", "64", "-p", "80", "--rand-source"],
            PACKETS / 6,
            PAUSE_MICROS * 6,
        )]
    });
}

#[test]
fn two_vectors_at_once_are_one_incident() {
    let Some(lab) = Lab::new(Offload::Default, &["hping3"]) else {
        return;
    };
    let named = Named {
        family: "multi_vector",
        subtypes: &[
            "syn_flood+small_packet_flood",
            "small_packet_flood+syn_flood",
        ],
    };
    flood(
        "SYN and UDP",
        &lab,
        &named,
        "udp dst port 9000 or tcp[tcpflags] == tcp-syn",
        || {
            vec![
                generate::hping3(
                    &lab,
                    &["-S", "-p", "80", "--rand-source"],
                    PACKETS / 2,
                    PAUSE_MICROS * 4,
                ),
                generate::trafgen(&lab, &Frames::udp(&lab), PACKETS / 2, PAUSE_MICROS * 4),
            ]
        },
    );
}

#[test]
fn a_syn_flood_over_ipv6_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "syn_flood",
        subtypes: &["syn_flood"],
    };
    flood("SYN, IPv6", &lab, &named, "ip6 and tcp dst port 80", || {
        vec![generate::trafgen(
            &lab,
            &Frames::syn_v6(&lab),
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn a_udp_flood_over_ipv6_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "udp_flood",
        subtypes: &["small_packet_flood"],
    };
    flood(
        "UDP, IPv6",
        &lab,
        &named,
        "ip6 and udp dst port 9000",
        || {
            vec![generate::trafgen(
                &lab,
                &Frames::udp_v6(&lab),
                PACKETS,
                PAUSE_MICROS,
            )]
        },
    );
}

#[test]
fn an_icmpv6_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "icmp_flood",
        subtypes: &["ping_flood"],
    };
    flood(
        "ICMPv6",
        &lab,
        &named,
        "ip6 and icmp6 and ip6[40] == 128",
        || {
            vec![generate::trafgen(
                &lab,
                &Frames::echo_v6(&lab),
                PACKETS,
                PAUSE_MICROS,
            )]
        },
    );
}

#[test]
fn queries_to_a_name_server_over_the_limit_open_and_resolve() {
    let Some(lab) = Lab::new(Offload::Default, &["knotd", "dnsperf"]) else {
        return;
    };
    let named = Named {
        family: "dns_flood",
        subtypes: &["dns_query_flood"],
    };
    let _server = generate::knot(&lab);
    flood("DNS queries", &lab, &named, "udp dst port 53", || {
        vec![Running::quietly(&mut generate::queries(&lab, 5_000, 3))]
    });
}
