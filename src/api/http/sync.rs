//! The body of `/sync`: one JSON object over a namespace, made as the client takes it.
//!
//! A client that goes away drops the body, and with it the walk. One that takes everything as fast as it comes, or has
//! large buffers, still gives way to the thread's other connections every few pieces.

use super::{
    coding::{BodyEncoder, ContentCoding, SMALLEST_ENCODED_BYTES},
    headers,
};
use crate::{
    data::store::NamespaceScan,
    net::{
        address_limits::Usage,
        budget::{Budget, BudgetShare},
    },
};
use bytes::Bytes;
use futures::Stream;
use std::{
    io::{self, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Pieces of JSON, each about as long as asked for.
pub(super) struct DumpBody {
    state: DumpState,
    chunk_bytes: usize,
    /// Pieces given since the other connections had their turn.
    at_once: usize,
    /// A piece that was looked at and not given yet.
    ahead: Option<Vec<u8>>,
    encoder: Option<(BodyEncoder, BudgetShare)>,
}

/// Pieces given in one turn: some hundred microseconds of work.
const PIECES_A_TURN: usize = 4;

enum DumpState {
    Start(Option<NamespaceScan>),
    Within(NamespaceScan),
    Done,
}

impl DumpBody {
    /// The words of a walk; a namespace that does not exist holds none.
    pub(super) fn new(scan: Option<NamespaceScan>, chunk_bytes: usize) -> Self {
        Self { state: DumpState::Start(scan), chunk_bytes, at_once: 0, ahead: None, encoder: None }
    }

    /// Has the pieces encoded, unless the whole is small, or as many answers are encoded as may be at once, of
    /// all or of this address; gives whether they are.
    pub(super) fn encode(&mut self, coding: ContentCoding, encoders: &Arc<Budget>, usage: &Usage) -> bool {
        self.ahead = self.next_chunk();
        let is_small = self.ahead.as_ref().is_none_or(|first| first.len() < SMALLEST_ENCODED_BYTES);
        if is_small && matches!(self.state, DumpState::Done) {
            return false;
        }
        let Ok(share) = encoders.take(usage, 1) else { return false };
        self.encoder = BodyEncoder::new(coding).ok().map(|encoder| (encoder, share));
        self.encoder.is_some()
    }

    /// The next piece as it is sent.
    fn next_piece(&mut self) -> Option<io::Result<Bytes>> {
        let chunk = self.ahead.take().or_else(|| self.next_chunk())?;
        let is_last = matches!(self.state, DumpState::Done);
        Some(match &mut self.encoder {
            None => Ok(chunk.into()),
            Some((encoder, _)) => encoder.encode(&chunk, is_last).map(Bytes::from),
        })
    }

    fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let (mut scan, mut first) = match std::mem::replace(&mut self.state, DumpState::Done) {
            DumpState::Done => return None,
            DumpState::Start(None) => return Some(b"{}\n".to_vec()),
            DumpState::Start(Some(scan)) => (scan, true),
            DumpState::Within(scan) => (scan, false),
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
                self.state = DumpState::Within(scan);
                return Some(chunk);
            }
        }
    }
}

impl Stream for DumpBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.at_once >= PIECES_A_TURN {
                self.at_once = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // Encoding takes longer than the walk.
            self.at_once += if self.encoder.is_some() { 2 } else { 1 };
            match self.next_piece() {
                Some(Ok(piece)) if piece.is_empty() => {} // the encoder has kept all of it
                next => return Poll::Ready(next),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::hash::WordHasher,
        data::record::{NamespaceChange, WordCount},
        data::store::{DedupLimits, Store},
        net::address_limits::{Resource, tests::halves},
    };
    use std::task::Waker;

    #[test]
    fn an_answer_is_encoded_if_it_is_not_small_and_there_is_a_place() {
        let mut store = Store::new(WordHasher::new(7), DedupLimits::default());
        let words: Vec<String> = (0..10_000).map(|at| format!("w{at}")).collect();
        let counts = words.iter().map(|word| WordCount { word, count: 1 }).collect();
        store.load_image(&NamespaceChange { namespace: "words", dropped: false, counts });
        let counts = vec![WordCount { word: "a", count: 1 }];
        store.load_image(&NamespaceChange { namespace: "small", dropped: false, counts });
        store.end_image();
        let body = |namespace: &str| DumpBody::new(store.reader().scan(namespace), 1_000);
        let (encoders, usage) = (Budget::new(Resource::EncodedAnswers, 2, 1), halves().usage([10, 0, 0, 1].into()));
        for namespace in ["small", "absent"] {
            assert!(!body(namespace).encode(ContentCoding::Gzip, &encoders, &usage), "{namespace}");
        }
        let (mut first, mut second) = (body("words"), body("words"));
        assert!(
            first.encode(ContentCoding::Gzip, &encoders, &usage)
                && !second.encode(ContentCoding::Gzip, &encoders, &usage)
        );
        assert!(body("words").encode(ContentCoding::Gzip, &encoders, &Usage::default()), "another address has its own");
        let whole = |body: &mut DumpBody| {
            std::iter::from_fn(|| body.next_piece()).flat_map(|piece| piece.expect("sound")).collect::<Vec<u8>>()
        };
        let (encoded, plain) = (whole(&mut first), whole(&mut second));
        assert!(encoded.starts_with(&[0x1f, 0x8b]) && plain.starts_with(b"{"));
        assert!(serde_json::from_slice::<serde_json::Value>(&plain).is_ok(), "what was looked at is not lost");
        drop(first);
        assert!(body("words").encode(ContentCoding::Zstd, &encoders, &usage), "the place is free again");
    }

    #[test]
    fn a_dump_gives_others_a_turn_every_few_pieces() {
        let mut store = Store::new(WordHasher::new(7), DedupLimits::default());
        let words: Vec<String> = (0..10_000).map(|at| format!("w{at}")).collect();
        let counts = words.iter().map(|word| WordCount { word, count: 1 }).collect();
        store.load_image(&NamespaceChange { namespace: "words", dropped: false, counts });
        store.end_image();
        let mut body = DumpBody::new(store.reader().scan("words"), 1_000);
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
                Poll::Ready(Some(Err(error))) => panic!("{error}"),
                Poll::Ready(None) => break,
            }
        }
        assert!(turns > 5, "{turns}");
        let whole: serde_json::Map<_, _> = serde_json::from_slice(&gathered).expect("JSON");
        assert_eq!(whole.len(), words.len());
    }
}
