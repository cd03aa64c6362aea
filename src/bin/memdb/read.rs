//! `memdb get` and `memdb top`: counts, from any node.

use crate::credentials;
use crate::output::{CommandError, CommandResult, GroupedNumber, say, tell};
use memdb::{
    base::limits::{MAX_TOP, MAX_WORDS_PER_READ},
    client::Client,
    config::{ClientTlsFlags, CredentialFlags},
};
use std::{future::Future, time::Duration};

/// The node a verb reads from.
#[derive(clap::Args)]
pub struct NodeArguments {
    /// The node to ask.
    #[arg(long, value_name = "URL", env = "MEMDB_SERVER", default_value = "http://127.0.0.1:8080", alias = "leader")]
    server: String,

    /// Seconds that an answer may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    #[command(flatten)]
    tls: ClientTlsFlags,

    #[command(flatten)]
    credentials: CredentialFlags,
}

impl NodeArguments {
    pub fn client(&self) -> Result<Client, CommandError> {
        let client = Client::with_tls(&self.server, self.timeout(), &self.tls.read()?)?;
        credentials::with(client, &self.credentials)
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

const GET_EXAMPLES: &str = "\
EXAMPLES
  memdb get hello
  memdb get whale ship sea
  memdb get --ns titles --json moby dick

All words are read at one position. A word that was never counted is 0. The node folds names as it folds text, \
so with the standard analyzer `memdb get Hello` finds hello.

Exits 0, also where a word was never counted, 1 if the node does not answer, 2 on wrong usage.";

/// Show the counts of some words.
#[derive(clap::Args)]
#[command(after_help = GET_EXAMPLES)]
pub struct GetArguments {
    /// The words, up to 1,000.
    #[arg(required = true, value_name = "WORD")]
    words: Vec<String>,

    /// The namespace [default: words].
    #[arg(long, value_name = "NAME")]
    ns: Option<String>,

    #[command(flatten)]
    node: NodeArguments,

    /// As JSON: {"word": count}.
    #[arg(long)]
    json: bool,
}

const TOP_EXAMPLES: &str = "\
EXAMPLES
  memdb top
  memdb top -n 100 --ns titles
  memdb top -n 3 --json

Exact, largest first, equal counts in the order of the words.

Exits 0, 1 if the node does not answer or has no such namespace, 2 on wrong usage.";

/// Show the most frequent words.
#[derive(clap::Args)]
#[command(after_help = TOP_EXAMPLES)]
pub struct TopArguments {
    /// Number of words, up to 1,000.
    #[arg(short, value_name = "NUMBER", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..=MAX_TOP as i64))]
    n: u16,

    /// The namespace [default: words].
    #[arg(long, value_name = "NAME")]
    ns: Option<String>,

    #[command(flatten)]
    node: NodeArguments,

    /// As JSON: [{"word", "count"}].
    #[arg(long)]
    json: bool,
}

pub fn get(arguments: &GetArguments) -> CommandResult {
    let words = &arguments.words;
    if words.len() > MAX_WORDS_PER_READ {
        let message = format!("at most {MAX_WORDS_PER_READ} words are read at one position, not {}", words.len());
        return Err(CommandError::Usage(message));
    }
    let client = arguments.node.client()?;
    let ns = arguments.ns.as_deref();
    let counts = block_on(async {
        let counts = client.counts(ns, words).await?;
        // 0 is the answer either way; a name that was mistyped should not go unseen.
        if let Some(name) = ns
            && counts.values().all(|count| *count == 0)
            && client.top(ns, 1).await?.is_empty()
        {
            tell(&format!("memdb: {}", nothing_under(name, &client)));
        }
        Ok(counts)
    })?;
    if arguments.json {
        return say(&serde_json::json!(counts).to_string());
    }
    let of = |word: &String| counts.get(word).copied().unwrap_or(0);
    table(&words.iter().map(|word| (word.as_str(), of(word))).collect::<Vec<_>>())
}

pub fn top(arguments: &TopArguments) -> CommandResult {
    let client = arguments.node.client()?;
    let asked =
        async { client.top(arguments.ns.as_deref(), usize::from(arguments.n)).await.map_err(CommandError::from) };
    let top = block_on(asked)?;
    if let (true, Some(name)) = (top.is_empty(), &arguments.ns) {
        return Err(CommandError::Failed(nothing_under(name, &client)));
    }
    if arguments.json {
        let list: Vec<_> =
            top.iter().map(|entry| serde_json::json!({"word": entry.word, "count": entry.count})).collect();
        return say(&serde_json::Value::Array(list).to_string());
    }
    table(&top.iter().map(|entry| (entry.word.as_str(), entry.count)).collect::<Vec<_>>())
}

/// A node makes a namespace with its first word.
fn nothing_under(name: &str, client: &Client) -> String {
    format!("there is no namespace {name:?} at {}: nothing is counted under that name", client.base())
}

/// Counts on the right of a column, each before its word: words may be of any width.
fn table(counts: &[(&str, i64)]) -> CommandResult {
    let width = counts.iter().map(|(_, count)| GroupedNumber(count).to_string().len()).max().unwrap_or(0);
    for (word, count) in counts {
        say(&format!("{:>width$}  {}", GroupedNumber(count), shown(word)))?;
    }
    Ok(())
}

/// A word as it may be shown: what would steer the terminal is spelled out.
pub fn shown(word: &str) -> String {
    let spelled = |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() };
    word.chars().map(spelled).collect()
}

/// Runs a few requests on this thread.
pub fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}
