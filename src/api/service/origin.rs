//! Reads through to the origin: what the cache does not have, the leader fetches once, however many ask.
//!
//! Any node answers with its own copy as long as that is fresh. Otherwise a follower asks its leader, one hop, and
//! passes the answer on; the leader decides by `engine/leader/origin_fetches.rs`, and here it is done: the fetch in a
//! task of its own, which no client that goes away can end, and the write of its value under the lease of its key.

use super::{
    EntryOf, INLINE_TEXT_BYTES, LeaderAnswer, ReadQuery as _, RoleContext, Service, revalidation::RevalidationSet,
};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::clock::LoggedTime,
    base::limits::{FORWARD_PATIENCE_MS, ORIGIN_READS_FORWARDED},
    base::position::{Position, PositionToken},
    data::command::{AckLevel, WriteBatch, WriteError},
    data::counts::WriteOp,
    data::entries::{CollectionId, CollectionKind, Entry, EntryOp, EntryWrite, Expiry, NewValue, WriteCondition},
    engine::leader::{
        FetchAnswer, FetchEnd, FetchFailure, FetchInProgress, FetchOrder, KeptValue, Leader, OriginDecision, OriginKey,
        OriginRules, SharedFetches,
    },
    net::{
        address_limits::{Line, Usage},
        origin_client::{FetchedValue, OriginClient, OriginError},
        write_forwarder::{ForwardError, ForwardedAnswer, WriteForwarder},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// The source of values that the cache does not have.
pub struct OriginSource {
    /// The way to it.
    pub client: OriginClient,
    /// The rules of its values.
    pub rules: OriginRules,
    /// Reads that a follower has passed on and that are not answered yet.
    forwarded: Semaphore,
    /// Stale values of which a follower has its leader asked behind an answer.
    revalidations: Arc<RevalidationSet>,
}

impl OriginSource {
    /// An origin that nobody has asked yet.
    pub fn new(client: OriginClient, rules: OriginRules) -> Self {
        // Fewer than the places at the forwarder: an origin that is slow leaves places for writes.
        let forwarded = Semaphore::new(ORIGIN_READS_FORWARDED);
        Self { client, rules, forwarded, revalidations: Arc::default() }
    }
}

/// A read through to the origin.
#[derive(Clone, Copy, Debug)]
pub struct ThroughRead<'a> {
    /// The namespace of the value's collection.
    pub namespace: &'a str,
    /// The key, which the origin knows it by.
    pub key: &'a str,
    /// The position that the client wants to be applied before.
    pub min_position: Option<PositionToken>,
    /// Of which database a follower says to be that has passed it on.
    pub stated: Option<&'a str>,
}

/// A value, and how it is served.
pub struct ThroughValue {
    /// The value.
    pub entry: Entry,
    /// A position at which it holds.
    pub position: PositionToken,
    /// On a follower: the age that it may have, in milliseconds.
    pub lag_ms: Option<u64>,
    /// The time since it is no longer fresh, in milliseconds; `None`: it is fresh.
    pub stale_since_ms: Option<u64>,
}

/// The answer to a read through to the origin.
pub enum ThroughAnswer {
    /// This node has the value.
    Here(ThroughValue),
    /// The leader has answered.
    FromLeader(LeaderAnswer),
}

impl Service {
    /// Returns whether a value that is stored is served: it has not expired, and if it is read through to the origin,
    /// it is fresh.
    #[inline]
    pub fn is_served(&self, entry: &Entry, reads_through: bool) -> bool {
        let Some(expires) = entry.expires() else { return true };
        let stale_ms = self.origin.as_ref().filter(|_| reads_through).map_or(0, |origin| origin.rules.stale_ms());
        expires.since_ms(self.logged_time()) > stale_ms
    }

    /// Reads a value, which the leader fetches from the origin if nobody has it. `ask_leader` sends the read on as it
    /// came.
    ///
    /// # Errors
    /// If the origin gives no value, there is no origin, nobody leads, or as much is under way as may be.
    pub async fn read_through<F>(
        &self,
        wanted: ThroughRead<'_>,
        usage: &Usage,
        ask_leader: impl FnOnce(WriteForwarder) -> F + Send + 'static,
    ) -> Result<ThroughAnswer, ApiError>
    where
        F: Future<Output = Result<ForwardedAnswer, ForwardError>> + Send,
    {
        self.check_meant(wanted.stated)?;
        // What a follower passes on, it has counted itself.
        let lag_ms = self.wait_for(wanted.min_position, usage).await?;
        let stale = match self.held(wanted, lag_ms)? {
            Some(fresh) if fresh.stale_since_ms.is_none() => {
                self.metrics.entries_read(u64::from(wanted.stated.is_none()), 0);
                return Ok(ThroughAnswer::Here(fresh));
            }
            stale => stale,
        };
        self.metrics.entries_read(0, u64::from(wanted.stated.is_none()));
        let role = self.role();
        let leads = role.leader().is_some() && !role.is_ending;
        let stale = match stale {
            // Never behind the leader or the origin, nor behind a change of roles. A leader decides below.
            Some(stale) if !leads && self.serves_at_once(&stale) => {
                self.revalidate(&role, wanted, ask_leader);
                return Ok(ThroughAnswer::Here(stale));
            }
            stale => stale,
        };
        let role = self.settled_role().await;
        match role.forward() {
            Some(leader) => self.ask_leader((leader, usage), (wanted, stale), ask_leader).await,
            None => self.fetch_through(&role, wanted).await.map(ThroughAnswer::Here),
        }
    }

    /// The value that this node has, fresh or stale.
    fn held(&self, wanted: ThroughRead<'_>, lag_ms: Option<u64>) -> Result<Option<ThroughValue>, ApiError> {
        let query = EntryOf { collection: collection(wanted.namespace), key: wanted.key };
        let Some((found, position)) = query.answer(&*self.current()?) else { return Ok(None) };
        let now = self.logged_time();
        let held = |entry: Entry| {
            let left_ms = entry.expires().map(|expires| expires.since_ms(now));
            let rules = self.origin.as_ref().map(|origin| origin.rules);
            let stale_since_ms = rules.and_then(|rules| rules.stale_since_ms(left_ms));
            ThroughValue { entry, position, lag_ms, stale_since_ms }
        };
        Ok(found.filter(|entry| !entry.has_expired(now)).map(held))
    }

    /// On a follower: the leader's answer, or what is stale here while there is no leader.
    async fn ask_leader<F>(
        &self,
        (leader, usage): (&WriteForwarder, &Usage),
        (wanted, stale): (ThroughRead<'_>, Option<ThroughValue>),
        ask: impl FnOnce(WriteForwarder) -> F,
    ) -> Result<ThroughAnswer, ApiError>
    where
        F: Future<Output = Result<ForwardedAnswer, ForwardError>>,
    {
        if wanted.stated.is_some() {
            return Err(
                self.not_leader("this node follows a leader, and another follower has passed the read on to it")
            );
        }
        if let Some(other) = self.leads_another() {
            return Err(other.as_refusal());
        }
        let Some(origin) = &self.origin else { return Err(no_origin()) };
        // One address waits for its own turn first, and so others come in between.
        let place = async { (usage.turn(Line::OriginReads).await, origin.forwarded.acquire().await) };
        let waited = timeout(Duration::from_millis(FORWARD_PATIENCE_MS), place).await;
        let Ok((_turn, Ok(_place))) = waited else {
            return stale.filter(|stale| self.serves_on_error(stale)).map(ThroughAnswer::Here).ok_or_else(too_many);
        };
        match ask(leader.clone()).await {
            Ok(answer) => Ok(ThroughAnswer::FromLeader(LeaderAnswer { answer, under_made_key: false })),
            Err(error) => match stale.filter(|stale| self.serves_on_error(stale)) {
                Some(stale) => Ok(ThroughAnswer::Here(stale)),
                None => Err(ApiError::new(
                    ErrorKind::LeaderAway,
                    format!("{error}, and it alone fetches values; ask again"),
                )),
            },
        }
    }

    /// On a follower: has the leader asked behind an answer.
    fn revalidate<F>(
        &self,
        role: &RoleContext,
        wanted: ThroughRead<'_>,
        ask: impl FnOnce(WriteForwarder) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<ForwardedAnswer, ForwardError>> + Send,
    {
        let (Some(leader), Some(origin), None) = (role.forward(), &self.origin, self.leads_another()) else { return };
        let key = OriginKey { namespace: wanted.namespace.into(), key: wanted.key.into() };
        // One that another follower has passed on is that one's to ask about: it is one hop.
        let Some(turn) = origin.revalidations.begin(key).filter(|_| wanted.stated.is_none()) else { return };
        let leader = leader.clone();
        tokio::spawn(async move {
            let _turn = turn;
            // Its value comes as a record; where there is none, the next read asks again.
            let _ = ask(leader).await;
        });
    }

    fn serves_at_once(&self, value: &ThroughValue) -> bool {
        let rules = self.origin.as_ref().map(|origin| origin.rules);
        value.stale_since_ms.zip(rules).is_some_and(|(since_ms, rules)| rules.serves_at_once(since_ms))
    }

    fn serves_on_error(&self, value: &ThroughValue) -> bool {
        let rules = self.origin.as_ref().map(|origin| origin.rules);
        value.stale_since_ms.zip(rules).is_some_and(|(since_ms, rules)| rules.serves_on_error(since_ms))
    }

    /// On a leader: the value that is here, or that is fetched.
    async fn fetch_through(&self, role: &RoleContext, wanted: ThroughRead<'_>) -> Result<ThroughValue, ApiError> {
        let Some(origin) = &self.origin else { return Err(no_origin()) };
        if !origin.client.can_name(wanted.key) {
            let detail = "no URL of the origin can name this key";
            return Err(ApiError::new(ErrorKind::InvalidParameter, detail));
        }
        let (Some(leader), Some(fetches), false) = (role.leader(), role.shard.fetches(), role.is_ending) else {
            return Err(ended());
        };
        let key = OriginKey { namespace: wanted.namespace.into(), key: wanted.key.into() };
        let mut reply = None;
        let (held, decision) = {
            let mut fetches = fetches.lock();
            // Looked up while nobody else decides: a fetch leaves once its value is here.
            let held = self.held(wanted, None)?;
            let kept = held
                .as_ref()
                .map(|held| KeptValue { version: held.entry.version(), stale_since_ms: held.stale_since_ms });
            let decision = fetches.ask(&origin.rules, (&key, kept), self.clock.monotonic(), || {
                let (waiter, answer) = oneshot::channel();
                reply = Some(answer);
                waiter
            });
            (held, decision)
        };
        let failed = match decision {
            OriginDecision::ServeFresh | OriginDecision::ServeStale => return held.ok_or_else(ended),
            OriginDecision::ServeStaleAndFetch(order) => {
                self.begin_fetch(leader, fetches, order);
                return held.ok_or_else(ended);
            }
            OriginDecision::Failed(failure) => failure,
            OriginDecision::TooMany => return Err(too_many()),
            OriginDecision::Fetch(order) => {
                self.begin_fetch(leader, fetches, order);
                match answer_of(reply).await? {
                    FetchAnswer::Value(entry, position) => return self.fetched(entry, position),
                    FetchAnswer::Failed(failure) => failure,
                }
            }
            OriginDecision::Wait => {
                self.metrics.origin.deduplicated.inc();
                match answer_of(reply).await? {
                    FetchAnswer::Value(entry, position) => return self.fetched(entry, position),
                    FetchAnswer::Failed(failure) => failure,
                }
            }
        };
        let position = self.current()?.reader.read().position();
        match held.filter(|held| failed != FetchFailure::NotFound && self.serves_on_error(held)) {
            Some(stale) => Ok(stale),
            // At a position, as every answer that finds nothing: it is the origin's word, of this database.
            None if failed == FetchFailure::NotFound => {
                Err(of_failure(&failed).read_at(self.current()?.identity.token(position), None))
            }
            None => Err(of_failure(&failed)),
        }
    }

    /// Makes a fetch, whoever waits for it.
    fn begin_fetch(&self, leader: &Leader, fetches: &Arc<SharedFetches>, order: FetchOrder) {
        let in_progress = FetchInProgress::new(Arc::clone(fetches), order.id);
        let (service, leader, fetches) = (self.clone(), leader.clone(), Arc::clone(fetches));
        tokio::spawn(async move {
            if let Some(answer) = service.fetch(&leader, &fetches, order).await {
                in_progress.answer(&answer);
            }
        });
    }

    /// Fetches a value and stores it; `None` if the leader's time has ended meanwhile.
    async fn fetch(&self, leader: &Leader, fetches: &SharedFetches, order: FetchOrder) -> Option<FetchAnswer> {
        let origin = self.origin.as_ref()?;
        // Escaped: a key may hold the end of a line.
        tracing::info!("fetching key from backend: {}", order.key.key.escape_debug());
        self.metrics.origin.loads.inc();
        let fetched = origin.client.fetch(&order.key.key).await;
        let failure = fetched.as_ref().err().map(failure_of);
        if let Some(failure) =
            failure.as_ref().filter(|failure| !matches!(failure, FetchFailure::NotFound | FetchFailure::Busy))
        {
            self.metrics.origin.errors.inc();
            tracing::debug!("no value for {}: {failure}", order.key.key.escape_debug());
        }
        let end = fetches.lock().ended(order.id, failure.as_ref(), self.clock.monotonic());
        match (fetched, end) {
            (Ok(value), FetchEnd::Store) => self.store_fetched(leader, &order, value, &origin.rules).await,
            (_, FetchEnd::Remove) => {
                let _ = self.write_fetched(leader, &order, EntryOp::Remove).await; // it expires without that too
                failure.map(FetchAnswer::Failed)
            }
            _ => failure.map(FetchAnswer::Failed),
        }
    }

    async fn store_fetched(
        &self,
        leader: &Leader,
        order: &FetchOrder,
        FetchedValue { bytes, content_type, share: _share }: FetchedValue,
        rules: &OriginRules,
    ) -> Option<FetchAnswer> {
        let is_small = bytes.len() <= INLINE_TEXT_BYTES;
        let make = move || NewValue::new(bytes, &content_type);
        let value = if is_small { make() } else { tokio::task::spawn_blocking(make).await.ok()? };
        let kept_ms = rules.kept_ms();
        let expires = LoggedTime::from_ms(self.logged_time().as_ms().saturating_add(kept_ms));
        let entry = value.as_entry(&order.key.key, Some(expires));
        let put = EntryOp::Put(value, Expiry::AfterMs(kept_ms));
        match self.write_fetched(leader, order, put).await {
            Ok(position) => Some(FetchAnswer::Value(entry, position)),
            // Nobody knows who leads now, and what has been written since.
            Err(WriteError::Stopping | WriteError::SteppedDown | WriteError::OutcomeUnknown) => None,
            // It is not kept, because its key was written meanwhile or there is no room, and it answers who has waited.
            Err(_) => {
                let position = self.current().ok()?.reader.read().position();
                Some(FetchAnswer::Value(entry, position))
            }
        }
    }

    /// Writes what a fetch has brought, if its key is as it was when the fetch began.
    async fn write_fetched(&self, leader: &Leader, order: &FetchOrder, op: EntryOp) -> Result<Position, WriteError> {
        let Ok(current) = self.current() else { return Err(WriteError::Stopping) };
        let condition = WriteCondition::Leased(order.lease.clone());
        let write = EntryWrite { kind: CollectionKind::Cache, key: order.key.key.clone(), op, condition };
        let batch = WriteBatch {
            namespace: order.key.namespace.clone(),
            op: WriteOp::Add,
            counts: self.tallies.take(current.identity.hasher()),
            entries: vec![write],
            words: 0,
            left_out: 0,
            is_post: false,
            key: None,
            fingerprint: 0,
        };
        leader.submit(batch, Some(AckLevel::Leader)).await.map(|receipt| receipt.position)
    }

    fn fetched(&self, entry: Entry, position: Position) -> Result<ThroughValue, ApiError> {
        let position = self.current()?.identity.token(position);
        Ok(ThroughValue { entry, position, lag_ms: None, stale_since_ms: None })
    }
}

const fn collection(namespace: &str) -> CollectionId<'_> {
    CollectionId::new(CollectionKind::Cache, namespace)
}

async fn answer_of(reply: Option<oneshot::Receiver<FetchAnswer>>) -> Result<FetchAnswer, ApiError> {
    let Some(reply) = reply else { return Err(ended()) };
    reply.await.map_err(|_| ended())
}

fn failure_of(error: &OriginError) -> FetchFailure {
    match error {
        OriginError::NotFound => FetchFailure::NotFound,
        OriginError::TimedOut => FetchFailure::TimedOut,
        OriginError::Busy => FetchFailure::Busy,
        OriginError::NoUrl => FetchFailure::Failed("no URL of the origin can name this key".into()),
        OriginError::Failed(why) => FetchFailure::Failed(why.as_str().into()),
    }
}

fn of_failure(failure: &FetchFailure) -> ApiError {
    match failure {
        FetchFailure::NotFound => ApiError::new(ErrorKind::OriginNotFound, "the origin has no value of this key"),
        FetchFailure::TimedOut => {
            ApiError::new(ErrorKind::OriginTimeout, "the origin has not answered within --origin-timeout; ask again")
        }
        FetchFailure::Busy => ApiError::new(ErrorKind::OriginBusy, format!("{failure}; ask again")),
        FetchFailure::Failed(why) => ApiError::new(ErrorKind::OriginFailed, format!("{why}; ask again")),
    }
}

fn no_origin() -> ApiError {
    ApiError::new(
        ErrorKind::NoOrigin,
        "this node was started without --origin, so what is not stored here is fetched by nobody",
    )
}

fn too_many() -> ApiError {
    ApiError::new(ErrorKind::OriginBusy, "as many values are fetched, or waited for, as may be; ask again")
}

/// The error where the leader's time has ended: a fetch does not outlive it.
fn ended() -> ApiError {
    ApiError::new(ErrorKind::Stopping, "the node no longer leads, or not yet; ask again")
}
