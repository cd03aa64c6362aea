//! Which requests the lane answers, told from their bytes.
//!
//! Here nothing is refused: what is wrong, odd or unknown is another's, and the door, hyper and the routes see it as it
//! came.

use super::super::settings::MAX_HEADERS;
use crate::position::Position;
use std::{mem::MaybeUninit, str};

/// What the begin of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// The begin of a head that may be the lane's.
    Partial,
    /// Not the lane's.
    Other,
    /// A request without a body, of so many bytes.
    Whole(usize, Asked<'a>),
}

/// A request the lane may answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// `GET /health`.
    Health,
    /// `GET /wordcount?`, with what the routes would look at.
    Wordcount { query: &'a str, min_position: Option<Position>, if_none_match: Option<&'a str> },
}

const GET: &[u8] = b"GET /";

/// Looks at the request that begins `bytes`.
#[inline]
pub(super) fn look(bytes: &[u8], max_head_bytes: usize) -> Seen<'_> {
    if !bytes.starts_with(GET) {
        return if GET.starts_with(bytes) { Seen::Partial } else { Seen::Other };
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(head_bytes)) if head_bytes <= max_head_bytes && request.version == Some(1) => {
            match asked(request.path.unwrap_or_default(), request.headers) {
                Some(asked) => Seen::Whole(head_bytes, asked),
                None => Seen::Other,
            }
        }
        Ok(httparse::Status::Partial) if bytes.len() <= max_head_bytes => Seen::Partial,
        _ => Seen::Other,
    }
}

fn asked<'a>(target: &'a str, fields: &[httparse::Header<'a>]) -> Option<Asked<'a>> {
    let (mut hosts, mut min_position, mut if_none_match) = (0, None, None);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // Told apart by their length first: of the usual fields hardly one is compared.
        match field.name.len() {
            4 if is("host") => hosts += 1,
            // Kept open is what it is anyway.
            10 if is("connection") && field.value.eq_ignore_ascii_case(b"keep-alive") => {}
            10 if is("connection") => return None,
            6 if is("expect") => return None,
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
    if hosts != 1 {
        return None;
    }
    if target == "/health" {
        return Some(Asked::Health);
    }
    // What a URI is made of for certain; another may be one too, or none.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"=%+-._~&:,/".contains(&byte);
    let query = target.strip_prefix("/wordcount?").filter(|query| query.bytes().all(plain))?;
    Some(Asked::Wordcount { query, min_position, if_none_match })
}

/// The value, if the routes could read it.
fn visible(value: &[u8]) -> Option<&str> {
    let plain = value.iter().all(|&byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    if plain { str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wordcount(query: &str) -> Asked<'_> {
        Asked::Wordcount { query, min_position: None, if_none_match: None }
    }

    #[test]
    fn the_plainest_requests_are_the_lanes() {
        for (head, expected) in [
            ("GET /health HTTP/1.1\r\nHost: a\r\n\r\n", Asked::Health),
            ("GET /wordcount?word=a HTTP/1.1\r\nhost:a\r\nX: \u{fc}\r\n\r\n", wordcount("word=a")),
            ("GET /wordcount? HTTP/1.1\nHost:\nConnection: Keep-Alive\n\n", wordcount("")),
            (
                "GET /wordcount?word=%41+b&ns=x HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\", *\r\nMemdb-Min-Position: 1-7\r\n\r\n",
                Asked::Wordcount {
                    query: "word=%41+b&ns=x",
                    min_position: Some(Position::new(1, 7)),
                    if_none_match: Some("\"x\", *"),
                },
            ),
        ] {
            for cut in 0..head.len() {
                assert_eq!(look(&head.as_bytes()[..cut], 1_000), Seen::Partial, "{head:?} cut at {cut}");
            }
            let followed = format!("{head}GET");
            assert_eq!(look(followed.as_bytes(), 1_000), Seen::Whole(head.len(), expected), "{head:?}");
            assert_eq!(look(followed.as_bytes(), head.len() - 1), Seen::Other, "{head:?} over the limit");
        }
    }

    #[test]
    fn everything_else_is_not() {
        let with = |line: &str| format!("GET /wordcount?word=a HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
        let to = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let lines = [
            "Host: b",
            "Connection: close",
            "Connection: keep-alive, upgrade",
            "Upgrade: h2c",
            "Expect: 100-continue",
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Content-Type: text/plain",
            "Content-Encoding: identity",
            "Idempotency-Key: a",
            "Memdb-Stream: a",
            "Memdb-Stream-Seq: 1",
            "Memdb-Min-Position: 1",
            "Memdb-Min-Position: 1-1\r\nMemdb-Min-Position: 1-1",
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
            assert_eq!(look(head.as_bytes(), 1_000), Seen::Other, "{head:?}");
        }
    }
}
