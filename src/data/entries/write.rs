//! Writes of entries before they are records.

use super::{
    CollectionKind,
    entry::{hash_bytes, hash_of},
};
use crate::{
    base::clock::LoggedTime,
    data::record::{EntryValue, ValueEncoding},
};
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

impl EntryWrite {
    /// Bytes that it counts for while it waits for the Writer, and about as many in a record.
    pub fn queued_bytes(&self) -> usize {
        let value = if let EntryOp::Put(value, _) = &self.op { value.stored_bytes() } else { 0 };
        128 + self.key.len() + value
    }
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
    bytes: Bytes,
    content_type: Box<str>,
    counts: bool,
    encoding: ValueEncoding,
    raw_bytes: u32,
    hash: Box<[u8]>,
}

impl NewValue {
    /// A value of these bytes, under a media type (empty: `application/octet-stream`). Its hash is worked out here, on
    /// the core of whoever makes it.
    ///
    /// # Panics
    /// If it has 4 GiB or more: values are bounded.
    pub fn new(bytes: Bytes, content_type: &str) -> Self {
        let raw_bytes = u32::try_from(bytes.len()).expect("values are bounded");
        let hash = if hash_bytes(raw_bytes) == 0 { Box::default() } else { Box::from(hash_of(&bytes)) };
        let encoding = ValueEncoding::Plain;
        Self { bytes, content_type: content_type.into(), counts: false, encoding, raw_bytes, hash }
    }

    /// The same value, whose words are those of the batch: they are taken back when the entry goes.
    #[must_use]
    pub fn counted(self) -> Self {
        Self { counts: true, ..self }
    }

    /// The SHA-256 of the value as it was given.
    pub fn hash(&self) -> [u8; 32] {
        // A short one has none beside it, and is stored as it is.
        self.hash.first_chunk().copied().unwrap_or_else(|| hash_of(&self.bytes))
    }

    /// The media type to serve it under; empty: `application/octet-stream`.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// Returns whether the words of the batch are its own.
    pub fn counts(&self) -> bool {
        self.counts
    }

    /// Bytes of it as it is stored.
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The value as a record states it.
    pub(super) fn as_value(&self, expires: Option<LoggedTime>) -> EntryValue<'_> {
        EntryValue {
            content_type: &self.content_type,
            expires,
            counted: self.counts,
            encoding: self.encoding,
            raw_bytes: self.raw_bytes,
            hash: &self.hash,
            bytes: &self.bytes,
        }
    }
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
