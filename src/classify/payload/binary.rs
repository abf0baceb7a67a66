//! Protocols with fixed binary headers.
//!
//! Each function names the document its fields come from. A message cut by the snap length is judged by the fields that
//! were captured; a field that contradicts the protocol means "not one of these".

use super::{Message, Role, Side};

/// DNS (RFC 1035, section 4.1): the QR bit, once the rest of the header is plausible.
pub(super) fn dns(message: &Message<'_>) -> Option<Role> {
    let flags = message.u16(2)?;
    let role = dns_role(flags);
    // Opcodes in use are 0, 1, 2, 4, 5 and 6; the Z bit is always zero.
    if !matches!(dns_opcode(flags), 0..=2 | 4..=6) || flags & 0x0040 != 0 {
        return None;
    }
    let (Some(questions), Some(records)) = (message.u16(4), dns_records(message)) else {
        // Cut inside the header: the QR bit is all there is.
        return (message.whole_bytes >= DNS_HEADER_BYTES).then_some(role);
    };
    let fits = dns_fits(message, questions, records);
    let plausible = match role {
        // One question. A query carries EDNS and a signature at most, and a SOA when it asks for an incremental transfer.
        Role::Request if dns_opcode(flags) == 0 => {
            questions == 1 && message.u16(6) == Some(0) && records <= 3 && fits
        }
        Role::Request => questions == 1 && fits,
        // Some servers keep the counts of what they had to leave out when they set TC.
        Role::Answer => questions <= 1 && (fits || flags & 0x0200 != 0),
    };
    plausible.then_some(role)
}

/// Multicast DNS (RFC 6762, section 18): many questions are usual, and answers repeat none.
pub(super) fn mdns(message: &Message<'_>) -> Option<Role> {
    let flags = message.u16(2)?;
    if dns_opcode(flags) != 0 || flags & 0x004f != 0 {
        return None;
    }
    let fits = dns_fits(message, message.u16(4)?, dns_records(message)?);
    fits.then_some(dns_role(flags))
}

/// NetBIOS name service (RFC 1002, section 4.2): DNS's header with opcodes and flags of its own.
pub(super) fn netbios(message: &Message<'_>) -> Option<Role> {
    let flags = message.u16(2)?;
    let (questions, records) = (message.u16(4)?, dns_records(message)?);
    // Query, registration, release, WACK, refresh (twice), multi-homed registration.
    let opcode_known = matches!(dns_opcode(flags), 0 | 5..=9 | 15);
    // Each message asks about one name or tells about one.
    let counts_plausible = questions <= 1 && records <= 3 && (questions > 0 || records > 0);
    (opcode_known && counts_plausible).then_some(dns_role(flags))
}

const DNS_HEADER_BYTES: u32 = 12;

fn dns_role(flags: u16) -> Role {
    if flags & 0x8000 == 0 {
        Role::Request
    } else {
        Role::Answer
    }
}

fn dns_opcode(flags: u16) -> u16 {
    flags >> 11 & 0x0f
}

/// Records in the answer, authority and additional sections together.
fn dns_records(message: &Message<'_>) -> Option<u32> {
    Some(u32::from(message.u16(6)?) + u32::from(message.u16(8)?) + u32::from(message.u16(10)?))
}

/// Whether a message is long enough for what its header counts: five bytes a question and eleven a record at least.
fn dns_fits(message: &Message<'_>, questions: u16, records: u32) -> bool {
    DNS_HEADER_BYTES + 5 * u32::from(questions) + 11 * records <= message.whole_bytes
}

/// NTP (RFC 5905, figure 8) and its control (RFC 9327) and private modes. Modes 1 and 3 ask, whatever the ports.
pub(super) fn ntp(message: &Message<'_>) -> Option<Role> {
    let first = message.u8(0)?;
    let version = first >> 3 & 0x07;
    if !(1..=4).contains(&version) {
        return None;
    }
    match first & 0x07 {
        mode @ 1..=5 => {
            // 48 bytes, and extensions or a signature in words of four; a stratum above 16 and a poll interval above
            // 2^24 s (or below 2^-7 s) mean something else at this port.
            let length_fits = message.whole_bytes >= 48 && message.whole_bytes.is_multiple_of(4);
            let stratum_fits = message.u8(1).is_none_or(|stratum| stratum <= 16);
            let poll_fits = message.u8(2).is_none_or(|poll| poll <= 24 || poll >= 0xf9);
            let role = if matches!(mode, 1 | 3) {
                Role::Request
            } else {
                Role::Answer
            };
            (length_fits && stratum_fits && poll_fits).then_some(role)
        }
        // Control: the response bit leads the second byte, the operation code follows.
        6 if message.whole_bytes >= 12 => {
            let second = message.u8(1)?;
            Some(if second & 0x80 == 0 {
                Role::Request
            } else {
                Role::Answer
            })
        }
        // Private, monlist among them: the response bit leads the first byte; the third names the implementation.
        7 if message.whole_bytes >= 8 => {
            let implementation_fits = message
                .u8(2)
                .is_none_or(|implementation| matches!(implementation, 0 | 2 | 3));
            let role = if first & 0x80 == 0 {
                Role::Request
            } else {
                Role::Answer
            };
            implementation_fits.then_some(role)
        }
        _ => None,
    }
}

/// IKE (RFC 7296, section 3.1; RFC 2408, section 3.1), with or without the marker that tells it from ESP on port 4500.
pub(super) fn isakmp(message: &Message<'_>) -> Option<Role> {
    const HEADER_BYTES: u32 = 28;
    const KEY_EXCHANGE: u8 = 4;
    // RFC 3948: ESP begins with a security index that is never zero, IKE beside it with four zero bytes.
    let (at, marker_bytes) = if message.u32(0)? == 0 { (4, 4) } else { (0, 0) };
    let told_bytes = message.u32(at + 24);
    let whole_bytes = message.whole_bytes.checked_sub(marker_bytes)?;
    // Implementations pad, and reflectors cut: the length must be possible, not exact.
    if whole_bytes < HEADER_BYTES
        || told_bytes.is_some_and(|told| !(HEADER_BYTES..=0xffff).contains(&told))
    {
        return None;
    }
    let responder_known = message.u32(at + 8)? != 0 || message.u32(at + 12)? != 0;
    let (next_payload, version) = (message.u8(at + 16)?, message.u8(at + 17)?);
    let (exchange, flags) = (message.u8(at + 18)?, message.u8(at + 19)?);
    match version >> 4 {
        1 if !matches!(exchange, 0..=6 | 32..=33) => None,
        // The first message cannot know the responder's cookie; only an error can be told without one.
        1 if !responder_known => Some(if exchange == 5 {
            Role::Answer
        } else {
            Role::Request
        }),
        // Encrypted, or in the middle of a key exchange: both sides have shown that they hold their address, and
        // either may be speaking.
        1 if flags & 0x01 != 0 || next_payload == KEY_EXCHANGE => None,
        1 => Some(Role::Answer),
        2 if (34..=43).contains(&exchange) => Some(if flags & 0x20 == 0 {
            Role::Request
        } else {
            Role::Answer
        }),
        _ => None,
    }
}

/// BACnet/IP (ASHRAE 135, annex J): behind the link and network headers, the kind of application message.
pub(super) fn bacnet(message: &Message<'_>) -> Option<Role> {
    if message.u8(0)? != 0x81 {
        return None;
    }
    let network = match message.u8(1)? {
        // Result; tables read back.
        0x00 | 0x03 | 0x07 => return Some(Role::Answer),
        // Tables asked for or written.
        0x01 | 0x02 | 0x05 | 0x06 | 0x08 => return Some(Role::Request),
        // Forwarded, with the address it came from.
        0x04 => 10,
        // Unicast and broadcast.
        0x09..=0x0b => 4,
        _ => return None,
    };
    if message.u8(network)? != 1 {
        return None;
    }
    let control = message.u8(network + 1)?;
    let mut at = network + 2;
    if control & 0x20 != 0 {
        at += 3 + usize::from(message.u8(at + 2)?);
    }
    if control & 0x08 != 0 {
        at += 3 + usize::from(message.u8(at + 2)?);
    }
    // The hop count stands behind both addresses, where there is a destination.
    at += usize::from(control & 0x20 != 0);
    match message.u8(at)? >> 4 {
        // Network layer message.
        _ if control & 0x80 != 0 => None,
        0 => Some(Role::Request),
        // Unconfirmed: I-Am and I-Have tell, everything else asks or informs.
        1 if matches!(message.u8(at + 1)?, 0 | 1) => Some(Role::Answer),
        1 => Some(Role::Request),
        2..=7 => Some(Role::Answer),
        _ => None,
    }
}

/// RIP (RFC 2453, section 4): command 2 answers with a routing table of 20-byte entries.
pub(super) fn rip(message: &Message<'_>) -> Option<Role> {
    const MOST_ENTRIES: u32 = 25;
    let entries_bytes = message.whole_bytes.checked_sub(4)?;
    let version_fits = matches!(message.u8(1)?, 1 | 2);
    if !version_fits || !entries_bytes.is_multiple_of(20) || entries_bytes / 20 > MOST_ENTRIES {
        return None;
    }
    match message.u8(0)? {
        1 => Some(Role::Request),
        2 => Some(Role::Answer),
        _ => None,
    }
}

/// ONC RPC (RFC 5531, section 9): a call says version 2, a reply says accepted or denied.
pub(super) fn portmap(message: &Message<'_>) -> Option<Role> {
    match (message.u32(4)?, message.u32(8)?) {
        (0, 2) => Some(Role::Request),
        (1, 0 | 1) => Some(Role::Answer),
        _ => None,
    }
}

/// TFTP (RFC 1350, RFC 2347). Acknowledgements go both ways and say nothing.
pub(super) fn tftp(message: &Message<'_>) -> Option<Role> {
    match message.u16(0)? {
        // Read and write requests begin with a file name.
        1 | 2 => message
            .u8(2)
            .is_none_or(|letter| letter.is_ascii_graphic())
            .then_some(Role::Request),
        // Data, error, option acknowledgement.
        3 | 5 | 6 => Some(Role::Answer),
        _ => None,
    }
}

/// CoAP (RFC 7252, section 3): version 1, a token of at most 8 bytes, and a code whose class tells.
pub(super) fn coap(message: &Message<'_>) -> Option<Role> {
    let first = message.u8(0)?;
    if first >> 6 != 1 || first & 0x0f > 8 {
        return None;
    }
    let code = message.u8(1)?;
    match (code >> 5, code & 0x1f) {
        (0, 1..=31) => Some(Role::Request),
        (2 | 4 | 5, _) => Some(Role::Answer),
        _ => None,
    }
}

/// Source engine server queries: four bytes of ones and a letter, or a part of a longer answer.
pub(super) fn steam(message: &Message<'_>) -> Option<Role> {
    const WHOLE: u32 = 0xffff_ffff;
    const SPLIT: u32 = 0xfeff_ffff;
    match (message.u32(0)?, message.u8(4)?) {
        // Information, players, rules, ping, challenge.
        (WHOLE, b'T' | b'U' | b'V' | b'i' | b'W') => Some(Role::Request),
        (WHOLE, b'I' | b'D' | b'E' | b'j' | b'A' | b'm') | (SPLIT, _) => Some(Role::Answer),
        _ => None,
    }
}

/// Quake's engines: a word behind four bytes of ones, or NetQuake's control packets.
pub(super) fn quake(message: &Message<'_>) -> Option<Role> {
    const ANSWERS: [&[u8]; 6] = [
        b"statusResponse",
        b"infoResponse",
        b"getserversResponse",
        b"challengeResponse",
        b"print\n",
        b"n\\",
    ];
    const REQUESTS: [&[u8]; 7] = [
        b"getstatus",
        b"getinfo",
        b"getservers",
        b"getchallenge",
        b"status
",
        b"info ",
        b"rcon ",
    ];
    let first = message.u32(0)?;
    if first == 0xffff_ffff {
        let word = message.bytes.get(4..)?;
        if ANSWERS.iter().any(|answer| word.starts_with(answer)) {
            return Some(Role::Answer);
        }
        return REQUESTS
            .iter()
            .any(|request| word.starts_with(request))
            .then_some(Role::Request);
    }
    // A control packet: the top bit and its own length, then the operation; answers have that one's top bit set.
    if first & 0xffff_0000 != 0x8000_0000 || first & 0xffff != message.whole_bytes {
        return None;
    }
    match message.u8(4)? {
        0x01..=0x05 => Some(Role::Request),
        0x81..=0x85 => Some(Role::Answer),
        _ => None,
    }
}

/// OpenVPN: the opcodes that open a session, with key 0. Everything later is conversation.
pub(super) fn openvpn(message: &Message<'_>) -> Option<Role> {
    // An opcode, a session number, a count of acknowledgements and a packet number.
    const SHORTEST_BYTES: u32 = 14;
    if message.whole_bytes < SHORTEST_BYTES {
        return None;
    }
    match message.u8(0)? {
        // Client hard reset, versions 1, 2 and 3.
        0x08 | 0x38 | 0x50 => Some(Role::Request),
        // Server hard reset, versions 1 and 2.
        0x10 | 0x40 => Some(Role::Answer),
        _ => None,
    }
}

/// Apple remote management: a type and the length of what follows; type 20 asks, type 1 tells.
pub(super) fn arms(message: &Message<'_>) -> Option<Role> {
    match (message.u16(0)?, message.u16(2)?) {
        (0x0014, _) => Some(Role::Request),
        (0x0001, length) if u32::from(length) + 4 == message.whole_bytes => Some(Role::Answer),
        _ => None,
    }
}

/// L2TP (RFC 2661, section 3.1): a control message's type; only the first two of a handshake tell who speaks.
pub(super) fn l2tp(message: &Message<'_>) -> Option<Role> {
    // Type, length and sequence bits, version 2; padding and priority bits are not for control messages.
    if message.u16(0)? & 0xcb0f != 0xc802 || u32::from(message.u16(2)?) > message.whole_bytes {
        return None;
    }
    // The first attribute is the message type: mandatory, eight bytes long, of vendor 0 and type 0.
    let is_type = message.u16(12)? & 0x83ff == 0x8008 && message.u32(14)? == 0;
    match message.u16(18)? {
        1 if is_type => Some(Role::Request),
        2 | 4 if is_type => Some(Role::Answer),
        _ => None,
    }
}

/// STUN at its own port, where clients without the magic cookie (RFC 3489) still ask.
pub(super) fn stun(message: &Message<'_>) -> Option<Role> {
    let kind = message.u16(0)?;
    let length = u32::from(message.u16(2)?);
    // Two zero bits, and the length of what follows the 20-byte header in words of four.
    if kind & 0xc000 != 0 || !length.is_multiple_of(4) || length + 20 != message.whole_bytes {
        return None;
    }
    match kind & 0x0110 {
        0x0000 => Some(Role::Request),
        // Success and error.
        0x0100 | 0x0110 => Some(Role::Answer),
        // An indication is neither.
        _ => None,
    }
}

/// STUN anywhere, by the magic cookie (RFC 8489, section 5).
pub(super) fn stun_with_cookie(message: &Message<'_>) -> Option<Role> {
    const MAGIC_COOKIE: u32 = 0x2112_a442;
    if message.u32(4)? == MAGIC_COOKIE {
        stun(message)
    } else {
        None
    }
}

/// DTLS (RFC 6347, section 4.1 and 4.2.2): the handshake messages that open a session.
pub(super) fn dtls(message: &Message<'_>) -> Option<Role> {
    // Handshake; DTLS 1.0, 1.2 and what some VPN gateways spoke before either; epoch 0.
    let version_fits = matches!(message.u16(1)?, 0xfeff | 0xfefd | 0x0100);
    if message.u8(0)? != 0x16 || !version_fits || message.u16(3)? != 0 {
        return None;
    }
    match message.u8(13)? {
        // Client hello.
        1 => Some(Role::Request),
        // Server hello, hello verify request.
        2 | 3 => Some(Role::Answer),
        _ => None,
    }
}

/// Ubiquiti discovery: a version, a command, and the length of what follows; nothing follows a request.
pub(super) fn ubnt(message: &Message<'_>) -> Option<Role> {
    let length = u32::from(message.u16(2)?);
    if !matches!(message.u8(0)?, 1 | 2) || length + 4 != message.whole_bytes {
        return None;
    }
    Some(if length == 0 {
        Role::Request
    } else {
        Role::Answer
    })
}

/// A QUIC packet with a long header and a version that is or was in use (RFC 9000, section 17.2; RFC 9369; RFC 8999).
pub(super) fn is_quic_long_header(message: &Message<'_>) -> bool {
    const LONGEST_CONNECTION_ID: u8 = 20;
    let (Some(first), Some(version)) = (message.u8(0), message.u32(1)) else {
        return false;
    };
    // Version negotiation may leave the fixed bit out.
    if !is_quic_version(version) || first & 0x80 == 0 || (version != 0 && first & 0x40 == 0) {
        return false;
    }
    // "Q046" wrote both lengths into one byte.
    if version == 0x5130_3436 {
        return true;
    }
    let destination = message.u8(5);
    let source = destination.and_then(|length| message.u8(6 + usize::from(length)));
    [destination, source]
        .iter()
        .flatten()
        .all(|length| *length <= LONGEST_CONNECTION_ID)
}

/// A version of QUIC that is or was in use, in a long header.
#[inline]
pub(super) const fn is_quic_version(version: u32) -> bool {
    match version {
        // Version negotiation; version 1 and 2; the drafts from the first to the last.
        0 | 1 | 0x6b33_43cf | 0xff00_0001..=0xff00_0022 => true,
        // "Q046", "Q050", "T050", "T051": Google's own before the standard.
        0x5130_3436 | 0x5130_3530 | 0x5430_3530 | 0x5430_3531 => true,
        // Reserved to keep negotiation working.
        _ => version & 0x0f0f_0f0f == 0x0a0a_0a0a,
    }
}

/// A TLS client hello at the beginning of a TCP segment (RFC 8446, sections 4 and 5.1).
pub(super) fn is_tls_client_hello(payload: &[u8]) -> bool {
    let message = Message {
        bytes: payload,
        whole_bytes: 0,
        side: Side::Both,
    };
    // A handshake record of any version from SSL 3.0 on, at most 2^14 bytes long.
    let record = message.u8(0) == Some(0x16)
        && message.u8(1) == Some(0x03)
        && message.u8(2).is_some_and(|minor| minor <= 0x04)
        && message
            .u16(3)
            .is_some_and(|length| (4..=0x4000).contains(&length));
    record && message.u8(5) == Some(0x01)
}

#[cfg(test)]
mod tests {
    use super::super::asking::{sent_by, sent_to, tell_apart};
    use super::super::of_udp;
    use crate::classify::{Content, Service};

    /// A DNS header with these flags and counts, and as many zero bytes behind it.
    fn dns(flags: u16, counts: [u16; 4], behind: usize) -> Vec<u8> {
        let mut message = [0xbe, 0xef].to_vec();
        message.extend_from_slice(&flags.to_be_bytes());
        message.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        message.resize(message.len() + behind, 0);
        message
    }

    #[test]
    fn dns_answers_are_told_from_queries_by_a_plausible_header() {
        tell_apart(
            Service::Dns,
            &[
                &dns(0x8180, [1, 20, 0, 1], 400),
                // Refused, with nothing but the header; cut short by the server.
                &dns(0x8005, [0, 0, 0, 0], 0),
                &dns(0x8380, [1, 90, 0, 1], 400),
            ],
            &[
                &dns(0x0100, [1, 0, 0, 1], 40),
                &dns(0x0000, [1, 0, 0, 0], 17),
                &dns(0x2000, [1, 1, 0, 0], 40),
            ],
            &[
                // Counts that do not fit; two questions; answers in a query; opcode 3; the Z bit; noise.
                &dns(0x8180, [1, 200, 0, 1], 400),
                &dns(0x0100, [2, 0, 0, 0], 400),
                &dns(0x0100, [1, 3, 0, 0], 400),
                &dns(0x9800, [1, 1, 0, 0], 400),
                &dns(0x8140, [1, 1, 0, 0], 400),
                &[0xff; 64],
                b"abcdefghijklmnopqrstuvwxyz",
                &[],
            ],
        );
    }

    #[test]
    fn dns_cut_inside_its_header_is_told_by_its_first_bytes() {
        let answer = dns(0x8180, [1, 20, 0, 1], 400);
        let whole_bytes = u32::try_from(answer.len()).unwrap();
        assert_eq!(
            of_udp(Some(Service::Dns), None, &answer[..4], whole_bytes),
            Content::Answer(Service::Dns)
        );
        assert_eq!(
            of_udp(Some(Service::Dns), None, &answer[..3], whole_bytes),
            Content::Unrecognised
        );
    }

    #[test]
    fn mdns_answers_are_told_from_queries_with_many_questions() {
        tell_apart(
            Service::Mdns,
            &[&dns(0x8400, [0, 4, 0, 3], 300)],
            &[&dns(0x0000, [5, 2, 0, 0], 200)],
            &[
                &dns(0x8400, [0, 40, 0, 3], 100),
                &dns(0x0800, [1, 0, 0, 0], 100),
                &[0xff; 64],
            ],
        );
    }

    #[test]
    fn netbios_answers_are_told_from_queries() {
        tell_apart(
            Service::Netbios,
            &[
                &dns(0x8400, [0, 1, 0, 0], 180),
                &dns(0xad80, [0, 1, 0, 0], 50),
            ],
            &[
                &dns(0x0010, [1, 0, 0, 0], 38),
                &dns(0x2910, [1, 0, 0, 1], 56),
            ],
            &[
                &dns(0x8400, [0, 9, 0, 0], 180),
                &dns(0x0000, [0, 0, 0, 0], 0),
                &dns(0x1800, [1, 0, 0, 0], 38),
            ],
        );
    }

    /// An NTP packet of this first byte and length.
    fn ntp(first: u8, length: usize) -> Vec<u8> {
        let mut packet = vec![0; length];
        packet[..3].copy_from_slice(&[first, 2, 6]);
        packet
    }

    #[test]
    fn ntp_modes_tell_answers_from_requests() {
        tell_apart(
            Service::Ntp,
            &[
                &ntp(0x24, 48),
                &ntp(0x1c, 48),
                &ntp(0x22, 68),
                &ntp(0x25, 48),
            ],
            &[
                &ntp(0x23, 48),
                &ntp(0xe3, 48),
                &ntp(0x1b, 48),
                &ntp(0x21, 68),
            ],
            &[
                &ntp(0x24, 47),
                &ntp(0x20, 48),
                &ntp(0x04, 48),
                &ntp(0x3c, 48),
                &[0x24; 48],
            ],
        );
        // What a client that hides its state sends: precision 32 and nothing else.
        let mut private = vec![0; 48];
        private[0] = 0x23;
        private[3] = 0x20;
        assert_eq!(
            sent_to(Service::Ntp, &private),
            Content::Request(Service::Ntp)
        );
    }

    #[test]
    fn ntp_lists_of_clients_are_told_from_the_command_for_them() {
        let list = [
            &[0xd7, 0x00, 0x03, 0x2a, 0x00, 0x06, 0x00, 0x48][..],
            &[0; 432],
        ]
        .concat();
        let command = [0x17, 0x00, 0x03, 0x2a, 0, 0, 0, 0];
        let variables = [
            &[0x16, 0x82, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0][..],
            &[b'x'; 256],
        ]
        .concat();
        let read_variables = [0x16, 0x02, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        tell_apart(
            Service::Ntp,
            &[&list, &variables],
            &[&command, &read_variables],
            &[
                &[0xd7, 0x00, 0x77, 0x2a, 0, 0, 0, 0],
                &[0xd7, 0, 3, 42],
                &[0x16, 0x82, 0, 1],
            ],
        );
    }

    /// An IKE header, and its payload.
    fn ike(marker: bool, responder: u8, next: u8, version: u8, exchange: u8, flags: u8) -> Vec<u8> {
        let mut message = if marker { vec![0; 4] } else { Vec::new() };
        message.extend_from_slice(&[0xc9, 0x83, 0x2c, 0x40, 1, 2, 3, 4]);
        message.extend_from_slice(&[responder; 8]);
        message.extend_from_slice(&[next, version, exchange, flags, 0, 0, 0, 0, 0, 0, 0, 200]);
        message.resize(message.len() + 172, 0x5a);
        message
    }

    #[test]
    fn ike_answers_are_told_from_requests_in_both_versions_and_with_the_marker() {
        for marker in [false, true] {
            tell_apart(
                Service::Isakmp,
                &[
                    &ike(marker, 7, 1, 0x10, 2, 0),
                    &ike(marker, 7, 1, 0x10, 4, 0),
                    &ike(marker, 0, 11, 0x10, 5, 0),
                    &ike(marker, 7, 33, 0x20, 34, 0x20),
                ],
                &[
                    &ike(marker, 0, 1, 0x10, 2, 0),
                    &ike(marker, 0, 33, 0x20, 34, 0x08),
                ],
                &[
                    // The middle of an exchange, encrypted messages, versions and exchanges that are none.
                    &ike(marker, 7, 4, 0x10, 2, 0),
                    &ike(marker, 7, 8, 0x10, 32, 1),
                    &ike(marker, 7, 1, 0x30, 2, 0),
                    &ike(marker, 7, 1, 0x10, 99, 0),
                    &ike(marker, 7, 33, 0x20, 2, 0x20),
                ],
            );
        }
        // A packet of the VPN itself, and what keeps its way through a translator open.
        tell_apart(
            Service::Isakmp,
            &[],
            &[],
            &[&[0x5a; 120], &[0xff], &[0; 60]],
        );
    }

    #[test]
    fn bacnet_answers_are_told_from_requests_behind_any_addresses() {
        let who_is = [0x81, 0x0b, 0, 12, 1, 0x20, 0xff, 0xff, 0, 0xff, 0x10, 0x08];
        let i_am = [
            0x81, 0x0a, 0, 14, 1, 0x00, 0x10, 0x00, 0xc4, 2, 0, 0, 1, 0x22,
        ];
        let routed = [
            0x81, 0x0a, 0, 16, 1, 0x08, 0, 5, 1, 9, 0x30, 1, 12, 0x0c, 0, 0,
        ];
        let read = [
            0x81, 0x0a, 0, 17, 1, 0x04, 0x00, 0x05, 1, 0x0c, 0x0c, 2, 0x3f, 0xff, 0xff, 0x19, 0x4b,
        ];
        tell_apart(
            Service::Bacnet,
            &[&i_am, &routed, &[0x81, 0x00, 0, 6, 0, 0x30]],
            &[&who_is, &read],
            &[
                &[0x82, 0x0a, 0, 8, 1, 0, 0x30, 1],
                &[0x81, 0x0a, 0, 8, 2, 0, 0x30, 1],
                &[0x81, 0x0a, 0, 7, 1, 0x80, 0x00],
            ],
        );
    }

    #[test]
    fn rip_responses_are_told_from_requests() {
        let rip = |command, version, entries: usize| {
            [&[command, version, 0, 0][..], &vec![0; entries * 20]].concat()
        };
        tell_apart(
            Service::Rip,
            &[&rip(2, 1, 25), &rip(2, 2, 1)],
            &[&rip(1, 1, 1), &rip(1, 2, 1)],
            &[
                &rip(2, 3, 1),
                &rip(5, 1, 1),
                &rip(2, 1, 26),
                &[2, 1, 0, 0, 9],
            ],
        );
    }

    #[test]
    fn port_mapper_replies_are_told_from_calls() {
        let rpc = |kind: u8, second: u8| {
            [&[1, 2, 3, 4, 0, 0, 0, kind, 0, 0, 0, second][..], &[0; 40]].concat()
        };
        tell_apart(
            Service::Portmap,
            &[&rpc(1, 0), &rpc(1, 1)],
            &[&rpc(0, 2)],
            &[&rpc(0, 3), &rpc(1, 2), &rpc(2, 0), &[1; 6]],
        );
    }

    #[test]
    fn tftp_data_is_told_from_requests() {
        tell_apart(
            Service::Tftp,
            &[
                &[0, 3, 0, 1, 0xaa, 0xbb],
                b"\0\x05\0\x01File not found\0",
                b"\0\x06blksize\x001428\0",
            ],
            &[b"\0\x01boot.cfg\0octet\0", b"\0\x02up\0octet\0"],
            &[&[0, 4, 0, 1], &[0, 7, 0, 0], &[0, 1, 0, 0], &[3, 0]],
        );
    }

    #[test]
    fn coap_answers_are_told_from_requests_by_the_class_of_their_code() {
        tell_apart(
            Service::Coap,
            &[&[0x60, 0x45, 1, 2, 0xff, b'<'], &[0x52, 0x84, 1, 2, 7, 8]],
            &[b"\x40\x01\x7d\x70\xbb.well-known\x04core"],
            &[
                &[0x40, 0x00, 1, 2],
                &[0x80, 0x45, 1, 2],
                &[0x4f, 0x45, 1, 2],
                &[0x40, 0x25, 1, 2],
            ],
        );
    }

    #[test]
    fn game_server_answers_are_told_from_queries() {
        tell_apart(
            Service::Steam,
            &[
                b"\xff\xff\xff\xffI\x11name",
                b"\xff\xff\xff\xffD\x05",
                b"\xff\xff\xff\xffA\x01\x02",
                b"\xfe\xff\xff\xff\x01",
            ],
            &[
                b"\xff\xff\xff\xffTSource Engine Query\0",
                b"\xff\xff\xff\xffU\xff\xff\xff\xff",
            ],
            &[b"\xff\xff\xff\xffz", b"\xff\xff\xffI", &[0x12; 50]],
        );
        tell_apart(
            Service::Quake,
            &[
                b"\xff\xff\xff\xffstatusResponse\n\\mapname",
                b"\xff\xff\xff\xffprint\nfull",
                &[0x80, 0, 0, 6, 0x83, b'x'],
            ],
            &[
                b"\xff\xff\xff\xffgetstatus\n",
                b"\xff\xff\xff\xffgetinfo xxx",
                &[0x80, 0, 0, 6, 0x02, b'Q'],
            ],
            &[
                b"\xff\xff\xff\xffhello",
                &[0x80, 0, 0, 7, 0x83, b'x'],
                &[0x80, 0, 0, 6, 0x90, b'x'],
            ],
        );
    }

    #[test]
    fn vpn_servers_first_messages_are_told_from_their_clients() {
        let openvpn = |first: u8| [&[first][..], &[9; 25]].concat();
        tell_apart(
            Service::Openvpn,
            &[&openvpn(0x40), &openvpn(0x10)],
            &[&openvpn(0x38), &openvpn(0x50)],
            &[&openvpn(0x30), &openvpn(0x28), &openvpn(0x41), &[0x40; 13]],
        );
        let l2tp = |kind: u8| {
            let mut message = vec![
                0xc8, 0x02, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x08, 0, 0, 0, 0, 0, kind,
            ];
            message.resize(100, 0);
            message
        };
        let data = [&[0x40, 0x02, 0, 40][..], &[0; 36]].concat();
        tell_apart(
            Service::L2tp,
            &[&l2tp(2), &l2tp(4)],
            &[&l2tp(1)],
            &[&l2tp(6), &l2tp(3), &data],
        );
    }

    #[test]
    fn apple_remote_management_answers_are_told_from_requests() {
        let answer = [&[0, 1, 0x03, 0xea][..], &[0; 1_002]].concat();
        tell_apart(
            Service::Arms,
            &[&answer],
            &[&[0, 0x14, 0, 0]],
            &[&[0, 1, 3, 0xea, 0], &[0, 2, 0, 0], &[0, 1]],
        );
    }

    #[test]
    fn stun_answers_are_told_from_requests_with_and_without_the_cookie() {
        let stun = |kind: u16, cookie: [u8; 4]| {
            [
                &kind.to_be_bytes()[..],
                &[0, 12],
                &cookie,
                &[7; 12],
                &[0; 12],
            ]
            .concat()
        };
        let (cookie, none) = ([0x21, 0x12, 0xa4, 0x42], [9, 9, 9, 9]);
        tell_apart(
            Service::Stun,
            &[
                &stun(0x0101, cookie),
                &stun(0x0111, cookie),
                &stun(0x0101, none),
            ],
            &[
                &stun(0x0001, cookie),
                &stun(0x0003, cookie),
                &stun(0x0001, none),
            ],
            &[
                &stun(0x0016, cookie),
                &stun(0x4001, cookie),
                &[0x01, 0x01, 0, 13, 0, 0],
                &[0x80; 40],
            ],
        );
    }

    #[test]
    fn dtls_server_hellos_are_told_from_client_hellos() {
        let dtls = |content: u8, version: u16, handshake: u8| {
            let mut record = vec![content, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, handshake];
            record[1..3].copy_from_slice(&version.to_be_bytes());
            record.resize(73, 0);
            record
        };
        tell_apart(
            Service::Dtls,
            &[
                &dtls(22, 0xfeff, 3),
                &dtls(22, 0xfefd, 2),
                &dtls(22, 0x0100, 3),
            ],
            &[&dtls(22, 0xfeff, 1), &dtls(22, 0xfefd, 1)],
            &[
                &dtls(23, 0xfefd, 2),
                &dtls(22, 0x0303, 2),
                &dtls(22, 0xfefd, 11),
                &dtls(22, 0xfefd, 2)[..13],
            ],
        );
    }

    #[test]
    fn ubiquiti_answers_are_told_from_requests_by_their_length() {
        let answer = [&[1, 0, 0, 100][..], &[0; 100]].concat();
        tell_apart(
            Service::Ubnt,
            &[&answer],
            &[&[1, 0, 0, 0], &[2, 8, 0, 0]],
            &[&[1, 0, 0, 9, 9], &[3, 0, 0, 0]],
        );
        assert_eq!(
            sent_by(Service::Ubnt, &[1, 0, 0, 0]),
            Content::Request(Service::Ubnt)
        );
    }
}
