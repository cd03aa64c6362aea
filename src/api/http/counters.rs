//! The routes of counters behind back-pressure: an increment waits in a queue until a worker counts it.

use super::{
    entries::key,
    headers,
    query::{self, QueryString, RouteParameters},
    reads::min_position,
    request::{RouteRequest, WriteHeaders},
    write_request, writes,
};
use crate::{
    api::{
        error::ApiError,
        service::{Command, CounterOf, Operation, QueryReply, WriteOutcome, WriteRequest, check_counter_key},
    },
    engine::leader::WriteReceipt,
    net::write_forwarder::{OutgoingWrite, TRY_TIMEOUT},
    storage::file_header::DatabaseIdentity,
};
use http::{Method, StatusCode};
use std::{borrow::Cow, io::Write};
use warp::reply::Response;

/// A change of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CounterChange {
    /// `POST /counter/{key}/increment`.
    Increment,
    /// `DELETE /counter/{key}`.
    Remove,
}

/// A change of a counter as it came.
struct CounterRequest {
    change: CounterChange,
    /// The key as it was sent in the path.
    name: String,
    query: String,
    parameters: RouteParameters,
    headers: WriteHeaders,
}

impl WriteRequest for CounterRequest {
    fn size(&self) -> usize {
        0
    }

    fn command(&self, _: &DatabaseIdentity) -> Result<Command<'_>, ApiError> {
        let query = QueryString::parse(&self.query, self.parameters)?;
        let key = key_of(&self.name)?;
        let operation = match self.change {
            CounterChange::Increment => Operation::Increment(key),
            CounterChange::Remove => Operation::RemoveCounter(key),
        };
        let (namespace, level) = (query.namespace, query.ack);
        Ok(Command { namespace, operation, once: self.headers.naming.once(None)?, level })
    }

    fn is_named(&self) -> bool {
        self.headers.naming.is_given()
    }

    fn check_forwardable(&self) -> Result<(), ApiError> {
        key::for_path(&self.name).map(drop)
    }

    fn outgoing(&self) -> OutgoingWrite {
        // Encoded anew, so that every key comes through, with slashes and question marks in it too.
        let key = key::for_path(&self.name).unwrap_or_else(|_| self.name.clone());
        let (method, path) = match self.change {
            CounterChange::Increment => (Method::POST, format!("/counter/{key}/increment")),
            CounterChange::Remove => (Method::DELETE, format!("/counter/{key}")),
        };
        let target = query::target(path, &self.query);
        let headers = write_request::forwarded_headers(&self.headers);
        OutgoingWrite { method, target, headers, body: bytes::Bytes::new(), patience: TRY_TIMEOUT }
    }
}

/// `POST /counter/{key}/increment`: 202 once the increment is in the log, where it waits to be counted.
pub(super) async fn increment(request: RouteRequest) -> Result<Response, ApiError> {
    change(request, CounterChange::Increment).await
}

/// `DELETE /counter/{key}`: takes a counter away, and what waits for it.
pub(super) async fn remove(request: RouteRequest) -> Result<Response, ApiError> {
    change(request, CounterChange::Remove).await
}

async fn change(request: RouteRequest, change: CounterChange) -> Result<Response, ApiError> {
    let (forwarded, naming) = (request.forwarded()?, request.naming()?);
    let RouteRequest { state, name, query, parameters, client, .. } = request;
    let key = key_of(&name)?.into_owned();
    let headers = WriteHeaders { naming, content_type: None, content_length: None };
    let write = CounterRequest { change, name, query, parameters, headers };
    match state.service.execute(write, forwarded.as_deref(), &client.usage).await? {
        WriteOutcome::Accepted(accepted) => {
            let mut body = Vec::with_capacity(64 + key.len());
            write_answer(change, &key, &accepted.receipt, &mut body);
            let mut response = writes::accepted_with(body, &accepted);
            if change == CounterChange::Remove {
                *response.status_mut() = StatusCode::OK;
            }
            Ok(response)
        }
        WriteOutcome::FromLeader(answer) => Ok(writes::passed_back_as_sent(answer)),
    }
}

/// The body of the answer to a change.
pub(super) fn write_answer(change: CounterChange, key: &str, receipt: &WriteReceipt, body: &mut Vec<u8>) {
    body.extend_from_slice(br#"{"key":"#);
    headers::write_json_string(body, key);
    match change {
        CounterChange::Increment => body.extend_from_slice(b",\"status\":\"queued\"}\n"),
        CounterChange::Remove => {
            let WriteReceipt { words: deleted, distinct: value, left_out: waiting, .. } = receipt;
            writeln!(body, r#","deleted":{deleted},"value":{value},"waiting":{waiting}}}"#)
                .expect("a Vec takes every byte");
        }
    }
}

/// `GET /counter/{key}`, `GET /store/{key}`: the value of a counter; 0 where there is none.
pub(super) async fn get(request: RouteRequest) -> Result<Response, ApiError> {
    let (asked, state) = (request.read_headers()?, &request.state);
    request.parse_query()?;
    let key = key_of(&request.name)?;
    let counter = CounterOf { key: &key };
    let QueryReply { answer, position, lag_ms } =
        state.service.query(counter, min_position(&asked)?, &request.client.usage).await?;
    let mut body = Vec::with_capacity(64 + key.len());
    body.extend_from_slice(br#"{"key":"#);
    headers::write_json_string(&mut body, &key);
    writeln!(body, r#","value":{answer}}}"#).expect("a Vec takes every byte");
    Ok(headers::read_answer(body, position, lag_ms, asked.if_none_match.as_deref()))
}

/// The key in a path: raw, so never folded, and decoded once.
pub(super) fn key_of(encoded: &str) -> Result<Cow<'_, str>, ApiError> {
    let key = key::of_path(encoded)?;
    check_counter_key(&key)?;
    Ok(key)
}
