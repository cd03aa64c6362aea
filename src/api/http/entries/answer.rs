//! The answer that holds one entry, for the routes and the fast path alike.

use super::{
    super::{coding::ContentCoding, headers},
    tags::{self, TAG_DIGITS},
};
use crate::{
    api::service,
    base::position::PositionToken,
    data::{entries::Entry, record::ValueEncoding},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use std::borrow::Cow;
use warp::reply::Response;

/// The media type of an entry that was written without one.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// An entry that is there, and what the head of its answer says.
pub(in crate::api::http) struct FoundEntry<'a> {
    pub(in crate::api::http) entry: &'a Entry,
    tag: [u8; TAG_DIGITS],
    /// True if the client has this value.
    pub(in crate::api::http) is_known: bool,
    /// The coding that the value goes out in: as it is stored, where the client takes that.
    coding: Option<ContentCoding>,
    position: PositionToken,
    lag_ms: Option<u64>,
}

impl<'a> FoundEntry<'a> {
    /// `wanted`: the coding that the client wants most.
    pub(in crate::api::http) fn new(
        entry: &'a Entry,
        (position, lag_ms): (PositionToken, Option<u64>),
        if_none_match: Option<&str>,
        wanted: impl FnOnce() -> Option<ContentCoding>,
    ) -> Self {
        let tag = tags::of_hash(&entry.hash());
        let is_known = if_none_match.is_some() && tags::is_known(if_none_match, &tag);
        let is_stored_encoded = entry.encoding() == ValueEncoding::Zstd;
        let coding = if is_stored_encoded { wanted().filter(|&wanted| wanted == ContentCoding::Zstd) } else { None };
        Self { entry, tag, is_known, coding, position, lag_ms }
    }

    /// Returns whether the value has to be decompressed for so long that a thread that serves others should not do it.
    pub(in crate::api::http) fn takes_long(&self) -> bool {
        let is_decompressed = self.entry.encoding() == ValueEncoding::Zstd && self.coding.is_none() && !self.is_known;
        is_decompressed && self.entry.raw_bytes() > service::INLINE_TEXT_BYTES
    }

    /// The status of the answer.
    pub(in crate::api::http) fn status(&self) -> StatusCode {
        if self.is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK }
    }

    /// Gives each line of the head that is the entry's own, in their order: its begin, from the end of the line in
    /// front to the space behind the colon, and its value. `text` is room for what is formatted.
    // Always: with its begin known, a line is a few stores into the answer, and there are up to ten of them.
    #[inline(always)]
    pub(in crate::api::http) fn each_line(&self, text: &mut Vec<u8>, mut line: impl FnMut(&'static str, &[u8])) {
        let mut tag = *b"W/\"................................................................\"";
        tag[3..3 + TAG_DIGITS].copy_from_slice(&self.tag);
        // The tag is of the value as it is: encoded it is the same value in other bytes.
        line("\r\netag: ", if self.coding.is_some() { &tag } else { &tag[2..] });
        text.clear();
        self.position.write_to(text);
        line("\r\nmemdb-position: ", text);
        if let Some(lag_ms) = self.lag_ms {
            line("\r\nmemdb-lag: ", itoa::Buffer::new().format(lag_ms).as_bytes());
        }
        if self.entry.expires().is_some() {
            // No time for which it is fresh: a cache on the way would serve what has been replaced or deleted since.
            line("\r\ncache-control: ", b"no-cache");
        }
        if self.entry.encoding() == ValueEncoding::Zstd {
            line("\r\nvary: ", b"accept-encoding");
        }
        if self.is_known {
            return;
        }
        if let Some(coding) = self.coding {
            line("\r\ncontent-encoding: ", coding.name().as_bytes());
        }
        line("\r\ncontent-type: ", self.content_type());
        // What a client has stored is no page of this server: it must not run with the server's origin.
        line("\r\nx-content-type-options: ", b"nosniff");
        line("\r\ncontent-security-policy: ", b"sandbox");
    }

    fn content_type(&self) -> &[u8] {
        let given = self.entry.content_type().as_bytes();
        if given.is_empty() { UNKNOWN_TYPE.as_bytes() } else { given }
    }

    /// The value in the bytes that go out; empty for a client that has it.
    pub(in crate::api::http) fn body(&self) -> Cow<'_, [u8]> {
        match self.is_known {
            true => Cow::Borrowed(&[]),
            false if self.coding.is_some() => Cow::Borrowed(self.entry.stored()),
            false => self.entry.value(),
        }
    }

    /// The answer of a route.
    pub(in crate::api::http) fn into_response(self) -> Response {
        let body = match self.body() {
            Cow::Borrowed([]) => Bytes::new(),
            // As long as the answer is on its way, it holds the entry: a large value is not copied.
            Cow::Borrowed(_) => Bytes::from_owner(StoredValue(self.entry.clone())),
            Cow::Owned(value) => value.into(),
        };
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status();
        let fields = response.headers_mut();
        self.each_line(&mut Vec::with_capacity(40), |begin, value| {
            let value = HeaderValue::from_bytes(value).unwrap_or_else(|_| headers::value(UNKNOWN_TYPE));
            fields.insert(HeaderName::from_static(begin.trim().trim_end_matches(':')), value);
        });
        response
    }
}

/// The bytes of an entry as they are stored.
struct StoredValue(Entry);

impl AsRef<[u8]> for StoredValue {
    fn as_ref(&self) -> &[u8] {
        self.0.stored()
    }
}
