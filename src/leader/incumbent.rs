//! The leader's answer to another node that asks for its position, or that is about to lead in its place.

use crate::{
    format::Identity,
    position::Epoch,
    replication::{Answer, Command, Hello, NodeId, Offer, Outcome},
    store::Mark,
};

/// A leader, towards whoever might be the next.
#[derive(Clone, Debug)]
pub struct Incumbent {
    /// This run of it.
    pub node: NodeId,
    /// The URL by which others reach it.
    pub url: String,
    /// The database.
    pub identity: Identity,
    /// The epoch it leads in.
    pub epoch: Epoch,
    /// The later epoch it has promised, and to which run of a node.
    promised: Option<(Epoch, NodeId)>,
}

/// The leader's reaction to an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// This answer.
    Answer(Outcome),
    /// First the Writer stands down for good and the MANIFEST notes the promise of this epoch, durably; then this
    /// answer, with the position at which the Writer has ended.
    StandDown(Epoch, Outcome),
}

impl Incumbent {
    /// A leader that has promised nothing.
    pub fn new(node: NodeId, url: String, identity: Identity, epoch: Epoch) -> Self {
        Self { node, url, identity, epoch, promised: None }
    }

    /// An offer has come.
    pub fn offered(&mut self, offer: &Offer<'_>) -> Reaction {
        let highest = self.highest();
        if offer.identity.database_id != self.identity.database_id {
            return Reaction::Answer(Outcome::OtherDatabase);
        }
        if offer.epoch < highest {
            return Reaction::Answer(Outcome::OldEpoch);
        }
        // A leader of a later epoch begins with a question too; whoever does not lead has no run to name.
        if offer.command == Command::Ask && (offer.leader == 0 || offer.epoch == highest) {
            return Reaction::Answer(Outcome::Applied);
        }
        // What it is sent by a leader is for it once it follows, which it is about to.
        let outcome = if offer.command == Command::Promise { Outcome::Applied } else { Outcome::Syncing };
        let by = (offer.epoch, offer.leader);
        match self.promised {
            Some(promised) if promised == by => Reaction::Answer(outcome),
            _ if offer.epoch == self.epoch => Reaction::Answer(Outcome::OtherLeader),
            Some(_) if offer.epoch == highest => Reaction::Answer(Outcome::OldEpoch),
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
    pub fn answer(&self, outcome: Outcome, mark: Mark) -> Answer {
        let hello = Hello {
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
        Answer { outcome, hello }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Analyzer;

    const IDENTITY: Identity = Identity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };

    fn offer(epoch: Epoch, leader: NodeId, command: Command) -> Offer<'static> {
        Offer { leader, command, ..Offer::ask(IDENTITY, epoch) }
    }

    #[test]
    fn it_stands_down_once_and_for_one_candidate() {
        let mut leader = Incumbent::new(1, "http://a:1".to_owned(), IDENTITY, 5);
        let ask = |epoch| offer(epoch, 0, Command::Ask);
        assert_eq!(leader.offered(&ask(5)), Reaction::Answer(Outcome::Applied));
        assert_eq!(leader.offered(&ask(4)), Reaction::Answer(Outcome::OldEpoch));
        assert!(leader.answer(Outcome::Applied, Mark::default()).hello.leads);
        let foreign = Offer { identity: Identity { database_id: 8, ..IDENTITY }, ..offer(6, 2, Command::Promise) };
        assert_eq!(leader.offered(&foreign), Reaction::Answer(Outcome::OtherDatabase));
        assert_eq!(leader.offered(&offer(5, 2, Command::Promise)), Reaction::Answer(Outcome::OtherLeader));
        assert_eq!(leader.offered(&offer(5, 2, Command::Stream)), Reaction::Answer(Outcome::OtherLeader));
        let promise = offer(6, 2, Command::Promise);
        assert_eq!(leader.offered(&promise), Reaction::StandDown(6, Outcome::Applied));
        assert_eq!(leader.offered(&promise), Reaction::Answer(Outcome::Applied), "the answer was lost");
        assert_eq!(leader.offered(&offer(6, 3, Command::Promise)), Reaction::Answer(Outcome::OldEpoch));
        let hello = leader.answer(Outcome::Applied, Mark::default()).hello;
        assert_eq!((hello.epoch, hello.leads), (6, false));
        assert_eq!(leader.offered(&offer(6, 2, Command::Stream)), Reaction::Answer(Outcome::Syncing));
        assert_eq!(leader.offered(&offer(9, 3, Command::Promise)), Reaction::StandDown(9, Outcome::Applied));
    }

    #[test]
    fn a_later_leader_that_sends_to_it_is_another_reason() {
        let mut leader = Incumbent::new(1, "http://a:1".to_owned(), IDENTITY, 5);
        assert_eq!(leader.offered(&offer(8, 2, Command::Stream)), Reaction::StandDown(8, Outcome::Syncing));
        assert_eq!(leader.offered(&offer(8, 2, Command::Snapshot)), Reaction::Answer(Outcome::Syncing));
        assert_eq!(leader.offered(&offer(9, 4, Command::Ask)), Reaction::StandDown(9, Outcome::Syncing));
        leader.forget_promise();
        assert_eq!(
            leader.offered(&offer(9, 4, Command::Ask)),
            Reaction::StandDown(9, Outcome::Syncing),
            "noted this time"
        );
    }
}
