//! The fast path beside hyper and the routes, without a connection: for the fuzzer (`fuzz/fuzz_targets`). Only in
//! builds for tests.

use super::{
    super::{
        counters, middleware::InstrumentedService, routes, secret_throttle::ConnectionPeer, state::AppState,
        test_support::state_with,
    },
    counter_write::CounterTarget,
    responder::{FastPathResponder, Remainder},
};
use crate::{
    base::clock::LoggedTime,
    data::entries::{CollectionId, CollectionKind, hash_of},
    data::record::{EntryValue, ValueEncoding},
};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

/// Requests, and their answers on both ways.
pub struct BothAnswers {
    /// Bytes of the requests that the fast path has answered.
    pub consumed: usize,
    /// Its answers, without their dates.
    pub fast_path: String,
    /// The response of hyper and the routes to the same bytes.
    pub routes: String,
}

/// The counter that a POST of this path increments, as the fast path reads it; `None`: it is for the routes.
pub fn incremented_counter(path: &str) -> Option<String> {
    let target = CounterTarget::of("POST", path)?;
    counters::key_of(target.name).ok().map(std::borrow::Cow::into_owned)
}

/// Answers the requests that come in pieces of this size.
pub fn answered(bytes: &[u8], piece: usize) -> BothAnswers {
    thread_local!(static STATE: Arc<AppState> = Arc::new(state_with_entries()));
    STATE.with(|state| {
        let (mut responder, mut consumed, mut come, mut path) = (FastPathResponder::default(), 0, 0, Vec::new());
        loop {
            let (done, rest) = responder.answer(&bytes[consumed..come], state, Instant::now());
            consumed += done;
            path.extend_from_slice(&responder.answers);
            match rest {
                Remainder::Waiting => {}
                Remainder::Partial | Remainder::Body(_) if come < bytes.len() => come = bytes.len().min(come + piece),
                Remainder::Partial | Remainder::Body(_) | Remainder::Post(_) | Remainder::Other(_) => break,
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let routes = runtime.block_on(by_routes(state, &bytes[..consumed]));
        BothAnswers { consumed, fast_path: undated(&path), routes: undated(&routes) }
    })
}

async fn by_routes(state: &Arc<AppState>, requests: &[u8]) -> Vec<u8> {
    let (server, mut client) = tokio::io::duplex(16 << 20);
    client.write_all(requests).await.expect("they fit");
    client.shutdown().await.expect("it is open");
    let front = InstrumentedService::new(
        warp::service(routes::routes(state)),
        Arc::clone(state),
        ConnectionPeer::unknown(),
        None,
    );
    let served = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), front).await;
    assert!(served.is_ok(), "hyper does not take what the fast path has answered: {served:?}");
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).await.expect("it is open");
    answers
}

/// Bytes as letters, without the lines that tell of time.
fn undated(answers: &[u8]) -> String {
    let text: String = answers.iter().map(|&byte| char::from(byte)).collect();
    let tells_time = |line: &str| line.starts_with("date: ") || line.starts_with("x-response-time: ");
    text.split("\r\n").filter(|line| !tells_time(line)).collect::<Vec<_>>().join("\r\n")
}

fn plain<'a>(content_type: &'a str, bytes: &'a [u8]) -> EntryValue<'a> {
    EntryValue {
        content_type,
        expires: None,
        counted: false,
        encoding: ValueEncoding::Plain,
        raw_bytes: bytes.len() as u32,
        hash: &[],
        bytes,
    }
}

/// Entries of every form: plain, compressed, empty, without a type, expired, in another namespace, too long for the
/// fast path.
fn state_with_entries() -> AppState {
    const LATER_MS: u64 = 60_000;
    let repeated = b"Words come again, as they do in a text. ".repeat(100);
    let long = vec![b'x'; 70 << 10];
    let frame = zstd::bulk::compress(&repeated, 1).expect("it fits memory");
    let (repeated_hash, long_hash) = (hash_of(&repeated), hash_of(&long));
    let until = |ms, value| EntryValue { expires: Some(LoggedTime::from_ms(ms)), ..value };
    let compressed = EntryValue {
        encoding: ValueEncoding::Zstd,
        raw_bytes: repeated.len() as u32,
        hash: &repeated_hash,
        ..plain("text/plain", &frame)
    };
    let too_long = EntryValue { hash: &long_hash, ..plain("", &long) };
    let greeting = plain("text/plain", b"hello");
    let post = plain("application/json", br#"{"id":"7","title":"a"}"#);
    let at = CollectionId::new;
    state_with(&[
        (at(CollectionKind::Cache, "words"), "greeting", greeting),
        (at(CollectionKind::Cache, "words"), "a/b", plain("", b"\xff\r\n\r\n")),
        (at(CollectionKind::Cache, "words"), "empty", plain("", b"")),
        (at(CollectionKind::Cache, "words"), "long", too_long),
        (at(CollectionKind::Cache, "words"), "again", compressed),
        (at(CollectionKind::Cache, "words"), "expired", until(0, greeting)),
        (at(CollectionKind::Cache, "b"), "\u{5317}", until(LATER_MS, greeting)),
        (at(CollectionKind::Posts, "words"), "7", EntryValue { counted: true, ..post }),
        (at(CollectionKind::Posts, "b"), "a b", post),
    ])
}
