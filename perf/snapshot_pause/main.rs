//! How much a snapshot slows a post: a million distinct words, then posts of ten words at a steady rate, with frequent
//! snapshots and without any.
//!
//! `cargo run --release --example bench-snapshot-pause [-- --help]`, with `target/release/memdb` built. The rate is
//! kept whatever the server does, and a post's time counts from when it was due: a server that stalls cannot hide the
//! posts that should have come meanwhile. Prints a table in Markdown; `perf/bench` puts it into `perf/RESULTS.md`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for a person to run"
)]

mod client;
mod options;
mod server;
use client::{Client, post};
use options::Options;
use server::Server;
use std::{
    io::{Error, Result},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use testkit::{Random, words::write_word};

/// Bytes of a text while the words are loaded: under the default bound of 1 MiB.
const LOAD_BYTES: usize = 1_000_000;
/// Texts a connection goes round.
const TEXTS_PER_STREAM: usize = 1_000;
/// Time to connect and make the texts before the first post is due.
const LEAD: Duration = Duration::from_secs(1);
/// Fewer snapshots in a phase with snapshots, and it says nothing about them.
const FEWEST_SNAPSHOTS: usize = 3;
/// The bound this measurement is for, in milliseconds.
const BOUND_MS: f64 = 5.0;

/// One post: when it was due, and how long until its answer.
struct Timed {
    due: Instant,
    took: Duration,
}

/// What one phase gave.
struct Phase {
    posts: Vec<Timed>,
    snapshots: Vec<(Instant, Instant)>,
    bytes_per_word: f64,
}

impl Phase {
    /// The times in milliseconds of the posts that met a snapshot, or of those that met none.
    fn times(&self, during: bool) -> Vec<f64> {
        let met = |post: &Timed| {
            self.snapshots.iter().any(|&(begun, ended)| post.due < ended && post.due + post.took > begun)
        };
        self.posts.iter().filter(|post| met(post) == during).map(|post| post.took.as_secs_f64() * 1e3).collect()
    }
}

fn load(server: &Server, words: u64) -> Result<()> {
    let mut client = Client::connect(server.address)?;
    let (mut text, mut word) = (String::with_capacity(LOAD_BYTES), String::new());
    for number in 0..words {
        write_word(number, &mut word);
        text.push_str(&word);
        text.push(' ');
        if text.len() + 32 > LOAD_BYTES || number + 1 == words {
            accepted(client.exchange(&post(&text))?)?;
            text.clear();
        }
    }
    Ok(())
}

fn accepted(status: u16) -> Result<()> {
    if status == 202 { Ok(()) } else { Err(Error::other(format!("a post was answered {status}"))) }
}

/// Posts at a steady pace on one connection.
struct PostStream {
    /// Words of a text, by Zipf's law over the loaded ones.
    words: usize,
    /// When the first is due.
    first: Instant,
    /// Seconds from one to the next.
    every: f64,
    /// Seed of its texts.
    seed: u64,
}

impl PostStream {
    fn texts(&self, distinct_words: u64) -> Vec<Vec<u8>> {
        let mut numbers = Random::new(self.seed);
        let mut word = String::new();
        let text = |_| {
            let mut text = String::new();
            for _ in 0..self.words {
                write_word(numbers.zipf(distinct_words), &mut word);
                text.push_str(&word);
                text.push(' ');
            }
            post(&text)
        };
        (0..TEXTS_PER_STREAM).map(text).collect()
    }

    fn run(&self, server: &Server, options: &Options) -> Result<Vec<Timed>> {
        let mut client = Client::connect(server.address)?;
        let texts = self.texts(options.words);
        let posts = (options.seconds / self.every) as u32;
        let mut timed = Vec::with_capacity(posts as usize);
        for (number, text) in (0..posts).zip(texts.iter().cycle()) {
            let due = self.first + Duration::from_secs_f64(f64::from(number) * self.every);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            accepted(client.exchange(text)?)?;
            timed.push(Timed { due, took: due.elapsed() });
        }
        Ok(timed)
    }
}

fn phase(options: &Options, arguments: &[String]) -> Result<Phase> {
    let server = Server::start(&options.memdb, arguments)?;
    let empty = server.resident_bytes()?;
    load(&server, options.words)?;
    let bytes_per_word = (server.resident_bytes()? - empty) / options.words as f64;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| server.watch_snapshots(&stop));
        let start = Instant::now() + LEAD;
        let stream = |number: u32| {
            let every = f64::from(options.connections) / options.rate;
            let first = start + Duration::from_secs_f64(f64::from(number) / options.rate);
            PostStream { words: 10, first, every, seed: u64::from(number) }
        };
        let streams: Vec<_> = (0..options.connections).map(stream).collect();
        let ballast = PostStream { words: 1_000, first: start, every: 1.0 / options.ballast, seed: u64::MAX };
        let server = &server;
        let running: Vec<_> =
            streams.into_iter().map(|stream| scope.spawn(move || stream.run(server, options))).collect();
        let beside = scope.spawn(move || ballast.run(server, options));
        let posts: Result<Vec<Vec<Timed>>> =
            running.into_iter().map(|stream| stream.join().expect("a connection does not panic")).collect();
        let beside = beside.join().expect("a connection does not panic");
        stop.store(true, Ordering::Relaxed);
        let snapshots = watcher.join().expect("the watcher does not panic");
        beside?;
        Ok(Phase { posts: posts?.into_iter().flatten().collect(), snapshots, bytes_per_word })
    })
}

/// The times of one kind of posts over all rounds.
struct Distribution {
    sorted: Vec<f64>,
    worst_of_rounds: Vec<f64>,
}

const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];

impl Distribution {
    fn of(rounds: impl Iterator<Item = Vec<f64>>) -> Self {
        let (mut sorted, mut worst_of_rounds) = (Vec::new(), Vec::new());
        for times in rounds {
            worst_of_rounds.extend(times.iter().copied().reduce(f64::max));
            sorted.extend(times);
        }
        sorted.sort_by(f64::total_cmp);
        Self { sorted, worst_of_rounds }
    }

    /// The time that a share of the posts did not pass.
    fn quantile(&self, share: f64) -> f64 {
        let rank = (self.sorted.len() as f64 * share).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    fn row(&self, title: &str) -> String {
        let cells: Vec<_> = QUANTILES.iter().map(|&(_, share)| format!("{:.2}", self.quantile(share))).collect();
        let worst: Vec<_> = self.worst_of_rounds.iter().map(|worst| format!("{worst:.1}")).collect();
        format!("| {title} | {} | {} | {} |", self.sorted.len(), cells.join(" | "), worst.join(", "))
    }
}

fn report(options: &Options, without: &[Phase], with: &[Phase]) -> Result<()> {
    let quiet = Distribution::of(without.iter().map(|phase| phase.times(false)));
    let during = Distribution::of(with.iter().map(|phase| phase.times(true)));
    let between = Distribution::of(with.iter().map(|phase| phase.times(false)));
    let names: Vec<_> = QUANTILES.iter().map(|(name, _)| *name).collect();
    println!(
        "{} distinct words; {} posts of ten words a second over {} connections, timed from when each was due, beside {} \
         posts of 1,000 words a second that make the log grow; {} rounds of {} s with snapshots (`{}`) and without (`{}`), in turn. Milliseconds:\n",
        options.words,
        options.rate,
        options.connections,
        options.ballast,
        options.rounds,
        options.seconds,
        options.with.join(" "),
        options.without.join(" "),
    );
    println!("| post | posts | {} | max of each round |\n|---|---|---|---|---|---|---|---|", names.join(" | "));
    println!("{}", quiet.row("without snapshots"));
    println!("{}", during.row("while a snapshot is written"));
    println!("{}", between.row("between snapshots"));
    let differences = QUANTILES.map(|(_, share)| during.quantile(share) - quiet.quantile(share));
    let cells: Vec<_> = differences.iter().map(|difference| format!("{difference:+.2}")).collect();
    println!("| **during less without** | | {} | |", cells.join(" | "));
    let lengths = with.iter().flat_map(|phase| &phase.snapshots).map(|(begun, ended)| (*ended - *begun).as_secs_f64());
    let mut lengths: Vec<f64> = lengths.collect();
    lengths.sort_by(f64::total_cmp);
    let counts: Vec<_> = with.iter().map(|phase| phase.snapshots.len()).collect();
    let bytes = without.iter().chain(with).map(|phase| phase.bytes_per_word);
    println!(
        "\nSnapshots seen in each round: {counts:?}, one takes {:.0} ms at the median. Resident memory of the leader \
         after loading: {:.1} bytes a distinct word at the most (10.8 of them text), beyond an empty leader.",
        lengths.get(lengths.len() / 2).copied().unwrap_or(f64::NAN) * 1e3,
        bytes.fold(0.0, f64::max),
    );
    let verdict = if differences.iter().all(|&difference| difference <= BOUND_MS) { "holds" } else { "does NOT hold" };
    println!("At every quantile, {BOUND_MS} ms beyond a post without: {verdict}.");
    if counts.iter().any(|&seen| seen < FEWEST_SNAPSHOTS) {
        return Err(Error::other(format!(
            "fewer than {FEWEST_SNAPSHOTS} snapshots in a round: make them more frequent"
        )));
    }
    Ok(())
}

fn measure(options: &Options) -> Result<()> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        without.push(phase(options, &options.without)?);
        with.push(phase(options, &options.with)?);
    }
    report(options, &without, &with)
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-snapshot-pause: {error}");
            ExitCode::FAILURE
        }
    }
}
