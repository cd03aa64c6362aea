//! Posts over HTTP: documents that are served as they came, and whose words are counted (`document`).

pub(super) mod document;

use super::{
    entries::{
        command::EntryWriteKind,
        key, listing,
        read::{self, EntryRead},
        write,
    },
    query,
    request::RouteRequest,
};
use crate::{api::error::ApiError, data::entries::CollectionKind};
use tokio::time::Instant;
use warp::reply::Response;

/// `POST /create`: stores a JSON document under its own id.
pub(super) async fn post_create(request: RouteRequest) -> Result<Response, ApiError> {
    write::with_body(request, EntryWriteKind::CreatePost).await
}

/// `PUT /posts/{id}`: stores a document.
pub(super) async fn put_post(request: RouteRequest) -> Result<Response, ApiError> {
    write::with_body(request, EntryWriteKind::PutPost).await
}

/// `PATCH /posts/{id}`: sets the expiry alone.
pub(super) async fn set_expiry(request: RouteRequest) -> Result<Response, ApiError> {
    write::with_body(request, EntryWriteKind::SetExpiry(CollectionKind::Posts)).await
}

/// `DELETE /posts/{id}`: takes a post away, and its words back.
pub(super) async fn remove(request: RouteRequest) -> Result<Response, ApiError> {
    write::without_body(request, EntryWriteKind::Remove(CollectionKind::Posts)).await
}

/// `GET /post?id=`: the document as it came, and the time that the answer took.
pub(super) async fn get(request: RouteRequest) -> Result<Response, ApiError> {
    let begun = Instant::now();
    let read = EntryRead::new(request)?;
    let query = read.parse_query()?;
    let Some(id) = query.entries.id.as_deref().filter(|id| !id.is_empty()) else {
        return Err(query::invalid("name a post: GET /post?id=ID"));
    };
    key::check(id).map_err(query::invalid)?;
    read::timed(read.one(&query.namespace, CollectionKind::Posts, id).await, begun)
}

/// `GET /posts/{id}`: the document as it came.
pub(super) async fn get_by_path(request: RouteRequest) -> Result<Response, ApiError> {
    let read = EntryRead::new(request)?;
    let query = read.parse_query()?;
    read.one(&query.namespace, CollectionKind::Posts, &key::of_path(&read.name)?).await
}

/// `GET /posts`: a page of the ids.
pub(super) async fn list(request: RouteRequest) -> Result<Response, ApiError> {
    let read = EntryRead::new(request)?;
    listing::page(&read, read.parse_query()?, CollectionKind::Posts).await
}
