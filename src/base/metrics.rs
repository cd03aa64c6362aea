//! The numbers that a running node counts about itself, for `/metrics` in Prometheus' text form.
//!
//! One [`NodeMetrics`] value is made by the node and passed down; it owns its registry, so two nodes live in one test
//! process. Every handle is registered once, at the start: a request moves atomics and looks nothing up. A node shows
//! what its role can move, so that no series is zero for ever; a change of role begins no number anew. A label has a
//! value of a bounded set; never a word or a key: their number is the client's to choose. What is known only at a
//! scrape is handed to [`NodeMetrics::render_with`].

mod counter_queues;
mod entry_reads;
mod forward_totals;
mod origin;
mod protection;
mod requests;
mod scrape;

pub use counter_queues::SidelinedTotals;
pub use entry_reads::EntryReadTotals;
pub use forward_totals::ForwardTotals;
pub use origin::OriginMetrics;
pub use protection::ProtectionTotals;
pub use requests::MAX_ROUTES;
pub use scrape::ScrapeFamilies;

use entry_reads::EntryReads;
use parking_lot::Mutex;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder, core::Collector,
    process_collector::ProcessCollector, proto::MetricFamily,
};
use requests::RequestMetrics;
use std::{cell::RefCell, collections::HashMap, fmt, time::Duration};

/// Upper bounds of the time buckets in seconds: from the microseconds of a read to the minutes of a bulk body.
const SECONDS: [f64; 24] = [
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 150.0, 300.0,
];

/// The methods that request times are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodLabel {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// Every other method: none of the routes takes it.
    Other,
}

impl MethodLabel {
    /// All of them, in the order of their numbers.
    pub const ALL: [MethodLabel; 7] = [
        MethodLabel::Get,
        MethodLabel::Head,
        MethodLabel::Post,
        MethodLabel::Put,
        MethodLabel::Patch,
        MethodLabel::Delete,
        MethodLabel::Other,
    ];

    /// The label's text.
    pub const fn name(self) -> &'static str {
        match self {
            MethodLabel::Get => "GET",
            MethodLabel::Head => "HEAD",
            MethodLabel::Post => "POST",
            MethodLabel::Put => "PUT",
            MethodLabel::Patch => "PATCH",
            MethodLabel::Delete => "DELETE",
            MethodLabel::Other => "other",
        }
    }
}

/// The role that a node has. The numbers go on when it changes; which of them are shown depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// It takes writes.
    Leader,
    /// It follows a leader over the network, and keeps files.
    Replica,
    /// It follows a leader over the network, in memory alone.
    MemoryReplica,
    /// It follows a leader's files.
    LocalReplica,
}

impl NodeRole {
    /// The role as `/status` and the label `role` name it.
    pub const fn name(self) -> &'static str {
        match self {
            NodeRole::Leader => "leader",
            NodeRole::Replica | NodeRole::MemoryReplica => "replica",
            NodeRole::LocalReplica => "local-replica",
        }
    }
}

/// The bounds of a node, for alerts on how near it is to them. `None`: a node in this role has no such bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeLimits {
    /// Bytes of memory for words and counts.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory for entries.
    pub entry_bytes: Option<u64>,
    /// Writes that may wait for the Writer.
    pub queue: Option<u64>,
    /// Connections open at once.
    pub connections: Option<u64>,
    /// Watchers at once.
    pub watchers: Option<u64>,
    /// Idempotency keys remembered.
    pub keys: Option<u64>,
    /// Streams remembered.
    pub streams: Option<u64>,
    /// Namespaces in the database.
    pub namespaces: Option<u64>,
}

/// The status classes requests are counted under; 304 counts as `3xx`. No route answers 1xx.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The numbers of one node.
pub struct NodeMetrics {
    registry: Registry,
    /// The roles that show each family, by its name; all of them show what is not here.
    shown_in: HashMap<String, &'static [NodeRole]>,
    /// The role of now, with its constants.
    of_role: Mutex<RoleConstants>,
    requests: RequestMetrics,
    refused: IntCounterVec,
    /// Connections open now.
    pub connections: IntGauge,
    /// Connections turned away because a bound was reached.
    pub connections_refused: IntCounter,
    /// Requests that showed a wrong cluster secret, or none, where one is wanted.
    pub wrong_secrets: IntCounter,
    /// Clients that are kept out.
    pub protection: ProtectionTotals,
    /// Records appended to the log, or applied where there is none.
    pub records: IntCounter,
    /// Bytes of these records.
    pub record_bytes: IntCounter,
    /// Writes acknowledged.
    pub batches: IntCounter,
    /// Words counted, repeats included.
    pub words: IntCounter,
    /// Writes answered from the window of keys.
    pub replayed: IntCounter,
    /// Writes answered without the replica that the default level wants.
    pub unreplicated: IntCounter,
    /// Amounts of expired posts that were not taken back in full.
    pub clamped_takebacks: IntCounter,
    entry_reads: EntryReads,
    /// Increments of counters that were set aside.
    pub sidelined: SidelinedTotals,
    /// Fetches from the origin.
    pub origin: OriginMetrics,
    /// Writes that are passed on.
    pub forwarded: ForwardTotals,
    /// Writes waiting for the Writer now.
    pub queue_depth: IntGauge,
    /// Syncs of the log.
    pub syncs: IntCounter,
    /// Seconds a sync took.
    pub sync_seconds: Histogram,
    /// Snapshots published.
    pub snapshots: IntCounter,
    /// Seconds from a snapshot's begin to its publication.
    pub snapshot_seconds: Histogram,
    /// Bytes of the newest snapshot.
    pub snapshot_bytes: IntGauge,
    /// Distinct words in all namespaces.
    pub words_distinct: IntGauge,
    /// Namespaces.
    pub namespaces: IntGauge,
    /// The epoch of the last record applied.
    pub epoch: Gauge,
    /// The sequence applied.
    pub position: IntGauge,
    /// The lower 48 bits of the digest: as many as a number of Prometheus holds exactly.
    pub digest: IntGauge,
    /// 1 while the node serves current data.
    pub ready: IntGauge,
    /// 1 once a failed write to the disk has ended writing.
    pub poisoned: IntGauge,
    /// Bytes of memory that words and counts take.
    pub words_bytes: IntGauge,
    /// Entries.
    pub entries: IntGauge,
    /// Bytes of memory that entries take.
    pub entry_bytes: IntGauge,
    /// Idempotency keys remembered.
    pub keys: IntGauge,
    /// Streams remembered.
    pub streams: IntGauge,
    /// Watchers now.
    pub watchers: IntGauge,
    /// Events sent to watchers.
    pub watch_events: IntCounter,
}

impl fmt::Debug for NodeMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Makes and registers families, and notes which roles show each of them.
struct MetricRegistrar {
    registry: Registry,
    shown_in: RefCell<HashMap<String, &'static [NodeRole]>>,
}

const EVERYWHERE: &[NodeRole] = &[NodeRole::Leader, NodeRole::Replica, NodeRole::MemoryReplica, NodeRole::LocalReplica];
const WITH_RECORDS: &[NodeRole] = &[NodeRole::Leader, NodeRole::Replica, NodeRole::MemoryReplica];
const WITH_LOG: &[NodeRole] = &[NodeRole::Leader, NodeRole::Replica];
const LEADER: &[NodeRole] = &[NodeRole::Leader];
const FOLLOWERS: &[NodeRole] = &[NodeRole::Replica, NodeRole::MemoryReplica, NodeRole::LocalReplica];
const WELL_FORMED: &str = "names and help are constants, and each name is registered once";

impl MetricRegistrar {
    fn add<C: Collector + Clone + 'static>(&self, roles: &'static [NodeRole], collector: prometheus::Result<C>) -> C {
        let collector = collector.expect(WELL_FORMED);
        self.registry.register(Box::new(collector.clone())).expect(WELL_FORMED);
        let names = collector.desc().into_iter().map(|family| (family.fq_name.clone(), roles));
        self.shown_in.borrow_mut().extend(names);
        collector
    }

    fn counter(&self, roles: &'static [NodeRole], name: &str, help: &str) -> IntCounter {
        self.add(roles, IntCounter::new(name, help))
    }

    fn gauge(&self, roles: &'static [NodeRole], name: &str, help: &str) -> IntGauge {
        self.add(roles, IntGauge::new(name, help))
    }

    fn histogram(&self, roles: &'static [NodeRole], name: &str, help: &str) -> Histogram {
        self.add(roles, Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec())))
    }
}

/// The role of a node, with the numbers that do not change while it has it.
struct RoleConstants {
    role: NodeRole,
    limits: NodeLimits,
    /// True if the bounds on connections and watchers are others than those of the start.
    are_changed: bool,
    registry: Registry,
}

impl RoleConstants {
    fn new(role: NodeRole, limits: NodeLimits, are_changed: bool) -> Self {
        Self { role, limits, are_changed, registry: constants(role, limits) }
    }
}

/// The numbers that do not change while the node has its role.
fn constants(role: NodeRole, limits: NodeLimits) -> Registry {
    let registry = Registry::new();
    let add = |opts: Opts, value: i64| {
        let gauge = IntGauge::with_opts(opts).expect(WELL_FORMED);
        gauge.set(value);
        registry.register(Box::new(gauge)).expect(WELL_FORMED);
    };
    let built = Opts::new("memdb_build_info", "1, with the version of memdb as a label.");
    add(built.const_label("version", env!("CARGO_PKG_VERSION")), 1);
    add(Opts::new("memdb_role", "1, with the role of the node as a label.").const_label("role", role.name()), 1);
    for (name, help, limit) in [
        ("memdb_max_memory_bytes", "Bound of memdb_words_bytes (--max-memory).", limits.memory_bytes),
        ("memdb_max_entry_bytes", "Bound of memdb_entry_bytes (--entry-memory).", limits.entry_bytes),
        ("memdb_queue_limit", "Bound of memdb_queue_depth (--queue).", limits.queue),
        ("memdb_http_connections_limit", "Bound of memdb_http_connections.", limits.connections),
        ("memdb_watchers_limit", "Bound of memdb_watchers (--max-watchers).", limits.watchers),
        ("memdb_keys_limit", "Bound of memdb_keys (--max-keys).", limits.keys),
        ("memdb_streams_limit", "Bound of memdb_streams (--max-streams).", limits.streams),
        ("memdb_namespaces_limit", "Bound of memdb_namespaces.", limits.namespaces),
    ] {
        if let Some(limit) = limit {
            add(Opts::new(name, help), i64::try_from(limit).unwrap_or(i64::MAX));
        }
    }
    registry
}

impl NodeMetrics {
    /// A fresh set of numbers of a node in this role, all zero. Requests are counted by `routes`, of which there are at
    /// most [`MAX_ROUTES`].
    pub fn new(role: NodeRole, limits: NodeLimits, routes: &'static [&'static str]) -> Self {
        let of = MetricRegistrar { registry: Registry::new(), shown_in: RefCell::default() };
        of.registry.register(Box::new(ProcessCollector::for_self())).expect(WELL_FORMED);
        let requests = RequestMetrics::new(routes);
        of.registry.register(Box::new(requests.clone())).expect(WELL_FORMED);
        let refused = Opts::new("memdb_refused_total", "Writes refused, by reason.");
        Self {
            requests,
            entry_reads: EntryReads::default(),
            sidelined: SidelinedTotals::new(&of),
            refused: of.add(EVERYWHERE, IntCounterVec::new(refused, &["reason"])),
            connections: of.gauge(EVERYWHERE, "memdb_http_connections", "Connections open now."),
            connections_refused: of.counter(EVERYWHERE, "memdb_http_connections_refused_total", "Connections refused."),
            wrong_secrets: of.counter(
                EVERYWHERE,
                "memdb_wrong_cluster_secrets_total",
                "Requests that showed a wrong cluster secret, or none, where one is wanted.",
            ),
            protection: ProtectionTotals::new(&of),
            records: of.counter(WITH_RECORDS, "memdb_records_total", "Records written or taken from the leader."),
            record_bytes: of.counter(WITH_RECORDS, "memdb_record_bytes_total", "Bytes of memdb_records_total."),
            batches: of.counter(LEADER, "memdb_batches_total", "Writes acknowledged."),
            words: of.counter(LEADER, "memdb_words_total", "Words counted, repeats included."),
            replayed: of.counter(LEADER, "memdb_replayed_total", "Repeats of writes, which count nothing."),
            clamped_takebacks: of.counter(LEADER, "memdb_takebacks_clamped_total", "Words not taken back in full."),
            unreplicated: of.counter(
                LEADER,
                "memdb_unreplicated_total",
                "Writes answered without the replica that the default level wants.",
            ),
            origin: OriginMetrics::new(&of),
            forwarded: ForwardTotals::new(&of),
            queue_depth: of.gauge(LEADER, "memdb_queue_depth", "Writes waiting for the Writer."),
            syncs: of.counter(WITH_LOG, "memdb_syncs_total", "Syncs of the log."),
            sync_seconds: of.histogram(WITH_LOG, "memdb_sync_seconds", "Seconds a sync of the log took."),
            snapshots: of.counter(WITH_LOG, "memdb_snapshots_total", "Snapshots published."),
            snapshot_seconds: of.histogram(WITH_LOG, "memdb_snapshot_seconds", "Seconds a snapshot took."),
            snapshot_bytes: of.gauge(WITH_LOG, "memdb_snapshot_bytes", "Bytes of the newest snapshot."),
            words_distinct: of.gauge(EVERYWHERE, "memdb_words_distinct", "Distinct words in all namespaces."),
            namespaces: of.gauge(EVERYWHERE, "memdb_namespaces", "Namespaces that hold a word."),
            epoch: of.add(EVERYWHERE, Gauge::new("memdb_epoch", "The epoch of the last record applied.")),
            position: of.gauge(EVERYWHERE, "memdb_position", "The sequence of the last record applied."),
            digest: of.gauge(
                EVERYWHERE,
                "memdb_digest",
                "The lower 48 bits of the digest of all counts: equal on nodes at one position.",
            ),
            ready: of.gauge(EVERYWHERE, "memdb_ready", "1 while the node serves current data."),
            poisoned: of.gauge(LEADER, "memdb_poisoned", "1 once a failed write to the disk has ended writing."),
            words_bytes: of.gauge(EVERYWHERE, "memdb_words_bytes", "Bytes of memory that words and counts take."),
            entries: of.gauge(EVERYWHERE, "memdb_entries", "Entries and posts."),
            entry_bytes: of.gauge(EVERYWHERE, "memdb_entry_bytes", "Bytes of memory that entries and posts take."),
            keys: of.gauge(EVERYWHERE, "memdb_keys", "Idempotency keys remembered."),
            streams: of.gauge(EVERYWHERE, "memdb_streams", "Streams of posts remembered."),
            watchers: of.gauge(EVERYWHERE, "memdb_watchers", "Watchers now."),
            watch_events: of.counter(EVERYWHERE, "memdb_watch_events_total", "Events sent to watchers."),
            registry: of.registry,
            shown_in: of.shown_in.into_inner(),
            of_role: Mutex::new(RoleConstants::new(role, limits, false)),
        }
    }

    /// The node has another role from now on: the numbers go on, and those are shown that the new role can move.
    pub fn change_role(&self, role: NodeRole, limits: NodeLimits) {
        let mut of_role = self.of_role.lock();
        let NodeLimits { connections, watchers, .. } = if of_role.are_changed { of_role.limits } else { limits };
        *of_role = RoleConstants::new(role, NodeLimits { connections, watchers, ..limits }, of_role.are_changed);
    }

    /// The node has other bounds on connections and watchers from now on, also in its later roles.
    pub fn change_limits(&self, connections: u64, watchers: u64) {
        let mut of_role = self.of_role.lock();
        let limits = NodeLimits { connections: Some(connections), watchers: Some(watchers), ..of_role.limits };
        *of_role = RoleConstants::new(of_role.role, limits, true);
    }

    /// Counts so many answered requests, each of which took so long from its head to its answer's head. `route` is the
    /// number of its label among those given to [`NodeMetrics::new`].
    #[inline]
    pub fn answered(&self, route: usize, method: MethodLabel, status: u16, requests: u64, each: Duration) {
        let class = usize::from(status / 100).clamp(2, CLASSES.len() + 1) - 2;
        self.requests.add(route, method, class, requests, each);
    }

    /// Counts reads of entries: those that found one, and those that found none.
    #[inline]
    pub fn entries_read(&self, hits: u64, misses: u64) {
        self.entry_reads.add(hits, misses);
    }

    /// Gives the reads of entries since the process began.
    pub fn entry_reads(&self) -> EntryReadTotals {
        self.entry_reads.totals()
    }

    /// Counts one refused write. A reason, one of a bounded set, has a series once it has been given.
    pub fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Gives the writes that were refused for this reason.
    pub fn refusals(&self, reason: &str) -> u64 {
        // Looked for among those there are: to ask for a series by its label would make it.
        let families = self.refused.collect();
        let mut series = families.iter().flat_map(|family| family.get_metric());
        let of_reason = series.find(|metric| metric.get_label().iter().any(|label| label.value() == reason));
        of_reason.map_or(0, |metric| metric.get_counter().get_value() as u64)
    }

    /// All numbers in Prometheus' text form.
    pub fn render(&self) -> String {
        self.render_with(Vec::new())
    }

    /// All numbers, and families of what is known at this scrape only ([`ScrapeFamilies`]).
    pub fn render_with(&self, known_now: Vec<MetricFamily>) -> String {
        let mut families = self.registry.gather();
        let of_role = self.of_role.lock();
        families.retain(|family| self.shown_in.get(family.name()).is_none_or(|roles| roles.contains(&of_role.role)));
        families.extend(of_role.registry.gather());
        drop(of_role);
        families.sort_by(|one, next| one.name().cmp(next.name()));
        families.extend(known_now);
        TextEncoder::new().encode_to_string(&families).expect(WELL_FORMED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &[&str] = &["post", "wordcount", "top"];
    const POST: usize = 0;
    const WORDCOUNT: usize = 1;
    const TOP: usize = 2;

    fn leader() -> NodeMetrics {
        NodeMetrics::new(NodeRole::Leader, NodeLimits { queue: Some(4_096), ..NodeLimits::default() }, ROUTES)
    }

    #[test]
    fn two_nodes_in_one_process_keep_their_numbers_apart() {
        let (one, other) = (leader(), leader());
        one.answered(POST, MethodLabel::Post, 202, 1, Duration::ZERO);
        one.refused("queue-full");
        assert!(one.render().contains("memdb_http_requests_total{route=\"post\",status=\"2xx\"} 1"));
        assert!(one.render().contains("memdb_refused_total{reason=\"queue-full\"} 1"));
        assert!(!other.render().contains("memdb_refused_total"));
    }

    #[test]
    fn times_are_sorted_into_buckets_by_route_and_method() {
        let metrics = leader();
        metrics.answered(POST, MethodLabel::Post, 202, 3, Duration::from_micros(200));
        metrics.answered(POST, MethodLabel::Post, 202, 1, Duration::from_secs(301));
        metrics.answered(WORDCOUNT, MethodLabel::Get, 200, 5, Duration::from_micros(7));
        let text = metrics.render();
        for (labels, le, within) in [
            ("method=\"POST\",route=\"post\"", "0.0001", 0),
            ("method=\"POST\",route=\"post\"", "0.00025", 3),
            ("method=\"POST\",route=\"post\"", "300", 3),
            ("method=\"POST\",route=\"post\"", "+Inf", 4),
            ("method=\"GET\",route=\"wordcount\"", "0.000005", 0),
            ("method=\"GET\",route=\"wordcount\"", "0.00001", 5),
        ] {
            let line = format!("memdb_http_request_seconds_bucket{{{labels},le=\"{le}\"}} {within}\n");
            assert!(text.contains(&line), "no {line} in {text}");
        }
        assert!(text.contains("memdb_http_request_seconds_sum{method=\"POST\",route=\"post\"} 301.0006\n"), "{text}");
        assert!(text.contains("memdb_http_request_seconds_count{method=\"POST\",route=\"post\"} 4\n"), "{text}");
        assert!(!text.contains("route=\"top\""), "a route that nobody has asked has no series: {text}");
    }

    #[test]
    fn a_role_has_only_the_series_that_it_can_move() {
        let leader = leader().render();
        let local = NodeMetrics::new(NodeRole::LocalReplica, NodeLimits::default(), ROUTES).render();
        for name in ["memdb_batches_total", "memdb_queue_depth", "memdb_queue_limit", "memdb_syncs_total"] {
            assert!(leader.contains(&format!("\n{name} ")), "no {name} in {leader}");
            assert!(!local.contains(name), "{name} in {local}");
        }
        assert!(!leader.contains("memdb_forwarded_total") && local.contains("\nmemdb_forwarded_total 0\n"));
        assert!(leader.contains("memdb_role{role=\"leader\"} 1\n"), "{leader}");
        assert!(local.contains("memdb_role{role=\"local-replica\"} 1\n"), "{local}");
        assert!(leader.contains(concat!("memdb_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n")));
        assert!(leader.contains("\nprocess_resident_memory_bytes ") && leader.contains("\nprocess_open_fds "));
    }

    #[test]
    fn a_change_of_role_shows_other_series_and_begins_none_anew() {
        let metrics = leader();
        metrics.batches.inc();
        metrics.records.inc_by(7);
        metrics.answered(POST, MethodLabel::Post, 202, 1, Duration::ZERO);
        metrics.change_role(NodeRole::Replica, NodeLimits::default());
        let replica = metrics.render();
        assert!(replica.contains("memdb_role{role=\"replica\"} 1\n") && !replica.contains("role=\"leader\""));
        assert!(replica.contains("\nmemdb_records_total 7\n") && replica.contains("\nmemdb_forwarded_total 0\n"));
        assert!(replica.contains("memdb_http_requests_total{route=\"post\",status=\"2xx\"} 1"));
        assert!(!replica.contains("memdb_batches_total") && !replica.contains("memdb_queue_limit"), "{replica}");
        metrics.change_role(NodeRole::Leader, NodeLimits::default());
        assert!(metrics.render().contains("\nmemdb_batches_total 1\n"));
    }

    #[test]
    fn labels_lie_at_their_numbers() {
        assert!(MethodLabel::ALL.iter().enumerate().all(|(at, method)| *method as usize == at));
        let metrics = leader();
        // Out of range is clamped, never a panic.
        metrics.answered(TOP, MethodLabel::Other, 0, 1, Duration::ZERO);
        metrics.answered(TOP, MethodLabel::Other, 999, 1, Duration::ZERO);
    }
}
