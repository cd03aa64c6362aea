//! The files of a replica: its own log, snapshots and MANIFEST, of the leader's records.

use crate::{
    base::clock::Monotonic,
    base::failpoint::inject,
    base::position::{Epoch, EpochTable, Sequence},
    data::store::Store,
    replication::ClusterMembers,
    storage::disk::Disk,
    storage::file_header::{DatabaseIdentity, FileError},
    storage::manifest::{Manifest, ManifestState},
    storage::recovery::{self, NodeRun, OpenFiles, RecoveredDatabase, WritableDatabase},
    storage::snapshot::{DueWork, PublishedSnapshot, SnapshotSchedule, SnapshotSettings},
    storage::wal::{AppendError, CheckSchedule, FileCheck, FileCheckResult, LiveLogOffset, Log, SyncJob},
};
use std::{io, sync::Arc};

/// The data directory of a replica.
#[derive(Clone)]
pub struct ReplicaDirectory {
    /// The directory.
    pub disk: Arc<dyn Disk>,
    /// Size at which a log segment is finished, in bytes.
    pub segment_bytes: u64,
    /// The run of the node, which draws another incarnation for every full sync.
    pub run: NodeRun,
}

/// A snapshot of the leader, loaded; or nothing, where the leader has none yet.
pub struct LoadedSnapshot {
    /// The database.
    pub identity: DatabaseIdentity,
    /// Its state.
    pub store: Store,
    /// The synced temporary file that holds it, if the replica keeps files.
    pub temporary: Option<String>,
}

impl ReplicaDirectory {
    /// Puts what was loaded in the place of everything that is there.
    pub(super) fn replace(
        &mut self,
        loaded: &LoadedSnapshot,
        state: ManifestState,
        snapshot: SnapshotSettings,
        now: Monotonic,
    ) -> Result<ReplicaFiles, FileError> {
        let LoadedSnapshot { identity, store, temporary } = loaded;
        let Self { disk, segment_bytes, run } = self;
        let (manifest, log) =
            recovery::adopt(disk, *identity, state, run, store, temporary.as_deref(), *segment_bytes)?;
        let schedule = SnapshotSchedule::new(snapshot, store.mark().position.sequence, now);
        let checks = CheckSchedule::new(now);
        Ok(ReplicaFiles {
            disk: Arc::clone(&self.disk),
            manifest,
            log,
            schedule,
            checks,
            syncing: false,
            unproven: None,
        })
    }
}

/// The files while they are written.
pub struct ReplicaFiles {
    disk: Arc<dyn Disk>,
    manifest: Manifest,
    log: Log,
    schedule: SnapshotSchedule,
    checks: CheckSchedule,
    syncing: bool,
    /// The last record that was synced when an epoch was begun during a sync that has not reported yet.
    unproven: Option<Sequence>,
}

impl ReplicaFiles {
    /// Goes on where an earlier run of the replica has ended.
    pub(super) fn resume(
        disk: Arc<dyn Disk>,
        settled: WritableDatabase,
        snapshot: SnapshotSettings,
        now: Monotonic,
    ) -> (Store, Self) {
        let WritableDatabase { manifest, store, log, snapshot: newest, schedule, .. } = settled;
        let schedule = schedule.unwrap_or_else(|| SnapshotSchedule::new(snapshot, newest, now));
        let checks = CheckSchedule::new(now);
        (store, Self { disk, manifest, log, schedule, checks, syncing: false, unproven: None })
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.manifest.state.incarnation
    }

    pub(super) fn append(&mut self, record: &[u8]) -> Result<(), AppendError> {
        self.log.append_raw(record)?;
        self.schedule.appended(record.len() as u64);
        Ok(())
    }

    pub(super) fn synced_upto(&self) -> Sequence {
        self.unproven.unwrap_or(self.log.synced_upto())
    }

    /// Returns whether so many bytes can be appended without a new segment, and with no sync under way, whose end the
    /// append may have to wait for in the file system.
    pub(super) fn appends_quickly(&self, bytes: usize) -> bool {
        !self.syncing && self.log.has_room(bytes)
    }

    /// Returns whether the log cannot go on to its next segment before it is synced.
    pub(super) fn is_overdue(&self) -> bool {
        self.log.is_overdue()
    }

    pub(super) fn start_sync(&mut self) -> Option<SyncJob> {
        if self.syncing {
            return None;
        }
        let sync = self.log.sync();
        self.syncing = sync.is_some();
        sync
    }

    pub(super) fn synced(&mut self, sync: &SyncJob, result: io::Result<()>) -> io::Result<()> {
        if !self.log.owns(sync) {
            return Ok(()); // of the files that were there before these
        }
        // Also after a failure, which gives the files up: nothing is synced of them any more.
        (self.syncing, self.unproven) = (false, None);
        result?;
        self.log.synced(sync);
        Ok(())
    }

    pub(super) fn due(&mut self, now: Monotonic, snapshot_running: bool) -> DueWork {
        self.schedule.due(now, self.log.sequence(), snapshot_running)
    }

    pub(super) fn next(&self) -> Option<Monotonic> {
        self.schedule.next().into_iter().chain(self.checks.next()).min()
    }

    /// A look whether the files are still there, if one is due.
    pub(super) fn due_check(&mut self, now: Monotonic) -> Option<FileCheck> {
        self.checks.due(now).then(|| self.log.check())
    }

    /// Takes the result of that look; returns what is gone.
    pub(super) fn checked(&mut self, check: &FileCheck, found: &FileCheckResult) -> Option<String> {
        self.checks.ended();
        self.log.checked(check, found)
    }

    pub(super) fn start_snapshot(&mut self) -> LiveLogOffset {
        self.schedule.started();
        self.log.live_offset()
    }

    pub(super) fn snapshot_ended(&mut self, result: &Result<PublishedSnapshot, FileError>, took_ms: u64) {
        self.schedule.ended(result, took_ms);
        if result.is_err() {
            self.checks.hurry();
        }
    }

    pub(super) fn is_at_rest(&self) -> bool {
        !self.syncing && self.log.synced_upto() == self.log.sequence()
    }

    /// Notes a newer epoch, durably.
    pub(super) fn start_epoch(&mut self, epoch: Epoch, epochs: &EpochTable) -> Result<(), FileError> {
        // Noted already, also by an earlier run: the log has a segment of it.
        if epoch <= self.manifest.state.epoch {
            return Ok(());
        }
        if self.syncing {
            // It syncs all there is, and that may succeed only because the sync under way has failed and left nothing
            // to do: until that one has reported, no more is durable than was before it.
            self.unproven.get_or_insert(self.log.synced_upto());
        }
        recovery::begin_epoch(&*self.disk, &mut self.log, &mut self.manifest, epoch, epochs.clone())
    }

    /// Notes a later epoch, durably: that it was promised to the node at `candidate`, or that somebody leads in it.
    pub(super) fn promise(&mut self, epoch: Epoch, candidate: Option<&str>) -> Result<(), FileError> {
        inject!(ForgetsItsPromise, return Ok(()));
        self.manifest.state.promise(epoch, candidate);
        self.manifest.write(&*self.disk)
    }

    /// Notes, durably, that this node has promised a later epoch to itself.
    pub(super) fn promise_itself(&mut self, epoch: Epoch) -> Result<(), FileError> {
        inject!(ForgetsItsPromise, return Ok(()));
        self.manifest.state.promise_itself(epoch);
        self.manifest.write(&*self.disk)
    }

    /// Notes who belongs to the cluster.
    pub(super) fn note_members(&mut self, members: &ClusterMembers) -> Result<(), FileError> {
        let ClusterMembers { leader, replicas } = members.clone();
        (self.manifest.state.leader_url, self.manifest.state.replicas) = (Some(leader), replicas);
        self.manifest.write(&*self.disk)
    }

    /// Has a snapshot that is being written end soon, with an error.
    pub(super) fn cancel_snapshot(&mut self) {
        self.log.end_live_work();
    }

    /// What the next role goes on with, with the store that the files stand for.
    pub(super) fn hand_over(self, store: Store) -> RecoveredDatabase {
        let Self { manifest, log, schedule, .. } = self;
        RecoveredDatabase::with_open_files(manifest, store, OpenFiles { log, schedule })
    }

    /// A last snapshot, then the note that the stop was a clean one.
    pub(super) fn close(mut self, store: &Store) -> Result<Option<FileError>, FileError> {
        recovery::stop_cleanly(&self.disk, &mut self.manifest, store, &self.log, self.schedule.last())
    }
}
