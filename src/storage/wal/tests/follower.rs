//! A follower's log, finding a place in a log, and following one whose end is not known.

use super::*;

/// Two records a segment.
const SMALL: u64 = FILE_HEADER_BYTES as u64 + 2 * RECORD as u64;

impl Logged {
    /// Begins the next epoch, as a leader's start does.
    fn restart(&mut self, epoch: Epoch) {
        if self.log.sync().is_some() {
            self.sync();
        }
        let position = Position::new(epoch - 1, self.log.sequence);
        let mark = StateId { position, digest: 5, chain: self.log.chain };
        let bytes = self.log.segment_bytes;
        self.log = Log::create(Arc::clone(&self.disk), IDENTITY, epoch, mark, bytes).expect("the disk works");
    }

    /// Every record, one by one.
    fn records(&self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        scan(&*self.disk, &IDENTITY, StateId::default(), |raw| {
            let mut bytes = Vec::new();
            let before = ChainState { chain: self.chain(&records), synced_upto: raw.header.synced_upto, hash_seed: 9 };
            let RecordHeader { position, time_ms, digest_after, .. } = raw.header;
            encode_record(position, time_ms, digest_after, &raw.record()?.body, &before, &mut bytes);
            records.push(bytes);
            Ok(())
        })
        .expect("whole");
        records
    }

    fn chain(&self, records: &[Vec<u8>]) -> u64 {
        records.last().map_or(0, |last| RecordHeader::decode(last, 9).expect("whole").chain)
    }

    fn names(&self) -> Vec<Position> {
        segments(&*self.disk).expect("readable").into_iter().map(|(_, first)| first).collect()
    }
}

/// Three epochs: records 1 to 3, none, 4 to 5.
fn three_epochs(segment_bytes: u64) -> Logged {
    let mut leader = begun(segment_bytes);
    leader.append(2);
    leader.sync();
    leader.append(1);
    leader.restart(2);
    leader.restart(3);
    leader.append(2);
    leader
}

#[test]
fn a_follower_appends_the_leaders_bytes_and_reads_them_back_over_epochs() {
    let leader = three_epochs(SMALL);
    let records = leader.records();
    let mut follower = begun(SMALL);
    for record in &records[..2] {
        follower.log.append_raw(record).expect("the disk works");
    }
    let early = follower.log.sync().expect("two records");
    follower.log.start_epoch(3).expect("the disk works"); // it is behind: record 3 is of epoch 1
    assert_eq!((follower.log.epoch(), follower.log.synced_upto(), follower.log.sync().is_none()), (3, 2, true));
    follower.log.append_raw(&records[2]).expect("the disk works");
    follower.log.synced(&early); // taken before the epoch, and it tells nothing new
    assert_eq!(follower.log.synced_upto(), 2);
    for record in &records[3..] {
        follower.log.append_raw(record).expect("the disk works");
    }
    let names = [(1, 1), (3, 3), (3, 5)].map(|(epoch, first)| Position::new(epoch, first));
    assert_eq!(follower.names(), names, "segments end at their bound, and at a newer epoch");
    assert_eq!(follower.records(), records, "byte for byte");
    let (_, scanned) = follower.scan_from(StateId::default()).expect("whole");
    assert_eq!((scanned.mark.position, scanned.cut), (Position::new(3, 5), None));
    let chain = RecordHeader::decode(&records[4], 9).expect("whole").chain;
    assert_eq!((follower.log.sequence(), follower.log.chain, scanned.mark.chain), (5, chain, chain));
}

#[test]
fn a_torn_header_costs_a_follower_nothing_also_before_a_record_of_an_older_epoch() {
    let records = three_epochs(1 << 20).records();
    let mut follower = begun(1 << 20);
    follower.log.append_raw(&records[0]).and_then(|()| follower.log.append_raw(&records[1])).expect("the disk works");
    follower.log.start_epoch(3).expect("the disk works");
    follower.log.append_raw(&records[2]).expect("the disk works");
    let name = position_name(LOG_PREFIX, Position::new(3, 3));
    let file = follower.disk.open(&name).expect("there");
    let mut bytes = disk::read_all(&*file, 1 << 20).expect("readable");
    bytes[50] ^= 1;
    file.truncate(0).and_then(|()| file.append(&bytes)).expect("the disk works");
    let (found, scanned) = follower.scan_from(StateId::default()).expect("whole");
    assert_eq!((found, scanned.harmless.len(), scanned.cut), (vec![1, 2, 3], 1, None));
}

#[test]
fn a_record_that_does_not_follow_is_never_appended() {
    let records = three_epochs(1 << 20).records();
    let refused = |what: &str, bytes: &[u8]| {
        let mut follower = begun(1 << 20);
        follower.log.append_raw(&records[0]).expect("the disk works");
        let append = std::panic::AssertUnwindSafe(|| follower.log.append_raw(bytes));
        assert!(std::panic::catch_unwind(append).is_err(), "{what}");
        assert_eq!(follower.records(), &records[..1], "{what}");
    };
    refused("a gap", &records[2]);
    refused("a repeat", &records[0]);
    refused("two at once", &[&records[1][..], &records[2]].concat());
    refused("half of one", &records[1][..80]);
    let mut other = begun(1 << 20);
    let counts = vec![WordCount { word: "other", count: 1 }];
    let changes = vec![NamespaceChange { namespace: "words", dropped: false, counts }];
    other
        .log
        .append(LoggedTime::from_ms(1_000), 5, &RecordBody { entries: Vec::new(), changes, keyed_writes: Vec::new() })
        .expect("the disk works");
    other.append(1);
    refused("another history", &other.records()[1]);
    let mut follower = begun(1 << 20);
    records[..3].iter().for_each(|record| follower.log.append_raw(record).expect("the disk works"));
    let append = std::panic::AssertUnwindSafe(|| follower.log.append_raw(&records[3]));
    assert!(std::panic::catch_unwind(append).is_err(), "an epoch that was not begun");
}

#[test]
fn every_place_is_found_with_its_chain_and_reading_on_from_there_gives_the_rest() {
    for bytes in [SMALL, 1 << 20] {
        let leader = three_epochs(bytes);
        let records = leader.records();
        for after in 0..=5 {
            let found = place_after(&*leader.disk, &IDENTITY, after).expect("readable");
            let (place, chain) = found.unwrap_or_else(|| panic!("{after} is there"));
            assert_eq!((place.sequence, chain), (after + 1, leader.chain(&records[..after as usize])), "{after}");
            let mut tail = LogTail::open(&*leader.disk, IDENTITY, place).expect("there");
            let mut rest = Vec::new();
            while tail.follow(&*leader.disk, &mut rest).expect("whole") {}
            assert_eq!(rest, records[after as usize..].concat(), "{after}");
        }
        assert_eq!(
            place_after(&*leader.disk, &IDENTITY, 5).expect("readable").map(|(place, _)| place),
            Some(leader.log.offset())
        );
        assert_eq!(place_after(&*leader.disk, &IDENTITY, 6).expect("readable"), None, "the log ends before");
        assert_eq!(place_after(&*leader.disk, &IDENTITY, u64::MAX).expect("readable"), None, "whatever is asked for");
    }
}

#[test]
fn there_is_no_place_where_the_log_begins_later_or_ends_in_half_a_record() {
    let mut leader = begun(SMALL);
    assert_eq!(place_after(&*leader.disk, &IDENTITY, 0).expect("readable"), Some((leader.log.offset(), 0)), "empty");
    leader.append(2);
    leader.sync();
    leader.append(2);
    leader.disk.remove(&position_name(LOG_PREFIX, Position::new(1, 1))).expect("the disk works");
    let places = [0, 1, 2].map(|after| place_after(&*leader.disk, &IDENTITY, after).expect("readable").is_some());
    assert_eq!(places, [false, false, true]);
    leader.change(3, |bytes| bytes.truncate(bytes.len() - 1));
    let places = [3, 4].map(|after| place_after(&*leader.disk, &IDENTITY, after).expect("readable").is_some());
    assert_eq!(places, [true, false]);
    leader.change(3, |bytes| bytes[FILE_HEADER_BYTES + 20] ^= 1);
    assert!(place_after(&*leader.disk, &IDENTITY, 3).is_err(), "a damaged record");
}

#[test]
fn a_large_log_is_walked_in_pieces() {
    let mut leader = begun(1 << 30);
    let records = 2 * limits_in_records() + 7;
    leader.append(records);
    let found = place_after(&*leader.disk, &IDENTITY, records).expect("readable").map(|(place, _)| place);
    assert_eq!(found, Some(leader.log.offset()));
    let mut tail = LogTail::open(
        &*leader.disk,
        IDENTITY,
        LogOffset { offset: FILE_HEADER_BYTES as u64, sequence: 1, ..leader.log.offset() },
    )
    .expect("there");
    let (mut calls, mut bytes) = (0, Vec::new());
    while tail.follow(&*leader.disk, &mut bytes).expect("whole") {
        calls += 1;
    }
    assert_eq!((bytes.len() as u64, calls), (records * RECORD as u64, 3), "some hundred KiB a call");
}

/// Records that fit one piece.
fn limits_in_records() -> u64 {
    (crate::base::limits::COPY_BYTES / RECORD) as u64
}

#[test]
fn a_tail_follows_over_segments_and_epochs_and_a_record_larger_than_a_piece() {
    let mut leader = begun(SMALL);
    let mut tail = LogTail::open(&*leader.disk, IDENTITY, leader.log.offset()).expect("there");
    let mut bytes = Vec::new();
    assert!(!tail.follow(&*leader.disk, &mut bytes).expect("whole"), "nothing yet");
    for epoch in 2..5 {
        leader.append(2);
        leader.sync();
        leader.append(3);
        while tail.follow(&*leader.disk, &mut bytes).expect("whole") {}
        assert_eq!(tail.place(), &leader.log.offset());
        leader.restart(epoch);
        assert!(!tail.follow(&*leader.disk, &mut bytes).expect("whole"), "an epoch without a record");
        assert_eq!(tail.place(), &leader.log.offset());
    }
    let words: Vec<String> = (0..99_999).map(|n| format!("word{n}")).collect();
    let counts = words.iter().map(|word| WordCount { word, count: 1 }).collect();
    let changes = vec![NamespaceChange { namespace: "words", dropped: false, counts }];
    leader
        .log
        .append(LoggedTime::from_ms(1_000), 5, &RecordBody { entries: Vec::new(), changes, keyed_writes: Vec::new() })
        .expect("the disk works");
    assert!(leader.log.offset().offset > 2 * crate::base::limits::COPY_BYTES as u64);
    assert!(tail.follow(&*leader.disk, &mut bytes).expect("whole"));
    assert_eq!(bytes, leader.records().concat());
}

#[test]
fn half_a_record_at_the_end_is_none_yet() {
    let mut leader = begun(1 << 20);
    let place = leader.log.offset();
    leader.append(2);
    let whole = leader.records().concat();
    for len in 0..=whole.len() {
        leader.change(1, |bytes| {
            bytes.truncate(FILE_HEADER_BYTES);
            bytes.extend_from_slice(&whole[..len]);
        });
        let mut tail = LogTail::open(&*leader.disk, IDENTITY, place.clone()).expect("there");
        let mut bytes = Vec::new();
        while tail.follow(&*leader.disk, &mut bytes).expect("whole") {}
        assert_eq!(bytes.len(), len / RECORD * RECORD, "{len}");
        leader.change(1, |bytes| bytes.extend_from_slice(&whole[len..]));
        while tail.follow(&*leader.disk, &mut bytes).expect("whole") {}
        assert_eq!(bytes, whole, "{len}");
    }
}

#[test]
fn a_log_that_was_cut_damaged_or_removed_cannot_be_followed_further() {
    let follow = |change: &dyn Fn(&mut Logged)| {
        let mut leader = begun(1 << 20);
        let place = leader.log.offset();
        leader.append(3);
        let mut tail = LogTail::open(&*leader.disk, IDENTITY, place).expect("there");
        let mut bytes = Vec::new();
        assert!(tail.follow(&*leader.disk, &mut bytes).expect("whole"));
        change(&mut leader);
        let followed = tail.follow(&*leader.disk, &mut bytes);
        followed.map_err(|error| error.to_string())
    };
    let cut = |leader: &mut Logged| leader.change(1, |bytes| bytes.truncate(bytes.len() - RECORD));
    let begin = |leader: &mut Logged, sequence| {
        let mark = StateId { position: Position::new(1, sequence), ..StateId::default() };
        Log::create(Arc::clone(&leader.disk), IDENTITY, 2, mark, 1 << 20).expect("the disk works");
    };
    assert!(follow(&cut).expect_err("cut").contains("was cut before this place"));
    let restarted = follow(&|leader| (cut(leader), begin(leader, 2)).1).expect_err("another record 3");
    assert!(restarted.contains("no later segment goes on from here"), "{restarted}");
    assert!(follow(&|leader| begin(leader, 4)).expect_err("a gap").contains("no later segment"));
    let garbage = |leader: &mut Logged| leader.change(1, |bytes| bytes.extend_from_slice(&[7; 99]));
    assert!(follow(&garbage).expect_err("damaged").contains("checksum"));
    // Garbage behind the end of a finished segment costs nothing, as for a start.
    assert_eq!(follow(&|leader| (garbage(leader), begin(leader, 3)).1), Ok(false));
    let removed = follow(&|leader| leader.disk.remove(&leader.log.offset().segment).expect("the disk works"));
    assert!(removed.expect_err("removed").contains("is gone"));
    // Pruned while it was read to its end: what goes on from there is there.
    let pruned = |leader: &mut Logged| {
        leader.disk.remove(&leader.log.offset().segment).expect("the disk works");
        begin(leader, 3);
    };
    assert_eq!(follow(&pruned), Ok(false));
}

#[test]
fn a_hole_is_not_refused_for_what_records_state_of_another_disk() {
    let mut leader = begun(1 << 20);
    leader.append(1);
    leader.sync();
    leader.append(2);
    let mut follower = begun(1 << 20);
    for record in leader.records() {
        follower.log.append_raw(&record).expect("the disk works");
    }
    // The page with the first record never came to the medium; those behind it did.
    follower.change(1, |bytes| bytes[FILE_HEADER_BYTES + 9] ^= 1);
    follower.scan_from(StateId::default()).expect_err("on the leader it was durable");
    let copied = scan_copied(&*follower.disk, &IDENTITY, StateId::default(), |_| Ok(())).expect("an ordinary hole");
    let cut = copied.cut.expect("cut there");
    assert_eq!((cut.keep_bytes, cut.lost_records), (FILE_HEADER_BYTES as u64, 2));
}

#[test]
fn a_sync_of_an_epoch_before_is_still_this_logs_own() {
    let mut follower = begun(1 << 20);
    follower.append(1);
    let sync = follower.log.sync().expect("something to sync");
    for epoch in 2..4 {
        follower.log.start_epoch(epoch).expect("the disk works");
        assert!(follower.log.owns(&sync), "if it has failed, this log has a hole");
        follower.append(1);
    }
    assert!(!begun(1 << 20).log.owns(&sync));
    follower.log.synced(&sync);
    assert_eq!(follower.log.synced_upto(), 2);
}

#[test]
fn a_sync_of_a_segment_that_rotated_before_an_epoch_is_still_this_logs_own() {
    let mut follower = begun(FILE_HEADER_BYTES as u64 + 1); // every record has a segment of its own
    follower.append(1);
    let sync = follower.log.sync().expect("something to sync");
    follower.append(1);
    assert_eq!(follower.segments().len(), 2, "the log has rotated during the sync");
    for epoch in 2..4 {
        follower.log.start_epoch(epoch).expect("the disk works");
        assert!(follower.log.owns(&sync), "or its end is taken for another log's, and no sync follows it");
    }
}
