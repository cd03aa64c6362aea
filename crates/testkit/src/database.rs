//! Small databases, made by the real Writer on a real disk, with everything that is true of them at every position.

use crate::{counts_model::CountsModel, disk::Files};
use memdb::{
    base::clock::{LoggedClock, LoggedTime, Monotonic, WallClock},
    base::hash::fingerprint,
    base::position::Sequence,
    data::command::{IdempotencyKey, WriteBatch},
    data::counts::{WriteOp, word_counts::WordCounts},
    data::entries::{CollectionId, CollectionKind, EntryOp, EntryWrite, Expiry, NewValue, WriteCondition},
    data::posts::{count_words, encode_claim},
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

/// All that a database says at one position: every count, every key and stream it remembers, every entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub counts: CountsModel,
    pub digest: u64,
    pub window: Vec<DedupEntry>,
    pub entries: BTreeMap<(CollectionKind, String, String), HeldEntry>,
}

/// An entry as a database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldEntry {
    pub version: Sequence,
    pub expires: Option<LoggedTime>,
    pub counted: bool,
    pub content_type: String,
    pub value: Vec<u8>,
}

pub fn state_of(store: &Store) -> State {
    let (counts, digest, window) = (CountsModel::of(store), store.digest(), window_of(store));
    State { counts, digest, window, entries: entries_of(store) }
}

fn entries_of(store: &Store) -> BTreeMap<(CollectionKind, String, String), HeldEntry> {
    let (mut scan, mut entries) = (store.reader().scan_entries(), BTreeMap::new());
    while scan.step(|CollectionId { kind, namespace }, entry| {
        let held = HeldEntry {
            version: entry.version(),
            expires: entry.expires(),
            counted: entry.is_counted(),
            content_type: entry.content_type().to_owned(),
            value: entry.value().into_owned(),
        };
        let key = (kind, namespace.to_owned(), entry.key().to_owned());
        assert!(entries.insert(key, held).is_none(), "{:?} twice", entry.key());
    }) {}
    entries
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

fn value_of(text: &str) -> NewValue {
    NewValue::new(text.as_bytes().to_vec().into(), "text/plain")
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
                    is_post: false,
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
            // Where posts count, a removal of words is a record of its own, and the state behind each is to be known.
            if self.states.values().next_back().is_some_and(|state| state.entries.is_empty()) {
                self.submit(submissions);
            } else {
                submissions.into_iter().for_each(|submission| self.submit(vec![submission]));
            }
        }
        self
    }

    /// Writes four records of entries. A long value, a short one, two posts and a text that counts for a while come; a
    /// post is replaced, and one value has no end any more; the short value and the other post are taken away; the text
    /// expires.
    pub fn write_entries(mut self) -> Self {
        let (cache, posts, texts) = (CollectionKind::Cache, CollectionKind::Posts, CollectionKind::Texts);
        let write = |kind, key: &str, op| EntryWrite { kind, key: key.into(), op, condition: WriteCondition::Always };
        let put = |key, value: &str, expiry| write(cache, key, EntryOp::Put(value_of(value), expiry));
        let post = |id, text| {
            let value = value_of(text).counted();
            self.batch_of(text, vec![write(posts, id, EntryOp::Put(value, Expiry::Never))])
        };
        let text = "soon gone";
        let claim = NewValue::new(encode_claim(&self.words_of(text)).into(), "").counted();
        let claimed = self.batch_of(text, vec![write(texts, "", EntryOp::Put(claim, Expiry::AfterMs(20)))]);
        let values = vec![put("a/b", &"value ".repeat(700), Expiry::AfterMs(1_000)), put("x", "1", Expiry::Never)];
        let come = vec![self.batch_of("", values), post("p", "hello hello"), post("q", "for now"), claimed];
        let stays = write(cache, "a/b", EntryOp::SetExpiry(Expiry::Never));
        let change = vec![post("p", "hello you"), self.batch_of("", vec![stays])];
        let gone = [(cache, "x"), (posts, "q")].map(|(kind, key)| write(kind, key, EntryOp::Remove));
        let go = vec![self.batch_of("", gone.into())];
        for batches in [come, change, go] {
            let submit = |batch| WriteSubmission { batch, level: Some(AckLevel::Leader), reply: () };
            self.submit(batches.into_iter().map(submit).collect());
        }
        self.now = self.now.after_ms(20);
        let (before, mut actions) = (self.writer.store().mark().position.sequence, Vec::new());
        self.writer.tick(self.now, &mut actions);
        let store = self.writer.store();
        assert_eq!(store.mark().position.sequence, before + 1, "the text expires");
        self.states.insert(before + 1, state_of(store));
        self.carry_out(actions);
        self
    }

    fn words_of(&self, text: &str) -> WordCounts {
        let mut counts = WordCounts::new(self.writer.store().hasher());
        count_words(IDENTITY.analyzer, text, &mut counts);
        counts
    }

    /// A write of entries whose words are those of a text.
    fn batch_of(&self, text: &str, entries: Vec<EntryWrite>) -> WriteBatch {
        WriteBatch {
            is_post: false,
            entries,
            namespace: "words".into(),
            op: WriteOp::Add,
            counts: self.words_of(text),
            words: 0,
            left_out: 0,
            key: None,
            fingerprint: 0,
        }
    }

    /// Gives the Writer a group of writes that it takes, and keeps the state that they lead to.
    fn submit(&mut self, submissions: Vec<WriteSubmission<()>>) {
        let writes = submissions.len();
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
        assert_eq!(answers.len(), writes);
        let position = self.writer.store().mark().position;
        self.states.insert(position.sequence, state_of(self.writer.store()));
        self.carry_out(actions);
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
                | WriterAction::Clamped(_)
                | WriterAction::Sidelined(_)
                | WriterAction::QueuesChanged(_) => {}
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
        Making::begin(LARGE)
            .write(2)
            .write_entries()
            .sync()
            .snapshot()
            .remember()
            .write(4)
            .sync()
            .write_entries()
            .killed("entries and posts"),
    ]
}
