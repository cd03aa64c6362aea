//! The audit log: a JSON object a line, for each request that was refused for its right, and each that administers.
//!
//! Many such requests must not fill the disk: some lines a second are written, and the number of those that were left
//! out is in the next one, or in one of its own when the node stops. No line has a secret, and none has words or keys:
//! routes are told as the table of routes has them.
#![allow(clippy::disallowed_methods, reason = "the audit log lies beside the database, not in it")]

use crate::base::{limits::AUDIT_LINES_PER_SECOND, line_budget::LineBudget};
use parking_lot::Mutex;
use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Something that is written down.
#[derive(Clone, Debug, Serialize)]
pub struct AuditEvent<'a> {
    /// The time, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The user that was proved, or that the request says to be of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// The name of the token that was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    /// The route: `DELETE /ns/NAME`.
    pub route: &'a str,
    /// The namespace that the request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<&'a str>,
    /// `allowed`, or the problem: `unauthenticated`, `forbidden`, `too-many-from-address`.
    pub decision: &'a str,
}

#[derive(Serialize)]
struct AuditLine<'a> {
    #[serde(flatten)]
    event: &'a AuditEvent<'a>,
    #[serde(skip_serializing_if = "is_none")]
    left_out: u64,
}

fn is_none(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug)]
struct OpenAudit {
    file: File,
    lines: LineBudget,
    /// The time of the last event that was left out.
    left_out_ms: u64,
}

impl OpenAudit {
    fn write(&mut self, event: &AuditEvent<'_>, left_out: u64) {
        let Ok(mut line) = serde_json::to_vec(&AuditLine { event, left_out }) else { return };
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            self.lines.leave_out(left_out + 1);
            tracing::error!(%error, "the audit log cannot be written to");
        }
    }
}

/// The audit log of a node, if it has one.
#[derive(Debug, Default)]
pub struct AuditLog(Option<Mutex<OpenAudit>>);

impl AuditLog {
    /// Opens a file to append to; none writes nothing.
    ///
    /// # Errors
    /// The system's error if the file cannot be opened for writing.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self(Some(Mutex::new(OpenAudit { file, lines: LineBudget::new(AUDIT_LINES_PER_SECOND), left_out_ms: 0 }))))
    }

    /// Returns whether anything is written down.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes an event down, if there is room for it in this second.
    pub fn note(&self, event: &AuditEvent<'_>) {
        let Some(open) = &self.0 else { return };
        let mut open = open.lock();
        match open.lines.admit(event.unix_ms) {
            Some(left_out) => open.write(event, left_out),
            None => open.left_out_ms = event.unix_ms,
        }
    }

    /// Writes down how many events have no line, of which no later line can tell.
    pub fn note_rest(&self) {
        let Some(open) = &self.0 else { return };
        let mut open = open.lock();
        let left_out = open.lines.take_left_out();
        if left_out > 0 {
            let (unix_ms, route, decision) = (open.left_out_ms, "(the node stops)", "left out");
            let event =
                AuditEvent { unix_ms, address: None, user: None, token: None, route, namespace: None, decision };
            open.write(&event, left_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_some_lines_a_second_and_what_is_left_out_is_counted() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::open(Some(&path)).expect("it can be made");
        let event = AuditEvent {
            unix_ms: 1_000,
            address: None,
            user: Some("a\"\n"),
            token: None,
            route: "DELETE /ns/NAME",
            namespace: None,
            decision: "forbidden",
        };
        (0..AUDIT_LINES_PER_SECOND + 50).for_each(|_| log.note(&event));
        log.note(&AuditEvent { unix_ms: 2_000, ..event.clone() });
        (0..AUDIT_LINES_PER_SECOND + 6).for_each(|_| log.note(&AuditEvent { unix_ms: 2_345, ..event.clone() }));
        log.note_rest();
        log.note_rest();
        let text = std::fs::read_to_string(&path).expect("it is there");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let most = AUDIT_LINES_PER_SECOND as usize;
        assert_eq!(lines.len(), 2 * most + 1, "a second has so many, and the rest one");
        assert_eq!((&lines[0]["user"], lines[0].get("left_out")), (&"a\"\n".into(), None));
        assert_eq!(lines[most]["left_out"], 50);
        let rest = &lines[2 * most];
        assert_eq!(
            (&rest["left_out"], &rest["unix_ms"], &rest["decision"]),
            (&7.into(), &2_345.into(), &"left out".into())
        );
    }
}
