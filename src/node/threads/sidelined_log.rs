//! The lines of the log about increments that were set aside, written on a thread of their own: a terminal that takes
//! nothing, or a slow one, keeps no write waiting, and the end of a role only for a moment.

use crate::{
    base::clock::{Clock, Monotonic},
    base::limits,
    base::line_budget::LineBudget,
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

/// Interval at which it is told how many have no line.
const REST_INTERVAL: Duration = Duration::from_secs(1);
/// Time that the last lines have to be written.
const END_GRACE: Duration = Duration::from_millis(500);

/// Hands increments that were set aside to the thread, which ends when this is dropped.
pub(in crate::node) struct SidelinedLog {
    /// None once it ends.
    lines: Option<SyncSender<SidelinedIncrements>>,
    /// Increments that have no line.
    untold: Arc<AtomicU64>,
    /// Closed once the thread has written its last line.
    ended: Receiver<()>,
}

impl SidelinedLog {
    pub(in crate::node) fn start(clock: &Arc<dyn Clock>) -> io::Result<Self> {
        let (lines, told) = sync_channel(limits::SIDELINED_LINES_WAITING);
        let (untold, clock) = (Arc::<AtomicU64>::default(), Arc::clone(clock));
        let (left_out, (ending, ended)) = (Arc::clone(&untold), sync_channel(0));
        let run = move || {
            run(&told, &left_out, &*clock);
            drop((left_out, ending)); // in this order
        };
        std::thread::Builder::new().name("memdb-sidelined".into()).spawn(run)?;
        Ok(Self { lines: Some(lines), untold, ended })
    }

    /// Has lines written of these, or a number where there is no room for lines. It never waits.
    pub(in crate::node) fn tell(&self, sidelined: SidelinedIncrements) {
        let increments = sidelined.increments;
        if self.lines.as_ref().is_none_or(|lines| lines.try_send(sidelined).is_err()) {
            self.untold.fetch_add(increments, Ordering::Relaxed);
        }
    }
}

impl Drop for SidelinedLog {
    fn drop(&mut self) {
        self.lines = None;
        let _ = self.ended.recv_timeout(END_GRACE); // nothing is ever sent
    }
}

fn run(told: &Receiver<SidelinedIncrements>, untold: &AtomicU64, clock: &dyn Clock) {
    let mut budget = LineBudget::new(limits::SIDELINED_LINES_PER_SECOND);
    loop {
        let next = told.recv_timeout(REST_INTERVAL);
        let is_end = next == Err(RecvTimeoutError::Disconnected);
        if budget.renew(clock.monotonic().since_ms(Monotonic::default())) || is_end {
            log_rest(untold.swap(0, Ordering::Relaxed) + budget.take_left_out());
        }
        if let Ok(sidelined) = next {
            log_lines(&sidelined, budget.take(sidelined.increments));
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
    use crate::base::{clock::StoppedClock, log_capture::captured};
    use std::sync::mpsc::TrySendError;

    fn sidelined(increments: u64) -> SidelinedIncrements {
        SidelinedIncrements { key: Arc::from("k"), queue: CounterQueue::Excess, age_ms: 0, increments }
    }

    #[test]
    fn a_second_has_so_many_lines_and_the_end_tells_the_number_of_the_others() {
        let (lines, told) = sync_channel(2);
        let most = limits::SIDELINED_LINES_PER_SECOND;
        [sidelined(most + 7), sidelined(3)].into_iter().for_each(|one| lines.send(one).expect("it has room"));
        drop(lines);
        let said = captured(|| run(&told, &AtomicU64::new(4), &StoppedClock));
        assert_eq!(said.matches("sidelined key=k to ").count() as u64, most);
        assert!(said.lines().next().is_some_and(|line| line.contains("sidelined 4 more increments")), "{said}");
        assert!(said.lines().last().is_some_and(|line| line.contains("sidelined 10 more increments")));
    }

    #[test]
    fn the_end_waits_for_the_last_lines() {
        let clock: Arc<dyn Clock> = Arc::new(StoppedClock);
        let log = SidelinedLog::start(&clock).expect("a thread");
        log.tell(sidelined(5_000));
        let told = Arc::downgrade(&log.untold);
        drop(log);
        assert_eq!(told.strong_count(), 0, "the thread is done with it");
    }

    #[test]
    fn where_no_more_lines_may_wait_increments_are_told_of_by_their_number() {
        let (lines, told) = sync_channel(1);
        let log = SidelinedLog { lines: Some(lines), untold: Arc::default(), ended: sync_channel(0).1 };
        [3, 4, 5].into_iter().for_each(|increments| log.tell(sidelined(increments)));
        assert_eq!(log.untold.load(Ordering::Relaxed), 9);
        let lines = log.lines.as_ref().expect("it has not ended");
        assert!(matches!(lines.try_send(sidelined(1)), Err(TrySendError::Full(_))));
        assert_eq!(told.recv(), Ok(sidelined(3)));
    }
}
