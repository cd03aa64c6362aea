//! What a leader is told, assembled once: flags, then the environment, then a TOML file, then the default.
//!
//! The settings themselves are one table (`config/table.rs`): a row per setting makes its flag, its variable,
//! its key in the file, its line in `memdb config` and its check, so that the four cannot drift apart. Nothing here
//! reads the process's surroundings by itself; they are handed in as [`Surroundings`].

mod file;
mod flags;
mod machine;
mod table;
mod value;

pub use flags::LeaderFlags;
pub use machine::Machine;

use crate::{leader::AckLevel, tokenizer::Analyzer};
use std::{
    collections::BTreeMap,
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// When records reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Each record is handed to the operating system at once and synced in the background every second.
    Buffered,
    /// Each record is synced before any answer, so that level `leader` means the disk too.
    Synced,
}

/// Everything a leader is told. Plain data, checked: what is here can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderSettings {
    /// The address to listen on.
    pub bind: IpAddr,
    /// The port to listen on; 0 lets the system choose.
    pub port: u16,
    /// Whether an address beyond loopback is meant.
    pub insecure: bool,
    /// Where the database is kept.
    pub data_dir: PathBuf,
    /// The analyzer asked for; `None` takes the database's own, or the standard one for a new database.
    pub analyzer: Option<Analyzer>,
    /// What a 202 means if the request does not say.
    pub ack: AckLevel,
    /// When records reach the disk.
    pub durability: Durability,
    /// How often the backup on disk is made current, in milliseconds; 0: only at a stop.
    pub backup_interval_ms: u64,
    /// The largest text in bytes.
    pub max_body_bytes: usize,
    /// Posts that may wait for the Writer; one more is answered 429.
    pub queue_batches: usize,
    /// Connections open at once; one more waits.
    pub max_connections: usize,
    /// Threads that serve requests.
    pub threads: usize,
    /// Memory for words and counts in bytes; beyond it new words are refused.
    pub max_memory_bytes: u64,
    /// How long an idempotency key is remembered, in milliseconds.
    pub key_window_ms: u64,
    /// How many idempotency keys are remembered.
    pub max_keys: usize,
    /// How long an idle stream is remembered, in milliseconds.
    pub stream_window_ms: u64,
    /// How many streams are remembered.
    pub max_streams: usize,
    /// What is logged: a level, or a filter such as `info,memdb::log=debug`.
    pub log: String,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment variable of this name.
    Environment(String),
    /// The TOML file at this path.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("flag"),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// One line of `memdb config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The setting's name: its flag without the dashes.
    pub name: &'static str,
    /// Its value as given.
    pub value: String,
    /// Where the value came from.
    pub source: Source,
}

/// Settings, and where each came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The settings.
    pub settings: LeaderSettings,
    /// One entry per setting, in the order of the help.
    pub origins: Vec<Origin>,
}

/// Why the settings cannot be used. The message says what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that is none.
    #[error("{name} = {value:?} ({origin}): {reason}")]
    BadValue {
        /// The setting.
        name: &'static str,
        /// Its value as given.
        value: String,
        /// Where it came from.
        origin: Source,
        /// What would be a value.
        reason: String,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Unfit(String),
    /// The file cannot be read.
    #[error("cannot read the settings in {}: {reason}", path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is not what it should be.
    #[error("{}:{line}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// What the settings depend on beside the command line.
pub struct Surroundings<'a> {
    /// Looks up an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file of settings.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// What the machine has.
    pub machine: Machine,
}

impl Surroundings<'_> {
    /// A variable that is set to something: an empty one counts as unset, as compose files have it.
    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }
}

/// Assembles the settings of a leader.
///
/// # Errors
/// A [`ConfigError`] whose message names the value, where it came from, and the fix.
pub fn resolve(flags: &LeaderFlags, around: &Surroundings<'_>) -> Result<Resolved, ConfigError> {
    let path = flags.file.clone().or_else(|| around.variable("MEMDB_CONFIG").map(PathBuf::from));
    let mut from_file = match &path {
        Some(path) => file::read(path, around.read_file)?,
        None => BTreeMap::new(),
    };
    let mut settings = LeaderSettings::blank();
    let mut origins = Vec::with_capacity(table::SETTINGS.len());
    for setting in table::SETTINGS {
        let variable = setting.variable();
        let (value, source) = if let Some(value) = flags.values.get(setting.name) {
            (value.clone(), Source::Flag)
        } else if let Some(value) = around.variable(&variable) {
            (value, Source::Environment(variable))
        } else if let (Some(value), Some(path)) = (from_file.remove(setting.name), &path) {
            (value, Source::File(path.clone()))
        } else {
            (setting.default.to_owned(), Source::Default)
        };
        if let Err(reason) = (setting.apply)(&mut settings, &value, &around.machine) {
            return Err(ConfigError::BadValue { name: setting.name, value, origin: source, reason });
        }
        origins.push(Origin { name: setting.name, value, source });
    }
    settings.check(&around.machine)?;
    Ok(Resolved { settings, origins })
}

impl LeaderSettings {
    /// Before the table is applied. Every field is written by a row of the table, which a test holds.
    fn blank() -> Self {
        LeaderSettings {
            bind: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            insecure: false,
            data_dir: PathBuf::new(),
            backup_interval_ms: 0,
            analyzer: None,
            ack: AckLevel::Leader,
            durability: Durability::Buffered,
            max_body_bytes: 0,
            queue_batches: 0,
            max_connections: 0,
            threads: 0,
            max_memory_bytes: 0,
            key_window_ms: 0,
            max_keys: 0,
            stream_window_ms: 0,
            max_streams: 0,
            log: String::new(),
        }
    }

    /// What must hold between settings.
    fn check(&self, machine: &Machine) -> Result<(), ConfigError> {
        let unfit = |message: String| Err(ConfigError::Unfit(message));
        if !self.bind.is_loopback() && !self.insecure {
            return unfit(format!(
                "refusing to listen on {}: anyone who reaches that address could read and change every count. \
                 Listen on 127.0.0.1, or say --insecure if the network is yours alone",
                self.bind
            ));
        }
        let needed = machine::SPARE_DESCRIPTORS + self.max_connections;
        if needed > machine.open_files {
            return unfit(format!(
                "max-connections = {} needs {needed} open files, but the limit is {}: raise it (ulimit -n {needed}) \
                 or give max-connections at most {}",
                self.max_connections,
                machine.open_files,
                machine.connections()
            ));
        }
        // A text is held while it is read, counted and queued, with the words it may add.
        let least = 16 * self.max_body_bytes as u64;
        if self.max_memory_bytes < least {
            return unfit(format!(
                "max-memory = {} bytes is too little for texts of {} bytes: give at least {least}, \
                 or lower max-body-bytes",
                self.max_memory_bytes, self.max_body_bytes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
