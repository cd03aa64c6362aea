//! A real leader, and the command line at it.

use crate::{Ran, memdb, run};
use std::path::Path;
use tempfile::TempDir;
use testkit::process::{Node, Start};

/// A leader on a directory of its own.
pub struct Leader {
    pub node: Node,
    _data: TempDir,
}

impl Leader {
    pub fn new() -> Self {
        let data = TempDir::new().expect("a directory");
        Leader { node: Start::leader(data.path()).run(), _data: data }
    }

    /// A leader on a directory that is there.
    pub fn on(directory: &Path) -> Self {
        Leader { node: Start::leader(directory).run(), _data: TempDir::new().expect("a directory") }
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(memdb().env("MEMDB_SERVER", &self.node.url).env("MEMDB_LEADER", &self.node.url).args(arguments))
    }

    /// Runs what must succeed; what it tells.
    #[track_caller]
    pub fn tell(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
        ran.err + &ran.out
    }

    pub fn import(&self, file: &Path) -> Ran {
        self.run(&["import", file.to_str().expect("UTF-8")])
    }

    /// The digest of all counts and entries, as an export states it.
    #[track_caller]
    pub fn digest(&self) -> String {
        let told = self.tell(&["export"]);
        let line = told.lines().find(|line| line.starts_with("exported")).expect("a report").to_owned();
        line.rsplit(' ').next().expect("a digest").to_owned()
    }
}
