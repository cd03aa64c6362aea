//! The write-ahead log: segments of records, appended to by one owner: the Writer of a leader, or a follower.
//!
//! A segment `log-<position of its first record>` starts with the common file header. A new one is started at every
//! start, for every epoch, and once the last has grown to its bound. `log` appends, `segment` starts segments,
//! `sync_job` makes them durable, `raw_append` is the follower's side. The others read: `scan` at a start, `tail` while
//! the log grows.

mod check;
mod log;
mod payload;
mod raw_append;
mod record;
mod scan;
mod segment;
mod sync_job;
mod tail;
#[cfg(test)]
mod tests;

pub use check::{CheckSchedule, FileCheck, FileCheckResult};
pub use log::{AppendError, Log};
pub use record::{ChainState, RECORD_HEADER_BYTES, RawRecord, RecordError, RecordHeader, encode_record};
use scan::own_header;
pub use scan::{ScanResult, Truncation, salvage, scan, scan_copied, segments};
pub(crate) use scan::{later_records, read_segment};
pub use sync_job::SyncJob;
pub use tail::{LiveLogOffset, LogOffset, LogTail, place_after};
