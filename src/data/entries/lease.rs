//! The right to store a value that is worked out elsewhere: it ends with the next write of its key.

use crate::{base::failpoint::inject, base::position::Sequence};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The right to store what was fetched for a key, as long as nobody else writes that key. A delete of a key that is not
/// there leaves no trace in the store, so a condition on the entry alone would let a value in that is older than the
/// delete.
#[derive(Clone, Debug)]
pub struct WriteLease {
    /// The version of the entry that was there when the fetch began.
    version: Option<Sequence>,
    is_revoked: Arc<AtomicBool>,
}

impl WriteLease {
    /// A lease on a key that holds an entry of this version, or none.
    pub fn new(version: Option<Sequence>) -> Self {
        Self { version, is_revoked: Arc::default() }
    }

    /// The version of the entry that was there at its beginning.
    pub fn version(&self) -> Option<Sequence> {
        self.version
    }

    /// Ends it. To be called before the write that ends it is handed to the Writer: whatever the Writer stores under
    /// the lease then lies before that write.
    pub fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
    }

    /// Returns whether it still holds, with an entry of this version there.
    pub(super) fn holds(&self, live: Option<Sequence>) -> bool {
        inject!(StoresBehindADelete, return true);
        // What has expired meanwhile was written by nobody.
        !self.is_revoked.load(Ordering::Acquire) && live.is_none_or(|version| Some(version) == self.version)
    }
}

/// Two are the same if they end together.
impl PartialEq for WriteLease {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version && Arc::ptr_eq(&self.is_revoked, &other.is_revoked)
    }
}

impl Eq for WriteLease {}
