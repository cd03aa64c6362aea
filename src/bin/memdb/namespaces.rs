//! `memdb ns`: the namespaces of a node.

use crate::{
    health::aligned,
    output::{CommandError, CommandResult, GroupedNumber, say},
    read::{NodeArguments, block_on},
};
use memdb::client::namespaces::NamespaceRow;

const EXAMPLES: &str = "\
EXAMPLES
  memdb ns
  memdb ns --server 127.0.0.1:8081 --json

Of each namespace its distinct words, the sum of their counts, the values of its cache, its posts, and the memory of all \
of it in bytes.

Exits 0, 1 if the node does not answer, 2 on wrong usage.";

/// List the namespaces, with what each holds.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct NamespacesArguments {
    #[command(flatten)]
    node: NodeArguments,

    /// As JSON: [{"name", "words", "total", "bytes", "cache", "posts", "texts", "quota"}].
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &NamespacesArguments) -> CommandResult {
    let client = arguments.node.client()?;
    let found = block_on(async { client.namespaces().await.map_err(CommandError::from) })?.namespaces;
    if arguments.json {
        return say(&serde_json::json!(found).to_string());
    }
    let head = ["NAMESPACE", "WORDS", "TOTAL", "CACHE", "POSTS", "BYTES"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head.to_vec()).chain(found.iter().map(cells)).collect();
    aligned(&rows).iter().try_for_each(|line| say(line))
}

fn cells(row: &NamespaceRow) -> Vec<String> {
    let entries = |kind: &str| row.entries.get(kind).map_or(0, |sums| sums.entries);
    let bytes = row.bytes + row.entries.values().map(|sums| sums.bytes).sum::<u64>();
    let numbers =
        [row.words, entries("cache"), entries("posts"), bytes].map(|number| GroupedNumber(number).to_string());
    let [words, cache, posts, bytes] = numbers;
    vec![row.name.clone(), words, GroupedNumber(row.total).to_string(), cache, posts, bytes]
}
