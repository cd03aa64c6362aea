//! Each batch of a group is admitted on its own: a bad one changes nothing, and its neighbours go on.

use crate::node::{Node, Options, add, at, batch, keyed};
use memdb::{
    leader::{AdmissionLimits, WriteError, WriterSettings},
    limits,
    tally::Verb,
};

fn overflow(word: &str) -> Option<WriteError> {
    Some(WriteError::Overflow { word: word.to_owned() })
}

#[test]
fn an_overflow_is_refused_whole_and_its_neighbours_count() {
    let mut node = Node::new(Options::default());
    let answers = node.group([
        add(&[("a", 1), ("max", i64::MAX)]),
        add(&[("a", 10), ("max", 1), ("b", 10)]),
        add(&[("a", 100), ("max", -1)]),
        add(&[("max", 1), ("min", i64::MIN)]),
        add(&[("b", 5), ("min", -1)]),
    ]);
    let errors: Vec<_> = answers.iter().map(|answer| answer.clone().err()).collect();
    assert_eq!(errors, [None, overflow("max"), None, None, overflow("min")]);
    assert_eq!(node.counts(["a", "b", "max", "min"]), [101, 0, i64::MAX, i64::MIN]);
    // Against what is stored, too.
    assert_eq!(node.one(add(&[("a", 1), ("max", 1)])).err(), overflow("max"));
    assert_eq!((node.count("a"), node.sequence()), (101, 1), "what is refused leaves no record");
    // A key of what was refused is not remembered.
    assert_eq!(node.one(keyed("k", &[("max", 1)])).err(), overflow("max"));
    assert_eq!(at(&node.one(keyed("k", &[("max", -1)]))), (2, false));
    assert_eq!(node.restart(Options::default()).counts(["a", "max"]), [101, i64::MAX - 1]);
}

#[test]
fn batches_of_one_group_add_up_and_share_a_record() {
    let mut node = Node::new(Options::default());
    let answers = node.group([add(&[("a", 1), ("b", 2)]), add(&[("a", 10)]), add(&[("b", -2), ("c", 1)])]);
    assert_eq!(answers.iter().map(at).collect::<Vec<_>>(), [(1, false); 3]);
    assert_eq!(node.counts(["a", "b", "c"]), [11, 0, 1]);
    assert_eq!(node.store().reader().read().namespaces(), [("words".to_owned(), 2)]);
    assert_eq!(node.published.len(), 1);
}

#[test]
fn a_namespace_dropped_filled_and_thinned_in_one_group() {
    let mut node = Node::new(Options::default());
    node.one(add(&[("a", 1), ("b", 1), ("gone", 7)])).expect("it is admitted");
    node.group([
        add(&[("a", 5), ("new", 1)]),
        batch("words", Verb::DropNamespace, &[]),
        add(&[("a", 2), ("b", 3), ("c", 4)]),
        batch("words", Verb::RemoveWords, &[("b", 0), ("gone", 0), ("never", 0)]),
        add(&[("b", 9)]),
        add(&[("gone", 1), ("c", -4)]),
    ]);
    assert_eq!(node.counts(["a", "b", "c", "gone", "new"]), [2, 9, 0, 1, 0]);
    let node = node.restart(Options::default());
    assert_eq!(node.counts(["a", "b", "c", "gone", "new"]), [2, 9, 0, 1, 0]);
    // Made and dropped within one group: nothing is left of it.
    let mut node = node;
    node.group([batch("other", Verb::Add, &[("x", 1)]), batch("other", Verb::DropNamespace, &[])]);
    assert_eq!(node.store().namespaces(), 1);
    node.group([batch("words", Verb::DropNamespace, &[]), batch("words", Verb::DropNamespace, &[])]);
    assert_eq!((node.store().namespaces(), node.store().digest()), (0, 0));
    let sequence = node.sequence();
    assert_eq!(at(&node.one(batch("words", Verb::DropNamespace, &[]))), (sequence, false), "nothing to take away");
}

#[test]
fn what_changes_nothing_leaves_no_record_but_its_key_is_kept() {
    let mut node = Node::new(Options::default());
    node.one(add(&[("a", 1)])).expect("it is admitted");
    let bytes = node.disk.bytes();
    assert_eq!(at(&node.one(add(&[]))), (1, false));
    assert_eq!(at(&node.one(batch("words", Verb::RemoveWords, &[("never", 0)]))), (1, false));
    assert_eq!(at(&node.one(batch("never", Verb::DropNamespace, &[]))), (1, false));
    assert_eq!((node.disk.bytes(), node.published.len()), (bytes, 1));
    assert_eq!(at(&node.one(keyed("empty", &[]))), (2, false));
    assert_eq!(at(&node.one(keyed("empty", &[]))), (2, true));
    let mut node = node.restart(Options::default());
    assert_eq!(at(&node.one(keyed("empty", &[]))), (2, true));
}

#[test]
fn namespaces_have_a_bound_that_counts_those_of_the_group() {
    let mut node = Node::new(Options::default());
    let name = |at: usize| format!("n{at}");
    let in_namespace = |at: usize| batch(&name(at), Verb::Add, &[("a", 1)]);
    for answer in node.group((2..limits::MAX_NAMESPACES).map(in_namespace)) {
        answer.expect("there is room");
    }
    let answers = node.group([in_namespace(0), in_namespace(1), in_namespace(9_999), in_namespace(1), in_namespace(5)]);
    let refused = Some(WriteError::TooManyNamespaces(limits::MAX_NAMESPACES));
    let errors: Vec<_> = answers.into_iter().map(Result::err).collect();
    assert_eq!(errors, [None, None, refused.clone(), None, None]);
    assert_eq!(node.store().namespaces(), limits::MAX_NAMESPACES);
    assert_eq!(node.one(in_namespace(9_999)).err(), refused);
    node.one(batch(&name(5), Verb::DropNamespace, &[])).expect("it is there");
    node.one(in_namespace(9_999)).expect("there is room again");
}

#[test]
fn a_memory_budget_refuses_and_gives_way_once_words_are_taken_away() {
    let admission = AdmissionLimits { memory_bytes: 200_000 };
    let mut node =
        Node::new(Options { writer: WriterSettings { admission, ..Default::default() }, ..Default::default() });
    let many = |first: usize| {
        let words: Vec<String> = (first..first + 500).map(|at| format!("word{at}")).collect();
        add(&words.iter().map(|word| (word.as_str(), 1)).collect::<Vec<_>>())
    };
    let mut first = 0;
    let refused = loop {
        match node.one(many(first)) {
            Ok(_) => first += 500,
            Err(error) => break error,
        }
        assert!(node.store().bytes() <= admission.memory_bytes, "{} bytes", node.store().bytes());
    };
    assert_eq!((refused, node.count(&format!("word{first}"))), (WriteError::MemoryFull, 0));
    assert!(first >= 1_000, "{first} words only");
    // Within one group the batches before count as well.
    let answers = node.group((0..40).map(|at| many(10_000 + at * 500)));
    assert!(answers.iter().all(|answer| *answer == Err(WriteError::MemoryFull)));
    node.one(batch("words", Verb::DropNamespace, &[])).expect("taking away is never refused");
    let answers = node.group((0..40).map(|at| many(10_000 + at * 500)));
    let admitted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!((2..30).contains(&admitted), "{admitted}");
    assert!(node.store().bytes() <= admission.memory_bytes, "{} bytes", node.store().bytes());
}

#[test]
fn a_record_takes_as_many_batches_as_it_may() {
    let most = limits::MAX_BATCHES_PER_RECORD;
    let mut node = Node::new(Options::default());
    let answers = node.group((0..most + 1).map(|_| add(&[("a", 1)])));
    assert_eq!((at(&answers[most - 1]), at(&answers[most])), ((1, false), (2, false)));
    assert_eq!((node.count("a"), node.published.len()), (most as i64 + 1, 2));
    let answers = node.group((0..most).map(|_| add(&[("a", 1)])));
    assert_eq!((at(&answers[0]), at(&answers[most - 1]), node.sequence()), ((3, false), (3, false), 3));
    // By bytes as well.
    let long: Vec<String> = (0..9_000).map(|at| format!("{at:0200}")).collect();
    let large = || add(&long.iter().map(|word| (word.as_str(), 1)).collect::<Vec<_>>());
    let answers = node.group((0..6).map(|_| large()));
    let records: std::collections::BTreeSet<u64> = answers.iter().map(|answer| at(answer).0).collect();
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!(node.count(&long[77]), 6);
}
