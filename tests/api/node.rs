//! A leader with its HTTP server, for one test: everything real but the clock.

use memdb::{
    api::http::{ApiContext, HttpServer, HttpSettings, NodeAbout, NodeAccess, ROUTE_LABELS},
    base::clock::{Clock, LoggedClock, Monotonic, WallClock},
    base::limits,
    base::metrics::{NodeLimits, NodeMetrics, NodeRole},
    data::store::DedupLimits,
    engine::leader::{AckLevel, Leader, LeaderEvent, QueueLimits, Writer, WriterAction, WriterSettings},
    engine::shard::{Shard, ShardRole},
    engine::view::{DatabaseView, ServedDatabase},
    replication::{HistorySource, PeerRegistry, ReplicationBacklog},
    storage::disk::{Disk, RealDisk},
    storage::file_header::DatabaseIdentity,
    storage::recovery,
    text::tokenizer::Analyzer,
};
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use tempfile::TempDir;

/// Longer than any test takes: a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A clock that a test moves.
#[derive(Default)]
pub struct TestClock(AtomicU64);

impl TestClock {
    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic::from_ms(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> WallClock {
        WallClock::default()
    }
}

/// A running leader.
pub struct Node {
    pub clock: Arc<TestClock>,
    pub leader: Leader,
    pub registry: PeerRegistry,
    pub metrics: Arc<NodeMetrics>,
    pub api: ApiContext,
    server: Option<HttpServer>,
    address: SocketAddr,
    writer: Option<JoinHandle<()>>,
    hold: Arc<Mutex<()>>,
    directory: Option<TempDir>,
}

/// Bounds that a test reaches quickly, with times that it does not.
pub fn settings() -> HttpSettings {
    HttpSettings {
        threads: 2,
        max_body_bytes: 1_000,
        header_timeout: PATIENCE,
        body_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        write_timeout: PATIENCE,
        position_wait: Duration::from_millis(50),
        linger_timeout: Duration::from_millis(100),
        ..HttpSettings::default()
    }
}

impl Node {
    pub fn start(settings: HttpSettings) -> Self {
        Self::over(tempfile::tempdir().expect("a directory"), settings)
    }

    /// Stops without ceremony, and starts again over the same files: the next epoch.
    pub fn restarted(mut self, settings: HttpSettings) -> Self {
        let directory = self.directory.take().expect("it is given away here only");
        drop(self);
        Self::over(directory, settings)
    }

    fn over(directory: TempDir, settings: HttpSettings) -> Self {
        let hold = Arc::new(Mutex::new(()));
        let clock = Arc::new(TestClock::default());
        let (leader, history, writer) = leader(&directory, Arc::clone(&hold), Arc::clone(&clock));
        let (metrics, (registry, _)) =
            (Arc::new(NodeMetrics::new(NodeRole::Leader, NodeLimits::default(), ROUTE_LABELS)), PeerRegistry::new());
        leader.view().set_ready(true);
        let role =
            ShardRole::Leader { leader: leader.clone(), registry: registry.clone(), history, fetches: Arc::default() };
        let api = ApiContext {
            shard: Shard::new(Arc::clone(leader.view()), role),
            forward: None,
            nodes: NodeAccess::Anyone,
            browsers: Arc::default(),
            clock: Arc::<TestClock>::clone(&clock),
            metrics: Arc::clone(&metrics),
            about: Arc::new(NodeAbout {
                name: "n-test".into(),
                not_promoted: None,
                role: "leader",
                node: 1,
                url: "http://leader.example:8080".to_owned(),
                default_ack: Some(AckLevel::Replica),
            }),
            access: Arc::default(),
            origin: None,
            tls: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let server = HttpServer::start(listener, api.clone(), settings).expect("it starts");
        let address = server.local_addr();
        let (server, writer, directory) = (Some(server), Some(writer), Some(directory));
        Self { clock, leader, registry, metrics, api, server, address, writer, hold, directory }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps the Writer from working until dropped.
    pub fn hold_writer(&self) -> MutexGuard<'_, ()> {
        self.hold.lock()
    }

    /// The server, to change its role.
    pub fn server(&self) -> &HttpServer {
        self.server.as_ref().expect("it was not stopped before")
    }

    /// Stops the server; `false` if something had to be cut off.
    pub fn stop_server(&mut self, deadline: Duration) -> bool {
        self.server.take().expect("it was not stopped before").stop(deadline)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(Duration::ZERO);
        }
        self.leader.stop();
        if let Some(writer) = self.writer.take() {
            let ended = writer.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the Writer panicked");
        }
    }
}

/// The one place where the write path is put together.
fn leader(directory: &TempDir, hold: Arc<Mutex<()>>, time: Arc<TestClock>) -> (Leader, HistorySource, JoinHandle<()>) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path()).expect("a directory"));
    let new = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 11 };
    let recovered = recovery::look(&*disk, new, DedupLimits::default()).expect("it can be read");
    let settled = recovered
        .finalize(&disk, &mut testkit::database::node_run(), limits::DEFAULT_SEGMENT_BYTES)
        .expect("it can be written");
    let view = Arc::new(DatabaseView::new(false));
    let feed = Arc::new(ReplicationBacklog::new(settled.store.mark().position.sequence, limits::FEED_BYTES));
    view.serve(ServedDatabase { identity: settled.manifest.identity, reader: settled.store.reader() });
    let bounds = QueueLimits { batches: 4, ..QueueLimits::default() };
    let leader = Leader::new(view, Arc::clone(&feed), bounds);
    let ack = WriterSettings { ack: AckLevel::Replica, ..WriterSettings::default() };
    let now = Monotonic::default();
    let clock = LoggedClock::of_a_leader(None, settled.store.time_ms(), WallClock::default(), now);
    leader.view().logged_clock().set(clock);
    let writer = Writer::new(settled.store, settled.log, ack, 0, clock, now);
    let handle = leader.clone();
    let thread = std::thread::Builder::new().name("writer".to_owned());
    let thread = thread.spawn(move || write(&handle, writer, &hold, &time)).expect("a thread");
    (leader, HistorySource::new(Some(disk), feed), thread)
}

fn write(leader: &Leader, mut writer: Writer<memdb::engine::leader::WriteReply>, hold: &Mutex<()>, time: &TestClock) {
    let (mut events, mut actions) = (VecDeque::new(), Vec::new());
    loop {
        drop(hold.lock());
        leader.take(&mut events, None);
        drop(hold.lock());
        let (mut batches, mut stop) = (Vec::new(), false);
        for event in events.drain(..) {
            match event {
                LeaderEvent::Write(submission) => batches.push(submission),
                LeaderEvent::Stop | LeaderEvent::HandOver => stop = true,
                LeaderEvent::Replica(..) => unreachable!("it has none"),
                LeaderEvent::Offer(..) | LeaderEvent::Probe(_) => {} // whoever has sent it hears nothing
                LeaderEvent::Synced(..) | LeaderEvent::SnapshotEnded(..) | LeaderEvent::FilesChecked(..) => {
                    unreachable!("syncs are done here, snapshots never")
                }
            }
        }
        writer.write(batches, time.monotonic(), &mut actions);
        while !actions.is_empty() {
            for action in std::mem::take(&mut actions) {
                match action {
                    WriterAction::Answer(reply, result) => drop(reply.send(result)),
                    WriterAction::Published(position, record) => leader.published(position, record),
                    WriterAction::Sync(sync) => writer.synced(&sync, sync.run(), time.monotonic(), &mut actions),
                    WriterAction::Clamped(_) | WriterAction::Sidelined(_) | WriterAction::QueuesChanged(_) => {}
                    WriterAction::WantDurable(wanted) => leader.want_durable(wanted),
                    WriterAction::CheckFiles(..) | WriterAction::Snapshot(..) => {
                        unreachable!("without ticks, none is due")
                    }
                    WriterAction::Poisoned(why) | WriterAction::FilesLost(why) => panic!("{why}"),
                }
            }
        }
        if stop {
            return;
        }
    }
}
