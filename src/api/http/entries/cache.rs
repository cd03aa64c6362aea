//! The routes of a cache: values of any bytes under keys, most of them for a time.

use super::{super::request::RouteRequest, command::EntryWriteKind, key, listing, read::EntryRead, through, write};
use crate::{api::error::ApiError, data::entries::CollectionKind};
use warp::reply::Response;

/// `PUT /cache/{key}`: stores a value.
pub(in crate::api::http) async fn put(request: RouteRequest) -> Result<Response, ApiError> {
    write::with_body(request, EntryWriteKind::PutValue).await
}

/// `PATCH /cache/{key}`: sets the expiry alone.
pub(in crate::api::http) async fn set_expiry(request: RouteRequest) -> Result<Response, ApiError> {
    write::with_body(request, EntryWriteKind::SetExpiry(CollectionKind::Cache)).await
}

/// `DELETE /cache/{key}`: takes an entry away.
pub(in crate::api::http) async fn remove(request: RouteRequest) -> Result<Response, ApiError> {
    write::without_body(request, EntryWriteKind::Remove(CollectionKind::Cache)).await
}

/// `POST /cache`: stores many values in one record.
pub(in crate::api::http) async fn put_many(request: RouteRequest) -> Result<Response, ApiError> {
    write::with_body(request, EntryWriteKind::PutMany).await
}

/// `GET /cache/{key}`: the value as it came, from the origin with `?through=1` and if nobody has it.
pub(in crate::api::http) async fn get(request: RouteRequest) -> Result<Response, ApiError> {
    if through::is_wanted(&request.parse_query()?)? {
        return through::cached(request).await;
    }
    let read = EntryRead::new(request)?;
    let query = read.parse_query()?;
    read.one(&query.namespace, CollectionKind::Cache, &key::of_path(&read.name)?).await
}

/// `GET /cache`: the entries that are named, all at one position, or a page of keys.
pub(in crate::api::http) async fn list(request: RouteRequest) -> Result<Response, ApiError> {
    let read = EntryRead::new(request)?;
    let query = read.parse_query()?;
    match query.entries.keys.is_empty() {
        true => listing::page(&read, query, CollectionKind::Cache).await,
        false => listing::named(&read, query, CollectionKind::Cache).await,
    }
}
