//! The settings of a node, assembled once: flags, then the environment, then a TOML file, then the default.
//!
//! The settings themselves are one table (`config/table.rs`) for all three roles: a row per setting makes its flag, its
//! variable, its key in the file and its line in `memdb config`, so that these cannot drift apart, and says whose
//! setting it is. `config/settings.rs` reads each value of a role once, into a struct without a field of another role.
//! Nothing here reads the process's surroundings by itself; they are handed in as [`ConfigInputs`].

mod client_tls;
mod credentials;
mod example;
mod file;
mod flags;
mod machine;
mod role;
mod settings;
mod table;
mod value;

pub use client_tls::ClientTlsFlags;
pub use credentials::CredentialFlags;
pub use example::example;
pub use flags::{EveryFlag, LeaderFlags, LocalReplicaFlags, ReplicaFlags, SettingFlags};
pub use machine::MachineLimits;
pub use role::StartRole;
pub use settings::{LeadershipSettings, NodeSettings, OriginSettings, RoleSettings};

use settings::GivenValues;
use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};
use table::SettingSpec;

/// The rule for when records are synced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Each record is handed to the operating system at once and synced in the background every second.
    Buffered,
    /// Each record is synced before any answer, so that level `leader` means the disk too.
    Synced,
}

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object.
    Json,
}

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// The command line.
    Flag,
    /// The environment variable of this name.
    Environment(String),
    /// The TOML file at this path.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingSource::Flag => f.write_str("flag"),
            SettingSource::Environment(name) => write!(f, "environment {name}"),
            SettingSource::File(path) => write!(f, "file {}", path.display()),
            SettingSource::Default => f.write_str("default"),
        }
    }
}

/// One line of `memdb config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingOrigin {
    /// The setting's name: its flag without the dashes.
    pub name: &'static str,
    /// Its value as given.
    pub value: String,
    /// The source of the value.
    pub source: SettingSource,
}

/// Settings, and where each came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedSettings {
    /// The settings.
    pub settings: NodeSettings,
    /// One entry per setting of the role, in the order of the help.
    pub origins: Vec<SettingOrigin>,
}

/// The reason why the settings cannot be used. The message says what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that is none.
    #[error("{name} = {value:?} ({origin}): {reason}")]
    BadValue {
        /// The setting.
        name: &'static str,
        /// Its value as given.
        value: String,
        /// The source of the value.
        origin: SettingSource,
        /// The values that are allowed.
        reason: String,
    },
    /// Nobody gave a value, and there is no default.
    #[error("a {role} needs --{name} {value_name} (or {variable}, or {name} in the file): {}", uncapitalized(help))]
    Missing {
        /// The role.
        role: StartRole,
        /// The setting.
        name: &'static str,
        /// The name of its value in the help.
        value_name: &'static str,
        /// Its environment variable.
        variable: String,
        /// The description of the setting.
        help: &'static str,
    },
    /// A flag that is no setting of the role.
    #[error("--{name} is no setting of memdb {role}: `memdb {role} --help` lists them")]
    NotOfRole {
        /// The role.
        role: StartRole,
        /// The setting.
        name: &'static str,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Unfit(String),
    /// The file cannot be read.
    #[error("cannot read the settings in {}: {reason}", path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// The file is not what it should be.
    #[error("{}:{line}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The fault, and what would be right.
        reason: String,
    },
}

/// A sentence as it goes on behind a colon.
fn uncapitalized(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Everything the settings depend on beside the command line.
pub struct ConfigInputs<'a> {
    /// Looks up an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file: of settings, of a secret.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Properties of the machine.
    pub machine: MachineLimits,
}

impl ConfigInputs<'_> {
    /// A variable that is set to something: an empty one counts as unset, as compose files have it.
    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }
}

/// Assembles the settings of a node.
///
/// # Errors
/// A [`ConfigError`] whose message names the value, where it came from, and the fix.
pub fn resolve(
    role: StartRole,
    flags: &SettingFlags,
    around: &ConfigInputs<'_>,
) -> Result<ResolvedSettings, ConfigError> {
    if let Some(name) = flags.values.keys().find(|name| SettingSpec::of(role).all(|setting| setting.name != **name)) {
        return Err(ConfigError::NotOfRole { role, name });
    }
    let path = flags.file.clone().or_else(|| around.variable("MEMDB_CONFIG").map(PathBuf::from));
    let mut from_file = match &path {
        Some(path) => file::read(path, around.read_file)?,
        None => BTreeMap::new(),
    };
    let (mut values, mut origins) = (BTreeMap::new(), Vec::new());
    for setting in SettingSpec::of(role) {
        let (name, variable) = (setting.name, setting.variable());
        let (value, source) = if let Some(value) = flags.values.get(name) {
            (value.clone(), SettingSource::Flag)
        } else if let Some(value) = around.variable(&variable) {
            (value, SettingSource::Environment(variable))
        } else if let Some(value) = around.variable(setting.other_variable) {
            (value, SettingSource::Environment(setting.other_variable.to_owned()))
        } else if let (Some(value), Some(path)) = (from_file.remove(name), &path) {
            (value, SettingSource::File(path.clone()))
        } else {
            match setting.default(role) {
                Some(value) if value != table::REQUIRED => (value.to_owned(), SettingSource::Default),
                _ => {
                    let (value_name, help) = (setting.value_name, setting.help);
                    return Err(ConfigError::Missing { role, name, value_name, variable, help });
                }
            }
        };
        values.insert(name, (value.clone(), source.clone()));
        origins.push(SettingOrigin { name, value, source });
    }
    let settings = NodeSettings::read(role, GivenValues { values, around })?;
    settings.check_tls()?;
    settings.check_network()?;
    settings.check_machine(&around.machine)?;
    Ok(ResolvedSettings { settings, origins })
}

#[cfg(test)]
mod tests;
