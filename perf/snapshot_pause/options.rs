//! What can be said on the command line.

use std::path::PathBuf;

/// How to use it.
pub const USAGE: &str = "\
bench-snapshot-pause [--memdb PATH] [--words 1000000] [--rate 2000] [--connections 8] [--ballast 400] [--seconds 20]
                     [--rounds 3] [--with ARGUMENTS] [--without ARGUMENTS]
  --rate              posts of ten words a second, which are timed
  --ballast           posts of 1,000 words a second on one more connection, which are not timed: a snapshot this large
                      is taken only once the log has outgrown the one before, and these make it grow
  --with, --without   arguments of `memdb leader` that make snapshots frequent, or turn them off";

/// The measurement to make.
pub struct Options {
    /// The program.
    pub memdb: PathBuf,
    /// Distinct words loaded beforehand.
    pub words: u64,
    /// Posts a second.
    pub rate: f64,
    /// Connections they are spread over.
    pub connections: u32,
    /// Posts of 1,000 words a second beside them.
    pub ballast: f64,
    /// Length of each phase in seconds.
    pub seconds: f64,
    /// How often each phase is run.
    pub rounds: usize,
    /// Arguments of a leader with snapshots.
    pub with: Vec<String>,
    /// Arguments of a leader without.
    pub without: Vec<String>,
}

impl Options {
    /// Reads the command line.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            memdb: "target/release/memdb".into(),
            words: 1_000_000,
            rate: 2_000.0,
            connections: 8,
            ballast: 400.0,
            seconds: 20.0,
            rounds: 3,
            with: words("--backup-interval-ms 500"),
            without: words("--backup-interval-ms 0"),
        };
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--memdb" => options.memdb = value.into(),
                "--words" => options.words = number(&name, &value)?,
                "--rate" => options.rate = number(&name, &value)?,
                "--connections" => options.connections = number(&name, &value)?,
                "--ballast" => options.ballast = number(&name, &value)?,
                "--seconds" => options.seconds = number(&name, &value)?,
                "--rounds" => options.rounds = number(&name, &value)?,
                "--with" => options.with = words(&value),
                "--without" => options.without = words(&value),
                _ => return Err(format!("there is no {name}")),
            }
        }
        Ok(options)
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: {value} is no number"))
}
