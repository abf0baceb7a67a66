//! Finding the platform's addresses, also when the resolver is what is under attack.
//!
//! Asks the system's resolver on a thread that may block; addresses it gave are remembered for a day and used when it
//! fails or is silent. Certificates are checked all the same, so an old address can at worst not answer. Never asks twice
//! at once: a resolver that hangs must not be met with more threads.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::task::now;
use crate::clock::Timestamp;

/// Names remembered: the platform's, and that of a proxy if there is one.
const NAMES_MAX: usize = 4;

/// Addresses remembered for a name; more than any platform announces.
const ADDRESSES_MAX: usize = 16;

/// The system's resolver, with a memory.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    patience: Duration,
    kept: Duration,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Known {
    addresses: Vec<IpAddr>,
    found_at: Option<Instant>,
    /// A question on its way, and since when.
    asking: Option<(Instant, watch::Receiver<Option<String>>)>,
}

/// What the ledger keeps: addresses by name, with the age of each in seconds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    at: Timestamp,
    names: BTreeMap<String, (Vec<IpAddr>, u64)>,
}

/// No address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoAddress(pub(super) String);

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAddress {}

impl Resolver {
    /// One that waits `patience` for the system when it has remembered addresses, and remembers them for `kept`.
    pub(super) fn new(patience: Duration, kept: Duration) -> Self {
        Self {
            patience,
            kept,
            known: Arc::default(),
        }
    }

    async fn find(&self, host: String) -> Result<Vec<IpAddr>, NoAddress> {
        let (since, mut answer) = self.ask(&host);
        // Who has waited as long as that for others need not do so again.
        let left = self
            .patience
            .saturating_sub(now().saturating_duration_since(since));
        let in_time = tokio::time::timeout(left, answered(&mut answer)).await;
        let remembered = self.remembered(&host);
        if !remembered.is_empty() {
            // Just found, or found earlier: whatever went wrong now, these are the best there are.
            return Ok(remembered);
        }
        let problem = match in_time {
            Ok(problem) => problem,
            // Nothing is lost by waiting on: the time for a connection bounds it.
            Err(_) => answered(&mut answer).await,
        };
        match problem {
            None => Ok(self.remembered(&host)),
            Some(problem) => Err(NoAddress(problem)),
        }
    }

    /// The question about `host` that is on its way: one is sent if there is none.
    fn ask(&self, host: &str) -> (Instant, watch::Receiver<Option<String>>) {
        let mut known = self.lock();
        if let Some(asking) = known.get(host).and_then(|known| known.asking.clone()) {
            return asking;
        }
        if known.len() >= NAMES_MAX && !known.contains_key(host) {
            // Nobody has more names than that; whoever does is forgotten whole.
            known.clear();
        }
        let (tell, answer) = watch::channel(None);
        let asking = (now(), answer);
        known.entry(host.to_owned()).or_default().asking = Some(asking.clone());
        drop(known);
        let (this, host) = (self.clone(), host.to_owned());
        tokio::spawn(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let problem = this.learn(&host, found.map(|found| found.map(|at| at.ip()).collect()));
            // An empty text is success; nobody may be listening any more.
            let _ = tell.send(Some(problem.unwrap_or_default()));
        });
        asking
    }

    /// Takes the system's answer; gives what is wrong with it.
    fn learn(&self, host: &str, found: std::io::Result<Vec<IpAddr>>) -> Option<String> {
        let mut known = self.lock();
        let entry = known.entry(host.to_owned()).or_default();
        entry.asking = None;
        match found {
            Ok(addresses) if addresses.is_empty() => Some("the name has no address".to_owned()),
            Ok(mut addresses) => {
                addresses.truncate(ADDRESSES_MAX);
                entry.addresses = addresses;
                entry.found_at = Some(now());
                None
            }
            Err(error) => Some(error.to_string()),
        }
    }

    /// Addresses that are not too old.
    fn remembered(&self, host: &str) -> Vec<IpAddr> {
        let known = self.lock();
        let fresh = |known: &&Known| {
            known
                .found_at
                .is_some_and(|at| now().saturating_duration_since(at) <= self.kept)
        };
        let known = known.get(host).filter(fresh);
        known.map_or_else(Vec::new, |known| known.addresses.clone())
    }

    /// What is known, for the ledger.
    pub(super) fn saved(&self, wall: Timestamp) -> String {
        let names = self.lock();
        let names = names.iter().filter_map(|(name, known)| {
            let age = now().saturating_duration_since(known.found_at?);
            Some((name.clone(), (known.addresses.clone(), age.as_secs())))
        });
        let remembered = Remembered {
            at: wall,
            names: names.collect(),
        };
        serde_json::to_string(&remembered).unwrap_or_default()
    }

    /// Takes over what an earlier run knew; what is no such text, from the future or too old is left.
    pub(super) fn restore(&self, saved: &str, wall: Timestamp) {
        let Ok(saved) = serde_json::from_str::<Remembered>(saved) else {
            return;
        };
        if saved.at > wall {
            return;
        }
        let since = Duration::from_nanos(wall.nanos_since(saved.at));
        let mut known = self.lock();
        for (name, (addresses, age)) in saved.names.into_iter().take(NAMES_MAX) {
            let age = since.saturating_add(Duration::from_secs(age));
            // A host that started less than that ago has no such time; then it is as good as now, and ages from here on.
            let found_at = now().checked_sub(age).unwrap_or_else(now);
            if age <= self.kept {
                let entry = known.entry(name).or_default();
                entry.addresses = addresses.into_iter().take(ADDRESSES_MAX).collect();
                entry.found_at = Some(found_at);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for an answer; gives what is wrong with it.
async fn answered(answer: &mut watch::Receiver<Option<String>>) -> Option<String> {
    let gone = || Some("the question was given up".to_owned());
    let Ok(told) = answer.wait_for(Option::is_some).await else {
        return gone();
    };
    told.clone().filter(|problem| !problem.is_empty())
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let addresses = this.find(host).await?;
            // The port of the URL takes the place of 0.
            let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const WALL: Timestamp = Timestamp::from_seconds(1_773_567_858);

    fn resolver() -> Resolver {
        Resolver::new(Duration::from_secs(2), DAY)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A name that no resolver knows: the top-level domain is reserved for that.
    const NOWHERE: &str = "platform.invalid";

    #[tokio::test]
    async fn this_host_has_an_address() {
        let found = resolver().find("localhost".to_owned()).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
    }

    #[tokio::test]
    async fn remembered_addresses_are_used_for_a_day_when_the_resolver_fails() {
        let resolver = resolver();
        assert!(resolver.find(NOWHERE.to_owned()).await.is_err());
        let one = address("192.0.2.7");
        assert_eq!(resolver.learn(NOWHERE, Ok(vec![one])), None);
        assert_eq!(resolver.find(NOWHERE.to_owned()).await, Ok(vec![one]));
        let old = now().checked_sub(DAY + Duration::from_secs(1));
        resolver.lock().get_mut(NOWHERE).unwrap().found_at = old;
        let refused = resolver.find(NOWHERE.to_owned()).await;
        assert!(refused.is_err() || old.is_none(), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_resolver_is_waited_for_once_and_asked_once() {
        let resolver = resolver();
        let one = address("2001:db8::7");
        resolver.learn(NOWHERE, Ok(vec![one]));
        let (_silent, receiver) = watch::channel(None);
        let asked_at = now();
        resolver.lock().get_mut(NOWHERE).unwrap().asking = Some((asked_at, receiver));
        assert_eq!(resolver.find(NOWHERE.to_owned()).await, Ok(vec![one]));
        assert_eq!(now() - asked_at, Duration::from_secs(2));
        // The second call does not wait again, nor does it ask again.
        assert_eq!(resolver.find(NOWHERE.to_owned()).await, Ok(vec![one]));
        assert_eq!(now() - asked_at, Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_still_taken_and_a_new_address_replaces_the_old() {
        let resolver = resolver();
        let (tell, receiver) = watch::channel(None);
        resolver
            .lock()
            .entry(NOWHERE.to_owned())
            .or_default()
            .asking = Some((now(), receiver));
        let (late, one) = (resolver.clone(), address("192.0.2.8"));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(4)).await;
            late.learn(NOWHERE, Ok(vec![one]));
            tell.send(Some(String::new())).unwrap();
        });
        assert_eq!(resolver.find(NOWHERE.to_owned()).await, Ok(vec![one]));
        resolver.learn(NOWHERE, Ok(vec![address("192.0.2.9")]));
        assert_eq!(resolver.remembered(NOWHERE), [address("192.0.2.9")]);
    }

    #[tokio::test]
    async fn what_was_known_survives_a_restart_for_a_day() {
        let before = resolver();
        let one = address("192.0.2.7");
        before.learn("a.example", Ok(vec![one]));
        let saved = before.saved(WALL);
        let hour_later = WALL.plus_nanos(3_600_000_000_000);
        let after = resolver();
        after.restore(&saved, hour_later);
        assert_eq!(after.remembered("a.example"), [one]);
        let two_days_later = WALL.plus_nanos(2 * 86_400_000_000_000);
        for (saved, wall) in [
            (saved.as_str(), two_days_later),
            (&saved, Timestamp::from_seconds(1)),
            ("{\"at\"", WALL),
            ("", WALL),
        ] {
            let after = resolver();
            after.restore(saved, wall);
            assert!(after.remembered("a.example").is_empty(), "{saved}");
        }
    }

    #[test]
    fn names_and_addresses_are_bounded() {
        let resolver = resolver();
        let many = (0..100).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        resolver.learn("a.example", Ok(many));
        assert_eq!(resolver.remembered("a.example").len(), ADDRESSES_MAX);
        assert!(resolver.learn("a.example", Ok(Vec::new())).is_some());
        assert_eq!(
            resolver.remembered("a.example").len(),
            ADDRESSES_MAX,
            "an empty answer takes nothing away"
        );
    }
}
