//! Decides which output goes where: results to stdout, everything else to stderr.

use memdb::{client::ClientError, net::tls::files::TlsFileError};
use std::{
    fmt,
    io::{self, Write},
};

/// The result of a verb.
pub type CommandResult = Result<(), CommandError>;

/// The reason why a verb did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It was asked for something that makes no sense; the message says what would.
    #[error("{0}")]
    Usage(String),
    /// It tried and failed.
    #[error("{0}")]
    Failed(String),
    /// The user stopped it.
    #[error("{0}")]
    Interrupted(String),
    /// The results could not be written.
    #[error("cannot write the results: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            CommandError::Usage(_) => 2,
            CommandError::Failed(_) | CommandError::Output(_) => 1,
            CommandError::Interrupted(_) => 130, // what shells expect after Ctrl-C: 128 + SIGINT
        }
    }
}

impl From<TlsFileError> for CommandError {
    fn from(error: TlsFileError) -> Self {
        CommandError::Usage(error.to_string())
    }
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::BadAddress { .. } => CommandError::Usage(error.to_string()),
            _ => CommandError::Failed(error.to_string()),
        }
    }
}

/// Writes a line of results.
pub fn say(line: &str) -> CommandResult {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    Ok(out.write_all(b"\n")?)
}

/// Writes a line of news. Nothing can be done if nobody hears it.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A number with its thousands apart: `1,234,567`.
pub struct GroupedNumber<T>(pub T);

impl<T: fmt::Display> fmt::Display for GroupedNumber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.0.to_string();
        let (sign, digits) = plain.split_at(plain.len() - plain.trim_start_matches('-').len());
        let mut grouped = sign.to_owned();
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        f.pad(&grouped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (-123_456, "-123,456"),
            (i64::MIN + 1, "-9,223,372,036,854,775,807"),
        ];
        for (number, expected) in cases {
            assert_eq!(GroupedNumber(number).to_string(), expected);
        }
        assert_eq!(format!("{:>7}", GroupedNumber(1_000)), "  1,000");
    }
}
