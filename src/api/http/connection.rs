//! One connection, from its first byte to its last.

use super::{
    fast_path::{self, FastPathExit, Handoff},
    http1_guard::{ConnectionStart, Http1Guard},
    middleware::{ConnectionActivity, InstrumentedService},
    secret_throttle::ConnectionPeer,
    settings::{HTTP2_RECEIVE_BYTES, HTTP2_SEND_BYTES, MAX_STREAMS, MAX_TAKEN_BACK, PING_INTERVAL, PING_TIMEOUT},
    state::AppState,
};
use crate::{
    api::error::{ApiError, ErrorKind},
    net::{
        client_stream::ClientStream,
        tls::server::{HandshakeResult, ServerTls},
    },
};
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, future::poll_fn, pin::pin, sync::Arc};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use warp::reply::Response;

/// Bytes hyper gathers in each direction before it waits.
const BUFFER_BYTES: usize = 128 << 10;

/// The routes as a connection calls them.
pub(super) trait RouteService:
    Service<Request<Incoming>, Response = Response, Error = Infallible, Future = <Self as RouteService>::Answer>
    + Clone
    + Send
    + Unpin
    + 'static
{
    /// The future of a response.
    type Answer: Future<Output = Result<Response, Infallible>> + Send + Unpin;
}

impl<S> RouteService for S
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + Unpin + 'static,
    S::Future: Send + Unpin,
{
    type Answer = S::Future;
}

/// Serves a connection until it ends, or until what is in flight has been answered after `stopping`.
pub(super) async fn serve<S: RouteService>(
    stream: TcpStream,
    client: ConnectionPeer,
    routes: S,
    state: Arc<AppState>,
    stopping: CancellationToken,
) {
    // Answers are written whole; waiting for more to send would only delay them.
    if stream.set_nodelay(true).is_err() {
        return; // the client is gone already
    }
    // A client that is cut off takes no bytes and closes nothing: what lies in the buffers of the system is too little
    // for a watcher's stream to time out by. It is no error where the system has no such option.
    let patience_ms = u32::try_from(state.settings.write_timeout.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, patience_ms);
    let tls = Arc::clone(&state.tls);
    match tls.server() {
        Some(server) => Box::pin(protect(server, stream, client, routes, state, stopping)).await,
        None => serve_stream(stream, true, (client, routes, state), stopping).await,
    }
}

/// Serves a connection over TLS.
async fn protect<S: RouteService>(
    server: &ServerTls,
    stream: TcpStream,
    client: ConnectionPeer,
    routes: S,
    state: Arc<AppState>,
    stopping: CancellationToken,
) {
    let bounds = (&state.budgets.handshakes, state.settings.header_timeout);
    let shaken = server.accept(stream, &client.usage, bounds, &stopping).await;
    if let Some(outcome) = shaken.outcome() {
        state.service.metrics.protection.handshake_ended(outcome);
    }
    match shaken {
        HandshakeResult::Protected(stream) => {
            let is_http1 = !stream.is_http2();
            serve_stream(stream, is_http1, (client, routes, state), stopping).await;
        }
        HandshakeResult::Plain(stream) => {
            let mut guard = Http1Guard::new(stream, state.settings, stopping, Handoff::new(state.settings));
            let detail = format!("this port speaks TLS: ask {}", state.service.look_at_role().about.url);
            guard.refuse(ApiError::new(ErrorKind::MalformedRequest, detail));
            guard.close().await;
        }
        HandshakeResult::Failed(_) => {}
    }
}

/// Serves what a connection carries; by the fast path first, unless it is known to be no HTTP/1.
async fn serve_stream<S: RouteService, C: ClientStream>(
    mut stream: C,
    is_http1: bool,
    (client, routes, state): (ConnectionPeer, S, Arc<AppState>),
    stopping: CancellationToken,
) {
    let (exit, begun) = match state.settings.fast_path && is_http1 {
        true => fast_path::serve(&mut stream, &client.usage, &state, &stopping).await,
        false => (FastPathExit::Other, Handoff::new(state.settings)),
    };
    if exit == FastPathExit::Broken {
        return;
    }
    let mut guard = Http1Guard::new(stream, state.settings, stopping.clone(), begun);
    if exit == FastPathExit::Done {
        return guard.close().await;
    }
    match guard.open().await {
        ConnectionStart::Http1 => http1(guard, routes, (state, client), stopping).await,
        ConnectionStart::Http2 => http2(guard, routes, (state, client), stopping).await,
        ConnectionStart::Nothing => guard.close().await,
    }
}

async fn http1<S: RouteService, C: ClientStream>(
    guard: Http1Guard<C>,
    routes: S,
    (state, client): (Arc<AppState>, ConnectionPeer),
    stopping: CancellationToken,
) {
    // The guard keeps hyper's time and bounds its heads. Half-closing: a client may say that it has finished and still
    // wait for its answers, and the guard says so for it at a bad head.
    let mut connection = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(guard), InstrumentedService::new(routes, state, client, None));
    let mut stopped = pin!(stopping.cancelled());
    let mut told = false;
    let ended = poll_fn(|cx| {
        let ended = connection.poll_without_shutdown(cx);
        if ended.is_ready() || told || stopped.as_mut().poll(cx).is_pending() {
            return ended;
        }
        told = true;
        std::pin::Pin::new(&mut connection).graceful_shutdown();
        connection.poll_without_shutdown(cx)
    })
    .await;
    match ended {
        Ok(()) => connection.into_parts().io.into_inner().close().await,
        Err(error) => tracing::debug!(%error, "a connection broke off"),
    }
}

async fn http2<S: RouteService, C: ClientStream>(
    guard: Http1Guard<C>,
    routes: S,
    (state, client): (Arc<AppState>, ConnectionPeer),
    stopping: CancellationToken,
) {
    let activity = Arc::new(ConnectionActivity::default());
    let idle_timeout = state.settings.idle_timeout;
    let max_head_bytes = u32::try_from(state.settings.max_head_bytes).unwrap_or(u32::MAX);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(max_head_bytes)
        .initial_connection_window_size(HTTP2_RECEIVE_BYTES)
        .max_send_buf_size(HTTP2_SEND_BYTES)
        .max_pending_accept_reset_streams(MAX_TAKEN_BACK)
        .max_local_error_reset_streams(MAX_TAKEN_BACK)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(
            TokioIo::new(guard),
            InstrumentedService::new(routes, state, client, Some(Arc::clone(&activity))),
        );
    let mut connection = pin!(connection);
    let mut last_idle = None;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP/2 connection broke off");
                }
                return;
            }
            () = stopping.cancelled() => break,
            () = tokio::time::sleep(idle_timeout) => {
                let idle = activity.idle_after();
                if idle.is_some() && idle == last_idle {
                    break; // nothing was asked for a whole interval
                }
                last_idle = idle;
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    // A client that neither finishes nor goes is cut off.
    let _ = tokio::time::timeout(idle_timeout, connection).await;
}
