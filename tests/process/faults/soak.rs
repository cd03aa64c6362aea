//! `make soak TIME=3600`: a cluster under moderate load for an hour, whose nodes are killed, stopped and frozen, whose
//! lines are slow and break, and whose leader moves. What every process uses must be flat at the end.
//!
//! Restarts hide what a process gathers. So the leader is left alone in the second and the last quarter, one replica
//! and the local one but for moves of the leader always; those two quarters are compared.

use super::{
    fake::Line,
    load::{Load, Rate, status_of},
};
use memdb::base::position::{Position, PositionToken};
use rustix::process::Signal;
use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{
    PATIENCE, Random,
    client::{Counts, new_client},
    number_from,
    process::{Node, Start},
    wait_for,
};

/// Seats with files; the first two take turns to lead, the third is left alone.
const WITH_FILES: usize = 3;
/// In memory, behind a line that is slow and breaks.
const IN_MEMORY: usize = 3;
const LOCAL: usize = 4;
/// What each is, or has come to be.
const NAMES: [&str; 5] = ["leader", "led before", "replica with files", "replica in memory", "local replica"];
/// The load is checked, and its history begun anew, so often.
const WINDOW: Duration = Duration::from_secs(20);
const SAMPLE: Duration = Duration::from_secs(2);
const METRICS: [&str; 4] = ["resident KiB", "descriptors", "threads", "disk KiB"];
/// What a median may be higher in the last quarter, beyond a fifth.
const SLACK: [u64; 4] = [16 << 10, 8, 2, 16 << 10];

struct Soak {
    random: Random,
    nodes: Vec<Node>,
    leader: usize,
    directories: Vec<TempDir>,
    line: Line,
    begun: Instant,
    time: Duration,
    /// When it was, of which of [`NAMES`], by metric.
    samples: Vec<(Duration, usize, [u64; 4])>,
    lag: u64,
    events: std::collections::BTreeMap<&'static str, u64>,
}

/// Settings with which all that ages does so within a short run too.
fn calm(start: Start) -> Start {
    start.with(&["--key-window-seconds", "20", "--stream-window-seconds", "600"]).segments(2 << 20)
}

impl Soak {
    fn new(time: Duration, seed: u64) -> Self {
        let directories: Vec<_> = (0..WITH_FILES).map(|_| TempDir::new().expect("a directory")).collect();
        let (line, leader) = (Line::new(), calm(Start::plain_leader(directories[0].path())).run());
        let mut soak = Self {
            random: Random::new(seed),
            nodes: vec![leader],
            leader: 0,
            directories,
            line,
            begun: Instant::now(),
            time,
            samples: Vec::new(),
            lag: 0,
            events: std::collections::BTreeMap::new(),
        };
        for seat in 1..NAMES.len() {
            let node = soak.start_of(seat).run();
            soak.nodes.push(node);
        }
        soak.line.lead_to(&soak.nodes[IN_MEMORY]);
        soak.nodes[0].until_connected(3);
        soak
    }

    /// How a seat is started, as long as this leader leads.
    fn start_of(&self, seat: usize) -> Start {
        let (leader, data) = (&self.nodes[self.leader], |seat: usize| self.directories[seat].path());
        match seat {
            LOCAL => Start::local_replica(data(self.leader)),
            IN_MEMORY => calm(Start::replica(leader).with(&["--advertise", &self.line.url])),
            _ if seat == self.leader => calm(Start::plain_leader(data(seat))),
            _ => calm(Start::replica(leader).data(data(seat))),
        }
    }

    fn nodes(&self) -> Vec<&Node> {
        let others = self.nodes.iter().enumerate().filter(|(seat, _)| *seat != self.leader).map(|(_, node)| node);
        std::iter::once(&self.nodes[self.leader]).chain(others).collect()
    }

    fn count(&mut self, what: &'static str) {
        *self.events.entry(what).or_default() += 1;
    }

    /// The quarter of the run that it is, from 0.
    fn quarter(&self, at: Duration) -> usize {
        ((at.as_millis() * 4 / self.time.as_millis()) as usize).min(3)
    }

    /// Does something to some node, under load.
    fn churn(&mut self) {
        let leader_too = self.quarter(self.begun.elapsed()).is_multiple_of(2);
        let victim = match self.random.below(4) {
            0 if leader_too => self.leader,
            0 | 1 => 1 - self.leader,
            _ => IN_MEMORY,
        };
        match self.random.below(6) {
            0 => self.bounce(victim, Signal::KILL),
            1 => self.bounce(victim, Signal::TERM),
            2 => {
                // Frozen is not restarted: any node will do.
                let any = self.random.below(NAMES.len());
                self.nodes[any].freeze();
                std::thread::sleep(Duration::from_millis(self.random.between(100, 1_500) as u64)); // it holds still
                self.nodes[any].thaw();
                self.count("frozen");
            }
            3 => self.on_a_line("slow line", Line::slow_down),
            4 => self.on_a_line("cut line", Line::cut),
            _ => self.on_a_line("bad line", Line::go_bad),
        }
    }

    fn bounce(&mut self, seat: usize, signal: Signal) {
        self.nodes[seat].end(signal);
        std::thread::sleep(Duration::from_millis(self.random.below(500) as u64)); // it is away for a moment
        self.nodes[seat].start_again();
        self.count(match (seat == self.leader, signal == Signal::KILL) {
            (true, true) => "leader killed",
            (true, false) => "leader stopped",
            (false, true) => "replica killed",
            (false, false) => "replica stopped",
        });
    }

    fn on_a_line(&mut self, what: &'static str, spoil: fn(&Line)) {
        spoil(&self.line);
        std::thread::sleep(Duration::from_millis(self.random.between(500, 3_000) as u64)); // it is so for a while
        self.line.mend();
        self.count(what);
    }

    /// All is quiet and equal: the other of the first two leads from here on, and nothing is lost by it.
    fn move_leader(&mut self, load: &Load) {
        let (old, new) = (self.leader, 1 - self.leader);
        let ended = status_of(&self.nodes[old])["position"].as_str().expect("it leads").parse::<PositionToken>();
        let ended = ended.expect("a position").position;
        self.leader = new;
        if self.random.percent(50) {
            self.promote(new);
            for seat in [new, old, 2, IN_MEMORY] {
                let start = self.start_of(seat);
                self.nodes[seat].becomes(start);
            }
            self.count("leader promoted");
        } else {
            // All of them: on the files of a follower nobody leads while another node of the database is there.
            for seat in [old, new, 2, IN_MEMORY] {
                self.nodes[seat].end(Signal::TERM);
            }
            for seat in [new, old, 2, IN_MEMORY] {
                let start = self.start_of(seat);
                self.nodes[seat].start_as(start);
            }
            self.count("leader moved by hand");
        }
        let start = self.start_of(LOCAL);
        self.nodes[LOCAL].start_as(start);
        load.led_by(new, ended, &[]);
        self.nodes[new].until_connected(3);
    }

    /// All go on as they are, and whoever led follows.
    fn promote(&self, seat: usize) {
        let node = &self.nodes[seat];
        let answer = new_client().post(format!("{}/promote", node.url)).send().expect("it answers");
        assert!(answer.status().is_success(), "{}", answer.text().unwrap_or_default());
        wait_for("it leads", || (status_of(node)["role"] == "leader").then_some(()));
    }

    fn sample(&mut self) {
        let at = self.begun.elapsed();
        for (seat, node) in self.nodes.iter().enumerate() {
            let disk = self.directories.get(seat).map_or(0, |data| kib_in(data.path()));
            let sample = [node.resident_kib(), node.descriptors() as u64, node.threads() as u64, disk];
            let role = if seat < 2 { usize::from(seat != self.leader) } else { seat };
            self.samples.push((at, role, sample));
        }
        let status = status_of(&self.nodes[self.leader]);
        let lags = status["replicas"].as_array().into_iter().flatten().filter_map(|one| one["lag_records"].as_u64());
        self.lag = lags.max().unwrap_or(0);
    }

    /// Where all that was sampled can be looked at.
    fn write_samples(&self) {
        let mut text = format!("seconds,node,{}\n", METRICS.join(","));
        for (at, seat, sample) in &self.samples {
            let values: Vec<_> = sample.iter().map(u64::to_string).collect();
            writeln!(text, "{},{},{}", at.as_secs(), NAMES[*seat], values.join(",")).expect("a string");
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("soak-{}s.csv", self.time.as_secs()));
        std::fs::write(&path, text).expect("written");
        println!("  samples in {}", path.display());
    }

    /// A table of medians; what is not flat.
    fn evaluate(&self) -> Vec<String> {
        let mut rising = Vec::new();
        println!("  {:20} {:14} {:>12} {:>12} {:>12}", "", "", "2nd quarter", "last quarter", "most");
        for (seat, name) in NAMES.iter().enumerate() {
            for (metric, what) in METRICS.iter().enumerate() {
                let own = || self.samples.iter().filter(|sample| sample.1 == seat && sample.2[metric] > 0);
                let median = |quarter| {
                    let of_quarter = own().filter(|sample| self.quarter(sample.0) == quarter);
                    let mut values: Vec<_> = of_quarter.map(|sample| sample.2[metric]).collect();
                    values.sort_unstable();
                    values.get(values.len() / 2).copied().unwrap_or(0)
                };
                let (second, last) = (median(1), median(3));
                let most = own().map(|sample| sample.2[metric]).max().unwrap_or(0);
                println!("  {name:20} {what:14} {second:12} {last:12} {most:12}");
                if last > second + second / 5 + SLACK[metric] {
                    rising.push(format!("{name}: {what} rose from {second} to {last}"));
                }
            }
        }
        rising
    }
}

fn kib_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().map_while(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum::<u64>() / 1024
}

fn soak(time: Duration, seed: u64) -> Vec<String> {
    println!("a soak of {} s, MEMDB_SEED={seed}", time.as_secs());
    let mut soak = Soak::new(time, seed);
    let rate = Rate {
        writers: 16,
        readers: 4,
        entry_clients: 0,
        pause: Duration::from_millis(25),
        all_kinds: true,
        counters: false,
    };
    let load = Load::start(&soak.nodes.iter().collect::<Vec<_>>(), (Position::ZERO, &Counts::new()), rate, seed);
    let (mut windows, mut sampled, mut slowest) = (0, Duration::ZERO, Duration::ZERO);
    let window = WINDOW.min(time / 8);
    while soak.begun.elapsed() < time {
        let until = soak.begun.elapsed() + window;
        while soak.begun.elapsed() < until {
            if soak.begun.elapsed() >= sampled + SAMPLE.min(window / 4) {
                sampled = soak.begun.elapsed();
                soak.sample();
            }
            if soak.random.percent(10) {
                soak.churn();
            }
            std::thread::sleep(Duration::from_millis(200)); // the pace of what happens
        }
        let quiet = load.quiet();
        let (_, took) = load.check(quiet, &soak.nodes());
        (windows, slowest) = (windows + 1, slowest.max(took));
        if windows % 4 == 1 && soak.quarter(soak.begun.elapsed()).is_multiple_of(2) {
            let quiet = load.quiet();
            load.check(quiet, &soak.nodes());
            let quiet = load.quiet();
            testkit::process::equal_within(PATIENCE, soak.nodes()[0], &soak.nodes()[1..]);
            soak.move_leader(&load);
            drop(quiet);
        }
    }
    let quiet = load.quiet();
    let (checked, took) = load.check(quiet, &soak.nodes());
    println!("  {}", load.told());
    drop(load);
    wait_for("no replica lags", || {
        soak.sample();
        (soak.lag == 0).then_some(())
    });
    println!(
        "  {windows} windows checked, at their ends all equal within {} ms, at the last {} ms",
        slowest.as_millis(),
        took.as_millis()
    );
    println!("  {:?}; the last window: {checked:?}; lag at the end: {} records", soak.events, soak.lag);
    soak.write_samples();
    soak.evaluate()
}

/// `make soak TIME=3600`.
#[test]
#[ignore = "takes as long as one likes: make soak"]
fn soak_under_churn() {
    let rising = soak(Duration::from_secs(number_from("MEMDB_SOAK_SECONDS").unwrap_or(3_600)), super::seed());
    assert!(rising.is_empty(), "{rising:#?}");
}

/// So short that nothing can be said of what is flat.
#[test]
fn a_short_soak_loses_and_doubles_nothing() {
    soak(Duration::from_secs(8), 2);
}
