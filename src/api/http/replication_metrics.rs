//! The numbers in `/metrics` that are known at each scrape only: of each replica, of each namespace, of entries, the
//! lag of a follower.

use crate::{
    api::service::Service,
    base::limits,
    base::metrics::{EntryReadTotals, ScrapeFamilies},
    data::counts::quotas::{NamespaceQuota, SharedQuotas},
    data::entries::EntryTotals,
    data::store::NamespaceSize,
    replication::PeerStatus,
};

/// Adds the leader's numbers of each replica, or the lag of a follower.
pub(super) fn of_replication(service: &Service, families: &ScrapeFamilies) {
    if let Some(replicas) = service.replicas() {
        of_replicas(&replicas, families);
    }
    if let Some(lag_ms) = service.view.lag_ms() {
        let help = "Seconds since the node last had all that its leader had.";
        families.gauge("memdb_lag_seconds", help, &[], [(Vec::new(), lag_ms as f64 / 1e3)]);
    }
}

/// Adds words, total and quota of the namespaces with most words: so many that a client cannot flood who scrapes.
pub(super) fn of_namespaces(mut namespaces: Vec<NamespaceSize>, quotas: &SharedQuotas, families: &ScrapeFamilies) {
    namespaces.sort_by(|a, b| b.words.cmp(&a.words).then_with(|| a.name.cmp(&b.name)));
    namespaces.truncate(limits::NAMESPACES_IN_METRICS);
    let each = |value: fn(&NamespaceSize) -> f64| {
        let labelled = |one| (vec![NamespaceSize::name(one)], value(one));
        namespaces.iter().map(labelled).collect::<Vec<_>>()
    };
    let help = "Distinct words of the namespace; of the namespaces with most words.";
    families.gauge("memdb_namespace_words", help, &["ns"], each(|one| one.words as f64));
    let help = "Sum of all counts of the namespace; of the namespaces with most words.";
    families.gauge("memdb_namespace_counts", help, &["ns"], each(|one| one.total as f64));
    let limited = |limit: fn(NamespaceQuota) -> Option<u64>| {
        let labelled = |one| Some((vec![NamespaceSize::name(one)], limit(quotas.of(&one.name)?)? as f64));
        namespaces.iter().filter_map(labelled).collect::<Vec<_>>()
    };
    let help = "Distinct words that the namespace may have; of the namespaces with most words.";
    families.gauge("memdb_namespace_words_limit", help, &["ns"], limited(|quota| quota.words));
    let help = "Memory in bytes that the namespace may take; of the namespaces with most words.";
    families.gauge("memdb_namespace_bytes_limit", help, &["ns"], limited(|quota| quota.bytes));
}

/// Adds what the entries of this node have come to.
pub(super) fn of_entries(totals: EntryTotals, reads: EntryReadTotals, families: &ScrapeFamilies) {
    let help = "Entries whose time had come.";
    families.counter("memdb_entries_expired_total", help, &[], [(Vec::new(), totals.expired as f64)]);
    let help = "Entries that made room for others.";
    families.counter("memdb_entries_evicted_total", help, &[], [(Vec::new(), totals.evicted as f64)]);
    let gets = [(vec!["hit"], reads.hits as f64), (vec!["miss"], reads.misses as f64)];
    families.counter("memdb_entry_gets_total", "Reads of entries, by what they found.", &["result"], gets);
}

fn of_replicas(replicas: &[PeerStatus], families: &ScrapeFamilies) {
    let labelled = |value: fn(&PeerStatus) -> Option<u64>| {
        let known = move |one| Some((vec![PeerStatus::url(one)], value(one)? as f64));
        replicas.iter().filter_map(known).collect::<Vec<_>>()
    };
    for (name, help, value) in REPLICA_GAUGES {
        families.gauge(name, help, &["replica"], labelled(*value));
    }
    let failed = labelled(|one| Some(one.failed_exchanges));
    let help = "Exchanges with the replica that failed.";
    families.counter("memdb_replica_failed_exchanges_total", help, &["replica"], failed);
}

type Value = fn(&PeerStatus) -> Option<u64>;

const REPLICA_GAUGES: &[(&str, &str, Value)] = &[
    ("memdb_replica_connected", "1 while the replica is on this history and answers in time.", |one| {
        Some(u64::from(one.state == "streaming"))
    }),
    ("memdb_replica_lag_records", "Records the replica is behind.", |one| Some(one.lag_records)),
    ("memdb_replica_position", "The sequence the replica has applied.", |one| Some(one.applied)),
    ("memdb_replica_synced_position", "The sequence the replica has synced, if it keeps files.", |one| one.synced),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metrics::{NodeLimits, NodeMetrics, NodeRole};

    fn rendered(families: &ScrapeFamilies) -> String {
        NodeMetrics::new(NodeRole::Leader, NodeLimits::default(), &[]).render_with(families.gather())
    }

    fn status(url: &str, synced: Option<u64>) -> PeerStatus {
        PeerStatus {
            url: url.to_owned(),
            state: "streaming",
            position: None,
            applied: 7,
            synced,
            lag_records: 3,
            silent_ms: None,
            failures: 0,
            failed_exchanges: 2,
        }
    }

    #[test]
    fn each_number_is_described_once_and_labels_are_escaped() {
        let families = ScrapeFamilies::default();
        of_replicas(&[status("http://a:1", Some(5)), status("odd\"\\\n", None)], &families);
        let text = rendered(&families);
        assert_eq!(text.matches("# TYPE memdb_replica_position gauge\n").count(), 1);
        for line in [
            "memdb_replica_connected{replica=\"http://a:1\"} 1\n",
            "memdb_replica_lag_records{replica=\"odd\\\"\\\\\\n\"} 3\n",
            "memdb_replica_failed_exchanges_total{replica=\"http://a:1\"} 2\n",
            "# TYPE memdb_replica_synced_position gauge\nmemdb_replica_synced_position{replica=\"http://a:1\"} 5\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
        let none = ScrapeFamilies::default();
        of_replicas(&[], &none);
        assert!(!rendered(&none).contains("memdb_replica"));
    }

    #[test]
    fn the_series_of_namespaces_are_bounded_and_those_with_most_words_stay() {
        let families = ScrapeFamilies::default();
        let size =
            |at: usize| NamespaceSize { name: format!("ns-{at}"), words: at as u64, total: -(at as i64), bytes: 0 };
        of_namespaces((1..=limits::NAMESPACES_IN_METRICS + 1).map(size).collect(), &SharedQuotas::default(), &families);
        let text = rendered(&families);
        assert_eq!(text.matches("\nmemdb_namespace_words{").count(), limits::NAMESPACES_IN_METRICS);
        assert!(!text.contains("{ns=\"ns-1\"}"), "{text}");
        assert!(text.contains("\nmemdb_namespace_words{ns=\"ns-2\"} 2\n"), "{text}");
        assert!(text.contains("\nmemdb_namespace_counts{ns=\"ns-2\"} -2\n"), "{text}");
    }
}
