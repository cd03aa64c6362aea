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
        service::{EntryOf, QueryReply, no_entry},
    },
    base::position::PositionToken,
    data::entries::{CollectionId, CollectionKind},
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
        let found = FoundEntry::new(&entry, (position, lag_ms), self.if_none_match(), || self.coding);
        Ok(found.into_response())
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
