//! The lines of the log about increments that were set aside, written on a thread of their own: a terminal that takes
//! nothing, or a slow one, keeps no write waiting.

use crate::{
    base::clock::{Clock, Monotonic},
    base::limits,
    data::counters::{CounterQueue, SidelinedIncrements},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

const SECOND_MS: u64 = 1_000;

/// Hands increments that were set aside to the thread, which ends when this is dropped.
pub(in crate::node) struct SidelinedLog {
    lines: SyncSender<SidelinedIncrements>,
    /// Increments that have no line.
    untold: Arc<AtomicU64>,
}

impl SidelinedLog {
    pub(in crate::node) fn start(clock: &Arc<dyn Clock>) -> io::Result<Self> {
        let (lines, told) = sync_channel(limits::SIDELINED_LINES_WAITING);
        let (untold, clock) = (Arc::<AtomicU64>::default(), Arc::clone(clock));
        let left_out = Arc::clone(&untold);
        let run = move || run(&told, &left_out, &*clock);
        std::thread::Builder::new().name("memdb-sidelined".into()).spawn(run)?;
        Ok(Self { lines, untold })
    }

    /// Has lines written of these, or a number where there is no room for lines. It never waits.
    pub(in crate::node) fn tell(&self, sidelined: SidelinedIncrements) {
        let increments = sidelined.increments;
        if self.lines.try_send(sidelined).is_err() {
            self.untold.fetch_add(increments, Ordering::Relaxed);
        }
    }
}

/// The lines that may be written in the second that has begun.
#[derive(Debug, Default)]
struct LineBudget {
    begun: Option<Monotonic>,
    left: u64,
}

impl LineBudget {
    /// Returns whether another second has begun by `now`.
    fn renew(&mut self, now: Monotonic) -> bool {
        let is_over = self.begun.is_none_or(|begun| now.since_ms(begun) >= SECOND_MS);
        if is_over {
            *self = Self { begun: Some(now), left: limits::SIDELINED_LINES_PER_SECOND };
        }
        is_over
    }

    /// Takes so many lines, or those that are left.
    fn take(&mut self, lines: u64) -> u64 {
        let taken = lines.min(self.left);
        self.left -= taken;
        taken
    }
}

fn run(told: &Receiver<SidelinedIncrements>, untold: &AtomicU64, clock: &dyn Clock) {
    let mut budget = LineBudget::default();
    loop {
        let next = told.recv_timeout(Duration::from_millis(SECOND_MS));
        let is_end = next == Err(RecvTimeoutError::Disconnected);
        if budget.renew(clock.monotonic()) || is_end {
            log_rest(untold.swap(0, Ordering::Relaxed));
        }
        if let Ok(sidelined) = next {
            let lines = budget.take(sidelined.increments);
            untold.fetch_add(sidelined.increments - lines, Ordering::Relaxed);
            log_lines(&sidelined, lines);
        }
        if is_end {
            return;
        }
    }
}

/// Logs a line for each increment. Whatever a key holds, it is one line.
fn log_lines(sidelined: &SidelinedIncrements, lines: u64) {
    let (key, queue) = (sidelined.key.escape_debug(), sidelined.queue.name());
    for _ in 0..lines {
        match sidelined.queue {
            CounterQueue::Stale => {
                let age_seconds = sidelined.age_ms as f64 / 1e3;
                tracing::info!("sidelined key={key} to {queue} (age {age_seconds:.2}s)");
            }
            _ => tracing::info!("sidelined key={key} to {queue}"),
        }
    }
}

fn log_rest(increments: u64) {
    if increments > 0 {
        tracing::info!("sidelined {increments} more increments, for which there is no line");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::TrySendError;

    fn sidelined(increments: u64) -> SidelinedIncrements {
        SidelinedIncrements { key: Arc::from("k"), queue: CounterQueue::Excess, age_ms: 0, increments }
    }

    #[test]
    fn a_second_has_so_many_lines_and_the_next_one_as_many_again() {
        let (mut budget, at) = (LineBudget::default(), Monotonic::from_ms);
        let most = limits::SIDELINED_LINES_PER_SECOND;
        assert!(budget.renew(at(5)));
        assert_eq!((budget.take(most - 1), budget.take(7), budget.take(1)), (most - 1, 1, 0));
        assert!(!budget.renew(at(1_004)));
        assert!(budget.renew(at(1_005)));
        assert_eq!(budget.take(7), 7);
    }

    #[test]
    fn where_no_more_lines_may_wait_increments_are_told_of_by_their_number() {
        let (lines, told) = sync_channel(1);
        let log = SidelinedLog { lines, untold: Arc::default() };
        [3, 4, 5].into_iter().for_each(|increments| log.tell(sidelined(increments)));
        assert_eq!(log.untold.load(Ordering::Relaxed), 9);
        assert!(matches!(log.lines.try_send(sidelined(1)), Err(TrySendError::Full(_))));
        assert_eq!(told.recv(), Ok(sidelined(3)));
    }
}
