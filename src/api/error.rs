//! Everything that can be wrong with a request, whatever protocol it came by, in one table.
//!
//! A row of [`ErrorKind`] says how HTTP, the Redis protocol to come, and `/metrics` name one kind of error. A new kind
//! is a new row here, and one in `docs/http-api.md`, which a test compares. Who refuses a request makes an [`ApiError`]
//! whose detail says what to do; only the protocols' own folders (`http/problem.rs`) turn it into bytes.

use crate::{
    base::position::{DatabaseTag, PositionToken},
    data::counters::RateQuota,
    engine::leader::WriteError,
};
use std::{borrow::Cow, fmt};

/// The names of one kind of error in each protocol.
struct ErrorRow {
    /// Status of HTTP.
    status: u16,
    /// The `type` of a problem, after `urn:memdb:problem:`.
    slug: &'static str,
    /// The title of a problem.
    title: &'static str,
    /// First word of an error in the Redis protocol.
    redis_code: &'static str,
    /// The label `reason` of `memdb_refused_total`, of kinds by which writes are refused.
    refusal_label: Option<&'static str>,
    /// True if sending the request again after a while may help, with nothing changed.
    repeat_later: bool,
}

macro_rules! error_kinds {
    ($($kind:ident: $status:literal $slug:literal, $title:literal,
        redis $code:ident, refused as $label:tt, repeat $repeat:ident;)*) => {
        /// The kind of an error, as far as a client's code would tell cases apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ErrorKind {
            $(#[doc = concat!($title, ".")] $kind,)*
        }

        impl ErrorKind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &[ErrorKind] = &[$(ErrorKind::$kind),*];

            const ROWS: &[ErrorRow] = &[$(ErrorRow {
                status: $status,
                slug: $slug,
                title: $title,
                redis_code: stringify!($code),
                refusal_label: error_kinds!(@label $label),
                repeat_later: error_kinds!(@repeat $repeat),
            }),*];
        }
    };
    (@label -) => { None };
    (@label $label:literal) => { Some($label) };
    (@repeat later) => { true };
    (@repeat never) => { false };
}

error_kinds! {
    MalformedRequest: 400 "malformed-request", "Not a sound HTTP request",
        redis ERR, refused as -, repeat never;
    InvalidHeader: 400 "invalid-header", "A header cannot be used",
        redis ERR, refused as -, repeat never;
    InvalidParameter: 400 "invalid-parameter", "A parameter cannot be used",
        redis ERR, refused as -, repeat never;
    InvalidBody: 400 "invalid-body", "The body cannot be read",
        redis ERR, refused as -, repeat never;
    InvalidUtf8: 400 "invalid-utf8", "The text is not UTF-8",
        redis ERR, refused as -, repeat never;
    EmptyText: 400 "empty-text", "There is no text",
        redis ERR, refused as -, repeat never;
    AckUnavailable: 400 "ack-unavailable", "This node cannot acknowledge at that level",
        redis NOREPLICAS, refused as "no-replica", repeat never;
    Unauthenticated: 401 "unauthenticated", "Credentials are wanted",
        redis NOAUTH, refused as -, repeat never;
    Forbidden: 403 "forbidden", "The user has no such right",
        redis NOPERM, refused as -, repeat never;
    ClusterSecret: 403 "cluster-secret", "Only nodes of the cluster may ask this",
        redis NOPERM, refused as -, repeat never;
    CrossSite: 403 "cross-site", "Pages of other sites may not do this",
        redis NOPERM, refused as -, repeat never;
    HostNotAllowed: 403 "host-not-allowed", "This node does not answer to that name",
        redis NOPERM, refused as -, repeat never;
    NotFound: 404 "not-found", "No such route",
        redis ERR, refused as -, repeat never;
    EntryNotFound: 404 "entry-not-found", "No such entry",
        redis ERR, refused as -, repeat never;
    PostNotFound: 404 "post-not-found", "No such post",
        redis ERR, refused as -, repeat never;
    OriginNotFound: 404 "origin-not-found", "The origin has no such value",
        redis ERR, refused as -, repeat never;
    NoOrigin: 404 "no-origin", "There is no origin to read through to",
        redis ERR, refused as -, repeat never;
    MethodNotAllowed: 405 "method-not-allowed", "The route does not take this method",
        redis ERR, refused as -, repeat never;
    NotAcceptable: 406 "not-acceptable", "The answer has another media type",
        redis ERR, refused as -, repeat never;
    RequestTimeout: 408 "request-timeout", "The request came too slowly",
        redis ERR, refused as -, repeat never;
    StreamGap: 409 "stream-gap", "The stream has a gap",
        redis ERR, refused as "stream-gap", repeat never;
    BelowZero: 409 "below-zero", "A count would fall below zero",
        redis ERR, refused as "below-zero", repeat never;
    HoldsCounters: 409 "holds-counters", "The namespace holds counters",
        redis WRONGTYPE, refused as "holds-counters", repeat never;
    HoldsWords: 409 "holds-words", "The namespace of the counters holds words",
        redis WRONGTYPE, refused as "holds-words", repeat never;
    NotPromoted: 409 "not-promoted", "This node does not become the leader",
        redis ERR, refused as -, repeat never;
    PositionLost: 410 "position-lost", "The position no longer exists",
        redis ERR, refused as -, repeat never;
    PositionOtherDatabase: 410 "position-other-database", "The position is of another database",
        redis ERR, refused as -, repeat never;
    PreconditionFailed: 412 "precondition-failed", "The entry is not as the request wants it",
        redis ERR, refused as "precondition-failed", repeat never;
    BodyTooLarge: 413 "body-too-large", "The body is too large",
        redis ERR, refused as -, repeat never;
    UriTooLong: 414 "uri-too-long", "The request line is too long",
        redis ERR, refused as -, repeat never;
    UnsupportedMediaType: 415 "unsupported-media-type", "The body's type is not taken here",
        redis ERR, refused as -, repeat never;
    ExpectationFailed: 417 "expectation-failed", "The expectation cannot be met",
        redis ERR, refused as -, repeat never;
    NotLeader: 421 "not-leader", "This node takes no writes",
        redis READONLY, refused as -, repeat never;
    KeyReused: 422 "key-reused", "The key was used with another request",
        redis ERR, refused as "key-reused", repeat never;
    Overflow: 422 "overflow", "A count would overflow",
        redis ERR, refused as "overflow", repeat never;
    TooManyNamespaces: 422 "too-many-namespaces", "There are as many namespaces as may be",
        redis ERR, refused as "too-many-namespaces", repeat never;
    TooManyCollections: 422 "too-many-collections", "There are as many collections as may be",
        redis ERR, refused as "too-many-collections", repeat never;
    CounterQueueFull: 429 "counter-queue-full", "The queue of increments is full",
        redis BUSY, refused as "counter-queue-full", repeat later;
    RateExceeded: 429 "rate-exceeded", "The key has used up its rate",
        redis BUSY, refused as "rate-exceeded", repeat later;
    PostRateExceeded: 429 "post-rate-exceeded", "The namespace has used up its rate of posts",
        redis BUSY, refused as "post-rate-exceeded", repeat later;
    QueueFull: 429 "queue-full", "The write queue is full",
        redis BUSY, refused as "queue-full", repeat later;
    WindowFull: 429 "window-full", "As many keys or streams are remembered as may be",
        redis BUSY, refused as "window-full", repeat later;
    TooManyFromAddress: 429 "too-many-from-address", "One address asks for more than its share",
        redis BUSY, refused as -, repeat later;
    HeadTooLarge: 431 "head-too-large", "The headers are too large or too many",
        redis ERR, refused as -, repeat never;
    OutcomeUnknown: 500 "outcome-unknown", "It is not known whether the write counts",
        redis ERR, refused as "outcome-unknown", repeat never;
    Internal: 500 "internal", "The server failed",
        redis ERR, refused as -, repeat never;
    OriginFailed: 502 "origin-failed", "The origin gives no value",
        redis ERR, refused as -, repeat later;
    NotReady: 503 "not-ready", "The node does not serve current data",
        redis LOADING, refused as -, repeat later;
    PositionAhead: 503 "position-ahead", "The position is not applied here yet",
        redis TRYAGAIN, refused as -, repeat later;
    TooManyUploads: 503 "too-many-uploads", "Too many large bodies at once",
        redis BUSY, refused as -, repeat later;
    TooManyConnections: 503 "too-many-connections", "As many connections are open as may be",
        redis ERR, refused as -, repeat later;
    TooManyPasswords: 503 "too-many-passwords", "As many passwords wait to be checked as may be",
        redis BUSY, refused as -, repeat later;
    TooManyWatchers: 503 "too-many-watchers", "As many watchers are there as may be",
        redis BUSY, refused as -, repeat later;
    OriginBusy: 503 "origin-busy", "As many values are fetched as may be at once",
        redis BUSY, refused as -, repeat later;
    RankingBusy: 503 "ranking-busy", "The counts cannot be ranked now",
        redis BUSY, refused as -, repeat later;
    DiskFull: 503 "disk-full", "The disk is full",
        redis MISCONF, refused as "disk-full", repeat later;
    Poisoned: 503 "poisoned", "The log failed; writes are refused",
        redis MISCONF, refused as "poisoned", repeat never;
    FilesLost: 503 "files-lost", "The files were taken away; writes are refused",
        redis MISCONF, refused as "poisoned", repeat never;
    Stopping: 503 "stopping", "The node is stopping",
        redis TRYAGAIN, refused as "stopping", repeat later;
    NotLeading: 503 "not-leading", "This node takes no writes of its own",
        redis READONLY, refused as -, repeat never;
    LeaderAway: 503 "leader-away", "The leader cannot be reached",
        redis MASTERDOWN, refused as "leader-away", repeat later;
    OtherDatabase: 503 "other-database", "The leader leads another database",
        redis MASTERDOWN, refused as "other-database", repeat never;
    SteppedDown: 503 "stepped-down", "Another leader has taken over",
        redis READONLY, refused as "stepped-down", repeat never;
    NotReplicated: 504 "not-replicated", "Applied, and not acknowledged by a replica in time",
        redis NOREPLICAS, refused as "not-replicated", repeat never;
    OriginTimeout: 504 "origin-timeout", "The origin has not answered in time",
        redis TRYAGAIN, refused as -, repeat later;
    UnsupportedVersion: 505 "unsupported-version", "Not HTTP/1.0, HTTP/1.1 or HTTP/2",
        redis ERR, refused as -, repeat never;
    MemoryFull: 507 "memory-full", "The memory budget is used up",
        redis OOM, refused as "memory-full", repeat never;
    NamespaceFull: 507 "namespace-full", "The quota of the namespace is used up",
        redis OOM, refused as "namespace-full", repeat never;
    EntriesFull: 507 "entries-full", "The memory budget of entries is used up",
        redis OOM, refused as "entries-full", repeat never;
}

impl ErrorKind {
    const fn row(self) -> &'static ErrorRow {
        &Self::ROWS[self as usize]
    }

    /// The status of HTTP.
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// The `type` of a problem, after `urn:memdb:problem:`.
    pub const fn slug(self) -> &'static str {
        self.row().slug
    }

    /// The title of a problem.
    pub const fn title(self) -> &'static str {
        self.row().title
    }

    /// The first word of an error in the Redis protocol.
    pub const fn redis_code(self) -> &'static str {
        self.row().redis_code
    }

    /// The label `reason` of `memdb_refused_total`, if writes are refused by this kind.
    pub const fn refusal_label(self) -> Option<&'static str> {
        self.row().refusal_label
    }

    /// Returns whether sending the request again after a while may help, with nothing changed.
    pub const fn repeat_later(self) -> bool {
        self.row().repeat_later
    }
}

/// One thing wrong with one request.
#[derive(Debug)]
pub struct ApiError {
    pub(super) kind: ErrorKind,
    pub(super) detail: Cow<'static, str>,
    /// Alternatives that are taken: the methods of a 405, the media types of a 415.
    pub(super) accepted: Option<Cow<'static, str>>,
    /// The next number of a stream.
    pub(super) expected: Option<u64>,
    /// The position at which a write is applied that did not reach its level.
    pub(super) applied: Option<Box<PositionToken>>,
    /// The position of a read that finds nothing, and the lag of its follower.
    pub(super) read_at: Option<Box<(PositionToken, Option<u64>)>>,
    /// The database that the leader leads, where that is the trouble.
    pub(super) leads: Option<Box<str>>,
    /// The rate that refuses an increment or a post.
    pub(super) quota: Option<Box<RateQuota>>,
    /// More members of the object.
    pub(super) members: Option<Box<serde_json::Value>>,
}

impl ApiError {
    /// An error of this kind. The detail says what to do.
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        let (accepted, expected, applied, read_at, leads, quota, members) = (None, None, None, None, None, None, None);
        Self { kind, detail: detail.into(), accepted, expected, applied, read_at, leads, quota, members }
    }

    /// A 405 for a route that takes these methods.
    pub fn method_not_allowed(allow: impl Into<Cow<'static, str>>) -> Self {
        let allow = allow.into();
        let problem = Self::new(ErrorKind::MethodNotAllowed, format!("this route takes {allow}"));
        Self { accepted: Some(allow), ..problem }
    }

    /// A 415 for a route that takes these types.
    pub fn unsupported_media_type(accepted: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { accepted: Some(accepted.into()), ..Self::new(ErrorKind::UnsupportedMediaType, detail) }
    }

    /// The leader leads this database, and the follower that a write came to holds the other.
    pub fn other_database(leads: u128, held: impl fmt::Display) -> Self {
        let detail = format!(
            "the leader leads database {leads:032x}, and the node that the write came to holds database {held}: nothing was \
             applied. Write to the leader itself if that database is meant, and give that node the leader of its own"
        );
        Self { leads: Some(format!("{leads:032x}").into()), ..Self::new(ErrorKind::OtherDatabase, detail) }
    }

    /// The same with more members, those of the object `more`.
    pub fn with(self, more: serde_json::Value) -> Self {
        let mut members = self.members.unwrap_or_else(|| serde_json::json!({}).into());
        if let (Some(members), serde_json::Value::Object(more)) = (members.as_object_mut(), more) {
            members.extend(more);
        }
        Self { members: Some(members), ..self }
    }

    /// The same, of a read at this position: answers that find nothing have one too.
    pub fn read_at(self, position: PositionToken, lag_ms: Option<u64>) -> Self {
        Self { read_at: Some(Box::new((position, lag_ms))), ..self }
    }

    /// The same with another detail.
    pub fn saying(self, detail: String) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// The same with what it is about in front of the detail.
    pub fn about(self, subject: impl fmt::Display) -> Self {
        Self { detail: format!("{subject}: {}", self.detail).into(), ..self }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error in the Redis protocol, without its `-` and the end of its line.
    pub fn redis_text(&self) -> String {
        format!("{} {}", self.kind.redis_code(), self.detail.replace(['\r', '\n'], " "))
    }

    /// Maps a refused write to its error. `database` is the one that its position is of.
    pub fn of_write(error: &WriteError, database: DatabaseTag) -> Self {
        let (kind, what_to_do) = match error {
            WriteError::QueueFull => (ErrorKind::QueueFull, "nothing was applied; send it again"),
            WriteError::QueueShareFull => return Self::new(ErrorKind::QueueFull, share_full(error)),
            WriteError::WindowFull => {
                (ErrorKind::WindowFull, "nothing was applied; send it again later, or give the leader more --max-keys")
            }
            WriteError::StreamWindowFull => (
                ErrorKind::WindowFull,
                "nothing was applied; go on under a Memdb-Stream that is known, send without one, or give the leader more \
                 --max-streams or fewer --stream-window-seconds",
            ),
            WriteError::KeyReused => (ErrorKind::KeyReused, "nothing was applied; a new request needs a new key"),
            WriteError::StreamGap { .. } => {
                (ErrorKind::StreamGap, "nothing was applied; go on with the expected number")
            }
            WriteError::Overflow { .. } | WriteError::BeyondBound { .. } => {
                (ErrorKind::Overflow, "nothing of the request was applied")
            }
            WriteError::BelowZero { .. } => (
                ErrorKind::BelowZero,
                "nothing was applied; add what was taken from the counts, or let the post expire",
            ),
            WriteError::CounterQueueFull(_)
            | WriteError::TooManyWindows
            | WriteError::RateExceeded(_)
            | WriteError::PostRateExceeded(_)
            | WriteError::HoldsCounters
            | WriteError::HoldsWords => Self::of_counters(error),
            WriteError::PreconditionFailed => {
                (ErrorKind::PreconditionFailed, "nothing was applied; read the entry anew")
            }
            WriteError::EntriesFull
            | WriteError::TooManyCollections(_)
            | WriteError::TooManyNamespaces(_)
            | WriteError::NamespaceFull(_)
            | WriteError::MemoryFull => Self::of_bounds(error),
            WriteError::DiskFull => (ErrorKind::DiskFull, "nothing was applied; make room, then send it again"),
            WriteError::Poisoned => {
                (ErrorKind::Poisoned, "nothing was applied; reads go on; the node must be restarted")
            }
            WriteError::FilesLost => (ErrorKind::FilesLost, SAVE_THE_COUNTS),
            WriteError::Stopping => (ErrorKind::Stopping, "nothing was applied; send it again once the node is back"),
            WriteError::NotReplicated { .. } => (ErrorKind::NotReplicated, "it counts, and reaches the replicas later"),
            WriteError::NoReplicaKeepsFiles => {
                (ErrorKind::AckUnavailable, "nothing was applied; ask for ack=replica or ack=disk")
            }
            WriteError::SteppedDown => {
                (ErrorKind::SteppedDown, "nothing was applied; send it to the leader that leads now")
            }
            WriteError::OutcomeUnknown => (ErrorKind::OutcomeUnknown, "without a key, a repeat may count it twice"),
        };
        let expected = if let WriteError::StreamGap { expected } = error { Some(*expected) } else { None };
        let quota = match error {
            WriteError::CounterQueueFull(quota) | WriteError::RateExceeded(quota) => quota.map(Box::new),
            WriteError::PostRateExceeded(quota) => Some(Box::new(*quota)),
            _ => None,
        };
        Self {
            expected,
            applied: applied_at(error, database),
            quota,
            ..Self::new(kind, format!("{error}: {what_to_do}"))
        }
    }
}

/// The position at which a write is applied that did not reach its level.
fn applied_at(error: &WriteError, database: DatabaseTag) -> Option<Box<PositionToken>> {
    match error {
        WriteError::NotReplicated { position, .. } => Some(Box::new(PositionToken { position: *position, database })),
        _ => None,
    }
}

impl ApiError {
    /// The kind of a write for which there is no room, and what to do about it.
    fn of_bounds(error: &WriteError) -> (ErrorKind, &'static str) {
        match error {
            WriteError::EntriesFull => {
                (ErrorKind::EntriesFull, "nothing was applied; remove entries or give the node more --entry-memory")
            }
            WriteError::TooManyCollections(_) => {
                (ErrorKind::TooManyCollections, "nothing was applied; remove all entries of a namespace first")
            }
            WriteError::TooManyNamespaces(_) => {
                (ErrorKind::TooManyNamespaces, "nothing was applied; remove a namespace first")
            }
            WriteError::NamespaceFull(_) => (
                ErrorKind::NamespaceFull,
                "nothing was applied; remove words or entries of the namespace, or give it a larger --namespace-quota",
            ),
            _ => (ErrorKind::MemoryFull, "nothing was applied; remove words or give the node more memory"),
        }
    }

    /// The kind of a write that counters, or a rate, refuse, and what to do about it.
    fn of_counters(error: &WriteError) -> (ErrorKind, &'static str) {
        match error {
            WriteError::HoldsCounters => (
                ErrorKind::HoldsCounters,
                "nothing was applied; use POST /counter/KEY/increment and DELETE /counter/KEY, or another namespace",
            ),
            WriteError::HoldsWords => {
                (ErrorKind::HoldsWords, "nothing was applied; take that namespace away first (DELETE /ns/counters)")
            }
            WriteError::RateExceeded(_) => (ErrorKind::RateExceeded, WINDOW_IS_FULL),
            WriteError::PostRateExceeded(_) => (ErrorKind::PostRateExceeded, WINDOW_IS_FULL),
            _ => (ErrorKind::CounterQueueFull, "nothing was applied; send it again later"),
        }
    }
}

const WINDOW_IS_FULL: &str = "nothing was applied; send it again when the window has room";
const SAVE_THE_COUNTS: &str =
    "nothing was applied; save the counts (GET /sync of each namespace) or promote a replica, before it is stopped";

/// The end of a refusal, for whoever sees many clients at one address.
pub(super) const BEHIND_A_PROXY: &str =
    "a proxy has the address of all its clients: give the node more --max-connections-per-address";

fn share_full(error: &WriteError) -> String {
    format!("{error}: nothing was applied; send it again once others of its writes are answered; {BEHIND_A_PROXY}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_distinct_and_kinds_lie_at_their_numbers() {
        let mut slugs: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), ErrorKind::ALL.len());
        assert!(ErrorKind::ALL.iter().enumerate().all(|(at, kind)| *kind as usize == at));
    }

    #[test]
    fn every_kind_is_in_the_documentation_as_it_is_here() {
        let page = include_str!("../../docs/http-api.md");
        for kind in ErrorKind::ALL {
            let retry = if kind.repeat_later() { "yes" } else { "" };
            let row = format!("| {} | `{}` | {retry} |", kind.status(), kind.slug()).replace("|  |", "| |");
            assert!(page.contains(&row), "docs/http-api.md has no row {row}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5")).count();
        assert_eq!(rows, ErrorKind::ALL.len(), "the documentation tells of problems there are not");
    }

    #[test]
    fn an_error_is_one_line_in_the_redis_protocol() {
        let error = ApiError::new(ErrorKind::NotReady, "one\r\ntwo");
        assert_eq!(error.redis_text(), "LOADING one  two");
    }

    #[test]
    fn a_refused_write_has_a_label_whatever_refuses_it() {
        for label in ErrorKind::ALL.iter().filter_map(|kind| kind.refusal_label()) {
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{label}");
        }
        let error = ApiError::of_write(&WriteError::FilesLost, DatabaseTag::of(7));
        assert_eq!((error.kind().slug(), error.kind().refusal_label()), ("files-lost", Some("poisoned")));
    }
}
