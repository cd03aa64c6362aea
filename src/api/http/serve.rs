//! Accepts connections and deals them to the serving threads.
//!
//! One listener, and a current-thread runtime per serving thread: a connection stays where it was accepted, so
//! its requests share nothing with other threads but the counts. (One listener keeps "address in use" an error; with
//! `SO_REUSEPORT` a second server on the same port would start unnoticed.)

use super::{
    ApiContext, HttpSettings, NodeAbout, ServingRole,
    bulk::limiter::BulkLimiter,
    connection, routes,
    secret_throttle::{ConnectionPeer, SecretThrottle},
    state::{AppState, Budgets},
};
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        service::{RoleContext, RoleSlots, Service},
    },
    base::limits,
    base::metrics::NodeMetrics,
    data::counts::word_counts::WordCountsPool,
    net::{
        address_limits::{AddressLimits, AddressShares, LineLimits, Resource},
        budget::{Budget, BudgetRefusal, BudgetShare},
    },
};
use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections that may wait for a busy thread.
const ACCEPTED_AHEAD: usize = 1_024;
/// Texts a serving thread has taken apart elsewhere at once.
const TEXTS_AT_ONCE: usize = 2;
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running HTTP server. Dropped without [`HttpServer::stop`], it stops at once and cuts off what is in flight.
pub struct HttpServer {
    local_addr: SocketAddr,
    roles: RoleSlots,
    stopping: CancellationToken,
    grace: Arc<OnceLock<Duration>>,
    threads: Vec<JoinHandle<bool>>,
}

impl HttpServer {
    /// Serves on a listener that is already bound, until stopped: in the role of `api` first, which
    /// [`HttpServer::change_role`] replaces.
    ///
    /// # Errors
    /// If the listener cannot be used, or the system gives no more threads or descriptors.
    pub fn start(listener: StdListener, api: ApiContext, settings: HttpSettings) -> io::Result<Self> {
        let local_addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (stopping, grace) = (CancellationToken::new(), Arc::default());
        let mut server = Self { local_addr, roles: RoleSlots::new(), stopping, grace, threads: vec![] };
        let shares = AddressShares::new(settings.max_connections_per_address, settings.max_connections);
        let budgets = Budgets::new(&settings, shares);
        let bulk_limiter = Arc::new(BulkLimiter::new());
        let guesses: Arc<SecretThrottle> = Arc::default();
        let started = Instant::now();
        let mut acceptor = Acceptor {
            connections: Budget::new(Resource::Connections, settings.max_connections, shares.connections()),
            addresses: addresses(&settings, shares),
            metrics: Arc::clone(&api.metrics),
            threads: vec![],
            next: 0,
        };
        let mut workers = vec![];
        for api in std::iter::repeat_n(api, settings.threads.max(1)) {
            let (sender, accepted) = mpsc::channel(ACCEPTED_AHEAD);
            acceptor.threads.push(sender);
            let (budgets, bulk_limiter, guesses) =
                (budgets.of_another_thread(shares), Arc::clone(&bulk_limiter), Arc::clone(&guesses));
            let tallies = WordCountsPool::new(limits::TALLIES_KEPT, limits::TALLY_KEPT_BYTES);
            let ApiContext { view, role, nodes, browsers, metrics, about } = api;
            let role = server.roles.add(RoleContext { role, about, is_ending: false });
            let (position_wait, waiting_reads) = (settings.position_wait, Arc::clone(&budgets.waiting_reads));
            let service = Service { view, role, metrics, tallies, position_wait, waiting_reads };
            let state = AppState { service, nodes, browsers, settings, budgets, bulk_limiter, guesses, started };
            // A token of its own: waiting on a shared one would take a shared lock with every request.
            let stopping = server.stopping.child_token();
            workers.push(ServingThread {
                state: Arc::new(state),
                accepted,
                stopping,
                grace: Arc::clone(&server.grace),
            });
        }
        let mut first = Some((listener, acceptor));
        for (at, worker) in workers.into_iter().enumerate() {
            let runtime = Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .max_blocking_threads(TEXTS_AT_ONCE)
                .thread_name(format!("http-{at}-texts"))
                .build()?;
            let first = first.take();
            let thread = std::thread::Builder::new().name(format!("http-{at}"));
            server.threads.push(thread.spawn(move || worker.run(runtime, first))?);
        }
        Ok(server)
    }

    /// Gives the address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Has requests that depend on the role wait, for some seconds at most, until the next one begins. Reads go on.
    pub fn end_role(&self) {
        self.roles.end();
    }

    /// Answers in this role from now on. Connections stay open, and requests under way end with the role they began
    /// with.
    pub fn change_role(&self, role: ServingRole, about: Arc<NodeAbout>) {
        self.roles.set(&RoleContext { role, about, is_ending: false });
    }

    /// Stops accepting, closes idle connections, answers what is in flight, and returns once that is done or the
    /// deadline has passed: `false` if something had to be cut off. Blocks; not for use inside a runtime.
    pub fn stop(mut self, deadline: Duration) -> bool {
        let _ = self.grace.set(deadline); // only this method sets it, and it takes the server
        self.stopping.cancel();
        let mut clean = true;
        for thread in self.threads.drain(..) {
            clean &= thread.join().unwrap_or(false);
        }
        clean
    }
}

/// The addresses of a server's clients, with their places where they wait for a turn.
fn addresses(settings: &HttpSettings, shares: AddressShares) -> Arc<AddressLimits> {
    let lines = LineLimits {
        bulk_blocks: limits::BULK_BLOCKS,
        long_texts: TEXTS_AT_ONCE * settings.threads.max(1),
        forwarded_writes: shares.of(limits::FORWARDED_AT_ONCE),
    };
    AddressLimits::new(shares, lines)
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// One serving thread.
struct ServingThread {
    state: Arc<AppState>,
    accepted: mpsc::Receiver<AcceptedConnection>,
    stopping: CancellationToken,
    grace: Arc<OnceLock<Duration>>,
}

/// An accepted connection on its way to its thread.
struct AcceptedConnection {
    stream: StdStream,
    client: ConnectionPeer,
    /// Its place among all, and among those of its address: held as long as the connection.
    place: BudgetShare,
}

impl ServingThread {
    /// Serves until stopped; `false` if connections had to be cut off. The first worker accepts as well.
    fn run(mut self, runtime: Runtime, first: Option<(StdListener, Acceptor)>) -> bool {
        let clean = runtime.block_on(async {
            if let Some((listener, acceptor)) = first {
                tokio::spawn(acceptor.accept(listener, self.stopping.clone()));
            }
            self.serve().await
        });
        runtime.shutdown_background();
        clean
    }

    async fn serve(&mut self) -> bool {
        let routes = warp::service(routes::routes(&self.state));
        let connections = TaskTracker::new();
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => break,
                accepted = self.accepted.recv() => {
                    let Some(AcceptedConnection { stream, client, place }) = accepted else { break };
                    let (state, routes, stopping) = (Arc::clone(&self.state), routes.clone(), self.stopping.clone());
                    connections.spawn(async move {
                        let open = OpenConnection::count(&state.service.metrics);
                        if let Ok(stream) = TcpStream::from_std(stream) {
                            connection::serve(stream, client, routes, state, stopping).await;
                        }
                        drop((open, place));
                    });
                }
            }
        }
        connections.close();
        let grace = self.grace.get().copied().unwrap_or_default();
        timeout(grace, connections.wait()).await.is_ok()
    }
}

/// Counts a connection as open until dropped.
struct OpenConnection(prometheus::IntGauge);

impl OpenConnection {
    fn count(metrics: &NodeMetrics) -> Self {
        metrics.connections.inc();
        Self(metrics.connections.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Gives each new connection to the next thread.
struct Acceptor {
    connections: Arc<Budget>,
    addresses: Arc<AddressLimits>,
    metrics: Arc<NodeMetrics>,
    threads: Vec<mpsc::Sender<AcceptedConnection>>,
    next: usize,
}

impl Acceptor {
    async fn accept(mut self, listener: StdListener, stopping: CancellationToken) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the listener cannot be used; nothing is accepted"),
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => self.dispatch(stream, client.ip()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {} // gone before it was taken
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn dispatch(&mut self, stream: TcpStream, client: IpAddr) {
        let client = ConnectionPeer::new(client, self.addresses.usage(client));
        let place = match self.connections.take(&client.usage, 1) {
            Ok(place) => place,
            Err(BudgetRefusal::Address { share, .. }) => {
                let detail = format!("at most {share} from one address; share a connection among requests");
                return self.turn_away(&stream, ApiError::new(ErrorKind::TooManyFromAddress, detail));
            }
            Err(BudgetRefusal::All) => {
                let detail = "come again, or share a connection among requests";
                return self.turn_away(&stream, ApiError::new(ErrorKind::TooManyConnections, detail));
            }
        };
        self.next = (self.next + 1) % self.threads.len();
        let Ok(stream) = stream.into_std() else { return }; // the descriptor is closed with it
        if self.threads[self.next].try_send(AcceptedConnection { stream, client, place }).is_err() {
            self.metrics.connections_refused.inc();
        }
    }

    /// Says why and closes, without waiting for anything: as much as fits a fresh socket's buffer at once.
    fn turn_away(&self, stream: &TcpStream, problem: ApiError) {
        self.metrics.connections_refused.inc();
        let _ = stream.try_write(&problem.into_closing_response());
        // What was sent already is read, so that the close is no reset that overtakes the answer.
        let _ = stream.try_read(&mut [0; 4_096]);
    }
}
