//! The lane beside hyper and the routes, without a connection: for the fuzzer (`fuzz/targets`). Only in builds for tests.

use super::{
    super::{
        About, Api, HttpSettings, NodeAccess, Role,
        body::Uploads,
        bulk,
        front::Front,
        guesses::Client,
        routes::{self, Site},
    },
    desk::{Desk, Rest},
};
use crate::{
    client::Forward,
    clock::LoggedTime,
    format::Identity,
    metrics::{Metrics, NodeLimits, NodeRole},
    position::{EpochTable, Position},
    record::{Change, WordCount},
    store::{Mark, Store, WindowLimits},
    tally::Pool,
    tokenizer::Analyzer,
    view::{Current, View},
};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

/// Requests, and their answers on both ways.
pub struct Answered {
    /// Bytes of the requests that the lane has answered.
    pub consumed: usize,
    /// Its answers, without their dates.
    pub lane: String,
    /// What hyper and the routes answer to the same bytes.
    pub routes: String,
}

/// Answers the requests that come in pieces of this size.
pub fn answered(bytes: &[u8], piece: usize) -> Answered {
    thread_local!(static SITE: Arc<Site> = Arc::new(site()));
    SITE.with(|site| {
        let (mut desk, mut consumed, mut come, mut lane) = (Desk::default(), 0, 0, Vec::new());
        loop {
            let (done, rest) = desk.answer(&bytes[consumed..come], site, Instant::now());
            consumed += done;
            lane.extend_from_slice(&desk.answers);
            match rest {
                Rest::Waiting => {}
                Rest::Partial | Rest::Body(_) if come < bytes.len() => come = bytes.len().min(come + piece),
                Rest::Partial | Rest::Body(_) | Rest::Post | Rest::Other => break,
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let routes = runtime.block_on(by_routes(site, &bytes[..consumed]));
        Answered { consumed, lane: undated(&lane), routes: undated(&routes) }
    })
}

async fn by_routes(site: &Arc<Site>, requests: &[u8]) -> Vec<u8> {
    let (server, mut client) = tokio::io::duplex(16 << 20);
    client.write_all(requests).await.expect("they fit");
    client.shutdown().await.expect("it is open");
    let front = Front::new(warp::service(routes::routes(site)), Arc::clone(site), Client::unknown(), None);
    let served = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), front).await;
    assert!(served.is_ok(), "hyper does not take what the lane has answered: {served:?}");
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).await.expect("it is open");
    answers
}

fn undated(answers: &[u8]) -> String {
    let text = String::from_utf8(answers.to_vec()).expect("answers are UTF-8");
    text.split("\r\n").filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\r\n")
}

/// A site with some counts. It takes no writes, so no leader is behind it.
pub(in crate::api::http) fn site() -> Site {
    let identity = Identity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 11 };
    let mut store = Store::new(identity.hasher(), WindowLimits::default());
    for namespace in ["words", "b"] {
        let counts = [("hello", 5), ("a", 1), ("北 x", i64::MIN)].map(|(word, count)| WordCount { word, count });
        store.load_image(&Change { namespace, dropped: false, counts: counts.to_vec() });
    }
    store.end_image();
    store.set_mark(Mark { position: Position::new(1, 7), ..Mark::default() }, LoggedTime::ZERO);
    let view = Arc::new(View::new(false));
    view.serve(Current { identity, epochs: EpochTable::default(), reader: store.reader() });
    let forward = Forward::new(None, || Ok(1)).expect("a client");
    let about = About { role: "", node: 1, url: String::new(), not_promoted: None, default_ack: None };
    let api = Api {
        view,
        role: Role::LocalReplica { notice: Arc::default(), forward },
        nodes: NodeAccess::Nobody,
        browsers: Arc::default(),
        metrics: Arc::new(Metrics::new(NodeRole::LocalReplica, NodeLimits::default())),
        about: Arc::new(about),
    };
    let (uploads, offers) = (Uploads::new(0), Uploads::new(0));
    Site {
        api,
        settings: HttpSettings::default(),
        uploads,
        offers,
        bulk_room: Arc::new(bulk::Room::new()),
        tallies: Pool::new(0, 0),
        guesses: Arc::default(),
        started: Instant::now(),
        encoders: routes::encoders(),
    }
}
