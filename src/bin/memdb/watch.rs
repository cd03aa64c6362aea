//! `memdb watch`: counts and entries as they change, from any node.

mod screen;

use crate::{
    output::{CommandError, CommandResult, say, tell},
    read::{NodeArguments, block_on},
};
use memdb::{
    base::limits::{MAX_ENTRIES_PER_REQUEST, MAX_TOP, MAX_WORDS_PER_READ},
    base::retry::RetryBackoff,
    client::{
        Client, ClientError,
        watch::{EventReader, WatchQuery, WatchUpdate},
    },
};
use screen::WatchScreen;
use serde_json::json;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, sleep};

const WATCH_EXAMPLES: &str = "\
EXAMPLES
  memdb watch whale ship sea
  memdb watch --top 10 --ns titles
  memdb watch --key session/17 --json | jq .data
  memdb watch --once hello

In a terminal the values are drawn anew as they change, each with what was added to it in the last half minute. Elsewhere \
each change is a line. When the node goes away, the stream goes on where it was once the node is back.

Exits 0 when the output is closed or with --once, 1 if the node does not answer at first, 2 on wrong usage.";

/// Show counts and entries as they change.
#[derive(clap::Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct WatchArguments {
    /// The words, up to 1,000.
    #[arg(value_name = "WORD", required_unless_present_any = ["top", "keys"], conflicts_with = "top")]
    words: Vec<String>,

    /// The largest counts, so many of them, up to 1,000.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=MAX_TOP as i64))]
    top: Option<u16>,

    /// The key of an entry; may be repeated.
    #[arg(long = "key", value_name = "KEY", conflicts_with = "top")]
    keys: Vec<String>,

    /// The namespace [default: words].
    #[arg(long, value_name = "NAME")]
    ns: Option<String>,

    /// The longest time that a change waits, 10ms to 60s.
    #[arg(long, value_name = "TIME", default_value = "100ms")]
    every: String,

    #[command(flatten)]
    node: NodeArguments,

    /// As JSON, a line for each event: {"event", "id", "data"}.
    #[arg(long)]
    json: bool,

    /// Show the first values, and end.
    #[arg(long)]
    once: bool,
}

/// Interval at which the screen is drawn though nothing changes: what was added moves on.
const DRAW_EVERY: Duration = Duration::from_secs(1);

pub fn run(arguments: &WatchArguments) -> CommandResult {
    let WatchArguments { words, keys, .. } = arguments;
    if words.len() > MAX_WORDS_PER_READ || keys.len() > MAX_ENTRIES_PER_REQUEST {
        return Err(CommandError::Usage(format!("at most {MAX_WORDS_PER_READ} words and as many keys are watched")));
    }
    let client = arguments.node.client()?;
    let query = WatchQuery {
        namespace: arguments.ns.as_deref(),
        words,
        keys,
        top: arguments.top,
        every: Some(&arguments.every),
    };
    let output = match arguments.json {
        true => WatchOutput::Json,
        false => WatchOutput::Screen(WatchScreen::new(&client.base(), words, keys, arguments.once)),
    };
    block_on(follow(&client, &query, output, arguments.once))
}

/// The form in which events are shown.
enum WatchOutput {
    Json,
    Screen(WatchScreen),
}

impl WatchOutput {
    fn show(&mut self, update: &WatchUpdate) -> CommandResult {
        match self {
            WatchOutput::Json => say(&json!({"event": update.name, "id": update.id, "data": update.data}).to_string()),
            WatchOutput::Screen(screen) => screen.show(update),
        }
    }

    /// Says why nothing comes; an empty text: it comes again.
    fn tell(&mut self, what: &str) -> CommandResult {
        match self {
            WatchOutput::Screen(screen) if screen.is_drawn() => screen.set_trouble(what),
            _ if what.is_empty() => Ok(()),
            _ => {
                tell(&format!("memdb: {what}"));
                Ok(())
            }
        }
    }

    fn tick(&mut self) -> CommandResult {
        match self {
            WatchOutput::Screen(screen) => screen.tick(),
            WatchOutput::Json => Ok(()),
        }
    }
}

/// Follows a node, over breaks, until the output is closed.
async fn follow(client: &Client, query: &WatchQuery<'_>, mut output: WatchOutput, once: bool) -> CommandResult {
    let mut backoff = RetryBackoff::new(u64::from(std::process::id()));
    let mut last_id: Option<String> = None;
    let mut has_begun = false;
    loop {
        let ended = match client.watch(query, last_id.as_deref()).await {
            Ok(mut events) => {
                has_begun = true;
                backoff.restart();
                output.tell("")?;
                let ended = read(&mut events, &mut output, once).await?;
                last_id = events.last_id().map(str::to_owned).or(last_id);
                match ended {
                    None => return Ok(()),
                    Some(ended) => ended,
                }
            }
            Err(error) if has_begun && error.is_passing() => error,
            Err(error) => return Err(error.into()),
        };
        output.tell(&format!("{ended}; trying again"))?;
        sleep(backoff.wait(ended.retry_after())).await;
    }
}

/// Shows the events of one stream; gives why it has ended, or nothing once all was shown that is wanted.
async fn read(
    events: &mut EventReader,
    output: &mut WatchOutput,
    once: bool,
) -> Result<Option<ClientError>, CommandError> {
    let mut ticks = interval(DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            update = events.next_update() => match update {
                Ok(Some(update)) => {
                    output.show(&update)?;
                    if once && update.id.is_some() {
                        return Ok(None);
                    }
                }
                Ok(None) => return Ok(Some(events.ended())),
                Err(error) => return Ok(Some(error)),
            },
            _ = ticks.tick() => output.tick()?,
        }
    }
}
