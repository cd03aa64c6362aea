//! Reads what clients send of entries, for the fuzzer (`fuzz/fuzz_targets`). Only in builds for tests.

use super::{
    super::{posts::document, query::EntryParameters},
    key, many,
    tags::{self, ConditionHeaders},
    ttl,
};
use crate::{
    api::error::ApiError,
    data::entries::{EntryOp, EntryWrite, Expiry, WriteCondition},
};
use bytes::Bytes;

fn status(problem: &ApiError) -> u16 {
    problem.status().as_u16()
}

/// The key that a path ends with.
///
/// # Errors
/// The status of the answer.
pub fn path_key(encoded: &str) -> Result<String, u16> {
    key::of_path(encoded).map(|key| key.into_owned()).map_err(|problem| status(&problem))
}

/// The end of a path, as a follower passes it on.
///
/// # Errors
/// The status of the answer.
pub fn passed_path(encoded: &str) -> Result<String, u16> {
    key::for_path(encoded).map_err(|problem| status(&problem))
}

/// A time to live as a parameter.
///
/// # Errors
/// The status of the answer.
pub fn time_to_live(text: &str) -> Result<Expiry, u16> {
    ttl::of_query(Some(text)).map_err(|problem| status(&problem))
}

/// A time to live as a number of JSON; `None` if it is none.
pub fn numeric_time_to_live(seconds: f64) -> Option<Expiry> {
    ttl::of_number(seconds).ok()
}

/// The condition of a write with these headers.
///
/// # Errors
/// The status of the answer.
pub fn condition(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<WriteCondition, u16> {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let headers = ConditionHeaders { if_match: owned(if_match), if_none_match: owned(if_none_match) };
    headers.condition().map_err(|problem| status(&problem))
}

/// Returns whether a read with this `If-None-Match` is told that its client has the value of this hash.
pub fn is_known(if_none_match: &str, hash: &[u8; 32]) -> bool {
    tags::is_known(Some(if_none_match), &tags::of_hash(hash))
}

/// The entries of a body of `POST /cache`.
///
/// # Errors
/// The status of the answer.
pub fn many_entries(body: &str, max_value_bytes: usize) -> Result<Vec<EntryWrite>, u16> {
    many::read(body, max_value_bytes).map_err(|problem| status(&problem))
}

/// A post to be stored, and the text whose words are counted with it.
pub struct StoredDocument {
    /// The operation that stores it.
    pub op: EntryOp,
    /// The text.
    pub text: String,
}

/// The id and the post of a body of `POST /create`.
///
/// # Errors
/// The status of the answer.
pub fn created_post(body: &Bytes) -> Result<(String, StoredDocument), u16> {
    let read = document::create(body, None, &EntryParameters::default()).map_err(|problem| status(&problem))?;
    Ok((read.0.into_owned(), StoredDocument { op: read.1.op, text: read.1.text.into_owned() }))
}

/// The post of a body of `PUT /posts/{id}` with this type.
///
/// # Errors
/// The status of the answer.
pub fn put_post(content_type: &str, body: &Bytes) -> Result<StoredDocument, u16> {
    let given = Some(content_type).filter(|given| !given.is_empty());
    let read = document::put(body, given, &EntryParameters::default()).map_err(|problem| status(&problem))?;
    Ok(StoredDocument { op: read.op, text: read.text.into_owned() })
}
