//! Bodies that are made as the client takes them.
//!
//! A client that goes away drops the body, and with it the walk. One that takes everything as fast as it comes, or has
//! large buffers, still gives way to the thread's other connections every few pieces.

use super::coding::{BodyEncoder, ContentCoding, SMALLEST_ENCODED_BYTES};
use crate::net::{
    address_limits::Usage,
    budget::{Budget, BudgetShare},
};
use bytes::Bytes;
use futures::Stream;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// The origin of a body's pieces.
pub(super) trait ChunkSource {
    /// The next piece; `None` once there is none.
    fn next_chunk(&mut self) -> Option<Vec<u8>>;

    /// Returns whether the last piece was given.
    fn is_done(&self) -> bool;
}

/// A body that is made piece by piece, and perhaps encoded.
pub(super) struct ChunkedBody<S> {
    source: S,
    /// Pieces given since the other connections had their turn.
    at_once: usize,
    /// A piece that was looked at and not given yet.
    ahead: Option<Vec<u8>>,
    encoder: Option<(BodyEncoder, BudgetShare)>,
}

/// Pieces given in one turn: some hundred microseconds of work.
pub(super) const PIECES_A_TURN: usize = 4;

impl<S: ChunkSource> ChunkedBody<S> {
    /// The body of these pieces.
    pub(super) fn of(source: S) -> Self {
        Self { source, at_once: 0, ahead: None, encoder: None }
    }

    /// Has the pieces encoded, unless the whole is small, or as many answers are encoded as may be at once, of
    /// all or of this address; gives whether they are.
    pub(super) fn encode(&mut self, coding: ContentCoding, encoders: &Arc<Budget>, usage: &Usage) -> bool {
        self.ahead = self.source.next_chunk();
        let is_small = self.ahead.as_ref().is_none_or(|first| first.len() < SMALLEST_ENCODED_BYTES);
        if is_small && self.source.is_done() {
            return false;
        }
        let Ok(share) = encoders.take(usage, 1) else { return false };
        self.encoder = BodyEncoder::new(coding).ok().map(|encoder| (encoder, share));
        self.encoder.is_some()
    }

    /// The next piece as it is sent.
    pub(super) fn next_piece(&mut self) -> Option<io::Result<Bytes>> {
        let chunk = self.ahead.take().or_else(|| self.source.next_chunk())?;
        let is_last = self.source.is_done();
        Some(match &mut self.encoder {
            None => Ok(chunk.into()),
            Some((encoder, _)) => encoder.encode(&chunk, is_last).map(Bytes::from),
        })
    }
}

impl<S: ChunkSource + Unpin> Stream for ChunkedBody<S> {
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
