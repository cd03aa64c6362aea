//! Asks another node for its numbers of entries.

use super::{http_client, tls::client::ClientTls};
use crate::base::secret::Secret;
use reqwest::{Client, Url};
use std::time::Duration;

/// Bytes of the largest answer that is read: the other end may be anything.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// Asks nodes for `/stats`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StatsClient {
    http: Client,
    secret: Option<Secret>,
}

impl StatsClient {
    /// A client, which shows the secret of the cluster if there is one.
    ///
    /// # Errors
    /// If the system has no HTTP client.
    pub fn new(tls: &ClientTls, secret: Option<&Secret>) -> Result<Self, String> {
        let http = http_client::builder(tls).build();
        http.map(|http| Self { http, secret: secret.cloned() }).map_err(|error| format!("no HTTP client: {error}"))
    }

    /// Gives the body that the node at `base` answers `path` with; `None` if it does not answer within `patience`, or
    /// with something else.
    pub async fn ask(&self, base: &str, path: &str, patience: Duration) -> Option<Vec<u8>> {
        tokio::time::timeout(patience, self.body(base, path)).await.ok()?
    }

    async fn body(&self, base: &str, path: &str) -> Option<Vec<u8>> {
        let url = base.parse::<Url>().ok()?.join(path).ok()?;
        let request = self.http.get(url);
        let request = match &self.secret {
            Some(secret) => request.bearer_auth(secret.expose()),
            None => request,
        };
        let mut response = request.send().await.ok().filter(|response| response.status().is_success())?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.ok()? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return None;
            }
            body.extend_from_slice(&piece);
        }
        Some(body)
    }
}
