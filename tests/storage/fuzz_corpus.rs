//! The fuzz targets on the stable compiler: the whole corpus, and a bounded number of seeded mutations of it.
//!
//! `make fuzz` runs the same functions guided by coverage. `MEMDB_FUZZ_MS=60000` mutates each target for so long,
//! `MEMDB_FUZZ_SEED=7` in another way. What libFuzzer or this test finds becomes a file in `fuzz/corpus/TARGET`, and
//! stays.

#![allow(clippy::disallowed_methods, reason = "reads the corpus, which is no database")]
#![allow(clippy::print_stderr, reason = "says which input fails, and how much was tried")]

mod mutate;
mod seeds;

use mutate::Mutator;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use testkit::{fuzz, number_from};

/// Mutations of each target in a run of all tests: some seconds for all of them.
const MUTATIONS: u64 = 1_500;

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", target].iter().collect()
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder(target))
        .unwrap_or_else(|error| panic!("no corpus for {target}: {error}"))
        .map(|entry| entry.expect("readable").path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("readable")))
        .collect();
    files.sort();
    files
}

/// Runs one input; one that fails is kept where it can be looked at.
fn run(target: &str, what: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| fuzz::run(target, input))) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}-failed"));
        std::fs::write(&kept, input).expect("the directory for tests can be written");
        eprintln!("{target}: {what} fails; it is {}", kept.display());
        std::panic::resume_unwind(panic);
    }
}

fn mutate(target: &str) {
    let files: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, bytes)| bytes).collect();
    let seed = number_from("MEMDB_FUZZ_SEED").unwrap_or(1);
    let until = number_from("MEMDB_FUZZ_MS").map(|ms| Instant::now() + Duration::from_millis(ms));
    let mut mutator = Mutator::new(seed, files);
    let mut runs = 0;
    while until.map_or(runs < MUTATIONS, |until| Instant::now() < until) {
        let input = mutator.next();
        run(target, &format!("mutation {runs} of seed {seed}"), &input);
        runs += 1;
    }
    let accepted = fuzz::inputs_accepted();
    eprintln!("{target}: {runs} mutations with seed {seed}, {accepted} accepted");
    assert!(accepted > runs / 50, "{target}: of {runs} inputs {accepted} got past the checks: little is tested");
}

/// A test for each target, so that they run side by side.
macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let files = corpus(stringify!($name));
                assert!(!files.is_empty(), "an empty corpus tests nothing");
                files.iter().for_each(|(path, bytes)| run(stringify!($name), path, bytes));
                mutate(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_run_and_has_a_corpus() {
            let named = [$(stringify!($name)),*];
            assert!(fuzz::ALL.iter().map(|(name, _)| *name).eq(named));
        }
    };
}

targets! { log snapshot manifest message offer http head fast_path text claim entries counters config }

#[test]
fn libfuzzer_runs_every_target_under_its_name() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    for (target, _) in fuzz::ALL {
        let source =
            std::fs::read_to_string(sources.join(target).with_extension("rs")).expect("a source for each target");
        assert!(source.contains(&format!("testkit::fuzz::run({target:?}, data)")), "{target}: {source}");
    }
    assert_eq!(std::fs::read_dir(sources).expect("readable").count(), fuzz::ALL.len());
}

/// `MEMDB_FUZZ_CORPUS=write` writes the begin of every corpus again, from what the program itself writes.
#[test]
fn the_begin_of_every_corpus_is_there() {
    let write = std::env::var_os("MEMDB_FUZZ_CORPUS").is_some_and(|what| what == "write");
    for (target, name, bytes) in seeds::all() {
        let path = folder(target).join(name);
        if write {
            std::fs::create_dir_all(folder(target)).expect("the source tree can be written");
            std::fs::write(&path, &bytes).expect("the source tree can be written");
        }
        assert!(path.exists(), "{} is missing: MEMDB_FUZZ_CORPUS=write makes it", path.display());
    }
}
