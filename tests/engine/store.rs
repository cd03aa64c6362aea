//! The store from outside: against a model, and with readers beside a Writer that is flat out.

mod image;
mod model;
mod ranking;
mod readers;
mod script;
mod top;

#[test]
fn segments_do_not_share_entries() {
    let mut pair = model::Pair::new();
    for id in 700..2_000 {
        pair.apply(&[model::Changed { namespace: "words", dropped: false, counts: vec![(script::word(id), 5)] }]);
    }
    pair.check_all();
}
