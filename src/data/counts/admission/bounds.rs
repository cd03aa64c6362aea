//! The bounds of what is admitted, and the refusals at them.

use crate::data::counts::quotas::QuotaKind;

/// Bounds on what is admitted.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Memory the words may take, in bytes.
    pub memory_bytes: usize,
    /// Memory the entries may take, in bytes.
    pub entry_bytes: usize,
    /// Namespaces that there may be.
    pub namespaces: usize,
    /// The room that the quota of the batch's namespace leaves; `None`: it has no quota.
    pub room: Option<NamespaceRoom>,
    /// Posts of one namespace that are admitted within [`crate::base::limits::KEY_WINDOW_MS`]; `None`: any number.
    pub post_rate: Option<u64>,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        let namespaces = crate::base::limits::MAX_NAMESPACES;
        Self { memory_bytes: usize::MAX, entry_bytes: usize::MAX, namespaces, room: None, post_rate: None }
    }
}

/// The room that a namespace has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceRoom {
    /// Distinct words that may come.
    pub words: u64,
    /// Bytes that its words may take besides.
    pub bytes: u64,
}

/// The reason why counts were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountsRefusal {
    /// The count of this word would leave the range of an `i64`.
    Overflow {
        /// The first such word.
        word: String,
    },
    /// An amount given by hand would take the count of this word beyond [`crate::base::limits::MAX_GIVEN_COUNT`].
    BeyondBound {
        /// The first such word.
        word: String,
    },
    /// A post that is deleted or replaced would take the count of this word below zero.
    BelowZero {
        /// The first such word.
        word: String,
    },
    /// The database holds [`crate::base::limits::MAX_NAMESPACES`] namespaces.
    TooManyNamespaces,
    /// The memory budget is used up.
    MemoryFull,
    /// The quota of the namespace is used up.
    NamespaceFull(QuotaKind),
}
