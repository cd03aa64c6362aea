//! The write path of a leader: a bounded queue in front of one Writer.
//!
//! Handlers hold a [`Leader`] and [`Leader::submit`] batches; the [`Writer`] is a state machine that the
//! node's writer thread drives (`node/`), and that the simulation drives with made-up time and a faulty disk.

mod commit_group;
mod pending_acks;
mod queue;
mod shutdown;
mod step_down;
mod writer;

pub use commit_group::AdmissionLimits;
pub(crate) use queue::BoundedQueue;
use queue::Full;
pub use queue::{QueueShare, QueueUsage};
pub use shutdown::close;
pub use step_down::{StepDownGate, StepDownReaction};
pub use writer::{WriteSubmission, Writer, WriterAction, WriterSettings};

use crate::{
    base::position::Position,
    data::counts::word_counts::WriteBatch,
    engine::view::DatabaseView,
    replication::{AppendAnswer, PeerEvent, PeerIndex, ReplicationBacklog},
    storage::snapshot::PublishedSnapshot,
    storage::wal,
};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
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

/// The condition under which a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckLevel {
    /// Appended to the log and applied: survives kill -9 of the process.
    Leader,
    /// Also synced to the leader's disk: survives power loss there.
    Disk,
    /// Appended and applied, and applied by a replica: survives the loss of the leader, if that replica takes over.
    Replica,
    /// As `Replica`, and synced to the leader's disk.
    DiskReplica,
    /// Synced on the leader and on a replica: survives the loss of either machine.
    ReplicaDisk,
}

impl AckLevel {
    /// All levels, each at its number.
    pub const ALL: [AckLevel; 5] =
        [AckLevel::Leader, AckLevel::Disk, AckLevel::Replica, AckLevel::DiskReplica, AckLevel::ReplicaDisk];

    /// Returns whether the leader's own sync is part of it.
    pub fn wants_sync(self) -> bool {
        matches!(self, AckLevel::Disk | AckLevel::DiskReplica | AckLevel::ReplicaDisk)
    }

    /// Returns whether a replica is part of it.
    pub fn wants_replica(self) -> bool {
        matches!(self, AckLevel::Replica | AckLevel::DiskReplica | AckLevel::ReplicaDisk)
    }

    /// This level, on a leader that syncs before every answer.
    pub fn synced(self) -> Self {
        match self {
            AckLevel::Leader | AckLevel::Disk => AckLevel::Disk,
            AckLevel::Replica | AckLevel::DiskReplica => AckLevel::DiskReplica,
            AckLevel::ReplicaDisk => AckLevel::ReplicaDisk,
        }
    }

    /// Gives the part of it that is left where no replica answers.
    pub fn without_replicas(self) -> Self {
        if self.wants_sync() { AckLevel::Disk } else { AckLevel::Leader }
    }
}

impl FromStr for AckLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "leader" => Ok(AckLevel::Leader),
            "disk" => Ok(AckLevel::Disk),
            "replica" => Ok(AckLevel::Replica),
            // In a query, + stands for a space.
            "replica+disk" | "replica disk" => Ok(AckLevel::ReplicaDisk),
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
            AckLevel::DiskReplica => "disk, replica",
            AckLevel::ReplicaDisk => "replica+disk",
        })
    }
}

/// The result of an acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteReceipt {
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
    /// True if this repeats an earlier request, which alone counted.
    pub replayed: bool,
    /// For a post of a stream: the last number of the stream that is done.
    pub stream_last: Option<u64>,
}

/// The reason why a write was not acknowledged. [`WriteError::NotReplicated`] is applied,
/// [`WriteError::OutcomeUnknown`] may be; no other is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The queue is full: nothing was applied, come again.
    #[error("the write queue is full")]
    QueueFull,
    /// Whoever has sent it has as much in the queue as one may: nothing was applied, come again.
    #[error("the writes of this address hold its share of the write queue")]
    QueueShareFull,
    /// The window of keys is full: nothing was applied.
    #[error("the window of idempotency keys is full; keyed writes are refused until keys age out")]
    WindowFull,
    /// The window of streams is full: nothing was applied.
    #[error("the window of streams is full; a new stream is refused until one has been idle for long enough")]
    StreamWindowFull,
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
    /// An amount given by hand would take a count too far.
    #[error(
        "the count of {word:?} would go beyond {bound} (2^62), the most that given amounts take a count to, either side of \
         zero",
        bound = crate::base::limits::MAX_GIVEN_COUNT
    )]
    BeyondBound {
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
    /// The files were taken away while the node ran: no write would outlive it. Nothing of this one was applied.
    #[error("the files of this node were taken away while it ran; its counts are in memory alone")]
    FilesLost,
    /// The node is stopping; nothing was applied.
    #[error("the node is stopping")]
    Stopping,
    /// It is applied, and the level that the request asked for was not reached in time.
    #[error("it is applied, and level {level} was not reached: no replica has acknowledged it in time")]
    NotReplicated {
        /// The level asked for.
        level: AckLevel,
        /// The position at which it is applied.
        position: Position,
    },
    /// No replica is known that keeps files, so the level cannot be reached; nothing was applied.
    #[error("level replica+disk needs a replica with a --data-dir, and none is known")]
    NoReplicaKeepsFiles,
    /// Another leader has a later epoch: this one must not write. Nothing was applied.
    #[error("another leader has a later epoch; this one takes no more writes")]
    SteppedDown,
    /// The append or sync failed after it was tried: the write may or may not count. Repeat with the same key.
    #[error("the outcome is unknown: repeat the request with the same key")]
    OutcomeUnknown,
}

/// The channel of an answer.
pub type WriteReply = oneshot::Sender<Result<WriteReceipt, WriteError>>;

/// An input of the Writer's thread.
pub enum LeaderEvent {
    /// A batch was submitted.
    Write(WriteSubmission<WriteReply>),
    /// What an exchange with a replica has shown.
    Replica(PeerIndex, PeerEvent),
    /// A sync has ended.
    Synced(wal::SyncJob, io::Result<()>),
    /// A look at the files has ended.
    FilesChecked(wal::FileCheck, wal::FileCheckResult),
    /// A snapshot has ended, after so many milliseconds.
    SnapshotEnded(Result<PublishedSnapshot, crate::storage::file_header::FileError>, u64),
    /// Another node asks, or is about to lead.
    Offer(Bytes, oneshot::Sender<AppendAnswer>),
    /// No more writes come: answer those that wait, sync, and end.
    Stop,
    /// As [`LeaderEvent::Stop`], and soon: the next role of this process waits.
    HandOver,
}

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
    /// True if a write waits for a replica's sync.
    wants_durable: AtomicBool,
    ended: CancellationToken,
    succeeded: watch::Sender<Option<Successor>>,
}

/// The node that leads, or is about to, in a later epoch: its URL, if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor(pub Option<String>);

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
        Self { batches: crate::base::limits::DEFAULT_QUEUE_BATCHES, bytes: crate::base::limits::DEFAULT_QUEUE_BYTES }
    }
}

impl Leader {
    /// A handle for a writer that is about to run. What it publishes is seen in `view`, and its records go to
    /// `backlog`.
    pub fn new(view: Arc<DatabaseView>, feed: Arc<ReplicationBacklog>, bounds: QueueLimits) -> Self {
        let queue = BoundedQueue::new(bounds.batches, bounds.bytes);
        let (stopping, poisoned, disk_full, no_room, wants_durable, ended) = Default::default();
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
                wants_durable,
                ended,
                succeeded,
            }),
        }
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
        let submission = WriteSubmission { batch, level, reply };
        // Refused and not waited for: the tasks that wait would be a second queue, without a bound.
        if let Err(full) = self.shared.queue.try_push(LeaderEvent::Write(submission), bytes, share) {
            // A queue that is closed for another reason than a stop is one whose Writer has died.
            return Err(match (&self.shared, full) {
                (shared, _) if shared.stopping.load(Ordering::Relaxed) => WriteError::Stopping,
                (shared, _) if shared.ended.is_cancelled() => WriteError::Poisoned,
                (_, Full::Share) => WriteError::QueueShareFull,
                (_, Full::Queue) => WriteError::QueueFull,
            });
        }
        // The Writer answers everything it takes; if it is gone, what it did with this one is not known.
        answer.await.unwrap_or(Err(WriteError::OutcomeUnknown))
    }

    /// Gives the reason for which a write would be refused now, whatever is in it; `None`: it would be taken.
    pub fn refusal(&self) -> Option<WriteError> {
        let LeaderChannel { view, stopping, poisoned, disk_full, no_room, ended, succeeded, .. } = &*self.shared;
        // The reason that lasts longest comes first, so that a client does not wait for a lesser one to pass.
        if stopping.load(Ordering::Relaxed) {
            Some(WriteError::Stopping)
        } else if view.files_problem().is_some() {
            Some(WriteError::FilesLost)
        } else if poisoned.load(Ordering::Relaxed) || ended.is_cancelled() {
            Some(WriteError::Poisoned)
        } else if succeeded.borrow().is_some() {
            Some(WriteError::SteppedDown)
        } else {
            let is_full = disk_full.load(Ordering::Relaxed) || no_room.load().is_some();
            is_full.then_some(WriteError::DiskFull)
        }
    }

    /// For whoever is about to run the Writer: why its epoch cannot begin yet; `None`: it has begun.
    pub fn set_no_room(&self, why: Option<String>) {
        self.shared.no_room.store(why.map(Arc::new));
    }

    /// Gives the reason why there is no Writer yet, if it waits for room on the disk.
    pub fn no_room(&self) -> Option<String> {
        self.shared.no_room.load().as_deref().cloned()
    }

    /// For the Writer's thread: whether writes are refused for want of room on the disk.
    pub fn set_disk_full(&self, is_full: bool) {
        self.shared.disk_full.store(is_full, Ordering::Relaxed);
    }

    /// The write path's numbers for `/status`.
    pub fn status(&self) -> WriterStatus {
        let LeaderChannel { queue, poisoned, .. } = &*self.shared;
        WriterStatus { poisoned: poisoned.load(Ordering::Relaxed), queued: queue.len(), queue_limit: queue.bound() }
    }

    /// Refuses writes from now on, and makes the Writer end once it has answered those that wait.
    pub fn stop(&self) {
        if !self.shared.stopping.swap(true, Ordering::Relaxed) {
            self.shared.queue.push(LeaderEvent::Stop);
        }
    }

    /// As [`Leader::stop`], for the next role of this process: a snapshot that is being written is not waited for.
    pub fn hand_over(&self) {
        if !self.shared.stopping.swap(true, Ordering::Relaxed) {
            self.shared.queue.push(LeaderEvent::HandOver);
        }
    }

    /// Hands over what another node asks, or offers as a leader of its own; `None` if the Writer is gone.
    pub async fn append(&self, bytes: Bytes) -> Option<AppendAnswer> {
        let (reply, answer) = oneshot::channel();
        let size = bytes.len();
        self.shared.queue.try_push(LeaderEvent::Offer(bytes, reply), size, None).ok()?;
        answer.await.ok()
    }

    /// For the Writer's thread: another leads now, or is about to.
    pub fn stepped_down(&self, successor: Successor) {
        self.shared.view.set_ready(false);
        self.shared.succeeded.send_replace(Some(successor));
    }

    /// Returns once another leads, or is about to.
    pub async fn succeeded(&self) -> Successor {
        let mut succeeded = self.shared.succeeded.subscribe();
        let successor = succeeded.wait_for(Option::is_some).await.expect("this holds the other end");
        successor.clone().expect("it was waited for")
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

    /// For the Writer's thread: whether a write waits for a replica's sync.
    pub fn want_durable(&self, wanted: bool) {
        self.shared.wants_durable.store(wanted, Ordering::Relaxed);
    }

    /// Returns whether a write waits for a replica's sync.
    pub fn wants_durable(&self) -> bool {
        self.shared.wants_durable.load(Ordering::Relaxed)
    }

    /// Returns once the Writer has ended, by a stop or by dying.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// For the Writer's thread: it ends. What came too late is answered so.
    pub fn end(&self) {
        // Before the queue is closed: whoever finds it closed looks here for the reason.
        self.shared.ended.cancel();
        for event in self.shared.queue.close() {
            if let LeaderEvent::Write(WriteSubmission { reply, .. }) = event {
                let _ = reply.send(Err(WriteError::Stopping)); // whoever asked may have gone
            }
        }
    }

    /// For the Writer's thread: files were taken away, so what is held is in memory alone.
    pub fn files_lost(&self, what: String) {
        self.poisoned();
        self.shared.view.set_files_problem(Some(what));
    }

    /// For the Writer's thread: no write will succeed any more.
    pub fn poisoned(&self) {
        self.shared.poisoned.store(true, Ordering::Relaxed);
    }
}

/// The write path's own part of `/status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct WriterStatus {
    /// True if a failed sync has ended writing.
    pub poisoned: bool,
    /// Batches waiting for the Writer.
    pub queued: usize,
    /// Number of batches that may wait.
    pub queue_limit: usize,
}
