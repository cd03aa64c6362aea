//! The body of `/sync`: one JSON object over a namespace, made as the client takes it.
//!
//! A client that goes away drops the body, and with it the walk. One that takes everything as fast as it comes, or has
//! large buffers, still gives way to the thread's other connections every few pieces.

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
    /// Pieces given since the other connections had their turn.
    at_once: usize,
}

/// Pieces given in one turn: some hundred microseconds of work.
const PIECES_A_TURN: usize = 4;

enum State {
    Start(Option<Scan>),
    Within(Scan),
    Done,
}

impl SyncBody {
    /// The words of a walk; a namespace that does not exist holds none.
    pub(super) fn new(scan: Option<Scan>, chunk_bytes: usize) -> Self {
        Self { state: State::Start(scan), chunk_bytes, at_once: 0 }
    }

    fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let (mut scan, mut first) = match std::mem::replace(&mut self.state, State::Done) {
            State::Done => return None,
            State::Start(None) => return Some(b"{}\n".to_vec()),
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
                chunk.extend_from_slice(b"}\n");
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

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.at_once == PIECES_A_TURN {
            self.at_once = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.at_once += 1;
        Poll::Ready(self.next_chunk().map(|chunk| Ok(chunk.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::WordHasher,
        record::{Change, WordCount},
        store::{Store, WindowLimits},
    };
    use std::task::Waker;

    #[test]
    fn others_have_a_turn_every_few_pieces() {
        let mut store = Store::new(WordHasher::new(7), WindowLimits::default());
        let words: Vec<String> = (0..10_000).map(|at| format!("w{at}")).collect();
        let counts = words.iter().map(|word| WordCount { word, count: 1 }).collect();
        store.load_image(&Change { namespace: "words", dropped: false, counts });
        store.end_image();
        let mut body = SyncBody::new(store.reader().scan("words"), 1_000);
        let mut cx = Context::from_waker(Waker::noop());
        let (mut gathered, mut at_once, mut turns) = (Vec::new(), 0, 0);
        loop {
            match Pin::new(&mut body).poll_next(&mut cx) {
                Poll::Pending => (at_once, turns) = (0, turns + 1),
                Poll::Ready(Some(Ok(piece))) => {
                    at_once += 1;
                    assert!(at_once <= PIECES_A_TURN);
                    gathered.extend_from_slice(&piece);
                }
                Poll::Ready(None) => break,
            }
        }
        assert!(turns > 5, "{turns}");
        let whole: serde_json::Map<_, _> = serde_json::from_slice(&gathered).expect("JSON");
        assert_eq!(whole.len(), words.len());
    }
}
