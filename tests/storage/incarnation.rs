//! A directory keeps its incarnation as long as every record that was acknowledged from it is there, and no longer.

use memdb::{
    data::store::DedupLimits,
    storage::{
        disk::Disk,
        file_header::{FILE_HEADER_BYTES, MANIFEST},
        manifest::Manifest,
        recovery::{NodeRun, RecoveryError, adopt, look, look_follower, stop_cleanly},
        repair::plan,
    },
};
use std::sync::Arc;
use testkit::{
    database::{Database, IDENTITY, Making, SMALL},
    disk::{Files, MemoryDisk},
};

const SAME: &str = "boot";
const OTHER: &str = "another boot";

fn run(boot_id: &str, random: u64) -> NodeRun {
    NodeRun { name: format!("n-{random}"), boot_id: boot_id.into(), random: Some(random) }
}

/// What the MANIFEST says of the node: its name and the incarnation.
fn noted(disk: &dyn Disk) -> (String, u64) {
    let state = Manifest::read(disk).expect("whole").expect("there").state;
    (state.node_name, state.incarnation)
}

/// Starts a leader on the files, and gives what the MANIFEST says then.
fn led(disk: &Arc<dyn Disk>, mut run: NodeRun) -> Result<(String, u64), RecoveryError> {
    look(&**disk, IDENTITY, DedupLimits::default())?.finalize(disk, &mut run, SMALL)?;
    Ok(noted(&**disk))
}

/// Starts a follower on the files, and gives what the MANIFEST says then.
fn followed(disk: &Arc<dyn Disk>, mut run: NodeRun) -> Result<(String, u64), RecoveryError> {
    look_follower(&**disk, DedupLimits::default())?.expect("there").follow(disk, &mut run, SMALL)?;
    Ok(noted(&**disk))
}

fn on(files: &Files) -> Arc<dyn Disk> {
    MemoryDisk::new(files)
}

/// A database whose process was killed, and one whose process was stopped; both started in the boot [`SAME`].
fn killed() -> Database {
    Making::begin(SMALL).write(9).sync().write(3).killed("killed")
}

fn stopped() -> Database {
    Making::begin(SMALL).write(9).stopped("stopped")
}

#[test]
fn a_new_directory_draws_an_incarnation_and_another_one_a_different() {
    let one = led(&on(&Files::new()), run(SAME, 1)).expect("a new database");
    let emptied = led(&on(&Files::new()), run(SAME, 2)).expect("a new database");
    assert!(one.1 != 0 && emptied.1 != 0 && one.1 != emptied.1, "{one:?} {emptied:?}");
    assert_eq!((one.0.as_str(), emptied.0.as_str()), ("n-1", "n-2"));
}

#[test]
fn a_clean_stop_and_a_kill_in_the_same_boot_keep_it_and_another_boot_after_a_kill_does_not() {
    for start in [led, followed] {
        let start = |disk: &_, run| start(disk, run).expect("whole");
        for (case, database, boot, keeps) in [
            ("killed", killed(), SAME, true),
            ("lost power", killed(), OTHER, false),
            ("stopped", stopped(), SAME, true),
            ("stopped, then another boot", stopped(), OTHER, true),
        ] {
            let disk = on(&database.files);
            let before = noted(&*disk);
            let after = start(&disk, run(boot, 3));
            assert_eq!(before.1 == after.1, keeps, "{case}");
            assert_eq!(before.0, after.0, "{case}: the name stays");
            let again = start(&disk, run(boot, 4));
            assert_eq!(again, after, "{case}: and then it is killed in that boot");
            assert_ne!(start(&disk, run("a third", 5)).1, again.1, "{case}: the boot of the last start is noted");
        }
    }
}

#[test]
fn a_role_that_ends_and_stops_cleanly_keeps_it_across_a_boot() {
    let disk = on(&killed().files);
    let found = look_follower(&*disk, DedupLimits::default()).expect("whole").expect("there");
    let mut settled = found.follow(&disk, &mut run(OTHER, 6), SMALL).expect("the disk works");
    stop_cleanly(&disk, &mut settled.manifest, &settled.store, &settled.log, settled.snapshot).expect("the disk works");
    let stopped = noted(&*disk);
    assert_eq!(followed(&disk, run("a third", 7)).expect("whole"), stopped);
}

/// Cuts inside the last record of the newest segment.
fn torn(database: &Database) -> Files {
    let mut files = database.files.clone();
    let newest = files.get_mut(database.newest_segment()).expect("there");
    assert!(newest.len() > FILE_HEADER_BYTES, "it has a record");
    newest.pop();
    files
}

#[test]
fn a_cut_of_the_log_ends_it_also_where_the_start_is_killed_on_the_way() {
    let files = torn(&Making::begin(1 << 20).write(5).killed("torn"));
    let before = noted(&*on(&files));
    for start in [led, followed] {
        for changes in 0.. {
            let memory = MemoryDisk::killed_after(changes, &files);
            let dying: Arc<dyn Disk> = Arc::clone(&memory) as _;
            let done = start(&dying, run(SAME, 8)).is_ok();
            let disk = on(&memory.files());
            let after = start(&disk, run(SAME, 9)).expect("whole");
            assert!(after.1 != before.1 && after.1 != 0, "killed after {changes} changes");
            assert_eq!(after.0, before.0, "the name stays");
            if done {
                break;
            }
        }
    }
}

#[test]
fn a_repair_ends_it_also_where_it_is_killed_on_the_way() {
    let mut files = killed().files;
    let first = files.keys().find(|name| name.starts_with("log-")).expect("there").clone();
    files.get_mut(&first).expect("there")[FILE_HEADER_BYTES + 20] ^= 1;
    let before = noted(&*on(&files));
    assert!(led(&on(&files), run(SAME, 10)).is_err(), "it is refused, so it takes a repair");
    for changes in 0.. {
        let memory = MemoryDisk::killed_after(changes, &files);
        let dying: Arc<dyn Disk> = Arc::clone(&memory) as _;
        let repair = plan(&*dying, DedupLimits::default()).expect("repairable").expect("damaged");
        let done = repair.carry_out(&dying, SMALL).is_ok();
        let disk = on(&memory.files());
        if let Ok(after) = led(&disk, run(SAME, 11)) {
            assert!(after.1 != before.1 && after.1 != 0, "killed after {changes} changes");
            assert_eq!(after.0, before.0, "the name stays");
        }
        if done {
            break;
        }
    }
}

#[test]
fn a_full_sync_ends_it_before_anything_of_the_old_files_goes() {
    let files = killed().files;
    let before = noted(&*on(&files));
    for changes in 0.. {
        let memory = MemoryDisk::killed_after(changes, &files);
        let dying: Arc<dyn Disk> = Arc::clone(&memory) as _;
        let state = Manifest::read(&*dying).expect("whole").expect("there").state;
        let state = memdb::storage::manifest::ManifestState { epoch: state.epoch, ..Default::default() };
        let nothing = memdb::data::store::Store::new(IDENTITY.hasher(), DedupLimits::default());
        let done = adopt(&dying, IDENTITY, state, &mut run(SAME, 12), &nothing, None, SMALL).is_ok();
        let left = memory.files();
        match left.contains_key(MANIFEST).then(|| noted(&*on(&left))) {
            Some(noted) if noted.1 == before.1 => assert_eq!(left, files, "killed after {changes} changes"),
            Some(noted) => assert!(noted.1 != 0 && noted.0 == "n-12", "killed after {changes} changes"),
            None => {}
        }
        if done {
            assert_ne!(noted(&*memory).1, before.1);
            break;
        }
    }
}
