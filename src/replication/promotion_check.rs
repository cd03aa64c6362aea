//! Decides whether a replica may lead, and in which epoch: the arithmetic of `memdb promote`.
//!
//! The candidate asks every node it knows where it stands ([`check_promotion`]), has each of them promise its epoch
//! ([`has_promised`]), takes what others have more of its history, and leads. A node that has promised follows nobody
//! of an earlier epoch and leads no more, so from then on nothing is acknowledged there that the new leader might lack.
//!
//! A promise does what the first phase of Paxos does (Lamport, "Paxos Made Simple", 2001), but nobody counts
//! majorities: which node is dead, and which only cannot be reached, a person decides, and says `--force`. So that two
//! leaders who cannot reach each other never write the same epoch, the next epoch is taken only where all nodes have
//! answered and one of them leads; else it is drawn from the next million.

use super::{AppendAnswer, AppendOutcome, NodeState};
use crate::{
    base::failpoint::inject,
    base::position::{Epoch, Position},
};

/// Epochs to draw from where somebody was not asked. A restart of a leader takes the next one.
const DRAWN_FROM: u64 = 1 << 20;

/// Another node, and what it has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolledNode {
    /// Its URL.
    pub url: String,
    /// True if it is the leader that the candidate has followed.
    pub is_leader: bool,
    /// Its state; `None` if it did not answer.
    pub hello: Option<NodeState>,
}

/// The reason why a replica does not lead. The message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromotionRefusal {
    /// It holds nothing that it could lead with.
    #[error("this replica {0}")]
    Unfit(&'static str),
    /// Another has records that this one lacks.
    #[error(
        "{url} is at {theirs}, and this replica at {ours}: promote that one, or lose what it has more by `--force`"
    )]
    Ahead {
        /// The URL of the other node.
        url: String,
        /// The position of the other node.
        theirs: Position,
        /// The position of this node.
        ours: Position,
    },
    /// Another may have records that this one lacks.
    #[error("{0} does not answer, and may have records that this replica lacks: start it, or say `--force`")]
    Silent(String),
    /// Another leads.
    #[error("{0} leads")]
    Led(String),
    /// Another has promised, or leads in, this epoch or a later one.
    #[error("{url} has seen epoch {epoch}: another is about to lead. See `memdb status` there, and try again")]
    Later {
        /// The URL of the other node.
        url: String,
        /// The epoch that it has seen.
        epoch: Epoch,
    },
}

/// The epoch in which the node that says `me` may lead. `random` is any number.
///
/// Forced, only what it holds itself can stand in the way.
///
/// # Errors
/// [`PromotionRefusal::Unfit`] if this node holds no database, not its leader's history, or no files. Unless forced,
/// [`PromotionRefusal::Ahead`] if another has records that this one lacks, and [`PromotionRefusal::Silent`] if one did
/// not answer.
pub fn check_promotion(
    me: &NodeState,
    others: &[PolledNode],
    force: bool,
    random: u64,
) -> Result<Epoch, PromotionRefusal> {
    if me.database.is_none() || me.position == Position::ZERO {
        return Err(PromotionRefusal::Unfit("holds no database yet: wait until it is ready"));
    }
    if me.diverged {
        return Err(PromotionRefusal::Unfit("does not hold its leader's history, and is about to load it anew"));
    }
    // A leader has to sync its epoch before its first record, and could not.
    if me.synced.is_none() {
        return Err(PromotionRefusal::Unfit("keeps no files: start it with --data-dir, or promote another"));
    }
    let ours = |hello: &&NodeState| hello.database == me.database;
    let hellos = || others.iter().filter_map(|asked| asked.hello.as_ref()).filter(ours);
    if !force {
        // The leader hands over what it has more, but only of the epoch that this one stands in: of a later one it
        // is not known here what of the earlier ones it goes on from. Records that no node which answers can give
        // stand in the way.
        let given = others.iter().filter(|asked| asked.is_leader).filter_map(|asked| asked.hello.as_ref());
        let given = given.filter(ours).map(|hello| hello.position).filter(|given| given.epoch == me.position.epoch);
        let most = given.fold(me.position, Position::max);
        let ahead = |hello: &&NodeState| hello.position > most;
        let ahead = others.iter().find(|asked| asked.hello.as_ref().filter(ours).filter(ahead).is_some());
        if let Some(PolledNode { url, hello: Some(hello), .. }) = ahead {
            return Err(PromotionRefusal::Ahead { url: url.clone(), theirs: hello.position, ours: me.position });
        }
        // Only the leader may be silent: that it is gone is what promotions are for.
        if let Some(silent) = others.iter().find(|asked| asked.hello.is_none() && !asked.is_leader) {
            return Err(PromotionRefusal::Silent(silent.url.clone()));
        }
    }
    let highest = hellos().map(|hello| hello.epoch).fold(me.epoch, Epoch::max);
    // The next one belongs to whoever leads in the highest: it takes it when it starts again, or leaves it to this one.
    let hands_over = hellos().any(|hello| hello.leads && hello.epoch == highest);
    let everybody = others.iter().all(|asked| asked.hello.is_some());
    let mut is_free = hands_over && everybody;
    inject!(PromotesIntoTheNextEpoch, is_free = true);
    Ok(if is_free { highest + 1 } else { random_epoch_above(highest, random) })
}

/// Checks that a node that led last, and has promised its lead to another, may take it back without being asked to: all
/// other nodes answer, none of them leads, and none has seen an epoch beyond the one that `me` has promised. Who does
/// not answer may lead, and behind a later epoch there may be a leader whom this node has never heard of. The node that
/// the lead was promised to is among `others`.
///
/// # Errors
/// [`PromotionRefusal::Silent`] if a node did not answer, [`PromotionRefusal::Led`] if one leads,
/// [`PromotionRefusal::Later`] if one has seen a later epoch.
pub fn check_resumption(me: &NodeState, others: &[PolledNode]) -> Result<(), PromotionRefusal> {
    if others.is_empty() {
        return Err(PromotionRefusal::Unfit("knows no other node, and has promised its lead to one"));
    }
    for PolledNode { url, hello, .. } in others {
        match hello {
            None => return Err(PromotionRefusal::Silent(url.clone())),
            Some(state) if state.leads => return Err(PromotionRefusal::Led(url.clone())),
            Some(state) if state.epoch > me.epoch => {
                return Err(PromotionRefusal::Later { url: url.clone(), epoch: state.epoch });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// An epoch to lead in where the next one may be taken by somebody who was not asked; `random` is any number.
fn random_epoch_above(highest: Epoch, random: u64) -> Epoch {
    // Not the next one, which a leader takes that could not be asked and starts again.
    highest + 2 + random % DRAWN_FROM
}

/// Gives the newest position among the nodes that have promised, if a candidate at `here` is behind it. They accept no
/// further records, so this is the end of the history.
pub fn missing_tail(promised: impl IntoIterator<Item = Position>, here: Position) -> Option<Position> {
    inject!(LeadsWithoutWhatItWasTold, return None);
    promised.into_iter().max().filter(|most| *most > here)
}

/// Returns whether the answer to [`super::AppendCommand::Promise`] is a promise of `epoch`.
pub fn has_promised(answer: &AppendAnswer, epoch: Epoch) -> bool {
    answer.outcome == AppendOutcome::Applied && answer.hello.epoch == epoch
}

/// Returns whether a candidate that says `me` need not wait for a promise of whoever answers this: it is no node of
/// this database, or holds nothing of it, so that it has nothing to note a promise in, and nothing that could be
/// lacking.
pub fn may_skip_promise(answer: &AppendAnswer, me: &NodeState) -> bool {
    answer.hello.database != me.database || answer.hello.position == Position::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(epoch: Epoch, position: (u64, u64)) -> NodeState {
        NodeState {
            node: 1,
            database: Some(7),
            epoch,
            position: Position::new(position.0, position.1),
            synced: Some(0),
            ..NodeState::default()
        }
    }

    fn asked(is_leader: bool, hello: Option<NodeState>) -> PolledNode {
        PolledNode { url: format!("http://{is_leader}"), is_leader, hello }
    }

    #[test]
    fn the_next_epoch_is_for_whom_everybody_has_answered() {
        let me = hello(3, (3, 10));
        let leads = |epoch, position| Some(NodeState { leads: true, ..hello(epoch, position) });
        let all = [asked(true, leads(3, (3, 12))), asked(false, Some(hello(3, (3, 11))))];
        assert_eq!(check_promotion(&me, &all, false, 77), Ok(4), "the leader hands over");
        let promised = [asked(true, leads(3, (3, 12))), asked(false, Some(hello(5, (3, 11))))];
        assert_eq!(check_promotion(&me, &promised, false, 77), Ok(5 + 2 + 77), "whoever leads in 5 may take 6");
        let stood_down = [asked(true, Some(hello(3, (3, 12))))];
        assert_eq!(check_promotion(&me, &stood_down, false, 77), Ok(3 + 2 + 77), "its successor may be another");
        let leader_gone = [asked(true, None), asked(false, Some(hello(3, (3, 10))))];
        assert_eq!(check_promotion(&me, &leader_gone, false, 77), Ok(3 + 2 + 77));
        assert_eq!(check_promotion(&me, &leader_gone, false, u64::MAX), Ok(3 + 2 + DRAWN_FROM - 1));
        assert_eq!(check_promotion(&me, &[], false, 77), Ok(3 + 2 + 77));
    }

    #[test]
    fn a_candidate_that_may_lack_records_is_refused_unless_forced() {
        let me = hello(3, (3, 10));
        let ahead = [asked(true, None), asked(false, Some(hello(3, (3, 11))))];
        assert!(matches!(check_promotion(&me, &ahead, false, 0), Err(PromotionRefusal::Ahead { .. })));
        let beyond_the_leader = [asked(true, Some(hello(3, (3, 10)))), asked(false, Some(hello(4, (4, 11))))];
        assert!(matches!(check_promotion(&me, &beyond_the_leader, false, 0), Err(PromotionRefusal::Ahead { .. })));
        let silent = [asked(true, None), asked(false, None)];
        assert!(matches!(check_promotion(&me, &silent, false, 0), Err(PromotionRefusal::Silent(_))));
        assert_eq!(check_promotion(&me, &ahead, true, 0), Ok(5));
        assert_eq!(check_promotion(&me, &silent, true, 0), Ok(5));
        let foreign = [asked(false, Some(NodeState { database: Some(8), ..hello(9, (9, 99)) }))];
        assert_eq!(check_promotion(&me, &foreign, false, 0), Ok(5));
        let later = [asked(true, Some(NodeState { leads: true, ..hello(4, (4, 19)) }))];
        assert!(
            matches!(check_promotion(&me, &later, false, 0), Err(PromotionRefusal::Ahead { .. })),
            "nothing is known here of epoch 4"
        );
    }

    #[test]
    fn a_candidate_needs_the_records_of_those_who_have_promised() {
        let at = |epoch, sequence| Position::new(epoch, sequence);
        assert_eq!(missing_tail([at(3, 9), at(3, 12), at(2, 20)], at(3, 10)), Some(at(3, 12)));
        assert_eq!(missing_tail([at(3, 9), at(3, 12), at(2, 20)], at(3, 12)), None);
        assert_eq!(missing_tail([], at(3, 12)), None);
    }

    #[test]
    fn a_candidate_without_a_sound_database_is_refused_also_when_forced() {
        let good = hello(3, (3, 10));
        for unfit in [
            NodeState { database: None, ..good.clone() },
            NodeState { diverged: true, ..good.clone() },
            NodeState { synced: None, ..good.clone() },
            NodeState { position: Position::ZERO, ..good },
        ] {
            assert!(matches!(check_promotion(&unfit, &[], true, 0), Err(PromotionRefusal::Unfit(_))), "{unfit:?}");
        }
    }

    #[test]
    fn a_promise_is_of_that_very_epoch() {
        let answer = |outcome, epoch| AppendAnswer { outcome, hello: hello(epoch, (3, 10)) };
        assert!(has_promised(&answer(AppendOutcome::Applied, 6), 6));
        assert!(!has_promised(&answer(AppendOutcome::OldEpoch, 6), 6));
        assert!(!has_promised(&answer(AppendOutcome::Applied, 7), 6));
    }

    #[test]
    fn a_node_without_the_database_need_not_promise() {
        let me = hello(3, (3, 10));
        let answer = |hello| AppendAnswer { outcome: AppendOutcome::Syncing, hello };
        assert!(may_skip_promise(&answer(NodeState { database: None, ..hello(3, (0, 0)) }), &me));
        assert!(may_skip_promise(&answer(hello(3, (0, 0))), &me), "damaged files of it");
        assert!(may_skip_promise(&answer(NodeState { database: Some(8), ..hello(9, (9, 99)) }), &me));
        assert!(!may_skip_promise(&answer(hello(3, (3, 0))), &me), "it follows a leader that has written nothing");
    }
}
