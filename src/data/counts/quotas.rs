//! The quotas of namespaces: how much each may hold, as the settings of a node say.
//!
//! Only a leader looks at them, and only before a write is logged. A record is applied whatever the quotas are.

use crate::base::atomics::ArcSwapOption;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The most that a namespace may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceQuota {
    /// Distinct words; `None`: any number.
    pub words: Option<u64>,
    /// Memory of its words and entries in bytes; `None`: any amount.
    pub bytes: Option<u64>,
}

/// The quotas of all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaTable {
    /// Quotas of namespaces by their names.
    pub named: BTreeMap<Box<str>, NamespaceQuota>,
    /// The quota of each namespace that has none of its own.
    pub others: Option<NamespaceQuota>,
}

impl QuotaTable {
    /// The quota of a namespace.
    pub fn of(&self, namespace: &str) -> Option<NamespaceQuota> {
        self.named.get(namespace).copied().or(self.others)
    }
}

/// Quotas that may be replaced while they are in use. Cheap to clone: all clones are one.
#[derive(Clone, Default)]
pub struct SharedQuotas(Arc<ArcSwapOption<QuotaTable>>);

impl SharedQuotas {
    /// Has these be in force from now on.
    pub fn set(&self, table: QuotaTable) {
        // Without a table each look is one load, and nothing is searched for a name.
        let is_empty = table == QuotaTable::default();
        self.0.store((!is_empty).then(|| Arc::new(table)));
    }

    /// The quota of a namespace.
    #[inline]
    pub fn of(&self, namespace: &str) -> Option<NamespaceQuota> {
        self.0.load().as_ref().and_then(|table| table.of(namespace))
    }
}

/// The part of a quota that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind {
    /// Distinct words.
    Words,
    /// Memory in bytes.
    Bytes,
}

impl fmt::Display for QuotaKind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            QuotaKind::Words => "distinct words",
            QuotaKind::Bytes => "bytes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_own_quota_or_that_of_the_others_and_clones_see_a_new_table() {
        let quota = |words| NamespaceQuota { words: Some(words), bytes: None };
        let quotas = SharedQuotas::default();
        let clone = quotas.clone();
        assert_eq!(clone.of("a"), None);
        let named = BTreeMap::from([("a".into(), quota(1))]);
        quotas.set(QuotaTable { named: named.clone(), others: None });
        assert_eq!((clone.of("a"), clone.of("b")), (Some(quota(1)), None));
        quotas.set(QuotaTable { named, others: Some(quota(2)) });
        assert_eq!((clone.of("a"), clone.of("b")), (Some(quota(1)), Some(quota(2))));
        quotas.set(QuotaTable::default());
        assert_eq!((clone.of("a"), clone.of("b")), (None, None));
    }
}
