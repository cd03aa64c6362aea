//! Counters behind back-pressure: an increment waits in a queue until a worker adds it to its counter.
//!
//! Nothing here is a kind of data of its own. Counters are counts in a namespace of their own, and so is what waits:
//! each queue's amount by key and tick of arrival. An increment is a record that adds to what waits, a worker's step a
//! record that moves an amount from there to the counter, so an increment counts once through every crash and every
//! change of leader. The same namespace holds the windows by which a key's rate is limited.

mod key_windows;
mod limits;
mod names;
mod queues;
mod ticked_amounts;
mod waiting_key;
mod worker_pace;

pub use key_windows::{KeyWindows, RateQuota};
pub use limits::CounterLimits;
pub use names::{COUNTERS, COUNTERS_STORED, QUEUES_STORED, shown_namespace};
pub use queues::{CounterQueues, QueueLength, QueueMove, QueueRefusal, QueueTotals, SidelinedIncrements};
pub use waiting_key::{CounterQueue, WaitingKey};
pub use worker_pace::WorkerPace;
