//! The begin of a leader's epoch. It writes to the disk before anything else may: where that finds no room, or the file
//! system can only be read, reads are served from what was recovered, writes are refused, and it is tried again until
//! there is room.

use super::{
    NodeError, NodeResources, boot_id,
    disk_workers::{DiskWorkResult, DiskWorkers, WorkListener},
    random,
    recover_tail::recover_tail,
    replication_thread::{ReplicationContext, ReplicationThread},
    segment_bytes, window,
    writer_thread::{self, PromiseStore},
};
use crate::{
    base::clock::{Clock, LoggedClock, LoggedTime},
    base::metrics::NodeMetrics,
    base::position::Epoch,
    config::{Durability, NodeSettings},
    engine::leader::{
        AdmissionLimits, Leader, LeaderEvent, StepDownGate, StepDownReaction, Successor, WriteError, WriteReply,
        WriteSubmission, Writer, WriterSettings,
    },
    engine::view::{DatabaseView, ServedDatabase},
    net::peer_link::is_address,
    replication::{
        AppendAnswer, AppendOutcome, AppendRequest, ElectedLeader, NodeId, NodeState, PeerRegistry, StartingNode,
    },
    storage::disk::Disk,
    storage::file_header::DatabaseIdentity,
    storage::manifest::Manifest,
    storage::recovery::{self, RecoveredDatabase, RecoveryError, WritableDatabase},
    storage::snapshot::SnapshotSettings,
    text::tokenizer::Analyzer,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{collections::VecDeque, io, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// The pause before the disk is tried again, in milliseconds.
const PAUSE_MS: u64 = 1_000;
/// The longest pause after it took a little and not enough, in milliseconds: each try fills it to its end.
const LONGEST_PAUSE_MS: u64 = 60_000;

/// Reads the data directory, asks the nodes it knows what they know, and takes back what is missing.
pub(super) struct LeaderFiles {
    settings: NodeSettings,
    disk: Arc<dyn Disk>,
    view: Arc<DatabaseView>,
    starter: StartingNode,
}

impl LeaderFiles {
    /// `url`: where it leads; `elected`: what others have promised.
    pub(super) fn new(
        settings: &NodeSettings,
        disk: &Arc<dyn Disk>,
        view: &Arc<DatabaseView>,
        url: &str,
        elected: Option<&ElectedLeader>,
    ) -> Result<Self, NodeError> {
        let starter = StartingNode {
            url: url.to_owned(),
            boot_id: boot_id()?,
            named: settings.replicas.iter().chain(&settings.leader).cloned().collect(),
            told_to_follow: settings.leader.clone(),
            init: settings.init,
            elected: elected.cloned(),
        };
        Ok(Self { settings: settings.clone(), disk: Arc::clone(disk), view: Arc::clone(view), starter })
    }

    /// Reads the files. Nothing is changed.
    pub(super) fn read(&self) -> Result<RecoveredDatabase, NodeError> {
        let settings = &self.settings;
        if self.starter.elected.is_some() {
            return self.read_followed(); // what it lacks, the others give
        }
        let new = DatabaseIdentity {
            database_id: random()?,
            shard_id: 0,
            analyzer: settings.analyzer.unwrap_or(Analyzer::Standard),
            hash_seed: random()? as u64,
        };
        let recovered = recovery::look(&*self.disk, new, window(settings)).map_err(|error| self.unusable(error))?;
        let found = recovered.manifest.identity.analyzer;
        // Whatever its version: a database goes on with the one it was made with.
        if settings.analyzer.is_some_and(|wanted| wanted.code() != found.code()) {
            return Err(self.unusable(RecoveryError::OtherAnalyzer { found }));
        }
        Ok(recovered)
    }

    /// Reads the files of a replica that is to lead.
    fn read_followed(&self) -> Result<RecoveredDatabase, NodeError> {
        let recovered = recovery::look_follower(&*self.disk, window(&self.settings));
        let recovered = recovered.map_err(|error| self.unusable(error))?;
        recovered.ok_or_else(|| NodeError::NotLeader("the files of this replica are gone".into()))
    }

    /// Takes back what is missing.
    ///
    /// # Errors
    /// [`NodeError::NotLeader`], [`NodeError::Diverged`] or [`NodeError::Succeeded`] if it must not lead.
    pub(super) fn recover_tail(&self, recovered: &mut RecoveredDatabase) -> Result<(), NodeError> {
        let secret = self.settings.cluster_secret.as_ref();
        recover_tail(recovered, self.starter.clone(), secret, || {
            self.view.withdraw(); // what is served is not what the files hold
            self.read_followed()
        })
    }

    pub(super) fn begin(&self, recovered: &mut RecoveredDatabase) -> Result<recovery::NewEpoch, RecoveryError> {
        recovered.begin(&self.disk, self.starter.boot_id.clone(), segment_bytes())
    }

    pub(super) fn unusable(&self, error: RecoveryError) -> NodeError {
        NodeError::Recovery { path: self.settings.data_dir.clone().unwrap_or_default(), error }
    }
}

/// A leader whose epoch is to begin.
pub(super) struct LeaderStart {
    pub(super) files: LeaderFiles,
    pub(super) node: NodeId,
    pub(super) clock: Arc<dyn Clock>,
    /// The process's count of logged time in an earlier role.
    pub(super) before: Option<LoggedClock>,
    pub(super) leader: Leader,
    pub(super) metrics: Arc<NodeMetrics>,
    pub(super) registry: PeerRegistry,
    pub(super) announced: mpsc::Receiver<NodeState>,
    /// The count of logged time behind the record of this time.
    pub(super) counted: Option<(LoggedTime, LoggedClock)>,
}

impl LeaderStart {
    pub(super) fn new(
        held: &NodeResources,
        files: LeaderFiles,
        leader: Leader,
        metrics: Arc<NodeMetrics>,
        (registry, announced): (PeerRegistry, mpsc::Receiver<NodeState>),
    ) -> Result<Self, NodeError> {
        let node = files.starter.elected.as_ref().map_or_else(random, |elected| Ok(elected.node))?;
        let (clock, before) = (Arc::clone(&held.clock), held.view.logged_clock().get());
        Ok(Self { files, node, clock, before, leader, metrics, registry, announced, counted: None })
    }

    /// Serves this to readers.
    fn serve(&mut self, current: ServedDatabase, last: LoggedTime) -> LoggedClock {
        let now = self.clock.monotonic();
        let counted = self.counted.filter(|(behind, _)| *behind == last).map(|(_, clock)| clock);
        let clock = counted.unwrap_or_else(|| LoggedClock::of_a_leader(self.before, last, self.clock.wall(), now));
        self.counted = Some((last, clock));
        let view = self.leader.view();
        view.logged_clock().set(clock);
        view.serve(current);
        clock
    }

    /// Serves what was recovered, before its epoch begins.
    fn serve_recovered(&mut self, recovered: &RecoveredDatabase) {
        let (identity, reader) = (recovered.manifest.identity, recovered.store.reader());
        self.serve(ServedDatabase { identity, reader }, recovered.store.time_ms());
    }

    /// The epoch has begun: gives what runs it. Its replicas are served from here on.
    pub(super) fn lead(mut self, settled: WritableDatabase) -> io::Result<LeaderParts> {
        let WritableDatabase { manifest, store, log, snapshot, schedule, .. } = settled;
        let identity = manifest.identity;
        let epochs = manifest.state.epochs.clone();
        let current = ServedDatabase { identity, reader: store.reader() };
        let logged_clock = self.serve(current, store.time_ms());
        let last = store.mark().position;
        let Self { files, node, clock, leader, metrics, registry, announced, .. } = self;
        let LeaderFiles { settings, disk, starter, .. } = files;
        leader.backlog().restart(last.sequence);
        let workers = DiskWorkers::start(&disk, &metrics, &tell(&leader))?;
        let now = clock.monotonic();
        let writer = Writer::new(store, log, writer_settings(&settings), snapshot, logged_clock, now);
        let writer = writer.with_schedule(schedule);
        let manifest = Arc::new(Mutex::new(manifest));
        let step_down_gate = StepDownGate::new(node, starter.url.clone(), identity, last.epoch);
        let notes = PromiseStore { disk: Arc::clone(&disk), manifest: Arc::clone(&manifest) };
        let place = ReplicationContext {
            leader: leader.clone(),
            node,
            identity,
            clock: Arc::clone(&clock),
            epoch: last.epoch,
            epochs: Arc::new(epochs),
            disk,
            manifest: Arc::clone(&manifest),
            registry,
            secret: settings.cluster_secret,
            configured: settings.replicas,
            serving: Mutex::default(),
            url: starter.url,
            members: Mutex::default(),
        };
        // Seen only once the server runs. A replica may say at once that another leads: that must not be overwritten.
        leader.view().set_ready(true);
        leader.set_no_room(None);
        let replicating = ReplicationThread::start(place, announced)?;
        let hands = writer_thread::Hands { writer, step_down_gate, notes, leader, workers, metrics, clock };
        Ok(LeaderParts { hands, replicating, manifest })
    }

    /// Waits for room on the disk, then leads. `None` if it was told to stop before.
    fn wait(mut self, mut recovered: RecoveredDatabase, mut waiting: RoomWait) -> io::Result<Option<LeaderParts>> {
        loop {
            if waiting.pause(&self) {
                return Ok(None);
            }
            match waiting.attempt(&mut self, &mut recovered) {
                Ok(begun) => {
                    let settled = recovered.into_settled(begun);
                    tracing::warn!(epoch = settled.manifest.state.epoch, "the disk has room: this node leads");
                    return self.lead(settled).map(Some);
                }
                Err(why) => waiting.failed(&self, why),
            }
        }
    }
}

/// A leader that leads, before it runs.
pub(super) struct LeaderParts {
    hands: writer_thread::Hands,
    replicating: ReplicationThread,
    manifest: Arc<Mutex<Manifest>>,
}

/// The parts of a leader that has led, for its end.
pub(super) struct LeaderEnd {
    pub(super) writer: Writer<WriteReply>,
    pub(super) replicating: ReplicationThread,
    pub(super) manifest: Arc<Mutex<Manifest>>,
}

/// The state in which a leader's thread starts.
pub(super) enum StartState {
    /// Its epoch has begun.
    Leads(Box<LeaderParts>),
    /// The disk had no room for that.
    Waits(Box<(LeaderStart, RecoveredDatabase, RoomWait)>),
}

impl StartState {
    /// Waits for the epoch to begin, where `error` says why it has not; readers are served from here on.
    pub(super) fn waits(mut start: LeaderStart, recovered: RecoveredDatabase, error: &RecoveryError) -> Self {
        tracing::error!(
            "{error}: reads are served and writes refused until there is room, or the file system can be written; then this node \
             leads by itself"
        );
        start.serve_recovered(&recovered);
        start.leader.set_no_room(Some(error.to_string()));
        start.leader.view().set_ready(true);
        let waiting = RoomWait::new(&start, &recovered);
        StartState::Waits(Box::new((start, recovered, waiting)))
    }

    /// Runs on a thread of its own until the leader was told to stop. `None` if it has never led.
    pub(super) fn run(self, leader: Leader) -> Option<LeaderEnd> {
        let _end = writer_thread::NotifyOnExit(leader);
        let leading = match self {
            StartState::Leads(leading) => Some(*leading),
            StartState::Waits(waits) => {
                let (start, recovered, waiting) = *waits;
                let led = start.wait(recovered, waiting);
                led.inspect_err(|error| tracing::error!(%error, "this node cannot lead: no thread")).ok().flatten()
            }
        };
        let LeaderParts { hands, replicating, manifest } = leading?;
        Some(LeaderEnd { writer: writer_thread::run(hands), replicating, manifest })
    }
}

/// The reason why an attempt has failed.
enum Attempt {
    /// There is no room at all.
    NoRoom(String),
    /// There is some, and something else was in the way, or it was not enough.
    Failed(String),
    /// Another leads, or is about to.
    Succeeded(Successor),
    /// The files were taken away.
    FilesLost(String),
}

/// The time before there is room.
pub(super) struct RoomWait {
    step_down_gate: StepDownGate,
    /// The files there are. One that is gone later was taken away.
    names: Vec<String>,
    pause_ms: u64,
    /// True if another leads, or the files are gone: nothing is tried any more.
    is_over: bool,
    /// True if a promise could not be noted: from then on other nodes hear as much of this one as if it did not run, so
    /// that they lead without it, in an epoch that it would not take.
    is_silent: bool,
    /// True if the files have to be read again before the next attempt.
    reads_again: bool,
    events: VecDeque<LeaderEvent>,
}

impl RoomWait {
    fn new(start: &LeaderStart, recovered: &RecoveredDatabase) -> Self {
        let Manifest { identity, state } = &recovered.manifest;
        let starter = &start.files.starter;
        let epoch = state.highest().max(starter.elected.as_ref().map_or(0, |elected| elected.epoch));
        Self {
            step_down_gate: StepDownGate::new(start.node, starter.url.clone(), *identity, epoch),
            names: recovery::names(&*start.files.disk).unwrap_or_default(),
            pause_ms: PAUSE_MS,
            is_over: false,
            is_silent: false,
            reads_again: false,
            events: VecDeque::new(),
        }
    }

    /// Lets the time pass before the next attempt, and answers what comes meanwhile; true if it was told to stop.
    fn pause(&mut self, start: &LeaderStart) -> bool {
        let LeaderStart { leader, clock, .. } = start;
        let until = clock.monotonic().after_ms(self.pause_ms);
        loop {
            let left_ms = until.since_ms(clock.monotonic());
            if left_ms == 0 && !self.is_over {
                return false;
            }
            let patience = (!self.is_over).then(|| Duration::from_millis(left_ms));
            leader.take(&mut self.events, patience);
            while let Some(event) = self.events.pop_front() {
                match event {
                    LeaderEvent::Stop | LeaderEvent::HandOver => return true,
                    LeaderEvent::Offer(..) if self.is_silent => {}
                    LeaderEvent::Offer(bytes, reply) => self.offered(start, &bytes, reply),
                    LeaderEvent::Write(WriteSubmission { reply, .. }) => {
                        let refusal = leader.refusal().unwrap_or(WriteError::DiskFull);
                        let _ = reply.send(Err(refusal)); // whoever asked may have gone
                    }
                    LeaderEvent::Replica(..)
                    | LeaderEvent::Synced(..)
                    | LeaderEvent::SnapshotEnded(..)
                    | LeaderEvent::FilesChecked(..) => {}
                }
            }
        }
    }

    /// Another node asks, or is about to lead: it may, once this one has noted that.
    fn offered(&mut self, start: &LeaderStart, bytes: &Bytes, reply: oneshot::Sender<AppendAnswer>) {
        let LeaderStart { files, leader, .. } = start;
        let answer = |waiting: &Self, outcome| {
            let current = leader.view().current();
            let mark = current.as_ref().map(|current| current.reader.read().state_id()).unwrap_or_default();
            let _ = reply.send(waiting.step_down_gate.answer(outcome, mark)); // whoever asked may have gone
        };
        let offer = match AppendRequest::decode(bytes) {
            Ok(offer) => offer,
            Err(what) => return answer(self, AppendOutcome::Unreadable(what)),
        };
        match self.step_down_gate.on_append_request(&offer) {
            StepDownReaction::Answer(outcome) => answer(self, outcome),
            // A promise that a restart would forget is none.
            StepDownReaction::StepDown(epoch, _) if !note(&*files.disk, epoch) => self.is_silent = true,
            StepDownReaction::StepDown(epoch, outcome) => {
                let url = offer.members.map(|members| members.leader).filter(|url| is_address(url));
                tracing::warn!(epoch, by = url.as_deref().unwrap_or("unknown"), "another leads: this node does not");
                self.is_over = true;
                answer(self, outcome);
                leader.stepped_down(Successor(url));
            }
        }
    }

    /// Tries to begin the epoch. Others may have led since they were last asked.
    fn attempt(
        &mut self,
        start: &mut LeaderStart,
        recovered: &mut RecoveredDatabase,
    ) -> Result<recovery::NewEpoch, Attempt> {
        let failed = |error: &dyn std::fmt::Display| Attempt::Failed(error.to_string());
        self.check_files(&start.files)?;
        recovery::try_room(&*start.files.disk).map_err(|error| Attempt::NoRoom(error.to_string()))?;
        let disk = &*start.files.disk;
        if self.reads_again || !recovered.is_current(disk).map_err(|error| failed(&error))? {
            let again = start.files.read().map_err(|error| failed(&error))?;
            if again.manifest.identity != recovered.manifest.identity {
                return Err(Attempt::FilesLost("the data directory holds another database now".into()));
            }
            *recovered = again;
            self.reads_again = false;
        }
        match start.files.recover_tail(recovered) {
            // Only what is whole is served: a recovery that failed may have given its store up.
            Ok(()) => start.serve_recovered(recovered),
            Err(NodeError::Succeeded { by, told }) => {
                tracing::warn!("another leads ({told}): this node does not");
                return Err(Attempt::Succeeded(Successor(by)));
            }
            Err(error) => {
                self.reads_again = true; // what was taken back may be the reason
                return Err(failed(&error));
            }
        }
        let begun = start.files.begin(recovered);
        begun.map_err(|error| {
            self.reads_again = !error.is_no_room();
            failed(&error)
        })
    }

    /// Nothing may begin on files that were taken away meanwhile.
    fn check_files(&self, files: &LeaderFiles) -> Result<(), Attempt> {
        let lost = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Attempt::FilesLost(error.to_string()),
            _ => Attempt::Failed(error.to_string()),
        };
        files.disk.check_in_place().map_err(lost)?;
        let there = recovery::names(&*files.disk).map_err(|error| Attempt::Failed(error.to_string()))?;
        match self.names.iter().find(|name| !there.contains(name)) {
            Some(name) => Err(Attempt::FilesLost(format!("{name} was removed, moved or replaced"))),
            None => Ok(()),
        }
    }

    fn failed(&mut self, start: &LeaderStart, why: Attempt) {
        let leader = &start.leader;
        let (why, pause_ms) = match why {
            Attempt::NoRoom(why) => (why, PAUSE_MS),
            Attempt::Failed(why) => (why, (2 * self.pause_ms).min(LONGEST_PAUSE_MS)),
            Attempt::Succeeded(successor) => {
                self.is_over = true;
                return leader.stepped_down(successor);
            }
            Attempt::FilesLost(what) => {
                self.is_over = true;
                tracing::error!(
                    "{what}: the counts are in memory alone. Before this process is stopped, save them (`memdb export`, or GET \
                     /sync), or promote a replica"
                );
                return leader.files_lost(what);
            }
        };
        self.pause_ms = pause_ms;
        if leader.no_room().as_ref() != Some(&why) {
            tracing::warn!("still no writes: {why}; it is tried again");
            leader.set_no_room(Some(why));
        }
        // What the attempt has removed was of no use.
        if let Ok(names) = recovery::names(&*start.files.disk) {
            self.names.retain(|name| names.contains(name));
        }
    }
}

/// PromiseStore, durably, that another is to lead in this epoch.
fn note(disk: &dyn Disk, epoch: Epoch) -> bool {
    let noted = Manifest::read(disk).map_err(|error| error.to_string()).and_then(|manifest| {
        let mut manifest = manifest.ok_or("the MANIFEST is gone")?;
        manifest.state.promised = manifest.state.promised.max(epoch);
        manifest.write(disk).map_err(|error| error.to_string())
    });
    noted.inspect_err(|error| tracing::error!(error, "that {epoch} is the epoch now cannot be noted")).is_ok()
}

/// Gives the callback by which workers report to the Writer.
fn tell(leader: &Leader) -> WorkListener {
    let leader = leader.clone();
    Arc::new(move |done| {
        leader.send(match done {
            DiskWorkResult::Synced(sync, result) => LeaderEvent::Synced(sync, result),
            DiskWorkResult::FilesChecked(check, found) => LeaderEvent::FilesChecked(check, found),
            DiskWorkResult::Snapshot(result, took_ms) => LeaderEvent::SnapshotEnded(result, took_ms),
        });
    })
}

pub(super) fn writer_settings(settings: &NodeSettings) -> WriterSettings {
    WriterSettings {
        ack: settings.ack,
        synced: settings.durability == Durability::Synced,
        ack_timeout_ms: settings.ack_timeout_ms,
        admission: AdmissionLimits { memory_bytes: usize::try_from(settings.max_memory_bytes).unwrap_or(usize::MAX) },
        snapshot: SnapshotSettings { interval_ms: settings.backup_interval_ms },
    }
}
