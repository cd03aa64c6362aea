//! The way to the Writer: handlers put batches into its queue at one end, its thread takes them out at the other.
//!
//! Beside it: what the handle tells of the Writer (`handle/status.rs`), and how a leader ends (`handle/ending.rs`).

mod ending;
mod status;

pub use status::WriterStatus;

use super::{
    LeaderEvent, QueueLimits, Successor, WriteReply, WriteSubmission,
    queue::{BoundedQueue, Full, QueueShare},
};
use crate::{
    base::position::Position,
    data::command::{AckLevel, WriteBatch, WriteError, WriteReceipt},
    data::counters::QueueTotals,
    engine::view::DatabaseView,
    replication::ReplicationBacklog,
};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Bytes of batches the Writer is given at once: the first of them are answered when the last are logged.
const WRITE_BYTES: usize = 1 << 20;

/// The handle handlers write through. Cheap to clone.
#[derive(Clone)]
pub struct Leader {
    shared: Arc<LeaderChannel>,
}

struct LeaderChannel {
    view: Arc<DatabaseView>,
    feed: Arc<ReplicationBacklog>,
    queue: BoundedQueue<LeaderEvent>,
    queue_limits: QueueLimits,
    stopping: AtomicBool,
    poisoned: AtomicBool,
    /// Writes are refused for want of room on the disk.
    disk_full: AtomicBool,
    /// The reason why there is no Writer yet: the start of its epoch found no room on the disk.
    no_room: ArcSwapOption<String>,
    /// The lengths of the queues of counters.
    queue_totals: parking_lot::Mutex<QueueTotals>,
    /// True if a write waits for a replica's sync.
    wants_durable: AtomicBool,
    ended: CancellationToken,
    succeeded: watch::Sender<Option<Successor>>,
}

impl Leader {
    /// A handle for a writer that is about to run. What it publishes is seen in `view`, and its records go to
    /// `backlog`.
    pub fn new(view: Arc<DatabaseView>, feed: Arc<ReplicationBacklog>, bounds: QueueLimits) -> Self {
        let queue = BoundedQueue::new(bounds.batches, bounds.bytes);
        let (stopping, poisoned, disk_full, no_room, queue_totals, wants_durable, ended) = Default::default();
        let succeeded = watch::Sender::new(None);
        Self {
            shared: Arc::new(LeaderChannel {
                view,
                feed,
                queue,
                queue_limits: bounds,
                stopping,
                poisoned,
                disk_full,
                no_room,
                queue_totals,
                wants_durable,
                ended,
                succeeded,
            }),
        }
    }

    /// Hands a batch to the Writer; from here it is the Writer's, also if the returned future is dropped. `None` as
    /// level means the server's default.
    ///
    /// # Errors
    /// The [`WriteError`] of a batch that was refused, or whose level was not reached. Only
    /// [`WriteError::NotReplicated`] and [`WriteError::OutcomeUnknown`] leave the possibility that it counts.
    pub async fn submit(&self, batch: WriteBatch, level: Option<AckLevel>) -> Result<WriteReceipt, WriteError> {
        self.submit_from(batch, level, None).await
    }

    /// The same for whoever has a share of the queue.
    ///
    /// # Errors
    /// As [`Leader::submit`], and [`WriteError::QueueShareFull`] once the share is used up.
    pub async fn submit_from(
        &self,
        batch: WriteBatch,
        level: Option<AckLevel>,
        share: Option<QueueShare<'_>>,
    ) -> Result<WriteReceipt, WriteError> {
        // Relaxed: a batch that gets past this just now is answered when the queue closes.
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Err(WriteError::Stopping);
        }
        if self.shared.no_room.load().is_some() {
            return Err(self.refusal().unwrap_or(WriteError::DiskFull));
        }
        let (reply, answer) = oneshot::channel();
        let bytes = batch.queued_bytes();
        let submission = WriteSubmission { batch, level, reply: reply.into() };
        // Refused and not waited for: the tasks that wait would be a second queue, without a bound.
        if let Err(full) = self.shared.queue.try_push(LeaderEvent::Write(submission), bytes, share) {
            // A queue that is closed for another reason than a stop is one whose Writer has died.
            return Err(match full {
                _ if self.shared.stopping.load(Ordering::Relaxed) => WriteError::Stopping,
                _ if self.shared.ended.is_cancelled() => WriteError::Poisoned,
                Full::Share => WriteError::QueueShareFull,
                Full::Queue => WriteError::QueueFull,
            });
        }
        // The Writer answers everything it takes; if it is gone, what it did with this one is not known.
        answer.await.unwrap_or(Err(WriteError::OutcomeUnknown))
    }

    /// Hands an event to the Writer's thread.
    pub fn send(&self, event: LeaderEvent) {
        self.shared.queue.push(event);
    }

    /// For the Writer's thread: moves what has come to `into`, waiting up to `patience` for the first.
    pub fn take(&self, into: &mut VecDeque<LeaderEvent>, patience: Option<Duration>) {
        self.shared.queue.take(into, patience);
    }

    /// For the Writer's thread: readers can see this position now, and replicas can have its record.
    pub fn published(&self, position: Position, record: Bytes) {
        self.shared.feed.push(position.sequence, record);
        self.shared.view.published(position);
    }

    /// Gives the bounds of its queue.
    pub fn queue_limits(&self) -> QueueLimits {
        self.shared.queue_limits
    }

    /// Gives the view that this leader serves.
    pub fn view(&self) -> &Arc<DatabaseView> {
        &self.shared.view
    }

    /// The records for replicas.
    pub fn backlog(&self) -> &Arc<ReplicationBacklog> {
        &self.shared.feed
    }
}

/// For the Writer's thread: the write `first`, with those that stand right behind it in `events`. The Writer makes one
/// commit group of them, or a few.
pub fn adjacent_writes(
    first: WriteSubmission<WriteReply>,
    events: &mut VecDeque<LeaderEvent>,
) -> impl Iterator<Item = WriteSubmission<WriteReply>> {
    let mut bytes = first.batch.queued_bytes();
    // What is taken here is answered before the next is looked at, so it is not all that waits.
    let more = std::iter::from_fn(move || {
        let next = if bytes < WRITE_BYTES { next_write(events) } else { None };
        bytes += next.as_ref().map_or(0, |next| next.batch.queued_bytes());
        next
    });
    std::iter::once(first).chain(more)
}

/// Takes the next event if it is a write.
fn next_write(events: &mut VecDeque<LeaderEvent>) -> Option<WriteSubmission<WriteReply>> {
    match events.pop_front()? {
        LeaderEvent::Write(submission) => Some(submission),
        other => {
            events.push_front(other);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::hash::WordHasher,
        data::counts::{WriteOp, word_counts::WordCounts},
        data::entries::{CollectionKind, EntryOp, EntryWrite, Expiry, NewValue, WriteCondition},
    };

    /// A value that no compression makes smaller.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(next).collect()
    }

    fn put(key: &str, bytes: usize) -> WriteSubmission<WriteReply> {
        let op = EntryOp::Put(NewValue::new(noise(bytes).into(), ""), Expiry::Never);
        let (kind, condition) = (CollectionKind::Cache, WriteCondition::Always);
        let entries = vec![EntryWrite { kind, key: key.into(), op, condition }];
        let counts = WordCounts::new(WordHasher::new(1));
        let (namespace, op, words, left_out, key, fingerprint) = ("words".into(), WriteOp::Add, 0, 0, None, 0);
        let batch = WriteBatch { namespace, op, is_post: false, counts, entries, words, left_out, key, fingerprint };
        WriteSubmission { batch, level: None, reply: oneshot::channel().0.into() }
    }

    #[test]
    fn two_large_values_are_not_given_to_the_writer_at_once_and_small_ones_are() {
        for (bytes, at_once) in [(1 << 20, 1), (100, 3)] {
            let mut events = ["b", "c"].map(|key| LeaderEvent::Write(put(key, bytes))).into();
            assert_eq!(adjacent_writes(put("a", bytes), &mut events).count(), at_once, "values of {bytes} bytes");
            assert_eq!(events.len(), 3 - at_once);
        }
    }
}
