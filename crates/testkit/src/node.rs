//! Nodes that run in the test's own process.

use memdb::{
    config::{self, ConfigInputs, MachineLimits, NodeSettings, SettingFlags, StartRole},
    data::command::WriteBatch,
    data::counts::{WriteOp, word_counts::WordCounts},
    engine::leader::WriteReceipt,
    node::{LeaderNode, NodeError, ReplicaNode},
};
use std::{io::ErrorKind, net::SocketAddr, path::Path};

/// Starts a leader over a directory, with more settings by their names.
///
/// # Errors
///
/// Where the node refuses to start.
pub fn lead(data: &Path, more: &[(&'static str, &str)]) -> Result<LeaderNode, NodeError> {
    let mut values = vec![("data-dir", data.to_str().expect("UTF-8"))];
    values.extend_from_slice(more);
    LeaderNode::start(&settings_of(StartRole::Leader, &values))
}

/// Starts a replica of the leader at this address, over a directory or in memory.
pub fn follow(leader: SocketAddr, data: Option<&Path>) -> ReplicaNode {
    let leader = url(leader);
    let mut values = vec![("leader", leader.as_str())];
    values.extend(data.map(|data| ("data-dir", data.to_str().expect("UTF-8"))));
    ReplicaNode::start(&settings_of(StartRole::Replica, &values)).expect("a replica")
}

/// Counts `amount` of one word at the default level, nothing at all where it is 0, and waits for the receipt.
///
/// # Panics
/// If the leader serves nothing or refuses it.
pub fn write(leading: &LeaderNode, word: &str, amount: i64) -> WriteReceipt {
    let hasher = leading.leader().view().current().as_ref().expect("it serves").identity.hasher();
    let mut counts = WordCounts::new(hasher);
    if amount > 0 {
        counts.add(word, amount).expect("small");
    }
    let namespace = "words".into();
    let batch = WriteBatch {
        is_post: false,
        entries: Vec::new(),
        namespace,
        op: WriteOp::Add,
        counts,
        words: 1,
        left_out: 0,
        key: None,
        fingerprint: 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(leading.leader().submit(batch, None)).expect("written")
}

/// The URL of the node at this address.
pub fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Settings of a node, on a port the system chooses unless one is given.
pub fn settings_of(role: StartRole, values: &[(&'static str, &str)]) -> NodeSettings {
    let around = ConfigInputs {
        environment: &|_| None,
        read_file: &|_| Err(ErrorKind::NotFound.into()),
        machine: MachineLimits { processors: 2, memory_bytes: Some(1 << 30), open_files: 1_000 },
    };
    let port = [("port", "0")];
    let port = port.iter().filter(|_| values.iter().all(|(name, _)| *name != "port"));
    let values = values.iter().chain(port).map(|(name, value)| (*name, (*value).to_owned())).collect();
    config::resolve(role, &SettingFlags { file: None, values }, &around).expect("sound settings").settings
}
