//! The thread of a replica, and what is taken without it.
//!
//! The state machine lies behind a lock. The thread holds it while it handles what has come; a thread that serves HTTP
//! only tries it, and takes a small offer itself where nothing waits in front and no more than an append and an apply
//! is to be done (`docs/decisions/0013-offers-at-once.md`).

use super::{
    discovery::DiscoveryCommand,
    disk_workers::{DiskWorkers, SnapshotRequest, log_failure},
};
use crate::{
    base::clock::{Clock, Monotonic},
    base::failpoint,
    base::limits,
    base::metrics::NodeMetrics,
    base::position::Epoch,
    engine::replica::{InlineApply, Replica, ReplicaAction, ReplicaEvent, ReplicaHandle},
    engine::view::ServedDatabase,
    net::write_forwarder::WriteForwarder,
    replication::{AppendAnswer, ClusterMembers},
};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::VecDeque,
    ops::{Deref, DerefMut},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// Interval at which the replica's thread looks at the time with nothing else to do.
const TICK: Duration = Duration::from_millis(limits::ANNOUNCE_MS / 2);

/// The channel of an answer to the leader.
pub(in crate::node) type AnswerSender = oneshot::Sender<AppendAnswer>;

/// A replica and what it works with.
pub(in crate::node) struct ReplicaState {
    pub(in crate::node) replica: Replica<AnswerSender>,
    pub(in crate::node) follower: ReplicaHandle,
    pub(in crate::node) workers: Option<DiskWorkers>,
    pub(in crate::node) metrics: Arc<NodeMetrics>,
    pub(in crate::node) orders: mpsc::Sender<DiscoveryCommand>,
    pub(in crate::node) forward: WriteForwarder,
    pub(in crate::node) clock: Arc<dyn Clock>,
    pub(in crate::node) actions: Vec<ReplicaAction<AnswerSender>>,
    /// True if the next role of this process waits for the end.
    pub(in crate::node) hands_over: bool,
    /// The epoch by whose leader readers count logged time ([`Replica::counts_in`]).
    pub(in crate::node) counts_in: Epoch,
}

/// A replica at work.
pub(in crate::node) struct ReplicaDriver {
    follower: ReplicaHandle,
    /// Nothing is left of it after the end, or a panic.
    hands: Mutex<Option<ReplicaState>>,
}

/// The replica in the hands of one thread.
struct DriverGuard<'a> {
    follower: &'a ReplicaHandle,
    hands: MutexGuard<'a, Option<ReplicaState>>,
}

impl<'a> DriverGuard<'a> {
    /// `None` if the replica has ended.
    fn with(follower: &'a ReplicaHandle, hands: MutexGuard<'a, Option<ReplicaState>>) -> Option<Self> {
        hands.is_some().then_some(Self { follower, hands })
    }

    fn end(mut self) -> ReplicaState {
        self.hands.take().expect("it is there until this")
    }
}

impl Deref for DriverGuard<'_> {
    type Target = ReplicaState;

    fn deref(&self) -> &ReplicaState {
        self.hands.as_ref().expect("it was looked at")
    }
}

impl DerefMut for DriverGuard<'_> {
    fn deref_mut(&mut self) -> &mut ReplicaState {
        self.hands.as_mut().expect("it was looked at")
    }
}

impl Drop for DriverGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // Nobody knows how far it has come, so nobody goes on with it: the thread finds nothing, and ends as if it
            // had panicked itself.
            *self.hands = None;
            self.follower.send(ReplicaEvent::Stop);
        }
    }
}

/// However the thread ends, nobody waits for it any more.
struct NotifyOnExit(ReplicaHandle);

impl Drop for NotifyOnExit {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl ReplicaDriver {
    /// A replica that was built, with the actions that were left by that.
    pub(in crate::node) fn new(mut hands: ReplicaState) -> Arc<Self> {
        hands.act();
        let follower = hands.follower.clone();
        let applying = Arc::new(Self { follower: follower.clone(), hands: Mutex::new(Some(hands)) });
        let taker: Arc<dyn InlineApply> = applying.clone();
        follower.set_inline_apply(Arc::downgrade(&taker));
        applying
    }

    /// The thread, until it is told to stop; gives the replica at rest.
    ///
    /// # Panics
    /// If taking an offer has panicked on another thread.
    pub(in crate::node) fn run(&self) -> Replica<AnswerSender> {
        let _end = NotifyOnExit(self.follower.clone());
        let (mut events, mut stopping, mut patience) = (VecDeque::new(), false, Duration::ZERO);
        loop {
            self.follower.wait(patience);
            let hands = DriverGuard::with(&self.follower, self.hands.lock());
            let mut hands = hands.expect("no panic while an offer was taken");
            // With the lock held: what is taken here is in front of what comes from now on.
            self.follower.take(&mut events);
            let now = hands.clock.monotonic();
            for event in events.drain(..) {
                hands.hands_over |= matches!(event, ReplicaEvent::HandOver);
                stopping |= matches!(event, ReplicaEvent::Stop | ReplicaEvent::HandOver);
                hands.handle(event, now);
                hands.act();
            }
            hands.time_passes(now, stopping);
            hands.act();
            if hands.hands_over {
                hands.replica.cancel_snapshot();
            }
            if stopping && hands.replica.is_at_rest() {
                return hands.end().replica;
            }
            patience = hands.patience();
        }
    }

    /// The replica, if it is free and nothing waits for its thread.
    fn try_lock(&self) -> Option<DriverGuard<'_>> {
        let hands = DriverGuard::with(&self.follower, self.hands.try_lock()?)?;
        self.follower.is_idle().then_some(hands)
    }
}

impl InlineApply for ReplicaDriver {
    fn try_apply(&self, bytes: &Bytes, reply: AnswerSender) -> Result<(), AnswerSender> {
        if bytes.len() > limits::OFFER_AT_ONCE_BYTES {
            return Err(reply);
        }
        let Some(mut hands) = self.try_lock() else { return Err(reply) };
        let ReplicaState { replica, actions, clock, .. } = &mut *hands;
        replica.try_apply_inline(bytes, reply, clock.monotonic(), actions)?;
        hands.act();
        Ok(())
    }
}

impl ReplicaState {
    fn handle(&mut self, event: ReplicaEvent, now: Monotonic) {
        match event {
            ReplicaEvent::Offer(bytes, reply) => self.replica.on_append_request(&bytes, reply, now, &mut self.actions),
            ReplicaEvent::Synced(sync, result) => self.replica.synced(&sync, result, &mut self.actions),
            ReplicaEvent::SnapshotEnded(result, took_ms) => {
                result.as_ref().err().filter(|_| !self.hands_over).into_iter().for_each(log_failure);
                self.replica.snapshot_ended(&result, took_ms, now, &mut self.actions);
            }
            ReplicaEvent::FilesChecked(check, found) => self.replica.files_checked(&check, &found, &mut self.actions),
            ReplicaEvent::Loaded(loaded) => self.replica.loaded(loaded, now, &mut self.actions),
            ReplicaEvent::Stop | ReplicaEvent::HandOver => {}
        }
    }

    fn time_passes(&mut self, now: Monotonic, stopping: bool) {
        self.replica.tick(now, &mut self.actions);
        if stopping {
            self.replica.start_sync(&mut self.actions);
        } else if self.replica.wants_to_announce(now) {
            // If the last one is still under way, the next will do.
            let _ = self.orders.try_send(DiscoveryCommand::Announce(self.replica.node_state()));
        }
    }

    /// Gives the time that the thread may wait for the next event.
    fn patience(&self) -> Duration {
        let left_ms = |at: Monotonic| at.since_ms(self.clock.monotonic()).max(1);
        let due = self.replica.next_tick().map(|at| Duration::from_millis(left_ms(at)));
        due.map_or(TICK, |due| due.min(TICK))
    }

    fn act(&mut self) {
        let view = Arc::clone(self.follower.view());
        if let Some(clock) = self.replica.logged_clock() {
            // A replica that catches up has records of long ago: by their time, what has expired would show again. Only
            // a leader that has counted less, and writes now, sets it back.
            match std::mem::replace(&mut self.counts_in, self.replica.counts_in()) == self.counts_in {
                true => view.logged_clock().follow(clock),
                false => view.logged_clock().set(clock),
            }
        }
        view.set_incarnation(self.replica.incarnation());
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                // Whoever asked may have gone.
                ReplicaAction::Answer(reply, answer) => {
                    failpoint::pass("follow.ack.begin");
                    drop(reply.send(answer));
                    failpoint::pass("follow.ack.sent");
                }
                ReplicaAction::Serve(identity, reader, sequence) => {
                    self.forward.holds(identity.database_id);
                    self.follower.backlog().restart(sequence);
                    view.serve(ServedDatabase { identity, reader });
                }
                ReplicaAction::Unready => view.set_ready(false),
                ReplicaAction::Withdraw => view.withdraw(),
                ReplicaAction::Published(position, record) => {
                    self.metrics.records.inc();
                    self.metrics.record_bytes.inc_by(record.len() as u64);
                    self.follower.backlog().push(position.sequence, record);
                    view.published(position);
                    failpoint::pass("follow.published");
                }
                ReplicaAction::Stands(position) => view.published(position),
                ReplicaAction::Members(members) => self.meet(members),
                ReplicaAction::CaughtUp => {
                    self.forward.heard_of_own();
                    view.caught_up();
                    if !view.is_ready() {
                        tracing::info!("has all that the leader has");
                        view.set_ready(true);
                    }
                }
                ReplicaAction::Load(identity) => {
                    if self.orders.try_send(DiscoveryCommand::Load(identity)).is_err() {
                        self.follower.send(ReplicaEvent::Loaded(Err("another is under way".into())));
                    }
                }
                ReplicaAction::Sync(sync) => self.workers.as_ref().expect("it has files").sync(sync),
                ReplicaAction::Snapshot(identity, reader, mark, place) => {
                    let wanted = SnapshotRequest { identity, reader, mark, place };
                    self.workers.as_ref().expect("it has files").snapshot(wanted);
                }
                ReplicaAction::Alarm(what) => tracing::error!("{what}"),
                ReplicaAction::CheckFiles(check) => self.workers.as_ref().expect("it has files").check_files(check),
                ReplicaAction::FilesLost(what) => {
                    tracing::error!(
                        "{what}: this replica follows on in memory, keeps no files, and is not ready. Its leader has everything: \
                         start it again, or, if the leader is gone too, save its counts first (GET /sync of each namespace)"
                    );
                    view.set_files_problem(Some(what));
                }
            }
        }
        self.actions = actions;
    }

    /// The nodes of the cluster, and who leads: writes and orders go there from now on.
    fn meet(&self, members: ClusterMembers) {
        if !members.leader.is_empty() {
            if let Err(error) = self.forward.lead_by(&members.leader) {
                tracing::error!(error, "writes cannot be passed on");
            }
            // Before an order to load from there.
            let _ = self.orders.try_send(DiscoveryCommand::Leader(members.leader.clone()));
        }
        self.follower.note_members(members);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::position::{EpochTable, Position},
        data::store::{DedupLimits, StateId},
        engine::replica::{ReplicaFindings, ReplicaSettings},
        engine::view::DatabaseView,
        net::tls::client::ClientTls,
        node::MachineClock,
        replication::{AppendCommand, AppendOutcome, AppendRequest, ClusterMembers, ReplicationBacklog},
        storage::file_header::DatabaseIdentity,
        storage::snapshot::SnapshotSettings,
        text::tokenizer::Analyzer,
    };

    /// A replica that holds nothing, and whose thread does not run.
    fn applying() -> (Arc<ReplicaDriver>, mpsc::Receiver<DiscoveryCommand>) {
        let settings = ReplicaSettings {
            node: 1,
            url: "http://127.0.0.1:1".into(),
            window: DedupLimits::default(),
            snapshot: SnapshotSettings { interval_ms: 0 },
        };
        let mut actions = Vec::new();
        let replica = Replica::new(settings, None, ReplicaFindings::Nothing, None, Monotonic::default(), &mut actions);
        let (orders, ordered) = mpsc::channel(4);
        let hands = ReplicaState {
            replica,
            follower: ReplicaHandle::new(Arc::new(DatabaseView::new(true)), Arc::new(ReplicationBacklog::new(0, 0))),
            workers: None,
            metrics: Arc::new(NodeMetrics::new(
                crate::base::metrics::NodeRole::MemoryReplica,
                crate::base::metrics::NodeLimits::default(),
                &[],
            )),
            orders,
            forward: WriteForwarder::new(None, &ClientTls::default(), || Ok(1)).expect("a client"),
            clock: Arc::new(MachineClock),
            actions,
            hands_over: false,
            counts_in: 0,
        };
        (ReplicaDriver::new(hands), ordered)
    }

    /// What a leader that has written nothing says every quarter of a second.
    fn heartbeat() -> AppendRequest<'static> {
        let identity = DatabaseIdentity { database_id: 1, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 1 };
        AppendRequest {
            identity,
            leader: 5,
            epoch: 1,
            epochs: EpochTable::default(),
            last: StateId { position: Position::new(1, 0), ..StateId::default() },
            command: AppendCommand::Append,
            after: Position::ZERO,
            durable: false,
            members: None,
            records: &[],
        }
    }

    /// What becomes of an offer that may be taken at once: `None` if it is for the thread.
    fn at_once(applying: &ReplicaDriver, bytes: impl Into<Bytes>) -> Option<AppendOutcome> {
        let (reply, mut answer) = oneshot::channel();
        applying.try_apply(&bytes.into(), reply).ok()?;
        Some(answer.try_recv().expect("it is answered by then").outcome)
    }

    /// The first offer is handled, in the place of the thread.
    fn begin(applying: &ReplicaDriver) {
        let (reply, mut answer) = oneshot::channel();
        let mut hands = applying.try_lock().expect("it is free");
        hands.handle(ReplicaEvent::Offer(heartbeat().encode_head().into(), reply), Monotonic::default());
        hands.act();
        assert_eq!(answer.try_recv().expect("answered").outcome, AppendOutcome::Applied);
    }

    #[test]
    fn a_request_that_starts_an_epoch_is_for_the_thread_and_one_that_goes_on_is_applied_inline() {
        let (applying, _ordered) = applying();
        assert_eq!(at_once(&applying, heartbeat().encode_head()), None, "it begins with nothing");
        begin(&applying);
        assert_eq!(at_once(&applying, heartbeat().encode_head()), Some(AppendOutcome::Applied));
        let members = Some(ClusterMembers { leader: "http://127.0.0.1:2".into(), replicas: vec![] });
        assert_eq!(at_once(&applying, AppendRequest { members, ..heartbeat() }.encode_head()), None);
        assert_eq!(at_once(&applying, AppendRequest { epoch: 2, ..heartbeat() }.encode_head()), None);
        let padded = |bytes: usize| {
            let mut offer = heartbeat().encode_head();
            offer.resize(bytes, 0);
            offer
        };
        let at_most = limits::OFFER_AT_ONCE_BYTES;
        assert!(
            matches!(at_once(&applying, padded(at_most)), Some(AppendOutcome::Unreadable(_))),
            "zeros are no records"
        );
        assert_eq!(at_once(&applying, padded(at_most + 1)), None);
    }

    #[test]
    fn an_append_request_overtakes_none_that_the_thread_has_or_is_to_have() {
        let (applying, _ordered) = applying();
        begin(&applying);
        let busy = applying.try_lock().expect("it is free");
        assert_eq!(at_once(&applying, heartbeat().encode_head()), None, "the thread has it");
        drop(busy);
        // One that counts against no bound of the queue, too.
        applying.follower.send(ReplicaEvent::Loaded(Err("on purpose".into())));
        assert_eq!(at_once(&applying, heartbeat().encode_head()), None, "something is in front");
        applying.follower.take(&mut VecDeque::new());
        assert_eq!(at_once(&applying, heartbeat().encode_head()), Some(AppendOutcome::Applied));
    }

    #[tokio::test]
    async fn a_replica_is_reached_both_ways_until_the_end_closes_it() {
        let (applying, _ordered) = applying();
        let follower = applying.follower.clone();
        let thread = thread::Builder::new().spawn(move || applying.run()).expect("a thread");
        for _ in 0..100 {
            let answer = follower.append(heartbeat().encode_head().into()).await.expect("it is answered");
            assert_eq!((answer.outcome, answer.hello.position), (AppendOutcome::Applied, Position::new(1, 0)));
        }
        follower.send(ReplicaEvent::Stop);
        let replica = thread.join().expect("no panic");
        assert_eq!(replica.node_state().position, Position::new(1, 0));
        assert_eq!(follower.append(heartbeat().encode_head().into()).await, None, "it has ended");
    }

    #[tokio::test]
    async fn a_panic_where_an_offer_is_taken_ends_the_replica() {
        let (applying, _ordered) = applying();
        let follower = applying.follower.clone();
        begin(&applying);
        let dying = Arc::clone(&applying);
        let died = thread::Builder::new().spawn(move || {
            let _hands = dying.try_lock().expect("it is free");
            panic!("on purpose");
        });
        assert!(died.expect("a thread").join().is_err());
        assert_eq!(at_once(&applying, heartbeat().encode_head()), None, "nobody goes on with it");
        let thread = thread::Builder::new().spawn(move || applying.run()).expect("a thread");
        follower.ended().await;
        assert!(thread.join().is_err(), "as if its thread had panicked");
        assert_eq!(follower.append(heartbeat().encode_head().into()).await, None);
    }
}
