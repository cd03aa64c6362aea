//! `memdb cache`, `memdb posts` and `memdb stats`: values that expire, and texts whose words can be taken back.

mod help;

use crate::{
    health::{aligned, report},
    output::{CommandError, CommandResult, GroupedNumber, say, tell},
    read::{NodeArguments, block_on, shown},
};
use clap::Subcommand;
use memdb::{
    base::limits::LARGEST_MAX_VALUE_BYTES,
    client::entries::{EntryPath, EntrySummary, EntryUpload},
    data::entries::CollectionKind,
};
use serde_json::json;
use std::{
    io::{IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

/// Entries that one request lists.
const LISTED_AT_ONCE: usize = 1_000;

/// Keep values under keys, for a time or for good.
#[derive(clap::Args)]
#[command(arg_required_else_help = true, after_help = help::CACHE)]
pub struct CacheArguments {
    #[command(subcommand)]
    verb: CacheCommand,
}

#[derive(Subcommand)]
enum CacheCommand {
    /// Set a value.
    #[command(after_help = help::CACHE_PUT)]
    Put(PutArguments),
    /// Write a value to standard output.
    #[command(after_help = help::CACHE_GET)]
    Get(FetchArguments),
    /// Set when values expire, and leave them as they are.
    #[command(after_help = help::CACHE_TOUCH)]
    Touch(TouchArguments),
    /// Take values away.
    #[command(after_help = help::CACHE_DEL)]
    Del(DelArguments),
    /// List keys.
    #[command(after_help = help::CACHE_LIST)]
    List(ListArguments),
}

/// Keep texts whose words are counted as long as they are there.
#[derive(clap::Args)]
#[command(arg_required_else_help = true, after_help = help::POSTS)]
pub struct PostsArguments {
    #[command(subcommand)]
    verb: PostsCommand,
}

#[derive(Subcommand)]
enum PostsCommand {
    /// Set a post, and count its words in place of those it had.
    #[command(after_help = help::POSTS_PUT)]
    Put(PostPutArguments),
    /// Write a post to standard output.
    #[command(after_help = help::POSTS_GET)]
    Get(FetchArguments),
    /// Set when posts expire, and leave them as they are.
    #[command(after_help = help::POSTS_TOUCH)]
    Touch(TouchArguments),
    /// Take posts away, and their words back.
    #[command(after_help = help::POSTS_DEL)]
    Del(DelArguments),
    /// List posts.
    #[command(after_help = help::POSTS_LIST)]
    List(ListArguments),
}

/// The arguments that both kinds of `put` have.
#[derive(clap::Args)]
struct PutArguments {
    /// The key: 1 to 512 bytes of any text.
    #[arg(value_name = "KEY", value_parser = key)]
    key: String,

    /// The file with the value; - is standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,

    /// The value itself, in place of a file.
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    value: Option<String>,

    /// Seconds until it expires, decimals allowed; 0 is never [default: never].
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    ttl: Option<String>,

    /// The media type that it is served under [default: by the file's name, or the node's].
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,

    /// Only if there is none under this key.
    #[arg(long, conflicts_with = "if_match")]
    if_absent: bool,

    /// Only if the one that is there has this ETag; * is any.
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,

    /// Level that the answer must reach [default: the leader's --ack].
    #[arg(long, value_name = "LEVEL", value_parser = ["leader", "disk", "replica", "replica+disk"])]
    ack: Option<String>,

    #[command(flatten)]
    place: PlaceArguments,

    /// As JSON: the node's own answer.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct PostPutArguments {
    #[command(flatten)]
    put: PutArguments,

    /// Keep it without counting its words.
    #[arg(long)]
    no_count: bool,
}

#[derive(clap::Args)]
struct FetchArguments {
    /// The key.
    #[arg(value_name = "KEY", value_parser = key)]
    key: String,

    #[command(flatten)]
    place: PlaceArguments,

    /// As JSON: {"key", "bytes", "content_type", "etag", "position"}, and "value" if it is UTF-8.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct TouchArguments {
    /// The keys.
    #[arg(required = true, value_name = "KEY", value_parser = key)]
    keys: Vec<String>,

    /// Seconds until it expires, counted from now, decimals allowed; 0 is never.
    #[arg(long, required = true, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    ttl: String,

    /// Only if it has this ETag; for one key.
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,

    #[command(flatten)]
    place: PlaceArguments,

    /// As JSON: {"touched", "absent"}.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct DelArguments {
    /// The keys.
    #[arg(required = true, value_name = "KEY", value_parser = key)]
    keys: Vec<String>,

    /// Only if it has this ETag; for one key.
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,

    #[command(flatten)]
    place: PlaceArguments,

    /// As JSON: {"deleted", "absent"}.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct ListArguments {
    /// The beginning of the keys.
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: String,

    /// Largest number of keys.
    #[arg(short, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    n: u64,

    /// Go on behind this key.
    #[arg(long, value_name = "KEY")]
    after: Option<String>,

    #[command(flatten)]
    place: PlaceArguments,

    /// As JSON, an object a line: {"key", "bytes", "content_type", "etag", "expires_in"}.
    #[arg(long)]
    json: bool,
}

/// The namespace and the node.
#[derive(clap::Args)]
struct PlaceArguments {
    /// The namespace [default: words].
    #[arg(long, value_name = "NAME")]
    ns: Option<String>,

    #[command(flatten)]
    node: NodeArguments,
}

/// Show how many entries there are, and how reads and expiries went, on each node.
#[derive(clap::Args)]
#[command(after_help = help::STATS)]
pub struct StatsArguments {
    #[command(flatten)]
    node: NodeArguments,

    /// As the node's own JSON.
    #[arg(long)]
    json: bool,
}

pub fn cache(arguments: &CacheArguments) -> CommandResult {
    match &arguments.verb {
        CacheCommand::Put(put) => set(CollectionKind::Cache, put, false),
        CacheCommand::Get(get) => fetch(CollectionKind::Cache, get),
        CacheCommand::Touch(touch) => set_expiry(CollectionKind::Cache, touch),
        CacheCommand::Del(del) => delete(CollectionKind::Cache, del),
        CacheCommand::List(asked) => list(CollectionKind::Cache, asked),
    }
}

pub fn posts(arguments: &PostsArguments) -> CommandResult {
    match &arguments.verb {
        PostsCommand::Put(post) => set(CollectionKind::Posts, &post.put, post.no_count),
        PostsCommand::Get(get) => fetch(CollectionKind::Posts, get),
        PostsCommand::Touch(touch) => set_expiry(CollectionKind::Posts, touch),
        PostsCommand::Del(del) => delete(CollectionKind::Posts, del),
        PostsCommand::List(asked) => list(CollectionKind::Posts, asked),
    }
}

pub fn stats(arguments: &StatsArguments) -> CommandResult {
    let client = arguments.node.client()?;
    let stats = block_on(async { client.entry_stats().await.map_err(CommandError::from) })?;
    if arguments.json {
        return say(&format!("{stats:#}"));
    }
    report(&stats, "nodes").iter().try_for_each(|line| say(line))
}

fn set(kind: CollectionKind, arguments: &PutArguments, is_uncounted: bool) -> CommandResult {
    let bytes = match &arguments.value {
        Some(text) => text.clone().into_bytes(),
        None => read(&arguments.file)?,
    };
    let length = bytes.len();
    let content_type = arguments.content_type.as_deref().or_else(|| media_type(&arguments.file));
    let upload = EntryUpload {
        bytes: bytes.into(),
        content_type,
        ttl: arguments.ttl.as_deref(),
        is_uncounted,
        ack: arguments.ack.as_deref(),
        if_match: arguments.if_match.as_deref(),
        if_absent: arguments.if_absent,
    };
    let client = arguments.place.node.client()?;
    let path = arguments.place.path(kind, &arguments.key);
    let answer = block_on(async { client.put_entry(path, upload).await.map_err(CommandError::from) })?;
    if arguments.json {
        return say(&answer.to_string());
    }
    let counted = match answer["words"].as_u64() {
        Some(words) if kind == CollectionKind::Posts && !is_uncounted => {
            format!(", {} words", GroupedNumber(words))
        }
        _ => String::new(),
    };
    let expires = answer["expires_in"].as_f64().map(|left| format!(", expires in {left} s")).unwrap_or_default();
    say(&format!("{}: {} bytes{counted}{expires}", shown(&arguments.key), GroupedNumber(length)))
}

fn fetch(kind: CollectionKind, arguments: &FetchArguments) -> CommandResult {
    let client = arguments.place.node.client()?;
    let path = arguments.place.path(kind, &arguments.key);
    let found = block_on(async { client.entry(path).await.map_err(CommandError::from) })?;
    let Some(entry) = found else {
        return Err(CommandError::Failed(format!("{} at {}", absent(kind, path), client.base())));
    };
    let text = std::str::from_utf8(&entry.bytes);
    if arguments.json {
        let mut answer = json!({
            "key": path.key, "bytes": entry.bytes.len(), "content_type": entry.content_type, "etag": entry.etag,
            "position": entry.position.to_string(),
        });
        if let Ok(text) = text {
            answer["value"] = text.into();
        }
        return say(&answer.to_string());
    }
    let mut out = std::io::stdout().lock();
    let steers = |letter: char| letter.is_control() && !['\n', '\r', '\t'].contains(&letter);
    if out.is_terminal() && text.map_or(true, |text| text.contains(steers)) {
        let message =
            format!("{} is not plain text: send it to a file or a pipe, not to the terminal", shown(path.key));
        return Err(CommandError::Usage(message));
    }
    out.write_all(&entry.bytes)?;
    Ok(out.flush()?)
}

fn set_expiry(kind: CollectionKind, arguments: &TouchArguments) -> CommandResult {
    let (keys, if_match) = (&arguments.keys, arguments.if_match.as_deref());
    check_condition(keys, if_match)?;
    let client = arguments.place.node.client()?;
    let missing = block_on(async {
        let mut missing = Vec::new();
        for key in keys {
            let path = arguments.place.path(kind, key);
            if client.touch_entry(path, &arguments.ttl, if_match).await?.is_none() {
                missing.push(key.as_str());
            }
        }
        Ok(missing)
    })?;
    let touched = keys.len() - missing.len();
    if arguments.json {
        say(&json!({"touched": touched, "absent": missing}).to_string())?;
    } else if touched > 0 {
        let expiry = match arguments.ttl.parse::<f64>() {
            Ok(0.0) => "stay".to_owned(),
            _ => format!("expire in {} s", arguments.ttl),
        };
        say(&format!("{} {expiry}", GroupedNumber(touched)))?;
    }
    match missing.first() {
        None => Ok(()),
        // Whoever wanted it to stay has to know that it has gone.
        Some(first) => Err(CommandError::Failed(absent(kind, arguments.place.path(kind, first)))),
    }
}

/// Refuses one tag for many entries.
fn check_condition(keys: &[String], if_match: Option<&str>) -> CommandResult {
    if if_match.is_some() && keys.len() > 1 {
        return Err(CommandError::Usage("--if-match goes with one key: each entry has a tag of its own".to_owned()));
    }
    Ok(())
}

fn delete(kind: CollectionKind, arguments: &DelArguments) -> CommandResult {
    let (keys, if_match) = (&arguments.keys, arguments.if_match.as_deref());
    check_condition(keys, if_match)?;
    let client = arguments.place.node.client()?;
    let missing = block_on(async {
        let mut missing = Vec::new();
        for key in keys {
            if !client.delete_entry(arguments.place.path(kind, key), if_match).await? {
                missing.push(key.as_str());
            }
        }
        Ok(missing)
    })?;
    let deleted = keys.len() - missing.len();
    if arguments.json {
        return say(&json!({"deleted": deleted, "absent": missing}).to_string());
    }
    for key in missing {
        tell(&format!("memdb: {}", absent(kind, arguments.place.path(kind, key))));
    }
    say(&format!("{} deleted", GroupedNumber(deleted)))
}

fn list(kind: CollectionKind, arguments: &ListArguments) -> CommandResult {
    let client = arguments.place.node.client()?;
    let place = (kind, arguments.place.ns.as_deref());
    let (mut left, mut after) = (arguments.n, arguments.after.clone());
    block_on(async {
        while left > 0 {
            let limit = usize::try_from(left).unwrap_or(usize::MAX).min(LISTED_AT_ONCE);
            let page = client.entry_list(place, &arguments.prefix, after.as_deref(), limit).await?;
            left = left.saturating_sub(page.keys.len() as u64);
            print(&page.keys, arguments.json)?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
        if let Some(last) = &after {
            tell(&format!("memdb: there are more: go on with --after {}", shown(last)));
        }
        Ok(())
    })
}

fn print(entries: &[EntrySummary], as_json: bool) -> CommandResult {
    if as_json {
        let line = |entry: &EntrySummary| {
            json!({
                "key": entry.key, "bytes": entry.bytes, "content_type": entry.content_type, "etag": entry.etag,
                "expires_in": entry.expires_in,
            })
        };
        return entries.iter().try_for_each(|entry| say(&line(entry).to_string()));
    }
    let row = |entry: &EntrySummary| {
        let expires = entry.expires_in.map_or_else(|| "stays".to_owned(), |left| format!("{left:.1} s left"));
        let content_type = entry.content_type.as_deref().unwrap_or_default();
        vec![shown(&entry.key), format!("{} bytes", GroupedNumber(entry.bytes)), expires, shown(content_type)]
    };
    aligned(&entries.iter().map(row).collect::<Vec<_>>()).iter().try_for_each(|line| say(line))
}

impl PlaceArguments {
    fn path<'a>(&'a self, kind: CollectionKind, key: &'a str) -> EntryPath<'a> {
        EntryPath { kind, namespace: self.ns.as_deref(), key }
    }
}

/// Says that nothing is there.
fn absent(kind: CollectionKind, path: EntryPath<'_>) -> String {
    let what = if kind == CollectionKind::Posts { "post" } else { "entry" };
    let within = path.namespace.map(|name| format!(" in namespace {name}")).unwrap_or_default();
    format!("there is no {what} {}{within}", shown(path.key))
}

/// The media type of a file by its name, where the name says it.
fn media_type(file: &Path) -> Option<&'static str> {
    let extension = file.extension()?.to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "json" => Some("application/json"),
        "txt" | "md" => Some("text/plain"),
        _ => None,
    }
}

/// Reads a value whole. What no node would take is not read to its end.
fn read(file: &Path) -> Result<Vec<u8>, CommandError> {
    let failed = |error: std::io::Error| CommandError::Failed(format!("cannot read {}: {error}", file.display()));
    let mut bytes = Vec::new();
    let most = LARGEST_MAX_VALUE_BYTES as u64;
    if file == Path::new("-") {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            tell("memdb: reading the value from the terminal; Ctrl-D ends it");
        }
        stdin.lock().take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        #[allow(clippy::disallowed_methods, reason = "a file of the user, none of a database")]
        let file = std::fs::File::open(file).map_err(failed)?;
        file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > most {
        return Err(CommandError::Failed(format!(
            "{} is larger than the {} bytes that a node may take",
            file.display(),
            GroupedNumber(most)
        )));
    }
    Ok(bytes)
}

/// A key that a path can name.
fn key(text: &str) -> Result<String, String> {
    match text {
        "" => Err("a key has at least one byte".to_owned()),
        "." | ".." => Err("it is no key, since a path cannot name it".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Seconds, as they were typed.
fn seconds(text: &str) -> Result<String, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(text.to_owned()),
        _ => Err("give seconds, such as 60 or 0.5; 0 is never".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_follows_from_the_name_of_the_file() {
        for (file, expected) in
            [("a.JSON", Some("application/json")), ("-", None), ("a.txt", Some("text/plain")), ("txt", None)]
        {
            assert_eq!(media_type(Path::new(file)), expected, "{file}");
        }
    }
}
