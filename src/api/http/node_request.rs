//! The requests of nodes that share their path with clients, and what tells them apart.

use crate::replication::{RECORDS_TYPE, SNAPSHOT_TYPE};
use http::{HeaderMap, Method, header};

/// The requests of nodes that share their path with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeRequest {
    /// Records that a leader offers to a replica.
    Offer,
    /// The newest snapshot, to be fetched.
    Snapshot,
    /// Records, to be fetched.
    Records,
}

impl NodeRequest {
    /// Finds what a node asks for; none if it is a client that asks. ◆ The check of rights and the routes both ask
    /// here: a request that is a node's for one of them and a client's for the other would be answered without its
    /// right.
    pub(super) fn of(method: &Method, fields: &HeaderMap) -> Option<Self> {
        let says = |name, media| is(fields.get(name).and_then(|value| value.to_str().ok()), media);
        match *method {
            Method::POST => says(header::CONTENT_TYPE, RECORDS_TYPE).then_some(Self::Offer),
            _ if says(header::ACCEPT, SNAPSHOT_TYPE) => Some(Self::Snapshot),
            _ => says(header::ACCEPT, RECORDS_TYPE).then_some(Self::Records),
        }
    }
}

/// Returns whether a content type, or what a client accepts, is this one of ours.
pub(super) fn is(given: Option<&str>, media: &str) -> bool {
    given.is_some_and(|given| given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media))
}
