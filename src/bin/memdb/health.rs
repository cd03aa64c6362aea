//! `memdb health` and `memdb status`: how a node is.

use crate::{
    output::{CommandError, CommandResult, say},
    read::{NodeArguments, block_on},
};
use memdb::client::{Client, ClientError};
use serde_json::{Value, json};
use std::time::Duration;

const HEALTH_EXAMPLES: &str = "\
EXAMPLES
  memdb health
  memdb health --server http://127.0.0.1:9090
  memdb health --wait 30 && memdb post book.txt
  memdb health --writable

A health check wants a --timeout shorter than its own patience.

Exits 0 if the node serves current data (with --writable: takes writes), 1 if not, 2 on wrong usage.";

/// Say whether a node serves current data.
#[derive(clap::Args)]
#[command(after_help = HEALTH_EXAMPLES)]
pub struct HealthArguments {
    #[command(flatten)]
    node: NodeArguments,

    /// Wait up to this long for it.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,

    /// Succeed only if the node takes writes too: only the leader does, as long as it can.
    #[arg(long)]
    writable: bool,

    /// As JSON: {"node", "ready" (with --writable: "writable"), "reason" if not}.
    #[arg(long)]
    json: bool,
}

const STATUS_EXAMPLES: &str = "\
EXAMPLES
  memdb status
  memdb status --server http://127.0.0.1:8081
  memdb status --json | python3 -m json.tool

The same as `curl http://127.0.0.1:8080/status`.

Exits 0, 1 if the node does not answer, 2 on wrong usage.";

/// Show what a node says about itself.
#[derive(clap::Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct StatusArguments {
    #[command(flatten)]
    node: NodeArguments,

    /// As the node's own JSON.
    #[arg(long)]
    json: bool,
}

/// Facts that a report shows first.
const FIRST_FACTS: &[&str] = &["role", "position"];
/// The first columns of a table of nodes.
const FIRST_COLUMNS: &[&str] = &["url", "position"];

/// Interval at which a node that is not ready is asked again.
const ASK_EVERY: Duration = Duration::from_millis(50);

pub fn health(arguments: &HealthArguments) -> CommandResult {
    let client = arguments.node.client()?;
    let patience = Duration::from_secs(arguments.wait);
    let what = if arguments.writable { "writable" } else { "ready" };
    block_on(async {
        let begun = tokio::time::Instant::now();
        loop {
            match asked(&client, arguments).await {
                Ok(()) if arguments.json => return say(&json!({"node": client.base(), what: true}).to_string()),
                Ok(()) => return say(&format!("{what}: {}", client.base())),
                Err(error) if !error.is_passing() || begun.elapsed() >= patience => {
                    if arguments.json {
                        let told = json!({"node": client.base(), what: false, "reason": error.to_string()});
                        say(&told.to_string())?;
                    }
                    return Err(error.into());
                }
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    })
}

async fn asked(client: &Client, arguments: &HealthArguments) -> Result<(), ClientError> {
    let timeout = arguments.node.timeout();
    let asking = async {
        client.ready().await?;
        if arguments.writable { client.takes_writes().await } else { Ok(()) }
    };
    tokio::time::timeout(timeout, asking).await.unwrap_or_else(|_| {
        Err(ClientError::Lost {
            base: client.base(),
            reason: format!("no answer in {} s (--timeout)", timeout.as_secs()),
        })
    })
}

pub fn status(arguments: &StatusArguments) -> CommandResult {
    let client = arguments.node.client()?;
    let status = block_on(async { client.status().await.map_err(CommandError::from) })?;
    if arguments.json {
        return say(&format!("{status:#}"));
    }
    for line in report(&status, "replicas") {
        say(&line)?;
    }
    Ok(())
}

/// Formats a node's answer for people: role and position, then the rest by name, then a table of the nodes that it
/// lists under `table`.
pub fn report(answer: &Value, table: &str) -> Vec<String> {
    let mut rest = answer.as_object().cloned().unwrap_or_default();
    let nodes = match rest.get(table) {
        Some(Value::Array(list)) if list.iter().all(Value::is_object) => list.clone(),
        _ => Vec::new(),
    };
    if !nodes.is_empty() {
        rest.remove(table);
    }
    let mut facts = Vec::new();
    for name in FIRST_FACTS {
        if let Some(value) = rest.remove(*name) {
            flatten(name, &value, &mut facts);
        }
    }
    flatten("", &Value::Object(rest), &mut facts);
    let mut lines = aligned(&facts.into_iter().map(|(name, value)| vec![name, value]).collect::<Vec<_>>());
    if !nodes.is_empty() {
        lines.push(String::new());
        lines.extend(aligned(&rows(&nodes)));
    }
    lines
}

/// One row per node under a row of names; what one of them does not say is left empty.
fn rows(nodes: &[Value]) -> Vec<Vec<String>> {
    let facts: Vec<Vec<(String, String)>> = nodes
        .iter()
        .map(|node| {
            let mut facts = Vec::new();
            flatten("", node, &mut facts);
            facts
        })
        .collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in facts.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| FIRST_COLUMNS.iter().position(|first| first == name).unwrap_or(FIRST_COLUMNS.len()));
    let row = |facts: &Vec<(String, String)>| {
        let value = |name: &&str| facts.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        names.iter().map(|name| value(name).unwrap_or_default()).collect()
    };
    let head = names.iter().map(|name| (*name).to_owned()).collect();
    std::iter::once(head).chain(facts.iter().map(row)).collect()
}

/// Cells in columns.
pub fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_begins_with_the_role_and_ends_with_a_table_of_replicas() {
        let status = json!({
            "acks": {"timeout_ms": 1000}, "position": "1-5", "role": "leader",
            "replicas": [
                {"connected": true, "position": "1-5", "url": "http://a:1"},
                {"connected": false, "lost": {"records": 3}, "position": "1-12", "url": "http://bb:1"},
            ],
        });
        let expected = [
            "role             leader",
            "position         1-5",
            "acks.timeout_ms  1000",
            "",
            "url          position  connected  lost.records",
            "http://a:1   1-5       true",
            "http://bb:1  1-12      false      3",
        ];
        assert_eq!(report(&status, "replicas"), expected);
    }

    #[test]
    fn a_status_without_replicas_has_no_table() {
        let report = |status: Value| report(&status, "replicas");
        assert_eq!(report(json!({"role": "leader", "replicas": []})), ["role      leader", "replicas  []"]);
        assert_eq!(report(json!({"role": "replica", "epochs": [1, 2]})), ["role    replica", "epochs  [1,2]"]);
    }
}
