//! A snapshot's way into a store: an image whose counts are of many positions, then the records that settle them.

use super::{
    model::{Changed, HASHER, Pair},
    script::{self, Step},
};
use memdb::{
    base::clock::LoggedTime,
    base::position::Position,
    data::record::{Record, RecordBody},
    data::store::{DedupLimits, StateId, Store},
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// The image is walked while records are applied, as a snapshot's is: piece by piece, each at the position of
    /// its moment. With all records up to the end of the walk applied over it, it is the state at that end.
    #[test]
    fn an_image_walked_beside_writes_becomes_the_state_at_its_end(
        before in proptest::collection::vec(script::step(), 1..6),
        during in proptest::collection::vec(script::step(), 1..8),
        pieces_between in 1usize..60,
    ) {
        let changes = |steps: &[Vec<Step>]| -> Vec<Vec<Changed>> {
            steps.iter().map(|step| step.iter().map(Step::change).collect()).collect()
        };
        let (before, during) = (changes(&before), changes(&during));
        let mut source = Pair::new();
        before.iter().for_each(|step| source.apply(step));
        let start = source.store.mark();

        let mut image: Vec<(String, Vec<(String, i64)>)> = Vec::new();
        let mut left = during.iter();
        let mut applied: Vec<(&Vec<Changed>, u64)> = Vec::new();
        let reader = source.store.reader();
        let names: Vec<String> = reader.read().namespaces().into_iter().map(|(name, _)| name).collect();
        for name in names {
            let Some(mut scan) = reader.scan(&name) else { continue };
            let mut piece = Vec::new();
            let mut steps = 0;
            while scan.step(|word, count| piece.push((word.to_owned(), count))) {
                steps += 1;
                if steps % pieces_between == 0 && let Some(step) = left.next() {
                    source.apply(step);
                    applied.push((step, source.model.digest(HASHER)));
                }
            }
            image.push((name, piece));
        }
        let end = source.store.mark();

        let mut loaded = Pair { store: Store::new(HASHER, DedupLimits::default()), model: source.model.clone() };
        for (name, counts) in &image {
            let namespace = script::NAMESPACES.into_iter().find(|known| known == name).expect("one of ours");
            for piece in counts.chunks(1_000) {
                let change = Changed { namespace, dropped: false, counts: piece.to_vec() };
                loaded.store.load_image(&change.as_change());
            }
        }
        loaded.store.end_image();
        let mut position = start.position;
        for (step, digest_after) in applied {
            position = Position::new(1, position.sequence + 1);
            let body = RecordBody { entries: Vec::new(), changes: step.iter().map(Changed::as_change).collect(), keyed_writes: Vec::new() };
            let record = Record { position, time_ms: LoggedTime::from_ms(1), digest_after, body };
            loaded.store.apply_over_image(&record, position.sequence * 3).expect("no collections");
        }
        prop_assert_eq!(loaded.store.mark(), if position == start.position { StateId::default() } else { end });
        loaded.store.set_state_id(end, LoggedTime::from_ms(77));
        prop_assert_eq!((loaded.store.mark(), loaded.store.reader().read().state_id()), (end, end));
        prop_assert_eq!((loaded.store.time_ms(), loaded.store.reader().state_id_with_window()), (LoggedTime::from_ms(77), (end, LoggedTime::from_ms(77))));
        loaded.check_all();
        // And it goes on from there as any store does.
        for step in left {
            loaded.apply(step);
        }
        loaded.check_all();
    }
}

/// A word that is gone, in a table that was replaced while it was walked, must not show another word's count.
#[test]
fn a_walk_over_a_table_that_was_rebuilt_shows_no_count_of_another_word() {
    let mut pair = Pair::new();
    let word = |id: u32| format!("w{id}");
    let set = |pair: &mut Pair, ids: std::ops::Range<u32>, count: i64| {
        let counts = ids.map(|id| (word(id), count)).collect();
        pair.apply(&[Changed { namespace: "words", dropped: false, counts }]);
    };
    set(&mut pair, 0..60_000, 1);
    // Counts too large for a cell, and gone again; a few a segment, so that they stay where they are.
    set(&mut pair, 0..6_000, i64::MAX);
    set(&mut pair, 0..6_000, 0);
    let mut scan = pair.store.reader().scan("words").expect("it is there");
    assert!(scan.step(|_, _| {}), "the first segment's table is held from here on");
    // Enough goes for every segment to be rebuilt, and new large counts come.
    set(&mut pair, 6_000..30_000, 0);
    set(&mut pair, 0..1, 1);
    set(&mut pair, 100_000..110_000, i64::MIN);
    set(&mut pair, 0..1, 1);
    while scan.step(|word, count| assert!(count == 1 || word.len() == 7, "{word} {count}")) {}
}
