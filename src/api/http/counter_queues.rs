//! The queues of counters in `/metrics` and `/status`.

use crate::{
    api::error::ErrorKind,
    base::clock::LoggedTime,
    base::metrics::{NodeMetrics, ScrapeFamilies},
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
    /// Those that were set aside to wait here since the process began; none are in the main queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    sidelined: Option<u64>,
    /// Those that were refused because it was full; none are by STALE.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
}

/// Each queue by its name, at `now`.
pub(super) fn status(
    totals: &QueueTotals,
    now: LoggedTime,
    metrics: &NodeMetrics,
) -> BTreeMap<&'static str, CounterQueueStatus> {
    let each = CounterQueue::QUEUES.into_iter().zip(totals.lengths);
    each.map(|(queue, length)| {
        let oldest_ms = length.oldest.map_or(0, |oldest| now.since_ms(oldest));
        let (sidelined, refused_as) = match queue {
            CounterQueue::Excess => (Some(metrics.sidelined.of(queue.name())), Some(ErrorKind::RateExceeded)),
            CounterQueue::Stale => (Some(metrics.sidelined.of(queue.name())), None),
            CounterQueue::Main | CounterQueue::Window => (None, Some(ErrorKind::CounterQueueFull)),
        };
        let refused = refused_as.and_then(ErrorKind::refusal_label).map(|label| metrics.refusals(label));
        (queue.name(), CounterQueueStatus { increments: length.increments, oldest_ms, sidelined, refused })
    })
    .collect()
}

/// Adds the lengths of the queues, and the ages of what waits for longest.
pub(super) fn of_queues(totals: &QueueTotals, now: LoggedTime, metrics: &NodeMetrics, families: &ScrapeFamilies) {
    let of = status(totals, now, metrics);
    let each = |value: fn(&CounterQueueStatus) -> f64| {
        of.iter().map(|(name, queue)| (vec![*name], value(queue))).collect::<Vec<_>>()
    };
    let help = "Increments of counters that wait, by queue.";
    families.gauge("memdb_increments_waiting", help, &["queue"], each(|queue| queue.increments as f64));
    let help = "Bytes of memory of the queues of counters and the windows of their keys, about.";
    families.gauge("memdb_increments_bytes", help, &[], vec![(vec![], totals.bytes as f64)]);
    let help = "Seconds for which the oldest increment has waited, by queue.";
    families.gauge("memdb_increments_oldest_seconds", help, &["queue"], each(|queue| queue.oldest_ms as f64 / 1e3));
}

/// A namespace as clients name it; `None` for what is not shown to them.
pub(super) fn shown(mut namespace: NamespaceSize) -> Option<NamespaceSize> {
    namespace.name = shown_namespace(&namespace.name)?.to_owned();
    Some(namespace)
}
