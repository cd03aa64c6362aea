//! The entries of one collection as readers find them: a hash table whose slots are swapped whole.
//!
//! One Writer stores, any number of readers look, without a lock. Open addressing with linear probing; the table is
//! cut into segments by the top bits of the hash. A segment that is full grows, and one that is large is cut in two,
//! so that a store never copies more than one of them (extendible hashing, after Fagin and others 1979). A reader that
//! meets a store in progress sees the old entry or the new one. That it sees the ones of one position is not decided
//! here but in `stored.rs`: a table is changed only while no reader looks at these keys in it.

use super::entry::{Entry, EntryPointer, has_key};
use super::totals::CollectionTotals;
use crate::base::atomics::{ArcSwap, ArcSwapAny, AtomicU32, AtomicU64, Ordering};
use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
};

const FREE: u32 = 0;
const REMOVED: u32 = 1;
/// A segment of more slots is cut in two: some hundred microseconds of copying, and few segments.
const MOST_SLOTS: usize = 8_192;
/// Slots that a walk looks at under one guard: some ten microseconds.
const PIECE_SLOTS: usize = 256;
/// No more than so many bits of a hash choose a segment: a tag has others besides.
const MOST_BITS: u32 = 16;

/// The entries of one collection, as readers see them.
pub(crate) struct EntryIndex {
    directory: ArcSwap<Directory>,
    live: AtomicU64,
    bytes: AtomicU64,
}

/// The segment of each value of the top bits of a hash. Neighbours hold the same one as long as it is not cut.
struct Directory {
    bits: u32,
    segments: Box<[ArcSwap<SlotTable>]>,
}

/// The same as its Writer holds it.
pub(super) struct EntryIndexWriter {
    index: Arc<EntryIndex>,
    /// Of each segment of the directory, told at the first place that holds it.
    fill: Vec<SegmentFill>,
    live: usize,
    /// Memory of the entries.
    bytes: u64,
}

/// The slots in use of one segment.
#[derive(Clone, Copy, Default)]
struct SegmentFill {
    live: usize,
    /// Live ones, and ones whose entry was removed.
    used: usize,
}

struct SlotTable {
    /// The number of top bits that all its hashes have in common.
    bits: u32,
    /// A part of the hash of each slot's entry, or [`FREE`] or [`REMOVED`].
    tags: Box<[AtomicU32]>,
    entries: Box<[ArcSwapAny<Option<EntryPointer>>]>,
}

/// An entry with its tag.
type SlotContent = (u32, EntryPointer);

impl SlotTable {
    /// A table of some entries, with room for more.
    fn of(bits: u32, entries: Vec<SlotContent>) -> Self {
        // A part of two thirds is in use, and of seven eighths before it grows again.
        let slots = if entries.is_empty() { 0 } else { (entries.len() * 3 / 2).max(entries.len() + 3) };
        let (mut tags, mut placed) = (vec![FREE; slots], vec![None; slots]);
        for (tag, entry) in entries {
            let mut at = place_of(tag, bits, slots);
            while tags[at] != FREE {
                at = next(at, slots);
            }
            tags[at] = tag;
            placed[at] = Some(entry);
        }
        // Nobody reads it yet, so slots are made, which takes less than storing in them.
        let tags = tags.into_iter().map(AtomicU32::new).collect();
        Self { bits, tags, entries: placed.into_iter().map(ArcSwapAny::new).collect() }
    }

    fn slots(&self) -> usize {
        self.tags.len()
    }

    /// Looks at the slot that holds the entry of a key.
    #[inline]
    fn with<T>(&self, hash: u64, key: &str, look: impl FnOnce(usize, &EntryPointer) -> T) -> Option<T> {
        let (wanted, slots) = (tag_of(hash), self.slots());
        if slots == 0 {
            return None;
        }
        let mut at = place_of(wanted, self.bits, slots);
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
            at = next(at, slots);
        }
    }

    fn find(&self, hash: u64, key: &str) -> Option<usize> {
        self.with(hash, key, |at, _| at)
    }

    /// Puts an entry whose key is not there into the first slot that is free for it. Returns whether that was never
    /// used.
    fn insert(&self, tag: u32, entry: EntryPointer) -> bool {
        let slots = self.slots();
        let mut at = place_of(tag, self.bits, slots);
        loop {
            let found = self.tags[at].load(Ordering::Relaxed);
            if matches!(found, FREE | REMOVED) {
                self.entries[at].store(Some(entry));
                self.tags[at].store(tag, Ordering::Release);
                return found == FREE;
            }
            at = next(at, slots);
        }
    }

    /// The last hash whose entries belong to the [`PIECE_SLOTS`] slots from that of `hash` on, and all entries that may
    /// be of the hashes between.
    fn piece(&self, hash: u64) -> (u64, Vec<Entry>) {
        let (slots, behind) = (self.slots(), u64::MAX >> self.bits);
        let end = hash | behind;
        if slots == 0 {
            return (end, Vec::new());
        }
        let first = place_of(tag_of(hash), self.bits, slots);
        let stop = first + PIECE_SLOTS;
        // The least tag that belongs to `stop`, without the bits that all have in common.
        let tag = (((stop as u64) << 32).div_ceil(slots as u64)).div_ceil(1 << self.bits);
        let last = if stop < slots { ((end & !behind) | ((tag << 32) - 1)).clamp(hash, end) } else { end };
        // Whatever belongs there lies there or behind, in front of the first slot that was free ever since.
        let tag_at = |at: usize| self.tags[at % slots].load(Ordering::Acquire);
        let run = (first..first + slots).take_while(|at| *at < stop || tag_at(*at) != FREE);
        let found = run.filter(|at| !matches!(tag_at(*at), FREE | REMOVED));
        let entries = found.filter_map(|at| self.entries[at % slots].load_full()).map(Entry::of_pointer);
        (last, entries.collect())
    }

    /// Everything in it, with its tag.
    fn each(&self) -> impl Iterator<Item = SlotContent> + '_ {
        let tags = self.tags.iter().map(|tag| tag.load(Ordering::Acquire));
        let live = tags.zip(&self.entries).filter(|(tag, _)| !matches!(*tag, FREE | REMOVED));
        live.filter_map(|(tag, entry)| entry.load_full().map(|entry| (tag, entry)))
    }
}

/// The part of a hash that a slot keeps: its upper half. Segments are chosen by its top bits and slots by those behind
/// them, so that a table is cut, and grows, without a look at keys.
fn tag_of(hash: u64) -> u32 {
    let tag = (hash >> 32) as u32;
    if tag <= REMOVED { tag + 2 } else { tag }
}

/// The slot that a tag belongs to in a table whose tags begin with the same `bits`.
#[inline]
fn place_of(tag: u32, bits: u32, slots: usize) -> usize {
    ((u64::from(tag << bits) * slots as u64) >> 32) as usize
}

#[inline]
fn next(at: usize, slots: usize) -> usize {
    if at + 1 == slots { 0 } else { at + 1 }
}

/// The top bits of a hash as a number.
#[inline]
fn top(hash: u64, bits: u32) -> usize {
    // Twice: there are 64 bits to leave out where `bits` is none.
    (hash >> 1 >> (63 - bits)) as usize
}

impl EntryIndex {
    fn new() -> Self {
        let segments = Box::new([ArcSwap::new(Arc::new(SlotTable::of(0, Vec::new())))]);
        let directory = ArcSwap::new(Arc::new(Directory { bits: 0, segments }));
        Self { directory, live: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// Number and memory of the entries, as of the last record that was put into the tables.
    pub(super) fn totals(&self) -> CollectionTotals {
        let of = |value: &AtomicU64| value.load(Ordering::Relaxed);
        CollectionTotals { entries: of(&self.live), bytes: of(&self.bytes) }
    }

    /// The entry of a key; `None` if there is none.
    #[inline]
    pub(super) fn get(&self, hash: u64, key: &str) -> Option<Entry> {
        let directory = self.directory.load();
        directory.of(hash).load().with(hash, key, |_, entry| Entry::of_pointer(entry.clone()))
    }

    /// The entries of the segment that a hash falls in, in no order, with the hashes that fall in it.
    pub(super) fn segment(&self, hash: u64) -> (RangeInclusive<u64>, Vec<Entry>) {
        let directory = self.directory.load();
        let table = directory.of(hash).load();
        // The bits behind those that all of them have in common.
        let behind = u64::MAX >> table.bits;
        let entries = table.each().map(|(_, entry)| Entry::of_pointer(entry)).collect();
        (hash & !behind..=hash | behind, entries)
    }

    /// The entries of some hashes from `hash` on, and perhaps others, in no order, with those hashes: of so many slots
    /// of one segment that a reader who looks at them keeps no Writer waiting.
    pub(super) fn piece(&self, hash: u64) -> (RangeInclusive<u64>, Vec<Entry>) {
        let directory = self.directory.load();
        let table = directory.of(hash).load();
        let (last, entries) = table.piece(hash);
        (hash..=last, entries)
    }

    /// All entries, a segment at a time.
    pub(super) fn segments(&self) -> impl Iterator<Item = Vec<Entry>> + '_ {
        let mut hash = Some(0);
        std::iter::from_fn(move || {
            let (hashes, entries) = self.segment(hash?);
            hash = hashes.end().checked_add(1);
            Some(entries)
        })
    }
}

impl Directory {
    #[inline]
    fn of(&self, hash: u64) -> &ArcSwap<SlotTable> {
        &self.segments[top(hash, self.bits)]
    }

    /// The first place that holds the segment of a hash, and the number of places that do.
    fn places(&self, hash: u64) -> (usize, usize) {
        let places = 1 << (self.bits - self.of(hash).load().bits);
        (top(hash, self.bits) & !(places - 1), places)
    }
}

impl EntryIndexWriter {
    pub(super) fn new() -> Self {
        Self { index: Arc::new(EntryIndex::new()), fill: vec![SegmentFill::default()], live: 0, bytes: 0 }
    }

    pub(super) fn shared(&self) -> &Arc<EntryIndex> {
        &self.index
    }

    /// Shows how much there is, now that `come` bytes have taken the place of `gone`.
    pub(super) fn show_totals(&mut self, gone: usize, come: usize) {
        self.bytes = self.bytes + come as u64 - gone as u64;
        self.index.live.store(self.live as u64, Ordering::Relaxed);
        self.index.bytes.store(self.bytes, Ordering::Relaxed);
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
        let directory = self.index.directory.load_full();
        let table = directory.of(hash).load_full();
        if let Some(at) = table.find(hash, entry.key()) {
            table.entries[at].store(Some(entry.into_pointer()));
            return;
        }
        self.live += 1;
        let tagged = (tag_of(hash), entry.into_pointer());
        let (first, places) = directory.places(hash);
        let fill = &mut self.fill[first];
        fill.live += 1;
        if (fill.used + 1) * 8 <= table.slots() * 7 {
            fill.used += usize::from(table.insert(tagged.0, tagged.1));
            return;
        }
        let entries: Vec<SlotContent> = table.each().chain([tagged]).collect();
        if entries.len() * 3 / 2 <= MOST_SLOTS || table.bits >= MOST_BITS {
            return self.put(&directory, first..first + places, table.bits, entries);
        }
        let directory = if places == 1 { self.double(&directory) } else { directory };
        let ((first, places), bits) = (directory.places(hash), table.bits + 1);
        let (upper, lower) = entries.into_iter().partition(|(tag, _)| tag >> (32 - bits) & 1 == 1);
        let middle = first + places / 2;
        self.put(&directory, first..middle, bits, lower);
        self.put(&directory, middle..first + places, bits, upper);
    }

    /// Takes the entry of a key away.
    pub(super) fn remove(&mut self, hash: u64, key: &str) {
        let directory = self.index.directory.load_full();
        let table = directory.of(hash).load_full();
        let Some(at) = table.find(hash, key) else { return };
        table.tags[at].store(REMOVED, Ordering::Release);
        table.entries[at].store(None);
        self.live -= 1;
        let (first, places) = directory.places(hash);
        let fill = &mut self.fill[first];
        fill.live -= 1;
        // What was large once and is nearly empty gives its memory back.
        if fill.live * 8 < table.slots() {
            self.put(&directory, first..first + places, table.bits, table.each().collect());
        }
    }

    /// Makes a table of these entries, at these places of the directory.
    fn put(&mut self, directory: &Directory, places: Range<usize>, bits: u32, entries: Vec<SlotContent>) {
        self.fill[places.start] = SegmentFill { live: entries.len(), used: entries.len() };
        let table = Arc::new(SlotTable::of(bits, entries));
        directory.segments[places].iter().for_each(|segment| segment.store(Arc::clone(&table)));
    }

    /// Makes a directory of twice as many places, for the same segments.
    fn double(&mut self, directory: &Directory) -> Arc<Directory> {
        let twice = |segment: &ArcSwap<SlotTable>| [segment.load_full(), segment.load_full()].map(ArcSwap::new);
        let segments = directory.segments.iter().flat_map(twice).collect();
        self.fill = self.fill.iter().flat_map(|fill| [*fill; 2]).collect();
        let doubled = Arc::new(Directory { bits: directory.bits + 1, segments });
        // A reader that still looks at the one before finds there what stands still while it looks.
        self.index.directory.store(Arc::clone(&doubled));
        doubled
    }
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
        (key % 3) << 62 | (key % 17) << 32
    }

    fn spread(key: u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Everything that a walk over the segments finds, sorted.
    fn all(table: &EntryIndexWriter) -> Vec<(String, u64)> {
        let entries = table.shared().segments().flatten();
        let mut all: Vec<_> = entries.map(|entry| (entry.key().to_owned(), entry.version())).collect();
        all.sort();
        all
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
        assert_eq!(all(&table), model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_table_that_was_emptied_takes_no_room() {
        let mut table = EntryIndexWriter::new();
        for round in 0..3 {
            for key in 0..10_000_u64 {
                table.set(spread(key), entry(&key.to_string(), round));
            }
            for key in 0..10_000_u64 {
                table.remove(spread(key), &key.to_string());
            }
            let directory = table.shared().directory.load();
            let slots: usize = directory.segments.iter().map(|segment| segment.load().slots()).sum();
            assert_eq!((table.len(), slots), (0, 0));
        }
    }

    #[test]
    fn a_table_that_grows_is_cut_into_segments_that_hold_each_hash_once() {
        let (mut table, keys) = (EntryIndexWriter::new(), 60_000_u64);
        for key in 0..keys {
            table.set(spread(key), entry(&key.to_string(), key));
        }
        // One segment goes on to grow alone.
        let crowd = |key: u64| 5 << 60 | spread(key) >> 6;
        for key in keys..2 * keys {
            table.set(crowd(key), entry(&key.to_string(), key));
        }
        let found = |key: u64| table.get(if key < keys { spread(key) } else { crowd(key) }, &key.to_string());
        assert!((0..2 * keys).all(|key| found(key).is_some_and(|found| found.version() == key)));
        assert_eq!((all(&table).len() as u64, table.len() as u64), (2 * keys, 2 * keys));
        let (mut hash, mut segments) = (Some(0), 0);
        while let Some(from) = hash {
            let (hashes, entries) = table.shared().segment(from);
            assert_eq!(*hashes.start(), from, "segments follow each other without a gap");
            assert!(entries.len() <= MOST_SLOTS);
            segments += 1;
            hash = hashes.end().checked_add(1);
        }
        assert!(segments > 20, "{segments}");
    }

    /// A walk by segments read up to 7,000 entries under one guard, for which the Writer waits.
    #[test]
    fn a_walk_by_pieces_finds_each_entry_once_and_few_at_a_time() {
        let half: fn(u64) -> u64 = |key| spread(key) | 1 << 63;
        type Hashed = (fn(u64) -> u64, u64, usize);
        let tables: [Hashed; 4] = [(spread, 60_000, 1_000), (half, 9_000, 1_000), (crowding, 300, 300), (spread, 3, 3)];
        for (hash_of, keys, most) in tables {
            let mut table = EntryIndexWriter::new();
            for key in 0..keys {
                table.set(hash_of(key), entry(&key.to_string(), key));
            }
            // What was removed leaves slots that are not free.
            for key in (0..keys).filter(|key| key % 3 == 0) {
                table.remove(hash_of(key), &key.to_string());
            }
            let (mut hash, mut found) = (Some(0), Vec::new());
            while let Some(from) = hash {
                let (hashes, entries) = table.shared().piece(from);
                assert!(entries.len() <= most && *hashes.start() == from, "{} at {from:x}", entries.len());
                let numbers = entries.iter().map(Entry::version);
                found.extend(numbers.filter(|key| hashes.contains(&hash_of(*key))));
                hash = hashes.end().checked_add(1);
            }
            found.sort_unstable();
            assert_eq!(found, (0..keys).filter(|key| key % 3 != 0).collect::<Vec<_>>());
        }
    }
}
