//! What a layout costs in memory, and how long its worst insert takes while it grows: each measurement in a process of
//! its own, so that nothing freed before is counted as free.

use crate::{
    layout::{ArenaLayout, Layout, TableLayout},
    locked::Sharded,
    summary::Summary,
    workload::hasher,
};
use std::{
    collections::HashMap,
    process::Command,
    time::{Duration, Instant},
};
use testkit::words::write_word;

/// The word on the command line that makes this program one such measurement.
pub const VERB: &str = "grow";

/// The layouts by name.
const LAYOUTS: [(&str, &str); 5] = [
    ("arena", "L1 arena and index, 256 segments, one cell"),
    ("arena-pair", "L1, two cells"),
    ("table", "L2 table of `Box<str>` and cells, 256 segments"),
    ("sharded", "M4's table of `(Box<str>, i64)`, 64 shards"),
    ("std", "one `std` `HashMap<Box<str>, i64>`"),
];

/// Grows each layout to each size in `rounds` rounds and prints a table.
pub fn compare(sizes: &[u64], rounds: usize) {
    println!("\n| layout | words | bytes a word | worst insert, ms | mean insert, ns |\n|---|---|---|---|---|");
    for &words in sizes {
        let mut figures: [[Vec<f64>; 3]; LAYOUTS.len()] = Default::default();
        for _ in 0..rounds {
            for (at, (name, _)) in LAYOUTS.iter().enumerate() {
                for (kept, figure) in figures[at].iter_mut().zip(in_a_child(name, words)) {
                    kept.push(figure);
                }
            }
        }
        for ((_, title), [bytes, worst, mean]) in LAYOUTS.iter().zip(&figures) {
            let [bytes, worst, mean] = [bytes, worst, mean].map(|figures| Summary::of(figures));
            println!("| {title} | {words} | {bytes:.1} | {worst:.2} | {mean:.0} |");
        }
    }
}

fn in_a_child(layout: &str, words: u64) -> [f64; 3] {
    let program = std::env::current_exe().expect("a running program has a path");
    let output = Command::new(program).args([VERB, layout, &words.to_string()]).output().expect("it starts again");
    let text = String::from_utf8(output.stdout).expect("it prints figures");
    let mut figures = text.split_whitespace().map(|figure| figure.parse().expect("a figure"));
    std::array::from_fn(|_| figures.next().expect("three figures"))
}

/// Grows one layout and prints bytes a word, the worst insert in ms and the mean insert in ns.
pub fn grow(layout: &str, words: u64) {
    match layout {
        "arena" => grow_with(words, Growing::<ArenaLayout<1>>::default(), Growing::insert),
        "arena-pair" => grow_with(words, Growing::<ArenaLayout<2>>::default(), Growing::insert),
        "table" => grow_with(words, Growing::<TableLayout>::default(), Growing::insert),
        "sharded" => grow_with(words, Sharded::default(), |sharded, word| {
            sharded.add(hasher().hash(word), word, 1);
        }),
        "std" => grow_with(words, HashMap::<Box<str>, i64>::new(), |map, word| {
            map.insert(word.into(), 1);
        }),
        _ => panic!("no layout is called {layout}"),
    }
}

#[derive(Default)]
struct Growing<L: Layout> {
    layout: L,
    writer: L::Writer,
}

impl<L: Layout> Growing<L> {
    fn insert(&mut self, word: &str) {
        let place = self.layout.find_or_insert(&mut self.writer, hasher().hash(word), word);
        self.layout.cell(place, 0).store(1, std::sync::atomic::Ordering::Relaxed);
    }
}

fn grow_with<L>(words: u64, mut layout: L, insert: impl Fn(&mut L, &str)) {
    let mut word = String::new();
    let before = resident_bytes();
    let (mut worst, mut total) = (Duration::ZERO, Duration::ZERO);
    for number in 0..words {
        write_word(number, &mut word);
        let start = Instant::now();
        insert(&mut layout, &word);
        let took = start.elapsed();
        total += took;
        worst = worst.max(took);
    }
    let bytes = (resident_bytes() - before) / words as f64;
    println!("{bytes} {} {}", worst.as_secs_f64() * 1e3, total.as_secs_f64() * 1e9 / words as f64);
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process its size");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("every process has a size");
    let kib: f64 = line.split_whitespace().nth(1).expect("VmRSS has a number").parse().expect("in KiB");
    kib * 1024.0
}
