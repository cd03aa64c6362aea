//! The workers of the counters' queues: the Writer makes records of their steps.
//!
//! Workers are no threads, so none can die or be late alone: a step is what the queues say is next, at the pace of the
//! settings. A record takes a bounded number of steps, and writes that have come meanwhile go first.

use super::{Writer, WriterAction};
use crate::{
    base::clock::Monotonic,
    data::counters::{CounterLimits, QueueTotals, WorkerPace},
};

/// Time for which nothing more is tried after a step was refused, in milliseconds.
const REFUSED_PAUSE_MS: u64 = 1_000;

/// The workers as the Writer knows them.
pub(super) struct QueueWork {
    pace: WorkerPace,
    /// A step was refused, so none is tried until then.
    paused_until: Monotonic,
    /// The lengths that were last told of.
    known: QueueTotals,
}

impl QueueWork {
    pub(super) fn new(limits: &CounterLimits, now: Monotonic) -> Self {
        Self { pace: WorkerPace::new(limits, now), paused_until: now, known: QueueTotals::default() }
    }
}

impl<T> Writer<T> {
    /// Has the workers do what they may by `now`, in a record for what came since the last time, and tells what has
    /// become of the queues.
    pub(super) fn work_queues(&mut self, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        for _ in 0..self.group.records_of_work() {
            if !self.has_queue_work(now) || self.refusal(now).is_some() {
                break;
            }
            self.group.start(self.log.next(), self.clock.read(now), &self.store);
            let (counted, is_refused) = self.group.work_queues(&self.store, self.queue_work.pace.available(now));
            self.commit(now, actions);
            self.queue_work.pace.spend(counted, now);
            if is_refused {
                tracing::warn!("a step of the counters' workers was refused: they go on in a second");
                self.queue_work.paused_until = now.after_ms(REFUSED_PAUSE_MS);
            }
        }
        actions.extend(self.group.take_sidelined().into_iter().map(WriterAction::Sidelined));
        let totals = self.group.queue_totals();
        if totals != self.queue_work.known {
            self.queue_work.known = totals;
            actions.push(WriterAction::QueuesChanged(totals));
        }
    }

    /// Returns whether the workers have something to do at `now`.
    pub fn has_queue_work(&self, now: Monotonic) -> bool {
        self.next_queue_work().is_some_and(|due| due <= now)
    }

    /// Gives the time at which the workers have something to do; `None`: never, as things are.
    pub(super) fn next_queue_work(&self) -> Option<Monotonic> {
        if self.stepped_down || self.poisoned || self.expiry_ended {
            return None;
        }
        let due = self.group.next_queue_step(self.clock.read(self.queue_work.pace.next()))?;
        // Behind an append that failed nothing is tried at once again, as for entries that expire.
        let pause = self.disk_full_until.max(self.expiry_paused_until).max(self.queue_work.paused_until);
        Some(self.clock.when(due).max(pause))
    }
}
