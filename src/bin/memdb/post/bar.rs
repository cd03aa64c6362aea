//! The progress of a run, drawn on stderr if that is a terminal.

use super::source::{TextInput, TextPlace};
use crate::output::{GroupedNumber, tell};
use indicatif::{ProgressBar, ProgressStyle};
use memdb::client::upload::UploadProgress;
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{task::JoinHandle, time::Instant};

/// Interval at which the bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// The rate is that of so long.
const RATE_OVER: Duration = Duration::from_secs(5);

/// A bar; hidden where nobody would see it.
pub struct UploadBar {
    bar: ProgressBar,
    drawing: Option<JoinHandle<()>>,
}

impl Drop for UploadBar {
    fn drop(&mut self) {
        self.finish();
    }
}

impl UploadBar {
    /// A bar over the bytes of these files.
    pub async fn reading(places: &[TextPlace]) -> Self {
        let mut bytes = 0;
        for place in places {
            bytes += place.bytes().await;
        }
        let bar = ProgressBar::new(bytes).with_style(style("reading {wide_bar} {bytes}/{total_bytes}  {eta}"));
        UploadBar { bar, drawing: None }
    }

    /// A bar over the posts of these sources, which follows `progress`.
    pub fn posting(sources: &[TextInput<'_>], unit: &'static str, progress: Arc<UploadProgress>) -> Self {
        let total: Option<u64> = sources.iter().map(|source| source.survey.map(|survey| survey.posts)).sum();
        let bar = match total {
            Some(posts) => ProgressBar::new(posts)
                .with_style(style(&format!("{{wide_bar}} {{human_pos}}/{{human_len}} {unit}  {{msg}}"))),
            None => ProgressBar::new_spinner().with_style(style(&format!("{{spinner}} {{human_pos}} {unit}  {{msg}}"))),
        };
        let drawing = (!bar.is_hidden()).then(|| tokio::spawn(follow(bar.clone(), unit, total, progress)));
        UploadBar { bar, drawing }
    }

    /// Returns whether the bar is drawn at all.
    pub fn is_seen(&self) -> bool {
        self.drawing.is_some()
    }

    /// Gives a callback for bytes that are read.
    pub fn reader(&self) -> impl Fn(&[u8]) + Send + 'static {
        let bar = self.bar.clone();
        move |bytes| bar.inc(bytes.len() as u64)
    }

    /// Writes a line above the bar.
    pub fn tell(&self, line: &str) {
        self.bar.suspend(|| tell(line));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(drawing) = &self.drawing {
            drawing.abort();
        }
        self.bar.finish_and_clear();
    }
}

async fn follow(bar: ProgressBar, unit: &'static str, total: Option<u64>, progress: Arc<UploadProgress>) {
    let begun = Instant::now();
    let mut rate = RecentRate::default();
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    loop {
        ticks.tick().await;
        let posts = progress.posts.load(Ordering::Relaxed);
        bar.set_position(posts);
        let (sent, words) = (progress.sent.load(Ordering::Relaxed), progress.words.load(Ordering::Relaxed));
        rate.note(begun.elapsed(), sent, words);
        let left = total.map(|total| total.saturating_sub(posts));
        bar.set_message(message(&rate, unit, left, progress.repeats.load(Ordering::Relaxed)));
    }
}

/// Formats the text beside the bar: the rate, and the time that `left` will take. Of words it says nothing before the
/// leader has told of some.
fn message(rate: &RecentRate, unit: &str, left: Option<u64>, repeats: u64) -> String {
    let (sent, words) = rate.per_second();
    let mut message = format!("{} {unit}/s", GroupedNumber(sent.round()));
    if rate.knows_words() {
        message += &format!(", {} words/s", GroupedNumber(words.round()));
    }
    if repeats > 0 {
        message += &format!(", {} repeated", GroupedNumber(repeats));
    }
    match left {
        Some(left) if left > 0 && sent > 0.0 => {
            let seconds = (left as f64 / sent).ceil() as u64;
            let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
            let hours = if hours > 0 { format!("{hours}:") } else { String::new() };
            message += &format!("  {hours}{minutes:02}:{seconds:02} left");
        }
        Some(left) if left > 0 => message += "  --:-- left",
        _ => {}
    }
    message
}

/// The rate of posts and words over the last [`RATE_OVER`].
#[derive(Default)]
struct RecentRate {
    /// Samples of posts and words with their times, the oldest first.
    samples: VecDeque<(Duration, u64, u64)>,
}

impl RecentRate {
    fn note(&mut self, at: Duration, posts: u64, words: u64) {
        self.samples.push_back((at, posts, words));
        while self.samples.get(1).is_some_and(|(second, ..)| at.saturating_sub(*second) >= RATE_OVER) {
            self.samples.pop_front();
        }
    }

    /// Returns whether the leader has told of words.
    fn knows_words(&self) -> bool {
        self.samples.back().is_some_and(|(_, _, words)| *words > 0)
    }

    /// Posts and words a second.
    fn per_second(&self) -> (f64, f64) {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return (0.0, 0.0) };
        let seconds = last.0.saturating_sub(first.0).as_secs_f64();
        if seconds == 0.0 {
            return (0.0, 0.0);
        }
        (last.1.saturating_sub(first.1) as f64 / seconds, last.2.saturating_sub(first.2) as f64 / seconds)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants of this file").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate after these posts and words, each a second behind the one before.
    fn rate(samples: &[(u64, u64)]) -> RecentRate {
        let mut rate = RecentRate::default();
        for (second, &(posts, words)) in samples.iter().enumerate() {
            rate.note(Duration::from_secs(second as u64), posts, words);
        }
        rate
    }

    #[test]
    fn the_bar_says_how_fast_it_goes_and_how_long_it_takes() {
        let steady = rate(&[(0, 0), (1_000, 9_000), (2_000, 18_000)]);
        assert_eq!(message(&steady, "lines", Some(65_000), 0), "1,000 lines/s, 9,000 words/s  01:05 left");
        assert_eq!(
            message(&steady, "lines", Some(3_700_000), 2),
            "1,000 lines/s, 9,000 words/s, 2 repeated  1:01:40 left"
        );
        assert_eq!(message(&steady, "lines", Some(0), 0), "1,000 lines/s, 9,000 words/s");
        assert_eq!(message(&steady, "lines", None, 0), "1,000 lines/s, 9,000 words/s");
        assert_eq!(message(&rate(&[(0, 0)]), "files", Some(1), 0), "0 files/s  --:-- left");
        let untold = rate(&[(0, 0), (1_000, 0)]);
        assert_eq!(message(&untold, "lines", Some(500), 0), "1,000 lines/s  00:01 left");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let slower = rate(&[(0, 0), (9_000, 0), (9_100, 0), (9_200, 0), (9_300, 0), (9_400, 0), (9_500, 500)]);
        assert_eq!(slower.per_second(), (100.0, 100.0));
        assert!(slower.samples.len() <= 6, "what is past is not kept");
        assert_eq!(RecentRate::default().per_second(), (0.0, 0.0));
    }
}
