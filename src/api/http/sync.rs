//! The body of `/sync`: one JSON object over a namespace, made as the client takes it.
//!
//! A client that goes away drops the body, and with it the walk.

use super::headers;
use crate::store::Scan;
use bytes::Bytes;
use futures::Stream;
use std::{
    convert::Infallible,
    io::Write,
    pin::Pin,
    task::{Context, Poll},
};

/// Pieces of JSON, each about as long as asked for.
pub(super) struct SyncBody {
    state: State,
    chunk_bytes: usize,
}

enum State {
    Start(Option<Scan>),
    Within(Scan),
    Done,
}

impl SyncBody {
    /// The words of a walk; a namespace that does not exist holds none.
    pub(super) fn new(scan: Option<Scan>, chunk_bytes: usize) -> Self {
        Self { state: State::Start(scan), chunk_bytes }
    }

    fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let (mut scan, mut first) = match std::mem::replace(&mut self.state, State::Done) {
            State::Done => return None,
            State::Start(None) => return Some(b"{}".to_vec()),
            State::Start(Some(scan)) => (scan, true),
            State::Within(scan) => (scan, false),
        };
        let mut chunk = Vec::with_capacity(self.chunk_bytes + self.chunk_bytes / 4);
        if first {
            chunk.push(b'{');
        }
        loop {
            let more = scan.step(|word, count| {
                // What was zero at some moment of the walk is absent, as everywhere.
                if count != 0 {
                    if !std::mem::take(&mut first) {
                        chunk.push(b',');
                    }
                    headers::write_json_string(&mut chunk, word);
                    write!(chunk, ":{count}").expect("a Vec takes every byte");
                }
            });
            if !more {
                chunk.push(b'}');
                return Some(chunk);
            }
            // A chunk that ended before the first word would forget that the next word is the first.
            if chunk.len() >= self.chunk_bytes && !first {
                self.state = State::Within(scan);
                return Some(chunk);
            }
        }
    }
}

impl Stream for SyncBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.next_chunk().map(|chunk| Ok(chunk.into())))
    }
}
