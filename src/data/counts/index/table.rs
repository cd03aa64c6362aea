//! One segment: an index of 32-bit slots over an arena, and the list of its words that may be in a top.
//!
//! A slot is an 8-bit tag from the word's hash and the 24-bit offset of its entry; 0 is free; probing is linear. A
//! table is replaced whole when its index is three quarters full (the arena stays) or when a quarter of its arena is
//! dead (index and arena are rebuilt from what lives). What a walk still holds of the old arena stays as it was then.

use super::{
    arena::{ARENA_HAS_ROOM, OFFSET_BITS, PackedWord, WordArena},
    cell::{self, CountCell, Side},
};
use crate::base::atomics::{AtomicU32, AtomicU64, Ordering};
use prefetch_index::prefetch_index;
use std::sync::Arc;

const OFFSET_MASK: u32 = (1 << OFFSET_BITS) - 1;
const FIRST_SLOTS: usize = 4;

#[derive(Debug)]
pub(super) struct CellTable {
    slots: Arc<[AtomicU32]>,
    pub(super) arena: Arc<WordArena>,
    pub(super) hot: Arc<HotEntries>,
}

impl CellTable {
    /// A table with no room: every segment starts as this one.
    pub(super) fn empty() -> Self {
        Self::with_slots(0, Arc::default(), Arc::new(HotEntries::with_capacity(0)))
    }

    pub(super) fn with_slots(slots: usize, arena: Arc<WordArena>, hot: Arc<HotEntries>) -> Self {
        Self { slots: (0..slots).map(|_| AtomicU32::new(0)).collect(), arena, hot }
    }

    /// The same table with another list of hot entries.
    pub(super) fn with_hot(&self, hot: Arc<HotEntries>) -> Self {
        Self { slots: Arc::clone(&self.slots), arena: Arc::clone(&self.arena), hot }
    }

    /// The offset of a word's entry.
    #[inline]
    pub(super) fn find(&self, hash: u64, word: &PackedWord<'_>) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let tag = tag(hash);
        let mut at = hash as usize & mask;
        // Ends at a free slot: the index is never more than three quarters full.
        loop {
            let slot = self.slots[at].load(Ordering::Acquire);
            if slot == 0 {
                return None;
            }
            let offset = slot & OFFSET_MASK;
            // The tag spares nearly every look at the entry of another word, and with it a cache miss.
            if slot & !OFFSET_MASK == tag && self.arena.holds(offset, word) {
                return Some(offset);
            }
            at = (at + 1) & mask;
        }
    }

    /// Fetches the slot that [`CellTable::find`] looks at first.
    #[inline]
    pub(super) fn prefetch_slot(&self, hash: u64) {
        if let Some(mask) = self.slots.len().checked_sub(1) {
            prefetch_index(&self.slots, hash as usize & mask);
        }
    }

    /// Fetches the entry that [`CellTable::find`] looks at first, if there is one. The slot is read for it.
    #[inline]
    pub(super) fn prefetch_entry(&self, hash: u64) {
        let Some(mask) = self.slots.len().checked_sub(1) else { return };
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at].load(Ordering::Acquire);
            if slot == 0 {
                return;
            }
            // The word is not compared: that would wait for the entry, which is what is to be avoided here. A wrong
            // guess, one in 256, costs one useless prefetch.
            if slot & !OFFSET_MASK == tag(hash) {
                self.arena.prefetch(slot & OFFSET_MASK);
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// Makes an entry visible to readers. The word is not in the table, and the table has room.
    pub(super) fn publish(&self, hash: u64, offset: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at].load(Ordering::Relaxed) != 0 {
            at = (at + 1) & mask;
        }
        // Release, and last: a reader that finds the offset finds the entry's word and cell. No slot is ever freed
        // again, since a free slot in front of another word would end the search for it; words that are gone leave when
        // the table is rebuilt.
        self.slots[at].store(tag(hash) | offset, Ordering::Release);
    }

    /// Adds a word that is not there, with a count for both sides, at or after `free` of the arena. The index has room,
    /// and nobody reads this table yet. Gives the offset of the entry and the next free one.
    pub(super) fn place(&self, free: u32, hash: u64, word: &PackedWord<'_>, count: i64) -> (u32, u32) {
        let (offset, mut free) = self.arena.push(free, word).expect(ARENA_HAS_ROOM);
        let raw = cell::folded(count).unwrap_or_else(|| {
            let (pair, next) = self.arena.push_pair(free).expect(ARENA_HAS_ROOM);
            free = next;
            for side in [Side(false), Side(true)] {
                self.set_pair(pair, side, count);
            }
            cell::wide(pair)
        });
        self.cell(offset).store(raw, Ordering::Relaxed);
        self.publish(hash, offset);
        (offset, free)
    }

    /// Returns whether one more entry, beside `entries`, needs a larger index.
    pub(super) fn is_full(&self, entries: u32) -> bool {
        slots_for(self.slots.len(), entries + 1) > self.slots.len()
    }

    /// Slots of the next larger index.
    pub(super) fn grown_slots(&self) -> usize {
        next_larger(self.slots.len())
    }

    /// The offsets of all entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.slots.len()).filter_map(|slot| self.entry_at(slot))
    }

    /// Slots the index has: the range [`CellTable::entry_at`] takes.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The offset of the entry in a slot, if there is one.
    #[inline]
    pub(super) fn entry_at(&self, slot: usize) -> Option<u32> {
        let slot = self.slots[slot].load(Ordering::Acquire);
        (slot != 0).then_some(slot & OFFSET_MASK)
    }

    /// The cell of an entry.
    #[inline]
    pub(super) fn cell(&self, offset: u32) -> &AtomicU64 {
        self.arena.cell(offset)
    }

    /// The count of an entry on one side.
    #[inline]
    pub(super) fn count(&self, offset: u32, side: Side) -> i64 {
        // Acquire: a reader that finds the offset of a pair finds its counts.
        self.value(self.cell(offset).load(Ordering::Acquire), side)
    }

    /// The count that a raw cell of this table says.
    #[inline]
    pub(super) fn value(&self, raw: u64, side: Side) -> i64 {
        match cell::decode(raw, side) {
            CountCell::Count(count) => count,
            // Relaxed: the Acquire load of the cell orders the pair's first counts, and the flip orders all later ones.
            CountCell::Wide(pair) => self.arena.pair(pair, side).load(Ordering::Relaxed).cast_signed(),
        }
    }

    /// Sets the count that a pair of this table has for one side.
    pub(super) fn set_pair(&self, pair: u32, side: Side, count: i64) {
        self.arena.pair(pair, side).store(count.cast_unsigned(), Ordering::Relaxed);
    }
}

const fn next_larger(slots: usize) -> usize {
    if slots == 0 { FIRST_SLOTS } else { slots * 2 }
}

/// Slots of an index of `slots` once it has so many entries: it is three quarters full at most.
pub(super) const fn slots_for(mut slots: usize, entries: u32) -> usize {
    // A quarter stays free, because linear probing ends at a free slot and its runs grow steeply beyond that.
    while entries as usize * 4 > slots * 3 {
        slots = next_larger(slots);
    }
    slots
}

const fn tag(hash: u64) -> u32 {
    // Bits that choose neither the segment (the top eight) nor, in tables of ordinary size, the slot.
    ((hash >> 40) as u32) << OFFSET_BITS
}

/// Entries of a segment that may be in a top: appended by the Writer, replaced with the table when full.
#[derive(Debug)]
pub(super) struct HotEntries {
    offsets: Box<[AtomicU32]>,
    len: AtomicU32,
}

impl HotEntries {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { offsets: (0..capacity).map(|_| AtomicU32::new(0)).collect(), len: AtomicU32::new(0) }
    }

    /// Appends; `false` when there is no room.
    pub(super) fn push(&self, offset: u32) -> bool {
        let len = self.len.load(Ordering::Relaxed);
        let Some(place) = self.offsets.get(len as usize) else { return false };
        // The length is stored last, with Release: it says how many offsets a reader may look at.
        place.store(offset, Ordering::Relaxed);
        self.len.store(len + 1, Ordering::Release);
        true
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let len = self.len.load(Ordering::Acquire) as usize;
        self.offsets[..len].iter().map(|offset| offset.load(Ordering::Relaxed))
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }
}
