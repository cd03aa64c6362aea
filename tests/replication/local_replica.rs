//! A local replica beside a real leader: loading, following, reloading, over whatever the leader does to its files.

#![allow(clippy::disallowed_methods)] // spoils files as bad luck does

mod following;
mod made_by_hand;
mod node;
mod reloads;

use following::{assert_same, complete, idle, newest_segment, position, reloaded, replica, run};
use memdb::{base::position::Position, engine::file_follower::FollowStep};
use std::fs;
use testkit::database::{Making, SMALL};

#[test]
fn a_local_replica_follows_every_record_over_segments_and_epochs_and_never_loads_twice() {
    let mut leader = Making::begin(SMALL).write(1);
    let mut replica = complete(leader.directory());
    assert_same(&replica, &leader, "loaded");
    for round in 0..12 {
        leader = match round % 4 {
            0 => leader.write(1),
            1 => leader.write(3).sync(),
            2 => leader.restart(round == 6),
            _ => leader.snapshot().write(1),
        };
        let steps = run(&mut replica);
        assert!(!reloaded(&steps), "round {round}: {steps:?}");
        assert_same(&replica, &leader, &format!("round {round}"));
    }
    assert!(leader.store().mark().position.epoch == 4 && run(&mut replica) == [FollowStep::Nothing]);
}

#[test]
fn a_local_replica_that_starts_at_any_time_is_complete_at_once() {
    let mut leader = Making::begin(SMALL);
    for round in 0..12 {
        assert_same(&complete(leader.directory()), &leader, &format!("round {round}"));
        leader = match round % 4 {
            0 => leader.write(2),
            1 => leader.snapshot(),
            2 => leader.restart(round == 6),
            _ => leader.write(2).snapshot().write(1).snapshot().write(1),
        };
    }
}

#[test]
fn a_local_replica_waits_for_a_directory_that_is_not_there_yet_and_for_its_manifest() {
    let leader = Making::begin(SMALL).write(2).snapshot().write(2);
    let parent = tempfile::TempDir::new().expect("a directory");
    let directory = parent.path().join("data");
    let mut replica = replica(&directory);
    let waits =
        |replica: &mut _| matches!(&run(replica)[..], [FollowStep::Waiting(why)] if why.contains("no MANIFEST"));
    assert!(waits(&mut replica) && !replica.is_complete() && replica.reader().is_none());
    fs::create_dir(&directory).expect("made");
    assert!(waits(&mut replica));
    let mut names: Vec<_> =
        fs::read_dir(leader.directory()).expect("there").map(|entry| entry.expect("there")).collect();
    names.sort_by_key(|entry| entry.file_name() == "MANIFEST"); // last
    for entry in names {
        assert!(waits(&mut replica));
        fs::copy(entry.path(), directory.join(entry.file_name())).expect("copied");
    }
    let steps = run(&mut replica);
    assert!(steps.contains(&FollowStep::Complete(leader.store().mark().position)), "{steps:?}");
    assert_same(&replica, &leader, "there");
    assert!(replica.manifest().is_some_and(|manifest| manifest.state.epoch == 1));
}

#[test]
fn a_local_replica_shows_the_position_of_a_leader_restarted_without_a_write() {
    let mut leader = Making::begin(SMALL);
    let mut replica = complete(leader.directory());
    assert_eq!(position(&replica), Position::new(1, 0));
    for (epoch, cleanly) in [(2, true), (3, false), (4, true)] {
        leader = leader.restart(cleanly);
        let steps = run(&mut replica);
        // The table of epochs first, so that readers have it before the position is in the new one.
        let told = [epoch - 1, epoch].map(|epoch| FollowStep::Applied(Position::new(epoch, 0)));
        assert_eq!(steps, [told[0].clone(), told[1].clone(), FollowStep::Nothing]);
        assert_same(&replica, &leader, "empty");
    }
    leader = leader.write(3).restart(false);
    run(&mut replica);
    assert_eq!(position(&replica), Position::new(5, 3));
    assert_same(&replica, &leader, "with records");
    assert_eq!(replica.manifest().map(|manifest| manifest.state.epoch), Some(5));
}

#[test]
fn a_local_replica_knows_that_it_has_all_while_every_step_finds_something() {
    let mut leader = Making::begin(1 << 20);
    let mut replica = complete(leader.directory());
    for _ in 0..3 {
        leader = leader.write(1);
        assert_eq!(replica.step(), FollowStep::Applied(leader.store().mark().position));
        assert!(replica.has_all());
    }
    // At the end of a finished segment there is more.
    let mut leader = Making::begin(SMALL);
    let mut replica = complete(leader.directory());
    leader = leader.write(9);
    let last = leader.store().mark().position;
    let mut steps = 0;
    while let FollowStep::Applied(position) = replica.step() {
        assert_eq!(replica.has_all(), position == last, "{position}");
        steps += 1;
    }
    assert!(steps > 1 && position(&replica) == last, "{steps}");
}

#[test]
fn a_busy_leader_does_not_keep_it_from_being_complete() {
    let mut leader = Making::begin(1 << 20).write(20).snapshot().write(20);
    let mut replica = replica(leader.directory());
    let mut steps = 0;
    while !replica.is_complete() {
        assert!(!matches!(replica.step(), FollowStep::Waiting(_)));
        leader = leader.write(1);
        steps += 1;
        assert!(steps < 20, "it runs after the end for ever");
    }
    run(&mut replica);
    assert_same(&replica, &leader, "caught up");
}

#[test]
fn half_a_record_is_nothing_yet_and_is_cut_by_the_next_start() {
    let mut leader = Making::begin(1 << 20).write(3).sync();
    let mut replica = complete(leader.directory());
    let segment = newest_segment(leader.directory());
    let record = fs::read(&segment).expect("there")[80..].to_vec();
    for bytes in [1, 63, 64, 70] {
        following::change(&segment, |log| log.extend_from_slice(&record[..bytes]));
        assert_eq!(idle(&mut replica).iter().find(|step| **step != FollowStep::Nothing), None, "{bytes}");
        assert_same(&complete(leader.directory()), &leader, "one that comes now");
        following::change(&segment, |log| log.truncate(log.len() - bytes));
    }
    following::change(&segment, |log| log.extend_from_slice(&record[..70]));
    run(&mut replica);
    leader = leader.killed_and(|_| ());
    assert!(!reloaded(&run(&mut replica)));
    assert_same(&replica, &leader, "restarted");
    leader = leader.write(2);
    assert!(!reloaded(&run(&mut replica)));
    assert_same(&replica, &leader, "goes on");
}

#[test]
fn the_manifest_is_seen_also_when_nothing_is_written() {
    let leader = Making::begin(SMALL).write(2);
    let mut replica = complete(leader.directory());
    let generation = replica.manifest().expect("complete").state.generation;
    let mut manifest = replica.manifest().expect("complete").clone();
    manifest.state.leader_url = Some("http://127.0.0.1:8080".into());
    manifest.write(&memdb::storage::disk::RealDisk::at(leader.directory())).expect("the disk works");
    idle(&mut replica);
    let seen = &replica.manifest().expect("complete").state;
    assert_eq!((seen.generation, seen.leader_url.as_deref()), (generation + 1, Some("http://127.0.0.1:8080")));
}

#[test]
fn beside_a_leader_at_work_it_never_reads_half_and_ends_equal() {
    let leader = Making::begin(2_000).write(1);
    let mut replica = complete(leader.directory());
    let ended = std::sync::atomic::AtomicBool::new(false);
    let leader = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let mut leader = leader;
            for round in 0..120 {
                leader = match round % 12 {
                    3 | 9 => leader.snapshot(),
                    11 => leader.restart(round % 24 == 11),
                    _ => leader.write(5),
                };
            }
            ended.store(true, std::sync::atomic::Ordering::Release);
            leader
        });
        let mut last = Position::ZERO;
        while !ended.load(std::sync::atomic::Ordering::Acquire) {
            let step = replica.step();
            // It may fall behind the pruning; what it reads is never damaged.
            let damaged = |why: &str| why.contains("checksum") || why.contains("digest") || why.contains("follow");
            assert!(
                !matches!(&step, FollowStep::Reloading(why) | FollowStep::Waiting(why) if damaged(why)),
                "{step:?}"
            );
            let now = position(&replica);
            assert!(now >= last, "{last}, then {now}");
            last = now;
        }
        work.join().expect("the leader works")
    });
    idle(&mut replica);
    assert_same(&replica, &leader, "at rest");
}
