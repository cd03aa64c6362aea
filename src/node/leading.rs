//! A leader, built and closed.

use super::{
    Held, MachineClock, NodeError, STOP_GRACE, browser_policy, http_settings,
    leader_start::{LeaderEnd, LeaderFiles, LeaderStart, StartState, writer_settings},
    metrics, node_access,
};
use crate::{
    api::http::{About, Api, Role, Server},
    clock::{LoggedTime, WallClock},
    config::Settings,
    disk::{Disk, Lock},
    failpoint,
    leader::{Leader, QueueLimits, close},
    limits,
    metrics::NodeRole,
    position::Position,
    recovery::{NewEpoch, Recovered},
    replication::{Archive, Elected, Feed, Registry},
    view::View,
};
use std::{net::SocketAddr, path::Path, sync::Arc, thread::JoinHandle, time::Duration};

/// A wall clock this far behind the last record is worth a warning, in milliseconds.
const CLOCK_BEHIND_MS: i64 = 60_000;

/// A leader that runs.
pub struct Leading {
    // In the order they are closed.
    server: Server,
    leader: Leader,
    thread: JoinHandle<Option<LeaderEnd>>,
    disk: Arc<dyn Disk>,
    _lock: Arc<Lock>,
}

impl Leading {
    /// Starts a leader: listens, locks and recovers its data, then serves.
    ///
    /// # Errors
    /// [`NodeError::Listen`], [`NodeError::Locked`] or [`NodeError::DataDirectory`] if port or directory cannot be had,
    /// [`NodeError::Recovery`] if the files cannot be used, [`NodeError::NotLeader`], [`NodeError::Diverged`] or
    /// [`NodeError::Succeeded`] if this node must not lead. Nothing is left running then.
    pub fn start(settings: &Settings) -> Result<Self, NodeError> {
        Self::begin(&Held::take(settings, Arc::new(MachineClock))?, settings, None)
    }

    /// `elected`: what the other nodes have promised a replica that is to lead.
    pub(super) fn begin(held: &Held, settings: &Settings, elected: Option<&Elected>) -> Result<Self, NodeError> {
        let url = held.listening.url(settings)?;
        let (disk, lock) = held.directory_in_place(settings)?.expect("the settings of a leader name a directory");
        let files = LeaderFiles::new(settings, &disk, &url, elected)?;
        let mut recovered = files.read()?;
        files.recover_tail(&mut recovered)?;
        failpoint::pass("promote.recovered");
        let begun = files.begin(&recovered);
        if begun.is_ok() && recovered.new {
            tell_of_new(settings);
        }
        let position = begun.as_ref().map_or(recovered.stands(), NewEpoch::position);
        tell_of(&recovered, position, held.clock.wall());
        let view = Arc::new(View::going_on(false, Arc::clone(&held.logged)));
        let feed = Arc::new(Feed::new(recovered.store.mark().position.sequence, limits::FEED_BYTES));
        let metrics = metrics(settings, NodeRole::Leader);
        let bounds = QueueLimits { batches: settings.queue_batches, bytes: limits::DEFAULT_QUEUE_BYTES };
        let leader = Leader::new(Arc::clone(&view), Arc::clone(&feed), bounds);
        let (registry, announced) = Registry::new();
        let (start_registry, counted) = ((registry.clone(), announced), Arc::clone(&metrics));
        let start = LeaderStart::new(held, files, leader.clone(), counted, start_registry)?;
        let node = start.node;
        let start = match begun {
            Ok(begun) => StartState::Leads(Box::new(start.lead(recovered.into_settled(begun))?)),
            Err(error) if error.is_no_room() && recovered.new => {
                return Err(NodeError::NoRoom { path: settings.data_dir.clone().unwrap_or_default(), error });
            }
            Err(error) if error.is_no_room() => StartState::waits(start, recovered, &error),
            Err(error) => return Err(start.files.unusable(error)),
        };
        let runs = leader.clone();
        let thread = std::thread::Builder::new().name("memdb-writer".into()).spawn(move || start.run(runs))?;
        let role = Role::Leader { leader: leader.clone(), registry, archive: Archive::new(Some(disk.clone()), feed) };
        let about = About {
            role: "leader",
            node,
            url,
            not_promoted: None,
            default_ack: Some(writer_settings(settings).default_ack()),
        };
        let (nodes, browsers) = (node_access(settings), browser_policy(settings));
        let api = Api { view, role, nodes, browsers, metrics, about: Arc::new(about) };
        let server = Server::start(held.listening.share()?, api, http_settings(settings))?;
        Ok(Self { server, leader, thread, disk, _lock: lock })
    }

    /// Gives the address it listens on.
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
        self.end(STOP_GRACE)
    }

    /// As [`Leading::stop`], with so much time for requests in flight.
    pub(super) fn end(self, grace: Duration) -> Result<(), NodeError> {
        let Self { server, leader, thread, disk, _lock: lock } = self;
        leader.view().set_ready(false);
        if !server.stop(grace) {
            tracing::warn!("requests were still in flight after {grace:?} and were cut off");
        }
        leader.stop();
        let end = thread.join().map_err(|_| NodeError::Stop("the writer thread panicked".into()))?;
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
}

/// Says that a database begins. In another working directory than usual it does so by mistake: the whole path tells.
fn tell_of_new(settings: &Settings) {
    let path = settings.data_dir.as_deref().unwrap_or(Path::new(""));
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    tracing::warn!("a new database begins in {}, which held none: it starts without counts", path.display());
}

/// Says what was found.
fn tell_of(recovered: &Recovered, position: Position, wall: WallClock) {
    let Recovered { manifest, store, report, new, .. } = recovered;
    let ahead_ms = wall.ahead_of_ms(store.time_ms());
    if store.time_ms() > LoggedTime::ZERO && -ahead_ms > CLOCK_BEHIND_MS {
        tracing::warn!(
            "the last record was logged {} s ahead of this machine's clock, which is wrong now or was wrong then: keys and \
             streams go on ageing from there, by the time this node runs",
            -ahead_ms / 1_000
        );
    }
    let identity = &manifest.identity;
    let found = if *new { "a new database".to_owned() } else { report.to_string() };
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
