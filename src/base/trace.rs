//! Spans of requests and of what becomes of them, for OpenTelemetry.
//!
//! They are recorded in a build with the feature `opentelemetry`, once `turn_on` was called. In a build without it
//! these types are empty, and the compiler leaves out every call.
//!
//! A request's span is the current one of its thread while the request is polled. Whatever begins there, a write that
//! is submitted or an exchange with another node, takes its place from that ([`TraceParent::current`]).

#![cfg_attr(
    not(feature = "opentelemetry"),
    allow(
        unused_variables,
        unused_mut,
        clippy::needless_pass_by_value,
        reason = "without the feature nothing is recorded"
    )
)]

#[cfg(feature = "opentelemetry")]
use opentelemetry::{
    Context, KeyValue, global,
    global::{BoxedSpan, BoxedTracer},
    trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
#[cfg(feature = "opentelemetry")]
use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    sync::{Arc, OnceLock},
    time::SystemTime,
};

/// The headers by which a place in a trace goes along with a request (W3C Trace Context).
pub const TRACE_HEADERS: [&str; 2] = ["traceparent", "tracestate"];

#[cfg(feature = "opentelemetry")]
static TRACER: OnceLock<BoxedTracer> = OnceLock::new();
#[cfg(feature = "opentelemetry")]
thread_local!(static CURRENT: RefCell<TraceParent> = RefCell::default());
/// The last commit groups that were recorded, and how many there were.
#[cfg(feature = "opentelemetry")]
static COMMITS: parking_lot::Mutex<(u64, VecDeque<TraceParent>)> = parking_lot::Mutex::new((0, VecDeque::new()));
/// Commit groups that an exchange with a replica is linked to at most.
#[cfg(feature = "opentelemetry")]
const COMMITS_KEPT: usize = 64;

/// Records spans from now on, for the provider of this process.
#[cfg(feature = "opentelemetry")]
pub fn turn_on() {
    let _ = TRACER.set(global::tracer("memdb")); // once is enough
}

/// Returns whether spans are recorded.
#[inline]
pub fn is_on() -> bool {
    #[cfg(feature = "opentelemetry")]
    {
        TRACER.get().is_some()
    }
    #[cfg(not(feature = "opentelemetry"))]
    {
        false
    }
}

/// A place in a trace, to which what follows is attached. There may be none.
#[derive(Clone, Debug, Default)]
pub struct TraceParent {
    #[cfg(feature = "opentelemetry")]
    context: Option<SpanContext>,
}

impl TraceParent {
    /// The place that these headers name, in the order of [`TRACE_HEADERS`].
    pub fn of_headers(values: [Option<&str>; 2]) -> Self {
        #[cfg(feature = "opentelemetry")]
        {
            let headers = TRACE_HEADERS.into_iter().zip(values);
            let headers = headers.filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
            let headers: HashMap<String, String> = headers.collect();
            let found =
                global::get_text_map_propagator(|reader| reader.extract_with_context(&Context::new(), &headers));
            Self::at(found.span().span_context())
        }
        #[cfg(not(feature = "opentelemetry"))]
        {
            Self::default()
        }
    }

    /// The place of whatever is under way in this thread.
    #[inline]
    pub fn current() -> Self {
        #[cfg(feature = "opentelemetry")]
        {
            CURRENT.with_borrow(Clone::clone)
        }
        #[cfg(not(feature = "opentelemetry"))]
        {
            Self::default()
        }
    }

    /// The headers that name this place; none if it is none.
    #[inline]
    pub fn headers(&self) -> Vec<(String, String)> {
        #[cfg(feature = "opentelemetry")]
        if let Some(context) = &self.context {
            let mut headers = HashMap::<String, String>::new();
            let here = Context::new().with_remote_span_context(context.clone());
            global::get_text_map_propagator(|writer| writer.inject_context(&here, &mut headers));
            return headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        }
        Vec::new()
    }

    #[cfg(feature = "opentelemetry")]
    fn at(context: &SpanContext) -> Self {
        Self { context: context.is_valid().then(|| context.clone()) }
    }
}

/// A span, which ends when it is dropped. There may be none.
#[derive(Default)]
pub struct TraceSpan {
    #[cfg(feature = "opentelemetry")]
    span: Option<BoxedSpan>,
}

impl TraceSpan {
    /// Begins the span of a request, of this name, at the place that the client has named.
    #[inline]
    pub fn of_request(describe: impl FnOnce() -> (String, TraceParent)) -> Self {
        #[cfg(feature = "opentelemetry")]
        if is_on() {
            let (name, parent) = describe();
            return Self::begin(name, &parent, SpanKind::Server, None);
        }
        Self::default()
    }

    /// Begins a span at a place, if that is one.
    #[inline]
    pub fn at(name: &'static str, parent: &TraceParent) -> Self {
        #[cfg(feature = "opentelemetry")]
        if parent.context.is_some() {
            return Self::begin(name.to_owned(), parent, SpanKind::Internal, None);
        }
        Self::default()
    }

    /// Begins a span within whatever is under way in this thread, if that is recorded.
    #[inline]
    pub fn within(name: &'static str) -> Self {
        Self::at(name, &TraceParent::current())
    }

    /// Gives its place.
    pub fn place(&self) -> TraceParent {
        #[cfg(feature = "opentelemetry")]
        {
            self.span.as_ref().map_or_else(TraceParent::default, |span| TraceParent::at(span.span_context()))
        }
        #[cfg(not(feature = "opentelemetry"))]
        {
            TraceParent::default()
        }
    }

    /// Makes it the current one of this thread, until what this gives is dropped.
    #[inline]
    pub fn enter(&self) -> CurrentSpan {
        CurrentSpan {
            #[cfg(feature = "opentelemetry")]
            before: CURRENT.replace(self.place()),
        }
    }

    /// States a number about it.
    #[inline]
    pub fn set_number(&mut self, name: &'static str, number: u64) {
        #[cfg(feature = "opentelemetry")]
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new(name, i64::try_from(number).unwrap_or(i64::MAX)));
        }
    }

    /// States a text about it.
    #[inline]
    pub fn set_text(&mut self, name: &'static str, text: impl FnOnce() -> String) {
        #[cfg(feature = "opentelemetry")]
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new(name, text()));
        }
    }

    /// Ends it.
    #[inline]
    pub fn end(self) {}

    /// Says that it has failed.
    #[inline]
    pub fn fail(&mut self, why: impl FnOnce() -> String) {
        #[cfg(feature = "opentelemetry")]
        if let Some(span) = &mut self.span {
            span.set_status(Status::error(why()));
        }
    }

    #[cfg(feature = "opentelemetry")]
    fn link(&mut self, other: &TraceParent) {
        if let (Some(span), Some(context)) = (&mut self.span, &other.context) {
            span.add_link(context.clone(), Vec::new());
        }
    }

    #[cfg(feature = "opentelemetry")]
    fn begin(name: String, parent: &TraceParent, kind: SpanKind, begun: Option<SystemTime>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self::default() };
        let builder = tracer.span_builder(name).with_kind(kind);
        let builder = match begun {
            Some(begun) => builder.with_start_time(begun),
            None => builder,
        };
        let context = match &parent.context {
            Some(context) => Context::new().with_remote_span_context(context.clone()),
            None => Context::new(),
        };
        Self { span: Some(builder.start_with_context(tracer, &context)) }
    }
}

/// Keeps a span the current one of its thread.
#[must_use]
pub struct CurrentSpan {
    #[cfg(feature = "opentelemetry")]
    before: TraceParent,
}

impl CurrentSpan {
    /// Makes the span before it the current one again.
    #[inline]
    pub fn leave(self) {}
}

#[cfg(feature = "opentelemetry")]
impl Drop for CurrentSpan {
    fn drop(&mut self) {
        CURRENT.set(std::mem::take(&mut self.before));
    }
}

/// The way of a write from its request to its answer.
#[derive(Clone, Debug, Default)]
pub struct WriteTrace {
    /// None if nothing of it is recorded.
    #[cfg(feature = "opentelemetry")]
    write: Option<Arc<TracedWrite>>,
}

#[cfg(feature = "opentelemetry")]
#[derive(Debug)]
struct TracedWrite {
    request: TraceParent,
    /// The end of its commit group.
    written: OnceLock<SystemTime>,
}

impl WriteTrace {
    /// Of a write that is submitted by whatever is under way in this thread.
    #[inline]
    pub fn current() -> Self {
        #[cfg(feature = "opentelemetry")]
        {
            let request = TraceParent::current();
            let write = request.context.is_some().then(|| TracedWrite { request, written: OnceLock::new() });
            Self { write: write.map(Arc::new) }
        }
        #[cfg(not(feature = "opentelemetry"))]
        {
            Self {}
        }
    }

    /// The write is answered: what it has waited for since it was written is a span.
    #[inline]
    pub fn answered(&self, acks: Option<u32>) {
        #[cfg(feature = "opentelemetry")]
        if let Some((write, written)) = self.write.as_ref().and_then(|write| Some((write, *write.written.get()?))) {
            let mut span = TraceSpan::begin("ack".to_owned(), &write.request, SpanKind::Internal, Some(written));
            match acks {
                Some(acks) => span.set_number("memdb.acks", acks.into()),
                None => span.fail(|| "refused, or its level was not reached".to_owned()),
            }
        }
    }
}

/// The commit group of the writes that the Writer is given at once.
#[derive(Default)]
pub struct CommitTrace {
    #[cfg(feature = "opentelemetry")]
    span: TraceSpan,
    #[cfg(feature = "opentelemetry")]
    current: Option<CurrentSpan>,
    #[cfg(feature = "opentelemetry")]
    writes: Vec<Arc<TracedWrite>>,
}

impl CommitTrace {
    /// Adds a write. The span begins with the first that is traced, as a part of it, and is linked to the others.
    #[inline]
    pub fn add(&mut self, write: &WriteTrace) {
        #[cfg(feature = "opentelemetry")]
        if let Some(write) = &write.write {
            match self.writes.is_empty() {
                true => {
                    self.span = TraceSpan::at("commit group", &write.request);
                    self.current = Some(self.span.enter());
                }
                false => self.span.link(&write.request),
            }
            self.writes.push(Arc::clone(write));
        }
    }

    /// The group is in the log and applied.
    #[inline]
    pub fn end(mut self) {
        #[cfg(feature = "opentelemetry")]
        if !self.writes.is_empty() {
            self.span.set_number("memdb.traced_writes", self.writes.len() as u64);
            #[allow(clippy::disallowed_methods, reason = "a span says when it began")]
            let now = SystemTime::now();
            for write in &self.writes {
                let _ = write.written.set(now);
            }
            let mut commits = COMMITS.lock();
            commits.0 += 1;
            commits.1.push_back(self.span.place());
            if commits.1.len() > COMMITS_KEPT {
                commits.1.pop_front();
            }
        }
    }
}

/// The commit groups whose records are on their way to one replica.
#[derive(Debug, Default)]
pub struct CommitTrail {
    /// Those that were seen before.
    #[cfg(feature = "opentelemetry")]
    seen: std::sync::atomic::AtomicU64,
}

impl CommitTrail {
    /// Begins the span of an exchange: a part of the first commit group since the last one, and linked to the others.
    /// None if no group was recorded since.
    #[inline]
    pub fn exchange(&self) -> TraceSpan {
        #[cfg(feature = "opentelemetry")]
        if is_on() {
            use std::sync::atomic::Ordering;
            let commits = COMMITS.lock();
            let seen = self.seen.swap(commits.0, Ordering::Relaxed);
            let new = usize::try_from(commits.0 - seen).unwrap_or(usize::MAX).min(commits.1.len());
            let mut places = commits.1.iter().skip(commits.1.len() - new).cloned();
            let Some(first) = places.next() else { return TraceSpan::default() };
            let rest: Vec<_> = places.collect();
            drop(commits);
            let mut span = TraceSpan::begin("replicate".to_owned(), &first, SpanKind::Client, None);
            rest.iter().for_each(|place| span.link(place));
            return span;
        }
        TraceSpan::default()
    }
}
