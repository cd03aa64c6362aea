//! The roles of a node.

use std::fmt;

/// The part a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes the writes.
    Leader,
    /// Follows a leader over the network.
    Replica,
    /// Follows the files of a leader on the same machine.
    LocalReplica,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 3] = [Role::Leader, Role::Replica, Role::LocalReplica];

    /// The name, which is also the verb that starts such a node.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Replica => "replica",
            Role::LocalReplica => "local-replica",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
