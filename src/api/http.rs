//! Counts over HTTP.
//!
//! A request reads straight down: `serve` accepts connections, as many as `connection_limits` lets a client have, and deals them to
//! threads; `fast_path` answers plain reads, `/health` and small posts by itself and leaves every other request, with its connection,
//! to those that follow; `connection` tells HTTP/1 from HTTP/2 and runs hyper; `http1_guard` lies between hyper and the socket, keeps the time and lets only sound
//! heads (`head`) pass; `middleware` refuses what no route should see, and by `browsers` what pages of other sites send; `routes` names every route as a warp filter; `reads`
//! and `writes` answer, `bulk` for bodies of any length; `forward` passes writes on to the leader; `nodes` speaks to other nodes; `problem` is the one shape of everything wrong.

mod connection_limits;
mod body;
mod browsers;
mod bulk;
mod coding;
mod connection;
mod decoding;
mod http1_guard;
mod form;
mod forward;
mod framing;
mod middleware;
mod secret_throttle;
mod head;
mod headers;
mod help;
mod json;
mod fast_path;
mod nodes;
mod replication_metrics;
mod operations;
mod problem;
mod query;
mod reads;
mod request_log;
mod routes;
mod serve;
mod settings;
mod state;
mod sync;
#[cfg(feature = "failpoints")]
mod test_support;
mod timer;
#[cfg(feature = "failpoints")]
pub mod fuzz_api;
mod update;
mod writes;

pub use browsers::BrowserPolicy;
pub use serve::HttpServer;
pub use settings::HttpSettings;

use crate::{
    client::WriteForwarder,
    leader::{AckLevel, Leader},
    metrics::NodeMetrics,
    replica::ReplicaHandle,
    replication::{HistorySource, NodeId, PeerRegistry},
    secret::Secret,
    view::DatabaseView,
};
use std::sync::Arc;
use tokio::sync::Notify;

/// What the routes answer from: handed in by the node, cheap to clone.
#[derive(Clone)]
pub struct ApiContext {
    /// What is read.
    pub view: Arc<DatabaseView>,
    /// Where writes go, and what other nodes may ask.
    pub role: ServingRole,
    /// Who may ask what nodes ask each other.
    pub nodes: NodeAccess,
    /// What pages in browsers may do.
    pub browsers: Arc<BrowserPolicy>,
    /// Where requests are counted, and what `/metrics` shows.
    pub metrics: Arc<NodeMetrics>,
    /// What `/status` tells beside the live numbers.
    pub about: Arc<NodeAbout>,
}

/// Who may ask what nodes ask each other.
#[derive(Clone, Debug)]
pub enum NodeAccess {
    /// Whoever reaches this node: it listens on loopback.
    Anyone,
    /// Whoever shows the secret of the cluster.
    Secret(Secret),
    /// Nobody: others can reach this node, and there is no secret.
    Nobody,
}

/// What this node is to its clients and to other nodes.
#[derive(Clone)]
pub enum ServingRole {
    /// It takes writes, and sends its records to replicas.
    Leader {
        /// The way to its Writer.
        leader: Leader,
        /// Its followers.
        registry: PeerRegistry,
        /// What followers fetch.
        archive: HistorySource,
    },
    /// It applies what its leader sends.
    Replica {
        /// The way to its thread.
        follower: ReplicaHandle,
        /// The way to the leader, for writes.
        forward: WriteForwarder,
        /// What a leader fetches that has lost its newest records.
        archive: HistorySource,
    },
    /// It follows its leader's files.
    LocalReplica {
        /// Told when the leader gives notice.
        notice: Arc<Notify>,
        /// The way to the leader, for writes.
        forward: WriteForwarder,
    },
}

/// What `/status` tells that does not change while the node runs.
#[derive(Clone, Debug)]
pub struct NodeAbout {
    /// `leader`, `replica` or `local-replica`.
    pub role: &'static str,
    /// This run of the process.
    pub node: NodeId,
    /// Where others reach it.
    pub url: String,
    /// Why a replica that was to lead does not.
    pub not_promoted: Option<String>,
    /// On a leader: the level a write is acknowledged at when its request names none.
    pub default_ack: Option<AckLevel>,
}
