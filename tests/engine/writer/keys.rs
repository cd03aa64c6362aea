//! Keys and streams: counted once, within a group, over groups, over a restart.

use super::node::{Answer, Node, Options, add, at, keyed, line, streamed};
use memdb::{data::store::DedupLimits, engine::leader::WriteError};
use testkit::disk::MemoryDisk;

fn small(keys: usize, streams: usize) -> Options {
    let window = DedupLimits { keys, key_age_ms: 1_000, streams, stream_age_ms: 10_000 };
    Options { window, ..Options::default() }
}

fn errors(answers: Vec<Answer>) -> Vec<Option<WriteError>> {
    answers.into_iter().map(Result::err).collect()
}

#[test]
fn a_key_counts_once_within_a_group_and_after() {
    let mut node = Node::new(Options::default());
    let answers = node.group([
        add(&[("a", 1)]),
        keyed("k", &[("a", 10), ("b", 1)]),
        keyed("k", &[("a", 10), ("b", 1)]),
        keyed("k", &[("a", 11)]),
        keyed("other", &[("a", 100)]),
    ]);
    assert_eq!((at(&answers[1]), at(&answers[2])), ((1, false), (1, true)));
    let (first, repeat) = (answers[1].clone().expect("counted"), answers[2].clone().expect("a repeat"));
    assert_eq!((repeat.words, repeat.distinct), (first.words, first.distinct));
    assert_eq!(answers[3], Err(WriteError::KeyReused));
    assert_eq!((node.count("a"), node.count("b")), (111, 1));
    // Later, on its own: no record is written for a repeat.
    assert_eq!(at(&node.one(keyed("k", &[("a", 10), ("b", 1)]))), (1, true));
    assert_eq!(node.one(keyed("k", &[("b", 1)])), Err(WriteError::KeyReused));
    assert_eq!((node.count("a"), node.sequence()), (111, 1));
    let mut node = node.restart(Options::default());
    assert_eq!(at(&node.one(keyed("k", &[("a", 10), ("b", 1)]))), (1, true));
    assert_eq!(node.count("a"), 111);
}

#[test]
fn a_stream_goes_on_within_a_group_and_over_a_restart() {
    let mut node = Node::new(Options::default());
    let post = |sequence: u64| streamed("s", sequence, &[("a", sequence as i64)]);
    let answers = node.group([post(1), post(2), post(4), post(2), post(1), post(3)]);
    let last: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().map(|receipt| receipt.stream_last)).collect();
    assert_eq!(last, [Some(Some(1)), Some(Some(2)), None, Some(Some(2)), Some(Some(2)), Some(Some(3))]);
    assert_eq!(answers[2], Err(WriteError::StreamGap { expected: 3 }));
    let replayed: Vec<_> = answers.iter().flatten().map(|receipt| receipt.replayed).collect();
    assert_eq!(replayed, [false, false, true, true, false]);
    assert_eq!(node.count("a"), 6);
    assert_eq!(node.one(streamed("s", 3, &[("x", 1)])), Err(WriteError::KeyReused), "the last one, another body");
    assert_eq!(node.one(post(5)), Err(WriteError::StreamGap { expected: 4 }));
    let mut node = node.restart(Options::default());
    assert_eq!(at(&node.one(post(3))), (1, true));
    assert_eq!(at(&node.one(post(1))), (1, true));
    assert_eq!(at(&node.one(post(4))), (2, false));
    assert_eq!(node.one(streamed("new", 2, &[("a", 1)])), Err(WriteError::StreamGap { expected: 1 }));
    assert_eq!(node.count("a"), 10);
}

#[test]
fn a_key_and_a_stream_of_one_name_are_two() {
    let mut node = Node::new(Options::default());
    let answers = node.group([keyed("n", &[("a", 1)]), streamed("n", 1, &[("a", 2)])]);
    assert_eq!((at(&answers[0]), at(&answers[1])), ((1, false), (1, false)));
    assert_eq!(
        (at(&node.one(keyed("n", &[("a", 1)]))), at(&node.one(streamed("n", 1, &[("a", 2)])))),
        ((1, true), (1, true))
    );
}

#[test]
fn a_full_window_refuses_keyed_writes_at_the_edge_of_a_group() {
    let mut node = Node::new(small(3, 2));
    node.one(keyed("k0", &[("a", 1)])).expect("room");
    let answers = node.group([
        keyed("k1", &[("a", 1)]),
        keyed("k2", &[("a", 1)]),
        keyed("k3", &[("a", 1)]), // the fourth
        keyed("k2", &[("a", 1)]), // a repeat needs no room
        add(&[("a", 1)]),
        streamed("s", 1, &[("a", 1)]),
        streamed("s", 2, &[("a", 1)]),
        streamed("t", 1, &[("a", 1)]),
        streamed("u", 1, &[("a", 1)]), // the third
        streamed("t", 2, &[("a", 1)]), // going on needs no room
    ]);
    let (full, streams) = (Some(WriteError::WindowFull), Some(WriteError::StreamWindowFull));
    assert_eq!(errors(answers), [None, None, full.clone(), None, None, None, None, None, streams, None]);
    assert_eq!((node.count("a"), node.store().reader().window_len()), (8, (3, 2)));
    assert_eq!(errors(node.group([keyed("k3", &[("a", 1)]), keyed("k0", &[("a", 1)])])), [full, None]);
}

/// Nothing but keyed writes come: the window must not wait for a record to forget what has aged.
#[test]
fn a_full_window_takes_keyed_writes_again_once_keys_have_aged() {
    let mut node = Node::new(small(2, 1));
    node.group([keyed("k0", &[("a", 1)]), keyed("k1", &[("a", 1)]), streamed("s", 1, &[("a", 1)])]);
    node.now_ms += 999;
    assert_eq!(node.one(keyed("k2", &[("a", 1)])), Err(WriteError::WindowFull));
    node.now_ms += 1;
    assert_eq!(at(&node.one(keyed("k2", &[("a", 1)]))), (2, false));
    assert_eq!(node.one(streamed("t", 1, &[("a", 1)])), Err(WriteError::StreamWindowFull));
    node.now_ms += 9_000;
    assert_eq!(at(&node.one(streamed("t", 1, &[("a", 1)]))), (3, false));
}

/// Lines go on with a stream as long as it is remembered: one that was too old takes room again then.
#[test]
fn a_stream_of_lines_that_was_too_old_needs_room_again() {
    let full = || Some(WriteError::StreamWindowFull);
    for (group, expected) in [
        ([line("s", 2), streamed("u", 1, &[("a", 1)]), line("s", 3)], [None, full(), None]),
        ([streamed("u", 1, &[("a", 1)]), line("s", 2), line("t", 2)], [None, full(), None]),
    ] {
        let mut node = Node::new(small(1, 2));
        node.one(line("s", 1)).expect("room");
        node.now_ms += 9_000;
        node.one(line("t", 1)).expect("room");
        node.now_ms += 1_000;
        assert_eq!(errors(node.group(group)), expected);
        assert_eq!(node.store().reader().window_len(), (0, 2));
    }
}

/// Steps of the wall clock that nobody may notice, in milliseconds: an hour and ten years, either way.
const STEPS_MS: [i64; 4] = [3_600_000, -3_600_000, 315_360_000_000, -315_360_000_000];

fn logged(node: &Node) -> u64 {
    node.store().time_ms().as_ms()
}

#[test]
fn keys_leave_by_logged_age() {
    let mut node = Node::new(small(9, 9));
    node.one(keyed("k", &[("a", 1)])).expect("room");
    node.now_ms = 1_999;
    assert_eq!(at(&node.one(keyed("k", &[("a", 1)]))), (1, true));
    node.now_ms = 2_000;
    assert_eq!(at(&node.one(keyed("k", &[("b", 1)]))), (2, false));
    assert_eq!(node.counts(["a", "b"]), [1, 1]);
}

#[test]
fn a_start_whose_wall_clock_was_set_meanwhile_ages_no_key_and_no_stream() {
    for step_ms in STEPS_MS {
        let mut node = Node::new(small(9, 9));
        node.one(keyed("k", &[("a", 1)])).expect("room");
        node.one(streamed("s", 1, &[("a", 1)])).expect("room");
        node.wall_ahead_ms = step_ms;
        let mut node = node.restart(small(9, 9));
        node.now_ms += 999;
        assert_eq!(at(&node.one(keyed("k", &[("a", 1)]))), (1, true), "{step_ms}");
        assert_eq!(at(&node.one(streamed("s", 1, &[("a", 1)]))), (2, true), "{step_ms}");
        node.now_ms += 1;
        assert_eq!(at(&node.one(keyed("k", &[("a", 1)]))), (3, false), "{step_ms}");
        assert_eq!(logged(&node), 2_000, "{step_ms}");
    }
}

#[test]
fn a_start_counts_the_time_it_was_away_up_to_the_bound() {
    let bound_ms = memdb::base::limits::MAX_BELIEVED_LEAP_MS;
    for (away_ms, counted_ms) in [(999, 999), (1_000, 1_000), (bound_ms, bound_ms), (bound_ms + 1, 0)] {
        let mut node = Node::new(small(9, 9));
        node.one(keyed("k", &[("a", 1)])).expect("room");
        node.now_ms += away_ms;
        let mut node = node.restart(small(9, 9));
        assert_eq!(at(&node.one(keyed("k", &[("a", 1)]))).1, counted_ms < 1_000, "after {away_ms} ms");
        node.one(add(&[("a", 1)])).expect("room");
        assert_eq!(logged(&node), 1_000 + counted_ms);
    }
}

/// A window that was filled while the clock was years ahead has room again once its keys have had their age, however
/// often the node is started, and whatever the clock is set to.
#[test]
fn a_window_filled_under_a_clock_far_ahead_has_room_again_after_its_age() {
    for step_ms in STEPS_MS {
        // From its first record on, and after a start.
        for (first_ms, then_ms) in [(step_ms.max(0), 0), (0, step_ms)] {
            let mut node = Node::start(MemoryDisk::default(), small(2, 1), 1_000, first_ms);
            node.one(add(&[("a", 1)])).expect("no key");
            node.wall_ahead_ms = then_ms;
            let mut node = node.restart(small(2, 1));
            node.group([keyed("k0", &[("a", 1)]), keyed("k1", &[("a", 1)])]);
            node.wall_ahead_ms = 0;
            let mut node = node.restart(small(2, 1));
            node.now_ms += 999;
            assert_eq!(node.one(keyed("k2", &[("a", 1)])), Err(WriteError::WindowFull), "{step_ms}");
            node.now_ms += 1;
            node.one(keyed("k2", &[("a", 1)])).expect("the others are too old");
        }
    }
}
