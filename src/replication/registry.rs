//! The followers a leader knows of: who has announced itself, and how each is.

use super::{NodeState, PeerIndex, PeerStatus};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::mpsc;

/// Announcements that may wait for the leader's replication thread; one more is dropped, and comes again.
const ANNOUNCEMENTS: usize = 64;

/// The meeting point of announcements and statuses of replicas. Cheap to clone.
#[derive(Clone)]
pub struct PeerRegistry {
    announcements: mpsc::Sender<NodeState>,
    statuses: Arc<Mutex<BTreeMap<PeerIndex, PeerStatus>>>,
}

impl PeerRegistry {
    /// A registry, and where its announcements come out.
    pub fn new() -> (Self, mpsc::Receiver<NodeState>) {
        // Bounded, and dropped beyond that: anybody who may announce could otherwise fill the leader's memory.
        let (announcements, announced) = mpsc::channel(ANNOUNCEMENTS);
        (Self { announcements, statuses: Arc::default() }, announced)
    }

    /// A follower says that it is there.
    pub fn announce(&self, hello: NodeState) {
        let _ = self.announcements.try_send(hello); // it announces itself until it hears from the leader
    }

    /// Notes the status of a replica.
    pub fn note(&self, peer: PeerIndex, status: PeerStatus) {
        self.statuses.lock().insert(peer, status);
    }

    /// A replica is no longer known.
    pub fn forget(&self, peer: PeerIndex) {
        self.statuses.lock().remove(&peer);
    }

    /// Gives the statuses of all replicas.
    pub fn statuses(&self) -> Vec<PeerStatus> {
        self.statuses.lock().values().cloned().collect()
    }
}
