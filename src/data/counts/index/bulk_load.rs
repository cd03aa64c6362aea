//! Loads the image of a snapshot: the words of a segment at once, into an index made for them.
//!
//! A walk gives words segment by segment, each in the order of its slots. Put one by one into an index that grows,
//! words in that order pile up: those of the first half of the old index's slots fill the small one evenly once, those
//! that come then find its front full, and each goes on to the end of an ever longer run. So words are gathered until
//! one of another segment comes, and go into an index of the size that they need, slot after slot. Nobody reads
//! meanwhile: counts are stored once, for both sides.

use super::{arena::PackedWord, cell::Side, segment_buffer::BufferedWord, segment_of, table, writer::IndexWriter};
use crate::{base::hash::weight, base::limits};

impl IndexWriter {
    /// Takes a word of an image; one that came before has the count that it comes with last. It is there once
    /// [`IndexWriter::end_load`] has been called. Not while anybody reads.
    pub(crate) fn load(&mut self, hash: u64, word: &str, count: i64) {
        if self.gathered.words.last().is_some_and(|last| segment_of(last.hash) != segment_of(hash)) {
            self.load_gathered();
        }
        self.gathered.push(hash, word, count);
    }

    /// The image is whole.
    pub(crate) fn end_load(&mut self) {
        self.load_gathered();
        for side in SIDES {
            self.before_flip(side);
        }
    }

    fn load_gathered(&mut self) {
        let mut gathered = std::mem::take(&mut self.gathered);
        let Some(first) = gathered.words.first() else { return };
        let segment = segment_of(first.hash);
        // The size is known before the first word goes in, which is what keeps the runs short.
        self.reserve(segment, gathered.words.len() as u32);
        let mut begin = 0;
        for BufferedWord { hash, count, end } in gathered.words.drain(..) {
            self.load_one(segment, hash, &gathered.text[begin..end], count);
            begin = end;
        }
        gathered.text.clear();
        self.gathered = gathered; // its room serves again
    }

    fn load_one(&mut self, segment: usize, hash: u64, word: &str, count: i64) {
        let packed = PackedWord::new(word);
        if self.segments[segment].table.find(hash, &packed).is_some() {
            // It has a count on both sides already, so both passes of a record are needed.
            self.set(hash, word, count, SIDES[0]);
            self.before_flip(SIDES[0]);
            return self.reconcile(SIDES[0]);
        }
        if count == 0 {
            return;
        }
        let offset = self.place(segment, hash, &packed, count);
        self.digest = self.digest.wrapping_add(weight(hash, count));
        self.distinct += 1;
        self.total += i128::from(count);
        if self.ranks(count, word) {
            self.above += 1;
            self.list(segment, offset);
            if self.listed > limits::TOP_CANDIDATES {
                self.raise_threshold(SIDES[0]);
            }
        }
    }

    /// Makes the index of a segment large enough for so many more words.
    fn reserve(&mut self, segment: usize, more: u32) {
        let state = &self.segments[segment];
        let slots = table::slots_for(state.table.slots(), state.entries + more);
        if slots > state.table.slots() {
            self.grow_to(segment, slots);
        }
    }
}

/// Both sides of every count.
const SIDES: [Side; 2] = [Side(false), Side(true)];
