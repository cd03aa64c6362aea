//! A part of a stream of lines that a follower passes on: the leader takes it as one block, as the follower has cut it.
//!
//! `Memdb-Stream-Lines` says which lines of the stream a body has, with the running hash in front of them and behind
//! them. So a part that is sent again counts once, and no part needs those before it. Parts of a body without a stream
//! have a key each, which is soon forgotten: a stream is remembered for a month.

use super::{
    BULK_STREAM, BulkProgress, BulkRequest, BulkTotals, DedupHeaders, LineBlock, RouteRequest, headers,
    too_many_uploads,
};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::failpoint::inject,
    base::limits::BULK_BLOCK_BYTES,
    engine::leader::AckLevel,
    net::budget::BudgetShare,
};
use bytes::Buf;
use futures::{Stream, StreamExt};
use std::pin::pin;
use tokio::sync::mpsc;
use warp::reply::Response;

/// The header of a part.
pub(super) const STREAM_LINES: &str = "memdb-stream-lines";
/// Asks for the state of the stream.
pub(super) const ASK: &str = "?";

/// What a follower wants of a stream.
pub(super) enum StreamPart {
    /// To know the lines that are done, and their running hash.
    Ask,
    /// To have these lines counted.
    Lines(PartLines),
}

/// The place of lines in their stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartLines {
    pub(super) done: u64,
    pub(super) so_far: u128,
    pub(super) upto: u64,
    pub(super) hash: u128,
    pub(super) first_too_long: bool,
}

impl PartLines {
    /// The place of a block.
    pub(super) fn of(block: &LineBlock) -> Self {
        let LineBlock { done, upto, so_far, hash, first_too_long, .. } = *block;
        Self { done, so_far, upto, hash, first_too_long }
    }

    /// The header that states it.
    pub(super) fn header(&self) -> String {
        let Self { done, so_far, upto, hash, first_too_long } = self;
        format!("{done}-{so_far:x}-{upto}-{hash:x}-{}", u8::from(*first_too_long))
    }

    /// The bytes of the longest line; `None` if these are not as many whole lines as it states.
    fn longest_of(&self, bytes: &[u8]) -> Option<usize> {
        let (mut lines, mut longest, mut from) = (0, 0, 0);
        for end in memchr::memchr_iter(b'\n', bytes) {
            (lines, longest, from) = (lines + 1, longest.max(end - from), end + 1);
        }
        let mut is_whole = lines == self.upto - self.done && from == bytes.len();
        inject!(TakesPartsInPart, is_whole = true);
        is_whole.then_some(longest)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let mut next = || fields.next();
        let lines = Self {
            done: next()?.parse().ok()?,
            so_far: u128::from_str_radix(next()?, 16).ok()?,
            upto: next()?.parse().ok()?,
            hash: u128::from_str_radix(next()?, 16).ok()?,
            first_too_long: next()? == "1",
        };
        (lines.done < lines.upto).then_some(lines)
    }
}

impl StreamPart {
    /// What the request of a follower wants, if it is not a body from its first line.
    pub(super) fn of(request: &RouteRequest) -> Result<Option<Self>, ApiError> {
        let Some(text) = request.header(STREAM_LINES)? else { return Ok(None) };
        if text == ASK {
            return Ok(Some(Self::Ask));
        }
        let lines = PartLines::parse(&text);
        lines.map(|lines| Some(Self::Lines(lines))).ok_or_else(|| {
            ApiError::new(ErrorKind::InvalidHeader, "Memdb-Stream-Lines is for followers that pass lines on")
        })
    }

    /// The key of a part that has one.
    pub(super) fn take_key(&self, naming: &mut DedupHeaders) -> Option<Box<str>> {
        let Self::Lines(lines) = self else { return None };
        let key = naming.key.take()?;
        let mut part = lines.upto;
        inject!(GivesPartsOneKey, part = 0);
        Some(format!("{BULK_STREAM}{key}:{part}").into())
    }
}

/// Says how far a stream is.
pub(super) fn state(response: &mut Response, done: Option<(u64, u128)>) {
    let (lines, hash) = done.unwrap_or_default();
    response.headers_mut().insert(STREAM_LINES, headers::value(format!("{lines}-{hash:x}")));
}

/// Reads that.
pub(super) fn read_state(text: &str) -> Option<(u64, u128)> {
    let (lines, hash) = text.split_once('-')?;
    Some((lines.parse().ok()?, u128::from_str_radix(hash, 16).ok()?))
}

impl BulkRequest {
    /// Takes a part as one block: it counts whole, behind the lines that it says are before it.
    pub(super) async fn take_part<S, B>(
        &self,
        body: S,
        part: &PartLines,
        done: &mut BulkProgress,
    ) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<B, ApiError>>,
        B: Buf,
    {
        let bytes = self.read_part(body).await?;
        if self.part_key.is_none() && self.has_counted(part, done).await? {
            done.skipped = part.upto;
            return Ok(());
        }
        let longest = part.longest_of(&bytes).ok_or_else(|| {
            ApiError::new(ErrorKind::InvalidBody, "these are not the lines that Memdb-Stream-Lines states")
        })?;
        let PartLines { done: before, so_far, upto, hash, first_too_long } = *part;
        let block = LineBlock { bytes, done: before, upto, so_far, hash, first_too_long, longest };
        done.skipped = before;
        let (jobs, counted) = mpsc::channel(1);
        let begun = async move { self.begin(block, &jobs).await };
        tokio::join!(begun, self.write(counted, done)).1
    }

    /// Returns whether the stream ends with a part already, and notes its totals.
    async fn has_counted(&self, part: &PartLines, done: &mut BulkProgress) -> Result<bool, ApiError> {
        let wanted = "lines that are passed on have a Memdb-Stream or a key";
        let stream = self.stream.as_deref().ok_or_else(|| ApiError::new(ErrorKind::InvalidHeader, wanted))?;
        // What an earlier try has left in the queue is decided before anybody looks.
        self.barrier(Some(AckLevel::Leader)).await.map_err(|error| self.refused(&error))?;
        let entry = self.state.service.current()?.reader.stream(&self.namespace, stream);
        done.stream = Some(entry.as_ref().map_or(BulkTotals::default(), |entry| BulkTotals {
            lines: entry.stream_sequence,
            words: entry.words,
            left_out: entry.left_out,
        }));
        Ok(entry.is_some_and(|entry| (entry.stream_sequence, entry.fingerprint) == (part.upto, part.hash)))
    }

    async fn read_part<S, B>(&self, body: S) -> Result<Vec<u8>, ApiError>
    where
        S: Stream<Item = Result<B, ApiError>>,
        B: Buf,
    {
        let mut share = BudgetShare::of(&self.state.budgets.uploads, &self.usage);
        // A block is closed by the line that makes it large enough, and by one piece behind it.
        let most = 2 * BULK_BLOCK_BYTES + self.options.limit;
        let (mut bytes, mut body) = (Vec::new(), pin!(body));
        let patience = self.state.settings.body_timeout;
        let late = |_| ApiError::new(ErrorKind::RequestTimeout, "nothing of the body came in time");
        while let Some(piece) = tokio::time::timeout(patience, body.next()).await.map_err(late)? {
            let mut piece = piece?;
            while piece.has_remaining() {
                let some = piece.chunk().len();
                if bytes.len() + some > most {
                    return Err(ApiError::new(ErrorKind::BodyTooLarge, "a part of a stream is not as large"));
                }
                share.set((bytes.len() + some).max(bytes.capacity())).map_err(too_many_uploads)?;
                bytes.extend_from_slice(piece.chunk());
                piece.advance(some);
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::failpoint::{Defect, inject_defect};

    #[test]
    fn the_place_of_lines_is_read_as_it_is_stated() {
        for first_too_long in [false, true] {
            let lines = PartLines { done: 7, so_far: u128::MAX, upto: 9, hash: 1, first_too_long };
            assert_eq!(PartLines::parse(&lines.header()), Some(lines));
        }
        for wrong in ["", "?", "7-0-7-0-0", "7-0-8", "7-x-8-0-0", "-1-0-8-0-0"] {
            assert_eq!(PartLines::parse(wrong), None, "{wrong}");
        }
        assert_eq!(read_state("12-ff"), Some((12, 255)));
        assert_eq!(read_state("12"), None);
    }

    fn part(done: u64, upto: u64) -> PartLines {
        PartLines { done, so_far: 0, upto, hash: 0, first_too_long: false }
    }

    /// Looks at what counts each line of a part once, and whole.
    fn check() -> Result<(), String> {
        let key = |upto| {
            let mut naming = DedupHeaders { key: Some("k".to_owned()), ..DedupHeaders::default() };
            StreamPart::Lines(part(0, upto)).take_key(&mut naming)
        };
        if key(3) != key(3) || key(3) == key(5) {
            return Err(format!("the keys of two parts are {:?} and {:?}", key(3), key(5)));
        }
        for (lines, longest) in [
            ("a\nbcd\n", Some(3)),
            ("\n\n", Some(0)),
            ("a\n", None),
            ("a\nb\nc\n", None),
            ("a\nb\nc", None),
            ("", None),
        ] {
            if part(7, 9).longest_of(lines.as_bytes()) != longest {
                return Err(format!("{lines:?} passes for two lines, or does not"));
            }
        }
        Ok(())
    }

    #[test]
    fn a_part_has_the_lines_that_it_states_and_a_key_of_its_own() {
        check().unwrap_or_else(|wrong| panic!("{wrong}"));
    }

    #[test]
    fn planted_defects_of_parts_are_found() {
        for defect in [Defect::GivesPartsOneKey, Defect::TakesPartsInPart] {
            let _injected = inject_defect(Some(defect));
            assert!(check().is_err(), "{defect:?} is not found");
        }
    }
}
