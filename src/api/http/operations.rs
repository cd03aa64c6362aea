//! What tells how the node is: health, numbers, status.

use super::{
    problem::{Kind, Problem},
    routes::Site,
};
use http::{HeaderValue, header};
use std::collections::BTreeMap;
use warp::reply::Response;

/// `GET /health`.
pub(super) fn health() -> Response {
    json(br#"{"status":"api up"}"#.to_vec())
}

/// `GET /health/live`: answered as long as the process runs.
pub(super) fn live() -> Response {
    json(br#"{"status":"live"}"#.to_vec())
}

/// `GET /health/ready`.
pub(super) fn ready(site: &Site) -> Result<Response, Problem> {
    if site.api.readiness.get() {
        return Ok(json(br#"{"status":"ready"}"#.to_vec()));
    }
    Err(Problem::new(Kind::NotReady, "the node is starting or stopping; ask again"))
}

/// `GET /metrics`: Prometheus' text form.
pub(super) fn metrics(site: &Site) -> Response {
    let (metrics, leader) = (&site.api.metrics, &site.api.leader);
    let reader = leader.reader();
    let (position, namespaces) = {
        let guard = reader.read();
        (guard.position(), guard.namespaces())
    };
    let (keys, streams) = reader.window_len();
    let status = leader.status();
    metrics.position.set(position.sequence as f64);
    metrics.words_distinct.set(namespaces.iter().map(|(_, words)| words).sum::<u64>() as f64);
    metrics.words_bytes.set(reader.bytes() as f64);
    metrics.keys.set(keys as f64);
    metrics.streams.set(streams as f64);
    metrics.queue_depth.set(status.queued as f64);
    metrics.poisoned.set(f64::from(u8::from(status.poisoned)));
    metrics.ready.set(f64::from(u8::from(site.api.readiness.get())));
    let mut response = Response::new(metrics.render().into());
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

#[derive(serde::Serialize)]
struct Status<'a> {
    role: &'static str,
    version: &'static str,
    database: Option<&'a str>,
    analyzer: &'static str,
    default_ack: String,
    ready: bool,
    epoch: u64,
    sequence: u64,
    position: String,
    digest: String,
    words: u64,
    namespaces: BTreeMap<String, u64>,
    writer: crate::leader::Status,
    uptime_seconds: u64,
}

/// `GET /status`: for people and for `memdb health`.
pub(super) fn status(site: &Site) -> Response {
    let (position, digest, namespaces) = {
        let guard = site.api.leader.reader().read();
        (guard.position(), guard.digest(), guard.namespaces())
    };
    let about = &site.api.about;
    let status = Status {
        role: about.role,
        version: env!("CARGO_PKG_VERSION"),
        database: about.database_id.as_deref(),
        analyzer: site.api.analyzer.name(),
        default_ack: about.default_ack.to_string(),
        ready: site.api.readiness.get(),
        epoch: position.epoch,
        sequence: position.sequence,
        position: position.to_string(),
        digest: format!("{digest:016x}"),
        words: namespaces.iter().map(|(_, words)| words).sum(),
        namespaces: namespaces.into_iter().collect(),
        writer: site.api.leader.status(),
        uptime_seconds: site.started.elapsed().as_secs(),
    };
    json(serde_json::to_vec(&status).expect("names are strings and numbers are finite"))
}

fn json(body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
