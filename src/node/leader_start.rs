//! The begin of a leader's epoch: what readers see before and behind it, and what then runs it.

use super::{
    NodeError,
    leader_files::LeaderFiles,
    machine::random,
    resources::NodeResources,
    threads::{
        disk_workers::{DiskWorkResult, DiskWorkers, WorkListener},
        replication::{ReplicationContext, ReplicationThread},
        sidelined_log::SidelinedLog,
        writer::{self, PromiseStore},
    },
};
use crate::{
    base::clock::{Clock, LoggedClock, LoggedTime},
    base::metrics::NodeMetrics,
    config::{Durability, LeadershipSettings},
    engine::leader::{AdmissionLimits, Leader, LeaderEvent, StepDownGate, WriteReply, Writer, WriterSettings},
    engine::view::ServedDatabase,
    replication::{NodeId, NodeState, PeerRegistry},
    storage::manifest::Manifest,
    storage::recovery::{RecoveredDatabase, WritableDatabase},
    storage::snapshot::SnapshotSettings,
};
use parking_lot::Mutex;
use std::{io, sync::Arc};
use tokio::sync::mpsc;

/// A leader whose epoch is to begin.
pub(super) struct LeaderStart {
    pub(super) files: LeaderFiles,
    pub(super) node: NodeId,
    pub(super) clock: Arc<dyn Clock>,
    /// The process's count of logged time in an earlier role.
    pub(super) before: Option<LoggedClock>,
    leadership: LeadershipSettings,
    pub(super) leader: Leader,
    pub(super) metrics: Arc<NodeMetrics>,
    pub(super) registry: PeerRegistry,
    pub(super) announced: mpsc::Receiver<NodeState>,
    /// The count of logged time behind the record of this time.
    pub(super) counted: Option<(LoggedTime, LoggedClock)>,
}

impl LeaderStart {
    pub(super) fn new(
        held: &NodeResources,
        files: LeaderFiles,
        leader: Leader,
        metrics: Arc<NodeMetrics>,
        (registry, announced): (PeerRegistry, mpsc::Receiver<NodeState>),
    ) -> Result<Self, NodeError> {
        let node = files.starter.elected.as_ref().map_or_else(random, |elected| Ok(elected.node))?;
        let (clock, before) = (Arc::clone(&held.clock), held.view.logged_clock().get());
        let leadership = held.leadership.clone();
        Ok(Self { files, node, clock, before, leadership, leader, metrics, registry, announced, counted: None })
    }

    /// Serves this to readers.
    fn serve(&mut self, current: ServedDatabase, last: LoggedTime) -> LoggedClock {
        let now = self.clock.monotonic();
        let counted = self.counted.filter(|(behind, _)| *behind == last).map(|(_, clock)| clock);
        let clock = counted.unwrap_or_else(|| LoggedClock::of_a_leader(self.before, last, self.clock.wall(), now));
        self.counted = Some((last, clock));
        let view = self.leader.view();
        view.logged_clock().set(clock);
        view.serve(current);
        clock
    }

    /// Serves what was recovered, before its epoch begins.
    pub(super) fn serve_recovered(&mut self, recovered: &RecoveredDatabase) {
        let (identity, reader) = (recovered.manifest.identity, recovered.store.reader());
        self.serve(ServedDatabase { identity, reader }, recovered.store.time_ms());
    }

    /// The epoch has begun: gives what runs it. Its replicas are served from here on.
    pub(super) fn lead(mut self, settled: WritableDatabase) -> io::Result<LeaderParts> {
        let WritableDatabase { manifest, store, log, snapshot, schedule, .. } = settled;
        let identity = manifest.identity;
        let epochs = manifest.state.epochs.clone();
        let current = ServedDatabase { identity, reader: store.reader() };
        let logged_clock = self.serve(current, store.time_ms());
        let last = store.mark().position;
        let Self { files, node, clock, leadership, leader, metrics, registry, announced, .. } = self;
        let LeaderFiles { settings, disk, starter, credentials, .. } = files;
        leader.backlog().restart(last.sequence);
        leader.view().set_incarnation(manifest.state.incarnation);
        let workers = DiskWorkers::start(&disk, &metrics, &tell(&leader))?;
        let now = clock.monotonic();
        let writer = Writer::new(store, log, writer_settings(&leadership), snapshot, logged_clock, now);
        let writer = writer.with_schedule(schedule).with_quotas(leader.view().quotas().clone());
        let manifest = Arc::new(Mutex::new(manifest));
        let step_down_gate = StepDownGate::new(node, starter.url.clone(), identity, last.epoch);
        let notes = PromiseStore { disk: Arc::clone(&disk), manifest: Arc::clone(&manifest) };
        let place = ReplicationContext {
            leader: leader.clone(),
            node,
            identity,
            clock: Arc::clone(&clock),
            epoch: last.epoch,
            epochs: Arc::new(epochs),
            disk,
            manifest: Arc::clone(&manifest),
            registry,
            credentials,
            configured: settings.replicas().to_vec(),
            serving: Mutex::default(),
            url: starter.url,
            members: Mutex::default(),
        };
        // Seen only once the server runs. A replica may say at once that another leads: that must not be overwritten.
        leader.view().set_ready(true);
        leader.set_no_room(None);
        let replicating = ReplicationThread::start(place, announced)?;
        let sidelined_log = SidelinedLog::start(&clock)?;
        let hands = writer::Hands { writer, step_down_gate, notes, leader, workers, sidelined_log, metrics, clock };
        Ok(LeaderParts { hands, replicating, manifest })
    }
}

/// A leader that leads, before it runs.
pub(super) struct LeaderParts {
    pub(super) hands: writer::Hands,
    pub(super) replicating: ReplicationThread,
    pub(super) manifest: Arc<Mutex<Manifest>>,
}

/// The parts of a leader that has led, for its end.
pub(super) struct LeaderEnd {
    pub(super) writer: Writer<WriteReply>,
    pub(super) replicating: ReplicationThread,
    pub(super) manifest: Arc<Mutex<Manifest>>,
}

/// Gives the callback by which workers report to the Writer.
fn tell(leader: &Leader) -> WorkListener {
    let leader = leader.clone();
    Arc::new(move |done| {
        leader.send(match done {
            DiskWorkResult::Synced(sync, result) => LeaderEvent::Synced(sync, result),
            DiskWorkResult::FilesChecked(check, found) => LeaderEvent::FilesChecked(check, found),
            DiskWorkResult::Snapshot(result, took_ms) => LeaderEvent::SnapshotEnded(result, took_ms),
        });
    })
}

pub(super) fn writer_settings(settings: &LeadershipSettings) -> WriterSettings {
    WriterSettings {
        ack: settings.ack,
        synced: settings.durability == Durability::Synced,
        ack_timeout_ms: settings.ack_timeout_ms,
        admission: AdmissionLimits {
            memory_bytes: usize::try_from(settings.max_memory_bytes).unwrap_or(usize::MAX),
            entry_bytes: usize::try_from(settings.entry_memory_bytes).unwrap_or(usize::MAX),
            post_rate: settings.post_rate,
            ..AdmissionLimits::default()
        },
        counters: settings.counters,
        snapshot: SnapshotSettings { interval_ms: settings.backup_interval_ms },
    }
}
