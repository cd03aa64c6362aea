//! Admission of bulk bodies: memory, cores, and a share of the Writer's queue.

use crate::{
    base::limits::{BULK_BLOCKS, BULK_TALLY_BYTES, DEFAULT_QUEUE_BYTES},
    data::counts::word_counts::{PartitionedCounter, WordCountsPool},
};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// See [`BulkLimiter::queue_budget`].
pub(super) const QUEUE_BYTES: u32 = (DEFAULT_QUEUE_BYTES / 2) as u32;

/// Bounds the bulk bodies of all clients together: bytes that are being counted, and bytes that wait for the Writer.
pub(in crate::api::http) struct BulkLimiter {
    /// Blocks that may be counted or wait for the Writer.
    pub(super) block_slots: Arc<Semaphore>,
    /// Blocks that are counted at once, one a core: more of them would only take the caches from each other.
    pub(super) cpu_permits: Arc<Semaphore>,
    /// Bytes that may wait in the Writer's queue: half of its bound, so that blocks wait here and nobody finds it full
    /// for them.
    pub(super) queue_budget: Semaphore,
    pub(super) tallies: Arc<WordCountsPool>,
    /// Scratch space, one for each block that is being counted.
    pub(super) parts: Mutex<Vec<PartitionedCounter>>,
}

impl BulkLimiter {
    pub(in crate::api::http) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            block_slots: Arc::new(Semaphore::new(BULK_BLOCKS)),
            cpu_permits: Arc::new(Semaphore::new(cores)),
            queue_budget: Semaphore::new(QUEUE_BYTES as usize),
            // A second one for each: of what is not ASCII.
            tallies: WordCountsPool::new(2 * BULK_BLOCKS, BULK_TALLY_BYTES),
            parts: Mutex::default(),
        }
    }
}
