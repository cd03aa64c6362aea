//! The state that the routes of one serving thread share.

use super::{
    ApiContext, ServingRole,
    body::BodyBudget,
    bulk::limiter::BulkLimiter,
    coding::ENCODED_AT_ONCE,
    problem::{Problem, ProblemKind},
    secret_throttle::SecretThrottle,
    settings::HttpSettings,
};
use crate::{
    client::WriteForwarder, data::counts::word_counts::WordCountsPool, engine::leader::Leader,
    engine::view::ServedDatabase,
};
use std::sync::Arc;
use tokio::{sync::Semaphore, time::Instant};

/// State that the routes answer from. Cloned for each serving thread, so that the reference counts of its `Arc` stay on
/// one core.
pub(super) struct AppState {
    pub(super) api: ApiContext,
    pub(super) settings: HttpSettings,
    pub(super) uploads: Arc<BodyBudget>,
    /// As `uploads`, for what other nodes send.
    pub(super) offers: Arc<BodyBudget>,
    /// Limits the counting of bulk bodies.
    pub(super) bulk_limiter: Arc<BulkLimiter>,
    /// Tallies of posts: what is made for each and freed by the Writer, on another core, costs more than the counting.
    pub(super) tallies: Arc<WordCountsPool>,
    /// Wrong cluster secrets shown to any of the threads.
    pub(super) guesses: Arc<SecretThrottle>,
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
    pub(super) fn current(&self) -> Result<Arc<ServedDatabase>, Problem> {
        arc_swap::Guard::into_inner(self.api.view.current()).ok_or_else(nothing_to_read)
    }

    /// Returns whether this is a local replica.
    pub(super) fn follows_files(&self) -> bool {
        matches!(self.api.role, ServingRole::LocalReplica { .. })
    }

    /// The way to the leader, on a follower.
    pub(super) fn forward(&self) -> Option<&WriteForwarder> {
        match &self.api.role {
            ServingRole::Leader { .. } => None,
            ServingRole::Replica { forward, .. } | ServingRole::LocalReplica { forward, .. } => Some(forward),
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
            ServingRole::Leader { leader, .. } => Ok(leader),
            _ => Err(Problem::new(ProblemKind::Internal, "a write was not forwarded")),
        }
    }
}

/// A follower that has nothing, or nothing that is right.
pub(super) fn nothing_to_read() -> Problem {
    Problem::new(
        ProblemKind::NotReady,
        "this node has not received the counts of its leader yet; ask again, or another node",
    )
}
