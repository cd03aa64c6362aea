//! Kill loops: nodes of a cluster under load are killed, stopped and frozen at random moments and at every place of
//! `src/base/failpoint.rs`, while writers write at every level and readers look on. After each round all is equal, and
//! the checker finds nothing lost, doubled, seen in part, or seen too late.
//!
//! No process that is killed may lose what the system has taken, so here nothing acknowledged is lost at any level.

use super::load::{Load, Rate};
use memdb::base::failpoint::{PLACES_OF_A_LEADER, PLACES_OF_A_REPLICA};
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{
    Random,
    client::{Counts, counts, posted},
    guard::NodeGuard,
    number_from,
    process::{Node, Start},
    wait_for,
};

const LEADER: usize = 0;
const REPLICA_WITH_FILES: usize = 2;
const NAMES: [&str; 4] = ["leader", "replica", "replica with files", "local replica"];
/// A segment that rotates often.
const SEGMENT_BYTES: u64 = 20_000;
/// Words that are there from the begin: a walk over them for a snapshot takes a moment, in which records come.
const WORDS: u64 = 5_000;
/// How long an armed process is given until it passes the place; then it is told to stop, which has places of its own.
const UNARMED_AFTER: Duration = Duration::from_millis(400);

/// A cluster under load, and what was done to it.
struct Storm {
    random: Random,
    /// As [`NAMES`] says.
    nodes: Vec<Node>,
    load: Option<Load>,
    directories: [TempDir; 2],
    deaths: BTreeMap<String, u64>,
    slowest: Duration,
    reads: usize,
    values: usize,
}

impl Storm {
    fn new(seed: u64, pause: Duration, guard: NodeGuard) -> Self {
        let directories = [(); 2].map(|()| TempDir::new().expect("a directory"));
        let data = |at: usize| directories[at].path();
        // Increments wait for some time, and no more of them than a few.
        let counters = ["--max-key-rate", "none", "--worker-rate", "100", "--max-queue-size", "10"];
        let leader = Start::leader(data(0)).segments(SEGMENT_BYTES).with(&["--ack-timeout-ms", "300"]);
        let leader = leader.with(&counters).guarded(guard).run();
        let followers = [
            Start::replica(&leader),
            Start::replica(&leader).data(data(1)).with(&["--backup-interval-ms", "20"]).segments(SEGMENT_BYTES),
            Start::local_replica(data(0)).guarded(guard),
        ];
        let mut nodes: Vec<_> = followers.iter().map(Start::run).collect();
        nodes.insert(LEADER, leader);
        nodes[LEADER].until_connected(2);
        let text: String = (0..WORDS).map(|number| format!("word{number} ")).collect();
        posted(&nodes[LEADER].url, &text);
        let (position, base): (_, Counts) = counts(&nodes[LEADER].url);
        let base = (position.position, &base);
        let rate = Rate { writers: 6, readers: 3, entry_clients: 3, pause, all_kinds: true, counters: true };
        let load = Load::start(&nodes.iter().collect::<Vec<_>>(), base, rate, seed);
        Self {
            random: Random::new(seed),
            nodes,
            load: Some(load),
            directories,
            deaths: BTreeMap::new(),
            slowest: Duration::ZERO,
            reads: 0,
            values: 0,
        }
    }

    fn load(&self) -> &Load {
        self.load.as_ref().expect("it is there until the end")
    }

    /// As long as it pleases.
    fn wait(&mut self, below_ms: usize) {
        std::thread::sleep(Duration::from_millis(self.random.below(below_ms) as u64));
    }

    /// Lets all come to rest, and checks.
    fn calm(&mut self) {
        let quiet = self.load().quiet();
        let (checked, took) = self.load().check(quiet, &self.nodes.iter().collect::<Vec<_>>());
        self.slowest = self.slowest.max(took);
        (self.reads, self.values) = (self.reads + checked.reads, self.values + checked.values);
    }

    fn count(&mut self, what: &str) {
        *self.deaths.entry(what.to_owned()).or_default() += 1;
    }

    /// Strikes a node in some way while the load goes on, and has it back in the end.
    fn strike(&mut self) {
        self.wait(60);
        // The leader every other time.
        let victim = if self.random.percent(50) { LEADER } else { self.random.between(1, 3) };
        let another = self.random.below(4);
        let another = (another != victim && self.random.percent(15)).then_some(another);
        if let Some(another) = another {
            self.nodes[another].end(Signal::KILL);
            self.count(&format!("{} with another", NAMES[another]));
        }
        match self.random.below(10) {
            0..3 => self.kill(victim),
            3 => self.freeze(victim),
            _ if victim == LEADER => {
                let place = *self.random.pick(&PLACES_OF_A_LEADER);
                self.die_at(LEADER, place);
            }
            _ if victim == REPLICA_WITH_FILES => {
                let all: Vec<_> = PLACES_OF_A_LEADER.iter().chain(&PLACES_OF_A_REPLICA).copied().collect();
                let place = *self.random.pick(&all);
                self.die_at(REPLICA_WITH_FILES, place);
            }
            _ => self.kill(victim),
        }
        if let Some(another) = another.map(|another| &mut self.nodes[another])
            && another.ended().is_some()
        {
            another.start_again();
        }
    }

    fn kill(&mut self, victim: usize) {
        let signal = if self.random.percent(25) { Signal::TERM } else { Signal::KILL };
        self.nodes[victim].end(signal);
        self.count(&format!("{} by SIG{}", NAMES[victim], if signal == Signal::TERM { "TERM" } else { "KILL" }));
        self.wait(60);
        self.nodes[victim].start_again();
    }

    fn start_leader_anew(&mut self) {
        self.nodes[LEADER].kill();
        self.nodes[LEADER].start_again();
    }

    fn freeze(&mut self, victim: usize) {
        self.nodes[victim].freeze();
        let below_ms = if self.random.percent(20) { 1_500 } else { 200 };
        self.wait(below_ms);
        self.nodes[victim].thaw();
        self.count(&format!("{} frozen", NAMES[victim]));
    }

    /// Has a node killed when it passes a place for some time; by other means, if it does not.
    fn die_at(&mut self, victim: usize, place: &str) {
        // What comes with every write is met at any of many passes, the rest at the first.
        let often = ["ack.", "append.", "follow.", "sync.", "write."].iter().any(|one| place.starts_with(one));
        let pass = if often { 1_u64 << self.random.below(7) } else { 1 };
        let died = self.try_to_die_at(victim, place, pass, UNARMED_AFTER);
        let what = if died { place.to_owned() } else { "an armed process that passed by".to_owned() };
        self.count(&what);
    }

    /// Starts a node with a place to die at, has happen what leads there, and starts it again; whether it died there.
    fn try_to_die_at(&mut self, victim: usize, place: &str, pass: u64, patience: Duration) -> bool {
        let full_sync = place.starts_with("adopt.") || place.starts_with("load.");
        self.nodes[victim].kill();
        if full_sync {
            empty(self.directories[1].path());
            // Its memory reaches back to its start, and its log not as far as that.
            self.start_leader_anew();
        }
        let mut died = !self.nodes[victim].start_to_die(&format!("{place}=kill:{pass}"));
        if !died && place.starts_with("epoch.") {
            self.start_leader_anew();
        }
        if !died {
            let begun = Instant::now();
            let node = &mut self.nodes[victim];
            let is_of_stop = place.starts_with("stop.");
            while node.ended().is_none() && !is_of_stop && begun.elapsed() < patience {
                std::thread::sleep(Duration::from_millis(2));
            }
            if node.ended().is_none() {
                node.signal(Signal::TERM);
            }
            let status = wait_for("it ends", || node.ended());
            died = !status.success();
        }
        self.wait(30);
        self.nodes[victim].start_again();
        died
    }

    fn end(mut self, rounds: u64) {
        self.calm();
        let load = self.load.take().expect("not taken before");
        println!("  {}", load.told());
        println!("  nothing lost, doubled, seen in part or too late in {} values of {} reads", self.values, self.reads);
        println!(
            "  {rounds} rounds, after each all equal, at most {} ms after the last answer",
            self.slowest.as_millis()
        );
        let deaths: Vec<_> = self.deaths.iter().map(|(what, times)| format!("{what} {times}")).collect();
        println!("  {}", deaths.join(", "));
    }
}

/// Takes a directory's files away, as if the disk were another one.
fn empty(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("a directory").map_while(Result::ok) {
        let _ = std::fs::remove_file(entry.path()); // there are only files
    }
}

/// `make crash RUNS=1000`.
#[test]
#[ignore = "takes minutes: make crash"]
fn crash() {
    let (rounds, seed) = (number_from("MEMDB_CRASH_RUNS").unwrap_or(200), super::seed());
    println!("{rounds} rounds of kills in a cluster, MEMDB_SEED={seed}, {:?}", NodeGuard::from_environment());
    let mut storm = Storm::new(seed, Duration::from_millis(2), NodeGuard::from_environment());
    let begun = Instant::now();
    for round in 1..=rounds {
        storm.strike();
        storm.calm();
        if round % 100 == 0 {
            println!("  round {round} after {} s", begun.elapsed().as_secs());
        }
    }
    storm.end(rounds);
}

#[test]
fn some_rounds_of_kills_lose_and_double_nothing() {
    some_rounds(NodeGuard::from_environment());
}

#[test]
fn some_rounds_of_kills_lose_and_double_nothing_with_tls_and_users() {
    some_rounds(NodeGuard::TlsAndUsers);
}

fn some_rounds(guard: NodeGuard) {
    let mut storm = Storm::new(5, Duration::from_millis(5), guard);
    for _ in 0..8 {
        storm.strike();
        storm.calm();
    }
    storm.end(8);
}

/// Every place is passed, and a process that dies there has lost nothing.
#[test]
fn a_leader_dies_at_every_place() {
    dies_at_every_place(LEADER, &PLACES_OF_A_LEADER);
}

#[test]
fn a_replica_dies_at_every_place() {
    dies_at_every_place(REPLICA_WITH_FILES, &PLACES_OF_A_REPLICA);
}

fn dies_at_every_place(victim: usize, places: &[&str]) {
    let mut storm = Storm::new(6, Duration::from_millis(3), NodeGuard::from_environment());
    for place in places {
        // Which passes come is a matter of chance: records within the walk of a snapshot, say.
        let died = (0..20).any(|_| storm.try_to_die_at(victim, place, 1, Duration::from_secs(2)));
        assert!(died, "{place} was never passed");
        storm.count(place);
        storm.calm();
    }
    storm.end(places.len() as u64);
}
