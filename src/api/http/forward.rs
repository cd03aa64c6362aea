//! A client's write that comes to a follower: it is passed on to the leader, and the leader's answer is passed back.
//!
//! What may be sent twice needs a name, so a write without one gets a key here. Whether the write is sound is for the
//! leader to say: a follower may not even know the analyzer yet.

use super::{
    body::{self, MediaType, WholeBody},
    headers::{self, DedupHeaders},
    problem::{Problem, ProblemKind},
    state::AppState,
    writes::{self, WriteHeaders},
};
use crate::{
    base::metrics::RefusalLabel,
    client::{ForwardError, ForwardedAnswer, WriteForwarder},
};
use bytes::{Buf, Bytes};
use futures::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::convert::Infallible;
use warp::{path::FullPath, reply::Response};

/// A write as the client sent it, to be passed on.
#[derive(Debug)]
pub(super) struct ForwardedWrite {
    pub(super) method: Method,
    pub(super) path: FullPath,
    /// Of which database a follower says to be that has sent it.
    pub(super) forwarded: Option<String>,
}

/// Headers of the leader's answer that are passed back, beside those of memdb.
const PASSED_BACK: [HeaderName; 3] = [header::CONTENT_TYPE, header::RETRY_AFTER, header::ALLOW];

/// Passes on a write without a body.
pub(super) async fn bodiless(
    state: &AppState,
    forward: &WriteForwarder,
    sent: ForwardedWrite,
    query: &str,
    naming: DedupHeaders,
) -> Result<Response, Problem> {
    let heads = WriteHeaders { naming, content_type: None, content_length: None };
    write(state, forward, sent, query, heads, futures::stream::empty::<Result<Bytes, Infallible>>()).await
}

/// Passes on a write.
pub(super) async fn write<S, B, E>(
    state: &AppState,
    forward: &WriteForwarder,
    sent: ForwardedWrite,
    query: &str,
    heads: WriteHeaders,
    body: S,
) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    // First of all the body: what is refused with a body on its way ends the connection.
    let whole = body::read(body, heads.content_length.as_deref(), &state.settings, &state.uploads).await?;
    if sent.forwarded.is_some() {
        let detail = "this node follows a leader, and the write has come by way of another follower already: give that \
                      one the leader itself as its --leader";
        return Err(not_leader(forward, detail));
    }
    if let Some(leads) = forward.other_database() {
        state.api.metrics.refused(RefusalLabel::OtherDatabase);
        return Err(other_database(forward, leads));
    }
    let made = if is_named(&heads, &sent, &whole).await { None } else { Some(made_key(forward)?) };
    let target =
        if query.is_empty() { sent.path.as_str().to_owned() } else { format!("{}?{query}", sent.path.as_str()) };
    let fields = fields(&heads, made.as_deref());
    match forward.write(&sent.method, &target, &fields, &whole.bytes).await {
        Ok(answer) => {
            state.api.metrics.forwarded.inc();
            Ok(passed_back(answer, made.is_some()))
        }
        Err(error) => {
            let (problem, refusal) = told(&error, made.as_deref());
            state.api.metrics.refused(refusal);
            Err(problem)
        }
    }
}

/// The answer of a follower that is taken for the leader: 421, with the leader's URL if it is known.
pub(super) fn not_leader(forward: &WriteForwarder, detail: &'static str) -> Problem {
    Problem::new(ProblemKind::NotLeader, detail).with(serde_json::json!({ "leader": forward.leader() }))
}

/// The leader leads another database than this node's.
pub(super) fn other_database(forward: &WriteForwarder, leads: u128) -> Problem {
    Problem::other_database(leads, format_args!("{:032x}", forward.held().unwrap_or_default()))
}

/// A body of any length is not passed on: what to do instead.
pub(super) fn not_passed_on(forward: &WriteForwarder) -> Problem {
    let leader = forward.leader();
    let detail = match &leader {
        Some(leader) => format!("bulk bodies are not passed on; send it to the leader, {leader}"),
        None => "bulk bodies are not passed on, and this node has not heard of a leader yet; send it there".to_owned(),
    };
    Problem::new(ProblemKind::NotLeader, detail)
        .with(serde_json::json!({ "leader": leader, "taken": 0, "last_line": 0 }))
}

/// Returns whether the client has named the write, so that it may be sent again. Half a name counts too: the leader
/// refuses it.
async fn is_named(heads: &WriteHeaders, sent: &ForwardedWrite, whole: &WholeBody) -> bool {
    let DedupHeaders { key, stream, stream_sequence } = &heads.naming;
    let is_json = || matches!(MediaType::of(heads.content_type.as_deref(), writes::POST_TAKES), Ok(MediaType::Json));
    key.is_some()
        || stream.is_some()
        || stream_sequence.is_some()
        || (sent.path.as_str() == "/post" && is_json() && writes::has_id(&whole.bytes).await)
}

fn made_key(forward: &WriteForwarder) -> Result<String, Problem> {
    let failed =
        |error| Problem::new(ProblemKind::Internal, format!("no key could be made: {error}; nothing was applied"));
    forward.make_key().map_err(failed)
}

/// The headers the leader needs.
fn fields(heads: &WriteHeaders, made: Option<&str>) -> HeaderMap {
    let WriteHeaders { naming: DedupHeaders { key, stream, stream_sequence }, content_type, .. } = heads;
    let mut fields = HeaderMap::new();
    for (name, text) in [
        (header::CONTENT_TYPE, content_type.as_deref()),
        (headers::IDEMPOTENCY_KEY.clone(), key.as_deref().or(made)),
        (headers::MEMDB_STREAM.clone(), stream.as_deref()),
        (headers::MEMDB_STREAM_SEQ.clone(), stream_sequence.as_deref()),
    ] {
        if let Some(text) = text {
            fields.insert(name, headers::value(text.to_owned()));
        }
    }
    fields
}

/// The leader's answer as the client gets it.
fn passed_back(answer: ForwardedAnswer, under_made_key: bool) -> Response {
    let ForwardedAnswer { status, headers: mut from, mut body } = answer;
    if under_made_key && from.remove(&headers::MEMDB_REPLAYED).is_some() {
        // It repeats what was sent from here a moment ago; the client has sent it once.
        body = without_replayed(&body);
    }
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in &from {
        if PASSED_BACK.contains(name) || name == headers::ACCEPT_POST || name.as_str().starts_with("memdb-") {
            response.headers_mut().append(name.clone(), HeaderValue::clone(value));
        }
    }
    response
}

/// The body of a 202, which has no word of a client in it, as it is for a first request.
fn without_replayed(body: &Bytes) -> Bytes {
    match memchr::memmem::find(body, writes::REPLAYED) {
        Some(at) => [&body[..at], &body[at + writes::REPLAYED.len()..]].concat().into(),
        None => body.clone(),
    }
}

fn told(error: &ForwardError, made: Option<&str>) -> (Problem, RefusalLabel) {
    match error {
        ForwardError::Away(_) => {
            let detail = format!("{error}; nothing was applied: send it again later");
            (Problem::new(ProblemKind::LeaderAway, detail), RefusalLabel::LeaderAway)
        }
        ForwardError::Unknown(_) => {
            let repeat = match made {
                Some(key) => format!("with Idempotency-Key: {key}, under which it was passed on"),
                None => "under the same name".to_owned(),
            };
            let detail = format!("{error}; it may be applied: send it again {repeat}, and it counts once");
            (Problem::new(ProblemKind::OutcomeUnknown, detail), RefusalLabel::OutcomeUnknown)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &'static str) -> ForwardedAnswer {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("memdb-position", "1-7"), ("memdb-replayed", "true"), ("date", "x"), ("retry-after", "1")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        ForwardedAnswer { status: 202, headers, body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn the_answer_is_passed_back_but_for_what_this_node_alone_has_repeated() {
        let repeated = passed_back(answer(r#"{"position":"1-7","replayed":true}"#), false);
        assert_eq!(repeated.status(), 202);
        let fields = repeated.headers();
        for (name, value) in [("memdb-position", "1-7"), ("memdb-replayed", "true"), ("retry-after", "1")] {
            assert_eq!(fields[name], value, "{name}");
        }
        assert!(!fields.contains_key("date"));
        let own = passed_back(answer(r#"{"position":"1-7","replayed":true}"#), true);
        assert!(!own.headers().contains_key("memdb-replayed"));
        assert_eq!(without_replayed(&Bytes::from_static(br#"{"a":1,"replayed":true,"b":2}"#)), r#"{"a":1,"b":2}"#);
        assert_eq!(without_replayed(&Bytes::from_static(b"{}")), "{}");
    }

    #[test]
    fn only_what_may_be_applied_is_told_to_be_repeated_under_its_key() {
        let text = |(problem, _): (Problem, RefusalLabel)| String::from_utf8(problem.body()).expect("UTF-8");
        let away = text(told(&ForwardError::Away("x".into()), Some("made")));
        assert!(away.contains("leader-away") && !away.contains("made"), "{away}");
        let unknown = text(told(&ForwardError::Unknown("x".into()), Some("made")));
        assert!(unknown.contains("outcome-unknown") && unknown.contains("Idempotency-Key: made"), "{unknown}");
    }
}
