//! Entries: what is admitted, what they look like at each position, when they leave.

use super::node::{Node, Options, add};
use bytes::Bytes;
use memdb::{
    base::clock::{LoggedTime, Monotonic},
    base::limits,
    data::command::WriteBatch,
    data::counts::AdmissionLimits,
    data::entries::{CollectionId, CollectionKind, Entry, EntryOp, EntryWrite, Expiry, NewValue, WriteCondition},
    engine::leader::{WriteError, WriterSettings},
};
use std::sync::atomic::Ordering::Relaxed;
use testkit::Random;

const CACHE: CollectionId<'static> = CollectionId::new(CollectionKind::Cache, "words");

pub fn write(kind: CollectionKind, key: &str, op: EntryOp) -> EntryWrite {
    EntryWrite { kind, key: key.into(), op, condition: WriteCondition::Always }
}

pub fn put(key: &str, value: &str, expiry: Expiry) -> EntryWrite {
    let value = NewValue::new(Bytes::copy_from_slice(value.as_bytes()), "text/plain");
    write(CollectionKind::Cache, key, EntryOp::Put(value, expiry))
}

fn remove(key: &str) -> EntryWrite {
    write(CollectionKind::Cache, key, EntryOp::Remove)
}

/// A post that counts, for five seconds.
fn post(key: &str, text: &str) -> EntryWrite {
    let value = NewValue::new(Bytes::copy_from_slice(text.as_bytes()), "text/plain").counted();
    write(CollectionKind::Posts, key, EntryOp::Put(value, Expiry::AfterMs(5_000)))
}

fn only_if(condition: WriteCondition, write: EntryWrite) -> EntryWrite {
    EntryWrite { condition, ..write }
}

pub fn entries(writes: impl IntoIterator<Item = EntryWrite>) -> WriteBatch {
    WriteBatch { entries: writes.into_iter().collect(), ..add(&[]) }
}

fn entry(node: &Node, key: &str) -> Option<Entry> {
    node.store().reader().read().entry(CACHE, key)
}

fn values(node: &Node, keys: &[&str]) -> Vec<Option<String>> {
    let value = |entry: Entry| String::from_utf8(entry.value().into_owned()).expect("text");
    keys.iter().map(|key| entry(node, key).map(value)).collect()
}

fn there(node: &Node, keys: &[&str]) -> String {
    keys.iter().filter(|key| entry(node, key).is_some()).copied().collect::<Vec<_>>().join(" ")
}

/// Takes out all that has expired, and returns how many records that took.
pub fn expire(node: &mut Node) -> u64 {
    let before = node.sequence();
    while node.writer.has_due_entries(Monotonic::from_ms(node.now_ms)) {
        let at = node.sequence();
        node.tick();
        assert!(node.sequence() > at, "what is due makes a record");
    }
    node.sequence() - before
}

#[test]
fn an_entry_has_value_version_and_expiry_also_after_a_restart() {
    let mut node = Node::new(Options::default());
    node.one(add(&[("a", 1)])).expect("counted");
    let long = "x".repeat(1_000);
    node.one(entries([put("k/ключ", "v", Expiry::AfterMs(500)), put("empty", "", Expiry::Never)])).expect("written");
    node.one(entries([put("long", &long, Expiry::Never), put("k/ключ", "w", Expiry::AfterMs(700))])).expect("written");
    for _ in 0..2 {
        assert_eq!(
            values(&node, &["k/ключ", "empty", "long", "none"]),
            [Some("w".into()), Some(String::new()), Some(long.clone()), None]
        );
        let found = entry(&node, "k/ключ").expect("there");
        let expires = node.store().time_ms().as_ms() + 700;
        assert_eq!(
            (found.version(), found.expires(), found.content_type()),
            (3, Some(LoggedTime::from_ms(expires)), "text/plain")
        );
        assert_eq!(node.store().reader().entry_totals().entries, 3);
        node = node.restart(Options::default());
    }
}

#[test]
fn conditions_hold_or_nothing_of_the_batch_is_written() {
    let mut node = Node::new(Options::default());
    node.one(entries([put("k", "v", Expiry::AfterMs(100))])).expect("written");
    let tag = |node: &Node| entry(node, "k").map(|entry| entry.tag().into_boxed_str()).into_iter().collect::<Vec<_>>();
    let (current, other) = (tag(&node), vec![Box::from("00")]);
    for (condition, holds) in [
        (WriteCondition::Always, true),
        (WriteCondition::Present, true),
        (WriteCondition::Absent, false),
        (WriteCondition::Matches(current.clone()), true),
        (WriteCondition::Matches(other.clone()), false),
        (WriteCondition::MatchesNone(current), false),
        (WriteCondition::MatchesNone(other), true),
    ] {
        let batch = entries([
            put("beside", "b", Expiry::Never),
            only_if(condition.clone(), put("k", "v", Expiry::AfterMs(100))),
        ]);
        let answer = node.one(batch).map(drop);
        assert_eq!(answer, if holds { Ok(()) } else { Err(WriteError::PreconditionFailed) }, "{condition:?}");
        assert_eq!(entry(&node, "beside").is_some(), holds, "{condition:?}");
        node.one(entries([remove("beside")])).expect("removed");
    }
    // What has expired is not there, though its record has not come.
    node.now_ms += 100;
    let absent = only_if(WriteCondition::Absent, put("k", "new", Expiry::Never));
    assert_eq!(
        node.one(entries([only_if(WriteCondition::Present, put("k", "x", Expiry::Never))])),
        Err(WriteError::PreconditionFailed)
    );
    node.one(entries([absent])).expect("written");
    assert_eq!(values(&node, &["k"]), [Some("new".into())]);
}

#[test]
fn a_key_that_comes_twice_in_a_group_is_replaced_in_order() {
    let mut node = Node::new(Options::default());
    let answers = node.group([
        entries([put("k", "1", Expiry::Never)]),
        entries([put("other", "o", Expiry::Never)]),
        entries([only_if(WriteCondition::Absent, put("k", "2", Expiry::Never))]),
        entries([put("k", "3", Expiry::Never)]),
        entries([remove("k")]),
        entries([only_if(WriteCondition::Absent, put("k", "4", Expiry::Never))]),
    ]);
    let taken: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, true, false, true, true, true]);
    assert_eq!(values(&node, &["k", "other"]), [Some("4".into()), Some("o".into())]);
}

#[test]
fn entries_leave_at_their_time_by_a_record_and_not_before() {
    let mut node = Node::new(Options::default());
    node.one(entries([
        put("a", "1", Expiry::AfterMs(100)),
        put("b", "2", Expiry::AfterMs(200)),
        put("c", "3", Expiry::Never),
    ]))
    .expect("written");
    let digest = node.store().digest();
    for (passed_ms, left) in [(99, "a b c"), (1, "b c"), (99, "b c"), (1, "c"), (1_000_000, "c")] {
        node.now_ms += passed_ms;
        node.tick();
        assert_eq!(there(&node, &["a", "b", "c"]), left);
    }
    assert_ne!(node.store().digest(), digest);
    let totals = node.store().reader().entry_totals();
    assert_eq!((totals.entries, totals.expired, totals.evicted), (1, 2, 0));
    let mut restarted = node.restart(Options::default());
    assert_eq!((there(&restarted, &["a", "b", "c"]), expire(&mut restarted)), ("c".into(), 0));
}

#[test]
fn an_expiry_that_is_moved_holds_and_one_of_a_key_that_is_gone_does_nothing() {
    let mut node = Node::new(Options::default());
    node.one(entries([put("a", "1", Expiry::AfterMs(100))])).expect("written");
    let version = entry(&node, "a").map(|entry| entry.version());
    let until = |key, ms| write(CollectionKind::Cache, key, EntryOp::SetExpiry(Expiry::AfterMs(ms)));
    node.one(entries([until("a", 500), until("none", 500)])).expect("written");
    node.now_ms += 499;
    node.tick();
    assert_eq!((there(&node, &["a", "none"]), entry(&node, "a").map(|entry| entry.version())), ("a".into(), version));
    node.now_ms += 1;
    node.tick();
    assert_eq!(there(&node, &["a", "none"]), "");
}

#[test]
fn many_entries_expire_in_bounded_records_and_leave_nothing_behind() {
    let mut node = Node::new(Options::default());
    let empty = node.store().digest();
    for from in 0..5_u32 {
        node.one(entries((0..1_000).map(|n| put(&format!("{from}/{n}"), "value", Expiry::AfterMs(1_000)))))
            .expect("written");
    }
    node.now_ms += 1_000;
    assert_eq!(expire(&mut node), 5_000 / limits::EXPIRED_PER_RECORD as u64, "as many each as a record takes");
    let totals = node.store().reader().entry_totals();
    assert_eq!((totals.entries, totals.bytes, totals.expired, node.store().digest()), (0, 0, 5_000, empty));
}

fn with_budget(entry_bytes: usize) -> Options {
    let admission = AdmissionLimits { entry_bytes, ..AdmissionLimits::default() };
    Options { writer: WriterSettings { admission, ..WriterSettings::default() }, ..Options::default() }
}

#[test]
fn a_leader_that_stops_while_entries_expire_leaves_them_to_the_next_which_goes_on_in_time() {
    const DUE: usize = 3 * limits::EXPIRED_PER_RECORD;
    let options = Options::default().without_snapshots();
    let mut node = Node::new(options);
    let many = |ms, from: usize| entries((0..DUE).map(|n| put(&format!("k{}", from + n), "v", Expiry::AfterMs(ms))));
    node.one(many(100, 0)).expect("written");
    node.one(many(5_000, DUE)).expect("written");
    node.one(WriteBatch { entries: vec![post("p", "rain and rain")], ..add(&[("rain", 2), ("and", 1)]) })
        .expect("it counts");
    node.tick();
    node.now_ms += 150;
    // Some have left by now, with their records, and most have not.
    node.tick();
    let shown = |node: &Node| {
        let (reader, mark) = (node.store().reader(), node.store().mark());
        (mark.position.sequence, mark.digest, reader.entry_totals().entries, node.counts(["rain", "and"]))
    };
    let before = shown(&node);
    assert_eq!(before.2, (2 * DUE - limits::EXPIRED_PER_RECORD + 1) as u64, "{before:?}");
    let stopped_ms = node.now_ms;
    let mut node = node.stop_and_start(options);
    assert_eq!(shown(&node), before, "the stop has taken nothing out, and the start shows what was there");
    assert!(node.now_ms - stopped_ms < 100, "nobody waits for what expires");
    // What was due before the stop leaves at the first chance, and nothing else does.
    assert!(node.writer.next_tick().is_some_and(|at| at <= Monotonic::from_ms(node.now_ms)));
    expire(&mut node);
    assert_eq!((shown(&node).2, node.counts(["rain", "and"])), (DUE as u64 + 1, [2, 1]));
    // The others leave at their time.
    let last = 1_000 + 5_000;
    node.now_ms = last - 1;
    assert_eq!(expire(&mut node), 0, "it is a millisecond early");
    node.now_ms = last;
    expire(&mut node);
    assert_eq!((shown(&node).2, node.counts(["rain", "and"])), (0, [0, 0]));
}

#[test]
fn a_full_budget_evicts_what_expires_next_and_then_what_was_written_longest_ago() {
    let value = "v".repeat(1_000);
    let mut node = Node::new(with_budget(4_800));
    for (key, expiry) in [
        ("old", Expiry::Never),
        ("soon", Expiry::AfterMs(10_000)),
        ("young", Expiry::Never),
        ("later", Expiry::AfterMs(20_000)),
    ] {
        node.one(entries([put(key, &value, expiry)])).expect("there is room");
    }
    let all = ["old", "soon", "young", "later", "1", "2", "3", "4", "5"];
    for (key, left) in
        [("1", "old young later 1"), ("2", "old young 1 2"), ("3", "young 1 2 3"), ("4", "1 2 3 4"), ("5", "2 3 4 5")]
    {
        let receipt = node.one(entries([put(key, &value, Expiry::Never)])).expect("others make room");
        assert_eq!(receipt.entries, 1, "what makes room was not asked for");
        assert_eq!(there(&node, &all), left);
    }
    // To be written again makes an entry young, and takes no room.
    node.one(entries([put("2", &value, Expiry::Never)])).expect("written");
    node.one(entries([put("1", &value, Expiry::Never)])).expect("written");
    assert_eq!(there(&node, &all), "1 2 4 5");
    assert_eq!(node.store().reader().entry_totals().evicted, 6);
    // It does not become small by being compressed.
    let mut random = Random::new(1);
    let too_large: String = (0..5_000).map(|_| random.between(33, 126) as u8 as char).collect();
    assert_eq!(node.one(entries([put("x", &too_large, Expiry::Never)])), Err(WriteError::EntriesFull));
    let restarted = node.restart(with_budget(4_800));
    assert_eq!(restarted.store().reader().entry_totals().entries, 4);
}

#[test]
fn a_store_beyond_a_smaller_budget_comes_down_to_it_in_bounded_records() {
    let value = "v".repeat(100);
    let mut node = Node::new(Options::default());
    for from in 0..10 {
        let many = (0..100).map(|n| put(&format!("{from}/{n}"), &value, Expiry::Never));
        node.one(entries(many)).expect("written");
    }
    let bytes = node.store().reader().entry_totals().bytes;
    let mut node = node.restart(with_budget(bytes as usize / 10));
    let before = node.store().reader().entry_totals();
    assert_eq!((before.entries, before.evicted), (1_000, 0));
    node.one(entries([put("new", &value, Expiry::Never)])).expect("it has room, or makes some");
    let evicted = node.store().reader().entry_totals().evicted;
    assert!((1..=250).contains(&evicted), "{evicted} by one write");
    assert!(expire(&mut node) >= 2, "the others leave by records of their own");
    let after = node.store().reader().entry_totals();
    assert!(after.bytes <= bytes / 10 && after.entries > 90, "{after:?}");
    let mut restarted = node.restart(Options::default());
    let totals = restarted.store().reader().entry_totals();
    assert_eq!((totals.entries, totals.evicted, expire(&mut restarted)), (after.entries, 0, 0));
}

#[test]
fn a_writer_that_writes_no_more_has_nothing_due() {
    for end in [Node::poison as fn(&mut Node), |node| node.writer.end_expiry()] {
        let mut node = Node::new(Options::default());
        node.one(entries([put("a", "1", Expiry::AfterMs(10))])).expect("written");
        node.now_ms += 10;
        assert!(node.writer.has_due_entries(Monotonic::from_ms(node.now_ms)));
        end(&mut node);
        assert!(!node.writer.has_due_entries(Monotonic::from_ms(node.now_ms)), "nobody could ever take it out");
    }
}

/// What a tick cannot write is not tried again at once, and nothing of it is seen: the entries stay until then.
#[test]
fn expiry_pauses_behind_a_failed_append_and_goes_on_after_it() {
    type Set = fn(&Node, bool);
    let faults: [(Set, bool); 2] = [
        (|node, fails| node.disk.faults.room.store(if fails { 20 } else { usize::MAX }, Relaxed), false),
        (|node, fails| node.disk.faults.appends_fail.store(fails, Relaxed), true),
    ];
    for (set, takes_writes) in faults {
        let mut node = Node::new(Options::default());
        node.one(entries([put("a", "1", Expiry::AfterMs(10)), put("b", "1", Expiry::AfterMs(10))])).expect("written");
        node.now_ms += 10;
        let (before, paused_at) = (node.sequence(), node.now_ms);
        set(&node, true);
        node.tick();
        set(&node, false);
        let end = Monotonic::from_ms(paused_at + 1_000);
        assert_eq!((node.sequence(), node.writer.is_poisoned()), (before, false));
        assert_eq!(there(&node, &["a", "b"]), "a b", "no record has taken them out");
        assert!(node.writer.pauses_expiry(Monotonic::from_ms(paused_at)));
        assert_eq!(node.one(entries([put("c", "1", Expiry::Never)])).is_ok(), takes_writes);
        node.now_ms = paused_at + 999;
        assert!(!node.writer.has_due_entries(Monotonic::from_ms(node.now_ms)), "nobody waits for it");
        assert!(node.writer.next_tick().is_some_and(|next| next <= end), "it is woken by then");
        node.now_ms += 1;
        assert_eq!((expire(&mut node), there(&node, &["a", "b"])), (1, String::new()));
        let mut node = node.restart(Options::default());
        assert_eq!((expire(&mut node), there(&node, &["a", "b"])), (0, String::new()));
    }
}

#[test]
fn entries_expire_as_fast_as_others_come() {
    let mut node = Node::new(Options::default());
    for round in 0..10_u32 {
        for part in 0..4 {
            let many = (0..500).map(|n| put(&format!("{round}/{part}/{n}"), "v", Expiry::AfterMs(10)));
            node.one(entries(many)).expect("written");
        }
        node.now_ms += 10;
        node.tick();
        assert_eq!(node.store().reader().entry_totals().entries, 0, "2,000 came, and one tick takes as many");
    }
}

#[test]
fn pages_give_every_key_of_a_prefix_once() {
    let mut node = Node::new(Options::default());
    let keys: Vec<String> = (0..500).map(|n| format!("{}/{n}", if n % 2 == 0 { "even" } else { "odd" })).collect();
    node.one(entries(keys.iter().map(|key| put(key, "v", Expiry::Never)))).expect("written");
    node.one(entries([put("even/gone", "v", Expiry::AfterMs(10))])).expect("written");
    let now = LoggedTime::from_ms(node.store().time_ms().as_ms() + 10);
    for limit in [1, 7, 250, 1_000] {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = node.store().reader().entries_page(CACHE, "even/", after.as_deref(), limit, now);
            assert!(page.entries.len() <= limit);
            found.extend(page.entries.iter().map(|entry| entry.key().to_owned()));
            let Some(next) = page.next else { break };
            // A walk goes on behind a key that is gone by then.
            if limit == 7 && found.len() == 7 {
                node.one(entries([remove(&next)])).expect("removed");
                node.one(entries([put(&next, "v", Expiry::Never)])).expect("written");
            }
            after = Some(next);
        }
        found.sort();
        let mut expected: Vec<_> = keys.iter().filter(|key| key.starts_with("even")).cloned().collect();
        expected.sort();
        assert_eq!(found, expected, "pages of {limit}");
    }
}
