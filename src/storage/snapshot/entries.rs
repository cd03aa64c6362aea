//! Blocks of entries: a collection, then versions, keys and values until the block ends.

use crate::{
    base::failpoint::inject,
    base::position::Sequence,
    data::entries::{CollectionId, Entry},
    data::record::{EntryChange, EntryEffect, EntryValue},
    data::store::Store,
    storage::bounds,
    storage::file_header,
};

/// Encodes entries of one collection as the payload of a block, until it has about `most` bytes or there are no more;
/// gives how many there are.
pub(super) fn encode(
    collection: CollectionId<'_>,
    entries: &mut impl Iterator<Item = Entry>,
    most: usize,
    payload: &mut Vec<u8>,
) -> u64 {
    file_header::encode_into(&collection, payload);
    let mut encoded = 0;
    while payload.len() < most
        && let Some(entry) = entries.next()
    {
        let mut version = entry.version();
        inject!(ImagesWithoutVersions, version = 0);
        file_header::encode_into(&(version, entry.key(), entry.as_value()), payload);
        encoded += 1;
    }
    encoded
}

/// Loads a block into a store. An error is a message for the report of damage.
pub(super) fn load(payload: &[u8], store: &mut Store) -> Result<(), String> {
    let (collection, mut rest): (CollectionId<'_>, &[u8]) = file_header::borrow_decode_front(payload)?;
    while !rest.is_empty() {
        let ((version, key, value), behind): ((Sequence, &str, EntryValue<'_>), &[u8]) =
            file_header::borrow_decode_front(rest)?;
        bounds::check_entry(&EntryChange { collection, key, effect: EntryEffect::Put(value) })?;
        store.load_entry(collection, key, &value, version)?;
        rest = behind;
    }
    Ok(())
}
