//! `GET /stats`: numbers of entries.

use super::{operations::json, query, query::QueryString, request::RouteRequest};
use crate::api::error::ApiError;
use std::sync::Arc;
use warp::reply::Response;

/// `GET /stats`: the numbers of this node alone (`?scope=node`), or of all that answer.
pub(super) async fn stats(request: RouteRequest) -> Result<Response, ApiError> {
    let QueryString { entries, .. } = request.parse_query()?;
    let of_node = match entries.scope.as_deref() {
        None | Some("cluster") => false,
        Some("node") => true,
        Some(_) => return Err(query::invalid("scope= takes node or cluster")),
    };
    let state = Arc::clone(&request.state);
    drop(request);
    let body = match of_node {
        true => serde_json::to_vec(&state.service.node_stats()),
        false => serde_json::to_vec(&*state.cluster_stats.ask(&state.service).await),
    };
    Ok(json(body.expect("names are strings")))
}
