//! The `perf` command: loads a leader and its replicas, then holds every count of every replica against the leader's.
//!
//! Exit codes: 0 every request succeeded and all replicas are consistent, 1 not so, 2 wrong usage.

mod compare;
mod documents;
mod load;
mod output;
mod report;

use clap::Parser;
use compare::{ComparedNodes, Comparison};
use documents::{DocumentReport, DocumentSet};
use indicatif::{ProgressBar, ProgressStyle};
use memdb::{
    base::position::PositionToken,
    client::{Client, ClientError, DEFAULT_TIMEOUT, ServerKind, credentials::ClientCredentials},
    config::{ClientTlsFlags, CredentialFlags},
};
use output::{PerfError, say, tell};
use report::LoadReport;
use rustix::process::{Resource, getrlimit};
use std::{
    io::{self, ErrorKind},
    path::Path,
    process::ExitCode,
    time::Duration,
};
use tokio::time::Instant;

const EXAMPLES: &str = "\
EXAMPLES
  perf http://localhost:8080 http://localhost:8081 http://localhost:8082
  perf --posts 100000 --reads 100000 --concurrency 64 http://localhost:8080 http://localhost:8081
  perf --posts 0 --reads 0 http://localhost:8080 http://localhost:8081
  perf --documents 1000 http://localhost:8080 http://localhost:8081
  perf --json http://localhost:8080 http://localhost:8081 | jq .leader.p99_ms

Posts and reads run at the same time. Posts are ten short phrases in turn, and they count: the leader's database has \
more words afterwards; with --posts 0 nothing is written, only compared. Reads ask the replicas in turn for the word \
\"distributed\". Request times are those of the requests that succeeded; the test duration is from the first request to \
the last answer, without the comparison.

Each replica is compared once it has applied the last post, however soon that is. While somebody else writes, the \
positions differ: perf says so on stderr and compares up to 5 times before it decides.

With --documents, so many are put under the ids perf-0 and up on the leader (PUT /posts/{id}, their words count too), \
and each is read on each replica and held against what was sent.

--json prints one object: for \"leader\" and \"replicas\" the numbers above with p50_ms and p99_ms, and words_compared (each \
word once for each replica), inconsistencies_found, inconsistencies, consistent, ok (the exit code is 0).

Exit codes: 0 every request succeeded and all replicas are consistent, 1 not so, 2 wrong usage.";

/// Load a leader with posts and its replicas with reads, then compare every word on every replica with the leader's.
#[derive(Parser)]
#[command(name = "perf", version, after_help = EXAMPLES, after_long_help = EXAMPLES)]
struct PerfArguments {
    /// The leader.
    #[arg(value_name = "LEADER_URL")]
    leader: String,

    /// Its replicas, local ones too.
    #[arg(value_name = "REPLICA_URL", required = true)]
    replicas: Vec<String>,

    /// Posts to the leader.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    posts: u32,

    /// Reads from the replicas.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    reads: u32,

    /// Documents put on the leader, and read on every replica.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    documents: u32,

    /// Posts under way at once, and as many reads; less where this process may not have so many sockets.
    #[arg(long, value_name = "NUMBER", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    concurrency: u16,

    /// Seconds that nodes may take to be ready, and replicas to apply the last post.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    wait: u32,

    #[command(flatten)]
    tls: ClientTlsFlags,

    #[command(flatten)]
    credentials: CredentialFlags,

    /// One JSON object in place of the report.
    #[arg(long)]
    json: bool,
}

/// Texts that are posted in turn.
const PHRASES: [&str; 10] = [
    "hello world",
    "world of go",
    "distributed systems",
    "hello distributed systems",
    "go is great",
    "concurrency in go",
    "parallel requests",
    "performance test",
    "high load test",
    "go concurrency model",
];
/// The word that is read.
const WORD: &str = "distributed";
/// Descriptors for everything but the load: standard streams, the runtime's own.
const SPARE_DESCRIPTORS: u64 = 32;

fn main() -> ExitCode {
    match run(&PerfArguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever reads has seen enough, but nobody has seen that all is well.
        Err(PerfError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(failure) => {
            tell(&format!("perf: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

/// Runs load and comparison, and returns whether all is well.
fn run(arguments: &PerfArguments) -> Result<bool, PerfError> {
    let tls = arguments.tls.read().map_err(|error| PerfError::Usage(error.to_string()))?;
    let credentials = credentials(&arguments.credentials)?;
    let client = |address: &String, kind| {
        let client = Client::with_tls(address, DEFAULT_TIMEOUT, &tls)?;
        Ok::<_, ClientError>(client.meant_for(kind).with_credentials(credentials.as_ref()))
    };
    let replicas = arguments.replicas.iter().map(|address| client(address, ServerKind::Replica));
    let replicas = replicas.collect::<Result<_, _>>()?;
    let nodes = ComparedNodes { leader: client(&arguments.leader, ServerKind::Leader)?, replicas };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(go(arguments, nodes))
}

/// The credentials that these flags, or the environment, lead to.
#[allow(clippy::disallowed_methods, reason = "no file of a database")]
fn credentials(flags: &CredentialFlags) -> Result<Option<ClientCredentials>, PerfError> {
    let read_file = |path: &Path| -> io::Result<String> { std::fs::read_to_string(path) };
    flags.read(&|name| std::env::var(name).ok(), &read_file).map_err(PerfError::Usage)
}

async fn go(arguments: &PerfArguments, nodes: ComparedNodes) -> Result<bool, PerfError> {
    let wait = Duration::from_secs(arguments.wait.into());
    nodes.ready(Instant::now() + wait).await?;
    let load = load(arguments, &nodes).await;
    if !arguments.json {
        say(&report::load(&load))?;
    }
    let documents = DocumentSet::new(arguments.documents.into());
    let created = documents.create(&nodes.leader, concurrency(arguments), ProgressBar::hidden()).await;
    let written = [load.leader.position, created.position].into_iter().flatten();
    let written = written.reduce(|one, other| PositionToken::later(Some(one), other));
    let comparison = compare::compare(&nodes, written, Instant::now() + wait).await?;
    for lagging in &comparison.lagging {
        tell(&format!("perf: {lagging}; what it has was compared"));
    }
    // Behind the comparison of words, which waits until the replicas have everything.
    let (read, differences) = documents.compare(&nodes, concurrency(arguments)).await;
    let documents = (arguments.documents > 0).then_some(DocumentReport { created, read, differences });
    let failures = [load.leader.failures("posts"), load.replicas.failures("reads")];
    let of_documents = documents.iter().flat_map(DocumentReport::failures);
    for failures in failures.into_iter().flatten().chain(of_documents) {
        tell(&format!("perf: {failures}"));
    }
    let is_good = load.leader.failed + load.replicas.failed == 0 && comparison.is_consistent();
    let ok = is_good && documents.as_ref().is_none_or(DocumentReport::is_consistent);
    if arguments.json {
        say(&report::json(&load, &comparison, documents.as_ref(), ok).to_string())?;
    } else {
        conclude(&comparison, documents.as_ref())?;
    }
    Ok(ok)
}

/// Posts and reads, at the same time.
async fn load(arguments: &PerfArguments, nodes: &ComparedNodes) -> LoadReport {
    let concurrency = concurrency(arguments);
    let (posts, reads) = (u64::from(arguments.posts), u64::from(arguments.reads));
    let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} requests  {per_sec}  {eta} left");
    let style = style.expect("the template is a constant").progress_chars("=> ");
    // Drawn on stderr, if that is a terminal.
    let bar = ProgressBar::new(posts + reads).with_style(style);
    let begun = Instant::now();
    let leader = nodes.leader.clone();
    let post = move |number: u64| {
        let (leader, phrase) = (leader.clone(), PHRASES[(number % PHRASES.len() as u64) as usize]);
        async move { leader.post_form(phrase).await.map(|answer| Some(answer.position)) }
    };
    let replicas = nodes.replicas.clone();
    let read = move |number: u64| {
        let replica = replicas[(number % replicas.len() as u64) as usize].clone();
        async move { replica.counts(None, &[WORD.to_owned()]).await.map(|_| None) }
    };
    let (leader, replicas) = futures::join!(
        load::requests(posts, concurrency, bar.clone(), post),
        load::requests(reads, concurrency, bar.clone(), read),
    );
    bar.finish_and_clear();
    LoadReport { leader, replicas, took: begun.elapsed() }
}

/// Requests of one kind under way at once, each with a socket of its own.
fn concurrency(arguments: &PerfArguments) -> usize {
    let wanted = usize::from(arguments.concurrency);
    let sockets = getrlimit(Resource::Nofile).current.map(|limit| limit.saturating_sub(SPARE_DESCRIPTORS) / 2);
    let room = sockets.map_or(wanted, |sockets| usize::try_from(sockets).unwrap_or(usize::MAX).max(1));
    // Only what is needed for the requests there are is worth a word.
    let needed = wanted.min(arguments.posts.max(arguments.reads) as usize);
    if needed > room {
        tell(&format!("perf: {room} posts and {room} reads at once: `ulimit -n` allows no more sockets"));
    }
    wanted.min(room)
}

/// The verdict, as people read it.
fn conclude(comparison: &Comparison, documents: Option<&DocumentReport>) -> Result<(), PerfError> {
    for difference in &comparison.differences {
        say(&difference.to_string())?;
    }
    let untold = comparison.found - comparison.differences.len() as u64;
    if untold > 0 {
        tell(&format!("perf: {untold} more inconsistencies are not listed"));
    }
    if comparison.found > 0 {
        say(&format!("Found {} inconsistencies between leader and replicas.", comparison.found))?;
    } else if comparison.is_consistent() {
        say("All replicas are consistent with the leader.")?;
    } else {
        say("The words of all replicas are those of the leader, but not every replica has its last write.")?;
    }
    if let Some(documents) = documents {
        say(&report::documents(documents))?;
    }
    say("\nTest completed")
}

impl From<ClientError> for PerfError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::BadAddress { .. } => PerfError::Usage(error.to_string()),
            _ => PerfError::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_teaches_by_example() {
        let command = PerfArguments::command();
        command.clone().debug_assert();
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with("EXAMPLES\n  perf http://"), "{help}");
    }
}
