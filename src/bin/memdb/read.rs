//! `memdb get` and `memdb top`: counts, from any node.

use crate::output::{Ended, Failure, Grouped, say};
use memdb::{
    client::{Client, ClientError},
    limits::{MAX_TOP, MAX_WORDS_PER_READ},
};
use std::future::Future;

/// The node a verb reads from.
#[derive(clap::Args)]
pub struct Node {
    /// The node to ask.
    #[arg(long, value_name = "URL", env = "MEMDB_SERVER", default_value = "http://127.0.0.1:8080", alias = "leader")]
    server: String,
}

impl Node {
    pub fn client(&self) -> Result<Client, ClientError> {
        Client::new(&self.server)
    }
}

const GET_EXAMPLES: &str = "\
EXAMPLES
  memdb get hello
  memdb get whale ship sea
  memdb get --ns titles --json moby dick

All words are read at one position. A word that was never counted is 0. The node folds names as it folds text,
so with the standard analyzer `memdb get Hello` finds hello.";

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
    node: Node,

    /// As JSON: {"word": count}.
    #[arg(long)]
    json: bool,
}

const TOP_EXAMPLES: &str = "\
EXAMPLES
  memdb top
  memdb top -n 100 --ns titles
  memdb top -n 3 --json

Exact, largest first, equal counts in the order of the words.";

/// Show the most frequent words.
#[derive(clap::Args)]
#[command(after_help = TOP_EXAMPLES)]
pub struct TopArguments {
    /// How many, up to 1,000.
    #[arg(short, value_name = "NUMBER", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..=MAX_TOP as i64))]
    n: u16,

    /// The namespace [default: words].
    #[arg(long, value_name = "NAME")]
    ns: Option<String>,

    #[command(flatten)]
    node: Node,

    /// As JSON: [{"word", "count"}].
    #[arg(long)]
    json: bool,
}

pub fn get(arguments: &GetArguments) -> Ended {
    let words = &arguments.words;
    if words.len() > MAX_WORDS_PER_READ {
        let message = format!("at most {MAX_WORDS_PER_READ} words are read at one position, not {}", words.len());
        return Err(Failure::Usage(message));
    }
    let client = arguments.node.client()?;
    let counts = block_on(async { client.counts(arguments.ns.as_deref(), words).await.map_err(Failure::from) })?;
    if arguments.json {
        return say(&serde_json::json!(counts).to_string());
    }
    let of = |word: &String| counts.get(word).copied().unwrap_or(0);
    table(&words.iter().map(|word| (word.as_str(), of(word))).collect::<Vec<_>>())
}

pub fn top(arguments: &TopArguments) -> Ended {
    let client = arguments.node.client()?;
    let asked = async { client.top(arguments.ns.as_deref(), usize::from(arguments.n)).await.map_err(Failure::from) };
    let top = block_on(asked)?;
    if arguments.json {
        let list: Vec<_> =
            top.iter().map(|entry| serde_json::json!({"word": entry.word, "count": entry.count})).collect();
        return say(&serde_json::Value::Array(list).to_string());
    }
    table(&top.iter().map(|entry| (entry.word.as_str(), entry.count)).collect::<Vec<_>>())
}

/// Counts on the right of a column, each before its word: words may be of any width.
fn table(counts: &[(&str, i64)]) -> Ended {
    let width = counts.iter().map(|(_, count)| Grouped(count).to_string().len()).max().unwrap_or(0);
    for (word, count) in counts {
        say(&format!("{:>width$}  {}", Grouped(count), shown(word)))?;
    }
    Ok(())
}

/// A word as it may be shown: what would steer the terminal is spelled out.
fn shown(word: &str) -> String {
    let spelled = |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() };
    word.chars().map(spelled).collect()
}

/// Runs a few requests on this thread.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}
