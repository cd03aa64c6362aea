//! `GET /watch`: what changes of counts and entries, as server-sent events.
//!
//! A stream reads what it watches at its own ticks, and only if something has been applied since (`movement`). What is
//! to be sent is decided by the service's [`WatchState`], and `event` writes it. A client that takes nothing is asked
//! nothing: the next event is made when the one before is taken, of the values of then, so no event waits in a queue.

mod event;
mod movement;
#[cfg(test)]
mod tests;

pub(super) use movement::MovementTicker;

use super::{
    access,
    entries::key,
    query::{self, QueryString, WatchParameters},
    reads,
    request::RouteRequest,
    state::AppState,
};
use crate::{
    api::{
        error::{ApiError, BEHIND_A_PROXY, ErrorKind},
        service::no_word,
        service::watch::{WatchEvent, WatchState},
    },
    base::limits::{DEFAULT_WATCH_MS, LEAST_WATCH_MS, MAX_TOP, MOST_WATCH_MS, WATCH_HEARTBEAT_MS},
    base::position::PositionToken,
    net::budget::{BudgetRefusal, BudgetShare},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderName, HeaderValue, header};
use prometheus::IntGauge;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use warp::reply::{Reply as _, Response};

const MEDIA_TYPE: &str = "text/event-stream";
/// Has proxies pass events on as they come.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const HEARTBEAT: Duration = Duration::from_millis(WATCH_HEARTBEAT_MS);

/// `GET /watch`.
pub(super) async fn watch(request: RouteRequest) -> Result<Response, ApiError> {
    check_accept(request.header_list("accept")?.as_deref())?;
    let (asked, last_event_id) = (request.read_headers()?, request.header("last-event-id")?);
    let (state, usage) = (&request.state, &request.client.usage);
    let query = request.parse_query()?;
    let has = position_of(last_event_id.as_deref().or(query.watch.last_event_id.as_deref()))?;
    let interval = interval(query.watch.every.as_deref())?;
    let namespace = query.namespace.clone().into_owned();
    let mut watched = watched(query)?.resume(has);
    let role = state.service.settled_role().await;
    if role.ended.is_cancelled() {
        return Err(ApiError::new(ErrorKind::NotReady, "the node is stopping, or changes its role; ask again"));
    }
    state.service.wait_for(reads::min_position(&asked)?, usage).await?;
    if !watched.fold(state.service.current()?.identity.analyzer) {
        return Err(no_word(ErrorKind::InvalidParameter));
    }
    let place = state.budgets.watchers.take(usage, 1).map_err(|why| too_many_watchers(why, state))?;
    let events = EventStream::new(Arc::clone(state), watched, interval, place);
    let pieces = stream::unfold(events, EventStream::next).take_until({
        let (ended, revoked) = (role.ended.clone(), access::until_revoked(&request, namespace));
        async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = revoked => {}
            }
        }
    });
    let mut response = warp::reply::stream(pieces).into_response();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// Refuses a client that takes no events.
fn check_accept(accept: Option<&str>) -> Result<(), ApiError> {
    let is_taken = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let is_refused = parts.any(|part| {
            let quality = part.to_ascii_lowercase();
            quality.strip_prefix("q=").is_some_and(|quality| quality.parse() == Ok(0.0_f32))
        });
        !is_refused && ["*/*", "text/*", MEDIA_TYPE].iter().any(|taken| media.eq_ignore_ascii_case(taken))
    };
    match accept {
        Some(accept) if !accept.trim().is_empty() && !accept.split(',').any(is_taken) => {
            Err(ApiError::new(ErrorKind::NotAcceptable, format!("this route answers with {MEDIA_TYPE} alone")))
        }
        _ => Ok(()),
    }
}

/// The position that the client has.
fn position_of(last_event_id: Option<&str>) -> Result<Option<PositionToken>, ApiError> {
    let Some(text) = last_event_id.filter(|text| !text.is_empty()) else { return Ok(None) };
    let position = text.parse();
    position
        .map(Some)
        .map_err(|error| ApiError::new(ErrorKind::InvalidHeader, format!("Last-Event-ID {text:?}: {error}")))
}

/// The longest time that a change waits.
fn interval(every: Option<&str>) -> Result<Duration, ApiError> {
    let ms = match every {
        None => DEFAULT_WATCH_MS as f64,
        Some(text) => {
            let ms = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
                (Some(number), _) => number.parse::<f64>().ok(),
                (_, Some(number)) => number.parse::<f64>().ok().map(|seconds| seconds * 1_000.0),
                _ => None,
            };
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".ms".contains(&byte));
            ms.filter(|ms| is_plain && ms.is_finite())
                .ok_or_else(|| query::invalid("every is a time such as 100ms or 1.5s"))?
        }
    };
    Ok(Duration::from_millis((ms as u64).clamp(LEAST_WATCH_MS, MOST_WATCH_MS)))
}

/// The values that a query names.
fn watched(query: QueryString<'_>) -> Result<WatchState, ApiError> {
    let QueryString { namespace, words, entries, watch: WatchParameters { top, .. }, .. } = query;
    if let Some(top) = top {
        if !words.is_empty() || !entries.keys.is_empty() {
            let detail = "watch the largest counts (top), or words and keys; for both, open two streams";
            return Err(query::invalid(detail));
        }
        return Ok(WatchState::of_top(&namespace, query::number_of_words("top", &top, MAX_TOP)?));
    }
    if words.is_empty() && entries.keys.is_empty() {
        return Err(query::invalid("name what to watch: word=hello, key=session/17, or top=10"));
    }
    if words.iter().any(|word| word.is_empty()) {
        return Err(no_word(ErrorKind::InvalidParameter));
    }
    let (words, keys) = (reads::distinct(words), reads::distinct(entries.keys));
    keys.iter().try_for_each(|key| key::check(key)).map_err(query::invalid)?;
    Ok(WatchState::of_values(&namespace, &words, &keys))
}

fn too_many_watchers(refused: BudgetRefusal, state: &AppState) -> ApiError {
    let detail = match refused {
        BudgetRefusal::All => {
            let most = state.budgets.watchers.bound();
            format!(
                "{most} streams are open, as many as may be; ask again, or another node, or watch more words in one"
            )
        }
        BudgetRefusal::Address { share, .. } => format!(
            "{share} streams of this address are open, its share; watch more words in one stream, or ask another node; \
             {BEHIND_A_PROXY}"
        ),
    };
    ApiError::new(ErrorKind::TooManyWatchers, detail)
}

/// Counts a watcher until dropped.
struct OpenWatcher(IntGauge);

impl OpenWatcher {
    fn count(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OpenWatcher {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The events of one watcher, each made when the client has taken the one before.
struct EventStream {
    state: Arc<AppState>,
    watched: WatchState,
    movement: watch::Receiver<u64>,
    /// The time between two looks.
    tick: Duration,
    next_look: Instant,
    heartbeat_at: Instant,
    has_begun: bool,
    _open: OpenWatcher,
    _place: BudgetShare,
}

impl EventStream {
    fn new(state: Arc<AppState>, watched: WatchState, interval: Duration, place: BudgetShare) -> Self {
        // Before the first look: what is applied behind it is a movement.
        let movement = state.movement.subscribe(&state.service.view);
        let (now, open) = (Instant::now(), OpenWatcher::count(&state.service.metrics.watchers));
        Self {
            state,
            watched,
            movement,
            // A tenth is for the way to the client, so that a change is there when the interval ends.
            tick: interval - interval / 10,
            next_look: now,
            heartbeat_at: now + HEARTBEAT,
            has_begun: false,
            _open: open,
            _place: place,
        }
    }

    /// Gives the next piece of the answer, and the stream behind it.
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let mut piece = Vec::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            event::write_begin(&mut piece);
            self.look(&mut piece);
        }
        while piece.is_empty() {
            self.until_due().await;
            let now = Instant::now();
            if now >= self.next_look && self.is_due() {
                self.look(&mut piece);
            }
            if piece.is_empty() && now >= self.heartbeat_at {
                event::write_heartbeat(self.watched.heartbeat(), &mut piece);
            }
        }
        self.heartbeat_at = Instant::now() + HEARTBEAT;
        Some((Ok(piece.into()), self))
    }

    /// Returns whether there may be something new. The stream does not end before its thread does.
    fn is_due(&self) -> bool {
        let time = self.state.service.watch_time();
        self.movement.has_changed().unwrap_or(true) || self.watched.due_in_ms(time) == Some(0)
    }

    /// Waits for a tick at which there may be something new, or for the time of a heartbeat.
    async fn until_due(&mut self) {
        // While records come, a watcher is woken once a tick, and no movement wakes it.
        sleep_until(self.next_look.min(self.heartbeat_at)).await;
        if !self.is_due() {
            let due_in_ms = self.watched.due_in_ms(self.state.service.watch_time());
            let due = due_in_ms.map_or(self.heartbeat_at, |ms| Instant::now() + Duration::from_millis(ms));
            tokio::select! {
                biased;
                _ = self.movement.changed() => self.movement.mark_changed(),
                () = sleep_until(due.min(self.heartbeat_at)) => {}
            }
            self.pass_ticks();
        }
    }

    /// The next look is at the next tick. Ticks stay where they are, so that streams which are woken together do not
    /// stay together.
    fn pass_ticks(&mut self) {
        let now = Instant::now();
        while self.next_look <= now {
            self.next_look += self.tick;
        }
    }

    /// Reads what is watched now, and writes what the client has to be sent.
    fn look(&mut self, piece: &mut Vec<u8>) {
        // Before the read: what is applied behind it is a movement again.
        self.movement.mark_unchanged();
        self.pass_ticks();
        if let Some(event) = self.event() {
            event::write(&event, &self.watched, self.state.service.logged_time(), piece);
            self.state.service.metrics.watch_events.inc();
        }
    }

    fn event(&mut self) -> Option<WatchEvent> {
        let service = &self.state.service;
        let current = service.view.current();
        // On a follower that has lost what it had there is nothing to read, until it has everything anew.
        self.watched.look(current.as_ref()?, &self.state.rankings, service.watch_time())
    }
}
