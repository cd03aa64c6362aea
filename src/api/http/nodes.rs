//! The routes between nodes: offers, announcements, snapshots, records, notices. `docs/replication.md` has their table.
//!
//! They share their paths with client routes and are told apart by their media types (`node_request.rs`). Who may ask
//! is decided here, before a body is read; what the node answers in its role is the service's (`api/service/peers.rs`).

use super::{
    NodeAccess, body, headers, node_request,
    query::{QueryString, RouteParameters},
    request::{NodeCredentials, RouteRequest},
    settings::{HttpSettings, SYNC_CHUNK_BYTES},
    state::AppState,
};
use crate::{
    api::auth::AuditEvent,
    api::error::{ApiError, ErrorKind},
    base::position::{ParsePositionError, PositionToken},
    replication::{HELLO_TYPE, NodeState, RECORDS_TYPE, SNAPSHOT_TYPE, SnapshotUpload},
};
use bytes::{Buf, Bytes};
use futures::Stream;
use http::{HeaderValue, StatusCode, header};
use std::{io, sync::Arc};
use warp::reply::{Reply, Response};

/// Bytes of a snapshot that are read at once.
const PIECE_BYTES: usize = 8 * SYNC_CHUNK_BYTES;
/// Longest announcement in bytes.
const MAX_HELLO_BYTES: usize = 4_096;

// The routes, as the audit log has them.
const PROMOTE: &str = "POST /promote";
const ANNOUNCE: &str = "POST /sync";
const FETCH: &str = "GET /sync";
const UPDATE: &str = "POST /update";

/// `POST /update` with records: an offer of the leader to a replica.
pub(super) async fn append<S, B, E>(
    state: &AppState,
    query: &str,
    shown: &NodeCredentials,
    content_length: Option<&str>,
    body: S,
) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    check(state, shown, UPDATE).await?;
    QueryString::parse(query, RouteParameters::NONE)?;
    let receiver = state.service.append_receiver().await?;
    let settings = HttpSettings { max_body_bytes: receiver.max_bytes(), ..state.settings };
    let whole = body::read(body, content_length, &settings, (&state.budgets.offers, &shown.client.usage)).await?;
    // The body's place in the budget is held until it is answered.
    let answer = state.service.append(receiver, &whole.bytes).await?;
    Ok(typed(answer.encode(), RECORDS_TYPE))
}

/// `POST /promote`: a person wants this replica to lead.
pub(super) async fn promote(request: RouteRequest) -> Result<Response, ApiError> {
    let (shown, state) = (request.credentials()?, &request.state);
    if request.header("origin")?.is_some() {
        // Any page that a person has open could send this to a node on loopback.
        return Err(ApiError::new(ErrorKind::InvalidHeader, "this is not for pages in a browser: send no Origin"));
    }
    check(state, &shown, PROMOTE).await?;
    let force = match request.parse_query()?.force.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some("") if !request.query.contains("force=") => true,
        Some(_) => return Err(ApiError::new(ErrorKind::InvalidParameter, "force= takes true or false")),
    };
    let settings = HttpSettings { max_body_bytes: MAX_HELLO_BYTES, ..state.settings };
    let budget = (&state.budgets.offers, &request.client.usage);
    if !body::read(request.body, None, &settings, budget).await?.bytes.is_empty() {
        let detail = "this takes no body: a promotion that accepts a loss is asked for with ?force=true";
        return Err(ApiError::new(ErrorKind::InvalidBody, detail));
    }
    let epoch = state.service.promote(force).await?;
    Ok(typed(format!("{}\n", serde_json::json!({ "epoch": epoch })).into_bytes(), "application/json"))
}

/// `POST /update` without a body: the leader's notice to a local replica.
pub(super) async fn notice(state: &AppState, query: &str, shown: &NodeCredentials) -> Result<Response, ApiError> {
    check(state, shown, UPDATE).await?;
    QueryString::parse(query, RouteParameters::NONE)?;
    state.service.notify();
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// `POST /sync`: a follower announces itself to its leader.
pub(super) async fn announce(request: RouteRequest) -> Result<Response, ApiError> {
    let (shown, content_type) = (request.credentials()?, request.header("content-type")?);
    let state = &request.state;
    check(state, &shown, ANNOUNCE).await?;
    request.parse_query()?;
    if !node_request::is(content_type.as_deref(), HELLO_TYPE) {
        return Err(ApiError::unsupported_media_type(HELLO_TYPE, "followers announce themselves here"));
    }
    let registry = state.service.announcements().await?;
    let settings = HttpSettings { max_body_bytes: MAX_HELLO_BYTES, ..state.settings };
    let whole = body::read(request.body, None, &settings, (&state.budgets.offers, &request.client.usage)).await?;
    let hello = NodeState::decode(&whole.bytes).map_err(|what| ApiError::new(ErrorKind::InvalidBody, what))?;
    let database = state.service.announce(&registry, hello);
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Some(database) = database {
        response.headers_mut().insert(&headers::MEMDB_DATABASE, headers::database_value(database));
    }
    Ok(response)
}

/// `GET /sync` for a node: the newest snapshot, as it is on disk.
pub(super) async fn snapshot(state: &AppState, query: &str, shown: &NodeCredentials) -> Result<Response, ApiError> {
    check(state, shown, FETCH).await?;
    QueryString::parse(query, RouteParameters::NONE)?;
    let Some(upload) = state.service.snapshot().await? else {
        let mut response = Response::new(Bytes::new().into());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    };
    let length = upload.bytes;
    let mut response = warp::reply::stream(pieces(upload)).into_response();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(SNAPSHOT_TYPE));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// The file, piece by piece, each read beside the serving thread: the disk may be slow.
fn pieces(outgoing: SnapshotUpload) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + Sync {
    let outgoing = Arc::new(outgoing);
    futures::stream::unfold(0, move |at| {
        let outgoing = Arc::clone(&outgoing);
        async move {
            if at >= outgoing.bytes {
                return None;
            }
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE_BYTES.min((outgoing.bytes - at) as usize)];
                let read = outgoing.file.read_at(at, &mut piece)?;
                piece.truncate(read);
                if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Bytes::from(piece)) }
            });
            let piece = read.await.unwrap_or_else(|died| Err(io::Error::other(died)));
            let behind = at + piece.as_ref().map_or(0, |piece| piece.len() as u64);
            Some((piece, behind))
        }
    })
}

/// `GET /sync` for a leader that has lost records: those behind the position `after=`.
pub(super) async fn records(state: &AppState, query: &str, shown: &NodeCredentials) -> Result<Response, ApiError> {
    check(state, shown, FETCH).await?;
    let after: Result<PositionToken, _> = QueryString::parse(query, RouteParameters::RECORDS)?
        .after
        .map_or(Err(ParsePositionError::Malformed), |text| text.parse());
    let after = after
        .map_err(|error| ApiError::new(ErrorKind::InvalidParameter, format!("after= takes a position; {error}")))?;
    Ok(typed(state.service.records(after).await?.concat(), RECORDS_TYPE))
}

async fn check(state: &AppState, shown: &NodeCredentials, route: &str) -> Result<(), ApiError> {
    if shown.is_admitted {
        return Ok(());
    }
    let decided = decided_by_secret(state, shown).await;
    // Offers, announcements and notices that are let in come many times a second.
    if state.access.audit.is_on() && (decided.is_err() || [PROMOTE, FETCH].contains(&route)) {
        state.access.audit.note(&AuditEvent {
            unix_ms: state.now_ms(),
            address: Some(shown.client.address()),
            user: None,
            token: None,
            route,
            namespace: None,
            decision: decided.as_ref().err().map_or("allowed", |problem| problem.kind().slug()),
        });
    }
    decided
}

async fn decided_by_secret(state: &AppState, shown: &NodeCredentials) -> Result<(), ApiError> {
    match &state.nodes {
        NodeAccess::Anyone => Ok(()),
        NodeAccess::Secret(secret) => {
            let bearer = shown.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
            let admitted = state.guesses.admit(secret, bearer.unwrap_or_default(), &shown.client).await;
            admitted.inspect_err(|_| state.service.metrics.wrong_secrets.inc())
        }
        NodeAccess::Nobody => Err(ApiError::new(
            ErrorKind::ClusterSecret,
            "this node listens beyond loopback without --cluster-secret-file, so it speaks to no other node",
        )),
    }
}

fn typed(body: Vec<u8>, media: &'static str) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
