//! What can be said on the command line.

use crate::speech::Speech;
use std::{net::SocketAddr, time::Duration};

/// How to use it.
pub const USAGE: &str = "\
bench-replication load    --to ADDRESS --texts FILE [--speak http|resp] [--connections 64] [--threads 2] [--seconds 5]
bench-replication visible --to ADDRESS --read ADDRESS --texts FILE [--speak …] [--connections 8] [--rate 1000] [--seconds 10]
  --to           where posts go, --read where they are looked for: ADDRESS is as 127.0.0.1:8080
  --texts        a text of ten words on each line
  --speak http   posts to memdb; resp: ten ZINCRBY to Redis
  --path         http: the path to post to (/post)
  --wait         resp: `WAIT this-many 1000` after each post (0: none)
  --transaction  resp: yes puts each post between MULTI and EXEC";

/// Words of a text: how many replies Redis gives to a post depends on it.
pub const WORDS: usize = 10;

/// Which measurement to make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As many posts as there are answers.
    Load,
    /// The time until a reader sees a post.
    Visible,
}

/// The measurement to make.
pub struct Options {
    /// Which.
    pub kind: Kind,
    /// The protocol.
    pub speech: Speech,
    /// Where posts go.
    pub to: SocketAddr,
    /// Where they are looked for.
    pub read: SocketAddr,
    /// The texts.
    pub texts: Vec<String>,
    /// Connections that post.
    pub connections: usize,
    /// Threads that drive them under load.
    pub threads: usize,
    /// Posts a second in all, when they are paced.
    pub rate: f64,
    /// How long posts are sent.
    pub length: Duration,
}

impl Options {
    /// Reads the command line.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let kind = match arguments.next().as_deref() {
            Some("load") => Kind::Load,
            Some("visible") => Kind::Visible,
            _ => return Err("say load or visible first".to_owned()),
        };
        let (mut to, mut read, mut texts) = (None, None, Vec::new());
        let (mut speak, mut path, mut wait, mut transaction) = ("http".to_owned(), "/post".to_owned(), 0, false);
        let (mut connections, mut threads, mut rate) = (if kind == Kind::Load { 64 } else { 8 }, 2, 1_000.0);
        let mut seconds = if kind == Kind::Load { 5.0 } else { 10.0 };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--to" => to = Some(parsed(&name, &value)?),
                "--read" => read = Some(parsed(&name, &value)?),
                "--texts" => texts = lines(&value)?,
                "--speak" => speak = value,
                "--path" => path = value,
                "--wait" => wait = parsed(&name, &value)?,
                "--transaction" => transaction = value == "yes",
                "--connections" => connections = parsed(&name, &value)?,
                "--threads" => threads = parsed(&name, &value)?,
                "--rate" => rate = parsed(&name, &value)?,
                "--seconds" => seconds = parsed(&name, &value)?,
                _ => return Err(format!("there is no {name}")),
            }
        }
        let speech = match speak.as_str() {
            "http" => Speech::Http { path },
            "resp" => Speech::Resp { wait, transaction },
            _ => return Err(format!("--speak: {speak} is neither http nor resp")),
        };
        let to = to.ok_or("--to is missing")?;
        if texts.is_empty() || texts.iter().any(|text| text.split(' ').count() != WORDS) {
            return Err(format!("--texts must name a file with {WORDS} words on each line"));
        }
        let positive = |number: f64| number.is_finite() && number > 0.0;
        if connections == 0 || threads == 0 || !positive(rate) || !positive(seconds) {
            return Err("connections, threads, rate and seconds must be more than nothing".to_owned());
        }
        let length = Duration::from_secs_f64(seconds);
        Ok(Self { kind, speech, to, read: read.unwrap_or(to), texts, connections, threads, rate, length })
    }
}

fn lines(path: &str) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn parsed<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: {value} cannot be used"))
}
