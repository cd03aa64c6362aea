//! A bulk body and its answer, as the client sends and reads them.

use crate::base::position::PositionToken;
use bytes::Bytes;
use futures::Stream;
use serde::Deserialize;
use std::io;

/// The answer to a bulk body of a stream: 202.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BulkAnswer {
    /// Lines of the stream that are done.
    pub stream_lines: u64,
    /// Words counted in all of them.
    pub stream_words: u64,
    /// Tokens left out in all of them.
    pub stream_left_out: u64,
    /// Lines of this body that were done before.
    pub skipped: u64,
    /// Words counted now.
    pub words: u64,
    /// Tokens left out now.
    pub left_out: u64,
    /// The most bytes a line may have.
    pub line_bytes: usize,
    /// Lines that were refused now.
    pub refused: u64,
    /// The first of them.
    #[serde(default)]
    pub refusals: Vec<RefusedLine>,
    /// The position of the last record that the body wrote.
    #[serde(deserialize_with = "super::position")]
    pub position: PositionToken,
}

impl BulkAnswer {
    pub(super) fn total(&self) -> StreamTotals {
        StreamTotals { lines: self.stream_lines, words: self.stream_words, left_out: self.stream_left_out }
    }

    /// Gives the totals of the stream before this body.
    pub(super) fn before(&self) -> StreamTotals {
        StreamTotals {
            lines: self.skipped,
            words: self.stream_words.saturating_sub(self.words),
            left_out: self.stream_left_out.saturating_sub(self.left_out),
        }
    }
}

/// The totals of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamTotals {
    pub(super) lines: u64,
    pub(super) words: u64,
    pub(super) left_out: u64,
}

impl StreamTotals {
    pub(super) fn since(self, before: StreamTotals) -> StreamTotals {
        StreamTotals {
            lines: self.lines.saturating_sub(before.lines),
            words: self.words.saturating_sub(before.words),
            left_out: self.left_out.saturating_sub(before.left_out),
        }
    }
}

/// A line that the leader has refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RefusedLine {
    /// Its number among the lines of the text, from 1.
    pub line: u64,
    /// The reason, for a person.
    pub reason: String,
}

/// The pieces of a body, as it is sent.
pub type BodyStream = std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;
