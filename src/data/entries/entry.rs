//! One entry as it lies in memory: everything about it in one allocation, which is counted by those who hold it.
//!
//! ```text
//! header | upper part of the expiry, 2 bytes, if it expires | bytes as clients see them, 4, if it is compressed |
//! length of the media type, 1 byte | key | media type | SHA-256, if the value is long | value
//! ```
//!
//! A media type that many entries have is a number in place of its length, and takes no more than that.
//!
//! What only some entries have stands behind the header, which all of them pay for.

use super::{CollectionId, CollectionNumber};
use crate::{
    base::clock::LoggedTime,
    base::failpoint::inject,
    base::hash::WordHasher,
    base::limits,
    base::position::Sequence,
    data::record::{EntryValue, ValueEncoding},
};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, cell::RefCell, fmt};
use triomphe::ThinArc;
use zstd::bulk::Decompressor;

/// Media types that are stored as a number, that of their place behind [`FIRST_KNOWN`]: most entries have one of them.
const KNOWN_TYPES: [&str; 10] = [
    "application/json",
    "text/plain",
    "text/plain; charset=utf-8",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "text/html",
    "text/html; charset=utf-8",
    "image/jpeg",
    "image/png",
    "image/webp",
];
/// Above every length.
const FIRST_KNOWN: u8 = 128;
const _: () = assert!(limits::MAX_CONTENT_TYPE_BYTES < FIRST_KNOWN as usize);

/// The number of bytes of a SHA-256.
const HASH_BYTES: usize = 32;
/// The time of an entry that never expires.
const NEVER_MS: u64 = u64::MAX;
/// The latest time at which an entry expires: six bytes hold it. A later one, of the year 10000, becomes this.
const LAST_MS: u64 = (1 << 48) - 1;
/// Bytes that an entry takes beside its payload, about: the allocator's share and the counts of the allocation, its
/// slot, its place in an order of time.
const OVERHEAD_BYTES: usize = 16 + 16 + size_of::<EntryHeader>() + 16 + 12;

const COUNTED: u16 = 1 << 15;
const COMPRESSED: u16 = 1 << 14;
const EXPIRES: u16 = 1 << 13;
const KEY_BYTES: u16 = EXPIRES - 1;
const _: () = assert!(limits::MAX_ENTRY_KEY_BYTES <= KEY_BYTES as usize);

/// The part of an entry that has one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryHeader {
    version: Sequence,
    /// The lower part of the time at which it expires.
    expires_low: u32,
    collection: CollectionNumber,
    /// Bytes of the key, and flags above them.
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
    let flags = pointer.header.header.key_and_flags;
    usize::from(flags & KEY_BYTES) == key.len()
        && &pointer.slice[front_bytes(flags) + 1..][..key.len()] == key.as_bytes()
}

/// Bytes in front of the length of the media type.
const fn front_bytes(flags: u16) -> usize {
    (if flags & EXPIRES != 0 { 2 } else { 0 }) + (if flags & COMPRESSED != 0 { 4 } else { 0 })
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
        let expires = expires.map(|at| at.as_ms().min(LAST_MS));
        let is_compressed = encoding == ValueEncoding::Zstd;
        assert!(is_compressed || bytes.len() == raw_bytes as usize, "a value is as long as it says");
        let header = EntryHeader {
            version,
            expires_low: expires.unwrap_or_default() as u32,
            collection,
            key_and_flags: key.len() as u16
                | if counted { COUNTED } else { 0 }
                | if is_compressed { COMPRESSED } else { 0 }
                | if expires.is_some() { EXPIRES } else { 0 },
        };
        let known = KNOWN_TYPES.iter().position(|known| *known == content_type);
        let (length, spelled) = match known {
            Some(number) => (FIRST_KNOWN + number as u8, ""),
            None => (content_type.len() as u8, content_type),
        };
        let mut payload = Vec::with_capacity(7 + key.len() + spelled.len() + hash.len() + bytes.len());
        payload.extend(expires.into_iter().flat_map(|ms| ((ms >> 32) as u16).to_le_bytes()));
        payload.extend(is_compressed.then(|| raw_bytes.to_le_bytes()).into_iter().flatten());
        payload.push(length);
        for part in [key.as_bytes(), spelled.as_bytes(), hash, bytes] {
            payload.extend_from_slice(part);
        }
        Self(ThinArc::from_header_and_slice(header, &payload))
    }

    /// The same entry with another expiry.
    pub(super) fn with_expiry(&self, expires: Option<LoggedTime>) -> Self {
        let (mut value, mut version) = (EntryValue { expires, ..self.as_value() }, self.version());
        inject!(ExpiryMakesAVersion, version += 1);
        inject!(ExpiryEndsAClaim, value.counted = false);
        Self::new(self.collection(), self.key(), &value, version)
    }

    /// The key.
    pub fn key(&self) -> &str {
        str::from_utf8(&self.rest()[1..][..self.key_bytes()]).expect("it was made of a text")
    }

    /// The entry of an allocation.
    pub(super) const fn of_pointer(pointer: EntryPointer) -> Self {
        Self(pointer)
    }

    /// Returns whether both are one allocation.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.as_ptr() == other.0.as_ptr()
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
        if let Some(known) = self.known_type() {
            return known;
        }
        let at = 1 + self.key_bytes();
        str::from_utf8(&self.rest()[at..][..self.type_bytes()]).expect("it was made of a text")
    }

    /// The time at which it expires; `None`: never.
    pub fn expires(&self) -> Option<LoggedTime> {
        Some(self.expires_ms()).filter(|&ms| ms != NEVER_MS).map(LoggedTime::from_ms)
    }

    /// Returns whether its time has come at `now`.
    #[inline]
    pub fn has_expired(&self, now: LoggedTime) -> bool {
        let expires_ms = self.expires_ms();
        expires_ms <= now.as_ms() && expires_ms != NEVER_MS
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
        self.raw_u32() as usize
    }

    /// The form of [`Entry::stored`].
    pub fn encoding(&self) -> ValueEncoding {
        let is_compressed = self.header().key_and_flags & COMPRESSED != 0;
        if is_compressed { ValueEncoding::Zstd } else { ValueEncoding::Plain }
    }

    /// The value as it is stored.
    #[inline]
    pub fn stored(&self) -> &[u8] {
        &self.rest()[self.value_at()..]
    }

    /// The value as clients see it. Nothing is there to read where stored bytes cannot be decompressed.
    pub fn value(&self) -> Cow<'_, [u8]> {
        match self.encoding() {
            ValueEncoding::Plain => Cow::Borrowed(self.stored()),
            ValueEncoding::Zstd => Cow::Owned(decompressed(self.stored(), self.raw_bytes()).unwrap_or_default()),
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
            raw_bytes: self.raw_u32(),
            hash: self.stored_hash(),
            bytes: self.stored(),
        }
    }

    /// [`Entry::digest_weight`] in the collection with this factor.
    pub(super) fn weight(&self, hasher: WordHasher, collection_factor: u64) -> u64 {
        let EntryHeader { version, key_and_flags, .. } = *self.header();
        let key_and_flags = u64::from(key_and_flags & !EXPIRES);
        let numbers = [version, self.expires_ms(), u64::from(self.raw_u32()), key_and_flags].map(u64::to_le_bytes);
        let rest = match self.known_type() {
            None => hasher.hash_bytes(self.rest(), collection_factor),
            // As if it were spelled: nodes agree whichever types each of them knows.
            Some(known) => {
                let (key, behind) = self.rest()[1..].split_at(self.key_bytes());
                hasher.hash_parts(&[&[known.len() as u8], key, known.as_bytes(), behind], collection_factor)
            }
        };
        hasher.hash_bytes(numbers.as_flattened(), rest)
    }

    /// The contribution to the digest of its database: everything about it, in this collection.
    pub fn digest_weight(&self, hasher: WordHasher, collection: CollectionId<'_>) -> u64 {
        self.weight(hasher, digest_factor(hasher, collection))
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

    /// Bytes of the media type, unless it is a number.
    fn type_bytes(&self) -> usize {
        let length = self.rest()[0];
        if length < FIRST_KNOWN { usize::from(length) } else { 0 }
    }

    /// The media type, if it is stored as a number.
    fn known_type(&self) -> Option<&'static str> {
        let number = self.rest()[0].checked_sub(FIRST_KNOWN)?;
        Some(KNOWN_TYPES[usize::from(number)])
    }

    /// The payload from the length of the media type on.
    fn rest(&self) -> &[u8] {
        &self.payload()[front_bytes(self.header().key_and_flags)..]
    }

    fn expires_ms(&self) -> u64 {
        let EntryHeader { expires_low, key_and_flags, .. } = *self.header();
        match self.payload().first_chunk() {
            Some(high) if key_and_flags & EXPIRES != 0 => {
                u64::from(u16::from_le_bytes(*high)) << 32 | u64::from(expires_low)
            }
            _ => NEVER_MS,
        }
    }

    fn raw_u32(&self) -> u32 {
        let flags = self.header().key_and_flags;
        if flags & COMPRESSED != 0 {
            let front = &self.payload()[..front_bytes(flags)];
            return u32::from_le_bytes(*front.last_chunk().expect("a compressed value has it"));
        }
        self.plain_bytes()
    }

    /// Bytes of a value that is not compressed: what is left behind key, media type and, of a long one, hash.
    fn plain_bytes(&self) -> u32 {
        let behind = self.rest().len() - 1 - self.key_bytes() - self.type_bytes();
        let is_long = behind > HASH_BYTES + limits::SHORT_VALUE_BYTES;
        (if is_long { behind - HASH_BYTES } else { behind }) as u32
    }

    fn stored_hash(&self) -> &[u8] {
        let at = 1 + self.key_bytes() + self.type_bytes();
        &self.rest()[at..][..hash_bytes(self.raw_u32())]
    }

    fn value_at(&self) -> usize {
        1 + self.key_bytes() + self.type_bytes() + hash_bytes(self.raw_u32())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("key", &self.key()).field("header", self.header()).finish_non_exhaustive()
    }
}

/// The content of a frame, which has so many bytes.
fn decompressed(frame: &[u8], raw_bytes: usize) -> Option<Vec<u8>> {
    thread_local! {
        // Made once: of a small value, to make it takes longer than to use it.
        static DECODER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    DECODER.with_borrow_mut(|decoder| {
        let decoder = match decoder {
            Some(decoder) => decoder,
            None => decoder.insert(Decompressor::new().ok()?),
        };
        decoder.decompress(frame, raw_bytes).ok().filter(|value| value.len() == raw_bytes)
    })
}

/// Returns whether a frame can be that of a value of so many bytes, by what it says itself. Not every frame says it.
pub(crate) fn is_frame_of(frame: &[u8], raw_bytes: usize) -> bool {
    let stated = zstd::zstd_safe::get_frame_content_size(frame);
    stated.is_ok_and(|stated| stated.is_none_or(|stated| stated == raw_bytes as u64))
}

/// The number that sets the entries of a collection apart in the digest.
pub(super) fn digest_factor(hasher: WordHasher, collection: CollectionId<'_>) -> u64 {
    hasher.hash_bytes(collection.namespace.as_bytes(), (collection.kind as u64 + 1) << 48)
}

/// The hash of a key in its collection.
pub fn key_hash(hasher: WordHasher, collection: CollectionId<'_>, key: &str) -> u64 {
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
        for len in [0, 3, 31, 32, 33, 63, 64, 65, 95, 96, 97, 98, 1_000] {
            let bytes = &vec![7; len][..];
            let hash = &hash_of(bytes)[..hash_bytes(len as u32)];
            for expires in [None, Some(LoggedTime::ZERO), Some(LoggedTime::from_ms(LAST_MS))] {
                let stated = EntryValue { hash, expires, ..value(bytes) };
                let entry = Entry::new(3, "ключ/a", &stated, 9);
                assert_eq!(entry.as_value(), stated);
                assert_eq!((entry.key(), entry.version(), entry.collection()), ("ключ/a", 9, 3));
                assert_eq!((entry.hash(), entry.value().as_ref()), (hash_of(bytes), bytes));
                let frame = &zstd::bulk::compress(bytes, 1).expect("it fits memory")[..];
                let compressed = EntryValue { encoding: ValueEncoding::Zstd, bytes: frame, ..stated };
                let entry = Entry::new(3, "ключ/a", &compressed, 9);
                assert_eq!((entry.as_value(), entry.raw_bytes()), (compressed, len));
                assert_eq!((entry.hash(), entry.value().as_ref()), (hash_of(bytes), bytes));
            }
        }
    }

    #[test]
    fn an_entry_weighs_the_same_whether_its_media_type_is_known_or_spelled() {
        let (hasher, long) = (WordHasher::new(1), "x".repeat(limits::MAX_CONTENT_TYPE_BYTES));
        for content_type in ["", "text/plain", "application/json", "text/plain; charset=koi8-r", &long] {
            let entry = Entry::new(0, "key", &EntryValue { content_type, ..value(b"abc") }, 9);
            assert_eq!((entry.content_type(), entry.key(), entry.stored()), (content_type, "key", &b"abc"[..]));
            let spelled = [&[content_type.len() as u8][..], b"key", content_type.as_bytes(), b"abc"].concat();
            let numbers = [9, 5, 3, u64::from(COUNTED | 3)].map(u64::to_le_bytes);
            let expected = hasher.hash_bytes(numbers.as_flattened(), hasher.hash_bytes(&spelled, 7));
            assert_eq!(entry.weight(hasher, 7), expected, "{content_type}");
        }
    }

    #[test]
    fn a_frame_of_another_length_than_its_entry_says_is_not_read() {
        let frame = zstd::bulk::compress(&[7; 100], 1).expect("it fits memory");
        for (raw_bytes, read) in [(100, 100), (99, 0), (101, 0)] {
            assert_eq!(is_frame_of(&frame, raw_bytes), read == 100, "{raw_bytes}");
            let stated = EntryValue { encoding: ValueEncoding::Zstd, raw_bytes: raw_bytes as u32, ..value(&frame) };
            let entry = Entry::new(0, "k", &EntryValue { hash: &[1; 32], ..stated }, 1);
            assert_eq!(entry.value().len(), read, "{raw_bytes}");
        }
        assert!(!is_frame_of(b"", 0) && !is_frame_of(b"no frame at all", 15));
    }

    #[test]
    fn an_entry_expires_at_its_time_and_one_without_never() {
        let entry = Entry::new(0, "k", &value(b"abc"), 1);
        let expired = |entry: &Entry, ms| entry.has_expired(LoggedTime::from_ms(ms));
        assert_eq!([4, 5, 6].map(|ms| expired(&entry, ms)), [false, true, true]);
        let late = entry.with_expiry(Some(LoggedTime::from_ms(LAST_MS - 1)));
        assert_eq!([LAST_MS - 2, LAST_MS - 1].map(|ms| expired(&late, ms)), [false, true]);
        let kept = late.with_expiry(None);
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
