//! The settings of a node as values: those of every role, and those of one.

use super::{
    ConfigError, ConfigInputs, Durability, LogFormat, MachineLimits, SettingSource, StartRole, machine,
    table::{AUTO, NONE},
    value,
};
use crate::{
    base::limits,
    base::secret::Secret,
    base::web_origin::{self, CorsOrigins},
    data::counters::CounterLimits,
    data::counts::quotas::QuotaTable,
    engine::leader::{AckLevel, OriginRules},
    net::origin_client::OriginTemplate,
    net::tls::files::{IdentityFiles, TlsFiles},
    text::tokenizer::Analyzer,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// The longest time for which a value of an origin is fresh, or stale: 30 days.
const LONGEST_TTL_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// The longest time for which a request is not called slow: an hour.
const LONGEST_SLOW_REQUEST_MS: u64 = 60 * 60 * 1_000;

/// Everything a node is told. Plain data, checked: what is here can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// The address to listen on.
    pub bind: IpAddr,
    /// The port to listen on; 0 lets the system choose.
    pub port: u16,
    /// True if an address beyond loopback is intended.
    pub insecure: bool,
    /// The URL by which other nodes reach this one, as `http://host:port`; `None`: as [`NodeSettings::url`] derives it.
    pub advertise: Option<String>,
    /// The name of the node; `None`: the one that its directory keeps, or a random one.
    pub node_name: Option<String>,
    /// Names the node answers to, in lower case; `*` stands for every name.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may read and write, beside the node's own.
    pub cors_origins: CorsOrigins,
    /// The files of certificates and keys.
    pub tls: TlsFiles,
    /// The secret that the nodes of the cluster show each other.
    pub cluster_secret: Option<Secret>,
    /// The users file, if there are users.
    pub users: Option<PathBuf>,
    /// True if `/metrics` is for everybody.
    pub metrics_open: bool,
    /// The audit log, if there is one.
    pub audit_log: Option<PathBuf>,
    /// The largest text in bytes.
    pub max_body_bytes: usize,
    /// The largest value of an entry in bytes.
    pub max_value_bytes: usize,
    /// Connections open at once; one more is answered 503.
    pub max_connections: usize,
    /// Of these, from one client address; one more is answered 429. `None`: a quarter, and no bound for loopback.
    pub max_connections_per_address: Option<usize>,
    /// Streams of events at once; one more is answered 503. `None`: half of the connections.
    pub max_watchers: Option<usize>,
    /// Requests that take longer are logged; in milliseconds.
    pub slow_request_ms: Option<u64>,
    /// The collector that spans are sent to.
    pub otlp_endpoint: Option<String>,
    /// Threads that serve requests.
    pub threads: usize,
    /// The origin of values that the cache does not have, if there is one.
    pub origin: Option<OriginSettings>,
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
    /// The role that the node starts in, with the settings that only this role has.
    pub role: RoleSettings,
}

/// The role of a node, with the settings that only this role has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleSettings {
    /// It takes the writes.
    Leader {
        /// The directory of the database.
        data_dir: PathBuf,
        /// Replicas the leader sends to, as `http://host:port`, beside those that announce themselves.
        replicas: Vec<String>,
        /// True if an empty directory becomes a new database even if replicas hold another.
        init: bool,
        /// The analyzer asked for; `None` takes the database's own, or the standard one for a new database.
        analyzer: Option<Analyzer>,
        /// The rules while it leads.
        leadership: LeadershipSettings,
    },
    /// It follows a leader over the network.
    Replica {
        /// The leader, as `http://host:port`.
        leader: String,
        /// The directory of its own copy; `None` keeps it in memory alone.
        data_dir: Option<PathBuf>,
        /// The rules for the day it is promoted.
        leadership: LeadershipSettings,
    },
    /// It follows the files of a leader on the same machine.
    FileFollower {
        /// The leader's directory.
        data_dir: PathBuf,
    },
}

/// The origin of values that the cache does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSettings {
    /// The URLs of its values.
    pub template: OriginTemplate,
    /// Time that it may take for a value, in milliseconds.
    pub timeout_ms: u64,
    /// The times for which its values are served.
    pub rules: OriginRules,
}

/// The rules of a node while it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadershipSettings {
    /// The acknowledgement level of writes that name none.
    pub ack: AckLevel,
    /// Time that a write waits for the replica its level asks for, in milliseconds.
    pub ack_timeout_ms: u64,
    /// The rule for when records are synced to the disk.
    pub durability: Durability,
    /// Interval at which a snapshot is written, in milliseconds; 0: only at a stop.
    pub backup_interval_ms: u64,
    /// Posts that may wait for the Writer; one more is answered 429.
    pub queue_batches: usize,
    /// Memory for words and counts in bytes; beyond it new words are refused.
    pub max_memory_bytes: u64,
    /// Memory for entries in bytes; beyond it some are evicted.
    pub entry_memory_bytes: u64,
    /// The rules by which increments of counters wait.
    pub counters: CounterLimits,
    /// Posts of one namespace that are admitted in 10 seconds; `None`: any number.
    pub post_rate: Option<u64>,
    /// The most that namespaces may hold.
    pub quotas: QuotaTable,
}

/// The values of a role's settings as they were given, with their sources. Each is read once.
pub(super) struct GivenValues<'a> {
    pub(super) values: BTreeMap<&'static str, (String, SettingSource)>,
    pub(super) around: &'a ConfigInputs<'a>,
}

impl GivenValues<'_> {
    /// Reads a value.
    ///
    /// # Errors
    /// [`ConfigError::BadValue`] if `parse` refuses it.
    fn read<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        let (value, origin) = self.values.remove(name).expect("the table has this setting for this role");
        parse(&value).map_err(|reason| ConfigError::BadValue { name, value, origin, reason })
    }
}

/// Parses the value, or gives `None` if the text is `word`.
fn unless<T>(word: &str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == word { Ok(None) } else { parse(text).map(Some) }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let text = if text == "localhost" { "127.0.0.1" } else { text };
    text.parse().map_err(|_| "give an IP address, such as 127.0.0.1 or ::1".to_owned())
}

fn otlp_endpoint(text: &str) -> Result<String, String> {
    if cfg!(not(feature = "opentelemetry")) {
        return Err("this memdb cannot send spans: build it with --features opentelemetry".to_owned());
    }
    value::url(text)
}

fn log_filter(text: &str) -> Result<String, String> {
    let known = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or_default();
        ["error", "warn", "info", "debug", "trace", "off"].contains(&level)
    };
    let message = "give error, warn, info, debug, trace, off, or a filter such as info,memdb::storage::wal=debug";
    if text.split(',').all(known) { Ok(text.to_owned()) } else { Err(message.to_owned()) }
}

fn replica_urls(text: &str) -> Result<Vec<String>, String> {
    let none = text == NONE || text.is_empty(); // an empty list in the file
    if none { Ok(Vec::new()) } else { value::urls(text, limits::MAX_REPLICAS) }
}

/// Reads the files of TLS. A certificate is of no use without its key.
fn tls_files(given: &mut GivenValues<'_>) -> Result<TlsFiles, ConfigError> {
    let mut file = |name| given.read(name, |text| unless(NONE, text, value::file));
    let unfit = |message: &str| Err(ConfigError::Unfit(message.to_owned()));
    let identity = match (file("tls-cert")?, file("tls-key")?) {
        (Some(certificate), Some(key)) => Some(IdentityFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => return unfit("--tls-cert needs the key too: --tls-key FILE"),
        (None, Some(_)) => return unfit("--tls-key needs the certificate too: --tls-cert FILE"),
    };
    let client_authorities = file("tls-client-ca")?;
    if client_authorities.is_some() && identity.is_none() {
        return unfit(
            "--tls-client-ca has clients show certificates over TLS: give --tls-cert FILE and --tls-key FILE",
        );
    }
    let (node_authorities, origin_authorities) = (file("tls-ca")?, file("origin-ca")?);
    Ok(TlsFiles { identity, client_authorities, node_authorities, origin_authorities })
}

fn seconds_as_ms(text: &str, most: u64) -> Result<u64, String> {
    value::number(text, &(1..=most)).map(|seconds: u64| seconds * 1_000)
}

impl OriginSettings {
    /// Reads the values; `None` if there is no origin. What is said of none is checked all the same.
    fn read(given: &mut GivenValues<'_>) -> Result<Option<Self>, ConfigError> {
        let template = given.read("origin", |text| unless(NONE, text, str::parse))?;
        let timeouts_ms = 1..=limits::MAX_ORIGIN_TIMEOUT_MS;
        let timeout_ms = given.read("origin-timeout", |text| value::time_ms(text, &timeouts_ms))?;
        let mut time_ms = |name, least| given.read(name, |text| value::time_ms(text, &(least..=LONGEST_TTL_MS)));
        let rules = OriginRules {
            ttl_ms: time_ms("origin-ttl", 1)?,
            stale_while_revalidate_ms: time_ms("origin-stale-while-revalidate", 0)?,
            stale_if_error_ms: time_ms("origin-stale-if-error", 0)?,
        };
        Ok(template.map(|template| Self { template, timeout_ms, rules }))
    }
}

impl LeadershipSettings {
    fn read(given: &mut GivenValues<'_>) -> Result<Self, ConfigError> {
        // Together seven eighths: the rest is for connections, keys, records on their way, and the system.
        let memory_bytes = given.around.machine.memory_bytes.map_or(u64::MAX, |bytes| bytes / 4 * 3);
        let entry_memory_bytes = given.around.machine.memory_bytes.map_or(u64::MAX, |bytes| bytes / 8);
        let durabilities = [("buffered", Durability::Buffered), ("synced", Durability::Synced)];
        let ack_timeouts_ms = 1..=limits::MAX_ACK_TIMEOUT_MS;
        Ok(Self {
            ack: given.read("ack", str::parse)?,
            ack_timeout_ms: given.read("ack-timeout-ms", |text| value::number(text, &ack_timeouts_ms))?,
            durability: given.read("durability", |text| value::choice(text, &durabilities))?,
            backup_interval_ms: given.read("backup-interval-ms", |text| value::number(text, &(0..=86_400_000)))?,
            queue_batches: given.read("queue", |text| value::number(text, &(1..=1_000_000)))?,
            max_memory_bytes: given.read("max-memory", |text| match text {
                AUTO => Ok(memory_bytes),
                text => value::bytes(text, &(16 << 20..=1 << 50)),
            })?,
            entry_memory_bytes: given.read("entry-memory", |text| match text {
                AUTO => Ok(entry_memory_bytes),
                text => value::bytes(text, &(1 << 20..=1 << 50)),
            })?,
            counters: counter_limits(given)?,
            quotas: given.read("namespace-quota", value::quotas)?,
            post_rate: given
                .read("max-post-rate", |text| unless(NONE, text, |text| value::number(text, &(1..=1_000_000_000))))?,
        })
    }
}

fn counter_limits(given: &mut GivenValues<'_>) -> Result<CounterLimits, ConfigError> {
    let most = 1_000_000_000_u64;
    let bound = |text: &str| unless(NONE, text, |text| value::number(text, &(1..=most)));
    Ok(CounterLimits {
        main: given.read("max-queue-size", bound)?.unwrap_or(u64::MAX),
        spillover: given.read("spillover-queue-size", bound)?.unwrap_or(u64::MAX),
        key_rate: given.read("max-key-rate", bound)?,
        stale_ms: given.read("stale-threshold-sec", |text| unless(NONE, text, |text| seconds_as_ms(text, 86_400)))?,
        workers: given.read("worker-count", |text| value::number(text, &(1..=1_000)))?,
        worker_rate: given
            .read("worker-rate", |text| unless(NONE, text, |text| value::number(text, &(1..=1_000_000))))?,
    })
}

impl RoleSettings {
    fn read(role: StartRole, given: &mut GivenValues<'_>) -> Result<Self, ConfigError> {
        let analyzers =
            [(AUTO, None), ("standard", Some(Analyzer::Standard)), ("whitespace", Some(Analyzer::Whitespace))];
        Ok(match role {
            StartRole::Leader => RoleSettings::Leader {
                replicas: given.read("replica", replica_urls)?,
                data_dir: given.read("data-dir", value::directory)?,
                init: given.read("init", value::switch)?,
                analyzer: given.read("analyzer", |text| value::choice(text, &analyzers))?,
                leadership: LeadershipSettings::read(given)?,
            },
            StartRole::Replica => RoleSettings::Replica {
                leader: given.read("leader", value::url)?,
                data_dir: given.read("data-dir", |text| unless(NONE, text, value::directory))?,
                leadership: LeadershipSettings::read(given)?,
            },
            StartRole::LocalReplica => {
                RoleSettings::FileFollower { data_dir: given.read("data-dir", value::directory)? }
            }
        })
    }
}

impl NodeSettings {
    /// Reads the values, every one.
    ///
    /// # Errors
    /// [`ConfigError::BadValue`] for the first that cannot be used.
    pub(super) fn read(role: StartRole, mut given: GivenValues<'_>) -> Result<Self, ConfigError> {
        let ConfigInputs { read_file, machine, .. } = *given.around;
        let secret = |path: &str| value::secret(Path::new(path), read_file);
        let log_formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let settings = Self {
            port: given.read("port", |text| value::number(text, &(0..=u16::MAX)))?,
            bind: given.read("bind", address)?,
            insecure: given.read("insecure", value::switch)?,
            advertise: given.read("advertise", |text| unless(AUTO, text, value::url))?,
            node_name: match role {
                StartRole::LocalReplica => None, // it has no directory of its own to keep one in
                StartRole::Leader | StartRole::Replica => {
                    given.read("node-name", |text| unless(AUTO, text, value::node_name))?
                }
            },
            allowed_hosts: given.read("allowed-host", value::hosts)?,
            cors_origins: given.read("cors-origin", value::cors_origins)?,
            tls: tls_files(&mut given)?,
            cluster_secret: given.read("cluster-secret-file", |text| unless(NONE, text, secret))?,
            users: given.read("users", |text| unless(NONE, text, value::file))?,
            metrics_open: given.read("metrics-open", value::switch)?,
            audit_log: given.read("audit-log", |text| unless(NONE, text, value::file))?,
            role: RoleSettings::read(role, &mut given)?,
            max_body_bytes: given.read("max-body-bytes", |text| {
                value::bytes(text, &(1..=limits::LARGEST_MAX_BODY_BYTES as u64)).map(|bytes| bytes as usize)
            })?,
            max_value_bytes: given.read("max-value-bytes", |text| {
                value::bytes(text, &(1..=limits::LARGEST_MAX_VALUE_BYTES as u64)).map(|bytes| bytes as usize)
            })?,
            max_connections: given.read("max-connections", |text| match text {
                AUTO => Ok(machine.connections()),
                text => value::number(text, &(1..=1_000_000)),
            })?,
            max_connections_per_address: given.read("max-connections-per-address", |text| {
                unless(AUTO, text, |text| value::number(text, &(1..=1_000_000)))
            })?,
            otlp_endpoint: given.read("otlp-endpoint", |text| unless(NONE, text, otlp_endpoint))?,
            slow_request_ms: given.read("slow-request", |text| {
                unless(NONE, text, |text| value::time_ms(text, &(1..=LONGEST_SLOW_REQUEST_MS)))
            })?,
            max_watchers: given
                .read("max-watchers", |text| unless(AUTO, text, |text| value::number(text, &(1..=1_000_000))))?,
            threads: given.read("threads", |text| match text {
                AUTO => Ok(machine.processors),
                text => value::number(text, &(1..=1_024)),
            })?,
            origin: OriginSettings::read(&mut given)?,
            key_window_ms: given.read("key-window-seconds", |text| seconds_as_ms(text, 604_800))?,
            max_keys: given.read("max-keys", |text| value::number(text, &(1..=100_000_000)))?,
            stream_window_ms: given.read("stream-window-seconds", |text| seconds_as_ms(text, 315_360_000))?,
            max_streams: given.read("max-streams", |text| value::number(text, &(1..=10_000_000)))?,
            log: given.read("log", log_filter)?,
            log_format: given.read("log-format", |text| value::choice(text, &log_formats))?,
        };
        // A setting that changes nothing would be a promise that nobody keeps.
        assert!(given.values.is_empty(), "settings that nothing reads: {:?}", given.values.keys());
        Ok(settings)
    }

    /// Gives the role that the settings are of.
    pub fn start_role(&self) -> StartRole {
        match self.role {
            RoleSettings::Leader { .. } => StartRole::Leader,
            RoleSettings::Replica { .. } => StartRole::Replica,
            RoleSettings::FileFollower { .. } => StartRole::LocalReplica,
        }
    }

    /// Gives the number of streams of events that may be open at once.
    pub fn watchers(&self) -> usize {
        // The other half is for whoever writes and reads.
        self.max_watchers.unwrap_or((self.max_connections / 2).max(1))
    }

    /// Gives the directory of the files: the node's own, or its leader's for a local replica.
    pub fn data_dir(&self) -> Option<&Path> {
        match &self.role {
            RoleSettings::Leader { data_dir, .. } | RoleSettings::FileFollower { data_dir } => Some(data_dir),
            RoleSettings::Replica { data_dir, .. } => data_dir.as_deref(),
        }
    }

    /// Gives the leader that a replica was told to follow.
    pub fn leader(&self) -> Option<&str> {
        match &self.role {
            RoleSettings::Replica { leader, .. } => Some(leader),
            RoleSettings::Leader { .. } | RoleSettings::FileFollower { .. } => None,
        }
    }

    /// Gives the replicas that a leader was told to send to.
    pub fn replicas(&self) -> &[String] {
        match &self.role {
            RoleSettings::Leader { replicas, .. } => replicas,
            RoleSettings::Replica { .. } | RoleSettings::FileFollower { .. } => &[],
        }
    }

    /// Gives the rules for the time in which the node leads; a local replica never does.
    pub fn leadership(&self) -> Option<&LeadershipSettings> {
        match &self.role {
            RoleSettings::Leader { leadership, .. } | RoleSettings::Replica { leadership, .. } => Some(leadership),
            RoleSettings::FileFollower { .. } => None,
        }
    }

    /// Gives the scheme by which the node is reached.
    pub fn scheme(&self) -> &'static str {
        if self.tls.identity.is_some() { "https" } else { "http" }
    }

    /// Gives the URL by which other nodes reach this one, which listens on `port`, as `http://host:port`, or with
    /// `https` if it serves TLS.
    pub fn url(&self, port: u16) -> String {
        let host = if self.bind.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { self.bind };
        self.advertise.clone().unwrap_or_else(|| format!("{}://{}", self.scheme(), SocketAddr::new(host, port)))
    }

    /// The names the node answers to beside IP addresses and `localhost`; `None`: to every name. On loopback no name is
    /// taken on trust, since a page in a browser may have the name server say that its own name is 127.0.0.1. Elsewhere
    /// clients have names for the node that it cannot know, so they are looked at once some are given.
    pub fn hosts(&self) -> Option<Vec<String>> {
        let every = self.allowed_hosts.iter().any(|name| name == "*");
        if every || (!self.bind.is_loopback() && self.allowed_hosts.is_empty()) {
            return None;
        }
        let advertised = self.advertise.iter().filter_map(|url| web_origin::split(url.split_once("://")?.1));
        Some(self.allowed_hosts.iter().cloned().chain(advertised.map(|(host, _)| host.to_owned())).collect())
    }

    /// Refuses addresses of nodes that this one could not speak to, or be reached at.
    pub(super) fn check_tls(&self) -> Result<(), ConfigError> {
        let unfit = |message: String| Err(ConfigError::Unfit(message));
        if let Some(url) = self.advertise.as_ref().filter(|url| self.tls.identity.is_some() && url.starts_with("http:"))
        {
            return unfit(format!("{url} is not how others reach this node, which serves TLS: advertise https://…"));
        }
        let mut others = self.leader().into_iter().chain(self.replicas().iter().map(String::as_str));
        let protected = others.find(|url| url.starts_with("https:"));
        if let (Some(url), None) = (protected, &self.tls.node_authorities) {
            return unfit(format!(
                "{url} has to show a certificate, and no authority is known to check it by: give --tls-ca FILE, with the \
                 certificate of the authority that your nodes' certificates are of"
            ));
        }
        Ok(())
    }

    /// Returns whether clients and nodes come by TLS.
    fn has_tls(&self) -> bool {
        self.tls.identity.is_some()
    }

    /// Refuses addresses beyond loopback unless they are intended.
    pub(super) fn check_network(&self) -> Result<(), ConfigError> {
        let unfit = |message: String| Err(ConfigError::Unfit(message));
        let NodeSettings { bind, .. } = self;
        let is_replica = matches!(self.role, RoleSettings::Replica { .. });
        let replicates = is_replica || !self.replicas().is_empty();
        if replicates && self.users.is_some() && self.cluster_secret.is_none() {
            return unfit(format!(
                "nodes that have users show each other a secret: give --cluster-secret-file FILE; {}",
                value::MAKE_A_SECRET
            ));
        }
        if bind.is_loopback() {
            return Ok(());
        }
        let is_protected = self.has_tls() && self.users.is_some();
        if !self.insecure && !is_protected {
            let danger = match self.users.is_some() {
                true => "passwords and tokens would go over the network in clear text",
                false => "anyone who reaches that address could read and change every count",
            };
            return unfit(format!(
                "refusing to listen on {bind}: {danger}. Listen on 127.0.0.1, give the node TLS and --users FILE, or say \
                 --insecure if the network is yours alone"
            ));
        }
        if replicates && self.cluster_secret.is_none() {
            return unfit(format!(
                "refusing to replicate on {bind} without a secret: anyone who reaches that address could pose as \
                 a node of this cluster. Give --cluster-secret-file FILE; {}",
                value::MAKE_A_SECRET
            ));
        }
        if is_replica && bind.is_unspecified() && self.advertise.is_none() {
            return unfit(format!(
                "{bind} is every address of this machine, and none the leader could send to: say how it reaches \
                 this replica, --advertise http://HOST:PORT"
            ));
        }
        Ok(())
    }

    /// Refuses settings that the machine has not enough memory or descriptors for.
    pub(super) fn check_machine(&self, machine: &MachineLimits) -> Result<(), ConfigError> {
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
        if let Some(LeadershipSettings { max_memory_bytes, .. }) = self.leadership()
            && *max_memory_bytes < least
        {
            return unfit(format!(
                "max-memory = {max_memory_bytes} bytes is too little for texts of {} bytes: give at least {least}, \
                 or lower max-body-bytes",
                self.max_body_bytes
            ));
        }
        Ok(())
    }
}
