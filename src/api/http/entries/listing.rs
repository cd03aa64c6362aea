//! Several entries in one answer: those that are named, all at one position, and pages of those there are.

use super::{
    super::{
        headers,
        query::{self, QueryString},
        reads,
    },
    key,
    read::EntryRead,
    tags, ttl,
};
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        service::{self, EntriesOf, EntryListing, QueryReply, ReadQuery as _, no_word},
    },
    base::clock::LoggedTime,
    base::limits::{DEFAULT_PAGE_ENTRIES, MAX_ENTRIES_BYTES, MAX_ENTRIES_PER_REQUEST},
    data::entries::{CollectionId, CollectionKind, Entry},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::{borrow::Cow, io::Write};
use warp::reply::Response;

/// The entries of the keys in a query, in their order, each once.
pub(in crate::api::http) async fn named(
    read: &EntryRead,
    query: QueryString<'_>,
    kind: CollectionKind,
) -> Result<Response, ApiError> {
    let service = &read.state.service;
    let QueryString { namespace, entries, after, .. } = query;
    if entries.prefix.is_some() || after.is_some() || entries.limit.is_some() {
        return Err(query::invalid("name keys, or a page of them by prefix, after and limit; not both"));
    }
    let keys = reads::distinct(entries.keys);
    for key in &keys {
        key::check(key).map_err(query::invalid)?;
    }
    let wanted = EntriesOf { collection: CollectionId::new(kind, &namespace), keys: &keys };
    let QueryReply { answer, position, lag_ms } = service.query(wanted, read.min_position()?, &read.usage).await?;
    let now = service.logged_time();
    let found: Vec<_> = answer.into_iter().map(|entry| entry.filter(|entry| !entry.has_expired(now))).collect();
    let hits = found.iter().flatten().count();
    service.metrics.entries_read(hits as u64, (found.len() - hits) as u64);
    let bytes: usize = found.iter().flatten().map(Entry::raw_bytes).sum();
    if bytes > MAX_ENTRIES_BYTES && keys.len() > 1 {
        let detail =
            format!("the values have {bytes} bytes, and one answer holds {MAX_ENTRIES_BYTES}; ask for fewer keys");
        return Err(ApiError::new(ErrorKind::InvalidParameter, detail));
    }
    let body = if bytes <= service::INLINE_TEXT_BYTES {
        named_body(&keys, &found, now)
    } else {
        let keys: Vec<_> = keys.into_iter().map(Cow::into_owned).collect();
        service::beside(&read.usage, move || Ok(named_body(&keys, &found, now))).await?
    };
    Ok(headers::read_answer(body, position, lag_ms, read.if_none_match()))
}

/// The JSON of entries that were asked for by their keys.
fn named_body(keys: &[impl AsRef<str>], found: &[Option<Entry>], now: LoggedTime) -> Vec<u8> {
    let bytes: usize = found.iter().flatten().map(Entry::raw_bytes).sum();
    let mut body = Vec::with_capacity(bytes + 64 * found.len());
    for (at, (key, entry)) in keys.iter().zip(found).enumerate() {
        body.extend_from_slice(if at == 0 { br#"{"entries":[{"key":"# } else { br#",{"key":"#.as_slice() });
        headers::write_json_string(&mut body, key.as_ref());
        write!(body, r#","found":{}"#, entry.is_some()).expect("a Vec takes every byte");
        if let Some(entry) = entry {
            write_about(entry, now, &mut body);
            write_value(entry, &mut body);
        }
        body.push(b'}');
    }
    body.extend_from_slice(b"]}\n");
    body
}

/// A page of the entries of a collection.
pub(in crate::api::http) async fn page(
    read: &EntryRead,
    query: QueryString<'_>,
    kind: CollectionKind,
) -> Result<Response, ApiError> {
    let service = &read.state.service;
    let QueryString { namespace, entries, after, .. } = query;
    let (namespace, prefix) = (namespace.into_owned(), entries.prefix.unwrap_or_default().into_owned());
    let (after, limit) = (after.map(|after| after.into_owned()), limit(entries.limit.as_deref())?);
    let lag_ms = service.wait_for(read.min_position()?, &read.usage).await?;
    let (current, now) = (service.current()?, service.logged_time());
    // A prefix that few keys have is looked for in all of them: not on a thread that serves others meanwhile.
    let walk = move || {
        let collection = CollectionId::new(kind, &namespace);
        let listing = EntryListing { collection, prefix: &prefix, after: after.as_deref(), limit, now };
        listing.answer(&current).ok_or_else(|| no_word(ErrorKind::InvalidParameter))
    };
    let (page, position) = service::beside(&read.usage, walk).await?;
    let (list, name) = if kind == CollectionKind::Posts { ("posts", "id") } else { ("keys", "key") };
    let mut body = Vec::with_capacity(64 + 160 * page.entries.len());
    write!(body, r#"{{"{list}":["#).expect("a Vec takes every byte");
    for (at, entry) in page.entries.iter().enumerate() {
        write!(body, r#"{}{{"{name}":"#, if at == 0 { "" } else { "," }).expect("a Vec takes every byte");
        headers::write_json_string(&mut body, entry.key());
        write!(body, r#","bytes":{}"#, entry.raw_bytes()).expect("a Vec takes every byte");
        write_about(entry, now, &mut body);
        body.push(b'}');
    }
    body.extend_from_slice(br#"],"next":"#);
    match &page.next {
        Some(next) => headers::write_json_string(&mut body, next),
        None => body.extend_from_slice(b"null"),
    }
    body.extend_from_slice(b"}\n");
    Ok(headers::read_answer(body, position, lag_ms, read.if_none_match()))
}

fn limit(given: Option<&str>) -> Result<usize, ApiError> {
    match given.map(str::parse::<usize>) {
        None => Ok(DEFAULT_PAGE_ENTRIES),
        Some(Ok(limit)) if (1..=MAX_ENTRIES_PER_REQUEST).contains(&limit) => Ok(limit),
        Some(_) => Err(query::invalid(format!("limit is a whole number from 1 to {MAX_ENTRIES_PER_REQUEST}"))),
    }
}

/// Writes the members that tell of an entry without its value.
pub(in crate::api::http) fn write_about(entry: &Entry, now: LoggedTime, body: &mut Vec<u8>) {
    body.extend_from_slice(br#","content_type":"#);
    match entry.content_type() {
        "" => body.extend_from_slice(b"null"),
        given => headers::write_json_string(body, given),
    }
    body.extend_from_slice(br#","etag":""#);
    body.extend_from_slice(&tags::of_hash(&entry.hash()));
    body.push(b'"');
    ttl::write_member(ttl::left_ms(entry, now), body);
    if entry.is_counted() {
        body.extend_from_slice(br#","counted":true"#);
    }
}

/// Writes the value: as a text if it is one, in Base64 else.
pub(in crate::api::http) fn write_value(entry: &Entry, body: &mut Vec<u8>) {
    let value = entry.value();
    match str::from_utf8(&value) {
        Ok(text) => {
            body.extend_from_slice(br#","value":"#);
            headers::write_json_string(body, text);
        }
        Err(_) => {
            body.extend_from_slice(br#","base64":""#);
            body.extend_from_slice(BASE64.encode(&value).as_bytes());
            body.push(b'"');
        }
    }
}
