//! A replica: takes the records of its leader, applies them, keeps them if it has a directory, and says where it
//! stands.
//!
//! A state machine, as the leader's Writer is one: its owner gives it what has come, with the time, and carries out the
//! [`Action`]s it gives back. Records go the same way as on the leader: appended to the log, applied to the store,
//! published. A replica never refuses a record that follows its own; and it never takes one back: what turns out not to
//! be the leader's history is loaded anew.

mod at_once;
mod files;
mod follower;
mod promise;
mod upkeep;

pub use files::{Directory, Loaded};
pub use follower::{AtOnce, Event, Follower, Promotion};

use crate::{
    clock::{LoggedClock, Monotonic},
    failpoint::{self, Bug, planted},
    format::{FileError, Identity},
    limits,
    log::{AppendError, FileCheck, LivePlace, RawRecord, Sync},
    manifest::{Manifest, State},
    position::{Epoch, EpochTable, Position, Sequence, Standing},
    recovery::{self, Recovered, Settled},
    replication::{Answer, Command, Hello, Members, NodeId, Offer, Outcome},
    snapshot::SnapshotSettings,
    store::{Mark, Reader, Store, WindowLimits},
};
use bytes::Bytes;
use files::Files;
use promise::members_of;
use std::collections::VecDeque;

/// An effect that a replica's owner carries out.
pub enum Action<T> {
    /// Give an answer.
    Answer(T, Answer),
    /// Serve this from now on. The next record to be published is the one behind this sequence.
    Serve(Identity, EpochTable, Reader, Sequence),
    /// The state is not current: no longer ready, until it has caught up.
    Unready,
    /// The state is not the leader's history: serve nothing until there is something else.
    Withdraw,
    /// Tell readers who wait that this position can be seen; this is its record.
    Published(Position, Bytes),
    /// The epoch table is another: a new leader, or the same one after a restart.
    Epochs(EpochTable),
    /// The position is in this epoch now; no record has come.
    Stands(Position),
    /// At this moment nothing that the leader had is missing.
    CaughtUp,
    /// These are the nodes of the cluster.
    Members(Members),
    /// Load a snapshot from the leader, and report to [`Replica::loaded`].
    Load(Identity),
    /// Sync, and report to [`Replica::synced`].
    Sync(Sync),
    /// Write a snapshot from here on, and report to [`Replica::snapshot_ended`].
    Snapshot(Identity, Reader, Mark, LivePlace),
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
    pub window: WindowLimits,
    /// The intervals of snapshots.
    pub snapshot: SnapshotSettings,
}

/// The content of a replica's directory at its start.
pub enum Found {
    /// Nothing, or it has none.
    Nothing,
    /// A database it goes on with.
    Settled(Box<Settled>),
    /// A database it goes on with in memory, because its files cannot be written now: why.
    Read(Box<Recovered>, String),
    /// Damaged files: they are replaced once their leader is there.
    Unusable {
        /// The database they are of.
        database: u128,
        /// The highest epoch they have seen.
        epoch: Epoch,
    },
}

/// The database that a replica holds.
struct Held {
    identity: Identity,
    store: Store,
    files: Option<Files>,
}

/// Follows one leader. `T` is where an answer goes.
pub struct Replica<T> {
    settings: ReplicaSettings,
    directory: Option<Directory>,
    held: Option<Held>,
    /// The highest epoch seen.
    epoch: Epoch,
    /// Past epochs, as the leader last told them.
    told: EpochTable,
    /// A later epoch, promised to somebody who is about to lead in it; 0: none.
    promised: Epoch,
    /// The members of the cluster, as the leader last sent them.
    members: Members,
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
    loaded: Option<Loaded>,
    /// Answers that wait for a sync.
    waiting: VecDeque<(u64, T)>,
    last_heard: Option<Monotonic>,
    announced: Option<Monotonic>,
    /// The node's count of logged time, behind the last record.
    clock: Option<LoggedClock>,
}

impl Found {
    /// The MANIFEST of a database it goes on with.
    pub fn manifest(&self) -> Option<&Manifest> {
        match self {
            Found::Settled(settled) => Some(&settled.manifest),
            Found::Read(recovered, _) => Some(&recovered.manifest),
            Found::Nothing | Found::Unusable { .. } => None,
        }
    }
}

impl<T> Replica<T> {
    /// A replica that keeps its files in `directory`, if it has one, with what was found there. `before` is what the
    /// process has counted of logged time in an earlier role.
    pub fn new(
        settings: ReplicaSettings,
        directory: Option<Directory>,
        found: Found,
        before: Option<LoggedClock>,
        now: Monotonic,
        actions: &mut Vec<Action<T>>,
    ) -> Self {
        let mut replica = Self {
            settings,
            directory,
            held: None,
            epoch: 0,
            told: EpochTable::default(),
            promised: 0,
            members: Members::default(),
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
            Found::Nothing => {}
            Found::Unusable { database, epoch } => (replica.bound_to, replica.epoch) = (Some(database), epoch),
            Found::Settled(settled) => {
                replica.knows(&settled.manifest, actions);
                let identity = settled.manifest.identity;
                let disk = replica.directory.as_ref().expect("it was found in there").disk.clone();
                let (store, files) = Files::resume(disk, *settled, replica.settings.snapshot, now);
                replica.go_on(Held { identity, store, files: Some(files) }, before, now, actions);
            }
            Found::Read(recovered, why) => {
                let (manifest, store) = recovered.in_memory();
                replica.knows(&manifest, actions);
                actions.push(Action::Alarm(format!("its files cannot be written ({why}): it goes on without files")));
                replica.go_on(Held { identity: manifest.identity, store, files: None }, before, now, actions);
            }
        }
        replica
    }

    /// What the MANIFEST tells of the leader and the cluster.
    fn knows(&mut self, manifest: &Manifest, actions: &mut Vec<Action<T>>) {
        let state = &manifest.state;
        (self.epoch, self.told) = (state.epoch, state.epochs.clone());
        self.promised = state.promised;
        self.members = members_of(state, &self.settings.url);
        actions.push(Action::Members(self.members.clone()));
    }

    /// Goes on from what was in its directory.
    fn go_on(&mut self, held: Held, before: Option<LoggedClock>, now: Monotonic, actions: &mut Vec<Action<T>>) {
        let last = held.store.time_ms();
        self.clock = Some(before.map_or(LoggedClock::reading(last, now), |before| before.behind(last, now)));
        self.hold(held, actions);
    }

    /// An offer has come from the leader, as bytes.
    pub fn offered(&mut self, bytes: &[u8], reply: T, now: Monotonic, actions: &mut Vec<Action<T>>) {
        match Offer::decode(bytes) {
            // Who leads another database is not the leader that this replica waits for.
            Ok(offer) if self.is_other(&offer) => self.answer(reply, Outcome::OtherDatabase, actions),
            Ok(offer) => {
                self.last_heard = Some(now);
                self.decoded(&offer, reply, now, actions);
            }
            Err(what) => self.answer(reply, Outcome::Unreadable(what), actions),
        }
    }

    fn decoded(&mut self, offer: &Offer<'_>, reply: T, now: Monotonic, actions: &mut Vec<Action<T>>) {
        let outcome = self.take(offer, now, actions);
        if self.held.as_ref().and_then(|held| held.files.as_ref()).is_some_and(Files::is_overdue) {
            self.start_sync(actions);
        }
        let sequence = self.mark().position.sequence;
        let wants_sync = offer.durable && outcome == Outcome::Applied && self.synced_sequence().is_some();
        if wants_sync && self.synced_sequence() < Some(sequence) {
            self.waiting.push_back((sequence, reply));
            self.start_sync(actions);
        } else {
            self.answer(reply, outcome, actions);
        }
    }

    fn is_other(&self, offer: &Offer<'_>) -> bool {
        match &self.held {
            Some(held) => held.identity != offer.identity,
            None => self.bound_to.is_some_and(|bound_to| bound_to != offer.identity.database_id),
        }
    }

    fn take(&mut self, offer: &Offer<'_>, now: Monotonic, actions: &mut Vec<Action<T>>) -> Outcome {
        if offer.epoch < self.highest() && !planted(Bug::AcceptsALowerEpoch) {
            return Outcome::OldEpoch;
        }
        if offer.command == Command::Promise {
            return self.promise(offer, actions);
        }
        if self.led_by.is_some_and(|led| led.0 == offer.epoch && led != (offer.epoch, offer.leader)) {
            return Outcome::OtherLeader;
        }
        if self.loading {
            return Outcome::Syncing;
        }
        if offer.command != Command::Ask {
            self.led_by = Some((offer.epoch, offer.leader));
        }
        match offer.command {
            Command::Ask | Command::Promise => Outcome::Applied,
            Command::Snapshot => {
                actions.push(Action::Unready);
                self.meet(&offer.members, actions);
                let is_newer = self.epoch < offer.epoch;
                (self.epoch, self.told) = (offer.epoch, offer.epochs.clone());
                if is_newer && self.is_elsewhere() {
                    // The table is that of what will be loaded: with what is held it would be a lie, also after a
                    // restart.
                    self.promised = offer.epoch;
                    self.keep(|files, promised| files.promise(promised), "an epoch cannot be noted", actions);
                } else if is_newer {
                    self.begin_epoch(actions);
                }
                self.loading = true;
                actions.push(Action::Load(offer.identity));
                Outcome::Syncing
            }
            Command::Stream if self.diverged => Outcome::Diverged,
            Command::Stream => self.stream(offer, now, actions),
        }
    }

    /// Goes on in the leader's history.
    fn stream(&mut self, offer: &Offer<'_>, now: Monotonic, actions: &mut Vec<Action<T>>) -> Outcome {
        let here = self.mark().position;
        if here.epoch != offer.epoch && here != offer.after {
            return Outcome::Gap; // the leader has judged another position than this one
        }
        if here.epoch != offer.epoch {
            (self.epoch, self.told) = (offer.epoch, offer.epochs.clone());
        }
        if self.held.is_none() {
            self.begin(offer.identity, now, actions);
        } else if here.epoch != offer.epoch {
            self.begin_epoch(actions);
        }
        self.meet(&offer.members, actions);
        let outcome = self.apply_all(offer, now, actions);
        if outcome != Outcome::Applied {
            return outcome;
        }
        self.stand(actions);
        let mark = self.mark();
        let last = &offer.last;
        if mark.position.sequence == last.position.sequence && (mark.chain, mark.digest) != (last.chain, last.digest) {
            return self.diverge(&format!("at {} it is not what the leader is there", mark.position), actions);
        }
        // More may have been written, and sent, since the leader noted where it stands.
        if mark.position.sequence >= last.position.sequence {
            actions.push(Action::CaughtUp);
        }
        outcome
    }

    fn apply_all(&mut self, offer: &Offer<'_>, now: Monotonic, actions: &mut Vec<Action<T>>) -> Outcome {
        let mut rest = offer.records;
        while !rest.is_empty() {
            let raw = match RawRecord::parse(rest, offer.identity.hash_seed) {
                Ok(raw) => raw,
                Err(bad) => return Outcome::Unreadable(bad.to_string()),
            };
            let (bytes, behind) = rest.split_at(raw.header.record_bytes());
            rest = behind;
            if raw.header.position.epoch > offer.epoch {
                return Outcome::Unreadable(format!(
                    "record {} in an offer of epoch {}",
                    raw.header.position, offer.epoch
                ));
            }
            let held = self.held.as_ref().expect("begun before records are applied");
            let next = held.store.mark().position.sequence + 1;
            if raw.header.position.sequence < next {
                continue; // it has this one
            }
            if raw.header.position.sequence > next {
                return Outcome::Gap;
            }
            if !raw.follows(held.store.mark().chain) {
                return self.diverge(&format!("record {} does not follow its own", raw.header.position), actions);
            }
            if let Err(what) = self.append_and_apply(&raw, bytes, now, actions) {
                return self.diverge(&what, actions);
            }
        }
        Outcome::Applied
    }

    /// The funnel: append, apply, publish.
    fn append_and_apply(
        &mut self,
        raw: &RawRecord<'_>,
        bytes: &[u8],
        now: Monotonic,
        actions: &mut Vec<Action<T>>,
    ) -> Result<(), String> {
        let record = raw.record().map_err(|bad| bad.to_string())?;
        if let Some(files) = self.held.as_mut().and_then(|held| held.files.as_mut())
            && let Err(AppendError::Undone(error) | AppendError::Poisoned(error)) = files.append(bytes)
        {
            self.give_up_files("its log cannot be written", &FileError::io("the log")(error), actions);
        }
        failpoint::pass("follow.appended");
        let held = self.held.as_mut().expect("begun before records are applied");
        held.store.apply(&record, raw.header.chain).map_err(|diverged| diverged.to_string())?;
        failpoint::pass("follow.applied");
        self.clock = Some(LoggedClock::reading(record.time_ms, now));
        actions.push(Action::Published(held.store.mark().position, Bytes::copy_from_slice(bytes)));
        Ok(())
    }

    /// The snapshot of the leader was loaded, or not.
    pub fn loaded(&mut self, loaded: Result<Loaded, String>, now: Monotonic, actions: &mut Vec<Action<T>>) {
        // The table of epochs is that of the leader that ordered the load. One that has started again since has
        // another.
        let is_later = |loaded: &Loaded| loaded.store.mark().position.epoch > self.epoch;
        match loaded {
            Ok(loaded) if is_later(&loaded) => {
                self.loading = false;
                actions.push(Action::Alarm("the leader has started again while its snapshot was loaded".to_owned()));
            }
            Ok(loaded) if !self.is_on_the_leaders_history(&loaded) => {
                self.loading = false;
                self.forget_who_led();
                let position = loaded.store.mark().position;
                actions.push(Action::Alarm(format!(
                    "the snapshot that was loaded, at {position}, is not of the leader that wants it loaded: does --leader \
                     name that one?"
                )));
            }
            // Two must not change the directory at once.
            Ok(loaded) if self.snapshot_running => self.loaded = Some(loaded),
            Ok(loaded) => self.take_over(loaded, now, actions),
            Err(what) => {
                self.loading = false;
                self.forget_who_led();
                actions.push(Action::Alarm(format!("a snapshot of the leader could not be loaded: {what}")));
            }
        }
    }

    /// A replica that holds nothing has noted nothing of those it was about to follow, so nothing may depend on it.
    /// What it remembers of them would only keep it from whoever leads in the end, until it is started again.
    fn forget_who_led(&mut self) {
        if self.held.is_none() && self.bound_to.is_none() {
            (self.epoch, self.promised) = (0, 0);
            (self.led_by, self.promised_to) = (None, None);
            self.told = EpochTable::default();
        }
    }

    fn is_on_the_leaders_history(&self, loaded: &Loaded) -> bool {
        let Position { epoch, sequence } = loaded.store.mark().position;
        sequence == 0 || epoch == self.epoch || self.told.last_of(epoch).is_some_and(|end| sequence <= end)
    }

    fn take_over(&mut self, loaded: Loaded, now: Monotonic, actions: &mut Vec<Action<T>>) {
        self.loading = false;
        let files = self.replace_files(&loaded, now, actions);
        let Loaded { identity, store, .. } = loaded;
        self.clock = Some(LoggedClock::reading(store.time_ms(), now));
        self.diverged = false;
        self.hold(Held { identity, store, files }, actions);
    }

    /// Puts what was loaded in the place of all files, if this replica keeps any.
    fn replace_files(&mut self, loaded: &Loaded, now: Monotonic, actions: &mut Vec<Action<T>>) -> Option<Files> {
        let directory = self.directory.as_ref()?;
        let state = State {
            epoch: self.epoch,
            epochs: self.told.clone(),
            promised: self.promised,
            leader_url: Some(self.members.leader.clone()).filter(|url| !url.is_empty()),
            replicas: self.members.replicas.clone(),
            ..State::default()
        };
        match directory.replace(loaded, state, self.settings.snapshot, now) {
            Ok(files) => Some(files),
            Err(error) => {
                self.directory = None;
                actions.push(if error.is_gone() {
                    Action::FilesLost(format!("its directory cannot be used ({error})"))
                } else {
                    Action::Alarm(format!("its directory cannot be used ({error}): it keeps no files"))
                });
                None
            }
        }
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
    pub fn hello(&self) -> Hello {
        let mark = self.mark();
        Hello {
            node: self.settings.node,
            url: self.settings.url.clone(),
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
        let Position { epoch, sequence } = self.mark().position;
        let told = Position::new(self.epoch, sequence);
        let leads_there = self.told.standing(Position::new(epoch, sequence), told) != Standing::Lost;
        !leads_there && !planted(Bug::LeadsWithAnotherHistory)
    }

    /// The end of its life, at rest: a last snapshot and the note of a clean stop, if it keeps files and they are good
    /// for something. Gives the error of the snapshot, if that failed.
    ///
    /// # Errors
    /// The system's error if the log cannot be synced or the MANIFEST not written; the stop was not clean then.
    pub fn close(self) -> Result<Option<FileError>, FileError> {
        match self.held {
            Some(Held { store, files: Some(files), .. }) if !self.diverged => files.close(&store),
            _ => Ok(None),
        }
    }

    /// Returns whether nothing is under way, and everything is synced that has to be.
    pub fn is_at_rest(&self) -> bool {
        let files = self.held.as_ref().and_then(|held| held.files.as_ref());
        self.waiting.is_empty() && !self.snapshot_running && files.is_none_or(Files::is_at_rest)
    }

    /// The state, once there is one.
    pub fn store(&self) -> Option<&Store> {
        self.held.as_ref().map(|held| &held.store)
    }

    fn mark(&self) -> Mark {
        self.held.as_ref().map_or(Mark::default(), |held| held.store.mark())
    }

    fn synced_sequence(&self) -> Option<u64> {
        match &self.held {
            Some(held) => held.files.as_ref().map(Files::synced_upto),
            None => self.directory.as_ref().map(|_| 0),
        }
    }

    /// Begins with nothing: all records come from the leader's log.
    fn begin(&mut self, identity: Identity, now: Monotonic, actions: &mut Vec<Action<T>>) {
        let store = Store::new(identity.hasher(), self.settings.window);
        let nothing = Loaded { identity, store, temporary: None };
        let files = self.replace_files(&nothing, now, actions);
        self.hold(Held { identity, store: nothing.store, files }, actions);
    }

    /// Serves what it holds now, and nothing else.
    fn hold(&mut self, held: Held, actions: &mut Vec<Action<T>>) {
        let sequence = held.store.mark().position.sequence;
        actions.push(Action::Serve(held.identity, self.told.clone(), held.store.reader(), sequence));
        // Whoever waits for a sync of what was held before is not answered by this one.
        for (_, reply) in std::mem::take(&mut self.waiting) {
            self.answer(reply, Outcome::Gap, actions);
        }
        self.held = Some(held);
    }

    /// The leader leads in another epoch than before: that is noted first of all.
    fn begin_epoch(&mut self, actions: &mut Vec<Action<T>>) {
        actions.push(Action::Epochs(self.told.clone()));
        let (epoch, told) = (self.epoch, self.told.clone());
        self.keep(|files, _| files.begin_epoch(epoch, &told), "a new epoch cannot be noted", actions);
    }

    /// Once all records of earlier epochs are there, it stands in this one, and its position says so, as the leader's
    /// does.
    fn stand(&mut self, actions: &mut Vec<Action<T>>) {
        let held = self.held.as_mut().expect("begun before records are applied");
        let mark = held.store.mark();
        let position = recovery::standing_at(mark.position, self.epoch, &self.told);
        if position != mark.position {
            let time_ms = held.store.time_ms();
            held.store.set_mark(Mark { position, ..mark }, time_ms);
            actions.push(Action::Stands(position));
        }
    }

    fn diverge(&mut self, what: &str, actions: &mut Vec<Action<T>>) -> Outcome {
        self.diverged = true;
        actions.push(Action::Withdraw);
        actions.push(Action::Alarm(format!("this copy is not the leader's: {what}; it is loaded anew")));
        Outcome::Diverged
    }

    fn answer(&self, reply: T, outcome: Outcome, actions: &mut Vec<Action<T>>) {
        actions.push(Action::Answer(reply, Answer { outcome, hello: self.hello() }));
    }
}
