//! The credentials of a verb that asks a node, as this process's surroundings have them.

use crate::output::CommandError;
use memdb::{client::Client, config::CredentialFlags};
use std::{io, path::Path};

/// The same client with the credentials that these flags, or the environment, lead to.
#[allow(clippy::disallowed_methods, reason = "no file of a database")]
pub fn with(client: Client, flags: &CredentialFlags) -> Result<Client, CommandError> {
    let read_file = |path: &Path| -> io::Result<String> { std::fs::read_to_string(path) };
    let found = flags.read(&|name| std::env::var(name).ok(), &read_file).map_err(CommandError::Usage)?;
    Ok(client.with_credentials(found.as_ref()))
}
