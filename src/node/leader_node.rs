//! A leader, built and closed.

use super::{
    MachineClock, NodeError,
    leader_files::LeaderFiles,
    leader_run::StartState,
    leader_start::{LeaderEnd, LeaderStart, writer_settings},
    resources::{NodeResources, STOP_GRACE, join_role},
};
use crate::{
    api::http::NodeAbout,
    base::{
        clock::{LoggedTime, WallClock},
        failpoint, limits,
        metrics::NodeRole,
        position::Position,
    },
    config::NodeSettings,
    engine::leader::{Leader, QueueLimits, close},
    engine::shard::ShardRole,
    replication::{ElectedLeader, HistorySource, PeerRegistry, ReplicationBacklog},
    storage::{
        disk::Disk,
        recovery::{NewEpoch, RecoveredDatabase},
    },
};
use std::{net::SocketAddr, path::Path, sync::Arc, thread::JoinHandle, time::Duration};

/// A wall clock this far behind the last record is worth a warning, in milliseconds.
const CLOCK_BEHIND_MS: i64 = 60_000;

/// A leader that runs.
pub struct LeaderNode {
    // In the order they are closed.
    held: NodeResources,
    address: SocketAddr,
    leader: Leader,
    thread: JoinHandle<Option<LeaderEnd>>,
    disk: Arc<dyn Disk>,
}

/// The failure of a leader to begin: why, and what a replica may go on with in its place.
pub(super) type NotLeading = (NodeError, Option<Box<RecoveredDatabase>>);

impl LeaderNode {
    /// Starts a leader: listens, locks and recovers its data, then serves.
    ///
    /// # Errors
    /// [`NodeError::Listen`], [`NodeError::Locked`] or [`NodeError::DataDirectory`] if port or directory cannot be had,
    /// [`NodeError::Recovery`] if the files cannot be used, [`NodeError::NotLeader`], [`NodeError::Diverged`] or
    /// [`NodeError::Succeeded`] if this node must not lead. Nothing is left running then.
    pub fn start(settings: &NodeSettings) -> Result<Self, NodeError> {
        let held = NodeResources::take(settings, Arc::new(MachineClock))?;
        Self::open(&held, settings, None, None).map_err(|(error, _)| error)
    }

    /// `elected`: what the other nodes have promised a replica that is to lead; `kept`: what the role before had in
    /// memory.
    pub(super) fn open(
        held: &NodeResources,
        settings: &NodeSettings,
        elected: Option<&ElectedLeader>,
        kept: Option<RecoveredDatabase>,
    ) -> Result<Self, NotLeading> {
        let (disk, files) = Self::files(held, settings, elected).map_err(|error| (error, None))?;
        let mut recovered = kept.map_or_else(|| files.read(), Ok).map_err(|error| (error, None))?;
        if let Err(error) = files.recover_tail(&mut recovered) {
            // A state that has diverged is nobody's to go on with.
            let is_good = recovered.open.is_some() && !matches!(error, NodeError::Diverged(_));
            return Err((error, is_good.then(|| Box::new(recovered))));
        }
        failpoint::pass("promote.recovered");
        Self::lead(held, settings, (disk, files), recovered).map_err(|error| (error, None))
    }

    fn files(
        held: &NodeResources,
        settings: &NodeSettings,
        elected: Option<&ElectedLeader>,
    ) -> Result<(Arc<dyn Disk>, LeaderFiles), NodeError> {
        let url = held.listening.url(settings)?;
        let (disk, _) = held.directory_in_place(settings)?.expect("the settings of a leader name a directory");
        let files = LeaderFiles::new(
            settings,
            &disk,
            &held.view,
            (&held.name, &url),
            held.listening.credentials(settings),
            elected,
        )?;
        Ok((disk, files))
    }

    /// Begins the epoch and leads in it, or waits for room on the disk.
    fn lead(
        held: &NodeResources,
        settings: &NodeSettings,
        (disk, files): (Arc<dyn Disk>, LeaderFiles),
        mut recovered: RecoveredDatabase,
    ) -> Result<Self, NodeError> {
        let is_served = recovered.open.is_some();
        let begun = files.begin(&mut recovered);
        if begun.is_ok() && recovered.new {
            log_new_database(settings);
        }
        let position = begun.as_ref().map_or(recovered.stands(), NewEpoch::position);
        log_recovery(&recovered, position, is_served, held.clock.wall());
        held.start_role(settings, NodeRole::Leader);
        let NodeResources { view, metrics, .. } = held;
        let last = recovered.store.mark().position.sequence;
        let feed = Arc::new(ReplicationBacklog::new(last, limits::FEED_BYTES).keep_idle(limits::IDLE_FEED_BYTES));
        let bounds = QueueLimits { batches: held.leadership.queue_batches, bytes: limits::DEFAULT_QUEUE_BYTES };
        let leader = Leader::new(Arc::clone(view), Arc::clone(&feed), bounds);
        let (registry, announced) = PeerRegistry::new();
        let (start_registry, counted) = ((registry.clone(), announced), Arc::clone(metrics));
        let url = held.listening.url(settings)?;
        let start = LeaderStart::new(held, files, leader.clone(), counted, start_registry)?;
        let node = start.node;
        let start = match begun {
            Ok(begun) => {
                let settled = recovered.into_settled(begun);
                StartState::Leads(Box::new(start.lead(settled)?))
            }
            Err(error) if error.is_no_room() && recovered.new => {
                return Err(NodeError::NoRoom { path: settings.data_dir().unwrap_or(Path::new("")).to_owned(), error });
            }
            Err(error) if error.is_no_room() => StartState::waits(start, recovered, &error),
            Err(error) => return Err(start.files.unusable(error)),
        };
        let runs = leader.clone();
        let thread = std::thread::Builder::new().name("memdb-writer".into()).spawn(move || start.run(runs))?;
        let role = ShardRole::Leader {
            leader: leader.clone(),
            registry,
            history: HistorySource::new(Some(disk.clone()), feed),
            fetches: Arc::default(),
        };
        let about = NodeAbout {
            role: "leader",
            name: held.name.clone(),
            node,
            url,
            not_promoted: None,
            default_ack: Some(writer_settings(&held.leadership).default_ack()),
        };
        held.serve(settings, role, None, about)?;
        Ok(Self { held: held.clone(), address: held.listening.address()?, leader, thread, disk })
    }

    /// Gives the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
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
        let Self { held, leader, thread, disk, .. } = self;
        let lock = held.directory.clone();
        held.stop_serving(grace);
        leader.stop();
        let end = join_role(thread, &lock)?;
        // One that has never led leaves the files as it found them.
        if let Some(LeaderEnd { writer, replicating, manifest }) = end {
            // After the Writer: its last answers may have waited for replicas.
            replicating.stop();
            let manifest = manifest.lock().clone();
            if let Some(error) = close(writer, manifest, &disk)? {
                tracing::warn!(%error, "the last snapshot failed; the log stands in for it");
            }
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
        let Self { held, leader, thread, .. } = self;
        held.end_role();
        leader.hand_over();
        let Some(end) = join_role(thread, &held.directory)? else { return Ok(None) };
        let LeaderEnd { writer, replicating, manifest } = end;
        replicating.stop();
        let manifest = manifest.lock().clone();
        Ok(writer.hand_over(manifest))
    }
}

/// Says that a database begins. In another working directory than usual it does so by mistake: the whole path tells.
fn log_new_database(settings: &NodeSettings) {
    let path = settings.data_dir().unwrap_or(Path::new(""));
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    tracing::warn!("a new database begins in {}, which held none: it starts without counts", path.display());
}

/// Says what was found.
fn log_recovery(recovered: &RecoveredDatabase, position: Position, was_kept: bool, wall: WallClock) {
    let RecoveredDatabase { manifest, store, report, new, .. } = recovered;
    let ahead_ms = wall.ahead_of_ms(store.time_ms());
    if store.time_ms() > LoggedTime::ZERO && -ahead_ms > CLOCK_BEHIND_MS {
        tracing::warn!(
            "the last record was logged {} s ahead of this machine's clock, which is wrong now or was wrong then: keys and \
             streams go on ageing from there, by the time this node runs",
            -ahead_ms / 1_000
        );
    }
    let identity = &manifest.identity;
    let found = match (*new, was_kept) {
        (true, _) => "a new database".to_owned(),
        (_, true) => "goes on with what it has in memory".to_owned(),
        _ => report.to_string(),
    };
    let database = format!("{:032x}", identity.database_id);
    let analyzer_version = identity.analyzer.version();
    tracing::info!(
        database,
        %position,
        analyzer = %identity.analyzer,
        analyzer_version,
        "{found}"
    );
}
