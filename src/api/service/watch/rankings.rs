//! The largest counts as watchers see them: ranked once for all that watch the same, and not at every record.
//!
//! Ranking takes up to a millisecond, and under writes each tick of each watcher is at another position. A ranking is
//! right for the position that it names, and watchers look again once it may be made anew.

use super::mark_of_counts;
use crate::{
    base::clock::Monotonic,
    base::limits::{MAX_TOP, RANKING_AGE_MS, RANKINGS_KEPT},
    base::position::PositionToken,
    engine::view::ServedDatabase,
};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// Numbers of words that rankings are made of: one for ten words serves whoever wants fewer.
const SIZES: [usize; 3] = [10, 100, MAX_TOP];

/// The largest counts of a namespace at one position.
#[derive(Debug)]
pub struct WordRanking {
    /// The position.
    pub position: PositionToken,
    /// The time at which it was made.
    pub(super) made: Monotonic,
    counts: Vec<(String, i64)>,
    /// Hashes of the first words, by number: those that watchers have asked for.
    marks: Mutex<Vec<(usize, u128)>>,
}

impl WordRanking {
    /// Gives the `n` largest, in their order.
    pub fn largest(&self, n: usize) -> &[(String, i64)] {
        &self.counts[..n.min(self.counts.len())]
    }

    /// A hash of the `n` largest.
    pub(super) fn mark(&self, n: usize) -> u128 {
        let mut marks = self.marks.lock();
        if let Some((_, mark)) = marks.iter().find(|(number, _)| *number == n) {
            return *mark;
        }
        let mark = mark_of_counts(self.largest(n));
        marks.push((n, mark));
        mark
    }
}

/// The ranking that a watcher wants.
#[derive(Clone, Copy)]
pub(super) struct WantedRanking<'a> {
    pub(super) namespace: &'a str,
    pub(super) n: usize,
    /// The position that the watcher has.
    pub(super) at_least: Option<PositionToken>,
}

struct CachedRanking {
    namespace: Box<str>,
    size: usize,
    /// The database that it is of: another may take its place, at the same position.
    database: Weak<ServedDatabase>,
    ranking: Arc<WordRanking>,
}

/// The rankings of a node, each made for all watchers that want it.
#[derive(Default)]
pub struct SharedRankings {
    cached: Mutex<Vec<CachedRanking>>,
}

impl SharedRankings {
    /// The `n` largest counts: those of now, or of a moment ago.
    pub(super) fn of(
        &self,
        current: &Arc<ServedDatabase>,
        wanted: WantedRanking<'_>,
        now: Monotonic,
    ) -> Arc<WordRanking> {
        let WantedRanking { namespace, n, at_least } = wanted;
        let size = SIZES.into_iter().find(|size| n <= *size).unwrap_or(MAX_TOP);
        let position = current.identity.token(current.reader.read().position());
        let is_wanted = |cached: &CachedRanking| cached.size == size && *cached.namespace == *namespace;
        if let Some(cached) = self.cached.lock().iter().find(|cached| is_wanted(cached)) {
            let ranking = &cached.ranking;
            // Whoever has a later position than that of the ranking would be sent older counts than it has.
            let is_fresh = ranking.position == position
                || now.since_ms(ranking.made) < RANKING_AGE_MS
                    && at_least.is_none_or(|least| ranking.position >= least);
            if is_fresh && std::ptr::eq(cached.database.as_ptr(), Arc::as_ptr(current)) {
                return Arc::clone(ranking);
            }
        }
        // Not under the lock: two threads may make the same one, and neither waits for the other.
        let (position, counts) = current.reader.top(namespace, size);
        let position = current.identity.token(position);
        let ranking = Arc::new(WordRanking { position, made: now, counts, marks: Mutex::default() });
        let mut cached = self.cached.lock();
        cached.retain(|cached| !is_wanted(cached));
        if cached.len() >= RANKINGS_KEPT {
            cached.remove(0); // the one that was made longest ago
        }
        let database = Arc::downgrade(current);
        cached.push(CachedRanking { namespace: namespace.into(), size, database, ranking: Arc::clone(&ranking) });
        ranking
    }
}
