//! The log written and read back: rotation, what a sync covers, cut or refuse, following it while it grows.

mod follower;

use super::{record::ChainState, *};
use crate::{
    base::clock::LoggedTime,
    base::position::{Epoch, Position, Sequence},
    data::record::{NamespaceChange, RecordBody, WordCount},
    data::store::StateId,
    storage::disk::{self, Disk, RealDisk},
    storage::file_header::{
        DatabaseIdentity, FILE_HEADER_BYTES, FileError, FileHeader, FileKind, LOG_PREFIX, MANIFEST, SNAPSHOT_PREFIX,
        position_name,
    },
    text::tokenizer::Analyzer,
};
use std::{io, sync::Arc};

const IDENTITY: DatabaseIdentity =
    DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };

struct Logged {
    directory: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    log: Log,
}

fn begun(segment_bytes: u64) -> Logged {
    let directory = tempfile::TempDir::new().expect("a directory");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path()).expect("it is there"));
    let log = Log::create(Arc::clone(&disk), IDENTITY, 1, StateId::default(), segment_bytes).expect("the disk works");
    Logged { directory, disk, log }
}

impl Logged {
    fn append(&mut self, records: u64) {
        for _ in 0..records {
            let counts = vec![WordCount { word: "hello", count: 1 }];
            let changes = vec![NamespaceChange { namespace: "words", dropped: false, counts }];
            self.log
                .append(
                    LoggedTime::from_ms(1_000),
                    5,
                    &RecordBody { entries: Vec::new(), changes, keyed_writes: Vec::new() },
                )
                .expect("the disk works");
        }
    }

    fn sync(&mut self) {
        let sync = self.log.sync().expect("something to sync");
        sync.run().expect("the disk works");
        self.log.synced(&sync);
    }

    fn segments(&self) -> Vec<Sequence> {
        segments(&*self.disk).expect("readable").into_iter().map(|(_, first)| first.sequence).collect()
    }

    fn scan_from(&self, from: StateId) -> Result<(Vec<Sequence>, ScanResult), FileError> {
        let mut found = Vec::new();
        let scanned = scan(&*self.disk, &IDENTITY, from, |raw| {
            found.push(raw.header.position.sequence);
            Ok(())
        })?;
        Ok((found, scanned))
    }

    /// Where the log is at the record of this sequence.
    fn mark_at(&self, sequence: Sequence) -> StateId {
        let mut mark = StateId::default();
        scan(&*self.disk, &IDENTITY, StateId::default(), |raw| {
            if raw.header.position.sequence == sequence {
                mark = StateId { position: raw.header.position, digest: 5, chain: raw.header.chain };
            }
            Ok(())
        })
        .expect("whole");
        mark
    }

    /// Replaces the bytes of the segment that begins at `first`.
    fn change(&self, first: Sequence, change: impl FnOnce(&mut Vec<u8>)) {
        let name = position_name(LOG_PREFIX, Position::new(1, first));
        let file = self.disk.open(&name).expect("there");
        let mut bytes = disk::read_all(&*file, 1 << 20).expect("readable");
        change(&mut bytes);
        file.truncate(0).and_then(|()| file.append(&bytes)).expect("the disk works");
    }
}

/// Writes a file anew, as somebody else may do: it stays the same file.
#[allow(clippy::disallowed_methods, reason = "what somebody else does to the files")]
fn rewrite(path: &std::path::Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let mut bytes = std::fs::read(path.join(name))?;
    change(&mut bytes);
    std::fs::write(path.join(name), bytes)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "what somebody else does to the files")]
fn a_check_finds_what_was_taken_away_and_nothing_else() {
    let name = |first| position_name(LOG_PREFIX, Position::new(1, first));
    // What is done to the directory and a file in it, and whether a start would miss something.
    type Taking = fn(&std::path::Path, &str) -> io::Result<()>;
    let takings: [(u64, Taking, Option<&str>); 12] = [
        (5, |_, _| Ok(()), None),
        (5, |path, name| std::fs::remove_file(path.join(name)), Some("removed or moved")),
        (5, |path, name| std::fs::rename(path.join(name), path.join("elsewhere")), Some("removed or moved")),
        (
            5,
            |path, name| {
                std::fs::copy(path.join(name), path.join("copy"))?;
                std::fs::rename(path.join("copy"), path.join(name))
            },
            Some("another file"),
        ),
        (1, |path, name| std::fs::remove_file(path.join(name)), Some("removed or moved")),
        (3, |path, name| std::fs::remove_file(path.join(name)), Some("removed or moved")),
        (1, |path, _| std::fs::remove_file(path.join(MANIFEST)), Some(MANIFEST)),
        (1, |path, _| std::fs::remove_dir_all(path), Some("data directory")),
        (5, |path, name| rewrite(path, name, Vec::clear), Some("cut off")),
        (5, |path, name| rewrite(path, name, |bytes| bytes.truncate(bytes.len() - 1)), Some("cut off")),
        (5, |path, name| rewrite(path, name, |bytes| bytes.push(0)), Some("somebody else")),
        (5, |path, name| rewrite(path, name, |bytes| bytes[20] ^= 1), Some("header")),
    ];
    for (at, (first, take, expected)) in takings.into_iter().enumerate() {
        let mut logged = begun(FILE_HEADER_BYTES as u64 + 2 * RECORD as u64);
        logged.disk.create(MANIFEST).expect("made");
        for _ in 0..3 {
            logged.append(2);
            logged.sync();
        }
        assert_eq!(logged.segments(), [1, 3, 5]);
        let found = logged.log.check();
        assert_eq!(logged.log.checked(&found, &found.run()), None, "{at}: all is there");
        take(logged.directory.path(), &name(first)).expect("done");
        let check = logged.log.check();
        let gone = logged.log.checked(&check, &check.run());
        assert_eq!(gone.is_some(), expected.is_some(), "{at}: {gone:?}");
        assert!(gone.unwrap_or_default().contains(expected.unwrap_or_default()), "{at}");
    }
}

#[test]
fn a_segment_that_a_snapshot_has_made_needless_is_not_missed() {
    let mut logged = begun(FILE_HEADER_BYTES as u64 + 2 * RECORD as u64);
    logged.disk.create(MANIFEST).expect("made");
    for _ in 0..3 {
        logged.append(2);
        logged.sync();
    }
    let check = logged.log.check();
    assert_eq!(logged.log.checked(&check, &check.run()), None);
    logged.disk.create(&position_name(SNAPSHOT_PREFIX, Position::new(1, 2))).expect("made");
    logged.disk.remove(&position_name(LOG_PREFIX, Position::new(1, 1))).expect("removed");
    let check = logged.log.check();
    assert_eq!(logged.log.checked(&check, &check.run()), None, "the snapshot has all of it");
    logged.disk.remove(&position_name(LOG_PREFIX, Position::new(1, 3))).expect("removed");
    let check = logged.log.check();
    assert!(logged.log.checked(&check, &check.run()).is_some(), "and nothing of this one");
}

/// Bytes of each record that `append` writes.
const RECORD: usize = RECORD_HEADER_BYTES + 21;

#[test]
fn a_segment_ends_at_its_bound_once_the_one_before_is_synced() {
    let mut logged = begun(FILE_HEADER_BYTES as u64 + 2 * RECORD as u64);
    logged.append(5);
    assert_eq!(logged.segments(), [1, 3], "one unsynced segment behind the newest, and no more");
    assert!(logged.log.is_overdue());
    logged.sync();
    assert!(!logged.log.is_overdue());
    logged.append(1);
    assert_eq!(logged.segments(), [1, 3, 6]);
    let (found, scanned) = logged.scan_from(StateId::default()).expect("whole");
    assert_eq!((found, scanned.cut, scanned.mark.position), (vec![1, 2, 3, 4, 5, 6], None, Position::new(1, 6)));
}

#[test]
fn a_sync_taken_before_a_rotation_does_not_let_go_of_the_old_segment() {
    let mut logged = begun(FILE_HEADER_BYTES as u64 + 2 * RECORD as u64);
    logged.append(2);
    let early = logged.log.sync().expect("two records");
    logged.append(1);
    logged.log.synced(&early);
    assert_eq!(logged.log.synced_upto(), 2);
    let next = logged.log.sync().expect("the third");
    assert_eq!((next.upto, next.files.len(), next.directory.is_some()), (3, 2, true));
    next.run().expect("the disk works");
    logged.log.synced(&next);
    logged.append(1);
    let last = logged.log.sync().expect("the fourth");
    assert_eq!((last.upto, last.files.len(), last.directory.is_some()), (4, 1, false));
}

#[test]
fn a_bad_record_is_cut_unless_a_later_one_states_it_was_synced() {
    let bad = FILE_HEADER_BYTES + 2 * RECORD + 70; // in the payload of record 3
    let mut logged = begun(1 << 20);
    logged.append(2);
    logged.sync();
    logged.append(3);
    logged.change(1, |bytes| bytes[bad] ^= 1);
    let (found, scanned) = logged.scan_from(StateId::default()).expect("records 4 and 5 state 2");
    let cut = scanned.cut.expect("damaged");
    assert_eq!((found, cut.keep_bytes), (vec![1, 2], (FILE_HEADER_BYTES + 2 * RECORD) as u64));
    assert_eq!((cut.lost_records, cut.lost_bytes, cut.last_record), (2, 3 * RECORD as u64, Position::new(1, 5)));
    cut.carry_out(&*logged.disk).expect("the disk works");
    let (found, scanned) = logged.scan_from(StateId::default()).expect("whole now");
    assert_eq!((found, scanned.cut), (vec![1, 2], None));

    let mut logged = begun(1 << 20);
    logged.append(3);
    logged.sync();
    logged.append(1);
    logged.change(1, |bytes| bytes[bad] ^= 1);
    let refused = logged.scan_from(StateId::default()).expect_err("record 4 states 3").to_string();
    assert!(refused.contains(&format!("at byte {}", FILE_HEADER_BYTES + 2 * RECORD)), "{refused}");
    assert!(refused.ends_with("record 1-4 states that 3 was synced, so 3 was durable"), "{refused}");
    let mut kept = 0;
    let salvaged = salvage(&*logged.disk, &IDENTITY, StateId::default(), |_| {
        kept += 1;
        Ok(())
    });
    let cut = salvaged.expect("readable").cut.expect("damaged");
    assert_eq!((kept, cut.lost_records, cut.stated_synced), (2, 1, 3));
}

#[test]
fn damage_that_costs_nothing_is_reported_and_passed_over() {
    let mut logged = begun(FILE_HEADER_BYTES as u64 + 2 * RECORD as u64);
    logged.append(2);
    logged.sync();
    logged.append(2);
    logged.change(1, |bytes| bytes.extend_from_slice(&[0; 99])); // behind the end of a segment
    logged.change(3, |bytes| bytes[50] ^= 1); // in a header
    let refused = logged.scan_from(StateId::default()).expect("nothing is missing");
    let (found, ScanResult { harmless, cut, .. }) = refused;
    // The torn header cannot say that the log goes on behind the garbage, so this is a cut, and a small one.
    assert_eq!((found, harmless.len()), (vec![1, 2], 0));
    assert_eq!(cut.map(|cut| cut.remove.len()), Some(1));

    for change in [0, 1] {
        let mut logged = begun(FILE_HEADER_BYTES as u64 + 2 * RECORD as u64);
        logged.append(2);
        logged.sync();
        logged.append(2);
        match change {
            0 => logged.change(1, |bytes| bytes.extend_from_slice(&[0; 99])),
            _ => logged.change(3, |bytes| bytes[50] ^= 1),
        }
        let (found, scanned) = logged.scan_from(StateId::default()).expect("nothing is missing");
        assert_eq!((found, scanned.cut, scanned.harmless.len()), (vec![1, 2, 3, 4], None, 1), "{change}");
    }
}

#[test]
fn a_bad_record_that_a_snapshot_has_is_passed_over_also_when_it_is_the_last_of_those() {
    for bad in [1, 2, 3] {
        let mut logged = begun(1 << 20);
        logged.append(5);
        let from = logged.mark_at(3);
        logged.change(1, |bytes| bytes[FILE_HEADER_BYTES + (bad - 1) * RECORD + 70] ^= 1);
        let (found, scanned) = logged.scan_from(from).expect("nothing is missing");
        assert_eq!((found, scanned.cut), (vec![4, 5], None), "record {bad}");
    }
}

#[test]
fn a_segment_that_begins_before_what_the_log_has_come_to_is_refused() {
    let mut logged = begun(1 << 20);
    logged.append(5);
    // Whole, and of this history: the records from the third on, once more.
    let position = Position::new(1, 3);
    let first = logged.disk.open(&position_name(LOG_PREFIX, Position::new(1, 1))).expect("there");
    let bytes = disk::read_all(&*first, 1 << 20).expect("readable");
    let chain = logged.mark_at(2).chain;
    let mut again = FileHeader::new(FileKind::Log, IDENTITY, position, chain).encode().to_vec();
    again.extend_from_slice(&bytes[FILE_HEADER_BYTES + 2 * RECORD..]);
    disk::publish(&*logged.disk, &position_name(LOG_PREFIX, position), &again).expect("the disk works");
    let refused = logged.scan_from(StateId::default()).expect_err("both have the third").to_string();
    assert!(refused.contains("it begins at 1-3, but the log has come to 6"), "{refused}");
}

#[test]
fn a_stray_segment_does_not_hide_the_one_before_it() {
    let mut logged = begun(1 << 20);
    logged.append(4);
    let from = logged.mark_at(2);
    let stray = position_name(LOG_PREFIX, Position::new(1, 3));
    disk::publish(&*logged.disk, &stray, b"not a segment").expect("the disk works");
    let (found, scanned) = logged.scan_from(from).expect("a torn header");
    assert_eq!(found, [3, 4], "by its name, the stray one holds record 3");
    assert_eq!(scanned.cut.map(|cut| cut.damage.file), Some(stray));
}

#[test]
fn a_tail_gives_whole_records_over_segments_up_to_a_given_record() {
    let mut logged = begun(FILE_HEADER_BYTES as u64 + 2 * RECORD as u64);
    let place = logged.log.offset();
    logged.append(2);
    logged.sync();
    logged.append(3);
    let mut tail = LogTail::open(&*logged.disk, IDENTITY, place).expect("there");
    let mut bytes = Vec::new();
    for (upto, expected) in [(1, 1), (1, 1), (3, 2), (3, 3), (5, 5), (5, 5)] {
        tail.read(&*logged.disk, upto, &mut bytes).expect("whole");
        assert_eq!(bytes.len(), expected * RECORD, "up to {upto}");
    }
    let beyond = tail.read(&*logged.disk, 6, &mut bytes).expect_err("never written").to_string();
    assert!(beyond.contains("the log ends before a record that was applied"), "{beyond}");
}
