//! The begin of every corpus: what the program itself writes, and what clients send.

use memdb::{
    base::clock::LoggedTime,
    base::hash::WordHasher,
    base::position::{EpochTable, Position},
    data::counts::word_counts::WordCounts,
    data::posts::encode_claim,
    data::record::{KeyedWrite, NamespaceChange, RecordBody, WordCount},
    data::store::StateId,
    replication::{AppendAnswer, AppendCommand, AppendOutcome, AppendRequest, NodeState},
    storage::file_header::FILE_HEADER_BYTES,
    storage::manifest::Manifest,
    storage::wal::{ChainState, RawRecord, encode_record},
};
use testkit::fuzz::seal::IDENTITY;

const LOG: &[u8] = include_bytes!("../../golden/log-v1");
const LOG_2: &[u8] = include_bytes!("../../golden/log-v2");
const SNAPSHOT_2: &[u8] = include_bytes!("../../golden/snapshot-v2");
const MANIFEST_2: &[u8] = include_bytes!("../../golden/manifest-v2");
const SNAPSHOT: &[u8] = include_bytes!("../../golden/snapshot-v1");
const MANIFEST: &[u8] = include_bytes!("../../golden/manifest-v1");

/// Target, name, bytes.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    seeds.extend(log());
    seeds.extend(snapshot());
    seeds.extend(messages());
    seeds.extend(offers());
    seeds.extend(http());
    seeds.extend(heads());
    seeds.extend(fast_paths());
    seeds.extend(texts());
    seeds.extend(claims());
    seeds.extend(entries());
    seeds.extend(counters());
    seeds.extend(configs());
    seeds.into_iter().map(|(target, name, bytes)| (target, format!("seed-{name}"), bytes)).collect()
}

type Seed = (&'static str, &'static str, Vec<u8>);

fn under(first: &[u8], rest: &[u8]) -> Vec<u8> {
    [first, rest].concat()
}

/// A record whose place and chain are for `seal` to make.
fn record(body: &RecordBody<'_>) -> Vec<u8> {
    let (mut bytes, time_ms) = (Vec::new(), LoggedTime::ZERO);
    let before = ChainState { chain: 0, synced_upto: 0, hash_seed: IDENTITY.hash_seed };
    encode_record(Position::new(1, 1), time_ms, 0, body, &before, &mut bytes);
    bytes
}

fn counted<'a>(namespace: &'a str, counts: &[(&'a str, i64)]) -> NamespaceChange<'a> {
    let counts = counts.iter().map(|&(word, count)| WordCount { word, count }).collect();
    NamespaceChange { namespace, dropped: false, counts }
}

fn records() -> Vec<u8> {
    let key = KeyedWrite {
        namespace: "words",
        name: "key",
        stream_sequence: 0,
        fingerprint: 300,
        words: 2,
        distinct: 2,
        left_out: 0,
        entries: 0,
    };
    let stream = KeyedWrite { name: "stream", stream_sequence: 1, ..key };
    [
        RecordBody {
            entries: Vec::new(),
            changes: vec![counted("words", &[("hello", 2), ("world", i64::MAX)])],
            keyed_writes: vec![key],
        },
        RecordBody {
            entries: Vec::new(),
            changes: vec![counted("titles", &[("café", -1)])],
            keyed_writes: vec![stream],
        },
        RecordBody {
            entries: Vec::new(),
            changes: vec![NamespaceChange { dropped: true, ..counted("words", &[("a", 1), ("a", 2)]) }],
            keyed_writes: vec![],
        },
        RecordBody { entries: Vec::new(), changes: vec![counted("titles", &[("café", 0)])], keyed_writes: vec![] },
    ]
    .iter()
    .flat_map(record)
    .collect()
}

/// Records of which the second has a word that no store takes.
fn unbounded(word: &str) -> Vec<u8> {
    let counted =
        |word| RecordBody { entries: Vec::new(), changes: vec![counted("words", &[(word, 1)])], keyed_writes: vec![] };
    [record(&counted("hello")), record(&counted(word)), record(&counted("world"))].concat()
}

fn log() -> Vec<Seed> {
    let (file, behind) = (LOG, &LOG[FILE_HEADER_BYTES..]);
    vec![
        ("log", "golden-whole", under(&[4], file)),
        ("log", "golden-checksums", under(&[1], behind)),
        ("log", "golden-chain", under(&[2], behind)),
        ("log", "golden-digests", under(&[3], behind)),
        ("log", "golden-2-whole", under(&[4], LOG_2)),
        ("log", "golden-2-digests", under(&[3], &LOG_2[FILE_HEADER_BYTES..])),
        ("log", "two-segments", under(&[8 | 3], &records())),
        ("log", "records", under(&[3], &records())),
        ("log", "empty-word", under(&[3], &unbounded(""))),
        ("log", "long-word", under(&[3], &unbounded(&"a".repeat(257)))),
    ]
}

/// The blocks of a snapshot without its trailer: sealed blocks are given one.
fn blocks_of(snapshot: &[u8]) -> &[u8] {
    let (behind, mut blocks) = (&snapshot[FILE_HEADER_BYTES..], 0);
    while behind[blocks] != 4 {
        blocks += 12 + u32::from_le_bytes(behind[blocks + 4..][..4].try_into().expect("four bytes")) as usize;
    }
    &behind[..blocks]
}

fn snapshot() -> Vec<Seed> {
    let (behind, blocks) = (&SNAPSHOT[FILE_HEADER_BYTES..], blocks_of(SNAPSHOT));
    vec![
        ("snapshot", "golden-whole", under(&[4, 7], SNAPSHOT)),
        ("snapshot", "golden-checksums", under(&[8 | 1, 30], behind)),
        ("snapshot", "golden-chain", under(&[8 | 2, 200], blocks)),
        ("snapshot", "golden-digests", under(&[8 | 3, 64], blocks)),
        ("snapshot", "golden-2-checksums", under(&[1, 30], &SNAPSHOT_2[FILE_HEADER_BYTES..])),
        ("snapshot", "golden-2-chain", under(&[2, 200], blocks_of(SNAPSHOT_2))),
        ("snapshot", "golden-2-digests", under(&[3, 64], blocks_of(SNAPSHOT_2))),
        ("snapshot", "golden-2-whole", under(&[4, 7], SNAPSHOT_2)),
        ("manifest", "golden-2-whole", under(&[0], MANIFEST_2)),
        ("manifest", "golden-whole", under(&[0], MANIFEST)),
        ("manifest", "golden-checksum", under(&[1], &MANIFEST_2[FILE_HEADER_BYTES..MANIFEST_2.len() - 4])),
    ]
}

fn hello() -> NodeState {
    NodeState {
        node: 1 << 90,
        url: "http://127.0.0.1:8081".into(),
        database: Some(IDENTITY.database_id),
        epoch: 2,
        position: Position::new(2, 9),
        chain: 2,
        synced: Some(8),
        diverged: false,
        local: false,
        leads: false,
    }
}

fn messages() -> Vec<Seed> {
    let mut epochs = EpochTable::default();
    epochs.end(Position::new(1, 5));
    let last = StateId { position: Position::new(2, 9), digest: 1, chain: 2 };
    let offer =
        AppendRequest { epoch: 2, epochs, last, command: AppendCommand::Append, ..AppendRequest::probe(IDENTITY, 2) };
    let answer =
        |outcome| AppendAnswer { outcome, hello: NodeState { synced: None, database: None, ..hello() } }.encode();
    vec![
        ("message", "hello", under(&[0], &hello().encode())),
        ("message", "applied", under(&[1], &answer(AppendOutcome::Applied))),
        ("message", "unreadable", under(&[1], &answer(AppendOutcome::Unreadable("what".into())))),
        ("message", "offer", under(&[2], &under(&offer.encode_head(), b"records"))),
        ("message", "ask", under(&[2], &AppendRequest::probe(IDENTITY, 0).encode_head())),
        ("message", "manifest", under(&[0], &Manifest::decode(MANIFEST).expect("golden").encode())),
    ]
}

fn offers() -> Vec<Seed> {
    let records = records();
    let raw = RawRecord::parse(&LOG[FILE_HEADER_BYTES..], IDENTITY.hash_seed).expect("golden");
    let one = raw.header.record_bytes();
    let turn = |head: [u8; 4], records: &[u8]| under(&under(&head, &(records.len() as u16).to_le_bytes()), records);
    let first = LOG[FILE_HEADER_BYTES..][..one].to_vec();
    vec![
        ("offer", "one", turn([3, 0, 0, 0], &records)),
        ("offer", "twice", [turn([3, 0, 0, 0], &records), turn([3, 0, 16, 0], &first)].concat()),
        (
            "offer",
            "new-epoch",
            [turn([3, 0, 0, 0], &first), turn([3, 1, 0, 0], &records), turn([0, 2, 2, 0], &[])].concat(),
        ),
        (
            "offer",
            "gap",
            [turn([3, 0, 0, 3], &records), turn([2, 0, 0, 0], &first), turn([1, 0, 3, 0], &first)].concat(),
        ),
        ("offer", "empty-word", turn([3, 0, 0, 0], &unbounded(""))),
        ("offer", "long-word", turn([3, 0, 0, 0], &unbounded(&"a".repeat(257)))),
        ("offer", "raw", turn([0, 0, 0, 64], &AppendRequest::probe(IDENTITY, 1).encode_head())),
    ]
}

fn http() -> Vec<Seed> {
    let upload = b"--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nhello\r\n--b--\r\n";
    vec![
        ("http", "text", under(&[0], "Hello, wörld: it's 3.14 สวัสดี 你好 ﷺ".as_bytes())),
        ("http", "update", under(&[1], br#"{"Hello":5,"hello":-2,"caf\u00e9":9223372036854775807,"b":-0}"#)),
        ("http", "query", under(&[2], b"word=a+b&word=%E5%8C%97&ns=my-ns&ack=disk&n=5&verbose")),
        ("http", "form", under(&[3], b"x=1&text=hello+world%20hello&y=%2B")),
        ("http", "json", under(&[4], br#"{"other":[1,{"a":null}],"text":"hello world\u0020hello","id":"k"}"#)),
        ("http", "upload", under(&[5], upload)),
        ("http", "plain", under(&[6], b"hello world \xff")),
        ("http", "type", under(&[7], b"multipart/form-data; boundary=\"b\"; charset=utf-8\n--b--\r\n")),
    ]
}

fn heads() -> Vec<Seed> {
    let head = |text: &str| under(&[3], text.as_bytes());
    vec![
        ("head", "length", head("POST /post?ns=a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET")),
        (
            "head",
            "chunked",
            head(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\nGET",
            ),
        ),
        ("head", "old", head("\r\nGET /wordcount?word=%E5 HTTP/1.0\r\n\r\n")),
        ("head", "odd", head("GET http://a/{\"x\"} HTTP/1.1\nhost:\nX: y\n\n")),
    ]
}

fn fast_paths() -> Vec<Seed> {
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let requests = |piece: u8, requests: &[String]| under(&[piece], requests.concat().as_bytes());
    let health = get("/health", "User-Agent: x\r\n");
    vec![
        (
            "fast_path",
            "entries",
            requests(
                70,
                &[
                    get("/cache/greeting", ""),
                    get("/cache/a%2Fb?ns=words", ""),
                    get("/cache/expired", ""),
                    get("/cache/%E5%8C%97?ns=b", ""),
                    get("/cache/empty", "If-None-Match: *\r\n"),
                    get("/cache/absent", ""),
                ],
            ),
        ),
        (
            "fast_path",
            "posts",
            requests(
                30,
                &[
                    get("/post?id=7", "If-None-Match: x\r\n"),
                    get("/post?ns=b&id=a+b", ""),
                    get("/posts/7", ""),
                    get("/cache/again", "Accept-Encoding: gzip, zstd\r\n"),
                    get("/cache/again", ""),
                    get("/cache/long", ""),
                ],
            ),
        ),
        ("fast_path", "health", requests(255, &[health.clone(), health.clone()])),
        (
            "fast_path",
            "read",
            requests(9, &[get("/wordcount?word=hello", "Connection: keep-alive\r\n"), health.clone()]),
        ),
        ("fast_path", "reads", requests(99, &[get("/wordcount?word=Hello&word=%E5%8C%97+x&ns=words", "")])),
        (
            "fast_path",
            "known",
            requests(
                40,
                &[get("/wordcount?word=a", "If-None-Match: \"x\", *\r\nMemdb-Min-Position: 1-7-00000007\r\n")],
            ),
        ),
        (
            "fast_path",
            "then-others",
            requests(60, &[get("/wordcount?word=a&ns=b", ""), get("/top?n=2", "Expect: x\r\n"), health]),
        ),
    ]
}

fn claims() -> Vec<Seed> {
    let mut counts = WordCounts::new(WordHasher::new(1));
    for (word, count) in [("cat", 1), ("catalogue", 300), ("北京", 2), ("the", i64::MAX)] {
        counts.add(word, count).expect("each once");
    }
    let claim = encode_claim(&counts);
    vec![
        ("claim", "words", under(&[0], &claim)),
        ("claim", "cut", under(&[0], &claim[..claim.len() - 1])),
        ("claim", "beyond-64-bits", under(&[0], &[&[0, 0, b'a'], &[0x81; 9][..], &[2]].concat())),
        ("claim", "text", under(&[1], "the cat and the catalogue, 北京 café CAFÉ".as_bytes())),
    ]
}

fn counters() -> Vec<Seed> {
    let word = |word: &str, amount: i64| [&[word.len() as u8][..], &amount.to_le_bytes(), word.as_bytes()].concat();
    let words =
        |words: &[(&str, i64)]| under(&[1], &words.iter().flat_map(|(text, n)| word(text, *n)).collect::<Vec<_>>());
    vec![
        ("counters", "key", under(&[0], b"/counter/a/b%2Fc+%E5%8C%97%00/increment")),
        ("counters", "plain-key", under(&[0], b"/counter/visits/increment")),
        (
            "counters",
            "queues",
            words(&[("m19e70448800a", 3), ("e19e7044880aa", 4), ("s19e70448000b", 1), ("w19e70448800a", 3)]),
        ),
        ("counters", "odd-words", words(&[("m19E70448800a", 3), ("x19e70448800a", 1), ("m", 1), ("w+9e70448800a", 2)])),
        (
            "counters",
            "large-amounts",
            words(&[("w19e70448800a", i64::MAX), ("w19e70448864a", i64::MAX), ("w19e704488c8a", i64::MAX)]),
        ),
        ("counters", "far-ticks", words(&[("mfffffffffffa", i64::MAX), ("sfffffffffffa", 7), ("e00000000000b", -1)])),
    ]
}

fn entries() -> Vec<Seed> {
    const TAG: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let conditions = format!("\"a\", W/\"{TAG}\", b\n\"x\",{TAG} ,\"\"");
    let many = r#"{"entries":[{"key":"a","value":"v","ttl":0.5},{"key":"b/c","base64":"/wA=","content_type":"image/x"},
                  {"key":"\u5317","value":"","ttl":null}]}"#;
    vec![
        ("entries", "key", under(&[0], b"a/b%2Fc+%E5%8C%97%00")),
        ("entries", "dots", under(&[0], b"%2e%2E")),
        ("entries", "ttl", under(&[1], b"4.35")),
        ("entries", "long-ttl", under(&[1], b"3162240000.000")),
        ("entries", "conditions", under(&[2], conditions.as_bytes())),
        ("entries", "any", under(&[2], b"*\n*")),
        ("entries", "many", under(&[3], many.as_bytes())),
        ("entries", "created", under(&[4], br#"{"id":"7","title":"a b","content":"c\u00e9","author":{"x":[1]}}"#)),
        ("entries", "plain", under(&[5], "text/plain; charset=utf-8\nrain, rain and wörter".as_bytes())),
        ("entries", "json", under(&[5], b"application/json\n{\"title\":\"a\",\"text\":\"b\"}")),
    ]
}

fn texts() -> Vec<Seed> {
    [
        ("ascii", "It's 3.14; a_b can't U.S.A. 1,000:a:b x\ty\r\n"),
        ("scripts", "你好世界 สวัสดีชาวโลก ສະບາຍດີ がぎぐ カタカナ 한국어 нет"),
        ("folds", "ﷺ ＡＢＣ ϴ ẞ İ e\u{301} a\u{323}\u{307} ｶﾞ ™ 🈁"),
        ("emoji", "👨‍👩‍👧 🇩🇪🇫🇷 a\u{200d}b \u{feff}x\u{ad}y"),
    ]
    .map(|(name, text)| ("text", name, text.as_bytes().to_vec()))
    .to_vec()
}

fn configs() -> Vec<Seed> {
    [
        ("leader", "port = 8080\ndata-dir = \"data\"\nack = \"replica+disk\"\nmax-body-bytes = 1048576\n"),
        ("replica", "leader = 'http://127.0.0.1:8080'\nport = 0\nreplicas = ['http://a:1', \"http://[::1]:2\"]\n"),
        ("wrong", "[replication]\nprot = 1.5\n# a\n\"data dir\" = \"\\u00e9\"\n"),
    ]
    .map(|(name, text)| ("config", name, text.as_bytes().to_vec()))
    .to_vec()
}
