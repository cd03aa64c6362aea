//! Routes about the node itself: health, metrics, status.

use super::{
    Role, forward, numbers,
    problem::{self, Kind, Problem},
    state::AppState,
};
use crate::{client::Forward, leader::WriteError, metrics::ScrapeFamilies, replication::SenderStatus};
use http::{HeaderValue, header};
use std::{borrow::Cow, collections::BTreeMap};
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
pub(super) fn ready(state: &AppState) -> Result<Response, Problem> {
    if let Some((forward, leads)) = state.forward().zip(state.other_database()) {
        return Err(forward::other_database(forward, leads));
    }
    if state.api.view.is_ready() {
        return Ok(json(br#"{"status":"ready"}"#.to_vec()));
    }
    Err(Problem::new(Kind::NotReady, what_is_missing(state)))
}

/// `GET /health/leader`: whether writes are taken here, for load balancers.
pub(super) fn leading(state: &AppState) -> Result<Response, Problem> {
    let Role::Leader { leader, .. } = &state.api.role else {
        let leader = state.forward().and_then(Forward::leader);
        let detail = match &leader {
            Some(leader) => format!("this node follows {leader}, which takes the writes"),
            None => "this node follows a leader whose address it does not know yet".to_owned(),
        };
        return Err(Problem::new(Kind::NotLeading, detail).with(serde_json::json!({ "leader": leader })));
    };
    if let Some(error) = leader.refusal() {
        let database = state.current()?.identity.tag();
        let detail = match leader.no_room() {
            Some(why) if error == WriteError::DiskFull => format!("this leader begins once its disk has room: {why}"),
            _ => error.to_string(),
        };
        return Err(problem::of_write_error(&error, database).0.saying(detail));
    }
    ready(state)?;
    Ok(json(br#"{"status":"leader"}"#.to_vec()))
}

fn what_is_missing(state: &AppState) -> Cow<'static, str> {
    if let Some(problem) = state.api.view.files_problem() {
        return match &state.api.role {
            Role::Leader { .. } => format!("{problem}; save the counts (GET /sync) or promote a replica, then restart"),
            Role::Replica { .. } => format!("{problem}; it follows its leader in memory alone until it is restarted"),
            Role::LocalReplica { .. } => problem,
        }
        .into();
    }
    let Some(forward) = state.forward() else { return "the leader is starting or stopping; ask again".into() };
    let leader = match forward.leader() {
        Some(url) => format!("its leader, {url}"),
        None => "its leader, whose address it does not know yet".to_owned(),
    };
    match state.current() {
        Ok(current) => format!(
            "the node is at {}, and has not heard from {leader}, whether that is all; or it is stopping",
            current.identity.token(current.reader.read().position())
        ),
        Err(_) => format!("the node has no counts yet that are right: it waits for {leader}"),
    }
    .into()
}

/// `GET /metrics`: Prometheus' text form.
pub(super) fn metrics(state: &AppState) -> Response {
    let metrics = &state.api.metrics;
    let families = ScrapeFamilies::default();
    if let Ok(current) = state.current() {
        let reader = &current.reader;
        let (mark, namespaces) = {
            let guard = reader.read();
            (guard.mark(), guard.namespace_sizes())
        };
        let (keys, streams) = reader.window_len();
        metrics.epoch.set(mark.position.epoch as f64);
        metrics.position.set(mark.position.sequence as i64);
        metrics.digest.set((mark.digest & DIGEST_BITS) as i64);
        metrics.namespaces.set(namespaces.len() as i64);
        metrics.words_distinct.set(namespaces.iter().map(|namespace| namespace.words).sum::<u64>() as i64);
        metrics.words_bytes.set(reader.bytes() as i64);
        metrics.keys.set(keys as i64);
        metrics.streams.set(streams as i64);
        numbers::of_namespaces(namespaces, &families);
    }
    if let Role::Leader { leader, .. } = &state.api.role {
        let status = leader.status();
        metrics.queue_depth.set(status.queued as i64);
        metrics.poisoned.set(i64::from(status.poisoned));
    }
    metrics.ready.set(i64::from(state.is_ready()));
    numbers::of_replication(&state.api, &families);
    let mut response = Response::new(metrics.render_with(families.gather()).into());
    let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

#[derive(serde::Serialize)]
struct Status<'a> {
    role: &'static str,
    version: &'static str,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<crate::leader::Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<Vec<SenderStatus>>,
    uptime_seconds: u64,
}

/// `GET /status`: for people and for `memdb health`.
pub(super) fn status(state: &AppState) -> Response {
    let current = state.current().ok();
    let (position, digest, namespaces) = current.as_ref().map_or_else(Default::default, |current| {
        let guard = current.reader.read();
        (guard.position(), guard.digest(), guard.namespaces())
    });
    let (writer, replicas, leader) = match &state.api.role {
        Role::Leader { leader, registry, .. } => (Some(leader.status()), Some(registry.statuses()), None),
        Role::Replica { forward, .. } | Role::LocalReplica { forward, .. } => (None, None, forward.leader()),
    };
    let no_room = match &state.api.role {
        Role::Leader { leader, .. } => leader.no_room(),
        _ => None,
    };
    // Whom this replica would ask before it led.
    let replicas_known = match &state.api.role {
        Role::Replica { follower, .. } => Some(follower.members().replicas.len()),
        _ => None,
    };
    let about = &state.api.about;
    let status = Status {
        role: about.role,
        version: env!("CARGO_PKG_VERSION"),
        node: format!("{:032x}", about.node),
        url: &about.url,
        database: current.as_ref().map(|current| format!("{:032x}", current.identity.database_id)),
        analyzer: current.as_ref().map(|current| current.identity.analyzer.name()),
        analyzer_version: current.as_ref().map(|current| current.identity.analyzer.version()),
        default_ack: about.default_ack.map(|level| level.to_string()),
        ready: state.is_ready(),
        other_database: state.other_database().map(|leads| format!("{leads:032x}")),
        files_problem: state.api.view.files_problem(),
        replicas_known,
        not_promoted: about.not_promoted.as_deref(),
        no_room,
        epoch: position.epoch,
        sequence: position.sequence,
        position: current.as_ref().map(|current| current.identity.token(position).to_string()),
        digest: format!("{digest:016x}"),
        words: namespaces.iter().map(|(_, words)| words).sum(),
        namespaces: namespaces.into_iter().collect(),
        lag_ms: state.api.view.lag_ms(),
        leader,
        writer,
        replicas,
        uptime_seconds: state.started.elapsed().as_secs(),
    };
    json(serde_json::to_vec(&status).expect("names are strings and numbers are finite"))
}

/// An answer of JSON, with the newline that every JSON body ends with.
fn json(mut body: Vec<u8>) -> Response {
    body.push(b'\n');
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
