//! Fetches into the cache what the next words need, before it is their turn.
//!
//! A record of many words meets a cache miss for the slot of each and another for its entry, and one after the other these
//! are half of what it costs. Here they overlap: the processor fetches and goes on.

use super::{WordsWriter, writer::Place};
use crate::limits::WORDS_AHEAD;

/// Runs ahead of a walk over words, given by hash and, where it is known, by place.
pub(crate) struct Ahead<I> {
    /// Twice as far ahead: the way to an entry is in its slot.
    slots: I,
    entries: I,
    /// Words fetched before the walk begins.
    begun: bool,
}

impl<I: Iterator<Item = (u64, Place)> + Clone> Ahead<I> {
    pub(crate) fn new(words: I) -> Self {
        Self { slots: words.clone(), entries: words, begun: false }
    }

    /// To be called before each word of the walk.
    #[inline]
    pub(crate) fn fetch(&mut self, words: &WordsWriter) {
        if !self.begun {
            self.begun = true;
            self.fetch_slots(words, 2 * WORDS_AHEAD);
            self.fetch_entries(words, WORDS_AHEAD);
        }
        self.fetch_slots(words, 1);
        self.fetch_entries(words, 1);
    }

    #[inline]
    fn fetch_slots(&mut self, words: &WordsWriter, some: usize) {
        for (hash, place) in self.slots.by_ref().take(some) {
            if place == Place::UNKNOWN {
                words.prefetch_slot(hash);
            }
        }
    }

    #[inline]
    fn fetch_entries(&mut self, words: &WordsWriter, some: usize) {
        self.entries.by_ref().take(some).for_each(|(hash, place)| words.prefetch_entry(hash, place));
    }
}
