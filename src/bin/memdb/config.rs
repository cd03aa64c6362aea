//! `memdb config`: each setting of a leader, and where it comes from.

use crate::{
    leader::resolved,
    output::{Ended, say},
};
use memdb::config::{LeaderFlags, Source};
use serde_json::json;

const EXAMPLES: &str = "\
EXAMPLES
  memdb config
  MEMDB_PORT=9090 memdb config --threads 2
  memdb config --config memdb.toml --json

Takes the flags of `memdb leader` and shows what that would start with. Flags come before the environment
(--max-body-bytes is MEMDB_MAX_BODY_BYTES), that before the file (max-body-bytes = \"2MiB\"), that before the default.";

/// Show each setting of a leader, and where it comes from.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    flags: LeaderFlags,

    /// As JSON: an object of {"value", "source"} per setting.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Ended {
    let origins = resolved(&arguments.flags)?.origins;
    if arguments.json {
        let entry = |source: &Source, value: &str| json!({ "value": value, "source": source.to_string() });
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
