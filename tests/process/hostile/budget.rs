//! Bulk data until the memory budget is used up, over HTTP, by several clients at once.

use rustix::process::Signal;
use tempfile::TempDir;
use testkit::{
    client::{Counts, new_client, post, posted},
    process::{REPAIR, Start, assert_same, equal_within},
};

/// The least budget there is.
const BUDGET: &str = "16MiB";
const CLIENTS: usize = 4;
const WORDS_EACH: usize = 2_000;
/// More than a client may ever have counted.
const MOST_POSTS: usize = 1_000;
/// Posts that are refused once the budget is used up.
const REFUSED: usize = 500;

/// A text of words that nobody else posts, and one that everybody does.
fn text(client: usize, number: usize) -> Vec<String> {
    let own = (0..WORDS_EACH).map(|at| format!("client{client}post{number}word{at}ofthemall"));
    own.chain(["common".to_owned()]).collect()
}

/// Posts until the budget is used up; gives what must be counted.
fn load(url: &str, client: usize) -> Counts {
    let mut counts = Counts::new();
    for number in 0..MOST_POSTS {
        let words = text(client, number);
        let answer = post(url, "", &words.join(" "));
        if answer.status == 507 {
            assert_eq!(answer.body["type"], "urn:memdb:problem:memory-full");
            return counts;
        }
        assert_eq!(answer.status, 202, "{answer:?}");
        for word in words {
            *counts.entry(word).or_default() += 1;
        }
    }
    panic!("{MOST_POSTS} posts of {WORDS_EACH} new words fit {BUDGET}")
}

/// A number of `/metrics`.
fn number(url: &str, name: &str) -> f64 {
    let shown = new_client().get(format!("{url}/metrics")).send().expect("it answers").text().expect("a body");
    let value = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {shown}")).parse().expect("a number")
}

#[test]
fn bulk_data_at_the_edge_of_the_budget_is_exact() {
    let data = TempDir::new().expect("a directory");
    let mut leader = Start::leader(data.path()).with(&["--max-memory", BUDGET]).run();
    let replica = Start::replica(&leader).run();
    leader.until_connected(1);
    let mut expected = Counts::new();
    std::thread::scope(|scope| {
        let url = &leader.url;
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || load(url, client))).collect();
        for client in clients {
            for (word, count) in client.join().expect("every answer is 202, then 507") {
                *expected.entry(word).or_default() += count;
            }
        }
    });
    let exact = |expected: &Counts, leader: &testkit::process::Node| {
        let (counts, _) = equal_within(REPAIR, leader, &[&replica]);
        assert_same(&counts, expected, "the leader");
    };
    exact(&expected, &leader);
    assert!(expected.len() > 100_000, "{} words", expected.len());
    let bytes = number(&leader.url, "memdb_words_bytes");
    assert!((14e6..=16.0 * 1024.0 * 1024.0).contains(&bytes), "{bytes} bytes of {BUDGET}");

    // What is refused is refused whole, and costs no byte of the log.
    let logged = number(&leader.url, "memdb_record_bytes_total");
    for at in 0..REFUSED {
        assert_eq!(post(&leader.url, "", &text(CLIENTS, at).join(" ")).status, 507);
    }
    assert_eq!(number(&leader.url, "memdb_record_bytes_total"), logged);
    exact(&expected, &leader);

    // Words that are there are counted, after a crash as before, on the replica's way too.
    for url in [&leader.url, &replica.url] {
        posted(url, "common");
    }
    *expected.get_mut("common").expect("it was posted") += 2;
    leader.end(Signal::KILL);
    leader.start_again();
    leader.until_connected(1);
    exact(&expected, &leader);
    assert_eq!(post(&leader.url, "", &text(CLIENTS, 0).join(" ")).status, 507, "it is as full as before");
    posted(&leader.url, "common");

    // Taking words away makes room.
    let removed = new_client().delete(format!("{}/ns/words", leader.url)).send().expect("it answers");
    assert_eq!(removed.status(), 202);
    let again = load(&leader.url, CLIENTS + 1);
    exact(&again, &leader);
    assert!(again.len() > 100_000, "{} words", again.len());
    println!("{} words in {BUDGET}, {bytes} bytes; {} again once they were removed", expected.len(), again.len());
}
