//! Requests by route and status, and the time they took: written by every serving thread into a place of its own.
//!
//! A counter that two threads move costs each of them the other's cache line: at a million requests a second that is a
//! tenth of a request. A scrape adds the threads' numbers up.

use super::{CLASSES, MethodLabel, SECONDS};
use crossbeam_utils::CachePadded;
use prometheus::{
    Opts,
    core::{Collector, Desc, Describer},
    proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use thread_local::ThreadLocal;

/// Labels of routes there is room for, in every thread: twice as many as there are, since those that nobody asks for
/// cost a thread 1.5 KB each and are in no answer.
pub const MAX_ROUTES: usize = 32;

const ANSWERED: &str = "memdb_http_requests_total";
const ANSWERED_HELP: &str = "Requests answered, by route and class of status.";
const TOOK: &str = "memdb_http_request_seconds";
const TOOK_HELP: &str = "Seconds from a request's head to its answer's head, by route and method.";

/// Counts of answered requests. Each thread adds to its own numbers; a scrape adds those up.
#[derive(Clone)]
pub(super) struct RequestMetrics {
    /// Values of the label `route`, each at its number.
    routes: &'static [&'static str],
    threads: Arc<ThreadLocal<CachePadded<ThreadRequests>>>,
    descriptions: [Desc; 2],
}

impl RequestMetrics {
    /// Nothing counted yet, of these routes.
    pub(super) fn new(routes: &'static [&'static str]) -> Self {
        assert!(routes.len() <= MAX_ROUTES, "as many routes as have a place: {routes:?}");
        let describe = |name, help, labels: &[&str]| {
            let labels = labels.iter().map(|&label| label.to_owned()).collect();
            Opts::new(name, help).variable_labels(labels).describe().expect("the names are constants")
        };
        let answered = describe(ANSWERED, ANSWERED_HELP, &["route", "status"]);
        let took = describe(TOOK, TOOK_HELP, &["method", "route"]);
        Self { routes, threads: Arc::default(), descriptions: [answered, took] }
    }
}

/// The requests that one thread has answered.
#[derive(Default)]
struct ThreadRequests {
    answered: [[AtomicU64; CLASSES.len()]; MAX_ROUTES],
    took: [[DurationHistogram; MethodLabel::ALL.len()]; MAX_ROUTES],
}

/// A histogram of one route and method.
#[derive(Default)]
struct DurationHistogram {
    /// By the first bound that holds; the last one by none.
    within: [AtomicU64; SECONDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl RequestMetrics {
    /// Counts so many requests of one kind that took so long each.
    #[inline]
    pub(super) fn add(&self, route: usize, method: MethodLabel, class: usize, requests: u64, each: Duration) {
        let of_thread = self.threads.get_or_default();
        let seconds = each.as_secs_f64();
        // Most are in one of the first buckets.
        let bucket = SECONDS.iter().position(|&bound| seconds <= bound).unwrap_or(SECONDS.len());
        let nanoseconds = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        of_thread.answered[route][class].fetch_add(requests, Ordering::Relaxed);
        let times = &of_thread.took[route][method as usize];
        times.within[bucket].fetch_add(requests, Ordering::Relaxed);
        times.nanoseconds.fetch_add(nanoseconds.wrapping_mul(requests), Ordering::Relaxed);
    }

    fn sum(&self, pick: impl Fn(&ThreadRequests) -> &AtomicU64) -> u64 {
        self.threads.iter().map(|of_thread| pick(of_thread).load(Ordering::Relaxed)).sum()
    }

    /// The series of what has been asked for: the others could stay zero for ever.
    fn answered(&self) -> MetricFamily {
        let mut series = Vec::new();
        for (route, name) in self.routes.iter().enumerate() {
            for (at, class) in CLASSES.iter().enumerate() {
                let answered = self.sum(|of_thread| &of_thread.answered[route][at]);
                if answered > 0 {
                    let mut counter = Counter::default();
                    counter.set_value(answered as f64);
                    let mut metric = labelled(&[("route", name), ("status", class)]);
                    metric.set_counter(counter);
                    series.push(metric);
                }
            }
        }
        family(ANSWERED, ANSWERED_HELP, MetricType::COUNTER, series)
    }

    fn took(&self) -> MetricFamily {
        let mut series = Vec::new();
        for (route, name) in self.routes.iter().enumerate() {
            for method in MethodLabel::ALL {
                let histogram = self.histogram(route, method);
                if histogram.get_sample_count() > 0 {
                    let mut metric = labelled(&[("method", method.name()), ("route", name)]);
                    metric.set_histogram(histogram);
                    series.push(metric);
                }
            }
        }
        family(TOOK, TOOK_HELP, MetricType::HISTOGRAM, series)
    }

    fn histogram(&self, route: usize, method: MethodLabel) -> Histogram {
        let method = method as usize;
        let (mut buckets, mut within) = (Vec::with_capacity(SECONDS.len()), 0);
        for (at, &bound) in SECONDS.iter().enumerate() {
            within += self.sum(|of_thread| &of_thread.took[route][method].within[at]);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(within);
            buckets.push(bucket);
        }
        within += self.sum(|of_thread| &of_thread.took[route][method].within[SECONDS.len()]);
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(within);
        histogram.set_sample_sum(self.sum(|of_thread| &of_thread.took[route][method].nanoseconds) as f64 / 1e9);
        histogram
    }
}

impl Collector for RequestMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let families = [self.answered(), self.took()];
        families.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
    }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|&(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}

fn family(name: &str, help: &str, kind: MetricType, series: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(series);
    family
}
