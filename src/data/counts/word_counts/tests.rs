//! Word counts: found, ordered, kept in a pool.

use super::*;

#[test]
fn counts_words_in_order_of_first_sight() {
    let mut tally = WordCounts::new(WordHasher::new(1));
    for word in ["b", "a", "b", ""] {
        tally.add(word, 1).expect("small amounts");
    }
    let seen: Vec<_> = tally.iter().map(|counted| (counted.word, counted.amount)).collect();
    assert_eq!(seen, [("b", 2), ("a", 1), ("", 1)]);
    assert_eq!((tally.len(), tally.text_bytes()), (3, 2));
    tally.clear();
    assert!(tally.is_empty() && tally.get(tally.hasher.hash("b"), "b").is_none());
}

#[test]
fn a_tally_of_a_pool_comes_back_empty_with_its_memory() {
    let (pool, hasher) = (WordCountsPool::new(1, 1_000), WordHasher::new(1));
    let (mut first, second) = (pool.take(hasher), pool.take(hasher));
    first.add("a", 1).expect("fits");
    let copy = first.clone();
    drop(first);
    drop((second, copy));
    assert_eq!(pool.free.lock().len(), 1);
    let again = pool.take(hasher);
    assert!(again.is_empty() && again.entries.capacity() > 0);
}

#[test]
fn a_tally_that_an_unusual_text_has_made_large_is_not_kept() {
    let (pool, hasher) = (WordCountsPool::new(1, 1_000), WordHasher::new(1));
    let mut tally = pool.take(hasher);
    tally.add(&"a".repeat(1_000), 1).expect("fits");
    drop(tally);
    assert_eq!(pool.free.lock().len(), 0);
}

#[test]
fn overflow_leaves_the_amount_as_it_was() {
    let hasher = WordHasher::new(1);
    let mut tally = WordCounts::new(hasher);
    tally.add("a", i64::MAX).expect("fits");
    assert_eq!(tally.add("a", 1), Err(CountOverflow));
    assert_eq!(tally.get(hasher.hash("a"), "a"), Some(i64::MAX));
}

#[test]
fn in_the_order_of_hashes_every_word_is_found_and_goes_on() {
    let hasher = WordHasher::new(1);
    let mut tally = WordCounts::new(hasher);
    for turn in 1..4 {
        let words: Vec<String> = (0..5_000).map(|at| format!("w{at}")).collect();
        let some = if turn == 2 { &words[..10] } else { &words[..] };
        some.iter().for_each(|word| tally.add(word, 1).expect("small amounts"));
        tally.order_by_hash();
        some.iter().for_each(|word| tally.add(word, turn).expect("small amounts"));
        assert!(tally.hashes().map(|hash| hash >> 56).is_sorted());
        let mut counted: Vec<_> = tally.iter().map(|counted| (counted.word, counted.amount)).collect();
        counted.sort_unstable();
        let mut expected: Vec<_> = some.iter().map(|word| (word.as_str(), turn + 1)).collect();
        expected.sort_unstable();
        assert_eq!(counted, expected);
        assert!(some.iter().all(|word| tally.get(hasher.hash(word), word) == Some(turn + 1)));
        tally.clear();
        assert!(tally.is_empty() && some.iter().all(|word| tally.get(hasher.hash(word), word).is_none()));
    }
}

#[test]
fn equal_hashes_do_not_merge_words() {
    let mut tally = WordCounts::new(WordHasher::new(1));
    tally.add_hashed(9, "a", 1).expect("fits");
    tally.add_hashed(9, "b", 2).expect("fits");
    assert_eq!((tally.get(9, "a"), tally.get(9, "b")), (Some(1), Some(2)));
}
