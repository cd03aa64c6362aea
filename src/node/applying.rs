//! The thread of a replica, and what is taken without it.
//!
//! The state machine lies behind a lock. The thread holds it while it handles what has come; a thread that serves HTTP
//! only tries it, and takes a small offer itself where nothing waits in front and no more than an append and an apply
//! is to be done (`docs/decisions/0013-offers-at-once.md`).

use super::{
    contact::Order,
    workers::{Wanted, Workers, tell_of_failure},
};
use crate::{
    client::Forward,
    clock::{Clock, Monotonic},
    failpoint,
    format::Identity,
    limits,
    metrics::Metrics,
    replica::{Action, AtOnce, Event, Follower, Replica},
    replication::{Answer, Members},
    view::Current,
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
pub(super) type Reply = oneshot::Sender<Answer>;

/// A replica and what it works with.
pub(super) struct Hands {
    pub(super) replica: Replica<Reply>,
    pub(super) follower: Follower,
    pub(super) workers: Option<Workers>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) forward: Forward,
    pub(super) identity: Option<Identity>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) actions: Vec<Action<Reply>>,
}

/// A replica at work.
pub(super) struct Applying {
    follower: Follower,
    /// Nothing is left of it after the end, or a panic.
    hands: Mutex<Option<Hands>>,
}

/// The replica in the hands of one thread.
struct Alone<'a> {
    follower: &'a Follower,
    hands: MutexGuard<'a, Option<Hands>>,
}

impl<'a> Alone<'a> {
    /// `None` if the replica has ended.
    fn with(follower: &'a Follower, hands: MutexGuard<'a, Option<Hands>>) -> Option<Self> {
        hands.is_some().then_some(Self { follower, hands })
    }

    fn end(mut self) -> Hands {
        self.hands.take().expect("it is there until this")
    }
}

impl Deref for Alone<'_> {
    type Target = Hands;

    fn deref(&self) -> &Hands {
        self.hands.as_ref().expect("it was looked at")
    }
}

impl DerefMut for Alone<'_> {
    fn deref_mut(&mut self) -> &mut Hands {
        self.hands.as_mut().expect("it was looked at")
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // Nobody knows how far it has come, so nobody goes on with it: the thread finds nothing, and ends as if it
            // had panicked itself.
            *self.hands = None;
            self.follower.tell(Event::Stop);
        }
    }
}

/// However the thread ends, nobody waits for it any more.
struct End(Follower);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Applying {
    /// A replica that was built, with the actions that were left by that.
    pub(super) fn new(mut hands: Hands) -> Arc<Self> {
        hands.act();
        let follower = hands.follower.clone();
        let applying = Arc::new(Self { follower: follower.clone(), hands: Mutex::new(Some(hands)) });
        let taker: Arc<dyn AtOnce> = applying.clone();
        follower.take_at_once(Arc::downgrade(&taker));
        applying
    }

    /// The thread, until it is told to stop; gives the replica at rest.
    ///
    /// # Panics
    /// If taking an offer has panicked on another thread.
    pub(super) fn run(&self) -> Replica<Reply> {
        let _end = End(self.follower.clone());
        let (mut events, mut stopping, mut patience) = (VecDeque::new(), false, Duration::ZERO);
        loop {
            self.follower.wait(patience);
            let hands = Alone::with(&self.follower, self.hands.lock());
            let mut hands = hands.expect("no panic while an offer was taken");
            // With the lock held: what is taken here is in front of what comes from now on.
            self.follower.take(&mut events);
            let now = hands.clock.monotonic();
            for event in events.drain(..) {
                stopping |= matches!(event, Event::Stop);
                hands.handle(event, now);
                hands.act();
            }
            hands.time_passes(now, stopping);
            hands.act();
            if stopping && hands.replica.is_at_rest() {
                return hands.end().replica;
            }
            patience = hands.patience();
        }
    }

    /// The replica, if it is free and nothing waits for its thread.
    fn try_alone(&self) -> Option<Alone<'_>> {
        let hands = Alone::with(&self.follower, self.hands.try_lock()?)?;
        self.follower.is_idle().then_some(hands)
    }
}

impl AtOnce for Applying {
    fn offered(&self, bytes: &Bytes, reply: Reply) -> Result<(), Reply> {
        if bytes.len() > limits::OFFER_AT_ONCE_BYTES {
            return Err(reply);
        }
        let Some(mut hands) = self.try_alone() else { return Err(reply) };
        let Hands { replica, actions, clock, .. } = &mut *hands;
        replica.offered_at_once(bytes, reply, clock.monotonic(), actions)?;
        hands.act();
        Ok(())
    }
}

impl Hands {
    fn handle(&mut self, event: Event, now: Monotonic) {
        match event {
            Event::Offer(bytes, reply) => self.replica.offered(&bytes, reply, now, &mut self.actions),
            Event::Synced(sync, result) => self.replica.synced(&sync, result, &mut self.actions),
            Event::SnapshotEnded(result, took_ms) => {
                result.as_ref().err().into_iter().for_each(tell_of_failure);
                self.replica.snapshot_ended(&result, took_ms, now, &mut self.actions);
            }
            Event::FilesChecked(check, found) => self.replica.files_checked(&check, &found, &mut self.actions),
            Event::Loaded(loaded) => self.replica.loaded(loaded, now, &mut self.actions),
            Event::Stop => {}
        }
    }

    fn time_passes(&mut self, now: Monotonic, stopping: bool) {
        self.replica.tick(now, &mut self.actions);
        if stopping {
            self.replica.start_sync(&mut self.actions);
        } else if self.replica.wants_to_announce(now) {
            // If the last one is still under way, the next will do.
            let _ = self.orders.try_send(Order::Announce(self.replica.hello()));
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
            view.logged_clock().set(clock);
        }
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                // Whoever asked may have gone.
                Action::Answer(reply, answer) => {
                    failpoint::pass("follow.ack.begin");
                    drop(reply.send(answer));
                    failpoint::pass("follow.ack.sent");
                }
                Action::Serve(identity, epochs, reader, sequence) => {
                    self.identity = Some(identity);
                    self.forward.holds(identity.database_id);
                    self.follower.feed().restart(sequence);
                    view.serve(Current { identity, epochs, reader });
                }
                Action::Epochs(epochs) => {
                    if let (Some(identity), Some(store)) = (self.identity, self.replica.store()) {
                        view.serve(Current { identity, epochs, reader: store.reader() });
                    }
                }
                Action::Unready => view.set_ready(false),
                Action::Withdraw => view.withdraw(),
                Action::Published(position, record) => {
                    self.metrics.records.inc();
                    self.metrics.record_bytes.inc_by(record.len() as u64);
                    self.follower.feed().push(position.sequence, record);
                    view.published(position);
                    failpoint::pass("follow.published");
                }
                Action::Stands(position) => view.published(position),
                Action::Members(members) => self.meet(members),
                Action::CaughtUp => {
                    self.forward.heard_of_own();
                    view.caught_up();
                    if !view.is_ready() {
                        tracing::info!("has all that the leader has");
                        view.set_ready(true);
                    }
                }
                Action::Load(identity) => {
                    if self.orders.try_send(Order::Load(identity)).is_err() {
                        self.follower.tell(Event::Loaded(Err("another is under way".into())));
                    }
                }
                Action::Sync(sync) => self.workers.as_ref().expect("it has files").sync(sync),
                Action::Snapshot(identity, reader, mark, place) => {
                    let wanted = Wanted { identity, reader, mark, place };
                    self.workers.as_ref().expect("it has files").snapshot(wanted);
                }
                Action::Alarm(what) => tracing::error!("{what}"),
                Action::CheckFiles(check) => self.workers.as_ref().expect("it has files").check_files(check),
                Action::FilesLost(what) => {
                    tracing::error!(
                        "{what}: this replica follows on in memory, keeps no files, and is not ready. Its leader has everything: \
                         start it again, or, if the leader is gone too, save its counts first (`memdb export`, or GET /sync)"
                    );
                    view.set_files_problem(Some(what));
                }
            }
        }
        self.actions = actions;
    }

    /// The nodes of the cluster, and who leads: writes and orders go there from now on.
    fn meet(&self, members: Members) {
        if !members.leader.is_empty() {
            if let Err(error) = self.forward.lead_by(&members.leader) {
                tracing::error!(error, "writes cannot be passed on");
            }
            // Before an order to load from there.
            let _ = self.orders.try_send(Order::Leader(members.leader.clone()));
        }
        self.follower.meet(members);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        node::MachineClock,
        position::{EpochTable, Position},
        replica::{Found, ReplicaSettings},
        replication::{Command, Feed, Members, Offer, Outcome},
        snapshot::SnapshotSettings,
        store::{Mark, WindowLimits},
        tokenizer::Analyzer,
        view::View,
    };

    /// A replica that holds nothing, and whose thread does not run.
    fn applying() -> (Arc<Applying>, mpsc::Receiver<Order>) {
        let settings = ReplicaSettings {
            node: 1,
            url: "http://127.0.0.1:1".into(),
            window: WindowLimits::default(),
            snapshot: SnapshotSettings { interval_ms: 0 },
        };
        let mut actions = Vec::new();
        let replica = Replica::new(settings, None, Found::Nothing, None, Monotonic::default(), &mut actions);
        let (orders, ordered) = mpsc::channel(4);
        let hands = Hands {
            replica,
            follower: Follower::new(Arc::new(View::new(true)), Arc::new(Feed::new(0, 0))),
            workers: None,
            metrics: Arc::new(Metrics::new(
                crate::metrics::NodeRole::MemoryReplica,
                crate::metrics::NodeLimits::default(),
            )),
            orders,
            forward: Forward::new(None, || Ok(1)).expect("a client"),
            identity: None,
            clock: Arc::new(MachineClock),
            actions,
        };
        (Applying::new(hands), ordered)
    }

    /// What a leader that has written nothing says every quarter of a second.
    fn heartbeat() -> Offer<'static> {
        let identity = Identity { database_id: 1, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 1 };
        Offer {
            identity,
            leader: 5,
            epoch: 1,
            epochs: EpochTable::default(),
            last: Mark { position: Position::new(1, 0), ..Mark::default() },
            command: Command::Stream,
            after: Position::ZERO,
            durable: false,
            members: None,
            records: &[],
        }
    }

    /// What becomes of an offer that may be taken at once: `None` if it is for the thread.
    fn at_once(applying: &Applying, bytes: impl Into<Bytes>) -> Option<Outcome> {
        let (reply, mut answer) = oneshot::channel();
        applying.offered(&bytes.into(), reply).ok()?;
        Some(answer.try_recv().expect("it is answered by then").outcome)
    }

    /// The first offer is handled, in the place of the thread.
    fn begin(applying: &Applying) {
        let (reply, mut answer) = oneshot::channel();
        let mut hands = applying.try_alone().expect("it is free");
        hands.handle(Event::Offer(heartbeat().encode_head().into(), reply), Monotonic::default());
        hands.act();
        assert_eq!(answer.try_recv().expect("answered").outcome, Outcome::Applied);
    }

    #[test]
    fn what_begins_something_is_for_the_thread_and_what_goes_on_is_taken_at_once() {
        let (applying, _ordered) = applying();
        assert_eq!(at_once(&applying, heartbeat().encode_head()), None, "it begins with nothing");
        begin(&applying);
        assert_eq!(at_once(&applying, heartbeat().encode_head()), Some(Outcome::Applied));
        let members = Some(Members { leader: "http://127.0.0.1:2".into(), replicas: vec![] });
        assert_eq!(at_once(&applying, Offer { members, ..heartbeat() }.encode_head()), None);
        assert_eq!(at_once(&applying, Offer { epoch: 2, ..heartbeat() }.encode_head()), None);
        let padded = |bytes: usize| {
            let mut offer = heartbeat().encode_head();
            offer.resize(bytes, 0);
            offer
        };
        let at_most = limits::OFFER_AT_ONCE_BYTES;
        assert!(matches!(at_once(&applying, padded(at_most)), Some(Outcome::Unreadable(_))), "zeros are no records");
        assert_eq!(at_once(&applying, padded(at_most + 1)), None);
    }

    #[test]
    fn no_offer_overtakes_what_waits_for_the_thread_or_is_in_its_hands() {
        let (applying, _ordered) = applying();
        begin(&applying);
        let busy = applying.try_alone().expect("it is free");
        assert_eq!(at_once(&applying, heartbeat().encode_head()), None, "the thread has it");
        drop(busy);
        // One that counts against no bound of the queue, too.
        applying.follower.tell(Event::Loaded(Err("on purpose".into())));
        assert_eq!(at_once(&applying, heartbeat().encode_head()), None, "something is in front");
        applying.follower.take(&mut VecDeque::new());
        assert_eq!(at_once(&applying, heartbeat().encode_head()), Some(Outcome::Applied));
    }

    #[tokio::test]
    async fn both_ways_lead_to_one_replica_which_the_end_closes() {
        let (applying, _ordered) = applying();
        let follower = applying.follower.clone();
        let thread = thread::Builder::new().spawn(move || applying.run()).expect("a thread");
        for _ in 0..100 {
            let answer = follower.offer(heartbeat().encode_head().into()).await.expect("it is answered");
            assert_eq!((answer.outcome, answer.hello.position), (Outcome::Applied, Position::new(1, 0)));
        }
        follower.tell(Event::Stop);
        let replica = thread.join().expect("no panic");
        assert_eq!(replica.hello().position, Position::new(1, 0));
        assert_eq!(follower.offer(heartbeat().encode_head().into()).await, None, "it has ended");
    }

    #[tokio::test]
    async fn a_panic_where_an_offer_is_taken_ends_the_replica() {
        let (applying, _ordered) = applying();
        let follower = applying.follower.clone();
        begin(&applying);
        let dying = Arc::clone(&applying);
        let died = thread::Builder::new().spawn(move || {
            let _hands = dying.try_alone().expect("it is free");
            panic!("on purpose");
        });
        assert!(died.expect("a thread").join().is_err());
        assert_eq!(at_once(&applying, heartbeat().encode_head()), None, "nobody goes on with it");
        let thread = thread::Builder::new().spawn(move || applying.run()).expect("a thread");
        follower.ended().await;
        assert!(thread.join().is_err(), "as if its thread had panicked");
        assert_eq!(follower.offer(heartbeat().encode_head().into()).await, None);
    }
}
