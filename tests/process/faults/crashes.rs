//! Processes that are killed or told to stop, at any moment.

use super::posters::Posters;
use rustix::process::Signal;
use std::{path::Path, time::Duration};
use tempfile::TempDir;
use testkit::{
    Random,
    client::{Counts, posted},
    guard::NodeGuard,
    number_from,
    process::{Node, REPAIR, Start, assert_same, equal_within},
    wait_for,
};

/// Before: up to a second of acknowledged posts was gone, while replicas still had them.
#[test]
fn kill_9_of_the_leader_loses_nothing_acknowledged() {
    let mut storm = Storm::new(11);
    for _ in 0..4 {
        storm.strike(0, Signal::KILL);
    }
    storm.calm();
    assert!(storm.expected["all"] > 4);
}

/// Before: the same loss at every stop.
#[test]
fn sigterm_loses_nothing() {
    let mut storm = Storm::new(12);
    for victim in [0, 1, 2, 3, 0] {
        storm.strike(victim, Signal::TERM);
    }
    storm.calm();
    assert!(storm.expected["all"] > 4);
}

/// `make crash-cluster RUNS=200`.
#[test]
#[ignore = "takes minutes: make crash-cluster"]
fn crash_cluster() {
    let (runs, seed) = (number_from("MEMDB_CRASH_RUNS").unwrap_or(200), super::seed());
    println!("{runs} crashes in a cluster, MEMDB_SEED={seed}, {:?}", NodeGuard::from_environment());
    let mut storm = Storm::new(seed);
    let (mut struck, mut slowest) = ([0; 4], Duration::ZERO);
    for run in 1..=runs {
        // The leader every other time.
        let victim = if storm.random.percent(50) { 0 } else { storm.random.between(1, 3) };
        struck[victim] += 1;
        let another = storm.random.below(4);
        if storm.random.percent(20) && another != victim {
            struck[another] += 1;
            storm.nodes[another].end(Signal::KILL);
            storm.strike(victim, Signal::KILL);
            storm.nodes[another].start_again();
        } else {
            storm.strike(victim, Signal::KILL);
        }
        if run % 10 == 0 {
            slowest = slowest.max(storm.calm());
        }
    }
    slowest = slowest.max(storm.calm());
    let names = ["leader", "replica", "replica with files", "local replica"];
    for (name, times) in names.iter().zip(struck) {
        println!("  {name}: killed {times} times");
    }
    println!("  {} posts acknowledged: none lost, none doubled, none in part", storm.expected.get("all").unwrap_or(&0));
    println!("  all equal after at most {} ms", slowest.as_millis());
}

/// A whole cluster under load, whose nodes are struck one after the other.
struct Storm {
    random: Random,
    /// The leader, a replica in memory, one with files, a local replica.
    nodes: Vec<Node>,
    posters: Option<Posters>,
    runs: u64,
    expected: Counts,
    _directories: [TempDir; 2],
}

impl Storm {
    fn new(seed: u64) -> Self {
        let directories = [(); 2].map(|()| TempDir::new().expect("a directory"));
        let leader = Start::leader(directories[0].path()).run();
        let followers = [
            Start::replica(&leader),
            Start::replica(&leader).data(directories[1].path()),
            Start::local_replica(directories[0].path()),
        ];
        let mut nodes: Vec<_> = followers.iter().map(Start::run).collect();
        nodes.insert(0, leader);
        nodes[0].until_connected(2);
        let (random, expected) = (Random::new(seed), Counts::new());
        Self { random, nodes, posters: None, runs: 0, expected, _directories: directories }
    }

    /// Ends a node at some moment under load, and starts it again.
    fn strike(&mut self, victim: usize, signal: Signal) {
        self.runs += 1;
        self.posters.get_or_insert_with(|| Posters::start(&self.nodes[0].url, self.runs, 4));
        std::thread::sleep(Duration::from_millis(self.random.below(150) as u64)); // a random moment is what is wanted
        self.nodes[victim].end(signal);
        std::thread::sleep(Duration::from_millis(self.random.below(100) as u64)); // as long as it pleases
        if self.random.percent(20) {
            let after = Duration::from_millis(self.random.below(40) as u64);
            self.nodes[victim].start_and_kill(after);
        }
        self.nodes[victim].start_again();
    }

    /// Lets the clients finish; then everything posted is there, once, on all nodes. Gives how long it took.
    fn calm(&mut self) -> Duration {
        if let Some(posters) = self.posters.take() {
            posters.finish(&mut self.expected);
        }
        let (leader, followers) = self.nodes.split_first().expect("there are nodes");
        let (counts, took) = equal_within(REPAIR, leader, &followers.iter().collect::<Vec<_>>());
        assert_same(&counts, &self.expected, &format!("after {} strikes", self.runs));
        took
    }
}

fn files(data: &Path, is_one: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = std::fs::read_dir(data).expect("a directory").map_while(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| is_one(name)).collect()
}

/// The snapshot that is being written, if one is.
pub fn unfinished(data: &Path) -> Option<String> {
    files(data, |name| name.starts_with("snapshot") && name.ends_with(".new")).pop()
}

/// Before: an empty file in the backup's place, which the next start took for an empty database and overwrote.
#[test]
fn a_crash_while_the_backup_is_written_leaves_the_old_one() {
    let data = TempDir::new().expect("a directory");
    let mut leader = Start::leader(data.path()).run();
    let text: String = (0..20_000).map(|number| format!("word{number} ")).collect();
    posted(&leader.url, &text);
    let mut posts = 1;
    wait_for("a snapshot is published", || {
        files(data.path(), |name| name.starts_with("snapshot-") && !name.ends_with(".new")).pop()
    });
    let mut left_over = 0;
    while left_over < 3 {
        posted(&leader.url, "again");
        posts += 1;
        assert!(posts < 60, "no kill came while a snapshot was written");
        wait_for("a snapshot is begun", || {
            // It may be over before it was seen: another post, another snapshot.
            unfinished(data.path()).or_else(|| {
                posted(&leader.url, "again");
                posts += 1;
                None
            })
        });
        leader.end(Signal::KILL);
        let published = files(data.path(), |name| name.starts_with("snapshot-") && !name.ends_with(".new"));
        assert!(!published.is_empty(), "the old one is gone");
        left_over += usize::from(unfinished(data.path()).is_some());
        leader.start_again();
        let counts = testkit::client::read(&leader.url, &["again", "word0", "word19999"]);
        let expected = [("again", posts - 1), ("word0", 1), ("word19999", 1)];
        assert_eq!(counts, expected.map(|(word, count)| (word.to_owned(), count)).into());
    }
}
