//! Clients that write and read entries: values under keys that all of them know, for a time or for ever, with and
//! without conditions, two at once; posts whose words count; texts that pass; and words beside them in the namespace of
//! the posts. All have a key, so that each write is done once.

use super::{LEVELS, RETRY, Shared, Told, position, told};
use memdb::{
    base::position::{Position, PositionToken},
    engine::leader::AckLevel,
};
use parking_lot::MutexGuard;
use reqwest::{Method, blocking::Client};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};
use testkit::{
    PATIENCE, Random,
    checker::{EntryChange, EntryCondition, EntrySeen, EntryWriteId, History},
    client::{Counts, new_client, status},
    process::Node,
    wait_for,
};

/// Keys of each kind.
const KEYS: usize = 6;
/// The longest time to live, in milliseconds.
const MOST_TTL_MS: usize = 250;
/// The namespace of posts and their words.
const POSTED: &str = "ns=posted";
const MS: u64 = 1_000_000;

/// A write of entries before it is sent.
pub(super) struct Request {
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// A header with its value.
    pub condition: Option<(&'static str, String)>,
    pub content_type: &'static str,
    pub body: String,
}

impl Request {
    /// A text that is put there.
    fn of_text(target: String, body: String, condition: Option<(&'static str, String)>) -> Self {
        Self { method: Method::PUT, target, condition, content_type: "text/plain", body }
    }
}

pub(super) struct EntryWriter {
    pub(super) shared: Arc<Shared>,
    http: Client,
    pub(super) client: u64,
    number: u64,
    random: Random,
}

impl EntryWriter {
    pub(super) fn new(shared: &Arc<Shared>, client: u64, random: Random) -> Self {
        Self { shared: Arc::clone(shared), http: new_client(), client, number: 0, random }
    }

    /// Writes once, after a pause; `false` once it is over.
    pub(super) fn work(&mut self) -> bool {
        std::thread::sleep(self.shared.rate.pause); // the pace that is wanted
        let shared = Arc::clone(&self.shared);
        let _open = shared.gate.read();
        if shared.is_over() {
            return false;
        }
        self.number += 1;
        if shared.rate.counters && self.random.percent(25) {
            self.increment();
            return true;
        }
        match self.random.below(13) {
            0..3 => self.put_value(),
            3 => self.put_where_nothing_is(),
            4 | 5 => self.put_over_what_is_there(),
            6 => self.remove("/cache/", "key", ""),
            7 => self.put_two(),
            8 | 9 => self.put_post(),
            10 => self.remove("/posts/", "post", POSTED),
            11 => self.put_and_keep(),
            _ if self.random.percent(50) => self.lend_text(),
            _ => self.count_by_hand(),
        }
        true
    }

    fn key(&mut self, kind: &str) -> String {
        format!("{kind}{}", self.random.below(KEYS))
    }

    /// A value that no other write has; now and then one that is stored compressed.
    fn value(&mut self, key: &str) -> String {
        let filling = if self.random.percent(20) { "again and ".repeat(300) } else { String::new() };
        format!("{key} w{}x{} {filling}rain and wind", self.client, self.number)
    }

    /// A time to live, mostly none: in milliseconds, and as a parameter.
    fn ttl(&mut self) -> (Option<u64>, String) {
        let ms = self.random.percent(40).then(|| self.random.between(10, MOST_TTL_MS) as u64);
        (ms, ms.map_or(String::new(), |ms| format!("ttl=0.{ms:03}&")))
    }

    fn put_value(&mut self) {
        let key = self.key("key");
        self.put(&key, EntryCondition::Always, None);
    }

    fn put_where_nothing_is(&mut self) {
        let key = self.key("lock");
        self.put(&key, EntryCondition::Absent, Some(("if-none-match", "*".to_owned())));
    }

    /// Reads a value, and puts another over it if it is still there then.
    fn put_over_what_is_there(&mut self) {
        let key = self.key("lock");
        let Ok(answer) = self.http.get(format!("{}/cache/{key}", self.leader())).send() else { return };
        let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let (Some(tag), 200, Ok(value)) = (tag, answer.status().as_u16(), answer.text()) else { return };
        let Some(there) = self.history().entry_of(&value) else { return };
        self.put(&key, EntryCondition::Matches(there), Some(("if-match", tag)));
    }

    fn put(&mut self, key: &str, condition: EntryCondition, header: Option<(&'static str, String)>) {
        let (value, (ttl, parameter)) = (self.value(key), self.ttl());
        let write = self.sent(key, &value, ttl, condition);
        self.carry_out(&Request::of_text(format!("/cache/{key}?{parameter}"), value, header), &[write]);
    }

    /// Two entries in one record: whoever sees one sees the other.
    fn put_two(&mut self) {
        let at = self.random.below(KEYS);
        let number = format!("{}x{}", self.client, self.number);
        let keys = ["a", "b"].map(|one| format!("pair{at}{one}"));
        let entries: Vec<_> =
            keys.iter().map(|key| serde_json::json!({"key": key, "value": format!("{key} {number}")})).collect();
        let writes =
            keys.each_ref().map(|key| self.sent(key, &format!("{key} {number}"), None, EntryCondition::Always));
        let request = Request {
            method: Method::POST,
            target: "/cache?".to_owned(),
            condition: None,
            content_type: "application/json",
            body: serde_json::json!({ "entries": entries }).to_string(),
        };
        self.carry_out(&request, &writes);
    }

    fn put_post(&mut self) {
        let key = self.key("post");
        let (text, (ttl, parameter)) = (self.value(&key), self.ttl());
        let write = self.sent(&key, &text, ttl, EntryCondition::Always);
        self.carry_out(&Request::of_text(format!("/posts/{key}?{POSTED}&{parameter}"), text, None), &[write]);
    }

    /// A value that expires in a minute, and then for ever: behind the second answer it stays.
    fn put_and_keep(&mut self) {
        let key = format!("kept{}", self.client);
        let value = self.value(&key);
        let write = self.sent(&key, &value, None, EntryCondition::Always);
        self.carry_out(&Request::of_text(format!("/cache/{key}?ttl=60&ack=replica&"), value, None), &[write]);
        self.number += 1;
        let target = format!("/cache/{key}?ttl=0&");
        let (method, body) = (Method::PATCH, String::new());
        self.carry_out(&Request { method, target, condition: None, content_type: "", body }, &[]);
    }

    fn remove(&mut self, path: &str, kind: &str, query: &str) {
        let key = self.key(kind);
        let (now, change) = (self.shared.now(), EntryChange::Remove);
        let write = self.history().entry_sent(now, &key, change, EntryCondition::Always);
        let (method, target) = (Method::DELETE, format!("{path}{key}?{query}&"));
        let request = Request { method, target, condition: None, content_type: "", body: String::new() };
        self.carry_out(&request, &[write]);
    }

    /// A text whose words count for a while: at the end none of them is there.
    fn lend_text(&mut self) {
        let ms = self.random.between(10, MOST_TTL_MS);
        let text = format!("lent{}x{} rain and rain", self.client, self.number);
        self.post(&format!("/post?{POSTED}&ttl=0.{ms:03}&"), text);
    }

    /// Words that stay, at a level at which they are never lost.
    fn count_by_hand(&mut self) {
        let text = "rain by hand".to_owned();
        self.post(&format!("/post?{POSTED}&ack=replica&"), text.clone());
        let mut by_hand = self.shared.by_hand.lock();
        text.split(' ').for_each(|word| *by_hand.entry(word.to_owned()).or_default() += 1);
    }

    fn post(&self, target: &str, body: String) {
        let target = target.to_owned();
        let request = Request { method: Method::POST, target, condition: None, content_type: "text/plain", body };
        self.carry_out(&request, &[]);
    }

    fn sent(&self, key: &str, value: &str, ttl_ms: Option<u64>, condition: EntryCondition) -> EntryWriteId {
        let change = EntryChange::Put { value: value.to_owned(), ttl: ttl_ms.map(|ms| ms * MS) };
        let now = self.shared.now();
        self.history().entry_sent(now, key, change, condition)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.shared.history.lock()
    }

    fn leader(&self) -> String {
        let nodes = self.shared.nodes.read();
        nodes.0[nodes.1].clone()
    }

    /// Sends a write until it is answered, and notes the answer for all that is in it. Gives whether it counts.
    pub(super) fn carry_out(&self, request: &Request, writes: &[EntryWriteId]) -> bool {
        let begun = Instant::now();
        // What is counted by hand names its level.
        let stays = request.target.contains("ack=replica&");
        let mut level = if stays { Some(AckLevel::Replica) } else { LEVELS[self.number as usize % LEVELS.len()] };
        loop {
            match self.ask(request, level) {
                Told::Counts(_, AckLevel::Leader) if stays => {} // no replica has it yet: it could be lost
                Told::Counts(position, reached) => {
                    self.is_done(writes, position, reached);
                    return true;
                }
                Told::Refused => {
                    let now = self.shared.now();
                    writes.iter().for_each(|write| self.history().entry_refused(*write, now));
                    return false;
                }
                Told::Again(next) => level = next,
                Told::Open => unreachable!("it has a key"),
                Told::Wrong(what) => {
                    self.shared.is_wrong(format!("{}: {what}", request.target));
                    return false;
                }
            }
            if begun.elapsed() > PATIENCE {
                self.shared.is_wrong(format!("{}: not answered within {PATIENCE:?}", request.target));
                return false;
            }
            std::thread::sleep(RETRY);
        }
    }

    fn is_done(&self, writes: &[EntryWriteId], position: Position, reached: AckLevel) {
        let ended = self.shared.now();
        writes.iter().for_each(|write| self.history().entry_acknowledged(*write, ended, position, reached));
        self.shared.entries[0].fetch_add(1, Relaxed);
    }

    fn ask(&self, request: &Request, level: Option<AckLevel>) -> Told {
        let Request { method, target, condition, content_type, body } = request;
        let names_level = target.contains("ack=");
        let ack =
            level.filter(|_| !names_level).map_or(String::new(), |level| format!("ack={}", super::name_of(level)));
        let url = format!("{}{target}{ack}", self.leader());
        let url = url.trim_end_matches(['&', '?']);
        let mut asked = self.http.request(method.clone(), url).body(body.clone());
        asked = asked.header("idempotency-key", format!("entry-{}-{}", self.client, self.number));
        if !content_type.is_empty() {
            asked = asked.header("content-type", *content_type);
        }
        if let Some((name, value)) = condition {
            asked = asked.header(*name, value);
        }
        let Ok(answer) = asked.send() else { return Told::Again(level) };
        match answer.status().as_u16() {
            // Its queue is full: a repeat of one that was accepted is told so all the same.
            429 if target.starts_with("/counter/") => Told::Refused,
            // It was there a moment ago, for a minute, unless it was lost as it may be.
            404 if *method == Method::PATCH => {
                self.shared.told_lost.lock().push(format!("{target}: not there"));
                Told::Refused
            }
            _ => told(answer, level, true),
        }
    }
}

pub(super) struct EntryReader {
    shared: Arc<Shared>,
    http: Client,
    reader: u64,
    random: Random,
    last: Option<PositionToken>,
    times_lost: u64,
}

impl EntryReader {
    pub(super) fn new(shared: &Arc<Shared>, reader: u64, random: Random) -> Self {
        Self { shared: Arc::clone(shared), http: new_client(), reader, random, last: None, times_lost: 0 }
    }

    /// Reads once, after a pause; `false` once it is over.
    pub(super) fn work(&mut self) -> bool {
        std::thread::sleep(self.shared.rate.pause); // the pace that is wanted
        let shared = Arc::clone(&self.shared);
        let _open = shared.gate.read();
        let times_lost = shared.times_lost.load(Relaxed);
        if self.times_lost != times_lost {
            (self.times_lost, self.last) = (times_lost, None);
        }
        let at = self.random.below(KEYS);
        match self.random.below(4) {
            0 => self.read(&format!("/cache/key{at}"), &[&format!("key{at}")]),
            1 => self.read(&format!("/cache/lock{at}"), &[&format!("lock{at}")]),
            2 => self.read(&format!("/posts/post{at}?{POSTED}"), &[&format!("post{at}")]),
            _ => {
                let pair = ["a", "b"].map(|one| format!("pair{at}{one}"));
                self.read(&format!("/cache?key={}&key={}", pair[0], pair[1]), &pair.each_ref().map(String::as_str));
            }
        }
        !shared.is_over()
    }

    /// Reads one entry, or several at one position.
    fn read(&mut self, target: &str, keys: &[&str]) {
        let shared = Arc::clone(&self.shared);
        let (url, leads) = {
            let nodes = shared.nodes.read();
            let node = self.random.below(nodes.0.len());
            (nodes.0[node].clone(), node == nodes.1)
        };
        let token = self.last.filter(|_| self.random.percent(50));
        let mut request = self.http.get(format!("{url}{target}"));
        if let Some(token) = token {
            request = request.header("memdb-min-position", token.to_string());
        }
        let (moves, began) = (shared.moves.load(Relaxed), shared.now());
        let Ok(answer) = request.send() else { return };
        let (status, at) = (answer.status().as_u16(), position(&answer));
        let body = answer.text();
        let ended = shared.now();
        let values = match (status, at, &body) {
            (200, Some(_), Ok(body)) if keys.len() == 1 => vec![Some(body.clone())],
            (200, Some(_), Ok(body)) => values_of(body),
            (404, Some(_), Ok(_)) => vec![None],
            (503, ..) | (200 | 404, _, Err(_)) => return, // it starts, or died while it answered
            (410, ..) => {
                self.last = None;
                if !shared.losses.load(Relaxed) {
                    shared.told_lost.lock().push(format!("{url}{target} at {token:?} was answered 410"));
                }
                return;
            }
            _ => return shared.is_wrong(format!("{url}{target} at {token:?} was answered {status} {body:?}")),
        };
        if let [Some(one), Some(other)] = &values[..]
            && one.split_once(' ').map(|one| one.1) != other.split_once(' ').map(|other| other.1)
        {
            shared.is_wrong(format!("{url}{target}: half a record was seen: {values:?}"));
        }
        let token_of_answer = at.expect("looked at");
        let asked = token.map(|asked| asked.position);
        let leads = leads && moves.is_multiple_of(2) && moves == shared.moves.load(Relaxed);
        // Who is promoted goes on with the time that it has counted itself.
        let hides_on_time = leads && moves == 0 && !shared.losses.load(Relaxed);
        for (key, value) in keys.iter().zip(&values) {
            let (who, position, value) = (self.reader as u32, token_of_answer.position, value.as_deref());
            let seen = EntrySeen { who, began, ended, position, asked, leads, hides_on_time, key, value };
            shared.history.lock().entry_read(&seen);
        }
        self.last = Some(PositionToken::later(self.last, token_of_answer));
        shared.entries[1].fetch_add(1, Relaxed);
    }
}

/// The values in an answer that holds several.
fn values_of(body: &str) -> Vec<Option<String>> {
    let read: Value = serde_json::from_str(body).expect("JSON");
    let entries = read["entries"].as_array().expect("a list").iter();
    entries.map(|entry| entry["value"].as_str().map(str::to_owned)).collect()
}

/// The keys that a node lists, and whether all of them stay.
fn listed(url: &str, path: &str, list: &str, name: &str) -> (Vec<String>, bool) {
    let answer = new_client().get(format!("{url}{path}")).send().expect("it answers");
    let read: Value = answer.json().expect("JSON");
    assert!(read["next"].is_null(), "one page holds all: {read}");
    let listed = read[list].as_array().unwrap_or_else(|| panic!("{read}"));
    let keys = listed.iter().map(|one| one[name].as_str().expect("a key").to_owned()).collect();
    (keys, listed.iter().all(|one| one["expires_in"].is_null()))
}

fn values_listed(url: &str, path: &str, query: &str, keys: Vec<String>) -> BTreeMap<String, String> {
    let http = new_client();
    let value = |key: &String| {
        let answer = http.get(format!("{url}{path}/{key}?{query}")).send().expect("it answers");
        assert_eq!(answer.status(), 200, "{key} is listed");
        answer.text().expect("UTF-8")
    };
    keys.into_iter().map(|key| (key.clone(), value(&key))).collect()
}

/// Waits until nothing is there that expires.
pub(super) fn settle(leader: &str) {
    wait_for("what expires is gone", || {
        let (values, values_stay) = listed(leader, "/cache?limit=1000", "keys", "key");
        let (posts, posts_stay) = listed(leader, &format!("/posts?limit=1000&{POSTED}"), "posts", "id");
        let there = status(leader)?["entries"]["count"].as_u64()?;
        // Texts that pass are in no list: their words tell of them.
        let answer = new_client().get(format!("{leader}/sync?{POSTED}")).send().ok()?;
        let lends = answer.json::<Counts>().ok()?.keys().any(|word| word.starts_with("lent"));
        (values_stay && posts_stay && !lends && there == (values.len() + posts.len()) as u64).then_some(())
    });
}

impl Shared {
    /// All is quiet and equal: notes what every node holds, and counts the words of the posts that are there.
    pub(super) fn note_entries_at_the_end(&self, nodes: &[&Node], history: &mut History) {
        let mut expected = self.by_hand.lock().clone();
        for (at, node) in nodes.iter().enumerate() {
            let (began, url) = (self.now(), &*node.url);
            let position = testkit::client::counts(url).0.position;
            let mut entries = values_listed(url, "/cache", "", listed(url, "/cache?limit=1000", "keys", "key").0);
            let ids = listed(url, &format!("/posts?limit=1000&{POSTED}"), "posts", "id").0;
            let posts = values_listed(url, "/posts", POSTED, ids);
            if at == 0 {
                let words = posts.values().flat_map(|text| text.split(' '));
                words.for_each(|word| *expected.entry(word.to_owned()).or_default() += 1);
            }
            let answer = new_client().get(format!("{url}/sync?{POSTED}")).send().expect("it answers");
            let counts: Counts = answer.json().expect("words with counts");
            testkit::process::assert_same(&counts, &expected, &format!("the words of the posts at {url}"));
            entries.extend(posts);
            history.entries_end(url, (began, self.now()), position, entries);
        }
    }
}
