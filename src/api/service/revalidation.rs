//! Keys of stale values whose leader is asked behind an answer.

use crate::{base::limits::ORIGIN_REVALIDATIONS, engine::leader::OriginKey};
use parking_lot::Mutex;
use std::{collections::HashSet, sync::Arc};

/// The keys that this node has its leader asked about, each once at a time.
#[derive(Default)]
pub(super) struct RevalidationSet(Mutex<HashSet<OriginKey>>);

/// The turn of a key, which ends when this is dropped.
pub(super) struct RevalidationTurn {
    set: Arc<RevalidationSet>,
    key: OriginKey,
}

impl RevalidationSet {
    /// The turn of a key; `None` if it has one already, or as many have one as may. Whoever reads it next tries again.
    pub(super) fn begin(self: &Arc<Self>, key: OriginKey) -> Option<RevalidationTurn> {
        let mut keys = self.0.lock();
        if keys.len() >= ORIGIN_REVALIDATIONS || !keys.insert(key.clone()) {
            return None;
        }
        Some(RevalidationTurn { set: Arc::clone(self), key })
    }
}

impl Drop for RevalidationTurn {
    fn drop(&mut self) {
        self.set.0.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_turn_at_a_time_and_there_are_so_many_turns() {
        let set = Arc::<RevalidationSet>::default();
        let begin = |number: usize| set.begin(OriginKey { namespace: "data".into(), key: number.to_string().into() });
        let mut turns: Vec<_> = (0..ORIGIN_REVALIDATIONS).map(|number| begin(number).expect("there is room")).collect();
        assert!(begin(0).is_none() && begin(ORIGIN_REVALIDATIONS).is_none());
        drop(turns.swap_remove(0));
        assert!(begin(0).is_some() && begin(1).is_none());
    }
}
