//! A leader, built and closed.

use super::{
    MachineClock, NodeError, NodeResources, STOP_GRACE, boot_id, browser_policy,
    disk_workers::{DiskWorkDone, DiskWorkers, WorkListener},
    http_settings, metrics, node_access, random, recover_tail,
    replication_thread::{ReplicationContext, ReplicationThread},
    segment_bytes, window,
    writer_thread::{self, PromiseStore},
};
use crate::{
    api::http::{ApiContext, HttpServer, NodeAbout, ServingRole},
    base::clock::{LoggedClock, LoggedTime, WallClock},
    base::failpoint,
    base::limits,
    base::metrics::NodeRole,
    config::{Durability, NodeSettings},
    data::store::Store,
    engine::leader::{
        AdmissionLimits, Leader, LeaderEvent, QueueLimits, StepDownGate, WriteReply, Writer, WriterSettings, close,
    },
    engine::view::{DatabaseView, ServedDatabase},
    replication::{ElectedLeader, HistorySource, PeerRegistry, ReplicationBacklog, StartingNode},
    storage::disk::{DirectoryLock, Disk},
    storage::file_header::DatabaseIdentity,
    storage::manifest::Manifest,
    storage::recovery::{self, RecoveredDatabase, RecoveryError, WritableDatabase},
    storage::snapshot::SnapshotSettings,
    text::tokenizer::Analyzer,
};
use parking_lot::Mutex;
use std::{net::SocketAddr, path::Path, sync::Arc, thread::JoinHandle, time::Duration};

/// A wall clock this far behind the last record is worth a warning, in milliseconds.
const CLOCK_BEHIND_MS: i64 = 60_000;

/// A leader that runs.
pub struct LeaderNode {
    // In the order they are closed.
    server: HttpServer,
    leader: Leader,
    writer: JoinHandle<Writer<WriteReply>>,
    replicating: ReplicationThread,
    manifest: Arc<Mutex<Manifest>>,
    disk: Arc<dyn Disk>,
    _lock: Arc<DirectoryLock>,
}

impl LeaderNode {
    /// Starts a leader: listens, locks and recovers its data, then serves.
    ///
    /// # Errors
    /// [`NodeError::Listen`], [`NodeError::Locked`] or [`NodeError::DataDirectory`] if port or directory cannot be had,
    /// [`NodeError::Recovery`] if the files cannot be used, [`NodeError::NotLeader`], [`NodeError::Diverged`] or
    /// [`NodeError::Succeeded`] if this node must not lead. Nothing is left running then.
    pub fn start(settings: &NodeSettings) -> Result<Self, NodeError> {
        Self::open(&NodeResources::take(settings, Arc::new(MachineClock))?, settings, None)
    }

    /// `elected`: what the other nodes have promised a replica that is to lead.
    pub(super) fn open(
        held: &NodeResources,
        settings: &NodeSettings,
        elected: Option<&ElectedLeader>,
    ) -> Result<Self, NodeError> {
        let url = held.listening.url(settings)?;
        let NodeResources { listening, clock, logged, .. } = held.clone();
        let (disk, lock) = held.directory_in_place(settings)?.expect("the settings of a leader name a directory");
        let WritableDatabase { manifest, store, log, snapshot, report, new } = recover(settings, &disk, &url, elected)?;
        let identity = manifest.identity;
        if new {
            log_new_database(settings);
        }
        let found = if new { "a new database".to_owned() } else { report.to_string() };
        log_recovery(&store, &identity, &found, clock.wall());
        let now = clock.monotonic();
        let logged_clock = LoggedClock::of_a_leader(logged.get(), store.time_ms(), clock.wall(), now);
        logged.set(logged_clock);
        let view = Arc::new(DatabaseView::going_on(false, logged));
        let (last, epochs) = (store.mark().position, manifest.state.epochs.clone());
        let feed = Arc::new(ReplicationBacklog::new(last.sequence, limits::FEED_BYTES));
        view.serve(ServedDatabase { identity, epochs: epochs.clone(), reader: store.reader() });
        let metrics = metrics(settings, NodeRole::Leader);
        let bounds = QueueLimits { batches: settings.queue_batches, bytes: limits::DEFAULT_QUEUE_BYTES };
        let leader = Leader::new(Arc::clone(&view), Arc::clone(&feed), bounds);
        let workers = DiskWorkers::start(&disk, &metrics, &work_listener(&leader))?;
        let writer = Writer::new(store, log, writer_settings(settings), snapshot, logged_clock, now);
        let manifest = Arc::new(Mutex::new(manifest));
        let (registry, announced) = PeerRegistry::new();
        let node = elected.map_or_else(random, |elected| Ok(elected.node))?;
        let incumbent = StepDownGate::new(node, url.clone(), identity, last.epoch);
        let notes = PromiseStore { disk: Arc::clone(&disk), manifest: Arc::clone(&manifest) };
        let writer = writer_thread::start(
            writer,
            incumbent,
            notes,
            leader.clone(),
            workers,
            Arc::clone(&metrics),
            Arc::clone(&clock),
        )?;
        let place = ReplicationContext {
            leader: leader.clone(),
            node,
            identity,
            clock,
            epoch: last.epoch,
            epochs: Arc::new(epochs),
            disk: Arc::clone(&disk),
            manifest: Arc::clone(&manifest),
            registry: registry.clone(),
            secret: settings.cluster_secret.clone(),
            configured: settings.replicas.clone(),
            serving: Mutex::default(),
            url: url.clone(),
            members: Mutex::default(),
        };
        // Seen only once the server runs. A replica may say at once that another leads: that must not be overwritten.
        view.set_ready(true);
        let replicating = ReplicationThread::start(place, announced)?;
        let role = ServingRole::Leader {
            leader: leader.clone(),
            registry,
            archive: HistorySource::new(Some(disk.clone()), feed),
        };
        let about = NodeAbout {
            role: "leader",
            node,
            url,
            not_promoted: None,
            default_ack: Some(writer_settings(settings).default_ack()),
        };
        let (nodes, browsers) = (node_access(settings), browser_policy(settings));
        let api = ApiContext { view: Arc::clone(&view), role, nodes, browsers, metrics, about: Arc::new(about) };
        let server = HttpServer::start(listening.share()?, api, http_settings(settings))?;
        Ok(Self { server, leader, writer, replicating, manifest, disk, _lock: lock })
    }

    /// Gives the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// The write path, for tests in the same process.
    pub fn leader(&self) -> &Leader {
        &self.leader
    }

    /// Stops: accepts no more, answers what is in flight, syncs, takes a snapshot, and notes the clean stop.
    ///
    /// # Errors
    /// [`NodeError::Stop`] if something could not be brought to its end; what was acknowledged is in the log.
    pub fn stop(self) -> Result<(), NodeError> {
        self.end(STOP_GRACE)
    }

    /// As [`LeaderNode::stop`], with so much time for requests in flight.
    pub(super) fn end(self, grace: Duration) -> Result<(), NodeError> {
        let Self { server, leader, writer, replicating, manifest, disk, _lock: lock } = self;
        leader.view().set_ready(false);
        if !server.stop(grace) {
            tracing::warn!("requests were still in flight after {grace:?} and were cut off");
        }
        leader.stop();
        let writer = writer.join().map_err(|_| NodeError::Stop("the writer thread panicked".into()))?;
        // After the Writer: its last answers may have waited for replicas.
        replicating.stop();
        let manifest = manifest.lock().clone();
        if let Some(error) = close(writer, manifest, &disk)? {
            tracing::warn!(%error, "the last snapshot failed; the log stands in for it");
        }
        drop(lock);
        tracing::info!("stopped");
        Ok(())
    }
}

/// Says that a database begins. In another working directory than usual it does so by mistake: the whole path tells.
fn log_new_database(settings: &NodeSettings) {
    let path = settings.data_dir.as_deref().unwrap_or(Path::new(""));
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    tracing::warn!("a new database begins in {}, which held none: it starts without counts", path.display());
}

/// Says what was found.
fn log_recovery(store: &Store, identity: &DatabaseIdentity, found: &str, wall: WallClock) {
    let ahead_ms = wall.ahead_of_ms(store.time_ms());
    if store.time_ms() > LoggedTime::ZERO && -ahead_ms > CLOCK_BEHIND_MS {
        tracing::warn!(
            "the last record was logged {} s ahead of this machine's clock, which is wrong now or was wrong then: keys and \
             streams go on ageing from there, by the time this node runs",
            -ahead_ms / 1_000
        );
    }
    let database = format!("{:032x}", identity.database_id);
    let analyzer_version = identity.analyzer.version();
    tracing::info!(
        database,
        position = %store.mark().position,
        analyzer = %identity.analyzer,
        analyzer_version,
        "{found}"
    );
}

/// Gives the callback by which workers report to the Writer.
fn work_listener(leader: &Leader) -> WorkListener {
    let leader = leader.clone();
    Arc::new(move |done| {
        leader.send(match done {
            DiskWorkDone::Synced(sync, result) => LeaderEvent::Synced(sync, result),
            DiskWorkDone::FilesChecked(check, found) => LeaderEvent::FilesChecked(check, found),
            DiskWorkDone::Snapshot(result, took_ms) => LeaderEvent::SnapshotEnded(result, took_ms),
        });
    })
}

/// Reads the data directory, and makes what it holds durable under the next epoch, or the one that was promised, led at
/// `url`.
fn recover(
    settings: &NodeSettings,
    disk: &Arc<dyn Disk>,
    url: &str,
    elected: Option<&ElectedLeader>,
) -> Result<WritableDatabase, NodeError> {
    let refused = unusable(settings);
    let new = DatabaseIdentity {
        database_id: random()?,
        shard_id: 0,
        analyzer: settings.analyzer.unwrap_or(Analyzer::Standard),
        hash_seed: random()? as u64,
    };
    let mut recovered = match elected {
        None => recovery::look(&**disk, new, window(settings)).map_err(&refused)?,
        // What it lacks, the others give.
        Some(_) => look_at_files(settings, disk)?,
    };
    let found = recovered.manifest.identity.analyzer;
    // Whatever its version: a database goes on with the one it was made with.
    if settings.analyzer.is_some_and(|wanted| wanted.code() != found.code()) {
        return Err(refused(RecoveryError::OtherAnalyzer { found }));
    }
    let boot_id = boot_id()?;
    let starter = StartingNode {
        url: url.to_owned(),
        boot_id: boot_id.clone(),
        named: settings.replicas.iter().chain(&settings.leader).cloned().collect(),
        told_to_follow: settings.leader.clone(),
        init: settings.init,
        elected: elected.cloned(),
    };
    let secret = settings.cluster_secret.as_ref();
    recover_tail::recover_tail(&mut recovered, starter, secret, || look_at_files(settings, disk))?;
    failpoint::pass("promote.recovered");
    recovered.finalize(disk, boot_id, segment_bytes()).map_err(refused)
}

fn unusable(settings: &NodeSettings) -> impl Fn(RecoveryError) -> NodeError {
    |error| NodeError::Recovery { path: settings.data_dir.clone().unwrap_or_default(), error }
}

/// Reads the files of a replica that is to lead.
fn look_at_files(settings: &NodeSettings, disk: &Arc<dyn Disk>) -> Result<RecoveredDatabase, NodeError> {
    let recovered = recovery::look_follower(&**disk, window(settings)).map_err(unusable(settings))?;
    recovered.ok_or_else(|| NodeError::NotLeader("the files of this replica are gone".into()))
}

fn writer_settings(settings: &NodeSettings) -> WriterSettings {
    WriterSettings {
        ack: settings.ack,
        synced: settings.durability == Durability::Synced,
        ack_timeout_ms: settings.ack_timeout_ms,
        admission: AdmissionLimits { memory_bytes: usize::try_from(settings.max_memory_bytes).unwrap_or(usize::MAX) },
        snapshot: SnapshotSettings { interval_ms: settings.backup_interval_ms },
    }
}
