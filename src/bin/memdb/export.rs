//! `memdb export`: counts and entries of a node, into a file or to standard output.

use crate::{
    output::{CommandError, CommandResult, GroupedNumber, tell},
    read::{NodeArguments, block_on},
};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use memdb::client::export::{ExportEnd, ExportResponse};
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

const EXAMPLES: &str = "\
EXAMPLES
  memdb export all.ndjson
  memdb export --ns titles titles.csv
  memdb export | zstd > all.ndjson.zst

NDJSON holds counts and entries, and ends with a line that says how many there were: `memdb import` takes it. The other \
formats hold counts. A file has its name only once it is whole. docs/import-export.md has the formats.

Exits 0 once all is written, 1 if not, 2 on wrong usage.";

/// Write counts and entries to a file.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ExportArguments {
    /// File to write, over another of that name; - is standard output.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,

    /// Format [default: as the file's name ends, else ndjson].
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FileFormat>,

    /// One namespace alone [default: all].
    #[arg(long, value_name = "NAME")]
    ns: Option<String>,

    #[command(flatten)]
    node: NodeArguments,
}

/// The format of the file.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    /// Everything, a line each
    Ndjson,
    /// Counts, comma-separated
    Csv,
    /// Counts, tab-separated
    Tsv,
    /// Counts, as an object
    Json,
}

impl FileFormat {
    const fn name(self) -> &'static str {
        match self {
            FileFormat::Ndjson => "ndjson",
            FileFormat::Csv => "csv",
            FileFormat::Tsv => "tsv",
            FileFormat::Json => "json",
        }
    }
}

pub fn run(arguments: &ExportArguments) -> CommandResult {
    let client = arguments.node.client()?;
    let ending = arguments.file.extension().and_then(|ending| ending.to_str());
    let of_name = ending.and_then(|ending| FileFormat::from_str(ending, true).ok());
    let format = arguments.format.or(of_name).unwrap_or(FileFormat::Ndjson);
    block_on(async {
        let mut export = client.export(format.name(), arguments.ns.as_deref()).await?;
        if arguments.file == Path::new("-") {
            copy(&mut export, &mut io::stdout().lock()).await?;
        } else {
            let partial = PartialFile::create(&arguments.file)?;
            copy(&mut export, &mut &partial.file).await?;
            ended(&export, format)?;
            partial.name()?;
        }
        report(&export, format)
    })
}

/// A file that is not whole yet, beside the one that it becomes. It goes if it is not named.
struct PartialFile<'a> {
    file: File,
    path: PathBuf,
    target: &'a Path,
}

#[allow(clippy::disallowed_methods, reason = "a file of the user, none of a database")]
impl<'a> PartialFile<'a> {
    fn create(target: &'a Path) -> Result<Self, CommandError> {
        let name = target.file_name().ok_or_else(|| CommandError::Usage("name a file, or -".to_owned()))?;
        let path = target.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
        let file = File::create(&path).map_err(|error| failed(&path, &error))?;
        Ok(Self { file, path, target })
    }

    /// Gives it its name, once all of it is on the disk.
    fn name(self) -> CommandResult {
        let named = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, self.target));
        named.map_err(|error| failed(self.target, &error))
    }
}

impl Drop for PartialFile<'_> {
    #[allow(clippy::disallowed_methods, reason = "a file of the user, none of a database")]
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // not there if it was named
    }
}

fn failed(path: &Path, error: &io::Error) -> CommandError {
    CommandError::Failed(format!("{}: {error}", path.display()))
}

/// Writes what comes as it comes.
async fn copy(export: &mut ExportResponse, into: &mut impl Write) -> CommandResult {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {bytes}  {bytes_per_sec}").expect("a constant of this file"));
    let stopped = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let copied = async {
        while let Some(piece) = export.next().await? {
            into.write_all(&piece)?;
            bar.inc(piece.len() as u64);
        }
        Ok(into.flush()?)
    };
    let ended = tokio::select! {
        copied = copied => copied,
        () = stopped => Err(CommandError::Interrupted("stopped: nothing was written under that name".to_owned())),
    };
    bar.finish_and_clear();
    ended
}

/// The last line, where the format has one: without it the export is not whole.
fn ended(export: &ExportResponse, format: FileFormat) -> Result<Option<ExportEnd>, CommandError> {
    Ok((format == FileFormat::Ndjson).then(|| export.end()).transpose()?)
}

/// Tells what was written.
fn report(export: &ExportResponse, format: FileFormat) -> CommandResult {
    let position = export.position();
    let Some(end) = ended(export, format)? else {
        tell(&format!("exported at {position}"));
        return Ok(());
    };
    let ExportEnd { counts, entries, digest, .. } = &end;
    let (counts, entries) = (GroupedNumber(counts), GroupedNumber(entries));
    tell(&format!("exported {counts} counts and {entries} entries at {position}, digest {digest}"));
    if end.position != position.to_string() {
        tell(&format!(
            "something was written meanwhile: each count is of a position between {position} and {}",
            end.position
        ));
    }
    Ok(())
}
