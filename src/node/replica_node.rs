//! A replica, built and closed.
//!
//! One thread applies what the leader sends (`memdb-replica`, `threads/replica.rs`), one speaks to the leader where the
//! replica has to begin (`memdb-contact`): it announces the replica, and fetches snapshots.

use super::{
    MachineClock, NodeError,
    machine::{node_run, random},
    resources::{NodeResources, STOP_GRACE, join_role, segment_bytes, window},
    threads::{
        discovery::{DiscoveryThread, LeaderLinks, discovery},
        disk_workers::{DiskWorkResult, DiskWorkers, WorkListener},
        replica::{AnswerSender, ReplicaDriver, ReplicaState},
    },
};
use crate::{
    api::http::NodeAbout,
    base::limits,
    base::metrics::NodeRole,
    config::NodeSettings,
    engine::replica::{Replica, ReplicaDirectory, ReplicaEvent, ReplicaFindings, ReplicaHandle, ReplicaSettings},
    engine::shard::ShardRole,
    engine::view::DatabaseView,
    net::write_forwarder::WriteForwarder,
    replication::{HistorySource, NodeId, PromotionCandidate, ReplicationBacklog},
    storage::disk::Disk,
    storage::manifest::Manifest,
    storage::recovery::{self, NodeRun, RecoveredDatabase},
    storage::snapshot::SnapshotSettings,
};
use std::{net::SocketAddr, path::Path, sync::Arc, thread::JoinHandle, time::Duration};

/// A replica that runs.
pub struct ReplicaNode {
    // In the order they are closed.
    held: NodeResources,
    address: SocketAddr,
    follower: ReplicaHandle,
    node: NodeId,
    url: String,
    leader: Option<String>,
    thread: JoinHandle<Replica<AnswerSender>>,
    contact: DiscoveryThread,
}

impl ReplicaNode {
    /// Starts a replica: listens, reads its files if it has some, serves, and announces itself to its leader.
    ///
    /// # Errors
    /// [`NodeError::Listen`], [`NodeError::Locked`] or [`NodeError::DataDirectory`] if port or directory cannot be had,
    /// [`NodeError::System`] if a thread cannot be started. Nothing is left running then.
    pub fn start(settings: &NodeSettings) -> Result<Self, NodeError> {
        let held = NodeResources::take(settings, Arc::new(MachineClock))?;
        Self::open(&held, settings, settings.leader(), None, None)
    }

    /// `leader`: where the leader is, if that is known; `not_promoted`: why it is not this one, if it was to be;
    /// `kept`: what the role before had in memory.
    pub(super) fn open(
        held: &NodeResources,
        settings: &NodeSettings,
        leader: Option<&str>,
        not_promoted: Option<String>,
        kept: Option<RecoveredDatabase>,
    ) -> Result<Self, NodeError> {
        let (url, address) = (held.listening.url(settings)?, held.listening.address()?);
        let NodeResources { clock, view, metrics, .. } = held.clone();
        // A leader whose files were taken away follows whoever was promoted; it must touch nothing that stands in their
        // place.
        let (directory, files_problem) = match held.directory_in_place(settings) {
            Err(error) => (None, Some(error.to_string())),
            Ok(directory) => (directory, None),
        };
        let disk = directory.map(|(disk, _)| disk);
        let mut run = node_run(&held.name)?;
        let found = find(&held.view, settings, disk.as_ref(), &mut run, kept)?;
        let now = clock.monotonic();
        let before = view.logged_clock().get();
        held.start_role(settings, if disk.is_some() { NodeRole::Replica } else { NodeRole::MemoryReplica });
        if let Some(problem) = files_problem {
            tracing::error!("{problem}: this node follows in memory alone, keeps no files, and is not ready");
            view.set_files_problem(Some(problem));
        }
        let feed = Arc::new(ReplicationBacklog::new(0, limits::FEED_BYTES));
        let follower = ReplicaHandle::new(Arc::clone(&view), Arc::clone(&feed));
        let node = random()?;
        let replica = ReplicaSettings {
            node,
            url: url.clone(),
            window: window(settings),
            snapshot: SnapshotSettings { interval_ms: held.leadership.backup_interval_ms },
        };
        let discovery = discovery(leader, settings, &found, &url);
        let leaders = LeaderLinks { discovery, credentials: held.listening.credentials(settings) };
        let forward = WriteForwarder::new(leader, held.listening.tls.nodes(), random).map_err(std::io::Error::other)?;
        let forward = forward.with_secret(settings.cluster_secret.clone());
        if let ReplicaFindings::Unusable { database, .. } = &found {
            // Nothing of it can be read, and no other takes its place.
            forward.holds(*database);
        }
        let (contact, orders) =
            DiscoveryThread::start(leaders, replica.window, disk.clone(), follower.clone(), forward.clone())?;
        let workers =
            disk.as_ref().map(|disk| DiskWorkers::start(disk, &metrics, &work_listener(&follower))).transpose()?;
        let directory = disk.clone().map(|disk| ReplicaDirectory { disk, segment_bytes: segment_bytes(), run });
        let mut actions = Vec::new();
        let replica = Replica::new(replica, directory, found, before, now, &mut actions);
        let applying = ReplicaDriver::new(ReplicaState {
            replica,
            follower: follower.clone(),
            workers,
            metrics: Arc::clone(&metrics),
            orders,
            forward: forward.clone(),
            clock,
            actions,
            hands_over: false,
            counts_in: 0,
        });
        let thread = std::thread::Builder::new().name("memdb-replica".into()).spawn(move || applying.run())?;
        let role = ShardRole::Replica { replica: follower.clone(), history: HistorySource::new(disk, feed) };
        let name = held.name.clone();
        let about = NodeAbout { role: "replica", name, node, url: url.clone(), not_promoted, default_ack: None };
        held.serve(settings, role, Some(forward), about)?;
        let (held, leader) = (held.clone(), leader.map(str::to_owned));
        Ok(Self { held, address, follower, node, url, leader, thread, contact })
    }

    /// Gives the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// It, as one that is to lead. `successor`: nobody has asked for it, and this node has promised its lead to that
    /// one.
    pub(super) fn candidate(
        &self,
        settings: &NodeSettings,
        force: bool,
        successor: Option<String>,
    ) -> PromotionCandidate {
        let resumes = successor.is_some();
        let identity = self.follower.view().current().as_ref().map(|current| current.identity);
        PromotionCandidate {
            identity,
            node: self.node,
            url: self.url.clone(),
            members: self.follower.members(),
            leader: successor.or_else(|| self.leader.clone()).or_else(|| settings.leader().map(str::to_owned)),
            force,
            resumes,
        }
    }

    /// Waits until it is time to lead again, because this node led last, and whoever it has promised its lead to does
    /// not lead: a promotion that breaks off must leave nobody waiting for a person. Gives the URL of that one.
    pub(super) async fn successor_is_missing(&self) -> String {
        loop {
            // Drawn, so that two nodes which both led do not stand in each other's way every time.
            let drawn = random().map_or(0, |drawn| drawn as u64 % limits::RESUME_LEAD_MS);
            tokio::time::sleep(Duration::from_millis(limits::RESUME_LEAD_MS + drawn)).await;
            let manifest = self.held.directory.as_ref().map(|(disk, _)| Manifest::read(&**disk));
            let Some(Ok(Some(manifest))) = manifest else { continue };
            match manifest.state.awaited_successor() {
                Some(url) if url != self.url && !self.follower.view().is_ready() => return url.to_owned(),
                _ => {}
            }
        }
    }

    /// The way to its thread.
    pub fn follower(&self) -> &ReplicaHandle {
        &self.follower
    }

    /// Stops: answers what is in flight, syncs, takes a snapshot, and notes the clean stop, if it keeps files.
    ///
    /// # Errors
    /// [`NodeError::Stop`] if something could not be brought to its end; the leader has everything.
    pub fn stop(self) -> Result<(), NodeError> {
        self.end(STOP_GRACE)
    }

    /// As [`ReplicaNode::stop`], with so much time for requests in flight.
    pub(super) fn end(self, grace: Duration) -> Result<(), NodeError> {
        let Self { held, follower, thread, contact, .. } = self;
        let lock = held.directory.clone();
        follower.view().set_ready(false);
        contact.stop();
        held.stop_serving(grace);
        follower.send(ReplicaEvent::Stop);
        let replica = join_role(thread, &lock)?;
        if let Some(error) = replica.close()? {
            tracing::warn!(%error, "the last snapshot failed; the log stands in for it");
        }
        drop(lock);
        tracing::info!("stopped");
        Ok(())
    }

    /// Ends the role, for the next one of this process: what that goes on with, or `None` if it has to read the files.
    ///
    /// # Errors
    /// As [`join_role`]: there is no next role.
    pub(super) fn hand_over(self) -> Result<Option<RecoveredDatabase>, NodeError> {
        let Self { held, follower, thread, contact, .. } = self;
        held.end_role();
        contact.stop();
        follower.send(ReplicaEvent::HandOver);
        Ok(join_role(thread, &held.directory)?.hand_over())
    }
}

/// What the replica begins with: what the role before has kept, or what is in its directory.
fn find(
    view: &DatabaseView,
    settings: &NodeSettings,
    disk: Option<&Arc<dyn Disk>>,
    run: &mut NodeRun,
    kept: Option<RecoveredDatabase>,
) -> Result<ReplicaFindings, NodeError> {
    let (Some(disk), Some(kept)) = (disk, kept) else {
        view.withdraw(); // two states of a large database have no room beside each other
        return disk.map_or(Ok(ReplicaFindings::Nothing), |disk| read_directory(disk, run, settings));
    };
    let path = settings.data_dir().unwrap_or(Path::new("")).to_owned();
    let settled = kept.follow(disk, run, segment_bytes()).map_err(|error| NodeError::Recovery { path, error })?;
    tracing::info!(position = %settled.store.mark().position, "goes on with what it has in memory");
    Ok(ReplicaFindings::Settled(Box::new(settled)))
}

/// Reads the replica's directory. Files that cannot be used are no reason not to start: the leader has everything. Nor
/// is a disk that takes nothing: what is there is served, and gone on from in memory.
fn read_directory(
    disk: &Arc<dyn Disk>,
    run: &mut NodeRun,
    settings: &NodeSettings,
) -> Result<ReplicaFindings, NodeError> {
    let path = settings.data_dir().unwrap_or(Path::new(""));
    let found = recovery::look_follower(&**disk, window(settings)).and_then(|recovered| {
        let Some(mut recovered) = recovered else { return Ok(ReplicaFindings::Nothing) };
        let (position, report) = (recovered.stands(), recovered.report.to_string());
        let found = match recovered.go_on(disk, run, segment_bytes()) {
            Err(error) if error.is_no_room() => ReplicaFindings::Read(Box::new(recovered), error.to_string()),
            begun => ReplicaFindings::Settled(Box::new(recovered.into_settled(begun?))),
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
        Ok(ReplicaFindings::Unusable { database: manifest.identity.database_id, epoch: manifest.state.highest() })
    })
}

/// Gives the callback by which workers report to the replica's thread.
fn work_listener(follower: &ReplicaHandle) -> WorkListener {
    let follower = follower.clone();
    Arc::new(move |done| {
        follower.send(match done {
            DiskWorkResult::Synced(sync, result) => ReplicaEvent::Synced(sync, result),
            DiskWorkResult::FilesChecked(check, found) => ReplicaEvent::FilesChecked(check, found),
            DiskWorkResult::Snapshot(result, took_ms) => ReplicaEvent::SnapshotEnded(result, took_ms),
        });
    })
}
