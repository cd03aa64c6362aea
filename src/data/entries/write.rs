//! Writes of entries before they are records.

use super::{
    CollectionKind, Entry, WriteLease,
    entry::{hash_bytes, hash_of},
};
use crate::{
    base::clock::LoggedTime,
    base::limits,
    data::record::{EntryValue, ValueEncoding},
};
use bytes::Bytes;
use std::cell::RefCell;
use zstd::bulk::Compressor;

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

impl Expiry {
    /// The expiry after so many seconds, 0 being for ever; `None` if they are no time to live.
    pub fn of_seconds(seconds: f64) -> Option<Self> {
        let ms = (seconds * 1e3).round();
        if !(0.0..=limits::MAX_TTL_MS as f64).contains(&ms) || seconds.is_sign_negative() && seconds != 0.0 {
            return None;
        }
        // What is asked for is never longer than wanted because it is short: half a millisecond is not for ever.
        Some(if seconds == 0.0 { Self::Never } else { Self::AfterMs((ms as u64).max(1)) })
    }
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
    /// A value of these bytes, under a media type (empty: `application/octet-stream`). Here, on the core of
    /// whoever makes it, its hash is worked out, and it is compressed where that pays.
    ///
    /// # Panics
    /// If it has 4 GiB or more: values are bounded.
    pub fn new(bytes: Bytes, content_type: &str) -> Self {
        let raw_bytes = u32::try_from(bytes.len()).expect("values are bounded");
        let hash = if hash_bytes(raw_bytes) == 0 { Box::default() } else { Box::from(hash_of(&bytes)) };
        let (encoding, bytes) = match compressed(&bytes) {
            Some(frame) => (ValueEncoding::Zstd, Bytes::from(frame)),
            None => (ValueEncoding::Plain, bytes),
        };
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

    /// The entry that it would be, for an answer with a value that nobody has stored.
    pub fn as_entry(&self, key: &str, expires: Option<LoggedTime>) -> Entry {
        Entry::new(0, key, &self.as_value(expires), 0)
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

/// A value as one frame of zstd, if it is large enough and becomes small enough by it.
fn compressed(value: &[u8]) -> Option<Vec<u8>> {
    if value.len() < limits::COMPRESSED_VALUE_BYTES {
        return None;
    }
    let most = value.len() / 100 * (100 - limits::LEAST_SAVED_PERCENT);
    thread_local! {
        // Made once: of a small value, to make it takes longer than to use it.
        static ENCODER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    }
    let mut frame = vec![0; most];
    let bytes = ENCODER.with_borrow_mut(|encoder| {
        let encoder = match encoder {
            Some(encoder) => encoder,
            None => encoder.insert(Compressor::new(limits::VALUE_ZSTD_LEVEL).ok()?),
        };
        // What has no room there is not worth it.
        encoder.compress_to_buffer(value, &mut frame).ok()
    })?;
    frame.truncate(bytes);
    Some(frame)
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
    /// Nobody has written the entry since this lease was given.
    Leased(WriteLease),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_value_is_stored_compressed_if_that_saves_a_quarter_and_reads_the_same() {
        let text = "Words come again, as they do in a text. ".repeat(1_000);
        let mut random = 7_u64;
        let noise = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 56) as u8
        });
        let noise: Vec<u8> = noise.take(8 << 10).collect();
        // Half of it is noise, so a half is saved; of nine tenths, a tenth.
        let half = [&noise[..], &[0; 8 << 10]].concat();
        let tenth = [&noise[..], &[0; 910]].concat();
        let least = limits::COMPRESSED_VALUE_BYTES;
        for (value, is_compressed) in [
            (&text.as_bytes()[..least - 1], false),
            (&text.as_bytes()[..least], true),
            (text.as_bytes(), true),
            (&noise, false),
            (&half, true),
            (&tenth, false),
            (&[], false),
        ] {
            let new = NewValue::new(Bytes::copy_from_slice(value), "text/plain");
            assert_eq!(
                new.stored_bytes() * 4 <= value.len() * 3 && !value.is_empty(),
                is_compressed,
                "{}",
                value.len()
            );
            let entry = Entry::new(0, "k", &new.as_value(None), 1);
            assert_eq!(entry.encoding() == ValueEncoding::Zstd, is_compressed);
            assert_eq!((entry.value().as_ref(), entry.raw_bytes()), (value, value.len()));
            assert_eq!(entry.hash(), hash_of(value));
        }
    }
}
