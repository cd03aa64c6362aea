//! The state that the routes of one serving thread share.

use super::{
    BrowserPolicy, NodeAccess, bulk::limiter::BulkLimiter, coding::ENCODED_AT_ONCE, request_log::RequestLog,
    secret_throttle::GuessThrottle, settings::HttpSettings, watch::MovementTicker,
};
use crate::{
    api::auth::AccessControl,
    api::service::watch::SharedRankings,
    api::service::{ClusterStatsSource, Service},
    base::clock::LoggedTime,
    base::limits,
    net::{
        address_limits::{AddressShares, Resource},
        budget::Budget,
        tls::{handshakes::HandshakeSlots, node::NodeTls},
    },
};
use std::sync::Arc;
use tokio::time::Instant;

/// State that the routes answer from. Cloned for each serving thread, so that the reference counts of its `Arc` stay on
/// one core.
pub(super) struct AppState {
    pub(super) service: Service,
    /// The rule for requests that only nodes may send.
    pub(super) nodes: NodeAccess,
    /// The users, and who may ask for what.
    pub(super) access: Arc<AccessControl>,
    /// The rules for pages in browsers.
    pub(super) browsers: Arc<BrowserPolicy>,
    pub(super) settings: HttpSettings,
    /// The certificate to show, if connections are protected.
    pub(super) tls: Arc<NodeTls>,
    pub(super) budgets: Budgets,
    /// Limits the counting of bulk bodies.
    pub(super) bulk_limiter: Arc<BulkLimiter>,
    /// Tells the watchers of this thread when to look.
    pub(super) movement: Arc<MovementTicker>,
    /// The largest counts that watchers of all threads are sent.
    pub(super) rankings: Arc<SharedRankings>,
    /// The numbers of all nodes.
    pub(super) cluster_stats: Arc<ClusterStatsSource>,
    /// Wrong secrets and passwords shown to any of the threads.
    pub(super) guesses: Arc<GuessThrottle>,
    pub(super) request_log: Arc<RequestLog>,
    pub(super) started: Instant,
}

/// The budgets of all clients of all threads, but for connections and lines.
#[derive(Clone)]
pub(super) struct Budgets {
    /// Bytes of request bodies.
    pub(super) uploads: Arc<Budget>,
    /// As `uploads`, for what other nodes send.
    pub(super) offers: Arc<Budget>,
    /// Reads that wait for a position.
    pub(super) waiting_reads: Arc<Budget>,
    /// Reads through to an origin that this node has no fresh copy for.
    pub(super) origin_reads: Arc<Budget>,
    /// Bytes of long rankings that clients have not taken yet.
    pub(super) rankings: Arc<Budget>,
    /// Streams of events.
    pub(super) watchers: Arc<Budget>,
    /// TLS handshakes under way.
    pub(super) handshakes: Arc<HandshakeSlots>,
    /// Answers in pieces that one thread encodes: the bound is on what the thread has to do, so each has its own.
    pub(super) encoders: Arc<Budget>,
}

impl AppState {
    /// The time since 1970 in milliseconds, by which tokens expire.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.service.clock.wall().ahead_of_ms(LoggedTime::ZERO)).unwrap_or(0)
    }
}

impl Budgets {
    pub(super) fn new(settings: &HttpSettings, shares: AddressShares) -> Self {
        let budget = |resource, bound| Budget::new(resource, bound, shares.of(bound));
        Self {
            uploads: budget(Resource::UploadBytes, settings.max_upload_bytes),
            // Half of it has room for the largest offer.
            offers: budget(Resource::OfferBytes, 2 * limits::MAX_OFFER_BYTES),
            waiting_reads: budget(Resource::WaitingReads, settings.max_waiting_reads),
            origin_reads: budget(Resource::OriginReads, limits::ORIGIN_WAITING_READS),
            rankings: budget(Resource::RankingBytes, limits::RANKING_BYTES),
            watchers: budget(Resource::Watchers, settings.max_watchers),
            handshakes: HandshakeSlots::new(limits::MAX_TLS_HANDSHAKES, shares.of(limits::MAX_TLS_HANDSHAKES)),
            encoders: budget(Resource::EncodedAnswers, ENCODED_AT_ONCE),
        }
    }

    /// The budgets as another serving thread has them.
    pub(super) fn of_another_thread(&self, shares: AddressShares) -> Self {
        let encoders = Budget::new(Resource::EncodedAnswers, ENCODED_AT_ONCE, shares.of(ENCODED_AT_ONCE));
        Self { encoders, ..self.clone() }
    }
}
