//! The files of a database between two roles of one process: they stay open, and nothing of them is read again.

use super::{RecoveredDatabase, RecoveryReport};
use crate::{
    data::store::Store,
    storage::{manifest::Manifest, snapshot::SnapshotSchedule, wal::Log},
};

/// The files of a database that one role has closed for itself and the next one goes on with: no sync, no snapshot and
/// no look at them is under way.
pub struct OpenFiles {
    /// The log, all of which is synced.
    pub log: Log,
    /// When the next snapshot is due.
    pub schedule: SnapshotSchedule,
}

impl RecoveredDatabase {
    /// A database whose role has ended in this process, as if its files had been read. `manifest` is what the MANIFEST
    /// says.
    ///
    /// # Panics
    /// If the log does not end where the store stands, or is not synced up to there: it would stand for another state.
    pub fn with_open_files(manifest: Manifest, store: Store, files: OpenFiles) -> Self {
        let sequence = store.mark().position.sequence;
        assert_eq!(files.log.sequence(), sequence, "the log ends where the store stands");
        assert_eq!(files.log.synced_upto(), sequence, "a role ends with its log synced");
        let report = RecoveryReport { clean: true, ..RecoveryReport::default() };
        Self { manifest, store, report, new: false, promised: None, open: Some(files) }
    }
}
