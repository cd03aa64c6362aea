//! Small databases, made by the real Writer on a real disk, with everything that is true of them at every position.

use crate::{counts_model::CountsModel, disk::Files};
use memdb::{
    base::clock::{LoggedClock, Monotonic, WallClock},
    base::hash::fingerprint,
    base::position::Sequence,
    data::command::{IdempotencyKey, WriteBatch},
    data::counts::{WriteOp, word_counts::WordCounts},
    data::store::{DedupEntry, DedupLimits, Store},
    engine::leader::{AckLevel, WriteSubmission, Writer, WriterAction, WriterSettings, close},
    storage::disk::{Disk, RealDisk},
    storage::file_header::DatabaseIdentity,
    storage::manifest::Manifest,
    storage::recovery::{NodeRun, WritableDatabase, look},
    storage::snapshot::{SnapshotJob, SnapshotSettings},
    text::tokenizer::Analyzer,
};
use std::{collections::BTreeMap, path::Path, sync::Arc};

pub const IDENTITY: DatabaseIdentity = DatabaseIdentity {
    database_id: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
    shard_id: 0,
    analyzer: Analyzer::Standard,
    hash_seed: 0x5eed,
};

/// All that a database says at one position: every count, every key and stream it remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub counts: CountsModel,
    pub digest: u64,
    pub window: Vec<DedupEntry>,
}

pub fn state_of(store: &Store) -> State {
    State { counts: CountsModel::of(store), digest: store.digest(), window: window_of(store) }
}

pub fn window_of(store: &Store) -> Vec<DedupEntry> {
    let (reader, mut cursor, mut window) = (store.reader(), Default::default(), Vec::new());
    loop {
        let piece = reader.window_chunk(&mut cursor, 64);
        if piece.is_empty() {
            return window;
        }
        window.extend(piece);
    }
}

/// A database that has ended, one way or the other.
pub struct Database {
    pub name: &'static str,
    pub files: Files,
    /// The state at every position, 0 included.
    pub states: BTreeMap<Sequence, State>,
    /// The last sequence that was synced, by the log or by a snapshot.
    pub synced: Sequence,
    pub clean: bool,
    /// Copies of the directory as it was earlier, oldest first.
    pub earlier: Vec<Files>,
}

impl Database {
    pub fn last(&self) -> Sequence {
        *self.states.keys().next_back().expect("the empty state is there")
    }

    /// The newest segment: what is gone from its end may never have been there.
    pub fn newest_segment(&self) -> &str {
        self.files.keys().rfind(|name| name.starts_with("log-")).expect("every database has a log")
    }
}

/// A database while it is made.
pub struct Making {
    directory: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    manifest: Manifest,
    writer: Writer<()>,
    states: BTreeMap<Sequence, State>,
    synced: Sequence,
    now: Monotonic,
    posts: u64,
    earlier: Vec<Files>,
}

/// A run of a node in the boot `boot`.
pub fn node_run() -> NodeRun {
    NodeRun { name: "n-test".into(), boot_id: "boot".into(), random: Some(7) }
}

fn settle(
    disk: &Arc<dyn Disk>,
    segment_bytes: u64,
    identity: DatabaseIdentity,
    now: Monotonic,
) -> (Manifest, Writer<()>) {
    let recovered = look(&**disk, identity, DedupLimits::default()).expect("the database is whole");
    let WritableDatabase { manifest, store, log, snapshot, .. } =
        recovered.finalize(disk, &mut node_run(), segment_bytes).expect("the disk works");
    let settings = WriterSettings { snapshot: SnapshotSettings { interval_ms: 0 }, ..WriterSettings::default() };
    let clock = LoggedClock::of_a_leader(None, store.time_ms(), WallClock::from_ms(1_000), now);
    (manifest, Writer::new(store, log, settings, snapshot, clock, now))
}

impl Making {
    pub fn begin(segment_bytes: u64) -> Self {
        Self::begin_as(IDENTITY, segment_bytes)
    }

    pub fn begin_as(identity: DatabaseIdentity, segment_bytes: u64) -> Self {
        let directory = tempfile::TempDir::new().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path()).expect("a directory"));
        let (manifest, writer) = settle(&disk, segment_bytes, identity, Monotonic::from_ms(1_000));
        let states = [(0, state_of(writer.store()))].into();
        let (earlier, now) = (Vec::new(), Monotonic::from_ms(1_000));
        Self { directory, disk, segment_bytes, manifest, writer, states, synced: 0, now, posts: 0, earlier }
    }

    /// Writes `records` records of two posts each: with keys, with streams, in two namespaces, now and then a removal.
    pub fn write(mut self, records: usize) -> Self {
        for _ in 0..records {
            let hasher = self.writer.store().hasher();
            let mut submissions = Vec::new();
            for _ in 0..2 {
                self.posts += 1;
                let n = self.posts;
                let mut tally = WordCounts::new(hasher);
                for word in ["all", if n.is_multiple_of(2) { "even" } else { "odd" }, &format!("w{}", n % 5)] {
                    tally.add(word, n as i64).expect("small");
                }
                let once = match n % 4 {
                    0 => None,
                    1 => Some(IdempotencyKey::Stream { name: "stream".into(), sequence: n / 4 + 1 }),
                    _ => Some(IdempotencyKey::Key(format!("key {n}").into())),
                };
                let namespace = if n % 7 == 3 && n % 4 != 1 { "other" } else { "words" }.into();
                let verb = match n {
                    5 | 12 => WriteOp::RemoveWords,
                    11 => WriteOp::DropNamespace,
                    _ => WriteOp::Add,
                };
                if verb == WriteOp::DropNamespace {
                    tally.clear();
                }
                let fingerprint = fingerprint(&[&n.to_le_bytes()]);
                let batch = WriteBatch {
                    entries: Vec::new(),
                    namespace,
                    op: verb,
                    counts: tally,
                    words: 3,
                    left_out: n % 2,
                    key: once,
                    fingerprint,
                };
                submissions.push(WriteSubmission { batch, level: Some(AckLevel::Leader), reply: () });
            }
            self.now = self.now.after_ms(7);
            let mut actions = Vec::new();
            self.writer.write(submissions, self.now, &mut actions);
            let answers: Vec<_> = actions
                .iter()
                .filter_map(|action| match action {
                    WriterAction::Answer((), answer) => Some(answer.as_ref().expect("it is counted")),
                    _ => None,
                })
                .collect();
            assert_eq!(answers.len(), 2);
            let position = self.writer.store().mark().position;
            self.states.insert(position.sequence, state_of(self.writer.store()));
            self.carry_out(actions);
        }
        self
    }

    pub fn sync(mut self) -> Self {
        let mut actions = Vec::new();
        self.writer.start_sync(&mut actions);
        self.carry_out(actions);
        self
    }

    pub fn snapshot(mut self) -> Self {
        let mut actions = Vec::new();
        self.writer.start_snapshot(&mut actions);
        self.carry_out(actions);
        self
    }

    fn carry_out(&mut self, actions: Vec<WriterAction<()>>) {
        for action in actions {
            match action {
                WriterAction::Sync(sync) => {
                    let mut more = Vec::new();
                    self.writer.synced(&sync, sync.run(), self.now, &mut more);
                    let answers = |action: &WriterAction<()>| matches!(action, WriterAction::Answer(..));
                    assert!(!more.iter().any(answers), "nobody waits");
                    self.synced = self.synced.max(sync.upto);
                    self.carry_out(more);
                }
                WriterAction::Snapshot(mark, place) => {
                    let reader = self.writer.store().reader();
                    let job = SnapshotJob::start(Arc::clone(&self.disk), self.manifest.identity, reader, mark, place);
                    let published = job.and_then(SnapshotJob::run);
                    self.writer.snapshot_ended(&published, 1);
                    self.synced = self.synced.max(published.expect("the disk works").position.sequence);
                }
                WriterAction::CheckFiles(check) => self.writer.files_checked(&check, &check.run(), &mut Vec::new()),
                WriterAction::Poisoned(why) | WriterAction::FilesLost(why) => panic!("{why}"),
                WriterAction::Answer(..)
                | WriterAction::Published(..)
                | WriterAction::WantDurable(_)
                | WriterAction::Clamped(_) => {}
            }
        }
    }

    /// Keeps a copy of the files as they are now.
    pub fn remember(mut self) -> Self {
        self.earlier.push(read(&self.directory));
        self
    }

    /// Stops the leader, cleanly or by a kill, and starts it again.
    pub fn restart(mut self, cleanly: bool) -> Self {
        if cleanly {
            self = self.sync();
            close(self.writer, self.manifest, &self.disk).expect("the disk works");
        }
        self.synced = *self.states.keys().next_back().expect("some"); // by the stop, or by the start's snapshot
        (self.manifest, self.writer) = settle(&self.disk, self.segment_bytes, IDENTITY, self.now);
        self
    }

    /// Kills the leader, does something to its directory, and starts it again.
    pub fn killed_and(mut self, change: impl FnOnce(&Path)) -> Self {
        change(self.directory.path());
        (self.manifest, self.writer) = settle(&self.disk, self.segment_bytes, IDENTITY, self.now);
        self.posts = 2 * self.writer.store().mark().position.sequence; // what is gone is posted again
        self
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn store(&self) -> &Store {
        self.writer.store()
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn stopped(mut self, name: &'static str) -> Database {
        self = self.sync();
        let Self { directory, disk, manifest, writer, states, earlier, .. } = self;
        close(writer, manifest, &disk).expect("the disk works");
        let synced = *states.keys().next_back().expect("some");
        Database { name, files: read(&directory), states, synced, clean: true, earlier }
    }

    pub fn killed(self, name: &'static str) -> Database {
        let Self { directory, states, synced, earlier, .. } = self;
        Database { name, files: read(&directory), states, synced, clean: false, earlier }
    }
}

fn read(directory: &tempfile::TempDir) -> Files {
    let entries = std::fs::read_dir(directory.path()).expect("readable").map(|entry| entry.expect("readable"));
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().expect("names are ASCII");
            (name, std::fs::read(entry.path()).expect("readable"))
        })
        .collect()
}

const LARGE: u64 = 1 << 20;
/// A segment is finished behind its second record or so.
pub const SMALL: u64 = 300;

/// Databases in every state that a leader leaves behind.
pub fn all() -> Vec<Database> {
    vec![
        Making::begin(LARGE).remember().write(5).stopped("stopped cleanly"),
        Making::begin(LARGE).write(6).killed("killed, nothing synced"),
        Making::begin(LARGE).write(3).sync().remember().write(4).killed("killed, some synced"),
        Making::begin(LARGE).write(3).sync().write(2).sync().killed("killed, all synced and not stated"),
        Making::begin(LARGE)
            .write(3)
            .snapshot()
            .remember()
            .write(2)
            .sync()
            .snapshot()
            .write(3)
            .killed("two snapshots and a log"),
        Making::begin(SMALL)
            .write(2)
            .sync()
            .write(2)
            .sync()
            .remember()
            .write(2)
            .sync()
            .write(2)
            .sync()
            .write(2)
            .killed("several segments"),
        Making::begin(SMALL)
            .write(2)
            .sync()
            .write(2)
            .snapshot()
            .write(2)
            .sync()
            .write(1)
            .snapshot()
            .remember()
            .write(3)
            .sync()
            .write(1)
            .killed("several segments behind snapshots"),
        Making::begin(LARGE)
            .write(2)
            .restart(true)
            .remember()
            .write(2)
            .restart(false)
            .write(2)
            .remember()
            .restart(false)
            .write(2)
            .killed("several epochs"),
        Making::begin(LARGE).write(2).restart(true).remember().restart(true).stopped("several epochs, stopped"),
        Making::begin(LARGE).killed("new"),
    ]
}
