//! The queues as whoever leads holds them: what is admitted, and what the workers do next.
//!
//! A state machine over what the namespace [`QUEUES_STORED`](super::QUEUES_STORED) holds. It decides, and says by which
//! changes of counts; what it holds is read anew from the store whenever those may not have come to pass. Time is
//! logged time, so ages and windows go on across a restart and a promotion.

use super::{
    CounterLimits, CounterQueue, KeyWindows, RateQuota, WaitingKey, key_windows, ticked_amounts::TickedAmounts,
};
use crate::{base::clock::LoggedTime, base::failpoint::inject, base::limits};
use std::{collections::BTreeSet, sync::Arc};

/// Bytes of a key that is eligible: its place in a tree whose nodes are half empty.
const ELIGIBLE_BYTES: usize = 48;

/// The queues, and the windows of the keys.
#[derive(Clone, Debug)]
pub struct CounterQueues {
    limits: CounterLimits,
    main: TickedAmounts,
    excess: TickedAmounts,
    stale: TickedAmounts,
    window: KeyWindows,
    /// The oldest tick of each key in EXCESS whose window has room, with the key.
    eligible: BTreeSet<(u64, Arc<str>)>,
}

/// A step: amounts of one key that come, move or go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueMove {
    /// The counter's key.
    pub key: Arc<str>,
    /// The changes of what waits: queue, tick in milliseconds, amount.
    pub changes: Vec<(CounterQueue, u64, i64)>,
    /// The amount that the counter gains.
    pub counted: u64,
    /// The increments that are set aside.
    pub sidelined: Option<SidelinedIncrements>,
}

/// Increments that have left the way through the main queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidelinedIncrements {
    /// Their key.
    pub key: Arc<str>,
    /// The queue that they wait in.
    pub queue: CounterQueue,
    /// The time for which they have waited, in milliseconds.
    pub age_ms: u64,
    /// The number of them.
    pub increments: u64,
}

/// The reason why an increment is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueRefusal {
    /// The main queue is full.
    MainFull,
    /// The key is beyond its rate, and EXCESS is full.
    ExcessFull,
    /// As many windows are kept as may be.
    WindowsFull,
}

/// A queue's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLength {
    /// Increments.
    pub increments: u64,
    /// The tick of the oldest, in milliseconds of logged time.
    pub oldest: Option<LoggedTime>,
}

/// The lengths of the queues, in the order of [`CounterQueue::QUEUES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// The lengths.
    pub lengths: [QueueLength; 3],
    /// Bytes of memory that they and the windows of the keys take, about.
    pub bytes: usize,
}

impl CounterQueues {
    /// The queues that hold what these words of the namespace say. A word that says nothing of a queue is left out.
    pub fn of_words<'a>(limits: CounterLimits, words: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let mut queues = Self {
            limits,
            main: TickedAmounts::default(),
            excess: TickedAmounts::default(),
            stale: TickedAmounts::default(),
            window: KeyWindows::default(),
            eligible: BTreeSet::new(),
        };
        words.into_iter().for_each(|(word, amount)| queues.load(word, amount));
        queues
    }

    /// Takes a word of the namespace in.
    pub fn load(&mut self, word: &str, amount: i64) {
        // Only as this program writes them: another spelling would be a second word of the same place.
        let waiting = WaitingKey::of_word(word).filter(|waiting| amount > 0 && waiting.to_string() == word);
        if let Some(WaitingKey { queue, tick_ms, key }) = waiting {
            let key = Arc::from(key);
            self.apply(&QueueMove { key, changes: vec![(queue, tick_ms, amount)], counted: 0, sidelined: None });
        }
    }

    /// Plans to admit an increment of `key` at `now`: to the main queue, or to EXCESS if the key is beyond its rate.
    ///
    /// # Errors
    /// [`QueueRefusal`] if the queue is full, or there are too many windows.
    pub fn admission(&self, key: &str, now: LoggedTime) -> Result<QueueMove, QueueRefusal> {
        // The rate comes first: a key that is beyond it takes no room from others in the main queue, and is not refused
        // while that is full.
        let (key, tick_ms) = (Arc::from(key), tick_of(now));
        let moved = |changes, sidelined| QueueMove { key: Arc::clone(&key), changes, counted: 0, sidelined };
        // Nor does what comes now overtake what has waited for the window of the same key.
        if self.room_of(&key, now) == Some(0) || self.excess.sum_of(&key) > 0 {
            if self.excess.total() >= self.limits.spillover {
                return Err(QueueRefusal::ExcessFull);
            }
            let sidelined = Some(SidelinedIncrements {
                key: Arc::clone(&key),
                queue: CounterQueue::Excess,
                age_ms: 0,
                increments: 1,
            });
            return Ok(moved(vec![(CounterQueue::Excess, tick_ms, 1)], sidelined));
        }
        if self.main.total() >= self.limits.main {
            return Err(QueueRefusal::MainFull);
        }
        let mut changes = vec![(CounterQueue::Main, tick_ms, 1)];
        if self.limits.key_rate.is_some() {
            if self.window.is_full() {
                return Err(QueueRefusal::WindowsFull);
            }
            changes.push((CounterQueue::Window, key_windows::tick_of(now), 1));
        }
        Ok(moved(changes, None))
    }

    /// Plans the next step at `now`, in which a counter gains `credit` at most; `None`: nothing is to be done yet.
    pub fn next_move(&self, now: LoggedTime, credit: u64) -> Option<QueueMove> {
        // In this order: a window that has room lets excess move on in the same record, and what is too old is set
        // aside before a free worker could take it, as the log has it.
        self.end_of_window(now)
            .or_else(|| self.turn_to_stale(now))
            .or_else(|| if credit == 0 { None } else { self.count(now, credit) })
    }

    /// Takes an amount out of its key's window that has left it.
    fn end_of_window(&self, now: LoggedTime) -> Option<QueueMove> {
        let (tick_ms, key, amount) = self.window.left(now)?;
        let changes = vec![(CounterQueue::Window, tick_ms, -(amount as i64))];
        Some(QueueMove { key, changes, counted: 0, sidelined: None })
    }

    /// Moves the oldest of the main queue to STALE if it is too old, as far as there is room.
    fn turn_to_stale(&self, now: LoggedTime) -> Option<QueueMove> {
        let (tick_ms, key, amount) = self.main.first()?;
        let age_ms = now.as_ms().saturating_sub(tick_ms);
        // One that finds STALE full stays where it is: it was accepted, and the workers come to it all the same.
        let increments = amount.min(self.limits.spillover.saturating_sub(self.stale.total()));
        if self.limits.stale_ms.is_none_or(|stale_ms| age_ms <= stale_ms) || increments == 0 {
            return None;
        }
        let mut kept = increments as i64;
        inject!(LosesWhatTurnsStale, kept -= 1);
        let changes = vec![(CounterQueue::Main, tick_ms, -(increments as i64)), (CounterQueue::Stale, tick_ms, kept)];
        let sidelined = SidelinedIncrements { key: Arc::clone(key), queue: CounterQueue::Stale, age_ms, increments };
        Some(QueueMove { key: Arc::clone(key), changes, counted: 0, sidelined: Some(sidelined) })
    }

    /// Adds the oldest that waits to its counter: of the main queue first, then of STALE, then of EXCESS where a key's
    /// window has room.
    fn count(&self, now: LoggedTime, credit: u64) -> Option<QueueMove> {
        // STALE waits for an idle main queue, and EXCESS for both: what was within its rate is not held up by what was
        // not. A key without room is passed over, so it holds up no other key's.
        let of_main = self.main.first().map(|first| (CounterQueue::Main, first, u64::MAX));
        let of_stale = || self.stale.first().map(|first| (CounterQueue::Stale, first, u64::MAX));
        let of_excess = || {
            let (_, key) = self.eligible.first()?;
            Some((CounterQueue::Excess, self.excess.first_of(key)?, self.room_of(key, now).unwrap_or(u64::MAX)))
        };
        let (queue, (tick_ms, key, amount), room) = of_main.or_else(of_stale).or_else(of_excess)?;
        let counted = amount.min(room).min(credit);
        let mut changes = vec![(queue, tick_ms, -(counted as i64))];
        inject!(WorksWithoutTaking, changes.clear());
        if queue == CounterQueue::Excess && self.limits.key_rate.is_some() {
            changes.push((CounterQueue::Window, key_windows::tick_of(now), counted as i64));
            inject!(CountsExcessBesideItsWindow, changes.truncate(1));
        }
        Some(QueueMove { key: Arc::clone(key), changes, counted, sidelined: None })
    }

    /// The changes that take away whatever waits of a key. What its window counts stays.
    pub fn removal(&self, key: &str) -> QueueMove {
        let of = |queue| self.queue(queue).of_key(key).map(move |(tick_ms, amount)| (queue, tick_ms, -(amount as i64)));
        let changes = CounterQueue::QUEUES.into_iter().flat_map(of).collect();
        QueueMove { key: Arc::from(key), changes, counted: 0, sidelined: None }
    }

    /// Carries out a step that was planned.
    pub fn apply(&mut self, step: &QueueMove) {
        // Taken out before and put back behind: both the oldest tick of the key and its window may change.
        self.forget_eligible(&step.key);
        for (queue, tick_ms, amount) in &step.changes {
            self.queue_mut(*queue).add(*tick_ms, &step.key, *amount);
        }
        if let Some((tick_ms, key, _)) = self.excess.first_of(&step.key)
            && self.limits.key_rate.is_none_or(|rate| self.window.amounts.sum_of(key) < rate)
        {
            self.eligible.insert((tick_ms, Arc::clone(key)));
        }
    }

    /// Forgets everything: the namespace is taken away.
    pub fn clear(&mut self) {
        *self = Self::of_words(self.limits, []);
    }

    fn forget_eligible(&mut self, key: &str) {
        if let Some((tick_ms, key, _)) = self.excess.first_of(key) {
            let known = (tick_ms, Arc::clone(key));
            self.eligible.remove(&known);
        }
    }

    /// Gives the time at which [`CounterQueues::next_move`] has something to do, if the workers are free at
    /// `workers_free`; `None`: never, as things are.
    pub fn next_due(&self, workers_free: LoggedTime) -> Option<LoggedTime> {
        // Excess whose windows are full needs no time of its own: it moves when the oldest tick of a window leaves.
        let waits = self.main.total() > 0 || self.stale.total() > 0 || !self.eligible.is_empty();
        let left = self.window.next_left();
        let stale =
            self.main.first().filter(|_| self.stale.total() < self.limits.spillover).and_then(|(tick_ms, ..)| {
                self.limits
                    .stale_ms
                    .map(|stale_ms| LoggedTime::from_ms(tick_ms.saturating_add(stale_ms).saturating_add(1)))
            });
        waits.then_some(workers_free).into_iter().chain(left).chain(stale).min()
    }

    /// Increments of a key that wait.
    pub fn waiting(&self, key: &str) -> u64 {
        CounterQueue::QUEUES.into_iter().map(|queue| self.queue(queue).sum_of(key)).sum()
    }

    /// What is left of a key's rate at `now`; `None`: there is no rate.
    pub fn quota(&self, key: &str, now: LoggedTime) -> Option<RateQuota> {
        self.limits.key_rate.map(|rate| self.window.quota(key, rate, now))
    }

    /// The lengths of the queues.
    pub fn totals(&self) -> QueueTotals {
        QueueTotals {
            bytes: self.bytes(),
            lengths: CounterQueue::QUEUES.map(|queue| {
                let queue = self.queue(queue);
                let oldest = queue.first().map(|(tick_ms, ..)| LoggedTime::from_ms(tick_ms));
                QueueLength { increments: queue.total(), oldest }
            }),
        }
    }

    /// Bytes of memory that they take, about.
    pub fn bytes(&self) -> usize {
        let queues = [&self.main, &self.excess, &self.stale, &self.window.amounts].map(TickedAmounts::bytes);
        queues.iter().sum::<usize>() + self.eligible.len() * ELIGIBLE_BYTES
    }

    /// The room of a key's window; `None`: without bound.
    fn room_of(&self, key: &str, now: LoggedTime) -> Option<u64> {
        self.limits.key_rate.map(|rate| self.window.room_of(key, rate, now))
    }

    fn queue(&self, queue: CounterQueue) -> &TickedAmounts {
        match queue {
            CounterQueue::Main => &self.main,
            CounterQueue::Excess => &self.excess,
            CounterQueue::Stale => &self.stale,
            CounterQueue::Window => &self.window.amounts,
        }
    }

    fn queue_mut(&mut self, queue: CounterQueue) -> &mut TickedAmounts {
        match queue {
            CounterQueue::Main => &mut self.main,
            CounterQueue::Excess => &mut self.excess,
            CounterQueue::Stale => &mut self.stale,
            CounterQueue::Window => &mut self.window.amounts,
        }
    }
}

const fn tick_of(now: LoggedTime) -> u64 {
    now.as_ms() / limits::QUEUE_TICK_MS * limits::QUEUE_TICK_MS
}

#[cfg(test)]
mod tests;
