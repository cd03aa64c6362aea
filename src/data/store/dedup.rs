//! The idempotency window: which keyed writes have counted, and how they were answered.
//!
//! Keys leave by age in logged time, never because others come: a full window refuses new keys instead, so a key that
//! was acknowledged is known for its whole age. A producer's stream needs one entry however long it is. Keys and
//! streams are those of a namespace: the same name in two namespaces is two. What format 1 wrote has none, and stands
//! for its name in all of them until it has aged or, of a stream, until one of them goes on with it.

mod entry;
mod name;
#[cfg(test)]
mod tests;

pub use entry::{DedupEntry, RepeatCheck};
pub use name::DedupName;

use crate::{
    base::clock::LoggedTime,
    base::hash::{WordHasher, fingerprint},
    base::limits,
    base::position::Position,
    data::command::IdempotencyKey,
    data::record::KeyedWrite,
};
use hashbrown::HashTable;
use std::collections::{BTreeMap, VecDeque};

/// Bounds of the window.
#[derive(Clone, Copy, Debug)]
pub struct DedupLimits {
    /// Keys remembered at most.
    pub keys: usize,
    /// Age at which a key is forgotten, in milliseconds of logged time.
    pub key_age_ms: u64,
    /// Streams remembered at most.
    pub streams: usize,
    /// Age at which an idle stream is forgotten, in milliseconds of logged time.
    pub stream_age_ms: u64,
}

impl Default for DedupLimits {
    fn default() -> Self {
        Self {
            keys: limits::DEFAULT_MAX_KEYS,
            key_age_ms: limits::DEFAULT_KEY_AGE_MS,
            streams: limits::DEFAULT_MAX_STREAMS,
            stream_age_ms: limits::DEFAULT_STREAM_AGE_MS,
        }
    }
}

/// The place of a walk over the window ([`DedupWindow::chunk`]).
#[derive(Clone, Debug, Default)]
pub struct DedupCursor {
    key: u64,
    after_stream: Option<DedupName>,
}

/// The keys and streams that have counted.
#[derive(Debug)]
pub struct DedupWindow {
    hasher: WordHasher,
    limits: DedupLimits,
    /// Keys in the order they were logged; `forgotten` have left at the front.
    keys: VecDeque<DedupEntry>,
    forgotten: u64,
    /// The ordinal of each key, which is its place in `keys` plus `forgotten`.
    by_name: HashTable<u64>,
    streams: BTreeMap<DedupName, DedupEntry>,
    /// Keys and streams of format 1.
    unscoped: usize,
    /// No stream is older than this: until it has aged, looking for old ones is in vain.
    oldest_stream: LoggedTime,
    time_ms: LoggedTime,
}

impl DedupWindow {
    /// An empty window.
    pub fn new(hasher: WordHasher, limits: DedupLimits) -> Self {
        Self {
            hasher,
            limits,
            keys: VecDeque::new(),
            forgotten: 0,
            by_name: HashTable::new(),
            streams: BTreeMap::new(),
            unscoped: 0,
            oldest_stream: LoggedTime::MAX,
            time_ms: LoggedTime::ZERO,
        }
    }

    /// Looks up a keyed write by namespace, name and fingerprint at `now` when so many keys, or streams, are about to
    /// be settled in front of it.
    pub fn check(&self, named: (&str, &IdempotencyKey, u128), now: LoggedTime, ahead: usize) -> RepeatCheck {
        let (namespace, once, fingerprint) = named;
        match once {
            IdempotencyKey::Key(key) => match self.key(namespace, key, now) {
                // By age and not by presence: an entry leaves with the next record, and the answer must not depend on
                // when that comes.
                Some(entry) if self.is_current(entry, now) => entry.compare(once, fingerprint),
                _ if self.has_room_for_key(now, ahead) => RepeatCheck::New,
                _ => RepeatCheck::Full,
            },
            IdempotencyKey::Stream { name, sequence } => match self.stream_entry(namespace, name) {
                Some(entry) if self.is_current(entry, now) => entry.compare(once, fingerprint),
                // It may be the rest of a stream that was forgotten: taken as new, its posts could count twice.
                _ if *sequence > 1 => RepeatCheck::Gap { expected: 1 },
                _ if self.has_room_for_stream(now, ahead) => RepeatCheck::New,
                _ => RepeatCheck::Full,
            },
            // As long as it is remembered, whatever its age: whoever looked ([`DedupWindow::stream_entry`]) found it
            // too.
            IdempotencyKey::Lines { name, done, .. } => match self.stream_entry(namespace, name) {
                Some(entry) => match entry.compare(once, fingerprint) {
                    // What is too old takes no room, and needs it again.
                    RepeatCheck::New if !self.is_current(entry, now) && !self.has_room_for_stream(now, ahead) => {
                        RepeatCheck::Full
                    }
                    seen => seen,
                },
                None if *done > 0 => RepeatCheck::Gap { expected: 1 },
                None if self.has_room_for_stream(now, ahead) => RepeatCheck::New,
                None => RepeatCheck::Full,
            },
        }
    }

    /// Returns whether a stream takes no room: it is not known, or too old.
    pub fn has_expired(&self, namespace: &str, stream: &str, now: LoggedTime) -> bool {
        self.stream_entry(namespace, stream).is_none_or(|entry| !self.is_current(entry, now))
    }

    /// Gives the last entry of a namespace's stream.
    pub fn stream_entry(&self, namespace: &str, stream: &str) -> Option<&DedupEntry> {
        let known = self.streams.get(&DedupName::new(namespace, stream));
        known.or_else(|| self.streams.get(&DedupName::new("", stream)).filter(|_| self.unscoped > 0))
    }

    /// Moves on to the time of a record, and forgets what is too old then.
    pub fn expire(&mut self, now: LoggedTime) {
        self.time_ms = self.time_ms.max(now);
        let now = self.time_ms;
        // Logged time never goes back, so the oldest key is in front and nothing behind a young one has to be looked
        // at.
        while self.keys.front().is_some_and(|oldest| !self.is_current(oldest, now)) {
            let oldest = self.keys.pop_front().expect("it was there");
            // The index holds ordinals and no places: places shift each time a key leaves in front.
            let ordinal = self.forgotten;
            let hash = hash_of(self.hasher, oldest.name.namespace(), oldest.name.name());
            if let Ok(found) = self.by_name.find_entry(hash, |&at| at == ordinal) {
                found.remove();
            }
            self.unscoped -= usize::from(oldest.name.is_unscoped());
            self.forgotten += 1;
        }
        // Streams are few and live long: they are looked through only when room is needed and some may have aged.
        let age_ms = self.limits.stream_age_ms;
        if self.streams.len() >= self.limits.streams && now.since_ms(self.oldest_stream) >= age_ms {
            let unscoped = &mut self.unscoped;
            self.streams.retain(|name, stream| {
                let is_young = now.since_ms(stream.time_ms) < age_ms;
                *unscoped -= usize::from(!is_young && name.is_unscoped());
                is_young
            });
            self.oldest_stream = self.streams.values().map(|stream| stream.time_ms).min().unwrap_or(LoggedTime::MAX);
        }
    }

    /// Remembers what a record settles. Harmless twice.
    pub fn record(&mut self, settled: &KeyedWrite<'_>, position: Position, time_ms: LoggedTime) {
        if settled.stream_sequence > 0 {
            let before = self.stream_entry(settled.namespace, settled.name).cloned();
            // In front of the check: over a snapshot's window, which may be as of a later record, it is harmless.
            self.take_over(settled);
            // One record may settle several posts of a stream, so the position alone does not say that this one is
            // known.
            let is_known =
                |stream: &DedupEntry| stream.position >= position && stream.stream_sequence >= settled.stream_sequence;
            if before.as_ref().is_some_and(is_known) {
                return;
            }
            // A stream of lines moves on by many numbers at once, and its fingerprint is a running one already.
            let running = match before {
                Some(stream) if settled.stream_sequence == stream.stream_sequence + 1 => stream.running,
                _ => 0,
            };
            let running = fingerprint(&[&running.to_le_bytes(), &settled.fingerprint.to_le_bytes()]);
            self.insert_stream(DedupEntry::new(settled, running, position, time_ms));
        } else {
            self.restore(DedupEntry::new(settled, 0, position, time_ms));
        }
    }

    /// Puts back an entry that a snapshot has kept.
    pub fn restore(&mut self, entry: DedupEntry) {
        if entry.stream_sequence > 0 {
            self.insert_stream(entry);
            return;
        }
        // Records are applied again over a snapshot's window, which is as of its end: what had left by then must not
        // come back, out of order.
        self.time_ms = self.time_ms.max(entry.time_ms);
        let hasher = self.hasher;
        let (namespace, key) = (entry.name.namespace(), entry.name.name());
        let hash = hash_of(hasher, namespace, key);
        let is_known = self.key_at(hash, namespace, key).is_some_and(|known| known.position >= entry.position);
        // Also if it is young beside the keys that are left: the time at which it left is not in the window.
        let had_left = self.keys.back().is_some_and(|last| entry.position < last.position);
        if is_known || had_left || !self.is_current(&entry, self.time_ms) {
            return;
        }
        // A name that comes again after its age: the index moves on to the new entry, the old one leaves unfound.
        if let Ok(stale) =
            self.by_name.find_entry(hash, |&at| self.keys[(at - self.forgotten) as usize].name == entry.name)
        {
            stale.remove();
        }
        let ordinal = self.forgotten + self.keys.len() as u64;
        self.unscoped += usize::from(entry.name.is_unscoped());
        self.keys.push_back(entry);
        let (keys, forgotten) = (&self.keys, self.forgotten);
        self.by_name.insert_unique(hash, ordinal, |&at| {
            let name = &keys[(at - forgotten) as usize].name;
            hash_of(hasher, name.namespace(), name.name())
        });
    }

    /// Up to `count` entries from `cursor` on, keys in logged order, then streams by name; the cursor moves on, and
    /// nothing is left once none are given. Entries that change meanwhile may be given as they were or as they are.
    pub fn chunk(&self, cursor: &mut DedupCursor, count: usize) -> Vec<DedupEntry> {
        // An ordinal stays true while keys leave in front between two pieces; a place would skip some.
        let from = cursor.key.max(self.forgotten) - self.forgotten;
        let mut piece: Vec<DedupEntry> =
            self.keys.range((from as usize).min(self.keys.len())..).take(count).cloned().collect();
        cursor.key = self.forgotten + from + piece.len() as u64;
        if piece.is_empty() {
            use std::ops::Bound::{Excluded, Unbounded};
            // Streams are kept in order so that a walk can go on behind a name, whether or not that stream is still
            // there.
            let after = cursor.after_stream.as_ref().map_or(Unbounded, Excluded);
            let behind = self.streams.range::<DedupName, _>((after, Unbounded));
            piece.extend(behind.take(count).map(|(_, entry)| entry.clone()));
            if let Some(last) = piece.last() {
                cursor.after_stream = Some(last.name.clone());
            }
        }
        piece
    }

    /// Keys and streams remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.keys.len(), self.streams.len())
    }

    /// The logged time it stands at.
    pub fn time_ms(&self) -> LoggedTime {
        self.time_ms
    }

    // What is too old takes no room, though it leaves only with the next record: else a full window that refuses every
    // write would stay full for ever.

    fn has_room_for_key(&self, now: LoggedTime, ahead: usize) -> bool {
        // The young ones are counted only if the window looks full, which it rarely is.
        let young = || self.keys.len() - self.keys.partition_point(|entry| !self.is_current(entry, now));
        self.keys.len() + ahead < self.limits.keys || young() + ahead < self.limits.keys
    }

    fn has_room_for_stream(&self, now: LoggedTime, ahead: usize) -> bool {
        let young = || self.streams.values().filter(|entry| self.is_current(entry, now)).count();
        self.streams.len() + ahead < self.limits.streams || young() + ahead < self.limits.streams
    }

    fn insert_stream(&mut self, entry: DedupEntry) {
        self.oldest_stream = self.oldest_stream.min(entry.time_ms);
        let is_unscoped = entry.name.is_unscoped();
        let before = self.streams.insert(entry.name.clone(), entry);
        self.unscoped += usize::from(is_unscoped && before.is_none());
    }

    /// A namespace goes on with a stream: one of this name of format 1 was its, and is from now on.
    fn take_over(&mut self, settled: &KeyedWrite<'_>) {
        if self.unscoped > 0
            && !settled.namespace.is_empty()
            && self.streams.remove(&DedupName::new("", settled.name)).is_some()
        {
            self.unscoped -= 1;
        }
    }

    /// The key of a namespace; one of format 1 only where that has none that is current.
    fn key(&self, namespace: &str, key: &str, now: LoggedTime) -> Option<&DedupEntry> {
        let known = |namespace: &str| self.key_at(hash_of(self.hasher, namespace, key), namespace, key);
        let own = known(namespace);
        if self.unscoped == 0 || own.is_some_and(|entry| self.is_current(entry, now)) {
            return own;
        }
        known("").or(own)
    }

    fn key_at(&self, hash: u64, namespace: &str, key: &str) -> Option<&DedupEntry> {
        let place = |&at: &u64| &self.keys[(at - self.forgotten) as usize];
        self.by_name.find(hash, |at| place(at).name.is(namespace, key)).map(place)
    }

    fn is_current(&self, entry: &DedupEntry, now: LoggedTime) -> bool {
        let age_ms = if entry.stream_sequence > 0 { self.limits.stream_age_ms } else { self.limits.key_age_ms };
        now.since_ms(entry.time_ms) < age_ms
    }
}

/// The hash of a key in its namespace. Clients do not know the seed, so they find no names that collide.
fn hash_of(hasher: WordHasher, namespace: &str, name: &str) -> u64 {
    hasher.hash(name).wrapping_mul(hasher.namespace_factor(namespace))
}
