//! The outcome of a write: its receipt, or the reason why it has none.

use super::AckLevel;
use crate::{
    base::position::Position,
    data::counters::RateQuota,
    data::counts::{CountsRefusal, quotas::QuotaKind},
    data::entries::EntriesRefusal,
};

/// The result of an acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteReceipt {
    /// The record it is part of.
    pub position: Position,
    /// Words counted, repeats included; of a counter that is taken away, 1 if there was anything of it.
    pub words: u64,
    /// Distinct words; of such a counter, its value.
    pub distinct: u64,
    /// Tokens left out for their length; of such a counter, the increments that waited for it.
    pub left_out: u64,
    /// Entries that it changed.
    pub entries: u64,
    /// Replicas that have applied it.
    pub acks: u32,
    /// True if this repeats an earlier request, which alone counted.
    pub replayed: bool,
    /// For a post of a stream: the last number of the stream that is done.
    pub stream_last: Option<u64>,
    /// For an increment, and for a post with a rate: what is left of that; none for a repeat.
    pub quota: Option<RateQuota>,
}

impl WriteReceipt {
    /// The receipt of a write at `position` that has changed nothing yet.
    pub const fn at(position: Position) -> Self {
        let (words, distinct, left_out, entries, acks) = (0, 0, 0, 0, 0);
        let (replayed, stream_last, quota) = (false, None, None);
        Self { position, words, distinct, left_out, entries, acks, replayed, stream_last, quota }
    }
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
    /// The words of a post cannot be taken back: counts were lowered by hand since.
    #[error("taking the post's words back would take the count of {word:?} below zero")]
    BelowZero {
        /// The first word it happened to.
        word: String,
    },
    /// The entry is not in the state that the write depends on; nothing was applied.
    #[error("the entry is not in the state that the request depends on")]
    PreconditionFailed,
    /// The budget of entries is used up by what may not be evicted; nothing was applied.
    #[error("the memory for entries is used up, and nothing may be evicted")]
    EntriesFull,
    /// The database holds as many collections of entries as it may; nothing was applied.
    #[error("the database holds as many collections of entries as it may ({0})")]
    TooManyCollections(usize),
    /// The main queue of the counters is full; nothing was applied.
    #[error("the main queue of increments is full")]
    CounterQueueFull(Option<RateQuota>),
    /// The key is beyond its rate, and the queue for such is full; nothing was applied.
    #[error("the key has used up its rate, and the queue of excess increments is full")]
    RateExceeded(Option<RateQuota>),
    /// The namespace has taken as many posts as it may within a window; nothing was applied.
    #[error("the namespace has used up its rate of posts")]
    PostRateExceeded(RateQuota),
    /// As many keys have windows as may; nothing was applied.
    #[error("as many keys are counted by their rate as may be")]
    TooManyWindows,
    /// The namespace holds counters, which only increments change; nothing was applied.
    #[error("the namespace holds counters, whose keys are not folded as words are")]
    HoldsCounters,
    /// The namespace of the counters holds words that were counted; nothing was applied.
    #[error("the namespace counters holds words, which are folded, and the keys of counters are not")]
    HoldsWords,
    /// The database holds as many namespaces as it may.
    #[error("the database holds as many namespaces as it may ({0})")]
    TooManyNamespaces(usize),
    /// The quota of the namespace is used up; nothing was applied.
    #[error("the namespace has used up its quota of {0}")]
    NamespaceFull(QuotaKind),
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

impl From<CountsRefusal> for WriteError {
    fn from(refusal: CountsRefusal) -> Self {
        match refusal {
            CountsRefusal::Overflow { word } => Self::Overflow { word },
            CountsRefusal::BeyondBound { word } => Self::BeyondBound { word },
            CountsRefusal::BelowZero { word } => Self::BelowZero { word },
            CountsRefusal::TooManyNamespaces => Self::TooManyNamespaces(crate::base::limits::MAX_NAMESPACES),
            CountsRefusal::MemoryFull => Self::MemoryFull,
            CountsRefusal::NamespaceFull(kind) => Self::NamespaceFull(kind),
        }
    }
}

impl From<EntriesRefusal> for WriteError {
    fn from(refusal: EntriesRefusal) -> Self {
        match refusal {
            EntriesRefusal::PreconditionFailed => Self::PreconditionFailed,
            EntriesRefusal::BudgetFull => Self::EntriesFull,
            EntriesRefusal::TooManyCollections => Self::TooManyCollections(crate::base::limits::MAX_COLLECTIONS),
        }
    }
}
