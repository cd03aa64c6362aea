//! The idempotency window: which keyed writes have counted, and how they were answered.
//!
//! Keys leave by age in logged time, never because others come: a full window refuses new keys instead, so a key that
//! was acknowledged is known for its whole age. A producer's stream needs one entry however long it is.

use crate::{
    base::clock::LoggedTime,
    base::hash::{WordHasher, fingerprint},
    base::limits,
    base::position::Position,
    data::command::IdempotencyKey,
    data::record::KeyedWrite,
};
use bincode::{Decode, Encode};
use hashbrown::HashTable;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
};

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

/// An entry of the window: one key, or the last post of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DedupEntry {
    /// The key, or the stream's name.
    pub name: Box<str>,
    /// The last number of the stream that is done; 0 for a key.
    pub stream_sequence: u64,
    /// Fingerprint that a repeat must have too.
    pub fingerprint: u128,
    /// For a stream: the hash over the fingerprints of all its posts.
    pub running: u128,
    /// The record it is part of.
    pub position: Position,
    /// The time at which it was logged.
    pub time_ms: LoggedTime,
    /// Words it counted, repeats included.
    pub words: u64,
    /// Distinct words it counted.
    pub distinct: u64,
    /// Tokens left out.
    pub left_out: u64,
}

impl DedupEntry {
    fn new(settled: &KeyedWrite<'_>, running: u128, position: Position, time_ms: LoggedTime) -> Self {
        Self {
            name: settled.name.into(),
            stream_sequence: settled.stream_sequence,
            fingerprint: settled.fingerprint,
            running,
            position,
            time_ms,
            words: settled.words,
            distinct: settled.distinct,
            left_out: settled.left_out,
        }
    }
}

impl DedupEntry {
    /// Compares a write with the remembered one of the same key or stream.
    pub fn compare(&self, once: &IdempotencyKey, fingerprint: u128) -> RepeatCheck {
        let expected = self.stream_sequence + 1;
        let sequence = match once {
            IdempotencyKey::Key(_) => return self.repeat_if(fingerprint),
            // Whoever sends lines has looked where the stream stands; if it stands elsewhere by now, another sends too.
            IdempotencyKey::Lines { done, .. } if *done != self.stream_sequence => {
                return RepeatCheck::Gap { expected };
            }
            IdempotencyKey::Lines { so_far, .. } => {
                return if *so_far == self.fingerprint { RepeatCheck::New } else { RepeatCheck::Reused };
            }
            IdempotencyKey::Stream { sequence, .. } => sequence,
        };
        match sequence.cmp(&expected) {
            Ordering::Equal => RepeatCheck::New,
            Ordering::Greater => RepeatCheck::Gap { expected },
            // Only the last post's body is remembered; of one further back the number alone tells.
            Ordering::Less if *sequence == self.stream_sequence => self.repeat_if(fingerprint),
            Ordering::Less => RepeatCheck::Repeat(self.clone()),
        }
    }

    fn repeat_if(&self, fingerprint: u128) -> RepeatCheck {
        if self.fingerprint == fingerprint { RepeatCheck::Repeat(self.clone()) } else { RepeatCheck::Reused }
    }
}

/// The window's answer about a keyed write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepeatCheck {
    /// The write has not counted yet.
    New,
    /// The write has counted before: it is answered as then.
    Repeat(DedupEntry),
    /// The key, or the number in the stream, has counted with another body.
    Reused,
    /// The stream continues with another number.
    Gap {
        /// The next number.
        expected: u64,
    },
    /// There is no room to remember it.
    Full,
}

/// The place of a walk over the window ([`DedupWindow::chunk`]).
#[derive(Clone, Debug, Default)]
pub struct DedupCursor {
    key: u64,
    after_stream: Option<Box<str>>,
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
    streams: BTreeMap<Box<str>, DedupEntry>,
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
            oldest_stream: LoggedTime::MAX,
            time_ms: LoggedTime::ZERO,
        }
    }

    /// Looks up a keyed write at `now` when so many keys, or streams, are about to be settled in front of it.
    pub fn check(&self, once: &IdempotencyKey, fingerprint: u128, now: LoggedTime, ahead: usize) -> RepeatCheck {
        match once {
            IdempotencyKey::Key(key) => match self.key(key) {
                // By age and not by presence: an entry leaves with the next record, and the answer must not depend on
                // when that comes.
                Some(entry) if self.is_current(entry, now) => entry.compare(once, fingerprint),
                _ if self.has_room_for_key(now, ahead) => RepeatCheck::New,
                _ => RepeatCheck::Full,
            },
            IdempotencyKey::Stream { name, sequence } => match self.streams.get(name) {
                Some(entry) if self.is_current(entry, now) => entry.compare(once, fingerprint),
                // It may be the rest of a stream that was forgotten: taken as new, its posts could count twice.
                _ if *sequence > 1 => RepeatCheck::Gap { expected: 1 },
                _ if self.has_room_for_stream(now, ahead) => RepeatCheck::New,
                _ => RepeatCheck::Full,
            },
            // As long as it is remembered, whatever its age: whoever looked ([`DedupWindow::stream_entry`]) found it
            // too.
            IdempotencyKey::Lines { name, done, .. } => match self.streams.get(name) {
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
    pub fn has_expired(&self, stream: &str, now: LoggedTime) -> bool {
        self.streams.get(stream).is_none_or(|entry| !self.is_current(entry, now))
    }

    /// Gives the last entry of a stream.
    pub fn stream_entry(&self, stream: &str) -> Option<&DedupEntry> {
        self.streams.get(stream)
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
            if let Ok(found) = self.by_name.find_entry(self.hasher.hash(&oldest.name), |&at| at == ordinal) {
                found.remove();
            }
            self.forgotten += 1;
        }
        // Streams are few and live long: they are looked through only when room is needed and some may have aged.
        let age_ms = self.limits.stream_age_ms;
        if self.streams.len() >= self.limits.streams && now.since_ms(self.oldest_stream) >= age_ms {
            self.streams.retain(|_, stream| now.since_ms(stream.time_ms) < age_ms);
            self.oldest_stream = self.streams.values().map(|stream| stream.time_ms).min().unwrap_or(LoggedTime::MAX);
        }
    }

    /// Remembers what a record settles. Harmless twice.
    pub fn record(&mut self, settled: &KeyedWrite<'_>, position: Position, time_ms: LoggedTime) {
        if settled.stream_sequence > 0 {
            let before = self.streams.get(settled.name);
            // One record may settle several posts of a stream, so the position alone does not say that this one is
            // known.
            if before
                .is_some_and(|stream| stream.position >= position && stream.stream_sequence >= settled.stream_sequence)
            {
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
        let is_known = self.key(&entry.name).is_some_and(|known| known.position >= entry.position);
        if is_known || !self.is_current(&entry, self.time_ms) {
            return;
        }
        let hash = self.hasher.hash(&entry.name);
        // A name that comes again after its age: the index moves on to the new entry, the old one leaves unfound.
        if let Ok(stale) =
            self.by_name.find_entry(hash, |&at| self.keys[(at - self.forgotten) as usize].name == entry.name)
        {
            stale.remove();
        }
        let ordinal = self.forgotten + self.keys.len() as u64;
        self.keys.push_back(entry);
        let (keys, forgotten, hasher) = (&self.keys, self.forgotten, self.hasher);
        self.by_name.insert_unique(hash, ordinal, |&at| hasher.hash(&keys[(at - forgotten) as usize].name));
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
            let after = cursor.after_stream.as_deref().map_or(Unbounded, Excluded);
            piece.extend(self.streams.range::<str, _>((after, Unbounded)).take(count).map(|(_, entry)| entry.clone()));
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
        self.streams.insert(entry.name.clone(), entry);
    }

    fn key(&self, name: &str) -> Option<&DedupEntry> {
        let place = |&at: &u64| &self.keys[(at - self.forgotten) as usize];
        self.by_name.find(self.hasher.hash(name), |at| &*place(at).name == name).map(place)
    }

    fn is_current(&self, entry: &DedupEntry, now: LoggedTime) -> bool {
        let age_ms = if entry.stream_sequence > 0 { self.limits.stream_age_ms } else { self.limits.key_age_ms };
        now.since_ms(entry.time_ms) < age_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DedupLimits = DedupLimits { keys: 3, key_age_ms: 100, streams: 2, stream_age_ms: 1_000 };

    fn window() -> DedupWindow {
        DedupWindow::new(WordHasher::new(1), LIMITS)
    }

    const fn ms(ms: u64) -> LoggedTime {
        LoggedTime::from_ms(ms)
    }

    fn settled(name: &str, stream_sequence: u64, fingerprint: u128) -> KeyedWrite<'_> {
        KeyedWrite { name, stream_sequence, fingerprint, words: 2, distinct: 1, left_out: 0 }
    }

    fn key(name: &str) -> IdempotencyKey {
        IdempotencyKey::Key(name.into())
    }

    fn stream(name: &str, sequence: u64) -> IdempotencyKey {
        IdempotencyKey::Stream { name: name.into(), sequence }
    }

    #[test]
    fn a_key_is_new_then_a_repeat_then_forgotten() {
        let mut window = window();
        assert_eq!(window.check(&key("a"), 7, ms(0), 0), RepeatCheck::New);
        window.record(&settled("a", 0, 7), Position::new(1, 1), ms(10));
        assert!(
            matches!(window.check(&key("a"), 7, ms(109), 0), RepeatCheck::Repeat(entry) if entry.position == Position::new(1, 1))
        );
        assert_eq!(window.check(&key("a"), 8, ms(109), 0), RepeatCheck::Reused);
        assert_eq!(window.check(&key("a"), 7, ms(110), 0), RepeatCheck::New);
        window.expire(ms(110));
        assert_eq!(window.len(), (0, 0));
    }

    #[test]
    fn old_streams_leave_once_there_is_no_room() {
        let mut window = window();
        window.record(&settled("a", 1, 7), Position::new(1, 1), ms(0));
        window.record(&settled("b", 1, 7), Position::new(1, 2), ms(0));
        window.expire(ms(999));
        assert_eq!(window.len(), (0, 2));
        window.expire(ms(1_000));
        assert_eq!(window.len(), (0, 0));
    }

    #[test]
    fn the_running_fingerprint_of_a_stream_is_of_all_its_writes() {
        let running = |first| {
            let mut window = window();
            window.record(&settled("a", 1, first), Position::new(1, 1), ms(0));
            window.record(&settled("a", 2, 9), Position::new(1, 2), ms(0));
            window.streams["a"].running
        };
        assert_eq!(running(7), running(7));
        assert_ne!(running(7), running(8));
    }

    #[test]
    fn a_key_used_again_after_its_age_is_the_new_one() {
        let mut window = window();
        window.record(&settled("a", 0, 7), Position::new(1, 1), ms(0));
        window.record(&settled("a", 0, 8), Position::new(1, 2), ms(150));
        assert!(matches!(window.check(&key("a"), 8, ms(151), 0), RepeatCheck::Repeat(_)));
        window.expire(ms(151));
        assert!(matches!(window.check(&key("a"), 8, ms(151), 0), RepeatCheck::Repeat(_)), "the old entry left alone");
        assert_eq!(window.len(), (1, 0));
    }

    #[test]
    fn a_full_window_refuses_and_forgets_nobody() {
        let mut window = window();
        for (sequence, name) in ["a", "b", "c"].into_iter().enumerate() {
            window.record(&settled(name, 0, 7), Position::new(1, sequence as u64 + 1), ms(0));
        }
        assert_eq!(window.check(&key("d"), 7, ms(50), 0), RepeatCheck::Full);
        assert!(matches!(window.check(&key("a"), 7, ms(50), 0), RepeatCheck::Repeat(_)));
        window.record(&settled("s", 1, 7), Position::new(1, 4), ms(0));
        window.record(&settled("t", 1, 7), Position::new(1, 5), ms(0));
        assert_eq!(window.check(&stream("u", 1), 7, ms(50), 0), RepeatCheck::Full);
        assert_eq!(window.check(&stream("s", 2), 7, ms(50), 0), RepeatCheck::New);
    }

    #[test]
    fn an_entry_too_old_takes_no_room_although_no_record_came() {
        let mut window = window();
        for (sequence, name) in ["a", "b", "c"].into_iter().enumerate() {
            window.record(&settled(name, 0, 7), Position::new(1, sequence as u64 + 1), ms(sequence as u64));
        }
        window.record(&settled("s", 1, 7), Position::new(1, 4), ms(2));
        window.record(&settled("t", 1, 7), Position::new(1, 5), ms(3));
        assert_eq!(window.check(&key("d"), 7, ms(99), 0), RepeatCheck::Full);
        assert_eq!(window.check(&key("d"), 7, ms(101), 1), RepeatCheck::New, "a and b are too old");
        assert_eq!(window.check(&key("d"), 7, ms(101), 2), RepeatCheck::Full, "their room is taken");
        assert_eq!(window.check(&stream("u", 1), 7, ms(1_001), 0), RepeatCheck::Full);
        assert_eq!(window.check(&stream("u", 1), 7, ms(1_002), 0), RepeatCheck::New);
    }

    #[test]
    fn older_records_over_a_later_window_bring_nothing_back() {
        let mut window = window();
        // As a snapshot's window has them at its end: "a", of an earlier record, has left.
        window.restore(DedupEntry::new(&settled("b", 0, 7), 0, Position::new(1, 2), ms(150)));
        window.expire(ms(10));
        window.record(&settled("a", 0, 7), Position::new(1, 1), ms(10));
        assert_eq!(window.chunk(&mut DedupCursor::default(), 9).len(), 1, "a would lie behind b, which is younger");
        assert_eq!(window.time_ms(), ms(150));
    }

    #[test]
    fn a_stream_goes_on_by_one() {
        let mut window = window();
        assert_eq!(window.check(&stream("s", 2), 7, ms(0), 0), RepeatCheck::Gap { expected: 1 });
        window.record(&settled("s", 1, 7), Position::new(1, 1), ms(0));
        window.record(&settled("s", 2, 8), Position::new(1, 2), ms(0));
        assert_eq!(window.check(&stream("s", 4), 9, ms(0), 0), RepeatCheck::Gap { expected: 3 });
        assert_eq!(window.check(&stream("s", 3), 9, ms(0), 0), RepeatCheck::New);
        assert_eq!(window.check(&stream("s", 2), 9, ms(0), 0), RepeatCheck::Reused);
        assert!(matches!(window.check(&stream("s", 2), 8, ms(0), 0), RepeatCheck::Repeat(_)));
        assert!(
            matches!(window.check(&stream("s", 1), 7, ms(0), 0), RepeatCheck::Repeat(entry) if entry.stream_sequence == 2)
        );
    }

    #[test]
    fn settling_twice_changes_nothing() {
        let mut window = window();
        for _ in 0..2 {
            window.record(&settled("a", 0, 7), Position::new(1, 1), ms(0));
            window.record(&settled("s", 1, 7), Position::new(1, 1), ms(0));
            window.record(&settled("s", 2, 8), Position::new(1, 1), ms(0));
        }
        let all = window.chunk(&mut DedupCursor::default(), 9);
        let mut once = self::window();
        once.record(&settled("a", 0, 7), Position::new(1, 1), ms(0));
        assert_eq!((window.len(), all), ((1, 1), once.chunk(&mut DedupCursor::default(), 9)));
        assert!(matches!(window.check(&stream("s", 2), 8, ms(0), 0), RepeatCheck::Repeat(_)));
    }

    #[test]
    fn a_walk_gives_every_entry_and_restores_them() {
        let mut window = window();
        for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
            window.record(&settled(name, 0, 7), Position::new(1, at as u64 + 1), ms(at as u64));
        }
        window.record(&settled("s", 1, 7), Position::new(1, 4), ms(4));
        window.record(&settled("t", 1, 7), Position::new(1, 5), ms(5));
        let (mut cursor, mut restored) = (DedupCursor::default(), self::window());
        loop {
            let piece = window.chunk(&mut cursor, 2);
            if piece.is_empty() {
                break;
            }
            piece.into_iter().for_each(|entry| restored.restore(entry));
        }
        assert_eq!(restored.len(), (3, 2));
        assert_eq!(restored.check(&key("b"), 8, ms(10), 0), RepeatCheck::Reused);
        assert_eq!(restored.check(&stream("t", 3), 8, ms(10), 0), RepeatCheck::Gap { expected: 2 });
    }
}
