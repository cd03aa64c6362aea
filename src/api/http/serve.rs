//! The HTTP server: the state of its serving threads, over the listener of `net`.

use super::{
    ApiContext, HttpSettings, NodeAbout,
    bulk::limiter::BulkLimiter,
    connection,
    request_log::RequestLog,
    routes,
    secret_throttle::{ConnectionPeer, GuessThrottle},
    state::{AppState, Budgets},
};
use crate::{
    api::{
        auth::AccessControl,
        error::{ApiError, ErrorKind},
        service::watch::SharedRankings,
        service::{ClusterStatsSource, RoleContext, RoleSlots, Service},
    },
    base::limits,
    base::metrics::NodeMetrics,
    data::counts::word_counts::WordCountsPool,
    engine::shard::Shard,
    net::{
        address_limits::{AddressLimits, AddressShares, LineLimits, Resource},
        budget::{Budget, BudgetRefusal},
        listener::{ClientConnection, Listener, ListenerProtocol},
        write_forwarder::WriteForwarder,
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// Texts a serving thread has taken apart elsewhere at once.
const TEXTS_AT_ONCE: usize = 2;

/// A running HTTP server. Dropped without [`HttpServer::stop`], it stops at once and cuts off what is in flight.
pub struct HttpServer {
    listener: Listener,
    roles: RoleSlots,
    connections: Arc<Budget>,
    watchers: Arc<Budget>,
    request_log: Arc<RequestLog>,
    access: Arc<AccessControl>,
    metrics: Arc<NodeMetrics>,
    /// Connections that one address may have, as at the start.
    per_address: Option<usize>,
    /// True if clients connect over TLS.
    is_protected: bool,
}

impl HttpServer {
    /// Serves on a socket that is already bound, until stopped: in the role of `api` first, which
    /// [`HttpServer::change_role`] replaces.
    ///
    /// # Errors
    /// If the socket cannot be used, or the system gives no more threads or descriptors.
    pub fn start(socket: TcpListener, api: ApiContext, settings: HttpSettings) -> io::Result<Self> {
        let shares = AddressShares::new(settings.max_connections_per_address, settings.max_connections);
        let connections = Budget::new(Resource::Connections, settings.max_connections, shares.connections());
        let protocol = ListenerProtocol {
            name: "http",
            blocking_threads: TEXTS_AT_ONCE,
            connections: Arc::clone(&connections),
            addresses: addresses(&settings, shares),
            metrics: Arc::clone(&api.metrics),
            refusal: refusal_of_connection,
        };
        let (metrics, of_users) = (Arc::clone(&api.metrics), Arc::clone(&api.access));
        let is_protected = api.tls.server().is_some();
        let mut roles = RoleSlots::new();
        let budgets = Budgets::new(&settings, shares);
        let bulk_limiter = Arc::new(BulkLimiter::new());
        let guesses: Arc<GuessThrottle> = Arc::default();
        let cluster_stats = ClusterStatsSource::new(api.tls.nodes(), api.nodes.secret()).map_err(io::Error::other)?;
        let cluster_stats = Arc::new(cluster_stats);
        let rankings: Arc<SharedRankings> = Arc::default();
        let watchers = Arc::clone(&budgets.watchers);
        let request_log = Arc::new(RequestLog::new(settings.slow_request));
        let started = Instant::now();
        let mut servers = vec![];
        for api in std::iter::repeat_n(api, settings.threads.max(1)) {
            let (budgets, bulk_limiter, guesses) =
                (budgets.of_another_thread(shares), Arc::clone(&bulk_limiter), Arc::clone(&guesses));
            let (cluster_stats, rankings) = (Arc::clone(&cluster_stats), Arc::clone(&rankings));
            let request_log = Arc::clone(&request_log);
            let tallies = WordCountsPool::new(limits::TALLIES_KEPT, limits::TALLY_KEPT_BYTES);
            let ApiContext { shard, forward, nodes, browsers, clock, metrics, about, access, origin, tls } = api;
            let view = Arc::clone(shard.view());
            let role = roles.add(RoleContext::new(shard, forward, about));
            let (position_wait, waiting_reads) = (settings.position_wait, Arc::clone(&budgets.waiting_reads));
            let service = Service { view, role, clock, metrics, tallies, position_wait, waiting_reads, origin };
            let movement = Arc::default();
            let state = AppState {
                service,
                nodes,
                access,
                browsers,
                settings,
                tls,
                budgets,
                bulk_limiter,
                movement,
                rankings,
                cluster_stats,
                guesses,
                request_log,
                started,
            };
            servers.push(move || {
                let state = Arc::new(state);
                let routes = warp::service(routes::routes(&state));
                move |ClientConnection { stream, address, usage }: ClientConnection, stopping| {
                    let client = ConnectionPeer::new(address, usage);
                    connection::serve(stream, client, routes.clone(), Arc::clone(&state), stopping)
                }
            });
        }
        let listener = Listener::start(socket, protocol, servers)?;
        let (access, per_address) = (of_users, settings.max_connections_per_address);
        Ok(Self { listener, roles, connections, watchers, request_log, access, metrics, per_address, is_protected })
    }

    /// Gives the numbers of the node.
    pub fn metrics(&self) -> &NodeMetrics {
        &self.metrics
    }

    /// Takes over the limits of these settings that can change while it serves: on connections, on watchers, and on the
    /// time of a request before it is logged as slow. What is open stays open.
    pub fn set_limits(&self, settings: &HttpSettings) {
        // The part of an address is that of the start: the clients that are there were counted by it.
        let shares = AddressShares::new(self.per_address, settings.max_connections);
        self.connections.set_bound(settings.max_connections, shares.connections());
        self.watchers.set_bound(settings.max_watchers, shares.of(settings.max_watchers));
        self.request_log.set_bound(settings.slow_request);
    }

    /// Gives the address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Has requests that depend on the role wait, for some seconds at most, until the next one begins, and ends streams
    /// of events. Reads go on.
    pub fn end_role(&self) {
        self.roles.end();
    }

    /// Answers for the shard in this role from now on: of the same view as before. Connections stay open, and requests
    /// under way end with the role they began with. Writes that wait for a leader come here, if that is this node.
    pub fn change_role(&self, shard: Shard, forward: Option<WriteForwarder>, about: Arc<NodeAbout>) {
        let leads = forward.is_none();
        let advertised = about.url.clone();
        let before = self.roles.forwarder();
        self.roles.set(&RoleContext::new(shard, forward, about));
        if leads && let Some(before) = before {
            if self.is_protected {
                // Its certificate is for the address that other nodes have, and perhaps for no other.
                return before.lead_by(&advertised).expect("that is an address");
            }
            let mut own = self.local_addr();
            match own.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => own.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => own.set_ip(Ipv6Addr::LOCALHOST.into()),
                _ => {}
            }
            before.lead_by(&format!("http://{own}")).expect("that is an address");
        }
    }

    /// Stops accepting, ends streams of events, closes idle connections, answers what is in flight, and returns once
    /// that is done or the deadline has passed: `false` if something had to be cut off. Blocks; not for use inside a
    /// runtime.
    pub fn stop(self, deadline: Duration) -> bool {
        self.roles.end_streams();
        let was_clean = self.listener.stop(deadline);
        self.request_log.tell_rest();
        self.access.audit.note_rest();
        was_clean
    }
}

/// The addresses of a server's clients, with their places where they wait for a turn.
fn addresses(settings: &HttpSettings, shares: AddressShares) -> Arc<AddressLimits> {
    let lines = LineLimits {
        bulk_blocks: limits::BULK_BLOCKS,
        long_texts: TEXTS_AT_ONCE * settings.threads.max(1),
        forwarded_writes: shares.of(limits::FORWARDED_AT_ONCE),
        origin_reads: shares.of(limits::ORIGIN_READS_FORWARDED),
    };
    AddressLimits::new(shares, lines)
}

/// The answer to a connection that has no place.
fn refusal_of_connection(refused: BudgetRefusal) -> Vec<u8> {
    let problem = match refused {
        BudgetRefusal::Address { share, .. } => {
            let detail = format!("at most {share} from one address; share a connection among requests");
            ApiError::new(ErrorKind::TooManyFromAddress, detail)
        }
        BudgetRefusal::All => {
            let detail = "come again, or share a connection among requests";
            ApiError::new(ErrorKind::TooManyConnections, detail)
        }
    };
    problem.into_closing_response()
}
