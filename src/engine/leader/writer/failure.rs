//! What ends writing, for a while or until a restart.

use super::{Writer, WriterAction};
use crate::{base::clock::Monotonic, base::failpoint::inject, data::command::WriteError, storage::wal::AppendError};
use std::io;

/// Time for which writes are refused after the disk was found full, before the next is tried, in milliseconds.
const DISK_FULL_PAUSE_MS: u64 = 1_000;

impl<T> Writer<T> {
    /// Certain refusals, before anything is tried.
    pub(super) fn refusal(&self, now: Monotonic) -> Option<WriteError> {
        if self.poisoned {
            return Some(if self.files_lost { WriteError::FilesLost } else { WriteError::Poisoned });
        }
        if self.stepped_down {
            return Some(WriteError::SteppedDown);
        }
        (self.disk_full_left_ms(now) > 0).then_some(WriteError::DiskFull)
    }

    /// For how long writes are still refused for want of room on the disk, in milliseconds; 0: they are tried.
    pub fn disk_full_left_ms(&self, now: Monotonic) -> u64 {
        self.disk_full_until.since_ms(now)
    }

    /// Returns whether a failed write to the disk has ended writing.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Another leads in a later epoch, or is about to: nothing is appended any more. What waits for its level counts if
    /// that leader has it, which is not known here.
    pub fn step_down(&mut self, actions: &mut Vec<WriterAction<T>>) {
        inject!(LeadsOnAfterItsPromise, return);
        self.stepped_down = true;
        self.release_all(actions);
    }

    /// The record of the group could not be written: answers its batches, and stops writing if that is for good.
    pub(super) fn append_failed(&mut self, error: AppendError, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        if matches!(&error, AppendError::Undone(cause) if crate::storage::disk::is_no_room(cause)) {
            // For a while nothing is tried: each try would write a part of a record, take it back, and sync that.
            self.disk_full_until = now.after_ms(DISK_FULL_PAUSE_MS);
        }
        self.expiry_paused_until = now.after_ms(DISK_FULL_PAUSE_MS);
        // Unknown also where the append was undone: a plain refusal promises that nothing was tried, so that it may be
        // sent again without a key.
        for write in self.members.drain(..) {
            let mut outcome = Err(WriteError::OutcomeUnknown);
            inject!(AcksBeforeAppend, outcome = Ok(write.receipt));
            actions.push(WriterAction::Answer(write.reply, outcome));
        }
        self.group.reload_queues(&self.store);
        match error {
            AppendError::Poisoned(cause) => self.disk_failed("an append to the log failed", &cause, actions),
            AppendError::Undone(cause) if is_gone(&cause) => self.lose_files(cause.to_string(), actions),
            AppendError::Undone(_) => {}
        }
    }

    /// Poisons the Writer after a failed write: the content of the log is unknown from here on.
    pub(super) fn disk_failed(&mut self, what: &str, error: &io::Error, actions: &mut Vec<WriterAction<T>>) {
        let what = format!("{what}: {error}");
        if is_gone(error) {
            return self.lose_files(what, actions);
        }
        self.poisoned = true;
        self.release_all(actions);
        actions.push(WriterAction::Poisoned(what));
    }

    /// Stops writing after files were taken away: no start would find records that are appended from here on.
    pub(super) fn lose_files(&mut self, what: String, actions: &mut Vec<WriterAction<T>>) {
        (self.poisoned, self.files_lost) = (true, true);
        self.release_all(actions);
        actions.push(WriterAction::FilesLost(what));
    }

    /// Nobody waits any longer: what becomes of what they have sent is not known.
    fn release_all(&mut self, actions: &mut Vec<WriterAction<T>>) {
        let unknown = |reply| WriterAction::Answer(reply, Err(WriteError::OutcomeUnknown));
        actions.extend(self.waiting.take_all().map(unknown));
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
