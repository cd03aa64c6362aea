//! Loading a snapshot's image into a store, before anybody reads.

use super::{ApplyError, DedupEntry, RecordLookups, StateId, Store};
use crate::{
    base::atomics::Ordering,
    base::clock::LoggedTime,
    base::position::Sequence,
    data::entries::CollectionId,
    data::record::{EntryValue, NamespaceChange, Record},
};

impl Store {
    /// Applies a record over an image whose counts may be newer than the record (`snapshot/`): right only once every
    /// record up to the image's end is applied, so the digest is checked there ([`Store::digest`]) and not here.
    ///
    /// # Errors
    /// [`ApplyError::Collections`] if it names more collections than any leader makes.
    pub fn apply_over_image(&mut self, record: &Record<'_>, chain: u64) -> Result<(), ApplyError> {
        let side = self.shared.gate.side().other();
        self.change(record, &RecordLookups::default(), side)?;
        self.show(record, chain, side);
        Ok(())
    }

    /// Takes counts of a snapshot's image. They are there once [`Store::end_image`] has been called; until then nobody
    /// may read or write.
    pub fn load_image(&mut self, change: &NamespaceChange<'_>) {
        self.counts.load(change);
    }

    /// Takes an entry of a snapshot's image, with the sequence of the record that has set its value, as
    /// [`Store::load_image`] takes counts.
    ///
    /// # Errors
    /// If there are more collections than any leader makes. The message is for the report of damage.
    pub fn load_entry(
        &mut self,
        collection: CollectionId<'_>,
        key: &str,
        value: &EntryValue<'_>,
        version: Sequence,
    ) -> Result<(), String> {
        self.entries.load(collection, key, value, version).map_err(|error| error.to_string())
    }

    /// A snapshot's image is whole; the position stays.
    pub fn end_image(&mut self) {
        self.entries.end_load(&self.shared.entries);
        self.counts.end_load(self.shared.sides.iter().map(|side| &side.counts));
        self.shared.bytes.store(self.counts.bytes() as u64, Ordering::Relaxed);
    }

    /// Files are read: entries that expire and are evicted are counted from now on.
    pub fn end_recovery(&mut self) {
        self.entries.reset_removals(&self.shared.entries);
    }

    /// Puts an entry of a snapshot's window back.
    pub fn restore_window(&mut self, entry: DedupEntry) {
        self.time_ms = self.time_ms.max(entry.time_ms);
        self.shared.window.lock().restore(entry);
    }

    /// Sets where the store stands once an image is loaded, with the time of its last record.
    pub fn set_state_id(&mut self, mark: StateId, time_ms: LoggedTime) {
        self.time_ms = self.time_ms.max(time_ms);
        self.shared.window.lock().expire(self.time_ms);
        self.state_id = mark;
        let side = self.shared.gate.side().other();
        self.shared.sides[side.index()].set(mark);
        self.shared.gate.flip();
        self.shared.sides[side.other().index()].set(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{hash::WordHasher, limits::MOST_COLLECTIONS, position::Position},
        data::entries::CollectionKind,
        data::record::{EntryChange, EntryEffect, RecordBody, ValueEncoding},
        data::store::DedupLimits,
    };

    const VALUE: EntryValue<'_> = EntryValue {
        content_type: "",
        expires: None,
        counted: false,
        encoding: ValueEncoding::Plain,
        raw_bytes: 0,
        hash: &[],
        bytes: b"",
    };

    /// Checksums do not vouch for what a record names: at 65,536 collections the store ended in a panic.
    #[test]
    fn a_record_that_names_more_collections_than_there_may_be_is_refused() {
        let names: Vec<String> = (0..=MOST_COLLECTIONS).map(|at| format!("n{at}")).collect();
        for (count, is_taken) in [(MOST_COLLECTIONS, true), (MOST_COLLECTIONS + 1, false)] {
            let puts = names[..count].iter().map(|name| EntryChange {
                collection: CollectionId::new(CollectionKind::Cache, name),
                key: "a",
                effect: EntryEffect::Put(VALUE),
            });
            let body = RecordBody { entries: puts.collect(), ..RecordBody::default() };
            let position = Position::new(1, 1);
            let record = Record { position, time_ms: LoggedTime::ZERO, digest_after: 0, body };
            let store = || Store::new(WordHasher::new(1), DedupLimits::default());
            let overflow = |applied: Result<(), ApplyError>| matches!(applied, Err(ApplyError::Collections(_)));
            assert_eq!(store().apply_over_image(&record, 0).is_ok(), is_taken, "{count}");
            assert_eq!(overflow(store().apply(&record, 0)), !is_taken, "{count}");
        }
    }

    #[test]
    fn an_image_with_more_collections_than_there_may_be_is_refused() {
        let mut store = Store::new(WordHasher::new(1), DedupLimits::default());
        let mut load = |at: usize, key| {
            let namespace = format!("n{at}");
            store.load_entry(CollectionId::new(CollectionKind::Cache, &namespace), key, &VALUE, 1)
        };
        for at in 0..MOST_COLLECTIONS {
            assert_eq!(load(at, "a"), Ok(()), "{at}");
        }
        assert!(load(MOST_COLLECTIONS, "a").is_err());
        assert_eq!(load(0, "b"), Ok(()), "its collection is there");
    }
}
