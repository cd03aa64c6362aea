//! `memdb promote` as a state machine: asks every node that the candidate knows, and has each promise an epoch.
//!
//! The owner carries out each [`PromotionAction`], in any order and at any pace, and reports every answer, or that
//! there was none in time. Three rounds at most, each in a later epoch than the one before. A round has these steps,
//! and each ends with its last answer:
//!
//! 1. The candidate itself says where it stands, then all other nodes do. [`check_promotion`] decides whether it may
//!    lead, and in which epoch.
//! 2. Whoever leads promises the epoch. It comes first because it has to hear of the promotion from the candidate: it
//!    says then where its log ends. Once others have promised they refuse its records, so it would stop without having
//!    said that.
//! 3. The candidate promises the epoch to itself, then all others do.

use super::{
    AppendAnswer, AppendRequest, ClusterMembers, NodeId, NodeState, PolledNode, has_promised, may_skip_promise,
    promotion_check::{check_promotion, check_resumption},
};
use crate::{
    base::failpoint::inject,
    base::limits,
    base::position::{Epoch, Position},
    storage::file_header::DatabaseIdentity,
};
use bytes::Bytes;
use std::collections::VecDeque;

/// Patience for a promise, in milliseconds: whoever gives it syncs it first.
const PROMISE_TIMEOUT_MS: u64 = 5_000;
/// Rounds before the promotion is given up.
const ROUNDS: usize = 3;
/// Advice for a person when some nodes have promised and others have not.
const NOBODY_LEADS: &str = "Nobody may be leading now: try again, here or at another replica that keeps files";

/// A replica that is to lead.
#[derive(Clone, Debug)]
pub struct PromotionCandidate {
    /// The database it holds; `None` if it holds none.
    pub identity: Option<DatabaseIdentity>,
    /// This run of it.
    pub node: NodeId,
    /// The URL by which others reach it.
    pub url: String,
    /// The nodes of the cluster, as its leader has listed them.
    pub members: ClusterMembers,
    /// The leader that its settings name.
    pub leader: Option<String>,
    /// True if it is to lead also without records that others may have.
    pub force: bool,
    /// True if nobody has asked for this: the candidate led last, and the node that it promised its lead to does not
    /// lead.
    pub resumes: bool,
}

/// An effect that a promotion's driver carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromotionAction {
    /// Give this append request to the candidate's own replica, and report to [`Promotion::answered_itself`].
    AskItself(Bytes),
    /// Send this append request to the node at this URL, wait for the answer for so many milliseconds at most, and
    /// report to [`Promotion::answered`].
    Ask(String, Bytes, u64),
    /// Nothing to do before another answer.
    Wait,
    /// The candidate may lead.
    Elected(ElectedLeader),
    /// The candidate may not lead, for this reason. It is a replica as before.
    Refused(String),
}

/// The leadership that other nodes have promised to a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectedLeader {
    /// The epoch.
    pub epoch: Epoch,
    /// The run of the node that they have promised it to.
    pub node: NodeId,
    /// All other nodes that the candidate knows.
    pub others: Vec<String>,
    /// The positions of the nodes that have answered, when they were asked and when they promised.
    pub promised: Vec<Position>,
    /// True if it leads also without records that others may have.
    pub force: bool,
}

/// The recipient of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PromotionRecipient {
    Itself,
    Node(String),
}

/// The question that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PromotionStep {
    OwnState,
    States,
    Promises,
}

/// A promotion under way.
#[derive(Debug)]
pub struct Promotion {
    candidate: PromotionCandidate,
    /// All other nodes it knows.
    others: Vec<String>,
    /// The one of them that it follows.
    leader: Option<String>,
    round: usize,
    step: PromotionStep,
    /// Those who are to be asked in this step.
    to_ask: VecDeque<PromotionRecipient>,
    /// Questions that were not answered yet.
    under_way: usize,
    /// Those who are to promise in later steps of this round.
    later: VecDeque<Vec<PromotionRecipient>>,
    /// The candidate's own report in this round.
    me: Option<NodeState>,
    asked: Vec<PolledNode>,
    /// The epoch of this round.
    epoch: Epoch,
    /// The positions of the nodes that have answered, over all rounds.
    seen: Vec<Position>,
    /// The reason why this round cannot succeed.
    trouble: Option<String>,
    ended: Option<Result<ElectedLeader, String>>,
}

impl Promotion {
    /// A promotion that has asked nobody yet.
    pub fn new(candidate: PromotionCandidate) -> Self {
        let PromotionCandidate { members, url: own, leader: configured, .. } = &candidate;
        let leader = Some(members.leader.clone()).filter(|url| !url.is_empty()).or_else(|| configured.clone());
        let mut others: Vec<String> = Vec::new();
        for url in leader.iter().chain(configured).chain(&members.replicas) {
            if url != own && !others.contains(url) {
                others.push(url.clone());
            }
        }
        let no_database = candidate.identity.is_none();
        let mut promotion = Self {
            candidate,
            others,
            leader,
            round: 0,
            step: PromotionStep::OwnState,
            to_ask: VecDeque::from([PromotionRecipient::Itself]),
            under_way: 0,
            later: VecDeque::new(),
            me: None,
            asked: Vec::new(),
            epoch: 0,
            seen: Vec::new(),
            trouble: None,
            ended: None,
        };
        if no_database {
            promotion.refuse("this replica holds no database yet: wait until it is ready");
        }
        promotion
    }

    /// Gives the next action. `random` is any number; an epoch may be drawn by it.
    pub fn poll(&mut self, random: u64) -> PromotionAction {
        loop {
            match &self.ended {
                Some(Ok(elected)) => return PromotionAction::Elected(elected.clone()),
                Some(Err(why)) => return PromotionAction::Refused(why.clone()),
                None => {}
            }
            if let Some(recipient) = self.to_ask.pop_front() {
                self.under_way += 1;
                return self.question(recipient);
            }
            if self.under_way > 0 {
                return PromotionAction::Wait;
            }
            self.start_next_step(random);
        }
    }

    fn question(&self, recipient: PromotionRecipient) -> PromotionAction {
        let PromotionCandidate { identity, node, url, .. } = &self.candidate;
        let identity = identity.expect("without a database it has ended");
        let seen = self.me.as_ref().map_or(0, |me| me.epoch);
        let (offer, patience_ms) = match self.step {
            // The candidate's own replica is asked anew in each round: it may have promised a later epoch meanwhile.
            PromotionStep::OwnState => (AppendRequest::probe(identity, 0), limits::EXCHANGE_TIMEOUT_MS),
            PromotionStep::States => (AppendRequest::probe(identity, seen), limits::EXCHANGE_TIMEOUT_MS),
            PromotionStep::Promises => (AppendRequest::promise(identity, self.epoch, *node, url), PROMISE_TIMEOUT_MS),
        };
        let bytes = Bytes::from(offer.encode_head());
        match recipient {
            PromotionRecipient::Itself => PromotionAction::AskItself(bytes),
            PromotionRecipient::Node(url) => PromotionAction::Ask(url, bytes, patience_ms),
        }
    }

    /// The candidate's own replica has answered; `None`: it is stopping. `ended` is the end of the last epoch that it
    /// knows to have ended.
    pub fn answered_itself(&mut self, answer: Option<AppendAnswer>, ended: Option<Position>) {
        if self.ended.is_some() {
            return;
        }
        self.under_way -= 1;
        let Some(answer) = answer else { return self.refuse("this replica is stopping") };
        if self.step == PromotionStep::OwnState {
            let here = answer.hello.position;
            // It would lead without records of an epoch that has ended, and those may have been acknowledged.
            if !self.candidate.force && ended.is_some_and(|ended| ended.epoch >= here.epoch) {
                return self
                    .refuse("this replica has not got all records of earlier epochs yet: wait until it is ready");
            }
            self.me = Some(answer.hello);
        } else if has_promised(&answer, self.epoch) {
            self.note(&answer.hello);
        } else {
            let here = answer.hello.position;
            // No further round: whoever has its promise is about to lead.
            let why = format!("this replica, which is at {here}, has promised a later epoch to another");
            self.ended = Some(Err(why));
        }
    }

    /// The node at `url` has answered; `None`: it has not in time.
    pub fn answered(&mut self, url: &str, answer: Option<AppendAnswer>) {
        if self.ended.is_some() {
            return;
        }
        self.under_way -= 1;
        match self.step {
            PromotionStep::OwnState => unreachable!("only the candidate is asked in this step"),
            PromotionStep::States => self.states(url, answer.map(|answer| answer.hello)),
            PromotionStep::Promises => self.promises(url, answer),
        }
    }

    fn states(&mut self, url: &str, hello: Option<NodeState>) {
        // One of the addresses may be the candidate's own.
        if hello.as_ref().is_some_and(|hello| hello.node == self.candidate.node) {
            return;
        }
        let leads = hello.as_ref().is_some_and(|hello| hello.leads);
        let is_leader = leads || self.leader.as_deref() == Some(url);
        self.asked.push(PolledNode { url: url.to_owned(), is_leader, hello });
    }

    fn promises(&mut self, url: &str, answer: Option<AppendAnswer>) {
        let epoch = self.epoch;
        let was_silent = self.asked.iter().any(|asked| asked.url == url && asked.hello.is_none());
        let trouble = match &answer {
            Some(answer) if has_promised(answer, epoch) || self.is_excused(answer) => None,
            Some(answer) => Some(format!("{url} does not promise epoch {epoch}: {:?}", answer.outcome)),
            None if was_silent => None, // whoever was silent before was reckoned with
            None => Some(format!("{url} has not answered when it was to promise epoch {epoch}")),
        };
        // Also of a node that refuses: what it has may have been acknowledged, and this may be the last that is heard
        // of it.
        if let Some(answer) = answer {
            self.note(&answer.hello);
        }
        // The first trouble is reported, but the step goes on to its last answer: each may say how far the history
        // goes.
        self.trouble = self.trouble.take().or(trouble);
    }

    fn is_excused(&self, answer: &AppendAnswer) -> bool {
        self.me.as_ref().is_some_and(|me| may_skip_promise(answer, me))
    }

    /// Notes where a node of the same database stands.
    fn note(&mut self, hello: &NodeState) {
        if self.me.as_ref().is_some_and(|me| me.database == hello.database) {
            self.seen.push(hello.position);
        }
    }

    /// All questions of a step are answered.
    fn start_next_step(&mut self, random: u64) {
        match self.step {
            PromotionStep::OwnState => {
                self.step = PromotionStep::States;
                self.to_ask = self.others.iter().cloned().map(PromotionRecipient::Node).collect();
            }
            PromotionStep::States => self.choose_epoch(random),
            PromotionStep::Promises => match (self.trouble.take(), self.later.pop_front()) {
                (Some(why), _) => self.start_next_round(&why),
                (None, Some(next)) => self.to_ask = next.into(),
                (None, None) => self.ended = Some(Ok(self.elected())),
            },
        }
    }

    fn choose_epoch(&mut self, random: u64) {
        let me = self.me.clone().expect("it was asked first");
        let order = |asked: &PolledNode| self.others.iter().position(|url| *url == asked.url);
        // In the order of the nodes and not in that of the answers: the same answers lead to the same decision.
        self.asked.sort_by_key(order);
        if let Some(refusal) = self.candidate.resumes.then(|| check_resumption(&me, &self.asked)).and_then(Result::err)
        {
            return self.refuse(&refusal.to_string());
        }
        match check_promotion(&me, &self.asked, self.candidate.force, random) {
            Err(refusal) if self.round == 0 => return self.refuse(&refusal.to_string()),
            // From the second round on some may have promised, and follow the old leader no more.
            Err(refusal) => return self.refuse(&format!("{refusal}. {NOBODY_LEADS}")),
            Ok(epoch) => self.epoch = epoch,
        }
        self.note(&me);
        let hellos: Vec<NodeState> = self.asked.iter().filter_map(|asked| asked.hello.clone()).collect();
        hellos.iter().for_each(|hello| self.note(hello));
        let (leaders, others): (Vec<&PolledNode>, Vec<&PolledNode>) =
            self.asked.iter().partition(|asked| asked.hello.as_ref().is_some_and(|hello| hello.leads));
        let node = |asked: &PolledNode| PromotionRecipient::Node(asked.url.clone());
        let leaders: Vec<PromotionRecipient> = leaders.into_iter().map(node).collect();
        let others: Vec<PromotionRecipient> = others.into_iter().map(node).collect();
        let itself = vec![PromotionRecipient::Itself];
        self.later = VecDeque::from([leaders, itself, others]);
        inject!(CandidatePromisesFirst, self.later.swap(0, 1));
        self.step = PromotionStep::Promises;
    }

    fn start_next_round(&mut self, why: &str) {
        self.round += 1;
        if self.round == ROUNDS {
            return self.refuse(&format!("{why}. {NOBODY_LEADS}"));
        }
        self.step = PromotionStep::OwnState;
        self.to_ask = VecDeque::from([PromotionRecipient::Itself]);
        self.later.clear();
        // `seen` stays: a node that has answered once may be silent from now on, and what it has counts all the same.
        self.asked.clear();
    }

    fn elected(&self) -> ElectedLeader {
        ElectedLeader {
            epoch: self.epoch,
            node: self.candidate.node,
            others: self.others.clone(),
            promised: self.seen.clone(),
            force: self.candidate.force,
        }
    }

    fn refuse(&mut self, why: &str) {
        self.ended = Some(Err(why.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        replication::{AppendCommand, AppendOutcome},
        text::tokenizer::Analyzer,
    };

    const IDENTITY: DatabaseIdentity =
        DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };

    fn hello(node: NodeId, epoch: Epoch, position: (u64, u64)) -> NodeState {
        NodeState {
            node,
            database: Some(7),
            epoch,
            position: Position::new(position.0, position.1),
            synced: Some(0),
            ..NodeState::default()
        }
    }

    fn promotion(force: bool) -> Promotion {
        promotion_of(force, false)
    }

    fn promotion_of(force: bool, resumes: bool) -> Promotion {
        let members = ClusterMembers { leader: "leader".into(), replicas: vec!["me".into(), "other".into()] };
        let leader = Some("leader".to_owned());
        Promotion::new(PromotionCandidate {
            identity: Some(IDENTITY),
            node: 1,
            url: "me".into(),
            members,
            leader,
            force,
            resumes,
        })
    }

    /// Runs it; `answers` gives what a node (`me` is the candidate itself) says to a command in an epoch, if anything.
    /// Gives the order of the promises, and the end.
    fn run(
        mut promotion: Promotion,
        mut answers: impl FnMut(&str, AppendCommand, Epoch) -> Option<AppendAnswer>,
    ) -> (Vec<String>, Result<ElectedLeader, String>) {
        let mut promises = Vec::new();
        let mut say = |url: &str, bytes: &Bytes| {
            let offer = AppendRequest::decode(bytes).expect("an offer");
            if offer.command == AppendCommand::Promise {
                promises.push(url.to_owned());
            }
            answers(url, offer.command, offer.epoch)
        };
        loop {
            match promotion.poll(77) {
                PromotionAction::AskItself(bytes) => {
                    let answer = say("me", &bytes);
                    promotion.answered_itself(answer, Some(Position::new(2, 5)));
                }
                PromotionAction::Ask(url, bytes, _) => {
                    let answer = say(&url, &bytes);
                    promotion.answered(&url, answer);
                }
                PromotionAction::Wait => panic!("everything is answered"),
                PromotionAction::Elected(elected) => return (promises, Ok(elected)),
                PromotionAction::Refused(why) => return (promises, Err(why)),
            }
        }
    }

    fn agrees(url: &str, command: AppendCommand, epoch: Epoch) -> Option<AppendAnswer> {
        let node = if url == "me" { 1 } else { 2 };
        let seen = if command == AppendCommand::Promise { epoch } else { 3 };
        let leads = url == "leader" && command == AppendCommand::Probe;
        let sequence = if url == "leader" { 12 } else { 10 };
        let hello = NodeState { leads, ..hello(node, seen, (3, sequence)) };
        Some(AppendAnswer { outcome: AppendOutcome::Applied, hello })
    }

    #[test]
    fn a_candidate_has_the_leader_promise_first_and_then_itself_and_the_others() {
        let (promises, elected) = run(promotion(false), agrees);
        assert_eq!(promises, ["leader", "me", "other"]);
        let elected = elected.expect("all agree");
        assert_eq!((elected.epoch, elected.node, elected.force), (4, 1, false));
        assert_eq!(elected.others, ["leader", "other"]);
        assert_eq!(elected.promised.iter().max(), Some(&Position::new(3, 12)));
    }

    #[test]
    fn a_promotion_tries_a_later_epoch_three_times_and_says_then_that_nobody_may_lead() {
        let mut epochs = Vec::new();
        let (promises, elected) = run(promotion(false), |url, command, epoch| {
            if command == AppendCommand::Promise && url == "leader" {
                epochs.push(epoch);
                return None; // its answer is lost
            }
            let mut answer = agrees(url, command, epoch)?;
            answer.hello.epoch = epochs.last().copied().unwrap_or(3);
            Some(answer)
        });
        assert_eq!(promises, ["leader"; 3], "nobody else has promised anything");
        assert!(epochs.is_sorted_by(|one, next| one < next), "{epochs:?}");
        let why = elected.expect_err("the leader does not promise");
        assert!(why.contains("has not answered when it was to promise") && why.contains(NOBODY_LEADS), "{why}");
    }

    #[test]
    fn an_answer_of_a_round_that_failed_counts_in_the_next() {
        let mut round = 0;
        let (_, elected) = run(promotion(false), |url, command, epoch| {
            round += usize::from(url == "me" && command == AppendCommand::Probe);
            let leader_is_gone = round > 1 || command == AppendCommand::Promise;
            agrees(url, command, epoch).filter(|_| url != "leader" || !leader_is_gone)
        });
        let elected = elected.expect("a leader that is gone is no reason");
        assert_eq!(elected.promised.iter().max(), Some(&Position::new(3, 12)));
        assert!(elected.epoch > 4, "the leader may take the next epoch itself");
    }

    #[test]
    fn a_candidate_without_all_records_of_ended_epochs_leads_only_by_force() {
        let behind = |url: &str, command, epoch| {
            let mut answer = agrees(url, command, epoch)?;
            answer.hello.position = Position::new(2, 4);
            Some(answer)
        };
        let (promises, elected) = run(promotion(false), behind);
        assert!(promises.is_empty() && elected.expect_err("behind").contains("wait until it is ready"));
        assert!(run(promotion(true), behind).1.is_ok());
    }

    #[test]
    fn a_node_that_answers_under_two_addresses_is_not_another() {
        let (promises, elected) = run(promotion(false), |url, command, epoch| {
            let mut answer = agrees(url, command, epoch)?;
            answer.hello.node = if url == "leader" { 2 } else { 1 };
            Some(answer)
        });
        assert_eq!((promises, elected.map(|elected| elected.epoch)), (vec!["leader".into(), "me".into()], Ok(4)));
    }

    #[test]
    fn a_leader_that_promised_its_lead_resumes_only_where_all_nodes_answer_and_none_leads() {
        let nobody_leads = |url: &str, command, epoch| {
            let mut answer = agrees(url, command, epoch)?;
            (answer.hello.leads, answer.hello.position) = (false, Position::new(3, 10));
            Some(answer)
        };
        let (promises, elected) = run(promotion_of(false, true), nobody_leads);
        assert_eq!((promises.len(), elected.is_ok()), (3, true), "as any promotion");
        let (promises, elected) = run(promotion_of(false, true), agrees);
        assert!(promises.is_empty() && elected.expect_err("there is a leader").contains("leader leads"));
        let (promises, elected) = run(promotion_of(false, true), |url, command, epoch| {
            let mut answer = nobody_leads(url, command, epoch)?;
            answer.hello.epoch += u64::from(url == "other");
            Some(answer)
        });
        let why = elected.expect_err("another promotion has gone on without this node");
        assert!(promises.is_empty() && why.contains("has seen epoch 4"), "{why}");
        for silent in ["leader", "other"] {
            let (promises, elected) = run(promotion_of(false, true), |url, command, epoch| {
                nobody_leads(url, command, epoch).filter(|_| url != silent)
            });
            assert!(promises.is_empty() && elected.expect_err("it may lead").contains("does not answer"), "{silent}");
        }
    }

    #[test]
    fn a_leader_that_promised_its_lead_and_knows_nobody_does_not_resume() {
        let mut alone = promotion_of(false, true).candidate;
        (alone.members, alone.leader) = (ClusterMembers::default(), None);
        let (promises, elected) = run(Promotion::new(alone), agrees);
        assert!(promises.is_empty() && elected.expect_err("it asks nobody").contains("knows no other node"));
    }

    #[test]
    fn a_candidate_without_a_database_asks_nobody() {
        let mut promotion = promotion(true);
        promotion.candidate.identity = None;
        let mut promotion = Promotion::new(promotion.candidate);
        assert!(matches!(promotion.poll(0), PromotionAction::Refused(why) if why.contains("no database")));
    }
}
