//! The documents say what the code does: the bounds that they quote are the code's, and the tests that they name are
//! there.

#![allow(clippy::disallowed_methods, reason = "reads the documents and the sources")]

use memdb::{api::http::HttpSettings, base::limits, config};
use std::{fs, path::Path, time::Duration};

/// The cells of the rows of one chapter.
fn rows(page: &str, chapter: &str) -> Vec<Vec<String>> {
    let chapter = page.split("\n## ").find(|text| text.starts_with(chapter)).expect("the chapter is there");
    let rows = chapter.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what |"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// A number with its thousands set apart.
fn number(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

fn bytes(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}

fn time(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// What a row says that begins so.
fn default_of<'a>(rows: &'a [Vec<String>], begins: &str) -> &'a str {
    let mut found = rows.iter().filter(|row| row[0].starts_with(begins));
    let row = found.next().unwrap_or_else(|| panic!("no row {begins}"));
    assert!(found.next().is_none(), "two rows {begins}");
    &row[2]
}

#[test]
fn the_bounds_are_those_of_the_code() {
    let page = fs::read_to_string("docs/limits.md").expect("the page");
    let http = HttpSettings::default();
    let connections = rows(&page, "Connections and requests");
    for (row, is) in [
        ("connections at once", number(http.max_connections as u64)),
        ("silence before the first request", time(http.header_timeout)),
        ("silence between requests", time(http.idle_timeout)),
        ("time for a head", time(http.header_timeout)),
        ("TLS: time for a handshake", time(http.header_timeout)),
        ("TLS: handshakes under way", number(limits::MAX_TLS_HANDSHAKES as u64)),
        ("bytes of a head", bytes(http.max_head_bytes)),
        ("bytes of a body", bytes(http.max_body_bytes)),
        ("time for a body", time(http.body_timeout)),
        ("bytes of all bodies", bytes(http.max_upload_bytes)),
        ("time in which nothing of a waiting answer", time(http.write_timeout)),
        ("time a read waits", time(http.position_wait)),
        ("reads that wait for a position", number(http.max_waiting_reads as u64)),
        ("streams of `/watch` at once", format!("{}: half of the connections", number(http.max_watchers as u64))),
        ("milliseconds that a change may wait for a watcher", number(limits::DEFAULT_WATCH_MS)),
        ("seconds that a watcher waits for", number(limits::WATCH_PATIENCE_MS / 1_000)),
        ("bytes of a value in an event", bytes(limits::WATCHED_VALUE_BYTES)),
        ("writes that a follower passes on at once", number(limits::FORWARDED_AT_ONCE as u64)),
        ("time that a forwarded write waits for a leader", time(Duration::from_millis(limits::FORWARD_WAIT_MS))),
        ("bytes of the bodies of forwarded writes that wait", bytes(limits::FORWARD_WAIT_BYTES)),
        ("reads that other nodes answer at once", number(limits::FALLBACK_READS as u64)),
        ("nodes that are asked for such a read", number(limits::FALLBACK_NODES as u64)),
        ("time in which a client that was refused", time(http.linger_timeout)),
        ("decoded bytes of a compressed bulk body for each byte", number(limits::MAX_DECODED_RATIO)),
        ("decoded bytes of a compressed bulk body up to", bytes(limits::RATIO_FREE_BYTES as usize)),
        ("decoded bytes of a compressed bulk body in all", format!("{} TiB", limits::MAX_DECODED_BYTES >> 40)),
        ("bytes of the window of a zstd frame", bytes(1 << limits::ZSTD_WINDOW_LOG)),
        ("streamed answers that a serving thread compresses", number(limits::ENCODED_AT_ONCE as u64)),
        ("bytes of an answer that is not compressed", bytes(limits::SMALLEST_ENCODED_BYTES)),
        ("entries written, read or listed", number(limits::MAX_ENTRIES_PER_REQUEST as u64)),
        ("bytes of the values that one request", bytes(limits::MAX_ENTRIES_BYTES)),
        ("bytes of the body of a `POST /cache`", bytes(limits::MAX_ENTRIES_BODY_BYTES)),
        ("words in one read", number(limits::MAX_WORDS_PER_READ as u64)),
        ("words of one answer of `/top`", number(limits::MAX_RANKING as u64)),
        ("words at hand for `/top`", number(limits::MAX_TOP as u64)),
        ("counts that change while `/top` looks at all", number(limits::RANKING_CHANGES as u64)),
        ("words of a namespace that is read under one guard", number(limits::RANKED_UNDER_GUARD)),
        ("bytes of long answers of `/top`", bytes(limits::RANKING_BYTES)),
        ("HTTP/2: time in which nothing is asked", time(http.idle_timeout)),
    ] {
        assert_eq!(default_of(&connections, row), is, "{row}");
    }
    let database = rows(&page, "What a database holds");
    for (row, is) in [
        ("namespaces", number(limits::MAX_NAMESPACES as u64)),
        ("bytes of a word", number(limits::MAX_WORD_BYTES as u64)),
        ("characters of a namespace", number(limits::MAX_NAMESPACE_BYTES as u64)),
        ("a count, by amounts", format!("2^{}", limits::MAX_GIVEN_COUNT.ilog2())),
        ("bytes of a key", number(limits::MAX_KEY_BYTES as u64)),
        ("bytes of the key of an entry", number(limits::MAX_ENTRY_KEY_BYTES as u64)),
        ("bytes of the media type of an entry", number(limits::MAX_CONTENT_TYPE_BYTES as u64)),
        ("bytes of words that wait", bytes(limits::DEFAULT_QUEUE_BYTES)),
        ("names a node answers to", number(limits::MAX_ALLOWED_HOSTS as u64)),
        ("names a node answers to", number(limits::MAX_CORS_ORIGINS as u64)),
        ("replicas of a leader", number(limits::MAX_REPLICAS as u64)),
        (
            "bytes of records kept",
            format!(
                "{}; {} on a leader that no replica follows",
                bytes(limits::FEED_BYTES),
                bytes(limits::IDLE_FEED_BYTES)
            ),
        ),
    ] {
        assert_eq!(default_of(&database, row), is, "{row}");
    }
}

#[test]
fn the_bounds_of_an_import_are_those_of_the_code() {
    let page = fs::read_to_string("docs/limits.md").expect("the page");
    let import = rows(&page, "What an import sends");
    for (row, is) in [
        ("words of a batch", number(limits::IMPORT_BATCH_WORDS as u64)),
        ("bytes of the JSON of a batch of words", bytes(limits::IMPORT_BATCH_BYTES)),
        ("entries of a batch", number(limits::IMPORT_BATCH_ENTRIES as u64)),
        ("bytes of the JSON of a batch of entries", bytes(limits::IMPORT_BATCH_ENTRY_BYTES)),
        ("streams of batches", number(limits::IMPORT_STREAMS as u64)),
        ("batches that are cut ahead", number(limits::IMPORT_BATCHES_AHEAD as u64)),
    ] {
        assert_eq!(default_of(&import, row), is, "{row}");
    }
}

/// An address has half of a budget, unless the page says otherwise.
#[test]
fn the_shares_of_an_address_are_those_of_the_code() {
    let page = fs::read_to_string("docs/limits.md").expect("the page");
    let http = HttpSettings::default();
    for share in [
        format!("| half: {} |", bytes(http.max_upload_bytes / 2)),
        format!("| half: {} | 429 `queue-full` |", number(limits::DEFAULT_QUEUE_BATCHES as u64 / 2)),
        format!("bulk bodies leave: {} |", bytes(limits::DEFAULT_QUEUE_BYTES / 4)),
        format!("| half: {} | 503 `position-ahead` |", number(http.max_waiting_reads as u64 / 2)),
        format!(
            "| half: {}; one more waits {} s |",
            limits::FORWARDED_AT_ONCE / 2,
            limits::FORWARD_PATIENCE_MS / 1_000
        ),
        format!("| {0} in the line for the {0} places", limits::BULK_BLOCKS),
    ] {
        assert!(page.contains(&share), "docs/limits.md does not say {share:?}");
    }
}

#[test]
fn the_settings_have_the_defaults_the_page_says() {
    let page = fs::read_to_string("docs/limits.md").expect("the page");
    let around = config::ConfigInputs {
        environment: &|_| None,
        read_file: &|_| Ok(String::new()),
        machine: config::MachineLimits { processors: 1, memory_bytes: None, open_files: 100_000 },
    };
    let flags = config::SettingFlags::default();
    let known = config::resolve(config::StartRole::Leader, &flags, &around).expect("the defaults are good").origins;
    let all = [rows(&page, "Connections and requests"), rows(&page, "What a database holds")].concat();
    let mut named = 0;
    for row in all.iter().filter(|row| !row[1].is_empty()) {
        named += 1;
        let flag = row[1].trim_matches('`').strip_prefix("--").expect("a flag");
        let setting = known.iter().find(|setting| setting.name == flag).unwrap_or_else(|| panic!("no setting {flag}"));
        // `auto` is told in words.
        if setting.value != "auto" {
            let said = row[2].replace([',', ' '], "");
            assert_eq!(said, setting.value, "{flag}");
        }
    }
    for bound in known.iter().map(|setting| setting.name).filter(|name| name.contains("max-")) {
        assert!(all.iter().any(|row| row[1] == format!("`--{bound}`")), "the page has no --{bound}");
    }
    assert!(named > 8, "{named}");
}

#[test]
fn the_tests_it_names_are_there() {
    let page = fs::read_to_string("docs/limits.md").expect("the page");
    let chapters = ["Connections and requests", "What a database holds", "What an import sends"];
    for row in &chapters.map(|chapter| rows(&page, chapter)).concat() {
        assert_eq!(row.len(), 5, "{row:?}");
        if row[4].is_empty() {
            continue;
        }
        let (file, test) = row[4].trim_matches('`').split_once(": ").unwrap_or_else(|| panic!("no test: {row:?}"));
        let text = fs::read_to_string(Path::new(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "{file} has no {test}");
    }
}

#[test]
fn the_bounds_that_other_pages_quote_are_those_of_the_code() {
    let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
    let ms = |time: u64| if time.is_multiple_of(1_000) { format!("{} s", time / 1_000) } else { format!("{time} ms") };
    let quoted = [
        ("docs/log-format.md", format!("payload length, at most {}", mib(limits::MAX_RECORD_PAYLOAD_BYTES))),
        ("docs/log-format.md", format!("when the last one has {}", mib(limits::DEFAULT_SEGMENT_BYTES as usize))),
        ("docs/snapshot-format.md", format!("payload length, at most {}", mib(limits::MAX_SNAPSHOT_BLOCK_BYTES))),
        ("docs/backup-format.md", format!("payload length, at most {}", mib(limits::MAX_BACKUP_PART_BYTES))),
        ("docs/snapshot-format.md", format!("pieces of {} slots", limits::WALK_ENTRIES)),
        (
            "docs/snapshot-format.md",
            format!("{} and {}", ms(limits::QUICK_SNAPSHOT_MS), mib(limits::QUICK_SNAPSHOT_BYTES as usize)),
        ),
        ("docs/replication.md", format!("| {} | `HEARTBEAT_MS` |", ms(limits::HEARTBEAT_MS))),
        (
            "docs/replication.md",
            format!(
                "| {}, and 1 ms for each {} bytes; ",
                ms(limits::EXCHANGE_TIMEOUT_MS),
                number(limits::LEAST_BYTES_PER_MS)
            ),
        ),
        (
            "docs/replication.md",
            format!("below {} doubling to {} |", ms(limits::RETRY_MIN_MS), ms(limits::RETRY_MAX_MS)),
        ),
        ("docs/replication.md", format!("| {} | `FEED_BYTES` |", mib(limits::FEED_BYTES))),
        ("docs/replication.md", format!("| {} KiB, or one record | `OFFER_BYTES` |", limits::OFFER_BYTES >> 10)),
        ("docs/replication.md", format!("| {}: the largest record, and the head |", mib(limits::MAX_OFFER_BYTES))),
        ("docs/replication.md", format!("| followers of one leader | {} |", limits::MAX_REPLICAS)),
        ("docs/replication.md", format!("at most {}, so that the node", ms(limits::MAX_ACK_TIMEOUT_MS))),
        ("docs/operating.md", format!("A leader serves {} followers at most.", limits::MAX_REPLICAS)),
        ("docs/http-api.md", format!("of the {} namespaces with most words", limits::NAMESPACES_IN_METRICS)),
        ("docs/limits.md", format!("A text has up to {}", mib(limits::DEFAULT_MAX_BODY_BYTES))),
        ("docs/limits.md", format!("a word up to {} bytes", limits::MAX_WORD_BYTES)),
        ("docs/limits.md", format!("at most {}", mib(limits::LARGEST_MAX_BODY_BYTES))),
        ("docs/limits.md", format!("for {} minutes (`--key-window-seconds`)", limits::DEFAULT_KEY_AGE_MS / 60_000)),
        ("docs/limits.md", format!("a stream of posts for {} days", limits::DEFAULT_STREAM_AGE_MS / 86_400_000)),
    ];
    for (page, quote) in quoted {
        let text = fs::read_to_string(page).expect("the page");
        assert!(text.contains(&quote), "{page} does not say {quote:?}");
    }
}
