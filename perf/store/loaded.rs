//! The Writer that the measurements drive.

use memdb::{
    base::clock::{LoggedClock, Monotonic},
    base::limits::DEFAULT_NAMESPACE,
    data::command::WriteBatch,
    data::counts::{WriteOp, word_counts::WordCounts},
    data::store::{DedupLimits, StateId, Store, StoreReader},
    engine::leader::{WriteSubmission, Writer, WriterAction, WriterSettings},
    storage::disk::{Disk, DiskFile},
    storage::file_header::DatabaseIdentity,
    storage::wal::Log,
    text::tokenizer::Analyzer,
};
use std::{io, sync::Arc};
use testkit::words::write_word;

/// Words of a record.
pub const RECORD_WORDS: u64 = 1_000;
pub const IDENTITY: DatabaseIdentity =
    DatabaseIdentity { database_id: 1, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 0x6d65 };

/// A disk that forgets: what is measured is the Writer.
struct NoDisk;

impl Disk for NoDisk {
    fn create(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(NoDisk))
    }
    fn open(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(NoDisk))
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for NoDisk {
    fn append(&self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A Writer over an empty store, driven by hand.
pub struct Loaded {
    pub writer: Writer<()>,
    pub actions: Vec<WriterAction<()>>,
}

impl Loaded {
    pub fn new() -> Self {
        Self::with_settings(WriterSettings::default())
    }

    pub fn with_settings(settings: WriterSettings) -> Self {
        let store = Store::new(IDENTITY.hasher(), DedupLimits::default());
        let log = Log::create(Arc::new(NoDisk), IDENTITY, 1, StateId::default(), 64 << 20).expect("nothing can fail");
        let (now, clock) = (Monotonic::default(), LoggedClock::default());
        Self { writer: Writer::new(store, log, settings, 0, clock, now), actions: Vec::new() }
    }

    /// Counts each of the first `words` words once.
    pub fn with_words(words: u64) -> Self {
        let mut loaded = Self::new();
        for first in (0..words).step_by(RECORD_WORDS as usize) {
            loaded.write(batch(first..(first + RECORD_WORDS).min(words)));
        }
        loaded
    }

    pub fn write(&mut self, batch: WriteBatch) {
        self.write_at(batch, Monotonic::default());
    }

    pub fn write_at(&mut self, batch: WriteBatch, now: Monotonic) {
        self.writer.write([WriteSubmission { batch, level: None, reply: () }], now, &mut self.actions);
        for action in self.actions.drain(..) {
            if let WriterAction::Answer((), answer) = action {
                answer.expect("every batch is admitted");
            }
        }
    }

    pub fn reader(&self) -> StoreReader {
        self.writer.store().reader()
    }

    pub fn sequence(&self) -> u64 {
        self.writer.store().mark().position.sequence
    }
}

pub fn batch(numbers: impl Iterator<Item = u64>) -> WriteBatch {
    let mut tally = WordCounts::new(IDENTITY.hasher());
    let mut word = String::new();
    for number in numbers {
        write_word(number, &mut word);
        tally.add(&word, 1).expect("small amounts");
    }
    let words = tally.len() as u64;
    let namespace = DEFAULT_NAMESPACE.into();
    WriteBatch {
        entries: Vec::new(),
        namespace,
        op: WriteOp::Add,
        is_post: false,
        counts: tally,
        words,
        left_out: 0,
        key: None,
        fingerprint: 0,
    }
}

pub fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process its size");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("every process has a size");
    let kib: f64 = line.split_whitespace().nth(1).expect("VmRSS has a number").parse().expect("in KiB");
    kib * 1024.0
}
