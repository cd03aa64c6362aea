//! What a running node counts about itself, for `/metrics` in Prometheus' text form.
//!
//! One [`Metrics`] value is made by the node and passed down; it owns its recorder, so two nodes live in one
//! test process. Every handle is registered once, at the start: a request moves atomics and looks nothing up. Never a
//! word, a key or a namespace as a label: their number is the client's to choose.

use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{fmt, time::Duration};

/// Upper bounds of the time buckets in seconds: 50 µs, which a read takes, to 10 s, which nothing should.
const SECONDS: [f64; 16] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How often [`Metrics::upkeep`] wants to be called. Histograms keep every sample (8 bytes) until then.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The routes requests are counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteLabel {
    /// `/post`
    Post,
    /// `/update`
    Update,
    /// `/bulk`
    Bulk,
    /// `/wordcount`
    Wordcount,
    /// `/sync`
    Sync,
    /// `/top`
    Top,
    /// `/ns/{name}`
    Namespace,
    /// `/health`, `/health/live`, `/health/ready`
    Health,
    /// `/metrics` and `/status`
    Operations,
    /// Every other path, and requests no route saw.
    Other,
}

impl RouteLabel {
    /// All of them, in the order of their numbers.
    pub const ALL: [RouteLabel; 10] = [
        RouteLabel::Post,
        RouteLabel::Update,
        RouteLabel::Bulk,
        RouteLabel::Wordcount,
        RouteLabel::Sync,
        RouteLabel::Top,
        RouteLabel::Namespace,
        RouteLabel::Health,
        RouteLabel::Operations,
        RouteLabel::Other,
    ];

    /// The label's text.
    pub const fn name(self) -> &'static str {
        match self {
            RouteLabel::Post => "post",
            RouteLabel::Update => "update",
            RouteLabel::Bulk => "bulk",
            RouteLabel::Wordcount => "wordcount",
            RouteLabel::Sync => "sync",
            RouteLabel::Top => "top",
            RouteLabel::Namespace => "ns",
            RouteLabel::Health => "health",
            RouteLabel::Operations => "operations",
            RouteLabel::Other => "other",
        }
    }
}

/// Why a write was refused, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The write queue was full.
    Queue,
    /// The window of keys or streams was full.
    Window,
    /// A key came again with another body.
    KeyReused,
    /// A post of a stream came before its turn.
    StreamGap,
    /// A count would have overflowed.
    Overflow,
    /// One namespace too many.
    Namespaces,
    /// The memory budget is used up.
    Memory,
    /// The disk is full.
    Disk,
    /// The log failed earlier.
    Poisoned,
    /// The node is stopping.
    Stopping,
    /// It is not known whether it counts.
    OutcomeUnknown,
    /// It counts, and no replica acknowledged it in time.
    NotReplicated,
    /// No replica can do what its level asks.
    NoReplica,
    /// Another leader has taken over.
    SteppedDown,
    /// A follower could not pass it on.
    LeaderAway,
}

impl Refusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [Refusal; 15] = [
        Refusal::Queue,
        Refusal::Window,
        Refusal::KeyReused,
        Refusal::StreamGap,
        Refusal::Overflow,
        Refusal::Namespaces,
        Refusal::Memory,
        Refusal::Disk,
        Refusal::Poisoned,
        Refusal::Stopping,
        Refusal::OutcomeUnknown,
        Refusal::NotReplicated,
        Refusal::NoReplica,
        Refusal::SteppedDown,
        Refusal::LeaderAway,
    ];

    /// The label's text.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::Queue => "queue-full",
            Refusal::Window => "window-full",
            Refusal::KeyReused => "key-reused",
            Refusal::StreamGap => "stream-gap",
            Refusal::Overflow => "overflow",
            Refusal::Namespaces => "too-many-namespaces",
            Refusal::Memory => "memory-full",
            Refusal::Disk => "disk-full",
            Refusal::Poisoned => "poisoned",
            Refusal::Stopping => "stopping",
            Refusal::OutcomeUnknown => "outcome-unknown",
            Refusal::NotReplicated => "not-replicated",
            Refusal::NoReplica => "no-replica",
            Refusal::SteppedDown => "stepped-down",
            Refusal::LeaderAway => "leader-away",
        }
    }
}

/// The status classes requests are counted under; 304 counts as `3xx`.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The numbers of one node.
pub struct Metrics {
    handle: PrometheusHandle,
    requests: [[Counter; CLASSES.len()]; RouteLabel::ALL.len()],
    refused: [Counter; Refusal::ALL.len()],
    /// Seconds from a request's head to its answer's head.
    pub request_seconds: Histogram,
    /// Connections open now.
    pub connections: Gauge,
    /// Connections turned away because the bound was reached.
    pub connections_refused: Counter,
    /// Records appended to the log.
    pub records: Counter,
    /// Bytes appended to the log.
    pub record_bytes: Counter,
    /// Batches acknowledged.
    pub batches: Counter,
    /// Words counted, repeats included.
    pub words: Counter,
    /// Writes answered from the window of keys.
    pub replayed: Counter,
    /// Writes answered without the replica that the default level wants.
    pub unreplicated: Counter,
    /// Writes that the leader has answered by way of this node.
    pub forwarded: Counter,
    /// Batches waiting for the Writer now.
    pub queue_depth: Gauge,
    /// Syncs of the log.
    pub syncs: Counter,
    /// Seconds a sync took.
    pub sync_seconds: Histogram,
    /// Snapshots published.
    pub snapshots: Counter,
    /// Seconds from a snapshot's begin to its publication.
    pub snapshot_seconds: Histogram,
    /// Bytes of the newest snapshot.
    pub snapshot_bytes: Gauge,
    /// Distinct words in all namespaces.
    pub words_distinct: Gauge,
    /// The sequence applied.
    pub position: Gauge,
    /// 1 while the node serves current data.
    pub ready: Gauge,
    /// 1 once a failed write to the disk has ended writing.
    pub poisoned: Gauge,
    /// Bytes of memory that words and counts take.
    pub words_bytes: Gauge,
    /// Idempotency keys remembered.
    pub keys: Gauge,
    /// Streams remembered.
    pub streams: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh set of numbers, all zero.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .expect("the list of buckets is not empty")
            .build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            Self::register(handle)
        })
    }

    fn register(handle: PrometheusHandle) -> Self {
        Self {
            handle,
            requests: RouteLabel::ALL.map(|route| {
                CLASSES.map(|class| counter!("memdb_http_requests_total", "route" => route.name(), "status" => class))
            }),
            refused: Refusal::ALL.map(|reason| counter!("memdb_refused_total", "reason" => reason.name())),
            request_seconds: metrics::histogram!("memdb_http_request_seconds"),
            connections: gauge!("memdb_http_connections"),
            connections_refused: counter!("memdb_http_connections_refused_total"),
            records: counter!("memdb_records_total"),
            record_bytes: counter!("memdb_record_bytes_total"),
            batches: counter!("memdb_batches_total"),
            words: counter!("memdb_words_total"),
            replayed: counter!("memdb_replayed_total"),
            unreplicated: counter!("memdb_unreplicated_total"),
            forwarded: counter!("memdb_forwarded_total"),
            queue_depth: gauge!("memdb_queue_depth"),
            syncs: counter!("memdb_syncs_total"),
            sync_seconds: metrics::histogram!("memdb_sync_seconds"),
            snapshots: counter!("memdb_snapshots_total"),
            snapshot_seconds: metrics::histogram!("memdb_snapshot_seconds"),
            snapshot_bytes: gauge!("memdb_snapshot_bytes"),
            words_distinct: gauge!("memdb_words_distinct"),
            position: gauge!("memdb_position"),
            ready: gauge!("memdb_ready"),
            poisoned: gauge!("memdb_poisoned"),
            words_bytes: gauge!("memdb_words_bytes"),
            keys: gauge!("memdb_keys"),
            streams: gauge!("memdb_streams"),
        }
    }

    /// Counts one answered request.
    #[inline]
    pub fn request(&self, route: RouteLabel, status: u16) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[route as usize][class].increment(1);
    }

    /// Counts one refused write.
    pub fn refused(&self, reason: Refusal) {
        self.refused[reason as usize].increment(1);
    }

    /// Sorts gathered samples into their buckets. The server calls it every [`UPKEEP_INTERVAL`].
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// All numbers in Prometheus' text form.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

fn describe() {
    describe_counter!("memdb_http_requests_total", "Requests answered, by route and class of status.");
    describe_histogram!("memdb_http_request_seconds", "Seconds from a request's head to its answer's head.");
    describe_gauge!("memdb_http_connections", "Connections open now.");
    describe_counter!("memdb_http_connections_refused_total", "Connections turned away at the bound.");
    describe_counter!("memdb_records_total", "Records appended to the log.");
    describe_counter!("memdb_record_bytes_total", "Bytes appended to the log.");
    describe_counter!("memdb_batches_total", "Writes acknowledged.");
    describe_counter!("memdb_words_total", "Words counted, repeats included.");
    describe_counter!("memdb_replayed_total", "Writes that repeated an earlier one and counted nothing.");
    describe_counter!("memdb_unreplicated_total", "Writes answered without the replica that the default level wants.");
    describe_counter!("memdb_forwarded_total", "Writes that the leader has answered by way of this node.");
    describe_counter!("memdb_refused_total", "Writes refused, by reason.");
    describe_gauge!("memdb_queue_depth", "Writes waiting for the Writer.");
    describe_counter!("memdb_syncs_total", "Syncs of the log.");
    describe_histogram!("memdb_sync_seconds", "Seconds a sync of the log took.");
    describe_counter!("memdb_snapshots_total", "Snapshots published.");
    describe_histogram!("memdb_snapshot_seconds", "Seconds a snapshot took.");
    describe_gauge!("memdb_snapshot_bytes", "Bytes of the newest snapshot.");
    describe_gauge!("memdb_words_distinct", "Distinct words in all namespaces.");
    describe_gauge!("memdb_position", "The sequence applied.");
    describe_gauge!("memdb_ready", "1 while the node serves current data.");
    describe_gauge!("memdb_poisoned", "1 once a failed write to the disk has ended writing until a restart.");
    describe_gauge!("memdb_words_bytes", "Bytes of memory that words and counts take.");
    describe_gauge!("memdb_keys", "Idempotency keys remembered.");
    describe_gauge!("memdb_streams", "Streams of posts remembered.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_in_one_process_keep_their_numbers_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.request(RouteLabel::Post, 202);
        one.refused(Refusal::Queue);
        assert!(one.render().contains("memdb_http_requests_total{route=\"post\",status=\"2xx\"} 1"));
        assert!(one.render().contains("memdb_refused_total{reason=\"queue-full\"} 1"));
        assert!(other.render().contains("memdb_http_requests_total{route=\"post\",status=\"2xx\"} 0"));
    }

    #[test]
    fn times_are_sorted_into_buckets() {
        let metrics = Metrics::new();
        metrics.request_seconds.record(0.000_2);
        metrics.upkeep();
        let text = metrics.render();
        assert!(text.contains("memdb_http_request_seconds_bucket{le=\"0.0001\"} 0"), "{text}");
        assert!(text.contains("memdb_http_request_seconds_bucket{le=\"0.00025\"} 1"), "{text}");
    }

    #[test]
    fn labels_lie_at_their_numbers() {
        assert!(RouteLabel::ALL.iter().enumerate().all(|(at, route)| *route as usize == at));
        assert!(Refusal::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
        let metrics = Metrics::new();
        metrics.request(RouteLabel::Other, 0); // out of range is clamped, never a panic
        metrics.request(RouteLabel::Other, 999);
    }
}
