//! Quotas of namespaces: what a leader admits, within a commit group and over several.

use super::node::{Node, Options, add, batch};
use memdb::{
    data::counts::{
        WriteOp,
        quotas::{NamespaceQuota, QuotaKind, QuotaTable, SharedQuotas},
    },
    engine::leader::WriteError,
};

fn with_quota(words: Option<u64>, bytes: Option<u64>) -> (Node, SharedQuotas) {
    let (quotas, mut node) = (SharedQuotas::default(), Node::new(Options::default()));
    quotas.set(table(words, bytes));
    node.writer = node.writer.with_quotas(quotas.clone());
    (node, quotas)
}

fn table(words: Option<u64>, bytes: Option<u64>) -> QuotaTable {
    QuotaTable { named: [("words".into(), NamespaceQuota { words, bytes })].into(), others: None }
}

fn full<T>(kind: QuotaKind) -> Result<T, WriteError> {
    Err(WriteError::NamespaceFull(kind))
}

#[test]
fn a_quota_of_words_is_exact_within_a_group_and_over_groups() {
    let (mut node, quotas) = with_quota(Some(3), None);
    let answers = node.group([
        add(&[("a", 1), ("b", 1)]),
        add(&[("c", 1), ("d", 1)]), // one too many: refused whole
        add(&[("c", 1), ("a", 1)]),
        add(&[("d", 1)]),
        batch("other", WriteOp::Add, &[("d", 1)]),
    ]);
    let refused: Vec<_> = answers.into_iter().map(Result::err).collect();
    let is_full = Some(WriteError::NamespaceFull(QuotaKind::Words));
    assert_eq!(refused, [None, is_full.clone(), None, is_full.clone(), None]);
    assert_eq!(["a", "b", "c", "d"].map(|word| node.count(word)), [2, 1, 1, 0]);
    assert_eq!(node.one(add(&[("d", 1)])).map(drop), full(QuotaKind::Words));
    node.one(add(&[("a", 1), ("b", 1), ("c", 1)])).expect("known words go on counting");
    // A word makes room by being taken away, or by coming down to zero, in the group at hand too.
    let answers = node.group([batch("words", WriteOp::RemoveWords, &[("a", 1)]), add(&[("d", 1)]), add(&[("a", 1)])]);
    assert_eq!(answers.into_iter().map(Result::err).collect::<Vec<_>>(), [None, None, is_full.clone()]);
    node.one(add(&[("d", -1), ("e", 1)])).expect("one for one");
    assert_eq!(node.one(add(&[("f", 1)])).map(drop), full(QuotaKind::Words));
    let answers = node.group([
        batch("words", WriteOp::DropNamespace, &[]),
        add(&[("x", 1), ("y", 1), ("z", 1)]),
        add(&[("w", 1)]),
    ]);
    assert_eq!(answers.into_iter().map(Result::err).collect::<Vec<_>>(), [None, None, is_full]);
    // What is there stays under a smaller quota, and goes on counting.
    quotas.set(table(Some(1), None));
    node.one(add(&[("x", 1)])).expect("it is known");
    assert_eq!(node.one(add(&[("w", 1)])).map(drop), full(QuotaKind::Words));
    quotas.set(QuotaTable::default());
    node.one(add(&[("w", 1)])).expect("there is no quota");
}

#[test]
fn a_quota_of_bytes_is_never_exceeded_by_words() {
    const BYTES: u64 = 60_000;
    let (mut node, _quotas) = with_quota(None, Some(BYTES));
    let word = |at: usize| format!("word-{at}");
    let mut next = 0;
    let refused = loop {
        let words: Vec<String> = (next..next + 40).map(word).collect();
        let batches =
            words.chunks(10).map(|words| add(&words.iter().map(|word| (word.as_str(), 1)).collect::<Vec<_>>()));
        let answers = node.group(batches);
        let size = node.store().reader().read().namespace_sizes().remove(0);
        assert!(size.bytes <= BYTES, "{} bytes", size.bytes);
        match answers.into_iter().find_map(Result::err) {
            Some(error) => break error,
            None => next += 40,
        }
    };
    assert_eq!(refused, WriteError::NamespaceFull(QuotaKind::Bytes));
    assert!(next > 400, "{next} words");
    node.one(add(&[("word-0", 1)])).expect("it takes no room");
    node.one(batch("other", WriteOp::Add, &[("new", 1)])).expect("it has no quota");
}
