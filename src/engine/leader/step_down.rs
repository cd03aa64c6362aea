//! The leader's answer to another node that asks for its position, or that is about to lead in its place.

use crate::{
    base::position::Epoch,
    data::store::StateId,
    replication::{AppendAnswer, AppendCommand, AppendOutcome, AppendRequest, NodeId, NodeState},
    storage::file_header::DatabaseIdentity,
};

/// A leader, towards whoever might be the next.
#[derive(Clone, Debug)]
pub struct StepDownGate {
    /// This run of it.
    pub node: NodeId,
    /// The URL by which others reach it.
    pub url: String,
    /// The database.
    pub identity: DatabaseIdentity,
    /// The epoch it leads in.
    pub epoch: Epoch,
    /// The later epoch it has promised, and to which run of a node.
    promised: Option<(Epoch, NodeId)>,
}

/// The leader's reaction to an append request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepDownReaction {
    /// This answer.
    Answer(AppendOutcome),
    /// First the Writer steps down for good and the MANIFEST notes the promise of this epoch, durably; then this
    /// answer, with the position at which the Writer has ended.
    StepDown(Epoch, AppendOutcome),
}

impl StepDownGate {
    /// A leader that has promised nothing.
    pub fn new(node: NodeId, url: String, identity: DatabaseIdentity, epoch: Epoch) -> Self {
        Self { node, url, identity, epoch, promised: None }
    }

    /// An append request has come.
    pub fn on_append_request(&mut self, offer: &AppendRequest<'_>) -> StepDownReaction {
        let highest = self.highest();
        if offer.identity.database_id != self.identity.database_id {
            return StepDownReaction::Answer(AppendOutcome::OtherDatabase);
        }
        if offer.epoch < highest {
            return StepDownReaction::Answer(AppendOutcome::OldEpoch);
        }
        // A leader of a later epoch begins with a question too; whoever does not lead has no run to name.
        if offer.command == AppendCommand::Probe && (offer.leader == 0 || offer.epoch == highest) {
            return StepDownReaction::Answer(AppendOutcome::Applied);
        }
        // A newer leader may send records while this node is still stepping down: it answers Syncing until it follows.
        let outcome =
            if offer.command == AppendCommand::Promise { AppendOutcome::Applied } else { AppendOutcome::Syncing };
        let by = (offer.epoch, offer.leader);
        match self.promised {
            // Asked again by the same node: the first answer was lost.
            Some(promised) if promised == by => StepDownReaction::Answer(outcome),
            // Two copies of one directory lead. That is for a person to end, so this one goes on.
            _ if offer.epoch == self.epoch => StepDownReaction::Answer(AppendOutcome::OtherLeader),
            // One epoch is promised to one run of a node.
            Some(_) if offer.epoch == highest => StepDownReaction::Answer(AppendOutcome::OldEpoch),
            _ => {
                self.promised = Some(by);
                StepDownReaction::StepDown(offer.epoch, outcome)
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
    use crate::text::tokenizer::Analyzer;

    const IDENTITY: DatabaseIdentity =
        DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };

    fn offer(epoch: Epoch, leader: NodeId, command: AppendCommand) -> AppendRequest<'static> {
        AppendRequest { leader, command, ..AppendRequest::probe(IDENTITY, epoch) }
    }

    #[test]
    fn a_leader_steps_down_once_and_for_one_candidate() {
        let mut leader = StepDownGate::new(1, "http://a:1".to_owned(), IDENTITY, 5);
        let ask = |epoch| offer(epoch, 0, AppendCommand::Probe);
        assert_eq!(leader.on_append_request(&ask(5)), StepDownReaction::Answer(AppendOutcome::Applied));
        assert_eq!(leader.on_append_request(&ask(4)), StepDownReaction::Answer(AppendOutcome::OldEpoch));
        assert!(leader.answer(AppendOutcome::Applied, StateId::default()).hello.leads);
        let foreign = AppendRequest {
            identity: DatabaseIdentity { database_id: 8, ..IDENTITY },
            ..offer(6, 2, AppendCommand::Promise)
        };
        assert_eq!(leader.on_append_request(&foreign), StepDownReaction::Answer(AppendOutcome::OtherDatabase));
        assert_eq!(
            leader.on_append_request(&offer(5, 2, AppendCommand::Promise)),
            StepDownReaction::Answer(AppendOutcome::OtherLeader)
        );
        assert_eq!(
            leader.on_append_request(&offer(5, 2, AppendCommand::Append)),
            StepDownReaction::Answer(AppendOutcome::OtherLeader)
        );
        let promise = offer(6, 2, AppendCommand::Promise);
        assert_eq!(leader.on_append_request(&promise), StepDownReaction::StepDown(6, AppendOutcome::Applied));
        assert_eq!(
            leader.on_append_request(&promise),
            StepDownReaction::Answer(AppendOutcome::Applied),
            "the answer was lost"
        );
        assert_eq!(
            leader.on_append_request(&offer(6, 3, AppendCommand::Promise)),
            StepDownReaction::Answer(AppendOutcome::OldEpoch)
        );
        let hello = leader.answer(AppendOutcome::Applied, StateId::default()).hello;
        assert_eq!((hello.epoch, hello.leads), (6, false));
        assert_eq!(
            leader.on_append_request(&offer(6, 2, AppendCommand::Append)),
            StepDownReaction::Answer(AppendOutcome::Syncing)
        );
        assert_eq!(
            leader.on_append_request(&offer(9, 3, AppendCommand::Promise)),
            StepDownReaction::StepDown(9, AppendOutcome::Applied)
        );
    }

    #[test]
    fn a_later_leader_that_sends_to_it_is_another_reason() {
        let mut leader = StepDownGate::new(1, "http://a:1".to_owned(), IDENTITY, 5);
        assert_eq!(
            leader.on_append_request(&offer(8, 2, AppendCommand::Append)),
            StepDownReaction::StepDown(8, AppendOutcome::Syncing)
        );
        assert_eq!(
            leader.on_append_request(&offer(8, 2, AppendCommand::InstallSnapshot)),
            StepDownReaction::Answer(AppendOutcome::Syncing)
        );
        assert_eq!(
            leader.on_append_request(&offer(9, 4, AppendCommand::Probe)),
            StepDownReaction::StepDown(9, AppendOutcome::Syncing)
        );
        leader.forget_promise();
        assert_eq!(
            leader.on_append_request(&offer(9, 4, AppendCommand::Probe)),
            StepDownReaction::StepDown(9, AppendOutcome::Syncing),
            "noted this time"
        );
    }
}
