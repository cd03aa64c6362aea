//! The rules for entries of the checker (`testkit::checker`), themselves checked: for each a history that breaks it and
//! no other, and the same history as it should be.

use memdb::{base::position::Position, engine::leader::AckLevel};
use std::collections::BTreeMap;
use testkit::checker::{EntryChange, EntryCondition, EntrySeen, EntryWriteId, History, Rule, Time};

const SECOND: Time = 1_000_000_000;
/// What the checker lets a value be late by.
const SLACK: Time = SECOND / 2;

fn at(sequence: u64) -> Position {
    Position::new(1, sequence)
}

fn put(value: &str) -> EntryChange {
    EntryChange::Put { value: value.to_owned(), ttl: None }
}

fn lent(value: &str, ttl: Time) -> EntryChange {
    EntryChange::Put { value: value.to_owned(), ttl: Some(ttl) }
}

/// A write of `k` that was sent at its sequence times ten, and acknowledged five later.
fn done(history: &mut History, sequence: u64, change: EntryChange, condition: EntryCondition) -> EntryWriteId {
    let write = history.entry_sent(sequence * 10, "k", change, condition);
    history.entry_acknowledged(write, sequence * 10 + 5, at(sequence), AckLevel::Leader);
    write
}

/// `a` at 1, `b` at 2, nothing at 3.
fn history() -> History {
    let mut history = History::default();
    done(&mut history, 1, put("a"), EntryCondition::Always);
    done(&mut history, 2, put("b"), EntryCondition::Always);
    done(&mut history, 3, EntryChange::Remove, EntryCondition::Always);
    history
}

fn read(history: &mut History, sequence: u64, value: Option<&str>) {
    read_at(history, (100, 110), at(sequence), false, value);
}

fn read_at(history: &mut History, (began, ended): (Time, Time), position: Position, leads: bool, value: Option<&str>) {
    history.entry_read(&EntrySeen {
        who: 1,
        began,
        ended,
        position,
        asked: None,
        leads,
        hides_on_time: true,
        key: "k",
        value,
    });
}

#[track_caller]
fn judged(history: &History, expected: Option<Rule>) {
    let found = history.check();
    assert_eq!(found.as_ref().err().map(|broken| broken.rule), expected, "{found:?}");
}

#[test]
fn a_read_shows_the_last_write_before_its_position() {
    for (sequence, value, broken) in [
        (0, None, None),
        (0, Some("a"), Some(Rule::Position)),
        (1, Some("a"), None),
        (1, None, Some(Rule::Position)),
        (2, Some("b"), None),
        (2, Some("a"), Some(Rule::Position)),
        (3, None, None),
        (3, Some("b"), Some(Rule::Position)),
        (2, Some("never"), Some(Rule::Invented)),
    ] {
        let mut history = history();
        read(&mut history, sequence, value);
        judged(&history, broken);
    }
}

#[test]
fn a_value_of_another_key_or_of_a_refused_or_later_write_is_invented() {
    let mut of_another = history();
    let other = of_another.entry_sent(5, "other", put("o"), EntryCondition::Always);
    read(&mut of_another, 2, Some("o"));
    judged(&of_another, Some(Rule::Invented));
    of_another.entry_refused(other, 8);
    for (began, refused, broken) in
        [(90, false, None), (111, false, Some(Rule::Invented)), (90, true, Some(Rule::Invented))]
    {
        let mut history = history();
        let write = history.entry_sent(began, "k", put("c"), EntryCondition::Always);
        if refused {
            history.entry_refused(write, 95);
        }
        read(&mut history, 4, Some("c"));
        judged(&history, broken);
    }
}

#[test]
fn a_write_of_unknown_outcome_is_there_from_one_position_on_or_never() {
    for (reads, broken) in [
        (vec![(3, None), (4, Some("c")), (5, Some("c"))], None),
        (vec![(4, None)], None),
        (vec![(1, Some("c")), (2, Some("b"))], None),
        (vec![(1, Some("c")), (2, Some("c"))], Some(Rule::Monotone)),
        (vec![(4, Some("c")), (4, Some("d"))], Some(Rule::Monotone)),
    ] {
        let mut history = history();
        history.entry_sent(5, "k", put("c"), EntryCondition::Always);
        history.entry_sent(5, "k", put("d"), EntryCondition::Always);
        reads.into_iter().for_each(|(sequence, value)| read(&mut history, sequence, value));
        judged(&history, broken);
    }
}

#[test]
fn a_leader_is_fresh_and_who_asks_for_a_position_gets_it() {
    for (leads, began, broken) in [(true, 36, Some(Rule::Fresh)), (true, 34, None), (false, 36, None)] {
        let mut history = history();
        read_at(&mut history, (began, 40), at(2), leads, Some("b"));
        judged(&history, broken);
    }
    let mut history = history();
    let (position, asked) = (at(1), Some(at(2)));
    let seen = EntrySeen {
        who: 1,
        began: 50,
        ended: 60,
        position,
        asked,
        leads: false,
        hides_on_time: false,
        key: "k",
        value: Some("a"),
    };
    history.entry_read(&seen);
    judged(&history, Some(Rule::OwnWrites));
}

#[test]
fn an_entry_goes_at_its_time_and_not_before() {
    for (when, value, broken) in [
        (SECOND, Some("c"), None),
        (SECOND, None, Some(Rule::Position)),
        (2 * SECOND + 40, None, None),
        (2 * SECOND + 45 + SLACK, Some("c"), None),
        (2 * SECOND + 46 + SLACK, Some("c"), Some(Rule::Expired)),
    ] {
        let mut history = history();
        done(&mut history, 4, lent("c", 2 * SECOND), EntryCondition::Always);
        read_at(&mut history, (when, when), at(4), false, value);
        judged(&history, broken);
    }
}

#[test]
fn two_writes_on_one_tag_do_not_both_succeed() {
    for (others, broken) in [(1, None), (2, Some(Rule::Condition))] {
        let mut history = History::default();
        let first = done(&mut history, 1, put("a"), EntryCondition::Always);
        for other in 0..others {
            done(&mut history, 2 + other, put(&format!("b{other}")), EntryCondition::Matches(first));
        }
        judged(&history, broken);
    }
}

#[test]
fn a_condition_holds_where_its_write_stands() {
    for (between, broken) in [(false, None), (true, Some(Rule::Condition))] {
        let mut history = History::default();
        let first = done(&mut history, 1, put("a"), EntryCondition::Always);
        if between {
            done(&mut history, 2, put("b"), EntryCondition::Always);
        }
        done(&mut history, 3, put("c"), EntryCondition::Matches(first));
        judged(&history, broken);
    }
    for (before, broken) in [
        (EntryChange::Remove, None),
        (put("a"), Some(Rule::Condition)),
        (lent("a", 5), None),
        (lent("a", SECOND), Some(Rule::Condition)),
    ] {
        let mut history = History::default();
        done(&mut history, 1, before, EntryCondition::Always);
        done(&mut history, 3, put("c"), EntryCondition::Absent);
        judged(&history, broken);
    }
}

#[test]
fn a_condition_that_holds_is_not_refused() {
    for (over, condition_of_first, broken) in
        [(false, true, Some(Rule::Condition)), (true, true, None), (true, false, None)]
    {
        let mut history = History::default();
        let first = done(&mut history, 1, put("a"), EntryCondition::Always);
        if over {
            history.entry_sent(15, "k", put("b"), EntryCondition::Always);
        }
        let condition = if condition_of_first { EntryCondition::Matches(first) } else { EntryCondition::Absent };
        let write = history.entry_sent(20, "k", put("c"), condition);
        history.entry_refused(write, 25);
        judged(&history, broken);
    }
    let mut history = History::default();
    let write = history.entry_sent(20, "k", put("c"), EntryCondition::Absent);
    history.entry_refused(write, 25);
    judged(&history, Some(Rule::Condition));
}

#[test]
fn nodes_end_with_the_same_entries_and_only_such_as_may_be() {
    let of = |value: &str| BTreeMap::from([("k".to_owned(), value.to_owned())]);
    for (one, other, broken) in [
        (BTreeMap::new(), BTreeMap::new(), None),
        (of("b"), of("b"), Some(Rule::Position)),
        (of("d"), of("d"), None),
        (of("d"), of("e"), Some(Rule::Monotone)),
        (of("d"), BTreeMap::new(), Some(Rule::Equal)),
    ] {
        let mut history = history();
        history.entry_sent(90, "k", put("d"), EntryCondition::Always);
        history.entry_sent(90, "k", put("e"), EntryCondition::Always);
        history.entries_end("one", (100, 101), at(4), one);
        history.entries_end("other", (100, 101), at(4), other);
        judged(&history, broken);
        if broken.is_none() {
            // What is there at the end is where the next history begins.
            let mut next = History::new(&BTreeMap::new(), at(4));
            next.goes_on(&history, at(4));
            let there = history.entry_of("d").filter(|_| next.entry_of("d").is_some());
            read_at(&mut next, (200, 201), at(4), false, there.map(|_| "d"));
            judged(&next, None);
        }
    }
}

#[test]
fn what_was_acknowledged_is_lost_with_an_epoch_only_if_it_may() {
    for (forgives, broken) in [(&[AckLevel::Leader][..], None), (&[AckLevel::Disk], Some(Rule::Lost))] {
        let mut history = history();
        history.epoch_ended(at(2), forgives);
        judged(&history, broken);
        if broken.is_none() {
            // The delete is lost: at a later position the value before it is there.
            read_at(&mut history, (100, 110), Position::new(2, 3), true, Some("b"));
            judged(&history, None);
        }
    }
}
