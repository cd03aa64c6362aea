//! Clients that write and read all the time, and a history of what they were told, for the checker.
//!
//! Writers post two words of their own and one common to all, under a key, in a stream, or with neither, at every
//! level. Who has a key or a stream repeats until it is answered; who has neither leaves it open whether the post
//! counts. Their words come round again, so that a database stays as small as it was, however long this goes on.

mod counters;
mod entries;

use entries::{EntryReader, EntryWriter};
use memdb::{
    base::position::{EpochTable, Position, PositionToken},
    engine::leader::AckLevel,
};
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use testkit::{
    PATIENCE, Random,
    checker::{Checked, History, Seen, WriteId},
    client::{Counts, new_client},
    process::{Node, equal_within},
};

/// The word that is in every post.
const COMMON: &str = "all";
/// After so many posts a writer's words come round again.
const SLOTS: u64 = 100;
const RETRY: Duration = Duration::from_millis(10);
/// Levels in turn: `None` names none.
const LEVELS: [Option<AckLevel>; 5] =
    [None, Some(AckLevel::Leader), Some(AckLevel::Disk), Some(AckLevel::Replica), Some(AckLevel::ReplicaDisk)];

/// How much is asked.
#[derive(Clone, Copy)]
pub struct Rate {
    pub writers: u64,
    pub readers: u64,
    /// The pause of a client after each request.
    pub pause: Duration,
    /// Clients that write entries, and as many that read them.
    pub entry_clients: u64,
    /// Streams and posts that a follower passes on are part of it: not where posts may be lost, which leaves a stream
    /// with a gap, and where nobody may write before it is known where history went on.
    pub all_kinds: bool,
    /// The clients that write entries increment counters too: the leader must bound no counter's rate, since records of
    /// windows that end would come whenever nodes are compared.
    pub counters: bool,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    rate: Rate,
    begun: Instant,
    over: AtomicBool,
    /// Held for reading by every client from before it asks until it knows all it will: held for writing, all is quiet.
    gate: RwLock<()>,
    history: Mutex<History>,
    /// Where the nodes are, and which of them leads.
    nodes: RwLock<(Vec<String>, usize)>,
    /// Answers that should never be.
    wrong: Mutex<Vec<String>>,
    /// Answers that should never be unless something is lost that may be.
    told_lost: Mutex<Vec<String>>,
    /// By writer: its posts.
    numbers: Vec<AtomicU64>,
    answers: [AtomicU64; LEVELS.len()],
    repeats: AtomicU64,
    reads: AtomicU64,
    /// Writes of entries that were answered, and reads.
    entries: [AtomicU64; 2],
    /// Words that were posted beside posts and stay, by those who were told so.
    by_hand: Mutex<Counts>,
    /// Increments that were accepted, by counter.
    increments: Mutex<Counts>,
    /// One more whenever the leader begins to move, and when it has: odd meanwhile.
    moves: AtomicU64,
    /// Positions may be lost: a leader was replaced by force.
    losses: AtomicBool,
    /// How often, at a check, something might be lost before: streams begin anew then, and readers forget positions.
    times_lost: AtomicU64,
}

impl Load {
    /// Begins on nodes of which the first leads, and which hold so much at a position.
    pub fn start(nodes: &[&Node], base: (Position, &Counts), rate: Rate, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            rate,
            begun: Instant::now(),
            over: AtomicBool::new(false),
            gate: RwLock::new(()),
            history: Mutex::new(History::new(base.1, base.0)),
            nodes: RwLock::new((nodes.iter().map(|node| node.url.clone()).collect(), 0)),
            wrong: Mutex::new(Vec::new()),
            told_lost: Mutex::new(Vec::new()),
            numbers: (0..rate.writers).map(|_| AtomicU64::new(0)).collect(),
            answers: [const { AtomicU64::new(0) }; LEVELS.len()],
            repeats: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            entries: Default::default(),
            by_hand: Mutex::default(),
            increments: Mutex::default(),
            moves: AtomicU64::new(0),
            losses: AtomicBool::new(false),
            times_lost: AtomicU64::new(0),
        });
        let mut random = Random::new(seed);
        let mut threads = Vec::new();
        let mut start = |work: Box<dyn FnOnce() + Send>| {
            threads.push(std::thread::Builder::new().spawn(work).expect("a thread"));
        };
        for client in 0..rate.writers {
            let mut writer = Writer { shared: Arc::clone(&shared), http: new_client(), client, stream: (0, 0) };
            start(Box::new(move || while writer.work() {}));
        }
        for reader in 0..rate.readers {
            let random = Random::new(random.below(1 << 30) as u64);
            let shared = Arc::clone(&shared);
            let mut reader = Reader { shared, http: new_client(), reader, random, last: None, times_lost: 0 };
            start(Box::new(move || while reader.work() {}));
        }
        for client in 0..rate.entry_clients {
            let mut writer = EntryWriter::new(&shared, client, Random::new(random.below(1 << 30) as u64));
            start(Box::new(move || while writer.work() {}));
            let mut reader = EntryReader::new(&shared, client, Random::new(random.below(1 << 30) as u64));
            start(Box::new(move || while reader.work() {}));
        }
        Self { shared, threads }
    }

    /// Lets all clients come to their end, and keeps them from going on.
    pub fn quiet(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.gate.try_write_for(4 * PATIENCE).expect("every client comes to its end")
    }

    /// All is quiet: the nodes must become equal, and the history since the last time must be as it should. Gives how
    /// much was checked and how long it took the nodes; the clients go on behind that.
    pub fn check(&self, quiet: RwLockWriteGuard<'_, ()>, nodes: &[&Node]) -> (Checked, Duration) {
        self.check_history(quiet, nodes, None)
    }

    /// As [`Load::check`], where several may have led since the last time: history is what has these epochs, and of
    /// what else there was, what was acknowledged at these levels may be lost.
    pub fn check_epochs(
        &self,
        quiet: RwLockWriteGuard<'_, ()>,
        nodes: &[&Node],
        epochs: EpochTable,
        forgives: &[AckLevel],
    ) -> (Checked, Duration) {
        self.check_history(quiet, nodes, Some((epochs, forgives)))
    }

    fn check_history(
        &self,
        quiet: RwLockWriteGuard<'_, ()>,
        nodes: &[&Node],
        holds: Option<(EpochTable, &[AckLevel])>,
    ) -> (Checked, Duration) {
        let (leader, followers) = nodes.split_first().expect("there are nodes");
        if self.shared.rate.entry_clients > 0 {
            entries::settle(&leader.url);
        }
        self.shared.counters_settle(leader);
        let (counts, took) = equal_within(PATIENCE, leader, followers);
        self.shared.check_counters(nodes);
        let mut history = self.shared.history.lock();
        if self.shared.rate.entry_clients > 0 {
            self.shared.note_entries_at_the_end(nodes, &mut history);
        }
        let mut ended = Position::ZERO;
        for node in nodes {
            let (position, counts) = testkit::client::counts(&node.url);
            ended = position.position;
            history.ends(&node.url, ended, counts);
        }
        let may_lose = holds.as_ref().is_some_and(|(_, forgives)| !forgives.is_empty());
        if let Some((epochs, forgives)) = holds {
            history.holds(epochs, ended, forgives);
        }
        let checked = history.check().unwrap_or_else(|broken| panic!("{broken}"));
        let mut wrong = std::mem::take(&mut *self.shared.wrong.lock());
        let told_lost = std::mem::take(&mut *self.shared.told_lost.lock());
        if may_lose {
            self.shared.times_lost.fetch_add(1, Relaxed);
        } else {
            wrong.extend(told_lost);
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        let mut next = History::new(&counts, ended);
        next.goes_on(&history, ended);
        *history = next;
        drop(quiet);
        (checked, took)
    }

    /// Another node leads, perhaps without records that were acknowledged at these levels, since the old epoch ended
    /// there.
    pub fn led_by(&self, node: usize, ended: Position, forgives: &[AckLevel]) {
        self.shared.nodes.write().1 = node;
        self.shared.history.lock().epoch_ended(ended, forgives);
    }

    /// The leader begins to move, or has moved: meanwhile nobody is known to have everything.
    pub fn moves(&self, begins: bool) {
        let before = self.shared.moves.fetch_add(1, Relaxed);
        assert_eq!(before.is_multiple_of(2), begins, "it moves once at a time");
    }

    /// From here on positions may be lost.
    pub fn may_lose(&self) {
        self.shared.losses.store(true, Relaxed);
    }

    /// Another node leads.
    pub fn lead(&self, node: usize) {
        self.shared.nodes.write().1 = node;
    }

    /// Waits for some more answers to writes.
    pub fn until_more(&self, posts: u64) {
        let from = self.posts();
        testkit::wait_for("posts are answered", || (self.posts() >= from + posts).then_some(()));
    }

    /// Posts that were acknowledged.
    pub fn posts(&self) -> u64 {
        self.shared.answers.iter().map(|answers| answers.load(Relaxed)).sum()
    }

    /// What was done, for a person.
    pub fn told(&self) -> String {
        let level = |(level, answers): (&Option<AckLevel>, &AtomicU64)| {
            let name = level.map_or("by default", name_of);
            format!("{} {name}", answers.load(Relaxed))
        };
        let levels: Vec<_> = LEVELS.iter().zip(&self.shared.answers).map(level).collect();
        let (repeats, reads) = (self.shared.repeats.load(Relaxed), self.shared.reads.load(Relaxed));
        let [written, read] = self.shared.entries.each_ref().map(|many| many.load(Relaxed));
        let increments: i64 = self.shared.increments.lock().values().sum();
        format!(
            "{} posts acknowledged ({}), {repeats} sent again; {reads} reads; {written} entries written, {read} read; \
             {increments} increments accepted",
            self.posts(),
            levels.join(", ")
        )
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a client has panicked");
        }
    }
}

fn name_of(level: AckLevel) -> &'static str {
    match level {
        AckLevel::Leader => "leader",
        AckLevel::Disk => "disk",
        AckLevel::Replica | AckLevel::DiskReplica => "replica",
        AckLevel::ReplicaDisk => "replica+disk",
    }
}

impl Shared {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    fn is_wrong(&self, what: String) {
        self.wrong.lock().push(what);
    }

    fn words(&self, client: u64, number: u64) -> [String; 2] {
        let slot = number % SLOTS;
        ["own", "twin"].map(|kind| format!("{kind}{client}n{slot}"))
    }
}

fn position(answer: &Response) -> Option<PositionToken> {
    answer.headers().get("memdb-position")?.to_str().ok()?.parse().ok()
}

struct Writer {
    shared: Arc<Shared>,
    http: Client,
    client: u64,
    /// How often something might have been lost when its stream began, and the number of its last post before that.
    stream: (u64, u64),
}

/// What an answer means for the write.
enum Told {
    /// It counts, and its level was reached or not.
    Counts(Position, AckLevel),
    /// Nobody knows, or not yet: again, at this level.
    Again(Option<AckLevel>),
    /// It may count.
    Open,
    /// Its condition does not hold.
    Refused,
    Wrong(String),
}

/// What an answer tells of a write at this level that may be sent again, or not.
fn told(answer: Response, level: Option<AckLevel>, repeats: bool) -> Told {
    let acks = answer.headers().get("memdb-acks").and_then(|acks| acks.to_str().ok()?.parse::<u64>().ok());
    match (answer.status().as_u16(), position(&answer)) {
        (200 | 202, Some(_)) if level.is_some_and(AckLevel::wants_replica) && acks == Some(0) => {
            Told::Wrong(format!("acknowledged at level {level:?} by no replica"))
        }
        (200 | 202, Some(position)) => {
            let reached = level.unwrap_or(if acks == Some(0) { AckLevel::Leader } else { AckLevel::Replica });
            Told::Counts(position.position, reached)
        }
        (504, Some(position)) => Told::Counts(position.position, AckLevel::Leader),
        (400, _) if level == Some(AckLevel::ReplicaDisk) => Told::Again(None), // none is known that keeps files
        (412, _) => Told::Refused,
        (421 | 429 | 503, _) => Told::Again(level),
        (500, _) if repeats => Told::Again(level),
        (500, _) => Told::Open,
        (status, _) => Told::Wrong(format!("{status} {}", answer.text().unwrap_or_default())),
    }
}

impl Writer {
    /// Posts once, after a pause; `false` once it is over.
    fn work(&mut self) -> bool {
        std::thread::sleep(self.shared.rate.pause); // the pace that is wanted
        let shared = Arc::clone(&self.shared);
        let _open = shared.gate.read();
        if shared.is_over() {
            return false;
        }
        let last = shared.numbers[self.client as usize].load(Relaxed);
        let times_lost = shared.times_lost.load(Relaxed);
        if self.stream.0 != times_lost {
            self.stream = (times_lost, last); // what it has counted may be lost
        }
        let number = last + 1;
        let [own, twin] = shared.words(self.client, number);
        let write = shared.history.lock().sent(shared.now(), &[(&own, 1), (&twin, 1), (COMMON, 1)]);
        shared.numbers[self.client as usize].store(number, Relaxed);
        self.post(write, number, &format!("{own} {twin} {COMMON}"));
        true
    }

    fn post(&self, write: WriteId, number: u64, text: &str) {
        let turn = number as usize % LEVELS.len();
        let (begun, mut level) = (Instant::now(), LEVELS[turn]);
        loop {
            match self.ask(number, level, text) {
                Told::Counts(position, reached) => {
                    let ended = self.shared.now();
                    self.shared.history.lock().acknowledged(write, ended, position, reached);
                    self.shared.answers[turn].fetch_add(1, Relaxed);
                    return;
                }
                Told::Again(next) => level = next,
                Told::Open => return,
                Told::Refused => return self.shared.is_wrong(format!("{text}: it had no condition")),
                Told::Wrong(what) => return self.shared.is_wrong(format!("{text}: {what}")),
            }
            if begun.elapsed() > PATIENCE {
                return self.shared.is_wrong(format!("{text}: not answered within {PATIENCE:?}"));
            }
            self.shared.repeats.fetch_add(1, Relaxed);
            std::thread::sleep(RETRY);
        }
    }

    fn ask(&self, number: u64, level: Option<AckLevel>, text: &str) -> Told {
        let url = {
            let nodes = self.shared.nodes.read();
            // The last writer's posts are passed on by a follower.
            let rate = &self.shared.rate;
            let passed_on = rate.all_kinds && self.client + 1 == rate.writers;
            let at = if passed_on { (nodes.1 + 1) % nodes.0.len() } else { nodes.1 };
            let query = level.map_or(String::new(), |level| format!("?ack={}", name_of(level)));
            format!("{}/post{query}", nodes.0[at])
        };
        let request = self.http.post(url).header("content-type", "text/plain").body(text.to_owned());
        let (request, repeats) = self.named(request, number);
        let answer = match request.send() {
            Ok(answer) => answer,
            // Where nothing listens nothing was sent.
            Err(error) if repeats || error.is_connect() => return Told::Again(level),
            Err(_) => return Told::Open,
        };
        match told(answer, level, repeats) {
            // What it has posted before this is lost. This one counts nowhere, or where that is still there.
            Told::Wrong(what) if what.starts_with("409") && what.contains("problem:stream-gap") => {
                self.shared.told_lost.lock().push(format!("{text}: {what}"));
                Told::Open
            }
            told => told,
        }
    }

    /// The request with its key, with its number in a stream, or with neither; and whether it may be sent again.
    fn named(&self, request: RequestBuilder, number: u64) -> (RequestBuilder, bool) {
        let client = self.client.to_string();
        match self.client % 3 {
            1 if self.shared.rate.all_kinds => {
                let (stream, before) = self.stream;
                let named = request.header("memdb-stream", format!("{client}-{stream}"));
                (named.header("memdb-stream-seq", number - before), true)
            }
            0 | 1 => (request.header("idempotency-key", format!("{client}-{number}")), true),
            _ => (request, false),
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    http: Client,
    reader: u64,
    random: Random,
    /// The last position it has seen.
    last: Option<PositionToken>,
    /// How often something might have been lost before that.
    times_lost: u64,
}

impl Reader {
    /// Reads once, after a pause; `false` once it is over.
    fn work(&mut self) -> bool {
        std::thread::sleep(self.shared.rate.pause); // the pace that is wanted
        let shared = Arc::clone(&self.shared);
        let _open = shared.gate.read();
        let (url, leads) = {
            let nodes = shared.nodes.read();
            let node = self.random.below(nodes.0.len());
            (nodes.0[node].clone(), node == nodes.1)
        };
        let times_lost = shared.times_lost.load(Relaxed);
        if self.times_lost != times_lost {
            (self.times_lost, self.last) = (times_lost, None);
        }
        let words = self.words();
        let query: Vec<_> = words.iter().map(|word| ("word", word.as_str())).collect();
        let asked = self.last.filter(|_| self.random.percent(50));
        let mut request = self.http.get(format!("{url}/wordcount")).query(&query);
        if let Some(asked) = asked {
            request = request.header("memdb-min-position", asked.to_string());
        }
        let moves = shared.moves.load(Relaxed);
        let began = shared.now();
        let Ok(answer) = request.send() else { return !shared.is_over() };
        let (status, position) = (answer.status().as_u16(), position(&answer));
        let counts = answer.json::<Counts>();
        let ended = shared.now();
        match (status, position, counts) {
            (200, Some(token), Ok(counts)) => {
                let (position, asked) = (token.position, asked.map(|asked| asked.position));
                let values: Vec<_> = counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
                let who = self.reader as u32;
                let leads = leads && moves.is_multiple_of(2) && moves == shared.moves.load(Relaxed);
                shared.history.lock().read(&Seen { who, began, ended, position, asked, leads, values: &values });
                self.last = Some(PositionToken::later(self.last, token));
                shared.reads.fetch_add(1, Relaxed);
            }
            (410, ..) if shared.losses.load(Relaxed) => self.last = None,
            (410, ..) => {
                self.last = None;
                shared.told_lost.lock().push(format!("{url} answered a read at {asked:?} with 410"));
            }
            (503, ..) | (200, _, Err(_)) => {} // it starts, or died while it answered
            (status, ..) => shared.is_wrong(format!("{url} answered a read at {asked:?} with {status}")),
        }
        !shared.is_over()
    }

    /// The common word, and those of some writer's last posts.
    fn words(&mut self) -> Vec<String> {
        let mut words = vec![COMMON.to_owned()];
        for _ in 0..2 {
            let client = self.random.below(self.shared.rate.writers as usize) as u64;
            let number = self.shared.numbers[client as usize].load(Relaxed);
            words.extend(self.shared.words(client, number.saturating_sub(self.random.below(3) as u64)));
        }
        words.sort_unstable();
        words.dedup();
        words
    }
}

/// Everything a node says of itself, or nothing.
pub fn status_of(node: &Node) -> Value {
    testkit::client::status(&node.url).unwrap_or_default()
}
