//! Random groups of random batches against a model that takes them one by one; then again after a restart.

use super::node::{Answer, Node, Options, batch};
use memdb::{
    data::command::{IdempotencyKey, WriteBatch},
    data::counts::WriteOp,
    engine::leader::WriteError,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

const NAMESPACES: [&str; 3] = ["words", "b", "c"];
const WORDS: [&str; 5] = ["v", "w", "x", "y", "a word longer than a unit of the arena"];
const KEYS: [&str; 3] = ["k", "l", "m"];

/// Batches taken one by one, whatever their groups.
#[derive(Default)]
struct Model {
    counts: BTreeMap<(String, String), i64>,
    /// By namespace and name.
    keys: HashMap<(String, String), u128>,
    streams: HashMap<(String, String), (u64, u128)>,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Counted,
    Repeat,
    Refused(WriteError),
}

impl Model {
    fn take(&mut self, batch: &WriteBatch) -> Outcome {
        let scoped = |name: &str| (batch.namespace.to_string(), name.to_owned());
        match &batch.key {
            Some(IdempotencyKey::Key(key)) => match self.keys.get(&scoped(key)) {
                Some(known) if *known == batch.fingerprint => return Outcome::Repeat,
                Some(_) => return Outcome::Refused(WriteError::KeyReused),
                None => {}
            },
            Some(IdempotencyKey::Stream { name, sequence }) => {
                let (last, fingerprint) = self.streams.get(&scoped(name)).copied().unwrap_or((0, 0));
                if *sequence > last + 1 {
                    return Outcome::Refused(WriteError::StreamGap { expected: last + 1 });
                }
                if *sequence == last && fingerprint != batch.fingerprint {
                    return Outcome::Refused(WriteError::KeyReused);
                }
                if *sequence <= last {
                    return Outcome::Repeat;
                }
            }
            Some(IdempotencyKey::Lines { name, done, so_far, .. }) => {
                let (last, fingerprint) = self.streams.get(&scoped(name)).copied().unwrap_or((0, *so_far));
                if *done != last {
                    return Outcome::Refused(WriteError::StreamGap { expected: last + 1 });
                }
                if *so_far != fingerprint {
                    return Outcome::Refused(WriteError::KeyReused);
                }
            }
            None => {}
        }
        let mut counts = self.counts.clone();
        match batch.op {
            WriteOp::DropNamespace => counts.retain(|(namespace, _), _| *namespace != *batch.namespace),
            verb => {
                for counted in batch.counts.iter() {
                    let word = (batch.namespace.to_string(), counted.word.to_owned());
                    let count = counts.entry(word).or_insert(0);
                    *count = match (verb, count.checked_add(counted.amount)) {
                        (WriteOp::RemoveWords, _) => 0,
                        // Up to the bound, or from beyond it toward zero.
                        (WriteOp::AddGiven, sum) => match sum {
                            Some(sum) if sum.unsigned_abs() <= count.unsigned_abs().max(1 << 62) => sum,
                            _ => return Outcome::Refused(WriteError::BeyondBound { word: counted.word.to_owned() }),
                        },
                        (_, Some(sum)) => sum,
                        (_, None) => {
                            return Outcome::Refused(WriteError::Overflow { word: counted.word.to_owned() });
                        }
                    };
                }
            }
        }
        counts.retain(|_, count| *count != 0);
        self.counts = counts;
        match &batch.key {
            Some(IdempotencyKey::Key(key)) => _ = self.keys.insert(scoped(key), batch.fingerprint),
            Some(IdempotencyKey::Stream { name, sequence: last } | IdempotencyKey::Lines { name, upto: last, .. }) => {
                _ = self.streams.insert(scoped(name), (*last, batch.fingerprint));
            }
            None => {}
        }
        Outcome::Counted
    }
}

fn outcome(answer: &Answer) -> Outcome {
    match answer {
        Ok(receipt) if receipt.replayed => Outcome::Repeat,
        Ok(_) => Outcome::Counted,
        Err(error) => Outcome::Refused(error.clone()),
    }
}

fn any_batch() -> impl Strategy<Value = WriteBatch> {
    let amount = prop_oneof![5 => -3i64..4, 1 => prop::sample::select(vec![i64::MIN, i64::MAX, 1 << 62, -(1 << 62), 1 << 41, -(1 << 20)])];
    let words = prop::collection::vec((prop::sample::select(WORDS.to_vec()), amount), 0..4).prop_map(|words| {
        words.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect::<Vec<_>>() // each word once
    });
    let verb = prop_oneof![4 => Just(WriteOp::Add), 2 => Just(WriteOp::AddGiven), 2 => Just(WriteOp::RemoveWords), 1 => Just(WriteOp::DropNamespace)];
    let once = prop_oneof![
        3 => Just(None),
        1 => prop::sample::select(KEYS.to_vec()).prop_map(|key| Some(IdempotencyKey::Key(key.into()))),
        1 => (prop::sample::select(KEYS.to_vec()), 1u64..5)
            .prop_map(|(name, sequence)| Some(IdempotencyKey::Stream { name: name.into(), sequence })),
        1 => (prop::sample::select(KEYS.to_vec()), 0u64..4, 1u64..3, prop::bool::weighted(0.9)).prop_map(lines),
    ];
    (prop::sample::select(NAMESPACES.to_vec()), verb, words, once).prop_map(|(namespace, verb, words, once)| {
        let words = if verb == WriteOp::DropNamespace { Vec::new() } else { words };
        let batch = batch(namespace, verb, &words);
        let fingerprint = match &once {
            Some(IdempotencyKey::Lines { upto, .. }) => hash_of_lines(*upto),
            _ => batch.fingerprint,
        };
        WriteBatch { entries: Vec::new(), key: once, fingerprint, ..batch }
    })
}

/// Lines of one text, which all senders of a name have, or of another.
fn lines((name, done, more, same): (&str, u64, u64, bool)) -> Option<IdempotencyKey> {
    let so_far = if same { hash_of_lines(done) } else { 1 };
    Some(IdempotencyKey::Lines { name: name.into(), done, so_far, upto: done + more, words: 0, left_out: 0 })
}

fn hash_of_lines(done: u64) -> u128 {
    u128::from(done) << 64
}

fn check(node: &Node, model: &Model) {
    let reader = node.store().reader();
    let mut stored = BTreeMap::new();
    for namespace in NAMESPACES {
        if let Some(mut scan) = reader.scan(namespace) {
            while scan.step(|word, count| _ = stored.insert((namespace.to_owned(), word.to_owned()), count)) {}
        }
    }
    assert_eq!(stored, model.counts);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_group_is_as_good_as_its_batches_one_by_one(
        groups in prop::collection::vec(prop::collection::vec(any_batch(), 1..8), 1..10),
    ) {
        let (mut node, mut model) = (Node::new(Options::default()), Model::default());
        for (at, group) in groups.iter().enumerate() {
            let expected: Vec<_> = group.iter().map(|batch| model.take(batch)).collect();
            let answers = node.group(group.iter().cloned());
            prop_assert_eq!(answers.iter().map(outcome).collect::<Vec<_>>(), expected);
            if at == groups.len() / 2 {
                node = node.restart(Options::default());
            }
            check(&node, &model);
        }
        check(&node.restart(Options::default()), &model);
    }
}
