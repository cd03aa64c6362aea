//! Writes beside entries that expire: how long each waits, and when everything is gone.
//!
//! Time is the processor time of this thread, which is never idle: as long as the same takes on a core that nobody
//! else uses.

use super::{
    batch,
    entries::{batch_of, key, value, write},
    loaded::{IDENTITY, Loaded, resident_bytes},
};
use bytes::Bytes;
use memdb::{
    base::clock::Monotonic,
    data::command::WriteBatch,
    data::counts::word_counts::WordCounts,
    data::entries::{CollectionKind, EntryOp, Expiry, NewValue},
};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;
use testkit::{Random, words::write_word};

/// The time at which the first of them expires.
const FIRST_MS: u64 = 1_000_000;
/// The time over which they do.
const OVER_MS: u64 = 1_000;
/// A write comes so often.
const WRITE_EVERY: Duration = Duration::from_micros(500);
/// Words of a counted post.
const POST_WORDS: u64 = 50;
const VOCABULARY: u64 = 100_000;

/// Values of 100 bytes.
pub fn entries(entries: u64) {
    let mut loaded = Loaded::new();
    let before = resident_bytes();
    for first in (0..entries).step_by(1_000) {
        let put = |number: u64| {
            let new = NewValue::new(Bytes::from(value(number, 100)), "");
            let op = EntryOp::Put(new, Expiry::AfterMs(FIRST_MS + number % OVER_MS));
            write(CollectionKind::Cache, key(number), op)
        };
        loaded.write(batch_of((first..(first + 1_000).min(entries)).map(put).collect()));
    }
    run(&mut loaded, before, entries);
}

/// Posts whose words are taken back.
pub fn counted(entries: u64) {
    let mut loaded = Loaded::new();
    let (before, mut numbers, mut word) = (resident_bytes(), Random::new(3), String::new());
    for number in 0..entries {
        let (mut text, mut counts) = (String::new(), WordCounts::new(IDENTITY.hasher()));
        for _ in 0..POST_WORDS {
            write_word(numbers.zipf(VOCABULARY), &mut word);
            counts.add(&word, 1).expect("small amounts");
            text.push_str(&word);
            text.push(' ');
        }
        let new = NewValue::new(Bytes::from(text), "text/plain").counted();
        let op = EntryOp::Put(new, Expiry::AfterMs(FIRST_MS + number % OVER_MS));
        let entries = vec![write(CollectionKind::Posts, key(number), op)];
        loaded.write(WriteBatch { counts, words: POST_WORDS, entries, ..batch(std::iter::empty()) });
    }
    run(&mut loaded, before, entries);
    assert_eq!(loaded.reader().read().count(memdb::base::limits::DEFAULT_NAMESPACE, "the"), 0);
}

/// The processor time of this thread.
fn spent() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Drives the Writer as its thread does: writes first, then one round of expiry.
fn run(loaded: &mut Loaded, before: f64, entries: u64) {
    let filled = resident_bytes() - before;
    let begin = spent();
    let elapsed = || spent() - begin;
    let now = || Monotonic::from_ms(FIRST_MS + elapsed().as_millis() as u64);
    let left = |loaded: &Loaded| loaded.reader().entry_totals().entries;
    let (mut waits, mut next, mut rounds, mut slowest) = (Vec::new(), Duration::ZERO, 0, Duration::ZERO);
    let (mut random, mut word) = (Random::new(9), String::new());
    let mut end = None;
    // On for a while, so that what is left of the work is seen too.
    while end.is_none_or(|end| elapsed() < end + Duration::from_millis(200)) {
        while elapsed() >= next {
            let mut counts = WordCounts::new(IDENTITY.hasher());
            for _ in 0..20 {
                write_word(VOCABULARY + random.below(VOCABULARY as usize) as u64, &mut word);
                counts.add(&word, 1).expect("small amounts");
            }
            loaded.write_at(WriteBatch { counts, words: 20, ..batch(std::iter::empty()) }, now());
            waits.push(elapsed() - next);
            next += WRITE_EVERY;
        }
        let start = elapsed();
        if loaded.writer.has_due_entries(now()) {
            rounds += 1;
        }
        loaded.writer.tick(now(), &mut loaded.actions);
        loaded.actions.clear();
        slowest = slowest.max(elapsed() - start);
        if end.is_none() && left(loaded) == 0 {
            end = Some(elapsed());
        }
    }
    waits.sort();
    let wait = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let end = end.expect("all have expired").as_secs_f64();
    println!(
        "| entries | gone after, s | entries/s | records | slowest record, ms | a write waits, ms: median | 99 % | \
         longest | MB before | after |"
    );
    println!("|{}", "---|".repeat(10));
    println!(
        "| {entries} | {end:.2} | {:.0} | {rounds} | {:.2} | {:.3} | {:.3} | {:.3} | {:.0} | {:.0} |",
        entries as f64 / end,
        slowest.as_secs_f64() * 1e3,
        wait(0.5),
        wait(0.99),
        wait(1.0),
        filled / 1e6,
        (resident_bytes() - before) / 1e6,
    );
}
