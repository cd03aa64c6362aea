//! The settings, one row each. What their values may be is read in `settings.rs`.

use super::StartRole;

/// One setting: its flag, variable, key, help and default.
pub(super) struct SettingSpec {
    /// The flag without its dashes, which is also the key in the file. A role has a name at most once.
    pub name: &'static str,
    /// Name of the value in the help; empty for a switch.
    pub value_name: &'static str,
    /// A variable that is read where `MEMDB_…` is not set: the name that an earlier system had for it; empty if none.
    pub other_variable: &'static str,
    /// The roles that have the setting, each with its default.
    pub defaults: &'static [(StartRole, &'static str)],
    /// One sentence for the help.
    pub help: &'static str,
    /// All values there are, if they are few.
    pub choices: &'static [&'static str],
    /// True if there may be several values: the flag again, a list in the file, or commas between them.
    pub repeats: bool,
}

impl SettingSpec {
    /// The settings of a role.
    pub fn of(role: StartRole) -> impl Iterator<Item = &'static SettingSpec> {
        SETTINGS.iter().filter(move |setting| setting.default(role).is_some())
    }

    /// The value in this role if nobody says anything; `None` if the role has no such setting.
    pub fn default(&self, role: StartRole) -> Option<&'static str> {
        self.defaults.iter().find(|(whose, _)| *whose == role).map(|(_, value)| *value)
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("MEMDB_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// Returns whether the flag stands alone, without a value.
    pub fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }
}

/// The default of a setting that somebody has to give.
pub(super) const REQUIRED: &str = "";
/// The value `auto`: the program decides.
pub(super) const AUTO: &str = "auto";
/// The value `none`: without it.
pub(super) const NONE: &str = "none";

/// The values that most rows share.
const ROW: SettingSpec =
    SettingSpec { name: "", value_name: "", other_variable: "", defaults: &[], help: "", choices: &[], repeats: false };

/// A setting of every role, with one default.
macro_rules! every {
    ($default:expr) => {
        &[(StartRole::Leader, $default), (StartRole::Replica, $default), (StartRole::LocalReplica, $default)]
    };
}

/// A setting of the leader alone.
macro_rules! leader {
    ($default:expr) => {
        &[(StartRole::Leader, $default)]
    };
}

/// A setting of whoever leads: of a replica too, for the day it is promoted.
macro_rules! leading {
    ($default:expr) => {
        &[(StartRole::Leader, $default), (StartRole::Replica, $default)]
    };
}

/// All settings, in the order of the help.
pub(super) const SETTINGS: &[SettingSpec] = &[
    SettingSpec {
        name: "port",
        value_name: "PORT",
        defaults: &[(StartRole::Leader, "8080"), (StartRole::Replica, "8081"), (StartRole::LocalReplica, "8081")],
        help: "Port to listen on; 0 lets the system choose",
        ..ROW
    },
    SettingSpec {
        name: "bind",
        value_name: "ADDRESS",
        defaults: every!("127.0.0.1"),
        help: "Address to listen on; beyond loopback only with TLS and --users, or with --insecure",
        ..ROW
    },
    SettingSpec {
        name: "insecure",
        defaults: every!("false"),
        help: "Allow an address beyond loopback without TLS or without users: whoever reaches it can read and change every count, \
               or read what others send",
        ..ROW
    },
    SettingSpec {
        name: "leader",
        value_name: "URL",
        defaults: &[(StartRole::Replica, REQUIRED)],
        help: "The leader to follow, such as http://127.0.0.1:8080",
        ..ROW
    },
    SettingSpec {
        name: "replica",
        value_name: "URL",
        defaults: leader!(NONE),
        help: "A replica to send to, such as http://127.0.0.1:8081; may be repeated; others announce themselves",
        repeats: true,
        ..ROW
    },
    SettingSpec {
        name: "advertise",
        value_name: "URL",
        defaults: every!(AUTO),
        help: "How other nodes reach this one; auto is the address it listens on",
        ..ROW
    },
    SettingSpec {
        name: "node-name",
        value_name: "NAME",
        defaults: leading!(AUTO),
        help: "The name of this node in a cluster, which its directory keeps; auto is the one kept, or a random one",
        ..ROW
    },
    SettingSpec {
        name: "allowed-host",
        value_name: "NAME",
        defaults: every!(NONE),
        help: "A name clients call this node by, such as memdb.example; may be repeated; requests for another name are \
               answered 403. On loopback IP addresses, localhost and the name of --advertise are allowed too, and nothing \
               else; beyond loopback every name is, until one is given. * allows every name",
        repeats: true,
        ..ROW
    },
    SettingSpec {
        name: "cors-origin",
        value_name: "ORIGIN",
        defaults: every!(NONE),
        help: "An origin whose pages may read and write here, such as https://app.example; may be repeated; what pages of \
               other origins send to change something is answered 403. * lets every page that somebody opens read and change \
               every count",
        repeats: true,
        ..ROW
    },
    SettingSpec {
        name: "tls-cert",
        value_name: "FILE",
        defaults: every!(NONE),
        help: "Serve TLS, with this certificate (PEM; behind it those between it and its authority); read again on SIGHUP \
               and when the file changes",
        ..ROW
    },
    SettingSpec {
        name: "tls-key",
        value_name: "FILE",
        defaults: every!(NONE),
        help: "The private key of that certificate (PEM)",
        ..ROW
    },
    SettingSpec {
        name: "tls-client-ca",
        value_name: "FILE",
        defaults: every!(NONE),
        help: "Let in only clients, nodes among them, that show a certificate of one of these authorities (PEM)",
        ..ROW
    },
    SettingSpec {
        name: "tls-ca",
        value_name: "FILE",
        defaults: every!(NONE),
        help: "The authorities that other nodes' certificates are of (PEM); needed as soon as one of their addresses begins \
               with https://",
        ..ROW
    },
    SettingSpec {
        name: "cluster-secret-file",
        value_name: "FILE",
        defaults: every!(NONE),
        help: "File with the secret the nodes share; needed to replicate beyond loopback",
        ..ROW
    },
    SettingSpec {
        name: "users",
        value_name: "FILE",
        defaults: every!(NONE),
        help: "File with the users and their rights, which `memdb user` writes; without one everybody may read and write. It \
               is read anew when it changes",
        ..ROW
    },
    SettingSpec {
        name: "metrics-open",
        defaults: every!("false"),
        help: "Answer GET /metrics to everybody, although there are users",
        ..ROW
    },
    SettingSpec {
        name: "audit-log",
        value_name: "FILE",
        defaults: every!(NONE),
        help: "File that requests without the right to them, and those that administer, are appended to, as JSON lines",
        ..ROW
    },
    SettingSpec {
        name: "data-dir",
        value_name: "DIR",
        defaults: leader!("./data"),
        help: "Directory of the database; made if it is not there",
        ..ROW
    },
    SettingSpec {
        name: "data-dir",
        value_name: "DIR",
        defaults: &[(StartRole::Replica, NONE)],
        help: "Directory of this replica's own copy; made if it is not there; none keeps it in memory only",
        ..ROW
    },
    SettingSpec {
        name: "data-dir",
        value_name: "DIR",
        defaults: &[(StartRole::LocalReplica, REQUIRED)],
        help: "The data directory of the leader on this machine",
        ..ROW
    },
    SettingSpec {
        name: "init",
        defaults: leader!("false"),
        help: "Begin a new database in an empty directory although replicas hold another one",
        ..ROW
    },
    SettingSpec {
        name: "analyzer",
        value_name: "NAME",
        defaults: leader!(AUTO),
        help: "How text becomes words; a database keeps the one it was made with, standard if nothing was said",
        choices: &[AUTO, "standard", "whitespace"],
        ..ROW
    },
    SettingSpec {
        name: "ack",
        value_name: "LEVEL",
        defaults: leading!("replica"),
        help: "What a 202 means unless the request says: in the log (leader), or also synced (disk), \
               applied by a replica if one is connected (replica), or synced on both (replica+disk)",
        choices: &["leader", "disk", "replica", "replica+disk"],
        ..ROW
    },
    SettingSpec {
        name: "ack-timeout-ms",
        value_name: "MS",
        defaults: leading!("1000"),
        help: "How long a write waits for the replica its level asks for, at most 4000",
        ..ROW
    },
    SettingSpec {
        name: "durability",
        value_name: "WHEN",
        defaults: leading!("buffered"),
        help: "Sync the log every second (buffered), or before every answer (synced)",
        choices: &["buffered", "synced"],
        ..ROW
    },
    SettingSpec {
        name: "backup-interval-ms",
        value_name: "MS",
        defaults: leading!("1000"),
        help: "How often the backup on disk is made current, if anything changed; 0 only at a stop",
        ..ROW
    },
    SettingSpec {
        name: "max-body-bytes",
        value_name: "BYTES",
        defaults: every!("1MiB"),
        help: "Largest text; a larger one is answered 413",
        ..ROW
    },
    SettingSpec {
        name: "max-value-bytes",
        value_name: "BYTES",
        defaults: every!("1MiB"),
        help: "Largest value of an entry or a post; a larger one is answered 413",
        ..ROW
    },
    SettingSpec {
        name: "queue",
        value_name: "POSTS",
        defaults: leading!("4096"),
        help: "Posts that may wait to be written; one more is answered 429",
        ..ROW
    },
    SettingSpec {
        name: "max-queue-size",
        value_name: "NUMBER",
        other_variable: "MAX_QUEUE_SIZE",
        defaults: leading!("100"),
        help: "Increments of counters that wait in the main queue; one more is answered 429; none: any number",
        ..ROW
    },
    SettingSpec {
        name: "spillover-queue-size",
        value_name: "NUMBER",
        other_variable: "SPILLOVER_QUEUE_SIZE",
        defaults: leading!("100"),
        help: "Increments that wait in each of the queues EXCESS and STALE; none: any number",
        ..ROW
    },
    SettingSpec {
        name: "max-key-rate",
        value_name: "NUMBER",
        other_variable: "MAX_KEY_RATE",
        defaults: leading!("50"),
        help: "Increments of one counter in 10 seconds; what is beyond waits in the queue EXCESS; none: any number",
        ..ROW
    },
    SettingSpec {
        name: "max-post-rate",
        value_name: "NUMBER",
        defaults: leading!(NONE),
        help: "Posts (POST /post) to one namespace in 10 seconds; one more is answered 429; none: any number",
        ..ROW
    },
    SettingSpec {
        name: "namespace-quota",
        value_name: "NAME=QUOTA",
        defaults: leading!(NONE),
        help: "The most that a namespace may hold, such as tickets=words:1000000,bytes:64MiB; * is each that is not \
               named; may be repeated; more is answered 507; none: any amount",
        repeats: true,
        ..ROW
    },
    SettingSpec {
        name: "stale-threshold-sec",
        value_name: "SECONDS",
        other_variable: "STALE_THRESHOLD_SEC",
        defaults: leading!("5"),
        help: "How long an increment waits in the main queue before it moves to the queue STALE; none: for ever",
        ..ROW
    },
    SettingSpec {
        name: "worker-count",
        value_name: "NUMBER",
        other_variable: "WORKER_COUNT",
        defaults: leading!("1"),
        help: "Workers that count the increments that wait",
        ..ROW
    },
    SettingSpec {
        name: "worker-rate",
        value_name: "NUMBER",
        other_variable: "WORKER_RATE",
        defaults: leading!(NONE),
        help: "Increments that each worker counts in a second; none: as many as there are",
        ..ROW
    },
    SettingSpec {
        name: "max-connections",
        value_name: "NUMBER",
        defaults: every!(AUTO),
        help: "Connections open at once; auto is 10,000, or what the limit on open files allows",
        ..ROW
    },
    SettingSpec {
        name: "max-connections-per-address",
        value_name: "NUMBER",
        defaults: every!(AUTO),
        help: "Of these, from one client address (IPv6: one /64), which has half of every other budget, or the same part if \
               that is more; auto is a quarter, and no bound for loopback",
        ..ROW
    },
    SettingSpec {
        name: "max-watchers",
        value_name: "NUMBER",
        defaults: every!(AUTO),
        help: "Streams of `GET /watch` at once; one more is answered 503; auto is half of the connections",
        ..ROW
    },
    SettingSpec {
        name: "otlp-endpoint",
        value_name: "URL",
        defaults: every!(NONE),
        help: "Collector of OpenTelemetry that spans are sent to, as http://host:4318; only in builds with the feature \
               opentelemetry, and requests then take the slower path",
        ..ROW
    },
    SettingSpec {
        name: "slow-request",
        value_name: "TIME",
        defaults: every!("1s"),
        help: "Requests that take longer are logged, by route and without their words; none logs none",
        ..ROW
    },
    SettingSpec {
        name: "threads",
        value_name: "NUMBER",
        defaults: every!(AUTO),
        help: "Threads that serve requests; auto is one per processor",
        ..ROW
    },
    SettingSpec {
        name: "max-memory",
        value_name: "BYTES",
        defaults: leading!(AUTO),
        help: "Memory for words and counts; new words beyond it are refused; auto is three quarters of the machine's",
        ..ROW
    },
    SettingSpec {
        name: "entry-memory",
        value_name: "BYTES",
        defaults: leading!(AUTO),
        help: "Memory for entries and posts; beyond it cache entries are evicted, those that expire next first, and posts \
               that count are refused; auto is an eighth of the machine's",
        ..ROW
    },
    SettingSpec {
        name: "origin",
        value_name: "URL",
        defaults: every!(NONE),
        help: "Where the leader fetches what GET /data/ID and GET /cache/KEY?through=1 do not find, with {id} for the key, such \
               as http://127.0.0.1:8000/data/{id}; give every node the same",
        ..ROW
    },
    SettingSpec {
        name: "origin-ca",
        value_name: "FILE",
        defaults: every!(NONE),
        help: "The authorities that the certificate of an https:// origin is of (PEM); none: those that the system trusts",
        ..ROW
    },
    SettingSpec {
        name: "origin-ttl",
        value_name: "TIME",
        defaults: every!("60s"),
        help: "How long a value from the origin is fresh, such as 60s, 500ms or 5m",
        ..ROW
    },
    SettingSpec {
        name: "origin-timeout",
        value_name: "TIME",
        defaults: every!("250ms"),
        help: "How long the origin may take for a value, at most 4s",
        ..ROW
    },
    SettingSpec {
        name: "origin-stale-while-revalidate",
        value_name: "TIME",
        defaults: every!("0s"),
        help: "How long a value that is no longer fresh is served while the leader fetches it anew",
        ..ROW
    },
    SettingSpec {
        name: "origin-stale-if-error",
        value_name: "TIME",
        defaults: every!("0s"),
        help: "How long a value that is no longer fresh is served if the origin fails",
        ..ROW
    },
    SettingSpec {
        name: "key-window-seconds",
        value_name: "SECONDS",
        defaults: every!("600"),
        help: "How long an idempotency key is remembered",
        ..ROW
    },
    SettingSpec {
        name: "max-keys",
        value_name: "NUMBER",
        defaults: every!("1000000"),
        help: "Idempotency keys remembered, about 150 bytes each; when full, keyed writes are answered 429",
        ..ROW
    },
    SettingSpec {
        name: "stream-window-seconds",
        value_name: "SECONDS",
        defaults: every!("2592000"),
        help: "How long an idle stream of posts is remembered (30 days)",
        ..ROW
    },
    SettingSpec {
        name: "max-streams",
        value_name: "NUMBER",
        defaults: every!("65536"),
        help: "Streams of posts remembered (`memdb post` takes 1 for a file, 1 for 8 MiB of a pipe); when full, new ones are answered 429",
        ..ROW
    },
    SettingSpec {
        name: "log",
        value_name: "LEVEL",
        defaults: every!("info"),
        help: "What is logged: error, warn, info, debug, trace, or a filter such as info,memdb::storage::wal=debug",
        ..ROW
    },
    SettingSpec {
        name: "log-format",
        value_name: "FORMAT",
        defaults: every!("text"),
        help: "How a line of the log is written: as text for people, or as a JSON object",
        choices: &["text", "json"],
        ..ROW
    },
];
