//! The effects that a replica asks its owner for.

use crate::{
    base::position::{Position, Sequence},
    data::store::{StateId, StoreReader},
    replication::{AppendAnswer, ClusterMembers},
    storage::{
        file_header::DatabaseIdentity,
        wal::{FileCheck, LiveLogOffset, SyncJob},
    },
};
use bytes::Bytes;

/// An effect that a replica's owner carries out.
pub enum ReplicaAction<T> {
    /// Give an answer.
    Answer(T, AppendAnswer),
    /// Serve this from now on. The next record to be published is the one behind this sequence.
    Serve(DatabaseIdentity, StoreReader, Sequence),
    /// The state is not current: no longer ready, until it has caught up.
    Unready,
    /// The state is not the leader's history: serve nothing until there is something else.
    Withdraw,
    /// Tell readers who wait that this position can be seen; this is its record.
    Published(Position, Bytes),
    /// The position is in this epoch now; no record has come.
    Stands(Position),
    /// At this moment nothing that the leader had is missing.
    CaughtUp,
    /// These are the nodes of the cluster.
    Members(ClusterMembers),
    /// Load a snapshot from the leader, and report to [`super::Replica::loaded`].
    Load(DatabaseIdentity),
    /// Sync, and report to [`super::Replica::synced`].
    Sync(SyncJob),
    /// Write a snapshot from here on, and report to [`super::Replica::snapshot_ended`].
    Snapshot(DatabaseIdentity, StoreReader, StateId, LiveLogOffset),
    /// Something a person should look at.
    Alarm(String),
    /// Look whether the files are still there, and report to [`super::Replica::files_checked`].
    CheckFiles(FileCheck),
    /// Files were taken away: it goes on in memory alone, and is not ready. This is gone.
    FilesLost(String),
}
