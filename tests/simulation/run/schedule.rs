//! Which of a history's faults happen, and how many steps it has: the whole of it, or what shrinking has left.

use std::{collections::BTreeSet, fmt};
use testkit::Random;

/// What is left out of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Faults, by number; the first is 1.
    pub without: BTreeSet<usize>,
    /// Steps before its end begins, if fewer than the seed has drawn.
    pub steps: Option<usize>,
}

impl Schedule {
    /// Reads numbers and ranges of them, as `1,4-9`.
    pub fn parse_without(text: &str) -> Option<BTreeSet<usize>> {
        let mut without = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            without.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
        }
        Some(without)
    }

    /// The environment and the arguments of `make` that replay it.
    pub fn command(&self, verb: &str, seed: u64) -> String {
        let without = if self.without.is_empty() { String::new() } else { format!(" MEMDB_SIM_WITHOUT={self}") };
        let steps = self.steps.map_or(String::new(), |steps| format!(" STEPS={steps}"));
        format!("MEMDB_SIM_LOG=1{without} make {verb} SEED={seed}{steps}")
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.without.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if(|&next| next == last + 1) {
                last = next;
            }
            write!(f, "{comma}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

/// Says at which steps faults come. They have a stream of randomness of their own, so that a fault that is left out
/// moves no other; what a fault is, is drawn from the stream that comes with it.
pub struct Faults {
    random: Random,
    without: BTreeSet<usize>,
    /// How many there were so far, with those that were left out.
    pub number: usize,
}

impl Faults {
    pub fn new(random: Random, schedule: &Schedule) -> Self {
        Self { random, without: schedule.without.clone(), number: 0 }
    }

    /// To be asked once a step, of a thousand of which so many meet a fault.
    pub fn at_step(&mut self, of_a_thousand: usize) -> Option<Random> {
        let (comes, random) = (self.random.below(1_000) < of_a_thousand, self.random.fork());
        if !comes {
            return None;
        }
        self.number += 1;
        (!self.without.contains(&self.number)).then_some(random)
    }
}

#[test]
fn a_printed_schedule_reads_back_the_same() {
    let without = Schedule::parse_without("1,4-9,11").unwrap();
    assert_eq!(without, [1, 4, 5, 6, 7, 8, 9, 11].into());
    let schedule = Schedule { without, steps: Some(120) };
    let command = "MEMDB_SIM_LOG=1 MEMDB_SIM_WITHOUT=1,4-9,11 make sim SEED=17 STEPS=120";
    assert_eq!(schedule.command("sim", 17), command);
    assert_eq!(Schedule::default().command("sim", 17), "MEMDB_SIM_LOG=1 make sim SEED=17");
    assert_eq!((Schedule::parse_without(""), Schedule::parse_without("4-x")), (Some(BTreeSet::new()), None));
}
