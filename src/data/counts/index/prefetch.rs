//! Fetches into the cache what the next words need, before it is their turn.
//!
//! A record of many words meets a cache miss for the slot of each and another for its entry, and one after the other
//! these are half of what it costs. Here they overlap: the processor fetches and goes on.

use super::{IndexWriter, writer::EntryOffset};
use crate::base::limits::WORDS_AHEAD;

/// Runs ahead of a walk over words, given by hash and, where it is known, by offset.
pub(crate) struct Prefetcher<I> {
    /// Twice as far ahead: a slot has to be there before its entry can be fetched.
    slots: I,
    entries: I,
    /// Words fetched before the walk begins.
    begun: bool,
}

impl<I: Iterator<Item = (u64, EntryOffset)> + Clone> Prefetcher<I> {
    pub(crate) fn new(words: I) -> Self {
        Self { slots: words.clone(), entries: words, begun: false }
    }

    /// To be called before each word of the walk.
    #[inline]
    pub(crate) fn fetch(&mut self, words: &IndexWriter) {
        // Prefetches, not early loads: a load that misses holds up all that is behind it once the processor's window is
        // full (decision 11 measured both).
        if !self.begun {
            self.begun = true;
            for _ in 0..2 * WORDS_AHEAD {
                if !self.fetch_slot(words) {
                    break; // there are no more words
                }
            }
            for _ in 0..WORDS_AHEAD {
                if !self.fetch_entry(words) {
                    break;
                }
            }
        }
        self.fetch_slot(words);
        self.fetch_entry(words);
    }

    /// Prefetches the slot of the next word; returns whether there was one.
    #[inline]
    fn fetch_slot(&mut self, words: &IndexWriter) -> bool {
        let next = self.slots.next();
        // A word whose offset is known needs no slot.
        if let Some((hash, EntryOffset::UNKNOWN)) = next {
            words.prefetch_slot(hash);
        }
        next.is_some()
    }

    #[inline]
    fn fetch_entry(&mut self, words: &IndexWriter) -> bool {
        let next = self.entries.next();
        if let Some((hash, place)) = next {
            words.prefetch_entry(hash, place);
        }
        next.is_some()
    }
}
