//! Settings of a node, as this process's surroundings have them.

use crate::output::CommandError;
use memdb::config::{ConfigInputs, MachineLimits, ResolvedSettings, SettingFlags, StartRole, resolve};
use memdb::node::SettingsSource;
use std::{io, path::Path};

/// The settings these flags lead to on this machine.
#[allow(clippy::disallowed_methods, reason = "the settings are read before there is a database to keep files for")]
pub fn resolved(role: StartRole, flags: &SettingFlags) -> Result<ResolvedSettings, CommandError> {
    let read_file = |path: &Path| -> io::Result<String> { std::fs::read_to_string(path) };
    let environment = |name: &str| std::env::var(name).ok();
    let around =
        ConfigInputs { environment: &environment, read_file: &read_file, machine: MachineLimits::here(&read_file) };
    resolve(role, flags, &around).map_err(|error| CommandError::Usage(error.to_string()))
}

/// The settings of a node that starts, and the way to read them anew.
pub fn started(role: StartRole, flags: &SettingFlags) -> Result<(ResolvedSettings, SettingsSource), CommandError> {
    let kept = flags.clone();
    let source = move || resolved(role, &kept).map_err(|error| error.to_string());
    Ok((resolved(role, flags)?, Box::new(source)))
}
