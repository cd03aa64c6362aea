//! Increments of counters: what waits is in records, and comes through whatever happens to the Writer.

use super::node::{Node, Options, add, batch};
use memdb::{
    data::counters::{COUNTERS_STORED, CounterLimits, QUEUES_STORED},
    data::counts::{AdmissionLimits, WriteOp},
    engine::leader::{WriteError, WriterSettings},
};
use std::sync::atomic::Ordering;

fn limited(counters: CounterLimits) -> Options {
    Options { writer: WriterSettings { counters, ..WriterSettings::default() }, ..Options::default() }
}

/// Workers that are as slow as they can be, and no rates.
fn slow() -> CounterLimits {
    CounterLimits { worker_rate: Some(1), key_rate: None, ..CounterLimits::default() }
}

fn increment(key: &str) -> memdb::data::command::WriteBatch {
    batch("counters", WriteOp::Increment, &[(key, 1)])
}

fn counter(node: &Node, key: &str) -> i64 {
    node.store().reader().read().count(COUNTERS_STORED, key)
}

/// The sum of what waits, windows too.
fn waiting(node: &Node) -> i64 {
    let sizes = node.store().reader().read().namespace_sizes();
    sizes.iter().find(|size| size.name == QUEUES_STORED).map_or(0, |size| size.total)
}

#[test]
fn an_increment_is_a_record_and_its_step_another() {
    let mut node = Node::new(limited(CounterLimits { key_rate: None, ..CounterLimits::default() }));
    assert!(node.one(increment("A")).is_ok());
    assert_eq!((node.sequence(), counter(&node, "A"), waiting(&node)), (1, 0, 1));
    node.tick();
    assert_eq!((node.sequence(), counter(&node, "A"), waiting(&node)), (2, 1, 0));
    assert_eq!(counter(&node, "a"), 0, "keys are raw");
    node.tick();
    assert_eq!(node.sequence(), 2, "nothing is left to do");
}

#[test]
fn what_waits_is_counted_once_whenever_the_writer_restarts() {
    let mut node = Node::new(limited(slow()));
    let accepted = node.group((0..100).map(|_| increment("k"))).iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(accepted, 100);
    while counter(&node, "k") < 100 {
        node.now_ms += 700;
        node.tick();
        node = node.restart(limited(slow()));
        assert_eq!(counter(&node, "k") + waiting(&node), 100);
    }
    assert_eq!(waiting(&node), 0);
}

#[test]
fn what_waits_at_a_clean_stop_is_counted_by_the_next_leader() {
    let options = limited(slow()).without_snapshots();
    let mut node = Node::new(options);
    node.group((0..100).map(|_| increment("k")));
    node.now_ms += 1_000;
    node.tick();
    let counted = counter(&node, "k");
    assert!((1..100).contains(&counted), "{counted}");
    node = node.stop_and_start(options);
    assert_eq!((counter(&node, "k"), waiting(&node)), (counted, 100 - counted), "the stop waits for no worker");
    while waiting(&node) > 0 {
        node.now_ms += 700;
        node.tick();
    }
    assert_eq!(counter(&node, "k"), 100);
}

#[test]
fn queues_are_part_of_the_memory_budget() {
    let admission = AdmissionLimits { memory_bytes: 1 << 20, ..AdmissionLimits::default() };
    let counters = CounterLimits { main: u64::MAX, worker_rate: Some(1), ..CounterLimits::default() };
    let writer = WriterSettings { counters, admission, ..WriterSettings::default() };
    let mut node = Node::new(Options { writer, ..Options::default() });
    let refused = (0..100_000).find_map(|at| node.one(increment(&format!("key-{at}"))).err());
    assert_eq!(refused, Some(WriteError::MemoryFull));
    let stored = node.store().bytes();
    // Each key waits and has a window, beside the two words that say so.
    assert!(stored < admission.memory_bytes / 2, "the queues themselves have the rest of it: {stored} bytes");
    let words = (0..2_000).map(|at| (format!("word{at}"), 1)).collect::<Vec<_>>();
    let words: Vec<(&str, i64)> = words.iter().map(|(word, amount)| (word.as_str(), *amount)).collect();
    assert_eq!(node.one(add(&words)), Err(WriteError::MemoryFull), "words find no room beside them");
    node.one(batch("counters", WriteOp::DropNamespace, &[])).expect("taking away is never refused");
    assert!(node.one(add(&words)).is_ok());
}

#[test]
fn a_record_that_cannot_be_written_moves_nothing() {
    let mut node = Node::new(limited(slow()));
    node.one(increment("k")).expect("counted");
    node.disk.faults.room.store(40, Ordering::Relaxed);
    assert_eq!(node.one(increment("k")), Err(WriteError::OutcomeUnknown));
    node.disk.faults.room.store(usize::MAX, Ordering::Relaxed);
    node.now_ms += 2_000;
    node.tick();
    assert_eq!((counter(&node, "k"), waiting(&node)), (1, 0), "the second has not come to pass");
    assert!(node.one(increment("k")).is_ok());
    node.now_ms += 2_000;
    node.tick();
    assert_eq!((counter(&node, "k"), waiting(&node)), (2, 0));
}

#[test]
fn refusals_tell_the_rate_and_change_nothing() {
    let limits = CounterLimits { key_rate: Some(2), spillover: 1, main: 3, ..CounterLimits::default() };
    let mut node = Node::new(limited(CounterLimits { worker_rate: Some(1), ..limits }));
    let answers = node.group(["a", "a", "a", "a", "b", "c"].map(increment));
    let quotas: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().and_then(|receipt| receipt.quota)).collect();
    assert_eq!(quotas[0].map(|quota| (quota.limit, quota.remaining)), Some((2, 1)));
    let Err(WriteError::RateExceeded(Some(quota))) = &answers[3] else { panic!("{:?}", answers[3]) };
    assert_eq!((quota.remaining, quota.reset_ms > 9_000), (0, true));
    assert!(answers[4].is_ok());
    assert!(matches!(&answers[5], Err(WriteError::CounterQueueFull(Some(quota))) if quota.remaining == 2));
    assert_eq!(waiting(&node), 4 + 3, "four wait, and three are in windows");
}

#[test]
fn a_counter_that_is_taken_away_takes_what_waits_with_it() {
    let mut node = Node::new(limited(slow()));
    node.group(["a", "a", "b"].map(increment));
    node.tick();
    node.one(batch("counters", WriteOp::RemoveCounter, &[("a", 1)])).expect("removed");
    assert_eq!((counter(&node, "a"), waiting(&node)), (0, 1));
    node.now_ms += 5_000;
    node.tick();
    assert_eq!((counter(&node, "a"), counter(&node, "b")), (0, 1));
    node.one(increment("a")).expect("counted");
    node.one(batch("counters", WriteOp::DropNamespace, &[])).expect("dropped");
    node.now_ms += 5_000;
    node.tick();
    assert_eq!((counter(&node, "a"), counter(&node, "b"), waiting(&node)), (0, 0, 0));
    assert!(node.one(increment("a")).is_ok(), "it begins anew");
}

#[test]
fn words_and_counters_do_not_share_a_namespace() {
    let mut node = Node::new(limited(slow()));
    let words = || batch("counters", WriteOp::Add, &[("a", 1)]);
    node.one(words()).expect("no counter is there yet");
    assert_eq!(node.one(increment("a")), Err(WriteError::HoldsWords));
    node.one(batch("counters", WriteOp::DropNamespace, &[])).expect("dropped");
    assert_eq!(node.group([increment("a"), words()]).remove(1), Err(WriteError::HoldsCounters));
    assert_eq!(node.one(words()), Err(WriteError::HoldsCounters));
    assert_eq!(node.one(batch("counters", WriteOp::RemoveWords, &[("a", 1)])), Err(WriteError::HoldsCounters));
}

#[test]
fn a_counter_has_room_for_all_that_waits() {
    let mut node = Node::new(limited(slow()));
    let most = memdb::base::limits::MAX_GIVEN_COUNT;
    node.one(batch(COUNTERS_STORED, WriteOp::AddGiven, &[("a", most - 1)])).expect("as if it had come to that");
    assert!(node.one(increment("a")).is_ok());
    assert_eq!(node.one(increment("a")), Err(WriteError::BeyondBound { word: "a".to_owned() }));
    node.tick();
    assert_eq!(counter(&node, "a"), most);
}

#[test]
fn what_was_accepted_is_counted_beyond_the_bound_on_namespaces() {
    let mut node = Node::new(limited(slow()));
    let namespaces = memdb::base::limits::MAX_NAMESPACES;
    for number in 0..namespaces - 1 {
        node.one(batch(&format!("n{number}"), WriteOp::Add, &[("a", 1)])).expect("there is room");
    }
    node.one(increment("a")).expect("what waits is the last namespace");
    assert_eq!(
        node.one(batch("more", WriteOp::Add, &[("a", 1)])),
        Err(WriteError::TooManyNamespaces(namespaces)),
        "nothing else finds room"
    );
    node.tick();
    assert_eq!((counter(&node, "a"), waiting(&node)), (1, 0));
}

#[test]
fn what_comes_does_not_overtake_what_waits_for_the_window_of_its_key() {
    let limits = CounterLimits { key_rate: Some(1), spillover: 2, ..CounterLimits::default() };
    let mut node = Node::new(limited(limits));
    let accepted = |answers: &[Result<_, _>]| answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(accepted(&node.group(["a"; 4].map(increment))), 3);
    node.tick();
    node.now_ms += 10_100;
    // In the same round as the window gets room: it belongs to those that wait.
    assert_eq!(accepted(&node.group(["a"].map(increment))), 0, "EXCESS is full");
    node.tick();
    assert_eq!((counter(&node, "a"), accepted(&node.group(["a"].map(increment)))), (2, 1));
}

#[test]
fn entries_of_the_namespace_have_nothing_to_do_with_counters() {
    let mut node = Node::new(limited(slow()));
    node.one(increment("a")).expect("counted");
    let entry = memdb::data::entries::EntryWrite {
        kind: memdb::data::entries::CollectionKind::Cache,
        key: "a".into(),
        op: memdb::data::entries::EntryOp::Remove,
        condition: memdb::data::entries::WriteCondition::Always,
    };
    let removal = memdb::data::command::WriteBatch { entries: vec![entry], ..batch("counters", WriteOp::Add, &[]) };
    assert!(node.one(removal).is_ok());
}

#[test]
fn a_wide_burst_is_worked_off_at_once() {
    let none = CounterLimits { main: u64::MAX, ..CounterLimits::default() };
    let mut node = Node::new(limited(none));
    let keys: Vec<String> = (0..3_000).map(|number| format!("k{number}")).collect();
    let answers = node.group(keys.iter().map(|key| increment(key)));
    assert!(answers.iter().all(Result::is_ok));
    node.tick();
    assert!(keys.iter().all(|key| counter(&node, key) == 1));
}
