//! The settings, one row each.

use super::{ConfigInputs, Durability, LogFormat, NodeSettings, StartRole, value};
use crate::{base::limits, text::tokenizer::Analyzer};
use std::path::Path;

/// One setting: its flag, variable, key, help, default and check.
pub(super) struct SettingSpec {
    /// The flag without its dashes, which is also the key in the file. A role has a name at most once.
    pub name: &'static str,
    /// Name of the value in the help; empty for a switch.
    pub value_name: &'static str,
    /// The roles that have the setting, each with its default.
    pub defaults: &'static [(StartRole, &'static str)],
    /// One sentence for the help.
    pub help: &'static str,
    /// All values there are, if they are few.
    pub choices: &'static [&'static str],
    /// True if there may be several values: the flag again, a list in the file, or commas between them.
    pub repeats: bool,
    /// Checks the value and puts it into the settings.
    pub apply: fn(&mut NodeSettings, &str, &ConfigInputs<'_>) -> Result<(), String>,
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
const AUTO: &str = "auto";
/// The value `none`: without it.
const NONE: &str = "none";

/// The values that most rows share.
const ROW: SettingSpec = SettingSpec {
    name: "",
    value_name: "",
    defaults: &[],
    help: "",
    choices: &[],
    repeats: false,
    apply: |_, _, _| Ok(()),
};

/// Puts a checked value in its place.
fn set<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// Parses the value, or gives `None` if the text is `word`.
fn unless<T>(word: &str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == word { Ok(None) } else { parse(text).map(Some) }
}

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
        apply: |settings, text, _| set(&mut settings.port, value::number(text, &(0..=u16::MAX))),
        ..ROW
    },
    SettingSpec {
        name: "bind",
        value_name: "ADDRESS",
        defaults: every!("127.0.0.1"),
        help: "Address to listen on; beyond loopback only with --insecure",
        apply: |settings, text, _| {
            let text = if text == "localhost" { "127.0.0.1" } else { text };
            settings.bind = text.parse().map_err(|_| "give an IP address, such as 127.0.0.1 or ::1".to_owned())?;
            Ok(())
        },
        ..ROW
    },
    SettingSpec {
        name: "insecure",
        defaults: every!("false"),
        help: "Allow an address beyond loopback: whoever reaches it can read and change every count",
        apply: |settings, text, _| set(&mut settings.insecure, value::switch(text)),
        ..ROW
    },
    SettingSpec {
        name: "leader",
        value_name: "URL",
        defaults: &[(StartRole::Replica, REQUIRED)],
        help: "The leader to follow, such as http://127.0.0.1:8080",
        apply: |settings, text, _| set(&mut settings.leader, value::url(text).map(Some)),
        ..ROW
    },
    SettingSpec {
        name: "replica",
        value_name: "URL",
        defaults: leader!(NONE),
        help: "A replica to send to, such as http://127.0.0.1:8081; may be repeated; others announce themselves",
        repeats: true,
        apply: |settings, text, _| {
            let none = text == NONE || text.is_empty(); // an empty list in the file
            set(&mut settings.replicas, if none { Ok(Vec::new()) } else { value::urls(text, limits::MAX_REPLICAS) })
        },
        ..ROW
    },
    SettingSpec {
        name: "advertise",
        value_name: "URL",
        defaults: every!(AUTO),
        help: "How other nodes reach this one; auto is the address it listens on",
        apply: |settings, text, _| set(&mut settings.advertise, unless(AUTO, text, value::url)),
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
        apply: |settings, text, _| set(&mut settings.allowed_hosts, value::hosts(text)),
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
        apply: |settings, text, _| set(&mut settings.cors_origins, value::cors_origins(text)),
        ..ROW
    },
    SettingSpec {
        name: "cluster-secret-file",
        value_name: "FILE",
        defaults: every!(NONE),
        help: "File with the secret the nodes share; needed to replicate beyond loopback",
        apply: |settings, text, around| {
            let read = |path: &str| value::secret(Path::new(path), around.read_file);
            set(&mut settings.cluster_secret, unless(NONE, text, read))
        },
        ..ROW
    },
    SettingSpec {
        name: "data-dir",
        value_name: "DIR",
        defaults: leader!("./data"),
        help: "Directory of the database; made if it is not there",
        apply: |settings, text, _| set(&mut settings.data_dir, value::directory(text).map(Some)),
        ..ROW
    },
    SettingSpec {
        name: "data-dir",
        value_name: "DIR",
        defaults: &[(StartRole::Replica, NONE)],
        help: "Directory of this replica's own copy; made if it is not there; none keeps it in memory only",
        apply: |settings, text, _| set(&mut settings.data_dir, unless(NONE, text, value::directory)),
        ..ROW
    },
    SettingSpec {
        name: "data-dir",
        value_name: "DIR",
        defaults: &[(StartRole::LocalReplica, REQUIRED)],
        help: "The data directory of the leader on this machine",
        apply: |settings, text, _| set(&mut settings.data_dir, value::directory(text).map(Some)),
        ..ROW
    },
    SettingSpec {
        name: "init",
        defaults: leader!("false"),
        help: "Begin a new database in an empty directory although replicas hold another one",
        apply: |settings, text, _| set(&mut settings.init, value::switch(text)),
        ..ROW
    },
    SettingSpec {
        name: "analyzer",
        value_name: "NAME",
        defaults: leader!(AUTO),
        help: "How text becomes words; a database keeps the one it was made with, standard if nothing was said",
        choices: &[AUTO, "standard", "whitespace"],
        apply: |settings, text, _| {
            let choices =
                [(AUTO, None), ("standard", Some(Analyzer::Standard)), ("whitespace", Some(Analyzer::Whitespace))];
            set(&mut settings.analyzer, value::choice(text, &choices))
        },
        ..ROW
    },
    SettingSpec {
        name: "ack",
        value_name: "LEVEL",
        defaults: leading!("replica"),
        help: "What a 202 means unless the request says: in the log (leader), or also synced (disk), \
               applied by a replica if one is connected (replica), or synced on both (replica+disk)",
        choices: &["leader", "disk", "replica", "replica+disk"],
        apply: |settings, text, _| set(&mut settings.ack, text.parse()),
        ..ROW
    },
    SettingSpec {
        name: "ack-timeout-ms",
        value_name: "MS",
        defaults: leading!("1000"),
        help: "How long a write waits for the replica its level asks for, at most 4000",
        apply: |settings, text, _| {
            set(&mut settings.ack_timeout_ms, value::number(text, &(1..=limits::MAX_ACK_TIMEOUT_MS)))
        },
        ..ROW
    },
    SettingSpec {
        name: "durability",
        value_name: "WHEN",
        defaults: leading!("buffered"),
        help: "Sync the log every second (buffered), or before every answer (synced)",
        choices: &["buffered", "synced"],
        apply: |settings, text, _| {
            let choices = [("buffered", Durability::Buffered), ("synced", Durability::Synced)];
            set(&mut settings.durability, value::choice(text, &choices))
        },
        ..ROW
    },
    SettingSpec {
        name: "backup-interval-ms",
        value_name: "MS",
        defaults: leading!("1000"),
        help: "How often the backup on disk is made current, if anything changed; 0 only at a stop",
        apply: |settings, text, _| set(&mut settings.backup_interval_ms, value::number(text, &(0..=86_400_000))),
        ..ROW
    },
    SettingSpec {
        name: "max-body-bytes",
        value_name: "BYTES",
        defaults: every!("1MiB"),
        help: "Largest text; a larger one is answered 413",
        apply: |settings, text, _| {
            let bytes = value::bytes(text, &(1..=limits::LARGEST_MAX_BODY_BYTES as u64))?;
            settings.max_body_bytes = bytes as usize;
            Ok(())
        },
        ..ROW
    },
    SettingSpec {
        name: "queue",
        value_name: "POSTS",
        defaults: leading!("4096"),
        help: "Posts that may wait to be written; one more is answered 429",
        apply: |settings, text, _| set(&mut settings.queue_batches, value::number(text, &(1..=1_000_000))),
        ..ROW
    },
    SettingSpec {
        name: "max-connections",
        value_name: "NUMBER",
        defaults: every!(AUTO),
        help: "Connections open at once; auto is 10,000, or what the limit on open files allows",
        apply: |settings, text, around| {
            settings.max_connections =
                if text == AUTO { around.machine.connections() } else { value::number(text, &(1..=1_000_000))? };
            Ok(())
        },
        ..ROW
    },
    SettingSpec {
        name: "max-connections-per-address",
        value_name: "NUMBER",
        defaults: every!(AUTO),
        help: "Of these, from one client address (IPv6: one /64), which has half of every other budget, or the same part if \
               that is more; auto is a quarter, and no bound for loopback",
        apply: |settings, text, _| {
            let parse = |text: &str| value::number(text, &(1..=1_000_000));
            set(&mut settings.max_connections_per_address, unless(AUTO, text, parse))
        },
        ..ROW
    },
    SettingSpec {
        name: "threads",
        value_name: "NUMBER",
        defaults: every!(AUTO),
        help: "Threads that serve requests; auto is one per processor",
        apply: |settings, text, around| {
            settings.threads =
                if text == AUTO { around.machine.processors } else { value::number(text, &(1..=1_024))? };
            Ok(())
        },
        ..ROW
    },
    SettingSpec {
        name: "max-memory",
        value_name: "BYTES",
        defaults: leading!(AUTO),
        help: "Memory for words and counts; new words beyond it are refused; auto is three quarters of the machine's",
        apply: |settings, text, around| {
            settings.max_memory_bytes = if text == AUTO {
                around.machine.memory_bytes.map_or(u64::MAX, |bytes| bytes / 4 * 3)
            } else {
                value::bytes(text, &(16 << 20..=1 << 50))?
            };
            Ok(())
        },
        ..ROW
    },
    SettingSpec {
        name: "key-window-seconds",
        value_name: "SECONDS",
        defaults: every!("600"),
        help: "How long an idempotency key is remembered",
        apply: |settings, text, _| {
            set(&mut settings.key_window_ms, value::number(text, &(1..=604_800)).map(|seconds: u64| seconds * 1_000))
        },
        ..ROW
    },
    SettingSpec {
        name: "max-keys",
        value_name: "NUMBER",
        defaults: every!("1000000"),
        help: "Idempotency keys remembered, about 150 bytes each; when full, keyed writes are answered 429",
        apply: |settings, text, _| set(&mut settings.max_keys, value::number(text, &(1..=100_000_000))),
        ..ROW
    },
    SettingSpec {
        name: "stream-window-seconds",
        value_name: "SECONDS",
        defaults: every!("2592000"),
        help: "How long an idle stream of posts is remembered (30 days)",
        apply: |settings, text, _| {
            set(
                &mut settings.stream_window_ms,
                value::number(text, &(1..=315_360_000)).map(|seconds: u64| seconds * 1_000),
            )
        },
        ..ROW
    },
    SettingSpec {
        name: "max-streams",
        value_name: "NUMBER",
        defaults: every!("65536"),
        help: "Streams of posts remembered (`memdb post` takes 1 for a file, 1 for 8 MiB of a pipe); when full, new ones are answered 429",
        apply: |settings, text, _| set(&mut settings.max_streams, value::number(text, &(1..=10_000_000))),
        ..ROW
    },
    SettingSpec {
        name: "log",
        value_name: "LEVEL",
        defaults: every!("info"),
        help: "What is logged: error, warn, info, debug, trace, or a filter such as info,memdb::storage::wal=debug",
        apply: |settings, text, _| {
            text.clone_into(&mut settings.log);
            let known = |directive: &str| {
                let level = directive.rsplit('=').next().unwrap_or_default();
                ["error", "warn", "info", "debug", "trace", "off"].contains(&level)
            };
            let message =
                "give error, warn, info, debug, trace, off, or a filter such as info,memdb::storage::wal=debug";
            if text.split(',').all(known) { Ok(()) } else { Err(message.to_owned()) }
        },
        ..ROW
    },
    SettingSpec {
        name: "log-format",
        value_name: "FORMAT",
        defaults: every!("text"),
        help: "How a line of the log is written: as text for people, or as a JSON object",
        choices: &["text", "json"],
        apply: |settings, text, _| {
            let choices = [("text", LogFormat::Text), ("json", LogFormat::Json)];
            set(&mut settings.log_format, value::choice(text, &choices))
        },
        ..ROW
    },
];
