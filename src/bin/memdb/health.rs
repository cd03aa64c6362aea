//! `memdb health` and `memdb status`: how a node is.

use crate::{
    output::{Ended, Failure, say},
    read::{Node, block_on},
};
use serde_json::Value;
use std::time::Duration;

const HEALTH_EXAMPLES: &str = "\
EXAMPLES
  memdb health
  memdb health --server http://127.0.0.1:9090
  memdb health --wait 30 && memdb post book.txt

Exits 0 if the node serves current data, 1 if not.";

/// Say whether a node serves current data.
#[derive(clap::Args)]
#[command(after_help = HEALTH_EXAMPLES)]
pub struct HealthArguments {
    #[command(flatten)]
    node: Node,

    /// Wait up to this long for it.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

const STATUS_EXAMPLES: &str = "\
EXAMPLES
  memdb status
  memdb status --json | python3 -m json.tool

The same as `curl http://127.0.0.1:8080/status`.";

/// Show what a node says about itself.
#[derive(clap::Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct StatusArguments {
    #[command(flatten)]
    node: Node,

    /// As the node's own JSON.
    #[arg(long)]
    json: bool,
}

/// How often a node that is not ready is asked again.
const ASK_EVERY: Duration = Duration::from_millis(50);

pub fn health(arguments: &HealthArguments) -> Ended {
    let client = arguments.node.client()?;
    let patience = Duration::from_secs(arguments.wait);
    block_on(async {
        let begun = tokio::time::Instant::now();
        loop {
            match client.ready().await {
                Ok(()) => return say(&format!("ready: {}", client.base())),
                Err(error) if !error.is_passing() || begun.elapsed() >= patience => return Err(error.into()),
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    })
}

pub fn status(arguments: &StatusArguments) -> Ended {
    let client = arguments.node.client()?;
    let status = block_on(async { client.status().await.map_err(Failure::from) })?;
    if arguments.json {
        return say(&format!("{status:#}"));
    }
    let mut lines = Vec::new();
    flatten("", &status, &mut lines);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in lines {
        say(&format!("{name:width$}  {value}"))?;
    }
    Ok(())
}

/// `{"queue":{"limit":5}}` as `queue.limit  5`.
fn flatten(prefix: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    let under = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| flatten(&under(name), member, lines)),
        Value::Array(members) if members.iter().any(|member| member.is_object() || member.is_array()) => {
            members.iter().enumerate().for_each(|(at, member)| flatten(&under(&at.to_string()), member, lines));
        }
        Value::String(text) => lines.push((prefix.to_owned(), text.clone())),
        other => lines.push((prefix.to_owned(), other.to_string())),
    }
}
