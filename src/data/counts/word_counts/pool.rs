//! Word counts that are used again.

use super::{CountEntry, WordCounts};
use crate::base::hash::WordHasher;
use parking_lot::Mutex;
use std::sync::Arc;

/// Buffers of word counts that are used again and again: large ones cost more to make than to fill.
#[derive(Debug, Default)]
pub struct WordCountsPool {
    pub(super) free: Mutex<Vec<WordCounts>>,
    most: usize,
    most_bytes: usize,
}

impl WordCountsPool {
    /// A pool that keeps so many, none that an unusual text has made larger than `most_bytes`.
    pub fn new(most: usize, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), most, most_bytes })
    }

    /// An empty one, which comes back when it is dropped.
    pub fn take(self: &Arc<Self>, hasher: WordHasher) -> WordCounts {
        // One of another database is of no use, and there is none: a process serves one.
        let mut tally =
            self.free.lock().pop().filter(|tally| tally.hasher == hasher).unwrap_or_else(|| WordCounts::new(hasher));
        tally.home = Some(Arc::clone(self));
        tally
    }

    pub(super) fn give_back(&self, mut tally: WordCounts) {
        tally.clear();
        let mut free = self.free.lock();
        // Otherwise whatever once counted an unusual text would keep its memory for as long as the process runs.
        if free.len() < self.most && tally.room() <= self.most_bytes {
            free.push(tally);
        }
    }
}

impl WordCounts {
    /// Bytes it has taken for what it may hold.
    fn room(&self) -> usize {
        let (entries, text) = (self.entries.capacity(), self.text.capacity());
        // Once it was put in order, it has both a second time.
        let times = if self.ordered.is_some() { 2 } else { 1 };
        self.slots.capacity() * size_of::<u64>() + times * (entries * size_of::<CountEntry>() + text)
    }
}

impl Clone for WordCounts {
    fn clone(&self) -> Self {
        let Self { hasher, text, entries, slots, .. } = self;
        let (text, entries, slots) = (text.clone(), entries.clone(), slots.clone());
        Self { hasher: *hasher, text, entries, slots, ordered: None, home: None }
    }
}

impl Drop for WordCounts {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            // The empty one has no pool to go back to, which ends this.
            let empty = Self::new(self.hasher);
            home.give_back(std::mem::replace(self, empty));
        }
    }
}
