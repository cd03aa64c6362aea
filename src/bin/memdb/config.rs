//! `memdb config`: each setting of a node, and where it comes from.

use crate::{
    output::{CommandResult, say},
    settings::resolved,
};
use clap::ValueEnum;
use memdb::config::{EveryFlag, SettingSource, StartRole, example};
use serde_json::json;

const EXAMPLES: &str = "\
EXAMPLES
  memdb config
  MEMDB_PORT=9090 memdb config --threads 2
  memdb config --config memdb.toml --json
  memdb config --role replica --leader http://127.0.0.1:8080
  memdb config --example > memdb.toml

Takes the flags of `memdb leader`, or of another role, and shows what that would start with. Flags come before the \
environment (--max-body-bytes is MEMDB_MAX_BODY_BYTES), that before the file (max-body-bytes = \"2MiB\"), that before the \
default. A file or an environment may hold the settings of every role; a node takes those of its own.

Exits 0 if a node would start with these settings, 2 if not.";

/// Show each setting of a node, and where it comes from.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArguments {
    /// The role to show the settings of.
    #[arg(long, value_enum, value_name = "ROLE", default_value_t = ShownRole::Leader)]
    role: ShownRole,

    #[command(flatten)]
    flags: EveryFlag,

    /// Print a file of all settings of the role instead, each commented out, with its help and its default.
    #[arg(long, conflicts_with = "json")]
    example: bool,

    /// As JSON: an object of {"value", "source"} per setting.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ShownRole {
    Leader,
    Replica,
    LocalReplica,
}

impl From<ShownRole> for StartRole {
    fn from(kind: ShownRole) -> Self {
        match kind {
            ShownRole::Leader => StartRole::Leader,
            ShownRole::Replica => StartRole::Replica,
            ShownRole::LocalReplica => StartRole::LocalReplica,
        }
    }
}

pub fn run(arguments: &ConfigArguments) -> CommandResult {
    if arguments.example {
        return say(example(arguments.role.into()).trim_end());
    }
    let origins = resolved(arguments.role.into(), &arguments.flags.0)?.origins;
    if arguments.json {
        let entry = |source: &SettingSource, value: &str| json!({ "value": value, "source": source.to_string() });
        let settings: serde_json::Map<_, _> =
            origins.iter().map(|origin| (origin.name.to_owned(), entry(&origin.source, &origin.value))).collect();
        return say(&format!("{:#}", serde_json::Value::Object(settings)));
    }
    let names = origins.iter().map(|origin| origin.name.len()).max().unwrap_or(0);
    let values = origins.iter().map(|origin| origin.value.chars().count()).max().unwrap_or(0);
    for origin in origins {
        say(&format!("{:names$}  {:values$}  {}", origin.name, origin.value, origin.source))?;
    }
    Ok(())
}
