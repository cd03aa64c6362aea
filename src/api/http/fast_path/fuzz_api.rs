//! The fast path beside hyper and the routes, without a connection: for the fuzzer (`fuzz/fuzz_targets`). Only in
//! builds for tests.

use super::{
    super::{
        middleware::InstrumentedService, routes, secret_throttle::ConnectionPeer, state::AppState, test_support::state,
    },
    responder::{FastPathResponder, Remainder},
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

/// Answers the requests that come in pieces of this size.
pub fn answered(bytes: &[u8], piece: usize) -> BothAnswers {
    thread_local!(static STATE: Arc<AppState> = Arc::new(state()));
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

fn undated(answers: &[u8]) -> String {
    let text = String::from_utf8(answers.to_vec()).expect("answers are UTF-8");
    text.split("\r\n").filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\r\n")
}
