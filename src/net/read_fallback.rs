//! Has other nodes answer reads that this one cannot answer yet: it has not received the counts of its leader.
//!
//! One hop: the other node is told that the read has come from one, and passes it on to nobody.

use super::{http_client, tls::client::ClientTls};
use crate::{base::failpoint::inject, base::limits};
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{HeaderMap, HeaderValue},
};
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
    pub fn new(tls: &ClientTls) -> Result<Self, String> {
        let http = http_client::builder(tls).connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
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
        let mut headers = headers.clone();
        headers.insert(READ_FORWARDED, HeaderValue::from_static("1"));
        inject!(PassesReadsOnAgain, headers.remove(READ_FORWARDED));
        let asked = async {
            for node in nodes.iter().take(limits::FALLBACK_NODES) {
                let Ok(url) = node.parse::<Url>().and_then(|base| base.join(target)) else { continue };
                // A URL has no dots and no backslashes in its path: such a path would ask for something else there.
                let mut is_same = url.path() == target.split('?').next().unwrap_or_default();
                inject!(AsksForAnotherPath, is_same = true);
                if !is_same {
                    return None;
                }
                let request = self.http.request(method.clone(), url).headers(headers.clone());
                let Ok(response) = request.send().await else { continue };
                if is_of_data(&response) {
                    return Some((node.clone(), response));
                }
            }
            None
        };
        let (node, response) = timeout(Duration::from_millis(limits::FALLBACK_MS), asked).await.ok().flatten()?;
        Some(PeerAnswer { node, response, place })
    }
}

/// Returns whether an answer is to be passed on: it was given at a position, even if it is that there is no such entry,
/// or it is none of a node that is not ready, or of an earlier release without this route.
fn is_of_data(response: &Response) -> bool {
    inject!(BelievesNodesThatAreNotReady, return true);
    let refuses = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_FOUND].contains(&response.status());
    !refuses || response.headers().contains_key("memdb-position")
}

#[cfg(test)]
mod tests;
