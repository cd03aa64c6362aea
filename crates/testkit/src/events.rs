//! A client of `GET /watch` that reads events strictly, one at a time.

use crate::wire::{Answer, Wire};
use std::net::SocketAddr;

/// An open stream of events.
pub struct WatchedStream {
    wire: Wire,
    /// The head of the answer.
    pub head: Answer,
    text: String,
    /// The position that a client would come again with.
    pub last_id: String,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedEvent {
    pub name: String,
    pub data: String,
    /// Its position; of several events of one position, the last one alone has it.
    pub id: Option<String>,
}

impl WatchedStream {
    /// Opens `/watch` with a query, and with more headers, each with the line break in front of it.
    ///
    /// # Panics
    /// If the answer is no stream of events.
    pub fn open(address: SocketAddr, query: &str, headers: &str) -> Self {
        let mut wire = Wire::to(address);
        wire.send(format!("GET /watch?{query} HTTP/1.1\r\nHost: localhost{headers}\r\n\r\n"));
        let head = wire.answer_without_body();
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        let mut stream = Self { wire, head, text: String::new(), last_id: String::new() };
        assert_eq!(stream.block().as_deref(), Some("retry: 1000"), "a stream begins with the pause of browsers");
        stream
    }

    /// The next event, `None` at the end of the stream.
    ///
    /// # Panics
    /// If the stream breaks off, or holds what is no event.
    pub fn next_event(&mut self) -> Option<WatchedEvent> {
        loop {
            let block = self.block()?;
            let (mut name, mut data, mut id) = (None, None, None);
            for line in block.lines() {
                let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
                let slot = match field {
                    "event" => &mut name,
                    "data" => &mut data,
                    "id" => &mut id,
                    "" => continue, // a heartbeat
                    _ => panic!("an unknown field: {line:?}"),
                };
                assert_eq!(slot.replace(value.to_owned()), None, "{block}");
            }
            self.last_id = id.clone().unwrap_or(std::mem::take(&mut self.last_id));
            if let Some(data) = data {
                return Some(WatchedEvent { name: name.expect("every event has a name"), data, id });
            }
        }
    }

    /// The name and the data of the next event.
    ///
    /// # Panics
    /// If the stream has ended.
    pub fn next_text(&mut self) -> String {
        let event = self.next_event().expect("the stream goes on");
        format!("{} {}", event.name, event.data)
    }

    /// Returns whether something comes within a moment.
    pub fn has_something(&mut self) -> bool {
        !self.text.is_empty() || self.wire.has_something()
    }

    /// The next lines, up to an empty one.
    fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block = self.text[..end].to_owned();
                self.text.drain(..end + 2);
                return Some(block);
            }
            let Some(chunk) = self.wire.chunk() else {
                assert_eq!(self.text, "", "the stream ends within an event");
                return None;
            };
            self.text.push_str(std::str::from_utf8(&chunk).expect("a piece is whole UTF-8"));
        }
    }
}
