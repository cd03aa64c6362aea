//! In front of the routes: refuses what no route should see, counts every request that reaches it (the fast path counts
//! its own), and leaves out the body of `HEAD`.

use super::{
    browsers::CorsAnswer,
    headers, request_log,
    route::{Route, RouteLabel},
    routes,
    secret_throttle::ConnectionPeer,
    state::AppState,
};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::metrics::MethodLabel,
    base::trace::{TRACE_HEADERS, TraceParent, TraceSpan},
};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::{
    cell::RefCell,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower_service::Service;
use warp::reply::{Reply, Response};

/// The requests of a connection, counted to close idle HTTP/2 connections.
#[derive(Debug, Default)]
pub(super) struct ConnectionActivity {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Pieces that clients have taken of answers that come in pieces.
    taken: AtomicU64,
}

impl ConnectionActivity {
    /// Gives the number of requests, if all of them have ended, and of pieces taken of their answers. While both stay
    /// the same, the connection is idle, or its client reads nothing.
    pub(super) fn idle_after(&self) -> Option<(u64, u64)> {
        let ended = self.ended.load(Ordering::Acquire);
        (self.begun.load(Ordering::Acquire) == ended).then(|| (ended, self.taken.load(Ordering::Acquire)))
    }

    /// The answer, noticed as it is taken. One that is whole already is not taken in pieces.
    fn watch(self: &Arc<Self>, response: Response) -> Response {
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        let (head, body) = response.into_parts();
        let activity = Arc::clone(self);
        let pieces = BodyExt::into_data_stream(body).inspect(move |_| {
            activity.taken.fetch_add(1, Ordering::AcqRel);
        });
        Response::from_parts(head, warp::reply::stream(pieces).into_response().into_body())
    }
}

/// The service of one connection. `S` is the routes as warp gives them.
pub(super) struct InstrumentedService<S> {
    // hyper calls through `&self`, warp's service wants `&mut self`, and cloning the routes for every request would
    // count a dozen references up and down.
    routes: RefCell<S>,
    state: Arc<AppState>,
    client: ConnectionPeer,
    activity: Option<Arc<ConnectionActivity>>,
}

impl<S> InstrumentedService<S> {
    pub(super) fn new(
        routes: S,
        state: Arc<AppState>,
        client: ConnectionPeer,
        activity: Option<Arc<ConnectionActivity>>,
    ) -> Self {
        Self { routes: RefCell::new(routes), state, client, activity }
    }
}

impl<S> hyper::service::Service<Request<Incoming>> for InstrumentedService<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = Infallible;
    type Future = InstrumentedResponse<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(activity) = &self.activity {
            activity.begun.fetch_add(1, Ordering::AcqRel);
        }
        let started = Instant::now();
        let (label, route) = routes::find(request.method(), request.uri().path());
        let method = method_label(request.method());
        let logged = request_log::is_on().then(|| request.uri().path().into());
        let head_only = request.method() == Method::HEAD;
        let is_http_1_0 = request.version() == Version::HTTP_10;
        let span = TraceSpan::of_request(|| describe(&request, route));
        let current = span.enter();
        let browsers = &self.state.browsers;
        let cors = browsers.cors(request.headers());
        let progress = match screen(&request)
            .and_then(|()| browsers.admit(&request, route.is_some_and(|route| route.only_reads)))
        {
            Ok(None)
                if self.client.usage.is_bounded()
                    || self.state.access.looks_at_clients()
                    || request.headers().contains_key(header::AUTHORIZATION) =>
            {
                request.extensions_mut().insert(self.client.clone());
                ResponseProgress::Routed(self.routes.borrow_mut().call(request))
            }
            Ok(None) => ResponseProgress::Routed(self.routes.borrow_mut().call(request)),
            Ok(Some(preflight)) => ResponseProgress::Answered(preflight),
            Err(problem) => ResponseProgress::Answered(problem.into_response()),
        };
        current.leave();
        let (state, activity) = (Arc::clone(&self.state), self.activity.clone());
        InstrumentedResponse {
            progress,
            cors,
            head_only,
            is_http_1_0,
            label,
            method,
            logged,
            started,
            state,
            activity,
            span,
        }
    }
}

/// An answer on its way.
pub(super) struct InstrumentedResponse<F> {
    progress: ResponseProgress<F>,
    cors: CorsAnswer,
    head_only: bool,
    is_http_1_0: bool,
    label: RouteLabel,
    method: MethodLabel,
    /// The path, if requests are logged.
    logged: Option<Box<str>>,
    started: Instant,
    state: Arc<AppState>,
    activity: Option<Arc<ConnectionActivity>>,
    span: TraceSpan,
}

enum ResponseProgress<F> {
    /// No route has seen the request.
    Answered(Response),
    Routed(F),
}

impl<F> Future for InstrumentedResponse<F>
where
    F: Future<Output = Result<Response, Infallible>> + Unpin,
{
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _current = self.span.enter();
        let mut response = match &mut self.progress {
            ResponseProgress::Answered(response) => std::mem::take(response),
            // A defect in one route must cost one answer, not the connection and what else is on it.
            ResponseProgress::Routed(answer) => match catch_unwind(AssertUnwindSafe(|| Pin::new(answer).poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => response,
                Err(_) => ApiError::defect().into_response(),
            },
        };
        std::mem::take(&mut self.cors).mark(&mut response);
        if self.is_http_1_0 && response.body().size_hint().exact().is_none() {
            // Nothing but the end of the connection ends this body, so keep-alive would be a lie. hyper would add it to
            // an answer in HTTP/1.1 all the same.
            *response.version_mut() = Version::HTTP_10;
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.head_only {
            leave_out_body(&mut response);
        } else if let Some(activity) = &self.activity {
            response = activity.watch(response);
        }
        let (status, took) = (response.status().as_u16(), self.started.elapsed());
        self.span.set_number("http.response.status_code", status.into());
        if status >= 500 {
            self.span.fail(|| format!("answered {status}"));
        }
        let path = self.logged.take();
        self.state.service.metrics.answered(self.label as usize, self.method, status, 1, took);
        let path = path.as_deref().unwrap_or_default();
        self.state.request_log.answered(self.label.name(), self.method, path, status, took);
        Poll::Ready(Ok(response))
    }
}

impl<F> Drop for InstrumentedResponse<F> {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity {
            activity.ended.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The name of a request's span, and its place in the client's trace. Neither words nor keys are in it.
fn describe<B>(request: &Request<B>, route: Option<&'static Route>) -> (String, TraceParent) {
    let name = route.map_or_else(|| request.method().to_string(), ToString::to_string);
    let values = TRACE_HEADERS.map(|name| request.headers().get(name)?.to_str().ok());
    (name, TraceParent::of_headers(values))
}

/// hyper leaves the body out on HTTP/1 only.
fn leave_out_body(response: &mut Response) {
    if let Some(length) = response.body().size_hint().exact().filter(|&length| length > 0) {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = bytes::Bytes::new().into();
}

fn method_label(method: &Method) -> MethodLabel {
    match *method {
        Method::GET => MethodLabel::Get,
        Method::HEAD => MethodLabel::Head,
        Method::POST => MethodLabel::Post,
        Method::PUT => MethodLabel::Put,
        Method::PATCH => MethodLabel::Patch,
        Method::DELETE => MethodLabel::Delete,
        _ => MethodLabel::Other,
    }
}

fn screen(request: &Request<Incoming>) -> Result<(), ApiError> {
    let fields = request.headers();
    if request.method() == Method::CONNECT {
        return Err(ApiError::method_not_allowed("GET, HEAD, POST, PUT, PATCH, DELETE")); // warp 0.4.3 panics on it
    }
    // HTTP/1 heads were checked at the guard.
    if request.version() == Version::HTTP_2 && request.uri().authority().is_none() && !fields.contains_key(header::HOST)
    {
        return Err(ApiError::new(ErrorKind::MalformedRequest, "the request names no host: send :authority"));
    }
    if fields.len() != fields.keys_len() {
        refuse_repeated(fields)?;
    }
    if request.method() != Method::GET {
        if fields.get(header::EXPECT).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            return Err(ApiError::new(ErrorKind::ExpectationFailed, "the only expectation taken is 100-continue"));
        }
        let is_encoded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
        if !routes::takes_compressed(request.uri().path())
            && fields.get(header::CONTENT_ENCODING).is_some_and(is_encoded)
        {
            let detail = "compressed bodies are taken by /bulk only; send the body as it is";
            return Err(ApiError::new(ErrorKind::UnsupportedMediaType, detail));
        }
    }
    Ok(())
}

fn refuse_repeated(fields: &HeaderMap) -> Result<(), ApiError> {
    for name in headers::SINGLE {
        if fields.get_all(name).iter().nth(1).is_some() {
            return Err(ApiError::new(ErrorKind::InvalidHeader, format!("{name} is sent twice")));
        }
    }
    Ok(())
}
