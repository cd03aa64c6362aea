//! A local replica over a directory of the real file system that may only be read.

use memdb::{
    base::position::Position,
    data::store::DedupLimits,
    engine::file_follower::{FileFollower, FollowStep},
    storage::disk::{Disk, DiskFile, RealDisk},
};
use std::{io, path::Path, sync::Arc};
use testkit::database::{Making, state_of};

/// A disk that fails the test at any change.
struct ReadOnly(RealDisk);

struct ReadOnlyFile(Arc<dyn DiskFile>);

impl Disk for ReadOnly {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        panic!("a local replica made {name}")
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(ReadOnlyFile(self.0.open(name)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        panic!("a local replica renamed {from} to {to}")
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        panic!("a local replica removed {name}")
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn sync_directory(&self) -> io::Result<()> {
        panic!("a local replica synced the directory")
    }
}

impl DiskFile for ReadOnlyFile {
    fn append(&self, _: &[u8]) -> io::Result<()> {
        panic!("a local replica wrote")
    }

    fn sync(&self) -> io::Result<()> {
        panic!("a local replica synced")
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        panic!("a local replica truncated")
    }
}

pub fn replica(directory: &Path) -> FileFollower {
    FileFollower::new(Arc::new(ReadOnly(RealDisk::at(directory))), DedupLimits::default())
}

/// A local replica that has loaded what is there.
pub fn complete(directory: &Path) -> FileFollower {
    let mut replica = replica(directory);
    let steps = run(&mut replica);
    assert!(replica.is_complete(), "{steps:?}");
    replica
}

/// Steps until there is nothing new, or nothing to be done now; gives what the steps came to.
pub fn run(replica: &mut FileFollower) -> Vec<FollowStep> {
    let mut steps = Vec::new();
    while steps.len() < 10_000 {
        let step = replica.step();
        let ended = matches!(step, FollowStep::Nothing | FollowStep::Waiting(_));
        steps.push(step);
        if ended {
            return steps;
        }
    }
    panic!("it comes to no end: {:?}", &steps[..20]);
}

/// Steps until the MANIFEST was surely read again.
pub fn idle(replica: &mut FileFollower) -> Vec<FollowStep> {
    (0..30).flat_map(|_| run(replica)).collect()
}

pub fn position(replica: &FileFollower) -> Position {
    replica.reader().expect("complete").read().position()
}

/// Both have the same counts, keys, digest, chain and position.
#[track_caller]
pub fn assert_same(replica: &FileFollower, leader: &Making, when: &str) {
    let store = replica.store().unwrap_or_else(|| panic!("{when}: nothing is complete"));
    assert_eq!(store.mark(), leader.store().mark(), "{when}");
    assert_eq!(store.reader().read().state_id(), store.mark(), "{when}: what readers see");
    assert_eq!(state_of(store), state_of(leader.store()), "{when}");
    assert_eq!(store.time_ms(), leader.store().time_ms(), "{when}");
}

pub fn reloaded(steps: &[FollowStep]) -> bool {
    steps.iter().any(|step| matches!(step, FollowStep::Reloading(_)))
}

/// The newest segment of a directory.
pub fn newest_segment(directory: &Path) -> std::path::PathBuf {
    let names = RealDisk::at(directory).list().expect("there");
    directory.join(names.iter().rfind(|name| name.starts_with("log-")).expect("there is a log"))
}

pub fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("there");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("written"); // in place: the file stays the same
}
