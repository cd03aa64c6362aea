//! The routes that change counts: what they read is handed to the service, and its receipt, or what the leader has
//! answered, becomes the answer.

use super::{
    body::{self, WholeBody},
    headers,
    request::{RouteRequest, WriteHeaders},
    state::AppState,
    write_request::{HttpWrite, WriteKind},
};
use crate::{
    api::{
        error::ApiError,
        service::{AcceptedWrite, LeaderAnswer, WriteOutcome},
    },
    base::limits::MAX_WORDS_TOLD,
    client::ForwardedAnswer,
    engine::leader::WriteReceipt,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::io::Write;
use warp::reply::Response;

/// The member that marks the answer to a repeated write.
const REPLAYED: &[u8] = br#","replayed":true"#;
/// Headers of the leader's answer that are passed back, beside those of memdb.
const PASSED_BACK: [HeaderName; 3] = [header::CONTENT_TYPE, header::RETRY_AFTER, header::ALLOW];

/// `POST /post`: counts the words of a text.
pub(super) async fn post(request: RouteRequest) -> Result<Response, ApiError> {
    with_body(request, WriteKind::PostedText).await
}

/// `POST /update`: adds amounts to counts.
pub(super) async fn update(request: RouteRequest) -> Result<Response, ApiError> {
    with_body(request, WriteKind::UpdateAmounts).await
}

/// `DELETE /wordcount?word=`: takes words away.
pub(super) async fn remove_words(request: RouteRequest) -> Result<Response, ApiError> {
    without_body(request, WriteKind::RemoveWords).await
}

/// `DELETE /ns/{name}`: takes a namespace away.
pub(super) async fn drop_namespace(request: RouteRequest) -> Result<Response, ApiError> {
    let kind = WriteKind::DropNamespace(request.name.clone());
    without_body(request, kind).await
}

async fn with_body(request: RouteRequest, kind: WriteKind) -> Result<Response, ApiError> {
    let (forwarded, headers) = (request.forwarded()?, request.write_headers()?);
    let RouteRequest { state, method, path, query, parameters, body, .. } = request;
    // First of all the body: what is refused with a body on its way ends the connection.
    let body = body::read(body, headers.content_length.as_deref(), &state.settings, &state.uploads).await?;
    execute(&state, HttpWrite { kind, method, path, query, parameters, headers, body }, forwarded).await
}

async fn without_body(request: RouteRequest, kind: WriteKind) -> Result<Response, ApiError> {
    let (forwarded, naming) = (request.forwarded()?, request.naming()?);
    let RouteRequest { state, method, path, query, parameters, .. } = request;
    let headers = WriteHeaders { naming, content_type: None, content_length: None };
    let write = HttpWrite { kind, method, path, query, parameters, headers, body: WholeBody::empty() };
    execute(&state, write, forwarded).await
}

async fn execute(state: &AppState, write: HttpWrite, forwarded: Option<String>) -> Result<Response, ApiError> {
    match state.service.execute(write, forwarded.as_deref()).await? {
        WriteOutcome::Accepted(acceptance) => Ok(accepted(&acceptance)),
        WriteOutcome::FromLeader(answer) => Ok(passed_back(answer)),
    }
}

/// The 202 of a write.
fn accepted(acceptance: &AcceptedWrite) -> Response {
    let mut body = Vec::with_capacity(128);
    write_receipt(acceptance, &mut body);
    accepted_with(body, acceptance)
}

/// The 202 of a write, with this body of JSON.
pub(super) fn accepted_with(body: Vec<u8>, acceptance: &AcceptedWrite) -> Response {
    let WriteReceipt { acks, replayed, .. } = &acceptance.receipt;
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::ACCEPTED;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(&headers::MEMDB_POSITION, headers::position_value(acceptance.position()));
    fields.insert(&headers::MEMDB_ACKS, HeaderValue::from(*acks));
    if *replayed {
        fields.insert(&headers::MEMDB_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The body of that.
pub(super) fn write_receipt(acceptance: &AcceptedWrite, body: &mut Vec<u8>) {
    let WriteReceipt { words, distinct, left_out, acks, replayed, stream_last, .. } = &acceptance.receipt;
    // A repeat may tell of a write that an earlier release has taken.
    let words = (*words).min(MAX_WORDS_TOLD);
    write!(body, r#"{{"words":{words},"distinct":{distinct},"left_out":{left_out},"acks":{acks},"position":"#)
        .map(|()| headers::write_position(acceptance.position(), body))
        .and_then(|()| if *replayed { body.write_all(REPLAYED) } else { Ok(()) })
        .and_then(|()| stream_last.map_or(Ok(()), |last| write!(body, r#","stream_last":{last}"#)))
        .and_then(|()| body.write_all(b"}\n"))
        .expect("a Vec takes every byte");
}

/// The leader's answer as the client gets it.
fn passed_back(answer: LeaderAnswer) -> Response {
    let LeaderAnswer { answer: ForwardedAnswer { status, headers: mut from, mut body }, under_made_key } = answer;
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
    match memchr::memmem::find(body, REPLAYED) {
        Some(at) => [&body[..at], &body[at + REPLAYED.len()..]].concat().into(),
        None => body.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::position::{DatabaseTag, Position};
    use http::HeaderMap;

    #[test]
    fn a_receipt_tells_of_repeats_and_streams_only_where_they_apply() {
        let receipt = WriteReceipt {
            position: Position::new(1, 7),
            words: 2,
            distinct: 1,
            left_out: 0,
            acks: 0,
            replayed: false,
            stream_last: None,
        };
        let acceptance = |receipt| AcceptedWrite { receipt, database: DatabaseTag::of(7) };
        let plain = accepted(&acceptance(receipt));
        assert!(!plain.headers().contains_key(&headers::MEMDB_REPLAYED));
        assert_eq!(plain.headers()[&headers::MEMDB_POSITION], "1-7-00000007");
        let repeated = accepted(&acceptance(WriteReceipt { replayed: true, stream_last: Some(3), ..receipt }));
        assert_eq!(repeated.headers()[&headers::MEMDB_REPLAYED], "true");
    }

    fn answer(body: &'static str, under_made_key: bool) -> LeaderAnswer {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("memdb-position", "1-7"), ("memdb-replayed", "true"), ("date", "x"), ("retry-after", "1")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let body = Bytes::from_static(body.as_bytes());
        LeaderAnswer { answer: ForwardedAnswer { status: 202, headers, body }, under_made_key }
    }

    #[test]
    fn the_answer_is_passed_back_but_for_what_this_node_alone_has_repeated() {
        let repeated = passed_back(answer(r#"{"position":"1-7","replayed":true}"#, false));
        assert_eq!(repeated.status(), 202);
        let fields = repeated.headers();
        for (name, value) in [("memdb-position", "1-7"), ("memdb-replayed", "true"), ("retry-after", "1")] {
            assert_eq!(fields[name], value, "{name}");
        }
        assert!(!fields.contains_key("date"));
        let own = passed_back(answer(r#"{"position":"1-7","replayed":true}"#, true));
        assert!(!own.headers().contains_key("memdb-replayed"));
        assert_eq!(without_replayed(&Bytes::from_static(br#"{"a":1,"replayed":true,"b":2}"#)), r#"{"a":1,"b":2}"#);
        assert_eq!(without_replayed(&Bytes::from_static(b"{}")), "{}");
    }
}
