//! What a leader makes of another node that asks where it stands, or that is about to lead in its place.

use crate::{
    format::DatabaseIdentity,
    position::Epoch,
    replication::{AppendAnswer, AppendCommand, NodeState, NodeId, AppendRequest, AppendOutcome},
    store::StateId,
};

/// A leader, towards whoever might be the next.
#[derive(Clone, Debug)]
pub struct Incumbent {
    /// This run of it.
    pub node: NodeId,
    /// Where it can be reached.
    pub url: String,
    /// The database.
    pub identity: DatabaseIdentity,
    /// The epoch it leads in.
    pub epoch: Epoch,
    /// The later epoch it has promised, and to which run of a node.
    promised: Option<(Epoch, NodeId)>,
}

/// What follows from an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// This answer.
    Answer(AppendOutcome),
    /// First the Writer stands down for good and the MANIFEST notes the promise of this epoch, durably; then this answer,
    /// with the position at which the Writer has ended.
    StandDown(Epoch, AppendOutcome),
}

impl Incumbent {
    /// A leader that has promised nothing.
    pub fn new(node: NodeId, url: String, identity: DatabaseIdentity, epoch: Epoch) -> Self {
        Self { node, url, identity, epoch, promised: None }
    }

    /// An offer has come.
    pub fn offered(&mut self, offer: &AppendRequest<'_>) -> Reaction {
        let highest = self.highest();
        if offer.identity.database_id != self.identity.database_id {
            return Reaction::Answer(AppendOutcome::OtherDatabase);
        }
        if offer.epoch < highest {
            return Reaction::Answer(AppendOutcome::OldEpoch);
        }
        // A leader of a later epoch begins with a question too; whoever does not lead has no run to name.
        if offer.command == AppendCommand::Probe && (offer.leader == 0 || offer.epoch == highest) {
            return Reaction::Answer(AppendOutcome::Applied);
        }
        // What it is sent by a leader is for it once it follows, which it is about to.
        let outcome = if offer.command == AppendCommand::Promise { AppendOutcome::Applied } else { AppendOutcome::Syncing };
        let by = (offer.epoch, offer.leader);
        match self.promised {
            Some(promised) if promised == by => Reaction::Answer(outcome),
            _ if offer.epoch == self.epoch => Reaction::Answer(AppendOutcome::OtherLeader),
            Some(_) if offer.epoch == highest => Reaction::Answer(AppendOutcome::OldEpoch),
            _ => {
                self.promised = Some(by);
                Reaction::StandDown(offer.epoch, outcome)
            }
        }
    }

    /// The promise could not be noted, so it is none: whoever asks again is answered once it is.
    pub fn forget_promise(&mut self) {
        self.promised = None;
    }

    fn highest(&self) -> Epoch {
        self.promised.map_or(self.epoch, |(epoch, _)| epoch)
    }

    /// The answer, of a leader that stands at `mark`.
    pub fn answer(&self, outcome: AppendOutcome, mark: StateId) -> AppendAnswer {
        let hello = NodeState {
            node: self.node,
            url: self.url.clone(),
            database: Some(self.identity.database_id),
            epoch: self.highest(),
            position: mark.position,
            chain: mark.chain,
            synced: Some(0), // nobody who asks a leader wants to know
            diverged: false,
            local: false,
            leads: self.promised.is_none(),
        };
        AppendAnswer { outcome, hello }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Analyzer;

    const IDENTITY: DatabaseIdentity = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };

    fn offer(epoch: Epoch, leader: NodeId, command: AppendCommand) -> AppendRequest<'static> {
        AppendRequest { leader, command, ..AppendRequest::probe(IDENTITY, epoch) }
    }

    #[test]
    fn it_stands_down_once_and_for_one_candidate() {
        let mut leader = Incumbent::new(1, "http://a:1".to_owned(), IDENTITY, 5);
        let ask = |epoch| offer(epoch, 0, AppendCommand::Probe);
        assert_eq!(leader.offered(&ask(5)), Reaction::Answer(AppendOutcome::Applied));
        assert_eq!(leader.offered(&ask(4)), Reaction::Answer(AppendOutcome::OldEpoch));
        assert!(leader.answer(AppendOutcome::Applied, StateId::default()).hello.leads);
        let foreign = AppendRequest { identity: DatabaseIdentity { database_id: 8, ..IDENTITY }, ..offer(6, 2, AppendCommand::Promise) };
        assert_eq!(leader.offered(&foreign), Reaction::Answer(AppendOutcome::OtherDatabase));
        assert_eq!(leader.offered(&offer(5, 2, AppendCommand::Promise)), Reaction::Answer(AppendOutcome::OtherLeader));
        assert_eq!(leader.offered(&offer(5, 2, AppendCommand::Append)), Reaction::Answer(AppendOutcome::OtherLeader));
        let promise = offer(6, 2, AppendCommand::Promise);
        assert_eq!(leader.offered(&promise), Reaction::StandDown(6, AppendOutcome::Applied));
        assert_eq!(leader.offered(&promise), Reaction::Answer(AppendOutcome::Applied), "the answer was lost");
        assert_eq!(leader.offered(&offer(6, 3, AppendCommand::Promise)), Reaction::Answer(AppendOutcome::OldEpoch));
        let hello = leader.answer(AppendOutcome::Applied, StateId::default()).hello;
        assert_eq!((hello.epoch, hello.leads), (6, false));
        assert_eq!(leader.offered(&offer(6, 2, AppendCommand::Append)), Reaction::Answer(AppendOutcome::Syncing));
        assert_eq!(leader.offered(&offer(9, 3, AppendCommand::Promise)), Reaction::StandDown(9, AppendOutcome::Applied));
    }

    #[test]
    fn a_later_leader_that_sends_to_it_is_another_reason() {
        let mut leader = Incumbent::new(1, "http://a:1".to_owned(), IDENTITY, 5);
        assert_eq!(leader.offered(&offer(8, 2, AppendCommand::Append)), Reaction::StandDown(8, AppendOutcome::Syncing));
        assert_eq!(leader.offered(&offer(8, 2, AppendCommand::InstallSnapshot)), Reaction::Answer(AppendOutcome::Syncing));
        assert_eq!(leader.offered(&offer(9, 4, AppendCommand::Probe)), Reaction::StandDown(9, AppendOutcome::Syncing));
        leader.forget_promise();
        assert_eq!(
            leader.offered(&offer(9, 4, AppendCommand::Probe)),
            Reaction::StandDown(9, AppendOutcome::Syncing),
            "noted this time"
        );
    }
}
