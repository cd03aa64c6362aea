//! Numbers of entries: of this node, and of all nodes that answer.
//!
//! A leader asks its replicas, a follower asks its leader. All nodes hold the same entries, so what is held is told
//! once, by the leader where it answers; what is read differs from node to node, and is added up.

use super::Service;
use crate::{
    base::limits::STATS_PATIENCE_MS,
    base::secret::Secret,
    net::{stats_client::StatsClient, tls::client::ClientTls, write_forwarder::WriteForwarder},
};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// Patience for one node.
const PATIENCE: Duration = Duration::from_millis(STATS_PATIENCE_MS);
/// The path of a node's own numbers.
const OF_NODE: &str = "/stats?scope=node";

/// The numbers of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStats {
    /// The URL by which others reach the node.
    pub url: String,
    /// Its role.
    pub role: String,
    /// Entries that it holds.
    pub entries: u64,
    /// Memory that they take, in bytes.
    pub bytes: u64,
    /// Reads of entries since the node began.
    pub gets: u64,
    /// Of these, those that found one.
    pub hits: u64,
    /// Of these, those that found none.
    pub misses: u64,
    /// Fetches from the origin.
    #[serde(default)]
    pub loads: u64,
    /// Reads that waited for the fetch of another.
    #[serde(default)]
    pub deduplicated_loads: u64,
    /// Fetches that have failed.
    #[serde(default)]
    pub load_errors: u64,
    /// Entries whose time had come, since the node began.
    pub expired: u64,
    /// Entries that made room for others, since the node began.
    pub evicted: u64,
}

/// The numbers of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStats {
    /// Entries that each node holds, as the leader says.
    pub entries: u64,
    /// Memory that they take on a node, in bytes.
    pub bytes: u64,
    /// Reads of entries on all nodes.
    pub gets: u64,
    /// Of these, those that found one.
    pub hits: u64,
    /// Of these, those that found none.
    pub misses: u64,
    /// Fetches from the origin.
    #[serde(default)]
    pub loads: u64,
    /// Reads that waited for the fetch of another.
    #[serde(default)]
    pub deduplicated_loads: u64,
    /// Fetches that have failed.
    #[serde(default)]
    pub load_errors: u64,
    /// Entries whose time had come, as the leader says.
    pub expired: u64,
    /// Entries that made room for others, as the leader says.
    pub evicted: u64,
    /// The nodes that have answered; the first one gives the numbers that are not added up.
    pub nodes: Vec<NodeStats>,
    /// URLs of nodes that have not.
    pub silent: Vec<String>,
}

impl ClusterStats {
    /// The sums over these nodes, of which the first gives what all have alike.
    fn of(nodes: Vec<NodeStats>, silent: Vec<String>) -> Self {
        let sum = |number: fn(&NodeStats) -> u64| nodes.iter().map(number).sum();
        let NodeStats { entries, bytes, expired, evicted, .. } = nodes.first().cloned().unwrap_or_default();
        let (gets, hits, misses) = (sum(|node| node.gets), sum(|node| node.hits), sum(|node| node.misses));
        let (loads, deduplicated_loads) = (sum(|node| node.loads), sum(|node| node.deduplicated_loads));
        let load_errors = sum(|node| node.load_errors);
        Self {
            entries,
            bytes,
            gets,
            hits,
            misses,
            loads,
            deduplicated_loads,
            load_errors,
            expired,
            evicted,
            nodes,
            silent,
        }
    }
}

/// The way to the numbers of all nodes: asked for by one request at a time, however many clients want them.
pub struct ClusterStatsSource {
    client: StatsClient,
    last: Mutex<Option<(Instant, Arc<ClusterStats>)>>,
}

impl ClusterStatsSource {
    /// A source that has asked nobody yet, and shows others the cluster's secret.
    ///
    /// # Errors
    /// If the system has no HTTP client.
    pub fn new(tls: &ClientTls, secret: Option<&Secret>) -> Result<Self, String> {
        Ok(Self { client: StatsClient::new(tls, secret)?, last: Mutex::default() })
    }

    /// The numbers of all nodes that answer in time.
    pub async fn ask(&self, service: &Service) -> Arc<ClusterStats> {
        let wanted_at = Instant::now();
        let mut last = self.last.lock().await;
        // An answer that was begun after this request came is as good as one of its own.
        if let Some((_, stats)) = last.as_ref().filter(|(begun, _)| *begun >= wanted_at) {
            return Arc::clone(stats);
        }
        let begun = Instant::now();
        let stats = Arc::new(self.gather(service).await);
        *last = Some((begun, Arc::clone(&stats)));
        stats
    }

    async fn gather(&self, service: &Service) -> ClusterStats {
        let own = service.node_stats();
        if let Some(replicas) = service.replicas() {
            let asked = replicas.iter().map(|replica| async {
                let body = self.client.ask(&replica.url, OF_NODE, PATIENCE).await;
                body.and_then(|body| serde_json::from_slice::<NodeStats>(&body).ok()).ok_or(&replica.url)
            });
            let (mut nodes, mut silent) = (vec![own], Vec::new());
            for answer in join_all(asked).await {
                match answer {
                    Ok(node) => nodes.push(node),
                    Err(url) => silent.push(url.clone()),
                }
            }
            return ClusterStats::of(nodes, silent);
        }
        let leader = service.role().forward().and_then(WriteForwarder::leader_of_own);
        let Some(leader) = leader else { return ClusterStats::of(vec![own], Vec::new()) };
        // The leader itself waits for its replicas.
        let body = self.client.ask(&leader, "/stats", 2 * PATIENCE).await;
        let told = body.and_then(|body| serde_json::from_slice::<ClusterStats>(&body).ok());
        let Some(ClusterStats { mut nodes, silent, .. }) = told else {
            return ClusterStats::of(vec![own], vec![leader]);
        };
        // A follower that the leader does not ask, such as a local replica, is one of the nodes too.
        if !nodes.iter().any(|node| node.url == own.url) {
            nodes.push(own);
        }
        ClusterStats::of(nodes, silent)
    }
}

impl Service {
    /// The numbers of this node.
    pub fn node_stats(&self) -> NodeStats {
        let totals = self.view.current().as_ref().map(|current| current.reader.entry_totals()).unwrap_or_default();
        let reads = self.metrics.entry_reads();
        let role = self.look_at_role();
        NodeStats {
            url: role.about.url.clone(),
            role: role.about.role.to_owned(),
            entries: totals.entries,
            bytes: totals.bytes,
            gets: reads.hits + reads.misses,
            hits: reads.hits,
            misses: reads.misses,
            loads: self.metrics.origin.loads.get(),
            deduplicated_loads: self.metrics.origin.deduplicated.get(),
            load_errors: self.metrics.origin.errors.get(),
            expired: totals.expired,
            evicted: totals.evicted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_added_up_and_what_all_hold_alike_is_told_once() {
        let node = |url: &str, hits, misses| NodeStats {
            url: url.to_owned(),
            entries: 5,
            bytes: 700,
            gets: hits + misses,
            hits,
            misses,
            expired: 3,
            ..NodeStats::default()
        };
        let all = ClusterStats::of(vec![node("a", 10, 1), node("b", 20, 2)], vec!["c".to_owned()]);
        assert_eq!((all.entries, all.bytes, all.expired), (5, 700, 3));
        assert_eq!((all.gets, all.hits, all.misses), (33, 30, 3));
        assert_eq!(ClusterStats::of(Vec::new(), Vec::new()), ClusterStats::default());
    }
}
