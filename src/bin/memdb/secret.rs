//! The secret that a verb shows which speaks to nodes as a node does: the cluster's, or a token.

use crate::output::CommandError;
use memdb::base::secret::Secret;
use std::path::PathBuf;

/// Reads the file that this flag names.
#[allow(clippy::disallowed_methods, reason = "no file of a database")]
pub fn read(flag: &str, path: &PathBuf) -> Result<Secret, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let secret = text.and_then(|text| text.parse());
    secret.map_err(|reason| CommandError::Usage(format!("{flag} {}: {reason}", path.display())))
}

/// Reads an environment variable; none if it is not set, or empty.
pub fn of_variable(name: &str) -> Result<Option<Secret>, CommandError> {
    let text = std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    let secret = text.map(|text| text.parse()).transpose();
    secret.map_err(|reason: String| CommandError::Usage(format!("{name}: {reason}")))
}
