//! A replica: takes the records of its leader, applies them, keeps them if it has a directory, and says where it
//! stands.
//!
//! A state machine, as the leader's Writer is one: its owner gives it what has come, with the time, and carries out the
//! [`ReplicaAction`]s it gives back. Records go the same way as on the leader: appended to the log, applied to the
//! store, published. A replica never refuses a record that follows its own; and it never takes one back: what turns out
//! not to be the leader's history is loaded anew.

mod files;
mod hand_over;
mod handle;
mod inline_apply;
mod promise;
mod snapshot_load;
mod upkeep;

pub use files::{LoadedSnapshot, ReplicaDirectory};
pub use handle::{InlineApply, PromotionRequest, ReplicaEvent, ReplicaHandle};

use crate::{
    base::clock::{LoggedClock, Monotonic},
    base::failpoint::{self, inject},
    base::limits,
    base::position::{Epoch, EpochTable, Position, PositionStatus, Sequence},
    data::store::{DedupLimits, StateId, Store, StoreReader},
    replication::{AppendAnswer, AppendCommand, AppendOutcome, AppendRequest, ClusterMembers, NodeId, NodeState},
    storage::file_header::{DatabaseIdentity, FileError},
    storage::manifest::Manifest,
    storage::recovery::{self, RecoveredDatabase, WritableDatabase},
    storage::snapshot::SnapshotSettings,
    storage::wal::{AppendError, FileCheck, LiveLogOffset, RawRecord, SyncJob},
};
use bytes::Bytes;
use files::ReplicaFiles;
use promise::members_of;
use std::collections::VecDeque;

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
    /// Load a snapshot from the leader, and report to [`Replica::loaded`].
    Load(DatabaseIdentity),
    /// Sync, and report to [`Replica::synced`].
    Sync(SyncJob),
    /// Write a snapshot from here on, and report to [`Replica::snapshot_ended`].
    Snapshot(DatabaseIdentity, StoreReader, StateId, LiveLogOffset),
    /// Something a person should look at.
    Alarm(String),
    /// Look whether the files are still there, and report to [`Replica::files_checked`].
    CheckFiles(FileCheck),
    /// Files were taken away: it goes on in memory alone, and is not ready. This is gone.
    FilesLost(String),
}

/// The settings of a replica, and facts about it.
#[derive(Clone, Debug)]
pub struct ReplicaSettings {
    /// This run.
    pub node: NodeId,
    /// The URL by which others reach it.
    pub url: String,
    /// Bounds of the window of keys, as on the leader.
    pub window: DedupLimits,
    /// The intervals of snapshots.
    pub snapshot: SnapshotSettings,
}

/// The content of a replica's directory at its start.
pub enum ReplicaFindings {
    /// Nothing, or it has none.
    Nothing,
    /// A database it goes on with.
    Settled(Box<WritableDatabase>),
    /// A database it goes on with in memory, because its files cannot be written now: why.
    Read(Box<RecoveredDatabase>, String),
    /// Damaged files: they are replaced once their leader is there.
    Unusable {
        /// The database they are of.
        database: u128,
        /// The highest epoch they have seen.
        epoch: Epoch,
    },
}

/// The database that a replica holds.
struct LoadedDatabase {
    identity: DatabaseIdentity,
    store: Store,
    files: Option<ReplicaFiles>,
}

/// Follows one leader. `T` is where an answer goes.
pub struct Replica<T> {
    settings: ReplicaSettings,
    directory: Option<ReplicaDirectory>,
    held: Option<LoadedDatabase>,
    /// The highest epoch seen.
    epoch: Epoch,
    /// Past epochs, as the leader last sent them.
    told: EpochTable,
    /// A later epoch, promised to somebody who is about to lead in it; 0: none.
    promised: Epoch,
    /// The members of the cluster, as the leader last sent them.
    members: ClusterMembers,
    /// The database of files that are there and cannot be used: no other may take their place.
    bound_to: Option<u128>,
    /// The run of a leader that leads it, and in which epoch.
    led_by: Option<(Epoch, NodeId)>,
    /// The run of a candidate that it has promised an epoch.
    promised_to: Option<(Epoch, NodeId)>,
    diverged: bool,
    loading: bool,
    /// True if an own snapshot is being written; also after the files were given up meanwhile.
    snapshot_running: bool,
    /// A snapshot that was loaded while an own one is being written: its turn comes when that has ended.
    loaded: Option<LoadedSnapshot>,
    /// Answers that wait for a sync.
    waiting: VecDeque<(u64, T)>,
    last_heard: Option<Monotonic>,
    announced: Option<Monotonic>,
    /// The node's count of logged time, behind the last record.
    clock: Option<LoggedClock>,
}

impl ReplicaFindings {
    /// The MANIFEST of a database it goes on with.
    pub fn manifest(&self) -> Option<&Manifest> {
        match self {
            ReplicaFindings::Settled(settled) => Some(&settled.manifest),
            ReplicaFindings::Read(recovered, _) => Some(&recovered.manifest),
            ReplicaFindings::Nothing | ReplicaFindings::Unusable { .. } => None,
        }
    }
}

impl<T> Replica<T> {
    /// A replica that keeps its files in `directory`, if it has one, with what was found there. `before` is what the
    /// process has counted of logged time in an earlier role.
    pub fn new(
        settings: ReplicaSettings,
        directory: Option<ReplicaDirectory>,
        found: ReplicaFindings,
        before: Option<LoggedClock>,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> Self {
        let mut replica = Self {
            settings,
            directory,
            held: None,
            epoch: 0,
            told: EpochTable::default(),
            promised: 0,
            members: ClusterMembers::default(),
            bound_to: None,
            led_by: None,
            promised_to: None,
            diverged: false,
            loading: false,
            snapshot_running: false,
            loaded: None,
            waiting: VecDeque::new(),
            last_heard: None,
            announced: None,
            clock: before,
        };
        match found {
            ReplicaFindings::Nothing => {}
            ReplicaFindings::Unusable { database, epoch } => {
                (replica.bound_to, replica.epoch) = (Some(database), epoch);
            }
            ReplicaFindings::Settled(settled) => {
                replica.knows(&settled.manifest, actions);
                let identity = settled.manifest.identity;
                let disk = replica.directory.as_ref().expect("it was found in there").disk.clone();
                let (store, files) = ReplicaFiles::resume(disk, *settled, replica.settings.snapshot, now);
                replica.go_on(LoadedDatabase { identity, store, files: Some(files) }, before, now, actions);
            }
            ReplicaFindings::Read(recovered, why) => {
                let (manifest, store) = recovered.in_memory();
                replica.knows(&manifest, actions);
                actions.push(ReplicaAction::Alarm(format!(
                    "its files cannot be written ({why}): it goes on without files"
                )));
                replica.go_on(LoadedDatabase { identity: manifest.identity, store, files: None }, before, now, actions);
            }
        }
        replica
    }

    /// Takes over what the MANIFEST says of the leader and the cluster.
    fn knows(&mut self, manifest: &Manifest, actions: &mut Vec<ReplicaAction<T>>) {
        let state = &manifest.state;
        (self.epoch, self.told) = (state.epoch, state.epochs.clone());
        self.promised = state.promised;
        self.members = members_of(state, &self.settings.url);
        actions.push(ReplicaAction::Members(self.members.clone()));
    }

    /// Goes on from what was in its directory.
    fn go_on(
        &mut self,
        held: LoadedDatabase,
        before: Option<LoggedClock>,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) {
        let last = held.store.time_ms();
        self.clock = Some(before.map_or(LoggedClock::reading(last, now), |before| before.behind(last, now)));
        self.hold(held, actions);
    }

    /// An append request has come from the leader, as bytes.
    pub fn on_append_request(&mut self, bytes: &[u8], reply: T, now: Monotonic, actions: &mut Vec<ReplicaAction<T>>) {
        match AppendRequest::decode(bytes) {
            // Who leads another database is not the leader that this replica waits for.
            Ok(offer) if self.is_other(&offer) => self.answer(reply, AppendOutcome::OtherDatabase, actions),
            Ok(offer) => {
                self.last_heard = Some(now);
                self.on_decoded_request(&offer, reply, now, actions);
            }
            Err(what) => self.answer(reply, AppendOutcome::Unreadable(what), actions),
        }
    }

    fn on_decoded_request(
        &mut self,
        offer: &AppendRequest<'_>,
        reply: T,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) {
        let outcome = self.take(offer, now, actions);
        if self.held.as_ref().and_then(|held| held.files.as_ref()).is_some_and(ReplicaFiles::is_overdue) {
            self.start_sync(actions);
        }
        let sequence = self.state_id().position.sequence;
        let wants_sync = offer.durable && outcome == AppendOutcome::Applied && self.synced_sequence().is_some();
        // Only the answer waits for the disk: probes, promises and the end of the sync itself are handled meanwhile.
        if wants_sync && self.synced_sequence() < Some(sequence) {
            self.waiting.push_back((sequence, reply));
            self.start_sync(actions);
        } else {
            self.answer(reply, outcome, actions);
        }
    }

    fn is_other(&self, offer: &AppendRequest<'_>) -> bool {
        match &self.held {
            Some(held) => held.identity != offer.identity,
            None => self.bound_to.is_some_and(|bound_to| bound_to != offer.identity.database_id),
        }
    }

    fn take(
        &mut self,
        offer: &AppendRequest<'_>,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> AppendOutcome {
        // The epoch comes first, whatever is asked: who has seen or promised a later one must not acknowledge anything
        // for a leader that is being replaced.
        let mut is_old = offer.epoch < self.highest();
        inject!(AcceptsALowerEpoch, is_old = false);
        if is_old {
            return AppendOutcome::OldEpoch;
        }
        // Before the question who leads: a candidate leads nobody yet.
        if offer.command == AppendCommand::Promise {
            return self.promise(offer, actions);
        }
        // Two copies of one directory lead in one epoch. Whoever came first stays, since their records differ under the
        // same positions.
        if self.led_by.is_some_and(|led| led.0 == offer.epoch && led != (offer.epoch, offer.leader)) {
            return AppendOutcome::OtherLeader;
        }
        // What is held is about to be replaced: records that were applied now would go with it, and yet count as
        // acknowledged.
        if self.loading {
            return AppendOutcome::Syncing;
        }
        // Anybody may probe. That binds to nobody.
        if offer.command != AppendCommand::Probe {
            self.led_by = Some((offer.epoch, offer.leader));
        }
        match offer.command {
            AppendCommand::Probe | AppendCommand::Promise => AppendOutcome::Applied,
            AppendCommand::InstallSnapshot => {
                actions.push(ReplicaAction::Unready);
                self.note_members(&offer.members, actions);
                let is_newer = self.epoch < offer.epoch;
                (self.epoch, self.told) = (offer.epoch, offer.epochs.clone());
                if is_newer && self.is_elsewhere() {
                    // The table is that of what will be loaded. Noted beside what is held, it would call positions
                    // reached or lost that are not, also after a restart.
                    self.promised = offer.epoch;
                    self.keep(|files, promised| files.promise(promised), "an epoch cannot be noted", actions);
                } else if is_newer {
                    self.start_epoch(actions);
                }
                self.loading = true;
                actions.push(ReplicaAction::Load(offer.identity));
                AppendOutcome::Syncing
            }
            AppendCommand::Append if self.diverged => AppendOutcome::Diverged,
            AppendCommand::Append => self.stream(offer, now, actions),
        }
    }

    /// Goes on in the leader's history.
    fn stream(
        &mut self,
        offer: &AppendRequest<'_>,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> AppendOutcome {
        let here = self.state_id().position;
        if here.epoch != offer.epoch && here != offer.after {
            return AppendOutcome::Gap; // the leader has classified another position than this one
        }
        if here.epoch != offer.epoch {
            (self.epoch, self.told) = (offer.epoch, offer.epochs.clone());
        }
        if self.held.is_none() {
            self.start_database(offer.identity, now, actions);
        } else if here.epoch != offer.epoch {
            self.start_epoch(actions);
        }
        self.note_members(&offer.members, actions);
        let outcome = self.apply_all(offer, now, actions);
        if outcome != AppendOutcome::Applied {
            return outcome;
        }
        self.publish_position(actions);
        let mark = self.state_id();
        let last = &offer.last;
        // Also without a record in the request: a heartbeat shows a difference as soon as both stand at one position.
        if mark.position.sequence == last.position.sequence && (mark.chain, mark.digest) != (last.chain, last.digest) {
            return self.diverge(&format!("at {} it is not what the leader is there", mark.position), actions);
        }
        // More may have been written, and sent, since the leader noted where it stands.
        if mark.position.sequence >= last.position.sequence {
            actions.push(ReplicaAction::CaughtUp);
        }
        outcome
    }

    fn apply_all(
        &mut self,
        offer: &AppendRequest<'_>,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> AppendOutcome {
        let mut rest = offer.records;
        while !rest.is_empty() {
            let raw = match RawRecord::parse(rest, offer.identity.hash_seed) {
                Ok(raw) => raw,
                Err(bad) => return AppendOutcome::Unreadable(bad.to_string()),
            };
            let (bytes, behind) = rest.split_at(raw.header.record_bytes());
            rest = behind;
            if raw.header.position.epoch > offer.epoch {
                return AppendOutcome::Unreadable(format!(
                    "record {} in an offer of epoch {}",
                    raw.header.position, offer.epoch
                ));
            }
            let held = self.held.as_ref().expect("begun before records are applied");
            let next = held.store.mark().position.sequence + 1;
            // A request may come twice, if its first answer was lost or late.
            if raw.header.position.sequence < next {
                continue; // it has this one
            }
            if raw.header.position.sequence > next {
                return AppendOutcome::Gap;
            }
            // Before the log is touched: its bytes must never be those of two histories.
            if !raw.follows(held.store.mark().chain) {
                return self.diverge(&format!("record {} does not follow its own", raw.header.position), actions);
            }
            if let Err(what) = self.append_and_apply(&raw, bytes, now, actions) {
                return self.diverge(&what, actions);
            }
        }
        AppendOutcome::Applied
    }

    /// The funnel: append, apply, publish.
    fn append_and_apply(
        &mut self,
        raw: &RawRecord<'_>,
        bytes: &[u8],
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> Result<(), String> {
        let record = raw.record().map_err(|bad| bad.to_string())?;
        if let Some(files) = self.held.as_mut().and_then(|held| held.files.as_mut())
            && let Err(AppendError::Undone(error) | AppendError::Poisoned(error)) = files.append(bytes)
        {
            // It goes on in memory: it can still serve reads and acknowledge at level `replica`, and the records are in
            // the leader's log.
            self.give_up_files("its log cannot be written", &FileError::io("the log")(error), actions);
        }
        failpoint::pass("follow.appended");
        let held = self.held.as_mut().expect("begun before records are applied");
        // The digest is compared at every record, so a difference is found where it begins and no reader sees it.
        held.store.apply(&record, raw.header.chain).map_err(|diverged| diverged.to_string())?;
        failpoint::pass("follow.applied");
        self.clock = Some(LoggedClock::reading(record.time_ms, now));
        actions.push(ReplicaAction::Published(held.store.mark().position, Bytes::copy_from_slice(bytes)));
        Ok(())
    }

    /// Returns whether it is time to announce itself, because the leader has not been heard of for a while. Asked
    /// often, true once in a while.
    pub fn wants_to_announce(&mut self, now: Monotonic) -> bool {
        let is_silent = self.last_heard.is_none_or(|heard| now.since_ms(heard) > limits::SILENCE_MS);
        let is_due = self.announced.is_none_or(|announced| now.since_ms(announced) >= limits::ANNOUNCE_MS);
        if is_silent && is_due {
            self.announced = Some(now);
        }
        is_silent && is_due
    }

    /// Gives its count of logged time: that of the last record, and the time since it came here. `None` before there is
    /// anything.
    pub fn logged_clock(&self) -> Option<LoggedClock> {
        self.clock
    }

    /// Reports its position and state.
    pub fn node_state(&self) -> NodeState {
        let mark = self.state_id();
        NodeState {
            node: self.settings.node,
            url: self.settings.url.clone(),
            // Files that cannot be used count as held: another database must not replace them.
            database: self.held.as_ref().map(|held| held.identity.database_id).or(self.bound_to),
            epoch: self.highest(),
            position: mark.position,
            chain: mark.chain,
            synced: self.synced_sequence(),
            diverged: self.diverged || self.is_elsewhere(),
            local: false,
            leads: false,
        }
    }

    /// Returns whether the state is not part of the history that it was sent to load: the table of epochs is not that
    /// of its records then, so nobody may lead with them.
    fn is_elsewhere(&self) -> bool {
        let Position { epoch, sequence } = self.state_id().position;
        let told = Position::new(self.epoch, sequence);
        inject!(LeadsWithAnotherHistory, return false);
        self.told.position_status(Position::new(epoch, sequence), told) == PositionStatus::Lost
    }

    /// The end of its life, at rest: a last snapshot and the note of a clean stop, if it keeps files and they are good
    /// for something. Gives the error of the snapshot, if that failed.
    ///
    /// # Errors
    /// The system's error if the log cannot be synced or the MANIFEST not written; the stop was not clean then.
    pub fn close(self) -> Result<Option<FileError>, FileError> {
        match self.held {
            Some(LoadedDatabase { store, files: Some(files), .. }) if !self.diverged => files.close(&store),
            _ => Ok(None),
        }
    }

    /// Returns whether nothing is under way, and everything is synced that has to be.
    pub fn is_at_rest(&self) -> bool {
        let files = self.held.as_ref().and_then(|held| held.files.as_ref());
        self.waiting.is_empty() && !self.snapshot_running && files.is_none_or(ReplicaFiles::is_at_rest)
    }

    /// The state, once there is one.
    pub fn store(&self) -> Option<&Store> {
        self.held.as_ref().map(|held| &held.store)
    }

    fn state_id(&self) -> StateId {
        self.held.as_ref().map_or(StateId::default(), |held| held.store.mark())
    }

    fn synced_sequence(&self) -> Option<u64> {
        match &self.held {
            Some(held) => held.files.as_ref().map(ReplicaFiles::synced_upto),
            None => self.directory.as_ref().map(|_| 0),
        }
    }

    /// Begins with nothing: all records come from the leader's log.
    fn start_database(&mut self, identity: DatabaseIdentity, now: Monotonic, actions: &mut Vec<ReplicaAction<T>>) {
        let store = Store::new(identity.hasher(), self.settings.window);
        let nothing = LoadedSnapshot { identity, store, temporary: None };
        let files = self.replace_files(&nothing, now, actions);
        self.hold(LoadedDatabase { identity, store: nothing.store, files }, actions);
    }

    /// Serves what it holds now, and nothing else.
    fn hold(&mut self, mut held: LoadedDatabase, actions: &mut Vec<ReplicaAction<T>>) {
        held.store.set_epochs(self.told.clone());
        let sequence = held.store.mark().position.sequence;
        actions.push(ReplicaAction::Serve(held.identity, held.store.reader(), sequence));
        // Whoever waits for a sync of what was held before is not answered by this one.
        for (_, reply) in std::mem::take(&mut self.waiting) {
            self.answer(reply, AppendOutcome::Gap, actions);
        }
        self.held = Some(held);
    }

    /// The leader leads in another epoch than before: that is noted first of all, and readers know how the epoch before
    /// ended when they see the new one.
    fn start_epoch(&mut self, actions: &mut Vec<ReplicaAction<T>>) {
        let mut readers_learn = true;
        inject!(ForgetsEpochTables, readers_learn = false);
        if let Some(held) = self.held.as_mut().filter(|_| readers_learn) {
            held.store.set_epochs(self.told.clone());
        }
        let (epoch, told) = (self.epoch, self.told.clone());
        self.keep(|files, _| files.start_epoch(epoch, &told), "a new epoch cannot be noted", actions);
    }

    /// Once all records of earlier epochs are there, it stands in this one, and its position says so, as the leader's
    /// does.
    fn publish_position(&mut self, actions: &mut Vec<ReplicaAction<T>>) {
        let held = self.held.as_mut().expect("begun before records are applied");
        let mark = held.store.mark();
        let position = recovery::standing_at(mark.position, self.epoch, &self.told);
        if position != mark.position {
            let time_ms = held.store.time_ms();
            held.store.set_state_id(StateId { position, ..mark }, time_ms);
            actions.push(ReplicaAction::Stands(position));
        }
    }

    fn diverge(&mut self, what: &str, actions: &mut Vec<ReplicaAction<T>>) -> AppendOutcome {
        self.diverged = true;
        actions.push(ReplicaAction::Withdraw);
        actions.push(ReplicaAction::Alarm(format!("this copy is not the leader's: {what}; it is loaded anew")));
        AppendOutcome::Diverged
    }

    fn answer(&self, reply: T, outcome: AppendOutcome, actions: &mut Vec<ReplicaAction<T>>) {
        actions.push(ReplicaAction::Answer(reply, AppendAnswer { outcome, hello: self.node_state() }));
    }
}
