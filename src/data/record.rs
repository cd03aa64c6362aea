//! The content of one record of the log.
//!
//! A record states the **new absolute counts** of the words it touches and the keys it settles, so applying
//! it twice is harmless. It borrows its words from the bytes it was decoded from, or from the Writer's group.

use crate::{base::clock::LoggedTime, base::position::Position};
use bincode::{BorrowDecode, Encode};

/// A record: where it stands, and what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place; sequences have no gap.
    pub position: Position,
    /// The time at which it was written; never less than that of the record before.
    pub time_ms: LoggedTime,
    /// The digest of the whole database once it is applied.
    pub digest_after: u64,
    /// The changes.
    pub body: RecordBody<'a>,
}

/// The changes of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, BorrowDecode)]
pub struct RecordBody<'a> {
    /// Changed counts, by namespace.
    pub changes: Vec<NamespaceChange<'a>>,
    /// Keys and stream numbers it settles.
    pub keyed_writes: Vec<KeyedWrite<'a>>,
}

/// The changes of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct NamespaceChange<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// True if everything it held is taken away first.
    pub dropped: bool,
    /// New absolute counts; zero takes the word away.
    pub counts: Vec<WordCount<'a>>,
}

/// A word with its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct WordCount<'a> {
    /// The word.
    pub word: &'a str,
    /// Its absolute count.
    pub count: i64,
}

/// A write that must not count again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct KeyedWrite<'a> {
    /// Its key, or its stream's name.
    pub name: &'a str,
    /// Its number in the stream, from 1; 0 for a key.
    pub stream_sequence: u64,
    /// Fingerprint that a repeat must have too.
    pub fingerprint: u128,
    /// Words it counted, repeats included.
    pub words: u64,
    /// Distinct words it counted.
    pub distinct: u64,
    /// Tokens left out for their length.
    pub left_out: u64,
}
