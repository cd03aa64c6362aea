//! The routes between nodes: offers, announcements, snapshots, records, notices. `docs/replication.md` has their table.
//!
//! They share their paths with client routes and are told apart by content type. Who may ask is decided here,
//! before a body is read.

use super::{
    NodeAccess, ServingRole, body, headers,
    query::{QueryString, RouteParameters},
    request::{NodeCredentials, RouteRequest},
    settings::{HttpSettings, SYNC_CHUNK_BYTES},
    state::AppState,
};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::limits,
    base::position::{ParsePositionError, PositionToken},
    replication::{HELLO_TYPE, NodeState, RECORDS_TYPE, SNAPSHOT_TYPE, SnapshotOffer, SnapshotUpload},
    storage::file_header::FileError,
};
use bytes::{Buf, Bytes};
use futures::Stream;
use http::{HeaderValue, StatusCode, header};
use std::{io, sync::Arc};
use warp::reply::{Reply, Response};

/// Bytes of a snapshot that are read at once.
const PIECE_BYTES: usize = 8 * SYNC_CHUNK_BYTES;
/// Longest offer that a leader reads, in bytes.
const MAX_QUESTION_BYTES: usize = 1 << 20;
/// Longest announcement in bytes.
const MAX_HELLO_BYTES: usize = 4_096;

/// Returns whether a content type, or what a client accepts, is this one of ours.
pub(super) fn is(given: Option<&str>, media: &str) -> bool {
    given.is_some_and(|given| given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media))
}

/// Returns whether a body of this type is one of the leader's offers.
pub(super) fn is_offer(content_type: Option<&str>) -> bool {
    is(content_type, RECORDS_TYPE)
}

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
    check(state, shown).await?;
    QueryString::parse(query, RouteParameters::NONE)?;
    let role = state.service.settled_role().await;
    if role.follows_files() {
        return Err(ApiError::new(ErrorKind::NotFound, "a local replica takes its records from files"));
    }
    // A leader is asked, and takes no records.
    let is_leader = role.leader().is_some();
    let max_body_bytes = if is_leader { MAX_QUESTION_BYTES } else { limits::MAX_OFFER_BYTES };
    let settings = HttpSettings { max_body_bytes, ..state.settings };
    let whole = body::read(body, content_length, &settings, (&state.budgets.offers, &shown.client.usage)).await?;
    let mut answer = role.append(whole.bytes.clone()).await;
    if answer.is_none() {
        // Its role may have ended before it came to this: then the next one answers.
        let next = state.service.settled_role().await;
        if !Arc::ptr_eq(&next, &role) {
            answer = next.append(whole.bytes.clone()).await;
        }
    }
    match answer {
        Some(answer) => Ok(typed(answer.encode(), RECORDS_TYPE)),
        None => Err(ApiError::new(ErrorKind::Stopping, "the node is stopping, or has more offers than it can take")),
    }
}

/// `POST /promote`: a person wants this replica to lead.
pub(super) async fn promote(request: RouteRequest) -> Result<Response, ApiError> {
    let (shown, state) = (request.credentials()?, &request.state);
    if request.header("origin")?.is_some() {
        // Any page that a person has open could send this to a node on loopback.
        return Err(ApiError::new(ErrorKind::InvalidHeader, "this is not for pages in a browser: send no Origin"));
    }
    check(state, &shown).await?;
    let force = match request.parse_query()?.force.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some("") if !request.query.contains("force=") => true,
        Some(_) => return Err(ApiError::new(ErrorKind::InvalidParameter, "force= takes true or false")),
    };
    let refused = |why: String| ApiError::new(ErrorKind::NotPromoted, why);
    let role = state.service.settled_role().await;
    let ServingRole::Replica { follower, .. } = &role.role else {
        return Err(refused(format!("this is a {}: a replica that keeps files can be promoted", role.about.role)));
    };
    let answer = follower.promote(force).await;
    let epoch = answer.unwrap_or_else(|| Err("another has asked for that already".to_owned())).map_err(refused)?;
    Ok(typed(format!("{}\n", serde_json::json!({ "epoch": epoch })).into_bytes(), "application/json"))
}

/// `POST /update` without a body: the leader's notice to a local replica.
pub(super) async fn notice(state: &AppState, query: &str, shown: &NodeCredentials) -> Result<Response, ApiError> {
    check(state, shown).await?;
    QueryString::parse(query, RouteParameters::NONE)?;
    if let ServingRole::LocalReplica { notice, .. } = &state.service.look_at_role().role {
        notice.notify_one();
    }
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// `POST /sync`: a follower announces itself to its leader.
pub(super) async fn announce(request: RouteRequest) -> Result<Response, ApiError> {
    let (shown, content_type) = (request.credentials()?, request.header("content-type")?);
    let state = &request.state;
    check(state, &shown).await?;
    request.parse_query()?;
    if !is(content_type.as_deref(), HELLO_TYPE) {
        return Err(ApiError::unsupported_media_type(HELLO_TYPE, "followers announce themselves here"));
    }
    let role = state.service.settled_role().await;
    let registry = match &role.role {
        ServingRole::Leader { registry, .. } => registry,
        ServingRole::Replica { .. } | ServingRole::LocalReplica { .. } => {
            return Err(state.service.not_leader("announcements are for the leader"));
        }
    };
    let settings = HttpSettings { max_body_bytes: MAX_HELLO_BYTES, ..state.settings };
    let whole = body::read(request.body, None, &settings, (&state.budgets.offers, &request.client.usage)).await?;
    let hello = NodeState::decode(&whole.bytes).map_err(|what| ApiError::new(ErrorKind::InvalidBody, what))?;
    registry.announce(hello);
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Ok(current) = state.service.current() {
        response.headers_mut().insert(&headers::MEMDB_DATABASE, headers::database_value(current.identity.database_id));
    }
    Ok(response)
}

/// `GET /sync` for a node; `None` if it is a client that asks.
pub(super) async fn fetch(
    state: &AppState,
    query: &str,
    accept: Option<&str>,
    shown: &NodeCredentials,
) -> Option<Result<Response, ApiError>> {
    if is(accept, SNAPSHOT_TYPE) {
        Some(checked(state, shown, snapshot(state, query)).await)
    } else if is(accept, RECORDS_TYPE) {
        Some(checked(state, shown, records(state, query)).await)
    } else {
        None
    }
}

async fn checked(
    state: &AppState,
    shown: &NodeCredentials,
    answer: impl Future<Output = Result<Response, ApiError>>,
) -> Result<Response, ApiError> {
    check(state, shown).await?;
    answer.await
}

/// The newest snapshot, as it is on disk.
async fn snapshot(state: &AppState, query: &str) -> Result<Response, ApiError> {
    QueryString::parse(query, RouteParameters::NONE)?;
    let archive = archive(state)?;
    match beside(move || archive.snapshot()).await? {
        SnapshotOffer::File(outgoing) => {
            let length = outgoing.bytes;
            let mut response = warp::reply::stream(pieces(outgoing)).into_response();
            let fields = response.headers_mut();
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(SNAPSHOT_TYPE));
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            Ok(response)
        }
        SnapshotOffer::None => {
            let mut response = Response::new(Bytes::new().into());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        SnapshotOffer::Busy => {
            Err(ApiError::new(ErrorKind::NotReady, "another node is loading a snapshot; come again"))
        }
    }
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

/// Records behind the position `after=`, for a leader that has lost them.
async fn records(state: &AppState, query: &str) -> Result<Response, ApiError> {
    let after: Result<PositionToken, _> = QueryString::parse(query, RouteParameters::RECORDS)?
        .after
        .map_or(Err(ParsePositionError::Malformed), |text| text.parse());
    let after = after
        .map_err(|error| ApiError::new(ErrorKind::InvalidParameter, format!("after= takes a position; {error}")))?;
    let archive = archive(state)?;
    let (identity, last) = {
        let current = state.service.current()?;
        (current.identity, current.reader.read().position().sequence)
    };
    if after.database != identity.tag() {
        let detail = format!("{after} is of another database than this node's, {}", identity.tag());
        return Err(ApiError::new(ErrorKind::PositionOtherDatabase, detail));
    }
    match beside(move || archive.records(after.position.sequence, last, &identity)).await? {
        Some(records) => Ok(typed(records.concat(), RECORDS_TYPE)),
        None => Err(ApiError::new(ErrorKind::PositionLost, format!("the records behind {after} are no longer here"))),
    }
}

/// Reads files beside the serving thread.
async fn beside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, ApiError> {
    let unreadable = |error: String| ApiError::new(ErrorKind::Internal, format!("the files cannot be read: {error}"));
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(|error| unreadable(error.to_string())),
        Err(died) => Err(unreadable(died.to_string())),
    }
}

fn archive(state: &AppState) -> Result<crate::replication::HistorySource, ApiError> {
    match &state.service.look_at_role().role {
        ServingRole::Leader { archive, .. } | ServingRole::Replica { archive, .. } => Ok(archive.clone()),
        ServingRole::LocalReplica { .. } => {
            Err(ApiError::new(ErrorKind::NotFound, "a local replica keeps no files of its own"))
        }
    }
}

async fn check(state: &AppState, shown: &NodeCredentials) -> Result<(), ApiError> {
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
