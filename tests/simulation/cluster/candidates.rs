//! `memdb promote`: carries out what a `Promotion` wants done, a question a step, so that anything happens in between.

use super::{
    hand_over::{HandOver, IN_MEMORY},
    leader::{place_of, url_of},
    network::Place,
    simulation::{Cluster, ended},
};
use memdb::{
    base::position::Epoch,
    replication::{
        AppendAnswer, AppendCommand, AppendOutcome, AppendRequest, ElectedLeader, NodeId, NodeState, Promotion,
        PromotionAction, PromotionCandidate,
    },
    storage::recovery,
};
use std::collections::BTreeMap;

/// A promotion under way.
pub struct Promoting {
    promotion: Promotion,
    /// The candidate's own run.
    node: NodeId,
    /// The leaders that have said where they stand, with their runs, in this round.
    leaders: BTreeMap<Place, NodeId>,
    /// The epoch that is asked for in this round, and who has promised it.
    epoch: Epoch,
    promised: BTreeMap<Place, NodeState>,
}

/// A replica that others have promised that it may lead.
pub struct Promoted {
    pub elected: ElectedLeader,
    /// Those who have promised that very epoch.
    pub promised: BTreeMap<Place, NodeState>,
}

impl Promoting {
    /// Notes what is asked.
    fn asks(&mut self, offer: &AppendRequest<'_>) {
        if offer.command == AppendCommand::Promise && offer.epoch != self.epoch {
            self.epoch = offer.epoch;
            self.promised.clear();
        }
    }

    /// Notes what a node has answered.
    fn hears(&mut self, offer: &AppendRequest<'_>, from: Place, answer: &AppendAnswer) {
        if offer.command == AppendCommand::Promise && answer.outcome == AppendOutcome::Applied {
            self.promised.insert(from, answer.hello.clone());
        }
        if offer.command == AppendCommand::Probe && answer.hello.leads {
            self.leaders.insert(from, answer.hello.node);
        }
    }
}

impl Cluster {
    /// Somebody says `memdb promote` to a replica.
    pub fn promote(&mut self, at: Place, forced: bool) {
        let leader = Some(url_of(self.nodes[at].follows));
        let identity = self.database;
        let Some(following) = self.nodes[at].following_mut() else { return };
        if following.promoting.is_some() || identity.is_none() {
            return;
        }
        let (members, node) = (following.members.clone(), following.replica.node_state().node);
        let candidate =
            PromotionCandidate { identity, node, url: url_of(at), members, leader, force: forced, resumes: false };
        let (leaders, promised) = Default::default();
        let promotion = Promotion::new(candidate);
        following.promoting = Some(Promoting { promotion, node, leaders, epoch: 0, promised });
        self.note(format_args!("{at} is promoted{}", if forced { " by force" } else { "" }));
        self.tally(if forced { "forced promotions begun" } else { "promotions begun" });
    }

    /// A candidate asks the next question, or has asked all.
    pub fn step_candidate(&mut self, at: Place) -> Result<(), String> {
        let Some(following) = self.nodes[at].following_mut() else { return Ok(()) };
        let Some(mut promoting) = following.promoting.take() else { return Ok(()) };
        match promoting.promotion.poll(self.random.next_u64()) {
            PromotionAction::AskItself(bytes) => {
                let offer = AppendRequest::decode(&bytes)?;
                promoting.asks(&offer);
                if offer.command == AppendCommand::Probe {
                    (promoting.epoch, promoting.leaders) = Default::default(); // another round
                }
                let answer = self.asks_for(&offer, |cluster| cluster.ask(at, at, &bytes))?;
                let view = self.nodes[at].following().and_then(|following| following.view.as_ref());
                let ended = view.and_then(|reader| reader.epochs().ended().last().copied());
                promoting.promotion.answered_itself(answer, ended);
            }
            PromotionAction::Ask(url, bytes, _) => {
                let (offer, other) = (AppendRequest::decode(&bytes)?, place_of(&url).ok_or("there is no such node")?);
                promoting.asks(&offer);
                let answer = self.asks_for(&offer, |cluster| cluster.asks(at, other, &bytes))?;
                if let Some(answer) = &answer {
                    promoting.hears(&offer, other, answer);
                }
                promoting.promotion.answered(&url, answer);
            }
            PromotionAction::Wait => return Err(format!("candidate {at} waits, and everything is answered")),
            PromotionAction::Elected(elected) => return self.takes_the_lead(at, elected, promoting),
            PromotionAction::Refused(why) => {
                self.note(format_args!("{at} is not promoted: {why}"));
                let has_begun = why.contains("Nobody may be leading") || why.contains("has promised a later epoch");
                self.tally(if has_begun { "promotions without a promise" } else { "promotions refused" });
                return Ok(());
            }
        }
        // It goes on with the next step, unless its process has ended.
        let node = promoting.node;
        if let Some(following) = self.nodes[at].following_mut().filter(|it| it.replica.node_state().node == node) {
            following.promoting = Some(promoting);
        }
        Ok(())
    }

    /// Has a question asked, and takes note of whoever promises.
    fn asks_for(
        &mut self,
        offer: &AppendRequest<'_>,
        ask: impl FnOnce(&mut Self) -> Result<Option<AppendAnswer>, String>,
    ) -> Result<Option<AppendAnswer>, String> {
        self.promised_to = if offer.command == AppendCommand::Promise { offer.epoch } else { 0 };
        let answer = ask(self);
        self.promised_to = 0;
        answer
    }

    /// A question to any node; the network may lose it, or the answer.
    pub fn asks(&mut self, from: Place, to: Place, question: &[u8]) -> Result<Option<AppendAnswer>, String> {
        if !self.network.gets_through(from, to) || !self.is_awake(to) {
            return Ok(None);
        }
        let answer = if self.nodes[to].leading().is_some() {
            self.ask_leader(to, question)?
        } else {
            self.ask(from, to, question)?
        };
        self.check_after_crash()?;
        Ok(answer.filter(|_| self.network.gets_through(to, from)))
    }

    /// A leader that has answered a candidate hears from nobody else that this one is about to lead.
    pub fn hears_from(&self, at: Place, run: NodeId, from: Place, epoch: Epoch) -> Result<(), String> {
        for (candidate, node) in self.nodes.iter().enumerate() {
            let promoting = node.following().and_then(|following| following.promoting.as_ref());
            // Of two leaders one may hear it from the other.
            let is_of_it = |it: &Promoting| {
                it.epoch == epoch && it.leaders.get(&at) == Some(&run) && !it.leaders.contains_key(&from)
            };
            if promoting.is_some_and(is_of_it) {
                return Err(format!(
                    "leader {at} hears from {from}, and not from the candidate {candidate}, that another is about to lead"
                ));
            }
        }
        Ok(())
    }

    /// Everybody has been asked: it is about to lead, with what it has in memory, or from its files on.
    fn takes_the_lead(&mut self, at: Place, elected: ElectedLeader, promoting: Promoting) -> Result<(), String> {
        self.note(format_args!("{at} may lead in {}", elected.epoch));
        let position = self.nodes[at].following().filter(|it| it.keeps()).and_then(|following| following.position());
        let (window, run, epoch) = (self.settings.window, elected.node, elected.epoch);
        let promoted = Promoted { elected, promised: promoting.promised };
        if self.random.percent(IN_MEMORY) {
            match self.replica_hands_over(at)? {
                HandOver::Kept(disk, kept, view) => {
                    ended(self, at);
                    self.nodes[at].killed_at = position.or(self.nodes[at].killed_at);
                    self.tally("promotions in memory");
                    return self.begins_in_memory(at, run, promoted, disk, *kept, view);
                }
                HandOver::ReadFiles => {}
                HandOver::Died => return Ok(()),
            }
        }
        ended(self, at);
        let node = &mut self.nodes[at];
        node.machine.lock().kill();
        node.killed_at = position.or(node.killed_at);
        self.begin_start(at, run, Some(promoted), Vec::new(), |disk| recovery::look_elected(disk, window, epoch))
    }
}
