//! The state that the routes of one serving thread share.

use super::{
    Api, Role,
    body::Uploads,
    bulk::limiter::BulkLimiter,
    coding::ENCODED_AT_ONCE,
    guesses::Guesses,
    problem::{Kind, Problem},
    settings::HttpSettings,
};
use crate::{client::Forward, leader::Leader, tally::Pool, view::Current};
use std::sync::Arc;
use tokio::{sync::Semaphore, time::Instant};

/// State that the routes answer from. Cloned for each serving thread, so that the reference counts of its `Arc` stay on
/// one core.
pub(super) struct AppState {
    pub(super) api: Api,
    pub(super) settings: HttpSettings,
    pub(super) uploads: Arc<Uploads>,
    /// As `uploads`, for what other nodes send.
    pub(super) offers: Arc<Uploads>,
    /// Limits the counting of bulk bodies.
    pub(super) bulk_limiter: Arc<BulkLimiter>,
    /// Tallies of posts: what is made for each and freed by the Writer, on another core, costs more than the counting.
    pub(super) tallies: Arc<Pool>,
    /// Wrong cluster secrets shown to any of the threads.
    pub(super) guesses: Arc<Guesses>,
    pub(super) started: Instant,
    /// A permit for each answer in pieces that is encoded.
    pub(super) encoders: Arc<Semaphore>,
}

/// As many answers as may be encoded at once.
pub(super) fn encoders() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ENCODED_AT_ONCE))
}

impl AppState {
    /// Gives the database that is served now.
    pub(super) fn current(&self) -> Result<Arc<Current>, Problem> {
        arc_swap::Guard::into_inner(self.api.view.current()).ok_or_else(nothing_to_read)
    }

    /// Returns whether this is a local replica.
    pub(super) fn follows_files(&self) -> bool {
        matches!(self.api.role, Role::LocalReplica { .. })
    }

    /// The way to the leader, on a follower.
    pub(super) fn forward(&self) -> Option<&Forward> {
        match &self.api.role {
            Role::Leader { .. } => None,
            Role::Replica { forward, .. } | Role::LocalReplica { forward, .. } => Some(forward),
        }
    }

    /// On a follower: the database that its leader leads, if that is known and another than this node's.
    pub(super) fn other_database(&self) -> Option<u128> {
        self.forward()?.other_database()
    }

    /// Returns whether this node serves current data, and passes writes on if it is a follower.
    pub(super) fn is_ready(&self) -> bool {
        self.api.view.is_ready() && self.other_database().is_none()
    }

    /// The way to the Writer, on a leader.
    pub(super) fn leader(&self) -> Result<&Leader, Problem> {
        match &self.api.role {
            Role::Leader { leader, .. } => Ok(leader),
            _ => Err(Problem::new(Kind::Internal, "a write was not forwarded")),
        }
    }
}

/// A follower that has nothing, or nothing that is right.
pub(super) fn nothing_to_read() -> Problem {
    Problem::new(Kind::NotReady, "this node has not received the counts of its leader yet; ask again, or another node")
}
