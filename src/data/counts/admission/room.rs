//! The room that the quota of a namespace leaves.

use super::{BatchSums, CountsRefusal, NamespaceRoom, PendingCounts};
use crate::data::counts::{quotas::QuotaKind, stored::StoredCounts};

/// The difference that a group makes to the size of a namespace: words exactly, bytes at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NamespaceGrowth {
    pub(super) words: i64,
    pub(super) bytes: u64,
}

impl NamespaceRoom {
    /// The difference that a batch makes which takes so many bytes of memory at most.
    ///
    /// # Errors
    /// [`CountsRefusal::NamespaceFull`] if it has no room. A batch that takes nothing is never refused, as known words
    /// go on counting.
    pub(super) fn take(self, sums: &BatchSums, bytes: usize) -> Result<NamespaceGrowth, CountsRefusal> {
        let words =
            sums.counts.iter().map(|step| i64::from(step.after != 0) - i64::from(step.before != 0)).sum::<i64>();
        // By what is taken and not by what is left: a namespace may hold more than a quota that came later.
        let bytes = bytes as u64;
        if words > 0 && words.unsigned_abs() > self.words {
            return Err(CountsRefusal::NamespaceFull(QuotaKind::Words));
        }
        if bytes > 0 && bytes > self.bytes {
            return Err(CountsRefusal::NamespaceFull(QuotaKind::Bytes));
        }
        Ok(NamespaceGrowth { words, bytes })
    }
}

impl NamespaceGrowth {
    pub(super) fn add(&mut self, more: Self) {
        (self.words, self.bytes) = (self.words + more.words, self.bytes + more.bytes);
    }
}

impl PendingCounts {
    /// The distinct words of a namespace with the group's changes, and a bound on their memory in bytes.
    pub(crate) fn size(&self, stored: &StoredCounts, namespace: &str) -> (u64, u64) {
        let (is_dropped, grown) =
            self.namespaces.get(namespace).map_or_else(Default::default, |pending| (pending.dropped, pending.grown));
        // What the group drops is still stored, because the store changes by the group's record alone.
        let words = stored.index(namespace).filter(|_| !is_dropped);
        let (distinct, bytes) = words.map_or((0, 0), |words| (words.distinct(), words.bytes() as u64));
        (distinct.saturating_add_signed(grown.words), bytes + grown.bytes)
    }
}
