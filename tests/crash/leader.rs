//! The real process.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Kill,
    Terminate,
    #[allow(dead_code, reason = "not every test that starts leaders hangs up")]
    HangUp,
}

pub struct Leader {
    pub url: String,
    process: Child,
}

impl Leader {
    /// Starts on a port the system chooses; returns once it serves.
    pub fn start(data: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_memdb"))
            .args(["leader", "--port", "0", "--backup-interval-ms", "20", "--data-dir"])
            .arg(data)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        let lines = BufReader::new(process.stderr.take().expect("it was asked for")).lines();
        let mut said = Vec::new();
        let mut lines = lines.map_while(Result::ok);
        let url = loop {
            let line = lines.next().unwrap_or_else(|| panic!("the leader did not start:\n{}", said.join("\n")));
            if let Some((_, address)) = line.split_once("address=") {
                break format!("http://{}", address.trim());
            }
            said.push(line);
        };
        // It must be able to write what it says until it ends.
        std::thread::Builder::new().spawn(move || lines.for_each(drop)).expect("a thread");
        Self { url, process }
    }

    /// Ends it and waits for that.
    pub fn end(mut self, signal: Signal) {
        match signal {
            Signal::Kill => self.process.kill().expect("it runs"),
            Signal::Terminate | Signal::HangUp => {
                let name = if signal == Signal::HangUp { "-HUP" } else { "-TERM" };
                let pid = self.process.id().to_string();
                assert!(Command::new("kill").args([name, &pid]).status().expect("kill is there").success());
            }
        }
        let status = self.process.wait().expect("it ends");
        assert_eq!(status.success(), signal != Signal::Kill, "a stop by SIGTERM or SIGHUP is a clean one: {status}");
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let _ = self.process.kill(); // a test that failed leaves nothing behind
        let _ = self.process.wait();
    }
}
