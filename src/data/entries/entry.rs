//! One entry as it lies in memory: everything about it in one allocation, which is counted by those who hold it.
//!
//! ```text
//! header | length of the media type, 1 byte | key | media type | SHA-256, if the value is long | value
//! ```

use super::{CollectionId, CollectionNumber};
use crate::{
    base::clock::LoggedTime,
    base::hash::WordHasher,
    base::limits,
    base::position::Sequence,
    data::record::{EntryValue, ValueEncoding},
};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, fmt};
use triomphe::ThinArc;

/// The number of bytes of a SHA-256.
const HASH_BYTES: usize = 32;
/// The time of an entry that never expires.
const NEVER_MS: u64 = u64::MAX;
/// Bytes that an entry takes beside its payload: the allocation's own, its slot, its place in an order of time.
const OVERHEAD_BYTES: usize = 16 + size_of::<EntryHeader>() + 48;

const COUNTED: u16 = 1 << 15;
const COMPRESSED: u16 = 1 << 14;
const KEY_BYTES: u16 = COMPRESSED - 1;
const _: () = assert!(limits::MAX_ENTRY_KEY_BYTES <= KEY_BYTES as usize);

/// The part of an entry that has one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryHeader {
    version: Sequence,
    expires_ms: u64,
    raw_bytes: u32,
    collection: CollectionNumber,
    /// Bytes of the key, and two flags above them.
    key_and_flags: u16,
}

/// An entry: key, value, and everything known of them. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry(EntryPointer);

/// The allocation of an entry, which slots of a table hold.
pub(super) type EntryPointer = ThinArc<EntryHeader, u8>;

/// Returns whether an allocation is the entry of this key.
#[inline]
pub(super) fn has_key(pointer: &EntryPointer, key: &str) -> bool {
    usize::from(pointer.header.header.key_and_flags & KEY_BYTES) == key.len()
        && &pointer.slice[1..][..key.len()] == key.as_bytes()
}

impl Entry {
    /// The entry that a record or a snapshot states. `collection` is the number of its collection in this process.
    ///
    /// # Panics
    /// If key, media type or hash are longer than their bounds: whoever decodes them checks that.
    pub(crate) fn new(collection: CollectionNumber, key: &str, value: &EntryValue<'_>, version: Sequence) -> Self {
        let EntryValue { content_type, expires, counted, encoding, raw_bytes, hash, bytes } = *value;
        assert!(key.len() <= limits::MAX_ENTRY_KEY_BYTES && content_type.len() <= limits::MAX_CONTENT_TYPE_BYTES);
        assert_eq!(hash.len(), hash_bytes(raw_bytes), "long values have a hash, short ones have none");
        let header = EntryHeader {
            version,
            expires_ms: expires.map_or(NEVER_MS, LoggedTime::as_ms),
            raw_bytes,
            collection,
            key_and_flags: key.len() as u16
                | if counted { COUNTED } else { 0 }
                | if encoding == ValueEncoding::Zstd { COMPRESSED } else { 0 },
        };
        let mut payload = Vec::with_capacity(1 + key.len() + content_type.len() + hash.len() + bytes.len());
        payload.push(content_type.len() as u8);
        for part in [key.as_bytes(), content_type.as_bytes(), hash, bytes] {
            payload.extend_from_slice(part);
        }
        Self(ThinArc::from_header_and_slice(header, &payload))
    }

    /// The same entry with another expiry.
    pub(super) fn with_expiry(&self, expires: Option<LoggedTime>) -> Self {
        let header = EntryHeader { expires_ms: expires.map_or(NEVER_MS, LoggedTime::as_ms), ..*self.header() };
        Self(ThinArc::from_header_and_slice(header, self.payload()))
    }

    /// The key.
    pub fn key(&self) -> &str {
        str::from_utf8(&self.payload()[1..][..self.key_bytes()]).expect("it was made of a text")
    }

    /// The entry of an allocation.
    pub(super) const fn of_pointer(pointer: EntryPointer) -> Self {
        Self(pointer)
    }

    /// The allocation of the entry.
    pub(super) fn into_pointer(self) -> EntryPointer {
        self.0
    }

    /// Returns whether this is its key.
    pub(super) fn has_key(&self, key: &str) -> bool {
        has_key(&self.0, key)
    }

    /// The media type to serve it under; empty: `application/octet-stream`.
    pub fn content_type(&self) -> &str {
        let at = 1 + self.key_bytes();
        str::from_utf8(&self.payload()[at..][..self.type_bytes()]).expect("it was made of a text")
    }

    /// The time at which it expires; `None`: never.
    pub fn expires(&self) -> Option<LoggedTime> {
        Some(self.header().expires_ms).filter(|&ms| ms != NEVER_MS).map(LoggedTime::from_ms)
    }

    /// Returns whether its time has come at `now`.
    #[inline]
    pub fn has_expired(&self, now: LoggedTime) -> bool {
        self.header().expires_ms <= now.as_ms() && self.header().expires_ms != NEVER_MS
    }

    /// Returns whether its words are in the counts.
    pub fn is_counted(&self) -> bool {
        self.header().key_and_flags & COUNTED != 0
    }

    /// The sequence of the record that has set its value.
    pub fn version(&self) -> Sequence {
        self.header().version
    }

    /// Bytes of the value as clients see it.
    pub fn raw_bytes(&self) -> usize {
        self.header().raw_bytes as usize
    }

    /// The form of [`Entry::stored`].
    pub fn encoding(&self) -> ValueEncoding {
        let is_compressed = self.header().key_and_flags & COMPRESSED != 0;
        if is_compressed { ValueEncoding::Zstd } else { ValueEncoding::Plain }
    }

    /// The value as it is stored.
    #[inline]
    pub fn stored(&self) -> &[u8] {
        &self.payload()[self.value_at()..]
    }

    /// The value as clients see it. Nothing is there to read where stored bytes cannot be decompressed.
    pub fn value(&self) -> Cow<'_, [u8]> {
        match self.encoding() {
            ValueEncoding::Plain => Cow::Borrowed(self.stored()),
            ValueEncoding::Zstd => {
                Cow::Owned(zstd::bulk::decompress(self.stored(), self.raw_bytes()).unwrap_or_default())
            }
        }
    }

    /// The SHA-256 of the value as clients see it.
    pub fn hash(&self) -> [u8; HASH_BYTES] {
        match self.stored_hash().first_chunk() {
            Some(hash) => *hash,
            None => hash_of(&self.value()),
        }
    }

    /// The tag by which clients know the value again: its hash in hexadecimal digits, without quotes.
    pub fn tag(&self) -> String {
        self.hash().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The number of its collection in this process.
    pub(super) fn collection(&self) -> CollectionNumber {
        self.header().collection
    }

    /// The entry as a record states it.
    pub fn as_value(&self) -> EntryValue<'_> {
        EntryValue {
            content_type: self.content_type(),
            expires: self.expires(),
            counted: self.is_counted(),
            encoding: self.encoding(),
            raw_bytes: self.header().raw_bytes,
            hash: self.stored_hash(),
            bytes: self.stored(),
        }
    }

    /// The contribution to the digest of its database: everything about it, in the collection with this factor.
    pub(super) fn weight(&self, hasher: WordHasher, collection_factor: u64) -> u64 {
        let EntryHeader { version, expires_ms, raw_bytes, key_and_flags, collection: _ } = *self.header();
        let numbers = [version, expires_ms, u64::from(raw_bytes), u64::from(key_and_flags)].map(u64::to_le_bytes);
        hasher.hash_bytes(numbers.as_flattened(), hasher.hash_bytes(self.payload(), collection_factor))
    }

    /// Memory that it takes, in bytes, its places in tables and orders included.
    pub fn memory_bytes(&self) -> usize {
        OVERHEAD_BYTES + self.payload().len()
    }

    fn header(&self) -> &EntryHeader {
        &self.0.header.header
    }

    fn payload(&self) -> &[u8] {
        &self.0.slice
    }

    fn key_bytes(&self) -> usize {
        usize::from(self.header().key_and_flags & KEY_BYTES)
    }

    fn type_bytes(&self) -> usize {
        usize::from(self.payload()[0])
    }

    fn stored_hash(&self) -> &[u8] {
        let at = 1 + self.key_bytes() + self.type_bytes();
        &self.payload()[at..][..hash_bytes(self.header().raw_bytes)]
    }

    fn value_at(&self) -> usize {
        1 + self.key_bytes() + self.type_bytes() + hash_bytes(self.header().raw_bytes)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("key", &self.key()).field("header", self.header()).finish_non_exhaustive()
    }
}

/// The hash of a key in its collection.
pub(super) fn key_hash(hasher: WordHasher, collection: CollectionId<'_>, key: &str) -> u64 {
    let salt = (collection.kind as u64 + 1) << 56;
    hasher.hash_bytes(key.as_bytes(), salt ^ hasher.namespace_factor(collection.namespace))
}

/// The SHA-256 of a value, by which clients know it again.
pub fn hash_of(value: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::digest(value).into()
}

/// Bytes of the hash that is stored beside a value of so many bytes.
pub const fn hash_bytes(raw_bytes: u32) -> usize {
    if raw_bytes as usize > limits::SHORT_VALUE_BYTES { HASH_BYTES } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: &[u8]) -> EntryValue<'_> {
        EntryValue {
            content_type: "text/plain",
            expires: Some(LoggedTime::from_ms(5)),
            counted: true,
            encoding: ValueEncoding::Plain,
            raw_bytes: bytes.len() as u32,
            hash: &[],
            bytes,
        }
    }

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        let long = [7; 65];
        let hash = hash_of(&long);
        for (bytes, hash) in [(&b""[..], &[][..]), (b"abc", &[]), (&long, &hash)] {
            let stated = EntryValue { hash, ..value(bytes) };
            let entry = Entry::new(3, "ключ/a", &stated, 9);
            assert_eq!(entry.as_value(), stated);
            assert_eq!((entry.key(), entry.version(), entry.collection()), ("ключ/a", 9, 3));
            assert_eq!((entry.hash(), entry.value().as_ref()), (hash_of(bytes), bytes));
        }
    }

    #[test]
    fn an_entry_expires_at_its_time_and_one_without_never() {
        let entry = Entry::new(0, "k", &value(b"abc"), 1);
        let expired = |entry: &Entry, ms| entry.has_expired(LoggedTime::from_ms(ms));
        assert_eq!([4, 5, 6].map(|ms| expired(&entry, ms)), [false, true, true]);
        let kept = entry.with_expiry(None);
        assert!(!expired(&kept, u64::MAX));
        assert_eq!((kept.stored(), kept.version(), kept.expires()), (entry.stored(), 1, None));
    }

    #[test]
    fn everything_about_an_entry_has_weight() {
        let hasher = WordHasher::new(1);
        let weight = |key, stated: EntryValue<'_>, version| Entry::new(0, key, &stated, version).weight(hasher, 5);
        let first = weight("k", value(b"abc"), 1);
        for other in [
            weight("l", value(b"abc"), 1),
            weight("k", value(b"abd"), 1),
            weight("k", value(b"abc"), 2),
            weight("k", EntryValue { expires: None, ..value(b"abc") }, 1),
            weight("k", EntryValue { counted: false, ..value(b"abc") }, 1),
            weight("k", EntryValue { content_type: "", ..value(b"abc") }, 1),
            Entry::new(0, "k", &value(b"abc"), 1).weight(hasher, 6),
        ] {
            assert_ne!(first, other);
        }
        assert_eq!(Entry::new(9, "k", &value(b"abc"), 1).weight(hasher, 5), first, "a number of this process has none");
    }
}
