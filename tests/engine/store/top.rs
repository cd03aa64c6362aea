//! `/top` while words rise and fall: the threshold of its candidates is raised and lowered on the way.

use super::model::{Changed, Pair};
use memdb::base::limits;

fn set(pair: &mut Pair, counts: impl IntoIterator<Item = (String, i64)>) {
    pair.apply(&[Changed { namespace: "words", dropped: false, counts: counts.into_iter().collect() }]);
}

fn check(pair: &Pair) {
    let reader = pair.store.reader();
    for n in [1, 7, limits::MAX_TOP] {
        assert_eq!(reader.top("words", n).1, pair.model.top("words", n));
    }
}

fn word(number: i64) -> String {
    format!("w{number:06}")
}

#[test]
fn tops_hold_when_the_largest_fall_one_by_one_and_together() {
    let mut pair = Pair::new();
    let words = 2 * limits::TOP_CANDIDATES as i64 + 500;
    set(&mut pair, (0..words).map(|at| (word(at), 10 + at / 3)));
    check(&pair);
    // The largest go, a few hundred a record, until fewer words are left than a top has.
    let mut left = words;
    while left > 700 {
        set(&mut pair, (left - 640..left).map(|at| (word(at), if at % 2 == 0 { 0 } else { 1 })));
        left -= 640;
        check(&pair);
    }
    set(&mut pair, (0..words).map(|at| (word(at), 5)));
    check(&pair);
    set(&mut pair, (0..words).map(|at| (word(at), -at)));
    check(&pair);
    pair.check_all();
}

/// Words that go up and down over the threshold are listed again each time; thinning the list out must not let the
/// threshold sink below words that were never listed.
#[test]
fn words_that_cross_the_threshold_again_and_again_hide_nobody() {
    let mut pair = Pair::new();
    // The threshold comes to stand at the 4,096th of these; the words just behind it are not listed.
    set(&mut pair, (0..30_000).map(|at| (word(at), 1_000_000 - at * 10)));
    // Half of the candidates fall: fewer rank than the list has entries.
    set(&mut pair, (0..2_000).map(|at| (word(at), 1)));
    for round in 0..12 {
        // Small words rise to the very top and fall back, again and again.
        let crossing = || (28_000 + round % 2 * 500..28_500 + round % 2 * 500).map(word);
        set(&mut pair, crossing().map(|word| (word, 2_000_000)));
        set(&mut pair, crossing().map(|word| (word, 3)));
        check(&pair);
    }
    // The candidates fall one after the other; the words behind them must come up in order.
    for first in (2_000..24_000).step_by(500) {
        set(&mut pair, (first..first + 500).map(|at| (word(at), 1)));
        check(&pair);
    }
}
