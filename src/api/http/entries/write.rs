//! A write of entries that came over HTTP: read into a command where it is applied, sent on as it came elsewhere, and
//! answered.

use super::{
    super::{
        body::{self, WholeBody},
        headers,
        query::{self, RouteParameters},
        request::{RouteRequest, WriteHeaders},
        settings::HttpSettings,
        state::AppState,
        write_request, writes,
    },
    command::{EntryWriteKind, EntryWriteParts, WrittenEntry},
    key,
    tags::ConditionHeaders,
};
use crate::{
    api::{
        error::ApiError,
        service::{AcceptedWrite, Command, WriteOutcome, WriteRequest, no_entry},
    },
    base::limits::MAX_ENTRIES_BODY_BYTES,
    engine::leader::WriteReceipt,
    net::address_limits::Usage,
    net::write_forwarder::{OutgoingWrite, TRY_TIMEOUT},
    storage::file_header::DatabaseIdentity,
};
use http::{HeaderValue, Method, header};
use std::sync::{Arc, OnceLock};
use warp::{path::FullPath, reply::Response};

/// A write of entries as it came.
struct EntryRequest {
    kind: EntryWriteKind,
    method: Method,
    path: FullPath,
    /// The key as it was sent in the path.
    name: String,
    query: String,
    parameters: RouteParameters,
    headers: WriteHeaders,
    conditions: ConditionHeaders,
    body: WholeBody,
    max_value_bytes: usize,
    /// Set where the write is read, which for a large one is beside the serving thread: a hash takes its time.
    written: Arc<OnceLock<WrittenEntry>>,
}

impl WriteRequest for EntryRequest {
    fn size(&self) -> usize {
        self.body.bytes.len()
    }

    fn command(&self, _: &DatabaseIdentity) -> Result<Command<'_>, ApiError> {
        let parts = EntryWriteParts {
            kind: self.kind,
            name: &self.name,
            query: &self.query,
            parameters: self.parameters,
            content_type: self.headers.content_type.as_deref(),
            naming: &self.headers.naming,
            conditions: &self.conditions,
            body: &self.body.bytes,
            max_value_bytes: self.max_value_bytes,
        };
        let (command, written) = parts.read()?;
        if let Some(written) = written {
            let _ = self.written.set(written); // a command is read once
        }
        Ok(command)
    }

    fn is_named(&self) -> bool {
        self.headers.naming.is_given()
    }

    fn check_forwardable(&self) -> Result<(), ApiError> {
        if self.name.is_empty() { Ok(()) } else { key::for_path(&self.name).map(drop) }
    }

    fn outgoing(&self) -> OutgoingWrite {
        // A path with dots or slashes in its key would not come through as it is.
        let path = self.path.as_str();
        let path = match key::for_path(&self.name) {
            Ok(key) => format!("{}{key}", path.strip_suffix(&self.name).unwrap_or(path)),
            Err(_) => path.to_owned(),
        };
        let mut fields = write_request::forwarded_headers(&self.headers);
        for (name, text) in
            [(header::IF_MATCH, &self.conditions.if_match), (header::IF_NONE_MATCH, &self.conditions.if_none_match)]
        {
            if let Some(text) = text {
                fields.insert(name, headers::value(text.clone()));
            }
        }
        let target = query::target(path, &self.query);
        let (method, body) = (self.method.clone(), self.body.bytes.clone());
        OutgoingWrite { method, target, headers: fields, body, patience: TRY_TIMEOUT }
    }
}

/// Carries out a write with a body.
pub(in crate::api::http) async fn with_body(request: RouteRequest, kind: EntryWriteKind) -> Result<Response, ApiError> {
    let (forwarded, headers, conditions) =
        (request.forwarded()?, request.write_headers()?, ConditionHeaders::of(&request)?);
    let RouteRequest { state, method, path, name, query, parameters, client, body, .. } = request;
    let max_value_bytes = state.settings.max_value_bytes;
    let max_body_bytes = if kind == EntryWriteKind::PutMany { MAX_ENTRIES_BODY_BYTES } else { max_value_bytes };
    let settings = HttpSettings { max_body_bytes, ..state.settings };
    let budget = (&state.budgets.uploads, &client.usage);
    // First of all the body: what is refused with a body on its way ends the connection.
    let body = body::read(body, headers.content_length.as_deref(), &settings, budget).await?;
    let written = Arc::default();
    let write = EntryRequest {
        kind,
        method,
        path,
        name,
        query,
        parameters,
        headers,
        conditions,
        body,
        max_value_bytes,
        written,
    };
    execute(&state, write, forwarded, &client.usage).await
}

/// Carries out a write without a body.
pub(in crate::api::http) async fn without_body(
    request: RouteRequest,
    kind: EntryWriteKind,
) -> Result<Response, ApiError> {
    let (forwarded, naming, conditions) = (request.forwarded()?, request.naming()?, ConditionHeaders::of(&request)?);
    let RouteRequest { state, method, path, name, query, parameters, client, .. } = request;
    let headers = WriteHeaders { naming, content_type: None, content_length: None };
    let (body, max_value_bytes, written) = (WholeBody::empty(), 0, Arc::default());
    let write = EntryRequest {
        kind,
        method,
        path,
        name,
        query,
        parameters,
        headers,
        conditions,
        body,
        max_value_bytes,
        written,
    };
    execute(&state, write, forwarded, &client.usage).await
}

async fn execute(
    state: &AppState,
    write: EntryRequest,
    forwarded: Option<String>,
    usage: &Usage,
) -> Result<Response, ApiError> {
    let (kind, written) = (write.kind, Arc::clone(&write.written));
    match state.service.execute(write, forwarded.as_deref(), usage).await? {
        WriteOutcome::Accepted(accepted) => answer(kind, written.get(), &accepted),
        WriteOutcome::FromLeader(answer) => Ok(writes::passed_back_as_sent(answer)),
    }
}

/// The 200 of a write.
fn answer(
    kind: EntryWriteKind,
    written: Option<&WrittenEntry>,
    accepted: &AcceptedWrite,
) -> Result<Response, ApiError> {
    // By the receipt, and so for a repeat as for the first request, whatever is there by now. Only the last write of a
    // stream is remembered: of a repeat of another it is not known what it has found.
    let WriteReceipt { entries, replayed, stream_last, .. } = accepted.receipt;
    if let EntryWriteKind::SetExpiry(kind) = kind
        && entries == 0
        && !(replayed && stream_last.is_some())
    {
        return Err(no_entry(kind, accepted.position(), None));
    }
    let mut body = Vec::with_capacity(256);
    if let Some(written) = written {
        written.write_receipt(accepted, &mut body);
    }
    let mut response = writes::accepted_with(body, accepted);
    *response.status_mut() = http::StatusCode::OK;
    if let Some(tag) = written.and_then(WrittenEntry::tag) {
        let tag = HeaderValue::try_from(format!("\"{tag}\"")).expect("digits and quotes");
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}
