//! A leader in memory that keeps the contract of `/post` for streams, and can be told to misbehave.

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

/// What happens to a post, by its place among all posts that arrive.
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
}

#[derive(Default)]
pub struct State {
    /// Word → count.
    pub counts: BTreeMap<String, i64>,
    /// Every text that was counted.
    pub texts: Vec<String>,
    /// Stream → its last number.
    pub streams: HashMap<String, u64>,
    /// Bulk stream → words counted under it.
    pub stream_words: HashMap<String, u64>,
    /// The query strings posts came with.
    pub queries: Vec<String>,
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
        "/post" => {
            let fate = fates(arrived.fetch_add(1, Ordering::SeqCst));
            match fate {
                Fate::RequestLost => return Err("lost"),
                Fate::Busy => return Ok(busy()),
                Fate::Unknown => return Ok(reply(500, &json!({"title": "outcome-unknown", "status": 500}))),
                Fate::Counted | Fate::AnswerLost => {}
            }
            let header =
                |name: &str| request.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned());
            let stream = header("Memdb-Stream").expect("the client posts in streams");
            let number = header("Memdb-Stream-Seq").expect("with a number").parse().expect("which is one");
            let query = request.uri().query().unwrap_or_default().to_owned();
            let body = request.into_body().collect().await.map_err(|_| "torn")?.to_bytes();
            let text = String::from_utf8(body.to_vec()).expect("the client checks UTF-8");
            let answer = state.lock().expect("no panic").post(stream, number, &text, query);
            if fate == Fate::AnswerLost { Err("lost") } else { Ok(answer) }
        }
        _ => Ok(reply(404, &json!({"title": "Not found", "status": 404}))),
    }
}

/// Takes lines as they come. Each that was not done before has a fate of its own, and one that is not counted ends the request.
async fn bulk(
    request: Request<Incoming>,
    state: &Mutex<State>,
    fates: &Fates,
    arrived: &AtomicUsize,
) -> Result<Response<Full<Bytes>>, &'static str> {
    let header = request.headers().get("Memdb-Stream").expect("the client sends lines in streams");
    let stream = format!("bulk {}", header.to_str().expect("ASCII"));
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (mut body, mut rest, mut lines) = (request.into_body(), Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        rest.extend_from_slice(&frame.map_err(|_| "torn")?.into_data().unwrap_or_default());
        let whole = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        for line in rest.drain(..whole).collect::<Vec<u8>>().split_inclusive(|&byte| byte == b'\n') {
            let text = String::from_utf8(line.to_vec()).expect("the client checks UTF-8");
            lines += 1;
            if lines <= state.lock().expect("no panic").streams.get(&stream).copied().unwrap_or(0) {
                continue;
            }
            let fate = fates(arrived.fetch_add(1, Ordering::SeqCst));
            if matches!(fate, Fate::Counted | Fate::AnswerLost) {
                let mut state = state.lock().expect("no panic");
                state.post(stream.clone(), lines, text.trim_end_matches('\n'), query.clone());
                state
                    .stream_words
                    .entry(stream.clone())
                    .and_modify(|words| *words += count(&text))
                    .or_insert(count(&text));
            }
            match fate {
                Fate::Counted => {}
                Fate::AnswerLost | Fate::RequestLost => return Err("lost"),
                Fate::Busy => return Ok(busy()),
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
            "taken": 0, "skipped": 0, "refused": 0, "words": 0, "left_out": 0, "line_bytes": 1 << 20,
            "stream_lines": lines, "stream_words": words, "stream_left_out": 0, "position": format!("1-{}-00000007", state.texts.len()),
        }),
    ))
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
    fn post(&mut self, stream: String, number: u64, text: &str, query: String) -> Response<Full<Bytes>> {
        if text.len() > 1 << 20 {
            return reply(413, &json!({"title": "Too large", "status": 413, "detail": "at most 1048576 bytes"}));
        }
        let last = self.streams.entry(stream).or_default();
        if number > *last + 1 {
            return reply(409, &json!({"title": "Gap", "status": 409, "detail": "a gap", "expected": *last + 1}));
        }
        let replayed = number <= *last;
        if !replayed {
            *last = number;
            self.texts.push(text.to_owned());
            self.queries.push(query);
            for word in text.split_whitespace() {
                *self.counts.entry(word.to_owned()).or_default() += 1;
            }
        }
        let mut answer = json!({
            "words": text.split_whitespace().count(), "distinct": 0, "left_out": 0, "acks": 0,
            "position": format!("1-{}-00000007", self.texts.len()), "stream_last": *last,
        });
        if replayed {
            answer["replayed"] = true.into();
        }
        reply(202, &answer)
    }
}

fn reply(status: u16, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}
