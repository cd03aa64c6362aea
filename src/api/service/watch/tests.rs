//! A watcher beside a store that goes on, in one thread with made-up time; one test has two threads.

use super::*;
use crate::{
    base::failpoint::{Defect, inject_defect},
    base::hash::WordHasher,
    base::position::{EpochTable, Position},
    data::record::{
        EntryChange, EntryEffect, EntryValue, NamespaceChange, Record, RecordBody, RemovalCause, ValueEncoding,
        WordCount,
    },
    data::store::{DedupLimits, Store},
    storage::file_header::DatabaseIdentity,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
};

const KEY: CollectionId<'static> = CollectionId::new(CollectionKind::Cache, "words");

/// A database whose records a test makes.
struct History {
    store: Store,
    current: Arc<ServedDatabase>,
    epoch: u64,
    epochs: EpochTable,
    rankings: SharedRankings,
    time: WatchTime,
}

impl History {
    fn new(database_id: u128) -> Self {
        let identity = DatabaseIdentity { database_id, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 1 };
        let store = Store::new(WordHasher::new(1), DedupLimits::default());
        let current = Arc::new(ServedDatabase { identity, reader: store.reader() });
        let (epochs, rankings) = (EpochTable::default(), SharedRankings::default());
        Self { store, current, epoch: 1, epochs, rankings, time: WatchTime::default() }
    }

    fn apply(&mut self, counts: &[(&str, i64)], entries: Vec<EntryChange<'_>>) {
        let counts = counts.iter().map(|&(word, count)| WordCount { word, count }).collect();
        let changes = vec![NamespaceChange { namespace: "words", dropped: false, counts }];
        let position = Position::new(self.epoch, self.store.mark().position.sequence + 1);
        let body = RecordBody { changes, entries, keyed_writes: Vec::new() };
        let record = Record { position, time_ms: self.time.logged, digest_after: 0, body };
        self.store.apply_over_image(&record, 0).expect("few collections");
    }

    fn count(&mut self, counts: &[(&str, i64)]) {
        self.apply(counts, Vec::new());
    }

    fn put(&mut self, key: &str, value: &str, expires_ms: Option<u64>) {
        let expires = expires_ms.map(LoggedTime::from_ms);
        let (encoding, raw_bytes) = (ValueEncoding::Plain, value.len() as u32);
        let bytes = value.as_bytes();
        let value = EntryValue { content_type: "", expires, counted: false, encoding, raw_bytes, hash: &[], bytes };
        self.apply(&[], vec![EntryChange { collection: KEY, key, effect: EntryEffect::Put(value) }]);
    }

    fn remove(&mut self, key: &str, cause: RemovalCause) {
        self.apply(&[], vec![EntryChange { collection: KEY, key, effect: EntryEffect::Remove(cause) }]);
    }

    /// The next leadership begins.
    fn next_epoch(&mut self) {
        self.epochs.end(self.store.mark().position);
        self.store.set_epochs(self.epochs.clone());
        self.epoch += 1;
    }

    fn position(&self) -> PositionToken {
        self.current.identity.token(self.store.mark().position)
    }

    fn pass(&mut self, ms: u64) {
        self.time.now = self.time.now.after_ms(ms);
        self.time.logged = LoggedTime::from_ms(self.time.logged.as_ms() + ms);
    }

    /// What a watcher is sent now, as text.
    fn sent(&self, watcher: &mut WatchState) -> String {
        let event = watcher.look(&self.current, &self.rankings, self.time);
        event.map_or_else(|| "nothing".to_owned(), |event| shown(&event, watcher))
    }
}

fn shown(event: &WatchEvent, watcher: &WatchState) -> String {
    let mut parts = vec![event.position.position.to_string()];
    parts.extend(event.reset.map(|reason| reason.name().to_owned()));
    parts.extend(event.words.iter().map(|&number| {
        let (name, count) = watcher.word(number);
        format!("{name}={count}")
    }));
    parts.extend(event.entries.iter().map(|(number, entry)| {
        let value = entry.as_ref().map(|entry| String::from_utf8_lossy(&entry.value()).into_owned());
        format!("{}:{}", watcher.key(*number), value.unwrap_or_else(|| "-".to_owned()))
    }));
    let top = event.top.iter().flat_map(|ranking| ranking.largest(watcher.top().unwrap_or(0)));
    parts.extend(top.map(|(word, count)| format!("{word}#{count}")));
    parts.join(" ")
}

fn words(names: &[&'static str]) -> WatchState {
    let names: Vec<Cow<'_, str>> = names.iter().map(|name| Cow::Borrowed(*name)).collect();
    WatchState::of_values("words", &names, &[])
}

fn keys(keys: &[&'static str]) -> WatchState {
    let keys: Vec<Cow<'_, str>> = keys.iter().map(|key| Cow::Borrowed(*key)).collect();
    WatchState::of_values("words", &[], &keys)
}

#[test]
fn a_watcher_is_sent_all_first_and_then_what_has_changed() {
    let mut history = History::new(7);
    history.count(&[("hello", 2)]);
    let mut watcher = words(&["Hello", "world"]);
    assert_eq!(history.sent(&mut watcher), "1-1 Hello=2 world=0");
    assert_eq!(history.sent(&mut watcher), "nothing");
    history.count(&[("other", 1)]);
    assert_eq!(history.sent(&mut watcher), "nothing", "of others' words it hears nothing");
    history.count(&[("world", 1)]);
    history.count(&[("world", 2)]);
    assert_eq!(history.sent(&mut watcher), "1-4 world=2", "two changes between two looks are one");
    history.count(&[("hello", 0), ("world", 3)]);
    history.count(&[("world", 2)]);
    assert_eq!(history.sent(&mut watcher), "1-6 Hello=0", "what has changed and is as before is none");
}

#[test]
fn a_watcher_of_an_empty_database_is_sent_zeros() {
    let history = History::new(7);
    assert_eq!(history.sent(&mut words(&["hello"])), "0-0 hello=0");
    assert_eq!(history.sent(&mut keys(&["a"])), "0-0 a:-");
    assert_eq!(history.sent(&mut WatchState::of_top("words", 3)), "0-0");
}

/// A client goes on where it was: nothing is sent twice, and nothing is lost.
fn resumes() {
    let mut history = History::new(7);
    history.count(&[("hello", 2)]);
    let has = history.position();
    let mut again = words(&["hello"]).resume(Some(has));
    assert_eq!(history.sent(&mut again), "nothing");
    history.count(&[("hello", 3)]);
    assert_eq!(history.sent(&mut again), "1-2 hello=3");
    // Something has changed meanwhile: nobody knows what.
    let mut later = words(&["hello", "world"]).resume(Some(has));
    assert_eq!(history.sent(&mut later), "1-2 hello=3 world=0");
    assert_eq!(history.sent(&mut later), "nothing");
}

#[test]
fn a_client_that_comes_again_is_sent_what_it_has_not() {
    resumes();
}

#[test]
fn a_heartbeat_says_up_to_where_nothing_has_changed() {
    let mut history = History::new(7);
    history.count(&[("hello", 2)]);
    let mut watcher = words(&["hello"]);
    assert_eq!(watcher.heartbeat(), None, "it has nothing yet");
    history.sent(&mut watcher);
    history.count(&[("other", 1)]);
    assert_eq!(history.sent(&mut watcher), "nothing");
    let has = watcher.heartbeat();
    assert_eq!(has, Some(history.position()));
    assert_eq!(history.sent(&mut words(&["hello"]).resume(has)), "nothing");
}

#[test]
fn a_client_that_is_ahead_of_this_node_is_sent_nothing_older_than_it_has() {
    let (mut leader, mut replica) = (History::new(7), History::new(7));
    leader.count(&[("hello", 1)]);
    leader.count(&[("hello", 2)]);
    replica.count(&[("hello", 1)]);
    let mut watcher = words(&["hello"]).resume(Some(leader.position()));
    assert_eq!(replica.sent(&mut watcher), "nothing");
    assert_eq!(watcher.heartbeat(), Some(leader.position()));
    replica.pass(WATCH_PATIENCE_MS - 1);
    assert_eq!(replica.sent(&mut watcher), "nothing");
    assert_eq!(watcher.due_in_ms(replica.time), Some(1));
    let mut patient = words(&["hello"]).resume(Some(leader.position()));
    assert_eq!(replica.sent(&mut patient), "nothing");
    replica.pass(1);
    assert_eq!(replica.sent(&mut watcher), "1-1 position-ahead hello=1", "patience has ended");
    replica.count(&[("hello", 2)]);
    assert_eq!(replica.sent(&mut patient), "nothing", "this is what it has");
    replica.count(&[("hello", 3)]);
    assert_eq!(replica.sent(&mut patient), "1-3 hello=3");
}

/// A full sync puts another history in the place of the one that was watched.
fn loses_its_history() {
    let (mut old, mut new) = (History::new(7), History::new(7));
    for history in [&mut old, &mut new] {
        history.count(&[("hello", 1), ("same", 5)]);
    }
    let mut watcher = words(&["hello", "same"]);
    old.sent(&mut watcher);
    old.count(&[("hello", 9)]);
    assert_eq!(old.sent(&mut watcher), "1-2 hello=9");
    new.next_epoch();
    new.count(&[("hello", 2)]);
    assert_eq!(new.sent(&mut watcher), "2-2 position-lost hello=2 same=5");
    new.count(&[("hello", 3)]);
    assert_eq!(new.sent(&mut watcher), "2-3 hello=3");
    let mut again = words(&["hello"]).resume(Some(old.position()));
    assert_eq!(new.sent(&mut again), "2-3 position-lost hello=3");
    let mut other = History::new(8);
    other.count(&[("hello", 3)]);
    assert_eq!(other.sent(&mut watcher), "1-1 position-other-database hello=3 same=0");
}

#[test]
fn a_watcher_is_told_to_forget_what_a_lost_history_has_said() {
    loses_its_history();
}

#[test]
fn a_watcher_goes_on_where_its_history_goes_on_in_another_store() {
    let (mut old, mut new) = (History::new(7), History::new(7));
    old.count(&[("hello", 1)]);
    let mut watcher = words(&["hello"]);
    old.sent(&mut watcher);
    new.count(&[("hello", 1)]);
    new.next_epoch();
    new.count(&[("hello", 2)]);
    assert_eq!(new.sent(&mut watcher), "2-2 hello=2");
    new.next_epoch();
    assert_eq!(new.sent(&mut watcher), "nothing");
}

#[test]
fn entries_are_sent_as_they_come_change_and_go() {
    let mut history = History::new(7);
    history.put("a", "one", None);
    let mut watcher = keys(&["a", "b"]);
    assert_eq!(history.sent(&mut watcher), "1-1 a:one b:-");
    history.put("a", "one", None);
    assert_eq!(history.sent(&mut watcher), "nothing", "the same again is no change");
    history.put("b", "two", Some(500));
    assert_eq!(history.sent(&mut watcher), "1-3 b:two");
    assert_eq!(watcher.due_in_ms(history.time), Some(500));
    history.put("b", "two", Some(400));
    assert_eq!(history.sent(&mut watcher), "1-4 b:two", "its time has changed");
    history.pass(399);
    assert_eq!(history.sent(&mut watcher), "nothing");
    history.pass(1);
    assert_eq!(watcher.due_in_ms(history.time), Some(0));
    assert_eq!(history.sent(&mut watcher), "1-4 b:-", "gone before a record says so");
    assert_eq!(watcher.due_in_ms(history.time), None);
    history.remove("b", RemovalCause::Expired);
    assert_eq!(history.sent(&mut watcher), "nothing", "it was gone");
    history.remove("a", RemovalCause::Deleted);
    assert_eq!(history.sent(&mut watcher), "1-6 a:-");
}

#[test]
fn a_client_that_comes_again_is_told_of_what_has_expired_at_its_position() {
    let mut history = History::new(7);
    history.put("a", "one", Some(100));
    let has = history.position();
    history.pass(50);
    assert_eq!(history.sent(&mut keys(&["a"]).resume(Some(has))), "nothing");
    history.pass(50);
    assert_eq!(history.sent(&mut keys(&["a"]).resume(Some(has))), "1-1 a:-");
}

#[test]
fn words_and_keys_of_one_watcher_are_of_one_position() {
    let mut history = History::new(7);
    let mut watcher = WatchState::of_values("words", &["hello".into()], &["a".into()]);
    history.put("a", "one", None);
    assert_eq!(history.sent(&mut watcher), "1-1 hello=0 a:one");
    history.count(&[("hello", 1)]);
    history.put("a", "two", None);
    assert_eq!(history.sent(&mut watcher), "1-3 hello=1 a:two");
}

/// Watchers of the largest counts share a ranking for a moment, and see the last one in the end.
fn ranks_again() {
    let mut history = History::new(7);
    history.count(&[("a", 1), ("b", 2)]);
    let (mut first, mut second) = (WatchState::of_top("words", 1), WatchState::of_top("words", 3));
    assert_eq!(history.sent(&mut first), "1-1 b#2");
    history.count(&[("a", 3)]);
    assert_eq!(history.sent(&mut second), "1-1 b#2 a#1", "the ranking of a moment ago");
    assert_eq!(history.sent(&mut first), "nothing");
    assert_eq!(first.due_in_ms(history.time), Some(RANKING_AGE_MS), "it has to look again");
    history.pass(RANKING_AGE_MS);
    assert_eq!((history.sent(&mut first), history.sent(&mut second)), ("1-2 a#3".into(), "1-2 a#3 b#2".into()));
    assert_eq!(first.due_in_ms(history.time), None);
    history.count(&[("c", 1)]);
    history.pass(RANKING_AGE_MS);
    assert_eq!((history.sent(&mut first), history.sent(&mut second)), ("nothing".into(), "1-3 a#3 b#2 c#1".into()));
}

#[test]
fn the_largest_counts_are_ranked_for_all_and_again_after_a_while() {
    ranks_again();
}

#[test]
fn a_watcher_is_sent_no_ranking_that_is_older_than_what_it_has() {
    let mut history = History::new(7);
    history.count(&[("a", 1)]);
    history.sent(&mut WatchState::of_top("words", 1));
    history.count(&[("a", 2)]);
    let mut again = WatchState::of_top("words", 1).resume(Some(history.position()));
    assert_eq!(history.sent(&mut again), "nothing", "it has this one");
    history.count(&[("a", 3)]);
    history.pass(RANKING_AGE_MS);
    assert_eq!(history.sent(&mut again), "1-3 a#3");
}

/// Ends a writer also where an assertion fails, since its scope waits for it.
struct WriterStop<'a>(&'a AtomicBool);

impl Drop for WriterStop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Records that set all words to their number, while a watcher looks: each event has one number, its position's.
fn reads_one_position() {
    // As many words as make it likely that a record comes between two of them.
    const WORDS: usize = 100;
    // Records come until so many looks have found one: a thread that starts late looks at as many.
    const EVENTS: usize = 300;
    let mut history = History::new(7);
    let (current, has_seen_enough) = (Arc::clone(&history.current), AtomicBool::new(false));
    let names: Vec<String> = (0..WORDS).map(|at| format!("w{at}")).collect();
    let named: Vec<Cow<'_, str>> = names.iter().map(|name| Cow::Borrowed(&**name)).collect();
    let mut watcher = WatchState::of_values("words", &named, &[]);
    let mut events = 0;
    let last = std::thread::scope(|scope| {
        let stop = WriterStop(&has_seen_enough);
        let writer = scope.spawn(|| {
            for number in 1.. {
                history.count(&names.iter().map(|name| (&**name, number)).collect::<Vec<_>>());
                if has_seen_enough.load(Ordering::Relaxed) {
                    return number;
                }
            }
            unreachable!("it ends long before")
        });
        let rankings = SharedRankings::default();
        let mut looks_on = true;
        while looks_on {
            looks_on = !writer.is_finished();
            let Some(event) = watcher.look(&current, &rankings, WatchTime::default()) else { continue };
            let expected = event.position.position.sequence as i64;
            let counts: Vec<i64> = event.words.iter().map(|&number| watcher.word(number).1).collect();
            assert_eq!(counts, [expected; WORDS], "all values of an event are those of its position");
            events += 1;
            has_seen_enough.fetch_or(events >= EVENTS, Ordering::Relaxed);
        }
        drop(stop);
        writer.join().expect("it writes")
    });
    assert_eq!(watcher.word(0).1, last, "the last value is sent, however the looks fall");
    assert!(events >= EVENTS);
}

#[test]
fn the_values_of_an_event_are_those_of_its_position_while_records_come() {
    reads_one_position();
}

#[test]
fn each_planted_bug_is_noticed() {
    let scenes: [(Defect, fn()); 4] = [
        (Defect::WatchesAtTwoPositions, reads_one_position),
        (Defect::ResumesFromAnyPosition, resumes),
        (Defect::KeepsValuesOfALostHistory, loses_its_history),
        (Defect::TakesOldRankings, ranks_again),
    ];
    for (defect, scene) in scenes {
        let _injected = inject_defect(Some(defect));
        assert!(catch_unwind(AssertUnwindSafe(scene)).is_err(), "{defect:?} goes unnoticed");
    }
}
