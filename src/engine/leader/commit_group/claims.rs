//! The part of a commit group in which the kinds of data meet: words that come and go with entries.

use super::CommitGroup;
use crate::{
    base::failpoint::inject,
    base::limits,
    data::command::{WriteBatch, WriteError, WriteReceipt},
    data::counts::quotas::SharedQuotas,
    data::counts::word_counts::{WordAmount, WordCounts},
    data::counts::{AdmissionLimits, WriteOp},
    data::entries::admission::PlannedChange,
    data::entries::stored::DueEntry,
    data::posts::{Takeback, take_back},
    data::record::RemovalCause,
    data::store::Store,
};

/// Bytes that a text whose words are taken back stands for in the size of a group: as many as are appended in the time
/// that it takes.
const TAKEBACK_WEIGHT: usize = 8;

impl CommitGroup {
    /// Returns whether one record would both take words away and hold posts that count some: a mark of the removal and
    /// a post of the same sequence would not tell which came first.
    pub(super) fn mixes_removals(&self, batch: &WriteBatch) -> bool {
        inject!(MixesRemovalsWithPosts, return false);
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
        let mut changes = match batch.op {
            op if removes(op) => self.marks(store, batch),
            _ => self.entries.plan(stored, (namespace, &batch.entries), (self.position, self.time_ms))?,
        };
        // A namespace is dropped also where the budget is used up: its one mark is small, and frees much.
        if batch.op != WriteOp::DropNamespace {
            self.entries.make_room(stored, limits.entry_bytes, &mut changes)?;
        }
        Ok(changes)
    }

    /// The marks that words of this batch are taken away, or their namespace, where posts count in it.
    fn marks(&self, store: &Store, batch: &WriteBatch) -> Vec<PlannedChange> {
        let (namespace, stored) = (&*batch.namespace, store.entries());
        let mark = |word: &str| PlannedChange::mark(stored, namespace, word, self.position);
        match batch.op {
            _ if !stored.has_claims(namespace) => Vec::new(),
            WriteOp::DropNamespace => vec![mark("")],
            // A word that is not there has nothing that could be taken back.
            _ => {
                let count = |counted: &WordAmount<'_>| {
                    self.counts.count(store.counts(), namespace, (counted.hash, counted.word))
                };
                batch.counts.iter().filter(|counted| count(counted) != 0).map(|counted| mark(counted.word)).collect()
            }
        }
    }

    /// Takes the batch's words in, and takes back those of the posts that `changes` replace and remove: what these have
    /// in common with the batch changes nothing. What else the
    /// batch does is told in its receipt.
    ///
    /// # Errors
    /// If counts are refused ([`PendingCounts::admit`]), or the words of a post would take one below zero; nothing has
    /// changed then.
    ///
    /// [`PendingCounts::admit`]: crate::data::counts::admission::PendingCounts::admit
    pub(super) fn exchange(
        &mut self,
        store: &Store,
        limits: &AdmissionLimits,
        (changes, batch): (&[PlannedChange], &mut WriteBatch),
        receipt: &mut WriteReceipt,
    ) -> Result<(), WriteError> {
        // What waits is held by the queues too, beside its words: one budget bounds both.
        let beside = self.increments.bytes() + self.posts.bytes();
        let limits = &AdmissionLimits { memory_bytes: limits.memory_bytes.saturating_sub(beside), ..*limits };
        if let Some(admitted) = self.admit_counters(store, limits, batch, receipt) {
            return admitted;
        }
        let post_rate = limits.post_rate.filter(|_| batch.is_post);
        if let Some(rate) = post_rate {
            self.check_post_rate(&batch.namespace, rate)?;
        }
        let mut op = batch.op;
        for change in changes {
            let Some(entry) = change.ended_claim() else { continue };
            inject!(CountsReplacedPostsToo, continue);
            take_back(self.claims(store, &batch.namespace), change.kind, entry, &mut batch.counts);
            // The text was gone through here: a record of many such posts would keep others waiting for long.
            self.bytes += TAKEBACK_WEIGHT * entry.raw_bytes();
            op = WriteOp::Exchange;
        }
        if op == WriteOp::Exchange {
            batch.counts.retain_nonzero();
        }
        // What takes away is never refused, though its marks take some memory.
        let room = match removes(batch.op) {
            true => None,
            false => self.quotas.room((store, &self.counts), &batch.namespace, changes)?,
        };
        let limits = &AdmissionLimits { room, ..*limits };
        self.counts.admit(store.counts(), limits, (op, &batch.namespace), &mut batch.counts)?;
        if room.is_some() {
            self.quotas.add(&batch.namespace, changes);
        }
        receipt.quota = post_rate.map(|rate| {
            self.posts.add(&batch.namespace, self.time_ms);
            self.posts.quota(&batch.namespace, rate, self.time_ms)
        });
        Ok(())
    }

    /// Refuses a post to a namespace that has used up its rate. Its window is in memory alone: a record that says
    /// which posts came would cost every post more than its refusal saves.
    fn check_post_rate(&mut self, namespace: &str, rate: u64) -> Result<(), WriteError> {
        self.posts.forget(self.time_ms);
        // Namespaces come and go: a bound on how many there are at once bounds no window.
        if self.posts.is_full() {
            return Err(WriteError::TooManyWindows);
        }
        let quota = self.posts.quota(namespace, rate, self.time_ms);
        if quota.remaining == 0 {
            return Err(WriteError::PostRateExceeded(quota));
        }
        Ok(())
    }

    /// Has these quotas in force.
    pub(in crate::engine::leader) fn set_quotas(&mut self, quotas: SharedQuotas) {
        self.quotas.shared = quotas;
    }

    fn claims<'a>(&self, store: &'a Store, namespace: &'a str) -> Takeback<'a> {
        Takeback { analyzer: self.analyzer, stored: store.entries(), namespace }
    }

    /// Takes an entry whose time has come out, and its words with it.
    pub(in crate::engine::leader) fn expire(&mut self, store: &Store, due: DueEntry) {
        if due.entry.is_counted() {
            let mut amounts = WordCounts::new(store.hasher());
            take_back(self.claims(store, &due.namespace), due.kind, &due.entry, &mut amounts);
            inject!(ExpiresWithoutItsWords, amounts.clear());
            // By the text and not by its words: a long one of few words takes as long.
            self.bytes += due.entry.raw_bytes();
            self.counts.withdraw(store.counts(), &due.namespace, &amounts);
        }
        self.remove(store, due, RemovalCause::Expired);
    }

    /// Takes an entry out that nobody needs.
    pub(in crate::engine::leader) fn remove(&mut self, store: &Store, entry: DueEntry, cause: RemovalCause) {
        self.bytes += 64;
        self.entries.add(store.entries(), [PlannedChange::removal(store.entries(), entry, cause)]);
    }

    /// Takes entries out that are beyond the budget, as many as one record takes: a node may have come to lead whose
    /// budget is smaller.
    pub(in crate::engine::leader) fn trim(&mut self, store: &Store, limits: &AdmissionLimits) {
        let mut changes = Vec::new();
        self.entries.evict(store.entries(), self.entries.over(store.entries(), limits.entry_bytes, 0), &mut changes);
        self.entries.add(store.entries(), changes);
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
