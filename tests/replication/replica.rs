//! Replicas and the sender of their leader, exchange by exchange, over real files: how they meet, catch up, restart and
//! are loaded anew.

mod at_once;
mod other_histories;
mod syncs;

use memdb::{
    base::clock::Monotonic,
    base::position::{Position, PositionStatus, PositionToken},
    replication::{AppendCommand, AppendOutcome, PeerEvent},
};
use testkit::{
    database::{IDENTITY, Making, SMALL},
    replica::{ReplicaEvent, TestLeader, TestReplica, assert_same, without_records},
};

/// With and without a directory.
fn both(test: impl Fn(Option<&std::path::Path>)) {
    let directory = tempfile::TempDir::new().expect("a directory");
    test(Some(directory.path()));
    test(None);
}

#[test]
fn an_empty_replica_begins_with_the_first_record_and_follows() {
    both(|directory| {
        let mut leader = Making::begin(SMALL).write(5);
        let (mut replica, mut sending) = (TestReplica::start(directory, 1), TestLeader::new());
        sending.bring_up(&mut replica, &leader);
        assert_same(&replica, &leader);
        assert!(!replica.seen.contains(&ReplicaEvent::Loading), "the log has everything");
        assert_eq!(replica.seen.last(), Some(&ReplicaEvent::CaughtUp));
        for _ in 0..5 {
            leader = leader.write(2);
            sending.bring_up(&mut replica, &leader);
            assert_same(&replica, &leader);
        }
        let Some(PeerEvent::Progress(standing)) = sending.told.last() else { panic!("{:?}", sending.told) };
        assert_eq!((standing.applied, standing.synced.is_some(), standing.connected), (15, directory.is_some(), true));
    });
}

#[test]
fn a_replica_behind_the_log_loads_the_snapshot_and_goes_on_behind_it() {
    both(|directory| {
        let leader = Making::begin(SMALL).write(5).snapshot().write(5).snapshot().write(5).snapshot().write(3);
        let (mut replica, mut sending) = (TestReplica::start(directory, 1), TestLeader::new());
        sending.bring_up(&mut replica, &leader);
        assert_same(&replica, &leader);
        assert_eq!(replica.seen.iter().filter(|seen| **seen == ReplicaEvent::Loading).count(), 1, "{:?}", replica.seen);
    });
}

#[test]
fn with_a_directory_it_resumes_where_it_was_after_any_stop() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut leader = Making::begin(SMALL).write(4).snapshot().write(4).snapshot().write(4);
    let mut replica = TestReplica::start(Some(directory.path()), 1);
    TestLeader::new().bring_up(&mut replica, &leader);
    for round in 2..6 {
        if round % 2 == 0 {
            replica.replica.start_sync(&mut Vec::new());
            drop(replica); // killed
        } else {
            replica.replica.start_sync(&mut Vec::new());
            replica.replica.close().expect("the disk works");
        }
        leader = leader.write(3);
        replica = TestReplica::start(Some(directory.path()), round);
        assert_eq!(replica.position().sequence + 3, leader.store().mark().position.sequence, "it lost nothing");
        TestLeader::new().bring_up(&mut replica, &leader);
        assert!(!replica.seen.contains(&ReplicaEvent::Loading), "{:?}", replica.seen);
        assert_same(&replica, &leader);
    }
}

#[test]
fn a_replica_stands_where_the_leader_stands_over_its_restarts() {
    both(|directory| {
        let mut leader = Making::begin(SMALL).write(2);
        let mut replica = TestReplica::start(directory, 1);
        TestLeader::new().bring_up(&mut replica, &leader);
        for cleanly in [true, false, true] {
            leader = leader.restart(cleanly);
            TestLeader::new().bring_up(&mut replica, &leader);
            assert_eq!(replica.position(), leader.store().mark().position, "no record, and the new epoch");
            leader = leader.write(2).restart(!cleanly).write(1);
            // Two epochs on at once.
            TestLeader::new().bring_up(&mut replica, &leader);
            assert_same(&replica, &leader);
        }
        assert!(!replica.seen.contains(&ReplicaEvent::Loading), "{:?}", replica.seen);
    });
}

#[test]
fn killed_half_way_through_older_epochs_it_resumes() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut leader = Making::begin(SMALL).write(1);
    let mut replica = TestReplica::start(Some(directory.path()), 1);
    TestLeader::new().bring_up(&mut replica, &leader);
    leader = leader.write(4).restart(false).write(2);
    // The leader's segments are small: an offer from its log ends with one of them.
    let mut sending = TestLeader::new();
    while replica.position().sequence < 3 {
        let offer = sending.offer(&leader).expect("there is more");
        replica.offered(&offer, 1, None);
        let (_, answer) = replica.answers.pop().expect("answered");
        sending.answered(answer, &leader);
    }
    let half_way = replica.position();
    assert!(half_way.epoch == 1 && half_way.sequence < 5, "{half_way}");
    drop(replica);
    let mut replica = TestReplica::start(Some(directory.path()), 2);
    assert_eq!(replica.position(), half_way);
    TestLeader::new().bring_up(&mut replica, &leader);
    assert_same(&replica, &leader);
    assert!(!replica.seen.contains(&ReplicaEvent::Loading));
}

#[test]
fn offers_that_come_twice_late_or_in_another_order_change_nothing() {
    let mut leader = Making::begin(1 << 20).write(3);
    let (mut replica, mut sending) = (TestReplica::start(None, 1), TestLeader::new());
    sending.bring_up(&mut replica, &leader);
    leader = leader.write(2);
    let first = sending.offer(&leader).expect("two records");
    replica.offered(&first, 1, None);
    let (_, answer) = replica.answers.pop().expect("answered");
    sending.answered(answer, &leader);
    leader = leader.write(2);
    let second = sending.offer(&leader).expect("two more");
    for offer in [&first, &second, &first, &second, &second, &first] {
        replica.offered(offer, 1, None);
        assert_eq!(replica.answers.pop().expect("answered").1.outcome, AppendOutcome::Applied);
    }
    assert_same(&replica, &leader);
    // Another replica has missed the first.
    let (mut behind, mut told) = (TestReplica::start(None, 2), TestLeader::new());
    told.bring_up(&mut behind, &Making::begin(1 << 20).write(3));
    behind.offered(&second, 1, None);
    assert_eq!(behind.answers.pop().expect("answered").1.outcome, AppendOutcome::Gap);
    assert_eq!(behind.position().sequence, 3);
}

#[test]
fn a_snapshot_of_an_older_epoch_does_not_lose_the_table_of_epochs() {
    let mut leader = Making::begin(SMALL).write(3).snapshot().restart(true);
    let (mut replica, mut sending) = (TestReplica::start(None, 1), TestLeader::new());
    sending.bring_up(&mut replica, &leader); // it stands in the second epoch, and has the table
    assert_eq!(replica.ended(), [Position::new(1, 3)]);
    let offer = without_records(&sending.lead(&leader), AppendCommand::InstallSnapshot, replica.position());
    replica.offered(&offer.encode_head(), 1, Some(&leader));
    assert_eq!(replica.position(), Position::new(1, 3), "the snapshot is of the first epoch");
    assert_eq!(replica.ended(), [Position::new(1, 3)]);
    leader = leader.write(1);
    sending.bring_up(&mut replica, &leader);
    assert_eq!(replica.ended(), [Position::new(1, 3)]);
    assert_same(&replica, &leader);
}

#[test]
fn a_position_of_the_ended_epoch_is_never_lost_while_the_next_epoch_begins() {
    let mut leader = Making::begin(SMALL).write(3);
    let mut replica = TestReplica::start(None, 1);
    TestLeader::new().bring_up(&mut replica, &leader);
    leader = leader.restart(true).write(1);
    let mut sending = TestLeader::new();
    let probe = sending.offer(&leader).expect("it asks first");
    replica.offered(&probe, 1, None);
    sending.answered(replica.answers.pop().expect("answered").1, &leader);
    let request = sending.offer(&leader).expect("a record of the next epoch");
    let actions = replica.handled(&request, 2);
    // Its shell has not carried anything out yet, and readers see what was applied.
    assert_eq!(replica.position(), Position::new(2, 4));
    for sequence in 1..=3 {
        let asked = PositionToken::of(IDENTITY.database_id, Position::new(1, sequence));
        assert_eq!(replica.view.position_status_now(asked), Some(PositionStatus::Reached), "{asked}");
    }
    replica.act(actions, None);
    assert_same(&replica, &leader);
}

#[test]
fn a_slow_line_is_given_more_time_at_each_try() {
    let leader = Making::begin(1 << 20).write(50);
    let (mut sending, mut replica) = (TestLeader::new(), TestReplica::start(None, 1));
    let ask = sending.offer(&leader).expect("it asks");
    replica.offered(&ask, 1, None);
    let (_, answer) = replica.answers.pop().expect("answered");
    sending.answered(answer, &leader);
    let mut last_ms = 0;
    for failures in 0..4 {
        let offer = sending.offer(&leader).expect("fifty records");
        assert!(sending.patience_ms >= 2 * last_ms && sending.patience_ms >= 1_000, "{failures}");
        last_ms = sending.patience_ms;
        if failures == 3 {
            replica.offered(&offer, 1, None);
            let (_, answer) = replica.answers.pop().expect("answered");
            sending.answered(answer, &leader);
            break;
        }
        let now = sending.now();
        sending.sender.failed(now, 0, &mut sending.told);
        let ask = sending.offer(&leader).expect("it asks, which is quick");
        assert_eq!(sending.patience_ms, memdb::base::limits::EXCHANGE_TIMEOUT_MS);
        replica.offered(&ask, 1, None);
        let (_, answer) = replica.answers.pop().expect("answered");
        sending.answered(answer, &leader);
    }
    assert_eq!(replica.position().sequence, 50);
}

#[test]
fn a_wrong_append_request_changes_nothing() {
    let mut leader = Making::begin(SMALL).write(2);
    let (mut replica, mut sending) = (TestReplica::start(None, 1), TestLeader::new());
    sending.bring_up(&mut replica, &leader);
    leader = leader.write(1);
    let offer = sending.offer(&leader).expect("a record");
    for len in 0..offer.len() {
        replica.offered(&offer[..len], 1, None);
    }
    for at in 0..offer.len() {
        let mut spoiled = offer.clone();
        spoiled[at] ^= 0x10;
        replica.offered(&spoiled, 1, None);
        // What makes it diverge is found by the digest; it is loaded anew then, and nothing is wrong with that.
        if replica.replica.node_state().diverged || replica.seen.contains(&ReplicaEvent::Loading) {
            replica = TestReplica::start(None, 1);
            sending = TestLeader::new();
            sending.bring_up(&mut replica, &Making::begin(SMALL).write(2));
        }
    }
    let mut sending = TestLeader::new();
    sending.bring_up(&mut replica, &leader);
    assert_same(&replica, &leader);
}

#[test]
fn a_failed_exchange_is_repeated_after_a_random_pause_and_an_announcement_ends_the_pause() {
    let leader = Making::begin(SMALL).write(2);
    let mut sending = TestLeader::new();
    let mut longest = 0;
    assert_eq!(sending.sender.status(sending.now(), 2).state, "unknown");
    for failures in 0..12 {
        assert!(sending.offer(&leader).is_some(), "after {failures} failures");
        let now = sending.now();
        sending.sender.failed(now, u64::MAX, &mut sending.told);
        assert_eq!(sending.told.pop(), Some(PeerEvent::Lost));
        assert_eq!(sending.sender.status(now, 2).state, "away");
        let begun_ms = sending.now_ms;
        while sending.offer(&leader).is_none() {
            sending.now_ms += 1;
        }
        longest = longest.max(sending.now_ms - begun_ms);
        // That offer fails at once, and the pause after it is cut short.
        let now = sending.now();
        sending.sender.failed(now, 4_999, &mut sending.told);
        sending.sender.announced();
    }
    assert!((1..=5_000).contains(&longest), "{longest}");
}

#[test]
fn a_snapshot_of_a_leader_that_has_started_again_is_not_taken_under_its_old_epochs() {
    both(|directory| {
        let mut leader = Making::begin(SMALL).write(4).snapshot().write(3).snapshot().write(1);
        let (mut replica, mut sending) = (TestReplica::start(directory, 1), TestLeader::new());
        while !replica.seen.contains(&ReplicaEvent::Loading) {
            let offer = sending.offer(&leader).expect("an offer");
            replica.offered(&offer, 1, None);
            let (_, answer) = replica.answers.pop().expect("answered");
            sending.answered(answer, &leader);
        }
        leader = leader.restart(true).write(2).snapshot();
        replica.load_ends(&leader);
        assert!(matches!(replica.seen.last(), Some(ReplicaEvent::Alarm(what)) if what.contains("started again")));
        assert_eq!(
            replica.replica.node_state().database,
            None,
            "it is ordered again, with the table of epochs it belongs to"
        );
        TestLeader::new().bring_up(&mut replica, &leader);
        assert_same(&replica, &leader);
    });
}

#[test]
fn a_replica_that_hears_nothing_announces_itself_now_and_then() {
    let leader = Making::begin(SMALL).write(1);
    let (mut replica, mut sending) = (TestReplica::start(None, 1), TestLeader::new());
    let announced = |replica: &mut TestReplica, from: u64, to: u64| {
        (from..to).step_by(10).filter(|now_ms| replica.replica.wants_to_announce(Monotonic::from_ms(*now_ms))).count()
    };
    assert_eq!(announced(&mut replica, 1_000, 3_000), 4, "twice a second until somebody comes");
    replica.now_ms = 3_000;
    sending.bring_up(&mut replica, &leader);
    assert_eq!(announced(&mut replica, 3_000, 4_000), 0);
    assert_eq!(announced(&mut replica, 4_010, 5_010), 2, "and again once it has heard nothing for a second");
}
