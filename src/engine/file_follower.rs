//! A local replica: follows a leader's directory on the same machine, and only reads.
//!
//! A state machine without threads or clocks. Its owner calls [`FileFollower::step`] again and again: at once while
//! there is more, after a notice or a while when there is nothing. It takes no lock and writes nothing.
//!
//! - **Load**: MANIFEST, the newest snapshot that is whole, the log behind it to its end. Only then it is complete, and
//!   readers may be let in.
//! - **Follow**: what is appended, over segments and epochs. When the leader has restarted, the MANIFEST tells of a new
//!   epoch, and the position moves into it as the leader's own does.
//! - **Reload**, whenever the files do not go on from what was read: a segment was pruned before it was read, the log
//!   was cut by a restart, a record is damaged or leads elsewhere, the directory holds another history. The new state
//!   is loaded beside the old one, which readers see until the new one is complete.
//!
//! The leader begins a segment before the MANIFEST tells of its epoch, and writes records only after that. So a record
//! of an epoch is never read before the MANIFEST that knows how the epochs before it have ended.

use crate::{
    base::limits,
    base::position::{Epoch, Position, PositionStatus, Sequence},
    data::store::{DedupLimits, StateId, Store, StoreReader},
    storage::disk::{Disk, DiskFile},
    storage::file_header::{FileError, LOG_PREFIX, parse_name},
    storage::manifest::Manifest,
    storage::recovery::standing_at,
    storage::snapshot::{SnapshotLoader, snapshots},
    storage::wal::{LogTail, RawRecord, place_after, segments},
};
use std::{fmt, sync::Arc};

/// Steps without anything new after which the MANIFEST is read again. A new epoch is seen by its segment, at once; this
/// is for a directory that was replaced, and for a clean stop.
const IDLE_STEPS_PER_MANIFEST: u32 = 10;

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowStep {
    /// A piece was loaded; there is more to do.
    Loading,
    /// All is loaded: from now on [`FileFollower::reader`] gives a reader of this, at this position. There may be more.
    Complete(Position),
    /// Readers see this position now; there may be more.
    Applied(Position),
    /// There is nothing new.
    Nothing,
    /// The files do not go on from here, for this reason: they are loaded anew from the next step on.
    Reloading(String),
    /// The files cannot be read now, for this reason: try again later.
    Waiting(String),
}

/// Follows the files of a leader.
pub struct FileFollower {
    disk: Arc<dyn Disk>,
    window: DedupLimits,
    /// The state that readers see, once something was complete.
    served: Option<FollowedState>,
    /// True if that state is still followed; if not, the files are loaded anew.
    goes_on: bool,
    loading: Option<LoadStage>,
    idle_steps: u32,
}

impl FileFollower {
    /// A local replica that has loaded nothing yet. `window` bounds the keys it remembers, as for a leader.
    pub fn new(disk: Arc<dyn Disk>, window: DedupLimits) -> Self {
        Self { disk, window, served: None, goes_on: false, loading: None, idle_steps: 0 }
    }

    /// Does the next piece of work: some hundred KiB, or one record if that is larger.
    pub fn step(&mut self) -> FollowStep {
        let followed = match &mut self.served {
            Some(served) if self.goes_on => served.step(&*self.disk, &mut self.idle_steps),
            _ => return self.load(),
        };
        followed.unwrap_or_else(|FollowError(why)| {
            self.goes_on = false;
            FollowStep::Reloading(why)
        })
    }

    /// Returns whether readers may be let in: everything that was there has been loaded once.
    pub fn is_complete(&self) -> bool {
        self.served.is_some()
    }

    /// Returns whether the last step left nothing in the files that readers do not see, as the files were when it read
    /// them. A busy leader's files always hold something new.
    pub fn has_all(&self) -> bool {
        let served = self.served.as_ref().filter(|_| self.goes_on);
        served.is_some_and(|served| served.tail.is_at_end(&*self.disk).unwrap_or(false))
    }

    /// The state that readers see; `None` before it is complete.
    pub fn store(&self) -> Option<&Store> {
        self.served.as_ref().map(|served| &served.store)
    }

    /// A reader of that state. A reload that is complete has another.
    pub fn reader(&self) -> Option<StoreReader> {
        self.store().map(Store::reader)
    }

    /// The leader's MANIFEST, as it was last read for that state.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.served.as_ref().map(|served| &served.manifest)
    }

    fn load(&mut self) -> FollowStep {
        let (disk, window) = (&*self.disk, self.window);
        let loading = match self.loading.take() {
            Some(loading) => loading.step(disk, window),
            None => LoadStage::start(disk, window),
        };
        match loading {
            Ok(LoadProgress::More(loading)) => {
                self.loading = Some(loading);
                FollowStep::Loading
            }
            Ok(LoadProgress::Short(loading, why)) => {
                self.loading = Some(loading);
                FollowStep::Waiting(why)
            }
            Ok(LoadProgress::Done(following)) => {
                let position = following.store.mark().position;
                (self.served, self.goes_on, self.idle_steps) = (Some(*following), true, 0);
                FollowStep::Complete(position)
            }
            Err(FollowError(why)) => FollowStep::Waiting(why),
        }
    }
}

/// The reason why the files cannot be followed.
struct FollowError(String);

impl FollowError {
    fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl From<FileError> for FollowError {
    fn from(error: FileError) -> Self {
        Self::new(error)
    }
}

/// A state being loaded.
enum LoadStage {
    /// The snapshots are read, newest first, until one is whole.
    Snapshot(Box<SnapshotLoad>),
    /// The log behind it is read to where it ended when this was begun: a busy leader's has no other end.
    Log {
        following: Box<FollowedState>,
        /// The newest segment then, and its length.
        end: (String, u64),
    },
}

/// The result of a step of loading.
enum LoadProgress {
    More(LoadStage),
    /// The log has ended before it should, for this reason.
    Short(LoadStage, String),
    Done(Box<FollowedState>),
}

struct SnapshotLoad {
    manifest: Manifest,
    /// Names of older ones, oldest first.
    older: Vec<(String, Position)>,
    name: String,
    file: Arc<dyn DiskFile>,
    loader: SnapshotLoader,
    piece: Vec<u8>,
    /// The log behind the snapshot, opened before: pruning does not take it away while the snapshot is loaded.
    tail: LogTail,
    chain: u64,
}

impl LoadStage {
    fn start(disk: &dyn Disk, window: DedupLimits) -> Result<LoadProgress, FollowError> {
        let manifest = Manifest::read(disk)?.ok_or_else(|| FollowError::new("there is no MANIFEST"))?;
        Self::start_with(disk, window, manifest, snapshots(disk)?).map(LoadProgress::More)
    }

    /// Begins with the newest of these snapshots, or, if there is none, with the log from record 1 on.
    fn start_with(
        disk: &dyn Disk,
        window: DedupLimits,
        manifest: Manifest,
        mut snapshots: Vec<(String, Position)>,
    ) -> Result<Self, FollowError> {
        let identity = manifest.identity;
        let Some((name, position)) = snapshots.pop() else {
            let store = Store::new(identity.hasher(), window);
            let (tail, _) = tail_behind(disk, &manifest, 0)?;
            return Self::log(disk, manifest, store, tail);
        };
        let file = disk.open(&name).map_err(FileError::io(&name))?;
        // Opened before the snapshot is read: pruning may remove the segments meanwhile, and an open one stays.
        let (tail, chain) = tail_behind(disk, &manifest, position.sequence)?;
        let loader = SnapshotLoader::of_file(&name, identity, window);
        let from = SnapshotLoad { manifest, older: snapshots, name, file, loader, piece: Vec::new(), tail, chain };
        Ok(Self::Snapshot(Box::new(from)))
    }

    fn log(disk: &dyn Disk, manifest: Manifest, mut store: Store, tail: LogTail) -> Result<Self, FollowError> {
        store.set_epochs(manifest.state.epochs.clone());
        let newest = segments(disk)?.pop().map_or_else(|| tail.place().segment.clone(), |(name, _)| name);
        let len = disk.open(&newest).and_then(|file| file.len()).map_err(FileError::io(&newest))?;
        let following = Box::new(FollowedState { manifest, store, tail, bytes: Vec::new() });
        Ok(Self::Log { following, end: (newest, len) })
    }

    fn step(self, disk: &dyn Disk, window: DedupLimits) -> Result<LoadProgress, FollowError> {
        match self {
            Self::Snapshot(from) => from.step(disk, window).map(LoadProgress::More),
            Self::Log { mut following, end } => {
                let more = following.follow(disk)?;
                let place = following.tail.place();
                let has_all = !more || (&place.segment, place.offset) >= (&end.0, end.1);
                if !has_all || following.refresh(disk)? {
                    return Ok(LoadProgress::More(Self::Log { following, end }));
                }
                following.stand();
                Ok(match following.missing() {
                    Some(why) => LoadProgress::Short(Self::Log { following, end }, why),
                    None => LoadProgress::Done(following),
                })
            }
        }
    }
}

impl SnapshotLoad {
    fn step(mut self: Box<Self>, disk: &dyn Disk, window: DedupLimits) -> Result<LoadStage, FollowError> {
        self.piece.resize(limits::COPY_BYTES, 0);
        let read = self.file.read_at(self.loader.taken(), &mut self.piece).map_err(FileError::io(&self.name))?;
        let damage = if read > 0 {
            match self.loader.feed(&self.piece[..read]) {
                Ok(()) => return Ok(LoadStage::Snapshot(self)),
                Err(damage) => damage,
            }
        } else {
            match self.loader.finish() {
                // Compared although each file is whole: the directory may have been replaced between the two.
                Ok((store, _)) if store.mark().chain == self.chain => {
                    return LoadStage::log(disk, self.manifest, store, self.tail);
                }
                Ok(_) => return Err(FollowError(format!("the log does not go on from {}", self.name))),
                Err(damage) => damage,
            }
        };
        let older = LoadStage::start_with(disk, window, self.manifest, self.older);
        older.map_err(|FollowError(why)| FollowError(format!("{damage}; without it, {why}")))
    }
}

/// The log behind a record, with the chain up to there.
fn tail_behind(disk: &dyn Disk, manifest: &Manifest, sequence: Sequence) -> Result<(LogTail, u64), FollowError> {
    let (place, chain) = place_after(disk, &manifest.identity, sequence)?
        .ok_or_else(|| FollowError(format!("the log does not go on behind record {sequence}")))?;
    Ok((LogTail::open(disk, manifest.identity, place)?, chain))
}

/// A state, and the log behind it.
struct FollowedState {
    manifest: Manifest,
    store: Store,
    tail: LogTail,
    bytes: Vec<u8>,
}

impl FollowedState {
    /// Follows the log; now and then, when there is nothing new, looks into the MANIFEST.
    fn step(&mut self, disk: &dyn Disk, idle_steps: &mut u32) -> Result<FollowStep, FollowError> {
        let before = self.store.mark().position;
        self.stand();
        let mut changed = self.follow(disk)?;
        if !changed {
            *idle_steps += 1;
            if *idle_steps >= IDLE_STEPS_PER_MANIFEST {
                *idle_steps = 0;
                changed = self.refresh(disk)?;
            }
        }
        let position = self.store.mark().position;
        Ok(if position == before && !changed { FollowStep::Nothing } else { FollowStep::Applied(position) })
    }

    /// Describes records that the MANIFEST promises and the log did not have: most likely the log was cut and nothing
    /// appended yet.
    fn missing(&self) -> Option<String> {
        let (at, state) = (self.store.mark().position, &self.manifest.state);
        let stopped = state.clean_stop.filter(|stopped| stopped.sequence > at.sequence);
        if let Some(promised) = stopped.or(state.epochs.ended().last().copied().filter(|_| at.epoch < state.epoch)) {
            return Some(format!("the log ends at {at}, but {promised} was written"));
        }
        None
    }

    /// Applies what is next in the log; returns whether there was anything.
    fn follow(&mut self, disk: &dyn Disk) -> Result<bool, FollowError> {
        self.bytes.clear();
        self.bytes.shrink_to(2 * limits::COPY_BYTES); // a large record was an exception
        let more = self.tail.follow(disk, &mut self.bytes)?;
        if self.segment_epoch() > self.manifest.state.epoch && self.refresh(disk)? {
            return Ok(true); // and it is read again from where the store stands
        }
        if more {
            let bytes = std::mem::take(&mut self.bytes);
            let applied = self.apply(&bytes);
            self.bytes = bytes;
            applied?;
            self.stand();
        }
        Ok(more)
    }

    /// The epoch of the segment that is read.
    fn segment_epoch(&self) -> Epoch {
        parse_name(LOG_PREFIX, &self.tail.place().segment).map_or(0, |first| first.epoch)
    }

    fn apply(&mut self, bytes: &[u8]) -> Result<(), FollowError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let raw = RawRecord::parse(rest, self.manifest.identity.hash_seed).map_err(FollowError::new)?;
            let (mark, position) = (self.store.mark(), raw.header.position);
            if !raw.goes_on_from(mark.position.sequence, mark.chain) {
                return Err(FollowError(format!("record {position} does not follow {}", mark.position)));
            }
            // Without the table that says how the epochs before it ended, positions would be answered wrongly.
            if position.epoch > self.manifest.state.epoch {
                return Err(FollowError(format!("record {position} is of an epoch that the MANIFEST does not know")));
            }
            let record = raw.record().map_err(FollowError::new)?;
            self.store.apply(&record, raw.header.chain).map_err(FollowError::new)?;
            rest = &rest[raw.header.record_bytes()..];
        }
        Ok(())
    }

    /// Reads the MANIFEST again; returns whether it has changed. If so, the log is opened anew where the store stands:
    /// the leader may have replaced the very segment that was open, or cut the end off.
    fn refresh(&mut self, disk: &dyn Disk) -> Result<bool, FollowError> {
        let manifest = Manifest::read(disk)?.ok_or_else(|| FollowError::new("the MANIFEST is gone"))?;
        if manifest == self.manifest {
            return Ok(false);
        }
        if manifest.identity != self.manifest.identity {
            return Err(FollowError::new("the directory holds another database now"));
        }
        let (mark, state) = (self.store.mark(), &manifest.state);
        let end = Position::new(state.epoch, Sequence::MAX);
        if state.epochs.position_status(mark.position, end) != PositionStatus::Reached {
            return Err(FollowError(format!("record {} is not part of the history any more", mark.position)));
        }
        let (tail, chain) = tail_behind(disk, &manifest, mark.position.sequence)?;
        // The sequence may be the same and the record another: a start may have cut the log and gone on otherwise.
        if chain != mark.chain {
            return Err(FollowError(format!("the log has another record {} now", mark.position.sequence)));
        }
        // Before any record of a later epoch is applied.
        self.store.set_epochs(state.epochs.clone());
        (self.manifest, self.tail) = (manifest, tail);
        Ok(true)
    }

    /// Moves the position into the leader's epoch, once all of the epochs before is applied.
    fn stand(&mut self) {
        let (mark, state) = (self.store.mark(), &self.manifest.state);
        let position = standing_at(mark.position, state.epoch, &state.epochs);
        if position != mark.position {
            self.store.set_state_id(StateId { position, ..mark }, self.store.time_ms());
        }
    }
}
