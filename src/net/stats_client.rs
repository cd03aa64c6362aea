//! Asks another node for its numbers of entries.

use super::{http_client, tls::client::ClientTls};
use reqwest::{Client, Url};
use std::time::Duration;

/// Bytes of the largest answer that is read: the other end may be anything.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// Asks nodes for `/stats`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StatsClient(Client);

impl StatsClient {
    /// A client.
    ///
    /// # Errors
    /// If the system has no HTTP client.
    pub fn new(tls: &ClientTls) -> Result<Self, String> {
        http_client::builder(tls).build().map(Self).map_err(|error| format!("no HTTP client: {error}"))
    }

    /// Gives the body that the node at `base` answers `path` with; `None` if it does not answer within `patience`, or
    /// with something else.
    pub async fn ask(&self, base: &str, path: &str, patience: Duration) -> Option<Vec<u8>> {
        tokio::time::timeout(patience, self.body(base, path)).await.ok()?
    }

    async fn body(&self, base: &str, path: &str) -> Option<Vec<u8>> {
        let url = base.parse::<Url>().ok()?.join(path).ok()?;
        let mut response = self.0.get(url).send().await.ok().filter(|response| response.status().is_success())?;
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
