//! Watching: decides when a watcher is sent an event, and which values are in it.
//!
//! [`WatchState`] does no I/O and keeps no time: it is handed the database that is served now and the time
//! ([`WatchState::look`]), and gives the event that is due, if one is. `api/http/watch.rs` asks it at each tick of a
//! stream, and writes what it gives; `tests` drive it alone. Nothing here has to do with the Writer: a look is a read.
//!
//! The values of an event are of one position, which names it. A client that comes again with that position goes on
//! from there: [`WatchState::resume`]. It is sent no value that is older than what it has, unless the event says that
//! this is so ([`ResetReason`]).

mod rankings;
#[cfg(test)]
mod tests;

use super::query::StoredNamespace;
use rankings::WantedRanking;
pub use rankings::{SharedRankings, WordRanking};

use crate::{
    base::clock::{LoggedTime, Monotonic},
    base::failpoint::inject,
    base::limits::{MAX_WORD_BYTES, RANKING_AGE_MS, WATCH_PATIENCE_MS},
    base::position::{PositionStatus, PositionToken},
    data::entries::{CollectionId, CollectionKind, Entry},
    data::store::ReadGuard,
    engine::view::ServedDatabase,
    text::tokenizer::Analyzer,
};
use std::{borrow::Cow, sync::Arc};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The time of a look.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchTime {
    /// The time that passes.
    pub now: Monotonic,
    /// The time by which entries expire.
    pub logged: LoggedTime,
}

/// The reason why a client has to forget what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The history went on without the position of what it has.
    PositionLost,
    /// The position of what it has is of another database.
    OtherDatabase,
    /// This node has not reached the position of what it has, and was waited for long enough.
    PositionAhead,
}

impl ResetReason {
    /// Its name in events: that of the problem with which a read is refused.
    pub const fn name(self) -> &'static str {
        match self {
            ResetReason::PositionLost => "position-lost",
            ResetReason::OtherDatabase => "position-other-database",
            ResetReason::PositionAhead => "position-ahead",
        }
    }
}

/// The values that a watcher has to be sent, all of one position.
#[derive(Debug)]
pub struct WatchEvent {
    /// The position of all of them.
    pub position: PositionToken,
    /// The client has to forget what it has: everything it watches is in this event.
    pub reset: Option<ResetReason>,
    /// The numbers of the words whose counts are sent ([`WatchState::word`]).
    pub words: Vec<usize>,
    /// The keys whose entries are sent, each by its number ([`WatchState::key`]); `None` where no entry is there.
    pub entries: Vec<(usize, Option<Entry>)>,
    /// The largest counts.
    pub top: Option<Arc<WordRanking>>,
}

/// A word that is watched.
struct WatchedWord {
    name: Box<str>,
    /// The word that the name folds to, where that is another text.
    folded: Option<Box<str>>,
    /// The count that the client has.
    count: i64,
}

impl WatchedWord {
    fn word(&self) -> &str {
        self.folded.as_deref().unwrap_or(&self.name)
    }

    /// The word as it is stored in a namespace: keys of counters are not folded.
    fn stored(&self, is_raw: bool) -> &str {
        if is_raw { &self.name } else { self.word() }
    }
}

/// A key that is watched.
struct WatchedKey {
    key: Box<str>,
    /// The state of the entry that the client has ([`mark_of`]).
    mark: u128,
}

/// The largest counts that are watched.
struct WatchedTop {
    n: usize,
    /// A hash of the list that the client has.
    mark: u128,
}

/// The values that one client watches, with those that it has been sent.
pub struct WatchState {
    namespace: Box<str>,
    words: Box<[WatchedWord]>,
    keys: Box<[WatchedKey]>,
    top: Option<WatchedTop>,
    /// The analyzer that the names are folded by.
    analyzer: Option<Analyzer>,
    /// The position that the client has: that of the last event, or the one that it came with.
    told: Option<PositionToken>,
    /// True once the values beside the names are those that the client has.
    has_values: bool,
    /// The position that was looked at last.
    seen: Option<PositionToken>,
    /// The begin of the wait for the client's position.
    waits_since: Option<Monotonic>,
    /// The time of the ranking that was sent, if it is older than the position that is served.
    ranked: Option<Monotonic>,
    /// The time at which the first of the entries expires.
    expires: Option<LoggedTime>,
}

impl WatchState {
    /// Counts of words, by names that fold to them, and entries of a cache.
    pub fn of_values(namespace: &str, names: &[Cow<'_, str>], keys: &[Cow<'_, str>]) -> Self {
        let word = |name: &Cow<'_, str>| WatchedWord { name: (**name).into(), folded: None, count: 0 };
        let key = |key: &Cow<'_, str>| WatchedKey { key: (**key).into(), mark: 0 };
        Self { words: names.iter().map(word).collect(), keys: keys.iter().map(key).collect(), ..Self::new(namespace) }
    }

    /// The `n` largest counts.
    pub fn of_top(namespace: &str, n: usize) -> Self {
        Self { top: Some(WatchedTop { n, mark: 0 }), ..Self::new(namespace) }
    }

    fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            words: Box::default(),
            keys: Box::default(),
            top: None,
            analyzer: None,
            told: None,
            has_values: false,
            seen: None,
            waits_since: None,
            ranked: None,
            expires: None,
        }
    }

    /// The client has everything as it was at this position.
    #[must_use]
    pub fn resume(self, has: Option<PositionToken>) -> Self {
        Self { told: has, ..self }
    }

    /// Folds the names. Returns whether each is a word then.
    pub fn fold(&mut self, analyzer: Analyzer) -> bool {
        if self.analyzer != Some(analyzer) {
            self.analyzer = Some(analyzer);
            for word in &mut self.words {
                let folded = analyzer.normalize(&word.name);
                word.folded = (*folded != *word.name).then(|| (*folded).into());
            }
        }
        self.words.iter().all(|word| !word.word().is_empty())
    }

    /// Gives the name of a word as the client has spelled it, and its count.
    pub fn word(&self, number: usize) -> (&str, i64) {
        let word = &self.words[number];
        (&word.name, word.count)
    }

    /// Gives a key.
    pub fn key(&self, number: usize) -> &str {
        &self.keys[number].key
    }

    /// Looks at what is served now, and gives the event that the client has to be sent.
    pub fn look(
        &mut self,
        current: &Arc<ServedDatabase>,
        rankings: &SharedRankings,
        time: WatchTime,
    ) -> Option<WatchEvent> {
        let position = current.identity.token(current.reader.read().position());
        if self.seen == Some(position) && self.due_in_ms(time).is_none_or(|left_ms| left_ms > 0) {
            return None;
        }
        // Before the values are read: what is reached now is reached at every later position, and never the reverse.
        let status = self.told.map_or(PositionStatus::Reached, |told| current.position_status(told));
        let mut reset = match status {
            PositionStatus::Reached => None,
            PositionStatus::Lost => Some(ResetReason::PositionLost),
            PositionStatus::OtherDatabase => Some(ResetReason::OtherDatabase),
            PositionStatus::Ahead => {
                let since = *self.waits_since.get_or_insert(time.now);
                if time.now.since_ms(since) < WATCH_PATIENCE_MS {
                    self.seen = Some(position);
                    return None;
                }
                Some(ResetReason::PositionAhead)
            }
        };
        inject!(KeepsValuesOfALostHistory, reset = None);
        self.waits_since = None;
        let event = self.read(current, rankings, reset, time);
        self.seen = Some(event.position);
        self.has_values = true;
        let is_due = reset.is_some() || !event.words.is_empty() || !event.entries.is_empty() || event.top.is_some();
        is_due.then(|| {
            self.told = Some(event.position);
            event
        })
    }

    /// Reads everything, and keeps it; gives what the client has not, or has otherwise.
    fn read(
        &mut self,
        current: &Arc<ServedDatabase>,
        rankings: &SharedRankings,
        reset: Option<ResetReason>,
        time: WatchTime,
    ) -> WatchEvent {
        self.fold(current.identity.analyzer);
        let at_least = self.told.filter(|_| reset.is_none());
        // At each look: the first increment makes counters of the namespace, and its keys are not folded then.
        let namespace = StoredNamespace::of(current, &self.namespace);
        let wanted = self.top.as_ref().map(|top| WantedRanking { namespace: namespace.name, n: top.n, at_least });
        let ranking = wanted.map(|wanted| rankings.of(current, wanted, time.now));
        let collection = CollectionId::new(CollectionKind::Cache, &self.namespace);
        let mut found = Vec::with_capacity(self.keys.len());
        let (mut counts, mut changed) = (Vec::with_capacity(self.words.len()), Vec::new());
        let guard = current.reader.read();
        counts.extend(self.words.iter().map(|word| count(&guard, namespace.name, word.stored(namespace.is_raw))));
        found.extend(self.keys.iter().map(|key| guard.entry(collection, &key.key)));
        let read_at = guard.position();
        drop(guard);
        inject!(WatchesAtTwoPositions, {
            counts.clear();
            for word in &self.words {
                // Also on one core a record comes between two of the reads.
                std::thread::yield_now();
                counts.push(count(&current.reader.read(), namespace.name, word.stored(namespace.is_raw)));
            }
        });
        let position = ranking.as_ref().map_or_else(|| current.identity.token(read_at), |ranking| ranking.position);
        // The client has what was there at its position; the values are unknown, but at that position they are these.
        let mut is_known = self.has_values || self.told == Some(position);
        inject!(ResumesFromAnyPosition, is_known |= self.told.is_some());
        let takes_all = reset.is_some() || !is_known;
        for (number, (word, count)) in self.words.iter_mut().zip(counts).enumerate() {
            if takes_all || self.has_values && word.count != count {
                changed.push(number);
            }
            word.count = count;
        }
        let entries = self.take_entries(found, takes_all, time.logged);
        let top = ranking.and_then(|ranking| self.take_ranking(ranking, current, takes_all));
        WatchEvent { position, reset, words: changed, entries, top }
    }

    /// Keeps the state of the entries; gives those that the client has to be sent.
    fn take_entries(
        &mut self,
        found: Vec<Option<Entry>>,
        takes_all: bool,
        now: LoggedTime,
    ) -> Vec<(usize, Option<Entry>)> {
        let mut changed = Vec::new();
        self.expires = None;
        for (number, (key, entry)) in self.keys.iter_mut().zip(found).enumerate() {
            let was_there = entry.is_some();
            let entry = entry.filter(|entry| !entry.has_expired(now));
            if let Some(expires) = entry.as_ref().and_then(Entry::expires) {
                self.expires = Some(self.expires.map_or(expires, |first| first.min(expires)));
            }
            let mark = entry.as_ref().map_or(0, mark_of);
            // Whoever comes again does not say when it went: an entry that has expired since, and no record says so
            // yet, is news.
            let has_gone = !self.has_values && was_there && entry.is_none();
            if takes_all || has_gone || self.has_values && key.mark != mark {
                changed.push((number, entry));
            }
            key.mark = mark;
        }
        changed
    }

    /// Keeps the largest counts; gives them if the client has to be sent them.
    fn take_ranking(
        &mut self,
        ranking: Arc<WordRanking>,
        current: &ServedDatabase,
        takes_all: bool,
    ) -> Option<Arc<WordRanking>> {
        let is_current = ranking.position.position == current.reader.read().position();
        self.ranked = (!is_current).then_some(ranking.made);
        inject!(TakesOldRankings, self.ranked = None);
        let top = self.top.as_mut()?;
        let mark = ranking.mark(top.n);
        let is_new = std::mem::replace(&mut top.mark, mark) != mark;
        (takes_all || self.has_values && is_new).then_some(ranking)
    }

    /// Gives the number of largest counts that are watched.
    pub fn top(&self) -> Option<usize> {
        self.top.as_ref().map(|top| top.n)
    }

    /// Gives the time after which a look is due although nothing has been applied, in milliseconds.
    pub fn due_in_ms(&self, time: WatchTime) -> Option<u64> {
        let waits = self.waits_since.map(|since| since.after_ms(WATCH_PATIENCE_MS).since_ms(time.now));
        let ranks = self.ranked.map(|made| made.after_ms(RANKING_AGE_MS).since_ms(time.now));
        let expires = self.expires.map(|expires| expires.since_ms(time.logged));
        [waits, ranks, expires].into_iter().flatten().min()
    }

    /// Gives the position up to which nothing has changed of what the client has, for it to come again with.
    pub fn heartbeat(&mut self) -> Option<PositionToken> {
        if self.has_values && self.waits_since.is_none() {
            self.told = self.seen;
        }
        self.told
    }
}

fn count(guard: &ReadGuard<'_>, namespace: &str, word: &str) -> i64 {
    // A longer word is never counted, and of another database's analyzer a name may be none.
    if word.is_empty() || word.len() > MAX_WORD_BYTES { 0 } else { guard.count(namespace, word) }
}

/// A hash of everything that a client sees of an entry.
fn mark_of(entry: &Entry) -> u128 {
    let mut state = Xxh3::new();
    state.update(&entry.hash());
    state.update(&entry.expires().map_or([u8::MAX; 8], |expires| expires.as_ms().to_le_bytes()));
    state.update(entry.content_type().as_bytes());
    state.digest128()
}

/// A hash of a list of counts.
fn mark_of_counts(counts: &[(String, i64)]) -> u128 {
    let mut bytes = Vec::with_capacity(24 * counts.len());
    for (word, count) in counts {
        bytes.extend_from_slice(&word.len().to_le_bytes());
        bytes.extend_from_slice(word.as_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    // 0 stands for a list that was never looked at.
    xxh3_128(&bytes).max(1)
}
