//! Everything wrong, in the one shape clients can rely on: `application/problem+json` (RFC 9457).
//!
//! A [`ProblemKind`] fixes status, `type` and title; the detail says what to do. The table in `docs/http-api.md`
//! is this file's [`ProblemKind::facts`], held equal by a test.

use super::{headers, settings::RETRY_AFTER_SECONDS};
use crate::{
    base::metrics::RefusalLabel,
    base::position::{DatabaseTag, PositionToken},
    engine::leader::WriteError,
};
use http::{HeaderValue, StatusCode, header};
use std::borrow::Cow;
use warp::reply::Response;

/// The kind of a problem, as far as a client's code would tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProblemKind {
    MalformedRequest,
    InvalidHeader,
    InvalidParameter,
    InvalidBody,
    InvalidUtf8,
    EmptyText,
    AckUnavailable,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    StreamGap,
    /// Another node stands in the way, or this one is unfit.
    NotPromoted,
    PositionLost,
    PositionOtherDatabase,
    BodyTooLarge,
    UriTooLong,
    UnsupportedMediaType,
    ExpectationFailed,
    KeyReused,
    Overflow,
    TooManyNamespaces,
    QueueFull,
    WindowFull,
    TooManyFromAddress,
    HeadTooLarge,
    OutcomeUnknown,
    Internal,
    NotReady,
    PositionAhead,
    TooManyUploads,
    TooManyConnections,
    DiskFull,
    Poisoned,
    FilesLost,
    Stopping,
    UnsupportedVersion,
    MemoryFull,
    ClusterSecret,
    CrossSite,
    HostNotAllowed,
    NotLeader,
    NotLeading,
    LeaderAway,
    OtherDatabase,
    SteppedDown,
    NotReplicated,
}

impl ProblemKind {
    /// Every kind, for the test that holds the documentation to the code.
    #[cfg(test)]
    pub(super) const ALL: [ProblemKind; 46] = [
        ProblemKind::MalformedRequest,
        ProblemKind::InvalidHeader,
        ProblemKind::InvalidParameter,
        ProblemKind::InvalidBody,
        ProblemKind::InvalidUtf8,
        ProblemKind::EmptyText,
        ProblemKind::AckUnavailable,
        ProblemKind::NotFound,
        ProblemKind::MethodNotAllowed,
        ProblemKind::RequestTimeout,
        ProblemKind::StreamGap,
        ProblemKind::NotPromoted,
        ProblemKind::PositionLost,
        ProblemKind::PositionOtherDatabase,
        ProblemKind::BodyTooLarge,
        ProblemKind::UriTooLong,
        ProblemKind::UnsupportedMediaType,
        ProblemKind::ExpectationFailed,
        ProblemKind::KeyReused,
        ProblemKind::Overflow,
        ProblemKind::TooManyNamespaces,
        ProblemKind::QueueFull,
        ProblemKind::WindowFull,
        ProblemKind::TooManyFromAddress,
        ProblemKind::HeadTooLarge,
        ProblemKind::OutcomeUnknown,
        ProblemKind::Internal,
        ProblemKind::NotReady,
        ProblemKind::PositionAhead,
        ProblemKind::TooManyUploads,
        ProblemKind::TooManyConnections,
        ProblemKind::DiskFull,
        ProblemKind::Poisoned,
        ProblemKind::FilesLost,
        ProblemKind::Stopping,
        ProblemKind::UnsupportedVersion,
        ProblemKind::MemoryFull,
        ProblemKind::ClusterSecret,
        ProblemKind::CrossSite,
        ProblemKind::HostNotAllowed,
        ProblemKind::NotLeader,
        ProblemKind::NotLeading,
        ProblemKind::LeaderAway,
        ProblemKind::OtherDatabase,
        ProblemKind::SteppedDown,
        ProblemKind::NotReplicated,
    ];

    /// Status, the `type` after `urn:memdb:problem:`, and the title.
    pub(super) const fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            ProblemKind::MalformedRequest => (400, "malformed-request", "Not a sound HTTP request"),
            ProblemKind::InvalidHeader => (400, "invalid-header", "A header cannot be used"),
            ProblemKind::InvalidParameter => (400, "invalid-parameter", "A parameter cannot be used"),
            ProblemKind::InvalidBody => (400, "invalid-body", "The body cannot be read"),
            ProblemKind::InvalidUtf8 => (400, "invalid-utf8", "The text is not UTF-8"),
            ProblemKind::EmptyText => (400, "empty-text", "There is no text"),
            ProblemKind::AckUnavailable => (400, "ack-unavailable", "This node cannot acknowledge at that level"),
            ProblemKind::ClusterSecret => (403, "cluster-secret", "Only nodes of the cluster may ask this"),
            ProblemKind::CrossSite => (403, "cross-site", "Pages of other sites may not do this"),
            ProblemKind::HostNotAllowed => (403, "host-not-allowed", "This node does not answer to that name"),
            ProblemKind::NotFound => (404, "not-found", "No such route"),
            ProblemKind::MethodNotAllowed => (405, "method-not-allowed", "The route does not take this method"),
            ProblemKind::RequestTimeout => (408, "request-timeout", "The request came too slowly"),
            ProblemKind::StreamGap => (409, "stream-gap", "The stream has a gap"),
            ProblemKind::NotPromoted => (409, "not-promoted", "This node does not become the leader"),
            ProblemKind::PositionLost => (410, "position-lost", "The position no longer exists"),
            ProblemKind::PositionOtherDatabase => {
                (410, "position-other-database", "The position is of another database")
            }
            ProblemKind::BodyTooLarge => (413, "body-too-large", "The body is too large"),
            ProblemKind::UriTooLong => (414, "uri-too-long", "The request line is too long"),
            ProblemKind::UnsupportedMediaType => (415, "unsupported-media-type", "The body's type is not taken here"),
            ProblemKind::ExpectationFailed => (417, "expectation-failed", "The expectation cannot be met"),
            ProblemKind::NotLeader => (421, "not-leader", "This node takes no writes"),
            ProblemKind::KeyReused => (422, "key-reused", "The key was used with another request"),
            ProblemKind::Overflow => (422, "overflow", "A count would overflow"),
            ProblemKind::TooManyNamespaces => (422, "too-many-namespaces", "There are as many namespaces as may be"),
            ProblemKind::QueueFull => (429, "queue-full", "The write queue is full"),
            ProblemKind::WindowFull => (429, "window-full", "As many keys or streams are remembered as may be"),
            ProblemKind::TooManyFromAddress => {
                (429, "too-many-from-address", "One address asks for more than its share")
            }
            ProblemKind::HeadTooLarge => (431, "head-too-large", "The headers are too large or too many"),
            ProblemKind::OutcomeUnknown => (500, "outcome-unknown", "It is not known whether the write counts"),
            ProblemKind::Internal => (500, "internal", "The server failed"),
            ProblemKind::NotReady => (503, "not-ready", "The node does not serve current data"),
            ProblemKind::PositionAhead => (503, "position-ahead", "The position is not applied here yet"),
            ProblemKind::TooManyUploads => (503, "too-many-uploads", "Too many large bodies at once"),
            ProblemKind::TooManyConnections => (503, "too-many-connections", "As many connections are open as may be"),
            ProblemKind::DiskFull => (503, "disk-full", "The disk is full"),
            ProblemKind::Poisoned => (503, "poisoned", "The log failed; writes are refused"),
            ProblemKind::FilesLost => (503, "files-lost", "The files were taken away; writes are refused"),
            ProblemKind::Stopping => (503, "stopping", "The node is stopping"),
            ProblemKind::NotLeading => (503, "not-leading", "This node takes no writes of its own"),
            ProblemKind::LeaderAway => (503, "leader-away", "The leader cannot be reached"),
            ProblemKind::OtherDatabase => (503, "other-database", "The leader leads another database"),
            ProblemKind::SteppedDown => (503, "stepped-down", "Another leader has taken over"),
            ProblemKind::NotReplicated => (504, "not-replicated", "Applied, and not acknowledged by a replica in time"),
            ProblemKind::UnsupportedVersion => (505, "unsupported-version", "Not HTTP/1.0, HTTP/1.1 or HTTP/2"),
            ProblemKind::MemoryFull => (507, "memory-full", "The memory budget is used up"),
        }
    }

    /// Returns whether coming again after a while may help, with nothing changed.
    const fn passes(self) -> bool {
        matches!(
            self,
            ProblemKind::QueueFull
                | ProblemKind::WindowFull
                | ProblemKind::TooManyFromAddress
                | ProblemKind::NotReady
                | ProblemKind::PositionAhead
                | ProblemKind::TooManyUploads
                | ProblemKind::TooManyConnections
                | ProblemKind::DiskFull
                | ProblemKind::Stopping
                | ProblemKind::LeaderAway
        )
    }
}

/// One thing wrong with one request.
#[derive(Debug)]
pub(super) struct Problem {
    kind: ProblemKind,
    detail: Cow<'static, str>,
    /// `Allow` of a 405, `Accept-Post` of a 415.
    hint: Option<&'static str>,
    /// The next number of a stream.
    expected: Option<u64>,
    /// The position at which a write is applied that did not reach its level.
    applied: Option<Box<PositionToken>>,
    /// The database that the leader leads, where that is the trouble.
    leads: Option<Box<str>>,
    /// More members of the object.
    members: serde_json::Value,
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            hint: None,
            expected: None,
            applied: None,
            leads: None,
            members: serde_json::Value::Null,
        }
    }

    /// A 405 for a route that takes these methods.
    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let problem = Self::new(ProblemKind::MethodNotAllowed, format!("this route takes {allow}"));
        Self { hint: Some(allow), ..problem }
    }

    /// A 415 for a route that takes these types.
    pub(super) fn unsupported_media_type(accepted: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(accepted), ..Self::new(ProblemKind::UnsupportedMediaType, detail) }
    }

    /// The leader leads this database, and the follower that a write came to holds the other.
    pub(super) fn other_database(leads: u128, held: impl std::fmt::Display) -> Self {
        let detail = format!(
            "the leader leads database {leads:032x}, and the node that the write came to holds database {held}: nothing was \
             applied. Write to the leader itself if that database is meant, and give that node the leader of its own"
        );
        Self { leads: Some(format!("{leads:032x}").into()), ..Self::new(ProblemKind::OtherDatabase, detail) }
    }

    /// The same with more members, those of `object`.
    pub(super) fn with(self, members: serde_json::Value) -> Self {
        Self { members, ..self }
    }

    /// The same with another detail.
    pub(super) fn saying(self, detail: String) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// The same with what it is about in front of the detail.
    pub(super) fn about(self, subject: impl std::fmt::Display) -> Self {
        Self { detail: format!("{subject}: {}", self.detail).into(), ..self }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.facts().0).expect("a test has seen every status")
    }

    /// The body: a JSON object of RFC 9457, what a person reads first, and a newline.
    pub(super) fn body(&self) -> Vec<u8> {
        let (status, slug, title) = self.kind.facts();
        let mut members: Vec<(&str, serde_json::Value)> = vec![
            ("type", format!("urn:memdb:problem:{slug}").into()),
            ("title", title.into()),
            ("status", status.into()),
            ("detail", (*self.detail).into()),
        ];
        members.extend(self.expected.map(|expected| ("expected", expected.into())));
        if let Some(position) = &self.applied {
            members.extend([("applied", true.into()), ("position", position.to_string().into())]);
        }
        let others = self.members.as_object().into_iter().flatten();
        members.extend(others.map(|(name, value)| (name.as_str(), value.clone())));
        let mut body = Vec::with_capacity(256);
        for (at, (name, value)) in members.iter().enumerate() {
            body.push(if at == 0 { b'{' } else { b',' });
            headers::write_json_string(&mut body, name);
            body.extend_from_slice(format!(":{value}").as_bytes());
        }
        body.extend_from_slice(b"}\n");
        body
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(self.body().into());
        *response.status_mut() = self.status();
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(position) = self.applied {
            fields.insert(&headers::MEMDB_POSITION, headers::position_value(*position));
        }
        if let Some(leads) = self.leads {
            fields.insert(&headers::MEMDB_DATABASE, headers::value(String::from(leads)));
        }
        if self.kind.passes() {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        match (self.hint, self.kind) {
            (Some(allow), ProblemKind::MethodNotAllowed) => {
                fields.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            (Some(accepted), _) => {
                fields.insert(&headers::ACCEPT_POST, HeaderValue::from_static(accepted));
            }
            (None, _) => {}
        }
        response
    }

    /// The whole answer as bytes, for a connection that hyper does not answer on: it is closed afterwards.
    pub(super) fn into_last_words(self) -> Vec<u8> {
        let body = self.body();
        let status = self.status();
        let retry = if self.kind.passes() { format!("retry-after: {RETRY_AFTER_SECONDS}\r\n") } else { String::new() };
        let head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n{retry}connection: close\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or("Error"),
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

/// Maps a refused write to its problem and to the label that it is counted under. The only place that decides this.
pub(super) fn of_write_error(error: &WriteError, database: DatabaseTag) -> (Problem, RefusalLabel) {
    let (kind, refusal, what_to_do) = match error {
        WriteError::QueueFull => (ProblemKind::QueueFull, RefusalLabel::Queue, "nothing was applied; send it again"),
        WriteError::WindowFull => (
            ProblemKind::WindowFull,
            RefusalLabel::Window,
            "nothing was applied; send it again later, or give the leader more --max-keys",
        ),
        WriteError::StreamWindowFull => (
            ProblemKind::WindowFull,
            RefusalLabel::Window,
            "nothing was applied; go on under a Memdb-Stream that is known, send without one, or give the leader more \
             --max-streams or fewer --stream-window-seconds",
        ),
        WriteError::KeyReused => {
            (ProblemKind::KeyReused, RefusalLabel::KeyReused, "nothing was applied; a new request needs a new key")
        }
        WriteError::StreamGap { .. } => {
            (ProblemKind::StreamGap, RefusalLabel::StreamGap, "nothing was applied; go on with the expected number")
        }
        WriteError::Overflow { .. } | WriteError::BeyondBound { .. } => {
            (ProblemKind::Overflow, RefusalLabel::Overflow, "nothing of the request was applied")
        }
        WriteError::TooManyNamespaces(_) => {
            (ProblemKind::TooManyNamespaces, RefusalLabel::Namespaces, "nothing was applied; remove a namespace first")
        }
        WriteError::MemoryFull => (
            ProblemKind::MemoryFull,
            RefusalLabel::Memory,
            "nothing was applied; remove words or give the node more memory",
        ),
        WriteError::DiskFull => {
            (ProblemKind::DiskFull, RefusalLabel::Disk, "nothing was applied; make room, then send it again")
        }
        WriteError::Poisoned => (
            ProblemKind::Poisoned,
            RefusalLabel::Poisoned,
            "nothing was applied; reads go on; the node must be restarted",
        ),
        WriteError::FilesLost => (
            ProblemKind::FilesLost,
            RefusalLabel::Poisoned,
            "nothing was applied; save the counts (memdb export, or GET /sync) or promote a replica, before it is stopped",
        ),
        WriteError::Stopping => {
            (ProblemKind::Stopping, RefusalLabel::Stopping, "nothing was applied; send it again once the node is back")
        }
        WriteError::NotReplicated { .. } => {
            (ProblemKind::NotReplicated, RefusalLabel::NotReplicated, "it counts, and reaches the replicas later")
        }
        WriteError::NoReplicaKeepsFiles => (
            ProblemKind::AckUnavailable,
            RefusalLabel::NoReplica,
            "nothing was applied; ask for ack=replica or ack=disk",
        ),
        WriteError::SteppedDown => (
            ProblemKind::SteppedDown,
            RefusalLabel::SteppedDown,
            "nothing was applied; send it to the leader that leads now",
        ),
        WriteError::OutcomeUnknown => {
            (ProblemKind::OutcomeUnknown, RefusalLabel::OutcomeUnknown, "without a key, a repeat may count it twice")
        }
    };
    let expected = if let WriteError::StreamGap { expected } = error { Some(*expected) } else { None };
    let applied = match error {
        WriteError::NotReplicated { position, .. } => Some(Box::new(PositionToken { position: *position, database })),
        _ => None,
    };
    (Problem { expected, applied, ..Problem::new(kind, format!("{error}: {what_to_do}")) }, refusal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::position::Position, engine::leader::AckLevel};

    #[test]
    fn every_kind_is_in_the_documentation_as_it_is_here() {
        let page = include_str!("../../../docs/http-api.md");
        for kind in ProblemKind::ALL {
            let (status, slug, _) = kind.facts();
            let retry = if kind.passes() { "yes" } else { "" };
            let row = format!("| {status} | `{slug}` | {retry} |").replace("|  |", "| |");
            assert_eq!(Problem::new(kind, "").status().as_u16(), status);
            assert!(page.contains(&row), "docs/http-api.md has no row {row}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5")).count();
        assert_eq!(rows, ProblemKind::ALL.len(), "the documentation tells of problems there are not");
    }

    #[test]
    fn what_a_person_reads_first_comes_first() {
        let gap = of_write_error(&WriteError::StreamGap { expected: 7 }, DatabaseTag::of(7))
            .0
            .with(serde_json::json!({ "taken": 0 }));
        let body = String::from_utf8(gap.body()).expect("JSON is UTF-8");
        let begin = r#"{"type":"urn:memdb:problem:stream-gap","title":"The stream has a gap","status":409,"detail":"the stream's "#;
        assert!(body.starts_with(begin) && body.ends_with(",\"expected\":7,\"taken\":0}\n"), "{body}");
    }

    #[test]
    fn types_are_distinct() {
        let mut slugs: Vec<_> = ProblemKind::ALL.iter().map(|kind| kind.facts().1).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), ProblemKind::ALL.len());
    }

    #[test]
    fn a_gap_names_the_number_the_stream_goes_on_with() {
        let (problem, refusal) = of_write_error(&WriteError::StreamGap { expected: 7 }, DatabaseTag::of(7));
        assert_eq!((problem.status(), refusal), (StatusCode::CONFLICT, RefusalLabel::StreamGap));
        let body: serde_json::Value = serde_json::from_slice(&problem.body()).expect("JSON");
        assert_eq!(body["expected"], 7);
        assert_eq!(body["type"], "urn:memdb:problem:stream-gap");
    }

    #[test]
    fn statuses_of_refused_writes_say_whether_to_come_again() {
        let cases = [
            (WriteError::QueueFull, 429, true),
            (WriteError::WindowFull, 429, true),
            (WriteError::KeyReused, 422, false),
            (WriteError::Overflow { word: "a".to_owned() }, 422, false),
            (WriteError::BeyondBound { word: "a".to_owned() }, 422, false),
            (WriteError::TooManyNamespaces(1), 422, false),
            (WriteError::MemoryFull, 507, false),
            (WriteError::DiskFull, 503, true),
            (WriteError::Poisoned, 503, false),
            (WriteError::Stopping, 503, true),
            (WriteError::OutcomeUnknown, 500, false),
            (WriteError::NotReplicated { level: AckLevel::Replica, position: Position::ZERO }, 504, false),
            (WriteError::NoReplicaKeepsFiles, 400, false),
            (WriteError::SteppedDown, 503, false),
        ];
        for (error, status, retry) in cases {
            let response = of_write_error(&error, DatabaseTag::of(7)).0.into_response();
            assert_eq!(response.status().as_u16(), status, "{error:?}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), retry, "{error:?}");
        }
    }
}
