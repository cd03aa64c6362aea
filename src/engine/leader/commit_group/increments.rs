//! The part of a commit group that knows counters: increments come to a queue, and the workers' steps move them on.
//!
//! What the queues hold is counts, so a step is admitted as other changes of counts are. A step is carried out in
//! [`CounterQueues`] as soon as the group has it; if the group's record cannot be written, the queues are read anew.

use super::CommitGroup;
use crate::{
    base::clock::LoggedTime,
    base::failpoint::inject,
    base::limits,
    data::command::{WriteBatch, WriteError, WriteReceipt},
    data::counters::{
        COUNTERS, COUNTERS_STORED, CounterLimits, CounterQueues, QUEUES_STORED, QueueMove, QueueRefusal, QueueTotals,
        RateQuota, SidelinedIncrements, WaitingKey,
    },
    data::counts::word_counts::WordCounts,
    data::counts::{AdmissionLimits, CountsRefusal, WriteOp},
    data::store::Store,
};

/// Bytes of an amount in a record, beside the key: its queue, its tick and itself.
const AMOUNT_BYTES: usize = 32;

/// The queues with the steps that the group has made.
pub(super) struct PendingIncrements {
    queues: CounterQueues,
    limits: CounterLimits,
    /// Increments that the group sets aside.
    sidelined: Vec<SidelinedIncrements>,
    /// Increments that were set aside by records, and not told of yet.
    untold: Vec<SidelinedIncrements>,
    /// Increments that came since the workers last looked.
    admitted: usize,
    /// The changes of one step: a buffer that is used again.
    amounts: WordCounts,
}

impl PendingIncrements {
    /// The queues that a store holds.
    pub(super) fn of_store(store: &Store, limits: CounterLimits) -> Self {
        let mut queues = CounterQueues::of_words(limits, []);
        if let Some(mut scan) = store.reader().scan(QUEUES_STORED) {
            while scan.step(|word, amount| queues.load(word, amount)) {}
        }
        inject!(ForgetsWhatWaits, queues.clear());
        let (sidelined, untold) = Default::default();
        Self { queues, limits, sidelined, untold, admitted: 0, amounts: WordCounts::new(store.hasher()) }
    }

    /// Bytes of memory that the queues take, about.
    pub(super) fn bytes(&self) -> usize {
        self.queues.bytes()
    }
}

impl CommitGroup {
    /// Takes a batch in if it is about counters. Its receipt has what is left of the key's rate, or what has gone.
    ///
    /// # Errors
    /// If the increment is refused, or the batch is none that the namespace of counters takes; nothing has changed
    /// then.
    pub(super) fn admit_counters(
        &mut self,
        store: &Store,
        limits: &AdmissionLimits,
        batch: &WriteBatch,
        receipt: &mut WriteReceipt,
    ) -> Option<Result<(), WriteError>> {
        if *batch.namespace != *COUNTERS {
            return None;
        }
        match batch.op {
            WriteOp::Increment => Some(self.increment(store, limits, batch).map(|quota| receipt.quota = quota)),
            WriteOp::RemoveCounter => {
                for counted in batch.counts.iter() {
                    let (value, waiting) = self.remove_counter(store, counted.hash, counted.word);
                    receipt.words = u64::from(value > 0 || waiting > 0);
                    (receipt.distinct, receipt.left_out) = (value, waiting);
                }
                Some(Ok(()))
            }
            // Text and given amounts have folded words: beside raw keys the same name would mean two things.
            _ if !self.holds_counters(store) => None,
            // Entries of the same name have nothing to do with counters.
            WriteOp::Add | WriteOp::AddGiven | WriteOp::Exchange if batch.counts.is_empty() => None,
            WriteOp::DropNamespace => {
                self.counts.drop_whole(store.counts(), COUNTERS_STORED);
                self.counts.drop_whole(store.counts(), QUEUES_STORED);
                self.increments.queues.clear();
                Some(Ok(()))
            }
            WriteOp::Add | WriteOp::AddGiven | WriteOp::Exchange | WriteOp::RemoveWords => {
                Some(Err(WriteError::HoldsCounters))
            }
        }
    }

    fn holds_counters(&self, store: &Store) -> bool {
        [COUNTERS_STORED, QUEUES_STORED].iter().any(|name| self.counts.holds(store.counts(), name))
    }

    fn increment(
        &mut self,
        store: &Store,
        limits: &AdmissionLimits,
        batch: &WriteBatch,
    ) -> Result<Option<RateQuota>, WriteError> {
        if self.counts.holds(store.counts(), COUNTERS) {
            return Err(WriteError::HoldsWords);
        }
        for counted in batch.counts.iter() {
            let queues = &self.increments.queues;
            let value = self.counts.count(store.counts(), COUNTERS_STORED, (counted.hash, counted.word));
            // What is accepted is counted in the end: the counter must have room for all that waits.
            if value.saturating_add_unsigned(queues.waiting(counted.word)) >= limits::MAX_GIVEN_COUNT {
                return Err(WriteError::BeyondBound { word: counted.word.to_owned() });
            }
            let refused = |refusal| refused(refusal, queues.quota(counted.word, self.time_ms));
            let step = queues.admission(counted.word, self.time_ms).map_err(refused)?;
            self.take_step(store, limits, step)?;
            self.increments.admitted += 1;
        }
        let key = batch.counts.iter().next();
        Ok(key.and_then(|key| self.increments.queues.quota(key.word, self.time_ms)))
    }

    /// Takes a counter away, and gives its value and what waited for it.
    fn remove_counter(&mut self, store: &Store, hash: u64, key: &str) -> (u64, u64) {
        let value = self.counts.count(store.counts(), COUNTERS_STORED, (hash, key));
        // What was accepted before is taken away too: in the order of the answers it counted, and then went.
        let PendingIncrements { queues, amounts, .. } = &mut self.increments;
        let waiting = queues.waiting(key);
        let mut step = queues.removal(key);
        inject!(RemovesTheCounterAlone, step.changes.clear());
        // A key may have many amounts, each of which is a word of the record.
        self.bytes += step.changes.len() * (key.len() + AMOUNT_BYTES);
        fill(amounts, &step);
        self.counts.withdraw(store.counts(), QUEUES_STORED, amounts);
        queues.apply(&step);
        amounts.clear();
        amounts.set_hashed(hash, key, 0);
        self.counts.remove_words(store.counts(), COUNTERS_STORED, amounts);
        (u64::try_from(value).unwrap_or(0), waiting)
    }

    /// Makes a step's changes part of the group, all or none.
    fn take_step(&mut self, store: &Store, limits: &AdmissionLimits, step: QueueMove) -> Result<(), CountsRefusal> {
        let (stored, PendingIncrements { queues, amounts, sidelined, .. }) = (store.counts(), &mut self.increments);
        fill(amounts, &step);
        // What waits first: a counter that finds no room is the likelier refusal, and then the amounts go back to words
        // that are there, which nothing can refuse.
        self.counts.admit(stored, limits, (WriteOp::Add, QUEUES_STORED), amounts)?;
        if step.counted > 0 {
            amounts.clear();
            amounts.add(&step.key, step.counted as i64).expect("a queue holds less than overflows");
            if let Err(refusal) = self.counts.admit(stored, limits, (WriteOp::Add, COUNTERS_STORED), amounts) {
                let back = step.changes.iter().map(|(queue, tick_ms, amount)| (*queue, *tick_ms, -amount)).collect();
                fill(amounts, &QueueMove { changes: back, ..step });
                self.counts.admit(stored, limits, (WriteOp::Add, QUEUES_STORED), amounts)?;
                return Err(refusal);
            }
        }
        queues.apply(&step);
        sidelined.extend(step.sidelined);
        Ok(())
    }

    /// Has the workers take up to `credit` increments on, as many steps as one record takes. Returns how many they have
    /// added, and whether one was refused: then nothing more is tried for a while.
    pub(in crate::engine::leader) fn work_queues(&mut self, store: &Store, credit: u64) -> (u64, bool) {
        // What was accepted is counted, whatever the budgets say by now: it takes no more memory than it did, and the
        // counters may be one namespace beyond the bound.
        let limits = AdmissionLimits { memory_bytes: usize::MAX, namespaces: usize::MAX, ..AdmissionLimits::default() };
        let mut counted = 0;
        for _ in 0..limits::QUEUE_STEPS_PER_RECORD {
            let Some(step) = self.increments.queues.next_move(self.time_ms, credit - counted) else { break };
            let added = step.counted;
            if self.take_step(store, &limits, step).is_err() {
                return (counted, true);
            }
            counted += added;
        }
        (counted, false)
    }

    /// Reads the queues anew: the steps of a record that was not written have not come to pass.
    pub(in crate::engine::leader) fn reload_queues(&mut self, store: &Store) {
        inject!(KeepsStepsOfAFailedAppend, return);
        let untold = std::mem::take(&mut self.increments.untold);
        self.increments = PendingIncrements { untold, ..PendingIncrements::of_store(store, self.increments.limits) };
    }

    /// The record of the group is written: what it sets aside may be told of.
    pub(in crate::engine::leader) fn keep_sidelined(&mut self) {
        let PendingIncrements { sidelined, untold, .. } = &mut self.increments;
        untold.append(sidelined);
    }

    /// Takes the increments that were set aside since this was last asked.
    pub(in crate::engine::leader) fn take_sidelined(&mut self) -> Vec<SidelinedIncrements> {
        self.keep_sidelined();
        std::mem::take(&mut self.increments.untold)
    }

    /// Counts the records that the workers may make: as many as go with what has come since this was last asked.
    pub(in crate::engine::leader) fn records_of_work(&mut self) -> usize {
        // An increment is counted in one step, and leaves its window in another.
        1 + 2 * std::mem::take(&mut self.increments.admitted) / limits::QUEUE_STEPS_PER_RECORD
    }

    /// The lengths of the queues.
    pub(in crate::engine::leader) fn queue_totals(&self) -> QueueTotals {
        self.increments.queues.totals()
    }

    /// Gives the time at which the queues have something to do, if the workers are free at `workers_free`.
    pub(in crate::engine::leader) fn next_queue_step(&self, workers_free: LoggedTime) -> Option<LoggedTime> {
        self.increments.queues.next_due(workers_free)
    }
}

/// Puts the changes of a step into a buffer.
fn fill(amounts: &mut WordCounts, step: &QueueMove) {
    amounts.clear();
    for (queue, tick_ms, amount) in &step.changes {
        let word = WaitingKey { queue: *queue, tick_ms: *tick_ms, key: &step.key }.to_string();
        amounts.add(&word, *amount).expect("each place comes once");
    }
}

fn refused(refusal: QueueRefusal, quota: Option<RateQuota>) -> WriteError {
    match refusal {
        QueueRefusal::MainFull => WriteError::CounterQueueFull(quota),
        QueueRefusal::ExcessFull => WriteError::RateExceeded(quota),
        QueueRefusal::WindowsFull => WriteError::TooManyWindows,
    }
}
