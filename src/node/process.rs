//! The process of a node: its runtime and its signals, around the roles that it runs.

use super::{
    FileFollowerNode, MachineClock, NodeError, logging,
    resources::{NodeListener, NodeResources},
    role_switch::RunningRole,
};
#[cfg(feature = "failpoints")]
use crate::base::failpoint;
use crate::config::NodeSettings;
use std::{io, sync::Arc};

/// Runs a leader or a replica until SIGTERM, SIGINT or SIGHUP, or until its main thread dies. It may become the other
/// meanwhile.
///
/// # Errors
/// The [`NodeError`] of a start that failed, or [`NodeError::Stop`] if the stop was not clean.
pub fn run(settings: &NodeSettings) -> Result<(), NodeError> {
    let NodeProcess { runtime, signals } = NodeProcess::begin()?;
    let held = NodeResources::take(settings, Arc::new(MachineClock))?;
    let _log_file = logging::start(settings, settings.data_dir())?;
    let running = RunningRole::open(&held, settings)?;
    tracing::info!(address = %running.address(), "serving");
    let signals = tokio::sync::Mutex::new(signals);
    running.run(held, settings, &runtime, || async { signals.lock().await.next().await })
}

/// Runs a local replica until SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// [`NodeError::Listen`] or [`NodeError::DataDirectory`] if it cannot be started, [`NodeError::Stop`] if its thread has
/// died.
pub fn run_local_replica(settings: &NodeSettings) -> Result<(), NodeError> {
    let mut process = NodeProcess::begin()?;
    let listening = NodeListener::take(settings)?;
    // The directory is the leader's: the log is written to the terminal alone.
    let _log_file = logging::start(settings, None)?;
    let following = FileFollowerNode::open(&listening, settings, Arc::new(MachineClock))?;
    tracing::info!(address = %following.address(), "serving");
    let ended = following.ended();
    process.until_stopped(async move { ended.cancelled().await });
    following.stop()
}

/// The process of a node: its signals, from the first moment on. One that comes while a large database is loaded must
/// not be lost.
struct NodeProcess {
    runtime: tokio::runtime::Runtime,
    signals: SignalStreams,
}

impl NodeProcess {
    fn begin() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async { survive_large_files().and_then(|()| SignalStreams::new()) })?;
        arm_failpoint();
        Ok(Self { runtime, signals })
    }

    fn until_stopped(&mut self, died: impl Future<Output = ()>) {
        let why = self.runtime.block_on(async {
            tokio::select! {
                signal = self.signals.next() => signal,
                () = died => "its main thread has died",
            }
        });
        tracing::info!(why, "stopping");
    }
}

/// A test says where this process is to die (`src/base/failpoint.rs`).
fn arm_failpoint() {
    #[cfg(feature = "failpoints")]
    if let Ok(what) = std::env::var("MEMDB_FAILPOINT") {
        failpoint::arm(&what).expect("MEMDB_FAILPOINT is set by a test");
    }
}

/// A signal that has a handler does not end the process: the write beyond a bound on file sizes (`RLIMIT_FSIZE`), which
/// it comes with, fails, and is refused as on a full disk.
fn survive_large_files() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // The handler stays when nobody listens any more.
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

struct SignalStreams {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// The terminal is closed, or somebody hopes that settings are read anew: there is nothing to read anew yet.
    hang_up: tokio::signal::unix::Signal,
}

impl SignalStreams {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}
