//! Settings that a running node takes over without a restart.

use super::{logging::LogFilter, resources::RunningServer};
use crate::{
    base::reload::{ReloadList, ReloadReport, ReloadablePart},
    config::{NodeSettings, ResolvedSettings, SettingOrigin},
    data::counts::quotas::SharedQuotas,
    net::address_limits::AddressShares,
};
use parking_lot::Mutex;

/// Reads the settings of the process anew: its flags, its environment and its file.
///
/// # Errors
/// A sentence about a value that cannot be used.
pub type SettingsSource = Box<dyn Fn() -> Result<ResolvedSettings, String> + Send + Sync>;

/// The settings that take effect at once.
const AT_ONCE: [&str; 5] = ["log", "max-connections", "max-watchers", "namespace-quota", "slow-request"];

/// Limits that are a part of `max-connections` where nobody says a number; none where somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ConnectionParts {
    watchers: Option<usize>,
    per_address: Option<usize>,
}

impl ConnectionParts {
    fn of(settings: &NodeSettings) -> Self {
        let is_auto = settings.max_connections_per_address.is_none();
        let shares = AddressShares::new(None, settings.max_connections);
        Self {
            watchers: settings.max_watchers.is_none().then(|| settings.watchers()),
            per_address: is_auto.then(|| shares.connections()),
        }
    }

    /// A line for the log about each that is another now.
    fn changes(self, before: Self) -> impl Iterator<Item = String> {
        let limits = [
            ("max-watchers", self.watchers, before.watchers),
            ("max-connections-per-address", self.per_address, before.per_address),
        ];
        limits.into_iter().filter_map(|(name, now, before)| {
            let (now, before) = (now?, before?);
            (now != before).then(|| format!("{name} is \"auto\": {now}, was {before}"))
        })
    }
}

/// The settings in force, as they were last said.
struct SettingsInForce {
    origins: Vec<SettingOrigin>,
    parts: ConnectionParts,
}

/// The settings of a running node.
pub(super) struct RunningSettings {
    source: SettingsSource,
    in_force: Mutex<SettingsInForce>,
    filter: LogFilter,
    server: RunningServer,
    quotas: SharedQuotas,
}

impl RunningSettings {
    /// `settings`, from `origins`: what the node was started with.
    pub(super) fn new(
        source: SettingsSource,
        (settings, origins): (&NodeSettings, Vec<SettingOrigin>),
        filter: LogFilter,
        server: RunningServer,
        quotas: SharedQuotas,
    ) -> Self {
        let in_force = SettingsInForce { origins, parts: ConnectionParts::of(settings) };
        Self { source, in_force: Mutex::new(in_force), filter, server, quotas }
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
        let (changed, mut lines): (Vec<_>, _) = (differences(&in_force.origins, &origins), Vec::new());
        self.filter.set(&settings.log)?;
        self.server.set_limits(&settings);
        if let Some(leadership) = settings.leadership() {
            self.quotas.set(leadership.quotas.clone());
        }
        for (number, name, line) in changed {
            if AT_ONCE.contains(&name) {
                in_force.origins[number] = origins[number].clone();
                lines.push(line);
            } else {
                lines.push(format!("{line}; it takes effect at the next start"));
            }
        }
        let parts = ConnectionParts::of(&settings);
        lines.extend(parts.changes(std::mem::replace(&mut in_force.parts, parts)));
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

    const FILES: [&str; 5] = [
        "log = \"info\"\nmax-connections = 1000",
        "log = \"debug\"\nmax-connections = 1000\nport = 9090",
        "log = \"\"\"",
        "log = \"debug\"\nmax-connections = 1000\nnamespace-quota = \"a=words:5\"",
        "log = \"debug\"\nmax-connections = 500\nnamespace-quota = \"a=words:5\"",
    ];

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
        let begun = resolved(FILES[0]).expect("they are right");
        let source = {
            let number = Arc::clone(&number);
            Box::new(move || resolved(FILES[number.load(Ordering::Relaxed)]))
        };
        let (filter, _layer) = LogFilter::new("info").expect("a level");
        let begun = (&begun.settings, begun.origins);
        let quotas = SharedQuotas::default();
        let running = RunningSettings::new(source, begun, filter, RunningServer::default(), quotas.clone());
        let port = "port is \"9090\", was \"8080\"; it takes effect at the next start";
        assert_eq!(running.reload(), Ok(vec![port.to_owned(), "log is \"debug\", was \"info\"".to_owned()]));
        assert_eq!(running.reload(), Ok(vec![port.to_owned()]));
        number.store(2, Ordering::Relaxed);
        assert!(running.reload().expect_err("it is no TOML").contains("memdb.toml"));
        number.store(3, Ordering::Relaxed);
        let quota = "namespace-quota is \"a=words:5\", was \"none\"";
        assert_eq!(running.reload(), Ok(vec![quota.to_owned()]));
        assert_eq!(quotas.of("a").and_then(|quota| quota.words), Some(5));
        assert_eq!(running.reload(), Ok(vec!["nothing has changed".to_owned()]));
        number.store(4, Ordering::Relaxed);
        let lines = [
            "max-connections is \"500\", was \"1000\"",
            "max-watchers is \"auto\": 250, was 500",
            "max-connections-per-address is \"auto\": 125, was 250",
        ];
        assert_eq!(running.reload(), Ok(lines.map(str::to_owned).into()));
    }
}
