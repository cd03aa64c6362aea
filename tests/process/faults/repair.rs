//! Whatever a replica missed, it has soon after it can be reached.

use super::{fake::Line, posters::Posters};
use memdb::{
    base::limits::MAX_REPLICAS,
    replication::{HELLO_TYPE, NodeState},
};
use rustix::process::Signal;
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;
use testkit::{
    Random,
    client::{Counts, new_client, posted},
    number_from,
    process::{Node, REPAIR, Start, assert_same, equal_within},
    wait_for,
};

/// Before: what a replica did not get when it was sent, it never got.
#[test]
fn a_missed_update_is_repaired() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let line = Line::new();
    let (sound, frozen) = (Start::replica(&leader).run(), Start::replica(&leader).run());
    let behind_a_line = Start::replica(&leader).with(&["--advertise", &line.url]).run();
    line.lead_to(&behind_a_line);
    leader.until_connected(3);
    let all = [&sound, &frozen, &behind_a_line];
    for number in 0..150 {
        match number {
            50 => {
                frozen.freeze();
                line.cut();
            }
            100 => {
                assert!(behind_a_line.sequence() < leader.sequence(), "nothing was missed");
                frozen.thaw();
                line.mend();
            }
            _ => {}
        }
        posted(&leader.url, &format!("word{number} all"));
    }
    let (counts, took) = equal_within(REPAIR, &leader, &all);
    assert_eq!((counts.len(), counts["all"]), (151, 150));
    println!("50 of 150 posts missed by two replicas: all equal {took:?} after the last post");
    flaky(&leader, &line, &all);
}

/// The line breaks again and again, wherever it hurts.
fn flaky(leader: &Node, line: &Line, all: &[&Node]) {
    let mut expected = testkit::client::counts(&leader.url).1;
    let before = line.accepted();
    line.go_bad();
    let posters = Posters::start(&leader.url, 0, 2);
    wait_for("the line breaks often", || (line.accepted() >= before + 12).then_some(()));
    let rest = posters.answered();
    let mut theirs = Counts::new();
    posters.finish(&mut theirs);
    for (word, count) in theirs {
        *expected.entry(word).or_default() += count;
    }
    line.mend();
    let (counts, took) = equal_within(REPAIR, leader, all);
    assert_same(&counts, &expected, &leader.url);
    println!("{} breaks in {rest} posts: all equal {took:?} later", line.accepted() - before);
}

/// A replica that is started at a new address each time, as in containers, is always another one to its leader, who
/// serves only so many.
#[test]
fn a_replica_is_served_after_many_others_have_come_and_gone() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    for port in 1..=MAX_REPLICAS {
        let hello = NodeState {
            node: port as u128,
            url: format!("http://127.0.0.1:{port}"), // where nothing listens
            ..NodeState::default()
        };
        let announced = new_client().post(format!("{}/sync", leader.url)).header("content-type", HELLO_TYPE);
        assert_eq!(announced.body(hello.encode()).send().expect("it answers").status(), 202);
    }
    let replica = Start::replica(&leader).run();
    leader.until_connected(1);
    assert_eq!(posted(&leader.url, "hello").acks, Some(1));
    equal_within(REPAIR, &leader, &[&replica]);
}

/// Before: 20 of 30 starts under load lost or doubled updates.
#[test]
fn a_replica_that_starts_while_posts_arrive_loses_and_doubles_nothing() {
    let told = starts(20, 1);
    assert_eq!(told.len(), 20);
}

/// `make replica-starts RUNS=300`.
#[test]
#[ignore = "takes minutes: make replica-starts"]
fn replica_starts() {
    let (runs, seed) = (number_from("MEMDB_STARTS").unwrap_or(300), super::seed());
    let told = starts(runs, seed);
    let mut sorted: Vec<_> = told.iter().map(|start| start.equal_ms).collect();
    sorted.sort_unstable();
    let with_files = told.iter().filter(|start| start.kind != Kind::Memory).count();
    let snapshots = told.iter().filter(|start| start.snapshot).count();
    println!(
        "{} starts while posts arrived, {with_files} of them with files, {snapshots} from a snapshot:",
        told.len()
    );
    println!("  none lost, none doubled; {} posts", told.iter().map(|start| start.posts).sum::<u64>());
    println!("  equal after the last post, ms: median {}, most {}", sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Without files.
    Memory,
    /// With an empty directory.
    Empty,
    /// With the directory of the last such run.
    Kept,
}

/// How one start went.
struct Started {
    kind: Kind,
    posts: u64,
    equal_ms: u128,
    snapshot: bool,
}

/// Starts of a replica in the life of one database: what every word is compared with must not grow without end.
const STARTS: u64 = 30;

fn starts(runs: u64, seed: u64) -> Vec<Started> {
    println!("{runs} starts of a replica, MEMDB_SEED={seed}");
    let mut random = Random::new(seed);
    (0..runs.div_ceil(STARTS))
        .flat_map(|database| some_starts(STARTS.min(runs - database * STARTS), &mut random))
        .collect()
}

/// Starts a replica again and again while clients post; after each start all must be equal, and as posted.
fn some_starts(runs: u64, random: &mut Random) -> Vec<Started> {
    let data = TempDir::new().expect("a directory");
    let mut leader = Start::leader(data.path()).run();
    let mut expected = Counts::new();
    let mut kept: Option<TempDir> = None;
    let mut told = Vec::new();
    for run in 0..runs {
        let kind = [Kind::Memory, Kind::Empty, Kind::Kept][(run % 3) as usize];
        // After some lives of the leader its log no longer begins with the first record, and a replica needs a
        // snapshot.
        if run % 5 == 4 {
            leader.end(Signal::TERM);
            leader.start_again();
        }
        let posters = Posters::start(&leader.url, run, 4);
        posters.until_more(1 + random.below(100) as u64);
        let mut start = Start::replica(&leader);
        if kind == Kind::Empty || kept.is_none() {
            kept = Some(TempDir::new().expect("a directory"));
        }
        let files: PathBuf = kept.as_ref().expect("made").path().to_owned();
        if kind != Kind::Memory {
            start = start.data(&files);
        }
        let mut replica = start.run();
        let more = 1 + random.below(100) as u64;
        if random.percent(50) {
            replica.until_ready();
        }
        posters.until_more(more);
        let posts = posters.answered();
        posters.finish(&mut expected);
        let (counts, took) = equal_within(REPAIR, &leader, &[&replica]);
        assert_same(&counts, &expected, &format!("run {run}, {kind:?}"));
        replica.until_ready();
        let snapshot = replica.said().contains("loaded the leader's snapshot");
        told.push(Started { kind, posts, equal_ms: took.as_millis(), snapshot });
        replica.end(if random.percent(50) { Signal::KILL } else { Signal::TERM });
        std::thread::sleep(Duration::from_millis(random.below(30) as u64)); // a random moment is what is wanted
    }
    told
}
