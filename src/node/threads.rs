//! The threads of a node: each takes what has come for a state machine, and carries out what that wants done.

pub(super) mod discovery;
pub(super) mod disk_workers;
pub(super) mod replica;
pub(super) mod replication;
pub(super) mod sidelined_log;
pub(super) mod writer;
