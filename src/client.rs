//! A client of memdb's HTTP interface: what the command line talks through.
//!
//! A text goes through stages, each of them a reader of the one before: `client/input.rs` decompresses it,
//! `client/split.rs` cuts it into posts, and `client/bulk_upload.rs` or `client/blocks.rs` send these as bulk bodies,
//! so that each post counts once however often it is sent. `client/upload.rs` has what the two share, `base/retry.rs`
//! spaces repeats, `client/dump.rs` reads every word of a node, `client/entries.rs` puts and reads entries,
//! `client/watch.rs` reads events. reqwest appears here and in `net`.

pub mod blocks;
pub mod bulk_answer;
pub mod bulk_upload;
pub mod credentials;
pub mod dump;
pub mod entries;
pub mod export;
pub mod import;
mod import_pipe;
pub mod import_reader;
mod import_streams;
pub mod input;
pub mod namespaces;
mod promotion;
pub mod ranking;
pub mod split;
pub mod upload;
pub mod watch;

use crate::{
    base::address::NodeAddress,
    base::position::PositionToken,
    net::http_client::{self, TOO_LATE, io_kind, reason},
    net::tls::{client::ClientTls, explain::tls_reason},
    net::write_forwarder::FORWARDED,
};
use bulk_answer::BulkAnswer;
use bytes::Bytes;
use credentials::ClientCredentials;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header, header::HeaderValue};
use serde::{Deserialize, Deserializer, de::Error};
use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

/// Patience for a connection: a node on the same network answers in far less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Patience for a whole answer where nobody says another, so that a hung server ends a request.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Words that make an address longer than this are named in a body: a node takes 16 KiB of a head, whatever is in
/// between often less.
const LONGEST_ADDRESS_BYTES: usize = 4 << 10;

/// Classifies the reason why no connection came about.
fn why_unreached(error: &reqwest::Error) -> UnreachableCause {
    match io_kind(error) {
        Some(std::io::ErrorKind::ConnectionRefused) => return UnreachableCause::Refused,
        Some(std::io::ErrorKind::TimedOut) => return UnreachableCause::TimedOut,
        _ => {}
    }
    let reason = reason(error);
    match reason.strip_prefix("failed to lookup address information: ") {
        _ if error.is_timeout() => UnreachableCause::TimedOut,
        Some(detail) => UnreachableCause::NoSuchName(detail.to_owned()),
        None => UnreachableCause::Other(reason),
    }
}

/// The reason why a node could not be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreachableCause {
    /// The machine is there, and nothing listens on the port.
    #[error("connection refused")]
    Refused,
    /// The name of the host has no address, with what the resolver said.
    #[error("no such name: {0}")]
    NoSuchName(String),
    /// The machine did not answer.
    #[error("connecting timed out")]
    TimedOut,
    /// Something else, in the system's words.
    #[error("{0}")]
    Other(String),
}

/// The node that a client means to speak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// Any node.
    Node,
    /// The leader.
    Leader,
    /// A replica.
    Replica,
}

/// Gives advice where a node could not be reached.
fn remedy(cause: &UnreachableCause, whom: ServerKind) -> &'static str {
    match (cause, whom) {
        (UnreachableCause::Refused, ServerKind::Node) => "is the node running? start one with `memdb leader`",
        (UnreachableCause::Refused, ServerKind::Leader) => "is the leader running? start one with `memdb leader`",
        (UnreachableCause::Refused, ServerKind::Replica) => {
            "is the replica running? start one with `memdb replica --leader http://HOST:PORT`"
        }
        (_, ServerKind::Node) => "is this the address of a node?",
        (_, ServerKind::Leader) => "is this the address of the leader?",
        (_, ServerKind::Replica) => "is this the address of the replica?",
    }
}

/// One node, spoken to over kept connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    base: Url,
    address: NodeAddress,
    whom: ServerKind,
    http: reqwest::Client,
    tls: ClientTls,
    timeout: Duration,
    /// The database that bulk bodies are for, if it is known: a leader of another refuses them.
    database: Option<Box<str>>,
    /// The value of `Authorization`.
    authorization: Option<HeaderValue>,
}

/// The answer to a post: 202.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PostAnswer {
    /// Words counted, repeats included.
    pub words: u64,
    /// Tokens left out for their length.
    #[serde(default)]
    pub left_out: u64,
    /// The position of the record that holds the post.
    #[serde(deserialize_with = "position")]
    pub position: PositionToken,
}

/// The leader that a follower names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLeader {
    /// Its URL.
    pub url: Box<str>,
    /// The database that the follower holds, if it holds one: a leader of another is not meant.
    pub database: Option<Box<str>>,
}

/// The reason why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("{address:?} is not the address of a node: {reason}")]
    BadAddress {
        /// As given.
        address: String,
        /// The fault in the address.
        reason: String,
    },
    /// No connection.
    #[error("nothing answers at {base} ({cause}): {}", remedy(.cause, *.whom))]
    NothingThere {
        /// The node.
        base: String,
        /// The cause.
        cause: UnreachableCause,
        /// The node it was meant to be.
        whom: ServerKind,
    },
    /// The node is there, and the connection cannot be protected.
    #[error("no TLS connection to {base}: {reason}")]
    Unprotected {
        /// The node.
        base: String,
        /// The fault, and what to do.
        reason: String,
    },
    /// The connection broke, or no answer came in time.
    #[error("no whole answer from {base}: {reason}")]
    Lost {
        /// The node.
        base: String,
        /// The cause, for a person.
        reason: String,
    },
    /// The node refused, with a reason.
    #[error("{base} answered {status}: {reason}")]
    Refused {
        /// The node.
        base: String,
        /// The HTTP status.
        status: u16,
        /// The name of the problem, the last part of its type; empty if there is none.
        problem: Box<str>,
        /// Title and detail of the problem.
        reason: String,
        /// The leader, if the node is not the leader and does not take the write.
        leader: Option<Box<NamedLeader>>,
        /// The wait that the node asked for (`Retry-After`).
        retry_after: Option<Duration>,
        /// The number that the stream of the request goes on with, if it was another.
        expected: Option<NonZeroU64>,
    },
    /// The answer is not one of memdb's.
    #[error("{base} does not answer like memdb: {reason}")]
    Strange {
        /// The node.
        base: String,
        /// The difference to an answer of memdb.
        reason: String,
    },
}

impl ClientError {
    /// Returns whether the same request may well succeed later: it was not applied, or its outcome is unknown.
    pub fn is_passing(&self) -> bool {
        match self {
            ClientError::NothingThere { .. } | ClientError::Lost { .. } => true,
            ClientError::Refused { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            ClientError::BadAddress { .. } | ClientError::Unprotected { .. } | ClientError::Strange { .. } => false,
        }
    }

    /// Gives the wait that the node asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The part of `application/problem+json` that a person wants to read.
#[derive(Default, Deserialize)]
struct ProblemBody {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    leader: Option<Box<str>>,
    database: Option<Box<str>>,
    expected: Option<u64>,
}

impl Client {
    /// A client of the node at `address`, which [`NodeAddress`] reads.
    ///
    /// # Errors
    /// [`ClientError::BadAddress`] if `address` is not the address of a node.
    pub fn new(address: &str) -> Result<Self, ClientError> {
        Self::with_timeout(address, DEFAULT_TIMEOUT)
    }

    /// As [`Client::new`], with so much patience for each answer.
    ///
    /// # Errors
    /// [`ClientError::BadAddress`] if `address` is not the address of a node.
    pub fn with_timeout(address: &str, timeout: Duration) -> Result<Self, ClientError> {
        Self::with_tls(address, timeout, &ClientTls::default())
    }

    /// As [`Client::with_timeout`]; a node at an `https://` address has to show a certificate that `tls` believes, or
    /// the system if that names no authorities.
    ///
    /// # Errors
    /// [`ClientError::BadAddress`] if `address` is not the address of a node.
    pub fn with_tls(address: &str, timeout: Duration, tls: &ClientTls) -> Result<Self, ClientError> {
        let bad = |reason: String| ClientError::BadAddress { address: address.to_owned(), reason };
        let node: NodeAddress = address.parse().map_err(bad)?;
        let base = Url::parse(&node.to_string()).map_err(|error| bad(error.to_string()))?;
        let tls = if node.is_protected() { tls.clone().or_system_authorities() } else { tls.clone() };
        let http = http_client::builder(&tls)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .user_agent(concat!("memdb/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| bad(error.to_string()))?;
        let (whom, database, authorization) = (ServerKind::Node, None, None);
        Ok(Client { base, address: node, whom, http, tls, timeout, database, authorization })
    }

    /// The same client, which means to speak to `whom`: errors say so.
    #[must_use]
    pub fn meant_for(self, whom: ServerKind) -> Self {
        Self { whom, ..self }
    }

    /// The same client, which shows these credentials.
    #[must_use]
    pub fn with_credentials(self, credentials: Option<&ClientCredentials>) -> Self {
        Self { authorization: credentials.and_then(ClientCredentials::header), ..self }
    }

    /// The node's address as a person would write it.
    pub fn base(&self) -> String {
        self.address.to_string()
    }

    /// The address of `path` with this query.
    pub fn address(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sends lines to `address` (of `/bulk`) under a stream's name; without any, asks what is done under it. The whole
    /// may take as long as `timeout`.
    ///
    /// # Errors
    /// [`ClientError`]; where it [is passing](ClientError::is_passing), the same body may be sent again.
    pub async fn bulk(
        &self,
        address: Url,
        content_type: &'static str,
        stream: &str,
        body: Option<bulk_answer::BodyStream>,
        timeout: Duration,
    ) -> Result<BulkAnswer, ClientError> {
        let request = self
            .http
            .request(Method::POST, address)
            .timeout(timeout)
            .header(header::CONTENT_TYPE, content_type)
            .header("Memdb-Stream", stream);
        let request = match &self.database {
            Some(database) => request.header(FORWARDED, &**database),
            None => request,
        };
        let request = match body {
            Some(pieces) => request.body(reqwest::Body::wrap_stream(pieces)),
            None => request.header(header::CONTENT_LENGTH, "0"),
        };
        self.json(request).await
    }

    /// The leader, where this node takes no bulk bodies and names it. One step: whether that node is the leader is not
    /// asked.
    ///
    /// # Errors
    /// [`ClientError::BadAddress`] if it names what is no address.
    pub async fn named_leader(&self, timeout: Duration) -> Result<Option<Self>, ClientError> {
        // Nothing is sent, so nothing is counted under that name.
        match self.bulk(self.address("/bulk", &[]), "text/plain", "who-leads", None, timeout).await {
            Err(ClientError::Refused { status: 421, leader: Some(leader), .. }) => {
                let named = Self::with_tls(&leader.url, self.timeout, &self.tls)?.meant_for(ServerKind::Leader);
                let authorization = self.authorization.clone();
                Ok(Some(Self { database: leader.database, authorization, ..named }))
            }
            // What else is wrong is told of what is sent.
            _ => Ok(None),
        }
    }

    /// Posts one text as the field `text` of a form, as `curl --data-urlencode` does. Without a key: what may be
    /// counted already must not be sent again.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Refused`] if the node
    /// answered with a problem, [`ClientError::Strange`] if the answer is not memdb's.
    pub async fn post_form(&self, text: &str) -> Result<PostAnswer, ClientError> {
        let form: String = form_urlencoded::Serializer::new(String::new()).append_pair("text", text).finish();
        let request = self
            .http
            .post(self.address("/post", &[]))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        self.json(request).await
    }

    /// The counts of some words, all at one position, under the names as given.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Refused`] if the node
    /// does not serve reads or refuses a word, [`ClientError::Strange`] if the answer is not memdb's.
    pub async fn counts(
        &self,
        namespace: Option<&str>,
        words: &[String],
    ) -> Result<BTreeMap<String, i64>, ClientError> {
        let query = namespace.map(|name| ("ns", name)).into_iter();
        let all: Vec<_> = query.clone().chain(words.iter().map(|word| ("word", word.as_str()))).collect();
        let address = self.address("/wordcount", &all);
        if address.as_str().len() <= LONGEST_ADDRESS_BYTES {
            return self.json(self.http.get(address)).await;
        }
        let address = self.address("/wordcount", &query.collect::<Vec<_>>());
        let request = self.http.post(address).header(header::CONTENT_TYPE, "application/json");
        self.json(request.body(serde_json::json!({ "words": words }).to_string())).await
    }

    /// The position the node is at.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Refused`] if the node
    /// serves nothing yet, [`ClientError::Strange`] if the answer is not memdb's.
    pub async fn position(&self) -> Result<PositionToken, ClientError> {
        // Every read of counts tells it; this is the smallest.
        let response = self.send(self.http.get(self.address("/wordcount", &[("word", "a")]))).await?;
        self.position_of(&response)
    }

    /// Asks for `/status`: the node's report about itself.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Strange`] if the answer
    /// is not memdb's.
    pub async fn status(&self) -> Result<serde_json::Value, ClientError> {
        self.json(self.http.get(self.address("/status", &[]))).await
    }

    /// Asks for `/health/ready`: succeeds if the node serves current data.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the reason if the node is not ready, [`ClientError::NothingThere`] or
    /// [`ClientError::Lost`] if no answer came.
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.ready_within(self.timeout).await
    }

    /// As [`Client::ready`], with a patience of its own.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the reason if the node is not ready by then, [`ClientError::NothingThere`] or
    /// [`ClientError::Lost`] if no answer came.
    pub async fn ready_within(&self, timeout: Duration) -> Result<(), ClientError> {
        self.answer(self.http.get(self.address("/health/ready", &[])).timeout(timeout)).await.map(drop)
    }

    /// Asks for `/health/leader`: succeeds if this very node takes writes.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the reason if the node takes no writes, [`ClientError::NothingThere`] or
    /// [`ClientError::Lost`] if no answer came.
    pub async fn takes_writes(&self) -> Result<(), ClientError> {
        self.answer(self.http.get(self.address("/health/leader", &[]))).await.map(drop)
    }

    async fn json<T: for<'a> Deserialize<'a>>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let body = self.answer(request).await?;
        serde_json::from_slice(&body).map_err(|error| self.strange(error.to_string()))
    }

    /// Sends a request and takes the body of its good answer.
    async fn answer(&self, request: RequestBuilder) -> Result<Bytes, ClientError> {
        self.send(request).await?.bytes().await.map_err(|error| self.lost(&error))
    }

    /// Sends a request; a refusal is an error. The body of a good answer is still to come.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = self.shown(request).send().await.map_err(|error| self.lost(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(&response);
        let body = response.bytes().await.map_err(|error| self.lost(&error))?;
        Err(self.refused(status, retry_after, &body))
    }

    /// A request with the credentials of the client.
    fn shown(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    /// The position a read was answered at.
    fn position_of(&self, response: &Response) -> Result<PositionToken, ClientError> {
        let value = response.headers().get("memdb-position").and_then(|value| value.to_str().ok());
        let value = value.ok_or_else(|| self.strange("a read without Memdb-Position".to_owned()))?;
        value.parse().map_err(|error| self.strange(format!("Memdb-Position: {error}")))
    }

    fn lost(&self, error: &reqwest::Error) -> ClientError {
        if let Some(reason) = tls_reason(error) {
            return ClientError::Unprotected { base: self.base(), reason };
        }
        if error.is_connect() {
            return ClientError::NothingThere { base: self.base(), cause: why_unreached(error), whom: self.whom };
        }
        ClientError::Lost { base: self.base(), reason: reason(error) }
    }

    fn too_late(&self) -> ClientError {
        ClientError::Lost { base: self.base(), reason: TOO_LATE.to_owned() }
    }

    fn refused(&self, status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> ClientError {
        let problem: ProblemBody = serde_json::from_slice(body).unwrap_or_default();
        let reason = match (problem.title.as_str(), problem.detail.as_str()) {
            ("", "") => status.canonical_reason().unwrap_or("no reason given").to_owned(),
            ("", text) | (text, "") => text.to_owned(),
            (title, detail) => format!("{title}: {detail}"),
        };
        let ProblemBody { leader, database, kind, expected, .. } = problem;
        let problem = kind.rsplit(':').next().unwrap_or_default().into();
        let leader = leader.map(|url| Box::new(NamedLeader { url, database }));
        let (base, status, expected) = (self.base(), status.as_u16(), expected.and_then(NonZeroU64::new));
        ClientError::Refused { base, status, problem, reason, leader, retry_after, expected }
    }

    fn strange(&self, reason: String) -> ClientError {
        ClientError::Strange { base: self.base(), reason }
    }
}

/// A position in its text form.
fn position<'de, D: Deserializer<'de>>(from: D) -> Result<PositionToken, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

/// `Retry-After` in seconds; its other form, a date, is not used between programs.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_nodes() {
        for (given, base) in
            [("localhost:8080", "http://localhost:8080"), ("a:80", "http://a:80"), ("81", "http://127.0.0.1:81")]
        {
            assert_eq!(Client::new(given).expect("good").base(), base);
        }
        assert!(matches!(Client::new("http://a/b"), Err(ClientError::BadAddress { .. })));
    }

    #[test]
    fn a_node_that_cannot_be_reached_is_told_with_cause_and_role() {
        let cases = [
            (UnreachableCause::Refused, ServerKind::Replica, "(connection refused): is the replica running?"),
            (
                UnreachableCause::NoSuchName("x".to_owned()),
                ServerKind::Leader,
                "(no such name: x): is this the address of the leader?",
            ),
            (UnreachableCause::TimedOut, ServerKind::Node, "(connecting timed out): is this the address of a node?"),
        ];
        for (cause, whom, expected) in cases {
            let error = ClientError::NothingThere { base: "http://a:1".to_owned(), cause, whom };
            assert!(error.to_string().starts_with(&format!("nothing answers at http://a:1 {expected}")), "{error}");
        }
    }

    #[test]
    fn queries_are_encoded() {
        let client = Client::new("localhost:8080").expect("good");
        let url = client.address("/wordcount", &[("ns", "a b"), ("word", "ü&=+")]);
        assert_eq!(url.as_str(), "http://localhost:8080/wordcount?ns=a+b&word=%C3%BC%26%3D%2B");
        assert_eq!(client.address("/status", &[]).as_str(), "http://localhost:8080/status");
    }

    #[test]
    fn a_problem_is_told_in_its_own_words() {
        let client = Client::new("localhost:8080").expect("good");
        let body = br#"{"type":"x","title":"Gap","status":409,"detail":"the next number is 3"}"#;
        let error = client.refused(StatusCode::CONFLICT, None, body);
        assert_eq!(error.to_string(), "http://localhost:8080 answered 409: Gap: the next number is 3");
        assert!(!error.is_passing());
        let error = client.refused(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(2)), b"<html>");
        assert_eq!(error.to_string(), "http://localhost:8080 answered 503: Service Unavailable");
        assert!(error.is_passing() && error.retry_after() == Some(Duration::from_secs(2)));
    }
}
