//! Passes a client's write on to the leader.
//!
//! Where the write goes next, and when it is given up, `replication/forward_plan.rs` decides; here the tries are made,
//! and what is known of the leader is kept. One hop at most: the leader is told that the write was forwarded, and
//! whoever is no leader refuses it then.

use super::{
    http_client,
    peer_link::{DATABASE_HEADER, leader_in, problem_in},
    read_fallback::ReadFallback,
    tls::client::ClientTls,
};
use crate::{
    base::limits,
    base::metrics::ForwardTotals,
    base::secret::Secret,
    base::trace::TraceParent,
    replication::{ForwardPlan, ForwardStep, TryResult},
};
use bytes::Bytes;
use parking_lot::RwLock;
use prometheus::IntGauge;
use reqwest::{
    Client, Method, Url,
    header::{HeaderMap, RETRY_AFTER},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout},
};

/// Says that a write has come by way of a follower, and of which database that is: the id in hexadecimal digits.
pub const FORWARDED: &str = "memdb-forwarded";
/// The value of [`FORWARDED`] of a follower that holds no database yet.
pub const OF_NO_DATABASE: &str = "1";

/// Patience for a connection: nothing was sent yet, and another try may find the next leader.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Patience for one try of a write of usual size.
pub const TRY_TIMEOUT: Duration = Duration::from_secs(5);
// A leader that waits for a replica still answers in time.
const _: () = assert!(limits::MAX_ACK_TIMEOUT_MS < TRY_TIMEOUT.as_millis() as u64);
/// The status by which a follower refuses a write that was forwarded already.
const NOT_LEADER: u16 = 421;
/// Problems by which a node that is about to lead no more, or does not lead yet, refuses what it has not applied.
const BETWEEN_LEADERS: [&str; 3] = ["stopping", "stepped-down", "not-ready"];
/// The header of a key.
const KEY: &str = "idempotency-key";
/// Time that one more forwarded write waits for another to end.
const WAIT: Duration = Duration::from_millis(limits::FORWARD_PATIENCE_MS);

/// The way to the leader. Cheap to clone.
#[derive(Clone)]
pub struct WriteForwarder {
    http: Client,
    leader: Arc<RwLock<Option<KnownLeader>>>,
    /// Wakes what waits for a leader.
    changes: Arc<watch::Sender<()>>,
    /// The database that this node holds, or that its files are of; none yet, or it has none.
    own: Arc<RwLock<Option<u128>>>,
    under_way: Arc<Semaphore>,
    /// Bytes that those may have that wait for a leader.
    waiting_bytes: Arc<Semaphore>,
    random: fn() -> io::Result<u128>,
    reads: ReadFallback,
    secret: Option<Secret>,
}

struct KnownLeader {
    url: Url,
    /// The database that it leads, once it has said so.
    database: Option<u128>,
}

/// A write as it is sent on.
#[derive(Clone, Debug)]
pub struct OutgoingWrite {
    /// The method.
    pub method: Method,
    /// The path, and the query behind it.
    pub target: String,
    /// The headers that go along, with the name that the client has given it.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Patience for one try.
    pub patience: Duration,
}

/// The leader's answer.
pub struct ForwardedAnswer {
    /// The HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// The reason why a write was not passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Nobody to pass it on to, or nothing listens there: certainly not applied.
    #[error("the leader cannot be reached: {0}")]
    Away(String),
    /// It was passed on, and no answer came: it may have been applied.
    #[error("the leader has not answered: {0}")]
    Unknown(String),
}

impl WriteForwarder {
    /// The way to the leader at `leader`, if that is known yet. Keys are made of what `random` draws.
    ///
    /// # Errors
    /// If it is no address, or the system has no HTTP client.
    pub fn new(leader: Option<&str>, tls: &ClientTls, random: fn() -> io::Result<u128>) -> Result<Self, String> {
        let http = http_client::builder(tls).connect_timeout(CONNECT_TIMEOUT).build();
        let http = http.map_err(|error| format!("no HTTP client: {error}"))?;
        let forward = Self {
            http,
            leader: Arc::default(),
            changes: Arc::new(watch::Sender::new(())),
            own: Arc::default(),
            under_way: Arc::new(Semaphore::new(limits::FORWARDED_AT_ONCE)),
            waiting_bytes: Arc::new(Semaphore::new(limits::FORWARD_WAIT_BYTES)),
            random,
            reads: ReadFallback::new(tls)?,
            secret: None,
        };
        if let Some(leader) = leader {
            forward.lead_by(leader)?;
        }
        Ok(forward)
    }

    /// The same, which shows the leader the secret of the cluster: it takes what this node has let in.
    #[must_use]
    pub fn with_secret(self, secret: Option<Secret>) -> Self {
        Self { secret, ..self }
    }

    /// The leader is there from now on: writes that wait for one go there.
    ///
    /// # Errors
    /// If that is no address.
    pub fn lead_by(&self, leader: &str) -> Result<(), String> {
        let url = leader.parse().map_err(|error| format!("{leader:?} is not the address of a leader: {error}"))?;
        *self.leader.write() = Some(KnownLeader { url, database: None });
        self.changes.send_replace(());
        Ok(())
    }

    /// This node holds that database from now on. If it held another, whatever the leader has said of its own is over
    /// too: it may be older.
    pub fn holds(&self, database: u128) {
        let before = self.own.write().replace(database);
        if before.is_some_and(|before| before != database)
            && let Some(known) = self.leader.write().as_mut()
        {
            known.database = None;
        }
    }

    /// The database that this node holds, if it holds one.
    pub fn held(&self) -> Option<u128> {
        *self.own.read()
    }

    /// The node at `leader` has said that it leads `database`. What follows for writes is told once.
    pub fn heard(&self, leader: &str, database: u128) {
        let mut known = self.leader.write();
        let Some(known) = known.as_mut().filter(|known| leader.parse().is_ok_and(|url: Url| url == known.url)) else {
            return;
        };
        let before = known.database.replace(database);
        if before == Some(database) {
            return;
        }
        match self.held() {
            Some(own) if own != database => tracing::warn!(
                "the leader, {leader}, leads another database, {database:032x}, and this node holds {own:032x}: no write is \
                 passed on to it. Give this node the leader of its own database, or another --data-dir"
            ),
            Some(_) if before.is_some() => tracing::info!("the leader, {leader}, leads this node's database again"),
            _ => {}
        }
    }

    /// The leader of this node's database has been heard: whatever was known of another is over.
    pub fn heard_of_own(&self) {
        if self.other_database().is_some()
            && let Some(known) = self.leader.write().as_mut()
        {
            tracing::info!("the leader of this node's database is there again");
            known.database = None;
        }
    }

    /// The database that the leader leads, if that is known and another than this node's: no write is passed on then.
    pub fn other_database(&self) -> Option<u128> {
        let leads = self.leader.read().as_ref().and_then(|known| known.database)?;
        self.held().filter(|&own| own != leads).map(|_| leads)
    }

    /// Gives the leader's URL, as far as it is known.
    pub fn leader(&self) -> Option<String> {
        self.leader.read().as_ref().map(|known| known.url.as_str().trim_end_matches('/').to_owned())
    }

    /// Gives the leader's URL for others to go to: none if it is known to lead another database.
    pub fn leader_of_own(&self) -> Option<String> {
        self.leader().filter(|_| self.other_database().is_none())
    }

    /// The way of reads to other nodes.
    pub fn reads(&self) -> &ReadFallback {
        &self.reads
    }

    /// A key for a write whose client has given none. Nobody can guess it, so nobody else can use it first.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn make_key(&self) -> io::Result<String> {
        (self.random)().map(|bits| format!("{bits:032x}"))
    }

    /// Passes a write on, under `key` if its client has not named it: it may be sent more than once. Where no leader
    /// takes it, it waits for one.
    ///
    /// # Errors
    /// [`ForwardError::Away`] if the write certainly was not applied, [`ForwardError::Unknown`] if it was sent and no
    /// answer tells its outcome.
    pub async fn write(
        &self,
        write: &OutgoingWrite,
        key: Option<String>,
        totals: &ForwardTotals,
    ) -> Result<ForwardedAnswer, ForwardError> {
        let busy = || ForwardError::Away("too many writes are on their way to it".into());
        let _permit = timeout(WAIT, self.under_way.acquire()).await.ok().and_then(Result::ok).ok_or_else(busy)?;
        let seed = (self.random)().unwrap_or_default() as u64;
        let is_read = write.method == Method::GET;
        let mut plan = if is_read { ForwardPlan::of_read(seed) } else { ForwardPlan::new(key, seed) };
        let (begun, mut changes) = (Instant::now(), self.changes.subscribe());
        let (mut last, mut tries, mut waits) = ("it is not known yet".to_owned(), 0, None);
        loop {
            // Marked as seen before the look: a change behind that wakes it.
            changes.borrow_and_update();
            let known = self.leader();
            match plan.next(begun.elapsed().as_millis() as u64, known.as_deref()) {
                ForwardStep::Try(base) => {
                    tries += 1;
                    totals.retried.inc_by(u64::from(tries > 1));
                    let tried = tokio::select! {
                        tried = self.attempt(&base, write, plan.key()) => tried,
                        () = self.led_by_another(&mut changes, known, &base) => FinishedTry::lost("another node leads now"),
                    };
                    if plan.tried(begun.elapsed().as_millis() as u64, tried.result)
                        && let Some(answer) = tried.answer
                    {
                        return Ok(answer);
                    }
                    last = tried.told;
                }
                ForwardStep::Wait(ms) => {
                    if waits.is_none() {
                        let Some(wait) = self.wait(write.body.len(), totals) else {
                            return Err(given_up(plan.may_count(), format!("{last}, and no more writes may wait")));
                        };
                        waits = Some(wait);
                    }
                    let _ = timeout(Duration::from_millis(ms), changes.changed()).await;
                }
                ForwardStep::GiveUp { may_count } => return Err(given_up(may_count, last)),
            }
        }
    }

    /// A place among the writes that wait for a leader; `None` if their bodies hold all the memory they may.
    fn wait(&self, bytes: usize, totals: &ForwardTotals) -> Option<WriteWait> {
        let bytes = u32::try_from(bytes).ok()?;
        let bytes = Arc::clone(&self.waiting_bytes).try_acquire_many_owned(bytes).ok()?;
        totals.waiting.inc();
        Some(WriteWait { _bytes: bytes, waiting: totals.waiting.clone() })
    }

    /// Ends once another node is known to lead than was `known`, and than the one at `asked`.
    async fn led_by_another(&self, changes: &mut watch::Receiver<()>, known: Option<String>, asked: &str) {
        while self.leader() == known || self.leader().as_deref() == Some(asked) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sends a write once, to the node at `base`.
    async fn attempt(&self, base: &str, write: &OutgoingWrite, key: Option<&str>) -> FinishedTry {
        let url = match base.parse::<Url>().and_then(|base| base.join(&write.target)) {
            Ok(url) => url,
            Err(error) => return FinishedTry { result: TryResult::NotReached, told: error.to_string(), answer: None },
        };
        let stated = self.held().map_or_else(|| OF_NO_DATABASE.to_owned(), |own| format!("{own:032x}"));
        let request = self.http.request(write.method.clone(), url).headers(write.headers.clone());
        let mut request = request.header(FORWARDED, stated).body(write.body.clone()).timeout(write.patience);
        if let Some(secret) = &self.secret {
            request = request.bearer_auth(secret.expose());
        }
        if let Some(key) = key {
            request = request.header(KEY, key);
        }
        for (name, value) in TraceParent::current().headers() {
            request = request.header(name, value);
        }
        let answer = match request.send().await {
            Ok(response) => {
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                if let Some(database) = database_of(&headers) {
                    self.heard(base, database);
                }
                response.bytes().await.map(|body| ForwardedAnswer { status, headers, body })
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => FinishedTry::answered(base, answer),
            Err(error) if error.is_connect() => {
                FinishedTry { result: TryResult::NotReached, told: http_client::reason(&error), answer: None }
            }
            Err(error) => FinishedTry::lost(&http_client::reason(&error)),
        }
    }
}

/// A place among the writes that wait for a leader.
struct WriteWait {
    _bytes: OwnedSemaphorePermit,
    waiting: IntGauge,
}

impl Drop for WriteWait {
    fn drop(&mut self) {
        self.waiting.dec();
    }
}

/// A try that has ended, with the reason why it settles nothing, for a person.
struct FinishedTry {
    result: TryResult,
    told: String,
    answer: Option<ForwardedAnswer>,
}

impl FinishedTry {
    fn lost(told: &str) -> Self {
        Self { result: TryResult::Unanswered, told: told.to_owned(), answer: None }
    }

    fn answered(base: &str, answer: ForwardedAnswer) -> Self {
        let ForwardedAnswer { status, body, .. } = &answer;
        // It follows somebody itself, and has certainly not taken it: whom it follows may.
        if *status == NOT_LEADER {
            let told = format!("{base} follows another node itself");
            let leader = leader_in(body).map(|leader| leader.trim_end_matches('/').to_owned());
            return Self { result: TryResult::SentOn(leader), told, answer: None };
        }
        let told = format!("its last answer was {status}");
        if *status == 503 && problem_in(body).is_some_and(|slug| BETWEEN_LEADERS.contains(&&*slug)) {
            return Self { result: TryResult::BetweenLeaders, told, answer: None };
        }
        let retry_after_ms = answer.retry_after().map(|pause| pause.as_millis() as u64);
        Self { result: TryResult::Answered { status: *status, retry_after_ms }, told, answer: Some(answer) }
    }
}

fn given_up(may_count: bool, last: String) -> ForwardError {
    if may_count { ForwardError::Unknown(last) } else { ForwardError::Away(last) }
}

/// The database that an answer says to be of.
fn database_of(headers: &HeaderMap) -> Option<u128> {
    u128::from_str_radix(headers.get(DATABASE_HEADER)?.to_str().ok()?, 16).ok()
}

impl ForwardedAnswer {
    fn retry_after(&self) -> Option<Duration> {
        self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metrics::{NodeLimits, NodeMetrics, NodeRole};

    fn forward(leader: Option<&str>) -> WriteForwarder {
        WriteForwarder::new(leader, &ClientTls::default(), || Ok(0xabc)).expect("a client")
    }

    async fn post(forward: &WriteForwarder) -> Result<u16, ForwardError> {
        let totals = NodeMetrics::new(NodeRole::Replica, NodeLimits::default(), &[]).forwarded.clone();
        let (headers, body) = (HeaderMap::new(), Bytes::from_static(b"text"));
        let (target, patience) = ("/post".to_owned(), TRY_TIMEOUT);
        let write = OutgoingWrite { method: Method::POST, target, headers, body, patience };
        let answer = forward.write(&write, Some("key".to_owned()), &totals).await;
        assert_eq!(totals.waiting.get(), 0, "each place is given back");
        answer.map(|answer| answer.status)
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_address_nothing_is_sent() {
        let forward = forward(None);
        assert_eq!(forward.leader(), None);
        assert_eq!(post(&forward).await, Err(ForwardError::Away("it is not known yet".into())));
        assert!(forward.lead_by("no address").is_err());
        forward.lead_by("http://127.0.0.1:1/").expect("an address");
        assert_eq!(forward.leader().as_deref(), Some("http://127.0.0.1:1"));
    }

    #[tokio::test(start_paused = true)]
    async fn more_writes_than_may_be_under_way_are_certainly_not_applied() {
        let forward = forward(Some("http://127.0.0.1:1"));
        let all = forward.under_way.clone().acquire_many_owned(limits::FORWARDED_AT_ONCE as u32).await;
        assert_eq!(post(&forward).await, Err(ForwardError::Away("too many writes are on their way to it".into())));
        drop(all);
        assert!(matches!(post(&forward).await, Err(ForwardError::Away(_))), "nobody listens on port 1");
        assert_eq!(forward.under_way.available_permits(), limits::FORWARDED_AT_ONCE, "each is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn writes_wait_for_a_leader_so_long_and_take_so_much_memory() {
        let forward = forward(None);
        let begun = Instant::now();
        assert!(matches!(post(&forward).await, Err(ForwardError::Away(_))));
        assert_eq!(begun.elapsed(), Duration::from_millis(limits::FORWARD_WAIT_MS));
        let others = Arc::clone(&forward.waiting_bytes).acquire_many_owned(limits::FORWARD_WAIT_BYTES as u32 - 3).await;
        let full = ForwardError::Away("it is not known yet, and no more writes may wait".to_owned());
        assert_eq!(post(&forward).await, Err(full), "a text of four bytes has no room");
        drop(others);
        assert_eq!(begun.elapsed(), Duration::from_millis(limits::FORWARD_WAIT_MS), "it did not wait");
        assert_eq!(forward.waiting_bytes.available_permits(), limits::FORWARD_WAIT_BYTES);
    }

    #[test]
    fn another_database_of_the_leader_is_known_until_its_own_is_back() {
        let (own, other) = (7, 8);
        let forward = forward(Some("http://127.0.0.1:1"));
        forward.heard("http://127.0.0.1:1", other);
        assert_eq!(forward.other_database(), None, "it holds nothing yet");
        forward.heard("http://127.0.0.1:1", own);
        forward.holds(own);
        forward.heard("http://127.0.0.1:2", other);
        assert_eq!(forward.other_database(), None, "that is not the leader");
        forward.heard("http://127.0.0.1:1/", other);
        assert_eq!(forward.other_database(), Some(other));
        assert_eq!(forward.leader_of_own(), None, "nobody is sent to it");
        forward.heard("http://127.0.0.1:1", own);
        assert_eq!(forward.other_database(), None, "the lost directory is back");
        assert!(forward.leader_of_own().is_some());
        forward.heard("http://127.0.0.1:1", other);
        forward.heard_of_own();
        assert_eq!(forward.other_database(), None, "records of its own database came");
        forward.heard("http://127.0.0.1:1", other);
        forward.lead_by("http://127.0.0.1:2").expect("an address");
        assert_eq!(forward.other_database(), None, "another leads");
        forward.heard("http://127.0.0.1:2", own);
        forward.holds(other);
        assert_eq!(
            forward.other_database(),
            None,
            "the directory is of another now, and what its leader said is older"
        );
    }

    #[test]
    fn a_made_key_is_what_was_drawn() {
        assert_eq!(forward(None).make_key().expect("drawn"), format!("{:032x}", 0xabc));
    }
}
