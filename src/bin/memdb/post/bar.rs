//! The progress of a run, drawn on stderr if that is a terminal.

use super::source::{Source, is_stdin};
use crate::output::{Grouped, tell};
use indicatif::{ProgressBar, ProgressStyle};
use memdb::client::feed::Progress;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinHandle, time::Instant};

/// How often the bar is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// A bar; hidden where nobody would see it.
pub struct Bar {
    bar: ProgressBar,
    /// Bytes of the files that are read through.
    read_through: AtomicU64,
    drawing: Option<JoinHandle<()>>,
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Bar {
    /// A bar over the bytes of these files.
    pub async fn reading(files: &[PathBuf]) -> Self {
        let mut bytes = 0;
        for file in files.iter().filter(|path| !is_stdin(path)) {
            bytes += tokio::fs::metadata(file).await.map_or(0, |found| found.len());
        }
        let bar = ProgressBar::new(bytes).with_style(style("reading {wide_bar} {bytes}/{total_bytes}  {eta}"));
        Bar { bar, read_through: AtomicU64::new(0), drawing: None }
    }

    /// A bar over the posts of these sources, which follows `progress`.
    pub fn posting(sources: &[Source], unit: &'static str, progress: Arc<Progress>) -> Self {
        let total: Option<u64> = sources.iter().map(|source| source.survey.map(|survey| survey.posts)).sum();
        let bar = match total {
            Some(posts) => ProgressBar::new(posts)
                .with_style(style(&format!("{{wide_bar}} {{human_pos}}/{{human_len}} {unit}  {{msg}}  {{eta}} left"))),
            None => ProgressBar::new_spinner().with_style(style(&format!("{{spinner}} {{human_pos}} {unit}  {{msg}}"))),
        };
        let drawing = (!bar.is_hidden()).then(|| tokio::spawn(follow(bar.clone(), unit, progress)));
        Bar { bar, read_through: AtomicU64::new(0), drawing }
    }

    /// So many bytes of the file at hand are read.
    pub fn read(&self, bytes: u64) {
        self.bar.set_position(self.read_through.load(Ordering::Relaxed) + bytes);
    }

    /// The file at hand is read through.
    pub fn read_all(&self, bytes: u64) {
        self.read_through.fetch_add(bytes, Ordering::Relaxed);
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

async fn follow(bar: ProgressBar, unit: &'static str, progress: Arc<Progress>) {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    loop {
        ticks.tick().await;
        let per_second = |amount: &AtomicU64| {
            Grouped((amount.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64().max(0.001)) as u64)
        };
        bar.set_position(progress.posts.load(Ordering::Relaxed));
        let (sent, words) = (per_second(&progress.sent), per_second(&progress.words));
        let mut message = format!("{sent} {unit}/s, {words} words/s");
        let repeats = progress.repeats.load(Ordering::Relaxed);
        if repeats > 0 {
            message += &format!(", {} repeated", Grouped(repeats));
        }
        bar.set_message(message);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants of this file").progress_chars("=> ")
}
