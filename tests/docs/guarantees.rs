//! `docs/guarantees.md` names a test for each claim: each of them is there, and is a test.

#![allow(clippy::disallowed_methods, reason = "reads the source tree, which is no database")]

use std::{collections::BTreeSet, fs, path::Path};

/// The names of all tests in a folder.
fn tests_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tests_in(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let mut is_test = false;
            for line in text.lines().map(str::trim_start) {
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                if let Some(rest) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "))
                    && std::mem::take(&mut is_test)
                {
                    names.extend(rest.split('(').next().map(str::to_owned));
                }
            }
        }
    }
}

/// What stands in backticks and is spelled as the name of a test.
fn named(page: &str) -> impl Iterator<Item = &str> {
    let quoted = page.split('`').skip(1).step_by(2);
    let names = quoted.map(|name| name.rsplit("::").next().unwrap_or(name));
    names.filter(|name| {
        name.contains('_')
            && name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_' || letter.is_ascii_digit())
    })
}

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    tests_in(&root.join("tests"), &mut tests);
    let page = fs::read_to_string(root.join("docs/guarantees.md")).expect("the page");
    let missing: Vec<&str> = named(&page).filter(|name| !tests.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/guarantees.md names what is no test: {missing:?}");
    assert!(named(&page).count() > 20, "it names hardly any");
}
