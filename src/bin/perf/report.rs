//! The report, for people and as JSON.

use crate::{compare::Comparison, documents::DocumentReport, load::RequestSample};
use serde_json::{Value, json};
use std::time::Duration;

/// The totals of the load.
#[derive(Debug)]
pub struct LoadReport {
    /// Posts to the leader.
    pub leader: RequestSample,
    /// Reads from the replicas.
    pub replicas: RequestSample,
    /// From the first request to the last answer.
    pub took: Duration,
}

/// The two sections and the duration, without the end of the last line.
pub fn load(load: &LoadReport) -> String {
    let LoadReport { leader, replicas, took } = load;
    format!(
        "{}\n{}\nTotal Test Duration: {}",
        section("Leader", "Leader", leader),
        section("Replica", "Replicas", replicas),
        spelled(*took)
    )
}

/// The sections of documents, and the verdict on them.
pub fn documents(report: &DocumentReport) -> String {
    let DocumentReport { created, read, differences } = report;
    let mut lines = differences.clone();
    lines.push(match differences.len() {
        0 if report.is_consistent() => "All replicas have every document as it was sent.".to_owned(),
        0 => "Not every document was created and read.".to_owned(),
        many => format!("Found {many} inconsistencies between documents and replicas."),
    });
    let sections = [section("Document", "Leader", created), section("Document Read", "Replicas", read)];
    format!("\n{}\n{}\n{}", sections[0], sections[1], lines.join("\n"))
}

fn section(title: &str, to: &str, sample: &RequestSample) -> String {
    format!(
        "=== {title} Performance ===\n\
         Total Requests to {to}: {}\n\
         Successful Requests: {}\n\
         Failed Requests: {}\n\
         Average Request Time: {}\n\
         Fastest Request Time: {}\n\
         Slowest Request Time: {}\n",
        sample.total(),
        sample.times.len(),
        sample.failed,
        spelled(sample.average()),
        spelled(sample.percentile(0)),
        spelled(sample.percentile(100)),
    )
}

/// A duration as Go writes it, to three digits: `845µs`, `12.3ms`, `1.05s`; hours and minutes stay seconds.
fn spelled(duration: Duration) -> String {
    let exact = duration.as_nanos();
    // Rounded first, so that 999.9 ms is a second and not a thousand milliseconds.
    let mut step = 1;
    while exact / step >= 1_000 {
        step *= 10;
    }
    // Whole seconds are never rounded.
    let step = step.min(1_000_000_000);
    let nanos = (exact + step / 2) / step * step;
    let (unit, name) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let digits = format!("{}.{:09}", nanos / unit, nanos % unit * (1_000_000_000 / unit));
    format!("{}{name}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// Everything as one object; times in milliseconds.
pub fn json(load: &LoadReport, comparison: &Comparison, documents: Option<&DocumentReport>, ok: bool) -> Value {
    let inconsistencies: Vec<_> = comparison
        .differences
        .iter()
        .map(|difference| {
            json!({
                "word": difference.word,
                "replica": difference.replica,
                "leader_count": difference.leader_count,
                "replica_count": difference.replica_count,
            })
        })
        .collect();
    let mut report = json!({
        "leader": numbers(&load.leader),
        "replicas": numbers(&load.replicas),
        "duration_ms": ms(load.took),
        "position": comparison.position.to_string(),
        "words_compared": comparison.compared,
        "inconsistencies_found": comparison.found,
        "inconsistencies": inconsistencies,
        "lagging": comparison.lagging,
        "consistent": comparison.is_consistent(),
        "ok": ok,
    });
    if let Some(documents) = documents {
        report["documents"] = json!({
            "created": numbers(&documents.created),
            "read": numbers(&documents.read),
            "inconsistencies": documents.differences,
            "consistent": documents.is_consistent(),
        });
    }
    report
}

fn numbers(sample: &RequestSample) -> Value {
    json!({
        "requests": sample.total(),
        "successful": sample.times.len(),
        "failed": sample.failed,
        "average_ms": ms(sample.average()),
        "fastest_ms": ms(sample.percentile(0)),
        "p50_ms": ms(sample.percentile(50)),
        "p99_ms": ms(sample.percentile(99)),
        "slowest_ms": ms(sample.percentile(100)),
    })
}

/// Milliseconds, to the microsecond.
fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelled_as_go_does_to_three_digits() {
        let cases = [
            (0, "0s"),
            (7, "7ns"),
            (845_000, "845µs"),
            (845_499, "845µs"),
            (1_050_000, "1.05ms"),
            (12_345_678, "12.3ms"),
            (12_000_000, "12ms"),
            (999_960_000, "1s"),
            (1_234_567_890, "1.23s"),
            (61_500_000_000, "61.5s"),
            (1_234_567_890_000, "1235s"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(spelled(Duration::from_nanos(nanos)), expected, "{nanos}");
        }
    }
}
