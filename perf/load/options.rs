//! What can be said on the command line.

use crate::{speech::Speech, work::Work};
use std::{net::SocketAddr, time::Duration};

/// How to use it.
pub const USAGE: &str = "\
bench-load closed  --to ADDRESS [--work read:1] [--connections 64] [--depth 1] [--threads 2] [--seconds 5]
bench-load open    --to ADDRESS [--work read:1] [--connections 64] [--rate 1000] [--seconds 10]
bench-load visible --to ADDRESS --read ADDRESS [--connections 8] [--rate 1000] [--seconds 10]
bench-load created --to ADDRESS --read ADDRESS.. [--work create:10] [--connections 8] [--rate 1000] [--seconds 10]
bench-load fill    --to ADDRESS --distinct 10000000 [--work put:1024]
bench-load file    --out PATH --bytes 100000000
  --to            where requests go, as 127.0.0.1:8080; --read: where posts are looked for, once for each place
  --speak         http (memdb, nginx) or resp (Redis)
  --path          http: the path that posts, or `--work get`, go to (/post?ack=leader); in front of a key: /cache/, /counter/
  --wait          resp: `WAIT this-many 0` behind each post (0: none)
  --work          read:WORDS, post:WORDS, bulk:TEXTS:WORDS, get, put:BYTES, entry, unchanged:BYTES, create:WORDS,
                  increment
  --depth         requests a connection sends at once
  --distinct      words, or keys, there are (1000), drawn by Zipf's law with --exponent (1), from --seed (1)";

/// Which measurement to make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As many requests as there are answers.
    Closed,
    /// A steady rate.
    Open,
    /// The time until a reader sees a post.
    Visible,
    /// The time until readers see a document that was created.
    Created,
    /// Every word once.
    Fill,
    /// A file of text.
    File,
}

/// The measurement to make.
pub struct Options {
    /// Which.
    pub kind: Kind,
    /// The protocol.
    pub speech: Speech,
    /// Where requests go.
    pub to: SocketAddr,
    /// Where posts are looked for.
    pub read: Vec<SocketAddr>,
    /// What is sent.
    pub work: Work,
    /// Words there are.
    pub distinct: u64,
    /// The exponent of Zipf's law.
    pub exponent: f64,
    /// Other texts for another seed.
    pub seed: u64,
    /// Connections that send.
    pub connections: usize,
    /// Requests a connection sends at once.
    pub depth: usize,
    /// Threads that drive them under load.
    pub threads: usize,
    /// Requests a second in all, when they are paced.
    pub rate: f64,
    /// How long they are sent.
    pub length: Duration,
    /// The file to write, and its bytes.
    pub file: (String, u64),
}

impl Options {
    /// Reads the command line.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let kind = match arguments.next().as_deref() {
            Some("closed") => Kind::Closed,
            Some("open") => Kind::Open,
            Some("visible") => Kind::Visible,
            Some("created") => Kind::Created,
            Some("fill") => Kind::Fill,
            Some("file") => Kind::File,
            _ => return Err("say closed, open, visible, created, fill or file first".to_owned()),
        };
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut options = Self {
            kind,
            speech: Speech::Http { path: String::new() },
            to: nowhere,
            read: Vec::new(),
            work: if kind == Kind::Created { Work::Create(10) } else { Work::Read(1) },
            distinct: 1_000,
            exponent: 1.0,
            seed: 1,
            connections: if matches!(kind, Kind::Visible | Kind::Created) { 8 } else { 64 },
            depth: 1,
            threads: 2,
            rate: 1_000.0,
            length: Duration::from_secs(if kind == Kind::Closed { 5 } else { 10 }),
            file: (String::new(), 100_000_000),
        };
        let (mut speak, mut path, mut wait) = ("http".to_owned(), "/post?ack=leader".to_owned(), 0);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--speak" => speak = value,
                "--path" => path = value,
                "--wait" => wait = parsed(&name, &value)?,
                _ => options.set(&name, value)?,
            }
        }
        options.speech = match speak.as_str() {
            "http" => Speech::Http { path },
            "resp" => Speech::Resp { wait },
            _ => return Err(format!("--speak: {speak} is neither http nor resp")),
        };
        options.checked()
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "--to" => self.to = parsed(name, &value)?,
            "--read" => self.read.push(parsed(name, &value)?),
            "--work" => self.work = Work::parse(&value).ok_or_else(|| format!("there is no work {value}"))?,
            "--distinct" => self.distinct = parsed(name, &value)?,
            "--exponent" => self.exponent = parsed(name, &value)?,
            "--seed" => self.seed = parsed(name, &value)?,
            "--connections" => self.connections = parsed(name, &value)?,
            "--depth" => self.depth = parsed(name, &value)?,
            "--threads" => self.threads = parsed(name, &value)?,
            "--rate" => self.rate = parsed(name, &value)?,
            "--seconds" => self.length = Duration::from_secs_f64(parsed(name, &value)?),
            "--out" => self.file.0 = value,
            "--bytes" => self.file.1 = parsed(name, &value)?,
            _ => return Err(format!("there is no {name}")),
        }
        Ok(())
    }

    fn checked(self) -> Result<Self, String> {
        if self.kind == Kind::File {
            return if self.file.0.is_empty() { Err("--out is missing".to_owned()) } else { Ok(self) };
        }
        if self.to.port() == 0 || (matches!(self.kind, Kind::Visible | Kind::Created) && self.read.is_empty()) {
            return Err("--to, or --read, is missing".to_owned());
        }
        let positive = self.connections > 0 && self.depth > 0 && self.threads > 0 && self.distinct > 0;
        if !positive || !self.rate.is_finite() || self.rate <= 0.0 || self.length.is_zero() {
            return Err("connections, depth, threads, distinct, rate and seconds must be more than nothing".to_owned());
        }
        Ok(self)
    }
}

fn parsed<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: {value} cannot be used"))
}
