//! Decides from a follower's [`NodeState`] whether it goes on, needs a snapshot, is refused, or deposes this leader.

use super::{ClusterMembers, NodeId, NodeState};
use crate::{
    base::position::{Epoch, EpochTable, Position},
    data::store::StateId,
    storage::file_header::DatabaseIdentity,
};
use std::sync::Arc;

/// A leader, as far as replicas need to know it.
#[derive(Clone, Debug)]
pub struct LeaderState {
    /// This run of it.
    pub node: NodeId,
    /// The database.
    pub identity: DatabaseIdentity,
    /// Its epoch.
    pub epoch: Epoch,
    /// The end of each epoch before it.
    pub epochs: Arc<EpochTable>,
    /// The leader's last position, with digest and chain.
    pub last: StateId,
    /// True if a write waits for a replica's sync.
    pub durable: bool,
    /// The members of the cluster.
    pub members: Arc<ClusterMembers>,
}

/// The way in which a follower can catch up, or the reason why it cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatchUpPlan {
    /// The follower is on this history: records from this position on.
    Resume(Position),
    /// The follower is not on this history, or no longer, for this reason: a snapshot.
    NeedSnapshot(String),
    /// The follower must not be touched, for this reason: an alarm.
    Refused(String),
    /// Another node leads, or is about to, in this later epoch.
    StepDown(Epoch),
}

/// Decides how a replica catches up from where it says that it stands. Counts hold no old values, so what is not on
/// this history is loaded anew and never taken back record by record.
pub fn classify_follower(hello: &NodeState, lead: &LeaderState) -> CatchUpPlan {
    let Position { epoch, sequence } = hello.position;
    let held = match hello.database {
        None => return CatchUpPlan::Resume(Position::ZERO),
        Some(held) => held,
    };
    // The database comes first: epochs and positions of another one mean nothing here. It is left alone, since a
    // snapshot would replace what may be its only copy.
    if held != lead.identity.database_id {
        return CatchUpPlan::Refused(format!(
            "it holds another database, {held:032x}: give it another --data-dir, or lead it by its own leader"
        ));
    }
    // The epoch that it has seen or promised, and not that of its last record: a leader that was replaced has to hear
    // of it before the new one has written anything.
    if hello.epoch > lead.epoch {
        return CatchUpPlan::StepDown(hello.epoch);
    }
    if hello.diverged {
        return CatchUpPlan::NeedSnapshot("what it holds does not have the digest that the records state".into());
    }
    if epoch == lead.epoch {
        let last = lead.last.position.sequence;
        // Refused, and not given a snapshot: one of the two has records that nobody else has, and only a person can say
        // which.
        if sequence > last {
            return CatchUpPlan::Refused(format!(
                "it has {} of this epoch, which ends at {last}: two leaders had one epoch, or these files are an old copy",
                hello.position
            ));
        }
        // Only here are both chains at one record. If the replica is behind, it compares them itself when it applies
        // the next one.
        if sequence == last && hello.chain != lead.last.chain {
            return CatchUpPlan::NeedSnapshot(format!("its record {} is another than this leader's", hello.position));
        }
        return CatchUpPlan::Resume(hello.position);
    }
    match lead.epochs.last_of(epoch) {
        Some(end) if sequence <= end => CatchUpPlan::Resume(hello.position),
        // Before the first record there is nothing to differ in.
        None if sequence == 0 => CatchUpPlan::Resume(hello.position),
        Some(end) => CatchUpPlan::NeedSnapshot(format!(
            "it has {} of epoch {epoch}, which ended at {end}: {} records of it were lost with an earlier leader",
            sequence,
            sequence - end
        )),
        None => CatchUpPlan::NeedSnapshot(format!("it is at {}, and nothing is known of that epoch", hello.position)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer::Analyzer;

    fn lead() -> LeaderState {
        let identity = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };
        let mut epochs = EpochTable::default();
        epochs.end(Position::new(1, 10));
        epochs.end(Position::new(3, 20));
        let last = StateId { position: Position::new(5, 30), ..StateId::default() };
        LeaderState {
            node: 1,
            identity,
            epoch: 5,
            epochs: Arc::new(epochs),
            last,
            durable: false,
            members: Arc::default(),
        }
    }

    fn judged(database: Option<u128>, seen: Epoch, position: (u64, u64), diverged: bool) -> &'static str {
        let position = Position::new(position.0, position.1);
        let hello = NodeState { node: 1, database, epoch: seen, position, diverged, ..NodeState::default() };
        match classify_follower(&hello, &lead()) {
            CatchUpPlan::Resume(at) => {
                assert_eq!(at, position);
                "resume"
            }
            CatchUpPlan::NeedSnapshot(_) => "snapshot",
            CatchUpPlan::Refused(_) => "refused",
            CatchUpPlan::StepDown(epoch) => {
                assert_eq!(epoch, seen);
                "step down"
            }
        }
    }

    #[test]
    fn the_five_outcomes() {
        let mine = Some(7);
        assert_eq!(judged(None, 0, (0, 0), false), "resume");
        assert_eq!(judged(mine, 5, (5, 30), false), "resume");
        assert_eq!(judged(mine, 5, (5, 12), false), "resume");
        assert_eq!(judged(mine, 5, (5, 31), false), "refused");
        assert_eq!(judged(mine, 3, (3, 20), false), "resume");
        assert_eq!(judged(mine, 3, (3, 21), false), "snapshot");
        assert_eq!(judged(mine, 1, (1, 10), false), "resume");
        assert_eq!(judged(mine, 1, (1, 11), false), "snapshot");
        assert_eq!(judged(mine, 2, (2, 11), false), "snapshot", "an epoch that this history never had");
        assert_eq!(judged(mine, 4, (4, 0), false), "resume", "nothing is on every history");
        assert_eq!(judged(mine, 6, (3, 20), false), "step down");
        assert_eq!(judged(mine, 5, (5, 30), true), "snapshot");
        let other = StateId { chain: 1, ..lead().last };
        let hello = NodeState { database: mine, epoch: 5, position: other.position, ..NodeState::default() };
        assert!(
            matches!(classify_follower(&hello, &LeaderState { last: other, ..lead() }), CatchUpPlan::NeedSnapshot(_)),
            "another record 30"
        );
        assert_eq!(judged(Some(8), 9, (9, 9), true), "refused");
    }
}
