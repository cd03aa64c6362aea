//! Threads for what may take long: one syncs the log, one writes snapshots.

use crate::{
    base::metrics::NodeMetrics,
    data::store::{StateId, StoreReader},
    storage::disk::Disk,
    storage::file_header::{DatabaseIdentity, FileError},
    storage::snapshot::{PublishedSnapshot, SnapshotJob},
    storage::wal::{FileCheck, FileCheckResult, LiveLogOffset, SyncJob},
};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

/// The niceness of the snapshot thread, which gives way to the others.
const SNAPSHOT_NICE: i32 = 10;

/// Length of the snapshot thread's spells of work, and of the rests between them.
const PACE: Duration = Duration::from_millis(1);

/// The result of a worker's task.
pub(in crate::node) enum DiskWorkResult {
    /// A sync.
    Synced(SyncJob, io::Result<()>),
    /// A look at the files.
    FilesChecked(FileCheck, FileCheckResult),
    /// A snapshot, in so many milliseconds.
    Snapshot(Result<PublishedSnapshot, FileError>, u64),
}

/// A snapshot that is wanted.
pub(in crate::node) struct SnapshotRequest {
    pub(in crate::node) identity: DatabaseIdentity,
    pub(in crate::node) reader: StoreReader,
    pub(in crate::node) mark: StateId,
    pub(in crate::node) place: LiveLogOffset,
}

/// The callback by which workers report their results.
pub(in crate::node) type WorkListener = Arc<dyn Fn(DiskWorkResult) + Send + Sync>;

/// Work for the thread that syncs.
enum DiskWork {
    Sync(SyncJob),
    Check(FileCheck),
}

/// Hands work to the threads. They end when this is dropped.
pub(in crate::node) struct DiskWorkers {
    syncs: SyncSender<DiskWork>,
    snapshots: SyncSender<SnapshotRequest>,
}

impl DiskWorkers {
    pub(in crate::node) fn start(
        disk: &Arc<dyn Disk>,
        metrics: &Arc<NodeMetrics>,
        tell: &WorkListener,
    ) -> io::Result<Self> {
        // There is one of each under way at a time, and of those of files that were replaced since: handing over never
        // waits.
        let (syncs, wanted_syncs) = sync_channel(4);
        let (snapshots, wanted_snapshots) = sync_channel(1);
        let (told, counted) = (Arc::clone(tell), Arc::clone(metrics));
        thread("memdb-sync", move || run_syncs(&wanted_syncs, &told, &counted))?;
        let (told, counted, disk) = (Arc::clone(tell), Arc::clone(metrics), Arc::clone(disk));
        thread("memdb-snapshot", move || run_snapshots(wanted_snapshots, &told, &counted, &disk))?;
        Ok(Self { syncs, snapshots })
    }

    pub(in crate::node) fn sync(&self, sync: SyncJob) {
        self.syncs.send(DiskWork::Sync(sync)).expect("the sync thread lives as long as this");
    }

    pub(in crate::node) fn check_files(&self, check: FileCheck) {
        self.syncs.send(DiskWork::Check(check)).expect("the sync thread lives as long as this");
    }

    pub(in crate::node) fn snapshot(&self, wanted: SnapshotRequest) {
        self.snapshots.send(wanted).expect("the snapshot thread lives as long as this");
    }
}

/// Says that a snapshot has failed. Where something was not found, what stands in for it may be gone too: that is
/// looked at next.
pub(in crate::node) fn log_failure(error: &FileError) {
    if error.is_gone() {
        tracing::error!(%error, "a snapshot failed: whether the data directory is still there is looked at now");
    } else {
        tracing::error!(%error, "a snapshot failed; the log stands in for it");
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

fn run_syncs(wanted: &Receiver<DiskWork>, tell: &WorkListener, metrics: &NodeMetrics) {
    for work in wanted {
        let sync = match work {
            DiskWork::Sync(sync) => sync,
            DiskWork::Check(check) => {
                let found = unless_panic(|| check.run(), |error| error);
                tell(DiskWorkResult::FilesChecked(check, found));
                continue;
            }
        };
        let (result, took) = timed(|| unless_panic(|| sync.run(), |error| error));
        metrics.syncs.inc();
        metrics.sync_seconds.observe(took.as_secs_f64());
        tell(DiskWorkResult::Synced(sync, result));
    }
}

fn run_snapshots(wanted: Receiver<SnapshotRequest>, tell: &WorkListener, metrics: &NodeMetrics, disk: &Arc<dyn Disk>) {
    // On Linux this thread alone: a post that comes while a snapshot is written goes first.
    let _ = rustix::process::nice(SNAPSHOT_NICE);
    for SnapshotRequest { identity, reader, mark, place } in wanted {
        let job = || SnapshotJob::start(Arc::clone(disk), identity, reader, mark, place).and_then(run_paced);
        let (result, took) = timed(|| unless_panic(job, FileError::io("a snapshot")));
        if let Ok(published) = &result {
            metrics.snapshots.inc();
            metrics.snapshot_seconds.observe(took.as_secs_f64());
            metrics.snapshot_bytes.set(published.bytes as i64);
        }
        tell(DiskWorkResult::Snapshot(result, took.as_millis() as u64));
    }
}

/// Works for a millisecond, rests for one: on a machine with few cores a post waits for no more than that.
#[allow(clippy::disallowed_methods, reason = "the shell owns the thread, and its pace")]
fn run_paced(job: SnapshotJob) -> Result<PublishedSnapshot, FileError> {
    let mut begun = Instant::now();
    job.run_with(|| {
        if begun.elapsed() >= PACE {
            std::thread::sleep(PACE);
            begun = Instant::now();
        }
    })
}

/// A worker that panics has failed; the Writer must hear of it, or it would wait for ever.
fn unless_panic<T, E>(work: impl FnOnce() -> Result<T, E>, failed: impl FnOnce(io::Error) -> E) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(failed(io::Error::other("the thread panicked"))))
}

#[allow(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    (work(), begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_that_is_told() {
        let told: Result<(), io::Error> = unless_panic(|| panic!("on purpose"), |error| error);
        assert!(told.is_err());
        assert_eq!(unless_panic(|| Ok::<_, io::Error>(7), |error| error).expect("no panic"), 7);
    }
}
