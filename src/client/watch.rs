//! The events of a node as they come (`GET /watch`).

use super::{Client, ClientError};
use bytes::Bytes;
use reqwest::{Response, header};
use serde_json::Value;
use std::{collections::VecDeque, time::Duration};

/// A stream is opened anew after so long.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// A node that has said nothing for so long is gone: it sends a heartbeat every 15 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(45);
/// Longest line of an event, in bytes. A node sends none that is as long.
const MAX_LINE_BYTES: usize = 16 << 20;

/// The values that are watched.
#[derive(Clone, Debug, Default)]
pub struct WatchQuery<'a> {
    /// The namespace, if not `words`.
    pub namespace: Option<&'a str>,
    /// Words.
    pub words: &'a [String],
    /// Keys of entries.
    pub keys: &'a [String],
    /// Number of the largest counts.
    pub top: Option<u16>,
    /// The longest time that a change waits, such as `100ms`.
    pub every: Option<&'a str>,
}

/// An event of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchUpdate {
    /// `counts`, `entries`, `top` or `reset`.
    pub name: String,
    /// Its values.
    pub data: Value,
    /// The position at which they hold; the last one of several of one position alone has it.
    pub id: Option<String>,
}

/// An open stream of events.
pub struct EventReader {
    client: Client,
    response: Response,
    parser: EventParser,
}

impl Client {
    /// Opens a stream of events: from the begin, or behind the position `last_id`.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Refused`] if the node
    /// answered with a problem.
    pub async fn watch(&self, query: &WatchQuery<'_>, last_id: Option<&str>) -> Result<EventReader, ClientError> {
        let top = query.top.map(|top| top.to_string());
        let mut pairs: Vec<(&str, &str)> = query.namespace.map(|name| ("ns", name)).into_iter().collect();
        pairs.extend(query.words.iter().map(|word| ("word", &**word)));
        pairs.extend(query.keys.iter().map(|key| ("key", &**key)));
        pairs.extend(top.as_deref().map(|top| ("top", top)));
        pairs.extend(query.every.map(|every| ("every", every)));
        let mut request = self.http.get(self.address("/watch", &pairs)).timeout(WHOLE_TIMEOUT);
        request = request.header(header::ACCEPT, "text/event-stream");
        if let Some(last_id) = last_id {
            request = request.header("Last-Event-ID", last_id);
        }
        let sent = tokio::time::timeout(self.timeout, self.send(request)).await;
        let response = sent.map_err(|_| self.too_late())??;
        Ok(EventReader { client: self.clone(), response, parser: EventParser::default() })
    }
}

impl EventReader {
    /// Gives the next event; `None` once the node has ended the stream.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the connection breaks, or nothing comes for long; [`ClientError::Strange`] if what
    /// comes is no event.
    pub async fn next_update(&mut self) -> Result<Option<WatchUpdate>, ClientError> {
        loop {
            if let Some(update) = self.parser.next_update().map_err(|error| self.client.strange(error))? {
                return Ok(Some(update));
            }
            let piece = tokio::time::timeout(SILENCE_TIMEOUT, self.response.chunk()).await;
            match piece.map_err(|_| self.client.too_late())? {
                Ok(Some(piece)) => self.parser.push(&piece).map_err(|error| self.client.strange(error))?,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.client.lost(&error)),
            }
        }
    }

    /// Gives the error of a stream that has ended.
    pub fn ended(&self) -> ClientError {
        ClientError::Lost { base: self.client.base(), reason: "the node has ended the stream".to_owned() }
    }

    /// Gives the position to go on behind: that of the last event, or of a heartbeat behind it.
    pub fn last_id(&self) -> Option<&str> {
        self.parser.last_id.as_deref()
    }
}

/// Reads `text/event-stream`, in pieces of any size.
#[derive(Debug, Default)]
struct EventParser {
    /// The begin of a line.
    line: Vec<u8>,
    name: String,
    data: Option<String>,
    id: Option<String>,
    whole: VecDeque<(String, String, Option<String>)>,
    last_id: Option<String>,
}

impl EventParser {
    fn push(&mut self, piece: &Bytes) -> Result<(), String> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() > MAX_LINE_BYTES {
                return Err(format!("an event of more than {MAX_LINE_BYTES} bytes"));
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let line = std::str::from_utf8(&line).map_err(|error| format!("an event that is no UTF-8: {error}"))?;
                self.end_line(line.trim_end_matches(['\r', '\n']));
            }
        }
        Ok(())
    }

    fn end_line(&mut self, line: &str) {
        if line.is_empty() {
            let (name, data, id) = (std::mem::take(&mut self.name), self.data.take(), self.id.take());
            self.last_id = id.clone().or(self.last_id.take());
            self.whole.extend(data.map(|data| (name, data, id)));
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "id" => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => *data = format!("{data}\n{value}"),
                None => self.data = Some(value.to_owned()),
            },
            _ => {} // a comment, or a pause for browsers
        }
    }

    fn next_update(&mut self) -> Result<Option<WatchUpdate>, String> {
        let Some((name, data, id)) = self.whole.pop_front() else { return Ok(None) };
        let data = serde_json::from_str(&data).map_err(|error| format!("an event that is no JSON: {error}"))?;
        Ok(Some(WatchUpdate { name, data, id }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STREAM: &str = "retry: 1000\n\nevent: counts\nid: 1-2-00000007\ndata: {\"ü\":3}\n\n: heartbeat\nid: 1-9-00000007\n\n\
                          event: top\r\ndata:[1,\ndata: 2]\n\n";

    #[test]
    fn events_are_read_from_pieces_of_any_size() {
        for size in [1, 2, 3, 7, STREAM.len()] {
            let mut parser = EventParser::default();
            let mut updates = Vec::new();
            for piece in STREAM.as_bytes().chunks(size) {
                parser.push(&Bytes::copy_from_slice(piece)).expect("sound");
                while let Some(update) = parser.next_update().expect("JSON") {
                    updates.push(update);
                }
            }
            let id = Some("1-2-00000007".to_owned());
            let counts = WatchUpdate { name: "counts".into(), data: json!({"ü": 3}), id };
            assert_eq!(updates, [counts, WatchUpdate { name: "top".into(), data: json!([1, 2]), id: None }]);
            assert_eq!(parser.last_id.as_deref(), Some("1-9-00000007"), "a heartbeat moves the position on");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let read = |text: &'static [u8]| {
            let mut parser = EventParser::default();
            parser.push(&Bytes::from_static(text)).and_then(|()| parser.next_update())
        };
        assert!(read(b"data: {\n\n").is_err() && read(b"data: \xff\n\n").is_err());
        assert_eq!(read(b"data: {}"), Ok(None), "it is not whole");
    }
}
