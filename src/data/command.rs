//! Writes before they are records: what the Writer takes, and what it answers.
//!
//! A handler makes a [`WriteBatch`] on its own core. From then on the batch belongs to the Writer.

mod ack_level;
mod outcome;

pub use ack_level::AckLevel;
pub use outcome::{WriteError, WriteReceipt};

use crate::data::{
    counts::{WriteOp, word_counts::WordCounts},
    entries::EntryWrite,
};

/// One write, ready for the Writer.
#[derive(Clone, Debug)]
pub struct WriteBatch {
    /// The namespace it goes to.
    pub namespace: Box<str>,
    /// The operation.
    pub op: WriteOp,
    /// True of a text that `POST /post` brings, to which the rate of posts applies.
    pub is_post: bool,
    /// Its words with their amounts.
    pub counts: WordCounts,
    /// Entries to be written, all or none; no key twice.
    pub entries: Vec<EntryWrite>,
    /// Words counted, repeats included.
    pub words: u64,
    /// Tokens that were too long to be counted.
    pub left_out: u64,
    /// Its name, if it may be repeated.
    pub key: Option<IdempotencyKey>,
    /// Fingerprint that a repeat must have too: over namespace, verb and decoded text
    /// ([`crate::base::hash::fingerprint`]).
    pub fingerprint: u128,
}

impl WriteBatch {
    /// Returns whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.entries.is_empty()
    }

    /// Bytes it counts for while it waits for the Writer.
    pub fn queued_bytes(&self) -> usize {
        let entries: usize = self.entries.iter().map(EntryWrite::queued_bytes).sum();
        self.counts.text_bytes() + 32 * self.counts.len() + entries
    }
}

/// The name of a write that may be repeated, by which it counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdempotencyKey {
    /// An idempotency key.
    Key(Box<str>),
    /// The `sequence`-th post of a producer's stream, from 1 without a gap.
    Stream {
        /// The stream's name.
        name: Box<str>,
        /// The post's number in the stream.
        sequence: u64,
    },
    /// The next lines of a text that comes in pieces. They count only where the stream stands just in front of them;
    /// the batch's fingerprint is the running hash over all lines up to `upto`.
    Lines {
        /// The stream's name.
        name: Box<str>,
        /// Lines in front of these.
        done: u64,
        /// The running hash over them; of no account if there are none.
        so_far: u128,
        /// Lines done with these.
        upto: u64,
        /// Words counted in front of these, repeats included.
        words: u64,
        /// Tokens left out in front of these.
        left_out: u64,
    },
}

impl IdempotencyKey {
    /// Gives the write's place: whether it is of a stream, the name, and the number at which the stream stands once it
    /// is settled; 0 for a key.
    pub fn dedup_key(&self) -> (bool, &str, u64) {
        match self {
            IdempotencyKey::Key(key) => (false, key, 0),
            IdempotencyKey::Stream { name, sequence } => (true, name, *sequence),
            IdempotencyKey::Lines { name, upto, .. } => (true, name, *upto),
        }
    }

    /// Returns whether its stream, if it is of one, begins with it.
    pub fn starts_stream(&self) -> bool {
        match self {
            IdempotencyKey::Key(_) => true,
            IdempotencyKey::Stream { sequence, .. } => *sequence <= 1,
            IdempotencyKey::Lines { done, .. } => *done == 0,
        }
    }
}
