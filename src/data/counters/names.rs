//! The names under which counters, and what waits for them, are stored.

/// The namespace of counters, as clients name it.
pub const COUNTERS: &str = "counters";
/// The same as it is stored. No client can name it: words of a namespace that clients fill are folded, keys are not.
pub const COUNTERS_STORED: &str = "~counters";
/// The namespace of what waits, which is not shown.
pub const QUEUES_STORED: &str = crate::base::limits::QUEUES_NAMESPACE;

/// Gives the name under which clients see a stored namespace; `None` if they do not.
pub fn shown_namespace(stored: &str) -> Option<&str> {
    match stored {
        COUNTERS_STORED => Some(COUNTERS),
        QUEUES_STORED => None,
        other => Some(other),
    }
}
