//! A replica: takes the records of its leader, applies them, keeps them if it has a directory, and says where it
//! stands.
//!
//! A state machine, as the leader's Writer is one: its owner gives it what has come, with the time, and carries out the
//! [`ReplicaAction`]s it gives back. Records go the same way as on the leader: appended to the log, applied to the
//! store, published. A replica never refuses a record that follows its own; and it never takes one back: what turns out
//! not to be the leader's history is loaded anew.

mod action;
mod append;
mod files;
mod hand_over;
mod handle;
mod inline_apply;
mod promise;
mod snapshot_load;
mod term;
mod upkeep;

pub use action::ReplicaAction;
pub use files::{LoadedSnapshot, ReplicaDirectory};
pub use handle::{InlineApply, PromotionRequest, ReplicaEvent, ReplicaHandle};

use crate::{
    base::clock::{LoggedClock, LoggedTime, Monotonic},
    base::failpoint::inject,
    base::limits,
    base::position::Epoch,
    data::store::{DedupLimits, StateId, Store},
    replication::{ClusterMembers, NodeId, NodeState},
    storage::file_header::{DatabaseIdentity, FileError},
    storage::manifest::Manifest,
    storage::recovery::{RecoveredDatabase, WritableDatabase},
    storage::snapshot::SnapshotSettings,
};
use files::ReplicaFiles;
use promise::members_of;
use std::collections::VecDeque;
use term::ReplicaTerm;

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
    term: ReplicaTerm,
    /// The members of the cluster, as the leader last sent them.
    members: ClusterMembers,
    /// The database of files that are there and cannot be used: no other may take their place.
    bound_to: Option<u128>,
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
    /// The epoch in which it has had all that the leader had, and has heard of it ever since; 0: in none.
    current_in: Epoch,
    /// The epoch of the leader by whose time it counts; 0: of none that it has heard of.
    counts_in: Epoch,
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
            term: ReplicaTerm::default(),
            members: ClusterMembers::default(),
            bound_to: None,
            diverged: false,
            loading: false,
            snapshot_running: false,
            loaded: None,
            waiting: VecDeque::new(),
            last_heard: None,
            announced: None,
            clock: before,
            current_in: 0,
            counts_in: 0,
        };
        match found {
            ReplicaFindings::Nothing => {}
            ReplicaFindings::Unusable { database, epoch } => {
                (replica.bound_to, replica.term) = (Some(database), ReplicaTerm::seen(epoch));
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
        self.term = ReplicaTerm::noted(state);
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

    /// Returns whether it is time to announce itself, because the leader has not been heard of for a while. Asked
    /// often, true once in a while.
    pub fn wants_to_announce(&mut self, now: Monotonic) -> bool {
        let is_silent = self.hears_nothing(now);
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

    /// Gives the epoch by whose leader it counts logged time: that of a record which came as it was written. Behind
    /// another number, the count may be less than it was, since that leader may have counted less.
    pub fn counts_in(&self) -> Epoch {
        self.counts_in
    }

    fn hears_nothing(&self, now: Monotonic) -> bool {
        self.last_heard.is_none_or(|heard| now.since_ms(heard) > limits::SILENCE_MS)
    }

    /// The leader is heard of.
    fn hear(&mut self, now: Monotonic) {
        // Records may have been written meanwhile, and come as if they were new.
        if self.hears_nothing(now) {
            self.current_in = 0;
        }
        self.last_heard = Some(now);
    }

    /// Counts logged time from a record of this epoch on, which comes now.
    fn count_from(&mut self, epoch: Epoch, logged: LoggedTime, now: Monotonic) {
        self.clock = Some(LoggedClock::reading(logged, now));
        if self.current_in == epoch {
            self.counts_in = epoch;
        }
    }

    /// Gives the incarnation of its files; 0 without files.
    pub fn incarnation(&self) -> u64 {
        let files = self.held.as_ref().and_then(|held| held.files.as_ref());
        files.map_or(0, ReplicaFiles::incarnation)
    }

    /// Reports its position and state.
    pub fn node_state(&self) -> NodeState {
        let mark = self.state_id();
        NodeState {
            node: self.settings.node,
            url: self.settings.url.clone(),
            // Files that cannot be used count as held: another database must not replace them.
            database: self.held.as_ref().map(|held| held.identity.database_id).or(self.bound_to),
            epoch: self.term.highest(),
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
        inject!(LeadsWithAnotherHistory, return false);
        self.term.has_lost(self.state_id().position)
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
}
