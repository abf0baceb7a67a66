//! Protocols in text, and those whose answers are nothing but text.

use super::super::HttpMethod;
use super::{Message, Role};

/// SSDP (UPnP device architecture, section 1): searches, their answers, and announcements, which nobody sends to ask.
pub(super) fn ssdp(message: &Message<'_>) -> Option<Role> {
    let text = message.bytes;
    if text.starts_with(b"M-SEARCH ") {
        return Some(Role::Request);
    }
    let answers = text.starts_with(b"HTTP/1.1 200") || text.starts_with(b"NOTIFY * HTTP");
    answers.then_some(Role::Answer)
}

/// Plex's discovery: SSDP's manner with an answer of its own.
pub(super) fn plex(message: &Message<'_>) -> Option<Role> {
    let text = message.bytes;
    if text.starts_with(b"M-SEARCH ") {
        return Some(Role::Request);
    }
    let answers: [&[u8]; 5] = [
        b"HTTP/1.0 200",
        b"HTTP/1.1 200",
        b"HELLO * HTTP",
        b"UPDATE * HTTP",
        b"BYE * HTTP",
    ];
    answers
        .iter()
        .any(|answer| text.starts_with(answer))
        .then_some(Role::Answer)
}

/// Memcached's ASCII protocol behind its UDP frame header (`protocol.txt`: request, part, parts, zero).
pub(super) fn memcached(message: &Message<'_>) -> Option<Role> {
    const ANSWERS: [&[u8]; 11] = [
        b"VALUE ",
        b"STAT ",
        b"END",
        b"ERROR",
        b"CLIENT_ERROR",
        b"SERVER_ERROR",
        b"VERSION ",
        b"STORED",
        b"NOT_",
        b"DELETED",
        b"OK\r\n",
    ];
    const REQUESTS: [&[u8]; 11] = [
        b"get ",
        b"gets ",
        b"gat ",
        b"stats",
        b"set ",
        b"add ",
        b"delete ",
        b"incr ",
        b"version",
        b"flush_all",
        b"mg ",
    ];
    let (part, parts, reserved) = (message.u16(2)?, message.u16(4)?, message.u16(6)?);
    if reserved != 0 || part >= parts {
        return None;
    }
    // Requests fit into one datagram; a later part is any piece of a long answer.
    if part > 0 {
        return Some(Role::Answer);
    }
    let text = message.bytes.get(8..)?;
    if ANSWERS.iter().any(|answer| text.starts_with(answer)) {
        return Some(Role::Answer);
    }
    REQUESTS
        .iter()
        .any(|request| text.starts_with(request))
        .then_some(Role::Request)
}

/// SIP (RFC 3261, section 7): a status line, or a method and a URI.
pub(super) fn sip(message: &Message<'_>) -> Option<Role> {
    let text = message.bytes;
    if text.starts_with(b"SIP/2.0 ") {
        return Some(Role::Answer);
    }
    let (_method, target) = word(text)?;
    let uris: [&[u8]; 3] = [b"sip:", b"sips:", b"tel:"];
    uris.iter()
        .any(|uri| target.starts_with(uri))
        .then_some(Role::Request)
}

/// The method of an HTTP/1 request line (RFC 9112, section 3), if the payload begins with one.
pub(super) fn http_method(payload: &[u8]) -> Option<HttpMethod> {
    let (method, target) = word(payload)?;
    let method = match method {
        b"GET" | b"HEAD" => HttpMethod::Get,
        b"POST" | b"PUT" | b"PATCH" => HttpMethod::Post,
        b"DELETE" | b"OPTIONS" | b"TRACE" | b"PROPFIND" | b"PROPPATCH" | b"MKCOL" | b"COPY"
        | b"MOVE" | b"LOCK" | b"UNLOCK" | b"REPORT" | b"SEARCH" | b"PURGE" => HttpMethod::Other,
        // Its target is a host and a port.
        b"CONNECT" => {
            let host = target
                .first()
                .is_none_or(|first| first.is_ascii_alphanumeric() || *first == b'[');
            return host.then_some(HttpMethod::Other);
        }
        _ => return None,
    };
    // Streaming and telephony borrow the request line, with URIs of their own.
    let path = target
        .first()
        .is_none_or(|first| matches!(first, b'/' | b'*'))
        || target.starts_with(b"http");
    path.then_some(method)
}

/// A word of 3 to 10 capital letters, as methods are, and what follows the space behind it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    const LONGEST: usize = 10;
    let end = text
        .iter()
        .take(LONGEST + 1)
        .position(|letter| !letter.is_ascii_uppercase())?;
    let (word, rest) = text.split_at_checked(end)?;
    if word.len() < 3 {
        return None;
    }
    Some((word, rest.strip_prefix(b" ")?))
}

/// Web services discovery: SOAP, with the action where the capture reaches that far, else by who has the port.
pub(super) fn wsd(message: &Message<'_>) -> Option<Role> {
    if !message.bytes.starts_with(b"<") {
        return None;
    }
    let mut envelope = message.bytes.starts_with(b"<?xml");
    for at in 0..message.bytes.len() {
        let Some(text) = message.bytes.get(at..) else {
            break;
        };
        match text {
            // A letter more makes them ProbeMatches and ResolveMatches; nothing more, and they were cut.
            [b'P', b'r', b'o', b'b', b'e', next, ..]
            | [b'R', b'e', b's', b'o', b'l', b'v', b'e', next, ..] => {
                return Some(if *next == b'M' {
                    Role::Answer
                } else {
                    Role::Request
                });
            }
            [b'E', b'n', b'v', b'e', b'l', b'o', b'p', b'e', ..] => envelope = true,
            _ => {}
        }
    }
    if envelope {
        message.role_by_side()
    } else {
        None
    }
}

/// DHDiscover of video recorders: a 32-byte header with the letters DHIP, then JSON that names a method.
pub(super) fn dvr(message: &Message<'_>) -> Option<Role> {
    if message.bytes.get(4..8)? != b"DHIP" {
        return None;
    }
    let json = message.bytes.get(32..).unwrap_or_default();
    if contains(json, b"DHDiscover.search") {
        return Some(Role::Request);
    }
    if contains(json, b"notifyDevInfo") || contains(json, b"deviceInfo") {
        return Some(Role::Answer);
    }
    message.role_by_side()
}

/// Whether the pattern stands anywhere in the text.
fn contains(text: &[u8], pattern: &[u8]) -> bool {
    text.windows(pattern.len()).any(|window| window == pattern)
}

/// Jenkins' auto-discovery: an XML fragment for whatever was sent.
pub(super) fn jenkins(message: &Message<'_>) -> Option<Role> {
    message
        .bytes
        .starts_with(b"<hudson>")
        .then_some(Role::Answer)
}

/// Mitel's test driver: commands in text. What it answers has no signature but the port.
pub(super) fn tp240(message: &Message<'_>) -> Option<Role> {
    message.bytes.starts_with(b"call.").then_some(Role::Request)
}

/// Character generator (RFC 864): the printable characters in their order, or in lines that each begin one later.
pub(super) fn chargen(message: &Message<'_>) -> Option<Role> {
    // Long enough that no text runs on like this by chance.
    const RUN: usize = 16;
    let run = message.bytes.get(..RUN)?;
    let in_order = run
        .iter()
        .zip(run.iter().skip(1))
        .all(|(letter, next)| match letter {
            b' '..=b'}' => *next == letter + 1,
            b'~' => matches!(next, b' ' | b'!'),
            _ => false,
        });
    in_order.then_some(Role::Answer)
}

/// Quote of the day (RFC 865): printable text from its port. A request says nothing of its own.
pub(super) fn qotd(message: &Message<'_>) -> Option<Role> {
    // Shorter texts are what probes send.
    const SHORTEST: usize = 8;
    let printable = |byte: &u8| {
        byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\r' | b'\n') || *byte >= 0x80
    };
    let quote = message.bytes.len() >= SHORTEST && message.bytes.iter().all(printable);
    match message.role_by_side() {
        Some(Role::Answer) if quote => Some(Role::Answer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::asking::{sent_by, sent_to, tell_apart};
    use crate::classify::{Content, Service};

    #[test]
    fn ssdp_answers_and_announcements_are_told_from_searches() {
        tell_apart(
            Service::Ssdp,
            &[
                b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\n",
                b"NOTIFY * HTTP/1.1\r\nHOST: x\r\n",
            ],
            &[b"M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\n"],
            &[
                b"HTTP/1.1 404 Not Found\r\n",
                b"NOTIFY sip:x",
                b"GET / HTTP/1.1\r\n",
            ],
        );
    }

    #[test]
    fn plex_answers_are_told_from_searches() {
        tell_apart(
            Service::Plex,
            &[
                b"HTTP/1.0 200 OK\r\nContent-Type: plex/media-server\r\n",
                b"HELLO * HTTP/1.0\r\n",
            ],
            &[b"M-SEARCH * HTTP/1.1\r\n\r\n"],
            &[b"HTTP/1.0 500 No\r\n", b"HELLO"],
        );
    }

    #[test]
    fn memcached_answers_are_told_from_commands_by_what_follows_the_frame_header() {
        tell_apart(
            Service::Memcached,
            &[
                b"\0\x01\0\0\0\x01\0\0VALUE a 0 1000\r\n",
                b"\0\0\0\0\0\x01\0\0STAT pid 1\r\n",
                b"\0\0\0\0\0\x01\0\0END\r\n",
                b"\0\0\0\0\0\x01\0\0ERROR\r\n",
                b"\0\x01\0\x05\0\x09\0\0any piece of a value",
            ],
            &[
                b"\0\0\0\0\0\x01\0\0stats\r\n",
                b"\0\x01\0\0\0\x01\0\0get a\r\n",
            ],
            &[
                b"VALUE a 0 1\r\n",
                b"\0\0\0\0\0\x01\0\x01END\r\n",
                b"\0\0\0\x02\0\x02\0\0END\r\n",
                b"\0\0\0\0\0\x01\0\0what",
            ],
        );
    }

    #[test]
    fn sip_responses_are_told_from_requests() {
        tell_apart(
            Service::Sip,
            &[b"SIP/2.0 100 Trying\r\nVia: x\r\n"],
            &[
                b"INVITE sip:bob@example.org SIP/2.0\r\n",
                b"REGISTER sips:example.org SIP/2.0\r\n",
                b"ACK tel:+1 SIP/2.0",
            ],
            &[
                b"SIP/3.0 200 OK\r\n",
                b"INVITE http://x",
                b"\r\n\r\n",
                b"jaK",
            ],
        );
    }

    #[test]
    fn web_services_probes_are_told_from_their_matches_where_the_action_was_captured() {
        tell_apart(
            Service::Wsd,
            &[
                b"<?xml version=\"1.0\"?><Envelope><Body><ProbeMatches>",
                b"<s:Envelope><s:Body><d:ResolveMatches>",
            ],
            &[
                b"<?xml version=\"1.0\"?><Envelope><Body><Probe/>",
                b"<s:Envelope><s:Body><d:Resolve>",
            ],
            &[b"<html>", b"Envelope"],
        );
        let head = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><SOAP-ENV:Envelope";
        assert_eq!(sent_by(Service::Wsd, head), Content::Answer(Service::Wsd));
        assert_eq!(sent_to(Service::Wsd, head), Content::Request(Service::Wsd));
    }

    #[test]
    fn video_recorders_answers_are_told_from_searches() {
        let with_header = |json: &[u8]| [&b"\x20\0\0\0DHIP"[..], &[0; 24], json].concat();
        let answer =
            with_header(b"{\"mac\":\"00:11\",\"method\":\"client.notifyDevInfo\",\"params\":{");
        let search =
            with_header(b"{ \"method\" : \"DHDiscover.search\", \"params\" : { \"mac\" : \"\" } }");
        tell_apart(
            Service::Dvr,
            &[&answer, &with_header(b"{")],
            &[&search],
            &[b"\x20\0\0\0DHIQ........", b"DHIP"],
        );
        // From the port of the service, a search still is one.
        assert_eq!(
            sent_by(Service::Dvr, &search),
            Content::Request(Service::Dvr)
        );
    }

    #[test]
    fn jenkins_answers_with_its_own_element() {
        tell_apart(
            Service::Jenkins,
            &[b"<hudson><version>2.1</version>"],
            &[],
            &[b"<html>", b"hudson"],
        );
    }

    #[test]
    fn test_driver_commands_are_requests_and_its_answers_have_no_signature() {
        tell_apart(
            Service::Tp240,
            &[],
            &[b"call.startblast 2000 3"],
            &[b"tp240 ...", b"calling"],
        );
    }

    #[test]
    fn chargen_is_known_by_characters_in_their_order() {
        tell_apart(
            Service::Chargen,
            &[
                b" !\"#$%&'()*+,-./0123456789",
                b"qrstuvwxyz{|}~ !\"#$%&",
                b"wxyz{|}~!\"#$%&'()*+,-./",
            ],
            &[],
            &[
                b"\n",
                b"abcdefghijklmno",
                b"The quick brown fox jumps",
                &[0; 32],
            ],
        );
        assert_eq!(sent_to(Service::Chargen, b"\x00"), Content::Unrecognised);
    }

    #[test]
    fn a_quote_is_printable_text_from_the_port_of_quotes() {
        tell_apart(
            Service::Qotd,
            &[
                b"\"Brevity is the soul of wit.\" - W. Shakespeare\r\n",
                "Pl\u{f6}tzlich war es still.".as_bytes(),
            ],
            &[],
            &[b"\x00\x01\x02\x03\x04\x05\x06\x07\x08", b"short"],
        );
        assert_eq!(
            sent_to(Service::Qotd, b"please, a quote of the day"),
            Content::Unrecognised
        );
    }
}
