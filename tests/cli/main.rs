//! The command line as a person uses it: the real binary, against a server made to order.

#![allow(clippy::disallowed_methods)] // makes files as a user has them

mod backups;
mod entries;
mod fake;
mod files;
mod followers;
mod import_export;
mod import_faults;
mod inputs;
mod leader;
mod names;
mod perf;
mod post;
mod servers;
mod usage;
mod users;
mod watch;

use assert_cmd::Command;

/// The binary with a clean environment.
fn memdb() -> Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("memdb");
    command.env_clear();
    command
}

/// What the command wrote, and its exit code.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("the binary runs");
    Ran {
        code: output.status.code().expect("no signal"),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}
