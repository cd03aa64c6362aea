//! An entry of the window, and its comparison with a write of the same name.

use super::DedupName;
use crate::{
    base::clock::LoggedTime, base::position::Position, data::command::IdempotencyKey, data::record::KeyedWrite,
};
use bincode::{Decode, Encode};
use std::cmp::Ordering;

/// An entry of the window: one key, or the last post of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DedupEntry {
    /// The key, or the stream's name, in its namespace.
    pub name: DedupName,
    /// The last number of the stream that is done; 0 for a key.
    pub stream_sequence: u64,
    /// Fingerprint that a repeat must have too.
    pub fingerprint: u128,
    /// For a stream: the hash over the fingerprints of all its posts.
    pub running: u128,
    /// The record it is part of.
    pub position: Position,
    /// The time at which it was logged.
    pub time_ms: LoggedTime,
    /// Words it counted, repeats included.
    pub words: u64,
    /// Distinct words it counted.
    pub distinct: u64,
    /// Tokens left out.
    pub left_out: u64,
    /// Entries it changed.
    pub entries: u64,
}

impl DedupEntry {
    pub(super) fn new(settled: &KeyedWrite<'_>, running: u128, position: Position, time_ms: LoggedTime) -> Self {
        Self {
            name: DedupName::new(settled.namespace, settled.name),
            stream_sequence: settled.stream_sequence,
            fingerprint: settled.fingerprint,
            running,
            position,
            time_ms,
            words: settled.words,
            distinct: settled.distinct,
            left_out: settled.left_out,
            entries: settled.entries,
        }
    }

    /// Compares a write with the remembered one of the same key or stream.
    pub fn compare(&self, once: &IdempotencyKey, fingerprint: u128) -> RepeatCheck {
        let expected = self.stream_sequence + 1;
        let sequence = match once {
            IdempotencyKey::Key(_) => return self.repeat_if(fingerprint),
            // Whoever sends lines has looked where the stream stands; if it stands elsewhere by now, another sends too.
            IdempotencyKey::Lines { done, .. } if *done != self.stream_sequence => {
                return RepeatCheck::Gap { expected };
            }
            IdempotencyKey::Lines { so_far, .. } => {
                return if *so_far == self.fingerprint { RepeatCheck::New } else { RepeatCheck::Reused };
            }
            IdempotencyKey::Stream { sequence, .. } => sequence,
        };
        match sequence.cmp(&expected) {
            Ordering::Equal => RepeatCheck::New,
            Ordering::Greater => RepeatCheck::Gap { expected },
            // Only the last post's body is remembered; of one further back the number alone tells.
            Ordering::Less if *sequence == self.stream_sequence => self.repeat_if(fingerprint),
            Ordering::Less => RepeatCheck::Repeat(self.clone()),
        }
    }

    fn repeat_if(&self, fingerprint: u128) -> RepeatCheck {
        if self.fingerprint == fingerprint { RepeatCheck::Repeat(self.clone()) } else { RepeatCheck::Reused }
    }
}

/// The window's answer about a keyed write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepeatCheck {
    /// The write has not counted yet.
    New,
    /// The write has counted before: it is answered as then.
    Repeat(DedupEntry),
    /// The key, or the number in the stream, has counted with another body.
    Reused,
    /// The stream continues with another number.
    Gap {
        /// The next number.
        expected: u64,
    },
    /// There is no room to remember it.
    Full,
}
