//! The reads of the fast path: `GET /wordcount?` and `GET /health` here, single entries in
//! `api/http/fast_path/entry.rs`.

use super::{
    entry::EntryHeaders,
    entry_tally::{AnswerTimer, ReadTally},
    responder::{FastPathResponder, ServedData, is_plain, visible},
};
use crate::{
    api::{
        http::{
            head::ParsedHead,
            headers,
            query::{QueryString, RouteParameters},
            reads, request_log,
            route::RouteLabel,
            state::AppState,
        },
        service::{CountsOf, ReadQuery as _},
    },
    base::metrics::MethodLabel,
    base::position::{PositionStatus, PositionToken},
    engine::view::ServedDatabase,
};
use std::time::Duration;

/// A read that the fast path may answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadRequest<'a> {
    /// `GET /health`.
    Health,
    /// `GET /wordcount?`, with what the routes would look at.
    Wordcount { query: &'a str, min_position: Option<PositionToken>, if_none_match: Option<&'a str> },
    /// One entry, named by the target.
    Entry { target: &'a str, min_position: Option<PositionToken>, headers: EntryHeaders<'a> },
}

impl FastPathResponder {
    /// Answers a plain read; none if it is the routes'.
    #[inline]
    pub(super) fn answer_read(
        &mut self,
        head: &ParsedHead<'_, '_>,
        state: &AppState,
        served: &ServedData<'_>,
    ) -> Option<()> {
        let (host, asked) = ReadRequest::of(head)?;
        if !self.is_called(host, &state.browsers) {
            return None;
        }
        match asked {
            ReadRequest::Health => {
                self.health();
                self.answered.health += 1;
            }
            ReadRequest::Wordcount { query, min_position, if_none_match } => {
                let current = served.current?;
                if min_position.is_some_and(|asked| current.position_status(asked) != PositionStatus::Reached) {
                    return None;
                }
                self.body.clear();
                let position = count(query, current, &mut self.body)?;
                self.read_answer(position, served.lag_ms, if_none_match);
            }
            // A line of the log has the path of its request, which nobody has kept by the end of a turn.
            ReadRequest::Entry { .. } if request_log::is_on() => return None,
            ReadRequest::Entry { target, min_position, headers } => {
                let current = served.current?;
                if min_position.is_some_and(|asked| current.position_status(asked) != PositionStatus::Reached) {
                    return None;
                }
                self.entry(target, headers, state, (current, served.lag_ms))?;
            }
        }
        Some(())
    }

    /// Counts what the last turn has answered.
    pub(super) fn count(&mut self, state: &AppState, each: Duration) {
        let ReadTally { health, read, not_modified, entries } = std::mem::take(&mut self.answered);
        self.timer = AnswerTimer::default();
        entries.count(state, each);
        for (route, path, status, requests) in [
            (RouteLabel::Wordcount, "/wordcount", 200, read),
            (RouteLabel::Wordcount, "/wordcount", 304, not_modified),
            (RouteLabel::Health, "/health", 200, health),
        ] {
            if requests > 0 {
                state.service.metrics.answered(route as usize, MethodLabel::Get, status, requests, each);
                state.request_log.answered_together(route.name(), MethodLabel::Get, status, (requests, each));
                if request_log::is_on() {
                    (0..requests).for_each(|_| request_log::write("GET", path, status, each));
                }
            }
        }
    }

    fn health(&mut self) {
        const BODY: &[u8] = b"{\"status\":\"api up\"}\n";
        self.answers.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json");
        self.body.clear();
        self.body.extend_from_slice(BODY);
        self.end_with_body();
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
            self.answers.extend_from_slice(self.date.last());
            self.answered.not_modified += 1;
            return;
        }
        self.end_with_body();
        self.answered.read += 1;
    }
}

impl<'a> ReadRequest<'a> {
    /// A plain read, with the `Host` that it names; none if anything else about the head matters to the routes.
    fn of(head: &ParsedHead<'_, 'a>) -> Option<(&'a [u8], Self)> {
        if head.method() != "GET" || !head.is_http_1_1() {
            return None;
        }
        let (mut host, mut min_position, mut if_none_match, mut accept_encoding) = (None, None, None, None);
        for field in head.fields() {
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
                // Only the routes look whether a follower that passes a read on holds the same database.
                15 if is("idempotency-key") || is("memdb-forwarded") => return None,
                // Only what is stored compressed looks at it, and then one line of it is enough to look at.
                15 if is("accept-encoding") => {
                    let first = accept_encoding.replace(field.value).is_none();
                    first.then_some(())?;
                }
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
        if head.target() == "/health" {
            return Some((host, ReadRequest::Health));
        }
        let target = head.target();
        if let Some(query) = target.strip_prefix("/wordcount?") {
            return is_plain(query).then_some((host, ReadRequest::Wordcount { query, min_position, if_none_match }));
        }
        if !["/cache/", "/data/", "/post?", "/posts/"].iter().any(|begin| target.starts_with(begin)) {
            return None;
        }
        let headers = EntryHeaders { if_none_match, accept_encoding };
        Some((host, ReadRequest::Entry { target, min_position, headers }))
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

#[cfg(test)]
mod tests {
    use super::{
        super::super::{
            head::{HeadScan, field_space, scan},
            test_support,
        },
        *,
    };
    use crate::base::{log_capture::captured, position::Position};

    /// Looks at a head; false if no plain read was found in it.
    fn look(bytes: &[u8], check: impl FnOnce(Option<(&[u8], ReadRequest<'_>)>)) {
        match scan(bytes, &mut field_space(), 1_000) {
            HeadScan::Whole(head) => check(ReadRequest::of(&head)),
            HeadScan::Unsound(_) => check(None),
            HeadScan::Partial => panic!("a whole head"),
        }
    }

    fn wordcount(query: &str) -> ReadRequest<'_> {
        ReadRequest::Wordcount { query, min_position: None, if_none_match: None }
    }

    #[test]
    fn slow_turns_are_in_the_log_with_each_of_their_requests() {
        let (state, mut responder) = (test_support::state(), FastPathResponder::default());
        state.request_log.set_bound(Some(Duration::from_millis(5)));
        let mut turn = |each| {
            responder.answered.read = 2;
            responder.answered.entries.add(0, 2);
            captured(|| responder.count(&state, each))
        };
        assert_eq!(turn(Duration::from_millis(5)), "");
        let said = turn(Duration::from_millis(7));
        let of = |line: &str| said.matches(line).count();
        assert_eq!(
            of("slow request method=\"GET\" route=\"wordcount\" status=200 duration_ms=7 left_out=0"),
            2,
            "{said}"
        );
        assert_eq!(of("slow request method=\"GET\" route=\"cache\" status=404 duration_ms=7 left_out=0"), 1, "{said}");
    }

    #[test]
    fn the_plainest_requests_are_the_fast_paths() {
        for (head, expected) in [
            ("GET /health HTTP/1.1\r\nHost: a\r\n\r\n", ReadRequest::Health),
            ("GET /wordcount?word=a HTTP/1.1\r\nhost:a\r\nX: \u{fc}\r\n\r\n", wordcount("word=a")),
            ("GET /wordcount? HTTP/1.1\nHost:\nConnection: Keep-Alive\n\n", wordcount("")),
            (
                "GET /wordcount?word=%41+b&ns=x HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\", *\r\nMemdb-Min-Position: 1-7-00000007\r\n\r\n",
                ReadRequest::Wordcount {
                    query: "word=%41+b&ns=x",
                    min_position: Some(PositionToken::of(7, Position::new(1, 7))),
                    if_none_match: Some("\"x\", *"),
                },
            ),
        ] {
            look(head.as_bytes(), |found| {
                assert!(found.is_some_and(|(host, asked)| host.len() <= 1 && asked == expected), "{head:?}");
            });
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
        ];
        let all = lines.into_iter().map(with).chain(targets.into_iter().map(to));
        for head in all.chain(others.into_iter().map(str::to_owned)) {
            look(head.as_bytes(), |found| assert_eq!(found, None, "{head:?}"));
        }
    }
}
