//! From the bytes of requests to the bytes of their answers: the part of the fast path that has no connection.
//!
//! The answers are those that hyper would write for what the routes give, byte for byte (`tests/api/fast_path.rs` and
//! the fuzzer compare them), so whether the fast path answered is nothing a client could tell.

use super::{
    super::{
        browsers::{BrowserPolicy, VARY_BY},
        headers::{self, DedupHeaders},
        query::{QueryString, RouteParameters},
        reads, request_log,
        route::RouteLabel,
        state::AppState,
        write_request, writes,
    },
    request::{self, FastRequest, ParsedHead, PostRequest},
};
use crate::{
    api::{
        error::ApiError,
        service::{self, AcceptedWrite, CountsOf, ReadQuery as _},
    },
    base::metrics::MethodLabel,
    base::position::{PositionStatus, PositionToken},
    data::command::WriteBatch,
    engine::leader::AckLevel,
    engine::view::ServedDatabase,
};
use http::StatusCode;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// Answers gathered before they are sent, whatever else waits. One answer comes on top: some 60 KiB at most, for a
/// thousand names in a head of 16 KiB.
const ANSWER_BYTES: usize = 32 << 10;

/// The next step for bytes that were not consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remainder {
    /// Nothing, or the begin of a head: more must come.
    Partial,
    /// Requests that wait until the answers are sent.
    Waiting,
    /// They begin with a post, of so many bytes with its head, that is not whole.
    Body(usize),
    /// They follow a post, which is at [`FastPathResponder::post`].
    Post,
    /// They begin with a request that is not the fast path's.
    Other,
}

/// The response buffer of one serving thread: shared by all its connections, which have their turn one after the other.
#[derive(Default)]
pub(super) struct FastPathResponder {
    pub(super) answers: Vec<u8>,
    /// A post to be settled, before anything behind it is looked at.
    pub(super) post: Option<(WriteBatch, Option<AckLevel>)>,
    body: Vec<u8>,
    /// The last `Host` that was found to name this node.
    host: Vec<u8>,
    /// True if answers say that they depend on `Origin`.
    varies: bool,
    date: DateHeader,
    answered: AnswerTally,
}

/// Requests of one turn, by what they are counted under.
#[derive(Default)]
struct AnswerTally {
    health: u64,
    read: u64,
    not_modified: u64,
}

impl FastPathResponder {
    /// Answers the requests in `bytes`, as many as are the fast path's, into `answers`, which is emptied first. Gives
    /// how many bytes that were.
    pub(super) fn answer(&mut self, bytes: &[u8], state: &AppState, now: Instant) -> (usize, Remainder) {
        self.answers.clear();
        self.post = None;
        self.date.bring_up_to(now);
        self.varies = state.browsers.varies();
        let view = &state.service.view;
        // From before all reads of this turn: what they show is at least as new.
        let (current, lag_ms) = (view.current(), view.lag_ms());
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
            let one =
                catch_unwind(AssertUnwindSafe(|| self.answer_one(&bytes[done..], state, current.as_deref(), lag_ms)));
            match one {
                Ok(Ok(bytes)) => done += bytes,
                Ok(Err(rest)) => break rest,
                Err(_) => {
                    self.answers.truncate(begun);
                    self.post = None;
                    break Remainder::Other;
                }
            }
            if self.post.is_some() {
                break Remainder::Post;
            }
        };
        (done, rest)
    }

    /// Writes the answer to a post, and counts it.
    pub(super) fn answer_post(&mut self, settled: Result<AcceptedWrite, ApiError>, state: &AppState, begun: Instant) {
        let now = Instant::now();
        self.answers.clear();
        self.date.bring_up_to(now);
        let status = match settled {
            Ok(acceptance) => self.acceptance(&acceptance),
            Err(problem) => self.problem(problem),
        };
        state.service.metrics.answered(RouteLabel::Post as usize, MethodLabel::Post, status, 1, now - begun);
        if request_log::is_on() {
            request_log::write("POST", "/post", status, now - begun);
        }
    }

    /// Counts what the last turn has answered.
    pub(super) fn count(&mut self, state: &AppState, each: Duration) {
        let AnswerTally { health, read, not_modified } = std::mem::take(&mut self.answered);
        for (route, path, status, requests) in [
            (RouteLabel::Wordcount, "/wordcount", 200, read),
            (RouteLabel::Wordcount, "/wordcount", 304, not_modified),
            (RouteLabel::Health, "/health", 200, health),
        ] {
            if requests > 0 {
                state.service.metrics.answered(route as usize, MethodLabel::Get, status, requests, each);
                if request_log::is_on() {
                    (0..requests).for_each(|_| request_log::write("GET", path, status, each));
                }
            }
        }
    }

    /// Answers the first request and gives its length, or what stands in the way.
    #[inline]
    fn answer_one(
        &mut self,
        bytes: &[u8],
        state: &AppState,
        current: Option<&ServedDatabase>,
        lag_ms: Option<u64>,
    ) -> Result<usize, Remainder> {
        let (bytes, host, asked) = match request::look(bytes, state.settings.max_head_bytes) {
            ParsedHead::Whole(bytes, host, asked) => (bytes, host, asked),
            ParsedHead::Partial => return Err(Remainder::Partial),
            ParsedHead::Body(bytes) => return Err(Remainder::Body(bytes)),
            ParsedHead::Other => return Err(Remainder::Other),
        };
        if !self.is_called(host, &state.browsers) {
            return Err(Remainder::Other);
        }
        match asked {
            FastRequest::Health => {
                self.health();
                self.answered.health += 1;
            }
            FastRequest::Wordcount { query, min_position, if_none_match } => {
                let current = current.ok_or(Remainder::Other)?;
                if min_position.is_some_and(|asked| current.position_status(asked) != PositionStatus::Reached) {
                    return Err(Remainder::Other);
                }
                self.body.clear();
                let position = count(query, current, &mut self.body).ok_or(Remainder::Other)?;
                self.read_answer(position, lag_ms, if_none_match);
            }
            FastRequest::Post(PostRequest { query, content_type, key, stream, stream_sequence, forwarded, body }) => {
                let current = current.ok_or(Remainder::Other)?;
                // The bounds of bodies are the routes', and so is what is meant for another database.
                let is_meant = forwarded.is_none_or(|stated| service::is_meant(stated, &current.identity));
                if !state.service.takes_writes() || body.len() > state.settings.max_body_bytes || !is_meant {
                    return Err(Remainder::Other);
                }
                let owned = |text: Option<&str>| text.map(str::to_owned);
                let naming =
                    DedupHeaders { key: owned(key), stream: owned(stream), stream_sequence: owned(stream_sequence) };
                let post = write_request::small_post(query, content_type, &naming, body).ok_or(Remainder::Other)?;
                let level = post.level;
                let batch = post.into_batch(current, &state.service.tallies).map_err(|_| Remainder::Other)?;
                self.post = Some((batch, level));
            }
        }
        Ok(bytes)
    }

    /// Returns whether the node answers to this `Host`. Nearly all requests of a thread have the same one.
    #[inline]
    fn is_called(&mut self, host: &[u8], browsers: &BrowserPolicy) -> bool {
        if browsers.answers_to_every_name() || (host == self.host && !host.is_empty()) {
            return true;
        }
        let answers = browsers.answers_to(host);
        if answers {
            host.clone_into(&mut self.host);
        }
        answers
    }

    fn health(&mut self) {
        const BODY: &[u8] = b"{\"status\":\"api up\"}\n";
        self.answers.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json");
        self.body.clear();
        self.body.extend_from_slice(BODY);
        self.end_with_body();
    }

    /// As `writes::accepted`.
    fn acceptance(&mut self, acceptance: &AcceptedWrite) -> u16 {
        self.body.clear();
        writes::write_receipt(acceptance, &mut self.body);
        self.answers.extend_from_slice(b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\nmemdb-position: ");
        acceptance.position().write_to(&mut self.answers);
        self.answers.extend_from_slice(b"\r\nmemdb-acks: ");
        self.number(acceptance.receipt.acks.into());
        if acceptance.receipt.replayed {
            self.answers.extend_from_slice(b"\r\nmemdb-replayed: true");
        }
        self.end_with_body();
        StatusCode::ACCEPTED.as_u16()
    }

    /// As hyper writes what [`ApiError::into_response`] gives.
    fn problem(&mut self, problem: ApiError) -> u16 {
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

    fn number(&mut self, number: u64) {
        self.answers.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// As `headers::read_answer`.
    fn read_answer(&mut self, position: PositionToken, lag_ms: Option<u64>, if_none_match: Option<&str>) {
        let tag = headers::strong_tag(&self.body, position.database);
        let is_known = if_none_match.is_some() && headers::matches(if_none_match, &tag);
        self.answers.extend_from_slice(if is_known {
            b"HTTP/1.1 304 Not Modified\r\nmemdb-position: ".as_slice()
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmemdb-position: "
        });
        position.write_to(&mut self.answers);
        self.answers.extend_from_slice(b"\r\netag: ");
        self.answers.extend_from_slice(&tag);
        if let Some(lag_ms) = lag_ms {
            self.answers.extend_from_slice(b"\r\nmemdb-lag: ");
            self.number(lag_ms);
        }
        if is_known {
            self.vary();
            self.end_of_head();
            self.answered.not_modified += 1;
            return;
        }
        self.end_with_body();
        self.answered.read += 1;
    }

    /// The last lines of the head, and the body.
    fn end_with_body(&mut self) {
        self.vary();
        self.answers.extend_from_slice(b"\r\ncontent-length: ");
        self.number(self.body.len() as u64);
        self.end_of_head();
        self.answers.extend_from_slice(&self.body);
    }

    /// As `browsers::CorsAnswer` marks the answer to a request without `Origin`.
    fn vary(&mut self) {
        if self.varies {
            self.answers.extend_from_slice(b"\r\nvary: ");
            self.answers.extend_from_slice(VARY_BY.as_bytes());
        }
    }

    fn end_of_head(&mut self) {
        self.answers.extend_from_slice(&self.date.line);
    }
}

/// Writes what `query` asks for; `None` if the routes should see it.
#[inline]
fn count(query: &str, current: &ServedDatabase, body: &mut Vec<u8>) -> Option<PositionToken> {
    // Nearly every read names one word that needs no decoding.
    if let Some(word) = query.strip_prefix("word=")
        && memchr::memchr3(b'&', b'%', b'+', word.as_bytes()).is_none()
        && !word.is_empty()
    {
        return reads::write_count(current, crate::base::limits::DEFAULT_NAMESPACE, word, body);
    }
    let query = QueryString::parse(query, RouteParameters::WORDCOUNT).ok()?;
    query.named_words().ok()?;
    let names = reads::distinct(query.words);
    if let [name] = &*names {
        return reads::write_count(current, &query.namespace, name, body);
    }
    let (counts, position) = CountsOf { namespace: &query.namespace, names: &names }.answer(current)?;
    reads::write_counts(&names, &counts, body);
    Some(position)
}

/// The last lines of every head, made anew when the second changes.
struct DateHeader {
    line: Vec<u8>,
    until: Option<Instant>,
}

impl Default for DateHeader {
    fn default() -> Self {
        Self { line: Vec::with_capacity(48), until: None }
    }
}

impl DateHeader {
    #[inline]
    fn bring_up_to(&mut self, now: Instant) {
        if self.until.is_none_or(|until| now >= until) {
            self.renew(now);
        }
    }

    #[allow(clippy::disallowed_methods, reason = "what HTTP calls Date is the wall clock")]
    fn renew(&mut self, now: Instant) {
        let wall = SystemTime::now();
        let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_secs(1).saturating_sub(Duration::from_nanos(u64::from(since.subsec_nanos())));
        self.until = Some(now + left);
        self.line.clear();
        self.line.extend_from_slice(b"\r\ndate: ");
        self.line.extend_from_slice(httpdate::fmt_http_date(wall).as_bytes());
        self.line.extend_from_slice(b"\r\n\r\n");
    }
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use super::{super::super::test_support, *};
    use crate::{
        base::hash::WordHasher,
        data::counts::{WriteOp, word_counts::WordCounts},
    };

    /// The responder is shared by the connections of a thread: a post of one that broke off is nobody else's.
    #[test]
    fn a_post_that_was_left_in_the_responder_is_not_the_next_connections() {
        let mut responder = FastPathResponder::default();
        let batch = WriteBatch {
            namespace: "words".into(),
            op: WriteOp::Add,
            counts: WordCounts::new(WordHasher::new(1)),
            words: 0,
            left_out: 0,
            key: None,
            fingerprint: 0,
        };
        responder.post = Some((batch, None));
        let request = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(
            responder.answer(request, &test_support::state(), Instant::now()),
            (request.len(), Remainder::Partial)
        );
        assert!(responder.post.is_none());
    }
}
