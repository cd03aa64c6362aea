//! Bugs that can be planted around the core, to show that the checker finds them; those in it are in
//! `src/base/failpoint.rs`.

/// A bug in the disk, or in how the Writer is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The disk reports syncs it did not do.
    SyncDoesNothing,
    /// The disk reports syncs of the directory that it did not do.
    DirectorySyncDoesNothing,
    /// A rename takes the old file away before the new one has its name.
    RenameInTwoSteps,
    /// The disk reports success for appends that it did in part.
    ShortAppendIsOk,
    /// A sync that failed is reported as done.
    SwallowsSyncErrors,
    /// Now and then a write counts without its first word.
    CountsInPart,
    /// A stop says it was clean while writes are not synced.
    ClaimsACleanStop,
    /// A repeat is sent without its key.
    DropsKeysOfRepeats,
    /// Two batches change places on their way to the Writer, and their answers do not.
    MixesUpAnswers,
    /// The process takes the wall clock for the one that counts the time that passes.
    TakesTheWallForElapsed,
}
