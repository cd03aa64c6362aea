//! The commands of the documents, run as they stand against a real leader and a replica of it.
//!
//! Every fenced block marked `sh` in `README.md` and `docs/*.md` is run line by line, in the order of the page, each
//! page against new servers. A comment `# → text` below a command is what it prints. `name=$(command)` sets a variable
//! for the commands behind it. Blocks marked `sh no-run` are left out. Port 8080 of `127.0.0.1` or `localhost` stands
//! for the leader, 8081 for the replica, `memdb` for the binary.

#![allow(clippy::disallowed_methods)] // reads the documents, which no seam leads to

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;
use testkit::process::{Node, Start, memdb_binary};

/// The hosts and ports that stand for the leader and the replica.
const HOSTS_IN_DOCS: [&str; 2] = ["127.0.0.1", "localhost"];
const PORTS_IN_DOCS: [&str; 2] = ["8080", "8081"];
/// In the documents a request that is answered by an error is a mistake.
const CURL_FAILS_ON_ERRORS: &str = "curl() { command curl -sS --fail-with-body \"$@\"; }\n";

/// One command of a page.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    line: usize,
    command: String,
    /// What it must print, if the page says.
    prints: Option<String>,
}

/// The commands of the blocks marked `sh`.
fn examples(page: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut fence = None;
    for (number, line) in page.lines().enumerate() {
        if let Some(mark) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_none() { Some(mark.trim()) } else { None };
        } else if fence == Some("sh") && !line.trim().is_empty() {
            if let Some(output) = line.trim_start().strip_prefix("# → ") {
                let prints = &mut found.last_mut().expect("a command before its output").prints;
                *prints = Some(prints.take().map_or_else(|| output.to_owned(), |before| format!("{before}\n{output}")));
            } else if let Some(continued) = found.last_mut().filter(|last| last.command.ends_with('\\')) {
                continued.command = format!("{}\n{line}", continued.command);
            } else if !line.trim_start().starts_with('#') {
                found.push(Example { line: number + 1, command: line.to_owned(), prints: None });
            }
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    if let Ok(docs) = fs::read_dir(root.join("docs")) {
        pages.extend(
            docs.map(|entry| entry.expect("listed").path()).filter(|path| path.extension() == Some("md".as_ref())),
        );
    }
    pages.sort();
    pages
}

/// The command, for these servers instead of those of the page.
fn here(command: &str, servers: [&Node; 2]) -> String {
    let mut command = command.to_owned();
    for (port, server) in PORTS_IN_DOCS.iter().zip(servers) {
        for host in HOSTS_IN_DOCS {
            command = command.replace(&format!("{host}:{port}"), server.url.trim_start_matches("http://"));
        }
    }
    CURL_FAILS_ON_ERRORS.to_owned() + &command
}

/// The variable that a command sets.
fn assigned(command: &str) -> Option<&str> {
    let (name, _) = command.split_once("=$(")?;
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some(name)
}

/// Has a command that sets a variable print it.
fn shown(command: &str) -> String {
    assigned(command).map(|name| format!("\nprintf %s \"${name}\"")).unwrap_or_default()
}

#[test]
#[allow(clippy::print_stdout, reason = "CI shows what was run")]
fn commands_of_the_documents_work_as_printed() {
    let memdb = memdb_binary();
    let path = format!("{}:{}", memdb.parent().expect("in a directory").display(), env!("PATH"));
    let mut ran = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        let found = examples(&fs::read_to_string(&page).expect("a page"));
        if found.is_empty() {
            continue;
        }
        let data = TempDir::new().expect("a directory");
        let files = data.path().join("data");
        let leader = Start::plain_leader(&files).run();
        let url = leader.url.clone();
        let replica = Start::replica(&leader).run();
        replica.until_ready();
        let mut variables = BTreeMap::new();
        for Example { line, command, prints } in found {
            let place = format!("{}:{line}: {command}", page.display());
            println!("{place}");
            let output = Command::new("bash")
                .args(["-euo", "pipefail", "-c", &(here(&command, [&leader, &replica]) + &shown(&command))])
                .envs(&variables)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .env("PATH", &path)
                .env("MEMDB_SERVER", &url)
                .env("MEMDB_LEADER", &url)
                .output()
                .expect("bash runs");
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if let Some(name) = assigned(&command) {
                variables.insert(name.to_owned(), out.trim_end().to_owned());
            }
            if !output.status.success() {
                wrong.push(format!("{place}\n  failed: {out}{err}"));
            } else if prints.as_deref().is_some_and(|prints| out.trim_end() != prints) {
                wrong.push(format!("{place}\n  printed: {out}\n  and not: {}", prints.unwrap_or_default()));
            }
            ran += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{ran} commands work as printed");
    assert!(ran >= 8, "only {ran} commands were found: are the blocks still marked sh?");
}

#[test]
fn commands_and_outputs_are_found() {
    let page = "```sh\na \\\n  b\n# a remark\n\nc\n# → one\n# → two\n```\n```sh no-run\nd\n```\n```text\ne\n```\n";
    let example = |line, command: &str, prints: Option<&str>| Example {
        line,
        command: command.to_owned(),
        prints: prints.map(str::to_owned),
    };
    assert_eq!(examples(page), [example(2, "a \\\n  b", None), example(6, "c", Some("one\ntwo"))]);
}

/// A verb of make that the documents name is there.
#[test]
fn make_verbs_of_the_documents_exist() {
    let makefile = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile")).expect("a Makefile");
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for start in ["`make ", "\nmake "] {
            for after in text.split(start).skip(1) {
                let verb: String = after.chars().take_while(|next| next.is_ascii_lowercase() || *next == '-').collect();
                assert!(makefile.contains(&format!("\n{verb}:")), "{}: there is no `make {verb}`", page.display());
            }
        }
    }
}
