//! The rules. A new module gets a rung here; a rule that no longer fits is changed here, with its reason.

use super::scan::{code_only, functions, imported, line_of, names};

pub const MOST_FILE_LINES: usize = 600;
pub const MOST_FUNCTION_LINES: usize = 70;

/// Level by level, and inside a level in order: a module imports only what stands before it.
const LADDER: &[&[&str]] = &[
    &[
        "atomics",
        "limits",
        "failpoint",
        "clock",
        "position",
        "hash",
        "tally",
        "charset",
        "tokenizer",
        "record",
        "metrics",
        "secret",
        "origin",
        "address",
    ],
    &["words", "store"],
    &["disk", "format", "manifest", "log", "snapshot", "recovery", "repair", "inspect"],
    &["view", "replication"],
    &["leader", "replica", "local_replica"],
    &["client", "api"],
    &["config", "node"],
];

/// Dependencies that would spread, and the only places they may be in: each could have to be replaced one day.
const PLACES: &[(&str, &[&str])] = &[
    ("warp", &["src/api"]),
    ("hyper", &["src/api"]),
    ("hyper_util", &["src/api"]),
    ("multer", &["src/api"]),
    ("reqwest", &["src/client", "src/replication"]),
    ("clap", &["src/bin", "src/config"]),
    // Where records, messages and what they are made of are encoded. Unmaintained: see deny.toml.
    (
        "bincode",
        &[
            "src/clock",
            "src/position",
            "src/record",
            "src/store",
            "src/format",
            "src/manifest",
            "src/log",
            "src/snapshot",
            "src/replication",
        ],
    ),
];

/// The cores are state machines without I/O, so that the simulation runs the real code in one thread.
const LAST_LEVEL_WITHOUT_ASYNC: usize = 2;
const ASYNC: &[&str] = &["tokio", "tokio_util", "futures", "async", "await"];

/// Names for a place where things are put that have none.
const SAY_NOTHING: &[&str] = &["util", "utils", "common", "types", "misc", "helpers"];

/// What is wrong with one source, a line for each fault.
pub fn violations(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut found = Vec::new();
    of_the_file(path, text, &mut found);
    of_imports(path, &code, &mut found);
    of_dependencies(path, &code, &mut found);
    for at in names(&code, "unsafe") {
        found.push(format!("{path}:{}: `unsafe` is nowhere", line_of(&code, at)));
    }
    for (name, line, lines) in functions(&code) {
        if lines > MOST_FUNCTION_LINES {
            found.push(format!("{path}:{line}: `{name}` has {lines} lines, {MOST_FUNCTION_LINES} are the most"));
        }
    }
    found
}

fn of_the_file(path: &str, text: &str, found: &mut Vec<String>) {
    if !text.starts_with("//!") {
        found.push(format!("{path}: begins with no `//!` that says what it is for"));
    }
    let lines = text.lines().count();
    if lines > MOST_FILE_LINES {
        found.push(format!("{path}: has {lines} lines, {MOST_FILE_LINES} are the most"));
    }
    for name in path.trim_end_matches(".rs").split('/').filter(|name| SAY_NOTHING.contains(name)) {
        found.push(format!("{path}: `{name}` says nothing about what is inside"));
    }
}

/// The module right under the crate's root that a source belongs to; none for the root itself and for programs.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let module = inside.split('/').next()?.trim_end_matches(".rs");
    (!matches!(module, "lib" | "bin")).then_some(module)
}

fn rung(module: &str) -> Option<usize> {
    LADDER.iter().flat_map(|level| level.iter()).position(|&other| other == module)
}

fn level(module: &str) -> Option<usize> {
    LADDER.iter().position(|level| level.contains(&module))
}

fn of_imports(path: &str, code: &str, found: &mut Vec<String>) {
    let Some(module) = module_of(path) else { return };
    let Some(own) = rung(module) else {
        found.push(format!("{path}: `{module}` is not on the ladder of tests/docs/layering/rules.rs"));
        return;
    };
    for (at, other) in imported(code, "crate::").into_iter().chain(by_way_of_super(path, code)) {
        let line = line_of(code, at);
        match rung(other) {
            _ if other == module => {}
            None => {
                found.push(format!("{path}:{line}: `{other}` is not on the ladder of tests/docs/layering/rules.rs"));
            }
            Some(rung) if rung > own => {
                found.push(format!("{path}:{line}: `{module}` may not import `{other}`, which stands above it"));
            }
            Some(_) => {}
        }
    }
}

/// What a source imports from the crate's root by as many `super::` as it lies deep. Only what stands at the start of a
/// line: further in, it may be inside a module of the source.
fn by_way_of_super<'a>(path: &str, code: &'a str) -> Vec<(usize, &'a str)> {
    let depth = path.trim_end_matches("/mod.rs").matches('/').count();
    let up = "super::".repeat(depth);
    let mut found = Vec::new();
    let mut start = 0;
    for statement in code.split_inclusive(';') {
        let begun = statement.len() - statement.trim_start().len();
        let line = statement.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let at_the_margin = statement[..begun].ends_with('\n') || start + begun == 0;
        if at_the_margin && line.starts_with("use ") && line["use ".len()..].starts_with(&up) {
            // The last `super::` stands for the root, as `crate::` does.
            let root = start + statement.len() - line.len() + "use ".len() + up.len() - "super::".len();
            let names = imported(&code[root..start + statement.len()], "super::");
            found.extend(names.into_iter().map(|(at, name)| (root + at, name)));
        }
        start += statement.len();
    }
    found
}

fn of_dependencies(path: &str, code: &str, found: &mut Vec<String>) {
    for (dependency, places) in PLACES {
        let allowed =
            places.iter().any(|place| path.strip_prefix(place).is_some_and(|rest| rest.starts_with(['/', '.'])));
        for at in uses(code, dependency).filter(|_| !allowed) {
            let line = line_of(code, at);
            found.push(format!("{path}:{line}: `{dependency}` belongs under {}", places.join(", ")));
        }
    }
    let Some(level) = module_of(path).and_then(level).filter(|&level| level <= LAST_LEVEL_WITHOUT_ASYNC) else {
        return;
    };
    for word in ASYNC {
        let keyword = matches!(*word, "async" | "await");
        for at in names(code, word).filter(|&at| keyword || uses(code, word).any(|use_at| use_at == at)) {
            found.push(format!("{path}:{}: `{word}` does not belong at level {level}", line_of(code, at)));
        }
    }
}

/// Where a dependency is named as one: at the head of a path, or imported whole.
fn uses<'a>(code: &'a str, dependency: &'a str) -> impl Iterator<Item = usize> + 'a {
    names(code, dependency)
        .filter(move |&at| code[at + dependency.len()..].starts_with("::") || code[..at].trim_end().ends_with("use"))
}
