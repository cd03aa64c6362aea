//! The export of a node, taken piece by piece.

use super::{Client, ClientError, dump::WHOLE_TIMEOUT};
use crate::base::position::PositionToken;
use bytes::Bytes;
use reqwest::Response;
use serde::Deserialize;
use tokio::time::timeout;

/// Bytes in which the last line of an export has room.
const LAST_LINE_BYTES: usize = 1 << 10;

/// An export that has begun.
#[derive(Debug)]
pub struct ExportResponse {
    client: Client,
    response: Response,
    position: PositionToken,
    tail: Vec<u8>,
}

/// The last line of an export as NDJSON.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ExportEnd {
    /// True: nothing follows.
    pub end: bool,
    /// Counts of words.
    pub counts: u64,
    /// Counters.
    pub counters: u64,
    /// Entries.
    pub entries: u64,
    /// The digest of counts and entries.
    pub digest: String,
    /// The position at the end.
    pub position: String,
}

impl Client {
    /// Begins to export a namespace, or all of them.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the node does not serve reads, [`ClientError::NothingThere`] or
    /// [`ClientError::Lost`] if no answer came.
    pub async fn export(&self, format: &str, namespace: Option<&str>) -> Result<ExportResponse, ClientError> {
        let query = [("format", format)].into_iter().chain(namespace.map(|name| ("ns", name)));
        let request = self.http.get(self.address("/export", &query.collect::<Vec<_>>())).timeout(WHOLE_TIMEOUT);
        let response = timeout(self.timeout, self.send(request)).await.map_err(|_| self.too_late())??;
        let position = self.position_of(&response)?;
        Ok(ExportResponse { client: self.clone(), response, position, tail: Vec::new() })
    }
}

impl ExportResponse {
    /// The position at which it began.
    pub fn position(&self) -> PositionToken {
        self.position
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the answer breaks off, or nothing of it comes for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Self { client, response, tail, .. } = self;
        let piece = timeout(client.timeout, response.chunk()).await.map_err(|_| client.too_late())?;
        let piece = piece.map_err(|error| client.lost(&error))?;
        if let Some(piece) = &piece {
            tail.extend_from_slice(&piece[piece.len().saturating_sub(LAST_LINE_BYTES)..]);
            tail.drain(..tail.len().saturating_sub(LAST_LINE_BYTES));
        }
        Ok(piece)
    }

    /// The last line of an export as NDJSON, once all of it was taken.
    ///
    /// # Errors
    /// [`ClientError::Strange`] if it is not there.
    pub fn end(&self) -> Result<ExportEnd, ClientError> {
        let line = self.tail.strip_suffix(b"\n").unwrap_or(&self.tail);
        let line = line.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice(line).map_err(|_| self.client.strange("its export has no last line".to_owned()))
    }
}
