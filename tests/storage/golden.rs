//! Golden files: the bytes of every format, checked in.
//!
//! Each is made again from fixed inputs and compared byte for byte, so a change of a format is noticed; and each is
//! read from the checked-in bytes and compared by meaning, so files that earlier builds wrote stay readable. A format
//! that is changed on purpose takes a new version, keeps reading the old file, and adds one here: `MEMDB_GOLDEN=write
//! cargo test --test storage golden` writes what is not there yet or differs. `docs/log-format.md` and
//! `docs/snapshot-format.md` walk through these very bytes.

#![allow(clippy::disallowed_methods)] // reads and writes the golden files, which are no database

use memdb::{
    base::clock::LoggedTime,
    base::position::{EpochTable, Position},
    data::command::IdempotencyKey,
    data::entries::{CollectionId, CollectionKind, hash_of},
    data::record::{
        EntryChange, EntryEffect, EntryValue, KeyedWrite, NamespaceChange, Record, RecordBody, RemovalCause,
        ValueEncoding, WordCount,
    },
    data::store::{DedupLimits, RepeatCheck, StateId, Store},
    storage::disk::Disk,
    storage::file_header::{
        DatabaseIdentity, FILE_HEADER_BYTES, FORMAT_VERSION, FileHeader, FileKind, LOG_PREFIX, SNAPSHOT_PREFIX,
        position_name,
    },
    storage::manifest::{Manifest, ManifestState},
    storage::snapshot::{JobStep, SnapshotJob, load},
    storage::wal::{Log, RawRecord, scan},
    text::tokenizer::Analyzer,
};
use std::{path::PathBuf, sync::Arc};
use testkit::disk::{Files, MemoryDisk};

/// The golden files of each format, with what their names end with. Those of format 1 are of databases with either
/// version of the analyzer: they differ in their headers alone.
const GOLDEN: [(&str, u16, DatabaseIdentity); 3] = [
    ("v1", 1, identity(Analyzer::StandardV1)),
    ("v1-standard-2", 1, identity(Analyzer::Standard)),
    ("v2", FORMAT_VERSION, identity(Analyzer::StandardV1)),
];

const fn identity(analyzer: Analyzer) -> DatabaseIdentity {
    DatabaseIdentity {
        database_id: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
        shard_id: 0,
        analyzer,
        hash_seed: 0x1716_1514_1312_1110,
    }
}
const TIME_MS: u64 = 1_700_000_000_000;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect("golden files are checked in")
}

#[track_caller]
fn matches_golden(name: &str, bytes: &[u8]) {
    if std::env::var_os("MEMDB_GOLDEN").is_some_and(|what| what == "write") {
        std::fs::write(path(name), bytes).expect("the source tree can be written");
    }
    let expected = golden(name);
    let differs = bytes.iter().zip(&expected).position(|(made, golden)| made != golden);
    assert_eq!(differs, None, "{name}: the first byte that differs");
    assert_eq!(bytes.len(), expected.len(), "{name}: its length");
}

/// What a golden MANIFEST says. Format 1 knows no nodes and no incarnations.
fn manifest(format: u16, identity: DatabaseIdentity) -> Manifest {
    let mut epochs = EpochTable::default();
    epochs.end(Position::new(1, 2));
    epochs.end(Position::new(2, 2));
    let mut state = ManifestState {
        epoch: 3,
        epochs,
        clean_stop: Some(Position::new(3, 300)),
        generation: 7,
        boot_id: "boot".into(),
        leader_url: Some("http://127.0.0.1:8080".into()),
        replicas: vec!["http://127.0.0.1:8081".into()],
        promised: 5,
        ..ManifestState::default()
    };
    if format > 1 {
        state.node_name = "n-5f2a9c01".into();
        state.incarnation = 0x1122_3344_5566_7788;
        state.incarnation_boot = "boot".into();
    }
    Manifest { identity, state }
}

const HELLO_GONE: &[WordCount<'_>] = &[WordCount { word: "hello", count: 0 }];
/// A value that is long enough to have its hash beside it.
const LONG: [u8; 65] = [b'v'; 65];
/// Its SHA-256.
const LONG_HASH: [u8; 32] = [
    0x0e, 0x50, 0xf2, 0x29, 0xff, 0xa7, 0xef, 0xab, 0x85, 0x68, 0xa3, 0x24, 0xb6, 0xb7, 0xa5, 0x11, 0xa2, 0x2d, 0xa1,
    0x06, 0x2d, 0x78, 0x13, 0xb4, 0x68, 0x8c, 0xb4, 0x82, 0x60, 0x27, 0x01, 0x9e,
];
const HELLO: &[WordCount<'_>] = &[WordCount { word: "hello", count: 2 }];
const TITLE: &[WordCount<'_>] = &[WordCount { word: "café", count: -1 }];
const GONE: &[WordCount<'_>] = &[WordCount { word: "hello", count: 0 }, WordCount { word: "world", count: 1 << 40 }];

fn change<'a>(namespace: &'a str, dropped: bool, counts: &[WordCount<'a>]) -> NamespaceChange<'a> {
    NamespaceChange { namespace, dropped, counts: counts.to_vec() }
}

/// What the records of a golden log say. Format 1 has no entries, and does not say which namespace a key is of.
fn bodies_of(format: u16) -> Vec<RecordBody<'static>> {
    let mut bodies = counting().to_vec();
    if format == 1 {
        bodies.iter_mut().flat_map(|body| &mut body.keyed_writes).for_each(|write| write.namespace = "");
    } else {
        bodies.extend(with_entries());
    }
    bodies
}

/// An entry of each kind, and then each change of one.
fn with_entries() -> [RecordBody<'static>; 2] {
    let value = EntryValue {
        content_type: "",
        expires: None,
        counted: false,
        encoding: ValueEncoding::Plain,
        raw_bytes: 0,
        hash: &[],
        bytes: b"",
    };
    let post = EntryValue { content_type: "text/plain", counted: true, raw_bytes: 5, bytes: b"hello", ..value };
    let expires = Some(LoggedTime::from_ms(TIME_MS + 60_000));
    let cached = EntryValue { expires, raw_bytes: LONG.len() as u32, hash: &LONG_HASH, bytes: &LONG, ..value };
    let small = EntryValue { raw_bytes: 1, bytes: b"x", ..value };
    let claim = EntryValue { expires, counted: true, raw_bytes: 8, bytes: b"\0\x04hello\x01", ..value };
    let entry = |kind, key, effect| EntryChange { collection: CollectionId::new(kind, "words"), key, effect };
    let put = |kind, key, value| entry(kind, key, EntryEffect::Put(value));
    let remove = |kind, key, cause| entry(kind, key, EntryEffect::Remove(cause));
    let (cache, posts, texts) = (CollectionKind::Cache, CollectionKind::Posts, CollectionKind::Texts);
    let keyed = KeyedWrite {
        namespace: "words",
        name: "post",
        stream_sequence: 0,
        fingerprint: 7,
        words: 1,
        distinct: 1,
        left_out: 0,
        entries: 1,
    };
    let put = vec![
        put(cache, "a/b", cached),
        put(cache, "x", small),
        put(posts, "p", post),
        put(texts, "t", claim),
        put(CollectionKind::Removals, "", value),
    ];
    let changed = vec![
        entry(cache, "a/b", EntryEffect::SetExpiry(None)),
        remove(cache, "x", RemovalCause::Evicted),
        remove(posts, "p", RemovalCause::Deleted),
        remove(texts, "t", RemovalCause::Expired),
    ];
    [
        RecordBody { changes: vec![change("words", false, HELLO)], entries: put, keyed_writes: vec![keyed] },
        RecordBody { changes: vec![change("words", false, HELLO_GONE)], entries: changed, keyed_writes: Vec::new() },
    ]
}

/// What the records say that have counts alone.
fn counting() -> [RecordBody<'static>; 3] {
    let key = KeyedWrite {
        namespace: "words",
        name: "key",
        stream_sequence: 0,
        fingerprint: 1 << 100,
        words: 3,
        distinct: 2,
        left_out: 1,
        entries: 0,
    };
    let stream = KeyedWrite {
        namespace: "titles",
        name: "stream",
        stream_sequence: 1,
        fingerprint: 300,
        words: 1,
        distinct: 1,
        left_out: 0,
        entries: 0,
    };
    [
        RecordBody {
            entries: Vec::new(),
            changes: vec![change("titles", false, TITLE), change("words", false, HELLO)],
            keyed_writes: vec![key],
        },
        RecordBody { entries: Vec::new(), changes: vec![change("titles", true, &[])], keyed_writes: vec![stream] },
        RecordBody { entries: Vec::new(), changes: vec![change("words", false, GONE)], keyed_writes: Vec::new() },
    ]
}

/// The digests after each record.
fn digests_of(format: u16) -> Vec<u64> {
    let (mut digests, bodies) = (counted_digests().to_vec(), bodies_of(format));
    let mut store = Store::new(GOLDEN[0].2.hasher(), DedupLimits::default());
    for (at, body) in bodies.into_iter().enumerate() {
        let position = Position::new(1, at as u64 + 1);
        let record = Record { position, time_ms: LoggedTime::ZERO, digest_after: 0, body };
        store.apply_over_image(&record, 0).expect("few collections");
        match digests.get(at) {
            Some(&digest) => assert_eq!(store.digest(), digest),
            None => digests.push(store.digest()),
        }
    }
    digests
}

/// Σ hash · count over the counts after each record without entries.
fn counted_digests() -> [u64; 3] {
    let hasher = GOLDEN[0].2.hasher();
    let part = |namespace: &str, word: &str, count: i64| {
        memdb::base::hash::weight(hasher.hash(word), count).wrapping_mul(hasher.namespace_factor(namespace))
    };
    let hello = part("words", "hello", 2);
    [hello.wrapping_add(part("titles", "café", -1)), hello, part("words", "world", 1 << 40)]
}

/// A log of five records, the second synced before the third, and a snapshot walked before the last was written.
fn files(identity: DatabaseIdentity) -> Files {
    let memory = MemoryDisk::new(&Files::new());
    let disk: Arc<dyn Disk> = Arc::clone(&memory) as _;
    let mut store = Store::new(identity.hasher(), DedupLimits::default());
    let mut log = Log::create(Arc::clone(&disk), identity, 1, StateId::default(), 1 << 20).expect("the disk works");
    let mut job = None;
    let (bodies, digests) = (bodies_of(FORMAT_VERSION), digests_of(FORMAT_VERSION));
    for (at, (body, digest_after)) in bodies.iter().zip(digests).enumerate() {
        let (position, time_ms) = (log.next(), LoggedTime::from_ms(TIME_MS + at as u64));
        let (chain, _) = log.append(time_ms, digest_after, body).expect("the disk works");
        let record = Record { position, time_ms, digest_after, body: body.clone() };
        store.apply(&record, chain).expect("the digest is right");
        if at == 1 {
            let sync = log.sync().expect("something to sync");
            log.synced(&sync);
        }
        if at + 2 == bodies.len() {
            let begun =
                SnapshotJob::start(Arc::clone(&disk), identity, store.reader(), store.mark(), log.live_offset());
            let mut begun = begun.expect("the disk works");
            while !has_window(&memory.files()) {
                assert_eq!(begun.step().expect("the disk works"), JobStep::More);
            }
            job = Some(begun);
        }
    }
    job.expect("begun behind the last but one").run().expect("the disk works");
    memory.files()
}

/// Returns whether the snapshot that is written has a block of the window, which is behind its image.
fn has_window(files: &Files) -> bool {
    let bytes = files.iter().find(|(name, _)| name.starts_with(SNAPSHOT_PREFIX)).expect("begun").1;
    let mut at = FILE_HEADER_BYTES;
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    while at < bytes.len() {
        if number(at) == 2 {
            return true;
        }
        at += 12 + number(at + 4) as usize;
    }
    false
}

fn log_name() -> String {
    position_name(LOG_PREFIX, Position::new(1, 1))
}

fn snapshot_name(format: u16) -> String {
    position_name(SNAPSHOT_PREFIX, Position::new(1, bodies_of(format).len() as u64))
}

#[test]
fn the_same_inputs_make_the_same_bytes() {
    for (name, _, identity) in GOLDEN.into_iter().filter(|golden| golden.1 == FORMAT_VERSION) {
        matches_golden(&format!("manifest-{name}"), &manifest(FORMAT_VERSION, identity).encode());
        let files = files(identity);
        matches_golden(&format!("log-{name}"), &files[&log_name()]);
        matches_golden(&format!("snapshot-{name}"), &files[&snapshot_name(FORMAT_VERSION)]);
    }
}

#[test]
fn the_golden_manifest_says_what_was_written() {
    for (name, format, identity) in GOLDEN {
        let bytes = golden(&format!("manifest-{name}"));
        assert_eq!(Manifest::decode(&bytes).expect("whole"), manifest(format, identity));
        assert_eq!(bytes[12], identity.analyzer.version() as u8, "it is in the header");
    }
}

#[test]
fn the_golden_log_says_what_was_written() {
    GOLDEN.iter().for_each(|(name, format, of)| log_says_what_was_written(&format!("log-{name}"), *format, of));
}

fn log_says_what_was_written(name: &str, format: u16, identity: &DatabaseIdentity) {
    let (bytes, bodies, digests) = (golden(name), bodies_of(format), digests_of(format));
    let header = FileHeader::decode_of(name, &bytes, FileKind::Log, identity).expect("whole");
    assert_eq!((header.version, header.position, header.chain), (format, Position::new(1, 1), 0));
    let disk = MemoryDisk::new(&[(log_name(), bytes)].into());
    let mut found = Vec::new();
    let scanned = scan(&*disk, identity, StateId::default(), |raw: &RawRecord<'_>| {
        let record = raw.record()?;
        let (expected, digest_after) = (&bodies[found.len()], digests[found.len()]);
        assert_eq!((&record.body, record.digest_after, raw.header.kind), (expected, digest_after, format));
        found.push((record.position, record.time_ms.as_ms(), raw.header.synced_upto));
        Ok(())
    })
    .expect("whole");
    let last = bodies.len() as u64;
    let place = |n| (Position::new(1, n), TIME_MS + n - 1, if n > 2 { 2 } else { 0 });
    assert_eq!((found, scanned.cut), ((1..=last).map(place).collect(), None));
    assert_eq!((scanned.mark.position, scanned.mark.digest), (Position::new(1, last), digests[last as usize - 1]));
}

#[test]
fn the_golden_snapshot_says_what_was_written() {
    GOLDEN
        .iter()
        .for_each(|(name, format, of)| snapshot_says_what_was_written(&format!("snapshot-{name}"), *format, of));
}

#[test]
fn files_of_one_version_of_the_analyzer_are_none_of_the_other() {
    let [(_, _, first), (_, _, second), ..] = GOLDEN;
    let bytes = golden("log-v1");
    let damage = FileHeader::decode_of("log", &bytes, FileKind::Log, &second).expect_err("of the other");
    assert!(damage.to_string().contains("belongs to database"), "{damage}");
    assert_eq!(FileHeader::decode("log", &bytes).expect("whole").identity, first);
}

fn snapshot_says_what_was_written(name: &str, format: u16, identity: &DatabaseIdentity) {
    let disk = MemoryDisk::new(&[(snapshot_name(format), golden(name))].into());
    let mut store = Store::new(identity.hasher(), DedupLimits::default());
    let trailer = load(&*disk, &snapshot_name(format), identity, &mut store).expect("whole");
    let last = bodies_of(format).len() as u64;
    assert_eq!((trailer.start.position, trailer.end.position), (Position::new(1, last - 1), Position::new(1, last)));
    assert_eq!(
        (trailer.end.digest, trailer.time_ms.as_ms()),
        (digests_of(format)[last as usize - 1], TIME_MS + last - 1)
    );
    assert_eq!((trailer.words, trailer.entries), if format == 1 { (1, 0) } else { (2, 5) });
    let reader = store.reader();
    let guard = reader.read();
    assert_eq!((guard.count("words", "world"), guard.count("words", "hello")), (1 << 40, 0));
    assert_eq!(guard.namespaces(), [("words".to_owned(), 1)], "`titles` was dropped");
    if format > 1 {
        let entry = |kind, key| guard.entry(CollectionId::new(kind, "words"), key);
        let cached = entry(CollectionKind::Cache, "a/b").expect("its expiry was set aside");
        assert_eq!(
            (cached.stored(), cached.hash(), cached.expires(), cached.version()),
            (&LONG[..], LONG_HASH, None, 4)
        );
        assert_eq!(entry(CollectionKind::Removals, "").map(|mark| mark.version()), Some(4));
        let gone = [(CollectionKind::Cache, "x"), (CollectionKind::Posts, "p"), (CollectionKind::Texts, "t")];
        assert!(gone.into_iter().all(|(kind, key)| entry(kind, key).is_none()));
    }
    drop(guard);
    assert_eq!(reader.window_len(), if format == 1 { (1, 1) } else { (2, 1) });
    assert_eq!((hash_of(&LONG), reader.entry_totals().entries), (LONG_HASH, if format == 1 { 0 } else { 1 }));
    let now = LoggedTime::from_ms(TIME_MS + 3);
    let key = IdempotencyKey::Key("key".into());
    let next = IdempotencyKey::Stream { name: "stream".into(), sequence: 3 };
    // A key of format 1 stands for its name in every namespace.
    for (namespace, is_known) in [("words", true), ("titles", format == 1)] {
        let seen = store.check_repeat((namespace, &key, 1 << 100), now, 0);
        let repeats = matches!(&seen, RepeatCheck::Repeat(entry) if (entry.words, entry.left_out) == (3, 1));
        assert_eq!((repeats, seen == RepeatCheck::New), (is_known, !is_known), "{name} {namespace}");
    }
    assert_eq!(store.check_repeat(("titles", &next, 0), now, 0), RepeatCheck::Gap { expected: 2 });
}
