//! The body of `/sync`: one JSON object over a namespace.

use super::{
    chunks::{ChunkSource, ChunkedBody},
    headers,
};
use crate::data::store::NamespaceScan;
use std::io::Write;

/// The body of a dump.
pub(super) type DumpBody = ChunkedBody<DumpChunks>;

/// Pieces of JSON, each about as long as asked for.
pub(super) struct DumpChunks {
    state: DumpState,
    chunk_bytes: usize,
}

enum DumpState {
    Start(Option<NamespaceScan>),
    Within(NamespaceScan),
    Done,
}

impl DumpBody {
    /// The words of a walk; a namespace that does not exist holds none.
    pub(super) fn new(scan: Option<NamespaceScan>, chunk_bytes: usize) -> Self {
        ChunkedBody::of(DumpChunks { state: DumpState::Start(scan), chunk_bytes })
    }
}

impl ChunkSource for DumpChunks {
    fn is_done(&self) -> bool {
        matches!(self.state, DumpState::Done)
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

#[cfg(test)]
mod tests {
    use super::{
        super::{chunks::PIECES_A_TURN, coding::ContentCoding},
        *,
    };
    use crate::{
        base::hash::WordHasher,
        data::record::{NamespaceChange, WordCount},
        data::store::{DedupLimits, Store},
        net::address_limits::{Resource, Usage, tests::halves},
        net::budget::Budget,
    };
    use futures::Stream;
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

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
