//! Words and namespaces that a commit group takes away, and amounts that it takes back.

use super::{CountStep, PendingCounts, pending_of};
use crate::base::failpoint::inject;
use crate::data::counts::{stored::StoredCounts, word_counts::WordCounts};

impl PendingCounts {
    /// Takes words away, whatever their counts.
    pub(crate) fn remove_words(&mut self, stored: &StoredCounts, namespace: &str, batch: &WordCounts) {
        let pending = pending_of(&mut self.namespaces, self.hasher, stored, namespace);
        pending.offsets.clear();
        let words = stored.index(namespace);
        for counted in batch.iter() {
            let (before, _) = pending.count(words, counted.hash, counted.word);
            if before != 0 {
                pending.set(counted.hash, counted.word, CountStep { before, after: 0 });
                pending.grown.words -= 1;
            }
        }
    }

    /// Takes amounts, which are negative, from the counts, each down to zero at most. A count that is not above zero
    /// stays, and no word comes with it, so nothing can refuse it.
    pub(crate) fn withdraw(&mut self, stored: &StoredCounts, namespace: &str, amounts: &WordCounts) {
        let words = stored.index(namespace);
        let pending = pending_of(&mut self.namespaces, self.hasher, stored, namespace);
        pending.offsets.clear();
        for counted in amounts.iter() {
            let (before, _) = pending.count(words, counted.hash, counted.word);
            let mut after = before.saturating_add(counted.amount).max(before.min(0));
            inject!(TakesBackBelowZero, after = before.saturating_add(counted.amount));
            self.clamped += u64::from(before.checked_add(counted.amount) != Some(after));
            if before != after {
                pending.set(counted.hash, counted.word, CountStep { before, after });
                pending.grown.words -= i64::from(after == 0);
            }
        }
    }

    /// Returns whether a namespace is there with the group's changes, as far as these tell.
    pub(crate) fn holds(&self, stored: &StoredCounts, namespace: &str) -> bool {
        let pending = self.namespaces.get(namespace);
        let is_stored = stored.index(namespace).is_some() && pending.is_none_or(|pending| !pending.dropped);
        is_stored || pending.is_some_and(|pending| !pending.counts.is_empty())
    }

    /// The count of a word with the group's changes.
    pub(crate) fn count(&self, stored: &StoredCounts, namespace: &str, (hash, word): (u64, &str)) -> i64 {
        let words = stored.index(namespace);
        let stored = || words.map_or(0, |words| words.locate(hash, word).0);
        self.namespaces.get(namespace).map_or_else(stored, |pending| pending.count(words, hash, word).0)
    }

    /// Takes a namespace away.
    pub(crate) fn drop_whole(&mut self, stored: &StoredCounts, namespace: &str) {
        let pending = pending_of(&mut self.namespaces, self.hasher, stored, namespace);
        pending.counts.clear();
        pending.offsets.clear();
        (pending.digest, pending.grown) = (0, Default::default());
        // What only this group has counted is forgotten without a trace in the record.
        pending.dropped = stored.index(namespace).is_some();
    }
}
