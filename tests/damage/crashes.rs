//! Crashes of whoever puts things right, and orders of events that could lose or double something silently.

use crate::{
    database::{Database, Making, SMALL, all, state_of},
    memory::{Files, MemoryDisk},
    start,
};
use memdb::{
    data::store::DedupLimits,
    storage::disk::{Disk, DiskFile},
    storage::file_header::{FILE_HEADER_BYTES, MANIFEST},
    storage::repair::plan,
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A disk that does so many changes and no more: what is there then is what a kill leaves.
pub struct Dying {
    inner: Arc<MemoryDisk>,
    left: Arc<AtomicUsize>,
}

struct DyingFile {
    inner: Arc<dyn DiskFile>,
    left: Arc<AtomicUsize>,
}

fn spend(left: &AtomicUsize) -> io::Result<()> {
    let spent = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    spent.map(|_| ()).map_err(|_| io::Error::other("killed"))
}

impl Dying {
    pub fn after(changes: usize, files: &Files) -> (Arc<MemoryDisk>, Arc<dyn Disk>) {
        let inner = MemoryDisk::new(files);
        (Arc::clone(&inner), Arc::new(Self { inner, left: Arc::new(AtomicUsize::new(changes)) }))
    }

    fn wrap(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(DyingFile { inner, left: Arc::clone(&self.left) })
    }
}

impl Disk for Dying {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        spend(&self.left)?;
        Ok(self.wrap(self.inner.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.inner.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        spend(&self.left)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        spend(&self.left)?;
        self.inner.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.sync_directory()
    }
}

impl DiskFile for DyingFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        spend(&self.left).inspect_err(|_| {
            let _ = self.inner.append(&bytes[..bytes.len() / 2]); // torn
        })?;
        self.inner.append(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buffer)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        spend(&self.left)?;
        self.inner.truncate(len)
    }
}

/// Starts on `files`, is killed after every number of changes, and starts again: the state must be the same, and the
/// epoch must not go back.
fn start_killed_everywhere(name: &str, files: &Files) {
    let before = start(&*MemoryDisk::new(files)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected = state_of(&before.store);
    for changes in 0.. {
        let (memory, dying) = Dying::after(changes, files);
        let settled = start(&*dying).expect("looking changes nothing").finalize(&dying, "boot".into(), 1 << 20);
        let again = start(&*memory).unwrap_or_else(|error| panic!("{name}: killed after {changes} changes: {error}"));
        assert_eq!(state_of(&again.store), expected, "{name}: killed after {changes} changes");
        assert!(again.manifest.state.epoch >= before.manifest.state.epoch, "{name}: {changes}");
        if settled.is_ok() {
            assert_eq!(again.manifest.state.epoch, before.manifest.state.epoch + 1, "{name}");
            assert_eq!(again.report.cut, None, "{name}: cut again");
            return;
        }
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
                start_killed_everywhere(&format!("{}, {newest} cut to {keep}", database.name), &files);
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
        let (memory, dying) = Dying::after(changes, files);
        let first = plan(&*dying, DedupLimits::default()).expect("repairable").expect("damaged");
        let end = first.end.sequence;
        let done = first.carry_out(&dying, 1 << 20).is_ok();
        let as_disk: Arc<dyn Disk> = Arc::clone(&memory) as _;
        if let Some(second) = plan(&*as_disk, DedupLimits::default()).expect("repairable") {
            assert!(!done, "{}: {}", database.name, second.refused);
            second.carry_out(&as_disk, 1 << 20).expect("the disk works");
        }
        let again = start(&*memory).unwrap_or_else(|error| panic!("{}, {changes}: {error}", database.name));
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
