//! The bounds of what files and messages hold. Whoever wrote them has kept them, a store relies on it, and checksums do
//! not vouch for it.

use crate::{
    base::limits,
    data::entries::{CollectionId, CollectionKind, entry::is_frame_of},
    data::record::{EntryChange, EntryEffect, EntryValue, KeyedWrite, NamespaceChange, RecordBody, ValueEncoding},
    data::store::DedupName,
};
use std::collections::HashSet;

/// Checks all that a record says.
pub(super) fn check_body(body: &RecordBody<'_>) -> Result<(), String> {
    body.changes.iter().try_for_each(check_change)?;
    body.entries.iter().try_for_each(check_entry)?;
    check_keys(&body.entries)?;
    body.keyed_writes.iter().try_for_each(|KeyedWrite { namespace, .. }| DedupName::check_namespace(namespace))
}

fn check_change(change: &NamespaceChange<'_>) -> Result<(), String> {
    change.counts.iter().try_for_each(|counted| check_word(counted.word))
}

/// Refuses a key that comes twice: a store finds the entry that each change replaces in front of the record.
fn check_keys(entries: &[EntryChange<'_>]) -> Result<(), String> {
    if entries.len() < 2 {
        return Ok(());
    }
    let mut keys = HashSet::with_capacity(entries.len());
    match entries.iter().find(|change| !keys.insert((change.collection, change.key))) {
        Some(twice) => Err(format!("the key {:?} twice", twice.key)),
        None => Ok(()),
    }
}

/// Checks a word.
pub(super) fn check_word(word: &str) -> Result<(), String> {
    if (1..=limits::MAX_WORD_BYTES).contains(&word.len()) {
        Ok(())
    } else {
        Err(format!("a word of {} bytes", word.len()))
    }
}

/// Checks an entry, whatever becomes of it.
pub(super) fn check_entry(change: &EntryChange<'_>) -> Result<(), String> {
    let EntryChange { collection, key, effect } = change;
    if !(1..=limits::MAX_NAMESPACE_BYTES).contains(&collection.namespace.len()) {
        return Err(format!("a namespace of {} bytes", collection.namespace.len()));
    }
    // What is internal may have a key of its own making: the mark of a whole namespace has the empty one.
    if key.len() > limits::MAX_ENTRY_KEY_BYTES || (key.is_empty() && collection.kind.is_public()) {
        return Err(format!("a key of {} bytes", key.len()));
    }
    match effect {
        EntryEffect::Put(value) => check_value(collection, value),
        EntryEffect::SetExpiry(_) | EntryEffect::Remove(_) => Ok(()),
    }
}

/// The bytes of the largest value of a kind.
fn most_raw_bytes(kind: CollectionKind) -> usize {
    match kind {
        CollectionKind::Texts => limits::MAX_CLAIM_BYTES,
        CollectionKind::Cache | CollectionKind::Posts | CollectionKind::Removals => limits::LARGEST_MAX_VALUE_BYTES,
    }
}

fn check_value(collection: &CollectionId<'_>, value: &EntryValue<'_>) -> Result<(), String> {
    let EntryValue { content_type, counted, encoding, raw_bytes, hash, bytes, .. } = value;
    // It is sent as the value of a header, where a control character would begin another.
    let is_line = content_type.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    if content_type.len() > limits::MAX_CONTENT_TYPE_BYTES || !is_line {
        return Err(format!("a content type of {} bytes that is none", content_type.len()));
    }
    if *counted && !collection.kind.may_count() {
        return Err(format!("a counted entry of {}", collection.kind.name()));
    }
    let raw = *raw_bytes as usize;
    let fits = match encoding {
        ValueEncoding::Plain => raw == bytes.len(),
        // The number is what a reader allocates before it decodes.
        ValueEncoding::Zstd => raw <= most_raw_bytes(collection.kind) && is_frame_of(bytes, raw),
    };
    if !fits {
        return Err(format!("a value of {} bytes that is said to be one of {raw}", bytes.len()));
    }
    let hashed = if raw > limits::SHORT_VALUE_BYTES { 32 } else { 0 };
    if hash.len() == hashed { Ok(()) } else { Err(format!("a hash of {} bytes for a value of {raw}", hash.len())) }
}
