//! An input of `memdb post`: a file or a pipe, and the name the leader remembers it by.

use super::bar::UploadBar;
use crate::output::CommandError;
use clap::ValueEnum;
use memdb::{
    base::hash::fingerprint,
    client::{
        input::{InputStream, decoded, decompressed, is_ndjson},
        split::{InputFault, PostUnit},
        upload::{InputFaults, InputScan, UploadOptions, survey},
    },
    text::charset::{Charset, UnknownCharset},
};
use std::{
    fmt, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tokio::fs::File;
use tokio_util::io::InspectReader;

/// Characters of the file's name that are kept in the stream's, for whoever reads the leader's logs.
const NAME_CHARS: usize = 64;

/// The format of an input.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// As ndjson if its name or its first line says so, else as text
    Auto,
    /// As they stand
    Text,
    /// A JSON object with a member "text" on each line
    Ndjson,
}

/// The encoding of an input that begins with no byte-order mark.
#[derive(Clone, Copy, Debug, Default)]
pub struct InputEncoding(Option<Charset>);

/// The encoding with a label of the Encoding Standard.
pub fn encoding(label: &str) -> Result<InputEncoding, UnknownCharset> {
    Charset::of_label(label).map(InputEncoding)
}

/// The origin of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPlace {
    path: PathBuf,
    /// True if it can be read only once.
    is_pipe: bool,
}

impl fmt::Display for TextPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl TextPlace {
    /// The places that an argument names: itself, or the files of a directory in the order of their names. Names in it
    /// that begin with a dot, links, and what is no file are passed over.
    pub fn of(path: &Path, recursive: bool) -> Result<Vec<Self>, CommandError> {
        let failed =
            |error: &dyn fmt::Display| CommandError::Failed(format!("cannot read {}: {error}", path.display()));
        if path == Path::new("-") {
            return Ok(vec![TextPlace { path: path.to_owned(), is_pipe: true }]);
        }
        #[allow(clippy::disallowed_methods, reason = "a file of the user, none of a database")]
        let found = std::fs::metadata(path).map_err(|error| failed(&error))?;
        if !found.is_dir() {
            return Ok(vec![TextPlace { path: path.to_owned(), is_pipe: !found.is_file() }]);
        }
        if !recursive {
            return Err(failed(&"it is a directory; --recursive reads the files in it"));
        }
        let is_shown =
            |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
        let mut files = Vec::new();
        for entry in walkdir::WalkDir::new(path).sort_by_file_name().into_iter().filter_entry(is_shown) {
            let entry = entry.map_err(|error| failed(&error))?;
            if entry.file_type().is_file() {
                files.push(TextPlace { path: entry.into_path(), is_pipe: false });
            }
        }
        if files.is_empty() { Err(failed(&"there is no file in it")) } else { Ok(files) }
    }

    /// Returns whether its content can be read only once.
    pub fn is_pipe(&self) -> bool {
        self.is_pipe
    }

    /// Returns whether it is standard input.
    pub fn is_stdin(&self) -> bool {
        ["-", "/dev/stdin", "/proc/self/fd/0", "/dev/fd/0"].iter().any(|stdin| self.path == Path::new(stdin))
    }

    /// Bytes of the file, as it is on disk; a pipe has none.
    pub async fn bytes(&self) -> u64 {
        if self.is_pipe { 0 } else { tokio::fs::metadata(&self.path).await.map_or(0, |found| found.len()) }
    }

    /// The input as it stands.
    async fn raw(&self) -> io::Result<InputStream> {
        if self.is_pipe && self.is_stdin() {
            return Ok(Box::new(tokio::io::stdin()));
        }
        Ok(Box::new(File::open(&self.path).await?))
    }

    /// The text in it: what `raw` gives, after each stage.
    async fn text(&self, raw: InputStream, encoding: InputEncoding) -> io::Result<(InputStream, Option<Charset>)> {
        let (input, _) = decompressed(raw).await?;
        decoded(input, encoding.0).await
    }

    /// Decides what one post is: by the format that was asked for, or the one that is recognised.
    async fn per(
        &self,
        input: InputStream,
        asked: PostUnit,
        format: InputFormat,
    ) -> io::Result<(InputStream, PostUnit)> {
        if asked == PostUnit::File || format == InputFormat::Text {
            return Ok((input, asked));
        }
        if format == InputFormat::Ndjson || self.is_named_ndjson() {
            return Ok((input, PostUnit::JsonLine));
        }
        let (input, found) = is_ndjson(input).await?;
        Ok((input, if found { PostUnit::JsonLine } else { asked }))
    }

    fn is_named_ndjson(&self) -> bool {
        let extension =
            |path: &Path| path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        let inner = match extension(&self.path).as_deref() {
            Some("gz" | "zst") => self.path.with_extension(""),
            _ => self.path.clone(),
        };
        !self.is_pipe && matches!(extension(&inner).as_deref(), Some("ndjson" | "jsonl"))
    }

    /// The name the leader remembers a pipe by. One without a name of its own must not meet another.
    fn pipe_name(
        &self,
        options: &UploadOptions<'_>,
        encoding: InputEncoding,
        named: Option<&str>,
        random: u64,
    ) -> String {
        let name = named.map_or_else(|| format!("once-{random:016x}"), str::to_owned);
        let post_bytes = options.post_bytes.to_le_bytes();
        let mut parts = option_parts(options, &post_bytes).to_vec();
        if !self.is_stdin() {
            parts.push(self.path.as_os_str().as_bytes());
        }
        parts.extend(encoding.0.map(|charset| charset.name().as_bytes()));
        format!("{name}.stdin.{:032x}", fingerprint(&parts))
    }
}

/// One text to be posted.
pub struct TextInput<'a> {
    place: TextPlace,
    /// The options by which it becomes posts; of a pipe, as they were asked for.
    pub options: UploadOptions<'a>,
    format: InputFormat,
    encoding: InputEncoding,
    /// The result of the first pass over it; unknown of a pipe.
    pub survey: Option<InputScan>,
    /// Parts of it that cannot be posted; unknown of a pipe.
    pub faults: InputFaults,
    /// The name the leader remembers it by; of a pipe, not known yet.
    pub stream: String,
    /// The encoding in which it was opened, if not UTF-8.
    charset: OnceLock<Charset>,
}

impl fmt::Display for TextInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl<'a> TextInput<'a> {
    /// Reads a file once, for its length and its name.
    pub async fn survey(
        place: TextPlace,
        options: UploadOptions<'a>,
        (format, encoding): (InputFormat, InputEncoding),
        named: Option<&str>,
        bar: &UploadBar,
    ) -> Result<Self, CommandError> {
        let unreadable = |error: io::Error| CommandError::Failed(format!("cannot read {place}: {error}"));
        let (survey_of, stream, faults, charset) = (None, String::new(), InputFaults::default(), OnceLock::new());
        let mut source =
            TextInput { place: place.clone(), options, format, encoding, survey: survey_of, faults, stream, charset };
        if place.is_pipe {
            return Ok(source);
        }
        let raw = InspectReader::new(place.raw().await.map_err(unreadable)?, bar.reader());
        let (input, found) = place.text(Box::new(raw), encoding).await.map_err(unreadable)?;
        source.is_in(found);
        let (input, per) = place.per(input, options.per, format).await.map_err(unreadable)?;
        source.options.per = per;
        let (found, faults) = survey(input, &source.options).await.map_err(unreadable)?;
        let canonical = tokio::fs::canonicalize(&place.path).await.map_err(unreadable)?;
        let post_bytes = options.post_bytes.to_le_bytes();
        let mut parts = option_parts(&source.options, &post_bytes).to_vec();
        let content = found.content.to_le_bytes();
        parts.extend([canonical.as_os_str().as_bytes(), &content]);
        let name: String =
            place.path.file_name().unwrap_or_default().to_string_lossy().chars().take(NAME_CHARS).collect();
        let name = name.replace(|letter: char| !is_name_char(letter), "_");
        source.stream = format!("{}.{name}.{:032x}", named.unwrap_or("post"), fingerprint(&parts));
        (source.survey, source.faults) = (Some(found), faults);
        Ok(source)
    }

    /// Opens a file from its start, as text.
    pub async fn open(&self) -> io::Result<InputStream> {
        let (input, found) = self.place.text(self.place.raw().await?, self.encoding).await?;
        self.is_in(found);
        Ok(input)
    }

    fn is_in(&self, found: Option<Charset>) {
        if let Some(charset) = found {
            let _ = self.charset.set(charset); // the same each time that it is opened
        }
    }

    /// Describes a part of it that cannot be posted.
    pub fn told(&self, fault: &InputFault) -> String {
        fault.told(self.charset.get().copied())
    }

    /// Opens a pipe, which can be done once; how it becomes posts, and the name the leader remembers it by.
    pub async fn open_pipe(
        &self,
        named: Option<&str>,
        random: u64,
    ) -> io::Result<(InputStream, UploadOptions<'a>, String)> {
        let (input, per) = self.place.per(self.open().await?, self.options.per, self.format).await?;
        let options = UploadOptions { per, ..self.options };
        let name = self.place.pipe_name(&options, self.encoding, named, random);
        Ok((input, options, name))
    }

    /// Returns whether it holds the same text as the other, under the same name.
    pub fn is_same(&self, other: &TextInput<'_>) -> bool {
        if self.place.is_pipe { self.place == other.place } else { self.stream == other.stream }
    }

    /// Returns whether a line (or the file) is more than one post.
    pub fn is_cut(&self) -> bool {
        self.survey.is_some_and(|survey| survey.cut)
    }
}

/// Gives the options that decide, beside the text, which posts there are and where they count.
fn option_parts<'a>(options: &UploadOptions<'a>, post_bytes: &'a [u8]) -> [&'a [u8]; 3] {
    let per: &[u8] = match options.per {
        PostUnit::Line => b"line",
        PostUnit::File => b"file",
        PostUnit::JsonLine => b"json",
    };
    [options.namespace.unwrap_or_default().as_bytes(), per, post_bytes]
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

/// This command line as one would type it to go on: with the flag that takes the run's name in place of `--again`.
pub fn command(flag: &str, named: Option<&str>) -> String {
    let resuming = |argument: String| match named {
        Some(name) if argument == "--again" => format!("{flag} {name}"),
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
