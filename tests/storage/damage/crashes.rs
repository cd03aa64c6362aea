//! Crashes of whoever puts things right, and orders of events that could lose or double something silently.

use super::start;
use memdb::{
    data::store::DedupLimits,
    storage::disk::Disk,
    storage::file_header::{FILE_HEADER_BYTES, MANIFEST},
    storage::{
        recovery::{NewEpoch, RecoveredDatabase, RecoveryError, try_room},
        repair::plan,
    },
};
use std::sync::{Arc, atomic::Ordering};
use testkit::{
    database::{Database, Making, SMALL, all, node_run, state_of},
    disk::{Files, MemoryDisk},
};

/// Starts on `files`, is killed after every number of changes, and starts again: the state must be the same, and the
/// epoch must not go back.
fn start_killed_everywhere(name: &str, files: &Files) {
    let before = start(&*MemoryDisk::new(files)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected = state_of(&before.store);
    for changes in 0.. {
        let memory = MemoryDisk::killed_after(changes, files);
        let dying: Arc<dyn Disk> = Arc::clone(&memory) as _;
        let settled = start(&*dying).expect("looking changes nothing").finalize(&dying, &mut node_run(), 1 << 20);
        let again = start(&*MemoryDisk::new(&memory.files()))
            .unwrap_or_else(|error| panic!("{name}: killed after {changes} changes: {error}"));
        assert_eq!(state_of(&again.store), expected, "{name}: killed after {changes} changes");
        assert!(again.manifest.state.epoch >= before.manifest.state.epoch, "{name}: {changes}");
        if settled.is_ok() {
            assert_eq!(again.manifest.state.epoch, before.manifest.state.epoch + 1, "{name}");
            assert_eq!(again.report.cut, None, "{name}: cut again");
            return;
        }
    }
}

/// Starts on `files` where there is no room after every number of changes, waits, and begins once there is: what was
/// read can be served all the while, a kill meanwhile costs nothing, and all is as with a start that had room.
fn start_without_room_everywhere(name: &str, files: &Files) {
    let expected = state_of(&start(&*MemoryDisk::new(files)).expect("as before").store);
    for changes in 0.. {
        let memory = MemoryDisk::killed_after(changes, files);
        let (disk, left): (Arc<dyn Disk>, _) = (Arc::clone(&memory) as _, &memory.faults.changes);
        let mut recovered = start(&*disk).expect("reading needs no room");
        let epoch = recovered.manifest.state.epoch;
        let begin = |recovered: &mut RecoveredDatabase| recovered.begin(&disk, &mut node_run(), 1 << 20);
        let is_refused = |begun: Result<NewEpoch, RecoveryError>| begun.is_err_and(|error| error.is_no_room());
        let first = begin(&mut recovered);
        let had_room = first.is_ok();
        let begun = first.unwrap_or_else(|error| {
            assert!(error.is_no_room(), "{name}: {changes}: {error}");
            assert!(try_room(&*disk).is_err_and(|error| error.is_no_room()));
            for more in [0, 0, 1] {
                left.store(more, Ordering::Relaxed);
                if recovered.is_current(&*disk).expect("readable") {
                    assert!(is_refused(begin(&mut recovered)), "{name}: {changes}");
                }
                assert_eq!(state_of(&recovered.store), expected, "{name}: {changes}: what is served");
                let killed = start(&*memory).unwrap_or_else(|error| panic!("{name}: killed at {changes}: {error}"));
                assert_eq!(state_of(&killed.store), expected, "{name}: killed at {changes}");
            }
            left.store(usize::MAX, Ordering::Relaxed);
            try_room(&*disk).expect("there is");
            if !recovered.is_current(&*disk).expect("readable") {
                recovered = start(&*disk).expect("reading changes nothing");
            }
            begin(&mut recovered).unwrap_or_else(|error| panic!("{name}: {changes}: {error}"))
        });
        let (at, settled) = (begun.position(), recovered.into_settled(begun));
        assert_eq!((state_of(&settled.store), settled.store.mark().position), (expected.clone(), at), "{name}");
        let again = start(&*memory).unwrap_or_else(|error| panic!("{name}: {changes}: {error}"));
        assert_eq!(state_of(&again.store), expected, "{name}: {changes}");
        assert!(again.manifest.state.epoch > epoch && again.report.cut.is_none(), "{name}: {changes}");
        if had_room {
            return;
        }
    }
}

#[test]
fn a_start_that_finds_no_room_anywhere_serves_what_it_read_and_begins_once_there_is_some() {
    for database in all() {
        start_without_room_everywhere(database.name, &database.files);
    }
}

#[test]
fn a_start_that_is_killed_anywhere_is_as_if_it_never_was() {
    for database in all() {
        start_killed_everywhere(database.name, &database.files);
    }
}

#[test]
fn a_start_that_cuts_may_be_killed_anywhere() {
    for database in all().iter().filter(|database| !database.clean && database.last() > 0) {
        let newest = database.newest_segment();
        let len = database.files[newest].len();
        for keep in [0, 1, FILE_HEADER_BYTES - 1, FILE_HEADER_BYTES + 1, len - 1] {
            let mut files = database.files.clone();
            files.get_mut(newest).expect("there").truncate(keep);
            if start(&*MemoryDisk::new(&files)).is_ok() {
                let name = format!("{}, {newest} cut to {keep}", database.name);
                start_killed_everywhere(&name, &files);
                start_without_room_everywhere(&name, &files);
            }
        }
    }
}

#[test]
fn a_repair_that_is_killed_anywhere_is_done_by_the_next() {
    for database in all().iter().filter(|database| database.last() > 0) {
        let mut files = database.files.clone();
        files.remove(MANIFEST);
        let log = files.keys().find(|name| name.starts_with("log-")).expect("there").clone();
        let bytes = files.get_mut(&log).expect("there");
        let middle = FILE_HEADER_BYTES + (bytes.len() - FILE_HEADER_BYTES) / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1; // a segment may be all header
        }
        repair_killed_everywhere(database, &files);
    }
}

fn repair_killed_everywhere(database: &Database, files: &Files) {
    for changes in 0.. {
        let memory = MemoryDisk::killed_after(changes, files);
        let dying: Arc<dyn Disk> = Arc::clone(&memory) as _;
        let first = plan(&*dying, DedupLimits::default()).expect("repairable").expect("damaged");
        let end = first.end.sequence;
        let done = first.carry_out(&dying, 1 << 20).is_ok();
        let as_disk: Arc<dyn Disk> = MemoryDisk::new(&memory.files());
        if let Some(second) = plan(&*as_disk, DedupLimits::default()).expect("repairable") {
            assert!(!done, "{}: {}", database.name, second.refused);
            second.carry_out(&as_disk, 1 << 20).expect("the disk works");
        }
        let again = start(&*as_disk).unwrap_or_else(|error| panic!("{}, {changes}: {error}", database.name));
        assert_eq!(state_of(&again.store), database.states[&end], "{}: killed after {changes}", database.name);
        if done {
            return;
        }
    }
}

#[test]
fn starts_and_stops_without_a_write_change_nothing() {
    let database = Making::begin(SMALL).restart(true).restart(true).restart(false).restart(true).stopped("idle");
    let recovered = start(&*MemoryDisk::new(&database.files)).expect("whole");
    assert_eq!((recovered.manifest.state.epoch, recovered.new, recovered.report.cut), (5, false, None));
    let database = Making::begin(SMALL).write(1).restart(true).restart(true).write(1).stopped("nearly idle");
    assert_eq!(state_of(&start(&*MemoryDisk::new(&database.files)).expect("whole").store), database.states[&2]);
}

#[test]
fn a_log_whose_begin_is_missing_is_refused_also_when_nothing_was_ever_synced() {
    let database = Making::begin(SMALL).write(3).snapshot().write(1).snapshot().killed("pruned");
    let mut files = database.files;
    assert!(files.keys().all(|name| *name != "log-0000000001-00000000000000000001"), "the first segment was pruned");
    files.retain(|name, _| !name.starts_with("snapshot-"));
    let error = start(&*MemoryDisk::new(&files)).err().expect("never silently empty").to_string();
    assert!(error.contains("record 1 comes next"), "{error}");
}

#[test]
fn a_log_that_nobody_wants_synced_is_synced_all_the_same_so_that_segments_end() {
    let database = Making::begin(SMALL).write(20).killed("never synced on purpose");
    let segments = database.files.keys().filter(|name| name.starts_with("log-")).count();
    assert!(segments >= 5, "{segments} segments: one that never ends could not be read one day");
}
