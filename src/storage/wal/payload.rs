//! The payload of a record, in its two forms.
//!
//! Kind 1, of format 1, is bincode of counts and keyed writes. Kind 2 is sections, each of one kind of data:
//!
//! ```text
//! 0  u8 tag   1  u32 length   5  bincode of a list
//! ```
//!
//! Tags ascend and none comes twice; a section without content is left out. A tag that is not known is refused, since
//! nobody can say what a record means of which a part is unknown.

use crate::{
    data::record::{KeyedWrite, NamespaceChange, RecordBody},
    storage::bounds,
    storage::file_header::{borrow_decode, encode_into, u32_at},
};
use bincode::{BorrowDecode, Encode};

/// A body as format 1 has it: counts and keyed writes, without their namespaces.
pub(super) const KIND_COUNTS: u16 = 1;
/// A body in sections.
pub(super) const KIND_SECTIONS: u16 = 2;

const TAG_COUNTS: u8 = 1;
const TAG_ENTRIES: u8 = 2;
const TAG_KEYED_WRITES: u8 = 3;
/// Tag and length.
const SECTION_HEADER_BYTES: usize = 5;

/// A keyed write as format 1 has it.
#[derive(BorrowDecode)]
struct KeyedWriteV1<'a> {
    name: &'a str,
    stream_sequence: u64,
    fingerprint: u128,
    words: u64,
    distinct: u64,
    left_out: u64,
}

impl<'a> From<KeyedWriteV1<'a>> for KeyedWrite<'a> {
    fn from(write: KeyedWriteV1<'a>) -> Self {
        let KeyedWriteV1 { name, stream_sequence, fingerprint, words, distinct, left_out } = write;
        Self { namespace: "", name, stream_sequence, fingerprint, words, distinct, left_out, entries: 0 }
    }
}

/// Encodes a body in sections at the end of `bytes`.
pub(super) fn encode(body: &RecordBody<'_>, bytes: &mut Vec<u8>) {
    section(TAG_COUNTS, &body.changes, bytes);
    section(TAG_ENTRIES, &body.entries, bytes);
    section(TAG_KEYED_WRITES, &body.keyed_writes, bytes);
}

fn section<T: Encode>(tag: u8, list: &Vec<T>, bytes: &mut Vec<u8>) {
    if list.is_empty() {
        return;
    }
    let start = bytes.len();
    // The length is filled in last: what is encoded in place is never copied.
    bytes.extend_from_slice(&[tag, 0, 0, 0, 0]);
    encode_into(list, bytes);
    let length = bytes.len() - start - SECTION_HEADER_BYTES;
    let length = u32::try_from(length).expect("groups are closed long before");
    bytes[start + 1..start + SECTION_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Decodes a payload of a kind that is known, and checks its bounds. An error is a message for the report of damage.
pub(super) fn decode(kind: u16, payload: &[u8]) -> Result<RecordBody<'_>, String> {
    // Which kinds there are is checked with the header, so that an unknown one is refused before its payload is read.
    let body = if kind == KIND_COUNTS { decode_counts(payload)? } else { decode_sections(payload)? };
    bounds::check_body(&body)?;
    Ok(body)
}

fn decode_counts(payload: &[u8]) -> Result<RecordBody<'_>, String> {
    let (changes, keyed_writes): (Vec<NamespaceChange<'_>>, Vec<KeyedWriteV1<'_>>) = borrow_decode(payload)?;
    let keyed_writes = keyed_writes.into_iter().map(KeyedWrite::from).collect();
    Ok(RecordBody { changes, entries: Vec::new(), keyed_writes })
}

fn decode_sections(mut rest: &[u8]) -> Result<RecordBody<'_>, String> {
    let (mut body, mut last) = (RecordBody::default(), 0);
    while !rest.is_empty() {
        let cut = || "it ends inside a section".to_owned();
        let header = rest.first_chunk::<SECTION_HEADER_BYTES>().ok_or_else(cut)?;
        let (tag, length) = (header[0], u32_at(header, 1) as usize);
        let content = rest[SECTION_HEADER_BYTES..].get(..length).ok_or_else(cut)?;
        // One order, so that equal records have equal bytes, and with them equal chains.
        if tag <= last {
            return Err(format!("section {tag} behind section {last}"));
        }
        match tag {
            TAG_COUNTS => body.changes = borrow_decode(content)?,
            TAG_ENTRIES => body.entries = borrow_decode(content)?,
            TAG_KEYED_WRITES => body.keyed_writes = borrow_decode(content)?,
            _ => return Err(format!("a section with tag {tag}")),
        }
        (last, rest) = (tag, &rest[SECTION_HEADER_BYTES + length..]);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::LoggedTime,
        base::limits,
        data::entries::{CollectionId, CollectionKind},
        data::record::{EntryChange, EntryEffect, EntryValue, RemovalCause, ValueEncoding, WordCount},
    };

    const VALUE: EntryValue<'_> = EntryValue {
        content_type: "text/plain",
        expires: Some(LoggedTime::from_ms(9)),
        counted: true,
        encoding: ValueEncoding::Plain,
        raw_bytes: 5,
        hash: &[],
        bytes: b"hello",
    };
    const KEYED: KeyedWrite<'_> = KeyedWrite {
        namespace: "words",
        name: "key",
        stream_sequence: 0,
        fingerprint: 1 << 100,
        words: 1,
        distinct: 1,
        left_out: 0,
        entries: 2,
    };

    fn put<'a>(kind: CollectionKind, key: &'a str, value: EntryValue<'a>) -> EntryChange<'a> {
        EntryChange { collection: CollectionId::new(kind, "words"), key, effect: EntryEffect::Put(value) }
    }

    fn body() -> RecordBody<'static> {
        let counts = vec![WordCount { word: "hello", count: 1 }];
        let post = put(CollectionKind::Posts, "a/b", VALUE);
        let kept = EntryChange { effect: EntryEffect::SetExpiry(None), key: "b", ..post };
        let expired = EntryChange { effect: EntryEffect::Remove(RemovalCause::Expired), key: "", ..post };
        let expired = EntryChange { collection: CollectionId::new(CollectionKind::Texts, "words"), ..expired };
        RecordBody {
            changes: vec![NamespaceChange { namespace: "words", dropped: false, counts }],
            entries: vec![post, kept, expired],
            keyed_writes: vec![KEYED],
        }
    }

    fn encoded(body: &RecordBody<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(body, &mut bytes);
        bytes
    }

    #[test]
    fn a_body_comes_back_whatever_parts_it_has() {
        for parts in 0..8 {
            let mut body = body();
            if parts & 1 == 0 {
                body.changes.clear();
            }
            if parts & 2 == 0 {
                body.entries.clear();
            }
            if parts & 4 == 0 {
                body.keyed_writes.clear();
            }
            let bytes = encoded(&body);
            assert_eq!(decode(KIND_SECTIONS, &bytes), Ok(body), "{parts}");
            assert_eq!(bytes.is_empty(), parts == 0);
        }
    }

    #[test]
    fn a_section_that_is_unknown_cut_or_out_of_order_is_refused() {
        let (whole, unknown) = (encoded(&body()), [9, 1, 0, 0, 0, 0]);
        let refused = |bytes: &[u8]| decode(KIND_SECTIONS, bytes).expect_err("refused");
        assert_eq!(refused(&[&*whole, &unknown].concat()), "a section with tag 9");
        assert_eq!(refused(&[&*whole, &whole].concat()), "section 1 behind section 3");
        assert_eq!(refused(&[0, 0, 0, 0, 0]), "section 0 behind section 0");
        assert_eq!(refused(&whole[..whole.len() - 1]), "it ends inside a section");
        assert_eq!(refused(&[1, 0, 0]), "it ends inside a section");
    }

    #[test]
    fn a_body_of_format_1_is_read_without_namespaces_for_its_keys() {
        let RecordBody { changes, .. } = body();
        let mut bytes = Vec::new();
        encode_into(&(&changes, vec![("key", 0_u64, 1_u128 << 100, 1_u64, 1_u64, 0_u64)]), &mut bytes);
        let keyed = KeyedWrite { namespace: "", entries: 0, ..KEYED };
        let expected = RecordBody { changes, entries: Vec::new(), keyed_writes: vec![keyed] };
        assert_eq!(decode(KIND_COUNTS, &bytes), Ok(expected));
    }

    #[test]
    fn an_entry_that_no_store_takes_is_refused() {
        let (long, hash) = ("k".repeat(limits::MAX_ENTRY_KEY_BYTES + 1), [7; 32]);
        let long_type = "t".repeat(limits::MAX_CONTENT_TYPE_BYTES + 1);
        let large = vec![0; limits::SHORT_VALUE_BYTES + 1];
        let large = EntryValue { bytes: &large, raw_bytes: large.len() as u32, hash: &hash, ..VALUE };
        let frame = |raw_bytes| zstd::bulk::compress(&vec![7; raw_bytes], 1).expect("it fits memory");
        let (small, most, too_large) =
            (frame(100), frame(limits::LARGEST_MAX_VALUE_BYTES), frame(limits::LARGEST_MAX_VALUE_BYTES + 1));
        let zstd = EntryValue { encoding: ValueEncoding::Zstd, raw_bytes: 100, hash: &hash, bytes: &small, ..VALUE };
        let of_frame = |raw_bytes: usize, bytes| EntryValue { raw_bytes: raw_bytes as u32, bytes, ..zstd };
        let too_large = of_frame(limits::LARGEST_MAX_VALUE_BYTES + 1, &*too_large);
        let posts = |value| put(CollectionKind::Posts, "a", value);
        let elsewhere = EntryChange { collection: CollectionId::new(CollectionKind::Posts, ""), ..posts(VALUE) };
        for (name, sound, change) in [
            ("plain", true, posts(VALUE)),
            ("hashed", true, posts(large)),
            ("compressed", true, posts(zstd)),
            ("longest key", true, put(CollectionKind::Posts, &long[1..], VALUE)),
            ("long key", false, put(CollectionKind::Posts, &long, VALUE)),
            ("no key", false, put(CollectionKind::Posts, "", VALUE)),
            ("no key of a mark", true, put(CollectionKind::Texts, "", VALUE)),
            ("no namespace", false, elsewhere),
            ("long type", false, posts(EntryValue { content_type: &long_type, ..VALUE })),
            ("type of two lines", false, posts(EntryValue { content_type: "a\r\nb", ..VALUE })),
            ("counted cache", false, put(CollectionKind::Cache, "a", VALUE)),
            ("cache", true, put(CollectionKind::Cache, "a", EntryValue { counted: false, ..VALUE })),
            ("other length", false, posts(EntryValue { raw_bytes: 6, ..VALUE })),
            ("short hash", false, posts(EntryValue { hash: &hash[1..], ..large })),
            ("no hash", false, posts(EntryValue { hash: &[], ..large })),
            ("hashed claim", true, put(CollectionKind::Texts, "a", large)),
            ("needless hash", false, posts(EntryValue { hash: &hash, ..VALUE })),
            ("bomb", false, posts(EntryValue { raw_bytes: u32::MAX, ..zstd })),
            ("frame of another length", false, posts(EntryValue { raw_bytes: 101, ..zstd })),
            ("no frame", false, posts(EntryValue { bytes: b"hello", ..zstd })),
            ("largest", true, posts(of_frame(limits::LARGEST_MAX_VALUE_BYTES, &most))),
            ("too large", false, posts(too_large)),
            ("as large as a claim", true, put(CollectionKind::Texts, "a", too_large)),
        ] {
            let bytes = encoded(&RecordBody { entries: vec![change], ..RecordBody::default() });
            assert_eq!(decode(KIND_SECTIONS, &bytes).is_ok(), sound, "{name}");
        }
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let (post, gone) = (put(CollectionKind::Posts, "a", VALUE), EntryEffect::Remove(RemovalCause::Deleted));
        let elsewhere = EntryChange { collection: CollectionId::new(CollectionKind::Posts, "other"), ..post };
        for (sound, second) in [
            (true, put(CollectionKind::Posts, "b", VALUE)),
            (true, put(CollectionKind::Texts, "a", VALUE)),
            (true, elsewhere),
            (false, post),
            (false, EntryChange { effect: gone, ..post }),
        ] {
            let bytes = encoded(&RecordBody { entries: vec![post, second], ..RecordBody::default() });
            assert_eq!(decode(KIND_SECTIONS, &bytes).is_ok(), sound, "{second:?}");
        }
    }

    #[test]
    fn a_namespace_with_a_slash_is_refused_for_a_key() {
        let keyed_writes = vec![KeyedWrite { namespace: "a/b", ..KEYED }];
        let bytes = encoded(&RecordBody { keyed_writes, ..RecordBody::default() });
        assert!(decode(KIND_SECTIONS, &bytes).is_err());
    }
}
