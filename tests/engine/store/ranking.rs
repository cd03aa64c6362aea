//! Rankings of any length: pages that join to the whole, and readers beside a Writer that changes what they rank.

use super::model::{Changed, HASHER, Pair};
use memdb::{
    base::{clock::LoggedTime, hash::weight, limits, position::Position},
    data::record::{Record, RecordBody},
    data::store::{DedupLimits, RankingQuery, Store, StoreReader},
};
use std::{
    collections::BTreeMap,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
};
use testkit::counts_model::CountsModel;

type Words = Vec<(String, i64)>;

fn set(pair: &mut Pair, counts: impl IntoIterator<Item = (String, i64)>) {
    pair.apply(&[Changed { namespace: "words", dropped: false, counts: counts.into_iter().collect() }]);
}

/// A third of them begin with `wa`; few counts are alone.
fn word(number: i64) -> String {
    format!("w{}{number:06}", ["a", "b", "ä"][number as usize % 3])
}

fn pages(reader: &StoreReader, prefix: &str, n: usize) -> Words {
    let mut all = Words::new();
    loop {
        let after = all.last().map(|(word, count)| (*count, word.clone()));
        let after = after.as_ref().map(|(count, word)| (*count, word.as_str()));
        let (_, page) = reader.ranking("words", &RankingQuery { n, prefix, after }).expect("nobody writes");
        all.extend_from_slice(&page);
        if page.len() < n {
            return all;
        }
    }
}

/// The model's words with a prefix, in order.
fn expected(model: &CountsModel, prefix: &str) -> Words {
    let mut words = model.top("words", usize::MAX);
    words.retain(|(word, _)| word.starts_with(prefix));
    words
}

#[test]
fn pages_of_any_length_join_to_the_whole_for_every_prefix() {
    let mut pair = Pair::new();
    let reader = pair.store.reader();
    assert_eq!(pages(&reader, "", 10), [], "there is no such namespace");
    for words in [5, limits::MAX_TOP as i64, 5_000, 2 * limits::RANKING_CHANGES as i64 + 500] {
        set(&mut pair, (0..words).map(|at| (word(at), at % 7 - 3 + at / 2_000 * 5)));
        for prefix in ["", "w", "wa", "wä00", "wb000004", "x"] {
            let whole = expected(&pair.model, prefix);
            for n in [1, 7, limits::MAX_TOP, limits::MAX_TOP + 1, 3_333, limits::MAX_RANKING] {
                // Each page of a large namespace is a look at all of it.
                if whole.len() / n < 40 {
                    assert!(pages(&reader, prefix, n) == whole, "{words} words, prefix {prefix:?}, pages of {n}");
                }
            }
        }
    }
    // A cursor is a place in the order, whether or not a word is there.
    let query = RankingQuery { n: 2, prefix: "", after: Some((3, "nobody")) };
    let after: Words =
        expected(&pair.model, "").into_iter().filter(|(word, count)| query_is_before(*count, word)).collect();
    assert_eq!(reader.ranking("words", &query).expect("nobody writes").1, after[..2]);
}

fn query_is_before(count: i64, word: &str) -> bool {
    count < 3 || count == 3 && word > "nobody"
}

#[test]
fn what_is_at_hand_is_answered_without_a_look_at_all() {
    let mut pair = Pair::new();
    set(&mut pair, (0..20_000).map(|at| (word(at), at)));
    let reader = pair.store.reader();
    let at_hand = |n, prefix, after| reader.ranking_at_hand("words", &RankingQuery { n, prefix, after });
    assert!(at_hand(limits::MAX_TOP, "", None).is_some() && at_hand(10, "wa", None).is_some());
    assert!(at_hand(10, "", Some((19_500, "w"))).is_some());
    assert!(at_hand(limits::MAX_TOP + 1, "", None).is_none() && at_hand(10, "wa0000", None).is_none());
    assert!(at_hand(10, "", Some((19_001, "w"))).is_none());
}

/// The changes of a record, out of its number: words rise and fall, come and go, a few at a time or very many, and the
/// namespace is dropped now and then.
fn changes(sequence: u64) -> Vec<Changed> {
    const WORDS: u64 = 12_000;
    let changed = match sequence % 50 {
        7 => 10_000, // many are taken away, so that tables are rebuilt
        8 => 11_000,
        _ => 40,
    };
    let amount = |at: u64| match sequence % 50 {
        7 => 0,
        31 => (at % 5) as i64 * (1 << 40),
        _ => (at.wrapping_mul(sequence) % 1_000) as i64 - 200,
    };
    let first = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) % WORDS;
    let counts = (0..changed).map(|at| (first + at) % WORDS).map(|at| (word(at as i64), amount(at))).collect();
    vec![Changed { namespace: "words", dropped: sequence.is_multiple_of(400), counts }]
}

#[test]
fn rankings_beside_a_writer_are_each_of_the_position_that_they_state() {
    const RECORDS: u64 = 3_000;
    let mut store = Store::new(HASHER, DedupLimits::default());
    let (reader, begin, done) = (store.reader(), Barrier::new(2), AtomicBool::new(false));
    let query = RankingQuery { n: 700, prefix: "wa", after: Some((700, "wa")) };
    let mut seen = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = Vec::new();
            begin.wait();
            while !done.load(Ordering::Relaxed) {
                for query in [RankingQuery { n: limits::MAX_RANKING, ..RankingQuery::default() }, query] {
                    let (state, words) =
                        reader.ranking("words", &query).expect("so few are read under a guard at worst");
                    seen.push((state, query, words));
                }
            }
            seen
        });
        begin.wait();
        let (mut counts, mut digest) = (BTreeMap::<String, i64>::new(), 0_u64);
        for sequence in 1..=RECORDS {
            let made = changes(sequence);
            if made[0].dropped {
                (counts, digest) = (BTreeMap::new(), 0);
            }
            for (word, count) in &made[0].counts {
                let known = counts.entry(word.clone()).or_default();
                let change = weight(HASHER.hash(word), *count).wrapping_sub(weight(HASHER.hash(word), *known));
                digest = digest.wrapping_add(change);
                *known = *count;
            }
            let digest_after = digest.wrapping_mul(HASHER.namespace_factor("words"));
            let changes: Vec<_> = made.iter().map(Changed::as_change).collect();
            let body = RecordBody { entries: Vec::new(), changes, keyed_writes: Vec::new() };
            let (position, time_ms) = (Position::new(1, sequence), LoggedTime::from_ms(sequence));
            let record = Record { position, time_ms, digest_after, body };
            store.apply(&record, sequence).expect("the record states the digest its counts lead to");
        }
        done.store(true, Ordering::Relaxed);
        looking.join().expect("no panic")
    });
    assert!(seen.len() > 20, "{} rankings", seen.len());
    seen.sort_by_key(|(state, ..)| state.position);
    let (mut model, mut at) = (CountsModel::default(), 0);
    for (state, query, words) in &seen {
        while at < state.position.sequence {
            at += 1;
            let made = changes(at);
            model.apply(&made.iter().map(Changed::as_change).collect::<Vec<_>>());
        }
        if at > 0 {
            assert_eq!(state.digest, model.digest(HASHER), "record {at}");
        }
        let mut whole = expected(&model, query.prefix);
        if let Some((last, other)) = query.after {
            whole.retain(|(word, count)| *count < last || *count == last && word.as_str() > other);
        }
        whole.truncate(query.n);
        assert!(words == &whole, "a ranking of {} words at record {at} is another than {}", words.len(), whole.len());
    }
}
