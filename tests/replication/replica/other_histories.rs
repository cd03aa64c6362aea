//! Replicas that hold, or are offered, another history than their leader's: it is refused, or loaded over.

#![allow(clippy::disallowed_methods, reason = "spoils files as bad luck does")]

use super::both;
use memdb::{
    base::position::Position,
    data::store::StateId,
    replication::{AppendAnswer, AppendCommand, AppendOutcome, AppendRequest, PeerEvent},
    storage::file_header::DatabaseIdentity,
};
use std::{fs, path::Path, path::PathBuf};
use testkit::{
    database::{IDENTITY, Making, SMALL},
    replica::{ReplicaEvent, TestLeader, TestReplica, assert_same, without_records},
};

#[test]
fn records_of_a_lost_branch_are_loaded_over_and_never_served_meanwhile() {
    both(|directory| {
        // The replica has two records that the leader loses in a crash.
        let mut leader = Making::begin(1 << 20).write(3).sync().write(2);
        let (mut replica, mut sending) = (TestReplica::start(directory, 1), TestLeader::new());
        sending.bring_up(&mut replica, &leader);
        leader = leader.killed_and(|directory| {
            let segment = newest_segment(directory);
            let bytes = fs::read(&segment).expect("there");
            fs::write(&segment, &bytes[..bytes.len() - 30]).expect("cut");
        });
        assert_eq!(leader.store().mark().position.sequence, 4);
        let mut sending = TestLeader::new();
        sending.bring_up(&mut replica, &leader);
        assert!(replica.seen.contains(&ReplicaEvent::Loading), "{:?}", replica.seen);
        let alarmed =
            |told: &PeerEvent| matches!(told, PeerEvent::Alarm(what) if what.contains("1 records of it were lost"));
        assert!(sending.told.iter().any(alarmed), "{:?}", sending.told);
        assert_same(&replica, &leader);
        leader = leader.write(3);
        sending.bring_up(&mut replica, &leader);
        assert_same(&replica, &leader);
    });
}

#[test]
fn a_copy_that_is_not_the_leaders_is_noticed_withdrawn_and_loaded_anew() {
    both(|directory| {
        let mut leader = Making::begin(SMALL).write(3).snapshot();
        let (mut replica, mut sending) = (TestReplica::start(directory, 1), TestLeader::new());
        sending.bring_up(&mut replica, &leader);
        // A heartbeat that says the leader has another digest at this very position.
        let lead = sending.lead(&leader);
        let last = StateId { digest: lead.last.digest ^ 1, ..lead.last };
        let offer = AppendRequest { last, ..without_records(&lead, AppendCommand::Append, replica.position()) };
        replica.offered(&offer.encode_head(), 1, None);
        let (_, answer) = replica.answers.pop().expect("answered");
        assert_eq!(answer.outcome, AppendOutcome::Diverged);
        assert!(answer.hello.diverged && replica.seen.contains(&ReplicaEvent::Withdrawn));
        // The leader hears of it with the next exchange, and has it loaded anew.
        leader = leader.write(1);
        let served = replica.seen.iter().filter(|seen| matches!(seen, ReplicaEvent::Served(_))).count();
        sending.bring_up(&mut replica, &leader);
        assert_same(&replica, &leader);
        assert_eq!(replica.seen.iter().filter(|seen| matches!(seen, ReplicaEvent::Served(_))).count(), served + 1);
        assert!(!replica.replica.node_state().diverged);
    });
}

#[test]
fn damaged_files_are_replaced_by_the_leaders_and_by_no_other_database() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let leader = Making::begin(SMALL).write(6).snapshot().write(2);
    let mut replica = TestReplica::start(Some(directory.path()), 1);
    TestLeader::new().bring_up(&mut replica, &leader);
    replica.replica.close().expect("a clean stop");
    for entry in fs::read_dir(directory.path()).expect("there") {
        let path = entry.expect("there").path();
        if path.file_name().is_some_and(|name| name != "MANIFEST") {
            let mut bytes = fs::read(&path).expect("there");
            let half = bytes.len() / 2;
            bytes[half] ^= 1;
            fs::write(&path, bytes).expect("spoiled");
        }
    }
    let mut replica = TestReplica::start(Some(directory.path()), 2);
    let hello = replica.replica.node_state();
    assert_eq!((hello.position, hello.epoch), (Position::ZERO, 1), "it trusts nothing of it but which database it is");
    let other = DatabaseIdentity { database_id: 99, ..IDENTITY };
    let stranger = Making::begin_as(other, SMALL).write(1);
    let mut strange = TestLeader::new();
    for _ in 0..2 {
        let offer = strange.offer(&stranger).expect("an offer");
        replica.offered(&offer, 1, Some(&stranger));
        let (_, answer) = replica.answers.pop().expect("answered");
        assert_eq!(answer.outcome, AppendOutcome::OtherDatabase);
        strange.answered(answer, &stranger);
        strange.now_ms += 10_000;
    }
    TestLeader::new().bring_up(&mut replica, &leader);
    assert_same(&replica, &leader);
    drop(replica);
    assert_eq!(TestReplica::start(Some(directory.path()), 3).position(), leader.store().mark().position);
}

#[test]
fn another_database_and_an_older_epoch_are_refused() {
    let mut leader = Making::begin(SMALL).write(3);
    let mut replica = TestReplica::start(None, 1);
    let mut old = TestLeader::new();
    old.bring_up(&mut replica, &leader);
    let late = {
        leader = leader.write(1);
        old.offer(&leader).expect("a record")
    };
    leader = leader.restart(false).write(1);
    TestLeader::new().bring_up(&mut replica, &leader);
    replica.offered(&late, 1, None);
    let (_, answer) = replica.answers.pop().expect("answered");
    assert_eq!((answer.outcome.clone(), answer.hello.epoch), (AppendOutcome::OldEpoch, 2));
    // A leader that still thinks it is in the first epoch learns that it is not.
    let first = Making::begin(SMALL).write(4);
    old.answered(answer, &first);
    assert!(old.told.contains(&PeerEvent::StepDown(2)), "{:?}", old.told);

    let other = DatabaseIdentity { database_id: 99, ..IDENTITY };
    let stranger = Making::begin_as(other, SMALL).write(1);
    let mut strange = TestLeader::new();
    let offer = strange.offer(&stranger).expect("an offer");
    replica.offered(&offer, 1, None);
    let (_, answer) = replica.answers.pop().expect("answered");
    assert_eq!(answer.outcome, AppendOutcome::OtherDatabase);
    strange.answered(answer, &stranger);
    assert!(
        matches!(&strange.told[..], [PeerEvent::Alarm(what), PeerEvent::Lost] if what.contains("another database"))
    );
    assert_same(&replica, &leader);
}

#[test]
fn two_leaders_of_one_epoch_do_not_both_lead_a_replica() {
    // Two copies of one directory were started: each took the same next epoch.
    let (mut leader, copy) = (Making::begin(SMALL).write(3), Making::begin(SMALL).write(5));
    let (mut replica, mut first, mut second) = (TestReplica::start(None, 1), TestLeader::new(), TestLeader::new());
    second.node = 6;
    first.bring_up(&mut replica, &leader);
    let offer = second.offer(&copy).expect("it asks");
    replica.offered(&offer, 1, Some(&copy));
    let (_, answer) = replica.answers.pop().expect("answered");
    assert_eq!(answer.outcome, AppendOutcome::OtherLeader);
    second.answered(answer, &copy);
    assert!(matches!(&second.told[..], [PeerEvent::Alarm(what), PeerEvent::Lost] if what.contains("two copies")));
    assert_eq!(second.offer(&copy), None);
    leader = leader.write(1);
    first.bring_up(&mut replica, &leader);
    assert_same(&replica, &leader);
}

#[test]
fn a_record_of_an_epoch_beyond_its_offers_is_not_taken() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let leader = Making::begin(1 << 20).write(2);
    let mut replica = TestReplica::start(Some(directory.path()), 1);
    TestLeader::new().bring_up(&mut replica, &leader);
    let leader = leader.restart(true).write(1);
    let mut sending = TestLeader::new();
    let mut made_up = Vec::new();
    for _ in 0..2 {
        let bytes = sending.offer(&leader).expect("an offer");
        let offer = AppendRequest::decode(&bytes).expect("sound");
        let old = AppendRequest { epoch: 1, epochs: Default::default(), after: Position::new(1, 2), ..offer.clone() };
        made_up = [old.encode_head(), offer.records.to_vec()].concat();
        let answer = AppendAnswer { outcome: AppendOutcome::Applied, hello: replica.replica.node_state() };
        sending.answered(answer, &leader);
    }
    replica.offered(&made_up, 1, None);
    let (_, answer) = replica.answers.pop().expect("answered");
    assert!(matches!(answer.outcome, AppendOutcome::Unreadable(_)), "{:?}", answer.outcome);
    assert_eq!(replica.position(), Position::new(1, 2));
}

#[test]
fn a_snapshot_of_another_history_than_the_leaders_is_not_taken() {
    // After a promotion, the replica still loads from the node that led before.
    let old = Making::begin(SMALL).write(8).snapshot();
    let mut leader = Making::begin(SMALL).write(3).restart(false).snapshot();
    let (mut replica, mut sending) = (TestReplica::start(None, 1), TestLeader::new());
    sending.bring_up(&mut replica, &leader);
    let offer = without_records(&sending.lead(&leader), AppendCommand::InstallSnapshot, replica.position());
    replica.offered(&offer.encode_head(), 1, Some(&old));
    let alarmed = |seen: &ReplicaEvent| matches!(seen, ReplicaEvent::Alarm(what) if what.contains("does --leader name that one?"));
    assert!(replica.seen.iter().any(alarmed), "{:?}", replica.seen);
    leader = leader.write(1);
    sending.bring_up(&mut replica, &leader);
    assert_same(&replica, &leader);
}

#[test]
fn a_position_the_leader_never_had_is_refused_and_left_alone() {
    // An old copy of the leader's directory is put back while the replica has gone on.
    let mut replica = TestReplica::start(None, 1);
    TestLeader::new().bring_up(&mut replica, &Making::begin(SMALL).write(5));
    let old = Making::begin(SMALL).write(3);
    let mut sending = TestLeader::new();
    for _ in 0..3 {
        let offer = sending.offer(&old).expect("it asks");
        replica.offered(&offer, 1, Some(&old));
        let (_, answer) = replica.answers.pop().expect("answered");
        sending.answered(answer, &old);
        assert_eq!(sending.offer(&old), None, "not again for a while");
        sending.now_ms += 10_000;
    }
    assert_eq!(replica.position(), Position::new(1, 5));
    let alarms: Vec<_> = sending.told.iter().filter(|told| matches!(told, PeerEvent::Alarm(_))).collect();
    assert_eq!(alarms.len(), 1, "said once: {alarms:?}");
}

fn newest_segment(directory: &Path) -> PathBuf {
    let names = fs::read_dir(directory).expect("there").map(|entry| entry.expect("there").path());
    let logs = names.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-")));
    logs.max().expect("there is a log")
}
