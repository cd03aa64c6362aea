//! What was read and is not so any more: the files are loaded anew, and readers see the old state until that is done.

use super::following::{assert_same, change, complete, idle, newest_segment, reloaded, replica, run};
use memdb::{
    base::position::Position,
    engine::file_follower::FollowStep,
    storage::disk::{Disk, RealDisk},
    storage::file_header::DatabaseIdentity,
    storage::wal::{Log, RawRecord},
};
use std::{fs, path::Path, sync::Arc};
use testkit::database::{IDENTITY, Making, SMALL};

/// Cuts the last record off a directory's newest segment.
fn cut_last_record(directory: &Path) {
    change(&newest_segment(directory), |bytes| {
        let (mut at, mut last) = (80, 80);
        while let Ok(raw) = RawRecord::parse(&bytes[at..], IDENTITY.hash_seed) {
            last = at;
            at += raw.header.record_bytes();
        }
        bytes.truncate(last);
    });
}

#[test]
fn segments_pruned_while_it_was_behind_are_made_up_for_by_a_snapshot() {
    let mut leader = Making::begin(SMALL).write(2);
    let mut replica = complete(leader.directory());
    let old = replica.reader().expect("complete");
    let before = old.read().position();
    for _ in 0..4 {
        leader = leader.write(4).snapshot();
    }
    leader = leader.write(2);
    let mut steps = Vec::new();
    loop {
        let step = replica.step();
        assert!(replica.is_complete(), "the old state is served all the while");
        if let FollowStep::Complete(_) = step {
            break;
        }
        assert!(matches!(step, FollowStep::Applied(_) | FollowStep::Reloading(_) | FollowStep::Loading), "{step:?}");
        steps.push(step);
    }
    assert!(reloaded(&steps), "{steps:?}");
    let last_seen = old.read().position();
    assert!(last_seen >= before && last_seen < leader.store().mark().position, "whoever holds the old state reads it");
    run(&mut replica);
    assert_same(&replica, &leader, "reloaded");
    leader = leader.write(3);
    assert!(!reloaded(&run(&mut replica)));
    assert_same(&replica, &leader, "goes on");
}

#[test]
fn a_record_that_was_seen_and_is_gone_after_a_restart_is_gone_here_too() {
    for (writes, looks_meanwhile) in (0..4).flat_map(|writes| [(writes, false), (writes, true)]) {
        let mut leader = Making::begin(1 << 20).write(3).sync().write(2);
        let mut replica = complete(leader.directory());
        assert_eq!(replica.store().expect("complete").mark().position, Position::new(1, 5));
        let mut steps = Vec::new();
        leader = leader.killed_and(|directory| {
            cut_last_record(directory);
            if looks_meanwhile {
                steps = run(&mut replica); // and loads 1-4
            }
        });
        leader = leader.write(writes);
        steps.extend(idle(&mut replica));
        assert!(reloaded(&steps), "{steps:?}");
        assert_same(&replica, &leader, &format!("{writes} records later"));
    }
}

#[test]
fn a_start_that_failed_and_was_done_again_is_followed_into_the_right_file() {
    let mut leader = Making::begin(SMALL).write(3).sync();
    let mut replica = complete(leader.directory());
    leader = leader.killed_and(|directory| {
        // The start before the one that follows ended after its segment was made.
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::at(directory));
        let mark = replica.store().expect("complete").mark();
        Log::create(disk, IDENTITY, 2, mark, SMALL).expect("the disk works");
        assert_eq!(run(&mut replica), [FollowStep::Nothing]); // it is in that segment now
    });
    for _ in 0..3 {
        run(&mut replica);
        assert_same(&replica, &leader, "in the second one");
        leader = leader.write(1);
    }
}

#[test]
fn a_damaged_record_is_never_applied_and_a_newer_snapshot_leads_past_it() {
    let leader = Making::begin(1 << 20).write(3).sync().write(1);
    let mut following = complete(leader.directory());
    let mut leader = leader.write(2);
    let segment = newest_segment(leader.directory());
    change(&segment, |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    let seen = run(&mut following);
    assert!(
        matches!(&seen[..], [FollowStep::Applied(at), FollowStep::Reloading(why), .., FollowStep::Waiting(_)]
        if *at == Position::new(1, 5) && why.contains("checksum")),
        "{seen:?}"
    );
    assert!(following.is_complete(), "what was there before is served");
    let mut fresh = replica(leader.directory());
    assert!(
        matches!(run(&mut fresh).last(), Some(FollowStep::Waiting(why)) if why.contains("checksum"))
            && !fresh.is_complete()
    );
    // The leader does not read its log: it has the state in memory, and begins a snapshot behind the damage.
    leader = leader.snapshot().write(1);
    for replica in [&mut following, &mut fresh] {
        run(replica);
        assert_same(replica, &leader, "behind the damage");
    }
}

#[test]
fn a_damaged_snapshot_is_passed_over() {
    let leader = Making::begin(1 << 20).write(3).snapshot().write(2).snapshot().write(1);
    let names = RealDisk::at(leader.directory()).list().expect("there");
    let snapshots: Vec<_> = names.iter().filter(|name| name.starts_with("snapshot-")).collect();
    change(&leader.directory().join(snapshots[1]), |bytes| bytes[150] ^= 1);
    assert_same(&complete(leader.directory()), &leader, "from the older one");
    change(&leader.directory().join(snapshots[0]), |bytes| bytes[150] ^= 1);
    assert_same(&complete(leader.directory()), &leader, "from the log, which goes back to record 1");
}

#[test]
fn files_that_end_before_what_they_promise_are_not_served() {
    let leader = Making::begin(1 << 20).write(3).restart(false).write(1);
    let directory = leader.directory();
    let names = RealDisk::at(directory).list().expect("there");
    names
        .iter()
        .filter(|name| name.starts_with("snapshot-"))
        .for_each(|name| fs::remove_file(directory.join(name)).expect("there"));
    let first = names.iter().find(|name| name.starts_with("log-")).expect("there");
    let second = names.iter().rfind(|name| name.starts_with("log-")).expect("there");
    let aside = directory.join("aside");
    fs::rename(directory.join(second), &aside).expect("there");
    let whole = fs::read(directory.join(first)).expect("there");
    change(&directory.join(first), |bytes| bytes.truncate(bytes.len() - 1));
    let mut replica = replica(directory);
    for _ in 0..3 {
        let steps = run(&mut replica);
        assert!(
            matches!(steps.last(), Some(FollowStep::Waiting(why)) if why.contains("the log ends at 1-2, but 1-3 was written")),
            "{steps:?}"
        );
        assert!(!replica.is_complete());
    }
    change(&directory.join(first), |bytes| *bytes = whole);
    fs::rename(&aside, directory.join(second)).expect("there");
    run(&mut replica);
    assert_same(&replica, &leader, "all is there");
}

#[test]
fn another_database_in_the_directory_is_loaded_anew() {
    let leader = Making::begin(SMALL).write(3);
    let mut replica = complete(leader.directory());
    let stranger = DatabaseIdentity { database_id: 77, hash_seed: 99, ..IDENTITY };
    let other = Making::begin_as(stranger, SMALL).write(9).snapshot().write(1);
    for entry in fs::read_dir(leader.directory()).expect("there") {
        fs::remove_file(entry.expect("there").path()).expect("removed");
    }
    let steps = idle(&mut replica);
    assert!(reloaded(&steps) && replica.is_complete(), "{steps:?}");
    assert_eq!(replica.store().map(|store| store.mark()), Some(leader.store().mark()), "served while nothing else is");
    for entry in fs::read_dir(other.directory()).expect("there") {
        let entry = entry.expect("there");
        fs::copy(entry.path(), leader.directory().join(entry.file_name())).expect("copied");
    }
    idle(&mut replica);
    assert_same(&replica, &other, "the other one");
}
