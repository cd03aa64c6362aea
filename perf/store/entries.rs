//! Entries in the store: writes, reads, replacements, evictions and removals a second, and the memory of one.

use super::{
    loaded::{Loaded, resident_bytes},
    redis::Redis,
};
use bytes::Bytes;
use memdb::{
    base::clock::Monotonic,
    data::command::WriteBatch,
    data::counts::AdmissionLimits,
    data::entries::{CollectionId, CollectionKind, EntryOp, EntryWrite, Expiry, NewValue, WriteCondition},
    engine::leader::WriterSettings,
};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};
use testkit::Random;

/// A time that comes in no measurement.
const FAR_MS: u64 = 100_000_000;
/// The writes that one record holds where many are written together, as the Writer merges what waits.
const MERGED: u64 = 100;

/// A key of 16 bytes.
pub fn key(number: u64) -> String {
    format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A value that no two keys share.
pub fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(number + 1);
    (0..bytes).map(|_| b'a' + random.below(26) as u8).collect()
}

pub fn write(kind: CollectionKind, key: String, op: EntryOp) -> EntryWrite {
    EntryWrite { kind, key: key.into(), op, condition: WriteCondition::Always }
}

pub fn batch_of(entries: Vec<EntryWrite>) -> WriteBatch {
    WriteBatch { entries, ..super::batch(std::iter::empty()) }
}

fn put(number: u64, bytes: usize, ttl: bool) -> EntryWrite {
    let new = NewValue::new(Bytes::from(value(number, bytes)), "");
    // Each at a time of its own, in no order.
    let far = FAR_MS + number.wrapping_mul(0x9e37_79b9) % 100_000;
    let expiry = if ttl { Expiry::AfterMs(far) } else { Expiry::Never };
    write(CollectionKind::Cache, key(number), EntryOp::Put(new, expiry))
}

/// Measures each size in a process of its own, so that nothing freed before is counted as free.
pub fn compare(entries: u64) {
    println!(
        "| {entries} entries | bytes an entry, resident | as the store says | Redis, resident | as Redis says | \
         puts/s, a record each | slowest, ms | puts/s, {MERGED} a record | replaced/s | gets/s | evicting puts/s | \
         removed/s | Redis SET/s, 1,000 deep |"
    );
    println!("|{}", "---|".repeat(13));
    let program = std::env::current_exe().expect("a running program has a path");
    for (bytes, ttl) in [("20", "-"), ("20", "ttl"), ("1024", "-"), ("1024", "ttl")] {
        let arguments = ["entries", &entries.to_string(), bytes, ttl];
        let output = std::process::Command::new(&program).args(arguments).output().expect("it starts again");
        print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
}

/// Prints a row.
pub fn measure(entries: u64, bytes: usize, ttl: bool) {
    let told_of_redis = Redis::start().map(|mut redis| {
        let before = redis.memory();
        let rate = redis.fill(entries, key, |number| value(number, bytes), ttl);
        let after = redis.memory();
        ((after.1 - before.1) / entries as f64, (after.0 - before.0) / entries as f64, rate)
    });
    let (resident_redis, said_by_redis, redis_rate) = told_of_redis.unwrap_or_default();
    let mut loaded = Loaded::new();
    let before = resident_bytes();
    let (mut slowest, mut took) = (Duration::ZERO, Duration::ZERO);
    // The first half a record each, the second many a record.
    for number in 0..entries / 2 {
        let spent = timed(&mut loaded, vec![put(number, bytes, ttl)]);
        (slowest, took) = (slowest.max(spent), took + spent);
    }
    let single = (entries / 2) as f64 / took.as_secs_f64();
    let many = |loaded: &mut Loaded, numbers: std::ops::Range<u64>| {
        let all = numbers.end - numbers.start;
        let mut took = Duration::ZERO;
        for first in numbers.clone().step_by(MERGED as usize) {
            let of_record = first..(first + MERGED).min(numbers.end);
            took += timed(loaded, of_record.map(|number| put(number, bytes, ttl)).collect());
        }
        all as f64 / took.as_secs_f64()
    };
    let merged = many(&mut loaded, entries / 2..entries);
    let resident = (resident_bytes() - before) / entries as f64;
    let told = loaded.reader().entry_totals().bytes as f64 / entries as f64;
    let replaced = many(&mut loaded, 0..entries / 2);
    let gets = gets(&loaded, entries);
    let evicting = evicting(entries / 2, bytes, ttl);
    let removed = {
        let mut took = Duration::ZERO;
        for first in (0..entries).step_by(MERGED as usize) {
            let gone = |number| write(CollectionKind::Cache, key(number), EntryOp::Remove);
            took += timed(&mut loaded, (first..(first + MERGED).min(entries)).map(gone).collect());
        }
        entries as f64 / took.as_secs_f64()
    };
    let slowest = slowest.as_secs_f64() * 1e3;
    let ttl = if ttl { ", expiring" } else { "" };
    println!(
        "| {bytes} bytes{ttl} | {resident:.0} | {told:.0} | {resident_redis:.0} | {said_by_redis:.0} | {single:.0} | \
         {slowest:.2} | {merged:.0} | {replaced:.0} | {gets:.0} | {evicting:.0} | {removed:.0} | {redis_rate:.0} |"
    );
}

fn timed(loaded: &mut Loaded, writes: Vec<EntryWrite>) -> Duration {
    let batch = batch_of(writes);
    let start = Instant::now();
    loaded.write_at(batch, Monotonic::default());
    start.elapsed()
}

/// Reads of one key each, in no order.
fn gets(loaded: &Loaded, entries: u64) -> f64 {
    let reader = loaded.reader();
    let collection = CollectionId::new(CollectionKind::Cache, memdb::base::limits::DEFAULT_NAMESPACE);
    let mut random = Random::new(5);
    let keys: Vec<String> = (0..1 << 16).map(|_| key(random.below(entries as usize) as u64)).collect();
    let begin = Instant::now();
    let mut reads = 0_u64;
    while begin.elapsed() < Duration::from_secs(1) {
        for key in &keys {
            let entry = reader.read().entry(collection, key).expect("it was put");
            black_box(entry.stored().len());
        }
        reads += keys.len() as u64;
    }
    reads as f64 / begin.elapsed().as_secs_f64()
}

/// Puts of new keys into a store whose budget is used up, so that each makes another leave.
fn evicting(entries: u64, bytes: usize, ttl: bool) -> f64 {
    let entry_bytes = (entries / 2) as usize * (bytes + 100);
    let admission = AdmissionLimits { entry_bytes, ..AdmissionLimits::default() };
    let mut loaded = Loaded::with_settings(WriterSettings { admission, ..WriterSettings::default() });
    let (mut took, mut counted) = (Duration::ZERO, 0);
    for number in 0..entries {
        let spent = timed(&mut loaded, vec![put(number, bytes, ttl)]);
        if number > entries * 3 / 4 {
            (took, counted) = (took + spent, counted + 1);
        }
    }
    assert!(loaded.reader().entry_totals().evicted > 0, "the budget is too large");
    f64::from(counted) / took.as_secs_f64()
}
