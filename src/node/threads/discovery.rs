//! The thread of a replica that begins exchanges with its leader (`memdb-contact`): it announces the replica, and
//! fetches snapshots.

use crate::node::full_sync;
use crate::{
    base::retry::RetryPolicy,
    config::NodeSettings,
    data::store::DedupLimits,
    engine::replica::{ReplicaEvent, ReplicaFindings, ReplicaHandle},
    net::write_forwarder::WriteForwarder,
    net::{link_error::LinkError, peer_credentials::PeerCredentials, peer_link::PeerLink},
    replication::{AnnounceResult, LeaderDiscovery, NodeState},
    storage::disk::Disk,
    storage::file_header::DatabaseIdentity,
};
use std::{sync::Arc, thread::JoinHandle, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A task of the contact thread.
pub(in crate::node) enum DiscoveryCommand {
    /// The leader is there from now on.
    Leader(String),
    /// Tell the leader where this replica is.
    Announce(NodeState),
    /// Fetch the leader's snapshot.
    Load(DatabaseIdentity),
}

/// The nodes that may lead a follower, at `own`, that has found this in its directory.
pub(in crate::node) fn discovery(
    leader: Option<&str>,
    settings: &NodeSettings,
    found: &ReplicaFindings,
    own: &str,
) -> LeaderDiscovery {
    let mut known: Vec<String> = leader.into_iter().chain(settings.leader()).map(str::to_owned).collect();
    if let Some(manifest) = found.manifest() {
        known.extend(manifest.state.leader_url.clone());
        known.extend(manifest.state.replicas.iter().cloned());
    }
    LeaderDiscovery::new(own.to_owned(), known)
}

/// The leader's address, and the credentials that it asks for.
pub(in crate::node) struct LeaderLinks {
    pub(in crate::node) discovery: LeaderDiscovery,
    pub(in crate::node) credentials: PeerCredentials,
}

impl LeaderLinks {
    fn link(&self, url: Option<&str>) -> Result<PeerLink, String> {
        PeerLink::new(url.ok_or("no leader is known")?, &self.credentials)
    }

    /// Announces the replica to whoever may lead, and to whom that one sends it on.
    async fn announce(&mut self, hello: &NodeState, forward: &WriteForwarder) -> Result<(), String> {
        loop {
            let link = self.link(self.discovery.next());
            let outcome = match &link {
                Ok(link) => link.announce(hello).await.map_err(|error| (format!("{}: {error}", link.base()), error)),
                Err(why) => {
                    self.discovery.announced(AnnounceResult::Failed);
                    return Err(why.clone());
                }
            };
            let (announced, told) = match outcome {
                Ok(leads) => {
                    if let (Some(leads), Ok(link)) = (leads, &link) {
                        forward.heard(link.base(), leads);
                    }
                    (AnnounceResult::Taken, Ok(()))
                }
                Err((told, LinkError::NotLeader(Some(url)))) => (AnnounceResult::SentOn(url), Err(told)),
                Err((told, _)) => (AnnounceResult::Failed, Err(told)),
            };
            if !self.discovery.announced(announced) {
                return told;
            }
        }
    }
}

/// The running thread.
pub(in crate::node) struct DiscoveryThread {
    stopping: CancellationToken,
    thread: JoinHandle<()>,
}

impl DiscoveryThread {
    pub(in crate::node) fn start(
        mut leaders: LeaderLinks,
        window: DedupLimits,
        disk: Option<Arc<dyn Disk>>,
        follower: ReplicaHandle,
        forward: WriteForwarder,
    ) -> std::io::Result<(Self, mpsc::Sender<DiscoveryCommand>)> {
        let (orders, mut wanted) = mpsc::channel(8);
        let stopping = CancellationToken::new();
        let stop = stopping.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = async move {
            let (mut said, mut failures) = (false, 0_u32);
            while let Some(order) = wanted.recv().await {
                match order {
                    DiscoveryCommand::Leader(url) => leaders.discovery.follow_hint(url),
                    DiscoveryCommand::Announce(hello) => {
                        let announced = leaders.announce(&hello, &forward).await;
                        if let Err(error) = &announced
                            && !said
                        {
                            tracing::warn!(%error, "no leader can be told that this replica is here; trying on");
                        }
                        said = announced.is_err();
                    }
                    DiscoveryCommand::Load(identity) => {
                        let loaded = match leaders.link(leaders.discovery.leader()) {
                            Ok(link) => full_sync::load(&link, identity, window, disk.as_deref()).await,
                            Err(why) => Err(why),
                        };
                        // The leader orders it anew as soon as it hears that it has failed.
                        failures = if loaded.is_err() { failures + 1 } else { 0 };
                        if failures > 0 {
                            tokio::time::sleep(Duration::from_millis(RetryPolicy::PEERS.most_ms(failures))).await;
                        }
                        follower.send(ReplicaEvent::Loaded(loaded));
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("memdb-contact".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = work => {}
                }
            });
        })?;
        Ok((Self { stopping, thread }, orders))
    }

    pub(in crate::node) fn stop(self) {
        self.stopping.cancel();
        let _ = self.thread.join(); // a panic in it was told, and nothing depends on it any more
    }
}
