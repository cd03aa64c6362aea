//! Requests by route and status, and the time they took: written by every serving thread into a place of its own.
//!
//! A counter that two threads move costs each of them the other's cache line, and the exporter's histogram keeps every
//! sample and reads the clock for it: at a million requests a second that is a tenth of a request, and 24 MB a second.

use super::{CLASSES, RouteLabel, SECONDS};
use crossbeam_utils::CachePadded;
use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use thread_local::ThreadLocal;

/// How requests were answered. Each thread adds to its own numbers; a scrape adds those up.
#[derive(Default)]
pub(super) struct Requests {
    threads: ThreadLocal<CachePadded<Numbers>>,
}

#[derive(Default)]
struct Numbers {
    answered: [[AtomicU64; CLASSES.len()]; RouteLabel::ALL.len()],
    /// By the first bound that holds; the last one by none.
    took: [AtomicU64; SECONDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Requests {
    /// Counts so many requests of one kind that took so long each.
    #[inline]
    pub(super) fn add(&self, route: RouteLabel, class: usize, requests: u64, each: Duration) {
        let numbers = self.threads.get_or_default();
        let seconds = each.as_secs_f64();
        // Most are in the first bucket.
        let bucket = SECONDS.iter().position(|&bound| seconds <= bound).unwrap_or(SECONDS.len());
        let nanoseconds = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        numbers.answered[route as usize][class].fetch_add(requests, Ordering::Relaxed);
        numbers.took[bucket].fetch_add(requests, Ordering::Relaxed);
        numbers.nanoseconds.fetch_add(nanoseconds.wrapping_mul(requests), Ordering::Relaxed);
    }

    /// The numbers in Prometheus' text form.
    pub(super) fn render(&self, text: &mut String) {
        let sum = |pick: &dyn Fn(&Numbers) -> &AtomicU64| -> u64 {
            self.threads.iter().map(|numbers| pick(numbers).load(Ordering::Relaxed)).sum()
        };
        let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String takes everything");
        let name = "memdb_http_requests_total";
        line(format_args!("# HELP {name} Requests answered, by route and class of status."));
        line(format_args!("# TYPE {name} counter"));
        for route in RouteLabel::ALL {
            for (at, class) in CLASSES.iter().enumerate() {
                let answered = sum(&|numbers| &numbers.answered[route as usize][at]);
                line(format_args!("{name}{{route=\"{}\",status=\"{class}\"}} {answered}", route.name()));
            }
        }
        let name = "memdb_http_request_seconds";
        line(format_args!("\n# HELP {name} Seconds from a request's head to its answer's head."));
        line(format_args!("# TYPE {name} histogram"));
        let mut within = 0;
        for (at, bound) in SECONDS.iter().enumerate() {
            within += sum(&|numbers| &numbers.took[at]);
            line(format_args!("{name}_bucket{{le=\"{bound}\"}} {within}"));
        }
        within += sum(&|numbers| &numbers.took[SECONDS.len()]);
        line(format_args!("{name}_bucket{{le=\"+Inf\"}} {within}"));
        line(format_args!("{name}_sum {}", sum(&|numbers| &numbers.nanoseconds) as f64 / 1e9));
        line(format_args!("{name}_count {within}\n"));
    }
}
