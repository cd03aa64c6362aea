//! `memdb import`: counts and entries from files, each item once however often the command is repeated.

mod input;
mod progress;

use crate::{
    credentials,
    output::{CommandError, CommandResult, GroupedNumber, tell},
    post::source::{command, stream_name},
};
use clap::ValueEnum;
use input::{CutFault, OpenInput, SeenFile, cut, is_pipe};
use memdb::{
    base::limits::IMPORT_BATCHES_AHEAD,
    client::{
        Client, ServerKind,
        import::{CUT_NUMBER, ImportOptions, ImportProgress},
        import_reader::ImportFormat,
    },
    config::{ClientTlsFlags, CredentialFlags},
};
use progress::{DRAW_EVERY, ProgressView};
use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use xxhash_rust::xxh3::Xxh3;

const EXAMPLES: &str = "\
EXAMPLES
  memdb import all.ndjson
  memdb import wordcounts.db              word and count, of the old system
  memdb import --ns titles titles.csv.gz
  zcat all.ndjson.gz | memdb import --format ndjson --name monday -

A file is read twice: once to see that every line of it is sound, then to send it. So a line that is wrong is told before \
anything is imported. What is compressed by gzip or Zstandard is decompressed.

Counts are added to those there are. Stopped or repeated, the same command imports nothing twice: the leader remembers how far \
it is, by the content of the file, its format and --ns, for 30 days. What is read from a pipe has no name to be remembered by: \
give it one with --name. Under that name there is one text: another, or one that is longer or shorter, is refused.

Exits 0 if everything is imported, 1 if not, 2 on wrong usage, 130 after Ctrl-C.";

/// Import counts and entries: NDJSON, CSV, TSV or JSON.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportArguments {
    /// Files to import; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The leader, or a follower, which passes everything on.
    #[arg(long, value_name = "URL", env = "MEMDB_LEADER", default_value = "http://127.0.0.1:8080", alias = "server")]
    leader: String,

    #[command(flatten)]
    credentials: CredentialFlags,

    /// Format of the files [default: as their names end].
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatArgument>,

    /// The namespace of what names none [default: words].
    #[arg(long, value_name = "NAME")]
    ns: Option<String>,

    /// Level that an answer must reach [default: the leader's --ack].
    #[arg(long, value_name = "LEVEL", value_parser = ["leader", "disk", "replica", "replica+disk"])]
    ack: Option<String>,

    /// Remember this import under a name of its own; the same name resumes it.
    #[arg(long, value_name = "NAME", value_parser = stream_name)]
    name: Option<String>,

    /// Import anew what was imported before.
    #[arg(long, conflicts_with = "name")]
    again: bool,

    /// Seconds for which a batch is tried again while the leader is busy or away.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    retry_seconds: u64,

    /// Seconds that an answer may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    #[command(flatten)]
    tls: ClientTlsFlags,

    /// Tell the progress as lines of JSON on standard error: {"file", "bytes", "of_bytes", "lines", "of_lines",
    /// "items", "items_before"}.
    #[arg(long)]
    progress_json: bool,
}

/// The format of a file.
#[derive(Clone, Copy, ValueEnum)]
enum FormatArgument {
    /// Lines, as memdb export writes them
    Ndjson,
    /// Word, amount, with ns in front or without
    Csv,
    /// The same with tabs
    Tsv,
    /// An object of words, or of namespaces with such objects
    Json,
}

impl From<FormatArgument> for ImportFormat {
    fn from(given: FormatArgument) -> Self {
        match given {
            FormatArgument::Ndjson => ImportFormat::Ndjson,
            FormatArgument::Csv => ImportFormat::Csv,
            FormatArgument::Tsv => ImportFormat::Tsv,
            FormatArgument::Json => ImportFormat::Json,
        }
    }
}

/// One input of a run.
struct ImportSource<'a> {
    path: &'a Path,
    format: ImportFormat,
    stream: String,
    /// The hash of all that decides, beside the content, which batches there are.
    hash: Xxh3,
    /// What it holds; of a pipe, which is read once, nothing is known.
    seen: Option<SeenFile>,
}

#[allow(clippy::disallowed_methods, reason = "randomness is drawn here and handed in")]
pub fn run(arguments: &ImportArguments) -> CommandResult {
    if arguments.files.iter().filter(|path| is_pipe(path)).count() > 1 {
        let usage = "one pipe at a time is remembered by a name: import the others by commands of their own, \
                     each with a --name";
        return Err(CommandError::Usage(usage.to_owned()));
    }
    let timeout = Duration::from_secs(arguments.timeout);
    let client = Client::with_tls(&arguments.leader, timeout, &arguments.tls.read()?)?.meant_for(ServerKind::Leader);
    let client = credentials::with(client, &arguments.credentials)?;
    let random = getrandom::u64().map_err(|error| CommandError::Failed(format!("no randomness: {error}")))?;
    let again = arguments.again.then(|| format!("again-{:08x}", random >> 32));
    if let Some(name) = &again {
        tell(&format!("importing anew; to resume this run, say --name {name} in place of --again"));
    }
    let named = arguments.name.as_deref().or(again.as_deref());
    // All of them before the first is sent: a mistake in the last must not leave half of them imported.
    let sources: Vec<_> =
        arguments.files.iter().map(|path| source(path, arguments, named)).collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        for source in &sources {
            tokio::select! {
                sent = send(source, &client, arguments, random) => sent?,
                _ = tokio::signal::ctrl_c() => {
                    let again = command("--name", again.as_deref());
                    return Err(CommandError::Interrupted(format!("stopped; the rest: {again}")));
                }
            }
        }
        Ok(())
    });
    // A read of standard input cannot be ended: nobody waits for it.
    runtime.shutdown_background();
    ended
}

/// Looks through a file, and names it.
fn source<'a>(
    path: &'a Path,
    arguments: &ImportArguments,
    named: Option<&str>,
) -> Result<ImportSource<'a>, CommandError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let format = arguments.format.map(ImportFormat::from).or_else(|| ImportFormat::of_name(&name));
    let usage = |what: &str| CommandError::Usage(format!("{}: {what}", path.display()));
    let format = format.ok_or_else(|| usage("its name does not say its format: give --format"))?;
    if is_pipe(path) {
        let name = named.ok_or_else(|| usage("a pipe has no name to be remembered by: give it one with --name"))?;
        return Ok(ImportSource {
            path,
            format,
            stream: format!("import.{name}.{CUT_NUMBER}"),
            hash: Xxh3::new(),
            seen: None,
        });
    }
    let mut hash = Xxh3::new();
    let ns = arguments.ns.as_deref();
    let parts = [format.name(), ns.unwrap_or_default(), named.unwrap_or_default(), &CUT_NUMBER.to_string()];
    parts.iter().for_each(|part| hash.update(&[part.as_bytes(), b"\0"].concat()));
    let seen = SeenFile::look_through(OpenInput::open(path)?, format, ns, hash.clone());
    let seen =
        seen.map_err(|fault| CommandError::Failed(format!("{}: {fault}; nothing was imported", path.display())))?;
    if seen.sums.counters > 0 {
        let counters = GroupedNumber(seen.sums.counters);
        tell(&format!("memdb: {}: {counters} counters are left out: no import sets them", path.display()));
    }
    Ok(ImportSource { path, format, stream: format!("import.{:032x}", seen.hash), hash, seen: Some(seen) })
}

/// Sends a source, and tells what came of it.
async fn send(source: &ImportSource<'_>, client: &Client, arguments: &ImportArguments, random: u64) -> CommandResult {
    let options = ImportOptions {
        name: source.stream.clone(),
        is_pipe: source.seen.is_none(),
        ack: arguments.ack.clone(),
        patience: Duration::from_secs(arguments.retry_seconds),
        seed: random,
    };
    let (progress, begun) = (ImportProgress::default(), Instant::now());
    let mut view = ProgressView::new(source.path, source.seen.map(|seen| seen.sums), arguments.progress_json);
    let fault = |what: String| CommandError::Failed(format!("{}: {what}", source.path.display()));
    let (sender, batches) = mpsc::channel(IMPORT_BATCHES_AHEAD);
    let (input, format, ns) = (OpenInput::open(source.path)?, source.format, arguments.ns.clone());
    let known = (source.hash.clone(), source.seen);
    let cutting = tokio::task::spawn_blocking(move || cut(input, format, ns.as_deref(), known, &sender));
    let sent = async {
        let refused = |refusal| fault(format!("{refusal}; so far: {}", progress_told(&progress)));
        client.import(batches, &options, &progress).await.map_err(refused)?;
        let cut = cutting.await.map_err(|error| fault(error.to_string()))?;
        let (sums, last) = cut.map_err(|wrong| {
            let rest = match wrong {
                CutFault::Wrong(_) => "; once it is right, under the same name it goes on",
                CutFault::Changed => ", which stay; the same command imports it as it is now",
            };
            fault(format!("{wrong}; so far: {}{rest}", progress_told(&progress)))
        })?;
        if let Some(batch) = last {
            client.import_last(&batch, &options, &progress).await.map_err(refused)?;
        }
        // What stands behind the last item, such as the end of an export, is done with it.
        progress.bytes.store(sums.bytes, Ordering::Relaxed);
        progress.lines.store(sums.lines, Ordering::Relaxed);
        Ok::<_, CommandError>(sums)
    };
    let mut sent = std::pin::pin!(sent);
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    let sent = loop {
        tokio::select! {
            sent = &mut sent => break sent,
            _ = ticks.tick() => view.tick(&progress),
        }
    };
    view.finish(&progress);
    let digest = sent?.digest.to_hex();
    let seconds = begun.elapsed().as_secs_f64();
    let rate = GroupedNumber((progress.applied.load(Ordering::Relaxed) as f64 / seconds.max(1e-3)).round());
    let (file, told) = (source.path.display(), progress_told(&progress));
    tell(&format!("{file}: {told} in {seconds:.1} s ({rate}/s), digest {digest}"));
    Ok(())
}

/// Tells how much was imported, and how much had been before.
fn progress_told(progress: &ImportProgress) -> String {
    let [applied, before] = [&progress.applied, &progress.applied_before].map(|items| items.load(Ordering::Relaxed));
    let known = if before > 0 { format!(", {} known before", GroupedNumber(before)) } else { String::new() };
    format!("{} items imported{known}", GroupedNumber(applied))
}
