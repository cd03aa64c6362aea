//! Nodes that run in the test's own process.

use memdb::config::{self, ConfigInputs, MachineLimits, NodeSettings, SettingFlags};
use std::io::ErrorKind;

/// NodeSettings of a node, on a port the system chooses unless one is given.
pub fn settings_of(role: config::StartRole, values: &[(&'static str, &str)]) -> NodeSettings {
    let around = ConfigInputs {
        environment: &|_| None,
        read_file: &|_| Err(ErrorKind::NotFound.into()),
        machine: MachineLimits { processors: 2, memory_bytes: Some(1 << 30), open_files: 1_000 },
    };
    let port = [("port", "0")];
    let port = port.iter().filter(|_| values.iter().all(|(name, _)| *name != "port"));
    let values = values.iter().chain(port).map(|(name, value)| (*name, (*value).to_owned())).collect();
    config::resolve(role, &SettingFlags { file: None, values }, &around).expect("sound settings").settings
}
