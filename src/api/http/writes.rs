//! The routes that change counts: what they read is handed to the service, and its receipt, or what the leader has
//! answered, becomes the answer.

use super::{
    body::{self, WholeBody},
    entries::tags::ConditionHeaders,
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
    base::position::PositionToken,
    engine::leader::WriteReceipt,
    net::address_limits::Usage,
    net::write_forwarder::ForwardedAnswer,
};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use std::io::Write;
use warp::reply::Response;

/// Headers of the leader's answer that are passed back, beside those of memdb.
const PASSED_BACK: [&str; 10] = [
    "content-type",
    "retry-after",
    "allow",
    "etag",
    "accept-post",
    "ratelimit-policy",
    "ratelimit",
    "cache-control",
    "x-content-type-options",
    "content-security-policy",
];

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
    let (forwarded, headers, conditions) =
        (request.forwarded()?, request.write_headers()?, ConditionHeaders::of(&request)?);
    let RouteRequest { state, method, path, query, parameters, client, body, .. } = request;
    // First of all the body: what is refused with a body on its way ends the connection.
    let budget = (&state.budgets.uploads, &client.usage);
    let body = body::read(body, headers.content_length.as_deref(), &state.settings, budget).await?;
    conditions.check_none()?;
    let max_value_bytes = state.settings.max_value_bytes;
    let write = HttpWrite { kind, method, path, query, parameters, headers, body, max_value_bytes };
    execute(&state, write, forwarded, &client.usage).await
}

async fn without_body(request: RouteRequest, kind: WriteKind) -> Result<Response, ApiError> {
    let (forwarded, naming) = (request.forwarded()?, request.naming()?);
    ConditionHeaders::of(&request)?.check_none()?;
    let RouteRequest { state, method, path, query, parameters, client, .. } = request;
    let headers = WriteHeaders { naming, content_type: None, content_length: None };
    let (body, max_value_bytes) = (WholeBody::empty(), 0);
    let write = HttpWrite { kind, method, path, query, parameters, headers, body, max_value_bytes };
    execute(&state, write, forwarded, &client.usage).await
}

async fn execute(
    state: &AppState,
    write: HttpWrite,
    forwarded: Option<String>,
    usage: &Usage,
) -> Result<Response, ApiError> {
    match state.service.execute(write, forwarded.as_deref(), usage).await? {
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
    let WriteReceipt { acks, replayed, quota, .. } = &acceptance.receipt;
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::ACCEPTED;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(&headers::MEMDB_POSITION, headers::position_value(acceptance.position()));
    fields.insert(&headers::MEMDB_ACKS, HeaderValue::from(*acks));
    if *replayed {
        fields.insert(&headers::MEMDB_REPLAYED, HeaderValue::from_static("true"));
    }
    if let Some(quota) = *quota {
        headers::set_rate_limit(&mut response, quota);
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
        .and_then(|()| if *replayed { body.write_all(br#","replayed":true"#) } else { Ok(()) })
        .and_then(|()| stream_last.map_or(Ok(()), |last| write!(body, r#","stream_last":{last}"#)))
        .and_then(|()| body.write_all(b"}\n"))
        .expect("a Vec takes every byte");
}

/// Reads what [`write_receipt`] writes. `None` if it has a member that this release does not know, or lacks one.
fn read_receipt(body: &[u8]) -> Option<AcceptedWrite> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Members<'a> {
        words: u64,
        distinct: u64,
        left_out: u64,
        acks: u32,
        position: &'a str,
        #[serde(default)]
        replayed: bool,
        stream_last: Option<u64>,
    }
    let Members { words, distinct, left_out, acks, position, replayed, stream_last } =
        serde_json::from_slice(body).ok()?;
    let PositionToken { position, database } = position.parse().ok()?;
    let receipt = WriteReceipt { words, distinct, left_out, acks, replayed, stream_last, ..WriteReceipt::at(position) };
    Some(AcceptedWrite { receipt, database })
}

/// The leader's answer as the client gets it.
pub(super) fn passed_back(answer: LeaderAnswer) -> Response {
    let LeaderAnswer { answer: ForwardedAnswer { status, headers: mut from, mut body }, under_made_key } = answer;
    // Under a key made here, a replay repeats what was sent from here a moment ago; the client has sent it once.
    if under_made_key
        && from.contains_key(&headers::MEMDB_REPLAYED)
        && let Some(mut accepted) = read_receipt(&body)
    {
        accepted.receipt.replayed = false;
        let mut first = Vec::with_capacity(body.len());
        write_receipt(&accepted, &mut first);
        body = first.into();
        from.remove(&headers::MEMDB_REPLAYED);
    }
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in &from {
        if PASSED_BACK.contains(&name.as_str()) || name.as_str().starts_with("memdb-") {
            response.headers_mut().append(name.clone(), HeaderValue::clone(value));
        }
    }
    response
}

/// The same of a write whose body tells of no repeat. Under a key made here it repeats what was sent from here a moment
/// ago: the client has sent it once.
pub(super) fn passed_back_as_sent(mut answer: LeaderAnswer) -> Response {
    if answer.under_made_key {
        answer.answer.headers.remove(&headers::MEMDB_REPLAYED);
    }
    passed_back(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::position::{DatabaseTag, Position};
    use bytes::Bytes;
    use http::HeaderMap;
    use http_body_util::BodyExt;

    #[test]
    fn a_receipt_tells_of_repeats_and_streams_only_where_they_apply() {
        let receipt = WriteReceipt { words: 2, distinct: 1, ..WriteReceipt::at(Position::new(1, 7)) };
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
    fn a_receipt_is_read_as_it_was_written_and_with_unknown_members_not_at_all() {
        let text = |accepted: &AcceptedWrite| {
            let mut body = Vec::new();
            write_receipt(accepted, &mut body);
            String::from_utf8(body).expect("JSON is UTF-8")
        };
        for (replayed, stream_last) in [(false, None), (true, None), (true, Some(3))] {
            let position = Position::new(u64::MAX, 7);
            let receipt = WriteReceipt {
                words: 5,
                distinct: 4,
                left_out: 3,
                acks: 2,
                replayed,
                stream_last,
                ..WriteReceipt::at(position)
            };
            let written = text(&AcceptedWrite { receipt, database: DatabaseTag::of(7) });
            let read = read_receipt(written.as_bytes()).expect("written above");
            assert_eq!((read.receipt, read.position().database), (receipt, DatabaseTag::of(7)), "{written}");
            assert_eq!(text(&read), written);
            assert!(read_receipt(written.replace('{', r#"{"later":1,"#).as_bytes()).is_none());
            assert!(read_receipt(written.replace(r#""acks":2,"#, "").as_bytes()).is_none());
        }
    }

    #[tokio::test]
    async fn the_answer_is_passed_back_but_for_what_this_node_alone_has_repeated() {
        async fn body(response: Response) -> String {
            let bytes = response.into_body().collect().await.expect("it is whole").to_bytes();
            String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8")
        }
        let written = concat!(
            r#"{"words":2,"distinct":1,"left_out":0,"acks":1,"position":"1-7-00000007","replayed":true}"#,
            "\n"
        );
        let repeated = passed_back(answer(written, false));
        assert_eq!(repeated.status(), 202);
        let fields = repeated.headers();
        for (name, value) in [("memdb-position", "1-7"), ("memdb-replayed", "true"), ("retry-after", "1")] {
            assert_eq!(fields[name], value, "{name}");
        }
        assert!(!fields.contains_key("date"));
        assert_eq!(body(repeated).await, written);
        let own = passed_back(answer(written, true));
        assert!(!own.headers().contains_key("memdb-replayed"));
        assert_eq!(body(own).await, written.replace(r#","replayed":true"#, ""));
        // A later release may say more: nothing of that is lost.
        let later = r#"{"words":2,"replayed":true,"more":1}"#;
        let unknown = passed_back(answer(later, true));
        assert!(unknown.headers().contains_key("memdb-replayed"));
        assert_eq!(body(unknown).await, later);
    }
}
