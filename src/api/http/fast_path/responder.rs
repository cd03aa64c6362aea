//! Answers of the fast path: small posts here, writes of what a path names in `api/http/fast_path/named_write.rs`,
//! reads in `api/http/fast_path/read.rs`; byte for byte as hyper and the routes give them.

use super::{
    super::{
        browsers::{BrowserPolicy, VARY_BY},
        head::{self, HeadScan, ParsedHead, SoundHead, field_space},
        headers::DedupHeaders,
        plain_post,
        route::RouteLabel,
        state::AppState,
        writes,
    },
    PendingPost,
    admission::RememberedUsers,
    date::DateHeader,
    entry_tally::{AnswerTimer, ReadTally},
    named_write::{CountedPost, NamedReceipt, NamedWrite},
};
use crate::{
    api::{
        error::ApiError,
        service::{self, AcceptedWrite},
    },
    base::metrics::MethodLabel,
    engine::view::ServedDatabase,
    net::write_forwarder::FORWARDED,
};
use http::StatusCode;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    str,
};
use tokio::time::Instant;

/// Answers gathered before they are sent, whatever else waits. One answer comes on top: some 65 KiB at most, for a
/// value or a thousand names in a head of 16 KiB.
const ANSWER_BYTES: usize = 32 << 10;
/// Bytes of the largest post that is the fast path's, with its head: it is kept until it is whole.
const MAX_POST_BYTES: usize = 16 << 10;

const GET: &[u8] = b"GET /";
const WRITES: [&[u8]; 5] = [b"POST /post", b"POST /create", b"POST /counter/", b"PUT /cache/", b"PUT /posts/"];

/// The next step for bytes that were not consumed.
#[derive(Debug)]
pub(super) enum Remainder {
    /// Nothing, or the begin of a head: more must come.
    Partial,
    /// Requests that wait until the answers are sent.
    Waiting,
    /// They begin with a post, of so many bytes with its head, that is not whole.
    Body(usize),
    /// They follow a post to be settled, before anything behind it is looked at.
    Post(Box<CountedPost>),
    /// They begin with a request that is not the fast path's, whose head may have been read.
    Other(Option<SoundHead>),
}

/// The reason why a request is not answered here.
enum DeclinedPost {
    /// Its body is not whole: so many bytes, with the head.
    Body(usize),
    /// It is not the fast path's.
    Other,
}

/// A write with what the routes would look at: a text that is posted, or what the path names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PostRequest<'a> {
    host: &'a [u8],
    pub(super) named: Option<NamedWrite<'a>>,
    pub(super) query: &'a str,
    pub(super) content_type: Option<&'a str>,
    key: Option<&'a str>,
    stream: Option<&'a str>,
    stream_sequence: Option<&'a str>,
    forwarded: Option<&'a str>,
    content_length: usize,
}

/// The response buffer of one serving thread: shared by all its connections, which have their turn one after the other.
#[derive(Default)]
pub(super) struct FastPathResponder {
    pub(super) answers: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) date: DateHeader,
    /// The last `Host` that was found to name this node.
    host: Vec<u8>,
    /// Who was let in before.
    users: RememberedUsers,
    /// True if answers say that they depend on `Origin`.
    pub(super) varies: bool,
    pub(super) answered: ReadTally,
    pub(super) timer: AnswerTimer,
}

impl FastPathResponder {
    /// Answers the requests in `bytes`, as many as are the fast path's, into `answers`, which is emptied first. Gives
    /// how many bytes that were.
    pub(super) fn answer(&mut self, bytes: &[u8], state: &AppState, now: Instant) -> (usize, Remainder) {
        self.answers.clear();
        self.date.at(now);
        self.varies = state.browsers.varies();
        // From before all reads of this turn: what they show is at least as new.
        let current = state.service.view.current();
        let served = ServedData { current: current.as_deref(), lag_ms: state.service.view.lag_ms() };
        let mut done = 0;
        let rest = loop {
            if done == bytes.len() {
                break Remainder::Partial;
            }
            if self.answers.len() >= ANSWER_BYTES {
                break Remainder::Waiting;
            }
            let begun = self.answers.len();
            // A defect costs no connection: what is not answered here is the routes', who tell of their defects.
            let one = catch_unwind(AssertUnwindSafe(|| self.answer_one(&bytes[done..], state, &served)));
            match one {
                Ok((length, None)) => done += length,
                Ok((length, Some(rest))) => {
                    done += length;
                    break rest;
                }
                Err(_) => {
                    self.answers.truncate(begun);
                    break Remainder::Other(None);
                }
            }
        };
        (done, rest)
    }

    /// Answers the first request and gives its length, and what stands in the way of the next.
    #[inline]
    fn answer_one(&mut self, bytes: &[u8], state: &AppState, served: &ServedData<'_>) -> (usize, Option<Remainder>) {
        let writes = WRITES.iter().any(|begin| bytes.starts_with(begin));
        if !writes && !bytes.starts_with(GET) {
            let may_become = GET.starts_with(bytes) || WRITES.iter().any(|begin| begin.starts_with(bytes));
            return (0, Some(if may_become { Remainder::Partial } else { Remainder::Other(None) }));
        }
        let mut fields = field_space();
        let head = match head::scan(bytes, &mut fields, state.settings.max_head_bytes) {
            HeadScan::Whole(head) => head,
            HeadScan::Partial => return (0, Some(Remainder::Partial)),
            HeadScan::Unsound(_) => return (0, Some(Remainder::Other(None))),
        };
        if !self.users.admit(&head, state) {
            return (0, Some(Remainder::Other(head.check().ok())));
        }
        let declined = match writes {
            true => match self.take_post(&head, &bytes[head.head_bytes..], state, served) {
                Ok((length, post)) => return (length, Some(Remainder::Post(post))),
                Err(declined) => declined,
            },
            false => match self.answer_read(&head, state, served) {
                Some(()) => return (head.head_bytes, None),
                None => DeclinedPost::Other,
            },
        };
        let rest = match declined {
            DeclinedPost::Body(whole) => Remainder::Body(whole),
            DeclinedPost::Other => Remainder::Other(head.check().ok()),
        };
        (0, Some(rest))
    }

    /// The batch of a small post, and its length with its head.
    fn take_post(
        &mut self,
        head: &ParsedHead<'_, '_>,
        behind: &[u8],
        state: &AppState,
        served: &ServedData<'_>,
    ) -> Result<(usize, Box<CountedPost>), DeclinedPost> {
        let post = PostRequest::of(head).ok_or(DeclinedPost::Other)?;
        let whole = head.head_bytes + post.content_length;
        if whole > MAX_POST_BYTES {
            return Err(DeclinedPost::Other);
        }
        let body = behind.get(..post.content_length).ok_or(DeclinedPost::Body(whole))?;
        let current = served.current.ok_or(DeclinedPost::Other)?;
        // The bounds of bodies are the routes', and so is what is meant for another database.
        let is_meant = post.forwarded.is_none_or(|stated| service::is_meant(stated, &current.identity));
        let is_taken = state.service.takes_writes() && body.len() <= state.settings.max_body_bytes && is_meant;
        if !is_taken || !self.is_called(post.host, &state.browsers) {
            return Err(DeclinedPost::Other);
        }
        let [key, stream, stream_sequence] =
            [post.key, post.stream, post.stream_sequence].map(|text| text.map(str::to_owned));
        let naming = DedupHeaders { key, stream, stream_sequence };
        let counted = match &post.named {
            Some(named) => named.batch((post.query, post.content_type, &naming), body, (current, state)),
            None => plain_post::small_post(post.query, post.content_type, &naming, body).and_then(|command| {
                let level = command.level;
                Some((command.into_batch(current, &state.service.tallies).ok()?, level, None))
            }),
        };
        Ok((whole, Box::new(counted.ok_or(DeclinedPost::Other)?)))
    }

    /// Writes the answer to a write, and counts it.
    pub(super) fn conclude(&mut self, done: Result<AcceptedWrite, ApiError>, post: &PendingPost<'_>, state: &AppState) {
        let now = Instant::now();
        self.answers.clear();
        self.body.clear();
        self.date.at(now);
        let (route, method) = post.named.as_deref().map_or((RouteLabel::Post, MethodLabel::Post), NamedReceipt::labels);
        let status = match (done, &post.named) {
            (Err(problem), _) => self.problem(problem),
            (Ok(acceptance), Some(named)) => self.written(named, &acceptance),
            (Ok(acceptance), None) => {
                writes::write_receipt(&acceptance, &mut self.body);
                self.acceptance(b"202 Accepted", &acceptance);
                self.end_with_body();
                StatusCode::ACCEPTED.as_u16()
            }
        };
        let took = now - post.begun;
        state.service.metrics.answered(route as usize, method, status, 1, took);
        state.request_log.answered(route.name(), method, "/post", status, took);
    }

    /// As hyper writes what [`ApiError::into_response`] gives.
    pub(super) fn problem(&mut self, problem: ApiError) -> u16 {
        self.body = problem.body();
        let response = problem.into_response();
        let status = response.status();
        self.answers.extend_from_slice(b"HTTP/1.1 ");
        self.number(status.as_u16().into());
        self.answers.push(b' ');
        self.answers.extend_from_slice(status.canonical_reason().unwrap_or("<none>").as_bytes());
        for (name, value) in response.headers() {
            self.answers.extend_from_slice(b"\r\n");
            self.answers.extend_from_slice(name.as_str().as_bytes());
            self.answers.extend_from_slice(b": ");
            self.answers.extend_from_slice(value.as_bytes());
        }
        self.end_with_body();
        status.as_u16()
    }

    /// Returns whether the node answers to this `Host`. Nearly all requests of a thread have the same one.
    #[inline]
    pub(super) fn is_called(&mut self, host: &[u8], browsers: &BrowserPolicy) -> bool {
        if browsers.answers_to_every_name() || (host == self.host && !host.is_empty()) {
            return true;
        }
        let answers = browsers.answers_to(host);
        if answers {
            host.clone_into(&mut self.host);
        }
        answers
    }

    pub(super) fn number(&mut self, number: u64) {
        self.answers.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// The last lines of the head, and the body.
    pub(super) fn end_with_body(&mut self) {
        self.vary();
        self.answers.extend_from_slice(b"\r\ncontent-length: ");
        self.number(self.body.len() as u64);
        self.answers.extend_from_slice(self.date.last());
        self.answers.extend_from_slice(&self.body);
    }

    /// As `browsers::CorsAnswer` marks the answer to a request without `Origin`.
    pub(super) fn vary(&mut self) {
        if self.varies {
            self.answers.extend_from_slice(b"\r\nvary: ");
            self.answers.extend_from_slice(VARY_BY.as_bytes());
        }
    }
}

/// The data that the requests of one turn are answered from.
pub(super) struct ServedData<'a> {
    pub(super) current: Option<&'a ServedDatabase>,
    pub(super) lag_ms: Option<u64>,
}

impl<'a> PostRequest<'a> {
    /// A plain write with a length; none if anything else about the head matters to the routes.
    pub(super) fn of(head: &ParsedHead<'_, 'a>) -> Option<Self> {
        let (path, query) = head.target().split_once('?').unwrap_or((head.target(), ""));
        if !head.is_http_1_1() || !is_plain(path) || !is_plain(query) {
            return None;
        }
        let named = if path == "/post" { None } else { Some(NamedWrite::of(head.method(), path)?) };
        let (mut host, mut length, mut post) = (None, None, PostRequest { query, named, ..PostRequest::default() });
        for field in head.fields() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            let value = match field.name.len() {
                4 if is("host") => {
                    host.replace(field.value).is_none().then_some(())?;
                    continue;
                }
                10 if is("connection") && field.value.eq_ignore_ascii_case(b"keep-alive") => continue,
                10 if is("connection") => return None,
                6 if is("expect") || is("origin") => return None,
                7 | 8 if is("upgrade") || is("if-match") => return None,
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
        let digits = length
            .or_else(|| post.named.as_ref()?.default_length())
            .filter(|length: &&str| length.len() <= 5 && length.bytes().all(|byte| byte.is_ascii_digit()))?;
        Some(Self { host: host?, content_length: digits.parse().ok()?, ..post })
    }
}

/// Returns whether the query holds only characters that certainly belong in a URI; one that holds others may be valid
/// too.
pub(super) fn is_plain(query: &str) -> bool {
    query.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=%+-._~&:,/".contains(&byte))
}

/// The value, if the routes could read it.
pub(super) fn visible(value: &[u8]) -> Option<&str> {
    if is_visible(value) { str::from_utf8(value).ok() } else { None }
}

pub(super) fn is_visible(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T>(bytes: &[u8], look: impl FnOnce(&ParsedHead<'_, '_>) -> T) -> T {
        match head::scan(bytes, &mut field_space(), 1_000) {
            HeadScan::Whole(head) => look(&head),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_small_post_is_the_fast_paths() {
        let head = "POST /post?ack=disk HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nIdempotency-Key: k\r\nContent-Length: 5\r\n\r\n";
        parsed(head.as_bytes(), |head| {
            let expected = PostRequest {
                host: b"a",
                query: "ack=disk",
                content_type: Some("text/plain"),
                key: Some("k"),
                content_length: 5,
                ..PostRequest::default()
            };
            assert_eq!(PostRequest::of(head), Some(expected));
        });
    }

    #[test]
    fn other_posts_are_left_to_the_routes() {
        for (target, lines) in [
            ("/post", "Content-Length: 100000"),
            ("/post", "Content-Length: +5"),
            ("/post", "Content-Length: "),
            ("/post", "Content-Length: 5\r\nContent-Length: 5"),
            ("/post", "Transfer-Encoding: chunked"),
            ("/post", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
            ("/post", "Content-Length: 5\r\nExpect: 100-continue"),
            ("/post", "Content-Length: 5\r\nContent-Encoding: gzip"),
            ("/post", "Content-Length: 5\r\nConnection: close"),
            ("/post", "Content-Length: 5\r\nUpgrade: h2c"),
            ("/post", "Content-Length: 5\r\nIf-Match: *"),
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
            parsed(head.as_bytes(), |parsed| assert_eq!(PostRequest::of(parsed), None, "{head:?}"));
        }
        let without_host = "POST /post HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        parsed(without_host.as_bytes(), |head| assert_eq!(PostRequest::of(head), None));
        let old = "POST /post HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
        parsed(old.as_bytes(), |head| assert_eq!(PostRequest::of(head), None));
    }
}
