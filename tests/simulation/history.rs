//! What happened, line by line: the same seed must give the same lines.

use crate::run::Lines;
use std::fmt::{self, Write};

/// The lines of one history.
pub struct History {
    text: String,
    lines: Lines,
}

impl History {
    pub fn new(lines: Lines) -> Self {
        Self { text: String::new(), lines }
    }

    /// Whether anybody will read them.
    pub fn is_kept(&self) -> bool {
        self.lines != Lines::Dropped
    }

    pub fn note(&mut self, line: fmt::Arguments<'_>) {
        if !self.is_kept() {
            return;
        }
        let start = self.text.len();
        let _ = writeln!(self.text, "{line}"); // a string takes what it is given
        if self.lines == Lines::Printed {
            eprint!("{}", &self.text[start..]);
        }
    }

    /// FNV-1a over all lines.
    pub fn hash(&self) -> u64 {
        self.text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }

    /// The last lines, for whoever reads a failure.
    pub fn tail(&self, lines: usize) -> String {
        let skip = self.text.lines().count().saturating_sub(lines);
        self.text.lines().skip(skip).fold(String::new(), |tail, line| tail + "\n    " + line)
    }
}
