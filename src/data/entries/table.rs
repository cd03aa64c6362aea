//! The entries of one collection as readers find them: a hash table whose slots are swapped whole.
//!
//! One Writer stores, any number of readers look, without a lock. Open addressing with linear probing; the table is
//! cut into segments by the top bits of the hash, so that growing one copies a part of the pointers and no more. A
//! reader that meets a store in progress sees the old entry or the new one. That it sees the ones of one position is
//! not decided here but in `stored.rs`: a table is changed only while no reader looks at these keys in it.

use super::entry::{Entry, EntryPointer, has_key};
use crate::base::atomics::{ArcSwap, ArcSwapAny, AtomicU32, Ordering};
use std::sync::Arc;

const SEGMENT_BITS: u32 = 6;
pub(super) const SEGMENTS: usize = 1 << SEGMENT_BITS;
const FREE: u32 = 0;
const REMOVED: u32 = 1;
const FIRST_SLOTS: usize = 4;

/// The entries of one collection, as readers see them.
pub(crate) struct EntryIndex {
    segments: Box<[ArcSwap<SlotTable>]>,
}

/// The same as its Writer holds it.
pub(super) struct EntryIndexWriter {
    index: Arc<EntryIndex>,
    fill: Box<[SegmentFill; SEGMENTS]>,
    live: usize,
}

/// The slots in use of one segment.
#[derive(Clone, Copy, Default)]
struct SegmentFill {
    live: usize,
    /// Live ones, and ones whose entry was removed.
    used: usize,
}

struct SlotTable {
    /// A part of the hash of each slot's entry, or [`FREE`] or [`REMOVED`].
    tags: Box<[AtomicU32]>,
    entries: Box<[ArcSwapAny<Option<EntryPointer>>]>,
}

impl SlotTable {
    fn new(slots: usize) -> Self {
        Self {
            tags: (0..slots).map(|_| AtomicU32::new(FREE)).collect(),
            entries: (0..slots).map(|_| ArcSwapAny::new(None)).collect(),
        }
    }

    fn slots(&self) -> usize {
        self.tags.len()
    }

    /// Looks at the slot that holds the entry of a key.
    #[inline]
    fn with<T>(&self, hash: u64, key: &str, look: impl FnOnce(usize, &EntryPointer) -> T) -> Option<T> {
        let mask = self.slots().checked_sub(1)?;
        let wanted = tag_of(hash);
        let mut at = wanted as usize & mask;
        // Ends at a free slot: an eighth of them is free.
        loop {
            // Acquire, with the Release of the store: whoever sees the tag sees the entry behind it.
            let tag = self.tags[at].load(Ordering::Acquire);
            if tag == FREE {
                return None;
            }
            if tag == wanted
                && let Some(entry) = self.entries[at].load().as_ref()
                && has_key(entry, key)
            {
                return Some(look(at, entry));
            }
            at = (at + 1) & mask;
        }
    }

    fn find(&self, hash: u64, key: &str) -> Option<usize> {
        self.with(hash, key, |at, _| at)
    }

    /// Puts an entry whose key is not there into the first slot that is free for it. Returns whether that was never
    /// used.
    fn insert(&self, tag: u32, entry: EntryPointer) -> bool {
        let mask = self.slots() - 1;
        let mut at = tag as usize & mask;
        loop {
            let found = self.tags[at].load(Ordering::Relaxed);
            if matches!(found, FREE | REMOVED) {
                self.entries[at].store(Some(entry));
                self.tags[at].store(tag, Ordering::Release);
                return found == FREE;
            }
            at = (at + 1) & mask;
        }
    }

    /// Everything in it, with its tag.
    fn each(&self) -> impl Iterator<Item = (u32, EntryPointer)> + '_ {
        let tags = self.tags.iter().map(|tag| tag.load(Ordering::Acquire));
        let live = tags.zip(&self.entries).filter(|(tag, _)| !matches!(*tag, FREE | REMOVED));
        live.filter_map(|(tag, entry)| entry.load_full().map(|entry| (tag, entry)))
    }
}

/// The part of a hash that a slot keeps: its place is made of it too, so that a table grows without a look at keys.
fn tag_of(hash: u64) -> u32 {
    let tag = hash as u32;
    if tag <= REMOVED { tag + 2 } else { tag }
}

fn segment_of(hash: u64) -> usize {
    (hash >> (64 - SEGMENT_BITS)) as usize
}

impl EntryIndex {
    fn new() -> Self {
        let empty = Arc::new(SlotTable::new(0));
        Self { segments: (0..SEGMENTS).map(|_| ArcSwap::new(Arc::clone(&empty))).collect() }
    }

    /// The entry of a key; `None` if there is none.
    #[inline]
    pub(super) fn get(&self, hash: u64, key: &str) -> Option<Entry> {
        self.segments[segment_of(hash)].load().with(hash, key, |_, entry| Entry::of_pointer(entry.clone()))
    }

    /// All entries of one segment, in no order.
    pub(super) fn segment(&self, segment: usize) -> Vec<Entry> {
        self.segments[segment].load().each().map(|(_, entry)| Entry::of_pointer(entry)).collect()
    }

    /// The segment that a key with this hash is in.
    pub(super) fn segment_of(hash: u64) -> usize {
        segment_of(hash)
    }
}

impl EntryIndexWriter {
    pub(super) fn new() -> Self {
        Self { index: Arc::new(EntryIndex::new()), fill: Box::new([SegmentFill::default(); SEGMENTS]), live: 0 }
    }

    pub(super) fn shared(&self) -> &Arc<EntryIndex> {
        &self.index
    }

    /// Counts the entries.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// The entry of a key.
    pub(super) fn get(&self, hash: u64, key: &str) -> Option<Entry> {
        self.index.get(hash, key)
    }

    /// Sets the entry of its key.
    pub(super) fn set(&mut self, hash: u64, entry: Entry) {
        let segment = segment_of(hash);
        let table = self.index.segments[segment].load_full();
        if let Some(at) = table.find(hash, entry.key()) {
            table.entries[at].store(Some(entry.into_pointer()));
            return;
        }
        let fill = &mut self.fill[segment];
        let table = if (fill.used + 1) * 8 > table.slots() * 7 {
            rebuild(&self.index.segments[segment], fill, &table, 1)
        } else {
            table
        };
        let fill = &mut self.fill[segment];
        fill.used += usize::from(table.insert(tag_of(hash), entry.into_pointer()));
        fill.live += 1;
        self.live += 1;
    }

    /// Takes the entry of a key away.
    pub(super) fn remove(&mut self, hash: u64, key: &str) {
        let segment = segment_of(hash);
        let table = self.index.segments[segment].load_full();
        let Some(at) = table.find(hash, key) else { return };
        table.tags[at].store(REMOVED, Ordering::Release);
        table.entries[at].store(None);
        let fill = &mut self.fill[segment];
        fill.live -= 1;
        self.live -= 1;
        // What was large once and is nearly empty gives its memory back.
        if fill.live * 8 < table.slots() {
            rebuild(&self.index.segments[segment], fill, &table, 0);
        }
    }
}

/// Replaces a table by one with room for what lives in it and for so many more, without the slots of what was removed.
fn rebuild(segment: &ArcSwap<SlotTable>, fill: &mut SegmentFill, old: &SlotTable, more: usize) -> Arc<SlotTable> {
    let slots = match fill.live + more {
        0 => 0,
        entries => (entries * 8 / 5 + 1).next_power_of_two().max(FIRST_SLOTS),
    };
    let table = Arc::new(SlotTable::new(slots));
    for (tag, entry) in old.each() {
        table.insert(tag, entry);
    }
    segment.store(Arc::clone(&table));
    fill.used = fill.live;
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        entries::entry::hash_bytes,
        record::{EntryValue, ValueEncoding},
    };
    use std::collections::BTreeMap;

    fn entry(key: &str, version: u64) -> Entry {
        let value = EntryValue {
            content_type: "",
            expires: None,
            counted: false,
            encoding: ValueEncoding::Plain,
            raw_bytes: 0,
            hash: &[0; 32][..hash_bytes(0)],
            bytes: b"",
        };
        Entry::new(0, key, &value, version)
    }

    /// Hashes that crowd into few slots, and into few values.
    fn crowding(key: u64) -> u64 {
        (key % 3) << 62 | (key % 17)
    }

    #[test]
    fn a_table_holds_what_a_map_would_while_keys_come_and_go() {
        let (mut table, mut model) = (EntryIndexWriter::new(), BTreeMap::new());
        let mut random = 7_u64;
        for step in 0..20_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (random >> 33) % if step < 10_000 { 300 } else { 20 };
            let (name, hash) = (key.to_string(), crowding(key));
            if (random >> 20).is_multiple_of(3) {
                table.remove(hash, &name);
                model.remove(&name);
            } else {
                table.set(hash, entry(&name, step));
                model.insert(name.clone(), step);
            }
            assert_eq!(table.get(hash, &name).map(|found| found.version()), model.get(&name).copied(), "step {step}");
            assert_eq!(table.len(), model.len());
        }
        let mut all: Vec<(String, u64)> = (0..SEGMENTS)
            .flat_map(|segment| table.shared().segment(segment))
            .map(|entry| (entry.key().to_owned(), entry.version()))
            .collect();
        all.sort();
        assert_eq!(all, model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_table_that_was_emptied_takes_no_room() {
        let mut table = EntryIndexWriter::new();
        for round in 0..3 {
            for key in 0..10_000_u64 {
                table.set(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), entry(&key.to_string(), round));
            }
            for key in 0..10_000_u64 {
                table.remove(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), &key.to_string());
            }
            let slots: usize = table.shared().segments.iter().map(|segment| segment.load().slots()).sum();
            assert_eq!((table.len(), slots), (0, 0));
        }
    }
}
