//! STUB, being replaced behind `Leader`: the types below are the real interface.
//!
//! The write path of a leader: a bounded queue in front of one Writer.

use crate::{
    limits,
    position::{EpochTable, Position},
    store::Reader,
    tally::{Batch, Verb},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// What must have happened before a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckLevel {
    /// Appended to the log and applied: survives kill -9 of the process.
    Leader,
    /// Also synced to the disk: survives power loss.
    Disk,
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

/// The handle handlers write through. Cheap to clone.
#[derive(Clone)]
pub struct Leader {
    shared: Arc<Shared>,
}

struct Shared {
    reader: Reader,
    epochs: EpochTable,
    applied: watch::Sender<Position>,
}

impl Leader {
    /// STUB constructor, for tests of the layers above until the real one is there.
    pub fn stub(reader: Reader) -> Self {
        let applied = watch::Sender::new(Position::new(1, 0));
        Self { shared: Arc::new(Shared { reader, epochs: EpochTable::default(), applied }) }
    }

    /// Reads the counts.
    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// Past epochs of this history.
    pub fn epochs(&self) -> &EpochTable {
        &self.shared.epochs
    }

    /// Hands a batch to the Writer; from here it is the Writer's, also if the returned future is dropped.
    ///
    /// # Errors
    /// As [`WriteError`] says. `None` as level means the server's default.
    pub async fn submit(&self, batch: Batch, _level: Option<AckLevel>) -> Result<Receipt, WriteError> {
        let mut inner = self.shared.reader.inner.write();
        inner.position = Position::new(1, inner.position.sequence + 1);
        let position = inner.position;
        match batch.verb {
            Verb::Add => {
                let names = inner.names.entry(batch.namespace.to_string()).or_default();
                for counted in batch.tally.iter() {
                    *names.entry(counted.word.to_owned()).or_default() += counted.amount;
                }
                names.retain(|_, count| *count != 0);
            }
            Verb::RemoveWords => {
                for counted in batch.tally.iter() {
                    inner.names.get_mut(&*batch.namespace).map(|names| names.remove(counted.word));
                }
            }
            Verb::DropNamespace => {
                inner.names.remove(&*batch.namespace);
            }
        }
        drop(inner);
        self.shared.applied.send_replace(position);
        let distinct = batch.tally.len() as u64;
        Ok(Receipt {
            position,
            words: batch.words,
            distinct,
            left_out: batch.left_out,
            acks: 0,
            replayed: false,
            stream_last: None,
        })
    }

    /// Waits until this node has applied `sequence`; `false` if `patience` ended first.
    pub async fn reached(&self, sequence: u64, patience: Duration) -> bool {
        let mut applied = self.shared.applied.subscribe();
        let waited = tokio::time::timeout(patience, applied.wait_for(|at| at.sequence >= sequence)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Numbers for `/status`: serialised as they are.
    pub fn status(&self) -> Status {
        Status { poisoned: false, queued: 0, queue_limit: limits::DEFAULT_QUEUE_BATCHES }
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
