//! State for tests of this layer and for the fuzzer.

use super::{
    HttpSettings, NodeAbout, NodeAccess,
    bulk::limiter::BulkLimiter,
    request_log::RequestLog,
    state::{AppState, Budgets},
};
use crate::{
    api::service::{ClusterStatsSource, RoleContext, RoleSlots, Service},
    base::clock::{LoggedTime, StoppedClock},
    base::metrics::{NodeLimits, NodeMetrics, NodeRole},
    base::position::Position,
    data::counts::word_counts::WordCountsPool,
    data::entries::CollectionId,
    data::record::{EntryValue, NamespaceChange, WordCount},
    data::store::{DedupLimits, StateId, Store},
    engine::shard::{Shard, ShardRole},
    engine::view::{DatabaseView, ServedDatabase},
    net::address_limits::AddressShares,
    net::{tls::client::ClientTls, write_forwarder::WriteForwarder},
    storage::file_header::DatabaseIdentity,
    text::tokenizer::Analyzer,
};
use std::sync::Arc;
use tokio::time::Instant;

/// A state with some counts. It takes no writes, so no leader is behind it.
#[cfg(test)]
pub(super) fn state() -> AppState {
    state_with(&[])
}

/// A state with some counts and these entries.
pub(super) fn state_with(entries: &[(CollectionId<'_>, &str, EntryValue<'_>)]) -> AppState {
    let identity = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 11 };
    let mut store = Store::new(identity.hasher(), DedupLimits::default());
    for namespace in ["words", "b"] {
        let counts = [("hello", 5), ("a", 1), ("北 x", i64::MIN)].map(|(word, count)| WordCount { word, count });
        store.load_image(&NamespaceChange { namespace, dropped: false, counts: counts.to_vec() });
    }
    for (collection, key, value) in entries {
        store.load_entry(*collection, key, value, 1).expect("it has room");
    }
    store.end_image();
    store.set_state_id(StateId { position: Position::new(1, 7), ..StateId::default() }, LoggedTime::ZERO);
    let view = Arc::new(DatabaseView::new(false));
    view.serve(ServedDatabase { identity, reader: store.reader() });
    let forward = WriteForwarder::new(None, &ClientTls::default(), || Ok(1)).expect("a client");
    let about =
        NodeAbout { role: "", name: String::new(), node: 1, url: String::new(), not_promoted: None, default_ack: None };
    let settings = HttpSettings { threads: 1, ..HttpSettings::default() };
    let budgets = Budgets::new(&settings, AddressShares::new(None, settings.max_connections));
    let shard = Shard::new(Arc::clone(&view), ShardRole::FileFollower { notice: Arc::default() });
    let service = Service {
        view,
        role: RoleSlots::new().add(RoleContext::new(shard, Some(forward), Arc::new(about))),
        clock: Arc::new(StoppedClock),
        metrics: Arc::new(NodeMetrics::new(NodeRole::LocalReplica, NodeLimits::default(), super::ROUTE_LABELS)),
        tallies: WordCountsPool::new(0, 0),
        position_wait: settings.position_wait,
        waiting_reads: Arc::clone(&budgets.waiting_reads),
        origin: None,
    };
    AppState {
        service,
        nodes: NodeAccess::Nobody,
        access: Arc::default(),
        browsers: Arc::default(),
        settings,
        tls: Arc::default(),
        budgets,
        bulk_limiter: Arc::new(BulkLimiter::new()),
        movement: Arc::default(),
        rankings: Arc::default(),
        cluster_stats: Arc::new(ClusterStatsSource::new(&ClientTls::default(), None).expect("a client")),
        guesses: Arc::default(),
        request_log: Arc::new(RequestLog::new(None)),
        started: Instant::now(),
    }
}
