//! The headers of this API, and what is read from or written into them.

use super::{
    chunks::{ChunkSource, ChunkedBody},
    coding::ContentCoding,
};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::limits::KEY_WINDOW_MS,
    base::position::{DatabaseTag, PositionToken},
    data::command::IdempotencyKey,
    data::counters::RateQuota,
    net::address_limits::Usage,
    net::budget::Budget,
    net::peer_link::DATABASE_HEADER,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::{io::Write, sync::Arc};
use warp::reply::{Reply as _, Response};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(super) static MEMDB_POSITION: HeaderName = HeaderName::from_static("memdb-position");
pub(super) static MEMDB_ACKS: HeaderName = HeaderName::from_static("memdb-acks");
pub(super) static MEMDB_REPLAYED: HeaderName = HeaderName::from_static("memdb-replayed");
pub(super) static MEMDB_LAG: HeaderName = HeaderName::from_static("memdb-lag");
/// The cursor of the page behind a ranking.
pub(super) static MEMDB_NEXT: HeaderName = HeaderName::from_static("memdb-next");
pub(super) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The answer is older than its origin says it may be.
pub(super) static MEMDB_STALE: HeaderName = HeaderName::from_static("memdb-stale");
pub(super) static MEMDB_STREAM: HeaderName = HeaderName::from_static("memdb-stream");
pub(super) static MEMDB_STREAM_SEQ: HeaderName = HeaderName::from_static("memdb-stream-seq");
pub(super) static MEMDB_DATABASE: HeaderName = HeaderName::from_static(DATABASE_HEADER);
/// The time that `GET /post` took, in nanoseconds.
pub(super) static RESPONSE_TIME: HeaderName = HeaderName::from_static("x-response-time");
/// The rate of a key, and what is left of it (draft-ietf-httpapi-ratelimit-headers-10).
pub(super) static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(super) static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(super) static ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// Request headers that mean nothing when they come twice with different values.
pub(super) const SINGLE: [&str; 7] = [
    "idempotency-key",
    "memdb-stream",
    "memdb-stream-seq",
    "memdb-min-position",
    "content-type",
    "content-encoding",
    "host",
];

/// The headers of a write that name it for repeats.
#[derive(Clone, Debug, Default)]
pub(super) struct DedupHeaders {
    pub(super) key: Option<String>,
    pub(super) stream: Option<String>,
    pub(super) stream_sequence: Option<String>,
}

impl DedupHeaders {
    /// Returns whether any of them was sent. Half a name is one too: it is refused.
    pub(super) fn is_given(&self) -> bool {
        self.key.is_some() || self.stream.is_some() || self.stream_sequence.is_some()
    }

    /// The name of the write, from its headers and the `id` of its body.
    pub(super) fn once(&self, body_id: Option<&str>) -> Result<Option<IdempotencyKey>, ApiError> {
        let invalid = |detail: &'static str| Err(ApiError::new(ErrorKind::InvalidHeader, detail));
        let key = match (self.key.as_deref(), body_id) {
            (Some(header), Some(id)) if header != id => {
                return invalid("Idempotency-Key and the body's id differ: send one of them, or both alike");
            }
            (header, id) => header.or(id),
        };
        match (key, &self.stream, &self.stream_sequence) {
            (None, None, None) => Ok(None),
            (Some(key), None, None) => Ok(Some(IdempotencyKey::Key(checked("the idempotency key", key)?.into()))),
            (Some(_), _, _) => invalid("a write has a key or is part of a stream, not both"),
            (None, Some(name), Some(sequence)) => {
                let name = checked("Memdb-Stream", name)?.into();
                match sequence.parse::<u64>() {
                    Ok(sequence) if sequence > 0 && sequence < u64::MAX => {
                        Ok(Some(IdempotencyKey::Stream { name, sequence }))
                    }
                    _ => invalid("Memdb-Stream-Seq is a whole number from 1 upward"),
                }
            }
            (None, _, _) => invalid("Memdb-Stream and Memdb-Stream-Seq belong together"),
        }
    }
}

/// A key or a stream's name, if it is one.
pub(super) fn checked<'a>(what: &str, name: &'a str) -> Result<&'a str, ApiError> {
    let longest = crate::base::limits::MAX_KEY_BYTES;
    if name.is_empty() || name.len() > longest {
        let detail = format!("{what} has {} bytes; 1 to {longest} are taken", name.len());
        return Err(ApiError::new(ErrorKind::InvalidHeader, detail));
    }
    Ok(name)
}

/// An `ETag` of an answer's bytes: it stays the same as long as the answer does, whatever else is written. That of
/// another database is another, whatever it answers.
pub(super) fn strong_tag(body: &[u8], database: DatabaseTag) -> [u8; 18] {
    let mut tag = *b"\"0000000000000000\"";
    write!(&mut tag[1..17], "{:016x}", xxh3_64_with_seed(body, database.number().into()))
        .expect("16 digits fit 16 bytes");
    tag
}

/// Returns whether `If-None-Match` names this tag (weak comparison, as RFC 9110 has it for reads).
pub(super) fn matches(if_none_match: Option<&str>, tag: &[u8]) -> bool {
    let strip = |tag: &[u8]| -> usize { if tag.starts_with(b"W/") { 2 } else { 0 } };
    let wanted = &tag[strip(tag)..];
    if_none_match.is_some_and(|list| {
        list.split(',').map(|one| one.trim().as_bytes()).any(|one| one == b"*" || &one[strip(one)..] == wanted)
    })
}

/// The begin of a text that a client has sent, for a log.
pub(super) fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(SHOWN_BYTES)).unwrap_or_default()
}

/// Bytes of a text that a log shows.
const SHOWN_BYTES: usize = 64;

/// A header value of text this program made.
pub(super) fn value(text: impl Into<Bytes>) -> HeaderValue {
    HeaderValue::from_maybe_shared(text.into()).expect("made of visible ASCII only")
}

/// The position as a header value.
pub(super) fn position_value(position: PositionToken) -> HeaderValue {
    let mut text = Vec::with_capacity(32);
    position.write_to(&mut text);
    value(text)
}

/// The id of a database as a header value.
pub(super) fn database_value(database_id: u128) -> HeaderValue {
    value(format!("{database_id:032x}"))
}

/// Writes the position as a JSON string.
pub(super) fn write_position(position: PositionToken, into: &mut Vec<u8>) {
    into.push(b'"');
    position.write_to(into);
    into.push(b'"');
}

/// On a follower: how old the answer to a read may be, in milliseconds.
pub(super) fn set_lag(response: &mut Response, lag_ms: Option<u64>) {
    if let Some(lag_ms) = lag_ms {
        response.headers_mut().insert(&MEMDB_LAG, HeaderValue::from(lag_ms));
    }
}

/// The answer is encoded: its tag, which is made of the bytes as they are, is weak then.
pub(super) fn set_coding(response: &mut Response, coding: ContentCoding) {
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    if let Some(tag) = fields.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) {
        let weak = value([b"W/", tag.as_bytes()].concat());
        fields.insert(header::ETAG, weak);
    }
}

/// Caches in between keep the answers in each coding apart.
pub(super) fn set_vary(response: &mut Response) {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
}

/// The answer to a read: the body at its position, or 304 if the client has it already.
pub(super) fn read_answer(
    body: Vec<u8>,
    position: PositionToken,
    lag_ms: Option<u64>,
    if_none_match: Option<&str>,
) -> Response {
    let tag = strong_tag(&body, position.database);
    if matches(if_none_match, &tag) {
        return not_modified(position, lag_ms, &tag);
    }
    let mut response = Response::new(body.into());
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(&MEMDB_POSITION, position_value(position));
    fields.insert(header::ETAG, value(tag.to_vec()));
    set_lag(&mut response, lag_ms);
    response
}

/// The answer to a read whose body is made as the client takes it; encoded as `coding` says, if that may be.
pub(super) fn streamed_answer<S: ChunkSource + Unpin + Send + Sync + 'static>(
    mut body: ChunkedBody<S>,
    media_type: &'static str,
    (position, lag_ms): (PositionToken, Option<u64>),
    tag: Option<String>,
    (coding, encoders, usage): (Option<ContentCoding>, &Arc<Budget>, &Usage),
) -> Response {
    let coding = coding.filter(|&coding| body.encode(coding, encoders, usage));
    let mut response = warp::reply::stream(body).into_response();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    fields.insert(&MEMDB_POSITION, position_value(position));
    fields.extend(tag.map(|tag| (header::ETAG, value(tag))));
    set_lag(&mut response, lag_ms);
    if let Some(coding) = coding {
        set_coding(&mut response, coding);
    }
    set_vary(&mut response);
    response
}

/// The values of `RateLimit-Policy` and `RateLimit`: how much is left of a key's rate, and in how many seconds there is
/// more.
pub(super) fn rate_limit(quota: RateQuota) -> [String; 2] {
    let RateQuota { limit, remaining, reset_ms } = quota;
    let (window, reset) = (KEY_WINDOW_MS / 1_000, reset_ms.div_ceil(1_000));
    [format!("\"key\";q={limit};w={window}"), format!("\"key\";r={remaining};t={reset}")]
}

/// Sets both.
pub(super) fn set_rate_limit(response: &mut Response, quota: RateQuota) {
    let [policy, left] = rate_limit(quota);
    response.headers_mut().insert(&RATE_LIMIT_POLICY, value(policy));
    response.headers_mut().insert(&RATE_LIMIT, value(left));
}

/// The tag of an answer that is made as the client takes it: of the database's state, since its bytes are not known.
pub(super) fn weak_tag(position: PositionToken, digest: u64) -> String {
    format!("W/\"{position}-{digest:016x}\"")
}

/// 304 with what identifies the answer the client has.
pub(super) fn not_modified(position: PositionToken, lag_ms: Option<u64>, tag: &[u8]) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(&MEMDB_POSITION, position_value(position));
    response.headers_mut().insert(header::ETAG, value(tag.to_vec()));
    set_lag(&mut response, lag_ms);
    response
}

/// Writes `text` as a JSON string, quotes included.
pub(super) fn write_json_string(into: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(into, text).expect("a Vec takes every byte, and a string is always JSON");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_in_lists_weakly_and_by_star() {
        let (here, elsewhere) = (DatabaseTag::of(7), DatabaseTag::of(8));
        let tag = strong_tag(b"{}", here);
        let text = std::str::from_utf8(&tag).expect("ASCII");
        for list in [text, &format!("W/{text}"), &format!("\"x\" , {text}"), "*"] {
            assert!(matches(Some(list), &tag), "{list}");
        }
        for list in ["", "\"x\"", &text[1..17]] {
            assert!(!matches(Some(list), &tag), "{list}");
        }
        assert!(!matches(None, &tag));
        assert!(matches(Some("W/\"1-7\""), b"W/\"1-7\""));
        assert_ne!(tag, strong_tag(b"{ }", here));
        assert_ne!(tag, strong_tag(b"{}", elsewhere));
    }

    #[test]
    fn a_write_is_named_by_key_or_stream_never_by_halves() {
        let naming = |key: Option<&str>, stream: Option<&str>, sequence: Option<&str>| DedupHeaders {
            key: key.map(str::to_owned),
            stream: stream.map(str::to_owned),
            stream_sequence: sequence.map(str::to_owned),
        };
        let key = |text: &str| Some(IdempotencyKey::Key(text.into()));
        assert_eq!(naming(None, None, None).once(None).expect("unnamed"), None);
        assert_eq!(naming(Some("k"), None, None).once(Some("k")).expect("alike"), key("k"));
        assert_eq!(naming(None, None, None).once(Some("k")).expect("in the body"), key("k"));
        let stream = naming(None, Some("s"), Some("1")).once(None).expect("a stream");
        assert_eq!(stream, Some(IdempotencyKey::Stream { name: "s".into(), sequence: 1 }));
        let long = "k".repeat(crate::base::limits::MAX_KEY_BYTES + 1);
        for (bad, id) in [
            (naming(Some("k"), None, None), Some("other")),
            (naming(Some(""), None, None), None),
            (naming(Some(&long), None, None), None),
            (naming(None, None, None), Some("")),
            (naming(Some("k"), Some("s"), Some("1")), None),
            (naming(None, Some("s"), Some("1")), Some("k")),
            (naming(None, Some("s"), None), None),
            (naming(None, None, Some("1")), None),
            (naming(None, Some("s"), Some("0")), None),
            (naming(None, Some("s"), Some("one")), None),
            (naming(None, Some("s"), Some("18446744073709551615")), None),
            (naming(None, Some(""), Some("1")), None),
        ] {
            assert!(bad.clone().once(id).is_err(), "{bad:?} {id:?}");
        }
        assert!(naming(Some(&long[1..]), None, None).once(None).is_ok());
    }
}
