//! Tells the watchers of one serving thread that something was applied, so that none of them looks for nothing.
//!
//! One task for each thread reads the position every few milliseconds, as long as there is a watcher. The Writer knows
//! nothing of it, and while nothing is written, nobody is woken.

use crate::{base::limits::MOVEMENT_CHECK_MS, engine::view::DatabaseView};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// The movements that one thread's watchers wait for.
pub(in crate::api::http) struct MovementTicker {
    movements: watch::Sender<u64>,
    runs: AtomicBool,
}

impl Default for MovementTicker {
    fn default() -> Self {
        Self { movements: watch::Sender::new(0), runs: AtomicBool::new(false) }
    }
}

impl MovementTicker {
    /// Gives the number of movements, which changes once something is applied or served anew after this call.
    pub(super) fn subscribe(self: &Arc<Self>, view: &Arc<DatabaseView>) -> watch::Receiver<u64> {
        let movements = self.movements.subscribe();
        if !self.runs.swap(true, Ordering::AcqRel) {
            tokio::spawn(run(Arc::clone(self), Arc::clone(view)));
        }
        movements
    }
}

async fn run(ticker: Arc<MovementTicker>, view: Arc<DatabaseView>) {
    let mut last = None;
    // All watchers of the ticker are on this thread, so none comes between the look at their number and the end.
    while ticker.movements.receiver_count() > 0 {
        // The database too: another may be at the same position.
        let now =
            view.current().as_ref().map(|current| (Arc::as_ptr(current) as usize, current.reader.read().position()));
        // The first time always: the watchers may have looked before.
        if last != Some(now) {
            last = Some(now);
            ticker.movements.send_modify(|movements| *movements += 1);
        }
        tokio::time::sleep(Duration::from_millis(MOVEMENT_CHECK_MS)).await;
    }
    ticker.runs.store(false, Ordering::Release);
}
