//! Redis, filled with the same keys and values: memory a key as it says itself, and as the system counts it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub struct Redis {
    process: Child,
    stream: BufReader<UnixStream>,
}

/// Commands that are sent before their answers are read.
const AT_ONCE: u64 = 1_000;

impl Redis {
    /// Starts one of its own, on a socket in the directory for temporary files; `None` where there is no Redis.
    pub fn start() -> Option<Self> {
        let socket = std::env::temp_dir().join(format!("bench-store-{}.sock", std::process::id()));
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--hz", "100", "--unixsocket"]).arg(&socket);
        let process = command.stdout(Stdio::null()).spawn().ok()?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if let Ok(stream) = UnixStream::connect(&socket) {
                return Some(Self { process, stream: BufReader::new(stream) });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Sets so many keys, and returns the rate.
    pub fn fill(&mut self, keys: u64, key: impl Fn(u64) -> String, value: impl Fn(u64) -> Vec<u8>, ttl: bool) -> f64 {
        let begin = Instant::now();
        for first in (0..keys).step_by(AT_ONCE as usize) {
            let mut commands = Vec::new();
            let last = (first + AT_ONCE).min(keys);
            for number in first..last {
                let (key, value) = (key(number), value(number));
                let mut parts = vec![b"SET", key.as_bytes(), &value];
                parts.extend(if ttl { vec![&b"PX"[..], b"100000000"] } else { Vec::new() });
                commands.extend(format!("*{}\r\n", parts.len()).into_bytes());
                for part in parts {
                    commands.extend(format!("${}\r\n", part.len()).into_bytes());
                    commands.extend_from_slice(part);
                    commands.extend_from_slice(b"\r\n");
                }
            }
            self.stream.get_mut().write_all(&commands).expect("Redis takes commands");
            for _ in first..last {
                assert_eq!(self.line(), "+OK");
            }
        }
        keys as f64 / begin.elapsed().as_secs_f64()
    }

    /// The memory as Redis says it, and as the system counts it, in bytes.
    pub fn memory(&mut self) -> (f64, f64) {
        self.stream.get_mut().write_all(b"INFO memory\r\n").expect("Redis takes commands");
        let bytes = self.line()[1..].parse().expect("a length");
        let mut report = vec![0; bytes];
        self.stream.read_exact(&mut report).expect("a report");
        self.line();
        let report = String::from_utf8(report).expect("a text");
        let field = |name: &str| {
            let line = report.lines().find_map(|line| line.strip_prefix(name)).expect("it reports it");
            line.parse().expect("a number")
        };
        (field("used_memory:"), field("used_memory_rss:"))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("Redis answers");
        line.trim_end().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}
