//! From the files of a data directory to a store that may take writes.
//!
//! [`look`] reads and decides, and changes nothing; [`RecoveredDatabase::begin`] makes what it found durable and begins
//! the next epoch. Where the disk has no room for that, or can only be read, what was found can be served meanwhile,
//! and it is tried again. Between the two lies everything that must be so before a node takes writes:
//!
//! 1. MANIFEST. None, and no other file: a new database. None, but other files: refused.
//! 2. The newest snapshot that is whole; if it is damaged, the one before.
//! 3. The log behind it, to its end or to the first bad record, which is cut off or refused (`storage/wal/scan.rs`).
//! 4. What the MANIFEST promises must have been reached: the end of each past epoch, and a clean stop's last record.
//! 5. The cut is carried out. After a stop that was not clean, a fresh snapshot is written.
//! 6. The epoch that ended is noted, and the next begins: segment first, then MANIFEST, so that a crash between the two
//!    leaves an empty segment of an epoch that never was.
//!
//! A follower's directory holds a leader's history, and the follower goes on in the leader's epoch
//! (`recovery/follower.rs`).

mod follower;
mod node_run;
mod open_files;
mod writable;

pub use follower::{adopt, begin_epoch, is_database_file, look_elected, look_follower, standing_at};
pub use node_run::NodeRun;
pub use open_files::OpenFiles;
pub use writable::{NewEpoch, WritableDatabase};

use crate::{
    base::failpoint::{self, inject},
    base::position::{Epoch, Position, Sequence},
    data::store::{DedupLimits, StateId, Store},
    storage::disk::{self, Disk, TEMPORARY},
    storage::file_header::{
        DatabaseIdentity, FILE_HEADER_BYTES, FileDamage, FileError, FileHeader, FileKind, LOG_PREFIX, MANIFEST,
        SNAPSHOT_PREFIX, parse_name,
    },
    storage::manifest::{Manifest, ManifestState},
    storage::snapshot::{self, SnapshotJob, SnapshotSchedule, received_snapshot_name},
    storage::wal::{self, Log, RawRecord, RecordError, Truncation},
};
use std::{fmt, sync::Arc};

/// The reason why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A file cannot be read, or something that was durable is damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// Files are there, but no MANIFEST that says what they are.
    #[error("{0} is there, but no MANIFEST: `memdb repair` can rebuild it from the other files")]
    NoManifest(String),
    /// A snapshot was being received, and there is no MANIFEST: what was there before was given up for it.
    #[error(
        "{0} is there, and no MANIFEST: a full sync was not finished here. Start this node as a replica, or remove that file to \
         begin a new database"
    )]
    UnfinishedSync(String),
    /// The files end before what they have promised.
    #[error("the files end at {end}, but {promise}: records are missing (a file was removed, or an old copy put back)")]
    Missing {
        /// The position that was recovered.
        end: Position,
        /// The promise that was not kept.
        promise: String,
    },
    /// The database was made with another analyzer than the settings name.
    #[error("this database counts words with the {found} analyzer; leave out --analyzer, or use another --data-dir")]
    OtherAnalyzer {
        /// The database's.
        found: crate::text::tokenizer::Analyzer,
    },
}

impl From<FileDamage> for RecoveryError {
    fn from(damage: FileDamage) -> Self {
        RecoveryError::File(damage.into())
    }
}

impl RecoveryError {
    /// True if the disk has no room, or can only be read: what there is can be served, and writing be tried again.
    pub fn is_no_room(&self) -> bool {
        matches!(self, RecoveryError::File(FileError::Io { error, .. }) if disk::is_no_room(error))
    }
}

/// The findings of a start, for a person and for the tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The snapshot that was loaded.
    pub snapshot: Option<String>,
    /// Snapshots that were damaged and passed over.
    pub passed_over: Vec<FileDamage>,
    /// Damage in the log that costs nothing: it is proven that no record is missing.
    pub harmless: Vec<FileDamage>,
    /// Records applied behind the snapshot.
    pub records: u64,
    /// The end of the log that was cut off.
    pub cut: Option<Truncation>,
    /// True if the last stop was clean.
    pub clean: bool,
}

impl RecoveryReport {
    /// Returns whether the state has to be written anew before it can be built on.
    fn needs_fresh_snapshot(&self) -> bool {
        let mut is_clean = self.clean;
        inject!(TrustsAnUncleanStop, is_clean = true);
        !is_clean || self.cut.is_some() || !self.passed_over.is_empty() || !self.harmless.is_empty()
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stop; ", if self.clean { "clean" } else { "no clean" })?;
        match &self.snapshot {
            Some(name) => write!(f, "{name} and {} records behind it", self.records)?,
            None => write!(f, "{} records from the log", self.records)?,
        }
        for damage in &self.passed_over {
            write!(f, "; passed over a damaged snapshot: {damage}")?;
        }
        for damage in &self.harmless {
            write!(f, "; no record is missing, in spite of damage: {damage}")?;
        }
        if let Some(cut) = &self.cut {
            let (bytes, damage) = (cut.lost_bytes, &cut.damage);
            write!(
                f,
                "; cut {bytes} bytes off the end of the log, none of which is known to have been synced: {damage}"
            )?;
        }
        Ok(())
    }
}

/// A database as its files give it.
pub struct RecoveredDatabase {
    /// The identity of the database, and its promises so far.
    pub manifest: Manifest,
    /// Its state.
    pub store: Store,
    /// The findings.
    pub report: RecoveryReport,
    /// True if the database is new.
    pub new: bool,
    /// The epoch that [`RecoveredDatabase::finalize`] begins, where others have promised one; else it is the next.
    pub promised: Option<Epoch>,
    /// Its files, where the role before had them open in this process ([`RecoveredDatabase::with_open_files`]).
    pub open: Option<OpenFiles>,
}

/// The identity of a new database, should there be none: drawn at random by the caller.
pub type NewDatabase = DatabaseIdentity;

/// Reads a data directory and brings a store to its state. Nothing is changed. Where a follower wrote it last, it may
/// end before the epochs that its leader has reported to it ([`RecoveredDatabase::is_behind`]).
///
/// # Errors
/// [`RecoveryError`] if the directory cannot be used without losing something that was durable: a file is damaged,
/// missing, or of another database.
pub fn look(disk: &dyn Disk, new: NewDatabase, window: DedupLimits) -> Result<RecoveredDatabase, RecoveryError> {
    let Some(manifest) = Manifest::read(disk)? else {
        return new_database(disk, new, window);
    };
    let whose = if manifest.state.has_followed() { DirectoryOwner::Follower } else { DirectoryOwner::Leader };
    look_at(disk, manifest, window, whose)
}

/// The kind of node that wrote a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DirectoryOwner {
    /// A leader's: what was written in it was written here.
    Leader,
    /// A follower's: its history was written elsewhere, and what is missing is taken from there.
    Follower,
}

/// Reads the files that a MANIFEST tells of, and holds what it recovers against what was promised.
fn look_at(
    disk: &dyn Disk,
    manifest: Manifest,
    mut window: DedupLimits,
    whose: DirectoryOwner,
) -> Result<RecoveredDatabase, RecoveryError> {
    let identity = manifest.identity;
    inject!(ForgetsTheWindowAtRestart, (window.key_age_ms, window.stream_age_ms) = (0, 0));
    let mut report = RecoveryReport { clean: manifest.state.clean_stop.is_some(), ..RecoveryReport::default() };
    let (mut store, snapshot) = load_snapshot(disk, &identity, window, &mut report)?;
    check_segments(disk, &manifest)?;
    if store.mark().position.epoch > manifest.state.epoch {
        let what = format!("it knows epochs up to {}, but {snapshot:?} is later: an old copy", manifest.state.epoch);
        return Err(FileDamage::new(MANIFEST, 0, what).into());
    }
    let from = store.mark();
    let mut records = 0;
    let apply = |raw: &RawRecord<'_>| {
        records += 1;
        let position = raw.header.position;
        if position.epoch > manifest.state.epoch {
            return Err(RecordError::Unknown(format!("{position} is of an epoch that the MANIFEST does not know")));
        }
        store.apply(&raw.record()?, raw.header.chain).map_err(|diverged| RecordError::Unknown(diverged.to_string()))
    };
    let scanned = match whose {
        DirectoryOwner::Leader => wal::scan(disk, &identity, from, apply),
        DirectoryOwner::Follower => wal::scan_copied(disk, &identity, from, apply),
    }
    .map_err(|error| naming(error, &report.passed_over))?;
    report.snapshot = snapshot;
    report.records = records;
    report.harmless = scanned.harmless;
    report.cut = scanned.cut;
    let end = store.mark().position;
    match whose {
        DirectoryOwner::Leader => check_promises(&manifest.state, end, &report)?,
        DirectoryOwner::Follower => check_own_promises(&manifest.state, end, &report)?,
    }
    store.set_epochs(manifest.state.epochs.clone());
    store.end_recovery();
    Ok(RecoveredDatabase { manifest, store, report, new: false, promised: None, open: None })
}

/// Names the snapshots that were passed over, where the log does not reach back far enough because of them: the cause
/// is in them.
fn naming(mut error: FileError, passed_over: &[FileDamage]) -> FileError {
    if let FileError::Damaged(damage) = &mut error {
        for snapshot in passed_over {
            damage.what += &format!("; passed over a damaged snapshot: {snapshot}");
        }
    }
    error
}

fn new_database(
    disk: &dyn Disk,
    identity: DatabaseIdentity,
    window: DedupLimits,
) -> Result<RecoveredDatabase, RecoveryError> {
    let names = disk.list().map_err(FileError::io("the data directory"))?;
    // Never silently empty: a MANIFEST that was lost must not turn a database into a new one.
    let ours = |name: &&String| FileKind::of_name(name).is_some();
    if let Some(name) = names.iter().find(ours) {
        // A first start that crashed leaves one segment without a record, and nothing else.
        let empty = parse_name(LOG_PREFIX, name) == Some(Position::new(1, 1))
            && names.iter().filter(ours).count() == 1
            && holds_no_record(disk, name)?;
        if !empty {
            return Err(RecoveryError::NoManifest(name.clone()));
        }
    }
    let received = received_snapshot_name();
    if names.contains(&received) {
        return Err(RecoveryError::UnfinishedSync(received));
    }
    let store = Store::new(identity.hasher(), window);
    let manifest = Manifest { identity, state: ManifestState::default() };
    Ok(RecoveredDatabase {
        manifest,
        store,
        report: RecoveryReport { clean: true, ..RecoveryReport::default() },
        new: true,
        promised: None,
        open: None,
    })
}

fn holds_no_record(disk: &dyn Disk, name: &str) -> Result<bool, FileError> {
    let file = disk.open(name).map_err(FileError::io(name))?;
    Ok(file.len().map_err(FileError::io(name))? <= FILE_HEADER_BYTES as u64)
}

/// Loads the newest snapshot that is whole.
fn load_snapshot(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    window: DedupLimits,
    report: &mut RecoveryReport,
) -> Result<(Store, Option<String>), RecoveryError> {
    let mut snapshots = snapshot::snapshots(disk)?;
    while let Some((name, _)) = snapshots.pop() {
        let mut store = Store::new(identity.hasher(), window);
        match snapshot::load(disk, &name, identity, &mut store) {
            Ok(_) => return Ok((store, Some(name))),
            // The snapshot before it and the log behind that lead to the same state, since the log is kept back to the
            // older of two.
            Err(FileError::Damaged(damage)) if !is_foreign(disk, &name, identity)? => report.passed_over.push(damage),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((Store::new(identity.hasher(), window), None))
}

/// Returns whether a file has a sound header of another database: nothing to pass over and remove.
fn is_foreign(disk: &dyn Disk, name: &str, identity: &DatabaseIdentity) -> Result<bool, FileError> {
    let file = disk.open(name).map_err(FileError::io(name))?;
    let mut bytes = [0; FILE_HEADER_BYTES];
    let read = file.read_at(0, &mut bytes).map_err(FileError::io(name))?;
    let own = FileHeader::decode_of(name, &bytes[..read], FileKind::Snapshot, identity).is_ok();
    Ok(FileHeader::is_whole(&bytes[..read]) && !own)
}

/// Some segment of the current epoch is always there, and none of a later epoch holds a record.
fn check_segments(disk: &dyn Disk, manifest: &Manifest) -> Result<(), RecoveryError> {
    let epoch = manifest.state.epoch;
    let segments = wal::segments(disk)?;
    for (name, first) in &segments {
        // An empty one is the trace of a start that died between segment and MANIFEST. Records of an epoch are written
        // only after the MANIFEST has it.
        if first.epoch > epoch && !holds_no_record(disk, name)? {
            return Err(FileDamage::new(
                name,
                0,
                format!("it is of epoch {}, but the MANIFEST knows only {epoch}", first.epoch),
            )
            .into());
        }
    }
    if epoch > 0 && !segments.iter().any(|(_, first)| first.epoch == epoch) {
        let what = format!("no log segment of epoch {epoch} is there");
        return Err(FileDamage::new(MANIFEST, 0, what).into());
    }
    Ok(())
}

/// Checks that the recovered state reaches everything that was promised as durable.
fn check_promises(state: &ManifestState, end: Position, report: &RecoveryReport) -> Result<(), RecoveryError> {
    if let Some(ended) = state.epochs.ended().last()
        && end.sequence < ended.sequence
    {
        return missing(report, end, format!("epoch {} ended at {ended}", ended.epoch));
    }
    check_own_promises(state, end, report)
}

fn missing(report: &RecoveryReport, end: Position, promise: String) -> Result<(), RecoveryError> {
    let damage = report.cut.as_ref().map(|cut| &cut.damage).or(report.passed_over.first());
    let found = damage.map_or(String::new(), |damage| format!(" ({damage})"));
    Err(RecoveryError::Missing { end, promise: promise + &found })
}

/// Checks the promises of this directory alone, whoever wrote the history in it.
fn check_own_promises(state: &ManifestState, end: Position, report: &RecoveryReport) -> Result<(), RecoveryError> {
    // A snapshot is synced before it has its name: what it was a state at was durable, also if it is damaged now.
    let snapshots = report.passed_over.iter().filter_map(|damage| parse_name(SNAPSHOT_PREFIX, &damage.file));
    if let Some(position) = snapshots.max()
        && end.sequence < position.sequence
    {
        return missing(report, end, format!("there was a snapshot at {position}"));
    }
    if let Some(stopped) = state.clean_stop
        && end.sequence < stopped.sequence
    // by sequence: the last epoch may have written nothing
    {
        return missing(report, end, format!("the last stop was clean at {stopped}"));
    }
    Ok(())
}

impl RecoveredDatabase {
    /// Begins the next epoch ([`RecoveredDatabase::begin`]) and gives the database to be written.
    ///
    /// # Errors
    /// [`RecoveryError::File`] if the MANIFEST or the new segment cannot be written or synced; it is not tried again.
    pub fn finalize(
        mut self,
        disk: &Arc<dyn Disk>,
        run: &mut NodeRun,
        segment_bytes: u64,
    ) -> Result<WritableDatabase, RecoveryError> {
        let begun = self.begin(disk, run, segment_bytes)?;
        Ok(self.into_settled(begun))
    }

    /// Makes what was found durable and begins the next epoch. What was found stays as it is, so that it can be served,
    /// and this be tried again, if the disk has no room: as long as the MANIFEST is the one that was read
    /// ([`RecoveredDatabase::is_current`]).
    ///
    /// # Errors
    /// [`RecoveryError::Missing`] where a follower's files are behind, and nobody has promised an epoch; else as the
    /// system says. It can be tried again from [`look`].
    pub fn begin(
        &mut self,
        disk: &Arc<dyn Disk>,
        run: &mut NodeRun,
        segment_bytes: u64,
    ) -> Result<NewEpoch, RecoveryError> {
        if self.promised.is_none() && self.is_behind() {
            let ended = self.manifest.state.epochs.ended().last();
            let promise = ended.map_or(String::new(), |ended| format!("epoch {} ended at {ended}", ended.epoch));
            return Err(RecoveryError::Missing { end: self.store.mark().position, promise });
        }
        failpoint::pass("start.read");
        // By the epoch that the MANIFEST on disk has: its segment stays until there is another.
        self.tidy(disk)?;
        let mut state = self.manifest.state.clone();
        if self.promised.is_some() {
            self.end_where_it_stands(&mut state);
        }
        let mark = self.store.mark();
        if state.epoch > 0 {
            state.epochs.end(Position::new(state.epoch, mark.position.sequence));
        }
        // No epoch is used twice, even if nothing was written in it: two records must never have one position.
        let mut next = state.epoch + 1;
        inject!(ReusesAnEpoch, next = state.epoch.max(1));
        (state.epoch, state.promised) = (self.promised.unwrap_or(next), 0);
        state.boot_id.clone_from(&run.boot_id);
        let position = Position::new(state.epoch, mark.position.sequence);
        self.begin_at(disk, state, position, run, segment_bytes)
    }

    /// Whether the MANIFEST is the one that was read, and no later one.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn is_current(&self, disk: &dyn Disk) -> Result<bool, FileError> {
        let there = Manifest::read(disk)?.map(|manifest| (manifest.identity, manifest.state.generation));
        let read = (self.manifest.identity, self.manifest.state.generation);
        Ok(there == Some(read).filter(|_| !self.new))
    }

    /// The database, ready to be written.
    pub fn into_settled(self, begun: NewEpoch) -> WritableDatabase {
        let RecoveredDatabase { mut store, report, new, .. } = self;
        let NewEpoch { manifest, log, snapshot, schedule, position } = begun;
        // Where this store is served already, its readers know how the epoch before ended when they see the new one.
        store.set_epochs(manifest.state.epochs.clone());
        store.set_state_id(StateId { position, ..store.mark() }, store.time_ms());
        WritableDatabase { manifest, store, log, snapshot, schedule, report, new }
    }

    /// Carries out the cut, and removes what means nothing.
    fn tidy(&mut self, disk: &Arc<dyn Disk>) -> Result<(), RecoveryError> {
        if let Some(cut) = &self.report.cut {
            // First: behind the cut the log is whole, and a start that died here would leave nothing to tell of it.
            self.manifest.forget_incarnation(&**disk)?;
            cut.carry_out(&**disk)?;
        }
        remove_remains(&**disk, self.manifest.state.epoch, &self.report)
    }

    /// Begins a segment of the epoch of `state`, and makes all durable; the store is to stand at `position` from then
    /// on.
    fn begin_at(
        &mut self,
        disk: &Arc<dyn Disk>,
        mut state: ManifestState,
        position: Position,
        run: &mut NodeRun,
        segment_bytes: u64,
    ) -> Result<NewEpoch, RecoveryError> {
        state.begin_run(run, self.report.cut.is_some());
        let needs_fresh_snapshot = self.report.needs_fresh_snapshot();
        let mut manifest = Manifest { identity: self.manifest.identity, state };
        let mark = self.store.mark();
        // The segment comes before the MANIFEST. The other way round, a crash between the two would leave an epoch
        // without a segment, which the next start refuses.
        let (log, schedule) = match self.open.take() {
            Some(OpenFiles { mut log, schedule }) => {
                // Should this fail, the files are as after an unclean stop: nobody knows what of the log is durable.
                self.report.clean = false;
                // Syncs what the log holds first, the records among it that were taken back for this epoch.
                log.start_epoch(manifest.state.epoch)?;
                (log, Some(schedule))
            }
            None => {
                let (identity, epoch) = (manifest.identity, manifest.state.epoch);
                (Log::create(Arc::clone(disk), identity, epoch, mark, segment_bytes)?, None)
            }
        };
        let RecoveredDatabase { store, report, .. } = &*self;
        let mut snapshot = report.snapshot.as_deref().and_then(|name| parse_name(SNAPSHOT_PREFIX, name));
        if needs_fresh_snapshot {
            // The end of the log was read from memory, perhaps after a sync that failed: it is durable only once it
            // was written again. So the state itself is, before the MANIFEST says how this epoch ended.
            let job = SnapshotJob::start(Arc::clone(disk), manifest.identity, store.reader(), mark, log.live_offset())?;
            snapshot = Some(job.run()?.position);
        }
        failpoint::pass("start.durable");
        // From here on records may follow. If the note of a clean stop stayed, the next start would trust files that a
        // crash has left.
        manifest.state.clean_stop = None;
        // Durable before the first record. If a power loss took the epoch back, the next start would take it again, and
        // one position would name two records.
        manifest.write(&**disk)?;
        failpoint::pass("start.manifest");
        // What a start that failed has left may have had the name of the segment just begun.
        if let Some(cut) = report.cut.as_ref().filter(|cut| cut.damage.file != log.offset().segment) {
            cut.clear(&**disk)?;
        }
        let snapshot = snapshot.map_or(0, |position| position.sequence);
        let snapshot = schedule.as_ref().map_or(snapshot, SnapshotSchedule::last);
        Ok(NewEpoch { manifest, log, snapshot, schedule, position })
    }
}

/// Removes files that mean nothing: temporary ones, snapshots that are damaged, empty segments of epochs that never
/// began.
fn remove_remains(disk: &dyn Disk, epoch: Epoch, report: &RecoveryReport) -> Result<(), RecoveryError> {
    if report.needs_fresh_snapshot() {
        // The fresh snapshot will say how far everything is durable. The log has to be durable as far, in case that
        // snapshot is damaged later, and before a damaged one is removed, whose name still says how far it was.
        for (name, _) in wal::segments(disk)? {
            disk.open(&name).and_then(|file| file.sync()).map_err(FileError::io(&name))?;
        }
    }
    let mut remains: Vec<String> = report.passed_over.iter().map(|damage| damage.file.clone()).collect();
    remains.extend(wal::segments(disk)?.into_iter().filter(|(_, first)| first.epoch > epoch).map(|(name, _)| name));
    let names = disk.list().map_err(FileError::io("the data directory"))?;
    let ours = |name: &String| [MANIFEST, LOG_PREFIX, SNAPSHOT_PREFIX].iter().any(|prefix| name.starts_with(prefix));
    remains.extend(names.into_iter().filter(|name| name.ends_with(TEMPORARY) && ours(name)));
    for name in remains {
        disk.remove(&name).map_err(FileError::io(&name))?;
    }
    Ok(disk.sync_directory().map_err(FileError::io("the data directory"))?)
}

/// The names of the files that a database is in.
///
/// # Errors
/// [`FileError::Io`] if the directory cannot be listed.
pub fn names(disk: &dyn Disk) -> Result<Vec<String>, FileError> {
    let mut names = disk.list().map_err(FileError::io("the data directory"))?;
    names.retain(|name| FileKind::of_name(name).is_some());
    Ok(names)
}

/// Bytes that must find room before it is worth trying to write more.
const TRIED_BYTES: usize = 64 << 10;

/// Tries whether the disk takes a small file. It leaves nothing behind.
///
/// # Errors
/// [`RecoveryError::File`] if the file cannot be written, synced or removed: mostly for want of room.
pub fn try_room(disk: &dyn Disk) -> Result<(), RecoveryError> {
    let name = disk::temporary_name(MANIFEST);
    // With a sync: some file systems find out that there is no room only when they write the bytes out.
    let written = disk.create(&name).and_then(|file| file.append(&[0; TRIED_BYTES]).and_then(|()| file.sync()));
    let removed = disk.remove(&name);
    Ok(written.and(removed).map_err(FileError::io(&name))?)
}

/// A clean stop of whoever writes this directory and is at rest: a last snapshot, unless `newest`, the sequence of the
/// newest one, has everything; then the note that the stop was clean. Gives the error of the snapshot, if it failed:
/// the log is whole and synced, so the stop is a clean one all the same, and the next start takes longer.
///
/// # Errors
/// If the note cannot be written; there is no clean stop then.
pub fn stop_cleanly(
    disk: &Arc<dyn Disk>,
    manifest: &mut Manifest,
    store: &Store,
    log: &Log,
    newest: Sequence,
) -> Result<Option<FileError>, FileError> {
    // Another directory may stand in the place of this one.
    if let Err(error) = log.check().run()
        && error.kind() == std::io::ErrorKind::NotFound
    {
        return Err(FileError::io("the data directory")(error));
    }
    let mark = store.mark();
    let last_snapshot =
        || SnapshotJob::start(Arc::clone(disk), manifest.identity, store.reader(), mark, log.live_offset())?.run();
    let failed = if mark.position.sequence == newest { None } else { last_snapshot().err() };
    failpoint::pass("stop.snapshot");
    manifest.state.clean_stop = Some(mark.position);
    manifest.write(&**disk)?;
    failpoint::pass("stop.noted");
    Ok(failed)
}

/// The header of any file of a database, for whoever has nothing but the file.
///
/// # Errors
/// If it cannot be read or is damaged.
pub fn read_header(disk: &dyn Disk, name: &str) -> Result<FileHeader, FileError> {
    let file = disk.open(name).map_err(FileError::io(name))?;
    let mut bytes = [0; FILE_HEADER_BYTES];
    let read = file.read_at(0, &mut bytes).map_err(FileError::io(name))?;
    Ok(FileHeader::decode(name, &bytes[..read])?)
}
