//! Counts over HTTP.
//!
//! A request reads straight down: `net/listener.rs` accepts connections, as many as a client's address may have
//! (`net/budget.rs`), and deals them to threads, whose state `serve` makes; `fast_path` answers plain reads, `/health`
//! and small posts by itself and leaves every other request, with its connection, to those that follow; `connection`
//! tells HTTP/1 from HTTP/2 and runs hyper; `http1_guard` lies between hyper and the socket, and lets only sound heads
//! (`head`) pass; `times` has the times of both; `middleware` refuses what no route should see, and by `browsers` what
//! pages of other origins send; `routes` has a table of every route; `reads` and `writes` turn requests into queries
//! and commands for the service, and its replies into answers, `bulk` those of any length; `entries` and `posts` do so
//! for entries; `watch` sends what changes; `nodes` speaks to other nodes; `problem` is the one shape of everything
//! wrong.

mod access;
#[cfg(feature = "failpoints")]
pub mod access_cases;
mod body;
mod browsers;
mod bulk;
mod chunks;
mod coding;
mod connection;
mod counter_queues;
mod counters;
mod decoding;
mod entries;
mod export;
mod fast_path;
mod form;
mod framing;
#[cfg(feature = "failpoints")]
pub mod fuzz_api;
mod head;
mod headers;
mod help;
mod http1_guard;
mod json;
mod middleware;
mod namespaces;
mod node_request;
mod nodes;
mod openapi;
mod operations;
mod origin_demo;
mod plain_post;
mod posts;
mod problem;
mod query;
mod ranking;
mod read_fallback;
mod reads;
mod replication_metrics;
mod request;
mod request_log;
mod route;
mod route_access;
mod routes;
mod secret_throttle;
mod serve;
mod settings;
mod state;
mod stats;
mod sync;
#[cfg(feature = "failpoints")]
mod test_support;
mod times;
mod update;
mod watch;
mod write_request;
mod writes;

pub use browsers::BrowserPolicy;
pub use origin_demo::DemoOrigin;
pub use route::ROUTE_LABELS;
pub use serve::HttpServer;
pub use settings::HttpSettings;

pub use super::service::{NodeAbout, OriginSource};

use crate::{
    api::auth::AccessControl,
    base::clock::Clock,
    base::metrics::NodeMetrics,
    base::secret::Secret,
    engine::shard::Shard,
    net::{tls::node::NodeTls, write_forwarder::WriteForwarder},
};
use std::sync::Arc;

/// Everything that the routes answer from: handed in by the node, cheap to clone.
#[derive(Clone)]
pub struct ApiContext {
    /// The shard that is served, in its role.
    pub shard: Shard,
    /// The way to the leader, on a follower.
    pub forward: Option<WriteForwarder>,
    /// The rule for requests that only nodes may send.
    pub nodes: NodeAccess,
    /// The rules for pages in browsers.
    pub browsers: Arc<BrowserPolicy>,
    /// Reads the time that passes, by which entries expire.
    pub clock: Arc<dyn Clock>,
    /// Counters of requests, and the content of `/metrics`.
    pub metrics: Arc<NodeMetrics>,
    /// The constant part of `/status`.
    pub about: Arc<NodeAbout>,
    /// The users, and who may ask for what.
    pub access: Arc<AccessControl>,
    /// The source of values that the cache does not have, if there is one.
    pub origin: Option<Arc<OriginSource>>,
    /// The certificate that the node shows, and the authorities of other nodes.
    pub tls: Arc<NodeTls>,
}

/// The rule for requests that only nodes may send.
#[derive(Clone, Debug)]
pub enum NodeAccess {
    /// Everybody may send them: the node listens on loopback.
    Anyone,
    /// They have to show the secret of the cluster.
    Secret(Secret),
    /// Nobody: others can reach this node, and there is no secret.
    Nobody,
}

impl NodeAccess {
    /// The secret by which this node proves to others that it is one.
    pub(in crate::api::http) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Secret(secret) => Some(secret),
            Self::Anyone | Self::Nobody => None,
        }
    }
}
