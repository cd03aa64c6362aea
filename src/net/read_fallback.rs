//! Has other nodes answer reads that this one cannot answer yet: it has not received the counts of its leader.
//!
//! One hop: the other node is told that the read has come from one, and passes it on to nobody.

use super::http_client;
use crate::base::limits;
use reqwest::{Client, Method, Response, StatusCode, Url, header::HeaderMap};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Says that a read has come from another node.
pub const READ_FORWARDED: &str = "memdb-read-forwarded";

/// Patience for a connection: another node may be there.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);
/// Time for which an answer that has begun may pause.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The way to other nodes for reads. Cheap to clone.
#[derive(Clone)]
pub struct ReadFallback {
    http: Client,
    places: Arc<Semaphore>,
}

/// The answer of another node, which may still be on its way.
pub struct PeerAnswer {
    /// The URL of that node.
    pub node: String,
    /// The answer.
    pub response: Response,
    /// The place that it takes until its body has ended.
    pub place: OwnedSemaphorePermit,
}

impl ReadFallback {
    /// A way to other nodes.
    ///
    /// # Errors
    /// If the system has no HTTP client.
    pub fn new() -> Result<Self, String> {
        let http = http_client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
        let http = http.map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(Self { http, places: Arc::new(Semaphore::new(limits::FALLBACK_READS)) })
    }

    /// Asks these nodes, one after the other, until one answers; `None` if none does in time, or too many reads are
    /// under way.
    pub async fn read(
        &self,
        nodes: &[String],
        method: &Method,
        target: &str,
        headers: &HeaderMap,
    ) -> Option<PeerAnswer> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let asked = async {
            for node in nodes.iter().take(limits::FALLBACK_NODES) {
                let Ok(url) = node.parse::<Url>().and_then(|base| base.join(target)) else { continue };
                // A URL has no dots and no backslashes in its path: such a path would ask for something else there.
                if url.path() != target.split('?').next().unwrap_or_default() {
                    return None;
                }
                let request =
                    self.http.request(method.clone(), url).headers(headers.clone()).header(READ_FORWARDED, "1");
                let refuses = |status| status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::NOT_FOUND;
                match request.send().await {
                    // It is not ready either, or an earlier release without this route.
                    Ok(response) if refuses(response.status()) && !is_of_data(&response) => {}
                    Ok(response) => return Some((node.clone(), response)),
                    Err(_) => {}
                }
            }
            None
        };
        let (node, response) = timeout(Duration::from_millis(limits::FALLBACK_MS), asked).await.ok().flatten()?;
        Some(PeerAnswer { node, response, place })
    }
}

/// Returns whether an answer was given at a position, even if it is that there is no such entry.
fn is_of_data(response: &Response) -> bool {
    response.headers().contains_key("memdb-position")
}
