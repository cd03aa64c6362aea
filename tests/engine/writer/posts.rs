//! Posts: their words come and go with them, exactly.

use super::{
    entries::{entries, expire, write},
    node::{HASHER, Node, Options, add, batch},
};
use bytes::Bytes;
use memdb::{
    base::clock::Monotonic,
    data::command::WriteBatch,
    data::counts::{AdmissionLimits, WriteOp, word_counts::WordCounts},
    data::entries::{CollectionKind, EntryOp, Expiry, NewValue},
    data::posts::{count_words, encode_claim},
    engine::leader::{AckLevel, WriteError, WriterSettings},
    text::tokenizer::Analyzer,
};

fn words_of(text: &str) -> WordCounts {
    let mut counts = WordCounts::new(HASHER);
    count_words(Analyzer::Standard, text, &mut counts);
    counts
}

/// A post whose words are counted.
fn post(id: &str, text: &str, expiry: Expiry) -> WriteBatch {
    let value = NewValue::new(Bytes::copy_from_slice(text.as_bytes()), "text/plain").counted();
    let put = write(CollectionKind::Posts, id, EntryOp::Put(value, expiry));
    WriteBatch { counts: words_of(text), ..entries([put]) }
}

/// A post that is kept and not counted.
fn document(id: &str, text: &str) -> WriteBatch {
    let value = NewValue::new(Bytes::copy_from_slice(text.as_bytes()), "text/plain");
    entries([write(CollectionKind::Posts, id, EntryOp::Put(value, Expiry::Never))])
}

/// A text that is counted for a while and not kept.
fn passing(text: &str, ms: u64) -> WriteBatch {
    let counts = words_of(text);
    let value = NewValue::new(encode_claim(&counts).into(), "").counted();
    let put = write(CollectionKind::Texts, "", EntryOp::Put(value, Expiry::AfterMs(ms)));
    WriteBatch { counts, ..entries([put]) }
}

fn delete(id: &str) -> WriteBatch {
    entries([write(CollectionKind::Posts, id, EntryOp::Remove)])
}

#[test]
fn a_post_counts_the_difference_to_the_one_it_replaces_and_a_repeat_counts_nothing() {
    let mut node = Node::new(Options::default());
    node.one(add(&[("sun", 5)])).expect("counted");
    let before = node.store().digest();
    node.one(post("1", "Rain, rain and sun", Expiry::Never)).expect("written");
    assert_eq!(node.counts(["rain", "and", "sun", "snow"]), [2, 1, 6, 0]);
    node.one(post("1", "Rain, rain and sun", Expiry::Never)).expect("a repeat");
    assert_eq!(node.counts(["rain", "and", "sun", "snow"]), [2, 1, 6, 0]);
    node.one(post("1", "rain and snow", Expiry::Never)).expect("replaced");
    assert_eq!(node.counts(["rain", "and", "sun", "snow"]), [1, 1, 5, 1]);
    let mut node = node.restart(Options::default());
    node.one(delete("1")).expect("deleted");
    assert_eq!(node.counts(["rain", "and", "sun", "snow"]), [0, 0, 5, 0]);
    assert_eq!(node.store().digest(), before, "exactly what was there before");
    node.one(delete("1")).expect("nothing is there");
    assert_eq!(node.store().digest(), before);
}

#[test]
fn posts_of_one_group_that_replace_each_other_count_once() {
    let mut node = Node::new(Options::default());
    let answers = node.group([
        post("1", "a b", Expiry::Never),
        post("2", "a", Expiry::Never),
        post("1", "b c", Expiry::Never),
        add(&[("c", 10)]),
        delete("2"),
        post("1", "c", Expiry::Never),
    ]);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(node.counts(["a", "b", "c"]), [0, 0, 11]);
}

#[test]
fn words_of_the_last_hour_are_an_exact_window_over_the_posts() {
    let mut node = Node::new(Options::default());
    let empty = node.store().digest();
    let hour_ms = 3_600_000;
    for minute in 0..180_u64 {
        let text = format!("tick m{minute}");
        let batch = if minute % 2 == 0 {
            post(&minute.to_string(), &text, Expiry::AfterMs(hour_ms))
        } else {
            passing(&text, hour_ms)
        };
        node.one(batch).expect("counted");
        expire(&mut node);
        assert_eq!(node.count("tick"), (minute as i64 + 1).min(60), "minute {minute}");
        node.now_ms += 60_000;
    }
    let mut node = node.restart(Options::default());
    node.now_ms += hour_ms;
    expire(&mut node);
    assert_eq!((node.count("tick"), node.store().digest()), (0, empty));
}

#[test]
fn a_document_that_is_not_counted_leaves_the_counts_alone() {
    let mut node = Node::new(Options::default());
    node.one(document("1", "a b")).expect("written");
    assert_eq!(node.counts(["a", "b"]), [0, 0]);
    node.one(post("1", "a b", Expiry::Never)).expect("counted from now on");
    assert_eq!(node.counts(["a", "b"]), [1, 1]);
    node.one(document("1", "a b")).expect("not any more");
    assert_eq!(node.counts(["a", "b"]), [0, 0]);
    assert!(!node.store().reader().read().namespaces().iter().any(|(name, _)| name == "words"));
}

#[test]
fn words_that_were_lowered_by_hand_refuse_a_delete_and_clamp_an_expiry() {
    let mut node = Node::new(Options::default());
    node.one(post("1", "a a b", Expiry::AfterMs(100))).expect("counted");
    node.one(batch("words", WriteOp::AddGiven, &[("a", -1), ("c", -3)])).expect("counted");
    assert_eq!(node.one(delete("1")), Err(WriteError::BelowZero { word: "a".into() }));
    assert_eq!(node.one(post("1", "b", Expiry::Never)), Err(WriteError::BelowZero { word: "a".into() }));
    // The difference alone has to fit.
    node.one(post("1", "a b c", Expiry::AfterMs(100))).expect("one a less");
    assert_eq!(node.counts(["a", "b", "c"]), [0, 1, -2]);
    node.now_ms += 100;
    expire(&mut node);
    assert_eq!(node.counts(["a", "b", "c"]), [0, 0, -2], "down to zero at most");
    assert_eq!(node.clamped, 2, "the one a and the one c that the post has brought, and that are gone");
}

#[test]
fn an_expired_post_is_replaced_as_if_its_expiry_had_come_first() {
    let mut node = Node::new(Options::default());
    node.one(post("1", "a a b", Expiry::AfterMs(100))).expect("counted");
    node.one(batch("words", WriteOp::AddGiven, &[("a", -1)])).expect("counted");
    node.now_ms += 100;
    node.one(post("1", "a", Expiry::Never)).expect("nothing refuses what expires");
    assert_eq!(node.counts(["a", "b"]), [1, 0], "two a less, down to zero, and then one more");
    assert_eq!(node.clamped, 1, "told as of any other that expires");
    assert_eq!((expire(&mut node), node.counts(["a", "b"])), (0, [1, 0]), "the old post is gone already");
}

/// The time of posts came while nobody led: a start finds them in the files, and they go by the first record.
#[test]
fn what_expired_while_nobody_led_gives_its_words_back_at_the_next_start() {
    let now_due = |node: &Node| node.writer.has_due_entries(Monotonic::from_ms(node.now_ms));
    for named in [false, true] {
        let mut node = Node::new(Options::default());
        node.one(post("1", "a a b", Expiry::AfterMs(100))).expect("counted");
        node.one(passing("b c", 100)).expect("counted");
        node.one(post("2", "a", Expiry::AfterMs(400_000))).expect("counted");
        let (disk, now_ms) = (node.disk.clone(), node.now_ms);
        // A wall clock that is further on than five minutes is not believed: no time has passed then.
        let node = Node::start(disk.clone(), Options::default(), now_ms + 301_000, 0);
        assert!(!now_due(&node), "not before its time");
        let mut node = Node::start(disk, Options::default(), now_ms + 60_000, 0);
        assert_eq!(node.counts(["a", "b", "c"]), [3, 2, 1], "counts fall by record alone");
        assert!(now_due(&node));
        if named {
            node.one(post("1", "b", Expiry::Never)).expect("the old one goes before it");
            assert_eq!(node.counts(["a", "b", "c"]), [1, 2, 1], "the text is not named");
            node.one(delete("1")).expect("there");
        }
        assert_eq!((expire(&mut node), node.counts(["a", "b", "c"])), (1, [1, 0, 0]));
        let totals = node.store().reader().entry_totals();
        assert_eq!((totals.entries, totals.expired, node.clamped), (1, 2, 0));
        let node = node.restart(Options::default());
        assert_eq!((now_due(&node), node.counts(["a", "b", "c"])), (false, [1, 0, 0]));
    }
}

#[test]
fn a_write_that_is_refused_whatever_it_holds_makes_no_expired_post_go() {
    let mut node = Node::new(Options::default());
    node.one(post("1", "a", Expiry::AfterMs(100))).expect("counted");
    node.now_ms += 100;
    let before = node.sequence();
    let answers = node.write([(post("1", "b", Expiry::Never), Some(AckLevel::ReplicaDisk))]);
    assert_eq!(answers, [(0, Err(WriteError::NoReplicaKeepsFiles))]);
    assert_eq!((node.sequence(), node.counts(["a", "b"])), (before, [1, 0]), "no record was made for it");
}

#[test]
fn a_post_of_a_namespace_that_is_gone_by_hand_expires_all_the_same() {
    let mut node = Node::new(Options::default());
    node.one(post("1", "a", Expiry::AfterMs(100))).expect("counted");
    node.one(batch("words", WriteOp::AddGiven, &[("a", -1)])).expect("the namespace is empty, and gone");
    node.now_ms += 100;
    assert_eq!((expire(&mut node), node.store().reader().entry_totals().entries), (1, 0));
}

#[test]
fn marks_of_removals_keep_to_the_budget_of_entries() {
    let admission = AdmissionLimits { entry_bytes: 1_000, ..AdmissionLimits::default() };
    let options = Options { writer: WriterSettings { admission, ..WriterSettings::default() }, ..Options::default() };
    let mut node = Node::new(options);
    node.one(post("1", "a b", Expiry::Never)).expect("counted");
    let refused = (0..20).map(|n| {
        let word = format!("w{n}");
        node.one(add(&[(&word, 1)])).expect("counted");
        node.one(batch("words", WriteOp::RemoveWords, &[(&word, 0)])).err()
    });
    assert_eq!(refused.flatten().next(), Some(WriteError::EntriesFull));
    assert!(node.store().reader().entry_totals().bytes <= 1_000);
    node.one(batch("words", WriteOp::DropNamespace, &[])).expect("this is always possible");
}

#[test]
fn words_that_are_not_there_leave_no_mark() {
    let mut node = Node::new(Options::default());
    node.one(post("1", "a", Expiry::Never)).expect("counted");
    let bytes = node.store().reader().entry_totals().bytes;
    node.one(batch("words", WriteOp::RemoveWords, &[("none", 0), ("other", 0)])).expect("nothing is there");
    assert_eq!(node.store().reader().entry_totals().bytes, bytes);
}

#[test]
fn long_posts_of_few_words_expire_one_by_one() {
    let mut node = Node::new(Options::default());
    let long = "a ".repeat(100_000);
    for id in ["1", "2", "3"] {
        node.one(post(id, &long, Expiry::AfterMs(10))).expect("counted");
    }
    node.now_ms += 10;
    assert_eq!((expire(&mut node), node.count("a")), (3, 0), "a record each");
}

#[test]
fn a_word_that_is_deleted_takes_the_claims_of_earlier_posts_with_it() {
    let mut node = Node::new(Options::default());
    node.group([post("old", "a b", Expiry::AfterMs(100)), passing("a b", 100)]);
    // In one group, so that the order within it decides.
    node.group([
        batch("words", WriteOp::RemoveWords, &[("a", 0)]),
        post("new", "a b", Expiry::AfterMs(200)),
        add(&[("a", 5)]),
    ]);
    assert_eq!(node.counts(["a", "b"]), [6, 3]);
    let mut node = node.restart(Options::default());
    node.now_ms += 100;
    expire(&mut node);
    assert_eq!(node.counts(["a", "b"]), [6, 1], "the old ones have no claim to a");
    node.now_ms += 100;
    expire(&mut node);
    assert_eq!(node.counts(["a", "b"]), [5, 0]);
    let removals = node.store().reader().scan_entries();
    assert_eq!(entries_left(removals), 0, "marks that nobody needs are gone");
}

#[test]
fn a_namespace_that_is_deleted_ends_the_claims_of_its_posts_and_keeps_the_posts() {
    let mut node = Node::new(Options::default());
    node.group([post("1", "a b", Expiry::Never), passing("a", 100), batch("words", WriteOp::DropNamespace, &[])]);
    assert_eq!(node.counts(["a", "b"]), [0, 0]);
    node.one(add(&[("a", 1), ("b", 1)])).expect("counted");
    node.now_ms += 100;
    expire(&mut node);
    node.one(post("1", "c", Expiry::Never)).expect("it takes nothing back");
    assert_eq!(node.counts(["a", "b", "c"]), [1, 1, 1]);
    node.one(delete("1")).expect("a new claim");
    assert_eq!(node.counts(["a", "b", "c"]), [1, 1, 0]);
}

fn entries_left(mut scan: memdb::data::store::EntryScan) -> usize {
    let mut len = 0;
    while scan.step(|_, _| len += 1) {}
    len
}
