//! A node, built and closed in a stated order. Threads, clocks, signals and randomness live here and nowhere below.
//!
//! [`run_leader`] is what `memdb leader` runs; [`Leading`] is the same without signals, for tests.

mod logging;
mod workers;
mod writing;

use crate::{
    api::http::{About, Api, HttpSettings, Readiness, Server},
    config::{Durability, Settings},
    disk::{Disk, Lock, RealDisk},
    format::{FileError, Identity},
    leader::{AckLevel, AdmissionLimits, Leader, QueueLimits, Reply, Writer, WriterSettings, close},
    limits,
    manifest::Manifest,
    metrics::Metrics,
    recovery::{self, RecoveryError, Settled},
    snapshot::SnapshotSettings,
    store::WindowLimits,
    tokenizer::Analyzer,
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use workers::Workers;

/// How long a stop waits for requests in flight.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Logged time this far ahead of the clock is worth a warning, in milliseconds.
const CLOCK_AHEAD_MS: u64 = 60_000;

/// Why a node could not be started, or did not stop cleanly. The message is for a person and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", in_words(error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The data directory is another process's.
    #[error("the data directory {} is in use ({error}): stop that process, or give another --data-dir", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it.
        error: io::Error,
    },
    /// The data directory cannot be made or read.
    #[error("the data directory {}: {error}", path.display())]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The files cannot be used.
    #[error("refusing to start on {}: {error}\n`memdb inspect {}` shows what is there", path.display(), path.display())]
    Recovery {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        error: RecoveryError,
    },
    /// The system gives no more threads or descriptors.
    #[error("the system gives no thread or descriptor: {0}")]
    System(#[from] io::Error),
    /// What was acknowledged is in the log, but the stop was not a clean one.
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

/// Runs a leader until SIGTERM or SIGINT, or until its writer dies.
///
/// # Errors
/// As [`NodeError`] says.
pub fn run_leader(settings: &Settings) -> Result<(), NodeError> {
    // Signals first: one that comes while a large database is loaded must not be lost.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let held = Held::take(settings)?;
    let _log_file = logging::start(&settings.log, directory(settings))?;
    let leading = Leading::begin(held, settings)?;
    tracing::info!(address = %leading.address(), "serving");
    let leader = leading.leader().clone();
    let why = runtime.block_on(async {
        tokio::select! {
            signal = signals.next() => signal,
            () = leader.ended() => "the writer has died",
        }
    });
    tracing::info!(why, "stopping");
    leading.stop()
}

/// Runs a replica until SIGTERM or SIGINT.
///
/// # Errors
/// As [`NodeError`] says.
pub fn run_replica(_: &Settings) -> Result<(), NodeError> {
    Err(NodeError::System(io::Error::other("this build has no replica yet")))
}

/// Runs a local replica until SIGTERM or SIGINT.
///
/// # Errors
/// As [`NodeError`] says.
pub fn run_local_replica(_: &Settings) -> Result<(), NodeError> {
    Err(NodeError::System(io::Error::other("this build has no local replica yet")))
}

/// Where a leader keeps its files.
fn directory(settings: &Settings) -> &Path {
    settings.data_dir.as_deref().expect("the settings of a leader name a directory")
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A leader that runs.
pub struct Leading {
    // In the order they are closed.
    readiness: Readiness,
    server: Server,
    leader: Leader,
    writer: JoinHandle<Writer<Reply>>,
    manifest: Manifest,
    disk: Arc<dyn Disk>,
    _lock: Lock,
}

impl Leading {
    /// Starts a leader: listens, locks and recovers its data, then serves.
    ///
    /// # Errors
    /// As [`NodeError`] says; nothing is left running then.
    pub fn start(settings: &Settings) -> Result<Self, NodeError> {
        Self::begin(Held::take(settings)?, settings)
    }

    fn begin(held: Held, settings: &Settings) -> Result<Self, NodeError> {
        let Held { listener, disk, lock } = held;
        let Settled { manifest, store, log, snapshot, report, new } = recover(settings, &disk)?;
        let identity = manifest.identity;
        let ahead_ms = store.time_ms().saturating_sub(writing::now_ms());
        if ahead_ms > CLOCK_AHEAD_MS {
            tracing::warn!(
                "the last record was logged {} s ahead of this machine's clock: keys and streams age from there on",
                ahead_ms / 1_000
            );
        }
        tracing::info!(
            database = format!("{:032x}", identity.database_id),
            position = %store.mark().position,
            analyzer = %identity.analyzer,
            "{}",
            if new { "a new database".to_owned() } else { report.to_string() },
        );
        let metrics = Arc::new(Metrics::new());
        let bounds = QueueLimits { batches: settings.queue_batches, bytes: limits::DEFAULT_QUEUE_BYTES };
        let leader = Leader::new(store.reader(), manifest.state.epochs.clone(), bounds);
        let workers = Workers::start(&leader, &disk, identity, &metrics)?;
        let writer = Writer::new(store, log, writer_settings(settings), snapshot, writing::now_ms());
        let writer = writing::start(writer, leader.clone(), workers, Arc::clone(&metrics))?;
        let readiness = Readiness::default();
        let api = Api {
            leader: leader.clone(),
            analyzer: identity.analyzer,
            metrics,
            readiness: readiness.clone(),
            about: Arc::new(About {
                role: "leader",
                database_id: Some(format!("{:032x}", identity.database_id)),
                default_ack: writer_settings(settings).least_ack(),
            }),
        };
        let server = Server::start(listener, api, http_settings(settings))?;
        readiness.set(true);
        Ok(Self { readiness, server, leader, writer, manifest, disk, _lock: lock })
    }

    /// Where it listens.
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
        let Self { readiness, server, leader, writer, manifest, disk, _lock: lock } = self;
        readiness.set(false);
        if !server.stop(STOP_GRACE) {
            tracing::warn!("requests were still in flight after {STOP_GRACE:?} and were cut off");
        }
        leader.stop();
        let writer = writer.join().map_err(|_| NodeError::Stop("the writer thread panicked".into()))?;
        if let Some(error) = close(writer, manifest, &disk)? {
            tracing::warn!(%error, "the last snapshot failed; the log stands in for it");
        }
        drop(lock);
        tracing::info!("stopped");
        Ok(())
    }
}

/// What one process alone may hold: the port and the data directory.
struct Held {
    listener: TcpListener,
    disk: Arc<dyn Disk>,
    lock: Lock,
}

impl Held {
    fn take(settings: &Settings) -> Result<Self, NodeError> {
        // The port before the data: a second start must not touch what the first one serves.
        let address = SocketAddr::new(settings.bind, settings.port);
        let listener = TcpListener::bind(address).map_err(|error| NodeError::Listen { address, error })?;
        let path = || directory(settings).to_owned();
        let disk =
            RealDisk::new(directory(settings)).map_err(|error| NodeError::DataDirectory { path: path(), error })?;
        let lock = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => NodeError::Locked { path: path(), error },
            _ => NodeError::DataDirectory { path: path(), error },
        })?;
        Ok(Self { listener, disk: Arc::new(disk), lock })
    }
}

/// Reads the data directory, and makes what it holds durable under the next epoch.
fn recover(settings: &Settings, disk: &Arc<dyn Disk>) -> Result<Settled, NodeError> {
    let refused = |error: RecoveryError| NodeError::Recovery { path: directory(settings).to_owned(), error };
    let new = Identity {
        database_id: random()?,
        shard_id: 0,
        analyzer: settings.analyzer.unwrap_or(Analyzer::Standard),
        hash_seed: random()? as u64,
    };
    let window = WindowLimits {
        keys: settings.max_keys,
        key_age_ms: settings.key_window_ms,
        streams: settings.max_streams,
        stream_age_ms: settings.stream_window_ms,
    };
    let recovered = recovery::look(&**disk, new, window).map_err(refused)?;
    let found = recovered.manifest.identity.analyzer;
    if settings.analyzer.is_some_and(|wanted| wanted != found) {
        return Err(refused(RecoveryError::OtherAnalyzer { found }));
    }
    recovered.settle(disk, boot_id(), limits::DEFAULT_SEGMENT_BYTES).map_err(refused)
}

fn writer_settings(settings: &Settings) -> WriterSettings {
    WriterSettings {
        ack: settings.ack,
        durability: match settings.durability {
            Durability::Buffered => AckLevel::Leader,
            Durability::Synced => AckLevel::Disk,
        },
        admission: AdmissionLimits { memory_bytes: usize::try_from(settings.max_memory_bytes).unwrap_or(usize::MAX) },
        snapshot: SnapshotSettings { interval_ms: settings.backup_interval_ms },
    }
}

fn http_settings(settings: &Settings) -> HttpSettings {
    HttpSettings {
        threads: settings.threads,
        max_connections: settings.max_connections,
        max_body_bytes: settings.max_body_bytes,
        ..HttpSettings::default()
    }
}

/// 128 random bits from the system.
#[allow(clippy::disallowed_methods, reason = "the shell draws what is random and hands it in")]
fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u128::from_le_bytes(bytes))
}

/// What tells this boot of the machine from others; empty where the system does not say.
#[allow(clippy::disallowed_methods, reason = "a file of the system, none of the database")]
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The error of a file, as a stop that was not clean.
impl From<FileError> for NodeError {
    fn from(error: FileError) -> Self {
        NodeError::Stop(error.to_string())
    }
}
