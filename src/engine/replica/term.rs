//! The leadership term of a replica: the epoch that it follows, and who binds it there or beyond.
//!
//! | epoch followed | highest epoch | bond | meaning |
//! |---|---|---|---|
//! | e | e | free | it knows e from its files, and has met nobody of it since it started |
//! | e | e | leader of e | it follows this leader; another of the same epoch is refused |
//! | e | e | leader of e' > e | this leader was met, and does not know yet where the replica stands |
//! | e | p > e | candidate of p | it has promised p: no leader below p is followed, no other candidate gets p |
//! | e | p > e | free | the same, promised by an earlier run of this node, which knew to whom |
//! | e | p > e | leader of p or later | that promise was kept: p has a leader, who is followed next |
//!
//! No other combination can be made: the highest epoch is never below the one that is followed, a candidate is bound
//! to the highest epoch, and a leader to that or a later one. A leader and a candidate never bind at once: whoever
//! leads is followed, also if the promise was to another, and a promise of a later epoch ends the bond to a leader.

use crate::{
    base::{
        failpoint::inject,
        position::{Epoch, EpochTable, Position, PositionStatus},
    },
    replication::NodeId,
    storage::{manifest::ManifestState, recovery},
};

/// The run of a node that binds a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TermBond {
    /// Nobody: whoever leads in the highest epoch or in a later one is followed.
    #[default]
    Free,
    /// A candidate that was promised the highest epoch.
    Candidate(NodeId),
    /// A leader of the highest epoch, or of a later one.
    Leader(Epoch, NodeId),
}

/// The epochs and the promise of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReplicaTerm {
    /// The highest epoch that was followed.
    epoch: Epoch,
    /// The ends of the epochs before it, as its leader last sent them.
    epochs: EpochTable,
    /// The highest epoch that was followed or promised.
    highest: Epoch,
    bond: TermBond,
}

impl ReplicaTerm {
    /// The term that the MANIFEST notes. The runs that it was noted for are not known any more.
    pub(super) fn noted(state: &ManifestState) -> Self {
        let (epoch, epochs, highest) = (state.epoch, state.epochs.clone(), state.highest());
        Self { epoch, epochs, highest, bond: TermBond::Free }
    }

    /// The term of files that cannot be used, which have seen this epoch.
    pub(super) fn seen(epoch: Epoch) -> Self {
        Self { epoch, highest: epoch, ..Self::default() }
    }

    /// The highest epoch that was followed.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The ends of the epochs before the one that is followed.
    pub(super) fn epochs(&self) -> &EpochTable {
        &self.epochs
    }

    /// The highest epoch that was followed or promised: nobody of an earlier one is answered.
    pub(super) fn highest(&self) -> Epoch {
        self.highest
    }

    /// The term as the MANIFEST of a replica notes it, which no leader has started on.
    pub(super) fn to_note(&self) -> ManifestState {
        // A promise that was kept is none any more: the epoch itself says as much.
        let promised = if self.highest > self.epoch { self.highest } else { 0 };
        ManifestState { epoch: self.epoch, epochs: self.epochs.clone(), promised, ..ManifestState::default() }
    }

    /// Returns whether a request of this epoch is answered. Whoever has seen or promised a later one must not
    /// acknowledge anything for a leader that is being replaced.
    pub(super) fn admits(&self, epoch: Epoch) -> bool {
        let mut admits = epoch >= self.highest;
        inject!(AcceptsALowerEpoch, admits = true);
        admits
    }

    /// Returns whether another run than this one leads it in this very epoch.
    pub(super) fn has_other_leader(&self, epoch: Epoch, node: NodeId) -> bool {
        matches!(self.bond, TermBond::Leader(led, by) if led == epoch && by != node)
    }

    /// A leader wants to be followed; it may be that it has to learn first where this replica stands.
    ///
    /// # Panics
    /// If the epoch is below one that was followed or promised: that leader is refused.
    pub(super) fn meet_leader(&mut self, epoch: Epoch, node: NodeId) {
        assert!(self.admits(epoch), "a leader of {epoch} is met after {}", self.highest);
        self.bond = TermBond::Leader(epoch, node);
    }

    /// Follows a leader from here on, in its epoch and by its table of those before. Returns whether the epoch is
    /// newer.
    ///
    /// # Panics
    /// If the epoch is below one that was followed or promised: that leader is refused.
    pub(super) fn follow(&mut self, epoch: Epoch, epochs: EpochTable) -> bool {
        assert!(self.admits(epoch), "epoch {epoch} is followed after {}", self.highest);
        let is_newer = epoch > self.epoch;
        (self.epoch, self.epochs) = (epoch, epochs);
        self.highest = self.highest.max(epoch);
        is_newer
    }

    /// Returns whether a candidate may be promised this epoch: one that nobody leads or has been promised, but for this
    /// candidate itself, whose first answer may have been lost.
    pub(super) fn may_promise(&self, epoch: Epoch, node: NodeId) -> bool {
        epoch > self.highest || (epoch == self.highest && self.bond == TermBond::Candidate(node))
    }

    /// Promises an epoch to a candidate. It may come to nothing, and another lead in that epoch: whoever leads is
    /// followed.
    pub(super) fn promise(&mut self, epoch: Epoch, node: NodeId) {
        self.highest = self.highest.max(epoch);
        self.bond = TermBond::Candidate(node);
    }

    /// Gives the position of a replica that has applied `applied`: in the epoch that is followed, once all records of
    /// the ones before are there.
    pub(super) fn standing_at(&self, applied: Position) -> Position {
        recovery::standing_at(applied, self.epoch, &self.epochs)
    }

    /// Returns whether a state at this position is beside the history that is followed.
    pub(super) fn has_lost(&self, position: Position) -> bool {
        let now = Position::new(self.epoch, position.sequence);
        self.epochs.position_status(position, now) == PositionStatus::Lost
    }

    /// Returns whether a snapshot at this position is one of the history that is followed.
    pub(super) fn has(&self, position: Position) -> bool {
        let Position { epoch, sequence } = position;
        sequence == 0 || epoch == self.epoch || self.epochs.last_of(epoch).is_some_and(|end| sequence <= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: NodeId = 5;
    const CANDIDATE: NodeId = 6;
    const OTHER: NodeId = 7;

    fn followed(epoch: Epoch) -> ReplicaTerm {
        let mut term = ReplicaTerm::default();
        term.meet_leader(epoch, LEADER);
        assert!(term.follow(epoch, EpochTable::default()));
        term
    }

    #[test]
    fn a_leader_binds_against_others_of_its_epoch_and_no_candidate_gets_it() {
        let term = followed(3);
        assert_eq!((term.epoch(), term.highest(), term.to_note().promised), (3, 3, 0));
        assert!(term.has_other_leader(3, OTHER) && !term.has_other_leader(3, LEADER));
        assert!(!term.has_other_leader(4, OTHER), "a later epoch is another's");
        assert!(!term.may_promise(3, OTHER) && !term.may_promise(3, LEADER) && !term.may_promise(2, OTHER));
        assert!(term.may_promise(4, OTHER));
    }

    #[test]
    fn a_promise_is_to_one_candidate_and_whoever_leads_in_its_epoch_is_followed() {
        let mut term = followed(3);
        term.promise(5, CANDIDATE);
        assert_eq!((term.epoch(), term.highest(), term.to_note().promised), (3, 5, 5));
        assert!(term.may_promise(5, CANDIDATE), "its first answer may have been lost");
        assert!(!term.may_promise(5, OTHER) && !term.may_promise(4, OTHER) && term.may_promise(6, OTHER));
        assert!(!term.has_other_leader(5, OTHER));
        term.meet_leader(5, OTHER);
        assert!(term.has_other_leader(5, CANDIDATE) && !term.may_promise(5, CANDIDATE), "it is led now");
        assert!(term.follow(5, EpochTable::default()) && !term.follow(5, EpochTable::default()));
        assert_eq!((term.epoch(), term.highest(), term.to_note().promised), (5, 5, 0));
    }

    #[test]
    fn a_leader_that_was_met_is_not_followed_before_it_knows_the_position() {
        let mut term = followed(3);
        term.meet_leader(9, OTHER);
        assert_eq!((term.epoch(), term.highest()), (3, 3));
        assert!(term.has_other_leader(9, LEADER) && term.may_promise(4, CANDIDATE));
    }

    #[test]
    fn a_restart_keeps_the_promise_and_forgets_to_whom() {
        let mut term = followed(3);
        term.promise(5, CANDIDATE);
        let again = ReplicaTerm::noted(&term.to_note());
        assert_eq!((again.epoch(), again.highest(), again.to_note()), (3, 5, term.to_note()));
        assert!(!again.may_promise(5, CANDIDATE) && !again.may_promise(5, OTHER) && again.may_promise(6, OTHER));
    }

    #[test]
    #[should_panic(expected = "after 5")]
    fn a_leader_below_a_promise_is_never_followed() {
        let mut term = followed(3);
        term.promise(5, CANDIDATE);
        term.meet_leader(4, LEADER);
    }
}
