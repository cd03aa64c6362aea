//! The roles of a node.

use std::fmt;

/// The part a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartRole {
    /// Takes the writes.
    Leader,
    /// Follows a leader over the network.
    Replica,
    /// Follows the files of a leader on the same machine.
    LocalReplica,
}

impl StartRole {
    /// All roles.
    pub const ALL: [StartRole; 3] = [StartRole::Leader, StartRole::Replica, StartRole::LocalReplica];

    /// The name, which is also the verb that starts such a node.
    pub const fn name(self) -> &'static str {
        match self {
            StartRole::Leader => "leader",
            StartRole::Replica => "replica",
            StartRole::LocalReplica => "local-replica",
        }
    }
}

impl fmt::Display for StartRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
