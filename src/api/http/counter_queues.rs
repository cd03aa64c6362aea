//! The queues of counters in `/metrics` and `/status`.

use crate::{
    base::clock::LoggedTime,
    base::metrics::ScrapeFamilies,
    data::counters::{CounterQueue, QueueTotals, shown_namespace},
    data::store::NamespaceSize,
};
use std::collections::BTreeMap;

/// A queue in `/status`.
#[derive(serde::Serialize)]
pub(super) struct CounterQueueStatus {
    increments: u64,
    /// The time for which the oldest has waited.
    oldest_ms: u64,
}

/// Each queue by its name, at `now`.
pub(super) fn status(totals: &QueueTotals, now: LoggedTime) -> BTreeMap<&'static str, CounterQueueStatus> {
    let each = CounterQueue::QUEUES.into_iter().zip(totals.lengths);
    each.map(|(queue, length)| {
        let oldest_ms = length.oldest.map_or(0, |oldest| now.since_ms(oldest));
        (queue.name(), CounterQueueStatus { increments: length.increments, oldest_ms })
    })
    .collect()
}

/// Adds the lengths of the queues, and the ages of what waits for longest.
pub(super) fn of_queues(totals: &QueueTotals, now: LoggedTime, families: &ScrapeFamilies) {
    let of = status(totals, now);
    let each = |value: fn(&CounterQueueStatus) -> f64| {
        of.iter().map(|(name, queue)| (vec![*name], value(queue))).collect::<Vec<_>>()
    };
    let help = "Increments of counters that wait, by queue.";
    families.gauge("memdb_increments_waiting", help, &["queue"], each(|queue| queue.increments as f64));
    let help = "Seconds for which the oldest increment has waited, by queue.";
    families.gauge("memdb_increments_oldest_seconds", help, &["queue"], each(|queue| queue.oldest_ms as f64 / 1e3));
}

/// A namespace as clients name it; `None` for what is not shown to them.
pub(super) fn shown(mut namespace: NamespaceSize) -> Option<NamespaceSize> {
    namespace.name = shown_namespace(&namespace.name)?.to_owned();
    Some(namespace)
}
