//! Properties of the machine, which the defaults called `auto` follow.

use std::{io, path::Path};

/// Descriptors kept free of connections: log, snapshots, sockets of replicas, standard streams.
pub(super) const SPARE_DESCRIPTORS: usize = 64;
/// Connections served at once where descriptors allow it: idle ones cost some KB each.
const MOST_CONNECTIONS: usize = 10_000;

/// Processors, memory and descriptors this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineLimits {
    /// Processors.
    pub processors: usize,
    /// Memory in bytes; the control group's limit if that is less. `None` if the system does not say.
    pub memory_bytes: Option<u64>,
    /// Files and sockets the process may have open.
    pub open_files: usize,
}

impl MachineLimits {
    /// Asks the system, through `read_file`.
    pub fn here(read_file: &dyn Fn(&Path) -> io::Result<String>) -> Self {
        let read = |path: &str| read_file(Path::new(path)).unwrap_or_default();
        let installed = field(&read("/proc/meminfo"), "MemTotal:").map(|kib| kib.saturating_mul(1024));
        let allowed = read("/sys/fs/cgroup/memory.max").trim().parse().ok();
        MachineLimits {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: [installed, allowed].into_iter().flatten().min(),
            open_files: field(&read("/proc/self/limits"), "Max open files")
                .and_then(|limit| usize::try_from(limit).ok())
                .unwrap_or(usize::MAX),
        }
    }

    /// The connections the descriptors allow.
    pub(super) fn connections(&self) -> usize {
        self.open_files.saturating_sub(SPARE_DESCRIPTORS).min(MOST_CONNECTIONS)
    }
}

/// The first number after `name` in a file of lines.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_memory_and_control_group_counts() {
        let read = |path: &Path| match path.to_str() {
            Some("/proc/meminfo") => Ok("MemTotal:        2048 kB\nMemFree: 1 kB\n".to_owned()),
            Some("/sys/fs/cgroup/memory.max") => Ok("1048576\n".to_owned()),
            Some("/proc/self/limits") => Ok("Limit\nMax open files            1024     524288    files\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let machine = MachineLimits::here(&read);
        assert_eq!((machine.memory_bytes, machine.open_files), (Some(1 << 20), 1024));
        assert_eq!(machine.connections(), 960);
    }

    #[test]
    fn a_system_that_says_nothing_sets_no_limits() {
        let machine = MachineLimits::here(&|_| Err(io::ErrorKind::NotFound.into()));
        assert_eq!((machine.memory_bytes, machine.connections()), (None, MOST_CONNECTIONS));
    }
}
