//! Routes about the node itself: health, metrics, status.

use super::{
    counter_queues::{self, CounterQueueStatus},
    replication_metrics,
    state::AppState,
};
use crate::{
    api::{error::ApiError, service::RoleStatus},
    base::metrics::ScrapeFamilies,
    data::counters::shown_namespace,
    data::store::NamespaceSize,
    replication::PeerStatus,
};
use http::{HeaderValue, header};
use std::collections::BTreeMap;
use warp::reply::Response;

/// The bits of a digest that a number of Prometheus, an `f64`, holds exactly.
const DIGEST_BITS: u64 = (1 << 48) - 1;

/// `GET /health`.
pub(super) fn health() -> Response {
    json(br#"{"status":"api up"}"#.to_vec())
}

/// `GET /health/live`: answered as long as the process runs.
pub(super) fn live() -> Response {
    json(br#"{"status":"live"}"#.to_vec())
}

/// `GET /health/ready`.
pub(super) fn ready(state: &AppState) -> Result<Response, ApiError> {
    state.service.check_ready().map(|()| json(br#"{"status":"ready"}"#.to_vec()))
}

/// `GET /health/leader`: whether writes are taken here, for load balancers.
pub(super) fn leading(state: &AppState) -> Result<Response, ApiError> {
    state.service.check_leading().map(|()| json(br#"{"status":"leader"}"#.to_vec()))
}

/// `GET /metrics`: Prometheus' text form.
pub(super) fn metrics(state: &AppState) -> Response {
    let metrics = &state.service.metrics;
    let families = ScrapeFamilies::default();
    if let Ok(current) = state.service.current() {
        let reader = &current.reader;
        let (mark, namespaces) = {
            let guard = reader.read();
            (guard.state_id(), guard.namespace_sizes())
        };
        let namespaces: Vec<NamespaceSize> = namespaces.into_iter().filter_map(counter_queues::shown).collect();
        let (keys, streams) = reader.window_len();
        metrics.epoch.set(mark.position.epoch as f64);
        metrics.position.set(mark.position.sequence as i64);
        metrics.digest.set((mark.digest & DIGEST_BITS) as i64);
        metrics.namespaces.set(namespaces.len() as i64);
        metrics.words_distinct.set(namespaces.iter().map(|namespace| namespace.words).sum::<u64>() as i64);
        metrics.words_bytes.set(reader.bytes() as i64);
        metrics.keys.set(keys as i64);
        metrics.streams.set(streams as i64);
        let totals = reader.entry_totals();
        metrics.entries.set(totals.entries as i64);
        metrics.entry_bytes.set(totals.bytes as i64);
        replication_metrics::of_entries(totals, metrics.entry_reads(), &families);
        replication_metrics::of_namespaces(namespaces, state.service.view.quotas(), &families);
    }
    if let Some(leader) = state.service.look_at_role().leader() {
        let status = leader.status();
        metrics.queue_depth.set(status.queued as i64);
        metrics.poisoned.set(i64::from(status.poisoned));
        counter_queues::of_queues(&leader.queue_totals(), state.service.logged_time(), metrics, &families);
    }
    metrics.ready.set(i64::from(state.service.is_ready()));
    replication_metrics::of_replication(&state.service, &families);
    let mut response = Response::new(metrics.render_with(families.gather()).into());
    let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

/// The entries of a node.
#[derive(serde::Serialize)]
struct EntryNumbers {
    count: u64,
    bytes: u64,
    expired: u64,
    evicted: u64,
}

/// The streams of events that are open.
#[derive(serde::Serialize)]
struct WatcherNumbers {
    open: i64,
    limit: usize,
}

#[derive(serde::Serialize)]
struct StatusBody<'a> {
    role: &'static str,
    version: &'static str,
    node_name: &'a str,
    /// Only where there are files that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<String>,
    node: String,
    url: &'a str,
    database: Option<String>,
    analyzer: Option<&'static str>,
    analyzer_version: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_ack: Option<String>,
    ready: bool,
    /// On a follower: what its leader leads, if that is another database than this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    other_database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files_problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas_known: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_promoted: Option<&'a str>,
    /// On a leader that has not begun its epoch: why, which takes no writes before.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_room: Option<String>,
    epoch: u64,
    sequence: u64,
    position: Option<String>,
    digest: String,
    words: u64,
    namespaces: BTreeMap<String, u64>,
    entries: EntryNumbers,
    watchers: WatcherNumbers,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<crate::engine::leader::WriterStatus>,
    /// On a leader: the increments that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    counter_queues: Option<BTreeMap<&'static str, CounterQueueStatus>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<Vec<PeerStatus>>,
    uptime_seconds: u64,
}

/// `GET /status`: for people and for `memdb health`.
pub(super) fn status(state: &AppState) -> Response {
    let current = state.service.current().ok();
    let (position, digest, namespaces) = current.as_ref().map_or_else(Default::default, |current| {
        let guard = current.reader.read();
        (guard.position(), guard.digest(), guard.namespaces())
    });
    let shown = |(name, words): (String, u64)| shown_namespace(&name).map(|name| (name.to_owned(), words));
    let namespaces: Vec<(String, u64)> = namespaces.into_iter().filter_map(shown).collect();
    let totals = current.as_ref().map(|current| current.reader.entry_totals()).unwrap_or_default();
    let role = state.service.role();
    let RoleStatus { writer, replicas, no_room, leader, replicas_known } = role.status();
    let (about, metrics) = (&role.about, &state.service.metrics);
    let status = StatusBody {
        role: about.role,
        version: env!("CARGO_PKG_VERSION"),
        node_name: &about.name,
        incarnation: state.service.view.incarnation().map(|incarnation| format!("{incarnation:016x}")),
        node: format!("{:032x}", about.node),
        url: &about.url,
        database: current.as_ref().map(|current| format!("{:032x}", current.identity.database_id)),
        analyzer: current.as_ref().map(|current| current.identity.analyzer.name()),
        analyzer_version: current.as_ref().map(|current| current.identity.analyzer.version()),
        default_ack: about.default_ack.map(|level| level.to_string()),
        ready: state.service.is_ready(),
        other_database: state.service.other_database().map(|leads| format!("{leads:032x}")),
        files_problem: state.service.view.files_problem(),
        replicas_known,
        not_promoted: about.not_promoted.as_deref(),
        no_room,
        epoch: position.epoch,
        sequence: position.sequence,
        position: current.as_ref().map(|current| current.identity.token(position).to_string()),
        digest: format!("{digest:016x}"),
        words: namespaces.iter().map(|(_, words)| words).sum(),
        namespaces: namespaces.into_iter().collect(),
        entries: EntryNumbers {
            count: totals.entries,
            bytes: totals.bytes,
            expired: totals.expired,
            evicted: totals.evicted,
        },
        watchers: WatcherNumbers { open: state.service.metrics.watchers.get(), limit: state.budgets.watchers.bound() },
        lag_ms: state.service.view.lag_ms(),
        leader,
        writer,
        counter_queues: role
            .leader()
            .map(|leader| counter_queues::status(&leader.queue_totals(), state.service.logged_time(), metrics)),
        replicas,
        uptime_seconds: state.started.elapsed().as_secs(),
    };
    json(serde_json::to_vec(&status).expect("names are strings and numbers are finite"))
}

/// An answer of JSON, with the newline that every JSON body ends with.
pub(super) fn json(mut body: Vec<u8>) -> Response {
    body.push(b'\n');
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
