//! The writes of one entry: `PUT /cache/{key}`, `PUT /posts/{id}` and `POST /create`.

use super::super::{
    entries::{
        command::{EntryWriteKind, EntryWriteParts, WrittenEntry},
        tags::ConditionHeaders,
    },
    headers::DedupHeaders,
    query::RouteParameters,
    request_log,
    route::RouteLabel,
    state::AppState,
};
use crate::{
    api::service::AcceptedWrite, base::metrics::MethodLabel, data::command::WriteBatch, engine::leader::AckLevel,
    engine::view::ServedDatabase,
};
use bytes::Bytes;

/// A route that writes one entry, as its row in `api/http/routes.rs`.
#[derive(Debug, PartialEq, Eq)]
struct EntryWriteRoute {
    method: MethodLabel,
    path: &'static str,
    kind: EntryWriteKind,
    parameters: RouteParameters,
    label: RouteLabel,
}

const ROUTES: [EntryWriteRoute; 3] = [
    EntryWriteRoute {
        method: MethodLabel::Put,
        path: "/cache/",
        kind: EntryWriteKind::PutValue,
        parameters: RouteParameters::PUT_ENTRY,
        label: RouteLabel::Cache,
    },
    EntryWriteRoute {
        method: MethodLabel::Put,
        path: "/posts/",
        kind: EntryWriteKind::PutPost,
        parameters: RouteParameters::STORE_POST,
        label: RouteLabel::Posts,
    },
    EntryWriteRoute {
        method: MethodLabel::Post,
        path: "/create",
        kind: EntryWriteKind::CreatePost,
        parameters: RouteParameters::STORE_POST,
        label: RouteLabel::Create,
    },
];

/// The entry that a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryWriteTarget<'a> {
    route: &'static EntryWriteRoute,
    /// The key as it was sent in the path.
    name: &'a str,
}

/// What an answer says beside the receipt of the Writer, and what it is counted under.
#[derive(Debug)]
pub(super) struct EntryReceipt {
    written: WrittenEntry,
    route: &'static EntryWriteRoute,
}

impl<'a> EntryWriteTarget<'a> {
    /// The target of a method and a plain path; none if it is for the routes.
    pub(super) fn of(method: &str, path: &'a str) -> Option<Self> {
        let is_at = |route: &&EntryWriteRoute| method == route.method.name() && path.starts_with(route.path);
        let route = ROUTES.iter().find(is_at)?;
        let name = &path[route.path.len()..];
        // A document of `/create` names itself; everything else is named in the path.
        let is_named = if route.kind == EntryWriteKind::CreatePost { name.is_empty() } else { !name.is_empty() };
        is_named.then_some(Self { route, name })
    }

    /// The batch of this write; none if anything about it is for the routes to refuse.
    pub(super) fn batch(
        self,
        (query, content_type, naming): (&str, Option<&str>, &DedupHeaders),
        body: &[u8],
        (current, state): (&ServedDatabase, &AppState),
    ) -> Option<(WriteBatch, Option<AckLevel>, EntryReceipt)> {
        // A line of the log has the path of its request, which nobody has kept by the time of the answer.
        if body.len() > state.settings.max_value_bytes || request_log::is_on() {
            return None;
        }
        let Self { route, name } = self;
        let parts = EntryWriteParts {
            kind: route.kind,
            name,
            query,
            parameters: route.parameters,
            content_type,
            naming,
            conditions: &ConditionHeaders::default(),
            body: &Bytes::copy_from_slice(body),
            max_value_bytes: state.settings.max_value_bytes,
        };
        let (command, written) = parts.read().ok()?;
        let level = command.level;
        let batch = command.into_batch(current, &state.service.tallies).ok()?;
        Some((batch, level, EntryReceipt { written: written?, route }))
    }
}

impl EntryReceipt {
    /// Writes the body, and gives the tag of the value.
    pub(super) fn write_body(&self, accepted: &AcceptedWrite, body: &mut Vec<u8>) -> Option<&str> {
        self.written.write_receipt(accepted, body);
        self.written.tag()
    }

    /// The labels that the request is counted under.
    pub(super) fn labels(&self) -> (RouteLabel, MethodLabel) {
        (self.route.label, self.route.method)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{
            head::{self, HeadScan, field_space},
            test_support,
        },
        super::{named_write::NamedWrite, responder::PostRequest},
        *,
    };

    #[test]
    fn plain_writes_name_an_entry_and_odd_ones_are_left_to_the_routes() {
        let of = |method, path| EntryWriteTarget::of(method, path).map(|found| (found.route.kind, found.name));
        for (method, path, kind, name) in [
            ("PUT", "/cache/a", EntryWriteKind::PutValue, "a"),
            ("PUT", "/cache/a/b%2F/+", EntryWriteKind::PutValue, "a/b%2F/+"),
            ("PUT", "/posts/7", EntryWriteKind::PutPost, "7"),
            ("POST", "/create", EntryWriteKind::CreatePost, ""),
        ] {
            assert_eq!(of(method, path), Some((kind, name)), "{method} {path}");
        }
        for (method, path) in [
            ("PUT", "/cache/"),
            ("PUT", "/cache"),
            ("PUT", "/cachet/a"),
            ("POST", "/cache/a"),
            ("PUT", "/posts"),
            ("PUT", "/posts/"),
            ("POST", "/posts/7"),
            ("PUT", "/post"),
            ("PUT", "/create"),
            ("POST", "/create/"),
            ("POST", "/created"),
            ("DELETE", "/cache/a"),
        ] {
            assert_eq!(of(method, path), None, "{method} {path}");
        }
    }

    /// Returns whether the fast path makes a batch of a request, on a leader.
    fn is_taken(head: &str, body: &[u8]) -> bool {
        let state = test_support::state();
        let head = format!("{head}\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut fields = field_space();
        let HeadScan::Whole(head) = head::scan(head.as_bytes(), &mut fields, 10_000) else { panic!("a whole head") };
        let current = state.service.view.current();
        let current = current.as_deref().expect("it serves");
        PostRequest::of(&head).is_some_and(|request| {
            let Some(NamedWrite::Entry(entry)) = request.named else { panic!("no text is posted here") };
            let naming = DedupHeaders::default();
            entry.batch((request.query, request.content_type, &naming), body, (current, &state)).is_some()
        })
    }

    #[test]
    fn each_recognised_form_of_a_write_is_taken() {
        for (head, body) in [
            ("PUT /cache/a HTTP/1.1", "value"),
            ("PUT /cache/a?ttl=60&ns=b&ack=disk&_=1 HTTP/1.1", ""),
            ("PUT /cache/a?ttl=0.5 HTTP/1.1\r\nContent-Type: image/png", "value"),
            ("PUT /cache/%E5%8C%97/a%20b HTTP/1.1\r\nConnection: keep-alive", "value"),
            ("PUT /posts/7 HTTP/1.1", "hello"),
            ("PUT /posts/7?count=false HTTP/1.1\r\nContent-Type: image/png", "\0"),
            ("PUT /posts/7 HTTP/1.1\r\nContent-Type: application/json", r#"{"text":"a"}"#),
            ("PUT /posts/7?ttl=1 HTTP/1.1\r\nIdempotency-Key: k", "hello"),
            ("POST /create HTTP/1.1", r#"{"id":"7","title":"a"}"#),
            ("POST /create?count=false HTTP/1.1\r\nContent-Type: application/json", r#"{"id":"7"}"#),
            ("POST /create? HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded", r#"{"id":"7"}"#),
        ] {
            assert!(is_taken(head, body.as_bytes()), "{head}");
        }
        assert!(is_taken("PUT /cache/a HTTP/1.1", b"\xff"), "a value is any bytes");
    }

    #[test]
    fn each_near_miss_is_left_to_the_routes() {
        for (head, body) in [
            ("PUT /cache/a HTTP/1.0", "value"),
            ("PUT /cache/a HTTP/1.1\r\nIf-Match: *", "value"),
            ("PUT /cache/a HTTP/1.1\r\nIf-None-Match: *", "value"),
            ("PUT /cache/a HTTP/1.1\r\nExpect: 100-continue", "value"),
            ("PUT /cache/a HTTP/1.1\r\nTransfer-Encoding: chunked", "value"),
            ("PUT /cache/a HTTP/1.1\r\nContent-Encoding: gzip", "value"),
            ("PUT /cache/a HTTP/1.1\r\nConnection: close", "value"),
            ("PUT /cache/a HTTP/1.1\r\nUpgrade: h2c", "value"),
            ("PUT /cache/a HTTP/1.1\r\nOrigin: http://a", "value"),
            ("PUT /cache/a HTTP/1.1\r\nSec-Fetch-Site: cross-site", "value"),
            ("PUT /cache/a HTTP/1.1\r\nContent-Length: 5", "value"),
            ("PUT /cache/a HTTP/1.1\r\nContent-Type: a\r\nContent-Type: a", "value"),
            ("PUT /cache/a HTTP/1.1\r\nContent-Type: \u{fc}", "value"),
            ("PUT /cache/a HTTP/1.1\r\nMemdb-Min-Position: 1-1", "value"),
            ("PUT /cache/a?ttl=-1 HTTP/1.1", "value"),
            ("PUT /cache/a?ttl=1e3 HTTP/1.1", "value"),
            ("PUT /cache/a?ttl= HTTP/1.1", "value"),
            ("PUT /cache/a?ttl=1&ttl=1 HTTP/1.1", "value"),
            ("PUT /cache/a?count=false HTTP/1.1", "value"),
            ("PUT /cache/a?ns=Capital HTTP/1.1", "value"),
            ("PUT /cache/a?ns=.. HTTP/1.1", "value"),
            ("PUT /cache/%zz HTTP/1.1", "value"),
            ("PUT /cache/%ff HTTP/1.1", "value"),
            ("PUT /cache/a#b HTTP/1.1", "value"),
            ("PUT /cache/é HTTP/1.1", "value"),
            ("PUT /cache/a'b HTTP/1.1", "value"),
            ("PUT /posts/7 HTTP/1.1\r\nContent-Type: image/png", "value"),
            ("PUT /posts/7 HTTP/1.1\r\nContent-Type: text/plain; charset=latin1", "value"),
            ("PUT /posts/7?count=maybe HTTP/1.1", "value"),
            ("PUT /posts/7 HTTP/1.1\r\nContent-Type: application/json", "{"),
            ("PUT /posts/7 HTTP/1.1", "a\0"),
            ("POST /create HTTP/1.1", ""),
            ("POST /create HTTP/1.1", "{}"),
            ("POST /create HTTP/1.1", r#"{"id":7}"#),
            ("POST /create HTTP/1.1", r#"{"id":"7","title":1}"#),
            ("POST /create HTTP/1.1", r#"["id"]"#),
            ("POST /create?store=true HTTP/1.1", r#"{"id":"7"}"#),
            ("POST /create HTTP/1.1\r\nContent-Type: text/plain; charset=latin1", r#"{"id":"7"}"#),
        ] {
            assert!(!is_taken(head, body.as_bytes()), "{head}");
        }
        assert!(!is_taken(&format!("PUT /cache/{} HTTP/1.1", "k".repeat(513)), b"value"));
        for bad in [b"\xff".as_slice(), b"{\"id\":\"\xff\"}"] {
            assert!(!is_taken("POST /create HTTP/1.1", bad) && !is_taken("PUT /posts/7 HTTP/1.1", bad));
        }
        let large = vec![b'a'; test_support::state().settings.max_value_bytes + 1];
        assert!(!is_taken("PUT /cache/a HTTP/1.1", &large));
    }
}
