//! The levels at which a write is acknowledged.

use std::{fmt, str::FromStr};

/// The condition under which a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckLevel {
    /// Appended to the log and applied: survives kill -9 of the process.
    Leader,
    /// Also synced to the leader's disk: survives power loss there.
    Disk,
    /// Appended and applied, and applied by a replica: survives the loss of the leader, if that replica takes over.
    Replica,
    /// As `Replica`, and synced to the leader's disk.
    DiskReplica,
    /// Synced on the leader and on a replica: survives the loss of either machine.
    ReplicaDisk,
}

impl AckLevel {
    /// All levels, each at its number.
    pub const ALL: [AckLevel; 5] =
        [AckLevel::Leader, AckLevel::Disk, AckLevel::Replica, AckLevel::DiskReplica, AckLevel::ReplicaDisk];

    /// Returns whether the leader's own sync is part of it.
    pub fn wants_sync(self) -> bool {
        matches!(self, AckLevel::Disk | AckLevel::DiskReplica | AckLevel::ReplicaDisk)
    }

    /// Returns whether a replica is part of it.
    pub fn wants_replica(self) -> bool {
        matches!(self, AckLevel::Replica | AckLevel::DiskReplica | AckLevel::ReplicaDisk)
    }

    /// This level, on a leader that syncs before every answer.
    pub fn synced(self) -> Self {
        match self {
            AckLevel::Leader | AckLevel::Disk => AckLevel::Disk,
            AckLevel::Replica | AckLevel::DiskReplica => AckLevel::DiskReplica,
            AckLevel::ReplicaDisk => AckLevel::ReplicaDisk,
        }
    }

    /// Gives the part of it that is left where no replica answers.
    pub fn without_replicas(self) -> Self {
        if self.wants_sync() { AckLevel::Disk } else { AckLevel::Leader }
    }
}

impl FromStr for AckLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "leader" => Ok(AckLevel::Leader),
            "disk" => Ok(AckLevel::Disk),
            "replica" => Ok(AckLevel::Replica),
            // In a query, + stands for a space.
            "replica+disk" | "replica disk" => Ok(AckLevel::ReplicaDisk),
            _ => Err(format!("{text:?} is no level: leader, disk, replica, or replica+disk")),
        }
    }
}

impl fmt::Display for AckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AckLevel::Leader => "leader",
            AckLevel::Disk => "disk",
            AckLevel::Replica => "replica",
            AckLevel::DiskReplica => "disk, replica",
            AckLevel::ReplicaDisk => "replica+disk",
        })
    }
}
