//! A bounded hash table for the hot path.
//!
//! Entries lie densely, in the order in which they came; beside them, two bytes a slot say where to look and two more
//! (a tag of fifteen hash bits) whether looking is worth it. Eight tags are compared at once, so that a lookup of
//! something absent, the commonest thing in a flood, reads sixteen bytes and takes no branch that cannot be foreseen: of
//! a hundred thousand such lookups in a full table, twelve go on to an entry for nothing. Never allocates after
//! [`Table::new`], never holds more than its capacity, never searches further than its reach. Runs on the capture threads
//! (filling) and the detector's (merging).

/// Tags compared at once: slots in a group.
const GROUP_SLOTS: usize = 8;

/// Bits of a tag.
const TAG_BITS: u32 = 16;

/// Groups listed as used, as a part of all of them. Beyond that, emptying all in order is as quick as jumping from one to
/// the next; below, a quiet window of fifty sources need not write a quarter of a megabyte.
const LISTED_PART: usize = 8;

/// The lowest bit of each tag.
const LOW_BITS: u128 = 0x0001_0001_0001_0001_0001_0001_0001_0001;

/// The highest bit of each tag: set when its slot is taken.
const HIGH_BITS: u128 = LOW_BITS << (TAG_BITS - 1);

/// A bounded hash table whose entries know their own keys.
pub(super) struct Table<E> {
    /// The tags of each group; 0 is a free slot.
    tags: Vec<u128>,
    /// The groups of the first slots taken, as many as are listed: what emptying has to look at.
    used: Vec<u16>,
    listed: usize,
    /// For each taken slot the index of its entry.
    places: Vec<u16>,
    entries: Vec<E>,
    capacity: usize,
    reach: usize,
}

/// Where a search ended.
enum Place {
    /// At the entry with this index.
    Taken(usize),
    /// At this free slot: the entry is not there.
    Free(usize),
    /// Nowhere within reach.
    None,
}

/// What a glance at a table shows.
pub(super) enum Glance<'a, E> {
    /// The entry asked for.
    Found(&'a mut E),
    /// The entry is not there, and the table is full: it cannot be inserted.
    Refused,
    /// It takes a search to know.
    Unclear,
}

impl<E: Copy> Table<E> {
    /// A table for at most `capacity` entries, a power of two from 8 to 65,536, in twice as many slots. A search gives
    /// up after `reach` groups of eight slots.
    pub(super) fn new(capacity: usize, reach: usize) -> Self {
        debug_assert!(capacity.is_power_of_two() && (8..=65_536).contains(&capacity));
        let slots = 2 * capacity;
        let groups = slots / GROUP_SLOTS;
        let listed = groups / LISTED_PART;
        Self {
            tags: vec![0; groups],
            used: Vec::with_capacity(listed),
            listed,
            places: vec![0; slots],
            entries: Vec::with_capacity(capacity),
            capacity,
            reach,
        }
    }

    /// The entries, oldest first.
    #[inline]
    pub(super) fn entries(&self) -> &[E] {
        &self.entries
    }

    /// The entries, oldest first; their keys must stay as they are.
    pub(super) fn entries_mut(&mut self) -> &mut [E] {
        &mut self.entries
    }

    /// The entry with this hash that `is` the wanted one.
    pub(super) fn find(&self, hash: u64, is: impl Fn(&E) -> bool + Copy) -> Option<&E> {
        match self.search(hash, is) {
            Place::Taken(index) => self.entries.get(index),
            Place::Free(_) | Place::None => None,
        }
    }

    /// The entry with this hash that `is` the wanted one, or `new` in its place; nothing when it is absent and the
    /// table is full or has no free slot within reach.
    #[inline]
    pub(super) fn find_or_insert(
        &mut self,
        hash: u64,
        is: impl Fn(&E) -> bool + Copy,
        new: E,
    ) -> Option<&mut E> {
        match self.search(hash, is) {
            Place::Taken(index) => self.entries.get_mut(index),
            Place::Free(slot) if self.entries.len() < self.capacity => self.insert(slot, hash, new),
            Place::Free(_) | Place::None => None,
        }
    }

    /// Has the processor fetch what a look-up of this hash is going to read first.
    #[inline]
    pub(super) fn expect(&self, hash: u64) {
        let home = self.home(hash);
        if let Some(tags) = self.tags.get(home) {
            prefetch(tags);
        }
    }

    /// Looks at the one place where the entry most likely is. Settles nearly every packet, be it of a source that goes on
    /// or of one that found the table full, in a few instructions that need no stack.
    #[inline]
    pub(super) fn glance(&mut self, hash: u64, is: impl Fn(&E) -> bool) -> Glance<'_, E> {
        let home = self.home(hash);
        let Some(&tags) = self.tags.get(home) else {
            return Glance::Unclear;
        };
        let alike = alike(tags, hash);
        if alike == 0 {
            let refused = tags & HIGH_BITS != HIGH_BITS && self.entries.len() >= self.capacity;
            return if refused {
                Glance::Refused
            } else {
                Glance::Unclear
            };
        }
        let Some(&index) = self.places.get(slot_at(home, alike)) else {
            return Glance::Unclear;
        };
        match self.entries.get_mut(usize::from(index)) {
            Some(entry) if is(entry) => Glance::Found(entry),
            _ => Glance::Unclear,
        }
    }

    /// Forgets the entries that `keep` does not want; `hash` must give each entry the hash it was inserted with.
    pub(super) fn retain(&mut self, keep: impl FnMut(&E) -> bool, hash: impl Fn(&E) -> u64) {
        self.entries.retain(keep);
        self.clear_tags();
        for index in 0..self.entries.len() {
            let Some(hash) = self.entries.get(index).map(&hash) else {
                continue;
            };
            if let Place::Free(slot) = self.search(hash, |_| false) {
                self.take(slot, hash, index);
            }
        }
    }

    /// Forgets every entry and keeps the memory. A page that nothing was written to takes none, and does not begin to:
    /// on a quiet host a window holds a handful of sources, and there are a dozen of these tables.
    pub(super) fn clear(&mut self) {
        if !self.entries.is_empty() {
            self.entries.clear();
            self.clear_tags();
        }
    }

    /// Frees every slot.
    fn clear_tags(&mut self) {
        if self.used.len() < self.listed {
            for group in &self.used {
                if let Some(tags) = self.tags.get_mut(usize::from(*group)) {
                    *tags = 0;
                }
            }
        } else {
            self.tags.fill(0);
        }
        self.used.clear();
    }

    /// Looks where nearly every search ends: in the group it begins with.
    #[inline]
    fn search(&self, hash: u64, is: impl Fn(&E) -> bool + Copy) -> Place {
        let home = self.home(hash);
        match self.search_group(home, hash, is) {
            Some(place) => place,
            None => self.search_on(home, hash, is),
        }
    }

    /// Looks in the groups after the one it began with.
    #[inline(never)]
    fn search_on(&self, home: usize, hash: u64, is: impl Fn(&E) -> bool + Copy) -> Place {
        let last = self.tags.len() - 1;
        let place =
            (1..self.reach).find_map(|step| self.search_group((home + step) & last, hash, is));
        place.unwrap_or(Place::None)
    }

    /// Looks in one group; nothing when it is full of others.
    #[inline]
    fn search_group(&self, group: usize, hash: u64, is: impl Fn(&E) -> bool) -> Option<Place> {
        let tags = *self.tags.get(group)?;
        let mut alike = alike(tags, hash);
        while alike != 0 {
            let index = usize::from(*self.places.get(slot_at(group, alike))?);
            if self.entries.get(index).is_some_and(&is) {
                return Some(Place::Taken(index));
            }
            alike &= alike - 1;
        }
        let free = !tags & HIGH_BITS;
        (free != 0).then(|| Place::Free(slot_at(group, free)))
    }

    /// Puts an entry into a free slot; there must be room for it.
    #[inline]
    fn insert(&mut self, slot: usize, hash: u64, new: E) -> Option<&mut E> {
        let index = self.entries.len();
        self.entries.push(new);
        self.take(slot, hash, index);
        self.entries.get_mut(index)
    }

    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an index is below the capacity, at most 65,536, and there are fewer groups"
    )]
    fn take(&mut self, slot: usize, hash: u64, index: usize) {
        let group = slot / GROUP_SLOTS;
        if let Some(tags) = self.tags.get_mut(group) {
            *tags |= u128::from(tag(hash)) << (TAG_BITS as usize * (slot % GROUP_SLOTS));
        }
        if self.used.len() < self.listed {
            self.used.push(group as u16);
        }
        if let Some(place) = self.places.get_mut(slot) {
            *place = index as u16;
        }
    }

    /// The group where the search for a hash begins: its topmost bits.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> 50) as usize & (self.tags.len() - 1)
    }
}

impl<E: Copy> Clone for Table<E> {
    /// The copy has the same room to grow: a plain copy of the lists would have to allocate later.
    fn clone(&self) -> Self {
        let mut entries = Vec::with_capacity(self.capacity);
        entries.extend_from_slice(&self.entries);
        let mut used = Vec::with_capacity(self.listed);
        used.extend_from_slice(&self.used);
        Self {
            tags: self.tags.clone(),
            used,
            listed: self.listed,
            places: self.places.clone(),
            entries,
            capacity: self.capacity,
            reach: self.reach,
        }
    }
}

/// Has the processor fetch this value while it does something else.
#[inline]
#[expect(
    unsafe_code,
    reason = "a hint to the processor: it reads nothing, writes nothing and cannot fault"
)]
fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the pointer comes from a reference, and prefetching has no effect that the program can see.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Fifteen bits of a hash that [`Table::home`] does not use, and the bit of a taken slot.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "fifteen bits are wanted")]
const fn tag(hash: u64) -> u16 {
    (hash >> 35) as u16 | 1 << (TAG_BITS - 1)
}

/// The slot that the lowest marked tag of a group stands for.
#[inline]
const fn slot_at(group: usize, marks: u128) -> usize {
    group * GROUP_SLOTS + (marks.trailing_zeros() / TAG_BITS) as usize
}

/// Marks with their highest bits the tags of a group that are those of `hash`. May also mark the tag above such a one,
/// which costs a needless comparison and nothing else: a free slot is never marked.
#[inline]
fn alike(tags: u128, hash: u64) -> u128 {
    let differing = tags ^ (u128::from(tag(hash)) * LOW_BITS);
    differing.wrapping_sub(LOW_BITS) & !differing & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::count::hash::Seeded;

    fn insert(table: &mut Table<u64>, hash: u64, key: u64) -> bool {
        table
            .find_or_insert(hash, |entry| *entry == key, key)
            .is_some()
    }

    #[test]
    fn holds_exactly_its_capacity_and_refuses_the_next() {
        let hash = Seeded::new(3);
        let mut table = Table::new(65_536, 32);
        for key in 0..65_536 {
            assert!(insert(&mut table, hash.word(key), key));
        }
        assert!(!insert(&mut table, hash.word(65_536), 65_536));
        assert!(
            insert(&mut table, hash.word(65_535), 65_535),
            "what is there is still found"
        );
        assert_eq!(table.entries().len(), 65_536);
    }

    #[test]
    fn gives_up_at_its_reach_when_every_hash_is_the_same() {
        let mut table = Table::new(1_024, 4);
        let held = (0..1_024).filter(|key| insert(&mut table, 0, *key)).count();
        assert_eq!(held, 4 * GROUP_SLOTS);
        assert!(table.find(0, |entry| *entry == 31).is_some());
        assert!(table.find(0, |entry| *entry == 32).is_none());
    }

    #[test]
    fn a_search_goes_on_at_the_start_when_it_comes_to_the_end() {
        let mut table = Table::new(8, 2);
        let last_group = 1_u64 << 50;
        for key in 0..8 {
            assert!(insert(&mut table, last_group, key));
        }
        table.retain(|entry| *entry != 3, |_| last_group);
        assert!(insert(&mut table, last_group, 100));
        assert!(table.find(last_group, |entry| *entry == 3).is_none());
        assert!(table.find(last_group, |entry| *entry == 100).is_some());
    }

    #[test]
    fn a_copy_has_the_room_of_the_original() {
        let mut table = Table::new(64, 16);
        insert(&mut table, 5, 5);
        assert_eq!(table.clone().entries.capacity(), table.entries.capacity());
        assert_eq!(table.clone().entries(), [5]);
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_bounded_size(keys in prop::collection::vec(0_u64..600, 0..900), drop in 1_u64..5) {
            let hash = Seeded::new(11);
            let mut table = Table::new(256, 64);
            let mut model = BTreeSet::new();
            for key in keys {
                let fits = model.contains(&key) || model.len() < 256;
                prop_assert_eq!(insert(&mut table, hash.word(key), key), fits);
                if fits {
                    model.insert(key);
                }
            }
            table.retain(|key| key % drop != 0, |key| hash.word(*key));
            model.retain(|key| key % drop != 0);
            for key in 0..600 {
                let found = table.find(hash.word(key), |entry| *entry == key).is_some();
                prop_assert_eq!(found, model.contains(&key));
            }
            prop_assert_eq!(table.entries().len(), model.len());
            table.clear();
            prop_assert!(table.entries().is_empty());
            prop_assert!((0..600).all(|key| table.find(hash.word(key), |entry| *entry == key).is_none()));
        }
    }
}
