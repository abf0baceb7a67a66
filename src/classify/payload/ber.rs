//! Protocols in ASN.1's basic encoding: connectionless LDAP (RFC 4511) and SNMP (RFC 1157, 3416, 3412).
//!
//! Only the outermost tags are read, never a value that does not matter. Lengths are trusted for nothing but skipping
//! forward inside what was captured.

use super::{Message, Role};

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// LDAP carried by UDP, as domain controllers answer it: a search request or its results.
pub(super) fn cldap(message: &Message<'_>) -> Option<Role> {
    let (id, operation) = element(inside(message.bytes, SEQUENCE)?, INTEGER)?;
    // Message numbers have at most four bytes (RFC 4511, section 4.1.1.1).
    if !(1..=4).contains(&id.len()) {
        return None;
    }
    match operation.first()? {
        // searchRequest and abandonRequest.
        0x63 | 0x50 => Some(Role::Request),
        // searchResEntry, searchResDone, searchResRef.
        0x64 | 0x65 | 0x73 => Some(Role::Answer),
        _ => None,
    }
}

/// SNMP of any version.
pub(super) fn snmp(message: &Message<'_>) -> Option<Role> {
    let (version, rest) = element(inside(message.bytes, SEQUENCE)?, INTEGER)?;
    match version {
        [0 | 1] => {
            let (_community, pdu) = element(rest, OCTET_STRING)?;
            match pdu.first()? {
                // Get, GetNext, Set, GetBulk, Inform.
                0xa0 | 0xa1 | 0xa3 | 0xa5 | 0xa6 => Some(Role::Request),
                // Response and Report.
                0xa2 | 0xa8 => Some(Role::Answer),
                _ => None,
            }
        }
        [3] => {
            let (_id, rest) = element(inside(rest, SEQUENCE)?, INTEGER)?;
            let (_longest, rest) = element(rest, INTEGER)?;
            let (flags, _model) = element(rest, OCTET_STRING)?;
            // The PDU may be encrypted. Whoever wants an answer says so: the reportable flag (RFC 3412, section 6.4).
            let [flags] = flags else { return None };
            Some(if flags & 0x04 != 0 {
                Role::Request
            } else {
                Role::Answer
            })
        }
        _ => None,
    }
}

/// What follows the tag and length of an element of this type, whether the capture holds all of it or not.
fn inside(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    header(bytes, tag).map(|(_, rest)| rest)
}

/// The value of an element of this type, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = header(bytes, tag)?;
    rest.split_at_checked(length)
}

/// The length an element of this type claims, and what follows its length. Long forms of up to four bytes: servers send
/// lengths of 84 00 00 0b c4 where 82 0b c4 would do.
fn header(bytes: &[u8], tag: u8) -> Option<(usize, &[u8])> {
    let (found, rest) = bytes.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    if *first < 0x80 {
        return Some((usize::from(*first), rest));
    }
    let digits = usize::from(first & 0x7f);
    if !(1..=4).contains(&digits) {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(digits)?;
    let length = digits
        .iter()
        .fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
    Some((length, rest))
}

#[cfg(test)]
mod tests {
    use super::super::asking::tell_apart;
    use crate::classify::Service;

    #[test]
    fn cldap_results_are_told_from_searches() {
        let entry = b"\x30\x84\x00\x00\x0b\xc4\x02\x01\x07\x64\x84\x00\x00\x0b\xbb\x04\x00";
        let done = b"\x30\x0c\x02\x01\x07\x65\x07\x0a\x01\x00\x04\x00\x04\x00";
        let search = b"\x30\x25\x02\x01\x01\x63\x20\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00";
        let bind = b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00";
        tell_apart(
            Service::Cldap,
            &[entry, done],
            &[search],
            &[bind, b"\x31\x0c\x02\x01\x07\x65", b"\x30\x80"],
        );
    }

    #[test]
    fn snmp_responses_of_every_version_are_told_from_requests() {
        let response = b"\x30\x82\x05\x10\x02\x01\x01\x04\x06public\xa2\x82\x05\x01\x02\x01\x01";
        let get_bulk =
            b"\x30\x25\x02\x01\x01\x04\x06public\xa5\x18\x02\x01\x01\x02\x01\x00\x02\x02\x08\xca";
        let get = b"\x30\x26\x02\x01\x00\x04\x06public\xa0\x19\x02\x01\x01";
        let trap = b"\x30\x26\x02\x01\x01\x04\x06public\xa7\x19\x02\x01\x01";
        let discovery = b"\x30\x3a\x02\x01\x03\x30\x0f\x02\x02\x4a\x69\x02\x03\x00\xff\xe3\x04\x01\x04\x02\x01\x03";
        let report = b"\x30\x6c\x02\x01\x03\x30\x0f\x02\x02\x4a\x69\x02\x03\x00\xff\xe3\x04\x01\x00\x02\x01\x03";
        tell_apart(
            Service::Snmp,
            &[response, report],
            &[get_bulk, get, discovery],
            &[trap, b"\x30\x05\x02\x01\x09\x04\x00"],
        );
    }
}
