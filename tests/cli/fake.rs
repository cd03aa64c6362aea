//! A leader in memory that keeps the contract of `/bulk` for streams, and can be told to misbehave.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{net::TcpListener, runtime::Runtime};

/// What happens to a line, by its place among all that arrive and were not done before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is counted and answered.
    Counted,
    /// It is refused, to come again at once.
    Busy,
    /// It is counted, but the connection breaks before the answer.
    AnswerLost,
    /// It is not counted, and the answer is 500.
    Unknown,
    /// The connection breaks before it is read.
    RequestLost,
    /// Nothing is read any more, and no answer comes.
    Hung,
}

#[derive(Default)]
pub struct State {
    /// Word → count.
    pub counts: BTreeMap<String, i64>,
    /// Every text that was counted.
    pub texts: Vec<String>,
    /// Stream → its lines that are done.
    pub streams: HashMap<String, u64>,
    /// Stream → words counted under it.
    pub stream_words: HashMap<String, u64>,
    /// The query strings that lines came with.
    pub queries: Vec<String>,
    /// The databases that bodies were stated to be for.
    pub meant: Vec<Option<String>>,
}

pub struct Fake {
    pub url: String,
    pub state: Arc<Mutex<State>>,
    _runtime: Runtime,
}

type Fates = Arc<dyn Fn(usize) -> Fate + Send + Sync>;

/// A leader whose posts all count.
pub fn leader() -> Fake {
    leader_with(|_| Fate::Counted)
}

pub fn leader_with(fates: impl Fn(usize) -> Fate + Send + Sync + 'static) -> Fake {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let state = Arc::<Mutex<State>>::default();
    let (shared, fates, arrived) = (Arc::clone(&state), Arc::new(fates) as Fates, Arc::<AtomicUsize>::default());
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (state, fates, arrived) = (Arc::clone(&shared), Arc::clone(&fates), Arc::clone(&arrived));
            let service = service_fn(move |request| {
                answer(request, Arc::clone(&state), Arc::clone(&fates), Arc::clone(&arrived))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    Fake { url, state, _runtime: runtime }
}

/// Answers; an error closes the connection.
async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    fates: Fates,
    arrived: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, &'static str> {
    match request.uri().path() {
        "/health/ready" => Ok(reply(200, &json!({"status": "ready"}))),
        "/wordcount" => {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let state = state.lock().expect("no panic");
            let words = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "word");
            let counts: BTreeMap<_, _> =
                words.map(|(_, word)| (word.to_string(), state.counts.get(&*word).copied().unwrap_or(0))).collect();
            Ok(reply(200, &json!(counts)))
        }
        "/top" => {
            let mut top: Vec<_> = state.lock().expect("no panic").counts.clone().into_iter().collect();
            top.sort_by_key(|(word, count)| (-count, word.clone()));
            let top: Vec<_> = top.into_iter().map(|(word, count)| json!({"word": word, "count": count})).collect();
            Ok(reply(200, &json!(top)))
        }
        "/status" => Ok(reply(200, &json!({"role": "leader", "queue": {"waiting": 0, "limit": 4096}}))),
        "/bulk" => bulk(request, &state, &fates, &arrived).await,
        _ => Ok(reply(404, &json!({"title": "Not found", "status": 404}))),
    }
}

/// Takes lines as they come. Each that was not done before has a fate of its own, and one that is not counted ends the
/// request.
async fn bulk(
    request: Request<Incoming>,
    state: &Mutex<State>,
    fates: &Fates,
    arrived: &AtomicUsize,
) -> Result<Response<Full<Bytes>>, &'static str> {
    let header = request.headers().get("Memdb-Stream").expect("the client sends lines in streams");
    let stream = format!("bulk {}", header.to_str().expect("ASCII"));
    let is_json = request.headers()["Content-Type"] == "application/x-ndjson";
    let query = request.uri().query().unwrap_or_default().to_owned();
    let meant = request.headers().get("Memdb-Forwarded").map(|value| value.to_str().expect("ASCII").to_owned());
    state.lock().expect("no panic").meant.push(meant);
    let (mut skipped, mut words_now, mut refusals) = (0, 0, Vec::new());
    let (mut body, mut rest, mut lines) = (request.into_body(), Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        rest.extend_from_slice(&frame.map_err(|_| "torn")?.into_data().unwrap_or_default());
        let whole = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        for line in rest.drain(..whole).collect::<Vec<u8>>().split_inclusive(|&byte| byte == b'\n') {
            let text = String::from_utf8(line.to_vec()).expect("the client checks UTF-8");
            lines += 1;
            if lines <= state.lock().expect("no panic").streams.get(&stream).copied().unwrap_or(0) {
                skipped += 1;
                continue;
            }
            let text = if is_json { text_of(&text) } else { Some(text) };
            if text.is_none() {
                refusals.push(json!({"line": lines, "reason": "a JSON object with a string member text is wanted"}));
            }
            let text = text.unwrap_or_default();
            let fate = fates(arrived.fetch_add(1, Ordering::SeqCst));
            if matches!(fate, Fate::Counted | Fate::AnswerLost) {
                let mut state = state.lock().expect("no panic");
                let text = if is_json { &text } else { text.trim_end_matches('\n') };
                state.count(stream.clone(), lines, text, query.clone());
                state
                    .stream_words
                    .entry(stream.clone())
                    .and_modify(|words| *words += count(text))
                    .or_insert(count(text));
                words_now += count(text);
            }
            match fate {
                Fate::Counted => {}
                Fate::AnswerLost | Fate::RequestLost => return Err("lost"),
                Fate::Busy => return Ok(busy()),
                Fate::Hung => std::future::pending().await,
                Fate::Unknown => return Ok(reply(500, &json!({"title": "outcome-unknown", "status": 500}))),
            }
        }
    }
    let state = state.lock().expect("no panic");
    let of = |map: &HashMap<String, u64>| map.get(&stream).copied().unwrap_or(0);
    let (lines, words) = (of(&state.streams), of(&state.stream_words));
    Ok(reply(
        202,
        &json!({
            "taken": 0, "skipped": skipped, "refused": refusals.len(), "refusals": refusals, "words": words_now, "left_out": 0,
            "line_bytes": 1 << 20, "stream_lines": lines, "stream_words": words, "stream_left_out": 0,
            "position": format!("1-{}-00000007", state.texts.len()),
        }),
    ))
}

/// The text of a JSON line; of a blank one it is empty.
fn text_of(line: &str) -> Option<String> {
    if line.trim().is_empty() {
        return Some(String::new());
    }
    let object: serde_json::Value = serde_json::from_str(line).ok()?;
    object["text"].as_str().map(str::to_owned)
}

fn count(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn busy() -> Response<Full<Bytes>> {
    let mut busy = reply(429, &json!({"title": "Busy", "status": 429, "detail": "come again"}));
    busy.headers_mut().insert("Retry-After", "0".parse().expect("a header"));
    busy
}

impl State {
    fn count(&mut self, stream: String, line: u64, text: &str, query: String) {
        self.streams.insert(stream, line);
        self.queries.push(query);
        if !text.trim().is_empty() {
            self.texts.push(text.to_owned());
        }
        for word in text.split_whitespace() {
            *self.counts.entry(word.to_owned()).or_default() += 1;
        }
    }
}

fn reply(status: u16, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}
