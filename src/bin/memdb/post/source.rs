//! What is posted: a file or standard input, and the name the leader remembers it by.

use super::bar::Bar;
use crate::output::Failure;
use memdb::{
    client::{
        feed::{Faults, Manner, Survey, survey},
        split::Per,
    },
    hash::fingerprint,
};
use std::{
    fmt, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};
use tokio::{fs::File, io::AsyncRead};

/// Characters of the file's name that are kept in the stream's, for whoever reads the leader's logs.
const NAME_CHARS: usize = 64;

/// One text to be posted.
pub struct Source {
    path: PathBuf,
    /// What it holds; unknown for standard input.
    pub survey: Option<Survey>,
    /// What of it cannot be posted; of standard input, nothing is known.
    pub faults: Faults,
    /// The name the leader remembers it by.
    pub stream: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl Source {
    /// Reads the file once, for its length and its name.
    pub async fn survey(
        path: &Path,
        manner: &Manner<'_>,
        named: Option<&str>,
        random: u64,
        bar: &Bar,
    ) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| Failure::Failed(format!("cannot read {}: {error}", path.display()));
        let post_bytes = manner.post_bytes.to_le_bytes();
        let mut source =
            Source { path: path.to_owned(), survey: None, faults: Faults::default(), stream: String::new() };
        if source.is_stdin() {
            // Without a name of its own the run must not meet another one.
            let name = named.map_or_else(|| format!("once-{random:016x}"), str::to_owned);
            source.stream = format!("{name}.stdin.{:032x}", fingerprint(&manner_parts(manner, &post_bytes)));
            return Ok(source);
        }
        let (found, faults) =
            survey(source.open().await?, manner, |bytes| bar.read(bytes)).await.map_err(unreadable)?;
        bar.read_all(found.bytes);
        let place = tokio::fs::canonicalize(path).await.map_err(unreadable)?;
        let mut parts = manner_parts(manner, &post_bytes).to_vec();
        let content = found.content.to_le_bytes();
        parts.extend([place.as_os_str().as_bytes(), &content]);
        let name: String = path.file_name().unwrap_or_default().to_string_lossy().chars().take(NAME_CHARS).collect();
        let name = name.replace(|letter: char| !is_name_char(letter), "_");
        source.stream = format!("{}.{name}.{:032x}", named.unwrap_or("post"), fingerprint(&parts));
        (source.survey, source.faults) = (Some(found), faults);
        Ok(source)
    }

    /// Opens it from its start.
    pub async fn open(&self) -> Result<Box<dyn AsyncRead + Send + Unpin>, Failure> {
        if self.is_stdin() {
            return Ok(Box::new(tokio::io::stdin()));
        }
        let unreadable = |error: io::Error| Failure::Failed(format!("cannot read {self}: {error}"));
        let file = self.open_again().await.map_err(unreadable)?;
        if file.metadata().await.map_err(unreadable)?.is_file() {
            return Ok(Box::new(file));
        }
        // It is read twice, which a pipe would not survive.
        Err(Failure::Failed(format!("{self} is not a regular file; a pipe can be read with: memdb post - < {self}")))
    }

    /// Opens it from its start, once more.
    pub async fn open_again(&self) -> io::Result<File> {
        File::open(&self.path).await
    }

    /// Whether it is standard input.
    pub fn is_stdin(&self) -> bool {
        is_stdin(&self.path)
    }

    /// Whether a line (or the file) is more than one post.
    pub fn is_cut(&self) -> bool {
        self.survey.is_some_and(|survey| survey.cut)
    }
}

/// The name of standard input.
pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// What decides, beside the text, which posts there are and where they count.
fn manner_parts<'a>(manner: &Manner<'a>, post_bytes: &'a [u8]) -> [&'a [u8]; 3] {
    let per: &[u8] = match manner.per {
        Per::Line => b"line",
        Per::File => b"file",
    };
    [manner.namespace.unwrap_or_default().as_bytes(), per, post_bytes]
}

fn is_name_char(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "._-".contains(letter)
}

/// A name for `--stream`.
pub fn stream_name(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.len() <= NAME_CHARS && text.chars().all(is_name_char) {
        return Ok(text.to_owned());
    }
    Err(format!("give 1 to {NAME_CHARS} letters, digits, dots, dashes or underscores"))
}

/// This command line as one would type it to go on: with the run's name in place of `--again`.
pub fn command(named: Option<&str>) -> String {
    let resuming = |argument: String| match named {
        Some(name) if argument == "--again" => format!("--stream {name}"),
        _ => quoted(&argument),
    };
    let words: Vec<_> = std::env::args_os().map(|argument| resuming(argument.to_string_lossy().into_owned())).collect();
    words.join(" ")
}

/// A word a shell takes as it is.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "._-/=:,+@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_only_where_needed() {
        assert_eq!(quoted("http://127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn stream_names_are_short_and_plain() {
        assert!(stream_name("book-1.de_AT").is_ok());
        for bad in ["", "a b", "a/b", "ü", &"x".repeat(65)] {
            assert!(stream_name(bad).is_err(), "{bad}");
        }
    }
}
