//! The answers to another implementation of TLS: `openssl s_client`, where it is installed.

use super::address;
use crate::faults::starved::skipped;
use parking_lot::Mutex;
use rustix::process::Signal;
use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{process::Start, tls::AUTHORITY, wait_until, wire::Wire};

/// Longer than an answer takes on a busy machine, and shorter than any time that a client has.
const AT_ONCE: Duration = Duration::from_secs(6);

/// A client that runs, and all that it has said.
struct OpensslClient {
    process: Child,
    input: ChildStdin,
    said: Arc<Mutex<String>>,
}

impl OpensslClient {
    /// Connects; `None` if there is no such program.
    fn connect(to: &str, more: &[&str]) -> Option<Self> {
        let ca = AUTHORITY.file();
        let ca = ca.to_str().expect("UTF-8");
        let mut command = Command::new("sh");
        let arguments = [&["-c", "exec openssl s_client \"$@\" 2>&1", "openssl", "-connect", to, "-CAfile", ca], more];
        command.args(arguments.concat()).stdin(Stdio::piped()).stdout(Stdio::piped());
        if Command::new("openssl").arg("version").output().is_err() {
            skipped("openssl, to see how it is refused what TLS should not do: it is not installed");
            return None;
        }
        let mut process = command.spawn().expect("there is a shell");
        let (input, mut output) = (process.stdin.take().expect("asked for"), process.stdout.take().expect("asked for"));
        let said = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&said);
        let keep = move || {
            let mut piece = [0; 4_096];
            while let Ok(bytes @ 1..) = output.read(&mut piece) {
                kept.lock().push_str(&String::from_utf8_lossy(&piece[..bytes]));
            }
        };
        std::thread::Builder::new().spawn(keep).expect("a thread");
        Some(Self { process, input, said })
    }

    fn until_said(&self, words: &str) {
        wait_until(&format!("openssl says {words:?}"), || self.said.lock().contains(words));
    }
}

impl Drop for OpensslClient {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- openssl said:\n{}", self.said.lock());
        }
    }
}

/// Before: the refusal lay in the server until the client sent something else, which it does not, since it waits.
#[test]
fn a_client_of_tls_1_2_that_asks_for_renegotiation_is_refused_at_once() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).protected(&AUTHORITY.node("renegotiation")).run();
    let to = address(&leader).to_string();
    // On a new connection, on one that was served by the fast path, and on one that has left it.
    for target in ["", "/health", "/status"] {
        let Some(mut client) = OpensslClient::connect(&to, &["-tls1_2"]) else { return };
        client.until_said("Verify return code: 0 (ok)");
        if !target.is_empty() {
            let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.input.write_all(request.as_bytes()).expect("it reads");
            client.until_said("HTTP/1.1 200 OK");
        }
        client.input.write_all(b"R\n").expect("it reads");
        let begun = Instant::now();
        client.until_said("no renegotiation");
        assert!(begun.elapsed() < AT_ONCE, "{target}: {:?}", begun.elapsed());
        wait_until("it gives up", || client.process.try_wait().expect("it is ours").is_some());
    }
    assert_eq!(Wire::protected(address(&leader)).get("/health").status, 200, "others are answered");
    leader.finish(Signal::TERM);
}

#[test]
fn nothing_older_than_tls_1_2_and_no_compression_is_spoken() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).protected(&AUTHORITY.node("older")).run();
    let to = address(&leader).to_string();
    for version in ["-tls1", "-tls1_1"] {
        // Without the level openssl would refuse itself.
        let Some(client) = OpensslClient::connect(&to, &[version, "-cipher", "ALL:@SECLEVEL=0"]) else { return };
        client.until_said("alert handshake failure");
    }
    let Some(client) = OpensslClient::connect(&to, &["-tls1_2", "-comp"]) else { return };
    client.until_said("Compression: NONE");
    leader.finish(Signal::TERM);
}
