//! What the handle of a leader tells: whether writes would be taken now, and if not, why.

use super::{Leader, LeaderChannel, LeaderEvent};
use crate::data::{command::WriteError, counters::QueueTotals};
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::oneshot;

impl Leader {
    /// Gives the reason for which a write would be refused now, whatever is in it; `None`: it would be taken.
    pub fn refusal(&self) -> Option<WriteError> {
        let LeaderChannel { view, stopping, poisoned, disk_full, no_room, ended, succeeded, .. } = &*self.shared;
        // The reason that lasts longest comes first, so that a client does not wait for a lesser one to pass.
        if stopping.load(Ordering::Relaxed) {
            Some(WriteError::Stopping)
        } else if view.files_problem().is_some() {
            Some(WriteError::FilesLost)
        } else if poisoned.load(Ordering::Relaxed) || ended.is_cancelled() {
            Some(WriteError::Poisoned)
        } else if succeeded.borrow().is_some() {
            Some(WriteError::SteppedDown)
        } else {
            let is_full = disk_full.load(Ordering::Relaxed) || no_room.load().is_some();
            is_full.then_some(WriteError::DiskFull)
        }
    }

    /// Asks the Writer's thread for a sign of life, behind what it was given before. The channel is closed without one
    /// if the thread has ended.
    pub fn probe(&self) -> oneshot::Receiver<()> {
        let (reply, sign) = oneshot::channel();
        self.send(LeaderEvent::Probe(reply));
        sign
    }

    /// The write path's numbers for `/status`.
    pub fn status(&self) -> WriterStatus {
        let LeaderChannel { queue, poisoned, .. } = &*self.shared;
        WriterStatus { poisoned: poisoned.load(Ordering::Relaxed), queued: queue.len(), queue_limit: queue.bound() }
    }

    /// For whoever is about to run the Writer: why its epoch cannot begin yet; `None`: it has begun.
    pub fn set_no_room(&self, why: Option<String>) {
        self.shared.no_room.store(why.map(Arc::new));
    }

    /// Gives the reason why there is no Writer yet, if it waits for room on the disk.
    pub fn no_room(&self) -> Option<String> {
        self.shared.no_room.load().as_deref().cloned()
    }

    /// For the Writer's thread: whether writes are refused for want of room on the disk.
    pub fn set_disk_full(&self, is_full: bool) {
        self.shared.disk_full.store(is_full, Ordering::Relaxed);
    }

    /// For the Writer's thread: the queues of counters are that long now.
    pub fn set_queue_totals(&self, totals: QueueTotals) {
        *self.shared.queue_totals.lock() = totals;
    }

    /// The lengths of the queues of counters.
    pub fn queue_totals(&self) -> QueueTotals {
        *self.shared.queue_totals.lock()
    }

    /// For the Writer's thread: whether a write waits for a replica's sync.
    pub fn want_durable(&self, wanted: bool) {
        self.shared.wants_durable.store(wanted, Ordering::Relaxed);
    }

    /// Returns whether a write waits for a replica's sync.
    pub fn wants_durable(&self) -> bool {
        self.shared.wants_durable.load(Ordering::Relaxed)
    }

    /// For the Writer's thread: files were taken away, so what is held is in memory alone.
    pub fn files_lost(&self, what: String) {
        self.poisoned();
        self.shared.view.set_files_problem(Some(what));
    }

    /// For the Writer's thread: no write will succeed any more.
    pub fn poisoned(&self) {
        self.shared.poisoned.store(true, Ordering::Relaxed);
    }
}

/// The write path's own part of `/status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct WriterStatus {
    /// True if a failed sync has ended writing.
    pub poisoned: bool,
    /// Batches waiting for the Writer.
    pub queued: usize,
    /// Number of batches that may wait.
    pub queue_limit: usize,
}
