//! IPv4 and IPv6 headers, extension headers and fragments, by etherparse's header slices.
//!
//! The slices are taken one header at a time rather than as a whole packet: the chain of extension headers must be
//! bounded, nothing behind a later fragment's header is one, and a cut or lying length must not cost the addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::err::ip_auth::HeaderSliceError as AuthError;
use etherparse::{
    IpAuthHeaderSlice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice,
    Ipv6RawExtHeaderSlice,
};

use super::super::{Fragment, Undecodable};
use super::link::IpVersion;
use super::{at_most, bytes_u32};

/// Extension headers followed. RFC 8200 names six kinds that appear once each, one of them twice.
const MAX_EXTENSIONS: usize = 8;

/// The longest datagram IP can put together, in bytes.
const LONGEST_DATAGRAM_BYTES: u32 = 65_535;

/// IP protocol numbers that decide something here.
pub(super) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IPV4: u8 = 4;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const DCCP: u8 = 33;
    pub(crate) const IPV6: u8 = 41;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const GRE: u8 = 47;
    pub(crate) const ESP: u8 = 50;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
    pub(crate) const SCTP: u8 = 132;
    pub(crate) const UDP_LITE: u8 = 136;
}

/// One IP packet behind all its IP headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// After extension headers; that of the header where the walk had to end.
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) fragment: Fragment,
    /// The captured bytes behind the IP headers, none of them beyond the packet's own length.
    pub(super) body: &'a [u8],
    /// How long the body is by the header's own length, captured or not.
    pub(super) body_bytes: u32,
    /// Whether a header's length was zero, as it is in frames that the kernel merged beyond 65,535 bytes.
    pub(super) length_unknown: bool,
    /// What is wrong with the IP headers; the body is empty where it prevents finding the transport header.
    pub(super) flaw: Option<Undecodable>,
}

/// Reads an IP header of this version. `wire_bytes` is how long the packet can be at most, captured or not.
pub(super) fn read(
    version: IpVersion,
    bytes: &[u8],
    wire_bytes: u32,
) -> Result<Packet<'_>, Undecodable> {
    match version {
        IpVersion::V4 => read_v4(bytes, wire_bytes),
        IpVersion::V6 => read_v6(bytes, wire_bytes),
    }
}

fn read_v4(bytes: &[u8], wire_bytes: u32) -> Result<Packet<'_>, Undecodable> {
    use etherparse::err::ipv4::HeaderSliceError as Error;
    match Ipv4HeaderSlice::from_slice(bytes) {
        Ok(header) => Ok(packet_v4(&header, bytes, wire_bytes)),
        Err(Error::Len(_)) => options_cut(bytes),
        Err(Error::Content(_)) => Err(Undecodable::IpMalformed),
    }
}

fn packet_v4<'a>(header: &Ipv4HeaderSlice<'a>, bytes: &'a [u8], wire_bytes: u32) -> Packet<'a> {
    let header_bytes = u32::from(header.ihl()) * 4;
    let total_bytes = u32::from(header.total_len());
    let behind = bytes.get(header.slice().len()..).unwrap_or_default();
    let (body_bytes, flaw) = match total_bytes.checked_sub(header_bytes) {
        Some(body_bytes) => (body_bytes, None),
        None if total_bytes == 0 => (wire_bytes.saturating_sub(header_bytes), None),
        None => (
            wire_bytes.saturating_sub(header_bytes),
            Some(Undecodable::IpMalformed),
        ),
    };
    let id = u32::from(header.identification());
    let place = Place {
        id,
        offset_bytes: u32::from(header.fragments_offset().value()) * 8,
        more: header.more_fragments(),
    };
    let mut packet = Packet {
        source: IpAddr::V4(header.source_addr()),
        destination: IpAddr::V4(header.destination_addr()),
        protocol: header.protocol().0,
        ttl: header.ttl(),
        fragment: place.fragment(body_bytes),
        body: at_most(behind, body_bytes),
        body_bytes,
        length_unknown: total_bytes == 0,
        flaw,
    };
    packet.walk_extensions(IpVersion::V4);
    packet
}

/// The fixed part of an IPv4 header whose options were not captured in full: everything but what stands behind it.
fn options_cut(bytes: &[u8]) -> Result<Packet<'_>, Undecodable> {
    const FIXED_BYTES: usize = 20;
    let fixed: &[u8; FIXED_BYTES] = bytes.first_chunk().ok_or(Undecodable::IpCut)?;
    let header_bytes = u32::from(fixed[0] & 0x0f) * 4;
    let body_bytes =
        u32::from(u16::from_be_bytes([fixed[2], fixed[3]])).saturating_sub(header_bytes);
    let fragmentation = u16::from_be_bytes([fixed[6], fixed[7]]);
    let place = Place {
        id: u32::from(u16::from_be_bytes([fixed[4], fixed[5]])),
        offset_bytes: u32::from(fragmentation & 0x1fff) * 8,
        more: fragmentation & 0x2000 != 0,
    };
    Ok(Packet {
        source: IpAddr::V4(Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15])),
        destination: IpAddr::V4(Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19])),
        protocol: fixed[9],
        ttl: fixed[8],
        fragment: place.fragment(body_bytes),
        body: &[],
        body_bytes,
        length_unknown: false,
        flaw: Some(Undecodable::IpCut),
    })
}

fn read_v6(bytes: &[u8], wire_bytes: u32) -> Result<Packet<'_>, Undecodable> {
    use etherparse::err::ipv6::HeaderSliceError as Error;
    const HEADER_BYTES: u32 = 40;
    let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|error| match error {
        Error::Len(_) => Undecodable::IpCut,
        Error::Content(_) => Undecodable::IpMalformed,
    })?;
    let behind = bytes.get(header.slice().len()..).unwrap_or_default();
    let told_bytes = u32::from(header.payload_length());
    let body_bytes = if told_bytes == 0 {
        wire_bytes.saturating_sub(HEADER_BYTES)
    } else {
        told_bytes
    };
    let mut packet = Packet {
        source: IpAddr::V6(Ipv6Addr::from(header.source())),
        destination: IpAddr::V6(Ipv6Addr::from(header.destination())),
        protocol: header.next_header().0,
        ttl: header.hop_limit(),
        fragment: Fragment::Whole,
        body: at_most(behind, body_bytes),
        body_bytes,
        length_unknown: told_bytes == 0,
        flaw: None,
    };
    packet.walk_extensions(IpVersion::V6);
    Ok(packet)
}

/// A fragment's place in its datagram, as the header says it.
#[derive(Clone, Copy)]
struct Place {
    id: u32,
    offset_bytes: u32,
    more: bool,
}

impl Place {
    /// A packet alone in its datagram is whole even when it has a fragment header (RFC 6946).
    fn fragment(self, body_bytes: u32) -> Fragment {
        let Self {
            id,
            offset_bytes,
            more,
        } = self;
        match (offset_bytes, more) {
            (0, false) => Fragment::Whole,
            (0, true) => Fragment::First { id },
            _ => Fragment::Later {
                id,
                oversize: offset_bytes + body_bytes > LONGEST_DATAGRAM_BYTES,
            },
        }
    }
}

/// Why an extension header could not be read.
enum Unreadable {
    /// The slice is too short for a header of this many bytes.
    Short { needed_bytes: u32 },
    /// Its length field is impossible.
    Malformed,
}

impl Packet<'_> {
    /// Whether a part of its datagram came before it, so that its body begins with no header.
    pub(super) const fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Fragment::Later { .. })
    }

    /// Whether it is the first of several.
    pub(super) const fn is_first_fragment(&self) -> bool {
        matches!(self.fragment, Fragment::First { .. })
    }

    /// Moves behind the extension headers, as far as we follow them.
    fn walk_extensions(&mut self, version: IpVersion) {
        for nth in 0..MAX_EXTENSIONS {
            if self.is_later_fragment() || !is_extension(version, self.protocol) {
                return;
            }
            // Hop-by-hop options stand first or are refused by every host (RFC 8200, section 4.1).
            if nth > 0 && self.protocol == protocol::HOP_BY_HOP {
                self.stop(Undecodable::IpMalformed);
                return;
            }
            if let Err(reason) = self.skip_extension() {
                self.stop(reason);
                return;
            }
        }
        if !self.is_later_fragment() && is_extension(version, self.protocol) {
            self.stop(Undecodable::ExtensionDepth);
        }
    }

    /// Moves behind one extension header.
    fn skip_extension(&mut self) -> Result<(), Undecodable> {
        let extension = match self.protocol {
            protocol::FRAGMENT => Ipv6FragmentHeaderSlice::from_slice(self.body)
                .map(|header| {
                    let place = Place {
                        id: header.identification(),
                        offset_bytes: u32::from(header.fragment_offset().value()) * 8,
                        more: header.more_fragments(),
                    };
                    (header.slice().len(), header.next_header().0, Some(place))
                })
                .map_err(|error| Unreadable::short(error.required_len)),
            protocol::AUTHENTICATION => IpAuthHeaderSlice::from_slice(self.body)
                .map(|header| (header.slice().len(), header.next_header().0, None))
                .map_err(|error| match error {
                    AuthError::Len(error) => Unreadable::short(error.required_len),
                    AuthError::Content(_) => Unreadable::Malformed,
                }),
            _ => Ipv6RawExtHeaderSlice::from_slice(self.body)
                .map(|header| (header.slice().len(), header.next_header().0, None))
                .map_err(|error| Unreadable::short(error.required_len)),
        };
        let (header_bytes, next, place) = match extension {
            Ok(extension) => extension,
            Err(Unreadable::Short { needed_bytes }) if needed_bytes <= self.body_bytes => {
                return Err(Undecodable::ExtensionCut);
            }
            // Longer than the packet itself.
            Err(Unreadable::Short { .. } | Unreadable::Malformed) => {
                return Err(Undecodable::IpMalformed);
            }
        };
        let (header, body) = self
            .body
            .split_at_checked(header_bytes)
            .ok_or(Undecodable::ExtensionCut)?;
        self.body = body;
        self.body_bytes = self.body_bytes.saturating_sub(bytes_u32(header));
        self.protocol = next;
        if let Some(place) = place {
            match place.fragment(self.body_bytes) {
                Fragment::Whole => {}
                fragment => self.fragment = fragment,
            }
        }
        Ok(())
    }

    /// Ends the walk here: no transport header can be found any more.
    fn stop(&mut self, reason: Undecodable) {
        self.flaw = self.flaw.or(Some(reason));
        self.body = &[];
    }
}

impl Unreadable {
    fn short(needed_bytes: usize) -> Self {
        Self::Short {
            needed_bytes: u32::try_from(needed_bytes).unwrap_or(u32::MAX),
        }
    }
}

/// Whether a header of this kind stands between the IP header and the transport header. IPv4 knows only authentication;
/// mobility and host identity headers carry nothing behind them and are protocols of their own.
const fn is_extension(version: IpVersion, number: u8) -> bool {
    match version {
        IpVersion::V4 => number == protocol::AUTHENTICATION,
        IpVersion::V6 => matches!(
            number,
            protocol::HOP_BY_HOP
                | protocol::ROUTING
                | protocol::FRAGMENT
                | protocol::AUTHENTICATION
                | protocol::DESTINATION_OPTIONS
        ),
    }
}
