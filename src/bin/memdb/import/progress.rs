//! The progress of an import: a bar on a terminal, or lines of JSON for a program.

use crate::output::{GroupedNumber, tell};
use indicatif::{ProgressBar, ProgressStyle};
use memdb::client::{import::ImportProgress, import_reader::ImportSums};
use serde_json::json;
use std::{
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// Interval at which the bar is drawn.
pub const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Interval between lines of JSON.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// Shows the progress of one input.
pub struct ProgressView<'a> {
    bar: ProgressBar,
    file: &'a Path,
    /// The sums of the input, if they are known.
    total: Option<ImportSums>,
    /// The time of the last line of JSON; none where none are wanted.
    told: Option<Instant>,
}

impl<'a> ProgressView<'a> {
    /// A bar; with `as_json` a line of JSON now and then instead.
    #[allow(clippy::disallowed_methods, reason = "the time between two lines for a person")]
    pub fn new(file: &'a Path, total: Option<ImportSums>, as_json: bool) -> Self {
        let template = match total {
            Some(_) => "{percent:>3} % {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}  {msg}",
            None => "{spinner} {bytes}  {bytes_per_sec}  {msg}",
        };
        let bar = match (as_json, total) {
            (true, _) => ProgressBar::hidden(),
            (false, Some(total)) => ProgressBar::new(total.bytes),
            (false, None) => ProgressBar::new_spinner(),
        };
        let style = ProgressStyle::with_template(template).expect("a constant of this file").progress_chars("=> ");
        Self { bar: bar.with_style(style), file, total, told: as_json.then(Instant::now) }
    }

    /// Draws the bar, or tells a line if it is time.
    pub fn tick(&mut self, progress: &ImportProgress) {
        let (bytes, lines) = (progress.bytes.load(Ordering::Relaxed), progress.lines.load(Ordering::Relaxed));
        self.bar.set_position(bytes);
        let of_lines = self.total.map_or(String::new(), |total| format!(" of {}", GroupedNumber(total.lines)));
        self.bar.set_message(format!("{}{of_lines} lines", GroupedNumber(lines)));
        if self.told.is_some_and(|told| told.elapsed() >= TELL_EVERY) {
            self.tell(progress);
        }
    }

    /// Takes the bar away, with a last line of JSON.
    pub fn finish(&mut self, progress: &ImportProgress) {
        self.bar.finish_and_clear();
        if self.told.is_some() {
            self.tell(progress);
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the time between two lines for a person")]
    fn tell(&mut self, progress: &ImportProgress) {
        self.told = Some(Instant::now());
        let [bytes, lines, applied, before] =
            [&progress.bytes, &progress.lines, &progress.applied, &progress.applied_before]
                .map(|number| number.load(Ordering::Relaxed));
        let line = json!({
            "file": self.file.to_string_lossy(),
            "bytes": bytes, "of_bytes": self.total.map(|total| total.bytes),
            "lines": lines, "of_lines": self.total.map(|total| total.lines),
            "items": applied, "items_before": before,
        });
        tell(&line.to_string());
    }
}
