//! The facts about a node that its status gives.

use crate::{engine::leader::AckLevel, replication::NodeId};

/// The part of `/status` that does not change while the node has its role.
#[derive(Clone, Debug)]
pub struct NodeAbout {
    /// `leader`, `replica` or `local-replica`.
    pub role: &'static str,
    /// The name of the node.
    pub name: String,
    /// This run of the process.
    pub node: NodeId,
    /// The URL by which others reach the node.
    pub url: String,
    /// The reason why a replica that was to lead does not.
    pub not_promoted: Option<String>,
    /// On a leader: the level a write is acknowledged at when its request names none.
    pub default_ack: Option<AckLevel>,
}
