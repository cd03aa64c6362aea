//! The memory that a record will take, computed before it is logged: a budget that is passed cannot be kept afterwards.
//!
//! Entries are added up; an index doubles as a whole, so the words that are new to a segment are counted by segment.

use super::{IndexWriter, SEGMENTS, arena, cell, segment_of, table};
use crate::base::atomics::Ordering;

/// The new words of a record for one namespace, by segment.
pub(crate) struct MemoryReservation {
    new: Box<[u32; SEGMENTS]>,
    /// The segments of the batch's own new words, should the batch be refused.
    of_batch: Vec<u8>,
}

/// Memory that one more word may take beside its letters, in bytes: its cell, its length, the zeros behind it, a pair
/// of counts, and the rest of a chunk that it no longer fits.
const ENTRY_BYTES: usize = 48;
/// Memory of a pair of counts, in bytes.
pub(crate) const PAIR_BYTES: usize = arena::PAIR_UNITS as usize * size_of::<u64>();

impl MemoryReservation {
    pub(crate) fn new() -> Self {
        Self { new: Box::new([0; SEGMENTS]), of_batch: Vec::new() }
    }

    /// Forgets all reservations: another record starts.
    pub(crate) fn clear(&mut self) {
        self.new.fill(0);
        self.of_batch.clear();
    }

    /// The bytes a new word takes in a namespace, which may be new itself, behind those that were asked about before.
    pub(crate) fn of_word(&mut self, words: Option<&IndexWriter>, hash: u64, word: &str) -> usize {
        let segment = segment_of(hash);
        let before = self.new[segment];
        self.new[segment] += 1;
        self.of_batch.push(segment as u8);
        let slots = |new| words.map_or_else(|| table::slots_for(0, new), |words| words.slots_with(segment, new));
        // The word that makes an index double pays for all the slots that come with it.
        let index = slots(before + 1) - slots(before);
        word.len() + ENTRY_BYTES + index * size_of::<u32>()
    }

    /// Keeps the reservation made since the last `commit` or `rollback`: the batch was taken.
    pub(crate) fn commit(&mut self) {
        self.of_batch.clear();
    }

    /// Undoes the reservation made since the last `commit` or `rollback`: the batch was refused.
    pub(crate) fn rollback(&mut self) {
        for segment in self.of_batch.drain(..) {
            self.new[segment as usize] -= 1;
        }
    }
}

impl IndexWriter {
    /// Slots of a segment's index with so many more words.
    fn slots_with(&self, segment: usize, new: u32) -> usize {
        let segment = &self.segments[segment];
        table::slots_for(segment.table.slots(), segment.entries + new)
    }

    /// Returns whether a word that is there needs a pair of counts for this count, and has none.
    pub(crate) fn widens(&self, hash: u64, word: &str, count: i64) -> bool {
        let table = &self.segments[segment_of(hash)].table;
        let Some(offset) = table.find(hash, &arena::PackedWord::new(word)) else { return false };
        match cell::decode(table.cell(offset).load(Ordering::Relaxed), cell::Side(false)) {
            cell::CountCell::Count(before) => cell::in_flight(cell::Side(false), count, before).is_none(),
            cell::CountCell::Wide(_) => false,
        }
    }
}
