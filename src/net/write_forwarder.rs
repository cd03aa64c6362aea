//! Passes a client's write on to the leader.
//!
//! A write is sent again only under a key: the client's own, or one made here. One hop at most: the leader is
//! told that it was forwarded, and whoever is no leader refuses it then.
//!
//! Once a try was sent and not answered, the write may count. A later refusal speaks of that later try alone, so it is
//! not passed on: the write is tried again, and after that its outcome is unknown.

use super::{
    http_client,
    peer_link::{DATABASE_HEADER, leader_in},
};
use crate::{base::limits, base::retry::RetryBackoff};
use bytes::Bytes;
use parking_lot::RwLock;
use reqwest::{
    Client, Method, Url,
    header::{HeaderMap, RETRY_AFTER},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

/// Says that a write has come by way of a follower, and of which database that is: the id in hexadecimal digits.
pub const FORWARDED: &str = "memdb-forwarded";
/// The value of [`FORWARDED`] of a follower that holds no database yet.
pub const OF_NO_DATABASE: &str = "1";

/// Patience for a connection: nothing was sent yet, and another try may find the next leader.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Patience for one try.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
// A leader that waits for a replica still answers in time.
const _: () = assert!(limits::MAX_ACK_TIMEOUT_MS < TRY_TIMEOUT.as_millis() as u64);
/// Tries, as long as what became of the write is not known.
const TRIES: u32 = 3;
/// The status by which a follower refuses a write that was forwarded already.
const NOT_LEADER: u16 = 421;
/// The pause between two tries, and up to a quarter more.
const PAUSE: Duration = Duration::from_millis(100);
/// A leader that asks for a longer pause before the last try gets no more than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Time that one more forwarded write waits for another to end.
const WAIT: Duration = Duration::from_millis(limits::FORWARD_PATIENCE_MS);

/// The way to the leader. Cheap to clone.
#[derive(Clone)]
pub struct WriteForwarder {
    http: Client,
    leader: Arc<RwLock<Option<KnownLeader>>>,
    /// The database that this node holds, or that its files are of; none yet, or it has none.
    own: Arc<RwLock<Option<u128>>>,
    under_way: Arc<Semaphore>,
    random: fn() -> io::Result<u128>,
}

struct KnownLeader {
    url: Url,
    /// The database that it leads, once it has said so.
    database: Option<u128>,
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
    pub fn new(leader: Option<&str>, random: fn() -> io::Result<u128>) -> Result<Self, String> {
        let http = http_client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(TRY_TIMEOUT).build();
        let http = http.map_err(|error| format!("no HTTP client: {error}"))?;
        let forward = Self {
            http,
            leader: Arc::default(),
            own: Arc::default(),
            under_way: Arc::new(Semaphore::new(limits::FORWARDED_AT_ONCE)),
            random,
        };
        if let Some(leader) = leader {
            forward.lead_by(leader)?;
        }
        Ok(forward)
    }

    /// The leader is there from now on.
    ///
    /// # Errors
    /// If that is no address.
    pub fn lead_by(&self, leader: &str) -> Result<(), String> {
        let url = leader.parse().map_err(|error| format!("{leader:?} is not the address of a leader: {error}"))?;
        *self.leader.write() = Some(KnownLeader { url, database: None });
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

    /// A key for a write whose client has given none. Nobody can guess it, so nobody else can use it first.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn make_key(&self) -> io::Result<String> {
        (self.random)().map(|bits| format!("{bits:032x}"))
    }

    /// Passes a write on. `headers` must name it by a key or a stream: it may be sent more than once.
    ///
    /// # Errors
    /// [`ForwardError::Away`] if the write certainly reached no leader, [`ForwardError::Unknown`] if it was sent and no
    /// answer came.
    pub async fn write(
        &self,
        method: &Method,
        path_and_query: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<ForwardedAnswer, ForwardError> {
        let base = self.leader.read().as_ref().map(|known| known.url.clone());
        let mut base = base.ok_or_else(|| ForwardError::Away("it is not known yet".into()))?;
        let mut url = base.join(path_and_query).map_err(|error| ForwardError::Away(error.to_string()))?;
        let busy = || ForwardError::Away("too many writes are on their way to it".into());
        let _permit = timeout(WAIT, self.under_way.acquire()).await.ok().and_then(Result::ok).ok_or_else(busy)?;
        let stated = self.held().map_or_else(|| OF_NO_DATABASE.to_owned(), |own| format!("{own:032x}"));
        let mut backoff = RetryBackoff::new((self.random)().unwrap_or_default() as u64);
        let (mut last, mut pause, mut sent) = (String::new(), Duration::ZERO, false);
        for tries in 1..=TRIES {
            sleep(pause).await;
            let request = self.http.request(method.clone(), url.clone()).headers(headers.clone());
            let answer = match request.header(FORWARDED, &stated).body(body.clone()).send().await {
                Ok(response) => {
                    let (status, headers) = (response.status().as_u16(), response.headers().clone());
                    if let Some(database) = database_of(&headers) {
                        self.heard(base.as_str(), database);
                    }
                    response.bytes().await.map(|body| ForwardedAnswer { status, headers, body })
                }
                Err(error) => Err(error),
            };
            pause = match answer {
                // It follows somebody itself, and has certainly not taken it: whom it follows may.
                Ok(ForwardedAnswer { status: NOT_LEADER, body, .. }) => {
                    last = format!("{base} follows another node itself");
                    let Some(leader) = leader_in(&body).and_then(|leader| leader.parse().ok()).filter(|it| *it != base)
                    else {
                        break;
                    };
                    url = Url::join(&leader, path_and_query).map_err(|error| ForwardError::Away(error.to_string()))?;
                    base = leader;
                    Duration::ZERO
                }
                Ok(forwarded) if forwarded.settles(sent) => return Ok(forwarded),
                Ok(forwarded) => {
                    sent = true;
                    last = format!("its last answer was {}", forwarded.status);
                    backoff.wait(Some(pause_behind(tries, forwarded.retry_after())))
                }
                Err(error) => {
                    sent |= !error.is_connect();
                    last = http_client::reason(&error);
                    backoff.wait(Some(PAUSE))
                }
            };
        }
        Err(if sent { ForwardError::Unknown(last) } else { ForwardError::Away(last) })
    }
}

/// The pause behind the try of this number, from 1, whose answer asked for `retry_after`.
fn pause_behind(tries: u32, retry_after: Option<Duration>) -> Duration {
    // Retry-After has whole seconds and is meant for clients. A leader that steps down refuses what is under way, and
    // leads or follows again some ten milliseconds later; only one that refuses twice needs the time it asks for.
    if tries == 1 { PAUSE } else { retry_after.unwrap_or(PAUSE).min(LONGEST_PAUSE) }
}

/// The database that an answer says to be of.
fn database_of(headers: &HeaderMap) -> Option<u128> {
    u128::from_str_radix(headers.get(DATABASE_HEADER)?.to_str().ok()?, 16).ok()
}

impl ForwardedAnswer {
    /// Returns whether this answer tells the outcome of the write. `sent`: an earlier try was sent, and its outcome is
    /// unknown.
    fn settles(&self, sent: bool) -> bool {
        match self.status {
            // The leader itself does not know. It will when it is asked again.
            500 => false,
            // It counts; or the Writer, which has everything sent before behind it, has refused its name or its
            // content.
            200..=299 | 504 | 409 | 422 => true,
            _ => !sent,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(leader: Option<&str>) -> WriteForwarder {
        WriteForwarder::new(leader, || Ok(0xabc)).expect("a client")
    }

    async fn post(forward: &WriteForwarder) -> Result<u16, ForwardError> {
        let answer = forward.write(&Method::POST, "/post", &HeaderMap::new(), &Bytes::new()).await;
        answer.map(|answer| answer.status)
    }

    #[tokio::test]
    async fn without_an_address_nothing_is_sent() {
        let forward = forward(None);
        assert_eq!(forward.leader(), None);
        assert_eq!(post(&forward).await, Err(ForwardError::Away("it is not known yet".into())));
        assert!(forward.lead_by("no address").is_err());
        forward.lead_by("http://127.0.0.1:1/").expect("an address");
        assert_eq!(forward.leader().as_deref(), Some("http://127.0.0.1:1"));
    }

    #[tokio::test]
    async fn more_writes_than_may_be_under_way_are_certainly_not_applied() {
        let forward = forward(Some("http://127.0.0.1:1"));
        let all = forward.under_way.clone().acquire_many_owned(limits::FORWARDED_AT_ONCE as u32).await;
        assert_eq!(post(&forward).await, Err(ForwardError::Away("too many writes are on their way to it".into())));
        drop(all);
        assert!(matches!(post(&forward).await, Err(ForwardError::Away(_))), "nobody listens on port 1");
        assert_eq!(forward.under_way.available_permits(), limits::FORWARDED_AT_ONCE, "each is given back");
    }

    #[test]
    fn a_refusal_settles_only_a_write_that_was_not_sent_before() {
        let settles =
            |status, sent| ForwardedAnswer { status, headers: HeaderMap::new(), body: Bytes::new() }.settles(sent);
        for status in [200, 202, 409, 422, 504] {
            assert!(settles(status, false) && settles(status, true), "{status}");
        }
        // 400 too: `ack-unavailable` tells of the replicas there are now, not of what was written before.
        for status in [400, 413, 421, 429, 503, 507] {
            assert!(settles(status, false) && !settles(status, true), "{status}");
        }
        assert!(!settles(500, false) && !settles(500, true), "nobody knows");
    }

    #[tokio::test(start_paused = true)]
    async fn tries_that_reach_nobody_are_not_all_made_at_once() {
        let begun = tokio::time::Instant::now();
        assert!(matches!(post(&forward(Some("http://127.0.0.1:1"))).await, Err(ForwardError::Away(_))));
        assert!(begun.elapsed() >= (TRIES - 1) * PAUSE, "{:?}", begun.elapsed());
    }

    #[test]
    fn the_first_pause_is_short_whatever_the_leader_asks_for_and_later_ones_are_bounded() {
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!([None, asked(1), asked(60)].map(|asked| pause_behind(1, asked)), [PAUSE; 3]);
        assert_eq!(
            [None, asked(1), asked(60)].map(|asked| pause_behind(2, asked)),
            [PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
        );
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
