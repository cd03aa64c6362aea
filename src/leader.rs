//! The write path of a leader: a bounded queue in front of one Writer.
//!
//! Handlers hold a [`Leader`] and [`Leader::submit`] batches; the [`Writer`] is a state machine that the
//! node's writer thread drives (`node/`), and that the simulation drives with made-up time and a faulty disk.

mod closing;
mod group;
mod queue;
mod writer;

pub use closing::close;
pub use group::AdmissionLimits;
pub use writer::{Action, Submission, Writer, WriterSettings};

use crate::{
    log,
    position::{EpochTable, Position},
    snapshot::Published,
    store::Reader,
    tally::Batch,
};
use queue::Queue;
use std::{
    collections::VecDeque,
    fmt, io,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// What must have happened before a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckLevel {
    /// Appended to the log and applied: survives kill -9 of the process.
    Leader,
    /// Also synced to the disk: survives power loss.
    Disk,
    /// Also applied by a replica: survives the loss of this machine if that replica takes over.
    Replica,
    /// Also synced by this node and by a replica: survives the loss of either machine.
    ReplicaDisk,
}

impl FromStr for AckLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "leader" => Ok(AckLevel::Leader),
            "disk" => Ok(AckLevel::Disk),
            "replica" => Ok(AckLevel::Replica),
            "replica+disk" => Ok(AckLevel::ReplicaDisk),
            _ => Err(format!("{text:?} is no level: leader, disk, replica, or replica+disk")),
        }
    }
}

impl fmt::Display for AckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AckLevel::Leader => "leader",
            AckLevel::Disk => "disk",
            AckLevel::Replica => "replica",
            AckLevel::ReplicaDisk => "replica+disk",
        })
    }
}

/// What an acknowledged write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The record it is part of.
    pub position: Position,
    /// Words counted, repeats included.
    pub words: u64,
    /// Distinct words.
    pub distinct: u64,
    /// Tokens left out for their length.
    pub left_out: u64,
    /// Replicas that have applied it.
    pub acks: u32,
    /// Whether this repeats an earlier request, which alone counted.
    pub replayed: bool,
    /// For a post of a stream: the last number of the stream that is done.
    pub stream_last: Option<u64>,
}

/// Why a write was not acknowledged. Only [`WriteError::OutcomeUnknown`] may have been applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The queue is full: nothing was applied, come again.
    #[error("the write queue is full")]
    QueueFull,
    /// The window of keys or streams is full: nothing was applied.
    #[error("the window of idempotency keys is full; keyed writes are refused until keys age out")]
    WindowFull,
    /// The key was used with another body.
    #[error("this key was used before with another body")]
    KeyReused,
    /// A post of a stream came before the ones ahead of it.
    #[error("the stream's next number is {expected}")]
    StreamGap {
        /// The number the stream goes on with.
        expected: u64,
    },
    /// A count would overflow.
    #[error("the count of {word:?} would leave the range of a 64-bit integer")]
    Overflow {
        /// The first word it happened to.
        word: String,
    },
    /// The database holds as many namespaces as it may.
    #[error("the database holds as many namespaces as it may ({0})")]
    TooManyNamespaces(usize),
    /// The memory budget is used up.
    #[error("the memory budget is used up")]
    MemoryFull,
    /// The disk is full; nothing was applied.
    #[error("the disk is full")]
    DiskFull,
    /// An earlier write to the disk failed: no writes until a restart. Nothing of this one was applied.
    #[error("the log failed earlier; writes are refused until a restart")]
    Poisoned,
    /// The node is stopping; nothing was applied.
    #[error("the node is stopping")]
    Stopping,
    /// The append or sync failed after it was tried: the write may or may not count. Repeat with the same key.
    #[error("the outcome is unknown: repeat the request with the same key")]
    OutcomeUnknown,
}

/// Where an answer goes.
pub type Reply = oneshot::Sender<Result<Receipt, WriteError>>;

/// What the Writer's thread is told.
pub enum Event {
    /// A batch was submitted.
    Write(Submission<Reply>),
    /// A sync has ended.
    Synced(log::Sync, io::Result<()>),
    /// A snapshot has ended, after so many milliseconds.
    SnapshotEnded(Result<Published, crate::format::FileError>, u64),
    /// No more writes come: answer those that wait, sync, and end.
    Stop,
}

/// The handle handlers write through. Cheap to clone.
#[derive(Clone)]
pub struct Leader {
    shared: Arc<Shared>,
}

struct Shared {
    reader: Reader,
    epochs: EpochTable,
    queue: Queue<Event>,
    applied: watch::Sender<Position>,
    stopping: AtomicBool,
    poisoned: AtomicBool,
    ended: CancellationToken,
}

/// Bounds of the queue in front of the Writer.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Batches.
    pub batches: usize,
    /// Bytes of their words.
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { batches: crate::limits::DEFAULT_QUEUE_BATCHES, bytes: crate::limits::DEFAULT_QUEUE_BYTES }
    }
}

impl Leader {
    /// A handle for a writer that is about to run, over the history that `epochs` tells.
    pub fn new(reader: Reader, epochs: EpochTable, bounds: QueueLimits) -> Self {
        let applied = watch::Sender::new(reader.read().position());
        let queue = Queue::new(bounds.batches, bounds.bytes);
        let (stopping, poisoned, ended) = Default::default();
        Self { shared: Arc::new(Shared { reader, epochs, queue, applied, stopping, poisoned, ended }) }
    }

    /// Reads the counts.
    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// Past epochs of this history.
    pub fn epochs(&self) -> &EpochTable {
        &self.shared.epochs
    }

    /// Hands a batch to the Writer; from here it is the Writer's, also if the returned future is dropped. `None` as
    /// level means the server's default.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn submit(&self, batch: Batch, level: Option<AckLevel>) -> Result<Receipt, WriteError> {
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Err(WriteError::Stopping);
        }
        let (reply, answer) = oneshot::channel();
        let bytes = batch.tally.text_bytes() + 32 * batch.tally.len();
        let submission = Submission { batch, level, reply };
        if self.shared.queue.offer(Event::Write(submission), bytes).is_err() {
            // A queue that is closed for another reason than a stop is one whose Writer has died.
            return Err(match &self.shared {
                shared if shared.stopping.load(Ordering::Relaxed) => WriteError::Stopping,
                shared if shared.ended.is_cancelled() => WriteError::Poisoned,
                _ => WriteError::QueueFull,
            });
        }
        // The Writer answers everything it takes; if it is gone, what it did with this one is not known.
        answer.await.unwrap_or(Err(WriteError::OutcomeUnknown))
    }

    /// Waits until this node has applied `sequence`; `false` if `patience` ended first.
    pub async fn reached(&self, sequence: u64, patience: Duration) -> bool {
        let mut applied = self.shared.applied.subscribe();
        let waited = tokio::time::timeout(patience, applied.wait_for(|at| at.sequence >= sequence)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// The write path's numbers for `/status`.
    pub fn status(&self) -> Status {
        let Shared { queue, poisoned, .. } = &*self.shared;
        Status { poisoned: poisoned.load(Ordering::Relaxed), queued: queue.len(), queue_limit: queue.bound() }
    }

    /// Refuses writes from now on, and tells the Writer to end once it has answered those that wait.
    pub fn stop(&self) {
        if !self.shared.stopping.swap(true, Ordering::Relaxed) {
            self.shared.queue.push(Event::Stop);
        }
    }

    /// Tells the Writer's thread something.
    pub fn tell(&self, event: Event) {
        self.shared.queue.push(event);
    }

    /// For the Writer's thread: moves what has come to `into`, waiting up to `patience` for the first.
    pub fn take(&self, into: &mut VecDeque<Event>, patience: Option<Duration>) {
        self.shared.queue.take(into, patience);
    }

    /// For the Writer's thread: readers can see this position now.
    pub fn published(&self, position: Position) {
        self.shared.applied.send_replace(position);
    }

    /// Returns once the Writer has ended, by a stop or by dying.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// For the Writer's thread: it ends. What came too late is answered so.
    pub fn end(&self) {
        self.shared.ended.cancel();
        for event in self.shared.queue.close() {
            if let Event::Write(Submission { reply, .. }) = event {
                let _ = reply.send(Err(WriteError::Stopping)); // whoever asked may have gone
            }
        }
    }

    /// For the Writer's thread: no write will succeed any more.
    pub fn poisoned(&self) {
        self.shared.poisoned.store(true, Ordering::Relaxed);
    }
}

/// The write path's own part of `/status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// Whether a failed sync has ended writing.
    pub poisoned: bool,
    /// Batches waiting for the Writer.
    pub queued: usize,
    /// How many may wait.
    pub queue_limit: usize,
}
