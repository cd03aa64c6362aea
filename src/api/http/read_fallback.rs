//! A read on a follower that has no data yet: another node answers it, if one can.

use super::{
    headers, query,
    request::RouteRequest,
    route::{Route, RouteAnswer, RouteLabel},
};
use crate::{
    net::read_fallback::{PeerAnswer, READ_FORWARDED},
    net::write_forwarder::WriteForwarder,
};
use futures::{FutureExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, header};
use warp::reply::{Reply as _, Response};

/// Headers of a read that go along.
const SENT_ON: [&str; 4] = ["accept", "accept-encoding", "if-none-match", "memdb-min-position"];
/// Headers of an answer that belong to its connection.
const OF_CONNECTION: [header::HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::DATE, header::SERVER];
/// The node that has answered.
const ANSWERED_BY: &str = "memdb-answered-by";

/// A read as other nodes are asked it.
struct OutgoingRead {
    forward: WriteForwarder,
    nodes: Vec<String>,
    method: Method,
    target: String,
    headers: HeaderMap,
}

/// Answers a request by its route, and a read that has nothing to read here by way of another node.
pub(super) fn answer(route: &'static Route, request: RouteRequest) -> RouteAnswer {
    let Some(read) = outgoing(route, &request) else { return (route.handler)(request) };
    async move {
        let OutgoingRead { forward, nodes, method, target, headers } = read;
        match forward.reads().read(&nodes, &method, &target, &headers).await {
            Some(answer) => {
                request.state.service.metrics.forwarded.reads.inc();
                Ok(passed_back(answer))
            }
            None => (route.handler)(request).await,
        }
    }
    .boxed()
}

/// The read that other nodes are asked; none if this one answers.
fn outgoing(route: &Route, request: &RouteRequest) -> Option<OutgoingRead> {
    let service = &request.state.service;
    if service.view.current().is_some() || !is_read(route, request) || request.headers.contains_key(READ_FORWARDED) {
        return None;
    }
    let (forward, nodes) = service.read_peers()?;
    let target = query::target(request.path.as_str(), &request.query);
    let mut headers = HeaderMap::new();
    for name in SENT_ON {
        for value in request.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    if let Some(secret) = request.state.nodes.secret() {
        // The other node takes what this one has let in.
        headers.insert(header::AUTHORIZATION, headers::value(format!("Bearer {}", secret.expose())));
    }
    Some(OutgoingRead { forward, nodes, method: request.method.clone(), target, headers })
}

fn is_read(route: &Route, request: &RouteRequest) -> bool {
    use RouteLabel::{Cache, Counter, Data, Export, Namespace, Post, Posts, Sync, Top, Wordcount};
    let is_get = matches!(request.method, Method::GET | Method::HEAD);
    let is_read =
        matches!(route.label, Cache | Counter | Data | Export | Namespace | Post | Posts | Sync | Top | Wordcount);
    if !is_get || !is_read {
        return false;
    }
    // A node that fetches a snapshot wants that of the node it asks.
    request.of_node().is_none()
}

fn passed_back(PeerAnswer { node, response, place }: PeerAnswer) -> Response {
    let (status, fields) = (response.status(), response.headers().clone());
    // The place is taken until the body has ended.
    let body = response.bytes_stream().map(move |piece| {
        let _place = &place;
        piece
    });
    let mut answer = warp::reply::stream(body).into_response();
    *answer.status_mut() = status;
    for (name, value) in &fields {
        if !OF_CONNECTION.contains(name) {
            answer.headers_mut().append(name.clone(), HeaderValue::clone(value));
        }
    }
    answer.headers_mut().insert(ANSWERED_BY, headers::value(node));
    answer
}
