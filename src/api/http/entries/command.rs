//! The writes of entries as commands, and the bodies of their answers: for the routes and the fast path alike.

use super::{
    super::{
        form,
        headers::{self, DedupHeaders},
        posts::document,
        query::{self, QueryString, RouteParameters},
        write_request,
    },
    key, many,
    media_type::stored_type,
    tags::{self, ConditionHeaders, TAG_DIGITS},
    ttl,
};
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        service::{AcceptedWrite, Command, EntryChanges, Operation},
    },
    data::entries::{CollectionKind, EntryOp, EntryWrite, Expiry, NewValue},
};
use bytes::Bytes;
use std::{borrow::Cow, io::Write};

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

/// A write of entries, in the parts of its request that it is read from.
pub(in crate::api::http) struct EntryWriteParts<'a> {
    pub(in crate::api::http) kind: EntryWriteKind,
    /// The key as it was sent in the path.
    pub(in crate::api::http) name: &'a str,
    pub(in crate::api::http) query: &'a str,
    pub(in crate::api::http) parameters: RouteParameters,
    pub(in crate::api::http) content_type: Option<&'a str>,
    pub(in crate::api::http) naming: &'a DedupHeaders,
    pub(in crate::api::http) conditions: &'a ConditionHeaders,
    pub(in crate::api::http) body: &'a Bytes,
    pub(in crate::api::http) max_value_bytes: usize,
}

impl<'a> EntryWriteParts<'a> {
    /// Reads the command, and the part of its answer that is known already.
    pub(in crate::api::http) fn read(&self) -> Result<(Command<'a>, Option<WrittenEntry>), ApiError> {
        let query = QueryString::of_addition(self.query, self.parameters)?;
        let once = self.naming.once(None)?;
        let changes = match self.kind {
            EntryWriteKind::PutValue => self.put_value(&query)?,
            EntryWriteKind::PutMany => self.put_many()?,
            EntryWriteKind::SetExpiry(kind) => self.expiry_change(kind, &query)?,
            EntryWriteKind::Remove(kind) => self.removal(kind)?,
            EntryWriteKind::PutPost => {
                let document = document::put(self.body, self.content_type, &query.entries)?;
                self.change(CollectionKind::Posts, &key::of_path(self.name)?, document.op, document.text)?
            }
            EntryWriteKind::CreatePost => {
                let (id, document) = document::create(self.body, self.content_type, &query.entries)?;
                self.change(CollectionKind::Posts, &id, document.op, document.text)?
            }
        };
        let written = WrittenEntry::of(self.kind, &changes.writes);
        let (namespace, level) = (query.namespace, query.ack);
        Ok((Command { namespace, operation: Operation::ChangeEntries(changes), once, level }, written))
    }

    /// The one change of an entry under a key, on the condition that the headers state.
    fn change<'t>(
        &self,
        kind: CollectionKind,
        key: &str,
        op: EntryOp,
        text: Cow<'t, str>,
    ) -> Result<EntryChanges<'t>, ApiError> {
        let write = EntryWrite { kind, key: key.into(), op, condition: self.conditions.condition()? };
        Ok(EntryChanges { writes: vec![write], text, is_post: false })
    }

    fn put_value(&self, query: &QueryString<'_>) -> Result<EntryChanges<'static>, ApiError> {
        let key = key::of_path(self.name)?;
        let content_type = stored_type(self.content_type)?;
        let value = NewValue::new(self.body.clone(), content_type);
        let expiry = ttl::of_query(query.entries.ttl.as_deref())?;
        self.change(CollectionKind::Cache, &key, EntryOp::Put(value, expiry), Cow::Borrowed(""))
    }

    fn put_many(&self) -> Result<EntryChanges<'static>, ApiError> {
        self.conditions.check_none()?;
        write_request::check_json(self.content_type)?;
        let writes = many::read(form::utf8(self.body)?, self.max_value_bytes)?;
        Ok(EntryChanges { writes, text: Cow::Borrowed(""), is_post: false })
    }

    fn expiry_change(&self, kind: CollectionKind, query: &QueryString<'_>) -> Result<EntryChanges<'static>, ApiError> {
        // Nobody is told that a value was stored which was not even read.
        if !self.body.is_empty() {
            let detail = "PATCH sets the time to live alone and takes no body; PUT stores a value";
            return Err(ApiError::new(ErrorKind::InvalidBody, detail));
        }
        let Some(ttl) = query.entries.ttl.as_deref() else {
            return Err(query::invalid("give the time to live: PATCH with ?ttl=SECONDS, 0 for ever"));
        };
        let op = EntryOp::SetExpiry(ttl::of_query(Some(ttl))?);
        self.change(kind, &key::of_path(self.name)?, op, Cow::Borrowed(""))
    }

    fn removal(&self, kind: CollectionKind) -> Result<EntryChanges<'static>, ApiError> {
        self.change(kind, &key::of_path(self.name)?, EntryOp::Remove, Cow::Borrowed(""))
    }
}

/// The part of an answer that the receipt does not know.
#[derive(Debug)]
pub(in crate::api::http) struct WrittenEntry {
    kind: EntryWriteKind,
    key: String,
    tag: [u8; TAG_DIGITS],
    expiry: Expiry,
    /// Entries that the request names.
    entries: usize,
}

impl WrittenEntry {
    fn of(kind: EntryWriteKind, writes: &[EntryWrite]) -> Option<Self> {
        let first = writes.first()?;
        let (tag, expiry) = match &first.op {
            EntryOp::Put(value, expiry) if writes.len() == 1 => (tags::of_hash(&value.hash()), *expiry),
            EntryOp::SetExpiry(expiry) => ([0; TAG_DIGITS], *expiry),
            _ => ([0; TAG_DIGITS], Expiry::Never),
        };
        Some(Self { kind, key: first.key.clone().into(), tag, expiry, entries: writes.len() })
    }

    /// The tag of the value, without quotes, where the answer has it in its head.
    pub(in crate::api::http) fn tag(&self) -> Option<&str> {
        use EntryWriteKind::{CreatePost, PutPost, PutValue};
        matches!(self.kind, PutValue | PutPost | CreatePost).then(|| tags::as_text(&self.tag))
    }

    /// Writes the body of the answer.
    pub(in crate::api::http) fn write_receipt(&self, accepted: &AcceptedWrite, body: &mut Vec<u8>) {
        self.write_members(accepted, body).expect("a Vec takes every byte");
    }

    fn write_members(&self, accepted: &AcceptedWrite, body: &mut Vec<u8>) -> std::io::Result<()> {
        let (receipt, tag) = (&accepted.receipt, tags::as_text(&self.tag));
        match self.kind {
            EntryWriteKind::PutValue => {
                body.extend_from_slice(br#"{"key":"#);
                headers::write_json_string(body, &self.key);
                write!(body, r#","etag":"{tag}""#)?;
            }
            EntryWriteKind::PutMany => write!(body, r#"{{"entries":{}"#, self.entries)?,
            EntryWriteKind::SetExpiry(kind) => {
                let name: &[u8] = if kind == CollectionKind::Posts { b"id" } else { b"key" };
                body.extend_from_slice(&[br#"{""#, name, br#"":"#].concat());
                headers::write_json_string(body, &self.key);
            }
            EntryWriteKind::Remove(_) => write!(body, r#"{{"deleted":{}"#, receipt.entries)?,
            EntryWriteKind::PutPost => {
                body.extend_from_slice(br#"{"id":"#);
                headers::write_json_string(body, &self.key);
                write!(body, r#","etag":"{tag}""#)?;
            }
            EntryWriteKind::CreatePost => {
                body.extend_from_slice(br#"{"status":"success","post_id":"#);
                headers::write_json_string(body, &self.key);
                write!(body, r#","hash":"{tag}""#)?;
            }
        }
        if matches!(self.kind, EntryWriteKind::PutPost | EntryWriteKind::CreatePost) {
            let (words, distinct, left_out) = (receipt.words, receipt.distinct, receipt.left_out);
            write!(body, r#","words":{words},"distinct":{distinct},"left_out":{left_out}"#)?;
        }
        if !matches!(self.kind, EntryWriteKind::PutMany | EntryWriteKind::Remove(_)) {
            ttl::write_member(ttl::given_ms(self.expiry), body);
        }
        write!(body, r#","acks":{},"position":"#, receipt.acks)?;
        headers::write_position(accepted.position(), body);
        if let Some(last) = receipt.stream_last {
            write!(body, r#","stream_last":{last}"#)?;
        }
        body.extend_from_slice(b"}\n");
        Ok(())
    }
}
