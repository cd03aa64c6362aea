//! The window: new, repeated, forgotten, full, walked over.

use super::*;

const LIMITS: DedupLimits = DedupLimits { keys: 3, key_age_ms: 100, streams: 2, stream_age_ms: 1_000 };

fn window() -> DedupWindow {
    DedupWindow::new(WordHasher::new(1), LIMITS)
}

const fn ms(ms: u64) -> LoggedTime {
    LoggedTime::from_ms(ms)
}

fn settled(name: &str, stream_sequence: u64, fingerprint: u128) -> KeyedWrite<'_> {
    KeyedWrite {
        namespace: "words",
        name,
        stream_sequence,
        fingerprint,
        words: 2,
        distinct: 1,
        left_out: 0,
        entries: 0,
    }
}

fn key(name: &str) -> IdempotencyKey {
    IdempotencyKey::Key(name.into())
}

fn stream(name: &str, sequence: u64) -> IdempotencyKey {
    IdempotencyKey::Stream { name: name.into(), sequence }
}

#[test]
fn a_key_is_new_then_a_repeat_then_forgotten() {
    let mut window = window();
    assert_eq!(window.check(("words", &key("a"), 7), ms(0), 0), RepeatCheck::New);
    window.record(&settled("a", 0, 7), Position::new(1, 1), ms(10));
    assert!(
        matches!(window.check(("words", &key("a"), 7), ms(109), 0), RepeatCheck::Repeat(entry) if entry.position == Position::new(1, 1))
    );
    assert_eq!(window.check(("words", &key("a"), 8), ms(109), 0), RepeatCheck::Reused);
    assert_eq!(window.check(("words", &key("a"), 7), ms(110), 0), RepeatCheck::New);
    window.expire(ms(110));
    assert_eq!(window.len(), (0, 0));
}

#[test]
fn old_streams_leave_once_there_is_no_room() {
    let mut window = window();
    window.record(&settled("a", 1, 7), Position::new(1, 1), ms(0));
    window.record(&settled("b", 1, 7), Position::new(1, 2), ms(0));
    window.expire(ms(999));
    assert_eq!(window.len(), (0, 2));
    window.expire(ms(1_000));
    assert_eq!(window.len(), (0, 0));
}

#[test]
fn the_running_fingerprint_of_a_stream_is_of_all_its_writes() {
    let running = |first| {
        let mut window = window();
        window.record(&settled("a", 1, first), Position::new(1, 1), ms(0));
        window.record(&settled("a", 2, 9), Position::new(1, 2), ms(0));
        window.stream_entry("words", "a").expect("settled").running
    };
    assert_eq!(running(7), running(7));
    assert_ne!(running(7), running(8));
}

#[test]
fn a_key_used_again_after_its_age_is_the_new_one() {
    let mut window = window();
    window.record(&settled("a", 0, 7), Position::new(1, 1), ms(0));
    window.record(&settled("a", 0, 8), Position::new(1, 2), ms(150));
    assert!(matches!(window.check(("words", &key("a"), 8), ms(151), 0), RepeatCheck::Repeat(_)));
    window.expire(ms(151));
    assert!(
        matches!(window.check(("words", &key("a"), 8), ms(151), 0), RepeatCheck::Repeat(_)),
        "the old entry left alone"
    );
    assert_eq!(window.len(), (1, 0));
}

#[test]
fn a_full_window_refuses_and_forgets_nobody() {
    let mut window = window();
    for (sequence, name) in ["a", "b", "c"].into_iter().enumerate() {
        window.record(&settled(name, 0, 7), Position::new(1, sequence as u64 + 1), ms(0));
    }
    assert_eq!(window.check(("words", &key("d"), 7), ms(50), 0), RepeatCheck::Full);
    assert!(matches!(window.check(("words", &key("a"), 7), ms(50), 0), RepeatCheck::Repeat(_)));
    window.record(&settled("s", 1, 7), Position::new(1, 4), ms(0));
    window.record(&settled("t", 1, 7), Position::new(1, 5), ms(0));
    assert_eq!(window.check(("words", &stream("u", 1), 7), ms(50), 0), RepeatCheck::Full);
    assert_eq!(window.check(("words", &stream("s", 2), 7), ms(50), 0), RepeatCheck::New);
}

#[test]
fn an_entry_too_old_takes_no_room_although_no_record_came() {
    let mut window = window();
    for (sequence, name) in ["a", "b", "c"].into_iter().enumerate() {
        window.record(&settled(name, 0, 7), Position::new(1, sequence as u64 + 1), ms(sequence as u64));
    }
    window.record(&settled("s", 1, 7), Position::new(1, 4), ms(2));
    window.record(&settled("t", 1, 7), Position::new(1, 5), ms(3));
    assert_eq!(window.check(("words", &key("d"), 7), ms(99), 0), RepeatCheck::Full);
    assert_eq!(window.check(("words", &key("d"), 7), ms(101), 1), RepeatCheck::New, "a and b are too old");
    assert_eq!(window.check(("words", &key("d"), 7), ms(101), 2), RepeatCheck::Full, "their room is taken");
    assert_eq!(window.check(("words", &stream("u", 1), 7), ms(1_001), 0), RepeatCheck::Full);
    assert_eq!(window.check(("words", &stream("u", 1), 7), ms(1_002), 0), RepeatCheck::New);
}

#[test]
fn older_records_over_a_later_window_bring_nothing_back() {
    let mut window = window();
    // As a snapshot's window has them at its end: "a", of an earlier record, has left.
    window.restore(DedupEntry::new(&settled("b", 0, 7), 0, Position::new(1, 2), ms(150)));
    window.expire(ms(10));
    window.record(&settled("a", 0, 7), Position::new(1, 1), ms(10));
    assert_eq!(window.chunk(&mut DedupCursor::default(), 9).len(), 1, "a would lie behind b, which is younger");
    assert_eq!(window.time_ms(), ms(150));
}

#[test]
fn a_key_that_left_by_the_end_of_a_walk_does_not_come_back_behind_younger_ones() {
    let mut window = window();
    // The walk ended at 105 ms, when "a" had left; the key that is left alone does not say so.
    window.restore(DedupEntry::new(&settled("b", 0, 7), 0, Position::new(1, 2), ms(50)));
    window.record(&settled("a", 0, 7), Position::new(1, 1), ms(0));
    assert_eq!(window.len(), (1, 0));
    window.record(&settled("c", 0, 7), Position::new(1, 2), ms(50));
    assert_eq!(window.len(), (2, 0), "it is of the same record");
}

#[test]
fn a_stream_goes_on_by_one() {
    let mut window = window();
    assert_eq!(window.check(("words", &stream("s", 2), 7), ms(0), 0), RepeatCheck::Gap { expected: 1 });
    window.record(&settled("s", 1, 7), Position::new(1, 1), ms(0));
    window.record(&settled("s", 2, 8), Position::new(1, 2), ms(0));
    assert_eq!(window.check(("words", &stream("s", 4), 9), ms(0), 0), RepeatCheck::Gap { expected: 3 });
    assert_eq!(window.check(("words", &stream("s", 3), 9), ms(0), 0), RepeatCheck::New);
    assert_eq!(window.check(("words", &stream("s", 2), 9), ms(0), 0), RepeatCheck::Reused);
    assert!(matches!(window.check(("words", &stream("s", 2), 8), ms(0), 0), RepeatCheck::Repeat(_)));
    assert!(
        matches!(window.check(("words", &stream("s", 1), 7), ms(0), 0), RepeatCheck::Repeat(entry) if entry.stream_sequence == 2)
    );
}

#[test]
fn settling_twice_changes_nothing() {
    let mut window = window();
    for _ in 0..2 {
        window.record(&settled("a", 0, 7), Position::new(1, 1), ms(0));
        window.record(&settled("s", 1, 7), Position::new(1, 1), ms(0));
        window.record(&settled("s", 2, 8), Position::new(1, 1), ms(0));
    }
    let all = window.chunk(&mut DedupCursor::default(), 9);
    let mut once = self::window();
    once.record(&settled("a", 0, 7), Position::new(1, 1), ms(0));
    assert_eq!((window.len(), all), ((1, 1), once.chunk(&mut DedupCursor::default(), 9)));
    assert!(matches!(window.check(("words", &stream("s", 2), 8), ms(0), 0), RepeatCheck::Repeat(_)));
}

#[test]
fn a_walk_gives_every_entry_and_restores_them() {
    let mut window = window();
    for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
        window.record(&settled(name, 0, 7), Position::new(1, at as u64 + 1), ms(at as u64));
    }
    window.record(&settled("s", 1, 7), Position::new(1, 4), ms(4));
    window.record(&settled("t", 1, 7), Position::new(1, 5), ms(5));
    let (mut cursor, mut restored) = (DedupCursor::default(), self::window());
    loop {
        let piece = window.chunk(&mut cursor, 2);
        if piece.is_empty() {
            break;
        }
        piece.into_iter().for_each(|entry| restored.restore(entry));
    }
    assert_eq!(restored.len(), (3, 2));
    assert_eq!(restored.check(("words", &key("b"), 8), ms(10), 0), RepeatCheck::Reused);
    assert_eq!(restored.check(("words", &stream("t", 3), 8), ms(10), 0), RepeatCheck::Gap { expected: 2 });
}

#[test]
fn a_name_in_two_namespaces_is_two() {
    let mut window = window();
    window.record(&settled("a", 0, 7), Position::new(1, 1), ms(0));
    window.record(&settled("s", 1, 7), Position::new(1, 2), ms(0));
    assert_eq!(window.check(("titles", &key("a"), 7), ms(1), 0), RepeatCheck::New);
    assert_eq!(window.check(("titles", &stream("s", 1), 7), ms(1), 0), RepeatCheck::New);
    window.record(&KeyedWrite { namespace: "titles", ..settled("a", 0, 8) }, Position::new(1, 3), ms(1));
    window.record(&KeyedWrite { namespace: "titles", ..settled("s", 1, 8) }, Position::new(1, 4), ms(1));
    assert_eq!(window.len(), (2, 2));
    for (namespace, fingerprint) in [("words", 7), ("titles", 8)] {
        for once in [key("a"), stream("s", 1)] {
            let seen = window.check((namespace, &once, fingerprint), ms(1), 0);
            assert!(matches!(seen, RepeatCheck::Repeat(entry) if entry.name.namespace() == namespace));
        }
    }
}

#[test]
fn a_key_of_format_1_stands_for_every_namespace_until_it_has_aged() {
    let mut window = window();
    window.record(&KeyedWrite { namespace: "", ..settled("a", 0, 7) }, Position::new(1, 1), ms(0));
    for namespace in ["words", "titles"] {
        assert!(matches!(window.check((namespace, &key("a"), 7), ms(99), 0), RepeatCheck::Repeat(_)));
        assert_eq!(window.check((namespace, &key("a"), 8), ms(99), 0), RepeatCheck::Reused);
        assert_eq!(window.check((namespace, &key("a"), 7), ms(100), 0), RepeatCheck::New);
    }
    window.expire(ms(100));
    assert_eq!((window.len(), window.unscoped), ((0, 0), 0));
}

#[test]
fn a_stream_of_format_1_becomes_that_of_the_namespace_that_goes_on_with_it() {
    let mut window = window();
    let first = KeyedWrite { namespace: "", ..settled("s", 1, 7) };
    window.record(&first, Position::new(1, 1), ms(0));
    assert_eq!(window.check(("titles", &stream("s", 2), 8), ms(1), 0), RepeatCheck::New);
    assert_eq!(window.check(("words", &stream("s", 1), 8), ms(1), 0), RepeatCheck::Reused);
    let running = window.stream_entry("titles", "s").expect("it stands for all").running;
    let next = KeyedWrite { namespace: "titles", ..settled("s", 2, 8) };
    for _ in 0..2 {
        window.record(&next, Position::new(1, 2), ms(1));
        assert_eq!((window.len(), window.unscoped), ((0, 1), 0));
    }
    let expected = fingerprint(&[&running.to_le_bytes(), &8_u128.to_le_bytes()]);
    assert_eq!(window.stream_entry("titles", "s").map(|entry| entry.running), Some(expected), "one history");
    assert_eq!(window.check(("titles", &stream("s", 3), 9), ms(1), 0), RepeatCheck::New);
    assert_eq!(window.check(("words", &stream("s", 1), 9), ms(1), 0), RepeatCheck::New);
}

#[test]
fn a_walk_meets_a_stream_of_format_1_before_a_namespace_takes_it_over() {
    // A dash sorts in front of the slash between the parts.
    let names = ["-a", ""].map(|namespace| DedupName::new(namespace, "s"));
    assert!(names[1] < names[0]);
}
