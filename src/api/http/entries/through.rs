//! The reads that go through to the origin: `GET /data/{id}`, and `GET /cache/{key}?through=1`.

use super::{
    super::{
        headers,
        query::{self, QueryString},
        request::RouteRequest,
        writes,
    },
    key,
    read::EntryRead,
};
use crate::{
    api::{
        error::{ApiError, BEHIND_A_PROXY, ErrorKind},
        service::{ThroughAnswer, ThroughRead},
    },
    net::budget::BudgetRefusal,
    net::write_forwarder::{OutgoingWrite, TRY_TIMEOUT, WriteForwarder},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use std::{borrow::Cow, sync::Arc};
use warp::reply::Response;

/// The namespace of what `GET /data/{id}` reads: a collection of the cache, whose entries `DELETE /cache/{id}?ns=data`
/// takes away.
pub(in crate::api::http) const DATA_NAMESPACE: &str = "data";

/// Returns whether a read of an entry goes through to the origin.
pub(in crate::api::http) fn is_wanted(query: &QueryString<'_>) -> Result<bool, ApiError> {
    query::switch("through", query.entries.through.as_deref(), false)
}

/// `GET /data/{id}`.
pub(in crate::api::http) async fn data(request: RouteRequest) -> Result<Response, ApiError> {
    request.parse_query()?;
    let target = format!("/data/{}", key::for_path(&request.name)?);
    through(request, Cow::Borrowed(DATA_NAMESPACE), target).await
}

/// `GET /cache/{key}?through=1`.
pub(super) async fn cached(request: RouteRequest) -> Result<Response, ApiError> {
    let namespace = request.parse_query()?.namespace.into_owned();
    query::check_can_be_named(&namespace)?;
    let target = format!("/cache/{}?ns={namespace}&through=1", key::for_path(&request.name)?);
    through(request, Cow::Owned(namespace), target).await
}

/// `target`: the path and query by which the leader is asked.
async fn through(request: RouteRequest, namespace: Cow<'_, str>, target: String) -> Result<Response, ApiError> {
    let stated = request.forwarded()?;
    let read = EntryRead::new(request)?;
    let key = key::of_path(&read.name)?;
    let (namespace, stated) = (&*namespace, stated.as_deref());
    let wanted = ThroughRead { namespace, key: &key, min_position: read.min_position()?, stated };
    let mut fields = HeaderMap::new();
    if let Some(known) = read.if_none_match() {
        fields.insert(header::IF_NONE_MATCH, headers::value(known.to_owned()));
    }
    let question =
        OutgoingWrite { method: Method::GET, target, headers: fields, body: Bytes::new(), patience: TRY_TIMEOUT };
    let metrics = Arc::clone(&read.state.service.metrics);
    // It changes nothing, so it needs no key to be sent again.
    // Of one address, half of those that may wait: a client that asks for ever new keys leaves room for others.
    let _waiting = read.state.budgets.origin_reads.take(&read.usage, 1).map_err(too_many)?;
    let ask_leader =
        move |leader: WriteForwarder| async move { leader.write(&question, None, &metrics.forwarded).await };
    match read.state.service.read_through(wanted, &read.usage, ask_leader).await? {
        ThroughAnswer::FromLeader(answer) => Ok(writes::passed_back(answer)),
        ThroughAnswer::Here(value) => {
            let mut response = read.found(value.entry, (value.position, value.lag_ms)).await?;
            if let Some(stale_since_ms) = value.stale_since_ms {
                let fields = response.headers_mut();
                fields.insert(&headers::MEMDB_STALE, HeaderValue::from(stale_since_ms.div_ceil(1_000)));
            }
            Ok(response)
        }
    }
}

fn too_many(exhausted: BudgetRefusal) -> ApiError {
    let detail = match exhausted {
        BudgetRefusal::All => "as many values are fetched, or waited for, as may be; ask again".to_owned(),
        BudgetRefusal::Address { share, .. } => format!(
            "{share} reads of this address wait for values of the origin already, its share; ask again; {BEHIND_A_PROXY}"
        ),
    };
    ApiError::new(ErrorKind::OriginBusy, detail)
}
