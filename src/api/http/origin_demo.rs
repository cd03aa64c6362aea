//! A server that stands for the origin of a cache: `memdb origin-demo`, for examples and tests.
//!
//! It makes up a value for any id, takes its time if told to, and counts what it is asked.

use super::{form, headers};
use crate::api::error::ErrorKind;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::net::{TcpListener, TcpStream};

/// The path that tells how many values were asked for.
const COUNT_PATH: &str = "/count";
/// Ids that begin so have no value.
const MISSING: &str = "missing";

/// An origin that makes up its values.
pub struct DemoOrigin {
    delay: Duration,
    fails: AtomicBool,
    now: fn() -> SystemTime,
    asked: AtomicU64,
}

impl DemoOrigin {
    /// An origin that waits before each answer, and answers 503 to everything if it `fails`. `now` reads the time of
    /// day.
    pub fn new(delay: Duration, fails: bool, now: fn() -> SystemTime) -> Arc<Self> {
        Arc::new(Self { delay, fails: AtomicBool::new(fails), now, asked: AtomicU64::new(0) })
    }

    /// Fails from now on, or no longer.
    pub fn set_failing(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    /// Values that it was asked for.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Answers connections until it is dropped.
    ///
    /// # Errors
    /// If no more connections can be accepted.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(Arc::clone(&self).connection(stream));
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let answer = service_fn(move |request| Arc::clone(&self).answer(request));
        let _ = stream.set_nodelay(true);
        // How a client ends its connection is its own affair.
        let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer).await;
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path();
        if path == COUNT_PATH {
            return Ok(json(StatusCode::OK, format!("{{\"asked\":{}}}\n", self.asked()).into_bytes()));
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.delay).await;
        if self.fails.load(Ordering::Relaxed) {
            return Ok(json(StatusCode::SERVICE_UNAVAILABLE, b"{\"error\":\"told to fail\"}\n".to_vec()));
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let id = form::decode_path(last.as_bytes(), ErrorKind::InvalidParameter).unwrap_or_default();
        if id.is_empty() || id.starts_with(MISSING) {
            return Ok(json(StatusCode::NOT_FOUND, b"{\"error\":\"no such id\"}\n".to_vec()));
        }
        let mut body = br#"{"guid":"#.to_vec();
        headers::write_json_string(&mut body, &id);
        body.extend_from_slice(br#","date_created":"#);
        headers::write_json_string(&mut body, &httpdate::fmt_http_date((self.now)()));
        body.extend_from_slice(b"}\n");
        Ok(json(StatusCode::OK, body))
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
