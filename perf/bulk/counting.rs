//! The steps of counting lines in bulk, each alone and on one core: `cargo bench --bench counting`. A line states words
//! a second; their reciprocal is the time a word takes.
//!
//! The text is that of `bench-bulk`, in blocks as a server takes them. A measurement is one block, or one record.

mod text;

use divan::{Bencher, black_box, counter::ItemsCount};
use memdb::{
    base::clock::{LoggedClock, Monotonic},
    base::limits::{BULK_BLOCK_BYTES, DEFAULT_NAMESPACE, MAX_WORD_BYTES},
    data::command::WriteBatch,
    data::counts::WriteOp,
    data::counts::word_counts::{PartitionedCounter, WordCounts, WordCountsPool},
    data::store::{DedupLimits, StateId, Store},
    engine::leader::{WriteSubmission, Writer, WriterAction, WriterSettings},
    storage::disk::RealDisk,
    storage::file_header::DatabaseIdentity,
    storage::wal::{Log, RawRecord},
    text::tokenizer::Analyzer,
};
use std::sync::{Arc, LazyLock};

const IDENTITY: DatabaseIdentity =
    DatabaseIdentity { database_id: 1, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 0x6d65 };
/// As many as some sixty blocks hold: the table outgrows the caches, as it does in use.
const WORDS: usize = 6_000_000;

static BLOCKS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = String::from_utf8(text::zipf(WORDS)).expect("it is ASCII");
    let (mut rest, mut blocks) = (text.as_str(), Vec::new());
    while rest.len() > BULK_BLOCK_BYTES {
        let end = rest[..BULK_BLOCK_BYTES].rfind('\n').expect("texts are short") + 1;
        blocks.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    blocks
});

fn main() {
    divan::main();
}

/// The blocks in turn, each with the number of its words.
fn blocks() -> impl FnMut() -> &'static str {
    let mut blocks = BLOCKS.iter().cycle();
    move || blocks.next().expect("it goes round")
}

fn words_of(block: &&str) -> ItemsCount {
    ItemsCount::new(text::words(block.as_bytes()))
}

#[divan::bench(args = [Analyzer::Standard, Analyzer::Whitespace])]
fn copied_folded_taken_apart(bencher: Bencher<'_, '_>, analyzer: Analyzer) {
    bencher.with_inputs(blocks()).input_counter(words_of).bench_local_values(|block| {
        let mut block = block.to_owned();
        analyzer.normalize_ascii(&mut block);
        analyzer.ascii_words_within(&block, MAX_WORD_BYTES, |word| {
            black_box(word);
        })
    });
}

#[divan::bench]
fn taken_apart_and_counted(bencher: Bencher<'_, '_>) {
    let (pool, mut parts) = (WordCountsPool::new(2, usize::MAX), PartitionedCounter::default());
    bencher.with_inputs(blocks()).input_counter(words_of).bench_local_values(|block| {
        let mut counts = pool.take(IDENTITY.hasher());
        count(block, &mut parts, &mut counts);
        counts.len()
    });
}

fn count(block: &str, parts: &mut PartitionedCounter, counts: &mut WordCounts) {
    let hasher = counts.hasher();
    Analyzer::Standard.ascii_words_within(block, MAX_WORD_BYTES, |word| {
        parts.push(block, hasher.hash(word), word);
    });
    parts.count_into(block, counts);
}

/// The counts of each block, and how many words it has.
static COUNTS: LazyLock<Vec<(WordCounts, usize)>> = LazyLock::new(|| {
    let mut parts = PartitionedCounter::default();
    let counted = |block: &String| {
        let mut counts = WordCounts::new(IDENTITY.hasher());
        count(block, &mut parts, &mut counts);
        (counts, text::words(block.as_bytes()))
    };
    BLOCKS.iter().map(counted).collect()
});

/// The Writer of an empty store, with a log on a disk.
fn writer(directory: &tempfile::TempDir) -> Writer<()> {
    let disk = Arc::new(RealDisk::new(directory.path()).expect("a directory"));
    let store = Store::new(IDENTITY.hasher(), DedupLimits::default());
    let log = Log::create(disk, IDENTITY, 1, StateId::default(), 1 << 40).expect("a disk that is written to");
    Writer::new(store, log, WriterSettings::default(), 0, LoggedClock::default(), Monotonic::default())
}

/// Writes the counts of one block; gives the record.
fn write(writer: &mut Writer<()>, counts: WordCounts) -> bytes::Bytes {
    let namespace = DEFAULT_NAMESPACE.into();
    let batch = WriteBatch {
        entries: Vec::new(),
        namespace,
        op: WriteOp::Add,
        is_post: false,
        counts,
        words: 0,
        left_out: 0,
        key: None,
        fingerprint: 0,
    };
    let mut actions = Vec::new();
    writer.write([WriteSubmission { batch, level: None, reply: () }], Monotonic::default(), &mut actions);
    let published = actions.into_iter().find_map(|action| match action {
        WriterAction::Published(_, record) => Some(record),
        _ => None,
    });
    published.expect("it is admitted")
}

#[divan::bench]
fn written_with_its_log(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut writer = writer(&directory);
    COUNTS.iter().for_each(|(counts, _)| drop(write(&mut writer, counts.clone())));
    let mut next = COUNTS.iter().cycle();
    bencher
        .with_inputs(|| next.next().expect("it goes round").clone())
        .input_counter(|(_, words): &(WordCounts, usize)| ItemsCount::new(*words))
        .bench_local_values(|(counts, _)| write(&mut writer, counts));
}

/// A replica's part: from bytes to counts.
#[divan::bench]
fn decoded_and_applied(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut writer = writer(&directory);
    let records = COUNTS.iter().map(|(counts, words)| (write(&mut writer, counts.clone()), *words));
    let records: Vec<_> = records.collect();
    let mut store = Store::new(IDENTITY.hasher(), DedupLimits::default());
    let mut next = 0;
    let input = move || {
        next += 1;
        records[(next - 1) % records.len()].clone()
    };
    bencher
        .with_inputs(input)
        .input_counter(|(_, words): &(bytes::Bytes, usize)| ItemsCount::new(*words))
        .bench_local_values(|(bytes, _)| {
            let raw = RawRecord::parse(&bytes, IDENTITY.hash_seed).expect("whole");
            let record = raw.record().expect("known");
            if record.position.sequence == 1 {
                store = Store::new(IDENTITY.hasher(), DedupLimits::default()); // the records begin again
            }
            store.apply(&record, raw.header.chain).expect("the leader's counts");
        });
}
