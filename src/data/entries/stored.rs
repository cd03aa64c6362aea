//! The entries of all collections: the part of the store that knows keys and values.
//!
//! The store calls it in the two passes of a record. [`StoredEntries::change`] shows the record's entries on the side
//! that nobody reads, as a table of their own in front of the collections. Once every reader has moved there,
//! [`StoredEntries::reconcile`] puts them into the collections, which both sides share, and takes the table away. A
//! reader therefore looks at the pending entries of its side first, and then into the collection: for a key of the
//! record in flight the first answers, and for any other the second stands still.

use super::{
    CollectionId, CollectionKind, CollectionNumber,
    entry::{Entry, digest_factor, key_hash},
    eviction_order::EvictionOrder,
    table::{EntryIndex, EntryIndexWriter},
    totals::EntryTotals,
    view::{CollectionMaps, EntriesSide, EntriesView, PendingEntries, PendingEntry},
};
use crate::{
    base::clock::LoggedTime,
    base::failpoint::inject,
    base::hash::WordHasher,
    base::limits,
    base::position::Sequence,
    data::record::{EntryChange, EntryEffect, EntryValue, RemovalCause},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
    sync::Arc,
};

/// The entries as the Writer of the store holds them.
pub(crate) struct StoredEntries {
    hasher: WordHasher,
    collections: [BTreeMap<Box<str>, StoredCollection>; CollectionKind::ALL.len()],
    numbers: CollectionNames,
    /// What may be evicted.
    evictable: EvictionOrder,
    /// What holds words in the counts, and expires.
    expiring_claims: EvictionOrder,
    /// Entries that hold words in the counts of each namespace that has any.
    claims: BTreeMap<Box<str>, u64>,
    /// Namespaces that have marks of removals, and no entry that holds words.
    idle_removals: BTreeSet<Box<str>>,
    evictable_bytes: i64,
    digest: u64,
    totals: EntryTotals,
    /// The changes of the record at hand.
    changes: Vec<AppliedChange>,
}

/// The kind and the namespace of each number; `None`: free to be given again.
type CollectionNames = Vec<Option<(CollectionKind, Arc<str>)>>;

struct StoredCollection {
    number: CollectionNumber,
    index: EntryIndexWriter,
}

/// One change of a record, between its two passes.
struct AppliedChange {
    collection: CollectionNumber,
    hash: u64,
    old: Option<Entry>,
    new: Option<Entry>,
    cause: Option<RemovalCause>,
}

/// Facts about the change of an entry that whoever has planned its record has found out already.
#[derive(Clone, Copy)]
pub(crate) struct EntryLookup<'a> {
    /// The hash of the key.
    pub(crate) hash: u64,
    /// The entry that is there.
    pub(crate) old: Option<&'a Entry>,
    /// The new entry, if it was made.
    pub(crate) new: Option<&'a Entry>,
    /// The contributions of the old and the new entry to the digest.
    pub(crate) weights: [u64; 2],
}

/// There would be more collections than any leader makes ([`limits::MOST_COLLECTIONS`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {max} collections of entries", max = limits::MOST_COLLECTIONS)]
pub struct CollectionOverflow;

/// An entry's way to expire: the entry, and the collection it is in.
#[derive(Clone, Debug)]
pub(crate) struct DueEntry {
    pub(crate) kind: CollectionKind,
    pub(crate) namespace: Arc<str>,
    pub(crate) entry: Entry,
}

impl StoredEntries {
    pub(crate) fn new(hasher: WordHasher) -> Self {
        Self {
            hasher,
            collections: Default::default(),
            numbers: Vec::new(),
            evictable: EvictionOrder::default(),
            expiring_claims: EvictionOrder::default(),
            claims: BTreeMap::new(),
            idle_removals: BTreeSet::new(),
            evictable_bytes: 0,
            digest: 0,
            totals: EntryTotals::default(),
            changes: Vec::new(),
        }
    }

    /// The entry of a key, whatever its expiry.
    pub(crate) fn get(&self, collection: CollectionId<'_>, key: &str) -> Option<Entry> {
        self.get_hashed(collection, self.key_hash(collection, key), key)
    }

    /// [`StoredEntries::get`] for a key whose hash is known.
    pub(crate) fn get_hashed(&self, collection: CollectionId<'_>, hash: u64, key: &str) -> Option<Entry> {
        self.collection(collection)?.index.get(hash, key)
    }

    /// The hash of a key in its collection.
    pub(crate) fn key_hash(&self, collection: CollectionId<'_>, key: &str) -> u64 {
        key_hash(self.hasher, collection, key)
    }

    /// The number of a collection; [`NO_NUMBER`] for one that is not there.
    pub(crate) fn number_of(&self, collection: CollectionId<'_>) -> CollectionNumber {
        self.collection(collection).map_or(NO_NUMBER, |stored| stored.number)
    }

    /// Returns whether a collection has entries.
    pub(crate) fn has_collection(&self, collection: CollectionId<'_>) -> bool {
        self.collection(collection).is_some()
    }

    /// Memory in bytes of the entries of a namespace that clients are told of.
    pub(crate) fn namespace_bytes(&self, namespace: &str) -> u64 {
        let shown = [CollectionKind::Cache, CollectionKind::Posts, CollectionKind::Texts];
        let stored = shown.iter().filter_map(|kind| self.collection(CollectionId::new(*kind, namespace)));
        stored.map(|stored| stored.index.shared().totals().bytes).sum()
    }

    /// Counts the collections.
    pub(crate) fn collections(&self) -> usize {
        self.collections.iter().map(BTreeMap::len).sum()
    }

    /// Returns whether entries hold words in the counts of a namespace.
    pub(crate) fn has_claims(&self, namespace: &str) -> bool {
        self.claims.contains_key(namespace)
    }

    /// The digest of the entries as they are.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// The sums over all entries.
    pub(crate) fn totals(&self) -> EntryTotals {
        self.totals
    }

    /// Counts what expires and is evicted from now on: what came before was read from files.
    pub(crate) fn reset_removals(&mut self, view: &EntriesView) {
        (self.totals.expired, self.totals.evicted) = (0, 0);
        view.set_totals(self.totals);
    }

    /// The contribution of an entry of this collection to the digest.
    pub(crate) fn weight(&self, collection: CollectionId<'_>, entry: &Entry) -> u64 {
        entry.digest_weight(self.hasher, collection)
    }

    /// Gives entries in the order of their eviction.
    pub(crate) fn evictable(&self) -> impl Iterator<Item = &Entry> {
        self.evictable.iter(|entry| self.hash_of(entry))
    }

    /// Memory of the entries that may be evicted, in bytes.
    pub(crate) fn evictable_bytes(&self) -> i64 {
        self.evictable_bytes
    }

    /// Returns whether entries are beyond a budget and may be evicted for it.
    pub(crate) fn is_over(&self, budget_bytes: usize) -> bool {
        self.evictable_bytes > 0 && self.totals.bytes > budget_bytes as u64
    }

    /// The time at which the next entry expires.
    pub(crate) fn next_expiry(&self) -> Option<LoggedTime> {
        [&self.evictable, &self.expiring_claims].into_iter().filter_map(EvictionOrder::next_expiry).min()
    }

    /// Gives entries whose time has come, the oldest first.
    pub(crate) fn due(&self, mut now: LoggedTime) -> impl Iterator<Item = DueEntry> + '_ {
        inject!(ExpiresEarly, now = LoggedTime::from_ms(now.as_ms() + 20));
        // Those that hold words and the others lie apart, and neither waits for all of the other.
        let (mut plain, mut claims) = (self.due_of(&self.evictable, now), self.due_of(&self.expiring_claims, now));
        std::iter::from_fn(move || {
            let is_claim = match (plain.peek(), claims.peek()) {
                (Some(plain), Some(claim)) => claim.expires() < plain.expires(),
                (plain, _) => plain.is_none(),
            };
            let next = if is_claim { claims.next() } else { plain.next() };
            next.map(|entry| self.due_entry(entry))
        })
    }

    fn due_of<'a>(
        &'a self,
        order: &'a EvictionOrder,
        now: LoggedTime,
    ) -> Peekable<impl Iterator<Item = &'a Entry> + use<'a>> {
        order.iter(|entry| self.hash_of(entry)).take_while(move |entry| entry.has_expired(now)).peekable()
    }

    /// Returns whether there are marks of removals that no entry needs any more.
    pub(crate) fn has_idle_removals(&self) -> bool {
        inject!(KeepsIdleMarks, return false);
        !self.idle_removals.is_empty()
    }

    /// Gives marks of removals, at most so many, that no entry needs any more.
    pub(crate) fn idle_removals(&self, most: usize) -> Vec<DueEntry> {
        let removals = &self.collections[CollectionKind::Removals as usize];
        let idle = self.idle_removals.iter().filter_map(|namespace| removals.get(namespace));
        let entries = idle.flat_map(|stored| stored.index.shared().segments().flatten());
        entries.take(most).map(|entry| self.due_entry(&entry)).collect()
    }

    /// The first pass of a record with this sequence: shows its entries on the side that nobody reads. `known` is
    /// what whoever has planned the record has found out, or nothing.
    ///
    /// # Errors
    /// [`CollectionOverflow`] if it names too many collections; nothing of it may be shown then.
    pub(crate) fn change(
        &mut self,
        changes: &[EntryChange<'_>],
        known: &[EntryLookup<'_>],
        version: Sequence,
        view: &EntriesView,
        side: &EntriesSide,
    ) -> Result<(), CollectionOverflow> {
        self.changes.clear();
        // Most records hold no entries, and pay nothing for those of others.
        if changes.is_empty() {
            return Ok(());
        }
        let mut pending = PendingEntries::with_capacity(changes.len());
        let collections = self.collections();
        for (at, change) in changes.iter().enumerate() {
            // A key comes once in a record, so what is replaced lies in its collection and not among the pending.
            let known = known.get(at);
            let hash = known.map_or_else(|| self.key_hash(change.collection, change.key), |known| known.hash);
            let old = match known {
                Some(known) => known.old.cloned(),
                None => self.get_hashed(change.collection, hash, change.key),
            };
            let (cause, new) = match change.effect {
                EntryEffect::Put(value) => {
                    let number = self.number(change.collection)?;
                    // Planned before the collection had its number, it is made once more.
                    let made = known.and_then(|known| known.new).filter(|entry| entry.collection() == number);
                    let entry = made.cloned().unwrap_or_else(|| Entry::new(number, change.key, &value, version));
                    (None, Some(entry))
                }
                EntryEffect::SetExpiry(expires) => (None, old.as_ref().map(|old| old.with_expiry(expires))),
                EntryEffect::Remove(cause) => (Some(cause), None),
            };
            let weights = known.map(|known| known.weights).unwrap_or_else(|| {
                let factor = digest_factor(self.hasher, change.collection);
                [&old, &new].map(|entry| entry.as_ref().map_or(0, |entry| entry.weight(self.hasher, factor)))
            });
            self.digest = self.digest.wrapping_sub(weights[0]).wrapping_add(weights[1]);
            // Else nothing was there, and nothing comes: applied again over an image, or told of a key that is gone.
            if let Some(named) = new.as_ref().or(old.as_ref()) {
                pending.insert(hash, PendingEntry::new(named.clone(), new.is_some()));
                self.changes.push(AppliedChange { collection: named.collection(), hash, old, new, cause });
            }
        }
        if self.collections() != collections {
            view.set_collections(self.maps());
        }
        side.set_pending(Some(pending));
        Ok(())
    }

    /// The second pass: puts the entries into their collections, once every reader has moved to the side `shown`.
    pub(crate) fn reconcile(&mut self, view: &EntriesView, shown: &EntriesSide) {
        if self.changes.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.changes);
        let numbers: BTreeSet<CollectionNumber> = changes.iter().map(|change| change.collection).collect();
        changes.into_iter().for_each(|change| self.put(change));
        // Behind all changes: a record may take the last entry of a collection away and put another there.
        if numbers.into_iter().filter(|&number| self.drop_if_empty(number)).count() > 0 {
            view.set_collections(self.maps());
        }
        view.set_totals(self.totals);
        // Last: until here, readers of this side found the record's keys in front of the collections.
        shown.set_pending(None);
    }

    /// Puts one change where it belongs.
    fn put(&mut self, change: AppliedChange) {
        let AppliedChange { collection: number, hash, old, new, cause } = change;
        let (kind, namespace) = self.numbers[usize::from(number)].clone().expect("a change has given it");
        if let Some(old) = &old {
            self.forget((kind, &namespace), hash, old);
        }
        if let Some(new) = &new {
            self.remember((kind, &namespace), hash, new);
        }
        self.totals.count(cause);
        let [gone, come] = [&old, &new].map(|entry| entry.as_ref().map_or(0, Entry::memory_bytes));
        let stored = self.collections[kind as usize].get_mut(&*namespace).expect("a change has made it");
        match (old, new) {
            (_, Some(new)) => stored.index.set(hash, new),
            (Some(old), None) => stored.index.remove(hash, old.key()),
            (None, None) => {}
        }
        stored.index.show_totals(gone, come);
    }

    /// Takes a collection without entries away, and returns whether it has.
    fn drop_if_empty(&mut self, number: CollectionNumber) -> bool {
        let named = &mut self.numbers[usize::from(number)];
        let (kind, namespace) = named.as_ref().expect("a change has given it");
        let collections = &mut self.collections[*kind as usize];
        let is_empty = collections.get(&**namespace).is_some_and(|stored| stored.index.len() == 0);
        if is_empty {
            collections.remove(&**namespace);
            if *kind == CollectionKind::Removals {
                self.idle_removals.remove(&**namespace);
            }
            *named = None;
        }
        is_empty
    }

    /// Takes an entry out of the orders and the sums.
    fn forget(&mut self, (kind, namespace): (CollectionKind, &str), hash: u64, entry: &Entry) {
        let (hasher, numbers) = (self.hasher, &self.numbers);
        let hash_of = |entry: &Entry| hash_of(hasher, numbers, entry);
        let mut is_evictable = kind.is_public() && !entry.is_counted();
        inject!(EvictsCountedPosts, is_evictable = true);
        if is_evictable {
            self.evictable.remove(hash, entry, hash_of);
            self.evictable_bytes -= entry.memory_bytes() as i64;
        }
        self.totals.remove(kind, entry);
        if entry.is_counted() {
            self.expiring_claims.remove(hash, entry, hash_of);
            let left = self.claims.get_mut(namespace).expect("it was counted");
            *left -= 1;
            if *left == 0 {
                self.claims.remove(namespace);
                self.note_idle(namespace);
            }
        }
    }

    /// Puts an entry into the orders and the sums.
    fn remember(&mut self, (kind, namespace): (CollectionKind, &str), hash: u64, entry: &Entry) {
        let (hasher, numbers) = (self.hasher, &self.numbers);
        let hash_of = |entry: &Entry| hash_of(hasher, numbers, entry);
        // A counted entry is never evicted: to make room, a post would have to take its words along.
        let mut is_evictable = kind.is_public() && !entry.is_counted();
        inject!(EvictsCountedPosts, is_evictable = true);
        if is_evictable {
            self.evictable.insert(hash, entry, hash_of);
            self.evictable_bytes += entry.memory_bytes() as i64;
        }
        self.totals.add(kind, entry);
        if entry.is_counted() {
            if entry.expires().is_some() {
                self.expiring_claims.insert(hash, entry, hash_of);
            }
            *self.claims.entry(namespace.into()).or_insert(0) += 1;
            self.idle_removals.remove(namespace);
        }
    }

    /// Notes whether the marks of a namespace are needed: looked for at each tick, they would be gone through.
    fn note_idle(&mut self, namespace: &str) {
        let has_marks = self.collections[CollectionKind::Removals as usize].contains_key(namespace);
        if has_marks && !self.has_claims(namespace) {
            self.idle_removals.insert(namespace.into());
        }
    }

    /// Takes an entry of a snapshot's image, which nobody reads before [`StoredEntries::end_load`].
    ///
    /// # Errors
    /// [`CollectionOverflow`] if it would be in one collection too many.
    pub(crate) fn load(
        &mut self,
        collection: CollectionId<'_>,
        key: &str,
        value: &EntryValue<'_>,
        version: Sequence,
    ) -> Result<(), CollectionOverflow> {
        let hash = key_hash(self.hasher, collection, key);
        let number = self.number(collection)?;
        let entry = Entry::new(number, key, value, version);
        let old = self.get(collection, key);
        let factor = digest_factor(self.hasher, collection);
        let before = old.as_ref().map_or(0, |old| old.weight(self.hasher, factor));
        self.digest = self.digest.wrapping_sub(before).wrapping_add(entry.weight(self.hasher, factor));
        self.put(AppliedChange { collection: number, hash, old, new: Some(entry), cause: None });
        Ok(())
    }

    /// Shows the entries of a snapshot's image, which is whole now.
    pub(crate) fn end_load(&self, view: &EntriesView) {
        view.set_collections(self.maps());
        view.set_totals(self.totals);
    }

    fn collection(&self, collection: CollectionId<'_>) -> Option<&StoredCollection> {
        self.collections[collection.kind as usize].get(collection.namespace)
    }

    /// The number of a collection, which is made if it is not there.
    ///
    /// # Errors
    /// [`CollectionOverflow`] if there are as many as may be. Admission keeps to fewer, but checksums do not vouch for
    /// what a file names.
    fn number(&mut self, collection: CollectionId<'_>) -> Result<CollectionNumber, CollectionOverflow> {
        if let Some(stored) = self.collection(collection) {
            return Ok(stored.number);
        }
        if self.collections() >= limits::MOST_COLLECTIONS {
            return Err(CollectionOverflow);
        }
        let named = Some((collection.kind, Arc::from(collection.namespace)));
        let at = self.numbers.iter().position(Option::is_none).unwrap_or_else(|| {
            self.numbers.push(None);
            self.numbers.len() - 1
        });
        self.numbers[at] = named;
        let number = CollectionNumber::try_from(at).expect("fewer than MOST_COLLECTIONS are there");
        let stored = StoredCollection { number, index: EntryIndexWriter::new() };
        self.collections[collection.kind as usize].insert(collection.namespace.into(), stored);
        if collection.kind == CollectionKind::Removals {
            self.note_idle(collection.namespace);
        }
        Ok(number)
    }

    /// An entry with the collection it is in.
    pub(crate) fn due_entry(&self, entry: &Entry) -> DueEntry {
        let (kind, namespace) = self.numbers[usize::from(entry.collection())].clone().expect("it has an entry");
        DueEntry { kind, namespace, entry: entry.clone() }
    }

    /// The hash of the key of an entry that is there.
    pub(crate) fn hash_of(&self, entry: &Entry) -> u64 {
        hash_of(self.hasher, &self.numbers, entry)
    }

    /// The collections as readers find them.
    fn maps(&self) -> CollectionMaps {
        let shared = |stored: &StoredCollection| (stored.number, Arc::<EntryIndex>::clone(stored.index.shared()));
        let map = |map: &BTreeMap<Box<str>, StoredCollection>| {
            map.iter().map(|(name, stored)| (name.clone(), shared(stored))).collect()
        };
        self.collections.each_ref().map(map)
    }
}

/// The number that no collection has.
const NO_NUMBER: CollectionNumber = CollectionNumber::MAX;
const _: () = assert!(limits::MOST_COLLECTIONS < NO_NUMBER as usize);

/// The collection of an entry.
fn id_of<'a>(numbers: &'a CollectionNames, entry: &Entry) -> CollectionId<'a> {
    let named = numbers[usize::from(entry.collection())].as_ref().expect("it has an entry");
    CollectionId { kind: named.0, namespace: &named.1 }
}

/// The hash of an entry's key.
fn hash_of(hasher: WordHasher, numbers: &CollectionNames, entry: &Entry) -> u64 {
    key_hash(hasher, id_of(numbers, entry), entry.key())
}
