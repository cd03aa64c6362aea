//! When a write is acknowledged, and what is said when the disk fails.

use super::node::{Node, Options, add, at, in_bulk, keyed};
use memdb::{
    base::limits,
    engine::leader::{AckLevel, WriteError, WriterSettings},
};
use std::{io, sync::atomic::Ordering};

const DISK: Option<AckLevel> = Some(AckLevel::Disk);
const LEADER: Option<AckLevel> = Some(AckLevel::Leader);

#[test]
fn level_leader_is_answered_at_once_and_level_disk_once_it_is_synced() {
    let mut node = Node::new(Options::default());
    let answers = node.write([(add(&[("a", 1)]), None), (add(&[("a", 1)]), DISK), (add(&[("a", 1)]), LEADER)]);
    assert_eq!(answers.iter().map(|(reply, _)| *reply).collect::<Vec<_>>(), [0, 2]);
    assert_eq!((node.count("a"), node.syncs.len()), (3, 1), "applied and to be seen, synced or not");
    // Written while the sync is under way: that sync is not theirs.
    assert!(node.write([(add(&[("a", 1)]), DISK), (add(&[("a", 1)]), DISK)]).is_empty());
    assert_eq!(node.syncs.len(), 1, "one sync at a time");
    assert_eq!(node.sync().iter().map(|(reply, answer)| (*reply, at(answer))).collect::<Vec<_>>(), [(1, (1, false))]);
    let answers = node.sync();
    assert_eq!(
        answers.iter().map(|(reply, answer)| (*reply, at(answer))).collect::<Vec<_>>(),
        [(0, (2, false)), (1, (2, false))]
    );
    assert!(node.syncs.is_empty() && node.writer.is_at_rest());
}

#[test]
fn durability_is_the_least_level_of_all() {
    let writer = WriterSettings { synced: true, ..WriterSettings::default() };
    let mut node = Node::new(Options { writer, ..Options::default() });
    assert!(node.write([(add(&[("a", 1)]), None), (add(&[("a", 1)]), LEADER)]).is_empty());
    assert_eq!(node.sync().len(), 2);
    let writer = WriterSettings { ack: AckLevel::Disk, ..WriterSettings::default() };
    let mut node = Node::new(Options { writer, ..Options::default() });
    let answers = node.write([(add(&[("a", 1)]), None), (add(&[("a", 1)]), LEADER)]);
    assert_eq!(answers.iter().map(|(reply, _)| *reply).collect::<Vec<_>>(), [1], "a request may ask for less");
}

#[test]
fn a_repeat_at_level_disk_waits_for_the_sync_of_the_first() {
    let mut node = Node::new(Options::default());
    assert_eq!(node.write([(keyed("k", &[("a", 1)]), LEADER)]).len(), 1);
    assert!(node.write([(keyed("k", &[("a", 1)]), DISK)]).is_empty());
    assert_eq!(node.sync().iter().map(|(_, answer)| at(answer)).collect::<Vec<_>>(), [(1, true)]);
    // Synced by now: a repeat, and a write that changes nothing, need no other sync.
    assert_eq!(node.write([(keyed("k", &[("a", 1)]), DISK), (add(&[]), DISK)]).len(), 2);
    assert!(node.syncs.is_empty());
    // Within one group, both join the record.
    let answers = node.write([(keyed("n", &[("a", 1)]), LEADER), (keyed("n", &[("a", 1)]), DISK)]);
    assert_eq!(answers.iter().map(|(reply, _)| *reply).collect::<Vec<_>>(), [0]);
    assert_eq!(node.sync().iter().map(|(reply, answer)| (*reply, at(answer))).collect::<Vec<_>>(), [(1, (2, true))]);
}

#[test]
fn answers_come_in_the_order_of_their_writes() {
    let mut node = Node::new(Options::default());
    let most = limits::MAX_BATCHES_PER_RECORD;
    let batches = 2 * most + 10; // three records
    assert!(node.write((0..batches).map(|_| (add(&[("a", 1)]), DISK))).is_empty());
    let answers = node.sync();
    assert!(answers.iter().map(|(reply, _)| *reply).eq(0..batches));
    assert!(answers.windows(2).all(|pair| at(&pair[0].1) <= at(&pair[1].1)));
    assert_eq!(at(&answers[batches - 1].1), (3, false));
}

#[test]
fn a_failed_sync_ends_writing_and_reads_go_on() {
    let mut node = Node::new(Options::default());
    node.write([(add(&[("a", 1)]), DISK)]);
    node.write([(add(&[("a", 1)]), DISK), (add(&[("a", 1)]), LEADER)]);
    let sync = node.syncs.pop_front().expect("asked for");
    let answers = node.synced(&sync, Err(io::Error::other("the disk is gone")));
    assert_eq!(answers, [(0, Err(WriteError::OutcomeUnknown)), (0, Err(WriteError::OutcomeUnknown))]);
    assert_eq!((node.poisoned.len(), node.writer.is_poisoned()), (1, true));
    let later = node.group([add(&[("a", 1)]), keyed("k", &[("a", 1)]), add(&[])]);
    assert_eq!(later, [const { Err(WriteError::Poisoned) }; 3]);
    assert_eq!((node.count("a"), node.sequence()), (3, 2), "reads go on where writing ended");
    assert!(node.syncs.is_empty() && node.writer.is_at_rest());
    assert_eq!(node.restart(Options::default()).count("a"), 3);
}

#[test]
fn an_append_that_cannot_be_undone_ends_writing() {
    let mut node = Node::new(Options::default());
    node.one(add(&[("a", 1)])).expect("it is admitted");
    node.disk.faults.room.store(40, Ordering::Relaxed);
    node.disk.faults.truncates_fail.store(true, Ordering::Relaxed);
    let answers = node.group([add(&[("a", 1)]), keyed("k", &[("b", 1)])]);
    assert_eq!(answers, [const { Err(WriteError::OutcomeUnknown) }; 2]);
    assert_eq!(node.one(add(&[("a", 1)])), Err(WriteError::Poisoned));
    assert_eq!((node.counts(["a", "b"]), node.poisoned.len()), ([1, 0], 1));
    node.disk.faults.room.store(usize::MAX, Ordering::Relaxed);
    node.disk.faults.truncates_fail.store(false, Ordering::Relaxed);
    let mut node = node.restart(Options::default());
    assert_eq!(node.counts(["a", "b"]), [1, 0], "a part of a record is no record");
    assert_eq!(at(&node.one(keyed("k", &[("b", 1)]))), (2, false));
}

#[test]
fn a_bulk_batch_is_not_appended_behind_one_that_failed() {
    for (truncates_fail, refusal) in [(true, WriteError::Poisoned), (false, WriteError::DiskFull)] {
        let mut node = Node::new(Options::default());
        node.one(add(&[("a", 1)])).expect("it is admitted");
        node.disk.faults.room.store(40, Ordering::Relaxed);
        node.disk.faults.truncates_fail.store(truncates_fail, Ordering::Relaxed);
        let answers =
            node.group([add(&[("a", 1)]), in_bulk(&(0..300).map(|at| format!("a b {at} ")).collect::<String>())]);
        assert_eq!(answers, [Err(WriteError::OutcomeUnknown), Err(refusal)]);
        assert_eq!((node.counts(["a", "b"]), node.published.len()), ([1, 0], 1));
    }
}

#[test]
fn a_full_disk_refuses_for_a_second_and_loses_and_doubles_nothing() {
    for room in [0, 1, 40, 90] {
        let mut node = Node::new(Options::default());
        node.one(keyed("first", &[("a", 1)])).expect("it is admitted");
        let bytes = node.disk.bytes();
        node.disk.faults.room.store(room, Ordering::Relaxed);
        let answers = node.group([keyed("k", &[("a", 10)]), add(&[("a", 100)]), keyed("first", &[("a", 1)])]);
        assert_eq!(answers, [const { Err(WriteError::OutcomeUnknown) }; 3], "with room for {room} bytes");
        assert_eq!((node.count("a"), node.sequence(), node.disk.bytes()), (1, 1, bytes));
        assert_eq!(node.one(add(&[("a", 1)])), Err(WriteError::DiskFull));
        node.disk.faults.room.store(usize::MAX, Ordering::Relaxed);
        node.now_ms += 999;
        assert_eq!(node.one(add(&[("a", 1)])), Err(WriteError::DiskFull));
        node.now_ms += 1;
        assert_eq!(at(&node.one(keyed("k", &[("a", 10)]))), (2, false));
        assert_eq!(at(&node.one(keyed("k", &[("a", 10)]))), (2, true));
        assert_eq!(at(&node.one(keyed("first", &[("a", 1)]))), (1, true));
        assert!(node.poisoned.is_empty());
        assert_eq!(node.count("a"), 11);
        assert_eq!(node.restart(Options::default()).count("a"), 11);
    }
}

#[test]
fn a_full_disk_amid_a_long_queue_refuses_the_rest_without_trying() {
    let mut node = Node::new(Options::default());
    let most = limits::MAX_BATCHES_PER_RECORD;
    node.disk.faults.room.store(60, Ordering::Relaxed);
    let answers = node.group((0..most + 5).map(|_| add(&[("a", 1)])));
    assert!(answers[..most].iter().all(|answer| *answer == Err(WriteError::OutcomeUnknown)));
    assert!(answers[most..].iter().all(|answer| *answer == Err(WriteError::DiskFull)));
    assert_eq!(node.count("a"), 0);
}
