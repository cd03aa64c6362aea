//! A follower's directory: made by a full sync and the leader's records, killed anywhere, and made a leader's.

use super::start;
use memdb::{
    base::position::{Position, Sequence},
    data::store::{DedupLimits, Store},
    storage::disk::Disk,
    storage::file_header::{DatabaseIdentity, FileError, MANIFEST},
    storage::manifest::{Manifest, ManifestState},
    storage::recovery::{RecoveryError, WritableDatabase, adopt, begin_epoch, look_follower, standing_at},
    storage::snapshot::{SnapshotLoader, snapshots},
    storage::wal::{Log, LogTail, RawRecord, place_after},
};
use std::sync::Arc;
use testkit::{
    database::{Database, IDENTITY, Making, SMALL, all, node_run, state_of},
    disk::{Files, MemoryDisk},
};

const TEMPORARY: &str = "snapshot-received.new";

/// What a follower has in memory.
struct Follower {
    manifest: Manifest,
    log: Log,
    store: Store,
}

fn read(disk: &dyn Disk, name: &str) -> Vec<u8> {
    memdb::storage::disk::read_all(&*disk.open(name).expect("there"), 1 << 20).expect("readable")
}

impl Follower {
    /// A full sync from a leader that has ended with these files, up to its newest snapshot.
    fn sync(disk: &Arc<dyn Disk>, leader: &dyn Disk) -> Result<Self, FileError> {
        let Manifest { identity, state } = Manifest::read(leader).expect("whole").expect("there");
        let (mut store, mut received) = (Store::new(identity.hasher(), DedupLimits::default()), None);
        if let Some((name, _)) = snapshots(leader).expect("readable").pop() {
            let bytes = read(leader, &name);
            let file = disk.create(TEMPORARY).map_err(FileError::io(TEMPORARY))?;
            let mut loader = SnapshotLoader::new(identity, DedupLimits::default());
            for piece in bytes.chunks(99) {
                loader.feed(piece)?;
                file.append(piece).map_err(FileError::io(TEMPORARY))?;
            }
            file.sync().map_err(FileError::io(TEMPORARY))?;
            (store, received) = (loader.finish()?.0, Some(TEMPORARY));
        }
        let (manifest, log) = adopt(
            disk,
            identity,
            ManifestState { epoch: state.epoch, epochs: state.epochs, ..ManifestState::default() },
            &mut node_run(),
            &store,
            received,
            SMALL,
        )?;
        let mut follower = Self { manifest, log, store };
        follower.stand();
        Ok(follower)
    }

    fn start(disk: &Arc<dyn Disk>) -> Result<Self, RecoveryError> {
        let recovered = look_follower(&**disk, DedupLimits::default())?.expect("something is there");
        let WritableDatabase { manifest, log, store, .. } = recovered.follow(disk, &mut node_run(), SMALL)?;
        Ok(Self { manifest, log, store })
    }

    fn stand(&mut self) {
        let (mark, state) = (self.store.mark(), &self.manifest.state);
        let position = standing_at(mark.position, state.epoch, &state.epochs);
        self.store.set_state_id(memdb::data::store::StateId { position, ..mark }, self.store.time_ms());
    }

    /// Takes the leader's records up to one of them, as they are in its log.
    fn follow(&mut self, leader: &dyn Disk, upto: Sequence) {
        let mark = self.store.mark();
        let (place, chain) = place_after(leader, &IDENTITY, mark.position.sequence).expect("readable").expect("there");
        assert_eq!(chain, mark.chain);
        let (mut tail, mut bytes) = (LogTail::open(leader, IDENTITY, place).expect("there"), Vec::new());
        while tail.follow(leader, &mut bytes).expect("whole") {}
        let mut rest = &bytes[..];
        while !rest.is_empty() && self.log.sequence() < upto {
            let raw = RawRecord::parse(rest, IDENTITY.hash_seed).expect("whole");
            let (record, after) = rest.split_at(raw.header.record_bytes());
            self.log.append_raw(record).expect("the disk works");
            self.store.apply(&raw.record().expect("known"), raw.header.chain).expect("the leader's state");
            if let Some(sync) = self.log.is_overdue().then(|| self.log.sync()).flatten() {
                sync.run().expect("the disk works");
                self.log.synced(&sync);
            }
            rest = after;
        }
        self.stand();
    }
}

fn empty() -> (Arc<MemoryDisk>, Arc<dyn Disk>) {
    let memory = MemoryDisk::new(&Files::new());
    (Arc::clone(&memory), memory)
}

/// What the directory is a follower's state at, and the highest epoch it knows; `None`: nothing.
fn found(disk: &dyn Disk) -> Option<(Position, u64, testkit::database::State)> {
    let recovered = look_follower(disk, DedupLimits::default()).expect("never refused")?;
    let state = state_of(&recovered.store);
    Some((recovered.store.mark().position, recovered.manifest.state.epoch, state))
}

#[test]
fn a_follower_of_any_leader_has_its_state_and_comes_back_with_it_as_either() {
    for database in all() {
        let leader = MemoryDisk::new(&database.files);
        let (memory, disk) = empty();
        let mut follower = Follower::sync(&disk, &*leader).expect("the disk works");
        follower.follow(&*leader, Sequence::MAX);
        let manifest = Manifest::read(&*leader).expect("whole").expect("there");
        let (end, truth) = (database.last(), &database.states[&database.last()]);
        assert_eq!(follower.store.mark().position, Position::new(manifest.state.epoch, end), "{}", database.name);
        assert_eq!(&state_of(&follower.store), truth, "{}", database.name);
        drop(follower);
        for _ in 0..2 {
            let follower = Follower::start(&disk).unwrap_or_else(|error| panic!("{}: {error}", database.name));
            assert_eq!(follower.store.mark().position, Position::new(manifest.state.epoch, end), "{}", database.name);
            assert_eq!(&state_of(&follower.store), truth, "{}", database.name);
            assert_eq!(follower.manifest.state.epochs, manifest.state.epochs, "{}", database.name);
        }
        let promoted = start(&*memory).unwrap_or_else(|error| panic!("{}: made a leader: {error}", database.name));
        assert_eq!(&state_of(&promoted.store), truth, "{}", database.name);
        let settled = promoted.finalize(&disk, &mut node_run(), SMALL).expect("the disk works");
        assert_eq!(settled.store.mark().position, Position::new(manifest.state.epoch + 1, end), "{}", database.name);
    }
}

/// Four epochs, of records 1 to 3, 4 to 6, none, and 7 to 8.
fn epochs() -> Database {
    let two = Making::begin(1 << 20).write(3).remember().restart(true).write(3).remember().restart(true);
    two.remember().restart(true).write(2).killed("epochs")
}

/// The log of a database from record 1 on, as it was before snapshots let go of it.
fn whole_log(database: &Database) -> Arc<MemoryDisk> {
    let mut files = Files::new();
    database.earlier.iter().chain([&database.files]).for_each(|copy| files.extend(copy.clone()));
    files.retain(|name, _| !name.starts_with("snapshot-"));
    MemoryDisk::new(&files)
}

#[test]
fn a_follower_that_is_behind_goes_on_where_it_was_through_epochs_it_has_not() {
    let database = epochs();
    for stop in 0..=database.last() {
        let (memory, disk) = empty();
        let leader = whole_log(&database);
        let mut follower = Follower::sync(&disk, &*leader).expect("the disk works");
        follower.follow(&*leader, stop);
        drop(follower);
        let mut follower = Follower::start(&disk).unwrap_or_else(|error| panic!("stopped at {stop}: {error}"));
        let epoch = match stop {
            0 => 0,
            1..=3 => 1,
            4..=5 => 2,
            _ => 4, // all of the epochs before it
        };
        assert_eq!(follower.store.mark().position, Position::new(epoch, stop));
        assert_eq!(state_of(&follower.store), database.states[&stop], "{stop}");
        // To lead from there without a promise would lose what the others have.
        let behind = start(&*memory).unwrap_or_else(|error| panic!("{stop}: {error}"));
        assert_eq!(behind.is_behind(), stop < 6, "{stop}");
        if stop < 6 {
            let refused = behind.finalize(&disk, &mut node_run(), SMALL).map(|_| ());
            assert!(matches!(refused, Err(RecoveryError::Missing { .. })), "{stop}: {refused:?}");
        }
        follower.follow(&*leader, Sequence::MAX);
        assert_eq!(follower.store.mark().position, Position::new(4, 8), "{stop}");
        drop(follower);
        let (position, _, state) = found(&*memory).expect("there");
        assert_eq!((position, &state), (Position::new(4, 8), &database.states[&8]), "{stop}");
    }
}

#[test]
fn a_full_sync_that_is_killed_anywhere_leaves_the_old_state_the_new_one_or_nothing() {
    let stranger = DatabaseIdentity { database_id: 77, hash_seed: 99, ..IDENTITY };
    let old = Making::begin_as(stranger, SMALL).write(2).snapshot().write(2).snapshot().write(1).killed("the old one");
    for new in [all().remove(6), epochs(), Making::begin(SMALL).killed("new")] {
        let leader = MemoryDisk::new(&new.files);
        let mut outcomes = [0; 3];
        for changes in 0.. {
            let killed = MemoryDisk::killed_after(changes, &old.files);
            let dying: Arc<dyn Disk> = Arc::clone(&killed) as _;
            let done = Follower::sync(&dying, &*leader).is_ok();
            let memory = MemoryDisk::new(&killed.files());
            let expected = snapshots(&*leader).expect("readable").pop().map_or(0, |(_, at)| at.sequence);
            match found(&*memory) {
                None => outcomes[1] += 1,
                Some((_, _, state)) if state == old.states[&old.last()] && !done => outcomes[0] += 1,
                Some((position, _, state)) => {
                    assert_eq!((position.sequence, &state), (expected, &new.states[&expected]), "{changes}");
                    outcomes[2] += 1;
                }
            }
            // Whatever was left: the next full sync succeeds, and nothing else stays.
            let again: Arc<dyn Disk> = Arc::clone(&memory) as _;
            let follower = Follower::sync(&again, &*leader).expect("the disk works");
            let names: Vec<String> = memory.files().into_keys().collect();
            let kept = [MANIFEST, &follower.log.offset().segment];
            let rest: Vec<_> = names.iter().filter(|name| !kept.contains(&name.as_str())).collect();
            assert!(rest.iter().all(|name| name.starts_with("snapshot-0") || *name == "LOCK"), "{rest:?}");
            if done {
                break;
            }
        }
        assert!(outcomes.iter().all(|&count| count > 0), "{}: {outcomes:?}", new.name);
    }
}

#[test]
fn a_newer_epoch_that_is_begun_and_killed_anywhere_is_there_or_not() {
    let database = epochs();
    let leader = MemoryDisk::new(&database.files);
    let (memory, disk) = empty();
    let mut follower = Follower::sync(&disk, &*leader).expect("the disk works");
    follower.follow(&*leader, Sequence::MAX);
    drop(follower);
    let files = memory.files();
    let (position, epoch, state) = found(&*memory).expect("there");
    for changes in 0.. {
        let memory = MemoryDisk::killed_after(changes, &files);
        let dying: Arc<dyn Disk> = Arc::clone(&memory) as _;
        let begun = Follower::start(&dying).map_err(|error| error.to_string()).and_then(|mut follower| {
            let mut epochs = follower.manifest.state.epochs.clone();
            epochs.end(position);
            begin_epoch(&*dying, &mut follower.log, &mut follower.manifest, epoch + 1, epochs)
                .map_err(|error| error.to_string())
        });
        let (_, now, same) = found(&*memory).expect("there");
        assert_eq!(same, state, "{changes}");
        assert!(now == epoch + 1 || (now == epoch && begun.is_err()), "{changes}: {begun:?}");
        let again: Arc<dyn Disk> = MemoryDisk::new(&memory.files());
        let follower = Follower::start(&again).expect("whole");
        assert_eq!(follower.store.mark().position, Position::new(now, position.sequence), "{changes}");
        assert_eq!(found(&*again).map(|(_, _, state)| state), Some(state.clone()), "{changes}");
        if begun.is_ok() {
            return;
        }
    }
}

#[test]
fn a_directory_without_a_manifest_is_empty_whatever_else_is_there() {
    let mut files = epochs().files;
    assert!(found(&*MemoryDisk::new(&files)).is_some());
    files.remove(MANIFEST);
    assert!(found(&*MemoryDisk::new(&files)).is_none());
    assert!(found(&*MemoryDisk::new(&Files::new())).is_none());
}

#[test]
fn a_leader_makes_no_new_database_of_what_a_full_sync_left() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let disk = memdb::storage::disk::RealDisk::new(directory.path()).expect("a directory");
    let new = DatabaseIdentity {
        database_id: 7,
        shard_id: 0,
        analyzer: memdb::text::tokenizer::Analyzer::Standard,
        hash_seed: 9,
    };
    disk.create(TEMPORARY).expect("made");
    let refused =
        memdb::storage::recovery::look(&disk, new, DedupLimits::default()).map(|_| ()).expect_err("a sync began here");
    assert!(refused.to_string().contains("a full sync was not finished"), "{refused}");
    disk.remove(TEMPORARY).expect("removed");
    assert!(memdb::storage::recovery::look(&disk, new, DedupLimits::default()).expect("nothing is there").new);
}
