//! A node that changes its role: a replica that is made the leader, a leader that another has succeeded.
//!
//! The port and the data directory are held all the while. A role is closed in its order, then the other is built on
//! the same files, as at any start; connections that come in between wait in the listener's queue.

use super::{CHANGE_GRACE, Following, Held, Leading, MachineClock, NodeError, STOP_GRACE, promote::promote};
use crate::{
    clock::Clock,
    config::{Role, Settings},
    disk::Disk,
    failpoint,
    leader::Successor,
    manifest::Manifest,
    replication::{Elected, leads_at_start},
};
use std::{net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A leader or a replica, whichever it is now.
pub(super) enum Running {
    Leading(Leading),
    Following(Following),
}

/// The end of a role.
pub(super) enum Turn {
    /// The node ends; why.
    Stop(&'static str),
    /// The other nodes have promised that this one may lead.
    Lead(Elected),
    /// Another leads, or is about to.
    Follow(Successor),
}

impl Running {
    /// Builds the role that the files name; the settings say it where there are none. A leader that another has
    /// succeeded meanwhile follows.
    pub(super) fn begin(held: &Held, settings: &Settings) -> Result<Self, NodeError> {
        let read = |(disk, _): &(Arc<dyn Disk>, _)| Manifest::read(&**disk).ok().flatten();
        let manifest = held.directory.as_ref().and_then(read);
        let own = held.listening.url(settings)?;
        let follow = |leader: Option<&str>, not_promoted| {
            let leader = leader.filter(|url| *url != own).or(settings.leader.as_deref());
            Following::begin(held, settings, leader, not_promoted).map(Running::Following)
        };
        let verb = settings.role == Role::Leader;
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
        match Leading::begin(held, settings, None) {
            Err(NodeError::Succeeded { by, told }) => {
                tracing::warn!("another leads ({told}): this node follows");
                follow(by.as_deref(), None)
            }
            // As a replica it takes from whoever leads what its files do not give.
            Err(error) if !verb => {
                tracing::error!(%error, "this node does not lead again");
                follow(None, Some(error.to_string()))
            }
            begun => begun.map(Running::Leading),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Running::Leading(leading) => leading.address(),
            Running::Following(following) => following.address(),
        }
    }

    /// Waits for the end of the role.
    async fn turn(&self, settings: &Settings) -> Turn {
        match self {
            Running::Leading(leading) => tokio::select! {
                () = leading.leader().ended() => Turn::Stop("its main thread has died"),
                successor = leading.leader().succeeded() => Turn::Follow(successor),
            },
            Running::Following(following) => {
                let (follower, secret) = (following.follower(), settings.cluster_secret.as_ref());
                loop {
                    let promotion = tokio::select! {
                        () = follower.ended() => return Turn::Stop("its main thread has died"),
                        promotion = follower.promotion() => promotion,
                    };
                    let stood = promote(follower, following.candidate(settings, promotion.force), secret).await;
                    let told = stood.as_ref().map(|elected| elected.epoch).map_err(Clone::clone);
                    let _ = promotion.reply.send(told); // whoever asked may have gone
                    match stood {
                        Ok(elected) => {
                            follower.refuse_promotions().await;
                            return Turn::Lead(elected);
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
            Running::Leading(leading) => leading.end(grace),
            Running::Following(following) => following.end(grace),
        }
    }

    /// The other role, on the same port and files.
    fn change(self, turn: Turn, held: &Held, settings: &Settings) -> Result<Self, NodeError> {
        // The files are recovered anew, so a stop that was not clean is no reason to give up.
        if let Err(error) = self.end(CHANGE_GRACE) {
            tracing::warn!(%error, "this role did not end cleanly");
        }
        match turn {
            Turn::Lead(elected) => {
                failpoint::pass("promote.stopped");
                match Leading::begin(held, settings, Some(&elected)) {
                    Ok(leading) => {
                        if leading.leader().no_room().is_none() {
                            tracing::warn!(epoch = elected.epoch, "this node leads");
                        }
                        Ok(Running::Leading(leading))
                    }
                    Err(error) => {
                        tracing::error!(%error, "this replica does not lead after all");
                        Following::begin(held, settings, None, Some(error.to_string())).map(Running::Following)
                    }
                }
            }
            Turn::Follow(Successor(url)) => {
                Following::begin(held, settings, url.as_deref(), None).map(Running::Following)
            }
            Turn::Stop(_) => unreachable!("a node that ends has no other role"),
        }
    }

    /// Runs, in whatever role, until `stopped` tells why it is to end, or its main thread dies.
    pub(super) fn run<F: Future<Output = &'static str>>(
        mut self,
        held: Held,
        settings: &Settings,
        runtime: &Runtime,
        mut stopped: impl FnMut() -> F,
    ) -> Result<(), NodeError> {
        loop {
            let turn = runtime.block_on(async {
                tokio::select! {
                    why = stopped() => Turn::Stop(why),
                    turn = self.turn(settings) => turn,
                }
            });
            if let Turn::Stop(why) = turn {
                tracing::info!(why, "stopping");
                drop(held); // so that nobody waits in the listener's queue
                return self.end(STOP_GRACE);
            }
            self = self.change(turn, &held, settings)?;
        }
    }
}

/// A leader or a replica that may become the other, without signals, for tests.
pub struct Node {
    stopping: CancellationToken,
    address: SocketAddr,
    thread: JoinHandle<Result<(), NodeError>>,
}

impl Node {
    /// Starts the node that the settings describe.
    ///
    /// # Errors
    /// The [`NodeError`] of the role that its files or settings call for, if it cannot be started. Nothing is left
    /// running then.
    pub fn start(settings: Settings) -> Result<Self, NodeError> {
        Self::start_with(settings, Arc::new(MachineClock))
    }

    /// As [`Node::start`], with other clocks than the machine's.
    ///
    /// # Errors
    /// The [`NodeError`] of the role that its files or settings call for, if it cannot be started. Nothing is left
    /// running then.
    pub fn start_with(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, NodeError> {
        let held = Held::take(&settings, clock)?;
        let running = Running::begin(&held, &settings)?;
        let (stopping, address) = (CancellationToken::new(), running.address());
        let stop = stopping.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("memdb-roles".into()).spawn(move || {
            running.run(held, &settings, &runtime, || async {
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
