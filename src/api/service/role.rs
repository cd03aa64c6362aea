//! The role that one serving thread answers in: replaced when the node changes its role, while the server and its
//! connections live on.

use super::{NodeAbout, Service};
use crate::{
    data::command::WriteBatch, engine::leader::Leader, engine::shard::Shard, net::write_forwarder::WriteForwarder,
};
use arc_swap::{ArcSwap, Guard};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Time for which a request that depends on the role waits for the next one to begin. A role that has everything in
/// memory begins within some ten milliseconds; one that reads its files may take longer, and the client is to come
/// again.
const CHANGE_PATIENCE: Duration = Duration::from_secs(3);

/// A shard in its role, with the part of `/status` that belongs to it.
#[derive(Clone)]
pub(in crate::api) struct RoleContext {
    pub(in crate::api) shard: Shard,
    forward: Option<WriteForwarder>,
    pub(in crate::api) about: Arc<NodeAbout>,
    /// True between this role and the next.
    pub(in crate::api) is_ending: bool,
    /// Cancelled once the role or the server ends: for answers that have no end of their own.
    pub(in crate::api) ended: CancellationToken,
}

impl RoleContext {
    /// The shard in this role. `forward`: the way to the leader, on a follower.
    pub(in crate::api) fn new(shard: Shard, forward: Option<WriteForwarder>, about: Arc<NodeAbout>) -> Self {
        Self { shard, forward, about, is_ending: false, ended: CancellationToken::new() }
    }

    /// The way to the leader, on a follower.
    pub(in crate::api) fn forward(&self) -> Option<&WriteForwarder> {
        self.forward.as_ref()
    }

    /// The way to the Writer, on a leader.
    pub(in crate::api) fn leader(&self) -> Option<&Leader> {
        self.shard.leader()
    }

    /// A batch is about to be handed to the Writer: fetches of the keys that it writes store nothing.
    pub(in crate::api) fn before_write(&self, batch: &WriteBatch) {
        if let Some(fetches) = self.shard.fetches().filter(|_| !batch.entries.is_empty()) {
            fetches.before_write(batch);
        }
    }

    /// On a follower: the database that its leader leads, if that is known and another than this node's.
    pub(in crate::api) fn other_database(&self) -> Option<u128> {
        self.forward()?.other_database()
    }
}

/// The role of one serving thread. Each thread has a copy of its own, so that the reference counts stay on its core;
/// reading it is one load.
pub(in crate::api) struct RoleSlot {
    current: ArcSwap<RoleContext>,
    changes: watch::Receiver<u64>,
}

impl RoleSlot {
    pub(in crate::api) fn new(role: RoleContext, changes: watch::Receiver<u64>) -> Self {
        Self { current: ArcSwap::from_pointee(role), changes }
    }

    /// The role of now, for a look. Not to be held across an await.
    pub(in crate::api) fn look(&self) -> Guard<Arc<RoleContext>> {
        self.current.load()
    }

    /// The role of now, for a request that ends with it.
    pub(in crate::api) fn get(&self) -> Arc<RoleContext> {
        self.current.load_full()
    }

    /// As [`RoleSlot::get`], once no change is under way, or patience has ended.
    pub(in crate::api) async fn settled(&self) -> Arc<RoleContext> {
        let now = self.get();
        if now.is_ending { self.next().await } else { now }
    }

    async fn next(&self) -> Arc<RoleContext> {
        let mut changes = self.changes.clone();
        let changed = async {
            loop {
                // Marked as seen before the look: a change behind that is a change to wait for no more.
                changes.borrow_and_update();
                let now = self.get();
                if !now.is_ending || changes.changed().await.is_err() {
                    return now;
                }
            }
        };
        tokio::time::timeout(CHANGE_PATIENCE, changed).await.unwrap_or_else(|_| self.get())
    }

    /// Answers in this role from now on; whoever waits is woken by the sender of `changes`.
    pub(in crate::api) fn set(&self, role: RoleContext) {
        self.current.store(Arc::new(role));
    }
}

/// The roles of all serving threads.
pub(in crate::api) struct RoleSlots {
    slots: Vec<Arc<RoleSlot>>,
    changes: watch::Sender<u64>,
}

impl RoleSlots {
    pub(in crate::api) fn new() -> Self {
        Self { slots: Vec::new(), changes: watch::Sender::new(0) }
    }

    /// The slot of one more thread.
    pub(in crate::api) fn add(&mut self, role: RoleContext) -> Arc<RoleSlot> {
        let slot = Arc::new(RoleSlot::new(role, self.changes.subscribe()));
        self.slots.push(Arc::clone(&slot));
        slot
    }

    /// The way to the leader, on a follower.
    pub(in crate::api) fn forwarder(&self) -> Option<WriteForwarder> {
        self.slots.first()?.get().forward.clone()
    }

    /// Has every thread answer in this role from now on.
    pub(in crate::api) fn set(&self, role: &RoleContext) {
        self.slots.iter().for_each(|slot| slot.set(role.clone()));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Has what depends on the role wait from now on, until the next one begins.
    pub(in crate::api) fn end(&self) {
        for slot in &self.slots {
            slot.set(RoleContext { is_ending: true, ..(*slot.get()).clone() });
        }
        self.end_streams();
    }

    /// Ends the answers that have no end of their own, and has no others begin in this role.
    pub(in crate::api) fn end_streams(&self) {
        self.slots.iter().for_each(|slot| slot.look().ended.cancel());
    }
}

impl Service {
    /// The role of now, for a look. Not to be held across an await.
    pub(in crate::api) fn look_at_role(&self) -> Guard<Arc<RoleContext>> {
        self.role.look()
    }

    /// The role of now, for a request that ends with it.
    pub(in crate::api) fn role(&self) -> Arc<RoleContext> {
        self.role.get()
    }

    /// The role for a request that depends on it: waits while the node is between two.
    pub(in crate::api) async fn settled_role(&self) -> Arc<RoleContext> {
        self.role.settled().await
    }

    /// Returns whether writes go to this node's own Writer.
    pub(in crate::api) fn takes_writes(&self) -> bool {
        let role = self.look_at_role();
        !role.is_ending && role.leader().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{shard::ShardRole, view::DatabaseView},
        net::tls::client::ClientTls,
    };

    fn role(name: &'static str) -> RoleContext {
        let forward = WriteForwarder::new(None, &ClientTls::default(), || Ok(1)).expect("a client");
        let about = NodeAbout {
            role: name,
            name: String::new(),
            node: 1,
            url: String::new(),
            not_promoted: None,
            default_ack: None,
        };
        let role = ShardRole::FileFollower { notice: Arc::default() };
        RoleContext::new(Shard::new(Arc::new(DatabaseView::new(true)), role), Some(forward), Arc::new(about))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_between_two_roles_and_goes_on_in_the_next_one() {
        let mut slots = RoleSlots::new();
        let slot = slots.add(role("first"));
        assert_eq!(slot.settled().await.about.role, "first");
        slots.end();
        assert_eq!(slot.look().about.role, "first", "a look does not wait");
        let mut waiting = std::pin::pin!(slot.settled());
        assert!(futures::poll!(&mut waiting).is_pending());
        slots.set(&role("second"));
        assert_eq!(waiting.await.about.role, "second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_for_a_role_in_vain_goes_on_in_the_one_that_ends() {
        let mut slots = RoleSlots::new();
        let slot = slots.add(role("first"));
        slots.end();
        let begun = tokio::time::Instant::now();
        assert!(slot.settled().await.is_ending);
        assert_eq!(begun.elapsed(), CHANGE_PATIENCE);
    }
}
