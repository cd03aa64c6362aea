//! The input and the output of the Writer.

use crate::{
    base::position::Position,
    data::command::{AckLevel, WriteBatch, WriteError, WriteReceipt},
    data::counters::{QueueTotals, SidelinedIncrements},
    data::store::StateId,
    storage::wal::{FileCheck, LiveLogOffset, SyncJob},
};
use bytes::Bytes;

/// A batch with the level it is acknowledged at and where the answer goes.
pub struct WriteSubmission<T> {
    /// The words to count.
    pub batch: WriteBatch,
    /// The level at which it is acknowledged; `None`: as the settings say.
    pub level: Option<AckLevel>,
    /// The recipient of the answer.
    pub reply: T,
}

/// An effect that the Writer's owner carries out.
pub enum WriterAction<T> {
    /// Give an answer.
    Answer(T, Result<WriteReceipt, WriteError>),
    /// Tell readers who wait that this position can be seen, and replicas that this is its record.
    Published(Position, Bytes),
    /// So many amounts of expired posts were not taken back in full, since counts would have gone below zero.
    Clamped(u64),
    /// Increments were set aside.
    Sidelined(SidelinedIncrements),
    /// The queues of the counters are that long now.
    QueuesChanged(QueueTotals),
    /// Sync, and report to [`super::Writer::synced`].
    Sync(SyncJob),
    /// There is now a write that waits for a replica's sync, or none any more.
    WantDurable(bool),
    /// Take a snapshot from here on, and report to [`super::Writer::snapshot_ended`].
    Snapshot(StateId, LiveLogOffset),
    /// No write will succeed until a restart: this happened.
    Poisoned(String),
    /// Look whether the files are still there, and report to [`super::Writer::files_checked`].
    CheckFiles(FileCheck),
    /// Files were taken away: the counts are in memory alone, and no write will succeed. This is gone.
    FilesLost(String),
}
