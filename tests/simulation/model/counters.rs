//! Counters as the database must hold them: what is admitted, where it waits, and what the workers do next.
//!
//! There are no queues here. What waits is looked up among the words that say so, as often as it is asked for.

use super::{State, Verdict};
use memdb::{
    base::limits,
    data::command::WriteBatch,
    data::counters::{
        COUNTERS, COUNTERS_STORED, CounterLimits, CounterQueue, QUEUES_STORED, QueueTotals, RateQuota, WaitingKey,
    },
    data::counts::WriteOp,
    data::store::StoreReader,
};
use std::sync::Arc;

/// An amount of a queue: its tick, its key, and how much it is.
type Waiting = (u64, Arc<str>, u64);

/// What is told of a batch about counters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CounterOutcome {
    /// What is left of the key's rate.
    pub quota: Option<RateQuota>,
    /// Of a counter that was taken away: its value, and the increments that waited for it.
    pub removed: Option<(u64, u64)>,
}

/// What the workers do by one moment.
#[derive(Clone, Copy, Debug)]
pub struct QueueWork<'a> {
    pub limits: &'a CounterLimits,
    /// The time in logged milliseconds.
    pub now_ms: u64,
    /// How many increments they may add.
    pub credit: u64,
}

impl State {
    /// Takes a batch about counters in, and gives what is told of it.
    pub(super) fn admit_counters(
        &mut self,
        batch: &WriteBatch,
        (limits, now_ms): (&CounterLimits, u64),
        found_no_memory: bool,
    ) -> Result<CounterOutcome, Verdict> {
        let key = batch.counts.iter().next().expect("clients name one").word;
        if batch.op == WriteOp::RemoveCounter {
            let waits = self.waits(key);
            for queue in CounterQueue::QUEUES {
                for (tick_ms, _, amount) in self.waiting_of(queue, key) {
                    self.moves(queue, (tick_ms, key), -(amount as i64));
                }
            }
            let value = self.count_of(COUNTERS_STORED, key);
            self.gains(key, -value);
            return Ok(CounterOutcome { quota: None, removed: Some((value as u64, waits)) });
        }
        let quota = self.quota(key, limits, now_ms);
        let tick_ms = now_ms / limits::QUEUE_TICK_MS * limits::QUEUE_TICK_MS;
        let before = self.counts.clone();
        if quota.is_some_and(|quota| quota.remaining == 0) || self.sum_of(CounterQueue::Excess, key) > 0 {
            if self.total(CounterQueue::Excess) >= limits.spillover {
                return Err(Verdict::RateExceeded(quota));
            }
            self.moves(CounterQueue::Excess, (tick_ms, key), 1);
        } else {
            if self.total(CounterQueue::Main) >= limits.main {
                return Err(Verdict::QueueFull(quota));
            }
            self.moves(CounterQueue::Main, (tick_ms, key), 1);
            if limits.key_rate.is_some() {
                self.moves(CounterQueue::Window, (window_tick(now_ms), key), 1);
            }
        }
        let words = |counts: &super::Counts| counts.get(QUEUES_STORED).map_or(0, |words| words.len());
        if found_no_memory && words(&self.counts) > words(&before) {
            self.counts = before;
            return Err(Verdict::NoMemory);
        }
        Ok(CounterOutcome { quota: self.quota(key, limits, now_ms), removed: None })
    }

    /// Whether a batch that takes a counter away finds something.
    pub fn has_counter(&self, batch: &WriteBatch) -> bool {
        let is_there = |key: &str| self.count_of(COUNTERS_STORED, key) != 0 || self.waits(key) > 0;
        *batch.namespace == *COUNTERS && batch.counts.iter().any(|counted| is_there(counted.word))
    }

    /// Does what the workers do in one record. Gives how many steps that are, and how many increments they have added.
    pub fn work(&mut self, work: &QueueWork<'_>) -> (usize, u64) {
        let (mut steps, mut counted) = (0, 0);
        while steps < limits::QUEUE_STEPS_PER_RECORD
            && let Some(added) = self.step_of_workers(&QueueWork { credit: work.credit - counted, ..*work })
        {
            (steps, counted) = (steps + 1, counted + added);
        }
        (steps, counted)
    }

    /// Whether the workers have something to do.
    pub fn has_work(&self, work: &QueueWork<'_>) -> bool {
        self.counts.contains_key(QUEUES_STORED) && self.clone().step_of_workers(work).is_some()
    }

    fn step_of_workers(&mut self, work: &QueueWork<'_>) -> Option<u64> {
        let QueueWork { limits, now_ms, credit } = *work;
        // What has left its window.
        let oldest = self.waiting(CounterQueue::Window).into_iter().next();
        if let Some((tick_ms, key, amount)) = oldest.filter(|(tick_ms, ..)| left_ms(*tick_ms) <= now_ms) {
            self.moves(CounterQueue::Window, (tick_ms, &key), -(amount as i64));
            return Some(0);
        }
        // What has waited for too long.
        if let Some(stale_ms) = limits.stale_ms
            && let Some((tick_ms, key, amount)) = self.waiting(CounterQueue::Main).into_iter().next()
            && now_ms - tick_ms > stale_ms
        {
            let moved = amount.min(limits.spillover.saturating_sub(self.total(CounterQueue::Stale)));
            if moved > 0 {
                self.moves(CounterQueue::Main, (tick_ms, &key), -(moved as i64));
                self.moves(CounterQueue::Stale, (tick_ms, &key), moved as i64);
                return Some(0);
            }
        }
        // The oldest of the first queue that has any for them.
        let room = |key: &str| limits.key_rate.map_or(u64::MAX, |rate| rate - self.sum_of(CounterQueue::Window, key));
        let queues = CounterQueue::QUEUES.map(|queue| (queue, self.waiting(queue)));
        let of_queue = |wanted| queues.iter().find(|(queue, _)| *queue == wanted).expect("one of three");
        let first = |queue| of_queue(queue).1.first().map(|first| (queue, first.clone(), u64::MAX));
        let excess = || {
            let first = of_queue(CounterQueue::Excess).1.iter().find(|(_, key, _)| room(key) > 0)?;
            Some((CounterQueue::Excess, first.clone(), room(&first.1)))
        };
        let next = first(CounterQueue::Main).or_else(|| first(CounterQueue::Stale)).or_else(excess);
        let (queue, (tick_ms, key, amount), room) = next.filter(|_| credit > 0)?;
        let counted = amount.min(room).min(credit);
        self.moves(queue, (tick_ms, &key), -(counted as i64));
        if queue == CounterQueue::Excess && limits.key_rate.is_some() {
            self.moves(CounterQueue::Window, (window_tick(now_ms), &key), counted as i64);
        }
        self.gains(&key, counted as i64);
        Some(counted)
    }

    /// What waits in a queue, the oldest first.
    fn waiting(&self, queue: CounterQueue) -> Vec<Waiting> {
        let words = self.counts.get(QUEUES_STORED).into_iter().flat_map(|words| words.iter());
        let of_queue = words.filter_map(|(word, amount)| {
            let waiting = WaitingKey::of_word(word).filter(|waiting| waiting.queue == queue)?;
            Some((waiting.tick_ms, waiting.key.into(), *amount as u64))
        });
        of_queue.collect()
    }

    fn waiting_of(&self, queue: CounterQueue, key: &str) -> Vec<Waiting> {
        self.waiting(queue).into_iter().filter(|(_, of, _)| **of == *key).collect()
    }

    fn sum_of(&self, queue: CounterQueue, key: &str) -> u64 {
        self.waiting_of(queue, key).iter().map(|(.., amount)| amount).sum()
    }

    fn total(&self, queue: CounterQueue) -> u64 {
        self.waiting(queue).iter().map(|(.., amount)| amount).sum()
    }

    fn waits(&self, key: &str) -> u64 {
        CounterQueue::QUEUES.into_iter().map(|queue| self.sum_of(queue, key)).sum()
    }

    fn quota(&self, key: &str, limits: &CounterLimits, now_ms: u64) -> Option<RateQuota> {
        let limit = limits.key_rate?;
        let mut inside = self.waiting_of(CounterQueue::Window, key);
        inside.retain(|(tick_ms, ..)| left_ms(*tick_ms) > now_ms);
        let used: u64 = inside.iter().map(|(.., amount)| amount).sum();
        let reset_ms = inside.first().map_or(0, |(tick_ms, ..)| left_ms(*tick_ms) - now_ms);
        Some(RateQuota { limit, remaining: limit - used, reset_ms })
    }

    fn moves(&mut self, queue: CounterQueue, (tick_ms, key): (u64, &str), amount: i64) {
        let word = WaitingKey { queue, tick_ms, key }.to_string();
        self.count(QUEUES_STORED, WriteOp::Add, [(word.as_str(), amount)].into_iter()).expect("few");
    }

    fn gains(&mut self, key: &str, amount: i64) {
        self.count(COUNTERS_STORED, WriteOp::Add, [(key, amount)].into_iter()).expect("few");
    }

    /// Whether these are the lengths of the queues.
    pub fn has_lengths(&self, totals: &QueueTotals) -> bool {
        CounterQueue::QUEUES.into_iter().zip(&totals.lengths).all(|(queue, told)| {
            let oldest_ms = self.waiting(queue).first().map(|(tick_ms, ..)| *tick_ms);
            (told.increments, told.oldest.map(|at| at.as_ms())) == (self.total(queue), oldest_ms)
        })
    }
}

/// What a counter has gained, by what a store shows: its value, and what waits for it in any queue.
pub fn gained(reader: &StoreReader, key: &str) -> i64 {
    let mut gained = reader.read().count(COUNTERS_STORED, key);
    if let Some(mut scan) = reader.scan(QUEUES_STORED) {
        let mut each = |word: &str, amount: i64| {
            let waiting = WaitingKey::of_word(word).filter(|waiting| waiting.key == key);
            gained += waiting.filter(|waiting| waiting.queue != CounterQueue::Window).map_or(0, |_| amount);
        };
        while scan.step(&mut each) {}
    }
    gained
}

fn window_tick(now_ms: u64) -> u64 {
    now_ms / limits::WINDOW_TICK_MS * limits::WINDOW_TICK_MS
}

/// When a tick has left the window as a whole.
fn left_ms(tick_ms: u64) -> u64 {
    tick_ms + limits::WINDOW_TICK_MS + limits::KEY_WINDOW_MS
}
