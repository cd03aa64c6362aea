//! A follower's directory: a leader's history, as far as it has come here.
//!
//! It has the same files as a leader's, so a follower can be made a leader: `look` reads it then. What differs: the
//! follower begins no epoch of its own; it goes on in the leader's, also while it has not yet all of the epochs before;
//! and what it lacks or cannot read it takes from the leader again, so an error here is an alarm and then a full sync.
//!
//! A full sync ([`adopt`]) removes the MANIFEST first and writes the new one last. A directory without one is therefore
//! the remains of a full sync that was not finished: there is nothing in it ([`look_follower`]).
//!
//! The MANIFEST's epoch is the highest that was seen. Its segment may begin with records of older epochs, and the store
//! stands in it only once it has all of them ([`standing_at`]).

use super::{
    DirectoryOwner, NewEpoch, NodeRun, OpenFiles, RecoveredDatabase, RecoveryError, WritableDatabase, look_at,
};
use crate::{
    base::failpoint,
    base::position::{Epoch, EpochTable, Position, PositionStatus},
    data::store::{DedupLimits, StateId, Store},
    storage::disk::{Disk, TEMPORARY},
    storage::file_header::{
        DatabaseIdentity, FileError, FileKind, LOG_PREFIX, MANIFEST, SNAPSHOT_PREFIX, position_name,
    },
    storage::manifest::{Manifest, ManifestState},
    storage::wal::Log,
};
use std::sync::Arc;

/// Reads a follower's directory and brings a store to its state; `None` if nothing is there that can be gone on from.
/// Nothing is changed. That it ends before the leader's epochs have is no error: it was behind.
///
/// # Errors
/// As [`super::look`]: the files cannot be used, and a full sync replaces them.
pub fn look_follower(disk: &dyn Disk, window: DedupLimits) -> Result<Option<RecoveredDatabase>, RecoveryError> {
    let Some(manifest) = Manifest::read(disk)? else { return Ok(None) };
    look_at(disk, manifest, window, DirectoryOwner::Follower).map(Some)
}

/// As [`look_follower`], for a node that was elected to lead in `epoch`. Once it has begun that epoch, the files are a
/// leader's, and have to reach what a leader's promise.
///
/// # Errors
/// As [`super::look`]: the files cannot be used.
pub fn look_elected(
    disk: &dyn Disk,
    window: DedupLimits,
    epoch: Epoch,
) -> Result<Option<RecoveredDatabase>, RecoveryError> {
    let Some(manifest) = Manifest::read(disk)? else { return Ok(None) };
    let owner = if manifest.state.has_begun(epoch) { DirectoryOwner::Leader } else { DirectoryOwner::Follower };
    look_at(disk, manifest, window, owner).map(Some)
}

impl RecoveredDatabase {
    /// Gives the position of a follower that has these files.
    pub fn stands(&self) -> Position {
        let ManifestState { epoch, epochs, .. } = &self.manifest.state;
        standing_at(self.store.mark().position, *epoch, epochs)
    }

    /// Returns whether these are a follower's files ([`ManifestState::has_followed`]) that lack records of epochs that
    /// have ended.
    pub fn is_behind(&self) -> bool {
        self.manifest.state.has_followed() && self.stands().epoch < self.manifest.state.epoch
    }

    /// Makes a follower lead, in an epoch that the others have promised and [`RecoveredDatabase::finalize`] begins.
    pub fn promote(&mut self, promised: Epoch) {
        self.promised = Some(promised);
    }

    /// Ends the history of a follower that is to lead where it stands: what it lacks of the epochs that its leader has
    /// reported will never be part of it.
    pub(super) fn end_where_it_stands(&self, state: &mut ManifestState) {
        let stands = self.stands();
        let ManifestState { epoch, epochs, .. } = state;
        if stands.epoch < *epoch {
            let mut before = EpochTable::default();
            // An empty store stands in an epoch that need not be of this history: where it goes on in memory, it may
            // have led one in which nothing was written.
            let is_had = |ended: &&Position| ended.epoch < stands.epoch && ended.sequence <= stands.sequence;
            epochs.ended().iter().filter(is_had).for_each(|ended| before.end(*ended));
            // The table must not say that an epoch ended at records which this node does not have: its positions would
            // count as reached.
            (*epoch, *epochs) = (stands.epoch, before);
        }
    }

    /// Goes on in the epoch of the MANIFEST ([`RecoveredDatabase::go_on`]) and gives the database to be written. Where
    /// the role before had the files open, nothing is to be done for that.
    ///
    /// # Errors
    /// [`RecoveryError::File`] if a file cannot be written, removed or synced.
    pub fn follow(
        mut self,
        disk: &Arc<dyn Disk>,
        run: &mut NodeRun,
        segment_bytes: u64,
    ) -> Result<WritableDatabase, RecoveryError> {
        let Some(OpenFiles { log, schedule }) = self.open.take() else {
            let begun = self.go_on(disk, run, segment_bytes)?;
            return Ok(self.into_settled(begun));
        };
        let RecoveredDatabase { manifest, store, report, new, .. } = self;
        Ok(WritableDatabase { manifest, store, log, snapshot: schedule.last(), schedule: Some(schedule), report, new })
    }

    /// As [`RecoveredDatabase::begin`], but goes on in the epoch that the MANIFEST tells of.
    ///
    /// # Errors
    /// The system's error if a file cannot be written, removed or synced. It can be tried again from [`look_follower`].
    pub fn go_on(
        &mut self,
        disk: &Arc<dyn Disk>,
        run: &mut NodeRun,
        segment_bytes: u64,
    ) -> Result<NewEpoch, RecoveryError> {
        self.tidy(disk)?;
        let (state, position) = (self.manifest.state.clone(), self.stands());
        self.begin_at(disk, state, position, run, segment_bytes)
    }

    /// The database, for a follower that goes on in memory alone, because its files cannot be written.
    pub fn in_memory(self) -> (Manifest, Store) {
        let position = self.stands();
        let RecoveredDatabase { manifest, mut store, .. } = self;
        store.set_state_id(StateId { position, ..store.mark() }, store.time_ms());
        (manifest, store)
    }
}

/// Gives the position of a follower that has applied `applied` and follows a leader of `epoch`, whose past epochs
/// `epochs` has: in that epoch once it has all records of the ones before, else that of its last record.
pub fn standing_at(applied: Position, epoch: Epoch, epochs: &EpochTable) -> Position {
    let moved = Position::new(epoch, applied.sequence);
    let has_all = epochs.ended().last().is_none_or(|ended| ended.sequence <= applied.sequence);
    // What was lost stays where it is, for the leader to see.
    let is_part = epochs.position_status(applied, moved) == PositionStatus::Reached;
    if applied.epoch < epoch && has_all && is_part { moved } else { applied }
}

/// A follower meets a newer epoch of its leader: its log begins a segment of it, then the MANIFEST tells of it, with
/// how the epochs before it ended. Records of the new epoch may be appended then, and what is missing of the older
/// ones.
///
/// # Errors
/// The system's error if the log or the MANIFEST cannot be written; nothing may be appended any more then. The next
/// start finds the old epoch or the new.
///
/// # Panics
/// If the epoch is not newer than the log's.
pub fn begin_epoch(
    disk: &dyn Disk,
    log: &mut Log,
    manifest: &mut Manifest,
    epoch: Epoch,
    epochs: EpochTable,
) -> Result<(), FileError> {
    failpoint::pass("epoch.begin");
    // The segment comes first, as at a start: a MANIFEST of whose epoch there is no segment is refused.
    log.start_epoch(epoch)?;
    failpoint::pass("epoch.segment");
    (manifest.state.epoch, manifest.state.epochs) = (epoch, epochs);
    // It is written from elsewhere now, see [`ManifestState::has_followed`].
    manifest.state.boot_id.clear();
    manifest.write(disk)
}

/// Replaces everything in a follower's directory by a snapshot that was received: `store` is what it was loaded to,
/// `snapshot` the name of the temporary file with its bytes, which are synced; `None`, with an empty store, if the
/// leader has none yet. `state` has the leader's epoch, and how those before it ended. Gives what the follower goes on
/// with; a kill on the way leaves a directory without a MANIFEST, which counts as empty. The node's name, if `state`
/// has none, and a new incarnation are those of `run`.
///
/// # Errors
/// The system's error if a file cannot be written, renamed or removed. The directory counts as empty then, as after a
/// kill.
pub fn adopt(
    disk: &Arc<dyn Disk>,
    identity: DatabaseIdentity,
    mut state: ManifestState,
    run: &mut NodeRun,
    store: &Store,
    snapshot: Option<&str>,
    segment_bytes: u64,
) -> Result<(Manifest, Log), FileError> {
    let sync_directory = || disk.sync_directory().map_err(FileError::io("the data directory"));
    let mark = store.mark();
    assert!(snapshot.is_some() || mark.position == Position::ZERO, "no snapshot leads to {}", mark.position);
    failpoint::pass("adopt.begin");
    // A kill from here on leaves a directory without a MANIFEST, which a follower takes as empty and fills again.
    disk.remove(MANIFEST).map_err(FileError::io(MANIFEST))?;
    // Durably: files of two histories must never stand beside a MANIFEST.
    sync_directory()?;
    failpoint::pass("adopt.no-manifest");
    for name in disk.list().map_err(FileError::io("the data directory"))? {
        if snapshot != Some(name.as_str()) && is_database_file(&name) {
            disk.remove(&name).map_err(FileError::io(&name))?;
        }
    }
    failpoint::pass("adopt.emptied");
    if let Some(temporary) = snapshot {
        let name = position_name(SNAPSHOT_PREFIX, mark.position);
        disk.rename(temporary, &name).map_err(FileError::io(&name))?;
    }
    sync_directory()?;
    failpoint::pass("adopt.snapshot");
    // The MANIFEST comes last, because it makes a database of the files: by then all of them are there and durable.
    let log = Log::create(Arc::clone(disk), identity, state.epoch, mark, segment_bytes)?;
    failpoint::pass("adopt.log");
    // What was acknowledged from here may have been removed. The old incarnation went with the old MANIFEST, durably
    // and before anything else, so none stands beside fewer files than it stood for: at any moment there is no
    // MANIFEST, or this one with another incarnation.
    state.incarnation = 0;
    state.begin_run(run, false);
    let mut manifest = Manifest { identity, state };
    manifest.write(&**disk)?;
    Ok((manifest, log))
}

/// Returns whether a file is one of a database, or was to become one.
pub fn is_database_file(name: &str) -> bool {
    let begun = [MANIFEST, LOG_PREFIX, SNAPSHOT_PREFIX].iter().any(|prefix| name.starts_with(prefix));
    FileKind::of_name(name).is_some() || (begun && name.ends_with(TEMPORARY))
}

#[cfg(test)]
mod tests {
    use super::{super::RecoveryReport, *};
    use crate::{base::hash::WordHasher, text::tokenizer::Analyzer};

    #[test]
    fn an_empty_store_of_an_epoch_beside_the_history_ends_none_that_has_records() {
        let mut epochs = EpochTable::default();
        epochs.end(Position::new(1, 30));
        let identity = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 1 };
        let state = ManifestState { epoch: 9, epochs, ..ManifestState::default() };
        let mut store = Store::new(WordHasher::new(1), DedupLimits::default());
        // It led epoch 5 in memory, in which nothing was written, and follows a leader of epoch 9 since.
        store.set_state_id(StateId { position: Position::new(5, 0), ..store.mark() }, store.time_ms());
        let manifest = Manifest { identity, state };
        let (report, new, promised, open) = (RecoveryReport::default(), false, Some(12), None);
        let recovered = RecoveredDatabase { manifest, store, report, new, promised, open };
        let mut state = recovered.manifest.state.clone();
        recovered.end_where_it_stands(&mut state);
        assert_eq!((state.epoch, state.epochs.ended()), (5, &[][..]));
        state.epochs.end(Position::new(state.epoch, 0));
    }
}
