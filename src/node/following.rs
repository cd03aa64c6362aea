//! A replica, built and closed.
//!
//! One thread applies what the leader sends (`memdb-replica`, `applying.rs`), one speaks to the leader where the
//! replica has to begin (`memdb-contact`): it announces the replica, and fetches snapshots.

use super::{
    Held, MachineClock, NodeError, STOP_GRACE,
    applying::{Applying, Hands, Reply},
    browser_policy,
    contact::{Contact, Leaders, discovery},
    http_settings, metrics, node_access, random, segment_bytes, window,
    workers::{Done, Tell, Workers},
};
use crate::{
    api::http::{About, Api, Role, Server},
    client::Forward,
    config::Settings,
    disk::{Disk, Lock},
    limits,
    manifest::Manifest,
    metrics::NodeRole,
    recovery,
    replica::{Directory, Event, Follower, Found, Replica, ReplicaSettings},
    replication::{Archive, Candidate, Feed, NodeId},
    snapshot::SnapshotSettings,
    view::View,
};
use std::{net::SocketAddr, path::Path, sync::Arc, thread::JoinHandle, time::Duration};

/// A replica that runs.
pub struct Following {
    // In the order they are closed.
    server: Server,
    follower: Follower,
    node: NodeId,
    url: String,
    leader: Option<String>,
    thread: JoinHandle<Replica<Reply>>,
    contact: Contact,
    _lock: Option<Arc<Lock>>,
}

impl Following {
    /// Starts a replica: listens, reads its files if it has some, serves, and announces itself to its leader.
    ///
    /// # Errors
    /// [`NodeError::Listen`], [`NodeError::Locked`] or [`NodeError::DataDirectory`] if port or directory cannot be had,
    /// [`NodeError::System`] if a thread cannot be started. Nothing is left running then.
    pub fn start(settings: &Settings) -> Result<Self, NodeError> {
        Self::begin(&Held::take(settings, Arc::new(MachineClock))?, settings, settings.leader.as_deref(), None)
    }

    /// `leader`: where the leader is, if that is known; `not_promoted`: why it is not this one, if it was to be.
    pub(super) fn begin(
        held: &Held,
        settings: &Settings,
        leader: Option<&str>,
        not_promoted: Option<String>,
    ) -> Result<Self, NodeError> {
        let url = held.listening.url(settings)?;
        let Held { listening, clock, logged, .. } = held.clone();
        // A leader whose files were taken away follows whoever was promoted; it must touch nothing that stands in their
        // place.
        let (directory, files_problem) = match held.directory_in_place(settings) {
            Err(error) => (None, Some(error.to_string())),
            Ok(directory) => (directory, None),
        };
        let (disk, lock) = directory.unzip();
        let found = match &disk {
            Some(disk) => look(disk, settings)?,
            None => Found::Nothing,
        };
        let now = clock.monotonic();
        let before = logged.get();
        let view = Arc::new(View::going_on(true, logged));
        if let Some(problem) = files_problem {
            tracing::error!("{problem}: this node follows in memory alone, keeps no files, and is not ready");
            view.set_files_problem(Some(problem));
        }
        let feed = Arc::new(Feed::new(0, limits::FEED_BYTES));
        let role = if disk.is_some() { NodeRole::Replica } else { NodeRole::MemoryReplica };
        let metrics = metrics(settings, role);
        let follower = Follower::new(Arc::clone(&view), Arc::clone(&feed));
        let node = random()?;
        let replica = ReplicaSettings {
            node,
            url: url.clone(),
            window: window(settings),
            snapshot: SnapshotSettings { interval_ms: settings.backup_interval_ms },
        };
        let discovery = discovery(leader, settings, &found, &url);
        let leaders = Leaders { discovery, secret: settings.cluster_secret.clone() };
        let forward = Forward::new(leader, random).map_err(std::io::Error::other)?;
        if let Found::Unusable { database, .. } = &found {
            // Nothing of it can be read, and no other takes its place.
            forward.holds(*database);
        }
        let (contact, orders) =
            Contact::start(leaders, replica.window, disk.clone(), follower.clone(), forward.clone())?;
        let workers = disk.as_ref().map(|disk| Workers::start(disk, &metrics, &tell(&follower))).transpose()?;
        let directory = disk.clone().map(|disk| Directory { disk, segment_bytes: segment_bytes() });
        let mut actions = Vec::new();
        let replica = Replica::new(replica, directory, found, before, now, &mut actions);
        let applying = Applying::new(Hands {
            replica,
            follower: follower.clone(),
            workers,
            metrics: Arc::clone(&metrics),
            orders,
            forward: forward.clone(),
            identity: None,
            clock,
            actions,
        });
        let thread = std::thread::Builder::new().name("memdb-replica".into()).spawn(move || applying.run())?;
        let role = Role::Replica { follower: follower.clone(), forward, archive: Archive::new(disk, feed) };
        let about = About { role: "replica", node, url: url.clone(), not_promoted, default_ack: None };
        let (nodes, browsers) = (node_access(settings), browser_policy(settings));
        let api = Api { view, role, nodes, browsers, metrics, about: Arc::new(about) };
        let server = Server::start(listening.share()?, api, http_settings(settings))?;
        let leader = leader.map(str::to_owned);
        Ok(Self { server, follower, node, url, leader, thread, contact, _lock: lock })
    }

    /// Gives the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// It, as one that is to lead.
    pub(super) fn candidate(&self, settings: &Settings, force: bool) -> Candidate {
        let identity = self.follower.view().current().as_ref().map(|current| current.identity);
        Candidate {
            identity,
            node: self.node,
            url: self.url.clone(),
            members: self.follower.members(),
            leader: self.leader.clone().or_else(|| settings.leader.clone()),
            force,
        }
    }

    /// The way to its thread.
    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Stops: answers what is in flight, syncs, takes a snapshot, and notes the clean stop, if it keeps files.
    ///
    /// # Errors
    /// [`NodeError::Stop`] if something could not be brought to its end; the leader has everything.
    pub fn stop(self) -> Result<(), NodeError> {
        self.end(STOP_GRACE)
    }

    /// As [`Following::stop`], with so much time for requests in flight.
    pub(super) fn end(self, grace: Duration) -> Result<(), NodeError> {
        let Self { server, follower, thread, contact, _lock: lock, .. } = self;
        follower.view().set_ready(false);
        contact.stop();
        if !server.stop(grace) {
            tracing::warn!("requests were still in flight after {grace:?} and were cut off");
        }
        follower.tell(Event::Stop);
        let replica = thread.join().map_err(|_| NodeError::Stop("the replica's thread panicked".into()))?;
        if let Some(error) = replica.close()? {
            tracing::warn!(%error, "the last snapshot failed; the log stands in for it");
        }
        drop(lock);
        tracing::info!("stopped");
        Ok(())
    }
}

/// Reads the replica's directory. Files that cannot be used are no reason not to start: the leader has everything. Nor is a
/// disk that takes nothing: what is there is served, and gone on from in memory.
fn look(disk: &Arc<dyn Disk>, settings: &Settings) -> Result<Found, NodeError> {
    let path = settings.data_dir.as_deref().unwrap_or(Path::new(""));
    let found = recovery::look_follower(&**disk, window(settings)).and_then(|recovered| {
        let Some(recovered) = recovered else { return Ok(Found::Nothing) };
        let (position, report) = (recovered.stands(), recovered.report.to_string());
        let found = match recovered.go_on(disk, segment_bytes()) {
            Err(error) if error.is_no_room() => Found::Read(Box::new(recovered), error.to_string()),
            begun => Found::Settled(Box::new(recovered.into_settled(begun?))),
        };
        tracing::info!(%position, "{report}");
        Ok(found)
    });
    found.or_else(|error| {
        let manifest = Manifest::read(&**disk).ok().flatten();
        let Some(manifest) = manifest else {
            return Err(NodeError::Recovery { path: path.to_owned(), error });
        };
        tracing::error!(%error, "the files in {} cannot be used: they are loaded anew", path.display());
        Ok(Found::Unusable { database: manifest.identity.database_id, epoch: manifest.state.highest() })
    })
}

/// Gives the callback by which workers report to the replica's thread.
fn tell(follower: &Follower) -> Tell {
    let follower = follower.clone();
    Arc::new(move |done| {
        follower.tell(match done {
            Done::Synced(sync, result) => Event::Synced(sync, result),
            Done::FilesChecked(check, found) => Event::FilesChecked(check, found),
            Done::Snapshot(result, took_ms) => Event::SnapshotEnded(result, took_ms),
        });
    })
}
