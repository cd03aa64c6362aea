//! Counts over HTTP.
//!
//! A request reads straight down: `serve` accepts connections, as many as `addresses` lets a client have, and deals
//! them to threads; `lane` answers plain reads, `/health` and small posts by itself and leaves every other request,
//! with its connection, to those that follow; `connection` tells HTTP/1 from HTTP/2 and runs hyper; `door` lies between
//! hyper and the socket, keeps the time and lets only sound heads (`head`) pass; `front` refuses what no route should
//! see, and by `browsers` what pages of other sites send; `routes` names every route as a warp filter; `reads` and
//! `writes` answer, `bulk` for bodies of any length; `forward` passes writes on to the leader; `nodes` speaks to other
//! nodes; `problem` is the one shape of everything wrong.

mod body;
mod browsers;
mod bulk;
mod coding;
mod connection;
mod connection_limits;
mod decoding;
mod fast_path;
mod form;
mod forward;
mod framing;
#[cfg(feature = "failpoints")]
pub mod fuzz_api;
mod head;
mod headers;
mod help;
mod http1_guard;
mod json;
mod middleware;
mod nodes;
mod operations;
mod problem;
mod query;
mod reads;
mod replication_metrics;
mod request_log;
mod routes;
mod secret_throttle;
mod serve;
mod settings;
mod state;
mod sync;
#[cfg(feature = "failpoints")]
mod test_support;
mod timer;
mod update;
mod writes;

pub use browsers::BrowserPolicy;
pub use serve::HttpServer;
pub use settings::HttpSettings;

use crate::{
    base::metrics::NodeMetrics,
    base::secret::Secret,
    client::WriteForwarder,
    engine::leader::{AckLevel, Leader},
    engine::replica::ReplicaHandle,
    engine::view::DatabaseView,
    replication::{HistorySource, NodeId, PeerRegistry},
};
use std::sync::Arc;
use tokio::sync::Notify;

/// Everything that the routes answer from: handed in by the node, cheap to clone.
#[derive(Clone)]
pub struct ApiContext {
    /// The data that reads are answered from.
    pub view: Arc<DatabaseView>,
    /// The node's role: the destination of writes, and the requests of other nodes that it answers.
    pub role: ServingRole,
    /// The rule for requests that only nodes may send.
    pub nodes: NodeAccess,
    /// The rules for pages in browsers.
    pub browsers: Arc<BrowserPolicy>,
    /// Counters of requests, and the content of `/metrics`.
    pub metrics: Arc<NodeMetrics>,
    /// The constant part of `/status`.
    pub about: Arc<NodeAbout>,
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

/// The role of this node towards its clients and other nodes.
#[derive(Clone)]
pub enum ServingRole {
    /// It takes writes, and sends its records to replicas.
    Leader {
        /// The way to its Writer.
        leader: Leader,
        /// Its followers.
        registry: PeerRegistry,
        /// The source of snapshots and records for followers.
        archive: HistorySource,
    },
    /// It applies what its leader sends.
    Replica {
        /// The way to its thread.
        follower: ReplicaHandle,
        /// The way to the leader, for writes.
        forward: WriteForwarder,
        /// The source of records for a leader that has lost its newest ones.
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

/// The part of `/status` that does not change while the node runs.
#[derive(Clone, Debug)]
pub struct NodeAbout {
    /// `leader`, `replica` or `local-replica`.
    pub role: &'static str,
    /// This run of the process.
    pub node: NodeId,
    /// The URL by which others reach the node.
    pub url: String,
    /// The reason why a replica that was to lead does not.
    pub not_promoted: Option<String>,
    /// On a leader: the level a write is acknowledged at when its request names none.
    pub default_ack: Option<AckLevel>,
}
