//! A real leader's files, and a replica that is brought up to date from them: exchange by exchange, without a network.

use crate::database::{Making, node_run, state_of};
use memdb::{
    base::clock::Monotonic,
    base::position::{Position, Sequence},
    data::store::DedupLimits,
    engine::replica::{LoadedSnapshot, Replica, ReplicaAction, ReplicaDirectory, ReplicaFindings, ReplicaSettings},
    engine::view::{DatabaseView, ServedDatabase},
    replication::{
        AppendAnswer, AppendCommand, AppendRequest, LeaderState, NextSend, PeerEvent, PeerReplication,
        ReplicationBacklog,
    },
    storage::disk::{Disk, RealDisk},
    storage::recovery,
    storage::snapshot::{self, SnapshotLoader, SnapshotSettings},
};
use std::{path::Path, sync::Arc};

pub const SEGMENT_BYTES: u64 = 300;

/// What has happened to a replica, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaEvent {
    Served(Sequence),
    Unready,
    Withdrawn,
    Published(Position),
    Stands(Position),
    CaughtUp,
    Loading,
    Synced,
    Alarm(String),
    FilesLost(String),
}

/// A replica, as its shell would drive it.
pub struct TestReplica {
    pub replica: Replica<u32>,
    disk: Option<Arc<dyn Disk>>,
    /// Whether syncs that are asked for are done at once.
    pub syncs: bool,
    waiting_syncs: Vec<memdb::storage::wal::SyncJob>,
    pub answers: Vec<(u32, AppendAnswer)>,
    pub seen: Vec<ReplicaEvent>,
    /// The part that readers are shown.
    pub view: DatabaseView,
    pub now_ms: u64,
}

impl TestReplica {
    /// A replica that starts with what is in its directory.
    pub fn start(directory: Option<&Path>, node: u128) -> Self {
        Self::start_with_snapshots(directory, node, 0)
    }

    /// The same, with snapshots each `interval_ms`.
    pub fn start_with_snapshots(directory: Option<&Path>, node: u128, interval_ms: u64) -> Self {
        Self::start_as(directory, node, interval_ms, SEGMENT_BYTES)
    }

    /// The same, with log segments of so many bytes.
    pub fn start_as(directory: Option<&Path>, node: u128, interval_ms: u64, segment_bytes: u64) -> Self {
        let disk = directory.map(|path| Arc::new(RealDisk::new(path).expect("a directory")) as Arc<dyn Disk>);
        Self::over(disk, node, interval_ms, segment_bytes)
    }

    /// The same, over any disk.
    pub fn over(disk: Option<Arc<dyn Disk>>, node: u128, interval_ms: u64, segment_bytes: u64) -> Self {
        let mut run = node_run();
        let found = match &disk {
            Some(disk) => match recovery::look_follower(&**disk, DedupLimits::default()) {
                Ok(None) => ReplicaFindings::Nothing,
                Ok(Some(recovered)) => ReplicaFindings::Settled(Box::new(
                    recovered.follow(disk, &mut run, segment_bytes).expect("the disk works"),
                )),
                Err(_) => {
                    let manifest = memdb::storage::manifest::Manifest::read(&**disk).expect("whole").expect("there");
                    ReplicaFindings::Unusable { database: manifest.identity.database_id, epoch: manifest.state.epoch }
                }
            },
            None => ReplicaFindings::Nothing,
        };
        let settings = ReplicaSettings {
            node,
            url: "http://127.0.0.1:1".into(),
            window: DedupLimits::default(),
            snapshot: SnapshotSettings { interval_ms },
        };
        let directory = disk.clone().map(|disk| ReplicaDirectory { disk, segment_bytes, run });
        let mut actions = Vec::new();
        let replica = Replica::new(settings, directory, found, None, Monotonic::default(), &mut actions);
        let mut driven = Self {
            replica,
            disk,
            syncs: true,
            waiting_syncs: Vec::new(),
            answers: Vec::new(),
            seen: Vec::new(),
            view: DatabaseView::new(true),
            now_ms: 0,
        };
        driven.act(actions, None);
        driven
    }

    pub fn position(&self) -> Position {
        self.replica.node_state().position
    }

    /// The ends of past epochs that readers are answered by.
    pub fn ended(&self) -> Vec<Position> {
        let current = self.view.current();
        current.as_ref().map(|current| current.reader.epochs().ended().to_vec()).unwrap_or_default()
    }

    /// Takes an offer; the leader is there for what it may want to load.
    pub fn offered(&mut self, bytes: &[u8], reply: u32, leader: Option<&Making>) {
        let actions = self.handled(bytes, reply);
        self.act(actions, leader);
    }

    /// Takes an offer; gives what its shell has yet to carry out.
    pub fn handled(&mut self, bytes: &[u8], reply: u32) -> Vec<ReplicaAction<u32>> {
        let mut actions = Vec::new();
        self.replica.on_append_request(bytes, reply, Monotonic::from_ms(self.now_ms), &mut actions);
        actions
    }

    /// Takes an offer if that can be at once; else it has changed nothing.
    pub fn offered_at_once(&mut self, bytes: &[u8], reply: u32) -> bool {
        let mut actions = Vec::new();
        let taken = self.replica.try_apply_inline(bytes, reply, Monotonic::from_ms(self.now_ms), &mut actions);
        self.act(actions, None);
        taken.is_ok()
    }

    /// Asks for a sync.
    pub fn start_sync(&mut self) {
        let mut actions = Vec::new();
        self.replica.start_sync(&mut actions);
        self.act(actions, None);
    }

    /// So much time passes.
    pub fn time_passes(&mut self, ms: u64) {
        self.now_ms += ms;
        let mut actions = Vec::new();
        self.replica.tick(Monotonic::from_ms(self.now_ms), &mut actions);
        self.act(actions, None);
    }

    /// Does the syncs that have waited.
    pub fn sync(&mut self) {
        for sync in std::mem::take(&mut self.waiting_syncs) {
            let (result, mut actions) = (sync.run(), Vec::new());
            self.replica.synced(&sync, result, &mut actions);
            self.act(actions, None);
        }
    }

    /// What was to be loaded is, from this leader.
    pub fn load_ends(&mut self, leader: &Making) {
        let loaded = load(leader, leader.manifest().identity, self.disk.as_deref());
        let mut actions = Vec::new();
        self.replica.loaded(Ok(loaded), Monotonic::from_ms(self.now_ms), &mut actions);
        self.act(actions, None);
    }

    /// The syncs that have waited fail.
    pub fn syncs_fail(&mut self) {
        for sync in std::mem::take(&mut self.waiting_syncs) {
            let mut actions = Vec::new();
            self.replica.synced(&sync, Err(std::io::Error::other("the disk is gone")), &mut actions);
            self.act(actions, None);
        }
    }

    pub fn act(&mut self, actions: Vec<ReplicaAction<u32>>, leader: Option<&Making>) {
        for action in actions {
            let mut more = Vec::new();
            match action {
                ReplicaAction::Answer(reply, answer) => self.answers.push((reply, answer)),
                ReplicaAction::Serve(identity, reader, sequence) => {
                    self.view.serve(ServedDatabase { identity, reader });
                    self.seen.push(ReplicaEvent::Served(sequence));
                }
                ReplicaAction::Unready => self.seen.push(ReplicaEvent::Unready),
                ReplicaAction::Members(_) => {}
                ReplicaAction::Withdraw => self.seen.push(ReplicaEvent::Withdrawn),
                ReplicaAction::Published(position, _) => self.seen.push(ReplicaEvent::Published(position)),
                ReplicaAction::Stands(position) => self.seen.push(ReplicaEvent::Stands(position)),
                ReplicaAction::CaughtUp => self.seen.push(ReplicaEvent::CaughtUp),
                ReplicaAction::Alarm(what) => self.seen.push(ReplicaEvent::Alarm(what)),
                ReplicaAction::CheckFiles(check) => self.replica.files_checked(&check, &check.run(), &mut more),
                ReplicaAction::FilesLost(what) => self.seen.push(ReplicaEvent::FilesLost(what)),
                ReplicaAction::Load(identity) => {
                    self.seen.push(ReplicaEvent::Loading);
                    if let Some(leader) = leader {
                        let loaded = load(leader, identity, self.disk.as_deref());
                        self.replica.loaded(Ok(loaded), Monotonic::from_ms(self.now_ms), &mut more);
                    }
                }
                ReplicaAction::Sync(sync) if self.syncs => {
                    let result = sync.run();
                    self.seen.push(ReplicaEvent::Synced);
                    self.replica.synced(&sync, result, &mut more);
                }
                ReplicaAction::Sync(sync) => self.waiting_syncs.push(sync),
                ReplicaAction::Snapshot(..) => panic!("none is due before a tick"),
            }
            self.act(more, leader);
        }
    }
}

/// A full sync, as the shell does it: the newest snapshot, in pieces, kept if there is a directory.
pub fn load(
    leader: &Making,
    identity: memdb::storage::file_header::DatabaseIdentity,
    own: Option<&dyn Disk>,
) -> LoadedSnapshot {
    let disk = RealDisk::new(leader.directory()).expect("a directory");
    let window = DedupLimits::default();
    let Some((name, _)) = snapshot::snapshots(&disk).expect("readable").pop() else {
        return LoadedSnapshot {
            identity,
            store: memdb::data::store::Store::new(identity.hasher(), window),
            temporary: None,
        };
    };
    let file = disk.open(&name).expect("there");
    let bytes = memdb::storage::disk::read_all(&*file, 1 << 30).expect("readable");
    let temporary = own.map(|own| {
        let kept = own.create("snapshot-received.new").expect("made");
        kept.append(&bytes).and_then(|()| kept.sync()).expect("written");
        "snapshot-received.new".to_owned()
    });
    let mut loader = SnapshotLoader::new(identity, window);
    bytes.chunks(100).for_each(|piece| loader.feed(piece).expect("whole"));
    LoadedSnapshot { identity, store: loader.finish().expect("whole").0, temporary }
}

/// The leader's side of the exchanges.
pub struct TestLeader {
    pub sender: PeerReplication,
    pub feed: ReplicationBacklog,
    pub told: Vec<PeerEvent>,
    pub now_ms: u64,
    pub durable: bool,
    /// The run of the leader.
    pub node: u128,
    /// How long the last offer is waited for.
    pub patience_ms: u64,
}

impl Default for TestLeader {
    fn default() -> Self {
        Self::new()
    }
}

impl TestLeader {
    /// All records come from the log.
    pub fn new() -> Self {
        Self {
            sender: PeerReplication::new("http://127.0.0.1:1".into()),
            feed: ReplicationBacklog::new(0, 0),
            told: Vec::new(),
            now_ms: 10_000,
            durable: false,
            node: 5,
            patience_ms: 0,
        }
    }

    pub fn now(&self) -> Monotonic {
        Monotonic::from_ms(self.now_ms)
    }

    pub fn lead(&self, leader: &Making) -> LeaderState {
        let (manifest, last) = (leader.manifest(), leader.store().mark());
        LeaderState {
            node: self.node,
            identity: manifest.identity,
            epoch: manifest.state.epoch,
            epochs: Arc::new(manifest.state.epochs.clone()),
            last,
            durable: self.durable,
            members: Default::default(),
        }
    }

    /// The offer that is due now, if one is.
    pub fn offer(&mut self, leader: &Making) -> Option<Vec<u8>> {
        let disk = RealDisk::new(leader.directory()).expect("a directory");
        let last = leader.store().mark().position.sequence;
        self.feed.restart(last);
        let lead = self.lead(leader);
        match self.sender.next_send(self.now(), &lead, &self.feed, &disk, &mut self.told) {
            NextSend::Send(parts, patience_ms) => {
                self.patience_ms = patience_ms;
                Some(parts.concat())
            }
            NextSend::Rest(_) => None,
        }
    }

    pub fn answered(&mut self, answer: AppendAnswer, leader: &Making) {
        let lead = self.lead(leader);
        self.sender.answered(answer, self.now(), &lead, &mut self.told);
    }

    /// Exchanges until the leader has nothing more to say for now; gives how many it took.
    pub fn bring_up(&mut self, replica: &mut TestReplica, leader: &Making) -> usize {
        for exchanges in 0..1_000 {
            let Some(offer) = self.offer(leader) else {
                if replica.position() == leader.store().mark().position {
                    return exchanges;
                }
                self.now_ms += 50; // a pause is waited out
                continue;
            };
            replica.offered(&offer, 7, Some(leader));
            let (_, answer) = replica.answers.pop().expect("answered at once");
            self.answered(answer, leader);
        }
        panic!("it never comes up: {:?} {:?}", self.told.last(), replica.seen.last());
    }
}

/// The replica holds just what the leader holds.
#[track_caller]
pub fn assert_same(replica: &TestReplica, leader: &Making) {
    let store = replica.replica.store().expect("it holds something");
    assert_eq!(store.mark(), leader.store().mark());
    assert_eq!(state_of(store), state_of(leader.store()));
}

/// What this leader would offer to a replica at `after`, without records.
pub fn without_records(lead: &LeaderState, command: AppendCommand, after: Position) -> AppendRequest<'static> {
    AppendRequest {
        identity: lead.identity,
        leader: lead.node,
        epoch: lead.epoch,
        epochs: (*lead.epochs).clone(),
        last: lead.last,
        command,
        after,
        durable: false,
        members: None,
        records: &[],
    }
}
