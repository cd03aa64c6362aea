//! State for tests of this layer and for the fuzzer.

use super::{
    About, Api, HttpSettings, NodeAccess, Role,
    body::Uploads,
    bulk::limiter::BulkLimiter,
    state::{self, AppState},
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
use std::sync::Arc;
use tokio::time::Instant;

/// A state with some counts. It takes no writes, so no leader is behind it.
pub(super) fn state() -> AppState {
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
    AppState {
        api,
        settings: HttpSettings::default(),
        uploads,
        offers,
        bulk_limiter: Arc::new(BulkLimiter::new()),
        tallies: Pool::new(0, 0),
        guesses: Arc::default(),
        started: Instant::now(),
        encoders: state::encoders(),
    }
}
