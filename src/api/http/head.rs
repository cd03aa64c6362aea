//! Reads an HTTP/1 head for the fast path and the guard: checks that it is well formed, and determines how its body is
//! framed.
//!
//! hyper would answer most of these faults with an empty 400 or 431, and takes two of them silently: no
//! `Host`, and a length together with a transfer encoding (of which it shows the routes only one).

use super::{framing::BodyFraming, settings::MAX_HEADERS};
use crate::api::error::{ApiError, ErrorKind};
use std::mem::MaybeUninit;

/// Room for the header lines of one head.
pub(super) type FieldSpace<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_HEADERS];

/// Room that [`scan`] fills.
pub(super) const fn field_space<'b>() -> FieldSpace<'b> {
    [const { MaybeUninit::uninit() }; MAX_HEADERS]
}

/// The result of looking for a head at the start of some bytes.
#[derive(Debug)]
pub(super) enum HeadScan<T> {
    /// The head is not whole yet.
    Partial,
    /// A head that can be read.
    Whole(T),
    /// A head that cannot be answered by any route.
    Unsound(ApiError),
}

/// A head that can be read, whatever it asks for.
#[derive(Debug)]
pub(super) struct ParsedHead<'h, 'b> {
    pub(super) head_bytes: usize,
    request: httparse::Request<'h, 'b>,
}

/// A head that a route may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SoundHead {
    pub(super) head_bytes: usize,
    /// The framing of what follows.
    pub(super) body: BodyFraming,
}

/// Reads the head that begins `bytes`.
#[inline]
pub(super) fn scan<'h, 'b>(
    bytes: &'b [u8],
    fields: &'h mut FieldSpace<'b>,
    max_head_bytes: usize,
) -> HeadScan<ParsedHead<'h, 'b>> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, fields) {
        Ok(httparse::Status::Complete(head_bytes)) if head_bytes <= max_head_bytes => {
            HeadScan::Whole(ParsedHead { head_bytes, request })
        }
        Ok(httparse::Status::Partial) if bytes.len() <= max_head_bytes => HeadScan::Partial,
        Ok(_) => HeadScan::Unsound(too_large(bytes, max_head_bytes)),
        Err(httparse::Error::TooManyHeaders) => HeadScan::Unsound(ApiError::new(
            ErrorKind::HeadTooLarge,
            format!("at most {MAX_HEADERS} headers are taken"),
        )),
        Err(httparse::Error::Version) => HeadScan::Unsound(ApiError::new(
            ErrorKind::UnsupportedVersion,
            "send HTTP/1.1, or HTTP/2 with prior knowledge",
        )),
        Err(error) => HeadScan::Unsound(malformed(format!("the head cannot be read: {error}"))),
    }
}

/// Looks at the head that begins `bytes`.
pub(super) fn look(bytes: &[u8], max_head_bytes: usize) -> HeadScan<SoundHead> {
    match scan(bytes, &mut field_space(), max_head_bytes) {
        HeadScan::Partial => HeadScan::Partial,
        HeadScan::Unsound(problem) => HeadScan::Unsound(problem),
        HeadScan::Whole(head) => head.check().map_or_else(HeadScan::Unsound, HeadScan::Whole),
    }
}

impl<'b> ParsedHead<'_, 'b> {
    pub(super) fn method(&self) -> &'b str {
        self.request.method.unwrap_or_default()
    }

    pub(super) fn target(&self) -> &'b str {
        self.request.path.unwrap_or_default()
    }

    pub(super) fn is_http_1_1(&self) -> bool {
        self.request.version == Some(1)
    }

    pub(super) fn fields(&self) -> &[httparse::Header<'b>] {
        self.request.headers
    }

    /// Finds what follows the head.
    ///
    /// # Errors
    /// 400 if the head names no host or several, if its target is no URI, or if two readers could differ over the end
    /// of its body.
    pub(super) fn check(&self) -> Result<SoundHead, ApiError> {
        let (http_1_1, target) = (self.is_http_1_1(), self.target());
        // Nearly every target is made of these; the others are parsed as hyper will parse them.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/?&=%+-._~:,".contains(&byte);
        if !(target.starts_with('/') && target.bytes().all(plain)) && target.parse::<http::Uri>().is_err() {
            return Err(malformed("the request target is not a URI"));
        }
        let (mut hosts, mut lengths, mut length, mut chunked) = (0, 0, None, false);
        for field in self.fields() {
            // Two of three fields are told apart by their length alone.
            match field.name.len() {
                4 if field.name.eq_ignore_ascii_case("host") => hosts += 1,
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    lengths += 1;
                    length = Some(content_length(field.value)?);
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if chunked || !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                        return Err(malformed("the only Transfer-Encoding taken is chunked, once"));
                    }
                    chunked = true;
                }
                _ => {}
            }
        }
        if hosts > 1 || (hosts == 0 && http_1_1) {
            return Err(malformed("a request names its host once: send one Host header"));
        }
        if lengths > 1 {
            return Err(malformed("Content-Length is sent twice"));
        }
        let body = match (length, chunked) {
            (Some(_), true) => Err(malformed("Content-Length and Transfer-Encoding do not go together")),
            (None, true) if !http_1_1 => Err(malformed("HTTP/1.0 knows no Transfer-Encoding")),
            (None, true) => Ok(BodyFraming::CHUNKED),
            (None | Some(0), false) => Ok(BodyFraming::Ended),
            (Some(length), false) => Ok(BodyFraming::Length(length)),
        }?;
        Ok(SoundHead { head_bytes: self.head_bytes, body })
    }
}

fn content_length(value: &[u8]) -> Result<u64, ApiError> {
    // `u64::from_str` takes a plus sign, and hyper keeps two of the largest lengths for itself.
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|&length| length <= i64::MAX as u64)
        .ok_or_else(|| malformed("Content-Length is not a number of bytes"))
}

fn too_large(bytes: &[u8], max_head_bytes: usize) -> ApiError {
    let within = &bytes[..bytes.len().min(max_head_bytes)];
    // Leading line ends are no part of the request line.
    if memchr::memchr(b'\n', within.trim_ascii_start()).is_none() {
        return ApiError::new(ErrorKind::UriTooLong, format!("a whole head has at most {max_head_bytes} bytes"));
    }
    ApiError::new(ErrorKind::HeadTooLarge, format!("a head has at most {max_head_bytes} bytes"))
}

fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorKind::MalformedRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1_000;

    #[test]
    fn sound_heads_tell_how_their_body_is_framed() {
        let lines = |rest: &str| format!("POST /post HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
        for (head, expected) in [
            (lines(""), BodyFraming::Ended),
            (lines("Content-Length: 0\r\n"), BodyFraming::Ended),
            (lines("content-length: 5\r\n"), BodyFraming::Length(5)),
            (lines("TRANSFER-ENCODING: Chunked\r\n"), BodyFraming::CHUNKED),
            ("\r\n\r\nGET /wordcount?word=%E5 HTTP/1.0\r\n\r\n".to_owned(), BodyFraming::Ended),
            ("GET /{\"odd\"} HTTP/1.1\nHost:\n\n".to_owned(), BodyFraming::Ended),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), BodyFraming::Ended),
            ("GET http://a/health HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), BodyFraming::Ended),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), BodyFraming::Ended),
        ] {
            for cut in 0..head.len() {
                assert!(matches!(look(&head.as_bytes()[..cut], LIMIT), HeadScan::Partial), "{head:?} cut at {cut}");
            }
            match look(format!("{head}hello").as_bytes(), LIMIT) {
                HeadScan::Whole(found) => {
                    assert_eq!((found.head_bytes, found.body), (head.len(), expected), "{head:?}");
                }
                other => panic!("{head:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn unsound_heads_are_told_apart() {
        let long = |bytes: usize| "a".repeat(bytes);
        let with = |rest: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}\r\n\r\n");
        let many: String = (0..MAX_HEADERS).map(|at| format!("\r\nX{at}: y")).collect();
        for (head, status) in [
            ("\u{1}garbage\r\n\r\n".to_owned(), 400),
            ("GET /\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
            (with("No colon"), 400),
            (with("Content-Length: 1\r\nTransfer-Encoding: chunked"), 400),
            (with("Transfer-Encoding: chunked\r\nContent-Length: 1"), 400),
            (with("Transfer-Encoding: gzip, chunked"), 400),
            (with("Content-Length: 1\r\nContent-Length: 1"), 400),
            (with("Content-Length: +1"), 400),
            (with("Content-Length: -1"), 400),
            (with("Content-Length: 18446744073709551615"), 400),
            (with("Content-Length:"), 400),
            (with(&many[2..]), 431),
            (with(&format!("X: {}", long(LIMIT))), 431),
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(LIMIT)), 414),
            (format!("GET /{}", long(LIMIT)), 414),
        ] {
            match look(head.as_bytes(), LIMIT) {
                HeadScan::Unsound(problem) => assert_eq!(problem.status().as_u16(), status, "{head:?}"),
                other => panic!("{head:?}: {other:?}"),
            }
        }
    }
}
