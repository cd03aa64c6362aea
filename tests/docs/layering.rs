//! The shape of the source tree, held by a test: who may import whom, where the large dependencies may appear, how long
//! a file and a function may be.
//!
//! It reads the text of `src`, not what the compiler makes of it, so it is simple and can be fooled; it is there to
//! notice, not to guard against ill will. Each rule is shown to notice below, on sources made up for it.

#![allow(clippy::disallowed_methods)] // reads the source tree, which no seam leads to

mod rules;
mod scan;

use rules::{MOST_FILE_LINES, MOST_FUNCTION_LINES, violations};
use std::fs;
use std::path::Path;

fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("the source tree can be read") {
        let path = entry.expect("the source tree can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("found below it");
            let text = fs::read_to_string(&path).expect("a source is text");
            found.push((inside.to_str().expect("names are ASCII").to_owned(), text));
        }
    }
}

#[test]
fn the_source_tree_keeps_its_rules() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.iter().any(|(path, _)| path == "src/limits.rs"), "these are the sources: {found:?}");
    let broken: Vec<String> = found.iter().flat_map(|(path, text)| violations(path, text)).collect();
    assert!(broken.is_empty(), "the tree breaks its rules:\n{}", broken.join("\n"));
}

/// Holds that a made-up source breaks exactly the rules whose messages hold these texts, in order.
#[track_caller]
fn breaks(path: &str, body: &str, expected: &[&str]) {
    let found = violations(path, &format!("//! A made-up source.\n{body}"));
    let matches = found.len() == expected.len() && found.iter().zip(expected).all(|(found, part)| found.contains(part));
    assert!(matches, "{path}: {body}\nfound {found:?}\nexpected {expected:?}");
}

#[test]
fn imports_go_down_the_ladder() {
    breaks("src/store.rs", "use crate::words::Words;\nuse crate::limits;", &[]);
    breaks("src/words.rs", "use crate::store::Store;", &["src/words.rs:2: `words` may not import `store`"]);
    breaks("src/limits.rs", "use crate::{hash::WordHasher, position};", &["`hash`", "`position`"]);
    breaks(
        "src/log/record.rs",
        "use crate::{\n    log::{self, scan},\n    leader::Leader,\n};",
        &["record.rs:4: `log`"],
    );
    breaks("src/hash.rs", "fn f() { crate::api::serve() }", &["`hash` may not import `api`"]);
    breaks(
        "src/hash.rs",
        "use std::fmt;\n\npub use super::{tally::Tally, limits};",
        &["`hash` may not import `tally`"],
    );
    breaks("src/log/scan.rs", "use super::super::leader::Leader;", &["`log` may not import `leader`"]);
    breaks("src/log/scan.rs", "use super::record::Header;\nuse super::super::limits;", &[]);
    breaks("src/hash.rs", "use crate::surprise::X;", &["`surprise` is not on the ladder"]);
    breaks("src/surprise.rs", "", &["`surprise` is not on the ladder"]);
    breaks("src/bin/memdb/main.rs", "use crate::output::say;\nuse memdb::leader::Leader;", &[]);
    breaks("src/hash.rs", "pub(crate) use crate::limits::MAX_WORD_BYTES;", &[]);
}

#[test]
fn tests_of_a_module_may_look_up() {
    breaks("src/words.rs", "mod tests {\n    use super::*;\n    use super::store::Inner;\n}", &[]);
    breaks("src/words.rs", "mod tests {\n    use crate::store::Store;\n}", &["`words` may not import `store`"]);
}

#[test]
fn large_dependencies_have_their_place() {
    breaks("src/api/http/routes.rs", "use warp::Filter;\nuse hyper::server::conn::http1;", &[]);
    breaks("src/node.rs", "use warp::Filter;", &["`warp` belongs under src/api"]);
    breaks("src/leader.rs", "fn f() -> hyper::StatusCode {}", &["`hyper` belongs under src/api"]);
    breaks("src/leader.rs", "use hyper_util::rt::TokioIo;", &["`hyper_util` belongs under src/api"]);
    breaks("src/client/feed.rs", "use reqwest::Client;", &[]);
    breaks("src/api/http.rs", "use reqwest::Client;", &["`reqwest`"]);
    breaks("src/config/flags.rs", "use clap::Parser;", &[]);
    breaks("src/bin/memdb.rs", "use clap::Parser;", &[]);
    breaks("src/leader.rs", "#[derive(clap::ValueEnum)]\nenum E {}", &["`clap`"]);
    breaks("src/position.rs", "#[derive(bincode::Encode)]\nstruct P;", &[]);
    breaks("src/leader.rs", "use bincode;", &["`bincode`"]);
    breaks("src/leader.rs", "use crate::log::bincode::x;\nlet clap = 1;", &[]);
    breaks("src/store.rs", "use tokio::sync::Notify;", &["`tokio` does not belong at level 1"]);
    breaks("src/disk.rs", "async fn f() { g().await }", &["`async`", "`await`"]);
    breaks("src/leader.rs", "async fn f() { g().await }", &[]);
}

#[test]
fn comments_and_texts_are_no_code() {
    breaks("src/hash.rs", "// use crate::api;\n/* crate::api /* nested */ warp::x */\n/// unsafe", &[]);
    breaks("src/hash.rs", "const A: &str = \"crate::api \\\" unsafe {\";\nconst B: &str = r#\"warp::\"{\"#;", &[]);
    breaks(
        "src/hash.rs",
        "fn f<'a>(x: &'a str) { m('\"', '\\'', '{', b'\"') }\nuse crate::api;",
        &["hash.rs:3: `hash`"],
    );
}

#[test]
fn unsafe_is_nowhere() {
    breaks("src/words/arena.rs", "fn f() { unsafe { g() } }", &["`unsafe`"]);
    breaks("src/lib.rs", "#![forbid(unsafe_code)]", &[]);
}

#[test]
fn files_are_rooms() {
    // With the line of `breaks` itself these are as many lines as a file may have, and one more.
    let full = "//\n".repeat(MOST_FILE_LINES - 1);
    breaks("src/hash.rs", &full, &[]);
    breaks("src/hash.rs", &format!("{full}//\n"), &["has 601 lines"]);
    breaks("src/words/utils.rs", "", &["`utils` says nothing"]);
    breaks("src/log/common/scan.rs", "", &["`common` says nothing"]);
    assert_eq!(violations("src/hash.rs", "use std::fmt;\n").len(), 1, "a file without a word at the door");
}

#[test]
fn functions_fit_a_page() {
    let function = |inside: usize| {
        format!("impl A {{\n    fn long<const N: usize>(x: [u8; N]) {{\n{}    }}\n}}", "//\n".repeat(inside))
    };
    breaks("src/hash.rs", &function(MOST_FUNCTION_LINES - 2), &[]);
    breaks("src/hash.rs", &function(MOST_FUNCTION_LINES - 1), &["hash.rs:3: `long` has 71 lines"]);
    breaks(
        "src/hash.rs",
        &format!("trait T {{\n    fn f(&self);\n}}\nconst F: fn(u8) = g;\n{}", "//\n".repeat(80)),
        &[],
    );
}
