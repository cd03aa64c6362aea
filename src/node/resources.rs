//! The resources of a node that outlive its roles: port, data directory, clocks, view, metrics and HTTP server; and
//! what its settings say of them.

use super::{
    NodeError,
    machine::{draw_name, random},
};
use crate::{
    api::auth::{AccessControl, AccessSettings},
    api::http::{
        ApiContext, BrowserPolicy, HttpServer, HttpSettings, NodeAbout, NodeAccess, OriginSource, ROUTE_LABELS,
    },
    base::clock::Clock,
    base::failpoint,
    base::limits,
    base::metrics::{NodeLimits, NodeMetrics, NodeRole},
    base::reload::ReloadList,
    config::{LeadershipSettings, NodeSettings, OriginSettings},
    data::store::DedupLimits,
    engine::shard::{Shard, ShardRole},
    engine::view::DatabaseView,
    net::{
        origin_client::OriginClient, peer_credentials::PeerCredentials, tls::node::NodeTls,
        write_forwarder::WriteForwarder,
    },
    storage::disk::{DirectoryLock, Disk, RealDisk},
    storage::manifest::Manifest,
};
use parking_lot::Mutex;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

/// Time that a stop waits for requests in flight.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(10);

/// The port, which one process alone may hold, and the certificate that is shown there.
#[derive(Clone)]
pub(super) struct NodeListener {
    listener: Arc<TcpListener>,
    /// The parts of the node that are read anew while it runs.
    pub(super) reloads: ReloadList,
    /// The users, and who may ask for what.
    pub(super) access: Arc<AccessControl>,
    /// The HTTP server, once a role serves.
    pub(super) server: RunningServer,
    pub(super) tls: Arc<NodeTls>,
}

/// The HTTP server of a node, while it runs.
#[derive(Clone, Default)]
pub(super) struct RunningServer(Arc<Mutex<Option<HttpServer>>>);

impl RunningServer {
    /// Has it take over what can change of these settings.
    pub(super) fn set_limits(&self, settings: &NodeSettings) {
        if let Some(server) = &*self.0.lock() {
            server.set_limits(&http_settings(settings));
            server.metrics().change_limits(settings.max_connections as u64, settings.watchers() as u64);
        }
    }

    /// Takes it out, to be stopped.
    pub(super) fn take(&self) -> Option<HttpServer> {
        self.0.lock().take()
    }

    /// Puts it in.
    pub(super) fn put(&self, server: HttpServer) {
        *self.0.lock() = Some(server);
    }
}

impl NodeListener {
    pub(super) fn take(settings: &NodeSettings) -> Result<Self, NodeError> {
        let address = SocketAddr::new(settings.bind, settings.port);
        let listener = TcpListener::bind(address).map_err(|error| NodeError::Listen { address, error })?;
        let (tls, access) = (NodeTls::read(settings.tls.clone())?, Arc::new(access_control(settings)?));
        let (listener, reloads) = (Arc::new(listener), ReloadList::default());
        if tls.has_files() {
            reloads.add(Arc::<NodeTls>::clone(&tls));
        }
        if access.is_on() {
            reloads.add(Arc::<AccessControl>::clone(&access));
        }
        Ok(Self { listener, reloads, access, server: RunningServer::default(), tls })
    }

    /// For a server: the same port, so that the next one finds what waits there.
    pub(super) fn share(&self) -> io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Gives the address it listens on.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What the node shows other nodes.
    pub(super) fn credentials(&self, settings: &NodeSettings) -> PeerCredentials {
        PeerCredentials { secret: settings.cluster_secret.clone(), tls: self.tls.nodes().clone() }
    }

    /// Gives the URL by which other nodes reach this one.
    pub(super) fn url(&self, settings: &NodeSettings) -> io::Result<String> {
        Ok(settings.url(self.address()?.port()))
    }
}

/// Resources that one process alone may hold: the port, and the data directory, if it has one; and its clocks. Roles
/// share it.
#[derive(Clone)]
pub(super) struct NodeResources {
    pub(super) listening: NodeListener,
    pub(super) directory: Option<LockedDirectory>,
    /// The name of the node: the one that its directory keeps, or the one that it gets.
    pub(super) name: String,
    pub(super) clock: Arc<dyn Clock>,
    /// The rules for the time in which the node leads.
    pub(super) leadership: LeadershipSettings,
    /// What the node serves, in whatever role; with its count of logged time.
    pub(super) view: Arc<DatabaseView>,
    pub(super) metrics: Arc<NodeMetrics>,
}

/// A data directory, and the lock that keeps others from it.
pub(super) type LockedDirectory = (Arc<dyn Disk>, Arc<DirectoryLock>);

impl NodeResources {
    /// The directory, for a role that begins.
    ///
    /// # Errors
    /// [`NodeError::DirectoryLost`] if it was taken away, or another stands in its place;
    /// [`NodeError::DataDirectory`] if that cannot be told.
    pub(super) fn directory_in_place(&self, settings: &NodeSettings) -> Result<Option<LockedDirectory>, NodeError> {
        if let Some((disk, _)) = &self.directory {
            let path = settings.data_dir().unwrap_or(Path::new("")).to_owned();
            disk.check_in_place().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => NodeError::DirectoryLost(error),
                _ => NodeError::DataDirectory { path, error },
            })?;
        }
        Ok(self.directory.clone())
    }

    pub(super) fn take(settings: &NodeSettings, clock: Arc<dyn Clock>) -> Result<Self, NodeError> {
        let leadership = settings.leadership().expect("a node that switches roles is a leader or a replica").clone();
        // The port before the data: a second start must not touch what the first one serves.
        let listening = NodeListener::take(settings)?;
        let directory = settings.data_dir().map(lock).transpose()?;
        let directory = directory.map(|(disk, lock)| (disk, Arc::new(lock)));
        let name = node_name(settings, directory.as_ref().map(|(disk, _)| &**disk))?;
        let view = Arc::new(DatabaseView::new(true));
        view.quotas().set(leadership.quotas.clone());
        let metrics = metrics(settings, NodeRole::Leader);
        Ok(Self { listening, directory, name, clock, leadership, view, metrics })
    }

    /// A role begins: what is served stays, under other rules and numbers.
    pub(super) fn start_role(&self, settings: &NodeSettings, role: NodeRole) {
        self.view.start_role(role != NodeRole::Leader);
        self.metrics.change_role(role, node_limits(settings, role));
    }

    /// Serves in this role from now on: the server that is there goes on with it, or the first one is started.
    pub(super) fn serve(
        &self,
        settings: &NodeSettings,
        role: ShardRole,
        forward: Option<WriteForwarder>,
        about: NodeAbout,
    ) -> io::Result<()> {
        let (shard, about) = (Shard::new(Arc::clone(&self.view), role), Arc::new(about));
        let mut server = self.listening.server.0.lock();
        if let Some(server) = &*server {
            server.change_role(shard, forward, about);
            return Ok(());
        }
        let (nodes, browsers, metrics) = (node_access(settings), browser_policy(settings), Arc::clone(&self.metrics));
        let (clock, access) = (Arc::clone(&self.clock), Arc::clone(&self.listening.access));
        let tls = Arc::clone(&self.listening.tls);
        let origin = origin_source(settings, &tls)?;
        let api = ApiContext { shard, forward, nodes, browsers, clock, metrics, about, access, origin, tls };
        *server = Some(HttpServer::start(self.listening.share()?, api, http_settings(settings))?);
        Ok(())
    }

    /// A role ends that another is to follow: requests that depend on it wait.
    pub(super) fn end_role(&self) {
        self.view.set_ready(false);
        if let Some(server) = &*self.listening.server.0.lock() {
            server.end_role();
        }
    }

    /// Stops serving, and gives up the port, so that nobody waits in the listener's queue.
    pub(super) fn stop_serving(self, grace: Duration) {
        self.view.set_ready(false);
        let server = self.listening.server.take();
        drop(self.listening);
        if server.is_some_and(|server| !server.stop(grace)) {
            tracing::warn!("requests were still in flight after {grace:?} and were cut off");
        }
    }
}

/// The name that the directory keeps, else the one that is given, else one that is drawn.
fn node_name(settings: &NodeSettings, disk: Option<&dyn Disk>) -> Result<String, NodeError> {
    // A MANIFEST that cannot be read is for the start to report.
    let manifest = disk.and_then(|disk| Manifest::read(disk).ok().flatten());
    let kept = manifest.map(|manifest| manifest.state.node_name).filter(|name| !name.is_empty());
    match (kept, settings.node_name.clone()) {
        (Some(kept), Some(given)) if kept != given => {
            Err(NodeError::OtherName { path: settings.data_dir().unwrap_or(Path::new("")).to_owned(), kept, given })
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(draw_name()?),
    }
}

/// Gives what the main thread of a role leaves, once it has been asked to end.
///
/// # Errors
/// [`NodeError::Stop`] if it has panicked. What it had asked its workers for, a sync or a snapshot, may still be under
/// way then: nobody may go on with the files, this process has to end, and the lock of the directory goes with it.
pub(super) fn join_role<T>(thread: JoinHandle<T>, directory: &Option<LockedDirectory>) -> Result<T, NodeError> {
    let name = thread.thread().name().unwrap_or("a thread").to_owned();
    thread.join().map_err(|_| {
        std::mem::forget(directory.clone());
        let what = format!("{name} panicked, and what it had begun to write may still go on");
        tracing::error!("{what}: this process ends");
        NodeError::Stop(what)
    })
}

pub(super) fn lock(path: &Path) -> Result<(Arc<dyn Disk>, DirectoryLock), NodeError> {
    let unusable = |error| NodeError::DataDirectory { path: path.to_owned(), error };
    let disk = RealDisk::new(path).map_err(unusable)?;
    let lock = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => NodeError::Locked { path: path.to_owned(), error },
        _ => unusable(error),
    })?;
    Ok((Arc::new(disk), lock))
}

/// Reads the users, and opens the audit log.
///
/// # Errors
/// [`NodeError::Access`] if one of the files cannot be used.
fn access_control(settings: &NodeSettings) -> Result<AccessControl, NodeError> {
    let of_files = AccessSettings {
        users: settings.users.clone(),
        secret: settings.cluster_secret.clone(),
        metrics_open: settings.metrics_open,
        audit_log: settings.audit_log.clone(),
    };
    let mut salt = [0; 32];
    for half in salt.chunks_exact_mut(16) {
        half.copy_from_slice(&random()?.to_le_bytes());
    }
    AccessControl::open(&of_files, salt).map_err(NodeError::Access)
}

/// Gives the rule for requests that only nodes may send.
pub(super) fn node_access(settings: &NodeSettings) -> NodeAccess {
    match &settings.cluster_secret {
        Some(secret) => NodeAccess::Secret(secret.clone()),
        None if settings.bind.is_loopback() => NodeAccess::Anyone,
        None => NodeAccess::Nobody,
    }
}

/// Bytes at which a log segment is finished. Tests have it lower, to meet rotations.
pub(super) fn segment_bytes() -> u64 {
    failpoint::lowered("MEMDB_SEGMENT_BYTES", limits::DEFAULT_SEGMENT_BYTES)
}

pub(super) fn window(settings: &NodeSettings) -> DedupLimits {
    DedupLimits {
        keys: settings.max_keys,
        key_age_ms: settings.key_window_ms,
        streams: settings.max_streams,
        stream_age_ms: settings.stream_window_ms,
    }
}

/// Gives the bounds that `/metrics` shows. A follower takes what its leader sends, so it has none for words and keys.
pub(super) fn node_limits(settings: &NodeSettings, role: NodeRole) -> NodeLimits {
    let (connections, watchers) = (Some(settings.max_connections as u64), Some(settings.watchers() as u64));
    match role {
        NodeRole::Leader => NodeLimits {
            memory_bytes: settings.leadership().map(|rules| rules.max_memory_bytes),
            entry_bytes: settings.leadership().map(|rules| rules.entry_memory_bytes),
            queue: settings.leadership().map(|rules| rules.queue_batches as u64),
            connections,
            watchers,
            keys: Some(settings.max_keys as u64),
            streams: Some(settings.max_streams as u64),
            namespaces: Some(limits::MAX_NAMESPACES as u64),
        },
        _ => NodeLimits { connections, watchers, ..NodeLimits::default() },
    }
}

/// The numbers of a node that begins this role.
pub(super) fn metrics(settings: &NodeSettings, role: NodeRole) -> Arc<NodeMetrics> {
    Arc::new(NodeMetrics::new(role, node_limits(settings, role), ROUTE_LABELS))
}

pub(super) fn http_settings(settings: &NodeSettings) -> HttpSettings {
    HttpSettings {
        threads: settings.threads,
        max_connections: settings.max_connections,
        max_connections_per_address: settings.max_connections_per_address,
        max_watchers: settings.watchers(),
        slow_request: settings.slow_request_ms.map(Duration::from_millis),
        // The fast path records no spans.
        fast_path: settings.otlp_endpoint.is_none(),
        max_body_bytes: settings.max_body_bytes,
        max_value_bytes: settings.max_value_bytes,
        ..HttpSettings::default()
    }
}

/// Gives the source of values that the cache does not have.
///
/// # Errors
/// If the system has no HTTP client.
pub(super) fn origin_source(settings: &NodeSettings, tls: &NodeTls) -> io::Result<Option<Arc<OriginSource>>> {
    let Some(OriginSettings { template, timeout_ms, rules }) = settings.origin.clone() else { return Ok(None) };
    let patience = Duration::from_millis(timeout_ms);
    let client = OriginClient::new(template, &tls.origin(), patience, settings.max_value_bytes);
    let client = client.map_err(io::Error::other)?;
    Ok(Some(Arc::new(OriginSource::new(client, rules))))
}

pub(super) fn browser_policy(settings: &NodeSettings) -> Arc<BrowserPolicy> {
    Arc::new(BrowserPolicy { hosts: settings.hosts(), cors: settings.cors_origins.clone(), scheme: settings.scheme() })
}
