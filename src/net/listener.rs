//! Accepts connections and deals them to the serving threads.
//!
//! One listener, and a current-thread runtime per serving thread: a connection stays where it was accepted, so
//! its requests share nothing with other threads but the counts. (One listener keeps "address in use" an error; with
//! `SO_REUSEPORT` a second server on the same port would start unnoticed.)

use super::{
    address_limits::{AddressLimits, Usage},
    budget::{Budget, BudgetRefusal, BudgetShare},
};
use crate::base::metrics::NodeMetrics;
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
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections that may wait for a busy thread.
const ACCEPTED_AHEAD: usize = 1_024;
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The protocol that a listener serves, and its bounds.
pub struct ListenerProtocol {
    /// Begins the names of its threads.
    pub name: &'static str,
    /// Threads for work beside each serving thread.
    pub blocking_threads: usize,
    /// All connections together, and those of one address.
    pub connections: Arc<Budget>,
    /// The addresses of the clients.
    pub addresses: Arc<AddressLimits>,
    /// Counts connections, and those that were refused.
    pub metrics: Arc<NodeMetrics>,
    /// The bytes that tell a client why its connection is closed at once.
    pub refusal: fn(BudgetRefusal) -> Vec<u8>,
}

/// A connection as its protocol gets it.
pub struct ClientConnection {
    /// The socket.
    pub stream: TcpStream,
    /// The client's address.
    pub address: IpAddr,
    /// The amounts that the address holds.
    pub usage: Usage,
}

/// A running listener and its threads. Dropped without [`Listener::stop`], it stops at once and cuts off what is in
/// flight.
pub struct Listener {
    local_addr: SocketAddr,
    stopping: CancellationToken,
    grace: Arc<OnceLock<Duration>>,
    threads: Vec<JoinHandle<bool>>,
}

impl Listener {
    /// Serves on a socket that is already bound, with a thread for each of `servers`: called on its thread, it gives
    /// the function that serves a connection until the connection ends, or soon after the token is cancelled.
    ///
    /// # Errors
    /// If the socket cannot be used, or the system gives no more threads or descriptors.
    pub fn start<M, S, F>(
        socket: StdListener,
        protocol: ListenerProtocol,
        servers: impl IntoIterator<Item = M>,
    ) -> io::Result<Self>
    where
        M: FnOnce() -> S + Send + 'static,
        S: Fn(ClientConnection, CancellationToken) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let local_addr = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        let mut listener =
            Self { local_addr, stopping: CancellationToken::new(), grace: Arc::default(), threads: vec![] };
        let ListenerProtocol { name, blocking_threads, .. } = protocol;
        let metrics = Arc::clone(&protocol.metrics);
        let mut acceptor = Acceptor { protocol, threads: vec![], next: 0 };
        let mut workers = vec![];
        for server in servers {
            let (sender, accepted) = mpsc::channel(ACCEPTED_AHEAD);
            acceptor.threads.push(sender);
            // A token of its own: waiting on a shared one would take a shared lock with every request.
            let stopping = listener.stopping.child_token();
            let (metrics, grace) = (Arc::clone(&metrics), Arc::clone(&listener.grace));
            workers.push((server, ServingThread { accepted, metrics, stopping, grace }));
        }
        let mut first = Some((socket, acceptor));
        for (at, (server, worker)) in workers.into_iter().enumerate() {
            let runtime = Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .max_blocking_threads(blocking_threads)
                .thread_name(format!("{name}-{at}-texts"))
                .build()?;
            let first = first.take();
            let thread = std::thread::Builder::new().name(format!("{name}-{at}"));
            listener.threads.push(thread.spawn(move || worker.run(runtime, server, first))?);
        }
        Ok(listener)
    }

    /// Gives the address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, closes idle connections, answers what is in flight, and returns once that is done or the
    /// deadline has passed: `false` if something had to be cut off. Blocks; not for use inside a runtime.
    pub fn stop(mut self, deadline: Duration) -> bool {
        let _ = self.grace.set(deadline); // only this method sets it, and it takes the listener
        self.stopping.cancel();
        let mut clean = true;
        for thread in self.threads.drain(..) {
            clean &= thread.join().unwrap_or(false);
        }
        clean
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// One serving thread.
struct ServingThread {
    accepted: mpsc::Receiver<AcceptedConnection>,
    metrics: Arc<NodeMetrics>,
    stopping: CancellationToken,
    grace: Arc<OnceLock<Duration>>,
}

/// An accepted connection on its way to its thread.
struct AcceptedConnection {
    stream: StdStream,
    address: IpAddr,
    usage: Usage,
    /// Its place among all, and among those of its address: held as long as the connection.
    place: BudgetShare,
}

impl ServingThread {
    /// Serves until stopped; `false` if connections had to be cut off. The first worker accepts as well.
    fn run<S, F>(mut self, runtime: Runtime, server: impl FnOnce() -> S, first: Option<(StdListener, Acceptor)>) -> bool
    where
        S: Fn(ClientConnection, CancellationToken) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let clean = runtime.block_on(async {
            if let Some((socket, acceptor)) = first {
                tokio::spawn(acceptor.accept(socket, self.stopping.clone()));
            }
            self.serve(server()).await
        });
        runtime.shutdown_background();
        clean
    }

    async fn serve<S, F>(&mut self, server: S) -> bool
    where
        S: Fn(ClientConnection, CancellationToken) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let connections = TaskTracker::new();
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => break,
                accepted = self.accepted.recv() => {
                    let Some(AcceptedConnection { stream, address, usage, place }) = accepted else { break };
                    let Ok(stream) = TcpStream::from_std(stream) else { continue };
                    let open = OpenConnection::count(&self.metrics);
                    let served = server(ClientConnection { stream, address, usage }, self.stopping.clone());
                    connections.spawn(async move {
                        served.await;
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
    protocol: ListenerProtocol,
    threads: Vec<mpsc::Sender<AcceptedConnection>>,
    next: usize,
}

impl Acceptor {
    async fn accept(mut self, socket: StdListener, stopping: CancellationToken) {
        let socket = match TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "the listener cannot be used; nothing is accepted"),
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                accepted = socket.accept() => accepted,
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

    fn dispatch(&mut self, stream: TcpStream, address: IpAddr) {
        let ListenerProtocol { connections, addresses, metrics, refusal, .. } = &self.protocol;
        let usage = addresses.usage(address);
        let place = match connections.take(&usage, 1) {
            Ok(place) => place,
            Err(refused) => {
                metrics.connections_refused.inc();
                return turn_away(&stream, &refusal(refused));
            }
        };
        self.next = (self.next + 1) % self.threads.len();
        let Ok(stream) = stream.into_std() else { return }; // the descriptor is closed with it
        if self.threads[self.next].try_send(AcceptedConnection { stream, address, usage, place }).is_err() {
            metrics.connections_refused.inc();
        }
    }
}

/// Says why and closes, without waiting for anything: as much as fits a fresh socket's buffer at once.
fn turn_away(stream: &TcpStream, reason: &[u8]) {
    let _ = stream.try_write(reason);
    // What was sent already is read, so that the close is no reset that overtakes the answer.
    let _ = stream.try_read(&mut [0; 4_096]);
}
