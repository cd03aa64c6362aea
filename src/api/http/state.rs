//! The state that the routes of one serving thread share.

use super::{
    BrowserPolicy, NodeAccess, body::BodyBudget, bulk::limiter::BulkLimiter, coding::ENCODED_AT_ONCE,
    secret_throttle::SecretThrottle, settings::HttpSettings,
};
use crate::api::service::Service;
use std::sync::Arc;
use tokio::{sync::Semaphore, time::Instant};

/// State that the routes answer from. Cloned for each serving thread, so that the reference counts of its `Arc` stay on
/// one core.
pub(super) struct AppState {
    pub(super) service: Service,
    /// The rule for requests that only nodes may send.
    pub(super) nodes: NodeAccess,
    /// The rules for pages in browsers.
    pub(super) browsers: Arc<BrowserPolicy>,
    pub(super) settings: HttpSettings,
    pub(super) uploads: Arc<BodyBudget>,
    /// As `uploads`, for what other nodes send.
    pub(super) offers: Arc<BodyBudget>,
    /// Limits the counting of bulk bodies.
    pub(super) bulk_limiter: Arc<BulkLimiter>,
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
