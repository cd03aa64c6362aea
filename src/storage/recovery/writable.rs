//! The end of a recovery: a database that may be written.

use super::RecoveryReport;
use crate::{
    base::position::{Position, Sequence},
    data::store::Store,
    storage::manifest::Manifest,
    storage::snapshot::SnapshotSchedule,
    storage::wal::Log,
};

/// A database ready to be written: its log begun, its epoch durable.
pub struct WritableDatabase {
    /// The MANIFEST as it is on disk now.
    pub manifest: Manifest,
    /// The state.
    pub store: Store,
    /// The log, at the begin of this epoch.
    pub log: Log,
    /// The sequence the newest snapshot is a state at.
    pub snapshot: Sequence,
    /// When the next snapshot is due, where the role before has counted that.
    pub schedule: Option<SnapshotSchedule>,
    /// The findings.
    pub report: RecoveryReport,
    /// True if the database is new.
    pub new: bool,
}

/// What is durable once an epoch has begun ([`super::RecoveredDatabase::begin`]).
pub struct NewEpoch {
    pub(super) manifest: Manifest,
    pub(super) log: Log,
    pub(super) snapshot: Sequence,
    pub(super) schedule: Option<SnapshotSchedule>,
    pub(super) position: Position,
}

impl NewEpoch {
    /// Where the database stands in it.
    pub fn position(&self) -> Position {
        self.position
    }
}
