//! The load of `perf/bench`: one client for every server that is compared, over HTTP and over Redis' protocol.
//!
//! `closed` sends as fast as answers come, `open` at a steady rate, `visible` posts at a steady rate and times each
//! post until a reader sees it, `created` each document until several do; `fill` puts every word, or every key, into a
//! server, `file` writes a text. Each prints one line of
//! JSON. `perf/bench` starts the servers, calls this, and writes the tables; `--help` says what can be asked for.
//!
//! All servers are driven alike: requests are bytes made beforehand, and of an answer no more is understood than is
//! needed to know that it is whole, good, and acknowledged.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for a person to run"
)]

mod closed;
mod created;
mod fill;
mod http;
mod open;
mod options;
mod resp;
mod speech;
mod visible;
mod work;

use options::{Kind, Options};
use std::{io::Result, process::ExitCode, time::Duration};
use work::Work;

/// What a measurement of requests gave.
#[derive(Default)]
pub struct Figures {
    /// How long requests were sent.
    pub seconds: f64,
    /// Until the last answer was there.
    pub drained: f64,
    /// From request, or batch of them, to answer, of those answered in time; from when it was due, if paced.
    pub times: Vec<Duration>,
    /// Requests answered in time.
    pub in_time: u64,
    /// All requests answered, also the few after the end.
    pub answered: u64,
    /// Of them, those that a replica has acknowledged.
    pub acknowledged: u64,
    /// Processor time of this process, in seconds, when the first was sent: making them is no part of the measurement.
    pub cpu_before: f64,
}

impl Figures {
    /// Figures of requests that are sent from now on.
    fn begin(options: &Options) -> Self {
        Self { seconds: options.length.as_secs_f64(), cpu_before: cpu_seconds(), ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.drained = self.drained.max(other.drained);
        self.times.extend(other.times);
        self.in_time += other.in_time;
        self.answered += other.answered;
        self.acknowledged += other.acknowledged;
    }

    /// One line for `perf/bench`.
    fn into_json(mut self, options: &Options) -> String {
        self.times.sort_unstable();
        let quantiles = [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999), ("max_us", 1.0)];
        let quantiles: Vec<_> = quantiles
            .iter()
            .map(|(name, share)| format!(r#""{name}": {:.1}"#, quantile_us(&self.times, *share)))
            .collect();
        format!(
            r#"{{"in_time": {}, "seconds": {:.6}, "drained": {:.6}, "answered": {}, "acknowledged": {}, "words_each": {}, "client_cpu": {:.2}, {}}}"#,
            self.in_time,
            self.seconds,
            self.drained,
            self.answered,
            self.acknowledged,
            options.work.words(),
            cpu_seconds() - self.cpu_before,
            quantiles.join(", "),
        )
    }
}

/// Processor time of this process so far, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// The greatest of the shortest `share` of the times, in microseconds.
fn quantile_us(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

fn measure(options: &'static Options) -> Result<String> {
    Ok(match options.kind {
        Kind::Closed => closed::measure(options)?.into_json(options),
        Kind::Open => open::measure(options)?.into_json(options),
        Kind::Visible => visible::measure(options)?.to_json(),
        Kind::Created => created::measure(options)?,
        Kind::Fill => {
            let seconds = match options.work {
                Work::Put(bytes) => fill::fill_entries(options, bytes)?,
                _ => fill::fill(options)?,
            };
            format!(r#"{{"seconds": {seconds:.3}}}"#)
        }
        Kind::File => format!(r#"{{"words": {}}}"#, fill::write_file(options, &options.file.0, options.file.1)?),
    })
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        // It is needed until the end.
        Ok(options) => &*Box::leak(Box::new(options)),
        Err(message) => {
            eprintln!("{message}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match measure(options) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench-load: {error}");
            ExitCode::FAILURE
        }
    }
}
