//! The handle of a running replica: handlers give it what the leader sends.

use super::LoadedSnapshot;
use crate::{
    base::limits,
    base::position::Epoch,
    engine::leader::BoundedQueue,
    engine::view::DatabaseView,
    replication::{AppendAnswer, ClusterMembers, ReplicationBacklog},
    storage::file_header::FileError,
    storage::snapshot::PublishedSnapshot,
    storage::wal::{FileCheck, FileCheckResult, SyncJob},
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// An input of the replica's thread.
pub enum ReplicaEvent {
    /// An append request of the leader, as bytes.
    Offer(Bytes, oneshot::Sender<AppendAnswer>),
    /// A sync has ended.
    Synced(SyncJob, io::Result<()>),
    /// A look at the files has ended.
    FilesChecked(FileCheck, FileCheckResult),
    /// A snapshot has ended, after so many milliseconds.
    SnapshotEnded(Result<PublishedSnapshot, FileError>, u64),
    /// The leader's snapshot was loaded, or not.
    Loaded(Result<LoadedSnapshot, String>),
    /// No more requests come: sync, and end.
    Stop,
    /// As [`ReplicaEvent::Stop`], and soon: the next role of this process waits.
    HandOver,
}

/// Handles append requests on the threads that receive them, in the place of the replica's own.
pub trait InlineApply: Send + Sync {
    /// Handles an append request, if it has to wait for nothing and is quickly done.
    ///
    /// # Errors
    /// Where to answer, given back: the request is for the replica's thread.
    fn try_apply(
        &self,
        bytes: &Bytes,
        reply: oneshot::Sender<AppendAnswer>,
    ) -> Result<(), oneshot::Sender<AppendAnswer>>;
}

/// Gives events to the thread of a replica. Cheap to clone.
#[derive(Clone)]
pub struct ReplicaHandle {
    shared: Arc<ReplicaChannel>,
}

struct ReplicaChannel {
    view: Arc<DatabaseView>,
    feed: Arc<ReplicationBacklog>,
    queue: BoundedQueue<ReplicaEvent>,
    at_once: OnceLock<Weak<dyn InlineApply>>,
    members: Mutex<ClusterMembers>,
    promotions: mpsc::Sender<PromotionRequest>,
    wanted: tokio::sync::Mutex<mpsc::Receiver<PromotionRequest>>,
    ended: CancellationToken,
}

/// Somebody wants this replica to lead, and waits for the epoch in which it will, or why not.
pub struct PromotionRequest {
    /// True if records that other nodes may have do not matter.
    pub force: bool,
    /// The recipient of the answer.
    pub reply: oneshot::Sender<Result<Epoch, String>>,
}

/// Requests that may wait. A leader has one under way; after a time-out there may be another.
const OFFERS: usize = 16;

impl ReplicaHandle {
    /// A handle for a replica that is about to run. What it applies is seen in `view`; `feed` keeps its newest records,
    /// for a leader that has lost them.
    pub fn new(view: Arc<DatabaseView>, feed: Arc<ReplicationBacklog>) -> Self {
        let queue = BoundedQueue::new(OFFERS, 2 * limits::MAX_OFFER_BYTES);
        let (promotions, wanted) = mpsc::channel(1);
        let wanted = tokio::sync::Mutex::new(wanted);
        let (at_once, members, ended) = Default::default();
        Self { shared: Arc::new(ReplicaChannel { view, feed, queue, at_once, members, promotions, wanted, ended }) }
    }

    /// Gives the view that this replica serves.
    pub fn view(&self) -> &Arc<DatabaseView> {
        &self.shared.view
    }

    /// Its newest records.
    pub fn backlog(&self) -> &Arc<ReplicationBacklog> {
        &self.shared.feed
    }

    /// From now on requests that only append and apply records are handled inline, by `taker`, as long as it lives.
    pub fn set_inline_apply(&self, taker: Weak<dyn InlineApply>) {
        // A replica has one; a second would be ignored.
        let _ = self.shared.at_once.set(taker);
    }

    /// Hands an append request over; `None` if the replica is stopping, or has more to do than it can.
    pub async fn append(&self, bytes: Bytes) -> Option<AppendAnswer> {
        let (reply, answer) = oneshot::channel();
        let taker = self.shared.at_once.get().and_then(Weak::upgrade);
        let taken = match taker {
            Some(taker) => taker.try_apply(&bytes, reply),
            None => Err(reply),
        };
        if let Err(reply) = taken {
            let size = bytes.len();
            // Refused and not waited for: the leader asks again, and would only find an older request in front of its
            // next one.
            self.shared.queue.try_push(ReplicaEvent::Offer(bytes, reply), size, None).ok()?;
        }
        answer.await.ok()
    }

    /// Asks that this replica lead; gives the epoch in which it is about to. `None` if that is asked for already.
    pub async fn promote(&self, force: bool) -> Option<Result<Epoch, String>> {
        let (reply, answer) = oneshot::channel();
        self.shared.promotions.try_send(PromotionRequest { force, reply }).ok()?;
        answer.await.ok()
    }

    /// For whoever can make it lead: the next who asks.
    pub async fn promotion(&self) -> PromotionRequest {
        self.shared
            .wanted
            .lock()
            .await
            .recv()
            .await
            .expect("this holds the other end, and nothing is closed before the role ends")
    }

    /// It is decided: nobody else may ask.
    pub async fn refuse_promotions(&self) {
        let mut wanted = self.shared.wanted.lock().await;
        wanted.close();
        while let Ok(promotion) = wanted.try_recv() {
            let _ = promotion.reply.send(Err("it is about to lead already".to_owned())); // whoever asked may have gone
        }
    }

    /// The nodes of the cluster, as far as the leader has listed them.
    pub fn members(&self) -> ClusterMembers {
        self.shared.members.lock().clone()
    }

    /// For the replica's thread: these are the nodes of the cluster.
    pub fn note_members(&self, members: ClusterMembers) {
        *self.shared.members.lock() = members;
    }

    /// Hands an event to the replica's thread.
    pub fn send(&self, event: ReplicaEvent) {
        self.shared.queue.push(event);
    }

    /// For the replica's thread: waits up to `patience` for something to do.
    pub fn wait(&self, patience: Duration) {
        self.shared.queue.wait(Some(patience));
    }

    /// For the replica's thread: moves what has come to `into`.
    pub fn take(&self, into: &mut VecDeque<ReplicaEvent>) {
        self.shared.queue.take(into, Some(Duration::ZERO));
    }

    /// Returns whether nothing waits for the replica's thread.
    pub fn is_idle(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Returns once the replica's thread has ended.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// For the replica's thread: it ends. What came too late is dropped, and so answered.
    pub fn end(&self) {
        self.shared.ended.cancel();
        drop(self.shared.queue.close());
    }
}
