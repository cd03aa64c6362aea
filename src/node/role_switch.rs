//! A node that changes its role: a replica that is made the leader, a leader that another has succeeded.
//!
//! The server, its connections and what is served outlive a role, and so do the port and the data directory. A role
//! that ends gives what it holds, its store and its open files, to the next one, which begins in memory. Only where
//! that cannot be (a log that is poisoned, a replica that is about to load another history) the next one reads the
//! files, as at any start. Between two roles reads go on, and what depends on the role waits.

use super::{
    LeaderNode, MachineClock, NodeError, ReplicaNode,
    promote::promote,
    resources::{NodeResources, STOP_GRACE},
    service_manager::LifeSigns,
};
use crate::{
    base::clock::Clock,
    base::failpoint,
    config::{NodeSettings, StartRole},
    engine::leader::{Leader, Successor},
    net::peer_credentials::PeerCredentials,
    replication::{ElectedLeader, leads_at_start},
    storage::disk::Disk,
    storage::manifest::Manifest,
    storage::recovery::RecoveredDatabase,
};
use std::{net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A leader or a replica, whichever it is now.
pub(super) enum RunningRole {
    Leading(LeaderNode),
    Following(ReplicaNode),
}

/// The end of a role.
pub(super) enum RoleChange {
    /// The node ends; why.
    Stop(&'static str),
    /// The other nodes have promised that this one may lead.
    Lead(ElectedLeader),
    /// Another leads, or is about to.
    Follow(Successor),
}

impl RunningRole {
    /// Builds the role that the files name; the settings say it where there are none. A leader that another has
    /// succeeded meanwhile follows.
    pub(super) fn open(held: &NodeResources, settings: &NodeSettings) -> Result<Self, NodeError> {
        let read = |(disk, _): &(Arc<dyn Disk>, _)| Manifest::read(&**disk).ok().flatten();
        let manifest = held.directory.as_ref().and_then(read);
        let own = held.listening.url(settings)?;
        let follow = |leader: Option<&str>, not_promoted| {
            let leader = leader.filter(|url| *url != own).or(settings.leader());
            ReplicaNode::open(held, settings, leader, not_promoted, None).map(RunningRole::Following)
        };
        let verb = settings.start_role() == StartRole::Leader;
        if !leads_at_start(manifest.as_ref(), verb) {
            if verb {
                tracing::warn!(
                    "the files here are a follower's: this node follows; if nobody leads, promote it or another"
                );
            }
            let leader = manifest.and_then(|manifest| manifest.state.leader_url).filter(|_| verb);
            return follow(leader.as_deref(), None);
        }
        if !verb {
            tracing::warn!("this node led when it ended: it leads again, unless another has led since");
        }
        match LeaderNode::open(held, settings, None, None).map_err(|(error, _)| error) {
            Err(NodeError::Succeeded { by, told }) => {
                tracing::warn!("another leads ({told}): this node follows");
                follow(by.as_deref(), None)
            }
            // As a replica it takes from whoever leads what its files do not give.
            Err(error) if !verb => {
                tracing::error!(%error, "this node does not lead again");
                follow(None, Some(error.to_string()))
            }
            begun => begun.map(RunningRole::Leading),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            RunningRole::Leading(leading) => leading.address(),
            RunningRole::Following(following) => following.address(),
        }
    }

    /// The way to the Writer, while this node leads.
    fn leader(&self) -> Option<&Leader> {
        match self {
            RunningRole::Leading(leading) => Some(leading.leader()),
            RunningRole::Following(_) => None,
        }
    }

    /// Waits for the end of the role.
    async fn turn(&self, settings: &NodeSettings, credentials: &PeerCredentials) -> RoleChange {
        match self {
            RunningRole::Leading(leading) => tokio::select! {
                () = leading.leader().ended() => RoleChange::Stop("its main thread has died"),
                successor = leading.leader().succeeded() => RoleChange::Follow(successor),
            },
            RunningRole::Following(following) => {
                let follower = following.follower();
                loop {
                    let (promotion, successor) = tokio::select! {
                        () = follower.ended() => return RoleChange::Stop("its main thread has died"),
                        promotion = follower.promotion() => (Some(promotion), None),
                        successor = following.successor_is_missing() => (None, Some(successor)),
                    };
                    let force = promotion.as_ref().is_some_and(|promotion| promotion.force);
                    if let Some(successor) = &successor {
                        tracing::warn!(
                            successor,
                            "the node that this one has promised its lead to does not lead: asking all nodes"
                        );
                    }
                    let candidate = following.candidate(settings, force, successor);
                    let stood = promote(follower, candidate, credentials).await;
                    let told = stood.as_ref().map(|elected| elected.epoch).map_err(Clone::clone);
                    if let Some(promotion) = promotion {
                        let _ = promotion.reply.send(told); // whoever asked may have gone
                    }
                    match stood {
                        Ok(elected) => {
                            follower.refuse_promotions().await;
                            return RoleChange::Lead(elected);
                        }
                        Err(why) => tracing::warn!("this replica was not promoted: {why}"),
                    }
                }
            }
        }
    }

    /// Ends the role, with so much time for requests in flight.
    fn end(self, grace: Duration) -> Result<(), NodeError> {
        match self {
            RunningRole::Leading(leading) => leading.end(grace),
            RunningRole::Following(following) => following.end(grace),
        }
    }

    /// Ends the role for the other one of this process, which goes on with what this gives; `None`: it has to read the
    /// files.
    ///
    /// # Errors
    /// [`NodeError::Stop`] if its main thread has panicked: what it had begun to write may still go on, so no other
    /// role may touch the files.
    fn hand_over(self) -> Result<Option<RecoveredDatabase>, NodeError> {
        match self {
            RunningRole::Leading(leading) => leading.hand_over(),
            RunningRole::Following(following) => following.hand_over(),
        }
    }

    /// The other role, on the same port, with the same database.
    fn change(self, turn: RoleChange, held: &NodeResources, settings: &NodeSettings) -> Result<Self, NodeError> {
        let kept = self.hand_over()?;
        let follow = |leader: Option<&str>, not_promoted, kept| {
            ReplicaNode::open(held, settings, leader, not_promoted, kept).map(RunningRole::Following)
        };
        match turn {
            RoleChange::Lead(elected) => {
                failpoint::pass("promote.stopped");
                if kept.is_none() {
                    held.view.withdraw(); // two states of a large database have no room beside each other
                }
                match LeaderNode::open(held, settings, Some(&elected), kept) {
                    Ok(leading) => {
                        if leading.leader().no_room().is_none() {
                            tracing::warn!(epoch = elected.epoch, "this node leads");
                        }
                        Ok(RunningRole::Leading(leading))
                    }
                    Err((error, kept)) => {
                        tracing::error!(%error, "this replica does not lead after all");
                        follow(None, Some(error.to_string()), kept.map(|kept| *kept))
                    }
                }
            }
            RoleChange::Follow(Successor(url)) => follow(url.as_deref(), None, kept),
            RoleChange::Stop(_) => unreachable!("a node that ends has no other role"),
        }
    }

    /// Runs, in whatever role, until `stopped` tells why it is to end, or its main thread dies.
    pub(super) fn run<F: Future<Output = &'static str>>(
        mut self,
        held: NodeResources,
        settings: &NodeSettings,
        runtime: &Runtime,
        signs: &LifeSigns,
        mut stopped: impl FnMut() -> F,
    ) -> Result<(), NodeError> {
        let credentials = held.listening.credentials(settings);
        loop {
            signs.run(self.leader());
            let turn = runtime.block_on(async {
                tokio::select! {
                    why = stopped() => RoleChange::Stop(why),
                    turn = self.turn(settings, &credentials) => turn,
                }
            });
            signs.pause();
            if let RoleChange::Stop(why) = turn {
                tracing::info!(why, "stopping");
                drop(held); // so that nobody waits in the listener's queue
                return self.end(STOP_GRACE);
            }
            self = self.change(turn, &held, settings)?;
        }
    }
}

/// A leader or a replica that may become the other, without signals, for tests.
pub struct SwitchingNode {
    stopping: CancellationToken,
    address: SocketAddr,
    thread: JoinHandle<Result<(), NodeError>>,
}

impl SwitchingNode {
    /// Starts the node that the settings describe.
    ///
    /// # Errors
    /// The [`NodeError`] of the role that its files or settings call for, if it cannot be started. Nothing is left
    /// running then.
    pub fn start(settings: NodeSettings) -> Result<Self, NodeError> {
        Self::start_with(settings, Arc::new(MachineClock))
    }

    /// As [`SwitchingNode::start`], with other clocks than the machine's.
    ///
    /// # Errors
    /// The [`NodeError`] of the role that its files or settings call for, if it cannot be started. Nothing is left
    /// running then.
    pub fn start_with(settings: NodeSettings, clock: Arc<dyn Clock>) -> Result<Self, NodeError> {
        let held = NodeResources::take(&settings, clock)?;
        let running = RunningRole::open(&held, &settings)?;
        let (stopping, address) = (CancellationToken::new(), running.address());
        let stop = stopping.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("memdb-roles".into()).spawn(move || {
            running.run(held, &settings, &runtime, &LifeSigns::default(), || async {
                stop.cancelled().await;
                "it is told to"
            })
        })?;
        Ok(Self { stopping, address, thread })
    }

    /// Gives the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops, in whatever role it is.
    ///
    /// # Errors
    /// [`NodeError::Stop`] if what was acknowledged is in the log, but the stop was not clean; the error of a change of
    /// role that has failed.
    pub fn stop(self) -> Result<(), NodeError> {
        self.stopping.cancel();
        self.thread.join().unwrap_or_else(|_| Err(NodeError::Stop("a thread panicked".into())))
    }
}
