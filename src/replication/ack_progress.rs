//! Acknowledgement arithmetic: how far the replicas are, and what that means for a write. Pure.

use crate::base::position::Sequence;
use std::collections::BTreeMap;

/// A replica, as its leader counts them.
pub type PeerIndex = u32;

/// The progress of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerProgress {
    /// The last record it has applied.
    pub applied: Sequence,
    /// The last record it has synced; `None` if it keeps no files.
    pub synced: Option<Sequence>,
    /// True if it answered its last exchange in time.
    pub connected: bool,
}

/// The progress of all replicas. A record that a replica has once acknowledged stays acknowledged, also when the
/// replica goes away, for as long as it is served.
#[derive(Clone, Debug, Default)]
pub struct AckProgress {
    peers: BTreeMap<PeerIndex, PeerProgress>,
}

impl AckProgress {
    /// A replica stands there now.
    pub fn update(&mut self, peer: PeerIndex, standing: PeerProgress) {
        self.peers.insert(peer, standing);
    }

    /// A replica did not answer in time.
    pub fn lost(&mut self, peer: PeerIndex) {
        if let Some(standing) = self.peers.get_mut(&peer) {
            standing.connected = false;
        }
    }

    /// A replica is not served any more.
    pub fn gone(&mut self, peer: PeerIndex) {
        self.peers.remove(&peer);
    }

    /// Counts the replicas that have applied a record.
    pub fn acks(&self, sequence: Sequence) -> u32 {
        // Connected or not: what a replica has applied is there, also while it is away.
        self.peers.values().filter(|standing| standing.applied >= sequence).count() as u32
    }

    /// The last record that some replica has applied.
    pub fn applied(&self) -> Sequence {
        self.peers.values().map(|standing| standing.applied).max().unwrap_or(0)
    }

    /// The last record that some replica has synced.
    pub fn synced(&self) -> Sequence {
        self.peers.values().filter_map(|standing| standing.synced).max().unwrap_or(0)
    }

    /// Returns whether waiting for a replica has a point: one is connected that can do what is asked.
    pub fn may_ack(&self, durable: bool) -> bool {
        // Without this, every write would wait for its time-out while no replica is there.
        self.peers.values().any(|standing| standing.connected && (!durable || standing.synced.is_some()))
    }

    /// Returns whether any replica that is known keeps files.
    pub fn keeps_files(&self) -> bool {
        // Of all that are known, also of those that are away: that a level cannot be had now is another answer than
        // that it cannot be had at all.
        self.peers.values().any(|standing| standing.synced.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_replica_decides_and_what_was_acknowledged_stays_so() {
        let mut progress = AckProgress::default();
        assert_eq!((progress.applied(), progress.synced(), progress.acks(1)), (0, 0, 0));
        assert!(!progress.may_ack(false) && !progress.keeps_files());
        progress.update(1, PeerProgress { applied: 10, synced: None, connected: true });
        progress.update(2, PeerProgress { applied: 7, synced: Some(4), connected: true });
        assert_eq!((progress.applied(), progress.synced()), (10, 4));
        assert_eq!([3, 8, 11].map(|sequence| progress.acks(sequence)), [2, 1, 0]);
        assert!(progress.may_ack(false) && progress.may_ack(true));
        progress.lost(2);
        assert!(progress.may_ack(false) && !progress.may_ack(true) && progress.keeps_files());
        progress.lost(1);
        progress.lost(3); // nobody
        assert!(!progress.may_ack(false));
        assert_eq!((progress.applied(), progress.acks(8)), (10, 1));
        progress.gone(2);
        assert!(!progress.keeps_files());
        assert_eq!((progress.synced(), progress.acks(1)), (0, 1));
    }
}
