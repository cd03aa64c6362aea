//! The half of a commit group that knows entries: it decides which changes of entries a record states.
//!
//! A batch is planned first ([`PendingWrites::plan`]), which changes nothing, and taken in once every other half of the
//! group has admitted it ([`PendingWrites::add`]). A key comes once in a record: a batch that names one again waits for
//! the next record ([`PendingWrites::touches`]), so that whatever is replaced is found in the store.

use super::{
    CollectionId, CollectionKind, EntryOp, EntryWrite, Expiry, WriteCondition,
    entry::{Entry, key_hash},
    stored::{DueEntry, EntryLookup, StoredEntries},
};
use crate::{
    base::clock::LoggedTime,
    base::failpoint::inject,
    base::hash::WordHasher,
    base::limits,
    base::position::Position,
    data::record::{EntryChange, EntryEffect, EntryValue, RemovalCause, ValueEncoding},
};
use hashbrown::HashTable;
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// The reason why entries were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntriesRefusal {
    /// The entry is not in the state that the write depends on.
    PreconditionFailed,
    /// The budget of entries is used up by what may not be evicted.
    BudgetFull,
    /// The database holds as many collections as it may.
    TooManyCollections,
}

/// The entries that a commit group changes.
pub(crate) struct PendingWrites {
    hasher: WordHasher,
    changes: Vec<PlannedChange>,
    /// The hashes of the changes' keys. Two keys of one hash pass for one: the second waits for the next record, or
    /// stays where another is evicted.
    keys: HashTable<u64>,
    /// The difference that the changes make to the digest, and to the memory in bytes.
    digest: u64,
    bytes: i64,
    evictions: usize,
    /// Collections that the store does not have yet.
    new_collections: BTreeSet<(CollectionKind, Box<str>)>,
}

/// One change of an entry, ready for a record.
pub(crate) struct PlannedChange {
    pub(crate) kind: CollectionKind,
    pub(crate) namespace: Arc<str>,
    /// The hash of its key.
    hash: u64,
    /// The entry that is there, without which nothing but a new value is planned.
    old: Option<Entry>,
    effect: PlannedEffect,
    /// What the old and the new entry contribute to the digest, once the group has taken the change in.
    weights: [u64; 2],
}

enum PlannedEffect {
    Put(Entry),
    SetExpiry(Option<LoggedTime>),
    Remove(RemovalCause),
}

impl PlannedChange {
    /// The removal of an entry that is there.
    pub(crate) fn removal(stored: &StoredEntries, due: DueEntry, cause: RemovalCause) -> Self {
        let DueEntry { kind, namespace, entry } = due;
        let hash = stored.hash_of(&entry);
        Self { kind, namespace, hash, old: Some(entry), effect: PlannedEffect::Remove(cause), weights: [0; 2] }
    }

    /// The mark that a word, or the namespace for an empty one, was taken away by the record at `position`.
    pub(crate) fn mark(stored: &StoredEntries, namespace: &str, word: &str, position: Position) -> Self {
        let collection = CollectionId::new(CollectionKind::Removals, namespace);
        let value = EntryValue {
            content_type: "",
            expires: None,
            counted: false,
            encoding: ValueEncoding::Plain,
            raw_bytes: 0,
            hash: &[],
            bytes: &[],
        };
        Self {
            kind: collection.kind,
            namespace: namespace.into(),
            hash: stored.key_hash(collection, word),
            old: stored.get(collection, word),
            effect: PlannedEffect::Put(Entry::new(stored.number_of(collection), word, &value, position.sequence)),
            weights: [0; 2],
        }
    }

    /// Returns the entry whose words this takes back: one that is replaced, or goes, and was counted.
    pub(crate) fn ended_claim(&self) -> Option<&Entry> {
        let ends = !matches!(self.effect, PlannedEffect::SetExpiry(_));
        self.old.as_ref().filter(|old| ends && old.is_counted())
    }

    /// Returns whether a client has asked for it: marks of removals and evictions come with what it asked for.
    pub(crate) fn is_requested(&self) -> bool {
        let is_eviction = matches!(self.effect, PlannedEffect::Remove(RemovalCause::Evicted));
        self.kind != CollectionKind::Removals && !is_eviction
    }

    /// The difference that it makes to the memory of the entries which a namespace is said to hold.
    pub(crate) fn added_bytes(&self, namespace: &str) -> i64 {
        let is_shown = self.kind != CollectionKind::Removals && *self.namespace == *namespace;
        if is_shown { bytes_added(self) } else { 0 }
    }

    fn key(&self) -> &str {
        match &self.effect {
            PlannedEffect::Put(entry) => entry.key(),
            _ => self.old.as_ref().map_or("", Entry::key),
        }
    }

    fn collection(&self) -> CollectionId<'_> {
        CollectionId::new(self.kind, &self.namespace)
    }

    /// The entry that will be there.
    fn new_entry(&self) -> Option<Entry> {
        match &self.effect {
            PlannedEffect::Put(entry) => Some(entry.clone()),
            PlannedEffect::SetExpiry(expires) => self.old.as_ref().map(|old| old.with_expiry(*expires)),
            PlannedEffect::Remove(_) => None,
        }
    }
}

impl PendingWrites {
    pub(crate) fn new(hasher: WordHasher) -> Self {
        let (changes, keys, new_collections) = Default::default();
        Self { hasher, changes, keys, digest: 0, bytes: 0, evictions: 0, new_collections }
    }

    /// Forgets all changes: another record starts.
    pub(crate) fn clear(&mut self) {
        self.changes.clear();
        self.keys.clear();
        self.new_collections.clear();
        (self.digest, self.bytes, self.evictions) = (0, 0, 0);
    }

    /// Returns whether there is nothing to log.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns whether the group evicts as many entries as it may: each batch behind them has to pass them over.
    pub(crate) fn evicts_enough(&self) -> bool {
        self.evictions >= limits::EVICTIONS_PER_RECORD
    }

    /// Returns whether the group changes one of these keys already.
    pub(crate) fn touches(&self, namespace: &str, writes: &[EntryWrite]) -> bool {
        let is_touched = |write: &EntryWrite| self.has(CollectionId::new(write.kind, namespace), &write.key);
        !self.keys.is_empty() && writes.iter().any(is_touched)
    }

    /// Returns whether the group says of this namespace that words were taken away.
    pub(crate) fn has_marks(&self, namespace: &str) -> bool {
        self.changes.iter().any(|change| change.kind == CollectionKind::Removals && *change.namespace == *namespace)
    }

    fn has(&self, collection: CollectionId<'_>, key: &str) -> bool {
        let hash = key_hash(self.hasher, collection, key);
        self.has_hash(hash)
    }

    fn has_hash(&self, hash: u64) -> bool {
        self.keys.find(hash, |known| *known == hash).is_some()
    }

    /// Plans the changes of a batch for the record at `position`. Writes that find nothing to do make none.
    ///
    /// # Errors
    /// [`EntriesRefusal`] if a condition does not hold, or there are too many collections; nothing has changed then.
    pub(crate) fn plan(
        &self,
        stored: &StoredEntries,
        (namespace, writes): (&str, &[EntryWrite]),
        (position, now): (Position, LoggedTime),
    ) -> Result<Vec<PlannedChange>, EntriesRefusal> {
        let mut changes = Vec::with_capacity(writes.len());
        if writes.is_empty() {
            return Ok(changes);
        }
        debug_assert!(names_each_once(writes), "a batch names a key once");
        let shared: Arc<str> = namespace.into();
        let mut new_collections = BTreeSet::new();
        for (at, write) in writes.iter().enumerate() {
            let collection = CollectionId::new(write.kind, namespace);
            let number = self.changes.len() + at;
            let own_key = write.key.is_empty().then(|| own_key(position, number));
            let key = own_key.as_deref().unwrap_or(&write.key);
            let hash = stored.key_hash(collection, key);
            let old = stored.get_hashed(collection, hash, key);
            let mut live = old.as_ref().filter(|old| !old.has_expired(now));
            inject!(TakesExpiredForPresent, live = old.as_ref());
            // By age and not by presence: an expired entry leaves with a later record, and the answer must not depend
            // on when that comes.
            if !holds(&write.condition, live) {
                return Err(EntriesRefusal::PreconditionFailed);
            }
            let effect = match &write.op {
                EntryOp::Put(value, expiry) => {
                    let is_new = !stored.has_collection(collection)
                        && !self.new_collections.contains(&(write.kind, Box::from(namespace)));
                    new_collections.extend(is_new.then_some(write.kind));
                    let stated = value.as_value(expires(*expiry, now));
                    PlannedEffect::Put(Entry::new(stored.number_of(collection), key, &stated, position.sequence))
                }
                EntryOp::SetExpiry(_) | EntryOp::Remove if live.is_none() => continue,
                EntryOp::SetExpiry(expiry) => PlannedEffect::SetExpiry(expires(*expiry, now)),
                EntryOp::Remove => PlannedEffect::Remove(RemovalCause::Deleted),
            };
            let (kind, namespace, weights) = (write.kind, Arc::clone(&shared), [0; 2]);
            changes.push(PlannedChange { kind, namespace, hash, old, effect, weights });
        }
        let collections = stored.collections() + self.new_collections.len() + new_collections.len();
        if !new_collections.is_empty() && collections > limits::MAX_COLLECTIONS {
            return Err(EntriesRefusal::TooManyCollections);
        }
        Ok(changes)
    }

    /// Adds evictions to planned changes, so that all entries keep to the budget behind them.
    ///
    /// # Errors
    /// [`EntriesRefusal::BudgetFull`] if too little of what is stored may be evicted.
    pub(crate) fn make_room(
        &self,
        stored: &StoredEntries,
        budget_bytes: usize,
        changes: &mut Vec<PlannedChange>,
    ) -> Result<(), EntriesRefusal> {
        let added: i64 = changes.iter().map(bytes_added).sum();
        let over = self.over(stored, budget_bytes, added);
        // What takes no room is admitted even where the budget is used up, as known words go on counting.
        if added <= 0 || over <= 0 {
            return Ok(());
        }
        // Looked at first: a store that is full of what may not be evicted is not gone through for each write.
        if over > stored.evictable_bytes() {
            return Err(EntriesRefusal::BudgetFull);
        }
        if self.evict(stored, over, changes) { Ok(()) } else { Err(EntriesRefusal::BudgetFull) }
    }

    /// The bytes by which entries are beyond a budget, with the group's changes and so many bytes more.
    pub(crate) fn over(&self, stored: &StoredEntries, budget_bytes: usize, added: i64) -> i64 {
        let mut of_the_group = self.bytes;
        inject!(BudgetsWithoutTheGroup, of_the_group = 0);
        let budget = i64::try_from(budget_bytes).unwrap_or(i64::MAX);
        (stored.totals().bytes as i64 + of_the_group + added).saturating_sub(budget)
    }

    /// Plans evictions until `over` bytes are free, or as many as one record takes: the Writer evicts the others soon
    /// after ([`StoredEntries::is_over`]). Returns whether there were enough.
    pub(crate) fn evict(&self, stored: &StoredEntries, mut over: i64, changes: &mut Vec<PlannedChange>) -> bool {
        let written: HashSet<u64> = changes.iter().map(|change| change.hash).collect();
        let mut left = limits::EXPIRED_PER_RECORD;
        for entry in stored.evictable() {
            if over <= 0 || left == 0 {
                return true;
            }
            let hash = stored.hash_of(entry);
            if self.has_hash(hash) || written.contains(&hash) {
                continue;
            }
            (over, left) = (over - entry.memory_bytes() as i64, left - 1);
            changes.push(PlannedChange::removal(stored, stored.due_entry(entry), RemovalCause::Evicted));
        }
        over <= 0
    }

    /// Takes planned changes in.
    pub(crate) fn add(&mut self, stored: &StoredEntries, changes: impl IntoIterator<Item = PlannedChange>) {
        for mut change in changes {
            let collection = change.collection();
            let weight = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| stored.weight(collection, entry));
            let new = change.new_entry();
            let weights = [weight(&change.old), weight(&new)];
            self.digest = self.digest.wrapping_sub(weights[0]).wrapping_add(weights[1]);
            self.bytes += bytes_added(&change);
            self.evictions += usize::from(matches!(change.effect, PlannedEffect::Remove(RemovalCause::Evicted)));
            if new.is_some() && !stored.has_collection(collection) {
                self.new_collections.insert((change.kind, Box::from(&*change.namespace)));
            }
            change.weights = weights;
            self.keys.insert_unique(change.hash, change.hash, |hash| *hash);
            self.changes.push(change);
        }
    }

    /// The difference that the changes make to the digest.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Facts about the changes, in their order.
    pub(crate) fn lookups(&self) -> Vec<EntryLookup<'_>> {
        let each = self.changes.iter();
        each.map(|PlannedChange { hash, old, effect, weights, .. }| {
            let new = if let PlannedEffect::Put(entry) = effect { Some(entry) } else { None };
            EntryLookup { hash: *hash, old: old.as_ref(), new, weights: *weights }
        })
        .collect()
    }

    /// Gives the record's part about entries.
    pub(crate) fn changes(&self) -> Vec<EntryChange<'_>> {
        let each = self.changes.iter();
        each.map(|change| {
            let effect = match &change.effect {
                PlannedEffect::Put(entry) => EntryEffect::Put(entry.as_value()),
                PlannedEffect::SetExpiry(expires) => EntryEffect::SetExpiry(*expires),
                PlannedEffect::Remove(cause) => EntryEffect::Remove(*cause),
            };
            EntryChange { collection: change.collection(), key: change.key(), effect }
        })
        .collect()
    }
}

/// Returns whether no two writes name the same key.
fn names_each_once(writes: &[EntryWrite]) -> bool {
    let keys: BTreeSet<(CollectionKind, &str)> = writes.iter().map(|write| (write.kind, &*write.key)).collect();
    keys.len() == writes.len()
}

/// The key of an entry that its writer has not named: no record before had it, and no other entry of this one has.
fn own_key(position: Position, number: usize) -> Box<str> {
    format!("{position}-{number}").into()
}

fn expires(expiry: Expiry, now: LoggedTime) -> Option<LoggedTime> {
    match expiry {
        Expiry::Never => None,
        Expiry::AfterMs(ms) => Some(LoggedTime::from_ms(now.as_ms().saturating_add(ms.min(limits::MAX_TTL_MS)))),
    }
}

fn bytes_added(change: &PlannedChange) -> i64 {
    let bytes = |entry: &Entry| entry.memory_bytes() as i64;
    change.new_entry().as_ref().map_or(0, bytes) - change.old.as_ref().map_or(0, bytes)
}

/// Returns whether a condition holds for the entry that is there.
fn holds(condition: &WriteCondition, live: Option<&Entry>) -> bool {
    let has_one_of = |tags: &[Box<str>]| {
        live.is_some_and(|entry| {
            let tag = entry.tag();
            tags.iter().any(|wanted| **wanted == *tag)
        })
    };
    match condition {
        WriteCondition::Always => true,
        WriteCondition::Present => live.is_some(),
        WriteCondition::Absent => live.is_none(),
        WriteCondition::Matches(tags) => has_one_of(tags),
        WriteCondition::MatchesNone(tags) => !has_one_of(tags),
        WriteCondition::Leased(lease) => lease.holds(live.map(Entry::version)),
    }
}
