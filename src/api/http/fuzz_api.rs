//! Parses input of clients without a connection, for the fuzzer (`fuzz/fuzz_targets`). Only in builds for tests.

pub use super::entries::fuzz_api as entries;
pub use super::fast_path::fuzz_api::{BothAnswers, answered, incremented_counter};

use super::{
    body::MediaType,
    framing::BodyFraming,
    head::{self, HeadScan},
    query::{QueryString, RouteParameters},
    update, write_request,
};
use crate::{
    api::error::ApiError, base::hash::WordHasher, data::command::WriteBatch, data::counts::word_counts::WordCounts,
    text::tokenizer::Analyzer,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{cell::RefCell, convert::Infallible, rc::Rc};
use tokio::io::AsyncWriteExt;

const HASHER: WordHasher = WordHasher::new(1);

fn status(problem: &ApiError) -> u16 {
    // The answer is made too: it must be one, whatever the bytes.
    assert!(serde_json::from_slice::<serde_json::Value>(&problem.body()).is_ok_and(|body| body.is_object()));
    problem.status().as_u16()
}

/// The body of `POST /post`, counted.
///
/// # Errors
/// The status of the answer.
pub fn post(content_type: Option<&str>, body: &[u8]) -> Result<WriteBatch, u16> {
    let media = MediaType::of(content_type, "text").map_err(|problem| status(&problem))?;
    write_request::counted(&media, &Bytes::copy_from_slice(body)).map_err(|problem| status(&problem))
}

/// The body of `POST /update`: the amounts, and the sum of them without their signs.
///
/// # Errors
/// The status of the answer.
pub fn amounts(body: &str) -> Result<(WordCounts, u64), u16> {
    update::parse(body, Analyzer::Standard, HASHER)
        .map(|read| (read.tally, read.words))
        .map_err(|problem| status(&problem))
}

/// Parses a query: the namespace and the words.
///
/// # Errors
/// The status of the answer.
pub fn query(text: &str) -> Result<(String, Vec<String>), u16> {
    let query = QueryString::parse(text, RouteParameters::WORDCOUNT).map_err(|problem| status(&problem))?;
    let _ = (query.top().map_err(|problem| status(&problem)), query.named_words().map_err(|problem| status(&problem)));
    Ok((query.namespace.into_owned(), query.words.into_iter().map(|word| word.into_owned()).collect()))
}

/// The result of [`look`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScannedHead {
    /// It is not whole.
    Partial,
    /// It is so long.
    Sound(usize),
    /// It is answered with this status.
    Unsound(u16),
}

/// Looks at the head that begins `bytes`.
pub fn look(bytes: &[u8], max_head_bytes: usize) -> ScannedHead {
    match head::look(bytes, max_head_bytes) {
        HeadScan::Partial => ScannedHead::Partial,
        HeadScan::Whole(head) => ScannedHead::Sound(head.head_bytes),
        HeadScan::Unsound(problem) => ScannedHead::Unsound(status(&problem)),
    }
}

/// The methods of the requests that the guard finds in `bytes`, whose bodies come in pieces of this size, and how many
/// bytes it passes on.
pub fn guarded_requests(bytes: &[u8], max_head_bytes: usize, piece: usize) -> (Vec<String>, usize) {
    let (mut methods, mut passed) = (vec![], 0);
    let mut framing = BodyFraming::Ended;
    while framing == BodyFraming::Ended {
        let HeadScan::Whole(head) = head::look(&bytes[passed..], max_head_bytes) else { break };
        let line = bytes[passed..].trim_ascii_start();
        methods
            .push(line.split(|&byte| byte == b' ').next().map(|method| String::from_utf8_lossy(method).into_owned()));
        passed += head.head_bytes;
        framing = head.body;
        for piece in bytes[passed..].chunks(piece) {
            let taken = framing.take(piece);
            passed += taken;
            if taken < piece.len() {
                break;
            }
        }
    }
    (methods.into_iter().flatten().collect(), passed)
}

/// The methods of the requests that hyper finds in what the guard passes on.
pub fn hyper_requests(bytes: &[u8]) -> Vec<String> {
    let methods = Rc::new(RefCell::new(vec![]));
    let service = service_fn(|request: Request<Incoming>| {
        methods.borrow_mut().push(request.method().to_string());
        async {
            // A route that reads its body to the end is the one behind which another request may come.
            let _ = request.into_body().collect().await;
            let mut refusal = Response::new(Empty::<Bytes>::new());
            *refusal.status_mut() = StatusCode::BAD_REQUEST; // with 200 a CONNECT would be let through
            Ok::<_, Infallible>(refusal)
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (server, mut client) = tokio::io::duplex(16 << 20);
        client.write_all(bytes).await.expect("they fit");
        client.shutdown().await.expect("it is open");
        // How it ends does not matter.
        let _ = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await;
    });
    methods.take()
}
