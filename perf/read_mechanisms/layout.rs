//! The two layouts under the read mechanisms: where the words lie and how a word's cells are found.
//!
//! Both have 256 segments chosen by a byte of the hash, one writer, any number of readers, and cells that never
//! move. They differ in what stands in front of the cells: an index of 32-bit slots read without a lock, or a hash
//! table behind a lock.

use arc_swap::ArcSwap;
use hashbrown::HashTable;
use parking_lot::RwLock;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
use zerocopy::FromZeros;

const SEGMENTS: usize = 256;
const OFFSET_BITS: u32 = 24;
const FIRST_CHUNK_UNITS: usize = 1 << 9;
const CHUNKS: usize = 16;
const FIRST_SLOTS: usize = 64;

/// Where a word's cells are.
#[derive(Clone, Copy)]
pub struct Place {
    segment: usize,
    offset: usize,
}

/// Words, each with `UNITS` cells of 64 bits that start as zero.
pub trait Layout: Default + Send + Sync {
    /// What the one writer keeps to itself.
    type Writer: Default;
    /// The place of a word, if it is there.
    fn find(&self, hash: u64, word: &str) -> Option<Place>;
    /// The place of a word, made if need be.
    fn find_or_insert(&self, writer: &mut Self::Writer, hash: u64, word: &str) -> Place;
    /// The cell `unit` units after a place.
    fn cell(&self, place: Place, unit: usize) -> &AtomicU64;
    /// Two fresh cells in the segment of `place`, told by their offset. For the writer only.
    fn pair(&self, place: Place) -> usize;
    /// The place a [`Layout::pair`] told of.
    fn pair_place(&self, place: Place, offset: usize) -> Place {
        Place { offset, ..place }
    }
}

/// From the middle of the hash: tables and indexes take their positions from its low bits, their tags from its high
/// bits.
fn segment_of(hash: u64) -> usize {
    (hash >> 32) as usize % SEGMENTS
}

/// 64-bit units in chunks that double and never move.
#[derive(Default)]
struct Arena {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
    used: AtomicUsize,
}

impl Arena {
    /// `count` fresh units, all in one chunk.
    fn allocate(&self, count: usize) -> usize {
        // Unit 0 of the arena is never given away: an index slot of 0 is an empty one.
        let mut offset = self.used.load(Ordering::Relaxed).max(1);
        let (chunk, within) = Self::locate(offset);
        let (chunk, within) = if within + count <= FIRST_CHUNK_UNITS << chunk {
            (chunk, within)
        } else {
            offset += (FIRST_CHUNK_UNITS << chunk) - within;
            (chunk + 1, 0)
        };
        // Zeroed by the allocator: a large chunk is not resident before it is used.
        self.chunks[chunk].get_or_init(|| {
            <[AtomicU64]>::new_box_zeroed_with_elems(FIRST_CHUNK_UNITS << chunk).expect("memory for a chunk")
        });
        debug_assert!(within + count <= FIRST_CHUNK_UNITS << chunk);
        self.used.store(offset + count, Ordering::Relaxed);
        offset
    }

    /// The units from `offset` to the end of its chunk.
    #[inline]
    fn from(&self, offset: usize) -> &[AtomicU64] {
        let (chunk, within) = Self::locate(offset);
        &self.chunks[chunk].get().expect("an offset is told only after its chunk was made")[within..]
    }

    #[inline]
    fn locate(offset: usize) -> (usize, usize) {
        let shifted = offset + FIRST_CHUNK_UNITS;
        let chunk = shifted.ilog2() - FIRST_CHUNK_UNITS.ilog2();
        (chunk as usize, shifted - (FIRST_CHUNK_UNITS << chunk))
    }
}

/// Layout 1: cells and word side by side in an arena, found by an index of (8-bit tag, 24-bit offset) slots that is
/// swapped whole at 75 % load.
pub struct ArenaLayout<const UNITS: usize> {
    segments: Box<[ArenaSegment]>,
}

type Index = Box<[AtomicU32]>;

/// The indexes again, so that the writer loads no `ArcSwap`: that is an atomic exchange, which waits until all earlier
/// stores have reached the other core. With one for each word a record took twice as long beside a busy reader.
#[derive(Default)]
pub struct OwnIndexes(Vec<Arc<Index>>);

struct ArenaSegment {
    index: ArcSwap<Index>,
    arena: Arena,
    words: AtomicUsize,
}

impl<const UNITS: usize> Default for ArenaLayout<UNITS> {
    fn default() -> Self {
        let segment = |_| ArenaSegment {
            index: ArcSwap::new(Arc::new(empty_index(FIRST_SLOTS))),
            arena: Arena::default(),
            words: AtomicUsize::new(0),
        };
        Self { segments: (0..SEGMENTS).map(segment).collect() }
    }
}

fn empty_index(slots: usize) -> Index {
    <[AtomicU32]>::new_box_zeroed_with_elems(slots).expect("memory for an index")
}

/// A word as units: its length less one in a byte, then its bytes, then zeros.
fn units(word: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (head, rest) = word.split_at(word.len().min(7));
    let mut first = [0; 8];
    first[0] = (word.len() - 1) as u8;
    first[1..=head.len()].copy_from_slice(head);
    let padded = |bytes: &[u8]| match bytes.try_into() {
        Ok(whole) => u64::from_le_bytes(whole),
        Err(_) => bytes.iter().rev().fold(0, |unit, &byte| unit << 8 | u64::from(byte)),
    };
    std::iter::once(u64::from_le_bytes(first)).chain(rest.chunks(8).map(padded))
}

fn slot_of(hash: u64, offset: usize) -> u32 {
    ((hash >> 56) as u32) << OFFSET_BITS | offset as u32
}

fn offset_of(slot: u32) -> usize {
    (slot & ((1 << OFFSET_BITS) - 1)) as usize
}

impl ArenaSegment {
    /// The offset of the word, or the index's slot it would go to.
    #[inline]
    fn probe(&self, index: &[AtomicU32], hash: u64, word: &str, cells: usize) -> Result<usize, usize> {
        let mask = index.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            // Acquire: pairs with the Release that published the entry.
            let slot = index[at].load(Ordering::Acquire);
            if slot == 0 {
                return Err(at);
            }
            if slot >> OFFSET_BITS == slot_of(hash, 0) >> OFFSET_BITS {
                let entry = &self.arena.from(offset_of(slot))[cells..];
                if units(word.as_bytes()).zip(entry).all(|(unit, kept)| unit == kept.load(Ordering::Relaxed)) {
                    return Ok(offset_of(slot));
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn insert(&self, own: &mut Arc<Index>, hash: u64, word: &str, cells: usize, at: usize) -> usize {
        let offset = self.arena.allocate(cells + (1 + word.len()).div_ceil(8));
        let entry = &self.arena.from(offset)[cells..];
        for (unit, kept) in units(word.as_bytes()).zip(entry) {
            kept.store(unit, Ordering::Relaxed);
        }
        let words = self.words.load(Ordering::Relaxed) + 1;
        self.words.store(words, Ordering::Relaxed);
        if words * 4 > own.len() * 3 {
            let larger = self.doubled(own, cells);
            larger[free_slot(&larger, hash)].store(slot_of(hash, offset), Ordering::Relaxed);
            *own = Arc::new(larger);
            self.index.store(Arc::clone(own));
        } else {
            own[at].store(slot_of(hash, offset), Ordering::Release);
        }
        offset
    }

    /// The index with twice the slots. Hashes are not kept, so the words are hashed again.
    fn doubled(&self, index: &[AtomicU32], cells: usize) -> Index {
        let larger = empty_index(index.len() * 2);
        let mut word = Vec::with_capacity(264);
        for slot in index {
            let slot = slot.load(Ordering::Relaxed);
            if slot == 0 {
                continue;
            }
            word.clear();
            let entry = &self.arena.from(offset_of(slot))[cells..];
            let length = (entry[0].load(Ordering::Relaxed) & 0xff) as usize + 1;
            for unit in &entry[..(1 + length).div_ceil(8)] {
                word.extend_from_slice(&unit.load(Ordering::Relaxed).to_le_bytes());
            }
            let word = std::str::from_utf8(&word[1..=length]).expect("a word went in whole");
            let at = free_slot(&larger, crate::workload::hasher().hash(word));
            larger[at].store(slot, Ordering::Relaxed);
        }
        larger
    }
}

fn free_slot(index: &[AtomicU32], hash: u64) -> usize {
    let mask = index.len() - 1;
    let mut at = hash as usize & mask;
    while index[at].load(Ordering::Relaxed) != 0 {
        at = (at + 1) & mask;
    }
    at
}

impl<const UNITS: usize> Layout for ArenaLayout<UNITS> {
    type Writer = OwnIndexes;

    #[inline]
    fn find(&self, hash: u64, word: &str) -> Option<Place> {
        let segment = &self.segments[segment_of(hash)];
        let offset = segment.probe(&segment.index.load(), hash, word, UNITS).ok()?;
        Some(Place { segment: segment_of(hash), offset })
    }

    fn find_or_insert(&self, writer: &mut OwnIndexes, hash: u64, word: &str) -> Place {
        if writer.0.is_empty() {
            writer.0.extend(self.segments.iter().map(|segment| segment.index.load_full()));
        }
        let (segment, own) = (&self.segments[segment_of(hash)], &mut writer.0[segment_of(hash)]);
        let offset = match segment.probe(own, hash, word, UNITS) {
            Ok(offset) => offset,
            Err(at) => segment.insert(own, hash, word, UNITS, at),
        };
        Place { segment: segment_of(hash), offset }
    }

    #[inline]
    fn cell(&self, place: Place, unit: usize) -> &AtomicU64 {
        &self.segments[place.segment].arena.from(place.offset)[unit]
    }

    fn pair(&self, place: Place) -> usize {
        self.segments[place.segment].arena.allocate(2)
    }
}

/// Layout 2: a hash table of words with the number of their cell, behind a lock per segment, and cells in an arena.
///
/// A table that grows in place cannot be read meanwhile: a reader takes the lock for each word, and waits while the
/// writer inserts. Without new words it never waits, but still writes to the lock.
pub struct TableLayout {
    segments: Box<[TableSegment]>,
}

#[derive(Default)]
struct TableSegment {
    table: RwLock<HashTable<(Box<str>, u32)>>,
    cells: Arena,
}

impl Default for TableLayout {
    fn default() -> Self {
        Self { segments: (0..SEGMENTS).map(|_| TableSegment::default()).collect() }
    }
}

impl Layout for TableLayout {
    type Writer = ();

    #[inline]
    fn find(&self, hash: u64, word: &str) -> Option<Place> {
        let table = self.segments[segment_of(hash)].table.read();
        let (_, offset) = table.find(hash, |(kept, _)| **kept == *word)?;
        Some(Place { segment: segment_of(hash), offset: *offset as usize })
    }

    fn find_or_insert(&self, (): &mut (), hash: u64, word: &str) -> Place {
        if let Some(place) = self.find(hash, word) {
            return place;
        }
        let segment = &self.segments[segment_of(hash)];
        let offset = segment.cells.allocate(1);
        let rehash = |(kept, _): &(Box<str>, u32)| crate::workload::hasher().hash(kept);
        segment.table.write().insert_unique(hash, (word.into(), offset as u32), rehash);
        Place { segment: segment_of(hash), offset }
    }

    #[inline]
    fn cell(&self, place: Place, unit: usize) -> &AtomicU64 {
        &self.segments[place.segment].cells.from(place.offset)[unit]
    }

    fn pair(&self, place: Place) -> usize {
        self.segments[place.segment].cells.allocate(2)
    }
}
