//! A node, built and closed in a stated order. Threads, clocks, signals and randomness live here and nowhere below.
//!
//! [`run`] and [`run_local_replica`] are what the verbs of the command line run; [`SwitchingNode`] and
//! [`FileFollowerNode`] are the same without signals, for tests, and [`LeaderNode`] and [`ReplicaNode`] one role alone.

mod discovery_thread;
mod disk_workers;
mod file_follower_node;
mod full_sync;
mod leader_node;
mod leader_start;
mod logging;
mod machine_clock;
mod promote;
mod recover_tail;
mod replica_driver;
mod replica_node;
mod replication_thread;
mod restore;
mod role_switch;
mod writer_thread;

pub use file_follower_node::FileFollowerNode;
pub use leader_node::LeaderNode;
pub use machine_clock::MachineClock;
pub use replica_node::ReplicaNode;
pub use restore::{RestoreReport, restore};
pub use role_switch::SwitchingNode;

use crate::{
    api::http::{
        ApiContext, BrowserPolicy, HttpServer, HttpSettings, NodeAbout, NodeAccess, ROUTE_LABELS, ServingRole,
    },
    base::clock::Clock,
    base::failpoint,
    base::limits,
    base::metrics::{NodeLimits, NodeMetrics, NodeRole},
    config::NodeSettings,
    data::store::DedupLimits,
    engine::view::DatabaseView,
    storage::disk::{DirectoryLock, Disk, RealDisk},
    storage::file_header::FileError,
    storage::recovery::RecoveryError,
};
use parking_lot::Mutex;
use role_switch::RunningRole;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Time that a stop waits for requests in flight.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// The reason why a node could not be started, or did not stop cleanly. The message is for a person and says what to
/// do.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", in_words(error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// The data directory is another process's.
    #[error("the data directory {} is in use ({error}): stop that process, or give another --data-dir", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The holder of the lock.
        error: io::Error,
    },
    /// The data directory cannot be made or read.
    #[error("the data directory {}: {error}", path.display())]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The files cannot be used.
    #[error("refusing to start on {}: {error}\n`memdb inspect {}` shows what is there", path.display(), path.display())]
    Recovery {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        error: RecoveryError,
    },
    /// There is nothing to read, and no room to begin a database.
    #[error("no database can begin in {}: {error}. Make room there, or give another --data-dir", path.display())]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        error: RecoveryError,
    },
    /// Records that it would lead without may be elsewhere.
    #[error("refusing to lead: {0}")]
    NotLeader(String),
    /// Records that were taken back lead to other counts than they state.
    #[error("refusing to lead: {0}")]
    Diverged(String),
    /// Another leads in a later epoch, or is about to.
    #[error("refusing to lead: {told}")]
    Succeeded {
        /// Its URL, if that is known.
        by: Option<String>,
        /// The evidence, for a person.
        told: String,
    },
    /// Nothing could be restored.
    #[error("nothing was restored: {0}")]
    Restore(String),
    /// The system gives no more threads or descriptors.
    #[error("the system gives no thread or descriptor: {0}")]
    System(#[from] io::Error),
    /// The stop was not clean, though everything acknowledged is in the log.
    #[error("the stop was not clean: {0}; the next start will recover from the log")]
    Stop(String),
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken; choose another with --port, or stop what listens there".into(),
        io::ErrorKind::PermissionDenied => "not allowed; ports below 1024 need privileges".into(),
        _ => error.to_string(),
    }
}

/// Runs a leader or a replica until SIGTERM, SIGINT or SIGHUP, or until its main thread dies. It may become the other
/// meanwhile.
///
/// # Errors
/// The [`NodeError`] of a start that failed, or [`NodeError::Stop`] if the stop was not clean.
pub fn run(settings: &NodeSettings) -> Result<(), NodeError> {
    let NodeProcess { runtime, signals } = NodeProcess::begin()?;
    let held = NodeResources::take(settings, Arc::new(MachineClock))?;
    let _log_file = logging::start(settings, settings.data_dir.as_deref())?;
    let running = RunningRole::open(&held, settings)?;
    tracing::info!(address = %running.address(), "serving");
    let signals = tokio::sync::Mutex::new(signals);
    running.run(held, settings, &runtime, || async { signals.lock().await.next().await })
}

/// Runs a local replica until SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// [`NodeError::Listen`] or [`NodeError::DataDirectory`] if it cannot be started, [`NodeError::Stop`] if its thread has
/// died.
pub fn run_local_replica(settings: &NodeSettings) -> Result<(), NodeError> {
    let mut process = NodeProcess::begin()?;
    let listening = NodeListener::take(settings)?;
    // The directory is the leader's: the log is written to the terminal alone.
    let _log_file = logging::start(settings, None)?;
    let following = FileFollowerNode::open(&listening, settings, Arc::new(MachineClock))?;
    tracing::info!(address = %following.address(), "serving");
    let ended = following.ended();
    process.until_stopped(async move { ended.cancelled().await });
    following.stop()
}

/// The process of a node: its signals, from the first moment on. One that comes while a large database is loaded must
/// not be lost.
struct NodeProcess {
    runtime: tokio::runtime::Runtime,
    signals: SignalStreams,
}

impl NodeProcess {
    fn begin() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async { SignalStreams::new() })?;
        arm_failpoint();
        Ok(Self { runtime, signals })
    }

    fn until_stopped(&mut self, died: impl Future<Output = ()>) {
        let why = self.runtime.block_on(async {
            tokio::select! {
                signal = self.signals.next() => signal,
                () = died => "its main thread has died",
            }
        });
        tracing::info!(why, "stopping");
    }
}

/// A test says where this process is to die (`src/base/failpoint.rs`).
fn arm_failpoint() {
    #[cfg(feature = "failpoints")]
    if let Ok(what) = std::env::var("MEMDB_FAILPOINT") {
        failpoint::arm(&what).expect("MEMDB_FAILPOINT is set by a test");
    }
}

struct SignalStreams {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// The terminal is closed, or somebody hopes that settings are read anew: there is nothing to read anew yet.
    hang_up: tokio::signal::unix::Signal,
}

impl SignalStreams {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}

/// The port, which one process alone may hold.
#[derive(Clone)]
struct NodeListener {
    listener: Arc<TcpListener>,
}

impl NodeListener {
    fn take(settings: &NodeSettings) -> Result<Self, NodeError> {
        let address = SocketAddr::new(settings.bind, settings.port);
        let listener = TcpListener::bind(address).map_err(|error| NodeError::Listen { address, error })?;
        Ok(Self { listener: Arc::new(listener) })
    }

    /// For a server: the same port, so that the next one finds what waits there.
    fn share(&self) -> io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Gives the address it listens on.
    fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Gives the URL by which other nodes reach this one.
    fn url(&self, settings: &NodeSettings) -> io::Result<String> {
        Ok(settings.url(self.address()?.port()))
    }
}

/// Resources that one process alone may hold: the port, and the data directory, if it has one; and its clocks. Roles
/// share it.
#[derive(Clone)]
struct NodeResources {
    listening: NodeListener,
    directory: Option<LockedDirectory>,
    clock: Arc<dyn Clock>,
    /// What the node serves, in whatever role; with its count of logged time.
    view: Arc<DatabaseView>,
    metrics: Arc<NodeMetrics>,
    /// The HTTP server, once a role serves.
    server: Arc<Mutex<Option<HttpServer>>>,
}

/// A data directory, and the lock that keeps others from it.
type LockedDirectory = (Arc<dyn Disk>, Arc<DirectoryLock>);

impl NodeResources {
    /// The directory, for a role that begins.
    ///
    /// # Errors
    /// [`NodeError::DataDirectory`] if it was taken away, or another stands in its place.
    fn directory_in_place(&self, settings: &NodeSettings) -> Result<Option<LockedDirectory>, NodeError> {
        if let Some((disk, _)) = &self.directory {
            let path = settings.data_dir.clone().unwrap_or_default();
            disk.check_in_place().map_err(|error| NodeError::DataDirectory { path, error })?;
        }
        Ok(self.directory.clone())
    }

    fn take(settings: &NodeSettings, clock: Arc<dyn Clock>) -> Result<Self, NodeError> {
        // The port before the data: a second start must not touch what the first one serves.
        let listening = NodeListener::take(settings)?;
        let directory = settings.data_dir.as_deref().map(lock).transpose()?;
        let directory = directory.map(|(disk, lock)| (disk, Arc::new(lock)));
        let view = Arc::new(DatabaseView::new(true));
        let metrics = metrics(settings, NodeRole::Leader);
        Ok(Self { listening, directory, clock, view, metrics, server: Arc::default() })
    }

    /// A role begins: what is served stays, under other rules and numbers.
    fn start_role(&self, settings: &NodeSettings, role: NodeRole) {
        self.view.start_role(role != NodeRole::Leader);
        self.metrics.change_role(role, node_limits(settings, role));
    }

    /// Serves in this role from now on: the server that is there goes on with it, or the first one is started.
    fn serve(&self, settings: &NodeSettings, role: ServingRole, about: NodeAbout) -> io::Result<()> {
        let about = Arc::new(about);
        let mut server = self.server.lock();
        if let Some(server) = &*server {
            server.change_role(role, about);
            return Ok(());
        }
        let (view, metrics) = (Arc::clone(&self.view), Arc::clone(&self.metrics));
        let (nodes, browsers) = (node_access(settings), browser_policy(settings));
        let api = ApiContext { view, role, nodes, browsers, metrics, about };
        *server = Some(HttpServer::start(self.listening.share()?, api, http_settings(settings))?);
        Ok(())
    }

    /// A role ends that another is to follow: requests that depend on it wait.
    fn end_role(&self) {
        self.view.set_ready(false);
        if let Some(server) = &*self.server.lock() {
            server.end_role();
        }
    }

    /// Stops serving, and gives up the port, so that nobody waits in the listener's queue.
    fn stop_serving(self, grace: Duration) {
        self.view.set_ready(false);
        drop(self.listening);
        let server = self.server.lock().take();
        if server.is_some_and(|server| !server.stop(grace)) {
            tracing::warn!("requests were still in flight after {grace:?} and were cut off");
        }
    }
}

fn lock(path: &Path) -> Result<(Arc<dyn Disk>, DirectoryLock), NodeError> {
    let unusable = |error| NodeError::DataDirectory { path: path.to_owned(), error };
    let disk = RealDisk::new(path).map_err(unusable)?;
    let lock = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => NodeError::Locked { path: path.to_owned(), error },
        _ => unusable(error),
    })?;
    Ok((Arc::new(disk), lock))
}

/// Gives the rule for requests that only nodes may send.
fn node_access(settings: &NodeSettings) -> NodeAccess {
    match &settings.cluster_secret {
        Some(secret) => NodeAccess::Secret(secret.clone()),
        None if settings.bind.is_loopback() => NodeAccess::Anyone,
        None => NodeAccess::Nobody,
    }
}

/// Bytes at which a log segment is finished. Tests have it lower, to meet rotations.
fn segment_bytes() -> u64 {
    failpoint::lowered("MEMDB_SEGMENT_BYTES", limits::DEFAULT_SEGMENT_BYTES)
}

fn window(settings: &NodeSettings) -> DedupLimits {
    DedupLimits {
        keys: settings.max_keys,
        key_age_ms: settings.key_window_ms,
        streams: settings.max_streams,
        stream_age_ms: settings.stream_window_ms,
    }
}

/// Gives the bounds that `/metrics` shows. A follower takes what its leader sends, so it has none for words and keys.
fn node_limits(settings: &NodeSettings, role: NodeRole) -> NodeLimits {
    let connections = Some(settings.max_connections as u64);
    match role {
        NodeRole::Leader => NodeLimits {
            memory_bytes: Some(settings.max_memory_bytes),
            queue: Some(settings.queue_batches as u64),
            connections,
            keys: Some(settings.max_keys as u64),
            streams: Some(settings.max_streams as u64),
            namespaces: Some(limits::MAX_NAMESPACES as u64),
        },
        _ => NodeLimits { connections, ..NodeLimits::default() },
    }
}

/// The numbers of a node that begins this role.
fn metrics(settings: &NodeSettings, role: NodeRole) -> Arc<NodeMetrics> {
    Arc::new(NodeMetrics::new(role, node_limits(settings, role), ROUTE_LABELS))
}

fn http_settings(settings: &NodeSettings) -> HttpSettings {
    HttpSettings {
        threads: settings.threads,
        max_connections: settings.max_connections,
        max_connections_per_address: settings.max_connections_per_address,
        max_body_bytes: settings.max_body_bytes,
        ..HttpSettings::default()
    }
}

fn browser_policy(settings: &NodeSettings) -> Arc<BrowserPolicy> {
    Arc::new(BrowserPolicy { hosts: settings.hosts(), cors: settings.cors_origins.clone() })
}

/// 128 random bits from the system.
#[allow(clippy::disallowed_methods, reason = "the shell draws what is random and hands it in")]
fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u128::from_le_bytes(bytes))
}

/// Gives the identity of this boot of the machine. Where the system has none, every start counts as one.
#[allow(clippy::disallowed_methods, reason = "a file of the system, none of the database")]
fn boot_id() -> io::Result<String> {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(boot) => Ok(boot.trim().to_owned()),
        Err(_) => Ok(format!("unknown-{:032x}", random()?)),
    }
}

/// The error of a file, as a stop that was not clean.
impl From<FileError> for NodeError {
    fn from(error: FileError) -> Self {
        NodeError::Stop(error.to_string())
    }
}
