//! Each step alone, on one core.

use crate::text;
use memdb::{
    base::clock::{LoggedClock, Monotonic},
    base::limits::{BULK_BLOCK_BYTES, DEFAULT_NAMESPACE, MAX_WORD_BYTES},
    data::command::WriteBatch,
    data::counts::{
        WriteOp,
        word_counts::{PartitionedCounter, WordCounts, WordCountsPool},
    },
    data::store::{DedupLimits, StateId, Store},
    engine::leader::{WriteSubmission, Writer, WriterAction, WriterSettings},
    storage::disk::RealDisk,
    storage::file_header::DatabaseIdentity,
    storage::wal::{Log, RawRecord},
    text::tokenizer::Analyzer,
};
use std::{hint::black_box, sync::Arc, time::Duration};

const IDENTITY: DatabaseIdentity =
    DatabaseIdentity { database_id: 1, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 0x6d65 };

/// Time this thread has had a core: others may want it too.
struct Spent(Duration);

impl Spent {
    fn now() -> Self {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
        let nanos = told.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds");
        Self(Duration::from_nanos(nanos))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0 - self.0
    }
}

pub fn run(text: &[u8]) {
    let words = text::words(text);
    println!("{words} words, {:.1} bytes each with the space", text.len() as f64 / words as f64);
    let told = |what: &str, took: Duration| {
        println!("{what:<44} {:>7.2} ns a word", took.as_nanos() as f64 / words as f64);
    };
    let blocks = blocks(text);
    for analyzer in [Analyzer::Standard, Analyzer::Whitespace] {
        let begun = Spent::now();
        for block in &blocks {
            let mut block = block.to_string();
            analyzer.normalize_ascii(&mut block);
            black_box(analyzer.ascii_words_within(&block, MAX_WORD_BYTES, |word| {
                black_box(word);
            }));
        }
        told(&format!("copied, folded, taken apart ({analyzer})"), begun.elapsed());
    }
    let hasher = IDENTITY.hasher();
    let pool = WordCountsPool::new(2, usize::MAX);
    let (mut tallying, mut distinct) = (Duration::ZERO, 0);
    let (mut tallies, mut parts) = (Vec::new(), PartitionedCounter::default());
    for block in &blocks {
        let begun = Spent::now();
        let mut tally = pool.take(hasher);
        count(block, &mut parts, &mut tally);
        tallying += begun.elapsed();
        distinct += tally.len();
        tallies.push(tally.clone());
    }
    told("and tallied, block by block", tallying);
    println!("{:.1} % of the words of a block are distinct", distinct as f64 * 100.0 / words as f64);
    let records = write(&tallies, &told);
    apply(&records, &told);
}

fn blocks(text: &[u8]) -> Vec<&str> {
    let mut rest = std::str::from_utf8(text).expect("it is ASCII");
    let mut blocks = Vec::new();
    while rest.len() > BULK_BLOCK_BYTES {
        let end = rest[..BULK_BLOCK_BYTES].rfind('\n').expect("texts are short") + 1;
        blocks.push(&rest[..end]);
        rest = &rest[end..];
    }
    blocks.push(rest);
    blocks
}

fn count(block: &str, parts: &mut PartitionedCounter, tally: &mut WordCounts) {
    let hasher = tally.hasher();
    Analyzer::Standard.ascii_words_within(block, MAX_WORD_BYTES, |word| {
        parts.push(block, hasher.hash(word), word);
    });
    parts.count_into(block, tally);
}

/// The Writer alone, with a log on a disk; gives the records.
fn write(tallies: &[WordCounts], told: &impl Fn(&str, Duration)) -> Vec<bytes::Bytes> {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Arc::new(RealDisk::new(directory.path()).expect("a directory"));
    let store = Store::new(IDENTITY.hasher(), DedupLimits::default());
    let log = Log::create(disk, IDENTITY, 1, StateId::default(), 1 << 40).expect("a disk that is written to");
    let mut writer: Writer<()> =
        Writer::new(store, log, WriterSettings::default(), 0, LoggedClock::default(), Monotonic::default());
    let (mut actions, mut records, mut took) = (Vec::new(), Vec::new(), Duration::ZERO);
    for tally in tallies {
        let tally = tally.clone();
        let batch = WriteBatch {
            namespace: DEFAULT_NAMESPACE.into(),
            op: WriteOp::Add,
            counts: tally,
            words: 0,
            left_out: 0,
            key: None,
            fingerprint: 0,
        };
        let begun = Spent::now();
        writer.write([WriteSubmission { batch, level: None, reply: () }], Monotonic::default(), &mut actions);
        took += begun.elapsed();
        for action in actions.drain(..) {
            match action {
                WriterAction::Answer((), answer) => drop(answer.expect("it is admitted")),
                WriterAction::Published(_, record) => records.push(record),
                _ => {}
            }
        }
    }
    told("the Writer, with its log", took);
    println!("{} words in all", writer.store().reader().read().namespaces()[0].1);
    let bytes: usize = records.iter().map(bytes::Bytes::len).sum();
    println!("{:.0} bytes a record", bytes as f64 / records.len() as f64);
    records
}

/// A replica's part: from bytes to counts.
fn apply(records: &[bytes::Bytes], told: &impl Fn(&str, Duration)) {
    let mut store = Store::new(IDENTITY.hasher(), DedupLimits::default());
    let begun = Spent::now();
    for bytes in records {
        let raw = RawRecord::parse(bytes, IDENTITY.hash_seed).expect("whole");
        let record = raw.record().expect("known");
        store.apply(&record, raw.header.chain).expect("the leader's counts");
    }
    told("a record decoded and applied", begun.elapsed());
}
