//! A commit group: batches on their way to becoming one record.
//!
//! Each batch is admitted on its own, against the state and what the group has already: one that must be refused
//! changes nothing, and the others go on. A kind of data has its own half of a group (`data/counts/admission.rs`,
//! `data/entries/admission.rs`); [`PendingKeys`] is the half that knows idempotency keys. `commit_group/claims.rs`
//! is where they meet: the words of a post come and go with its entry.

mod claims;
mod increments;
mod quotas;

use super::pending_keys::{PendingKeys, receipt_of_repeat};
use crate::{
    base::clock::LoggedTime,
    base::limits,
    base::position::Position,
    data::command::{WriteBatch, WriteError, WriteReceipt},
    data::counters::{CounterLimits, KeyWindows},
    data::counts::AdmissionLimits,
    data::counts::admission::{CountChanges, PendingCounts},
    data::entries::EntryWrite,
    data::entries::admission::PendingWrites,
    data::record::{Record, RecordBody},
    data::store::{RecordLookups, RepeatCheck, Store},
    text::tokenizer::Analyzer,
};

/// Batches that are admitted and not yet logged.
pub(super) struct CommitGroup {
    position: Position,
    time_ms: LoggedTime,
    analyzer: Analyzer,
    counts: PendingCounts,
    entries: PendingWrites,
    increments: increments::PendingIncrements,
    keys: PendingKeys,
    quotas: quotas::PendingQuotas,
    /// The posts of late, by namespace, where they have a rate.
    posts: KeyWindows,
    /// Batches that have changed something.
    batches: usize,
    /// Bytes of the record, about.
    bytes: usize,
}

impl CommitGroup {
    pub(super) fn new(store: &Store, analyzer: Analyzer, limits: CounterLimits) -> Self {
        Self {
            position: Position::ZERO,
            time_ms: LoggedTime::ZERO,
            analyzer,
            counts: PendingCounts::new(store.hasher()),
            entries: PendingWrites::new(store.hasher()),
            increments: increments::PendingIncrements::of_store(store, limits),
            keys: PendingKeys::default(),
            quotas: quotas::PendingQuotas::default(),
            posts: KeyWindows::default(),
            batches: 0,
            bytes: 0,
        }
    }

    /// Empties the group for the record at `position`.
    pub(super) fn start(&mut self, position: Position, time_ms: LoggedTime, store: &Store) {
        (self.position, self.time_ms) = (position, time_ms);
        self.counts.clear(store.counts());
        self.entries.clear();
        self.keep_sidelined();
        self.quotas.clear();
        self.keys.clear();
        (self.batches, self.bytes) = (0, 0);
    }

    /// Returns whether there is nothing to log.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.counts.is_empty() && self.entries.is_empty()
    }

    /// Returns whether the group has to be logged before this batch: it is large enough, one of the two is a block of
    /// text, which becomes a record of its own, or the batch depends on what the group does to entries.
    pub(super) fn has_no_room_for(&self, batch: &WriteBatch) -> bool {
        self.batches >= limits::MAX_BATCHES_PER_RECORD
            || self.bytes >= limits::GROUP_BYTES
            || self.counts.has_block()
            || (PendingCounts::is_block(&batch.counts) && !self.is_empty())
            || self.entries.evicts_enough()
            || self.entries.touches(&batch.namespace, &batch.entries)
            || self.mixes_removals(batch)
    }

    /// Takes a batch in and gives its receipt, for a repeat that of the first one.
    ///
    /// # Errors
    /// If its key does not let it count, or its words are refused ([`PendingCounts::admit`]): nothing has changed then.
    pub(super) fn admit(
        &mut self,
        store: &Store,
        limits: &AdmissionLimits,
        batch: &mut WriteBatch,
    ) -> Result<WriteReceipt, WriteError> {
        let values: usize = batch.entries.iter().map(EntryWrite::queued_bytes).sum();
        let bytes = batch.counts.text_bytes() + 12 * batch.counts.len() + 64 + values;
        let mut receipt = WriteReceipt {
            words: batch.words,
            distinct: batch.counts.len() as u64,
            left_out: batch.left_out,
            ..WriteReceipt::at(self.position) // entries and quota are known once they are planned
        };
        if let Some(key) = &batch.key {
            // Before every other check: a repeat gets the first answer, also if there would be no room for it by now.
            match self.keys.check(store, (&batch.namespace, key, batch.fingerprint), self.time_ms) {
                RepeatCheck::New => {}
                RepeatCheck::Repeat(entry) => return Ok(receipt_of_repeat(&entry, key)),
                RepeatCheck::Reused => return Err(WriteError::KeyReused),
                RepeatCheck::Gap { expected } => return Err(WriteError::StreamGap { expected }),
                RepeatCheck::Full if key.dedup_key().0 => return Err(WriteError::StreamWindowFull),
                RepeatCheck::Full => return Err(WriteError::WindowFull),
            }
        }
        let changes = self.plan(store, limits, batch)?;
        self.exchange(store, limits, (&changes, batch), &mut receipt)?;
        receipt.entries = changes.iter().filter(|change| change.is_requested()).count() as u64;
        self.entries.add(store.entries(), changes);
        if let Some(key) = &batch.key {
            // Last: a batch that was refused must be free to come again under its key.
            let named = (&*batch.namespace, key, batch.fingerprint);
            receipt.stream_last = self.keys.add(store, named, &receipt, (self.position, self.time_ms));
        }
        self.bytes += bytes;
        self.batches += 1;
        Ok(receipt)
    }

    /// Gives the record of the group, and what is known of its words and entries beside.
    pub(super) fn record(&self, store: &Store) -> (Record<'_>, RecordLookups<'_>) {
        let CountChanges { changes, lookups: words, digest_after } = self.counts.changes(store.counts());
        let digest_after = digest_after.wrapping_add(store.entries().digest()).wrapping_add(self.entries.digest());
        let body = RecordBody { changes, entries: self.entries.changes(), keyed_writes: self.keys.keyed_writes() };
        let lookups = RecordLookups { words, entries: self.entries.lookups() };
        (Record { position: self.position, time_ms: self.time_ms, digest_after, body }, lookups)
    }
}
