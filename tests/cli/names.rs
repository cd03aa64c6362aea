//! `memdb post --stream NAME` at a real leader: under a name there is one text.

use crate::{Ran, memdb, run};
use tempfile::TempDir;
use testkit::process::{Node, Start};

struct Leader {
    node: Node,
    _data: TempDir,
}

impl Leader {
    fn new() -> Self {
        let data = TempDir::new().expect("a directory");
        Leader { node: Start::leader(data.path()).run(), _data: data }
    }

    /// Posts standard input under a name.
    fn post(&self, name: &str, more: &[&str], text: &str) -> Ran {
        let named = ["post", "--leader", &self.node.url, "--stream", name, "-"];
        run(memdb().args(named).args(more).write_stdin(text))
    }

    fn count(&self, word: &str) -> i64 {
        testkit::client::read(&self.node.url, &[word])[word]
    }
}

fn assert_refused(ran: &Ran, case: &str) {
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{case}: {}", ran.err);
    assert!(ran.err.contains("another text") && ran.err.contains("--again"), "{case}: {}", ran.err);
    assert!(!ran.err.contains("counted before"), "{case}: {}", ran.err);
}

#[test]
fn another_text_under_a_name_is_refused_and_the_same_text_counts_nothing() {
    let leader = Leader::new();
    for (name, more) in [("lines", &[][..]), ("files", &["--per", "file"][..])] {
        let text = format!("{name} b\nb\nb\n");
        assert_eq!(leader.post(name, more, &text).code, 0);
        let others = ["other x\nx\nx\n", "other x\n", "other x\nx\nx\nx\n", ""];
        for other in others {
            let ran = leader.post(name, more, other);
            assert_refused(&ran, &format!("{name}, {other:?}"));
        }
        let again = leader.post(name, more, &text);
        assert_eq!(again.code, 0, "{}", again.err);
        assert!(again.out.starts_with("0 ") && again.err.contains("counted before"), "{} {}", again.out, again.err);
        assert_eq!((leader.count(name), leader.count("other"), leader.count("x")), (1, 0, 0));
    }
    let shorter = leader.post("lines", &[], "lines b\nb\n");
    assert_refused(&shorter, "the first two of three lines");
    let longer = leader.post("lines", &[], "lines b\nb\nb\nmore\n");
    assert!(longer.out.starts_with("1 lines, 1 words counted"), "{} {}", longer.out, longer.err);
    assert_eq!((leader.count("b"), leader.count("more")), (6, 1));
}

#[test]
fn another_text_of_several_blocks_is_refused_wherever_it_differs_before_anything_counts() {
    let leader = Leader::new();
    // A block is full with 8 MiB, that is with the 1,024th line.
    let line = format!("every {}\n", "x".repeat((8 << 10) - 7));
    let text = line.repeat(2_500);
    assert_eq!(leader.post("long", &[], &text).code, 0);
    let changed = |at: usize| format!("{}other{}", &text[..at], &text[at + 5..]);
    let end = text.len() - line.len();
    let others = [
        ("the first line", changed(0)),
        ("the last line", changed(end)),
        ("the first line, and one line more", format!("{}new\n", changed(0))),
        (
            "a line of the second block, and some lines more",
            format!("{}{}", changed(1_500 * line.len()), "new\n".repeat(2_000)),
        ),
        ("a line less", text[..end].to_owned()),
        ("a block less", text[..2_048 * line.len()].to_owned()),
        ("two blocks less", text[..1_024 * line.len()].to_owned()),
    ];
    for (case, other) in others {
        assert_refused(&leader.post("long", &[], &other), case);
    }
    assert_eq!((leader.count("every"), leader.count("other"), leader.count("new")), (2_500, 0, 0));
    let grown = leader.post("long", &["--json"], &format!("{text}new\n"));
    let result: serde_json::Value = serde_json::from_str(&grown.out).expect("JSON");
    assert_eq!((&result["counted"], &result["counted_before"]), (&1.into(), &2_500.into()), "{}", grown.err);
    assert_eq!((leader.count("every"), leader.count("new")), (2_500, 1));
}
