//! Words and namespaces that a commit group takes away, and amounts that it takes back.

use super::{CountStep, PendingCounts, pending_of};
use crate::base::failpoint::inject;
use crate::data::counts::{stored::StoredCounts, word_counts::WordCounts};

impl PendingCounts {
    pub(super) fn remove(&mut self, stored: &StoredCounts, namespace: &str, batch: &WordCounts) {
        let pending = pending_of(&mut self.namespaces, self.hasher, stored, namespace);
        pending.offsets.clear();
        let words = stored.index(namespace);
        for counted in batch.iter() {
            let (before, _) = pending.count(words, counted.hash, counted.word);
            if before != 0 {
                pending.set(counted.hash, counted.word, CountStep { before, after: 0 });
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
            }
        }
    }

    /// The count of a word with the group's changes.
    pub(crate) fn count(&self, stored: &StoredCounts, namespace: &str, (hash, word): (u64, &str)) -> i64 {
        let words = stored.index(namespace);
        let stored = || words.map_or(0, |words| words.locate(hash, word).0);
        self.namespaces.get(namespace).map_or_else(stored, |pending| pending.count(words, hash, word).0)
    }

    pub(super) fn drop_namespace(&mut self, stored: &StoredCounts, namespace: &str) {
        let pending = pending_of(&mut self.namespaces, self.hasher, stored, namespace);
        pending.counts.clear();
        pending.offsets.clear();
        pending.digest = 0;
        // What only this group has counted is forgotten without a trace in the record.
        pending.dropped = stored.index(namespace).is_some();
    }
}
