//! Bugs that can be planted in how the cores are driven, to show that the checker finds them.

/// One bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The leader counts an offer as applied when it is sent.
    CountsBeforeApplied,
    /// A replica that has restarted says that it is where it was before.
    ClaimsItsOldPosition,
    /// A replica answers a gap as if it had applied what was offered.
    SkipsGaps,
    /// The leader takes a replica's word for a position of another history.
    ResumesALostBranch,
    /// The leader counts whatever sequence a replica names, whatever its epoch.
    CountsOtherEpochs,
    /// A snapshot that was loaded is said to be the state at which its walk began.
    SnapshotAtItsBegin,
    /// A full sync leaves the window of keys behind.
    LosesTheWindow,
    /// A leader that has lost the end of its log asks nobody for it.
    TakesNothingBack,
    /// A restart goes on in the same epoch.
    SameEpochAgain,
    /// A replica says that it has synced before it has.
    SaysSyncedTooSoon,
    /// A replica's disk does not sync.
    ReplicaSyncDoesNothing,
}
