//! Reads of entries, counted by every serving thread in a place of its own, as requests are.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};
use thread_local::ThreadLocal;

/// Reads of entries since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryReadTotals {
    /// Those that found an entry.
    pub hits: u64,
    /// Those that found none.
    pub misses: u64,
}

/// Counts of reads. Each thread adds to its own numbers; who asks adds those up.
#[derive(Default)]
pub(super) struct EntryReads(ThreadLocal<CachePadded<ThreadReads>>);

/// The reads of one thread.
#[derive(Default)]
struct ThreadReads {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl EntryReads {
    #[inline]
    pub(super) fn add(&self, hits: u64, misses: u64) {
        let of_thread = self.0.get_or_default();
        of_thread.hits.fetch_add(hits, Ordering::Relaxed);
        of_thread.misses.fetch_add(misses, Ordering::Relaxed);
    }

    pub(super) fn totals(&self) -> EntryReadTotals {
        let mut totals = EntryReadTotals::default();
        for of_thread in self.0.iter() {
            totals.hits += of_thread.hits.load(Ordering::Relaxed);
            totals.misses += of_thread.misses.load(Ordering::Relaxed);
        }
        totals
    }
}
