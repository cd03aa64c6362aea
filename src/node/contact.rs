//! The thread of a replica that begins exchanges with its leader (`memdb-contact`): it announces the replica, and fetches
//! snapshots.

use super::full_sync;
use crate::{
    client::Forward,
    config::Settings,
    disk::Disk,
    format::Identity,
    replica::{Event, Follower, Found},
    replication::{Hello, link::Link, retry_most_ms},
    secret::Secret,
    store::WindowLimits,
};
use std::{sync::Arc, thread::JoinHandle, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the contact thread is to do.
pub(super) enum Order {
    /// The leader is there from now on.
    Leader(String),
    /// Tell the leader where this replica is.
    Announce(Hello),
    /// Fetch the leader's snapshot.
    Load(Identity),
}

/// Where the leader is, or may be: it may have changed while this replica was away.
pub(super) struct Leaders {
    /// The one that was told, or is named by the settings, first; then all other nodes that are known.
    urls: Vec<String>,
    /// The one to announce to next.
    at: usize,
    secret: Option<Secret>,
}

impl Leaders {
    pub(super) fn new(leader: Option<&str>, settings: &Settings, found: &Found, own: &str) -> Self {
        let mut leaders = Self { urls: Vec::new(), at: 0, secret: settings.cluster_secret.clone() };
        let mut known: Vec<String> = leader.into_iter().chain(settings.leader.as_deref()).map(str::to_owned).collect();
        if let Found::Settled(settled) = found {
            known.extend(settled.manifest.state.leader_url.clone());
            known.extend(settled.manifest.state.replicas.iter().cloned());
        }
        for url in known {
            if url != own && !leaders.urls.contains(&url) {
                leaders.urls.push(url);
            }
        }
        leaders
    }

    fn told(&mut self, leader: String) {
        self.urls.retain(|url| *url != leader);
        self.urls.insert(0, leader);
        self.at = 0;
    }

    fn link(&self, at: usize) -> Result<Link, String> {
        let url = self.urls.get(at).ok_or("no leader is known")?;
        Link::new(url, self.secret.clone())
    }

    /// Announces the replica to whoever may lead; the next time to another, if that one does not.
    async fn announce(&mut self, hello: &Hello, forward: &Forward) -> Result<(), String> {
        let announced = match self.link(self.at) {
            Ok(link) => match link.announce(hello).await {
                Ok(leads) => {
                    if let Some(leads) = leads {
                        forward.heard(link.base(), leads, hello.database);
                    }
                    Ok(())
                }
                Err(error) => Err(format!("{}: {error}", link.base())),
            },
            Err(why) => Err(why),
        };
        if announced.is_err() {
            self.at = (self.at + 1) % self.urls.len().max(1);
        }
        announced
    }
}

/// The running thread.
pub(super) struct Contact {
    stopping: CancellationToken,
    thread: JoinHandle<()>,
}

impl Contact {
    pub(super) fn start(
        mut leaders: Leaders,
        window: WindowLimits,
        disk: Option<Arc<dyn Disk>>,
        follower: Follower,
        forward: Forward,
    ) -> std::io::Result<(Self, mpsc::Sender<Order>)> {
        let (orders, mut wanted) = mpsc::channel(8);
        let stopping = CancellationToken::new();
        let stop = stopping.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = async move {
            let (mut said, mut failures) = (false, 0_u32);
            while let Some(order) = wanted.recv().await {
                match order {
                    Order::Leader(url) => leaders.told(url),
                    Order::Announce(hello) => {
                        let announced = leaders.announce(&hello, &forward).await;
                        if let Err(error) = &announced
                            && !said
                        {
                            tracing::warn!(%error, "no leader can be told that this replica is here; trying on");
                        }
                        said = announced.is_err();
                    }
                    Order::Load(identity) => {
                        let loaded = match leaders.link(0) {
                            Ok(link) => full_sync::load(&link, identity, window, disk.as_deref()).await,
                            Err(why) => Err(why),
                        };
                        // The leader orders it anew as soon as it hears that it has failed.
                        failures = if loaded.is_err() { failures + 1 } else { 0 };
                        if failures > 0 {
                            tokio::time::sleep(Duration::from_millis(retry_most_ms(failures))).await;
                        }
                        follower.tell(Event::Loaded(loaded));
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

    pub(super) fn stop(self) {
        self.stopping.cancel();
        let _ = self.thread.join(); // a panic in it was told, and nothing depends on it any more
    }
}
