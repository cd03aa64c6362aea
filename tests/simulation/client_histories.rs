//! The checker of histories (`testkit::checker`), itself checked: for each rule a history that breaks it and no other,
//! and the same history as it should be.

use memdb::{
    base::position::{EpochTable, Position},
    engine::leader::AckLevel,
};
use std::collections::BTreeMap;
use testkit::checker::{Broken, Checked, History, Rule, Seen, WriteId};

const BOTH: [(&str, i64); 2] = [("own", 1), ("all", 1)];

fn at(sequence: u64) -> Position {
    Position::new(1, sequence)
}

fn counts(counts: &[(&str, i64)]) -> BTreeMap<String, i64> {
    counts.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
}

/// Two posts: of `own` and `all`, sent at 10, acknowledged at 20 as record 1; of `all`, at 30 and 40, record 2.
fn two_posts() -> (History, [WriteId; 2]) {
    let mut history = History::default();
    let first = history.sent(10, &BOTH);
    history.acknowledged(first, 20, at(1), AckLevel::Leader);
    let second = history.sent(30, &[("all", 1)]);
    history.acknowledged(second, 40, at(2), AckLevel::Replica);
    (history, [first, second])
}

/// A follower is read from `began` to `ended`.
fn read(history: &mut History, (began, ended): (u64, u64), sequence: u64, values: &[(&str, i64)]) {
    let seen = Seen { who: 0, began, ended, position: at(sequence), asked: None, leads: false, values };
    history.read(&seen);
}

fn lead(history: &mut History, (began, ended): (u64, u64), sequence: u64, values: &[(&str, i64)]) {
    let seen = Seen { who: 1, began, ended, position: at(sequence), asked: None, leads: true, values };
    history.read(&seen);
}

#[track_caller]
fn holds(history: &History) -> Checked {
    history.check().unwrap_or_else(|broken| panic!("{broken}"))
}

#[track_caller]
fn breaks(history: &History, rule: Rule) {
    let Broken { rule: found, what } = history.check().unwrap_err();
    assert_eq!(found, rule, "{what}");
}

#[track_caller]
fn judged(history: &History, broken: Option<Rule>) {
    match broken {
        Some(rule) => breaks(history, rule),
        None => assert!(holds(history).writes > 0),
    }
}

#[test]
fn a_history_as_it_should_be() {
    let (mut history, _) = two_posts();
    read(&mut history, (0, 5), 0, &[("own", 0), ("all", 0)]);
    read(&mut history, (12, 15), 1, &BOTH); // applied, and not answered yet
    read(&mut history, (50, 60), 1, &BOTH); // a follower that is behind
    lead(&mut history, (50, 60), 2, &[("own", 1), ("all", 2)]);
    let unknown = history.sent(70, &[("perhaps", 3), ("all", 3)]);
    read(&mut history, (80, 81), 3, &[("perhaps", 3), ("all", 5)]);
    let refused = history.sent(90, &[("never", 1)]);
    history.refused(refused);
    let end = counts(&[("own", 1), ("all", 5), ("perhaps", 3)]);
    history.ends("leader", at(3), end.clone());
    history.ends("replica", at(3), end);
    let checked = holds(&history);
    let expected = Checked { writes: 4, acknowledged: 2, refused: 1, unknown: 1, lost: 0, reads: 5, values: 10 };
    assert_eq!(checked, expected);
    assert_eq!((unknown, history.unknown()), (2, 1));
}

#[test]
fn a_leader_shows_what_was_acknowledged_before() {
    for (leads, breaks_it) in [(true, true), (false, false)] {
        let (mut history, _) = two_posts();
        let read = if leads { lead } else { read };
        read(&mut history, (41, 50), 1, &BOTH);
        judged(&history, breaks_it.then_some(Rule::Fresh));
    }
    let (mut history, _) = two_posts();
    lead(&mut history, (39, 50), 1, &BOTH); // the second was not acknowledged when it was asked
    holds(&history);
}

#[test]
fn a_leader_of_an_abandoned_history_shows_that_history() {
    for (epoch, sequence, broken) in [(2, 0, None), (2, 1, None), (3, 0, Some(Rule::Fresh)), (1, 1, Some(Rule::Fresh))]
    {
        let (mut history, _) = two_posts();
        let position = Position::new(epoch, sequence);
        history.read(&Seen { who: 1, began: 50, ended: 60, position, asked: None, leads: true, values: &[("all", 0)] });
        let mut epochs = EpochTable::default();
        epochs.end(at(2));
        history.holds(epochs, Position::new(3, 2), &[]);
        judged(&history, broken);
    }
}

#[test]
fn a_read_shows_no_more_than_was_sent() {
    for (ended, rule) in [(69, Some(Rule::Invented)), (70, None)] {
        let (mut history, _) = two_posts();
        history.sent(70, &[("all", 1)]);
        read(&mut history, (60, ended), 3, &[("all", 3)]);
        judged(&history, rule);
    }
    let (mut history, [_, second]) = two_posts();
    history.refused(second);
    read(&mut history, (60, 70), 2, &[("all", 2)]);
    breaks(&history, Rule::Invented);
}

#[test]
fn a_read_shows_what_was_acknowledged_up_to_its_position_and_nothing_behind_it() {
    for (sequence, all, right) in [(1, 1, true), (1, 2, false), (2, 1, false), (2, 2, true), (9, 2, true)] {
        let (mut history, _) = two_posts();
        read(&mut history, (50, 60), sequence, &[("all", all)]);
        judged(&history, (!right).then_some(Rule::Position));
    }
}

#[test]
fn counts_do_not_fall() {
    for (before, after, rule) in [
        ((3, 2), (4, 3), None),
        ((3, 3), (4, 2), Some(Rule::Monotone)),
        ((3, 2), (3, 3), Some(Rule::Monotone)), // one position, and two states
        ((3, 3), (3, 3), None),
    ] {
        let (mut history, _) = two_posts();
        history.sent(45, &[("all", 1)]);
        read(&mut history, (50, 60), before.0, &[("all", before.1)]);
        read(&mut history, (70, 80), after.0, &[("all", after.1)]);
        judged(&history, rule);
    }
}

#[test]
fn a_read_that_asks_for_a_position_is_answered_there() {
    for (asked, right) in [(1, true), (2, false)] {
        let (mut history, _) = two_posts();
        let seen =
            Seen { who: 3, began: 50, ended: 60, position: at(1), asked: Some(at(asked)), leads: false, values: &BOTH };
        history.read(&seen);
        judged(&history, (!right).then_some(Rule::OwnWrites));
    }
}

#[test]
fn a_post_is_seen_whole() {
    // Two words that are in the same posts, in one read.
    for (second, right) in [(1, true), (0, false)] {
        let mut history = History::default();
        history.sent(10, &[("one", 1), ("two", 1)]);
        read(&mut history, (20, 30), 1, &[("one", 1), ("two", second)]);
        judged(&history, (!right).then_some(Rule::Whole));
    }
    // A post whose own word was seen: the common word counts it too, there and later.
    for (sequence, all, right) in [(2, 2, true), (3, 3, true), (3, 2, false), (4, 2, false)] {
        let (mut history, _) = two_posts();
        history.sent(50, &[("perhaps", 1), ("all", 1)]);
        read(&mut history, (60, 70), 3, &[("perhaps", 1)]);
        read(&mut history, (60, 70), sequence, &[("all", all)]);
        judged(&history, (!right).then_some(Rule::Whole));
    }
}

#[test]
fn an_epoch_that_ends_takes_only_what_it_may() {
    for (forgives, right) in [(&[AckLevel::Leader, AckLevel::Replica][..], true), (&[AckLevel::Leader], false)] {
        let (mut history, _) = two_posts();
        read(&mut history, (45, 46), 2, &[("all", 2)]); // seen, on a history that was given up
        history.epoch_ended(at(1), forgives);
        let seen = Seen {
            who: 0,
            began: 50,
            ended: 60,
            position: Position::new(2, 5),
            asked: Some(at(2)),
            leads: true,
            values: &[("all", 1)],
        };
        history.read(&seen);
        if right {
            assert_eq!(holds(&history).lost, 1);
        } else {
            breaks(&history, Rule::Lost);
        }
    }
    // It was sent again, and counts in the next epoch.
    let (mut history, [_, second]) = two_posts();
    history.epoch_ended(at(1), &[]);
    history.acknowledged(second, 90, Position::new(2, 2), AckLevel::Leader);
    history.ends("leader", Position::new(2, 2), counts(&[("own", 1), ("all", 2)]));
    assert_eq!(holds(&history).lost, 0);
}

#[test]
fn one_history_holds_of_several_leaders_at_a_time() {
    for (epoch, forgives, broken) in [
        (1, &[][..], None),
        (2, &[AckLevel::Replica][..], None),
        (2, &[][..], Some(Rule::Lost)), // epoch 3 goes on from epoch 1, and not from what epoch 2 wrote
    ] {
        let (mut history, [_, second]) = two_posts();
        history.acknowledged(second, 40, Position::new(epoch, 2), AckLevel::Replica);
        let mut epochs = EpochTable::default();
        epochs.end(at(2));
        history.holds(epochs, Position::new(3, 2), forgives);
        judged(&history, broken);
    }
}

#[test]
fn nodes_are_equal_at_the_end() {
    for (position, all, right) in [(2, 2, true), (3, 2, false), (2, 1, false)] {
        let (mut history, _) = two_posts();
        history.ends("leader", at(2), counts(&[("own", 1), ("all", 2)]));
        history.ends("replica", at(position), counts(&[("own", 1), ("all", all)]));
        judged(&history, (!right).then_some(Rule::Equal));
    }
}

#[test]
fn counts_are_exact_at_the_end() {
    for (end, right) in [
        (&[("own", 1), ("all", 2)][..], true),
        (&[("own", 1), ("all", 3), ("perhaps", 1)], true),
        (&[("own", 1), ("all", 4), ("perhaps", 1)], false), // counted twice
        (&[("own", 1), ("all", 1)], false),                 // lost
        (&[("all", 2)], false),
        (&[("own", 1), ("all", 2), ("another", 1)], false),
    ] {
        let (mut history, _) = two_posts();
        history.sent(70, &[("perhaps", 1), ("all", 1)]);
        history.ends("leader", at(9), counts(end));
        judged(&history, (!right).then_some(Rule::Exact));
    }
}

#[test]
fn a_history_goes_on_from_counts_that_were_there() {
    for (all, own, right) in [(6, 1, true), (5, 1, false), (7, 1, false)] {
        let mut history = History::new(&counts(&[("all", 5), ("old", 7)]), Position::ZERO);
        let write = history.sent(10, &BOTH);
        history.acknowledged(write, 20, at(1), AckLevel::Disk);
        lead(&mut history, (30, 40), 1, &[("all", all), ("own", own), ("old", 7)]);
        history.ends("leader", at(1), counts(&[("all", 6), ("own", 1), ("old", 7)]));
        assert_eq!(history.check().is_ok(), right);
    }
}

#[test]
fn counts_from_before_a_history_may_be_shown_and_no_more() {
    for (sequence, all, rule) in [
        (3, 2, None),
        (3, 6, Some(Rule::Position)),
        (4, 4, Some(Rule::Position)), // there it began
        (4, 5, None),
    ] {
        let mut history = History::new(&counts(&[("all", 5), ("other", 5)]), at(4));
        let write = history.sent(10, &BOTH);
        history.acknowledged(write, 20, at(5), AckLevel::Disk);
        read(&mut history, (30, 40), sequence, &[("all", all), ("other", 5)]);
        judged(&history, rule);
    }
}
