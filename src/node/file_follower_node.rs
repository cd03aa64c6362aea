//! A local replica, built and closed.
//!
//! One thread (`memdb-local`) follows the leader's files: woken by the leader's notices, and at the latest after
//! a tenth of a second. A task on it announces this node to the leader that the files name.

use super::{
    MachineClock, NodeError,
    machine::{draw_name, random},
    resources::{
        NodeListener, RunningServer, STOP_GRACE, browser_policy, http_settings, metrics, node_access, origin_source,
        window,
    },
};
use crate::{
    api::http::{ApiContext, HttpServer, NodeAbout},
    base::clock::{Clock, LoggedClock},
    base::metrics::NodeRole,
    base::position::{Epoch, Position},
    config::NodeSettings,
    engine::file_follower::{FileFollower, FollowStep},
    engine::shard::{Shard, ShardRole},
    engine::view::{DatabaseView, ServedDatabase},
    net::write_forwarder::WriteForwarder,
    net::{peer_credentials::PeerCredentials, peer_link::PeerLink},
    replication::{NodeId, NodeState},
    storage::disk::RealDisk,
};
use std::{net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Time for which the files are left alone when nothing was new and no notice comes.
const LOOK: Duration = Duration::from_millis(100);
/// The pause before files that cannot be read are tried again.
const RETRY: Duration = Duration::from_millis(200);
/// Interval at which a local replica announces itself to the leader.
const ANNOUNCE: Duration = Duration::from_secs(2);

/// A local replica that runs.
pub struct FileFollowerNode {
    // In the order they are closed.
    server: RunningServer,
    address: SocketAddr,
    view: Arc<DatabaseView>,
    stopping: CancellationToken,
    ended: CancellationToken,
    thread: JoinHandle<()>,
}

impl FileFollowerNode {
    /// Starts a local replica: listens, and serves once it has loaded what is in the files.
    ///
    /// # Errors
    /// [`NodeError::Listen`] if the port cannot be had, [`NodeError::DataDirectory`] if the leader's directory cannot
    /// be read, [`NodeError::System`] if a thread cannot be started. Nothing is left running then.
    pub fn start(settings: &NodeSettings) -> Result<Self, NodeError> {
        Self::open(&NodeListener::take(settings)?, settings, Arc::new(MachineClock))
    }

    pub(super) fn open(
        listening: &NodeListener,
        settings: &NodeSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, NodeError> {
        let url = listening.url(settings)?;
        let node = random()?;
        let directory = settings.data_dir().expect("the settings of a local replica name a directory");
        let view = Arc::new(DatabaseView::new(true));
        let (notice, stopping) = (Arc::new(Notify::new()), CancellationToken::new());
        let forward = WriteForwarder::new(None, listening.tls.nodes(), random).map_err(std::io::Error::other)?;
        let forward = forward.with_secret(settings.cluster_secret.clone());
        let (leader, leaders) = watch::channel(None);
        let follow = FollowThread {
            replica: FileFollower::new(Arc::new(RealDisk::at(directory)), window(settings)),
            view: Arc::clone(&view),
            notice: Arc::clone(&notice),
            forward: forward.clone(),
            clock: Arc::clone(&clock),
            leader,
            served: None,
            said: None,
            current_in: None,
            counts_in: None,
        };
        let announce = AnnounceLoop {
            node,
            url: url.clone(),
            view: Arc::clone(&view),
            forward: forward.clone(),
            credentials: listening.credentials(settings),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ended = CancellationToken::new();
        let (stop, ends) = (stopping.clone(), ended.clone().drop_guard());
        let thread = std::thread::Builder::new().name("memdb-local".into()).spawn(move || {
            let _ends = ends;
            runtime.block_on(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = follow.run() => {}
                    () = announce.run(leaders) => {}
                }
            });
        })?;
        // It has no directory of its own to keep one in.
        let name = draw_name()?;
        let about = NodeAbout { role: "local-replica", name, node, url, not_promoted: None, default_ack: None };
        let api = ApiContext {
            shard: Shard::new(Arc::clone(&view), ShardRole::FileFollower { notice }),
            forward: Some(forward),
            nodes: node_access(settings),
            browsers: browser_policy(settings),
            clock,
            metrics: metrics(settings, NodeRole::LocalReplica),
            about: Arc::new(about),
            access: Arc::clone(&listening.access),
            origin: origin_source(settings, &listening.tls)?,
            tls: Arc::clone(&listening.tls),
        };
        let server = HttpServer::start(listening.share()?, api, http_settings(settings))?;
        let address = server.local_addr();
        listening.server.put(server);
        let server = listening.server.clone();
        Ok(Self { server, address, view, stopping, ended, thread })
    }

    /// Gives the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the view that it serves.
    pub fn view(&self) -> &Arc<DatabaseView> {
        &self.view
    }

    /// Told when its thread has ended, which it does only by a stop or by dying.
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Stops: answers what is in flight. There is nothing to be kept.
    ///
    /// # Errors
    /// [`NodeError::Stop`] if its thread had died.
    pub fn stop(self) -> Result<(), NodeError> {
        let Self { server, view, stopping, thread, .. } = self;
        view.set_ready(false);
        if server.take().is_some_and(|server| !server.stop(STOP_GRACE)) {
            tracing::warn!("requests were still in flight after {STOP_GRACE:?} and were cut off");
        }
        stopping.cancel();
        thread.join().map_err(|_| NodeError::Stop("the thread that follows the files panicked".into()))?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Follows the files.
struct FollowThread {
    replica: FileFollower,
    view: Arc<DatabaseView>,
    notice: Arc<Notify>,
    forward: WriteForwarder,
    clock: Arc<dyn Clock>,
    leader: watch::Sender<Option<String>>,
    /// The generation of the MANIFEST that is served under.
    served: Option<u64>,
    /// The reason for which it waits, as it was last logged.
    said: Option<String>,
    /// The database and the epoch of which it has had everything.
    current_in: Option<(u128, Epoch)>,
    /// Those by whose leader it counts logged time.
    counts_in: Option<(u128, Epoch)>,
}

impl FollowThread {
    async fn run(mut self) {
        loop {
            match self.replica.step() {
                FollowStep::Loading => {}
                FollowStep::Complete(position) => {
                    tracing::info!(%position, "has loaded what is in the files");
                    self.count_on();
                    self.serve();
                }
                FollowStep::Applied(position) => {
                    self.applied(position);
                    if self.replica.has_all() {
                        self.current();
                    }
                }
                FollowStep::Reloading(why) => {
                    tracing::warn!("the files are loaded anew: {why}");
                    self.view.set_ready(false);
                }
                FollowStep::Nothing => {
                    self.current();
                    // What it says is of no interest: either way it is time to look again.
                    let _ = timeout(LOOK, self.notice.notified()).await;
                }
                FollowStep::Waiting(why) => {
                    self.view.set_files_problem(Some(format!("the leader's files cannot be followed: {why}")));
                    if self.said.as_ref() != Some(&why) {
                        tracing::warn!("waiting for the leader's files: {why}");
                        self.said = Some(why);
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
            // Announcements, and a stop, have their turn between two steps.
            tokio::task::yield_now().await;
        }
    }

    fn applied(&mut self, position: Position) {
        self.count_on();
        if !self.serve_anew() {
            self.view.published(position);
        }
    }

    /// Counts logged time from the last record on, which may be one of long ago: the time that readers see does not go
    /// back by that, but where a leader that writes now has counted less.
    fn count_on(&mut self) {
        let (Some(store), Some(manifest)) = (self.replica.store(), self.replica.manifest()) else { return };
        let clock = LoggedClock::reading(store.time_ms(), self.clock.monotonic());
        let of = Some((manifest.identity.database_id, store.mark().position.epoch));
        let is_another = self.counts_in.map(|(database, _)| database) != Some(manifest.identity.database_id);
        if is_another || (self.counts_in != of && self.current_in == of) {
            self.counts_in = of;
            self.view.logged_clock().set(clock);
        } else {
            self.view.logged_clock().follow(clock);
        }
    }

    /// Serves under the MANIFEST of now, if it is another; tells whether it is.
    fn serve_anew(&mut self) -> bool {
        let generation = self.replica.manifest().map(|manifest| manifest.state.generation);
        let is_another = generation != self.served;
        if is_another {
            self.serve();
        }
        is_another
    }

    /// Shows readers what there is, and takes from the MANIFEST who leads.
    fn serve(&mut self) {
        let (Some(manifest), Some(reader)) = (self.replica.manifest(), self.replica.reader()) else { return };
        let (identity, state) = (manifest.identity, &manifest.state);
        self.forward.holds(identity.database_id);
        self.served = Some(state.generation);
        if let Some(leader) = &state.leader_url
            && self.forward.leader().as_ref() != Some(leader)
        {
            match self.forward.lead_by(leader) {
                Ok(()) => drop(self.leader.send_replace(Some(leader.clone()))),
                Err(error) => tracing::warn!(error, "the MANIFEST names no leader that can be reached"),
            }
        }
        self.view.serve(ServedDatabase { identity, reader });
    }

    /// It has all that is in the files.
    fn current(&mut self) {
        if !self.replica.is_complete() {
            return;
        }
        self.current_in = self.replica.manifest().map(|found| (found.identity.database_id, found.state.epoch));
        // Without a record too: the leader may have another address.
        self.serve_anew();
        self.said = None;
        self.view.set_files_problem(None);
        self.view.caught_up();
        if !self.view.is_ready() {
            tracing::info!("has all that the leader has");
            self.view.set_ready(true);
        }
    }
}

/// Tells the leader that this node wants notices.
struct AnnounceLoop {
    node: NodeId,
    url: String,
    view: Arc<DatabaseView>,
    forward: WriteForwarder,
    credentials: PeerCredentials,
}

impl AnnounceLoop {
    async fn run(self, mut leaders: watch::Receiver<Option<String>>) {
        loop {
            let leader = leaders.borrow_and_update().clone();
            if let Some(link) = leader.and_then(|leader| PeerLink::new(&leader, &self.credentials).ok()) {
                match link.announce(&self.hello()).await {
                    Ok(Some(leads)) => self.forward.heard(link.base(), leads),
                    Ok(None) => {}
                    // Without notices it looks by itself.
                    Err(error) => tracing::debug!(%error, "the leader cannot be told that this local replica is here"),
                }
            }
            // Whether the leader is another now, or time has passed: say it again.
            if let Ok(Err(_)) = timeout(ANNOUNCE, leaders.changed()).await {
                return std::future::pending().await;
            }
        }
    }

    fn hello(&self) -> NodeState {
        let current = self.view.current();
        let mark = current.as_ref().map(|current| current.reader.read().state_id()).unwrap_or_default();
        NodeState {
            node: self.node,
            url: self.url.clone(),
            database: current.as_ref().map(|current| current.identity.database_id),
            epoch: mark.position.epoch,
            position: mark.position,
            chain: mark.chain,
            synced: None,
            diverged: false,
            local: true,
            leads: false,
        }
    }
}
