//! A read of entries as the routes see it, and the answer with one entry.

use super::{
    super::{
        coding::ContentCoding,
        headers,
        query::{QueryString, RouteParameters},
        reads,
        request::{ReadHeaders, RouteRequest},
        state::AppState,
    },
    answer::FoundEntry,
};
use crate::{
    api::{
        error::ApiError,
        service::{self, EntryOf, QueryReply, no_entry},
    },
    base::position::PositionToken,
    data::entries::{CollectionId, CollectionKind, Entry},
    net::address_limits::Usage,
};
use std::sync::Arc;
use tokio::time::Instant;
use warp::reply::Response;

/// A request without its body, which no read has.
pub(in crate::api::http) struct EntryRead {
    pub(in crate::api::http) state: Arc<AppState>,
    /// The key as it was sent in the path.
    pub(in crate::api::http) name: String,
    query: String,
    parameters: RouteParameters,
    headers: ReadHeaders,
    coding: Option<ContentCoding>,
    pub(in crate::api::http) usage: Usage,
}

impl EntryRead {
    pub(in crate::api::http) fn new(request: RouteRequest) -> Result<Self, ApiError> {
        let if_none_match = request.header_list("if-none-match")?;
        let (headers, coding) = (ReadHeaders { if_none_match, ..request.read_headers()? }, request.wanted_coding());
        let RouteRequest { state, name, query, parameters, client, .. } = request;
        Ok(Self { state, name, query, parameters, headers, coding, usage: client.usage })
    }

    pub(in crate::api::http) fn parse_query(&self) -> Result<QueryString<'_>, ApiError> {
        QueryString::parse(&self.query, self.parameters)
    }

    pub(super) fn min_position(&self) -> Result<Option<PositionToken>, ApiError> {
        reads::min_position(&self.headers)
    }

    pub(super) fn if_none_match(&self) -> Option<&str> {
        self.headers.if_none_match.as_deref()
    }

    /// The answer with one entry.
    pub(in crate::api::http) async fn one(
        &self,
        namespace: &str,
        kind: CollectionKind,
        key: &str,
    ) -> Result<Response, ApiError> {
        let service = &self.state.service;
        let wanted = EntryOf { collection: CollectionId::new(kind, namespace), key };
        let QueryReply { answer, position, lag_ms } = service.query(wanted, self.min_position()?, &self.usage).await?;
        let answer = answer.filter(|entry| !service.has_expired(entry));
        let (hits, misses) = if answer.is_some() { (1, 0) } else { (0, 1) };
        service.metrics.entries_read(hits, misses);
        let Some(entry) = answer else { return Err(no_entry(kind, position, lag_ms)) };
        self.found(entry, (position, lag_ms)).await
    }

    /// The answer with an entry that was found.
    pub(super) async fn found(
        &self,
        entry: Entry,
        (position, lag_ms): (PositionToken, Option<u64>),
    ) -> Result<Response, ApiError> {
        let found = FoundEntry::new(&entry, (position, lag_ms), self.if_none_match(), || self.coding);
        if !found.takes_long() {
            return Ok(found.into_response());
        }
        // The client does not have it, and takes it as it is.
        let answer = move || Ok(FoundEntry::new(&entry, (position, lag_ms), None, || None).into_response());
        service::beside(&self.usage, answer).await
    }
}

/// The same answer with the time that it took, in nanoseconds.
pub(in crate::api::http) fn timed(
    mut answer: Result<Response, ApiError>,
    begun: Instant,
) -> Result<Response, ApiError> {
    if let Ok(response) = &mut answer {
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        response.headers_mut().insert(&headers::RESPONSE_TIME, took.into());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::test_support, listing},
        *,
    };
    use crate::{
        data::entries::hash_of,
        data::record::{EntryValue, ValueEncoding},
    };
    use futures::{FutureExt, poll};
    use http_body_util::BodyExt;
    use std::sync::mpsc;

    #[test]
    fn large_values_are_decompressed_beside_the_serving_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build();
        let raw = vec![b'a'; service::INLINE_TEXT_BYTES + 1];
        let (hash, frame) = (hash_of(&raw), zstd::bulk::compress(&raw, 1).expect("it fits memory"));
        let value = EntryValue {
            content_type: "",
            expires: None,
            counted: false,
            encoding: ValueEncoding::Zstd,
            raw_bytes: raw.len() as u32,
            hash: &hash,
            bytes: &frame,
        };
        let collection = CollectionId::new(CollectionKind::Cache, "words");
        let read = |query: &str, coding| EntryRead {
            state: Arc::new(test_support::state_with(&[(collection, "large", value)])),
            name: String::new(),
            query: query.to_owned(),
            parameters: RouteParameters::ENTRIES,
            headers: ReadHeaders { min_position: None, if_none_match: None },
            coding,
            usage: Usage::default(),
        };
        let (plain, encoded) = (read("key=large", None), read("", Some(ContentCoding::Zstd)));
        runtime.expect("a runtime").block_on(async {
            let (release, busy) = mpsc::sync_channel::<()>(1);
            let _busy = tokio::task::spawn_blocking(move || busy.recv());
            let as_it_is = encoded.one("words", CollectionKind::Cache, "large").now_or_never();
            assert!(as_it_is.expect("nothing to decompress").is_ok());
            let mut one = Box::pin(plain.one("words", CollectionKind::Cache, "large"));
            let query = plain.parse_query().expect("sound");
            let mut named = Box::pin(listing::named(&plain, query, CollectionKind::Cache));
            assert!(poll!(&mut one).is_pending() && poll!(&mut named).is_pending(), "the thread for it is busy");
            drop(release);
            for answer in [one.await, named.await] {
                let body = answer.expect("it is there").into_body().collect().await.expect("whole").to_bytes();
                assert!(body.len() >= raw.len());
            }
        });
    }
}
