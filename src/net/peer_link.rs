//! The link to another node: its messages as HTTP requests.

use super::{
    append_connection::{AppendConnection, HttpResponse},
    http_client::{self, EXCHANGE_TIMEOUT, TOO_LATE},
    link_error::LinkError,
    peer_credentials::PeerCredentials,
};
use crate::{
    base::limits,
    base::position::{Epoch, PositionToken, Sequence},
    base::secret::Secret,
    base::trace::TraceParent,
    replication::{AppendAnswer, HELLO_TYPE, NodeState, RECORDS_TYPE, SNAPSHOT_TYPE},
};
use bytes::Bytes;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, header};
use std::time::Duration;

/// Time for which a snapshot that is being sent may pause.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Header by which a leader states its database to a follower.
pub const DATABASE_HEADER: &str = "memdb-database";

/// Returns whether this can be the address of a node.
pub fn is_address(url: &str) -> bool {
    url.parse::<Url>().is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// One other node; connections are kept.
pub struct PeerLink {
    http: Client,
    offers: AppendConnection,
    update: Url,
    sync: Url,
    status: Url,
    secret: Option<Secret>,
    patience: Duration,
}

impl PeerLink {
    /// The way to the node at `base`, such as `https://db-1.example:8081`.
    ///
    /// # Errors
    /// If that is no such address.
    pub fn new(base: &str, credentials: &PeerCredentials) -> Result<Self, String> {
        let base: Url = base.parse().map_err(|error| format!("{base:?} is not the address of a node: {error}"))?;
        let join = |path| base.join(path).map_err(|error| format!("{base:?} is not the address of a node: {error}"));
        let http = http_client::builder(&credentials.tls).connect_timeout(EXCHANGE_TIMEOUT).build();
        let http = http.map_err(|error| format!("no HTTP client: {error}"))?;
        let update = join("/update")?;
        let offers = AppendConnection::new(&update, RECORDS_TYPE, credentials);
        let offers =
            offers.ok_or_else(|| format!("{base:?} is not the address of a node: give http:// or https://"))?;
        Ok(Self {
            http,
            offers,
            update,
            sync: join("/sync")?,
            status: join("/status")?,
            secret: credentials.secret.clone(),
            patience: READ_TIMEOUT,
        })
    }

    /// The same way, on which the node may be silent so long while snapshots and records are read.
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Gives the node's URL.
    pub fn base(&self) -> &str {
        self.update.as_str().trim_end_matches("/update")
    }

    /// Sends an append request, its head, then records, and waits up to `patience` for the answer.
    ///
    /// # Errors
    /// [`LinkError::NothingThere`] or [`LinkError::Lost`] if no answer came within `patience`, [`LinkError::Refused`]
    /// if the replica did not take the append request, [`LinkError::Strange`] if its answer cannot be read.
    pub async fn append(&self, parts: &[Bytes], patience: Duration) -> Result<AppendAnswer, LinkError> {
        self.append_traced(parts, patience, &TraceParent::default()).await
    }

    /// As [`PeerLink::append`], at a place in a trace.
    ///
    /// # Errors
    /// [`LinkError`] if no answer came within `patience`, or it refuses the records, or cannot be read.
    pub async fn append_traced(
        &self,
        parts: &[Bytes],
        patience: Duration,
        trace: &TraceParent,
    ) -> Result<AppendAnswer, LinkError> {
        let answered = tokio::time::timeout(patience, self.offers.post(parts, trace)).await;
        let HttpResponse { status, body } = answered.map_err(|_| LinkError::Lost(TOO_LATE.to_owned()))??;
        if !(200..300).contains(&status) {
            return Err(refused(status, &String::from_utf8_lossy(&body)));
        }
        AppendAnswer::decode(&body).map_err(LinkError::Strange)
    }

    /// Announces a follower to its leader; returns the database that it leads, unless it is of an earlier release.
    ///
    /// # Errors
    /// [`LinkError::NotLeader`] if the node is a follower itself, [`LinkError::NothingThere`] or [`LinkError::Lost`] if
    /// no answer came, [`LinkError::Refused`] if it does not let this one in.
    pub async fn announce(&self, hello: &NodeState) -> Result<Option<u128>, LinkError> {
        let request = self.http.post(self.sync.clone()).header(header::CONTENT_TYPE, HELLO_TYPE);
        let response = self.send(request.timeout(EXCHANGE_TIMEOUT).body(hello.encode())).await?;
        let stated = response.headers().get(DATABASE_HEADER).and_then(|value| value.to_str().ok());
        Ok(stated.and_then(|stated| u128::from_str_radix(stated, 16).ok()))
    }

    /// Notifies a local replica that there is something new in the files.
    ///
    /// # Errors
    /// [`LinkError::NothingThere`] or [`LinkError::Lost`] if no answer came, [`LinkError::Refused`] for any other
    /// answer.
    pub async fn notice(&self) -> Result<(), LinkError> {
        // Said outright: a POST without a body has no length by itself.
        let request = self.http.post(self.update.clone()).header(header::CONTENT_LENGTH, "0");
        self.send(request.timeout(EXCHANGE_TIMEOUT)).await.map(drop)
    }

    /// Asks a node of any role where it stands.
    ///
    /// # Errors
    /// [`LinkError::NothingThere`] or [`LinkError::Lost`] if no answer came, [`LinkError::Refused`] for another status
    /// than 200, [`LinkError::Strange`] if the answer holds no position.
    pub async fn position(&self) -> Result<(Epoch, Sequence), LinkError> {
        let request = self.http.get(self.status.clone()).timeout(EXCHANGE_TIMEOUT);
        let status = self.send(request).await?.bytes().await?;
        let status: serde_json::Value =
            serde_json::from_slice(&status).map_err(|error| LinkError::Strange(error.to_string()))?;
        let number = |name: &str| status[name].as_u64();
        number("epoch")
            .zip(number("sequence"))
            .ok_or_else(|| LinkError::Strange("its status tells no position".to_owned()))
    }

    /// Asks for the newest snapshot; `None` if the node has none, because its log has everything. The body comes in
    /// pieces.
    ///
    /// # Errors
    /// [`LinkError::NotLeader`] if the node has none to give as it is a follower, [`LinkError::NothingThere`] or
    /// [`LinkError::Lost`] if no answer came, [`LinkError::Refused`] if the node is busy or does not let this one in.
    pub async fn snapshot(&self) -> Result<Option<SnapshotDownload>, LinkError> {
        let request = self.http.get(self.sync.clone()).header(header::ACCEPT, SNAPSHOT_TYPE);
        // Only the head has to come within this time. A snapshot may take as long as it needs, if it never pauses for
        // so long.
        let response = tokio::time::timeout(self.patience, self.send(request));
        let response = response.await.map_err(|_| LinkError::Lost(TOO_LATE.into()))??;
        Ok((response.status() != StatusCode::NO_CONTENT)
            .then_some(SnapshotDownload { response, patience: self.patience }))
    }

    /// Asks for records of a database behind a position: some of them; empty: none; `None`: they are gone.
    ///
    /// # Errors
    /// [`LinkError::NothingThere`] or [`LinkError::Lost`] if no answer came, [`LinkError::Refused`] if the node does
    /// not let this one in.
    pub async fn records(&self, after: PositionToken) -> Result<Option<Bytes>, LinkError> {
        let mut url = self.sync.clone();
        url.set_query(Some(&format!("after={after}")));
        let request = self.http.get(url).header(header::ACCEPT, RECORDS_TYPE).timeout(self.patience);
        match self.send(request).await {
            Ok(response) => Ok(Some(response.bytes().await?)),
            Err(LinkError::Refused { status: 410, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, LinkError> {
        let request = match &self.secret {
            Some(secret) => request.bearer_auth(secret.expose()),
            None => request,
        };
        let response = request.send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let told = response.text().await.unwrap_or_default();
        if status == StatusCode::MISDIRECTED_REQUEST {
            return Err(LinkError::NotLeader(leader_in(told.as_bytes())));
        }
        Err(refused(status.as_u16(), &told))
    }
}

/// The leader that the body of a 421 names.
pub fn leader_in(problem: &[u8]) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(problem).ok()?;
    let leader = problem["leader"].as_str().filter(|url| url.len() <= limits::MAX_URL_BYTES && is_address(url))?;
    Some(leader.to_owned())
}

/// The kind of problem that a body tells of.
pub(super) fn problem_in(problem: &[u8]) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(problem).ok()?;
    problem["type"].as_str()?.strip_prefix("urn:memdb:problem:").map(str::to_owned)
}

fn refused(status: u16, told: &str) -> LinkError {
    // Bounded, because it goes into the log and into messages, and the other end may be anything.
    LinkError::Refused { status, told: told.chars().take(300).collect() }
}

/// A snapshot on its way in.
pub struct SnapshotDownload {
    response: Response,
    patience: Duration,
}

impl SnapshotDownload {
    /// Its length in bytes, if it was stated.
    pub fn bytes(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`LinkError::Lost`] if the connection breaks, or nothing comes for longer than the link's patience.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        let piece = tokio::time::timeout(self.patience, self.response.chunk());
        Ok(piece.await.map_err(|_| LinkError::Lost("the snapshot has stopped coming".into()))??)
    }
}
