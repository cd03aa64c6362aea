//! Levels that want a replica: whom an answer waits for, for how long, and what is said then.

use super::node::{Answer, Node, Options, add, at, keyed};
use memdb::{
    base::position::Position,
    engine::leader::{AckLevel, WriteError, WriterSettings},
    replication::PeerEvent,
};

const REPLICA: Option<AckLevel> = Some(AckLevel::Replica);
const BOTH: Option<AckLevel> = Some(AckLevel::ReplicaDisk);

/// A node whose writes wait for a replica if they name no level, for so long.
fn node(ack_timeout_ms: u64) -> Node {
    let writer = WriterSettings { ack: AckLevel::Replica, ack_timeout_ms, ..WriterSettings::default() };
    Node::new(Options { writer, ..Options::default() })
}

/// Reply, sequence and acks of each answer; all of them must have been acknowledged.
fn acked(answers: &[(usize, Answer)]) -> Vec<(usize, u64, u32)> {
    answers.iter().map(|(reply, answer)| (*reply, at(answer).0, answer.as_ref().expect("acknowledged").acks)).collect()
}

fn not_replicated(level: AckLevel, sequence: u64) -> Answer {
    Err(WriteError::NotReplicated { level, position: Position::new(1, sequence) })
}

#[test]
fn a_write_without_a_replica_is_answered_at_the_default_level_and_refused_at_a_named_one() {
    let mut node = node(1_000);
    let answers = node.write([(add(&[("a", 1)]), None), (add(&[("a", 1)]), REPLICA)]);
    assert_eq!(acked(&answers[..1]), [(0, 1, 0)]);
    assert_eq!(answers[1..], [(1, not_replicated(AckLevel::Replica, 1))]);
    assert_eq!(node.count("a"), 2, "both are applied");
    assert!(node.writer.is_at_rest() || node.syncs.is_empty(), "nobody asked for a sync");
}

#[test]
fn the_first_replica_that_has_it_sets_an_answer_free() {
    let mut node = node(1_000);
    assert!(node.acks(1, 0, None).is_empty() && node.acks(2, 0, None).is_empty());
    assert!(node.write([(add(&[("a", 1)]), None), (add(&[("a", 1)]), REPLICA)]).is_empty());
    assert!(node.write([(add(&[("a", 1)]), None)]).is_empty());
    assert!(node.acks(1, 0, None).is_empty(), "it has nothing yet");
    assert_eq!(acked(&node.acks(2, 1, None)), [(0, 1, 1), (1, 1, 1)]);
    assert_eq!(acked(&node.acks(1, 2, None)), [(0, 2, 1)]);
    // A replica may be ahead of the answer: then nobody waits.
    assert_eq!(acked(&node.write([(add(&[]), REPLICA)])), [(0, 2, 1)]);
}

#[test]
fn patience_ends_and_the_answer_says_what_is_so() {
    let mut node = node(300);
    node.acks(1, 0, None);
    assert!(node.write([(add(&[("a", 1)]), None), (add(&[("a", 1)]), REPLICA)]).is_empty());
    node.now_ms += 299;
    assert!(node.tick().is_empty());
    node.now_ms += 1;
    let answers = node.tick();
    assert_eq!(acked(&answers[..1]), [(0, 1, 0)]);
    assert_eq!(answers[1..], [(1, not_replicated(AckLevel::Replica, 1))]);
    // It was only slow: the next write waits for it again.
    assert!(node.write([(add(&[("a", 1)]), None)]).is_empty());
    assert_eq!(acked(&node.acks(1, 2, None)), [(0, 2, 1)]);
}

#[test]
fn a_replica_that_is_lost_releases_those_who_wait_for_it() {
    let mut node = node(60_000);
    node.acks(1, 0, None);
    node.acks(2, 0, None);
    assert!(node.write([(add(&[("a", 1)]), None), (add(&[("a", 1)]), REPLICA)]).is_empty());
    assert!(node.told(1, &PeerEvent::Lost).is_empty(), "the other may still do it");
    let answers = node.told(2, &PeerEvent::Lost);
    assert_eq!(acked(&answers[..1]), [(0, 1, 0)]);
    assert_eq!(answers[1..], [(1, not_replicated(AckLevel::Replica, 1))]);
    assert_eq!(acked(&node.write([(add(&[("a", 1)]), None)])), [(0, 2, 0)]);
    // What it has acknowledged stays so while it is away.
    assert_eq!(acked(&node.acks(1, 2, None)), []);
    node.told(1, &PeerEvent::Lost);
    assert_eq!(acked(&node.write([(add(&[]), REPLICA)])), [(0, 2, 1)]);
}

#[test]
fn a_replica_that_is_not_served_any_more_counts_for_nothing() {
    let mut node = node(60_000);
    node.acks(1, 0, None);
    node.acks(2, 0, Some(0));
    assert!(node.write([(add(&[("a", 1)]), BOTH)]).is_empty());
    assert!(node.sync().is_empty());
    assert_eq!(node.told(2, &PeerEvent::Gone), [(0, not_replicated(AckLevel::ReplicaDisk, 1))]);
    assert_eq!(node.write([(add(&[("a", 1)]), BOTH)]), [(0, Err(WriteError::NoReplicaKeepsFiles))]);
    assert!(node.write([(add(&[("a", 1)]), None)]).is_empty(), "the other is there");
    assert_eq!(acked(&node.told(1, &PeerEvent::Gone)), [(0, 2, 0)]);
}

#[test]
fn replica_and_disk_wants_a_sync_on_both_sides() {
    let mut node = node(1_000);
    node.acks(1, 0, None);
    node.acks(2, 0, Some(0));
    assert!(node.write([(add(&[("a", 1)]), BOTH)]).is_empty());
    assert!(node.wants_durable, "the replica is asked to sync");
    assert!(node.acks(1, 1, None).is_empty(), "it keeps no files");
    assert!(node.acks(2, 1, Some(0)).is_empty(), "applied is not synced");
    assert!(node.acks(2, 1, Some(1)).is_empty(), "the leader has not synced it");
    assert_eq!(acked(&node.sync()), [(0, 1, 2)]);
    assert!(!node.wants_durable);
    // The other way round.
    assert!(node.write([(add(&[("a", 1)]), BOTH)]).is_empty());
    assert!(node.sync().is_empty());
    assert_eq!(acked(&node.acks(2, 2, Some(2))), [(0, 2, 1)]);
}

#[test]
fn replica_and_disk_is_refused_where_no_replica_keeps_files() {
    let mut node = node(1_000);
    let refused = |node: &mut Node| node.write([(add(&[("a", 1)]), BOTH)]);
    assert_eq!(refused(&mut node), [(0, Err(WriteError::NoReplicaKeepsFiles))]);
    node.acks(1, 0, None);
    assert_eq!(refused(&mut node), [(0, Err(WriteError::NoReplicaKeepsFiles))]);
    assert_eq!((node.count("a"), node.sequence()), (0, 0), "nothing was applied");
    node.acks(2, 0, Some(0));
    node.told(2, &PeerEvent::Lost);
    // One is known, and away: it is applied, and not replicated.
    assert_eq!(refused(&mut node), [(0, not_replicated(AckLevel::ReplicaDisk, 1))]);
}

#[test]
fn a_leader_that_defaults_to_replica_and_disk_answers_without_one_once_it_has_synced() {
    let writer = WriterSettings { ack: AckLevel::ReplicaDisk, ..WriterSettings::default() };
    let mut node = Node::new(Options { writer, ..Options::default() });
    assert!(node.write([(add(&[("a", 1)]), None)]).is_empty());
    assert_eq!(acked(&node.sync()), [(0, 1, 0)], "what is left of the level is the own sync");
}

#[test]
fn a_leader_that_syncs_before_every_answer_does_so_for_replicas_too() {
    let writer = WriterSettings { ack: AckLevel::Replica, synced: true, ..WriterSettings::default() };
    let mut node = Node::new(Options { writer, ..Options::default() });
    node.acks(1, 0, None);
    assert!(node.write([(add(&[("a", 1)]), None), (add(&[("a", 1)]), REPLICA)]).is_empty());
    assert!(node.acks(1, 1, None).is_empty(), "not synced yet");
    assert_eq!(acked(&node.sync()), [(0, 1, 1), (1, 1, 1)]);
    node.told(1, &PeerEvent::Lost);
    assert!(node.write([(add(&[("a", 1)]), None)]).is_empty());
    assert_eq!(acked(&node.sync()), [(0, 2, 0)], "without a replica it is the sync alone");
}

#[test]
fn a_repeat_is_answered_at_its_own_level() {
    let mut node = node(1_000);
    node.acks(1, 0, Some(0));
    let post = || keyed("k", &[("a", 1)]);
    assert_eq!(acked(&node.write([(post(), Some(AckLevel::Leader))])), [(0, 1, 0)]);
    assert!(node.write([(post(), REPLICA), (post(), BOTH)]).is_empty());
    assert_eq!(acked(&node.acks(1, 1, Some(0))), [(0, 1, 1)]);
    assert!(node.acks(1, 1, Some(1)).is_empty());
    assert_eq!(acked(&node.sync()), [(1, 1, 1)]);
    // Reached by now, at every level: also while the replica is away, and a later record is on its way.
    node.write([(add(&[("a", 1)]), Some(AckLevel::Leader))]);
    node.told(1, &PeerEvent::Lost);
    assert_eq!(acked(&node.write([(post(), REPLICA), (post(), BOTH)])), [(0, 1, 1), (1, 1, 1)]);
    assert_eq!(node.count("a"), 2);
}

#[test]
fn a_repeat_waits_for_its_own_record_and_for_no_later_one() {
    let mut node = node(60_000);
    node.acks(1, 0, None);
    let post = || keyed("k", &[("a", 1)]);
    node.write([(post(), Some(AckLevel::Leader))]);
    node.write([(add(&[("a", 1)]), Some(AckLevel::Leader))]);
    assert!(node.write([(post(), REPLICA)]).is_empty());
    assert_eq!(acked(&node.acks(1, 1, None)), [(0, 1, 1)]);
}

#[test]
fn a_leader_that_has_stepped_down_refuses_and_keeps_nobody_waiting() {
    let mut node = node(1_000);
    node.acks(1, 0, None);
    assert!(node.write([(add(&[("a", 1)]), None)]).is_empty());
    let unknown = [(0, Err(WriteError::OutcomeUnknown))];
    assert_eq!(node.told(2, &PeerEvent::StepDown(9)), unknown, "whether the next leader has it");
    let answers = node.write([(add(&[("a", 1)]), None), (keyed("k", &[]), REPLICA)]);
    assert_eq!(answers, [0, 1].map(|reply| (reply, Err(WriteError::SteppedDown))));
    assert_eq!((node.count("a"), node.sequence()), (1, 1), "nothing was applied");
    assert!(node.acks(1, 1, None).is_empty());
}
