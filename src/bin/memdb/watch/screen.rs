//! The values of `memdb watch`: drawn anew in a terminal, a line for each change elsewhere.

use crate::{
    output::{CommandResult, GroupedNumber, say},
    read::shown,
};
use console::{Term, measure_text_width, truncate_str};
use memdb::client::watch::WatchUpdate;
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    fmt::Write as _,
    io::{self, Write as _},
};

/// Seconds whose additions are drawn.
const SPARKS: usize = 30;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A count over the last seconds.
#[derive(Default)]
struct CountHistory {
    count: i64,
    /// The count at the begin of the second under way.
    before: i64,
    /// The amounts that were added in each second, the last one at the end.
    added: VecDeque<i64>,
}

/// The values of one stream, as a person sees them.
pub struct WatchScreen {
    title: String,
    /// A terminal, if it is drawn to.
    term: Option<Term>,
    /// Names of the rows, in their order: words, then keys.
    rows: Vec<String>,
    counts: HashMap<String, CountHistory>,
    entries: HashMap<String, String>,
    /// The reason why nothing comes.
    trouble: String,
    drawn_lines: usize,
    has_values: bool,
}

impl WatchScreen {
    /// Nothing is known yet. `plain`: nothing is drawn anew.
    pub fn new(node: &str, words: &[String], keys: &[String], plain: bool) -> Self {
        let term = Term::stdout();
        let mut rows: Vec<String> = Vec::new();
        for name in words.iter().chain(keys) {
            if !rows.contains(name) {
                rows.push(name.clone());
            }
        }
        Self {
            title: format!("{node}, Ctrl-C to end"),
            term: (!plain && term.is_term()).then_some(term),
            rows,
            counts: HashMap::new(),
            entries: HashMap::new(),
            trouble: String::new(),
            drawn_lines: 0,
            has_values: false,
        }
    }

    /// Returns whether it is drawn anew, and not written line by line.
    pub fn is_drawn(&self) -> bool {
        self.term.is_some()
    }

    /// Takes an event, and shows it.
    pub fn show(&mut self, update: &WatchUpdate) -> CommandResult {
        let lines = self.take(update);
        if self.is_drawn() {
            return self.draw();
        }
        lines.iter().try_for_each(|line| say(line))
    }

    /// Shows why nothing comes; empty: it comes again.
    pub fn set_trouble(&mut self, what: &str) -> CommandResult {
        what.clone_into(&mut self.trouble);
        self.draw()
    }

    /// A second has passed.
    pub fn tick(&mut self) -> CommandResult {
        for history in self.counts.values_mut() {
            history.added.push_back(history.count.saturating_sub(history.before));
            history.before = history.count;
            if history.added.len() > SPARKS {
                history.added.pop_front();
            }
        }
        if self.has_values { self.draw() } else { Ok(()) }
    }

    /// Takes the values of an event; gives the lines that tell of it.
    fn take(&mut self, update: &WatchUpdate) -> Vec<String> {
        let mut lines = Vec::new();
        match (&*update.name, &update.data) {
            ("reset", data) => {
                self.counts.clear();
                self.entries.clear();
                lines.push(format!("reset: {}", data["reason"].as_str().unwrap_or_default()));
            }
            ("counts", Value::Object(counts)) => {
                for (word, count) in counts {
                    let count = count.as_i64().unwrap_or_default();
                    // A stream that goes on behind a break may begin with values that were shown before it.
                    let is_shown = self.counts.get(word).is_some_and(|history| history.count == count);
                    let line = self.take_count(word, count);
                    lines.extend((!is_shown).then_some(line));
                }
            }
            ("top", Value::Array(list)) => {
                self.rows.clear();
                for ranked in list {
                    let word = ranked["word"].as_str().unwrap_or_default();
                    self.rows.push(word.to_owned());
                    lines.push(self.take_count(word, ranked["count"].as_i64().unwrap_or_default()));
                }
                // Whatever has left the list begins anew when it comes back.
                let rows: std::collections::HashSet<&String> = self.rows.iter().collect();
                self.counts.retain(|word, _| rows.contains(word));
                lines.push(String::new());
            }
            ("entries", Value::Array(list)) => {
                for entry in list {
                    let key = entry["key"].as_str().unwrap_or_default();
                    let text = entry_text(entry);
                    let line = format!("{}  {text}", shown(key));
                    let before = self.entries.insert(key.to_owned(), text.clone());
                    lines.extend((before != Some(text)).then_some(line));
                }
            }
            _ => {} // of a later release
        }
        self.has_values = true;
        lines
    }

    fn take_count(&mut self, word: &str, count: i64) -> String {
        let history = self.counts.entry(word.to_owned()).or_insert_with(|| CountHistory {
            count,
            before: count,
            added: VecDeque::new(),
        });
        history.count = count;
        format!("{}  {}", GroupedNumber(count), shown(word))
    }

    /// Draws everything over what was drawn before.
    fn draw(&mut self) -> CommandResult {
        let Some(term) = &self.term else { return Ok(()) };
        let (height, width) = term.size();
        let lines = self.lines(usize::from(height).saturating_sub(1).max(2));
        let mut text = String::new();
        if self.drawn_lines > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn_lines); // a String takes everything
        }
        for line in &lines {
            let _ = writeln!(text, "\r{}\x1b[K", truncate_str(line, usize::from(width).saturating_sub(1), "…"));
        }
        text.push_str("\x1b[J");
        self.drawn_lines = lines.len();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// The lines of the screen, at most so many.
    fn lines(&self, most: usize) -> Vec<String> {
        let numbers: Vec<String> =
            self.rows.iter().map(|name| self.counts.get(name).map_or(String::new(), number)).collect();
        let width = numbers.iter().map(|number| measure_text_width(number)).max().unwrap_or(0);
        let row = |(name, number): (&String, &String)| {
            let count = self
                .counts
                .get(name)
                .map(|history| format!("{number:>width$}  {:<SPARKS$}  {}", sparkline(&history.added), shown(name)));
            let entry = self.entries.get(name).map(|entry| format!("{}  {entry}", shown(name)));
            count.into_iter().chain(entry)
        };
        let mut lines: Vec<String> = self.rows.iter().zip(&numbers).flat_map(row).collect();
        if lines.len() >= most {
            let left = lines.len() - (most - 2);
            lines.truncate(most - 2);
            lines.push(format!("… and {left} more"));
        }
        lines.push(if self.trouble.is_empty() { self.title.clone() } else { self.trouble.clone() });
        lines
    }
}

fn number(history: &CountHistory) -> String {
    GroupedNumber(history.count).to_string()
}

/// The facts that a person wants to know of an entry.
fn entry_text(entry: &Value) -> String {
    if entry["found"] != true {
        return "not there".to_owned();
    }
    let expires = entry["expires_in"].as_f64().map(|seconds| format!(", expires in {seconds} s")).unwrap_or_default();
    let value = entry["value"].as_str().map(|value| format!("  {}", shown(value))).unwrap_or_default();
    format!("{} bytes{expires}{value}", GroupedNumber(entry["bytes"].as_u64().unwrap_or_default()))
}

/// The amounts that were added in each second, as bars; nothing is the lowest of them, and so is less than nothing.
fn sparkline(added: &VecDeque<i64>) -> String {
    let most = added.iter().copied().max().unwrap_or(0).max(1);
    let bar = |&added: &i64| BARS[(added.max(0) as f64 / most as f64 * (BARS.len() - 1) as f64).ceil() as usize];
    added.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn update(name: &str, data: Value) -> WatchUpdate {
        WatchUpdate { name: name.to_owned(), data, id: None }
    }

    #[test]
    fn rows_are_in_the_order_they_were_asked_for_with_what_was_added() {
        let mut screen = WatchScreen::new("http://a:1", &["b".into(), "a".into()], &["k".into()], true);
        screen.take(&update("counts", json!({"a": 1000, "b": 2})));
        screen.take(&update(
            "entries",
            json!([{"key": "k", "found": true, "bytes": 2, "expires_in": 1.5, "value": "x\u{1b}"}]),
        ));
        screen.tick().expect("nothing is drawn");
        assert_eq!(screen.take(&update("counts", json!({"a": 1007}))), ["1,007  a"]);
        screen.tick().expect("nothing is drawn");
        let bars = |bars: &str| format!("{bars:<SPARKS$}");
        let expected = [
            format!("    2  {}  b", bars("▁▁")),
            format!("1,007  {}  a", bars("▁█")),
            "k  2 bytes, expires in 1.5 s  x\\u{1b}".to_owned(),
            "http://a:1, Ctrl-C to end".to_owned(),
        ];
        assert_eq!(screen.lines(10), expected);
        assert_eq!(screen.lines(3)[1..], ["… and 2 more", "http://a:1, Ctrl-C to end"]);
    }

    #[test]
    fn values_that_were_shown_before_a_break_are_no_lines_again() {
        let mut screen = WatchScreen::new("http://a:1", &["a".into(), "b".into()], &["k".into()], true);
        let entry = update("entries", json!([{"key": "k", "found": false}]));
        assert_eq!(screen.take(&update("counts", json!({"a": 1, "b": 0}))), ["1  a", "0  b"]);
        assert_eq!(screen.take(&entry).len(), 1);
        assert_eq!(screen.take(&update("counts", json!({"a": 1, "b": 2}))), ["2  b"]);
        assert_eq!(screen.take(&entry), [""; 0]);
    }

    #[test]
    fn the_largest_counts_are_rows_in_their_order_of_now() {
        let mut screen = WatchScreen::new("http://a:1", &[], &[], true);
        let list = |first: &str, second: &str| json!([{"word": first, "count": 2}, {"word": second, "count": 1}]);
        screen.take(&update("top", list("a", "b")));
        assert_eq!(screen.take(&update("top", list("c", "a"))), ["2  c", "1  a", ""]);
        assert_eq!((&*screen.rows, screen.counts.len()), (&["c".to_owned(), "a".to_owned()][..], 2));
        screen.take(&update("reset", json!({"reason": "position-lost"})));
        assert!(screen.counts.is_empty());
    }

    #[test]
    fn bars_rise_with_what_was_added() {
        assert_eq!(sparkline(&VecDeque::from([0, 1, 7, -3])), "▁▂█▁");
        assert_eq!(sparkline(&VecDeque::from([i64::MAX, 0])), "█▁");
        assert_eq!(sparkline(&VecDeque::new()), "");
    }
}
