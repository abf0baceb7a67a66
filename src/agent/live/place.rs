//! Where this host stands in its networks now: which interface each watched name means, and which addresses are ours.
//!
//! Read from the kernel by the housekeeping thread whenever something changes, and swapped whole. Capture threads look
//! once a window whether there is a new one; for a packet nobody looks. What a name means is decided here and nowhere
//! else.

use std::net::IpAddr;

use super::links::Links;
use crate::capture::nic::{self, Interface};
use crate::capture::{CaptureError, NetlinkError};
use crate::classify::{self, Vantage};

/// The host's place, as it was when the kernel was asked last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// In the order of the links.
    links: Vec<Whereabouts>,
    addresses: Vec<IpAddr>,
    /// Fixed far ends of this host's tunnels.
    peers: Vec<IpAddr>,
}

/// What a watched name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// This interface.
    Here(Interface),
    /// No interface any more, but the one that was captured goes on under another name.
    Renamed(Interface),
    /// No interface.
    Missing,
    /// An interface that must not be watched, and why.
    Refused(String),
}

impl Place {
    /// Asks the kernel.
    pub(super) fn read(links: &Links) -> Result<Self, NetlinkError> {
        let interfaces = nic::interfaces()?;
        let captured: Vec<_> = (0..links.len())
            .map(|link| links.last_index(link))
            .collect();
        let names: Vec<&str> = links.names().collect();
        Ok(Self {
            links: resolve(&names, &captured, &interfaces),
            addresses: nic::addresses()?
                .into_iter()
                .map(|local| local.address)
                .collect(),
            peers: interfaces
                .into_iter()
                .filter_map(|interface| interface.tunnel_peer)
                .collect(),
        })
    }

    /// What the `link`-th name means.
    pub(super) fn whereabouts(&self, link: usize) -> &Whereabouts {
        self.links.get(link).unwrap_or(&Whereabouts::Missing)
    }

    /// How packets on `interface` are told apart from here.
    pub(super) fn vantage(&self, interface: &Interface) -> classify::Settings {
        classify::Settings {
            vantage: Vantage::Interface {
                mac: interface.mac,
                addresses: self.addresses.clone(),
            },
            tunnel_peers: self.peers.clone(),
        }
    }
}

/// What each of `names` means among `all` interfaces, of which those with the numbers `captured` were captured last.
///
/// A name is that of the interface that bears it now, or else the interface that bore it when its capture began: packets
/// are not left unwatched because of a name.
fn resolve(names: &[&str], captured: &[Option<u32>], all: &[Interface]) -> Vec<Whereabouts> {
    let mut watched: Vec<&Interface> = Vec::with_capacity(names.len());
    let captured = captured.iter().copied().chain(std::iter::repeat(None));
    let mut resolved = Vec::with_capacity(names.len());
    for (name, index) in names.iter().zip(captured) {
        let by_name = all.iter().find(|interface| interface.answers_to(name));
        let by_index = || {
            let index = index?;
            all.iter().find(|interface| interface.index == index)
        };
        let Some(interface) = by_name.or_else(by_index) else {
            resolved.push(Whereabouts::Missing);
            continue;
        };
        watched.push(interface);
        resolved.push(match nic::check_watchable(&watched, all) {
            Err(error) => {
                watched.pop();
                Whereabouts::Refused(reason_of(error))
            }
            Ok(()) if by_name.is_some() => Whereabouts::Here(interface.clone()),
            Ok(()) => Whereabouts::Renamed(interface.clone()),
        });
    }
    resolved
}

fn reason_of(error: CaptureError) -> String {
    match error {
        CaptureError::UnsuitableInterface { reason, .. } => reason,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str) -> Interface {
        Interface {
            index,
            name: name.to_owned(),
            up: true,
            carrier: true,
            ..Interface::default()
        }
    }

    #[test]
    fn a_name_means_the_interface_that_bears_it() {
        let all = [interface(2, "eth0"), interface(3, "eth1")];
        let resolved = resolve(&["eth1", "eth0", "eth7"], &[], &all);
        assert_eq!(
            resolved,
            [
                Whereabouts::Here(all[1].clone()),
                Whereabouts::Here(all[0].clone()),
                Whereabouts::Missing
            ]
        );
    }

    #[test]
    fn one_that_was_made_anew_counts_whatever_is_still_captured() {
        let all = [interface(9, "eth0")];
        let resolved = resolve(&["eth0"], &[Some(2)], &all);
        assert_eq!(resolved, [Whereabouts::Here(all[0].clone())]);
        assert_eq!(resolve(&["eth0"], &[Some(2)], &[]), [Whereabouts::Missing]);
    }

    #[test]
    fn one_that_was_renamed_stays_until_another_bears_its_name() {
        let renamed = interface(2, "wan0");
        let resolved = resolve(&["eth0"], &[Some(2)], std::slice::from_ref(&renamed));
        assert_eq!(resolved, [Whereabouts::Renamed(renamed.clone())]);
        let all = [renamed, interface(3, "eth0")];
        let resolved = resolve(&["eth0"], &[Some(2)], &all);
        assert_eq!(resolved, [Whereabouts::Here(all[1].clone())]);
        // Without a capture there is nothing to stay with.
        assert_eq!(
            resolve(&["eth0"], &[None], &all[..1]),
            [Whereabouts::Missing]
        );
    }

    #[test]
    fn an_alternative_name_is_as_good() {
        let all = [Interface {
            alternative_names: vec!["uplink".to_owned()],
            ..interface(2, "enp3s0")
        }];
        let resolved = resolve(&["uplink"], &[Some(2)], &all);
        assert_eq!(resolved, [Whereabouts::Here(all[0].clone())]);
    }

    #[test]
    fn what_comes_back_on_top_of_another_watched_one_would_count_twice() {
        let all = [
            interface(2, "eth0"),
            Interface {
                lower: Some(2),
                ..interface(3, "eth1")
            },
        ];
        let resolved = resolve(&["eth0", "eth1"], &[], &all);
        assert_eq!(resolved[0], Whereabouts::Here(all[0].clone()));
        let Whereabouts::Refused(reason) = &resolved[1] else {
            panic!("{resolved:?}");
        };
        assert!(reason.contains("would count twice"), "{reason}");
    }

    #[test]
    fn this_host_has_a_place() {
        let links = Links::new(["no-such-if0".to_owned()]);
        let place = Place::read(&links).unwrap();
        assert_eq!(place.whereabouts(0), &Whereabouts::Missing);
        assert_eq!(place.whereabouts(1), &Whereabouts::Missing);
        let vantage = place.vantage(&interface(1, "any"));
        assert!(matches!(vantage.vantage, Vantage::Interface { .. }));
    }
}
