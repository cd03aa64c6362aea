//! Every word of a node, as `/sync` tells it: taken word by word while it arrives, never whole in memory.
//!
//! JSON is parsed by a thread that may wait, which the pieces reach over a short queue: serde_json reads from what
//! blocks, not from what is polled.

use super::{Client, ClientError};
use crate::base::position::PositionToken;
use bytes::{Buf, Bytes};
use reqwest::Response;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use std::{
    fmt,
    io::{self, BufReader, Read},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};

/// A whole answer may take this long; how long a piece of it may take is bounded by the client's patience.
pub(super) const WHOLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Pieces that wait for the parser.
const PIECES_AHEAD: usize = 8;

/// An answer of `/sync` that has begun.
#[derive(Debug)]
pub struct DumpResponse {
    client: Client,
    position: PositionToken,
    response: Response,
}

impl Client {
    /// Begins to read every word with its count, from a node that has applied `min_position`.
    ///
    /// # Errors
    /// [`ClientError`]; refused with 503 if the position is not applied yet, with 410 if it never will be.
    pub async fn sync(&self, min_position: Option<PositionToken>) -> Result<DumpResponse, ClientError> {
        let mut request = self.http.get(self.address("/sync", &[])).timeout(WHOLE_TIMEOUT);
        if let Some(position) = min_position {
            request = request.header("Memdb-Min-Position", position.to_string());
        }
        let response = timeout(self.timeout, self.send(request)).await.map_err(|_| self.too_late())??;
        Ok(DumpResponse { client: self.clone(), position: self.position_of(&response)?, response })
    }
}

impl DumpResponse {
    /// The position the answer begins at. If nothing is written meanwhile, all counts are of this position.
    pub fn position(&self) -> PositionToken {
        self.position
    }

    /// Gives each word with its count to `take`, along with `into`, which comes back at the end. `take` runs on a
    /// thread that may wait.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the answer breaks off, [`ClientError::Strange`] if it is no object of counts.
    pub async fn fold<T: Send + 'static>(
        self,
        into: T,
        take: impl FnMut(&mut T, String, i64) + Send + 'static,
    ) -> Result<T, ClientError> {
        let DumpResponse { client, mut response, .. } = self;
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        let parsing = tokio::task::spawn_blocking(move || read_words(ChunkReader::new(pieces), into, take));
        loop {
            let piece = timeout(client.timeout, response.chunk()).await.map_err(|_| client.too_late())?;
            let Some(piece) = piece.map_err(|error| client.lost(&error))? else { break };
            if sender.send(piece).await.is_err() {
                break; // the parser has stopped; it says why below
            }
        }
        drop(sender);
        let parsed = parsing.await.map_err(|error| client.strange(error.to_string()))?;
        parsed.map_err(|error| client.strange(error.to_string()))
    }
}

/// The pieces of an answer as something to read from. Blocks.
struct ChunkReader {
    pieces: mpsc::Receiver<Bytes>,
    at_hand: Bytes,
}

impl ChunkReader {
    fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        ChunkReader { pieces, at_hand: Bytes::new() }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at_hand.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.at_hand = piece,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.at_hand.len());
        self.at_hand.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// Reads one object of counts to its end.
fn read_words<T>(from: impl Read, into: T, take: impl FnMut(&mut T, String, i64)) -> serde_json::Result<T> {
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(from));
    let into = json.deserialize_map(CountsVisitor { into, take })?;
    json.end()?;
    Ok(into)
}

struct CountsVisitor<T, F> {
    into: T,
    take: F,
}

impl<'de, T, F: FnMut(&mut T, String, i64)> Visitor<'de> for CountsVisitor<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of words with their counts")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut counts: A) -> Result<T, A::Error> {
        while let Some(word) = counts.next_key::<String>()? {
            let count =
                counts.next_value().map_err(|error| A::Error::custom(format!("the count of {word:?}: {error}")))?;
            (self.take)(&mut self.into, word, count);
        }
        Ok(self.into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `text` in pieces of `step` bytes.
    fn read(text: &str, step: usize) -> serde_json::Result<Vec<(String, i64)>> {
        let (sender, pieces) = mpsc::channel(text.len().max(1));
        for piece in text.as_bytes().chunks(step) {
            sender.try_send(Bytes::copy_from_slice(piece)).expect("room for every byte");
        }
        drop(sender);
        read_words(ChunkReader::new(pieces), Vec::new(), |all, word, count| all.push((word, count)))
    }

    #[test]
    fn words_are_read_however_the_bytes_arrive() {
        let text = " {\"hello\":2, \"w\\u00f6rld\":-1,\"北京\":9223372036854775807}\n";
        let expected = [("hello", 2), ("wörld", -1), ("北京", i64::MAX)].map(|(word, n)| (word.to_owned(), n));
        for step in 1..=text.len() {
            assert_eq!(read(text, step).expect("sound"), expected, "{step} bytes at a time");
        }
        assert_eq!(read("{}", 1).expect("sound"), []);
    }

    #[test]
    fn a_dump_that_breaks_off_or_holds_no_counts_is_an_error() {
        for text in ["", "{", "{\"a\":1", "{\"a\":1,", "{\"a\":1.5}", "{\"a\":\"1\"}", "[1]", "{\"a\":1}{", "<html>"] {
            assert!(read(text, 3).is_err(), "{text}");
        }
        let error = read("{\"a\":null}", 3).expect_err("no count").to_string();
        assert!(error.starts_with("the count of \"a\": "), "{error}");
    }
}
