//! A name that does not flicker.
//!
//! In its first two seconds an incident is named afresh with every window. Later a new name has to earn its place over
//! five seconds, twice in a row; the name it is resolved with is the one the whole incident bears out.

use std::collections::VecDeque;

use super::Incident;
use crate::count::{WINDOWS_PER_SECOND, Window};
use crate::detect::{Context, Detector, Excess, Family, FamilyShare, Judged, Name, Span, permille};

/// Seconds in which the name is free.
const FREE_SECONDS: u64 = 2;

/// Seconds a later judgement looks at.
const JUDGED_SECONDS: usize = 5;

/// A new name needs this many times the old one's share, in permille.
const LEAD_PERMILLE: u64 = 1_500;

/// Judgements in a row a new name must win.
const WINS: u32 = 2;

/// A second family below this share for [`MULTI_LEAVES_SECONDS`] ends multi-vector, in permille.
const MULTI_LEAVES_PERMILLE: u64 = 150;
const MULTI_LEAVES_SECONDS: u32 = 10;

/// An incident that was multi-vector for so many seconds is resolved as such.
const MULTI_HELD_SECONDS: u32 = 5;

/// Follows what an incident is called.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    current: Name,
    windows: u64,
    /// Windows since the last whole second was taken in.
    running: Span,
    /// Whether the last second was near the limit or over it in any of them.
    running_counts: bool,
    /// The last seconds that counted.
    recent: VecDeque<Span>,
    /// All that counted.
    whole: Span,
    wins: u32,
    multi_weak_seconds: u32,
    multi_seconds: u32,
    multi: Option<Name>,
    /// Whether it has a name from earlier: traffic that cannot be named does not take it away.
    has_past: bool,
}

impl Naming {
    /// Names an incident that opens with the second `opening`.
    pub(super) fn new(opening: &Span, detector: &Detector, context: &Context) -> Self {
        Self {
            current: detector.excess(opening).name(context),
            windows: 0,
            running: Span::default(),
            running_counts: false,
            recent: VecDeque::from([opening.clone()]),
            whole: opening.clone(),
            wins: 0,
            multi_weak_seconds: 0,
            multi_seconds: 0,
            multi: None,
            has_past: false,
        }
    }

    /// The name of an incident that was told before a restart. What bore it out is not known any more.
    pub(super) fn recall(incident: &Incident) -> Self {
        Self {
            current: Name {
                family: incident.family,
                subtype: incident.subtype.clone(),
                named: Vec::new(),
                blind: incident.capture_blind,
                confidence: incident.confidence,
                excess: incident.excess,
                shares: Vec::new(),
                families: incident.families.clone(),
            },
            windows: 0,
            running: Span::default(),
            running_counts: false,
            recent: VecDeque::new(),
            whole: Span::default(),
            wins: 0,
            multi_weak_seconds: 0,
            multi_seconds: 0,
            multi: None,
            has_past: true,
        }
    }

    /// Whether the window taken in last ended a second of it.
    pub(super) const fn ends_second(&self) -> bool {
        self.windows.is_multiple_of(WINDOWS_PER_SECOND)
    }

    /// What it is called now.
    pub(super) const fn current(&self) -> &Name {
        &self.current
    }

    /// The whole incident's excess so far.
    pub(super) fn overall(&self, detector: &Detector) -> Excess {
        if self.running_counts {
            let mut whole = self.whole.clone();
            whole.merge(&self.running);
            detector.excess(&whole)
        } else {
            detector.excess(&self.whole)
        }
    }

    /// Goes on after a pause with the second `opening`; the name is free again.
    pub(super) fn resume(&mut self, opening: &Span, detector: &Detector, context: &Context) {
        self.whole.merge(opening);
        self.has_past = true;
        self.rename(detector.excess(opening).name(context));
        self.recent = VecDeque::from([opening.clone()]);
        self.running = Span::default();
        self.running_counts = false;
        self.windows = 0;
        self.wins = 0;
        self.multi_weak_seconds = 0;
    }

    /// Takes in a window. `counts` says whether the last second was near the limit or over it.
    pub(super) fn add(
        &mut self,
        window: &Window,
        judged: Judged,
        counts: bool,
        detector: &Detector,
        context: &Context,
    ) {
        self.windows += 1;
        self.running.add(window, judged);
        self.running_counts |= counts;
        let whole_second = self.running.windows >= WINDOWS_PER_SECOND;
        if whole_second {
            self.take_second();
        }
        if self.windows <= FREE_SECONDS * WINDOWS_PER_SECOND {
            if counts {
                self.rename(detector.excess(&detector.last_second()).name(context));
            }
        } else if whole_second && counts {
            self.judge(detector, context);
        }
    }

    /// The name the whole incident bears out.
    pub(super) fn settle(&mut self, detector: &Detector, context: &Context) {
        self.take_second();
        let whole = detector.excess(&self.whole).name(context);
        let held = self
            .multi
            .take()
            .filter(|_| self.multi_seconds >= MULTI_HELD_SECONDS);
        let better = match held {
            Some(multi) if whole.family != Family::MultiVector => Some(multi),
            // Capture may have seen too little of the whole, but once enough to say what it was.
            _ if whole.family == Family::Unknown => Some(self.current.clone()),
            _ => None,
        };
        self.current = match better {
            Some(name) => Name {
                excess: whole.excess,
                shares: whole.shares,
                families: whole.families,
                ..name
            },
            None => whole,
        };
    }

    fn take_second(&mut self) {
        let second = std::mem::take(&mut self.running);
        if !std::mem::take(&mut self.running_counts) {
            return;
        }
        self.whole.merge(&second);
        self.recent.push_back(second);
        if self.recent.len() > JUDGED_SECONDS {
            self.recent.pop_front();
        }
    }

    /// One judgement, once a second.
    fn judge(&mut self, detector: &Detector, context: &Context) {
        let mut recent = Span::default();
        for second in &self.recent {
            recent.merge(second);
        }
        let recent = detector.excess(&recent).name(context);
        let newest = match self.recent.back() {
            Some(second) => detector.excess(second).name(context),
            None => recent.clone(),
        };
        if newest.family == Family::MultiVector {
            self.multi_seconds += 1;
            self.multi = Some(newest.clone());
        }
        self.note_weakness(&newest);
        // Vectors that follow each other are not several at once: then the newest second says which one it is.
        let follows = recent.family == Family::MultiVector && newest.family != Family::MultiVector;
        let candidate = if follows { &newest } else { &recent };
        let leads = self.leads(&recent, candidate.family, context);
        self.consider(candidate.clone(), leads);
    }

    /// Counts the seconds in which multi-vector lacked its second family.
    fn note_weakness(&mut self, newest: &Name) {
        let strong = |share: &&FamilyShare| {
            share.packets_permille.max(share.bits_permille) >= MULTI_LEAVES_PERMILLE
        };
        let is_weak = newest.families.iter().filter(strong).count() < 2;
        self.multi_weak_seconds = if is_weak {
            self.multi_weak_seconds + 1
        } else {
            0
        };
    }

    /// Takes another name when it has earned its place.
    fn consider(&mut self, candidate: Name, leads: bool) {
        let same_family = candidate.family == self.current.family;
        if same_family && same_words(&candidate.subtype, &self.current.subtype) {
            self.adopt(candidate);
            self.wins = 0;
            return;
        }
        self.wins = if same_family || leads {
            self.wins + 1
        } else {
            0
        };
        let has_earned = match self.current.family {
            Family::Unknown => true,
            Family::MultiVector if !same_family => self.multi_weak_seconds >= MULTI_LEAVES_SECONDS,
            _ => self.wins >= WINS,
        };
        if has_earned {
            self.adopt(candidate);
            self.wins = 0;
        }
    }

    /// Takes a name over while it is free.
    fn rename(&mut self, name: Name) {
        if name.family != Family::Unknown || !self.has_past {
            self.adopt(name);
        }
    }

    /// Takes a name over. Which of two equals is a little larger changes all the time: the same subtypes in another
    /// order are no other name.
    fn adopt(&mut self, mut name: Name) {
        if same_words(&name.subtype, &self.current.subtype) {
            std::mem::swap(&mut name.subtype, &mut self.current.subtype);
        }
        self.current = name;
    }

    /// Whether a family has half as much again as the current one over the last seconds, or is it and another.
    fn leads(&self, recent: &Name, family: Family, context: &Context) -> bool {
        if family == Family::MultiVector {
            return true;
        }
        let share = |family: Family| {
            let found = recent.families.iter().find(|share| share.family == family);
            found.map_or(0, |share| context.unit.of(share.excess))
        };
        let (new, old) = (share(family), share(self.current.family));
        family != Family::Unknown && (old == 0 || permille(new, old) >= LEAD_PERMILLE)
    }
}

/// Whether two subtypes are made of the same ones.
fn same_words(one: &str, other: &str) -> bool {
    let sorted = |subtype: &'_ str| {
        let mut words: Vec<String> = subtype.split('+').map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    one == other || (one.len() == other.len() && sorted(one) == sorted(other))
}
