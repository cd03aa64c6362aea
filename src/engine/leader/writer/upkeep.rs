//! The Writer's work beside writes: the backup that is made current, snapshots, a look at the files.

use super::{Writer, WriterAction};
use crate::{
    base::clock::Monotonic,
    storage::file_header::FileError,
    storage::snapshot::{DueWork, PublishedSnapshot},
    storage::wal::{FileCheck, FileCheckResult},
};

impl<T> Writer<T> {
    /// Time has passed: makes the backup current if it is due.
    pub fn tick(&mut self, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        if self.poisoned {
            return;
        }
        self.expire(now, actions);
        self.work_queues(now, actions);
        self.answer_due(now, actions);
        if self.file_checks.due(now) {
            actions.push(WriterAction::CheckFiles(self.log.check()));
        }
        match self.schedule.due(now, self.log.sequence(), self.snapshot_running) {
            DueWork::Nothing => {}
            DueWork::Sync => self.start_sync(actions),
            DueWork::Snapshot => {
                // The log is synced too: until the snapshot is published, it is the backup.
                self.start_sync(actions);
                self.start_snapshot(actions);
            }
        }
    }

    /// Gives the time at which [`Writer::tick`] has something to do again; `None`: never.
    pub fn next_tick(&self) -> Option<Monotonic> {
        let due = [
            self.schedule.next(),
            self.waiting.next(),
            self.file_checks.next(),
            self.next_expiry(),
            self.next_queue_work(),
        ];
        due.into_iter().flatten().min().filter(|_| !self.poisoned)
    }

    /// Asks for a snapshot of what is there now, due or not.
    pub fn start_snapshot(&mut self, actions: &mut Vec<WriterAction<T>>) {
        self.schedule.started();
        self.snapshot_running = true;
        actions.push(WriterAction::Snapshot(self.store.mark(), self.log.live_offset()));
    }

    /// A snapshot that was asked for has ended, after `took_ms`.
    pub fn snapshot_ended(&mut self, result: &Result<PublishedSnapshot, FileError>, took_ms: u64) {
        self.snapshot_running = false;
        self.schedule.ended(result, took_ms);
        if result.is_err() {
            // It may have failed because the files are gone, which decides what is said to clients.
            self.file_checks.hurry();
        }
    }

    /// A look at the files that was asked for has ended.
    pub fn files_checked(&mut self, check: &FileCheck, found: &FileCheckResult, actions: &mut Vec<WriterAction<T>>) {
        self.file_checks.ended();
        if let Some(gone) = self.log.checked(check, found).filter(|_| !self.poisoned) {
            self.lose_files(gone, actions);
        }
    }
}
