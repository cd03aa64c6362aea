//! Replicas with files: what counts as synced, and when.

#![allow(clippy::disallowed_methods, reason = "spoils files as bad luck does")]

use memdb::{
    base::clock::Monotonic,
    base::position::Position,
    replication::{AppendOutcome, PeerEvent, PeerProgress},
};
use std::fs;
use testkit::{
    database::Making,
    replica::{ReplicaEvent, TestLeader, TestReplica, assert_same},
};

#[test]
fn an_epoch_begun_during_a_sync_makes_nothing_durable_before_that_has_reported() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut leader = Making::begin(1 << 20).write(2);
    let mut replica = TestReplica::start(Some(directory.path()), 1);
    let mut sending = TestLeader::new();
    sending.durable = true;
    sending.bring_up(&mut replica, &leader);
    assert_eq!(replica.replica.node_state().synced, Some(2));
    replica.syncs = false;
    leader = leader.write(1);
    let offer = sending.offer(&leader).expect("a record");
    replica.offered(&offer, 1, None);
    leader = leader.restart(true);
    TestLeader::new().bring_up(&mut replica, &leader);
    assert_eq!(replica.position(), Position::new(2, 3));
    assert_eq!(replica.replica.node_state().synced, Some(2), "the sync under way may yet fail");
    replica.sync();
    assert_eq!(replica.replica.node_state().synced, Some(3));
}

#[test]
fn an_offer_that_waits_for_the_sync_is_answered_after_it() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut leader = Making::begin(1 << 20).write(1);
    let (mut replica, mut sending) = (TestReplica::start(Some(directory.path()), 1), TestLeader::new());
    sending.bring_up(&mut replica, &leader);
    replica.syncs = false;
    sending.durable = true;
    leader = leader.write(2);
    let offer = sending.offer(&leader).expect("two records");
    replica.offered(&offer, 1, None);
    assert_eq!((replica.answers.len(), replica.position().sequence), (0, 3), "applied, and not answered");
    replica.sync();
    let (_, answer) = replica.answers.pop().expect("answered");
    assert_eq!((answer.outcome.clone(), answer.hello.synced), (AppendOutcome::Applied, Some(3)));
    sending.answered(answer, &leader);
    let standing = PeerProgress { applied: 3, synced: Some(3), connected: true };
    assert_eq!(sending.told.last(), Some(&PeerEvent::Progress(standing)));
}

#[test]
fn a_replica_is_at_rest_once_all_it_has_is_synced_and_wakes_for_its_next_snapshot() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let leader = Making::begin(1 << 20).write(3);
    let mut replica = TestReplica::start_with_snapshots(Some(directory.path()), 1, 1_000);
    replica.syncs = false;
    assert_eq!(replica.replica.next_tick(), None, "there is nothing to write a snapshot of");
    TestLeader::new().bring_up(&mut replica, &leader);
    let wakes = replica.replica.next_tick().expect("it keeps files that have changed");
    assert!(wakes > Monotonic::default() && wakes <= Monotonic::from_ms(1_000), "{wakes:?}");
    assert!(!replica.replica.is_at_rest(), "three records are not synced");
    replica.start_sync();
    assert!(!replica.replica.is_at_rest(), "they are about to be");
    replica.sync();
    assert!(replica.replica.is_at_rest());
}

#[test]
fn a_replica_whose_files_are_taken_away_says_so_and_goes_on_in_memory() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut leader = Making::begin(1 << 20).write(3);
    let (mut replica, mut sending) = (TestReplica::start(Some(directory.path()), 1), TestLeader::new());
    sending.bring_up(&mut replica, &leader);
    replica.time_passes(1_000);
    let lost =
        |replica: &TestReplica| replica.seen.iter().filter(|seen| matches!(seen, ReplicaEvent::FilesLost(_))).count();
    assert_eq!(lost(&replica), 0);
    fs::remove_dir_all(directory.path()).expect("removed");
    fs::create_dir(directory.path()).expect("another");
    replica.time_passes(1_000);
    assert_eq!((lost(&replica), replica.replica.node_state().synced), (1, None));
    leader = leader.write(2);
    sending.bring_up(&mut replica, &leader);
    assert_same(&replica, &leader);
    replica.time_passes(1_000);
    assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 0, "the place is somebody else's");
    assert_eq!(lost(&replica), 1);
}

#[test]
fn a_sync_that_fails_after_an_epoch_was_begun_is_no_success() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut leader = Making::begin(1 << 20).write(1);
    let (mut replica, mut sending) = (TestReplica::start(Some(directory.path()), 1), TestLeader::new());
    sending.bring_up(&mut replica, &leader);
    (replica.syncs, sending.durable) = (false, true);
    leader = leader.write(2);
    let offer = sending.offer(&leader).expect("two records");
    replica.offered(&offer, 1, None);
    leader = leader.restart(false);
    TestLeader::new().bring_up(&mut replica, &leader);
    assert_eq!(
        replica.replica.node_state().synced,
        Some(0),
        "the epoch has begun with a sync, and another is under way"
    );
    // That one had failed by then, and had left the system nothing to sync.
    replica.syncs_fail();
    assert_eq!(replica.replica.node_state().synced, None, "it cannot vouch for its files any more");
    leader = leader.write(1);
    TestLeader::new().bring_up(&mut replica, &leader);
    assert_same(&replica, &leader);
}
