//! A Writer over a disk in memory, with the work of its threads done by hand.

use memdb::{
    base::clock::{LoggedClock, Monotonic, WallClock},
    base::hash::{WordHasher, fingerprint},
    base::position::Position,
    data::command::{IdempotencyKey, WriteBatch},
    data::counts::{
        WriteOp,
        word_counts::{PartitionedCounter, WordCounts},
    },
    data::store::{DedupLimits, Store},
    engine::leader::{
        AckLevel, WriteError, WriteReceipt, WriteSubmission, Writer, WriterAction, WriterSettings, close,
    },
    replication::{PeerEvent, PeerIndex, PeerProgress},
    storage::disk::Disk,
    storage::file_header::DatabaseIdentity,
    storage::manifest::Manifest,
    storage::recovery,
    storage::wal::{FileCheck, SyncJob},
    text::tokenizer::Analyzer,
};
use std::{collections::VecDeque, io, sync::Arc};
use testkit::disk::MemoryDisk;

const IDENTITY: DatabaseIdentity =
    DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 0x5eed };
pub const HASHER: WordHasher = IDENTITY.hasher();

pub type Answer = Result<WriteReceipt, WriteError>;

pub struct Node {
    pub disk: MemoryDisk,
    manifest: Manifest,
    pub writer: Writer<usize>,
    /// What the clock reads that counts the time that passes.
    pub now_ms: u64,
    /// By how much the wall clock is ahead of that.
    pub wall_ahead_ms: i64,
    pub syncs: VecDeque<SyncJob>,
    pub published: Vec<Position>,
    pub poisoned: Vec<String>,
    pub checks: VecDeque<FileCheck>,
    pub files_lost: Vec<String>,
    pub wants_durable: bool,
    /// Words that would have been taken back below zero.
    pub clamped: u64,
}

#[derive(Clone, Copy, Default)]
pub struct Options {
    pub writer: WriterSettings,
    pub window: DedupLimits,
}

impl Options {
    /// No snapshot is asked for, which nobody here would take.
    #[must_use]
    pub fn without_snapshots(mut self) -> Self {
        self.writer.snapshot.interval_ms = 0;
        self
    }
}

impl Node {
    pub fn new(options: Options) -> Self {
        Self::start(MemoryDisk::default(), options, 1_000, 0)
    }

    pub fn start(disk: MemoryDisk, options: Options, now_ms: u64, wall_ahead_ms: i64) -> Self {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let recovered = recovery::look(&*shared, IDENTITY, options.window).expect("the files are whole");
        let settled = recovered.finalize(&shared, &mut testkit::database::node_run(), 1 << 20).expect("the disk works");
        let (now, wall) = (Monotonic::from_ms(now_ms), WallClock::from_ms(now_ms.saturating_add_signed(wall_ahead_ms)));
        let clock = LoggedClock::of_a_leader(None, settled.store.time_ms(), wall, now);
        let writer = Writer::new(settled.store, settled.log, options.writer, 0, clock, now);
        let (syncs, published, poisoned, checks, files_lost) = Default::default();
        Self {
            disk,
            manifest: settled.manifest,
            writer,
            now_ms,
            wall_ahead_ms,
            syncs,
            published,
            poisoned,
            checks,
            files_lost,
            wants_durable: false,
            clamped: 0,
        }
    }

    /// Ends without a farewell, and starts again over the same files.
    pub fn restart(self, options: Options) -> Self {
        Self::start(self.disk, options, self.now_ms, self.wall_ahead_ms)
    }

    /// Stops cleanly, as the Writer's thread does, some milliseconds a round, and starts again over the same files.
    pub fn stop_and_start(mut self, options: Options) -> Self {
        for _ in 0..100 {
            self.writer.end_expiry();
            self.tick();
            let mut actions = Vec::new();
            self.writer.start_sync(&mut actions);
            self.carry_out(actions);
            while !self.syncs.is_empty() {
                self.sync();
            }
            if self.writer.is_at_rest() {
                let shared: Arc<dyn Disk> = Arc::new(self.disk.clone());
                let snapshot = close(self.writer, self.manifest, &shared).expect("it is a clean stop");
                assert!(snapshot.is_none(), "{snapshot:?}");
                return Self::start(self.disk, options, self.now_ms, self.wall_ahead_ms);
            }
            self.now_ms += 7;
        }
        panic!("the Writer does not come to rest")
    }

    fn now(&self) -> Monotonic {
        Monotonic::from_ms(self.now_ms)
    }

    pub fn store(&self) -> &Store {
        self.writer.store()
    }

    pub fn count(&self, word: &str) -> i64 {
        self.store().reader().read().count("words", word)
    }

    pub fn counts<const N: usize>(&self, words: [&str; N]) -> [i64; N] {
        words.map(|word| self.count(word))
    }

    pub fn sequence(&self) -> u64 {
        self.store().mark().position.sequence
    }

    /// Gives a group of batches to the Writer; gives the answers that came at once, by the number of the batch in the
    /// group.
    pub fn write(&mut self, batches: impl IntoIterator<Item = (WriteBatch, Option<AckLevel>)>) -> Vec<(usize, Answer)> {
        let submissions =
            batches.into_iter().enumerate().map(|(reply, (batch, level))| WriteSubmission { batch, level, reply });
        let mut actions = Vec::new();
        self.writer.write(submissions, self.now(), &mut actions);
        self.carry_out(actions)
    }

    /// A group at the default level, all answered at once: gives the answers in the order of the batches.
    pub fn group(&mut self, batches: impl IntoIterator<Item = WriteBatch>) -> Vec<Answer> {
        let batches: Vec<_> = batches.into_iter().map(|batch| (batch, None)).collect();
        let expected = batches.len();
        let mut answers = self.write(batches);
        assert_eq!(answers.len(), expected, "every batch is answered, at once");
        answers.sort_by_key(|(reply, _)| *reply);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    pub fn one(&mut self, batch: WriteBatch) -> Answer {
        self.group([batch]).remove(0)
    }

    /// Does the sync that is asked for; gives the answers it sets free.
    pub fn sync(&mut self) -> Vec<(usize, Answer)> {
        let sync = self.syncs.pop_front().expect("a sync was asked for");
        let result = sync.run();
        self.synced(&sync, result)
    }

    pub fn synced(&mut self, sync: &SyncJob, result: io::Result<()>) -> Vec<(usize, Answer)> {
        let mut actions = Vec::new();
        self.writer.synced(sync, result, self.now(), &mut actions);
        self.carry_out(actions)
    }

    /// An exchange with a replica has told something; gives the answers that sets free.
    pub fn told(&mut self, peer: PeerIndex, told: &PeerEvent) -> Vec<(usize, Answer)> {
        let mut actions = Vec::new();
        self.writer.on_peer_event(peer, told, self.now(), &mut actions);
        self.carry_out(actions)
    }

    /// A replica stands there: what it has applied, and synced if it keeps files.
    pub fn acks(&mut self, peer: PeerIndex, applied: u64, synced: Option<u64>) -> Vec<(usize, Answer)> {
        self.told(peer, &PeerEvent::Progress(PeerProgress { applied, synced, connected: true }))
    }

    /// A sync fails: nothing is written any more.
    pub fn poison(&mut self) {
        let mut actions = Vec::new();
        self.writer.start_sync(&mut actions);
        self.carry_out(actions);
        let sync = self.syncs.pop_front().expect("there is something to sync");
        self.synced(&sync, Err(io::Error::other("on purpose")));
    }

    /// Time has passed; gives the answers that sets free.
    pub fn tick(&mut self) -> Vec<(usize, Answer)> {
        let mut actions = Vec::new();
        self.writer.tick(self.now(), &mut actions);
        self.carry_out(actions)
    }

    /// Looks at the files, as is asked for once in a while; gives the answers that sets free.
    pub fn check_files(&mut self) -> Vec<(usize, Answer)> {
        self.now_ms += 1_000;
        self.tick();
        let check = self.checks.pop_front().expect("a look was asked for");
        let mut actions = Vec::new();
        self.writer.files_checked(&check, &check.run(), &mut actions);
        self.carry_out(actions)
    }

    fn carry_out(&mut self, actions: Vec<WriterAction<usize>>) -> Vec<(usize, Answer)> {
        let mut answers = Vec::new();
        for action in actions {
            match action {
                WriterAction::Answer(reply, answer) => answers.push((reply, answer)),
                WriterAction::Published(position, _) => self.published.push(position),
                WriterAction::Sync(sync) => self.syncs.push_back(sync),
                WriterAction::Clamped(amounts) => self.clamped += amounts,
                WriterAction::Sidelined(_) | WriterAction::QueuesChanged(_) => {}
                WriterAction::WantDurable(wanted) => self.wants_durable = wanted,
                WriterAction::Snapshot(..) => {} // it runs on, and is no part of this
                WriterAction::CheckFiles(check) => self.checks.push_back(check),
                WriterAction::Poisoned(what) => self.poisoned.push(what),
                WriterAction::FilesLost(what) => self.files_lost.push(what),
            }
        }
        answers
    }
}

/// A batch with amounts by word.
pub fn batch(namespace: &str, verb: WriteOp, words: &[(&str, i64)]) -> WriteBatch {
    let mut tally = WordCounts::new(HASHER);
    for (word, amount) in words {
        tally.add(word, *amount).expect("small amounts");
    }
    let words = words.len() as u64;
    let body = format!("{namespace} {verb:?} {:?}", tally.iter().map(|c| (c.word, c.amount)).collect::<Vec<_>>());
    let fingerprint = fingerprint(&[body.as_bytes()]);
    WriteBatch {
        entries: Vec::new(),
        namespace: namespace.into(),
        op: verb,
        is_post: false,
        counts: tally,
        words,
        left_out: 0,
        key: None,
        fingerprint,
    }
}

pub fn add(words: &[(&str, i64)]) -> WriteBatch {
    batch("words", WriteOp::Add, words)
}

/// What a body in bulk is counted as: in an order of its own, and only to be gone through.
pub fn in_bulk(text: &str) -> WriteBatch {
    let (mut tally, mut parts) = (WordCounts::new(HASHER), PartitionedCounter::default());
    text.split_terminator(' ').for_each(|word| parts.push(text, HASHER.hash(word), word));
    parts.count_into(text, &mut tally);
    WriteBatch { counts: tally, ..add(&[]) }
}

pub fn keyed(key: &str, words: &[(&str, i64)]) -> WriteBatch {
    WriteBatch { key: Some(IdempotencyKey::Key(key.into())), ..add(words) }
}

pub fn streamed(name: &str, sequence: u64, words: &[(&str, i64)]) -> WriteBatch {
    WriteBatch { key: Some(IdempotencyKey::Stream { name: name.into(), sequence }), ..add(words) }
}

/// A line of the one text that all names have.
pub fn line(name: &str, number: u64) -> WriteBatch {
    let (done, so_far) = (number - 1, u128::from(number - 1));
    let once = IdempotencyKey::Lines { name: name.into(), done, so_far, upto: number, words: 0, left_out: 0 };
    WriteBatch { key: Some(once), fingerprint: u128::from(number), ..add(&[("a", 1)]) }
}

/// Position and whether it is a repeat, of a write that was acknowledged.
pub fn at(answer: &Answer) -> (u64, bool) {
    let receipt = answer.as_ref().expect("it was acknowledged");
    (receipt.position.sequence, receipt.replayed)
}
