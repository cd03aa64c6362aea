//! The upkeep of a replica's files as time passes, and their end when the disk fails or somebody takes them away.

use super::{Replica, ReplicaAction, files::ReplicaFiles};
use crate::{
    base::clock::Monotonic,
    replication::AppendOutcome,
    storage::file_header::FileError,
    storage::snapshot::{DueWork, PublishedSnapshot},
    storage::wal::{FileCheck, FileCheckResult, SyncJob},
};
use std::io;

impl<T> Replica<T> {
    /// A sync that was asked for has ended.
    pub fn synced(&mut self, sync: &SyncJob, result: io::Result<()>, actions: &mut Vec<ReplicaAction<T>>) {
        if let Some(held) = &mut self.held
            && let Some(files) = &mut held.files
            && let Err(error) = files.synced(sync, result)
        {
            self.give_up_files("a sync of its log failed", &FileError::io("the log")(error), actions);
        }
        self.release(actions);
    }

    /// Answers those whose records are synced, or are in no file any more.
    fn release(&mut self, actions: &mut Vec<ReplicaAction<T>>) {
        // Without files nothing can be waited for. The answer says that it keeps none, so it counts for no level that
        // needs a disk.
        let synced = self.synced_sequence().unwrap_or(u64::MAX);
        while self.waiting.front().is_some_and(|(sequence, _)| *sequence <= synced) {
            let (_, reply) = self.waiting.pop_front().expect("it was looked at");
            self.answer(reply, AppendOutcome::Applied, actions);
        }
        // Those came while the sync that has just ended was under way, which covers what was appended before it.
        if !self.waiting.is_empty() {
            self.start_sync(actions);
        }
    }

    /// A snapshot that was asked for has ended, after `took_ms`.
    pub fn snapshot_ended(
        &mut self,
        result: &Result<PublishedSnapshot, FileError>,
        took_ms: u64,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) {
        self.snapshot_running = false;
        if let Some(files) = self.held.as_mut().and_then(|held| held.files.as_mut()) {
            files.snapshot_ended(result, took_ms);
        }
        if let Some(loaded) = self.loaded.take() {
            self.take_over(loaded, now, actions);
        }
    }

    /// A look at the files that was asked for has ended.
    pub fn files_checked(&mut self, check: &FileCheck, found: &FileCheckResult, actions: &mut Vec<ReplicaAction<T>>) {
        if let Some(held) = &mut self.held
            && let Some(files) = &mut held.files
            && let Some(gone) = files.checked(check, found)
        {
            // The directory too: whoever took the files away may want the place, so a full sync must not fill it again.
            (held.files, self.directory) = (None, None);
            actions.push(ReplicaAction::FilesLost(gone));
            self.release(actions);
        }
    }

    /// Time has passed: makes the backup current if it is due.
    pub fn tick(&mut self, now: Monotonic, actions: &mut Vec<ReplicaAction<T>>) {
        let Some(held) = &mut self.held else { return };
        let Some(files) = &mut held.files else { return };
        actions.extend(files.due_check(now).map(ReplicaAction::CheckFiles));
        match files.due(now, self.snapshot_running) {
            DueWork::Nothing => {}
            DueWork::Sync => self.start_sync(actions),
            DueWork::Snapshot => {
                self.snapshot_running = true;
                let (reader, mark, identity) = (held.store.reader(), held.store.mark(), held.identity);
                actions.push(ReplicaAction::Snapshot(identity, reader, mark, files.start_snapshot()));
                self.start_sync(actions);
            }
        }
    }

    /// Gives the time at which [`Replica::tick`] has something to do again.
    pub fn next_tick(&self) -> Option<Monotonic> {
        self.held.as_ref().and_then(|held| held.files.as_ref()).and_then(ReplicaFiles::next)
    }

    /// Asks for a sync of everything, if it is not synced or under way.
    pub fn start_sync(&mut self, actions: &mut Vec<ReplicaAction<T>>) {
        let files = self.held.as_mut().and_then(|held| held.files.as_mut());
        if let Some(sync) = files.and_then(ReplicaFiles::start_sync) {
            actions.push(ReplicaAction::Sync(sync));
        }
    }

    /// The files cannot be written any more. Those that were taken away are not made anew: whoever took them may want
    /// the place.
    pub(super) fn give_up_files(&mut self, what: &str, error: &FileError, actions: &mut Vec<ReplicaAction<T>>) {
        if let Some(held) = &mut self.held {
            held.files = None;
        }
        if error.is_gone() {
            self.directory = None;
            actions.push(ReplicaAction::FilesLost(format!("{what}: {error}")));
        } else {
            actions.push(ReplicaAction::Alarm(format!("{what} ({error}): it goes on without files")));
        }
    }
}
