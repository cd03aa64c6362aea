//! Passes a client's write on to the leader.
//!
//! A write is sent again only under a key: the client's own, or one made here. One hop at most: the leader is
//! told that it was forwarded, and whoever is no leader refuses it then.

use bytes::Bytes;
use parking_lot::RwLock;
use reqwest::{Client, Method, Url, header::HeaderMap, redirect};
use std::{io, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// Says that a write has come by way of a follower.
pub const FORWARDED: &str = "memdb-forwarded";

/// Patience for one try.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
/// Tries, as long as what became of the last one is not known.
const TRIES: u32 = 3;
/// Writes under way at once: each may take a connection of the leader.
const MOST_AT_ONCE: usize = 256;
/// How long one more waits for another to end.
const WAIT: Duration = Duration::from_secs(1);

/// The way to the leader. Cheap to clone.
#[derive(Clone)]
pub struct Forward {
    http: Client,
    leader: Arc<RwLock<Option<Url>>>,
    under_way: Arc<Semaphore>,
    random: fn() -> io::Result<u128>,
}

/// What the leader has answered.
pub struct Forwarded {
    /// The HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why a write was not passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Nobody to pass it on to, or nothing listens there: certainly not applied.
    #[error("the leader cannot be reached: {0}")]
    Away(String),
    /// It was passed on, and no answer came: it may have been applied.
    #[error("the leader has not answered: {0}")]
    Unknown(String),
}

impl Forward {
    /// The way to the leader at `leader`, if that is known yet. Keys are made of what `random` draws.
    ///
    /// # Errors
    /// If it is no address, or the system has no HTTP client.
    pub fn new(leader: Option<&str>, random: fn() -> io::Result<u128>) -> Result<Self, String> {
        let http = Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(1))
            .timeout(TRY_TIMEOUT)
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        let forward = Self { http, leader: Arc::default(), under_way: Arc::new(Semaphore::new(MOST_AT_ONCE)), random };
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
        *self.leader.write() = Some(url);
        Ok(())
    }

    /// Where the leader is, as far as known.
    pub fn leader(&self) -> Option<String> {
        self.leader.read().as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned())
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
    /// As [`ForwardError`] says.
    pub async fn write(
        &self,
        method: &Method,
        path_and_query: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Forwarded, ForwardError> {
        let base = self.leader.read().clone();
        let base = base.ok_or_else(|| ForwardError::Away("it is not known yet".into()))?;
        let url = base.join(path_and_query).map_err(|error| ForwardError::Away(error.to_string()))?;
        let busy = || ForwardError::Away("too many writes are on their way to it".into());
        let _permit = timeout(WAIT, self.under_way.acquire()).await.ok().and_then(Result::ok).ok_or_else(busy)?;
        let mut last = String::new();
        let mut sent = false;
        for _ in 0..TRIES {
            let request = self.http.request(method.clone(), url.clone()).headers(headers.clone());
            let answer = match request.header(FORWARDED, "1").body(body.clone()).send().await {
                Ok(response) => {
                    let (status, headers) = (response.status().as_u16(), response.headers().clone());
                    response.bytes().await.map(|body| Forwarded { status, headers, body })
                }
                Err(error) => Err(error),
            };
            match answer {
                Ok(forwarded) => return Ok(forwarded),
                Err(error) => {
                    sent |= !error.is_connect();
                    last = super::reason(&error);
                }
            }
        }
        Err(if sent { ForwardError::Unknown(last) } else { ForwardError::Away(last) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(leader: Option<&str>) -> Forward {
        Forward::new(leader, || Ok(0xabc)).expect("a client")
    }

    async fn post(forward: &Forward) -> Result<u16, ForwardError> {
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
        let all = forward.under_way.clone().acquire_many_owned(MOST_AT_ONCE as u32).await;
        assert_eq!(post(&forward).await, Err(ForwardError::Away("too many writes are on their way to it".into())));
        drop(all);
        assert!(matches!(post(&forward).await, Err(ForwardError::Away(_))), "nobody listens on port 1");
        assert_eq!(forward.under_way.available_permits(), MOST_AT_ONCE, "each is given back");
    }

    #[test]
    fn a_made_key_is_what_was_drawn() {
        assert_eq!(forward(None).make_key().expect("drawn"), format!("{:032x}", 0xabc));
    }
}
