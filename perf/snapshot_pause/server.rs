//! The leader under measurement: a process of its own in a directory of its own, and what can be seen of it from
//! outside.

use crate::client::Client;
use std::{
    io::{Error, Result},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How long a start may take.
const START: Duration = Duration::from_secs(60);
/// How often the directory is looked at; a shorter snapshot may be missed.
const LOOK: Duration = Duration::from_millis(2);

/// A running leader, ended when dropped.
pub struct Server {
    process: Child,
    directory: tempfile::TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts a leader with an empty directory and waits until it is ready.
    pub fn start(program: &Path, arguments: &[String]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        // Free a moment ago; if another program takes it first, the leader says so and ends.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let process = Command::new(program)
            .args(["leader", "--port", &port.to_string(), "--data-dir"])
            .arg(directory.path().join("data"))
            .args(["--log", "warn"])
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| Error::other(format!("{} does not start: {error}", program.display())))?;
        let mut server = Self { process, directory, address: (Ipv4Addr::LOCALHOST, port).into() };
        let deadline = Instant::now() + START;
        while !Client::connect(server.address)
            .and_then(|mut client| client.get("/health/ready"))
            .is_ok_and(|s| s == 200)
        {
            if let Some(status) = server.process.try_wait()? {
                return Err(Error::other(format!("the leader ended at its start: {status}")));
            }
            if Instant::now() > deadline {
                return Err(Error::other("the leader is not ready after a minute"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(server)
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        kib.map(|kib: f64| kib * 1024.0).ok_or_else(|| Error::other("no VmRSS in /proc"))
    }

    /// Watches until told to stop: the times during which a snapshot was being written.
    pub fn watch_snapshots(&self, stop: &AtomicBool) -> Vec<(Instant, Instant)> {
        let unfinished: PathBuf = self.directory.path().join("data").join("snapshot-.new");
        let mut seen = Vec::new();
        let mut since = None;
        while !stop.load(Ordering::Relaxed) {
            let (now, exists) = (Instant::now(), unfinished.exists());
            match since {
                None if exists => since = Some(now - LOOK),
                Some(begun) if !exists => {
                    seen.push((begun, now));
                    since = None;
                }
                _ => {}
            }
            std::thread::sleep(LOOK);
        }
        seen.extend(since.map(|begun| (begun, Instant::now())));
        seen
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is needed any more, so nothing can be lost by an abrupt end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
