//! Settings that a running node takes over without a restart.

use super::{logging::LogFilter, resources::RunningServer};
use crate::{
    base::reload::{ReloadList, ReloadReport, ReloadablePart},
    config::{ResolvedSettings, SettingOrigin},
};
use parking_lot::Mutex;

/// Reads the settings of the process anew: its flags, its environment and its file.
///
/// # Errors
/// A sentence about a value that cannot be used.
pub type SettingsSource = Box<dyn Fn() -> Result<ResolvedSettings, String> + Send + Sync>;

/// The settings that take effect at once.
const AT_ONCE: [&str; 4] = ["log", "max-connections", "max-watchers", "slow-request"];

/// The settings of a running node.
pub(super) struct RunningSettings {
    source: SettingsSource,
    in_force: Mutex<Vec<SettingOrigin>>,
    filter: LogFilter,
    server: RunningServer,
}

impl RunningSettings {
    /// `in_force`: the values that the node was started with.
    pub(super) fn new(
        source: SettingsSource,
        in_force: Vec<SettingOrigin>,
        filter: LogFilter,
        server: RunningServer,
    ) -> Self {
        Self { source, in_force: Mutex::new(in_force), filter, server }
    }
}

impl ReloadablePart for RunningSettings {
    fn name(&self) -> &'static str {
        "settings"
    }

    /// Somebody who edits the file says when it is complete.
    fn has_changed(&self) -> bool {
        false
    }

    fn reload(&self) -> Result<Vec<String>, String> {
        let ResolvedSettings { settings, origins } = (self.source)()?;
        let mut in_force = self.in_force.lock();
        let (changed, mut lines): (Vec<_>, _) = (differences(&in_force, &origins), Vec::new());
        self.filter.set(&settings.log)?;
        self.server.set_limits(&settings);
        for (number, name, line) in changed {
            if AT_ONCE.contains(&name) {
                in_force[number] = origins[number].clone();
                lines.push(line);
            } else {
                lines.push(format!("{line}; it takes effect at the next start"));
            }
        }
        if lines.is_empty() {
            lines.push("nothing has changed".to_owned());
        }
        Ok(lines)
    }
}

/// The settings that differ: each with its place in the list, its name, and a line for the log.
fn differences(before: &[SettingOrigin], after: &[SettingOrigin]) -> Vec<(usize, &'static str, String)> {
    let pairs = before.iter().zip(after).enumerate().filter(|(_, (before, after))| before.value != after.value);
    pairs
        .map(|(number, (before, after))| {
            (number, before.name, format!("{} is {:?}, was {:?}", before.name, after.value, before.value))
        })
        .collect()
}

/// Says in the log what was read anew, line by line.
pub(super) fn log_reports(reports: &[ReloadReport]) {
    for ReloadReport { name, outcome } in reports {
        match outcome {
            Ok(lines) => lines.iter().for_each(|line| tracing::info!(part = name, "read anew: {line}")),
            Err(error) => tracing::error!(part = name, %error, "cannot be read anew, and stays as it was"),
        }
    }
}

/// Reads everything anew.
pub(super) fn reload_all(list: &ReloadList) {
    tracing::info!("reading settings, users and certificates anew");
    log_reports(&list.reload_all());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigInputs, MachineLimits, SettingFlags, StartRole, resolve};
    use std::{
        io,
        path::Path,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    const FILES: [&str; 4] = ["log = \"info\"", "log = \"debug\"\nport = 9090", "log = \"\"\"", "log = \"debug\""];

    fn resolved(file: &str) -> Result<ResolvedSettings, String> {
        let read_file = |path: &Path| match path == Path::new("memdb.toml") {
            true => Ok(file.to_owned()),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        let environment = |name: &str| (name == "MEMDB_CONFIG").then(|| "memdb.toml".to_owned());
        let machine = MachineLimits::here(&read_file);
        let around = ConfigInputs { environment: &environment, read_file: &read_file, machine };
        resolve(StartRole::Leader, &SettingFlags::default(), &around).map_err(|error| error.to_string())
    }

    #[test]
    fn what_can_change_does_and_what_cannot_is_told_each_time_until_the_node_is_started_again() {
        let number = Arc::new(AtomicUsize::new(1));
        let begun = resolved(FILES[0]).expect("they are right").origins;
        let source = {
            let number = Arc::clone(&number);
            Box::new(move || resolved(FILES[number.load(Ordering::Relaxed)]))
        };
        let (filter, _layer) = LogFilter::new("info").expect("a level");
        let running = RunningSettings::new(source, begun, filter, RunningServer::default());
        let port = "port is \"9090\", was \"8080\"; it takes effect at the next start";
        assert_eq!(running.reload(), Ok(vec![port.to_owned(), "log is \"debug\", was \"info\"".to_owned()]));
        assert_eq!(running.reload(), Ok(vec![port.to_owned()]));
        number.store(2, Ordering::Relaxed);
        assert!(running.reload().expect_err("it is no TOML").contains("memdb.toml"));
        number.store(3, Ordering::Relaxed);
        assert_eq!(running.reload(), Ok(vec!["nothing has changed".to_owned()]));
    }
}
