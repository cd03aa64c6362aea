//! What the node says of itself: on stderr, and in a file beside the data.

use super::NodeError;
use std::{io::IsTerminal, path::Path};
use tracing_appender::{
    non_blocking::WorkerGuard,
    rolling::{Builder, Rotation},
};
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Days of log files that are kept.
const LOG_FILES_KEPT: usize = 7;

/// Starts logging as `filter` says, to a file too if there is a directory that is this node's; what is returned writes the
/// rest when it is dropped.
pub(super) fn start(filter: &str, data_dir: Option<&Path>) -> Result<Option<WorkerGuard>, NodeError> {
    let unusable = |error: String| NodeError::DataDirectory {
        path: data_dir.unwrap_or(Path::new("")).to_owned(),
        error: std::io::Error::other(error),
    };
    let file = |data_dir: &Path| {
        Builder::new()
            .rotation(Rotation::DAILY)
            .filename_prefix("memdb.log")
            .max_log_files(LOG_FILES_KEPT)
            .build(data_dir)
    };
    // On a full disk, or one that only can be read, the terminal has to do.
    let (file, failed) = match data_dir.map(file).transpose() {
        Ok(file) => (file, None),
        Err(error) => (None, Some(error)),
    };
    let (file, guard) = file.map(tracing_appender::non_blocking).unzip();
    let filter = || EnvFilter::builder().parse(filter).map_err(|error| unusable(error.to_string()));
    let to_terminal = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_filter(filter()?);
    let filter_of_file = filter()?;
    let to_file = file.map(|file| fmt::layer().with_writer(file).with_ansi(false).with_filter(filter_of_file));
    // A second node in one process keeps the first one's logging.
    let _ = tracing_subscriber::registry().with(to_terminal).with(to_file).try_init();
    if let Some(error) = failed {
        tracing::warn!(%error, "no log file can be written in the data directory: this goes to the terminal alone");
    }
    Ok(guard)
}
