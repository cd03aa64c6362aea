//! Writes of entries before they are records.

use super::CollectionKind;
use bytes::Bytes;

/// A change of one entry that a client asks for. Its namespace is that of the batch.
#[derive(Clone, Debug)]
pub struct EntryWrite {
    /// The kind of the collection.
    pub kind: CollectionKind,
    /// The key; empty: the Writer gives it one of its own (texts).
    pub key: Box<str>,
    /// The change.
    pub op: EntryOp,
    /// The state of the entry that the change depends on.
    pub condition: WriteCondition,
}

/// The change of an entry.
#[derive(Clone, Debug)]
pub enum EntryOp {
    /// Sets value and expiry.
    Put(NewValue, Expiry),
    /// Sets the expiry of an entry that is there, and leaves its value and version. An entry that is not there stays
    /// away.
    SetExpiry(Expiry),
    /// Takes the entry away, if it is there.
    Remove,
}

/// The time at which an entry expires, counted from the record that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It stays until it is taken away.
    Never,
    /// So many milliseconds of logged time after its record.
    AfterMs(u64),
}

/// A value as it is to be stored.
#[derive(Clone, Debug)]
pub struct NewValue {
    /// The bytes as a client gave them.
    pub bytes: Bytes,
    /// The media type to serve them under; empty: `application/octet-stream`.
    pub content_type: Box<str>,
    /// True if the batch's words are this entry's: they are taken back when it goes.
    pub counts: bool,
}

/// The state of an entry without which a write is refused. An entry that has expired is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WriteCondition {
    /// Whatever is there.
    #[default]
    Always,
    /// The entry is there (`If-Match: *`).
    Present,
    /// The entry is not there (`If-None-Match: *`).
    Absent,
    /// The entry is there with one of these tags (`If-Match`).
    Matches(Vec<Box<str>>),
    /// The entry is not there, or has none of these tags (`If-None-Match`).
    MatchesNone(Vec<Box<str>>),
}
