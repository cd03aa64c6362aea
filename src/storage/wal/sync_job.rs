//! Making the log durable, beside the owner who goes on appending.

use super::Log;
use crate::{
    base::failpoint::{self, inject},
    base::position::Sequence,
    storage::disk::{Disk, DiskFile},
};
use std::{io, sync::Arc};

/// Work for the thread that syncs: makes everything durable up to a sequence.
#[derive(Clone)]
pub struct SyncJob {
    /// The last sequence that is durable once this is done.
    pub upto: Sequence,
    pub(super) files: Vec<Arc<dyn DiskFile>>,
    pub(super) directory: Option<Arc<dyn Disk>>,
}

impl SyncJob {
    /// Syncs the files and the directory. Takes as long as the disk takes.
    ///
    /// # Errors
    /// The system's error if a file or the directory cannot be synced; the log is poisoned then.
    pub fn run(&self) -> io::Result<()> {
        failpoint::pass("sync.begin");
        inject!(SkipsTheSync, return Ok(()));
        for file in &self.files {
            file.sync()?;
        }
        failpoint::pass("sync.files");
        // The directory counts too: records in a segment whose name is lost are lost with it.
        let mut directory = self.directory.as_ref();
        inject!(ForgetsTheDirectorySync, directory = None);
        directory.map_or(Ok(()), |disk| disk.sync_directory())?;
        failpoint::pass("sync.done");
        Ok(())
    }
}

impl Log {
    /// Gives the sync that makes everything appended so far durable; `None` if it is already.
    pub fn sync(&self) -> Option<SyncJob> {
        if self.synced_upto == self.sequence {
            return None;
        }
        let mut finished = self.finished.as_ref();
        inject!(SyncsOnlyTheNewSegment, finished = None);
        let files = finished.into_iter().chain([&self.file]).map(Arc::clone).collect();
        let directory = (!self.name_synced).then(|| Arc::clone(&self.disk));
        Some(SyncJob { upto: self.sequence, files, directory })
    }

    /// Returns whether a [`SyncJob`] is of this log, and not of one that was there before it. If it has failed, this
    /// log may have a hole, also if an epoch was begun since: the sync at its begin may have succeeded only because the
    /// failed one had left nothing to do.
    pub fn owns(&self, sync: &SyncJob) -> bool {
        let mut own = self.ended.iter().chain(&self.finished).chain([&self.file]);
        sync.files.last().is_some_and(|last| own.any(|file| Arc::ptr_eq(last, file)))
    }

    /// A [`SyncJob`] has succeeded. It may have been taken before an epoch was begun, which has synced more since.
    pub fn synced(&mut self, sync: &SyncJob) {
        assert!(sync.upto <= self.sequence, "a sync of what was not appended");
        if sync.upto <= self.synced_upto {
            return;
        }
        self.synced_upto = sync.upto;
        if sync.directory.is_some() {
            self.name_synced = true;
        }
        // A sync that was taken before the rotation does not have the new segment, and may miss the end of the old.
        if sync.files.last().is_some_and(|last| Arc::ptr_eq(last, &self.file)) {
            self.finished = None;
            self.ended.clear(); // syncs end in the order in which they were taken
        }
    }
}
