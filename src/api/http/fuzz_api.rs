//! Parses input of clients without a connection, for the fuzzer (`fuzz/targets`). Only in builds for tests.

pub use super::fast_path::fuzz_api::{BothAnswers, answered};

use super::{
    body::MediaType,
    framing::BodyFraming,
    head::{self, HeadScan},
    query::{QueryString, RouteParameters},
    update, write_request,
};
use crate::{
    api::error::ApiError, base::hash::WordHasher, data::command::WriteBatch, data::counts::word_counts::WordCounts,
    text::tokenizer::Analyzer,
};
use bytes::Bytes;

const HASHER: WordHasher = WordHasher::new(1);

fn status(problem: &ApiError) -> u16 {
    // The answer is made too: it must be one, whatever the bytes.
    assert!(serde_json::from_slice::<serde_json::Value>(&problem.body()).is_ok_and(|body| body.is_object()));
    problem.status().as_u16()
}

/// The body of `POST /post`, counted.
///
/// # Errors
/// The status of the answer.
pub fn post(content_type: Option<&str>, body: &[u8]) -> Result<WriteBatch, u16> {
    let media = MediaType::of(content_type, "text").map_err(|problem| status(&problem))?;
    write_request::counted(&media, &Bytes::copy_from_slice(body)).map_err(|problem| status(&problem))
}

/// The body of `POST /update`: the amounts, and the sum of them without their signs.
///
/// # Errors
/// The status of the answer.
pub fn amounts(body: &str) -> Result<(WordCounts, u64), u16> {
    update::parse(body, Analyzer::Standard, HASHER)
        .map(|read| (read.tally, read.words))
        .map_err(|problem| status(&problem))
}

/// Parses a query: the namespace and the words.
///
/// # Errors
/// The status of the answer.
pub fn query(text: &str) -> Result<(String, Vec<String>), u16> {
    let query = QueryString::parse(text, RouteParameters::WORDCOUNT).map_err(|problem| status(&problem))?;
    let _ = (query.top().map_err(|problem| status(&problem)), query.named_words().map_err(|problem| status(&problem)));
    Ok((query.namespace.into_owned(), query.words.into_iter().map(|word| word.into_owned()).collect()))
}

/// The result of [`look`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScannedHead {
    /// It is not whole.
    Partial,
    /// It is so long.
    Sound(usize),
    /// It is answered with this status.
    Unsound(u16),
}

/// Looks at the head that begins `bytes`.
pub fn look(bytes: &[u8], max_head_bytes: usize) -> ScannedHead {
    match head::look(bytes, max_head_bytes) {
        HeadScan::Partial => ScannedHead::Partial,
        HeadScan::Sound { head_bytes, .. } => ScannedHead::Sound(head_bytes),
        HeadScan::Unsound(problem) => ScannedHead::Unsound(status(&problem)),
    }
}

/// Counts how many of the bytes behind a sound head belong to its body, if they come in pieces of this size, and
/// returns whether the body has ended.
pub fn body_bytes(bytes: &[u8], max_head_bytes: usize, piece: usize) -> Option<(usize, bool)> {
    let HeadScan::Sound { head_bytes, body: mut framing } = head::look(bytes, max_head_bytes) else { return None };
    let mut taken = 0;
    for piece in bytes[head_bytes..].chunks(piece) {
        let part = framing.take(piece);
        taken += part;
        if part < piece.len() {
            break;
        }
    }
    Some((taken, framing == BodyFraming::Ended))
}
