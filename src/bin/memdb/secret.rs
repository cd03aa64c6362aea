//! `--cluster-secret-file` of the verbs that speak to nodes as a node does.

use crate::output::CommandError;
use memdb::base::secret::Secret;
use std::path::PathBuf;

#[allow(clippy::disallowed_methods, reason = "no file of a database")]
pub fn read(path: &PathBuf) -> Result<Secret, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let secret = text.and_then(|text| text.parse());
    secret.map_err(|reason| CommandError::Usage(format!("--cluster-secret-file {}: {reason}", path.display())))
}
