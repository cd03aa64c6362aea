//! Damage: every file of small databases truncated at every length, flipped at every byte, deleted, swapped, replaced.
//!
//! Whatever was done to the files, a start ends in one of three ways: the state is the true one; or the log was cut,
//! only where nothing says that it was ever synced, and the report says so; or it is refused, with the file named.
//! After a refusal `repair` makes a database of it whose state was true at some earlier position, and says exactly
//! what is lost.

#![allow(clippy::disallowed_methods)] // reads the files that the real disk wrote

mod crashes;
mod follower;

use memdb::{
    base::position::Sequence,
    data::store::DedupLimits,
    storage::disk::Disk,
    storage::file_header::{DatabaseIdentity, FILE_HEADER_BYTES, MANIFEST},
    storage::manifest::Manifest,
    storage::recovery::{RecoveredDatabase, RecoveryError, look},
    storage::repair::{DAMAGED, RepairError, plan},
    storage::wal::RawRecord,
};
use std::{fmt, sync::Arc, thread};
use testkit::{
    database::{Database, IDENTITY, Making, all, state_of, window_of},
    disk::{Files, MemoryDisk},
};

const ANOTHER: &str = "a file of another database";
const OLD_COPY: &str = "an old copy";

/// One way to spoil a directory.
#[derive(Clone, Debug)]
enum Spoil {
    Truncate(String, usize),
    Flip(String, usize, u8),
    Delete(String),
    Swap(String, String),
    Replace(String, Vec<u8>, &'static str),
    Append(String, Vec<u8>, &'static str),
    Add(String, Vec<u8>),
}

impl fmt::Display for Spoil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spoil::Truncate(file, len) => write!(f, "{file} cut to {len} bytes"),
            Spoil::Flip(file, at, mask) => write!(f, "{file} flipped at {at} by {mask:02x}"),
            Spoil::Delete(file) => write!(f, "{file} deleted"),
            Spoil::Swap(one, other) => write!(f, "{one} and {other} swapped"),
            Spoil::Replace(file, _, what) => write!(f, "{file} replaced by {what}"),
            Spoil::Append(file, _, what) => write!(f, "{what} appended to {file}"),
            Spoil::Add(file, _) => write!(f, "{file} added"),
        }
    }
}

impl Spoil {
    fn apply(&self, files: &mut Files) {
        match self {
            Spoil::Truncate(file, len) => files.get_mut(file).expect("there").truncate(*len),
            Spoil::Flip(file, at, mask) => files.get_mut(file).expect("there")[*at] ^= mask,
            Spoil::Delete(file) => {
                files.remove(file).expect("there");
            }
            Spoil::Swap(one, other) => {
                let (a, b) = (files[one].clone(), files[other].clone());
                files.insert(one.clone(), b);
                files.insert(other.clone(), a);
            }
            Spoil::Replace(file, bytes, _) | Spoil::Add(file, bytes) => {
                files.insert(file.clone(), bytes.clone());
            }
            Spoil::Append(file, bytes, _) => files.get_mut(file).expect("there").extend_from_slice(bytes),
        }
    }

    /// Whether nothing that is left can tell that something is missing: the newest segment ends between two records,
    /// which is also what a kill before the rest was written leaves.
    fn is_silent(&self, database: &Database) -> bool {
        let newest = database.newest_segment();
        match self {
            Spoil::Truncate(file, len) => file == newest && borders(&database.files[file]).contains(len),
            Spoil::Delete(file) => file == newest,
            Spoil::Replace(file, bytes, OLD_COPY) => {
                file == newest && borders(&database.files[file]).contains(&bytes.len())
            }
            _ => false,
        }
    }
}

/// The offsets in a segment at which a record ends, and where the first begins.
fn borders(segment: &[u8]) -> Vec<usize> {
    let mut borders = vec![FILE_HEADER_BYTES];
    while let Ok(raw) = RawRecord::parse(&segment[borders[borders.len() - 1]..], IDENTITY.hash_seed) {
        borders.push(borders[borders.len() - 1] + raw.header.record_bytes());
    }
    borders
}

/// The last sequence that any whole record in the log states to be synced.
fn stated_synced(files: &Files) -> Sequence {
    let segments = files.iter().filter(|(name, _)| name.starts_with("log-"));
    let stated = segments
        .flat_map(|(_, bytes)| (0..bytes.len()).map(|at| &bytes[at..]))
        .filter_map(|bytes| Some(RawRecord::parse(bytes, IDENTITY.hash_seed).ok()?.header.synced_upto));
    stated.max().unwrap_or(0)
}

fn start(disk: &dyn Disk) -> Result<RecoveredDatabase, RecoveryError> {
    // A new database would be one of another id: whatever comes out under it was not recovered.
    look(disk, DatabaseIdentity { database_id: 1, ..IDENTITY }, DedupLimits::default())
}

/// Reading every count takes longer than all the rest, so the digest stands for them in all cases but one of so many.
const EVERY_COUNT: u64 = 16;

/// Flips and cuts that are refused are many, and much alike: one of so many is repaired.
const EVERY_REPAIR: u64 = 5;

/// How often each outcome came.
#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    exact: u64,
    /// Cut, and said so.
    cut: u64,
    /// Of those: what was lost had been synced, and no byte that is left says so.
    unstated: u64,
    refused: u64,
    /// Shorter, and nothing can tell ([`Spoil::is_silent`]).
    silent: u64,
}

impl Outcomes {
    fn judged(&self) -> u64 {
        self.exact + self.cut + self.refused + self.silent
    }
}

/// Spoils, starts, and holds what must hold; tells which of the outcomes it was.
fn classify(database: &Database, spoil: &Spoil, tally: &mut Outcomes) {
    let case = || format!("{}: {spoil}", database.name);
    let mut files = database.files.clone();
    spoil.apply(&mut files);
    let disk = MemoryDisk::new(&files);
    match start(&*disk) {
        Ok(recovered) => {
            let at = recovered.store.mark().position.sequence;
            let truth = database.states.get(&at).unwrap_or_else(|| panic!("{}: no position {at} ever was", case()));
            assert_eq!(recovered.store.digest(), truth.digest, "{}: wrong counts at {at}", case());
            assert_eq!(window_of(&recovered.store), truth.window, "{}: wrong keys at {at}", case());
            if tally.judged().is_multiple_of(EVERY_COUNT) {
                assert_eq!(&state_of(&recovered.store), truth, "{}: wrong counts at {at}", case());
            }
            assert!(!recovered.new || database.last() == 0, "{}: silently empty", case());
            if at == database.last() {
                tally.exact += 1;
                return;
            }
            assert!(!database.clean, "{}: {at} of {} after a clean stop", case(), database.last());
            let stated = stated_synced(&files);
            assert!(stated <= at, "{}: lost behind {at}, though {stated} was stated to be synced", case());
            if spoil.is_silent(database) {
                tally.silent += 1;
            } else {
                assert!(recovered.report.cut.is_some(), "{}: nothing is said of what is lost behind {at}", case());
                tally.cut += 1;
                tally.unstated += u64::from(at < database.synced);
            }
        }
        Err(error) => {
            tally.refused += 1;
            let text = error.to_string();
            let named = files.keys().chain(database.files.keys()).any(|name| text.contains(name.as_str()));
            let missing = matches!(error, RecoveryError::Missing { .. });
            assert!(named || missing, "{}: refused without a name: {text}", case());
            if matches!(spoil, Spoil::Flip(..)) {
                assert!(text.contains(" at byte "), "{}: refused without an offset: {text}", case());
            }
            if tally.refused.is_multiple_of(EVERY_REPAIR) || !matches!(spoil, Spoil::Flip(..) | Spoil::Truncate(..)) {
                classify_repair(database, spoil, &files);
            }
        }
    }
    assert_eq!(disk.files(), files, "{}: looking changed something", case());
}

fn without(files: &Files, name: &str) -> Files {
    files.iter().filter(|(other, _)| *other != name).map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
}

/// Repairs what was refused: a true state comes out, the rest is said to be lost, and nothing is destroyed.
fn classify_repair(database: &Database, spoil: &Spoil, files: &Files) {
    let case = || format!("{}: {spoil}: repair", database.name);
    let disk = MemoryDisk::new(files);
    let plan = match plan(&*disk, DedupLimits::default()) {
        Ok(plan) => plan.unwrap_or_else(|| panic!("{}: nothing to do, though it was refused", case())),
        Err(RepairError::NoIdentity) if files.len() == 2 => return, // LOCK, and a file without a header
        Err(RepairError::Mixed(_)) if matches!(spoil, Spoil::Replace(_, _, ANOTHER)) => {
            // A person has to say which it is, by moving the stranger away.
            let Spoil::Replace(stranger, ..) = spoil else { unreachable!("just matched") };
            let rest = without(files, stranger);
            if start(&*MemoryDisk::new(&rest)).is_err() {
                classify_repair(database, &Spoil::Delete(stranger.clone()), &rest);
            }
            return;
        }
        Err(error) => panic!("{}: {error}", case()),
    };
    assert_eq!(&disk.files(), files, "{}: planning changed something", case());
    let (end, lost) = (plan.end.sequence, plan.lost);
    let whole_aside: Vec<(String, u64)> =
        plan.aside.iter().map(|aside| (aside.file.clone(), aside.from_byte)).collect();
    let (epoch, unknown_epoch) = (plan.manifest.state.epoch, plan.unknown_epoch);
    let led = plan.rebuilt.is_none()
        && Manifest::decode(&files[MANIFEST])
            .is_ok_and(|manifest| manifest.state.has_led() && manifest.state.replicas.is_empty());
    assert_eq!(plan.follows(), !led, "{}", case());
    let as_disk: Arc<dyn Disk> = Arc::clone(&disk) as _;
    plan.carry_out(&as_disk, 1 << 20).unwrap_or_else(|error| panic!("{}: {error}", case()));

    let recovered = start(&*disk).unwrap_or_else(|error| panic!("{}: refused again: {error}", case()));
    let truth = database.states.get(&end).unwrap_or_else(|| panic!("{}: no position {end} ever was", case()));
    assert_eq!(&state_of(&recovered.store), truth, "{}: wrong at {end}", case());
    assert_eq!(recovered.store.mark().position.sequence, end, "{}", case());
    assert_eq!(recovered.report.cut, None, "{}", case());
    assert!(recovered.manifest.state.epoch > epoch, "{}: an epoch is used again", case());
    assert_eq!(recovered.manifest.state.has_led(), led, "{}: who led leads again, and nobody else", case());
    match lost {
        Some(lost) => {
            assert_eq!(lost.first, end + 1, "{}", case());
            // What was cut off is not told of; what a stray file claims by its name may never have been.
            if matches!(spoil, Spoil::Flip(..)) {
                assert_eq!(lost.last, database.last(), "{}: {lost:?}", case());
            }
            assert!(lost.synced <= lost.last, "{}: {lost:?}", case());
        }
        None if end == database.last() => {}
        None => {
            let vanished = !matches!(spoil, Spoil::Flip(..));
            assert!(vanished || unknown_epoch.is_some(), "{}: {end} of {}, silently", case(), database.last());
        }
    }
    for (file, from_byte) in whole_aside {
        let kept = &disk.files()[&format!("{file}{DAMAGED}")];
        assert_eq!(kept, &files[&file][from_byte as usize..], "{}: {file} was destroyed", case());
    }
}

fn classify_all(databases: &[Database], spoils: impl Fn(&Database) -> Vec<Spoil> + Sync) -> Outcomes {
    let classify_one = |database: &Database| {
        let mut tally = Outcomes::default();
        spoils(database).iter().for_each(|spoil| classify(database, spoil, &mut tally));
        tally
    };
    let mut sum = Outcomes::default();
    thread::scope(|scope| {
        let running: Vec<_> = databases.iter().map(|database| scope.spawn(|| classify_one(database))).collect();
        for thread in running {
            let tally = thread.join().expect("the message above");
            sum.exact += tally.exact;
            sum.cut += tally.cut;
            sum.unstated += tally.unstated;
            sum.refused += tally.refused;
            sum.silent += tally.silent;
        }
    });
    sum
}

#[test]
fn unspoilt_databases_are_recovered_exactly() {
    for database in all() {
        let recovered = start(&*MemoryDisk::new(&database.files)).expect(database.name);
        assert_eq!(recovered.store.mark().position.sequence, database.last(), "{}", database.name);
        assert_eq!(&state_of(&recovered.store), &database.states[&database.last()], "{}", database.name);
        assert_eq!((recovered.report.clean, recovered.report.cut), (database.clean, None), "{}", database.name);
    }
}

#[test]
fn a_file_cut_anywhere_is_read_exactly_cut_or_refused() {
    let tally = classify_all(&all(), |database| {
        let each = |(name, bytes): (&String, &Vec<u8>)| {
            (0..bytes.len()).map(|len| Spoil::Truncate(name.clone(), len)).collect::<Vec<_>>()
        };
        database.files.iter().filter(|(name, _)| *name != "LOCK").flat_map(each).collect()
    });
    // A cut right between two records of the newest segment is all that may be silent.
    let borders: usize =
        all().iter().map(|database| borders(&database.files[database.newest_segment()]).len() - 1).sum();
    assert!(tally.silent <= borders as u64 && tally.silent > 0, "{tally:?}");
    assert!(tally.exact > 1_000 && tally.cut > 1_000 && tally.refused > 1_000, "{tally:?}");
}

#[test]
fn a_byte_flipped_anywhere_is_read_exactly_cut_or_refused() {
    let tally = classify_all(&all(), |database| {
        let each = |(name, bytes): (&String, &Vec<u8>)| {
            let name = name.clone();
            let masks = |at: usize| [Some(1 << (at % 8)), at.is_multiple_of(4).then_some(0xff)].into_iter().flatten();
            (0..bytes.len())
                .flat_map(move |at| {
                    let name = name.clone();
                    masks(at).map(move |mask| Spoil::Flip(name.clone(), at, mask))
                })
                .collect::<Vec<_>>()
        };
        database.files.iter().filter(|(name, _)| *name != "LOCK").flat_map(each).collect()
    });
    assert!(tally.exact > 1_000 && tally.cut > 1_000 && tally.refused > 1_000, "{tally:?}");
    assert_eq!(tally.silent, 0, "{tally:?}");
}

#[test]
fn files_deleted_swapped_replaced_and_added() {
    let stranger = DatabaseIdentity { database_id: 77, hash_seed: 99, ..IDENTITY };
    let other = Making::begin_as(stranger, 1 << 20).write(2).snapshot().write(2).killed("another database");
    let same_seed = DatabaseIdentity { database_id: 77, ..IDENTITY };
    let twin = Making::begin_as(same_seed, 1 << 20).write(2).snapshot().write(2).killed("a twin");
    let tally = classify_all(&all(), |database| {
        let names: Vec<String> = database.files.keys().filter(|name| *name != "LOCK").cloned().collect();
        let mut spoils = Vec::new();
        for (at, name) in names.iter().enumerate() {
            spoils.push(Spoil::Delete(name.clone()));
            spoils.extend(names[..at].iter().map(|earlier| Spoil::Swap(earlier.clone(), name.clone())));
            for old in database.earlier.iter().filter_map(|files| files.get(name)) {
                spoils.push(Spoil::Replace(name.clone(), old.clone(), OLD_COPY));
            }
            for garbage in [vec![0; 1], vec![0; 500], vec![0xff; 64], b"not what belongs here".to_vec()] {
                spoils.push(Spoil::Append(name.clone(), garbage.clone(), "garbage"));
                spoils.push(Spoil::Replace(name.clone(), garbage, "garbage"));
            }
            for (file, bytes) in other.files.iter().chain(&twin.files) {
                if file.split('-').next() == name.split('-').next() {
                    spoils.push(Spoil::Replace(name.clone(), bytes.clone(), ANOTHER));
                }
            }
        }
        let mut foreign = vec![
            ("notes.txt".to_owned(), b"a note".to_vec()),
            ("MANIFEST.new".to_owned(), b"half".to_vec()),
            ("snapshot-.new".to_owned(), Vec::new()),
            ("log-1-2".to_owned(), b"no name of ours".to_vec()),
        ];
        // Files whose names are ours and whose bytes are not, before, within and behind the history.
        for sequence in [0, 1, 2, 3, 5, 9, 99] {
            for epoch in [1, 2, 9] {
                for (prefix, kind) in [("log", 'l'), ("snapshot", 's')] {
                    let name = format!("{prefix}-{epoch:010}-{sequence:020}");
                    if names.contains(&name) {
                        continue;
                    }
                    foreign.push((name.clone(), Vec::new()));
                    foreign.push((name.clone(), vec![7; 300]));
                    let strangers = other.files.iter().chain(&twin.files).filter(|(file, _)| file.starts_with(kind));
                    foreign.extend(strangers.map(|(_, bytes)| (name.clone(), bytes.clone())));
                }
            }
        }
        for files in &database.earlier {
            foreign.extend(
                files
                    .iter()
                    .filter(|(name, _)| !names.contains(name))
                    .map(|(name, bytes)| (name.clone(), bytes.clone())),
            );
        }
        spoils.extend(
            foreign.into_iter().filter(|(name, _)| !names.contains(name)).map(|(name, bytes)| Spoil::Add(name, bytes)),
        );
        spoils
    });
    assert!(tally.exact > 100 && tally.cut > 10 && tally.refused > 100, "{tally:?}");
}

#[test]
fn an_empty_directory_is_a_new_database_and_one_that_lost_its_manifest_is_not() {
    let lock: Files = [("LOCK".to_owned(), b"123\n".to_vec())].into();
    assert!(start(&*MemoryDisk::new(&lock)).expect("empty").new);
    for database in all().iter().filter(|database| database.last() > 0) {
        let mut files = database.files.clone();
        files.remove(MANIFEST);
        for name in files.keys().cloned().collect::<Vec<_>>() {
            if name == "LOCK" {
                continue;
            }
            // Even if only one file is left of it.
            let alone: Files = [(name.clone(), files[&name].clone())].into();
            if alone[&name].len() > FILE_HEADER_BYTES {
                assert!(start(&*MemoryDisk::new(&alone)).is_err(), "{}: only {name} is left", database.name);
            }
        }
    }
}
