//! The part of a commit group in which the kinds of data meet: words that come and go with entries.

use super::CommitGroup;
use crate::{
    base::limits,
    data::command::{WriteBatch, WriteError},
    data::counts::word_counts::WordCounts,
    data::counts::{AdmissionLimits, WriteOp},
    data::entries::admission::PlannedChange,
    data::entries::stored::DueEntry,
    data::posts::{Takeback, take_back},
    data::record::RemovalCause,
    data::store::Store,
};

impl CommitGroup {
    /// Returns whether one record would both take words away and hold posts that count some: a mark of the removal and
    /// a post of the same sequence would not tell which came first.
    pub(super) fn mixes_removals(&self, batch: &WriteBatch) -> bool {
        if removes(batch.op) { !self.entries.is_empty() } else { self.entries.has_marks(&batch.namespace) }
    }

    /// Plans the changes of entries that a batch makes.
    pub(super) fn plan(
        &self,
        store: &Store,
        limits: &AdmissionLimits,
        batch: &WriteBatch,
    ) -> Result<Vec<PlannedChange>, WriteError> {
        let (namespace, stored) = (&*batch.namespace, store.entries());
        if removes(batch.op) {
            if !stored.has_claims(namespace) {
                return Ok(Vec::new());
            }
            let mark = |word: &str| PlannedChange::mark(stored, namespace, word, self.position);
            return Ok(match batch.op {
                WriteOp::DropNamespace => vec![mark("")],
                _ => batch.counts.iter().map(|counted| mark(counted.word)).collect(),
            });
        }
        let writes = (namespace, &batch.entries[..]);
        Ok(self.entries.plan(stored, limits.entry_bytes, writes, (self.position, self.time_ms))?)
    }

    /// Takes the words of replaced and removed posts from the batch's counts, so that these are the difference, and
    /// returns what is to be done with them.
    pub(super) fn exchange(&self, store: &Store, changes: &[PlannedChange], batch: &mut WriteBatch) -> WriteOp {
        let ended = changes.iter().filter_map(|change| change.ended_claim().map(|entry| (change.kind, entry)));
        let mut has_ended = false;
        for (kind, entry) in ended {
            has_ended = true;
            take_back(self.claims(store, &batch.namespace), kind, entry, &mut batch.counts);
        }
        if !has_ended {
            return batch.op;
        }
        batch.counts.retain_nonzero();
        WriteOp::Exchange
    }

    fn claims<'a>(&self, store: &'a Store, namespace: &'a str) -> Takeback<'a> {
        Takeback { analyzer: self.analyzer, stored: store.entries(), namespace }
    }

    /// Takes an entry whose time has come out, and its words with it.
    ///
    /// # Errors
    /// If its words are refused ([`PendingCounts::admit`]); nothing has changed then.
    pub(in crate::engine::leader) fn expire(
        &mut self,
        store: &Store,
        limits: &AdmissionLimits,
        due: DueEntry,
    ) -> Result<(), WriteError> {
        let DueEntry { kind, namespace, entry } = due;
        if entry.is_counted() {
            let mut counts = WordCounts::new(store.hasher());
            take_back(self.claims(store, &namespace), kind, &entry, &mut counts);
            self.bytes += counts.text_bytes() + 12 * counts.len();
            self.counts.admit(store.counts(), limits, (WriteOp::Withdraw, &namespace), &mut counts)?;
        }
        self.remove(store, PlannedChange::removal(kind, namespace, entry, RemovalCause::Expired));
        Ok(())
    }

    /// Takes an entry out that nobody needs.
    pub(in crate::engine::leader) fn remove(&mut self, store: &Store, removal: PlannedChange) {
        self.bytes += 64;
        self.entries.add(store.entries(), vec![removal]);
    }

    /// Returns whether another entry may expire in this record: one of them keeps no write waiting for long.
    pub(in crate::engine::leader) fn may_expire_more(&self) -> bool {
        self.bytes < limits::EXPIRED_BYTES_PER_RECORD
    }

    /// Counts the amounts that were not taken back in full.
    pub(in crate::engine::leader) fn clamped(&self) -> u64 {
        self.counts.clamped()
    }
}

/// Returns whether an operation takes words away whatever their counts.
const fn removes(op: WriteOp) -> bool {
    matches!(op, WriteOp::RemoveWords | WriteOp::DropNamespace)
}
