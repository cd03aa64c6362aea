//! Readers beside a Writer that is flat out: a post is seen whole or not at all, over one request or two.
//!
//! Every record adds the same amount to each of its words, and every word of a post is in the same records. So the
//! count of each of them is the sum of the amounts up to the position that is read: any other count is a torn view.

use super::model::HASHER;
use memdb::{
    base::clock::LoggedTime,
    base::hash::weight,
    base::position::Position,
    data::record::{NamespaceChange, Record, RecordBody, WordCount},
    data::store::{DedupLimits, ReadGuard, Store, StoreReader},
};
use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const POST_WORDS: usize = 5_000;
const READERS: usize = 3;

/// What every record adds: steps that fit a cell's delta, and from time to time one that does not.
fn amount(sequence: u64) -> i64 {
    if sequence.is_multiple_of(64) { 1 << 21 } else { (sequence % 7) as i64 + 1 }
}

/// The count of every word at a position.
fn count_at(sequence: u64) -> i64 {
    let of = |residue: u64| (sequence + 7 - residue) / 7; // how many of 1..=sequence have this rest
    let small: i64 = (1..7).map(|rest| of(rest) as i64 * (rest as i64 + 1)).sum::<i64>() + (sequence / 7) as i64;
    let rounds = sequence / 64;
    let replaced: i64 = (1..=rounds).map(|round| (round * 64 % 7) as i64 + 1).sum();
    small - replaced + rounds as i64 * (1 << 21)
}

#[test]
fn the_sum_of_amounts_is_the_count() {
    let mut count = 0;
    for sequence in 1..1_000 {
        count += amount(sequence);
        assert_eq!(count_at(sequence), count, "at {sequence}");
    }
}

/// Applies posts until `done` says so; the words of one post come and go besides, so that tables grow and are rebuilt.
fn write(store: &mut Store, mut done: impl FnMut(u64) -> bool) {
    let words: Vec<String> = (0..POST_WORDS).map(|at| format!("word{at}")).collect();
    let hashes: Vec<u64> = words.iter().map(|word| HASHER.hash(word)).collect();
    let hash_sum = hashes.iter().fold(0u64, |sum, hash| sum.wrapping_add(*hash));
    let factor = HASHER.namespace_factor("words");
    let (mut count, mut passing) = (0, Vec::<String>::new());
    for sequence in 1.. {
        count += amount(sequence);
        let mut counts: Vec<WordCount<'_>> = words.iter().map(|word| WordCount { word, count }).collect();
        let gone = std::mem::take(&mut passing);
        counts.extend(gone.iter().map(|word| WordCount { word, count: 0 }));
        if sequence % 3 == 1 {
            passing = (0..2_000).map(|at| format!("passing{sequence}-{at}")).collect();
        }
        let passing_digest = passing.iter().fold(0, |sum: u64, word| sum.wrapping_add(HASHER.hash(word)));
        counts.extend(passing.iter().map(|word| WordCount { word, count: 1 }));
        let digest_after = weight(hash_sum, count).wrapping_add(passing_digest).wrapping_mul(factor);
        let body = RecordBody {
            entries: Vec::new(),
            changes: vec![NamespaceChange { namespace: "words", dropped: false, counts }],
            keyed_writes: Vec::new(),
        };
        let record =
            Record { position: Position::new(1, sequence), time_ms: LoggedTime::from_ms(sequence), digest_after, body };
        store.apply(&record, 0).expect("the digest is the one the counts lead to");
        if done(sequence) {
            break;
        }
    }
}

/// Reads three words under one guard, and checks them against the position.
fn look(guard: &ReadGuard<'_>, round: usize) -> u64 {
    let position = guard.position();
    let expected = count_at(position.sequence);
    for at in [round % POST_WORDS, (round * 7 + 1_234) % POST_WORDS, POST_WORDS - 1 - round % POST_WORDS] {
        let word = format!("word{at}");
        assert_eq!(guard.count("words", &word), expected, "{word} at {position}: a part of a post");
    }
    assert_eq!(guard.position(), position, "a guard shows one position");
    position.sequence
}

/// One reader: two requests after the other, for as long as the writer writes; gives how many it made.
fn read(reader: &StoreReader, ended: &AtomicBool, newest: &AtomicU64) -> usize {
    let mut last = 0;
    for round in 0.. {
        let over = ended.load(Ordering::Acquire);
        // What was published before the request began is seen by it.
        let published = newest.load(Ordering::Acquire);
        let first = look(&reader.read(), round);
        let second = look(&reader.read(), round + 1);
        assert!(last <= first && first <= second, "went back: {last}, {first}, {second}");
        assert!(published <= first, "{published} was published, {first} was seen");
        last = second;
        if round % 64 == 0 {
            let (position, top) = reader.top("words", 3);
            assert!(position.sequence >= last);
            last = position.sequence;
            let expected = count_at(last);
            if last > 0 {
                assert!(top.iter().all(|(_, count)| *count == expected), "{top:?} at {position}, not {expected}");
                assert_eq!(top.len(), 3);
            }
        }
        if over {
            return round;
        }
    }
    unreachable!("the loop has no end of its own")
}

fn run(mut done: impl FnMut(u64) -> bool + Send) -> (u64, usize) {
    let mut store = Store::new(HASHER, DedupLimits::default());
    let reader = store.reader();
    let (ended, newest, begin) = (AtomicBool::new(false), AtomicU64::new(0), Barrier::new(READERS + 1));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    read(&reader, &ended, &newest)
                })
            })
            .collect();
        begin.wait();
        write(&mut store, |sequence| {
            newest.store(sequence, Ordering::Release);
            done(sequence)
        });
        ended.store(true, Ordering::Release);
        let rounds = readers.into_iter().map(|reader| reader.join().expect("no reader saw a part of a post")).sum();
        (store.mark().position.sequence, rounds)
    })
}

#[test]
fn posts_are_seen_whole_over_one_request_or_two() {
    let (records, rounds) = run(|sequence| sequence == 400);
    assert!(records == 400 && rounds > READERS, "{records} records, {rounds} rounds of reads");
}

/// The same for as long as `MEMDB_WHOLE_POSTS_SECONDS` says, 10 s without it:
/// `cargo test --release --test engine -- --ignored --nocapture whole_posts`.
#[test]
#[ignore = "takes 10 s"]
#[allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a measured run: by the clock, with a report")]
fn whole_posts_for_ten_seconds() {
    let seconds = testkit::number_from("MEMDB_WHOLE_POSTS_SECONDS").unwrap_or(10);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (records, rounds) = run(|_| Instant::now() >= end);
    println!("{records} posts of {POST_WORDS} words, {} reads of 3 of them, none torn in {seconds} s", 2 * rounds);
}
