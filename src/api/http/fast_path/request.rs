//! Recognises, from their bytes, the requests that the fast path answers.
//!
//! Here nothing is refused: what is wrong, odd or unknown is another's, and the guard, hyper and the routes see it as
//! it came.

use super::super::settings::MAX_HEADERS;
use crate::{base::position::PositionToken, net::write_forwarder::FORWARDED};
use std::{mem::MaybeUninit, str};

/// The result of parsing the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ParsedHead<'a> {
    /// The begin of a head that may be the fast path's.
    Partial,
    /// A head that is the fast path's, and the begin of its body: both have so many bytes.
    Body(usize),
    /// Not the fast path's.
    Other,
    /// A request, with its body so many bytes, and what it calls this node.
    Whole(usize, &'a [u8], FastRequest<'a>),
}

/// A request the fast path may answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FastRequest<'a> {
    /// `GET /health`.
    Health,
    /// `GET /wordcount?`, with what the routes would look at.
    Wordcount { query: &'a str, min_position: Option<PositionToken>, if_none_match: Option<&'a str> },
    /// `POST /post`.
    Post(PostRequest<'a>),
}

/// A text that is posted, with what the routes would look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PostRequest<'a> {
    pub(super) query: &'a str,
    pub(super) content_type: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    pub(super) stream: Option<&'a str>,
    pub(super) stream_sequence: Option<&'a str>,
    pub(super) forwarded: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// Bytes of the largest post that is the fast path's, with its head: it is kept until it is whole.
pub(super) const MAX_POST_BYTES: usize = 16 << 10;

const GET: &[u8] = b"GET /";
const POST: &[u8] = b"POST /post";

/// Looks at the request that begins `bytes`.
#[inline]
pub(super) fn look(bytes: &[u8], max_head_bytes: usize) -> ParsedHead<'_> {
    let posts = bytes.starts_with(POST);
    if !posts && !bytes.starts_with(GET) {
        return if GET.starts_with(bytes) || POST.starts_with(bytes) { ParsedHead::Partial } else { ParsedHead::Other };
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(head_bytes)) if head_bytes <= max_head_bytes && request.version == Some(1) => {
            let target = request.path.unwrap_or_default();
            if posts {
                return posted(target, request.headers)
                    .map_or(ParsedHead::Other, |post| with_body(post, head_bytes, bytes));
            }
            asked(target, request.headers)
                .map_or(ParsedHead::Other, |(host, asked)| ParsedHead::Whole(head_bytes, host, asked))
        }
        Ok(httparse::Status::Partial) if bytes.len() <= max_head_bytes => ParsedHead::Partial,
        _ => ParsedHead::Other,
    }
}

/// A post whose head has so many bytes, with what there is of its body.
fn with_body<'a>((host, post, length): ParsedPost<'a>, head_bytes: usize, bytes: &'a [u8]) -> ParsedHead<'a> {
    let whole = head_bytes + length;
    if whole > MAX_POST_BYTES {
        return ParsedHead::Other;
    }
    match bytes.get(head_bytes..whole) {
        Some(body) => ParsedHead::Whole(whole, host, FastRequest::Post(PostRequest { body, ..post })),
        None => ParsedHead::Body(whole),
    }
}

/// The `Host` of a post, the post without its body, and the length of the body.
type ParsedPost<'a> = (&'a [u8], PostRequest<'a>, usize);

fn posted<'a>(target: &'a str, fields: &[httparse::Header<'a>]) -> Option<ParsedPost<'a>> {
    let query = match target.strip_prefix("/post")? {
        "" => "",
        query => query.strip_prefix('?').filter(|query| is_plain(query))?,
    };
    let (mut host, mut length, mut post) = (None, None, PostRequest { query, ..PostRequest::default() });
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let value = match field.name.len() {
            4 if is("host") => {
                host.replace(field.value).is_none().then_some(())?;
                continue;
            }
            10 if is("connection") && field.value.eq_ignore_ascii_case(b"keep-alive") => continue,
            10 if is("connection") => return None,
            6 if is("expect") || is("origin") => return None,
            7 if is("upgrade") => return None,
            12 if is("content-type") => &mut post.content_type,
            12 if is("memdb-stream") => &mut post.stream,
            13 if is("if-none-match") => return None,
            14 if is("content-length") => &mut length,
            14 if is("sec-fetch-site") => return None,
            15 if is("idempotency-key") => &mut post.key,
            15 if is(FORWARDED) => &mut post.forwarded,
            16 if is("memdb-stream-seq") => &mut post.stream_sequence,
            16 if is("content-encoding") => return None,
            17 if is("transfer-encoding") => return None,
            18 if is("memdb-min-position") => return None,
            _ => continue,
        };
        if value.replace(visible(field.value)?).is_some() {
            return None;
        }
    }
    let length =
        length.filter(|length: &&str| length.len() <= 5 && length.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((host?, post, length.parse().ok()?))
}

fn asked<'a>(target: &'a str, fields: &[httparse::Header<'a>]) -> Option<(&'a [u8], FastRequest<'a>)> {
    let (mut host, mut min_position, mut if_none_match) = (None, None, None);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // Told apart by their length first: of the usual fields hardly one is compared.
        match field.name.len() {
            4 if is("host") => {
                let first = host.replace(field.value).is_none();
                first.then_some(())?;
            }
            // Kept open is what it is anyway.
            10 if is("connection") && field.value.eq_ignore_ascii_case(b"keep-alive") => {}
            10 if is("connection") => return None,
            // Who may read the answer depends on the other.
            6 if is("expect") || is("origin") => return None,
            7 if is("upgrade") => return None,
            // They say that a body follows, or are refused when they come twice.
            12 if is("content-type") || is("memdb-stream") => return None,
            14 if is("content-length") => return None,
            15 if is("idempotency-key") => return None,
            16 if is("content-encoding") || is("memdb-stream-seq") => return None,
            17 if is("transfer-encoding") => return None,
            13 if is("if-none-match") => {
                let first = if_none_match.replace(visible(field.value)?).is_none();
                first.then_some(())?;
            }
            18 if is("memdb-min-position") => {
                let first = min_position.replace(visible(field.value)?.parse().ok()?).is_none();
                first.then_some(())?;
            }
            _ => {}
        }
    }
    let host = host?;
    if target == "/health" {
        return Some((host, FastRequest::Health));
    }
    let query = target.strip_prefix("/wordcount?").filter(|query| is_plain(query))?;
    Some((host, FastRequest::Wordcount { query, min_position, if_none_match }))
}

/// Returns whether the query holds only characters that certainly belong in a URI; one that holds others may be valid
/// too.
fn is_plain(query: &str) -> bool {
    query.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=%+-._~&:,/".contains(&byte))
}

/// The value, if the routes could read it.
fn visible(value: &[u8]) -> Option<&str> {
    let plain = value.iter().all(|&byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    if plain { str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::position::Position;

    fn wordcount(query: &str) -> FastRequest<'_> {
        FastRequest::Wordcount { query, min_position: None, if_none_match: None }
    }

    #[test]
    fn the_plainest_requests_are_the_fast_paths() {
        for (head, expected) in [
            ("GET /health HTTP/1.1\r\nHost: a\r\n\r\n", FastRequest::Health),
            ("GET /wordcount?word=a HTTP/1.1\r\nhost:a\r\nX: \u{fc}\r\n\r\n", wordcount("word=a")),
            ("GET /wordcount? HTTP/1.1\nHost:\nConnection: Keep-Alive\n\n", wordcount("")),
            (
                "GET /wordcount?word=%41+b&ns=x HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\", *\r\nMemdb-Min-Position: 1-7-00000007\r\n\r\n",
                FastRequest::Wordcount {
                    query: "word=%41+b&ns=x",
                    min_position: Some(PositionToken::of(7, Position::new(1, 7))),
                    if_none_match: Some("\"x\", *"),
                },
            ),
        ] {
            for cut in 0..head.len() {
                assert_eq!(look(&head.as_bytes()[..cut], 1_000), ParsedHead::Partial, "{head:?} cut at {cut}");
            }
            let followed = format!("{head}GET");
            let seen = look(followed.as_bytes(), 1_000);
            assert!(
                matches!(&seen, ParsedHead::Whole(bytes, _, asked) if *bytes == head.len() && *asked == expected),
                "{head:?}"
            );
            assert_eq!(look(followed.as_bytes(), head.len() - 1), ParsedHead::Other, "{head:?} over the limit");
        }
    }

    #[test]
    fn a_small_post_is_the_fast_paths_once_its_body_is_there() {
        let head = "POST /post?ack=disk HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nIdempotency-Key: k\r\nContent-Length: 5\r\n\r\n";
        let whole = format!("{head}helloGET");
        let post = PostRequest {
            query: "ack=disk",
            content_type: Some("text/plain"),
            key: Some("k"),
            body: b"hello",
            ..PostRequest::default()
        };
        assert_eq!(look(whole.as_bytes(), 1_000), ParsedHead::Whole(head.len() + 5, b"a", FastRequest::Post(post)));
        for cut in 0..head.len() {
            assert_eq!(look(&whole.as_bytes()[..cut], 1_000), ParsedHead::Partial, "cut at {cut}");
        }
        for cut in head.len()..head.len() + 5 {
            assert_eq!(look(&whole.as_bytes()[..cut], 1_000), ParsedHead::Body(head.len() + 5), "cut at {cut}");
        }
    }

    #[test]
    fn other_posts_are_not() {
        for (target, lines) in [
            ("/post", "Content-Length: 99999"),
            ("/post", "Content-Length: 100000"),
            ("/post", "Content-Length: +5"),
            ("/post", "Content-Length: "),
            ("/post", "Content-Length: 5\r\nContent-Length: 5"),
            ("/post", "Transfer-Encoding: chunked"),
            ("/post", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
            ("/post", "Content-Length: 5\r\nExpect: 100-continue"),
            ("/post", "Content-Length: 5\r\nContent-Encoding: gzip"),
            ("/post", "Content-Length: 5\r\nConnection: close"),
            ("/post", "Content-Length: 5\r\nOrigin: http://a"),
            ("/post", "Content-Length: 5\r\nSec-Fetch-Site: cross-site"),
            ("/post", "Content-Length: 5\r\nHost: b"),
            ("/post", "Content-Length: 5\r\nIdempotency-Key: a\r\nIdempotency-Key: a"),
            ("/post", "Content-Length: 5\r\nMemdb-Min-Position: 1-1"),
            ("/post", "X: y"),
            ("/post/", "Content-Length: 5"),
            ("/posts", "Content-Length: 5"),
            ("/post#x", "Content-Length: 5"),
        ] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\nhello");
            assert_eq!(look(head.as_bytes(), 1_000), ParsedHead::Other, "{head:?}");
        }
    }

    #[test]
    fn other_requests_are_left_to_the_routes() {
        let with = |line: &str| format!("GET /wordcount?word=a HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
        let to = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let lines = [
            "Host: b",
            "Connection: close",
            "Connection: keep-alive, upgrade",
            "Upgrade: h2c",
            "Expect: 100-continue",
            "Origin: http://a",
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Content-Type: text/plain",
            "Content-Encoding: identity",
            "Idempotency-Key: a",
            "Memdb-Stream: a",
            "Memdb-Stream-Seq: 1",
            "Memdb-Min-Position: 1",
            "Memdb-Min-Position: 1-1",
            "Memdb-Min-Position: 1-1-00000007\r\nMemdb-Min-Position: 1-1-00000007",
            "If-None-Match: \u{fc}",
            "If-None-Match: a\r\nIf-None-Match: b",
            "No colon",
        ];
        let targets = [
            "/",
            "/health?",
            "/health/",
            "/wordcount",
            "/wordcount/?word=a",
            "/wordcount?word=a#b",
            "/wordcount?word=é",
        ];
        let others = [
            "GET /health HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET /health HTTP/1.1\r\n\r\n",
            "GET /health HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET /health\r\n\r\n",
            "HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/health HTTP/1.1\r\nHost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        ];
        let all = lines.into_iter().map(with).chain(targets.into_iter().map(to));
        for head in all.chain(others.into_iter().map(str::to_owned)) {
            assert_eq!(look(head.as_bytes(), 1_000), ParsedHead::Other, "{head:?}");
        }
    }
}
