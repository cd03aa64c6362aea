//! Bugs that can be planted, to show that the checker finds them.

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
    /// Writes are acknowledged as synced before the sync.
    AcknowledgesBeforeSync,
    /// A sync that failed is reported as done.
    SwallowsSyncErrors,
    /// A restart forgets which keys have counted.
    ForgetsTheWindow,
    /// Now and then a write counts without its first word.
    CountsInPart,
    /// A restart after a failed sync trusts what the cache shows.
    TrustsTheCache,
    /// A stop says it was clean while writes are not synced.
    ClaimsACleanStop,
    /// A repeat is sent without its key.
    DropsKeysOfRepeats,
    /// Two batches change places on their way to the Writer, and their answers do not.
    MixesUpAnswers,
}

impl Bug {
    pub const ALL: [Bug; 12] = [
        Bug::SyncDoesNothing,
        Bug::DirectorySyncDoesNothing,
        Bug::RenameInTwoSteps,
        Bug::ShortAppendIsOk,
        Bug::AcknowledgesBeforeSync,
        Bug::SwallowsSyncErrors,
        Bug::ForgetsTheWindow,
        Bug::CountsInPart,
        Bug::TrustsTheCache,
        Bug::ClaimsACleanStop,
        Bug::DropsKeysOfRepeats,
        Bug::MixesUpAnswers,
    ];
}
