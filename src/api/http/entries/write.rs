//! A write of entries that came over HTTP: read into a command where it is applied, sent on as it came elsewhere, and
//! answered.

use super::{
    super::{
        body::{self, WholeBody},
        form, headers,
        posts::document,
        query::{self, QueryString, RouteParameters},
        request::{RouteRequest, WriteHeaders},
        settings::HttpSettings,
        state::AppState,
        write_request, writes,
    },
    key, many,
    media_type::stored_type,
    tags::{self, ConditionHeaders, TAG_DIGITS},
    ttl,
};
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        service::{
            AcceptedWrite, Command, EntryChanges, LeaderAnswer, Operation, WriteOutcome, WriteRequest, no_entry,
        },
    },
    base::limits::MAX_ENTRIES_BODY_BYTES,
    data::entries::{CollectionKind, EntryOp, EntryWrite, Expiry, NewValue},
    engine::leader::WriteReceipt,
    net::address_limits::Usage,
    net::write_forwarder::{ForwardError, ForwardedAnswer, WriteForwarder},
    storage::file_header::DatabaseIdentity,
};
use http::{HeaderValue, Method, header};
use std::{
    borrow::Cow,
    io::Write,
    sync::{Arc, OnceLock},
};
use warp::{path::FullPath, reply::Response};

/// The change that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api::http) enum EntryWriteKind {
    /// `PUT /cache/{key}`.
    PutValue,
    /// `POST /cache`.
    PutMany,
    /// `PATCH /cache/{key}`, `PATCH /posts/{id}`.
    SetExpiry(CollectionKind),
    /// `DELETE /cache/{key}`, `DELETE /posts/{id}`.
    Remove(CollectionKind),
    /// `PUT /posts/{id}`.
    PutPost,
    /// `POST /create`.
    CreatePost,
}

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

/// The part of an answer that the receipt does not know.
struct WrittenEntry {
    key: String,
    tag: [u8; TAG_DIGITS],
    expiry: Expiry,
    /// Entries that the request names.
    entries: usize,
}

impl WriteRequest for EntryRequest {
    fn size(&self) -> usize {
        self.body.bytes.len()
    }

    fn command(&self, _: &DatabaseIdentity) -> Result<Command<'_>, ApiError> {
        let query = QueryString::of_addition(&self.query, self.parameters)?;
        let once = self.headers.naming.once(None)?;
        let content_type = self.headers.content_type.as_deref();
        let changes = match self.kind {
            EntryWriteKind::PutValue => self.put_value(&query)?,
            EntryWriteKind::PutMany => self.put_many()?,
            EntryWriteKind::SetExpiry(kind) => self.expiry_change(kind, &query)?,
            EntryWriteKind::Remove(kind) => self.removal(kind)?,
            EntryWriteKind::PutPost => {
                let document = document::put(&self.body.bytes, content_type, &query.entries)?;
                self.change(CollectionKind::Posts, &key::of_path(&self.name)?, document.op, document.text)?
            }
            EntryWriteKind::CreatePost => {
                let (id, document) = document::create(&self.body.bytes, content_type, &query.entries)?;
                self.change(CollectionKind::Posts, &id, document.op, document.text)?
            }
        };
        self.note(&changes.writes);
        let (namespace, level) = (query.namespace, query.ack);
        Ok(Command { namespace, operation: Operation::ChangeEntries(changes), once, level })
    }

    fn is_named(&self) -> bool {
        self.headers.naming.is_given()
    }

    fn check_forwardable(&self) -> Result<(), ApiError> {
        if self.name.is_empty() { Ok(()) } else { key::for_path(&self.name).map(drop) }
    }

    async fn send(&self, leader: &WriteForwarder, made_key: Option<&str>) -> Result<ForwardedAnswer, ForwardError> {
        // A path with dots or slashes in its key would not come through as it is.
        let path = self.path.as_str();
        let path = match key::for_path(&self.name) {
            Ok(key) => format!("{}{key}", path.strip_suffix(&self.name).unwrap_or(path)),
            Err(_) => path.to_owned(),
        };
        let mut fields = write_request::forwarded_headers(&self.headers, made_key);
        for (name, text) in
            [(header::IF_MATCH, &self.conditions.if_match), (header::IF_NONE_MATCH, &self.conditions.if_none_match)]
        {
            if let Some(text) = text {
                fields.insert(name, headers::value(text.clone()));
            }
        }
        let target = if self.query.is_empty() { path } else { format!("{path}?{}", self.query) };
        leader.write(&self.method, &target, &fields, &self.body.bytes).await
    }
}

impl EntryRequest {
    /// The one change of an entry under a key, on the condition that the headers state.
    fn change<'a>(
        &self,
        kind: CollectionKind,
        key: &str,
        op: EntryOp,
        text: Cow<'a, str>,
    ) -> Result<EntryChanges<'a>, ApiError> {
        let write = EntryWrite { kind, key: key.into(), op, condition: self.conditions.condition()? };
        Ok(EntryChanges { writes: vec![write], text })
    }

    fn put_value(&self, query: &QueryString<'_>) -> Result<EntryChanges<'static>, ApiError> {
        let key = key::of_path(&self.name)?;
        let content_type = stored_type(self.headers.content_type.as_deref())?;
        let value = NewValue::new(self.body.bytes.clone(), content_type);
        let expiry = ttl::of_query(query.entries.ttl.as_deref())?;
        self.change(CollectionKind::Cache, &key, EntryOp::Put(value, expiry), Cow::Borrowed(""))
    }

    fn put_many(&self) -> Result<EntryChanges<'static>, ApiError> {
        self.conditions.check_none()?;
        write_request::check_json(self.headers.content_type.as_deref())?;
        let writes = many::read(form::utf8(&self.body.bytes)?, self.max_value_bytes)?;
        Ok(EntryChanges { writes, text: Cow::Borrowed("") })
    }

    fn expiry_change(&self, kind: CollectionKind, query: &QueryString<'_>) -> Result<EntryChanges<'static>, ApiError> {
        // Nobody is told that a value was stored which was not even read.
        if !self.body.bytes.is_empty() {
            let detail = "PATCH sets the time to live alone and takes no body; PUT stores a value";
            return Err(ApiError::new(ErrorKind::InvalidBody, detail));
        }
        let Some(ttl) = query.entries.ttl.as_deref() else {
            return Err(query::invalid("give the time to live: PATCH with ?ttl=SECONDS, 0 for ever"));
        };
        let op = EntryOp::SetExpiry(ttl::of_query(Some(ttl))?);
        self.change(kind, &key::of_path(&self.name)?, op, Cow::Borrowed(""))
    }

    fn removal(&self, kind: CollectionKind) -> Result<EntryChanges<'static>, ApiError> {
        self.change(kind, &key::of_path(&self.name)?, EntryOp::Remove, Cow::Borrowed(""))
    }

    fn note(&self, writes: &[EntryWrite]) {
        let Some(first) = writes.first() else { return };
        let (tag, expiry) = match &first.op {
            EntryOp::Put(value, expiry) if writes.len() == 1 => (tags::of_hash(&value.hash()), *expiry),
            EntryOp::SetExpiry(expiry) => ([0; TAG_DIGITS], *expiry),
            _ => ([0; TAG_DIGITS], Expiry::Never),
        };
        let written = WrittenEntry { key: first.key.clone().into(), tag, expiry, entries: writes.len() };
        let _ = self.written.set(written); // a command is read once
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
        WriteOutcome::FromLeader(LeaderAnswer { mut answer, under_made_key }) => {
            if under_made_key {
                // A repeat of what was sent from here a moment ago: the client has sent it once.
                answer.headers.remove(&headers::MEMDB_REPLAYED);
            }
            Ok(writes::passed_back(LeaderAnswer { answer, under_made_key }))
        }
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
        write_body(kind, written, accepted, &mut body).expect("a Vec takes every byte");
    }
    let mut response = writes::accepted_with(body, accepted);
    *response.status_mut() = http::StatusCode::OK;
    let is_put = matches!(kind, EntryWriteKind::PutValue | EntryWriteKind::PutPost | EntryWriteKind::CreatePost);
    if let Some(written) = written.filter(|_| is_put) {
        let tag = HeaderValue::try_from(format!("\"{}\"", tags::as_text(&written.tag))).expect("digits and quotes");
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

fn write_body(
    kind: EntryWriteKind,
    written: &WrittenEntry,
    accepted: &AcceptedWrite,
    body: &mut Vec<u8>,
) -> std::io::Result<()> {
    let (receipt, tag) = (&accepted.receipt, tags::as_text(&written.tag));
    match kind {
        EntryWriteKind::PutValue => {
            body.extend_from_slice(br#"{"key":"#);
            headers::write_json_string(body, &written.key);
            write!(body, r#","etag":"{tag}""#)?;
        }
        EntryWriteKind::PutMany => write!(body, r#"{{"entries":{}"#, written.entries)?,
        EntryWriteKind::SetExpiry(kind) => {
            let name: &[u8] = if kind == CollectionKind::Posts { b"id" } else { b"key" };
            body.extend_from_slice(&[br#"{""#, name, br#"":"#].concat());
            headers::write_json_string(body, &written.key);
        }
        EntryWriteKind::Remove(_) => write!(body, r#"{{"deleted":{}"#, receipt.entries)?,
        EntryWriteKind::PutPost => {
            body.extend_from_slice(br#"{"id":"#);
            headers::write_json_string(body, &written.key);
            write!(body, r#","etag":"{tag}""#)?;
        }
        EntryWriteKind::CreatePost => {
            body.extend_from_slice(br#"{"status":"success","post_id":"#);
            headers::write_json_string(body, &written.key);
            write!(body, r#","hash":"{tag}""#)?;
        }
    }
    if matches!(kind, EntryWriteKind::PutPost | EntryWriteKind::CreatePost) {
        let (words, distinct, left_out) = (receipt.words, receipt.distinct, receipt.left_out);
        write!(body, r#","words":{words},"distinct":{distinct},"left_out":{left_out}"#)?;
    }
    if !matches!(kind, EntryWriteKind::PutMany | EntryWriteKind::Remove(_)) {
        ttl::write_member(ttl::given_ms(written.expiry), body);
    }
    write!(body, r#","acks":{},"position":"#, receipt.acks)?;
    headers::write_position(accepted.position(), body);
    if let Some(last) = receipt.stream_last {
        write!(body, r#","stream_last":{last}"#)?;
    }
    body.extend_from_slice(b"}\n");
    Ok(())
}
