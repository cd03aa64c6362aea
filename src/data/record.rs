//! The content of one record of the log.
//!
//! A record states the **new absolute counts** of the words it touches, the new values of the entries, and the keys it
//! settles, so applying it twice is harmless. It borrows its words and values from the bytes it was decoded from, or
//! from the Writer's group.

use crate::{base::clock::LoggedTime, base::position::Position, data::entries::CollectionId};
use bincode::{BorrowDecode, Decode, Encode};

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
    /// Changed entries, each key at most once.
    pub entries: Vec<EntryChange<'a>>,
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

/// The change of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct EntryChange<'a> {
    /// The collection.
    pub collection: CollectionId<'a>,
    /// The key.
    pub key: &'a str,
    /// The new state.
    pub effect: EntryEffect<'a>,
}

/// The state of an entry once a record is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum EntryEffect<'a> {
    /// It has this value, and the record's sequence as its version.
    Put(EntryValue<'a>),
    /// It expires then, if it is there; value and version stay.
    SetExpiry(Option<LoggedTime>),
    /// It is not there.
    Remove(RemovalCause),
}

/// The reason why an entry was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RemovalCause {
    /// A client has asked for it.
    Deleted,
    /// Its time had come.
    Expired,
    /// Its room was needed.
    Evicted,
}

/// The value of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct EntryValue<'a> {
    /// The media type to serve it under; empty: `application/octet-stream`.
    pub content_type: &'a str,
    /// The time at which it expires; `None`: never.
    pub expires: Option<LoggedTime>,
    /// True if its words are in the counts.
    pub counted: bool,
    /// The form of `bytes`.
    pub encoding: ValueEncoding,
    /// Bytes of the value as clients see it.
    pub raw_bytes: u32,
    /// SHA-256 of the value as clients see it; empty where it is so short that its reader works it out
    /// ([`crate::base::limits::SHORT_VALUE_BYTES`]).
    pub hash: &'a [u8],
    /// The value as it is stored.
    pub bytes: &'a [u8],
}

/// The form in which a value is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum ValueEncoding {
    /// As it came.
    #[default]
    Plain,
    /// One frame of zstd.
    Zstd,
}

/// A write that must not count again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct KeyedWrite<'a> {
    /// The namespace that it went to; empty in a record of format 1, which does not say.
    pub namespace: &'a str,
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
    /// Entries it changed; 0 in a record of format 1.
    pub entries: u64,
}
