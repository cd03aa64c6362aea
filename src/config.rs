//! The settings of a node, assembled once: flags, then the environment, then a TOML file, then the default.
//!
//! The settings themselves are one table (`config/table.rs`) for all three roles: a row per setting makes its flag, its
//! variable, its key in the file, its line in `memdb config` and its check, so that the four cannot drift apart, and
//! says whose setting it is. Nothing here reads the process's surroundings by itself; they are handed in as
//! [`ConfigInputs`].

mod file;
mod flags;
mod machine;
mod role;
mod table;
mod value;

pub use flags::{EveryFlag, LeaderFlags, LocalReplicaFlags, ReplicaFlags, SettingFlags};
pub use machine::MachineLimits;
pub use role::StartRole;

use crate::{
    base::secret::Secret,
    base::web_origin::{self, CorsOrigins},
    engine::leader::AckLevel,
    text::tokenizer::Analyzer,
};
use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
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

/// Everything a node is told. Plain data, checked: what is here can be started. A field that is no setting of the role
/// holds what does no harm, as [`NodeSettings::blank`] has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// The role of the node.
    pub role: StartRole,
    /// The address to listen on.
    pub bind: IpAddr,
    /// The port to listen on; 0 lets the system choose.
    pub port: u16,
    /// True if an address beyond loopback is intended.
    pub insecure: bool,
    /// The leader a replica follows, as `http://host:port`. A replica has one.
    pub leader: Option<String>,
    /// Replicas the leader sends to, as `http://host:port`, beside those that announce themselves.
    pub replicas: Vec<String>,
    /// The URL by which other nodes reach this one, as `http://host:port`; `None`: as [`NodeSettings::url`] derives it.
    pub advertise: Option<String>,
    /// Names the node answers to, in lower case; `*` stands for every name.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may read and write, beside the node's own.
    pub cors_origins: CorsOrigins,
    /// The secret that the nodes of the cluster show each other.
    pub cluster_secret: Option<Secret>,
    /// The directory of the files: a leader has one, a local replica reads its leader's, a replica may have its own.
    pub data_dir: Option<PathBuf>,
    /// True if an empty directory becomes a new database even if replicas hold another.
    pub init: bool,
    /// The analyzer asked for; `None` takes the database's own, or the standard one for a new database.
    pub analyzer: Option<Analyzer>,
    /// The acknowledgement level of writes that name none.
    pub ack: AckLevel,
    /// Time that a write waits for the replica its level asks for, in milliseconds.
    pub ack_timeout_ms: u64,
    /// The rule for when records are synced to the disk.
    pub durability: Durability,
    /// Interval at which a snapshot is written, in milliseconds; 0: only at a stop.
    pub backup_interval_ms: u64,
    /// The largest text in bytes.
    pub max_body_bytes: usize,
    /// Posts that may wait for the Writer; one more is answered 429.
    pub queue_batches: usize,
    /// Connections open at once; one more is answered 503.
    pub max_connections: usize,
    /// Of these, from one client address; one more is answered 429. `None`: a quarter, and no bound for loopback.
    pub max_connections_per_address: Option<usize>,
    /// Threads that serve requests.
    pub threads: usize,
    /// Memory for words and counts in bytes; beyond it new words are refused.
    pub max_memory_bytes: u64,
    /// Time for which an idempotency key is remembered, in milliseconds.
    pub key_window_ms: u64,
    /// Number of idempotency keys that are remembered.
    pub max_keys: usize,
    /// Time for which an idle stream is remembered, in milliseconds.
    pub stream_window_ms: u64,
    /// Number of streams that are remembered.
    pub max_streams: usize,
    /// Filter of the log: a level, or directives such as `info,memdb::storage::wal=debug`.
    pub log: String,
    /// The format of the log.
    pub log_format: LogFormat,
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
    let mut settings = NodeSettings::blank(role);
    let mut origins = Vec::new();
    for setting in SettingSpec::of(role) {
        let (name, variable) = (setting.name, setting.variable());
        let (value, source) = if let Some(value) = flags.values.get(name) {
            (value.clone(), SettingSource::Flag)
        } else if let Some(value) = around.variable(&variable) {
            (value, SettingSource::Environment(variable))
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
        if let Err(reason) = (setting.apply)(&mut settings, &value, around) {
            return Err(ConfigError::BadValue { name, value, origin: source, reason });
        }
        origins.push(SettingOrigin { name, value, source });
    }
    settings.check_network()?;
    settings.check_machine(&around.machine)?;
    Ok(ResolvedSettings { settings, origins })
}

impl NodeSettings {
    /// Gives the URL by which other nodes reach this one, which listens on `port`, as `http://host:port`.
    pub fn url(&self, port: u16) -> String {
        let host = if self.bind.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { self.bind };
        self.advertise.clone().unwrap_or_else(|| format!("http://{}", SocketAddr::new(host, port)))
    }

    /// The names the node answers to beside IP addresses and `localhost`; `None`: to every name. On loopback no name is
    /// taken on trust, since a page in a browser may have the name server say that its own name is 127.0.0.1. Elsewhere
    /// clients have names for the node that it cannot know, so they are looked at once some are given.
    pub fn hosts(&self) -> Option<Vec<String>> {
        let every = self.allowed_hosts.iter().any(|name| name == "*");
        if every || (!self.bind.is_loopback() && self.allowed_hosts.is_empty()) {
            return None;
        }
        let advertised = self.advertise.iter().filter_map(|url| web_origin::split(url.strip_prefix("http://")?));
        Some(self.allowed_hosts.iter().cloned().chain(advertised.map(|(host, _)| host.to_owned())).collect())
    }

    /// Before the table is applied. Every field is written by a row of some role, which a test holds.
    fn blank(role: StartRole) -> Self {
        NodeSettings {
            role,
            bind: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            insecure: false,
            leader: None,
            replicas: Vec::new(),
            advertise: None,
            allowed_hosts: Vec::new(),
            cors_origins: CorsOrigins::These(Vec::new()),
            cluster_secret: None,
            data_dir: None,
            init: false,
            analyzer: None,
            ack: AckLevel::Leader,
            ack_timeout_ms: 0,
            durability: Durability::Buffered,
            backup_interval_ms: 0,
            max_body_bytes: 0,
            queue_batches: 0,
            max_connections: 0,
            max_connections_per_address: None,
            threads: 0,
            max_memory_bytes: u64::MAX,
            key_window_ms: 0,
            max_keys: 0,
            stream_window_ms: 0,
            max_streams: 0,
            log: String::new(),
            log_format: LogFormat::Text,
        }
    }

    /// Refuses addresses beyond loopback unless they are intended.
    fn check_network(&self) -> Result<(), ConfigError> {
        let unfit = |message: String| Err(ConfigError::Unfit(message));
        let NodeSettings { role, bind, .. } = self;
        if bind.is_loopback() {
            return Ok(());
        }
        if !self.insecure {
            return unfit(format!(
                "refusing to listen on {bind}: anyone who reaches that address could read and change every count. \
                 Listen on 127.0.0.1, or say --insecure if the network is yours alone"
            ));
        }
        let replicates = *role == StartRole::Replica || !self.replicas.is_empty();
        if replicates && self.cluster_secret.is_none() {
            return unfit(format!(
                "refusing to replicate on {bind} without a secret: anyone who reaches that address could pose as \
                 a node of this cluster. Give --cluster-secret-file FILE; {}",
                value::MAKE_A_SECRET
            ));
        }
        if *role == StartRole::Replica && bind.is_unspecified() && self.advertise.is_none() {
            return unfit(format!(
                "{bind} is every address of this machine, and none the leader could send to: say how it reaches \
                 this replica, --advertise http://HOST:PORT"
            ));
        }
        Ok(())
    }

    /// Refuses settings that the machine has not enough memory or descriptors for.
    fn check_machine(&self, machine: &MachineLimits) -> Result<(), ConfigError> {
        let unfit = |message: String| Err(ConfigError::Unfit(message));
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
