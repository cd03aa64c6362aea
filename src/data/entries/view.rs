//! The entries as readers find them, on the side that their guard shows.

use super::{
    CollectionId, CollectionKind, CollectionNumber,
    entry::{Entry, key_hash},
    table::EntryIndex,
    totals::{CollectionTotals, EntryTotals},
};
use crate::{
    base::atomics::{ArcSwap, ArcSwapOption, AtomicU64, Ordering},
    base::clock::LoggedTime,
    base::hash::WordHasher,
};
use hashbrown::HashTable;
use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

/// The collections of each kind by their namespaces.
pub(super) type CollectionMaps = [BTreeMap<Box<str>, (CollectionNumber, Arc<EntryIndex>)>; CollectionKind::ALL.len()];

/// The collections, which both sides share.
#[derive(Default)]
pub(crate) struct EntriesView {
    collections: ArcSwap<CollectionMaps>,
    entries: AtomicU64,
    bytes: AtomicU64,
    expired: AtomicU64,
    evicted: AtomicU64,
}

/// The entries of the record in flight on one side. Set only while nobody reads that side, and taken away once they
/// are in the collections.
pub(crate) struct EntriesSide {
    pending: ArcSwapOption<PendingEntries>,
}

impl Default for EntriesSide {
    fn default() -> Self {
        Self { pending: ArcSwapOption::empty() }
    }
}

/// Some hashes, and the entries that have them, with theirs.
type PieceEntries = (RangeInclusive<u64>, Vec<(u64, Entry)>);

/// The entries of one record.
pub(super) struct PendingEntries(HashTable<(u64, PendingEntry)>);

/// One of them: the new entry, or the one that is gone, which names the key.
pub(super) struct PendingEntry {
    entry: Entry,
    is_there: bool,
}

impl PendingEntry {
    pub(super) fn new(entry: Entry, is_there: bool) -> Self {
        Self { entry, is_there }
    }

    fn is(&self, number: CollectionNumber, key: &str) -> bool {
        self.entry.collection() == number && self.entry.has_key(key)
    }

    /// The entry of the key.
    fn there(&self) -> Option<&Entry> {
        Some(&self.entry).filter(|_| self.is_there)
    }
}

impl PendingEntries {
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self(HashTable::with_capacity(entries))
    }

    pub(super) fn insert(&mut self, hash: u64, entry: PendingEntry) {
        self.0.insert_unique(hash, (hash, entry), |(hash, _)| *hash);
    }

    fn get(&self, hash: u64, number: CollectionNumber, key: &str) -> Option<&PendingEntry> {
        self.0.find(hash, |(_, pending)| pending.is(number, key)).map(|(_, pending)| pending)
    }
}

impl EntriesSide {
    pub(super) fn set_pending(&self, pending: Option<PendingEntries>) {
        self.pending.store(pending.map(Arc::new));
    }
}

/// A page of a collection's entries.
#[derive(Clone, Debug, Default)]
pub struct EntryPage {
    /// The entries, in the order of their keys' hashes.
    pub entries: Vec<Entry>,
    /// The key behind which the next page begins; `None`: this was the last.
    pub next: Option<String>,
}

impl EntriesView {
    pub(super) fn set_collections(&self, collections: CollectionMaps) {
        self.collections.store(Arc::new(collections));
    }

    pub(super) fn set_totals(&self, totals: EntryTotals) {
        let EntryTotals { entries, bytes, expired, evicted } = totals;
        for (shown, value) in
            [(&self.entries, entries), (&self.bytes, bytes), (&self.expired, expired), (&self.evicted, evicted)]
        {
            shown.store(value, Ordering::Relaxed);
        }
    }

    /// The sums over all entries.
    pub(crate) fn totals(&self) -> EntryTotals {
        let value = |shown: &AtomicU64| shown.load(Ordering::Relaxed);
        EntryTotals {
            entries: value(&self.entries),
            bytes: value(&self.bytes),
            expired: value(&self.expired),
            evicted: value(&self.evicted),
        }
    }

    /// All collections, in no order.
    pub(crate) fn collections(&self) -> Vec<(CollectionKind, Box<str>)> {
        let maps = self.collections.load();
        let of_kind = |kind: CollectionKind| maps[kind as usize].keys().map(move |name| (kind, name.clone()));
        CollectionKind::ALL.into_iter().flat_map(of_kind).collect()
    }

    /// The namespaces that have entries of one kind, with how much there is, in the order of their names.
    pub(crate) fn collection_totals(&self, kind: CollectionKind) -> Vec<(Box<str>, CollectionTotals)> {
        let maps = self.collections.load();
        maps[kind as usize].iter().map(|(name, (_, index))| (name.clone(), index.totals())).collect()
    }

    /// The entry of a key, whatever its expiry. To be called under a guard of `side`.
    pub(crate) fn get(
        &self,
        side: &EntriesSide,
        hasher: WordHasher,
        collection: CollectionId<'_>,
        key: &str,
    ) -> Option<Entry> {
        // The maps have a collection before its first entry is shown, and until its last one is not shown any more.
        let maps = self.collections.load();
        let (number, index) = maps[collection.kind as usize].get(collection.namespace)?;
        let hash = key_hash(hasher, collection, key);
        // In this order: what is not pending here stands still in the collection.
        if let Some(pending) = side.pending.load().as_ref()
            && let Some(pending) = pending.get(hash, *number, key)
        {
            return pending.there().cloned();
        }
        index.get(hash, key)
    }

    /// The entries of a collection whose keys have certain hashes from `hash` on, in their order, and those hashes;
    /// `None` if there is no such collection. To be called under a guard of `side`.
    fn piece(
        &self,
        side: &EntriesSide,
        hasher: WordHasher,
        collection: CollectionId<'_>,
        hash: u64,
    ) -> Option<PieceEntries> {
        let maps = self.collections.load();
        let (number, index) = maps[collection.kind as usize].get(collection.namespace)?;
        let pending = side.pending.load();
        let hash_of = |entry: &Entry| key_hash(hasher, collection, entry.key());
        let (hashes, stored) = index.piece(hash);
        let stored = stored.into_iter().map(|entry| (hash_of(&entry), entry));
        let stored = stored.filter(|(hash, _)| hashes.contains(hash));
        let mut entries: Vec<(u64, Entry)> = match pending.as_ref() {
            None => stored.collect(),
            Some(pending) => {
                let is_pending = |hash, key: &str| pending.get(hash, *number, key).is_some();
                let come = pending.0.iter().filter_map(|(hash, pending)| {
                    let entry = pending.there().filter(|entry| entry.collection() == *number)?;
                    hashes.contains(hash).then(|| (*hash, entry.clone()))
                });
                stored.filter(|(hash, entry)| !is_pending(*hash, entry.key())).chain(come).collect()
            }
        };
        entries.sort_by(|(hash, entry), (other_hash, other)| (hash, entry.key()).cmp(&(other_hash, other.key())));
        Some((hashes, entries))
    }
}

/// A walk over entries, a piece at a time, each at one position.
pub(crate) struct CollectionWalk<'a> {
    collection: CollectionId<'a>,
    hasher: WordHasher,
    /// The least hash that is left; `None`: nothing is.
    next: Option<u64>,
    /// The key behind which it goes on among those of the same hash.
    after: Option<&'a str>,
}

impl<'a> CollectionWalk<'a> {
    /// A walk that goes on behind a key, whether or not it is still there.
    pub(crate) fn new(collection: CollectionId<'a>, hasher: WordHasher, after: Option<&'a str>) -> Self {
        let next = Some(after.map_or(0, |key| key_hash(hasher, collection, key)));
        Self { collection, hasher, next, after }
    }

    /// A walk from a hash on.
    pub(crate) fn at_hash(collection: CollectionId<'a>, hasher: WordHasher, next: Option<u64>) -> Self {
        Self { collection, hasher, next, after: None }
    }

    /// The least hash that is left; `None` once nothing is.
    pub(crate) fn next_hash(&self) -> Option<u64> {
        self.next
    }

    /// The entries of the next piece; `None` once there is none. To be called under a guard of `side`.
    pub(crate) fn step(&mut self, view: &EntriesView, side: &EntriesSide) -> Option<Vec<Entry>> {
        let from = self.next?;
        let (hashes, entries) = view.piece(side, self.hasher, self.collection, from)?;
        // Tables are cut and grow while a walk goes on, so it keeps to hashes and not to slots.
        self.next = hashes.end().checked_add(1);
        let after = (from, self.after.take());
        let is_left = |hash: u64, entry: &Entry| (hash, Some(entry.key())) > after;
        Some(entries.into_iter().filter(|(hash, entry)| is_left(*hash, entry)).map(|(_, entry)| entry).collect())
    }

    /// The entries behind where it stands that have not expired and whose keys begin with `prefix`, at most `limit`.
    /// `at_once` gives the entries of a piece under a guard.
    pub(crate) fn page(
        mut self,
        prefix: &str,
        limit: usize,
        now: LoggedTime,
        mut at_once: impl FnMut(&mut Self) -> Option<Vec<Entry>>,
    ) -> EntryPage {
        let mut page = EntryPage::default();
        while let Some(entries) = at_once(&mut self) {
            for entry in entries.into_iter().filter(|entry| !entry.has_expired(now) && entry.key().starts_with(prefix))
            {
                if page.entries.len() == limit {
                    page.next = page.entries.last().map(|last| last.key().to_owned());
                    return page;
                }
                page.entries.push(entry);
            }
        }
        page
    }
}
