//! The part of a commit group that knows the quotas of namespaces, of words and entries together.

use crate::{
    data::command::WriteError,
    data::counts::NamespaceRoom,
    data::counts::admission::PendingCounts,
    data::counts::quotas::{QuotaKind, SharedQuotas},
    data::entries::admission::PlannedChange,
    data::store::Store,
};
use std::collections::BTreeMap;

/// The quotas, and what the group does to the entries of namespaces that have one.
#[derive(Default)]
pub(super) struct PendingQuotas {
    pub(super) shared: SharedQuotas,
    entry_bytes: BTreeMap<Box<str>, i64>,
}

impl PendingQuotas {
    /// Forgets the group: another record starts.
    pub(super) fn clear(&mut self) {
        self.entry_bytes.clear();
    }

    /// The room for words that a namespace has left beside the planned changes of entries; `None` without a quota.
    ///
    /// # Errors
    /// [`WriteError::NamespaceFull`] if the changes have no room themselves. Changes that take none are never refused.
    pub(super) fn room(
        &self,
        (store, counts): (&Store, &PendingCounts),
        namespace: &str,
        changes: &[PlannedChange],
    ) -> Result<Option<NamespaceRoom>, WriteError> {
        // First, because most nodes have no quotas: nothing is looked up for them.
        let Some(quota) = self.shared.of(namespace) else { return Ok(None) };
        let (words, words_bytes) = counts.size(store.counts(), namespace);
        let words = quota.words.map_or(u64::MAX, |most| most.saturating_sub(words));
        let Some(most) = quota.bytes else { return Ok(Some(NamespaceRoom { words, bytes: u64::MAX })) };
        let pending = self.entry_bytes.get(namespace).copied().unwrap_or(0);
        let held = (words_bytes + store.entries().namespace_bytes(namespace)).saturating_add_signed(pending);
        // Evictions that make room elsewhere count where they are: only those of this namespace give it room.
        let added: i64 = changes.iter().map(|change| change.added_bytes(namespace)).sum();
        if added > 0 && held.saturating_add_signed(added) > most {
            return Err(WriteError::NamespaceFull(QuotaKind::Bytes));
        }
        Ok(Some(NamespaceRoom { words, bytes: most.saturating_sub(held.saturating_add_signed(added)) }))
    }

    /// Takes changes in that were admitted.
    pub(super) fn add(&mut self, namespace: &str, changes: &[PlannedChange]) {
        let added: i64 = changes.iter().map(|change| change.added_bytes(namespace)).sum();
        if added != 0 {
            *self.entry_bytes.entry(namespace.into()).or_insert(0) += added;
        }
    }
}
