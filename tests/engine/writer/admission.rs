//! Each batch of a group is admitted on its own: a bad one changes nothing, and its neighbours go on.

use super::node::{Node, Options, add, at, batch, in_bulk, keyed};
use memdb::{
    base::limits,
    data::command::WriteBatch,
    data::counts::WriteOp,
    engine::leader::{AdmissionLimits, WriteError, WriterSettings},
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
fn given_amounts_end_at_their_bound_and_text_goes_on() {
    let mut node = Node::new(Options::default());
    let given = |words: &[(&str, i64)]| batch("words", WriteOp::AddGiven, words);
    let beyond = |word: &str| Some(WriteError::BeyondBound { word: word.to_owned() });
    let bound = limits::MAX_GIVEN_COUNT;
    let answers = node.group([
        given(&[("max", bound), ("min", -bound)]),
        given(&[("a", 1), ("max", 1)]),
        given(&[("a", 1), ("min", -1)]),
        given(&[("a", 1), ("new", i64::MAX)]),
        add(&[("max", 5), ("min", -5)]),
        given(&[("max", 0), ("min", 0)]),
        given(&[("max", 1)]),
        given(&[("max", i64::MIN)]),
        given(&[("max", -1), ("min", 2), ("a", 7)]),
    ]);
    let errors: Vec<_> = answers.iter().map(|answer| answer.clone().err()).collect();
    let refused = [beyond("max"), beyond("min"), beyond("new"), None, None, beyond("max")];
    assert_eq!(errors, [vec![None], refused.to_vec(), vec![None, None]].concat());
    // Far from the bound on the other side, and still within it.
    assert_eq!(node.counts(["a", "max", "min"]), [7, bound + 5 - 1 + i64::MIN, -bound - 5 + 2]);
    assert_eq!(node.one(add(&[("full", i64::MAX)])).err(), None, "text has the whole range");
    assert_eq!(node.one(given(&[("full", 1)])).err(), beyond("full"));
    assert_eq!(node.one(given(&[("full", -i64::MAX)])).err(), None);
    assert_eq!(node.count("full"), 0);
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
fn a_block_of_text_is_a_record_of_its_own_and_a_few_words_of_one_are_not() {
    let mut node = Node::new(Options::default());
    let block = || in_bulk(&(0..300).map(|at| format!("a b {at} ")).collect::<String>());
    let remove = batch("words", WriteOp::RemoveWords, &[("a", 0), ("7", 0)]);
    let few = || in_bulk("b few few");
    let group =
        [add(&[("a", 5), ("7", 1)]), block(), few(), add(&[("a", 1)]), few(), block(), remove, block(), block()];
    let answers = node.group(group);
    let records: Vec<u64> = answers.iter().map(|answer| at(answer).0).collect();
    assert_eq!(records, [1, 2, 3, 3, 3, 4, 5, 6, 7]);
    assert_eq!(node.counts(["a", "b", "few", "7", "299", "300"]), [600, 1_202, 4, 2, 4, 0]);
    let node = node.restart(Options::default());
    assert_eq!(node.counts(["a", "b", "few", "7", "299", "300"]), [600, 1_202, 4, 2, 4, 0]);
}

#[test]
fn a_namespace_dropped_filled_and_thinned_in_one_group() {
    let mut node = Node::new(Options::default());
    node.one(add(&[("a", 1), ("b", 1), ("gone", 7)])).expect("it is admitted");
    node.group([
        add(&[("a", 5), ("new", 1)]),
        batch("words", WriteOp::DropNamespace, &[]),
        add(&[("a", 2), ("b", 3), ("c", 4)]),
        batch("words", WriteOp::RemoveWords, &[("b", 0), ("gone", 0), ("never", 0)]),
        add(&[("b", 9)]),
        add(&[("gone", 1), ("c", -4)]),
    ]);
    assert_eq!(node.counts(["a", "b", "c", "gone", "new"]), [2, 9, 0, 1, 0]);
    let node = node.restart(Options::default());
    assert_eq!(node.counts(["a", "b", "c", "gone", "new"]), [2, 9, 0, 1, 0]);
    // Made and dropped within one group: nothing is left of it.
    let mut node = node;
    node.group([batch("other", WriteOp::Add, &[("x", 1)]), batch("other", WriteOp::DropNamespace, &[])]);
    assert_eq!(node.store().namespaces(), 1);
    node.group([batch("words", WriteOp::DropNamespace, &[]), batch("words", WriteOp::DropNamespace, &[])]);
    assert_eq!((node.store().namespaces(), node.store().digest()), (0, 0));
    let sequence = node.sequence();
    assert_eq!(at(&node.one(batch("words", WriteOp::DropNamespace, &[]))), (sequence, false), "nothing to take away");
}

#[test]
fn a_write_that_changes_nothing_leaves_no_record_and_keeps_its_key() {
    let mut node = Node::new(Options::default());
    node.one(add(&[("a", 1)])).expect("it is admitted");
    let bytes = node.disk.bytes();
    assert_eq!(at(&node.one(add(&[]))), (1, false));
    assert_eq!(at(&node.one(batch("words", WriteOp::RemoveWords, &[("never", 0)]))), (1, false));
    assert_eq!(at(&node.one(batch("never", WriteOp::DropNamespace, &[]))), (1, false));
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
    let in_namespace = |at: usize| batch(&name(at), WriteOp::Add, &[("a", 1)]);
    for answer in node.group((2..limits::MAX_NAMESPACES).map(in_namespace)) {
        answer.expect("there is room");
    }
    let answers = node.group([in_namespace(0), in_namespace(1), in_namespace(9_999), in_namespace(1), in_namespace(5)]);
    let refused = Some(WriteError::TooManyNamespaces(limits::MAX_NAMESPACES));
    let errors: Vec<_> = answers.into_iter().map(Result::err).collect();
    assert_eq!(errors, [None, None, refused.clone(), None, None]);
    assert_eq!(node.store().namespaces(), limits::MAX_NAMESPACES);
    assert_eq!(node.one(in_namespace(9_999)).err(), refused);
    node.one(batch(&name(5), WriteOp::DropNamespace, &[])).expect("it is there");
    node.one(in_namespace(9_999)).expect("there is room again");
}

#[test]
fn a_memory_budget_refuses_and_gives_way_once_words_are_taken_away() {
    let admission = AdmissionLimits { memory_bytes: 200_000, ..AdmissionLimits::default() };
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
    node.one(batch("words", WriteOp::DropNamespace, &[])).expect("taking away is never refused");
    let answers = node.group((0..40).map(|at| many(10_000 + at * 500)));
    let admitted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!((2..30).contains(&admitted), "{admitted}");
    assert!(node.store().bytes() <= admission.memory_bytes, "{} bytes", node.store().bytes());
}

fn with_budget(memory_bytes: usize) -> Node {
    let admission = AdmissionLimits { memory_bytes, ..AdmissionLimits::default() };
    Node::new(Options { writer: WriterSettings { admission, ..Default::default() }, ..Default::default() })
}

/// Gives groups of batches to the Writer until one batch, alone in its group, is refused; gives the numbers of those
/// that count, and the one that does not. The budget holds after each group.
fn fill(node: &mut Node, budget: usize, make: impl Fn(usize) -> WriteBatch, mut each: usize) -> (Vec<usize>, usize) {
    let (mut counted, mut next) = (Vec::new(), 0);
    loop {
        let answers = node.group((next..next + each).map(&make));
        assert!(node.store().bytes() <= budget, "{} of {budget} bytes", node.store().bytes());
        let before = counted.len();
        for (number, answer) in (next..).zip(answers) {
            match answer {
                Ok(_) => counted.push(number),
                Err(error) => assert_eq!(error, WriteError::MemoryFull),
            }
        }
        let admitted = counted.len() - before;
        if admitted == 0 && each == 1 {
            return (counted, next);
        }
        next += each;
        if admitted < each {
            each = 1;
        }
    }
}

#[test]
fn an_index_that_doubles_stays_within_the_budget() {
    // At some of these the budget ends just where the indexes double.
    for budget in (300_000..900_000).step_by(20_000) {
        let mut node = with_budget(budget);
        let (counted, refused) = fill(&mut node, budget, |at| add(&[(&format!("w{at:09}"), 1)]), 1_000);
        assert!(node.store().bytes() * 10 > budget * 7, "{} of {budget} bytes are used", node.store().bytes());
        let sum: i64 = (0..=refused).map(|at| node.count(&format!("w{at:09}"))).sum();
        assert_eq!((sum, node.count(&format!("w{refused:09}"))), (counted.len() as i64, 0));
    }
}

#[test]
fn namespaces_count_against_the_budget() {
    let budget = 1_000_000;
    let mut node = with_budget(budget);
    let made = fill(&mut node, budget, |at| batch(&format!("n{at}"), WriteOp::Add, &[("a", 1)]), 5).0.len();
    assert!((10..limits::MAX_NAMESPACES).contains(&made), "{made}");
    assert_eq!(node.store().namespaces(), made);
}

#[test]
fn counts_that_need_more_room_count_against_the_budget() {
    let budget = 500_000;
    let mut node = with_budget(budget);
    let (known, _) = fill(&mut node, budget, |at| add(&[(&format!("w{at}"), 1)]), 64);
    let before = node.store().bytes();
    // Beyond 2^41, or by more than 2^19 at once, a count needs a pair of units of its own.
    let mut larger = 0;
    for at in &known {
        match node.one(add(&[(&format!("w{at}"), 1 << 42)])) {
            Ok(_) => larger += 1,
            Err(error) => assert_eq!(error, WriteError::MemoryFull),
        }
        assert!(node.store().bytes() <= budget, "{} bytes", node.store().bytes());
    }
    assert!(larger < known.len() / 2, "{larger} of {}, from {before} bytes on", known.len());
    // Ordinary amounts are taken as long as there are words.
    for at in &known {
        node.one(add(&[(&format!("w{at}"), 1)])).expect("a word that is there");
    }
    assert!(node.store().bytes() <= budget);
    // The same in small steps of one record: what counts is the record's.
    let step = add(&[(&format!("w{}", known[known.len() - 1]), 400_000)]);
    let answers = node.group([step.clone(), step]);
    assert_eq!((answers[0].is_ok(), &answers[1]), (true, &Err(WriteError::MemoryFull)));
}

#[test]
fn a_refused_write_costs_no_byte_of_the_log() {
    let mut node = with_budget(200_000);
    fill(&mut node, 200_000, |at| add(&[(&format!("w{at}"), 1)]), 64);
    let (bytes, sequence, digest) = (node.disk.bytes(), node.sequence(), node.store().digest());
    for at in 0..2_000 {
        let new = format!("a-new-word-{at}");
        let refused = keyed(&format!("k{at}"), &[("w0", 1), (&new, 1)]);
        assert_eq!(node.one(refused).err(), Some(WriteError::MemoryFull), "whole, though w0 is there");
    }
    let answers = node.group((0..2_000).map(|at| add(&[(&format!("a-new-word-{at}"), 1)])));
    assert!(answers.iter().all(|answer| *answer == Err(WriteError::MemoryFull)));
    assert_eq!((node.disk.bytes(), node.sequence(), node.store().digest()), (bytes, sequence, digest));
    assert_eq!(node.store().reader().window_len(), (0, 0), "keys of what was refused are not remembered");
}

#[test]
fn a_start_never_refuses_what_was_logged() {
    let budget = 400_000;
    let mut node = with_budget(budget);
    let (known, _) = fill(&mut node, budget, |at| add(&[(&format!("w{at}"), 1)]), 64);
    let digest = node.store().digest();
    // With the same budget, and with one that would not have let it grow so far.
    for budget in [budget, budget / 4] {
        let admission = AdmissionLimits { memory_bytes: budget, ..AdmissionLimits::default() };
        let writer = WriterSettings { admission, ..Default::default() };
        node = node.restart(Options { writer, ..Default::default() });
        assert_eq!(node.store().digest(), digest);
        assert_eq!(node.store().reader().read().namespaces(), [("words".to_owned(), known.len() as u64)]);
        assert_eq!(node.one(add(&[("a-new-word", 1)])).err(), Some(WriteError::MemoryFull));
        node.one(add(&[("w0", 1)])).expect("a word that is there");
        node.one(add(&[("w0", -1)])).expect("a word that is there");
    }
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
