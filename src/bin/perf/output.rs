//! Decides which output goes where: the report to stdout, everything else to stderr.

use std::io::{self, Write};

/// The reason why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// It was asked for something that makes no sense; the message says what would.
    #[error("{0}")]
    Usage(String),
    /// It tried and failed.
    #[error("{0}")]
    Failed(String),
    /// The report could not be written, or the system gave no runtime.
    #[error("{0}")]
    Output(#[from] io::Error),
}

impl PerfError {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            PerfError::Usage(_) => 2,
            PerfError::Failed(_) | PerfError::Output(_) => 1,
        }
    }
}

/// Writes a part of the report, and ends the line.
pub fn say(part: &str) -> Result<(), PerfError> {
    let mut out = io::stdout().lock();
    out.write_all(part.as_bytes())?;
    Ok(out.write_all(b"\n")?)
}

/// Writes a line of news. Nothing can be done if nobody hears it.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
