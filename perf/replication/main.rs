//! The load of the replication part of `perf/bench`: the same client for memdb over HTTP and for Redis over RESP.
//!
//! `bench-replication load` drives posts as fast as they are answered; `bench-replication visible` posts at a steady
//! pace and times each post until a reader sees it. Both print one line of JSON. `perf/bench replication` starts the
//! servers, calls this, and writes the tables; `--help` says what can be asked for.
//!
//! Both sides are driven alike: requests are bytes made beforehand, a connection sends the next one when the last is
//! answered, and of an answer no more is understood than is needed to know that it is whole, good, and acknowledged.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for a person to run"
)]

mod http;
mod load;
mod options;
mod resp;
mod speech;
mod visible;

use options::{Kind, Options};
use std::{process::ExitCode, time::Duration};

/// The greatest of the shortest `share` of the times, in microseconds.
fn quantile_us(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e6)
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
    let measured = match options.kind {
        Kind::Load => load::measure(options).map(|figures| figures.to_json()),
        Kind::Visible => visible::measure(options).map(|figures| figures.to_json()),
    };
    match measured {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench-replication: {error}");
            ExitCode::FAILURE
        }
    }
}
