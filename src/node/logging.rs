//! The log of a node: on stderr, and in a file beside the data.

use super::NodeError;
use crate::config::{LogFormat, NodeSettings};
use std::{ffi::OsStr, io::IsTerminal, path::Path};
use tracing::Subscriber;
use tracing_appender::{
    non_blocking::WorkerGuard,
    rolling::{Builder, Rotation},
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

/// Days of log files that are kept.
const LOG_FILES_KEPT: usize = 7;

/// The filter of the log, which can be set while the log is written.
#[derive(Clone)]
pub(super) struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// A filter, and the layer that applies it.
    ///
    /// # Errors
    /// If these are no directives of a filter.
    pub(super) fn new(directives: &str) -> Result<(Self, reload::Layer<EnvFilter, Registry>), String> {
        let (layer, handle) = reload::Layer::new(filter(directives)?);
        Ok((Self(handle), layer))
    }

    /// Filters by these directives from now on.
    ///
    /// # Errors
    /// If they are none.
    pub(super) fn set(&self, directives: &str) -> Result<(), String> {
        self.0.reload(filter(directives)?).map_err(|error| error.to_string())
    }
}

fn filter(directives: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(directives).map_err(|error| error.to_string())
}

/// The log of a node that runs.
pub(super) struct NodeLog {
    pub(super) filter: LogFilter,
    /// Writes the rest of the log file when it is dropped.
    _file: Option<WorkerGuard>,
}

/// Starts logging as the settings say, to a file too if there is a directory that is this node's, and says who begins.
pub(super) fn start(settings: &NodeSettings, data_dir: Option<&Path>) -> Result<NodeLog, NodeError> {
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
    let (filter, filtered) = LogFilter::new(&settings.log).map_err(unusable)?;
    let format = settings.log_format;
    let is_colored = is_colored(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
    let to_terminal = match format {
        // A line that cannot be written is lost: telling so on stderr, which may take nothing either, would panic.
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(is_colored)
            .with_target(false)
            .log_internal_errors(false)
            .boxed(),
        LogFormat::Json => json(std::io::stderr),
    };
    let to_file = file.map(|file| match format {
        LogFormat::Text => fmt::layer().with_writer(file).with_ansi(false).boxed(),
        LogFormat::Json => json(file),
    });
    // A second node in one process keeps the first one's logging.
    let _ = tracing_subscriber::registry().with(filtered).with(to_terminal).with(to_file).try_init();
    if let Some(error) = failed {
        tracing::warn!(%error, "no log file can be written in the data directory: this goes to the terminal alone");
    }
    log_start(settings);
    Ok(NodeLog { filter, _file: guard })
}

/// A JSON object on each line.
fn json<S, W>(writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(false).log_internal_errors(false).json();
    layer.flatten_event(true).with_current_span(false).with_span_list(false).boxed()
}

/// Returns whether the terminal is written to in colour: as <https://no-color.org> has it, not if `NO_COLOR` is set to
/// something.
fn is_colored(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// Says who begins, and where. The address is told once it is served.
fn log_start(settings: &NodeSettings) {
    let (version, role, pid) = (env!("CARGO_PKG_VERSION"), settings.start_role().name(), std::process::id());
    let directory = settings.data_dir().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let data_dir = directory.map(|path| path.display().to_string());
    tracing::info!(version, role, data_dir, pid, "memdb begins");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_where_nobody_asked_for_none() {
        let set = |value: &'static str| Some(OsStr::new(value));
        assert!(is_colored(true, None) && is_colored(true, set("")));
        assert!(!is_colored(true, set("1")) && !is_colored(true, set("0")));
        assert!(!is_colored(false, None) && !is_colored(false, set("")));
    }
}
