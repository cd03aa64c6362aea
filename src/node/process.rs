//! The process of a node: its runtime and its signals, around the roles that it runs.

#[cfg(feature = "opentelemetry")]
use super::trace_export::TraceExport;
use super::{
    FileFollowerNode, MachineClock, NodeError, SettingsSource, logging,
    reload::{self, RunningSettings},
    resources::{NodeListener, NodeResources},
    role_switch::RunningRole,
    service_manager::{self, LifeSigns},
};
#[cfg(feature = "failpoints")]
use crate::base::failpoint;
use crate::{base::reload::ReloadList, config::ResolvedSettings, data::counts::quotas::SharedQuotas};
use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Interval, interval};

/// Interval at which files are looked at that are read anew when they change.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Runs a leader or a replica until SIGTERM or SIGINT, until its terminal is closed, or until its main thread dies. It
/// may become the other meanwhile. On SIGHUP it reads `source` and everything else anew that it can take over.
///
/// # Errors
/// The [`NodeError`] of a start that failed, or [`NodeError::Stop`] if the stop was not clean.
pub fn run(resolved: ResolvedSettings, source: SettingsSource) -> Result<(), NodeError> {
    let ResolvedSettings { settings, origins } = resolved;
    let NodeProcess { runtime, signals, signs } = NodeProcess::begin()?;
    let held = NodeResources::take(&settings, Arc::new(MachineClock))?;
    let log = logging::start(&settings, settings.data_dir())?;
    #[cfg(feature = "opentelemetry")]
    let _traces = TraceExport::start(&settings, &held.name)?;
    held.listening.tls.log_expiry();
    tell_warning(&held.listening);
    let (reloads, server) = (held.listening.reloads.clone(), held.listening.server.clone());
    let quotas = held.view.quotas().clone();
    reloads.add(Arc::new(RunningSettings::new(source, (&settings, origins), log.filter, server, quotas)));
    let running = RunningRole::open(&held, &settings)?;
    tracing::info!(address = %running.address(), "serving");
    service_manager::tell_ready();
    let signals = tokio::sync::Mutex::new(signals);
    let stopped = || async { signals.lock().await.until_stopped(&reloads, &signs).await };
    running.run(held, &settings, &runtime, &signs, stopped)
}

/// Runs a local replica until SIGTERM or SIGINT, or until its terminal is closed. On SIGHUP it reads `source` and
/// everything else anew that it can take over.
///
/// # Errors
/// [`NodeError::Listen`] or [`NodeError::DataDirectory`] if it cannot be started, [`NodeError::Stop`] if its thread has
/// died.
pub fn run_local_replica(resolved: ResolvedSettings, source: SettingsSource) -> Result<(), NodeError> {
    let ResolvedSettings { settings, origins } = resolved;
    let mut process = NodeProcess::begin()?;
    let listening = NodeListener::take(&settings)?;
    // The directory is the leader's: the log is written to the terminal alone.
    let log = logging::start(&settings, None)?;
    #[cfg(feature = "opentelemetry")]
    let _traces = TraceExport::start(&settings, settings.node_name.as_deref().unwrap_or("local-replica"))?;
    listening.tls.log_expiry();
    tell_warning(&listening);
    let server = listening.server.clone();
    let quotas = SharedQuotas::default(); // who never leads has none
    listening.reloads.add(Arc::new(RunningSettings::new(source, (&settings, origins), log.filter, server, quotas)));
    let following = FileFollowerNode::open(&listening, &settings, Arc::new(MachineClock))?;
    tracing::info!(address = %following.address(), "serving");
    service_manager::tell_ready();
    let ended = following.ended();
    process.signs.run(None);
    process.until_stopped(&listening.reloads, async move { ended.cancelled().await });
    following.stop()
}

/// Says what is odd about the users file, now that there is a log.
fn tell_warning(listening: &NodeListener) {
    if let Some(warning) = listening.access.warning() {
        tracing::warn!("{warning}");
    }
}

/// The process of a node: its signals, from the first moment on. One that comes while a large database is loaded must
/// not be lost.
struct NodeProcess {
    runtime: tokio::runtime::Runtime,
    signals: SignalStreams,
    signs: LifeSigns,
}

impl NodeProcess {
    fn begin() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async { survive_large_files().and_then(|()| SignalStreams::new()) })?;
        arm_failpoint();
        let signs = LifeSigns::default();
        service_manager::watch(&signs)?;
        Ok(Self { runtime, signals, signs })
    }

    fn until_stopped(&mut self, reloads: &ReloadList, died: impl Future<Output = ()>) {
        let why = self.runtime.block_on(async {
            tokio::select! {
                signal = self.signals.until_stopped(reloads, &self.signs) => signal,
                () = died => "its main thread has died",
            }
        });
        self.signs.pause();
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
    hang_up: tokio::signal::unix::Signal,
    /// True if the process was started in a terminal.
    had_terminal: bool,
}

impl SignalStreams {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            had_terminal: io::stderr().is_terminal(),
        })
    }

    /// Waits for a signal that ends the process. Meanwhile it reads anew what has changed, or all on SIGHUP, and gives
    /// signs of life.
    async fn until_stopped(&mut self, reloads: &ReloadList, signs: &LifeSigns) -> &'static str {
        let mut looks = interval(LOOK_INTERVAL);
        let mut beats = service_manager::beat_interval().map(interval);
        let why = loop {
            tokio::select! {
                _ = self.terminate.recv() => break "SIGTERM",
                _ = self.interrupt.recv() => break "SIGINT",
                _ = self.hang_up.recv() => {
                    // The system sends it too when the terminal of the process is closed, and nobody is there any more.
                    if self.had_terminal && !io::stderr().is_terminal() {
                        break "its terminal was closed";
                    }
                    service_manager::tell_reloading();
                    reload::reload_all(reloads);
                    service_manager::tell_ready();
                }
                _ = looks.tick() => reload::log_reports(&reloads.reload_changed()),
                () = next_tick(&mut beats) => signs.beat(),
            }
        };
        service_manager::tell_stopping();
        why
    }
}

/// Waits for the next tick; for ever where there is none.
async fn next_tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
