//! `memdb get` and `memdb top`: counts, from any node.

use crate::credentials;
use crate::output::{CommandError, CommandResult, GroupedNumber, say, tell};
use memdb::{
    base::limits::{MAX_RANKING, MAX_WORDS_PER_READ},
    client::{
        Client,
        ranking::{PageRequest, RankingPage},
    },
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
  memdb top --prefix micro
  memdb top --all --ns titles > titles.txt
  memdb top -n 1000 --after ''

Exact, largest first, equal counts in the order of the words. With --after, the cursor of the next page is told on \
standard error; pages are each exact, and where counts change between them a word may come twice or not at all. --all \
asks for one page after the other.

Exits 0, 1 if the node does not answer or has no such namespace, 2 on wrong usage.";

/// Show the most frequent words.
#[derive(clap::Args)]
#[command(after_help = TOP_EXAMPLES)]
pub struct TopArguments {
    /// Number of words, up to 100,000.
    #[arg(short, value_name = "NUMBER", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=MAX_RANKING as i64))]
    n: u32,

    /// Only words that begin with this.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,

    /// The page behind this cursor; '' for the first.
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    after: Option<String>,

    /// All words.
    #[arg(long, conflicts_with_all = ["n", "after"])]
    all: bool,

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
    let (namespace, prefix) = (arguments.ns.as_deref(), arguments.prefix.as_deref());
    let n = if arguments.all { MAX_RANKING } else { arguments.n as usize };
    block_on(async {
        let (mut after, mut is_first) = (arguments.after.clone(), true);
        loop {
            let page = client.ranking(PageRequest { namespace, n, prefix, after: after.as_deref() }).await?;
            if let (true, true, Some(name)) = (page.words.is_empty(), is_first, namespace) {
                let is_there = prefix.is_some() && !client.top(namespace, 1).await?.is_empty();
                if !is_there && after.is_none() {
                    return Err(CommandError::Failed(nothing_under(name, &client)));
                }
            }
            let is_last = !arguments.all || page.next.is_none();
            show(&page, arguments.json, is_first, is_last)?;
            if !is_last {
                (after, is_first) = (page.next, false);
                continue;
            }
            if let (Some(_), false, Some(next)) = (&arguments.after, arguments.all, page.next) {
                tell(&format!("memdb: the next page: --after {next}"));
            }
            return Ok(());
        }
    })
}

/// Shows a page: as a table of its own, or as a part of one JSON array.
fn show(page: &RankingPage, is_json: bool, is_first: bool, is_last: bool) -> CommandResult {
    if !is_json {
        return table(&page.words.iter().map(|entry| (entry.word.as_str(), entry.count)).collect::<Vec<_>>());
    }
    let each = page.words.iter().map(|entry| serde_json::json!({"word": entry.word, "count": entry.count}).to_string());
    let list = each.collect::<Vec<_>>().join(",");
    let before = if is_first {
        "["
    } else if list.is_empty() {
        ""
    } else {
        ","
    };
    say(&format!("{before}{list}{}", if is_last { "]" } else { "" }))
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
