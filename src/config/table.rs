//! The settings, one row each.

use super::{Durability, LeaderSettings, Machine, value};
use crate::{leader::AckLevel, limits, tokenizer::Analyzer};
use std::path::PathBuf;

/// One setting: its flag, variable, key, help, default and check.
pub(super) struct Setting {
    /// The flag without its dashes, which is also the key in the file.
    pub name: &'static str,
    /// What the help calls the value; empty for a switch.
    pub value_name: &'static str,
    /// The value if nobody says anything.
    pub default: &'static str,
    /// One sentence for the help.
    pub help: &'static str,
    /// All values there are, if they are few.
    pub choices: &'static [&'static str],
    /// Checks the value and puts it into the settings.
    pub apply: fn(&mut LeaderSettings, &str, &Machine) -> Result<(), String>,
}

impl Setting {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("MEMDB_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// Whether the flag stands alone, without a value.
    pub fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }
}

/// The value `auto`: the program decides.
const AUTO: &str = "auto";

const NONE: Setting =
    Setting { name: "", value_name: "", default: "false", help: "", choices: &[], apply: |_, _, _| Ok(()) };

/// Puts a checked value in its place.
fn set<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// All settings, in the order of the help.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "port",
        value_name: "PORT",
        default: "8080",
        help: "Port to listen on; 0 lets the system choose",
        apply: |settings, text, _| set(&mut settings.port, value::number(text, &(0..=u16::MAX))),
        ..NONE
    },
    Setting {
        name: "bind",
        value_name: "ADDRESS",
        default: "127.0.0.1",
        help: "Address to listen on; beyond loopback only with --insecure",
        apply: |settings, text, _| {
            let text = if text == "localhost" { "127.0.0.1" } else { text };
            settings.bind = text.parse().map_err(|_| "give an IP address, such as 127.0.0.1 or ::1".to_owned())?;
            Ok(())
        },
        ..NONE
    },
    Setting {
        name: "insecure",
        help: "Allow an address beyond loopback: whoever reaches it can read and change every count",
        apply: |settings, text, _| set(&mut settings.insecure, value::switch(text)),
        ..NONE
    },
    Setting {
        name: "data-dir",
        value_name: "DIR",
        default: "./data",
        help: "Directory of the database; made if it is not there",
        apply: |settings, text, _| {
            settings.data_dir = PathBuf::from(text);
            if text.is_empty() { Err("give a directory".to_owned()) } else { Ok(()) }
        },
        ..NONE
    },
    Setting {
        name: "analyzer",
        value_name: "NAME",
        default: AUTO,
        help: "How text becomes words; a database keeps the one it was made with, standard if nothing was said",
        choices: &[AUTO, "standard", "whitespace"],
        apply: |settings, text, _| {
            let choices =
                [(AUTO, None), ("standard", Some(Analyzer::Standard)), ("whitespace", Some(Analyzer::Whitespace))];
            set(&mut settings.analyzer, value::choice(text, &choices))
        },
    },
    Setting {
        name: "ack",
        value_name: "LEVEL",
        default: "leader",
        help: "What a 202 means unless the request says: in the log (leader), or also synced (disk)",
        choices: &["leader", "disk"],
        apply: |settings, text, _| {
            let choices = [("leader", AckLevel::Leader), ("disk", AckLevel::Disk)];
            set(&mut settings.ack, value::choice(text, &choices))
        },
    },
    Setting {
        name: "durability",
        value_name: "WHEN",
        default: "buffered",
        help: "Sync the log every second (buffered), or before every answer (synced)",
        choices: &["buffered", "synced"],
        apply: |settings, text, _| {
            let choices = [("buffered", Durability::Buffered), ("synced", Durability::Synced)];
            set(&mut settings.durability, value::choice(text, &choices))
        },
    },
    Setting {
        name: "backup-interval-ms",
        value_name: "MS",
        default: "1000",
        help: "How often the backup on disk is made current, if anything changed; 0 only at a stop",
        apply: |settings, text, _| set(&mut settings.backup_interval_ms, value::number(text, &(0..=86_400_000))),
        ..NONE
    },
    Setting {
        name: "max-body-bytes",
        value_name: "BYTES",
        default: "1MiB",
        help: "Largest text; a larger one is answered 413",
        apply: |settings, text, _| {
            let bytes = value::bytes(text, &(1..=limits::LARGEST_MAX_BODY_BYTES as u64))?;
            settings.max_body_bytes = bytes as usize;
            Ok(())
        },
        ..NONE
    },
    Setting {
        name: "queue",
        value_name: "POSTS",
        default: "4096",
        help: "Posts that may wait to be written; one more is answered 429",
        apply: |settings, text, _| set(&mut settings.queue_batches, value::number(text, &(1..=1_000_000))),
        ..NONE
    },
    Setting {
        name: "max-connections",
        value_name: "NUMBER",
        default: AUTO,
        help: "Connections open at once; auto is 10,000, or what the limit on open files allows",
        apply: |settings, text, machine| {
            settings.max_connections =
                if text == AUTO { machine.connections() } else { value::number(text, &(1..=1_000_000))? };
            Ok(())
        },
        ..NONE
    },
    Setting {
        name: "threads",
        value_name: "NUMBER",
        default: AUTO,
        help: "Threads that serve requests; auto is one per processor",
        apply: |settings, text, machine| {
            settings.threads = if text == AUTO { machine.processors } else { value::number(text, &(1..=1_024))? };
            Ok(())
        },
        ..NONE
    },
    Setting {
        name: "max-memory",
        value_name: "BYTES",
        default: AUTO,
        help: "Memory for words and counts; new words beyond it are refused; auto is three quarters of the machine's",
        apply: |settings, text, machine| {
            settings.max_memory_bytes = if text == AUTO {
                machine.memory_bytes.map_or(u64::MAX, |bytes| bytes / 4 * 3)
            } else {
                value::bytes(text, &(16 << 20..=1 << 50))?
            };
            Ok(())
        },
        ..NONE
    },
    Setting {
        name: "key-window-seconds",
        value_name: "SECONDS",
        default: "600",
        help: "How long an idempotency key is remembered",
        apply: |settings, text, _| {
            set(&mut settings.key_window_ms, value::number(text, &(1..=604_800)).map(|seconds: u64| seconds * 1_000))
        },
        ..NONE
    },
    Setting {
        name: "max-keys",
        value_name: "NUMBER",
        default: "1000000",
        help: "Idempotency keys remembered, about 150 bytes each; when full, keyed writes are answered 429",
        apply: |settings, text, _| set(&mut settings.max_keys, value::number(text, &(1..=100_000_000))),
        ..NONE
    },
    Setting {
        name: "stream-window-seconds",
        value_name: "SECONDS",
        default: "2592000",
        help: "How long an idle stream of posts is remembered (30 days)",
        apply: |settings, text, _| {
            set(
                &mut settings.stream_window_ms,
                value::number(text, &(1..=315_360_000)).map(|seconds: u64| seconds * 1_000),
            )
        },
        ..NONE
    },
    Setting {
        name: "max-streams",
        value_name: "NUMBER",
        default: "65536",
        help: "Streams of posts remembered (`memdb post` takes 1 to 16 for a file); when full, new ones are answered 429",
        apply: |settings, text, _| set(&mut settings.max_streams, value::number(text, &(1..=10_000_000))),
        ..NONE
    },
    Setting {
        name: "log",
        value_name: "LEVEL",
        default: "info",
        help: "What is logged: error, warn, info, debug, trace, or a filter such as info,memdb::log=debug",
        apply: |settings, text, _| {
            text.clone_into(&mut settings.log);
            let known = |directive: &str| {
                let level = directive.rsplit('=').next().unwrap_or_default();
                ["error", "warn", "info", "debug", "trace", "off"].contains(&level)
            };
            let message = "give error, warn, info, debug, trace, off, or a filter such as info,memdb::log=debug";
            if text.split(',').all(known) { Ok(()) } else { Err(message.to_owned()) }
        },
        ..NONE
    },
];
