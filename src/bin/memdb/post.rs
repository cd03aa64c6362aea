//! `memdb post`: counts texts, each post once however often the command is repeated.

mod bar;
pub mod source;

use crate::credentials;
use crate::output::{CommandError, CommandResult, GroupedNumber, say, tell};
use bar::UploadBar;
use clap::ValueEnum;
use futures::{StreamExt, TryStreamExt, stream};
use memdb::{
    base::limits::{DEFAULT_MAX_BODY_BYTES, LARGEST_MAX_BODY_BYTES},
    base::position::PositionToken,
    client::{
        Client, ClientError, ServerKind, blocks, bulk_upload,
        split::PostUnit,
        upload::{UploadError, UploadOptions, UploadProgress, UploadSummary, Uploader},
    },
    config::{ClientTlsFlags, CredentialFlags},
};
use source::{InputEncoding, InputFormat, TextInput, TextPlace};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

const EXAMPLES: &str = "\
EXAMPLES
  memdb post book.txt                     a line is a post
  memdb post --per file articles/*.txt    a file is a post
  memdb post --recursive articles         the files in a directory
  memdb post texts.ndjson.zst             lines of {\"text\": \"…\"}, compressed
  zcat book.gz | memdb post --stream book -
  memdb post --again book.txt             counts it once more

Everything goes to the leader by POST /bulk. A follower does not pass it on; it names the leader, and the lines go there, \
which is said. What is compressed by gzip or Zstandard is decompressed, whatever its name. With --recursive, names that \
begin with a dot, and links, are passed over.

Stopped or repeated, the same command counts nothing twice: the leader remembers how far each file is, by its path, its \
content, --ns, --per, --format and --post-bytes, for 30 days after the last post. A file that changed or grew is another \
content and counts as a whole. What is read from a pipe, such as -, has no name to be remembered by: give it one with --stream. \
Under that name there is one text, which may grow at its end; another is refused.

Blank lines are skipped. A line longer than --post-bytes becomes several posts, cut at ASCII white space, so its words count \
as they are. A file is UTF-8 unless its byte-order mark or --encoding says otherwise; one that holds U+0000 looks binary, and \
nothing of it is counted (of a pipe, what stands before). Lines that are not UTF-8 or cannot be decoded, stretches that cannot be cut, and lines of NDJSON that the leader refuses, are told \
and not counted. Ctrl-C says how to go on.

Exits 0 if everything is counted, 1 if not, 2 on wrong usage, 130 after Ctrl-C.";

/// The way on with a text under the name of another.
const ANOTHER_TEXT: &str = "Give it a name of its own (--stream NAME), or count it once with --again";

/// Count texts: a line or a file per post.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PostArguments {
    /// Files to count; - is standard input, and the name of a pipe will do too.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The leader.
    #[arg(long, value_name = "URL", env = "MEMDB_LEADER", default_value = "http://127.0.0.1:8080", alias = "server")]
    leader: String,

    #[command(flatten)]
    credentials: CredentialFlags,

    /// Unit of one post: readers see a post as a whole or not at all.
    #[arg(long, value_enum, value_name = "UNIT", default_value_t = PostUnitArgument::Line)]
    per: PostUnitArgument,

    /// Format of the files.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = InputFormat::Auto)]
    format: InputFormat,

    /// The encoding of files without a byte-order mark: a label of the Encoding Standard, such as utf-16le or
    /// windows-1251 [default: utf-8].
    #[arg(long, value_name = "LABEL", value_parser = source::encoding)]
    encoding: Option<InputEncoding>,

    /// Read the files in directories too.
    #[arg(long, short)]
    recursive: bool,

    /// The namespace [default: words].
    #[arg(long, value_name = "NAME")]
    ns: Option<String>,

    /// Level that an answer must reach [default: the leader's --ack].
    #[arg(long, value_name = "LEVEL", value_parser = ["leader", "disk", "replica", "replica+disk"])]
    ack: Option<String>,

    /// Files, or blocks of a pipe, under way at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    in_flight: u16,

    /// Count anew what was counted before.
    #[arg(long, conflicts_with = "stream")]
    again: bool,

    /// Remember this run under a name of its own; the same name resumes it.
    #[arg(long, value_name = "NAME", value_parser = source::stream_name)]
    stream: Option<String>,

    /// Largest post in bytes; the leader's --max-body-bytes must allow it.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_BODY_BYTES as u32,
          value_parser = clap::value_parser!(u32).range(1..=LARGEST_MAX_BODY_BYTES as i64))]
    post_bytes: u32,

    /// Seconds for which it is tried again while the leader is busy or away and nothing moves; 0 tries once. A leader
    /// that is not there when it begins is told at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    retry_seconds: u64,

    /// Seconds for which the leader may give no sign of life before it is tried again.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    #[command(flatten)]
    tls: ClientTlsFlags,

    /// As JSON: {"counted", "counted_before", "faults", "words", "left_out", "seconds", "position"}.
    #[arg(long)]
    json: bool,
}

/// The unit of a post.
#[derive(Clone, Copy, ValueEnum)]
enum PostUnitArgument {
    Line,
    File,
}

#[allow(clippy::disallowed_methods, reason = "randomness is drawn here and handed in")]
pub fn run(arguments: &PostArguments) -> CommandResult {
    if arguments.format == InputFormat::Ndjson && matches!(arguments.per, PostUnitArgument::File) {
        return Err(CommandError::Usage("with --format ndjson a line is a post: leave out --per file".to_owned()));
    }
    let timeout = Duration::from_secs(arguments.timeout);
    let client = Client::with_tls(&arguments.leader, timeout, &arguments.tls.read()?)?.meant_for(ServerKind::Leader);
    let client = credentials::with(client, &arguments.credentials)?;
    let random = getrandom::u64().map_err(|error| CommandError::Failed(format!("no randomness: {error}")))?;
    let options = UploadOptions {
        per: match arguments.per {
            PostUnitArgument::Line => PostUnit::Line,
            PostUnitArgument::File => PostUnit::File,
        },
        post_bytes: arguments.post_bytes as usize,
        namespace: arguments.ns.as_deref(),
        ack: arguments.ack.as_deref(),
        in_flight: usize::from(arguments.in_flight),
        patience: Duration::from_secs(arguments.retry_seconds),
        timeout,
        seed: random,
    };
    let named = if arguments.again {
        let name = format!("again-{:08x}", random >> 32);
        tell(&format!("counting anew; to resume this run, say --stream {name} in place of --again"));
        Some(name)
    } else {
        arguments.stream.clone()
    };
    let run = PostRun {
        arguments,
        client,
        options,
        named,
        random,
        progress: Arc::default(),
        reads_pipes: AtomicBool::new(false),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run.go() => ended,
            _ = tokio::signal::ctrl_c() => Err(CommandError::Interrupted(run.how_to_resume("stopped"))),
        }
    });
    // A read of standard input cannot be ended: nobody waits for it.
    runtime.shutdown_background();
    ended
}

/// One run of the verb.
struct PostRun<'a> {
    arguments: &'a PostArguments,
    client: Client,
    options: UploadOptions<'a>,
    /// The name this run is remembered under, if not by path and content alone.
    named: Option<String>,
    random: u64,
    progress: Arc<UploadProgress>,
    /// True if some input can be read only once, and has no name.
    reads_pipes: AtomicBool,
}

/// The end of one source, for the summary.
#[derive(Default)]
struct SourceSummary {
    counted: u64,
    counted_before: u64,
    faults: u64,
    position: Option<PositionToken>,
}

impl SourceSummary {
    fn ended(&self) -> CommandResult {
        match self.faults {
            0 => Ok(()),
            1 => Err(CommandError::Failed("1 part could not be counted (above)".to_owned())),
            faults => {
                Err(CommandError::Failed(format!("{} parts could not be counted (above)", GroupedNumber(faults))))
            }
        }
    }
}

impl PostRun<'_> {
    async fn go(&self) -> CommandResult {
        let line = |client: &Client, is_watched| {
            Uploader::new(client.clone(), &self.options, Arc::clone(&self.progress), is_watched)
        };
        let reached =
            line(&self.client, false).reach().await.map_err(|error| CommandError::Failed(error.to_string()))?;
        if let Some(leader) = &reached {
            tell(&format!("{} is no leader; going on at the one it names, {}", self.client.base(), leader.base()));
        }
        let sources = self.survey().await?;
        let begun = Instant::now();
        let bar = UploadBar::posting(&sources, self.unit(&sources), Arc::clone(&self.progress));
        let line = line(reached.as_ref().unwrap_or(&self.client), bar.is_seen());
        let outcomes = stream::iter(&sources)
            .map(|source| self.feed(source, line.clone(), &bar, sources.len()))
            .buffer_unordered(self.options.in_flight)
            .try_fold(SourceSummary::default(), |mut all, outcome| async move {
                all.counted += outcome.counted - outcome.refused.min(outcome.counted);
                all.counted_before += outcome.counted_before;
                all.faults += outcome.faults.total + outcome.refused;
                all.position = outcome.position.map(|told| PositionToken::later(all.position, told)).or(all.position);
                Ok(all)
            });
        let summary = outcomes.await?;
        bar.finish();
        self.conclude(&summary, self.unit(&sources), begun.elapsed())
    }

    /// Reads every file once: what it holds, and the name that follows from it.
    async fn survey(&self) -> Result<Vec<TextInput<'_>>, CommandError> {
        let mut places = Vec::new();
        for path in &self.arguments.files {
            places.extend(TextPlace::of(path, self.arguments.recursive)?);
        }
        let bar = UploadBar::reading(&places).await;
        let mut sources: Vec<TextInput<'_>> = Vec::new();
        for place in places {
            if place.is_pipe() && self.named.is_none() {
                self.reads_pipes.store(true, Ordering::Relaxed);
                let from = if place.is_stdin() { "-".to_owned() } else { place.to_string() };
                bar.tell(&format!(
                    "what is read from {from} cannot be resumed or repeated; give it a name with --stream NAME"
                ));
            }
            let kind = (self.arguments.format, self.arguments.encoding.unwrap_or_default());
            let source = TextInput::survey(place, self.options, kind, self.named.as_deref(), &bar).await?;
            if sources.iter().any(|other| other.is_same(&source)) {
                bar.tell(&format!("{source} is named twice; it counts once"));
            } else {
                sources.push(source);
            }
        }
        bar.finish();
        Ok(sources)
    }

    async fn feed(
        &self,
        source: &TextInput<'_>,
        line: Uploader,
        bar: &UploadBar,
        sources: usize,
    ) -> Result<UploadSummary, CommandError> {
        let failed = |error: UploadError| CommandError::Failed(format!("{source}: {}", self.explained(&error)));
        let told = |before: u64| {
            if before > 0 && sources <= 8 {
                self.tell_before(source, before, bar);
            }
        };
        let outcome = match source.survey {
            Some(survey) if survey.posts == 0 => {
                UploadSummary { faults: source.faults.clone(), ..UploadSummary::default() }
            }
            Some(survey) => {
                let sent =
                    bulk_upload::send(&line, &source.stream, survey, &source.options, || source.open(), told).await;
                UploadSummary { faults: source.faults.clone(), ..sent.map_err(failed)? }
            }
            None => {
                let opened = source.open_pipe(self.named.as_deref(), self.random).await;
                let (input, options, stream) = opened.map_err(|error| failed(error.into()))?;
                let outcome = blocks::send(&line, &stream, input, &options).await.map_err(failed)?;
                told(outcome.counted_before);
                outcome
            }
        };
        for fault in &outcome.faults.first {
            bar.tell(&format!("{source}: {}: not counted", source.told(fault)));
        }
        let unit = if source.options.per == PostUnit::JsonLine { "line" } else { "post" };
        for refusal in &outcome.refusals {
            bar.tell(&format!("{source}: {unit} {}: {}: not counted", refusal.line, refusal.reason));
        }
        let untold =
            outcome.faults.total - outcome.faults.first.len() as u64 + outcome.refused - outcome.refusals.len() as u64;
        if untold > 0 {
            bar.tell(&format!("{source}: {} more like these", GroupedNumber(untold)));
        }
        Ok(outcome)
    }

    /// Says how much of a source an earlier run has counted.
    fn tell_before(&self, source: &TextInput<'_>, before: u64, bar: &UploadBar) {
        let unit = self.unit(std::slice::from_ref(source));
        bar.tell(&match source.survey {
            Some(survey) if before == survey.posts => {
                format!("{source}: all {} {unit} were counted before (--again counts them anew)", GroupedNumber(before))
            }
            Some(survey) => format!(
                "{source}: {} of {} {unit} were counted before; counting the rest",
                GroupedNumber(before),
                GroupedNumber(survey.posts)
            ),
            None => format!("{source}: {} {unit} were counted before", GroupedNumber(before)),
        });
    }

    fn conclude(&self, summary: &SourceSummary, unit: &str, took: Duration) -> CommandResult {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (words, left_out) = (read(&self.progress.words), read(&self.progress.left_out));
        if self.arguments.json {
            let position = summary.position.map(|position| position.to_string());
            say(&serde_json::json!({
                "counted": summary.counted, "counted_before": summary.counted_before, "faults": summary.faults,
                "words": words, "left_out": left_out, "seconds": took.as_secs_f64(), "position": position,
            })
            .to_string())?;
            return summary.ended();
        }
        let rate = |amount: u64| GroupedNumber((amount as f64 / took.as_secs_f64().max(0.001)) as u64);
        let mut line = format!("{} {unit}, {} words counted", GroupedNumber(summary.counted), GroupedNumber(words));
        if summary.counted > 0 {
            line += &format!(
                " in {:.1} s ({} {unit}/s, {} words/s)",
                took.as_secs_f64(),
                rate(summary.counted),
                rate(words)
            );
            line += &summary.position.map(|position| format!(", position {position}")).unwrap_or_default();
        }
        if summary.counted_before > 0 {
            line += &format!("; {} {unit} counted before", GroupedNumber(summary.counted_before));
        }
        if left_out > 0 {
            line += &format!("; {} tokens left out as too long", GroupedNumber(left_out));
        }
        say(&line)?;
        summary.ended()
    }

    /// Names the unit of a post: not "line" if some lines are several posts.
    fn unit(&self, sources: &[TextInput<'_>]) -> &'static str {
        match self.options.per {
            _ if sources.iter().any(TextInput::is_cut) => "posts",
            PostUnit::Line | PostUnit::JsonLine => "lines",
            PostUnit::File => "files",
        }
    }

    /// An error with the way out, where the error itself does not know it.
    fn explained(&self, error: &UploadError) -> String {
        match error {
            UploadError::Longer { .. } | UploadError::Post(ClientError::Refused { status: 413, .. }) => format!(
                "{error}. Posts have up to {} bytes: repeat with a smaller --post-bytes, \
                 or start the leader with a larger --max-body-bytes",
                self.options.post_bytes
            ),
            UploadError::Shorter => format!("{error}. {ANOTHER_TEXT}"),
            UploadError::Post(ClientError::Refused { problem, .. }) if **problem == *"key-reused" => {
                format!("{error}. {ANOTHER_TEXT}")
            }
            UploadError::GaveUp { .. } => format!("{error}. {}", self.how_to_resume("Stopped")),
            _ => error.to_string(),
        }
    }

    /// How far it got at least, and the command that goes on from there.
    fn how_to_resume(&self, stopped: &str) -> String {
        let counted = GroupedNumber(self.progress.confirmed.load(Ordering::Relaxed));
        if self.named.is_none() && self.reads_pipes.load(Ordering::Relaxed) {
            return format!(
                "{stopped} with at least {counted} posts counted; what was read from a pipe cannot be resumed"
            );
        }
        format!(
            "{stopped} with at least {counted} posts counted. This goes on from there:\n  {}",
            source::command("--stream", self.named.as_deref())
        )
    }
}
