//! Rankings of any length, read from a store that is written to.

use super::{ReadGuard, StoreRanking, StoreReader};
pub use crate::data::counts::index::RankingQuery;
use crate::{
    base::limits,
    data::counts::index::{ChangeJournal, CountIndex, RankingWalk},
};
use std::sync::Arc;

impl StoreReader {
    /// The ranking that `query` asks for, if it comes from the words that a namespace keeps at hand, in microseconds.
    pub fn ranking_at_hand(&self, namespace: &str, query: &RankingQuery<'_>) -> Option<StoreRanking> {
        if query.n <= limits::MAX_TOP && query.prefix.is_empty() && query.after.is_none() {
            return Some(self.top_with_state(namespace, query.n));
        }
        let (state, mut top) = self.top_with_state(namespace, limits::MAX_TOP);
        let is_all = top.len() < limits::MAX_TOP;
        top.retain(|(word, count)| query.wants(*count, word));
        top.truncate(query.n);
        (is_all || top.len() == query.n).then_some((state, top))
    }

    /// The ranking that `query` asks for, at hand or not; `None` if counts change too fast for that.
    pub fn ranking(&self, namespace: &str, query: &RankingQuery<'_>) -> Option<StoreRanking> {
        self.ranking_at_hand(namespace, query).or_else(|| self.ranking_of_all(namespace, query))
    }

    /// The ranking that `query` asks for, from all words: some 50 ms a million. `None` if they change too fast for
    /// that.
    pub fn ranking_of_all(&self, namespace: &str, query: &RankingQuery<'_>) -> Option<StoreRanking> {
        let walked = (0..limits::RANKING_TRIES).find_map(|_| self.walked_ranking(namespace, query));
        walked.or_else(|| self.ranking_under_guard(namespace, query))
    }

    /// Walks through all words, and catches up with what was written meanwhile; `None` if that is too much.
    fn walked_ranking(&self, namespace: &str, query: &RankingQuery<'_>) -> Option<StoreRanking> {
        let journal = {
            // The Writer notes changes and shows them under this lock. So it has noted every record that comes after
            // the first guard, and has done so before anybody sees the record.
            let _window = self.shared.window.lock();
            let guard = self.read();
            let Some(words) = guard.words(namespace) else { return Some((guard.state_id(), Vec::new())) };
            OpenJournal::new(words)
        };
        let mut walk = RankingWalk::new(&journal.words, *query);
        while walk.has_more() {
            self.peek_or_enter(|side| walk.read(side));
            walk.take();
        }
        let guard = self.read();
        let is_same = guard.words(namespace).is_some_and(|words| Arc::ptr_eq(&words, &journal.words));
        if !is_same || !walk.read_changed(&journal.words, &journal.journal, guard.inside.side) {
            return None;
        }
        let state = guard.state_id();
        drop(guard); // ranking takes longer than reading
        drop(journal);
        Some((state, walk.ranked()))
    }

    /// Reads all counts under one guard, for which the Writer may have to wait; `None` if they are too many for that.
    fn ranking_under_guard(&self, namespace: &str, query: &RankingQuery<'_>) -> Option<StoreRanking> {
        let guard = self.read();
        let state = guard.state_id();
        let Some(words) = guard.words(namespace) else { return Some((state, Vec::new())) };
        if words.distinct(guard.inside.side) > limits::RANKED_UNDER_GUARD {
            return None;
        }
        let mut walk = RankingWalk::new(&words, *query);
        walk.read_all(guard.inside.side);
        drop(guard);
        Some((state, walk.ranked()))
    }
}

impl ReadGuard<'_> {
    fn words(&self, namespace: &str) -> Option<Arc<CountIndex>> {
        self.side.counts.index(namespace)
    }
}

/// A journal that the Writer writes as long as this is there.
struct OpenJournal {
    words: Arc<CountIndex>,
    journal: Arc<ChangeJournal>,
}

impl OpenJournal {
    fn new(words: Arc<CountIndex>) -> Self {
        let journal = Arc::new(ChangeJournal::default());
        words.journals.lock().push(Arc::clone(&journal));
        Self { words, journal }
    }
}

impl Drop for OpenJournal {
    fn drop(&mut self) {
        self.words.journals.lock().retain(|open| !Arc::ptr_eq(open, &self.journal));
    }
}
