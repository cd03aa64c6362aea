//! Users on the fast path: the rows of the table of routes that it answers, and the headers that were right before.
//!
//! What is not certainly allowed is left to the routes, which say why it is not.

use super::super::{
    access::{self, ShownCredentials},
    head::ParsedHead,
    route::Route,
    route_access, routes,
    state::AppState,
};
use crate::{api::auth::Principal, base::limits::REMEMBERED_HEADERS};
use http::Method;
use std::sync::{Arc, LazyLock};
use subtle::ConstantTimeEq;

/// A begin of requests that the fast path may answer, and the row that they are of.
struct FastRoute {
    method: &'static str,
    begin: &'static str,
    route: &'static Route,
}

/// Found in the table of routes, so that there is one place that says what a route needs. A request that begins so and
/// is of another row is none that the fast path answers.
static FAST_ROUTES: LazyLock<Vec<FastRoute>> = LazyLock::new(|| {
    [
        (Method::GET, "/wordcount?", "/wordcount"),
        (Method::GET, "/cache/", "/cache/a"),
        (Method::GET, "/data/", "/data/a"),
        (Method::GET, "/post?", "/post"),
        (Method::GET, "/posts/", "/posts/a"),
        (Method::GET, "/health", "/health"),
        (Method::POST, "/post", "/post"),
        (Method::POST, "/create", "/create"),
        (Method::POST, "/counter/", "/counter/a/increment"),
        (Method::PUT, "/cache/", "/cache/a"),
        (Method::PUT, "/posts/", "/posts/a"),
    ]
    .into_iter()
    .filter_map(|(method, begin, path)| {
        let route = routes::find(&method, path).1?;
        Some(FastRoute { method: route.method().name(), begin, route })
    })
    .collect()
});

/// The headers that a serving thread has found right, by the table of users that is in force.
#[derive(Default)]
pub(super) struct RememberedUsers {
    generation: u64,
    known: Vec<(Box<[u8]>, Arc<Principal>)>,
    /// The place of the next one, when all are taken.
    next: usize,
}

impl RememberedUsers {
    /// Returns whether a request is certainly allowed.
    #[inline]
    pub(super) fn admit(&mut self, head: &ParsedHead<'_, '_>, state: &AppState) -> bool {
        !state.access.is_on() || self.admit_user(head, state)
    }

    fn admit_user(&mut self, head: &ParsedHead<'_, '_>, state: &AppState) -> bool {
        let (method, target) = (head.method(), head.target());
        let is_at = |fast: &&FastRoute| fast.method == method && target.starts_with(fast.begin);
        let Some(FastRoute { route, .. }) = FAST_ROUTES.iter().find(is_at) else { return false };
        // None of these is a route that nodes share with clients, or that of metrics.
        let Some(needed) = route.access.needed(false, || true) else { return true };
        let is_shown = |name: &str| name.len() == 13 && name.eq_ignore_ascii_case("authorization");
        let mut shown = head.fields().iter().filter(|field| is_shown(field.name)).map(|field| field.value);
        let (Some(header), None) = (shown.next(), shown.next()) else { return false };
        let query = target.split_once('?').map_or("", |(_, query)| query);
        self.find(header, state).is_some_and(|principal| route_access::check(principal, needed, "", query).is_ok())
    }

    fn find(&mut self, header: &[u8], state: &AppState) -> Option<&Principal> {
        let generation = state.access.generation();
        if generation != self.generation {
            self.known.clear();
            (self.generation, self.next) = (generation, 0);
        }
        let found = self.known.iter().position(|(known, _)| known.ct_eq(header).into());
        let place = match found {
            Some(place) => place,
            None => {
                let principal = access::known(state, &ShownCredentials::of(header)?)?;
                self.remember(header, principal)
            }
        };
        let principal = &self.known[place].1;
        let is_fresh = principal.expires_ms().is_none() || !principal.is_expired(state.now_ms());
        is_fresh.then_some(&**principal)
    }

    fn remember(&mut self, header: &[u8], principal: Arc<Principal>) -> usize {
        let entry = (header.into(), principal);
        if self.known.len() < REMEMBERED_HEADERS {
            self.known.push(entry);
            return self.known.len() - 1;
        }
        let place = self.next;
        self.next = (place + 1) % REMEMBERED_HEADERS;
        self.known[place] = entry;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::super::{
        head::{self, HeadScan, field_space},
        test_support,
    };
    use crate::api::auth::{AccessControl, AccessSettings, password};
    use std::path::Path;

    fn write(path: &Path, token: &str, role: &str) {
        let sha256 = password::hex(&password::sha256(token.as_bytes()));
        let day = "Tue, 01 Dec 2026 00:00:00 GMT";
        let text = format!(
            r#"{{"users":[{{"name":"ann","created":"{day}","roles":[{role}],
                "tokens":[{{"name":"t","sha256":"{sha256}","created":"{day}"}}]}}]}}"#
        );
        let disk = crate::storage::disk::RealDisk::new(path).expect("a directory");
        let file = crate::storage::disk::Disk::create(&disk, "users.json").expect("a file");
        file.append(text.as_bytes()).expect("it has room");
    }

    #[test]
    fn a_right_header_is_admitted_until_the_users_change_and_no_other_is() {
        let folder = tempfile::tempdir().expect("a directory");
        let users = Some(folder.path().join("users.json"));
        write(folder.path(), "one", r#"{"role":"read"},{"role":"write","namespaces":["b"]}"#);
        let access = AccessControl::open(&AccessSettings { users, ..AccessSettings::default() }, [1; 32]);
        let mut state = test_support::state();
        state.access = Arc::new(access.expect("it is sound"));
        let mut remembered = RememberedUsers::default();
        let mut admits = |request: &str, lines: &str| {
            let text = format!("{request} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            let mut fields = field_space();
            let HeadScan::Whole(head) = head::scan(text.as_bytes(), &mut fields, 10_000) else { panic!("a head") };
            remembered.admit(&head, &state)
        };
        let right = "Authorization: Bearer one\r\n";
        for (request, lines, admitted) in [
            ("GET /health", "", true),
            ("GET /wordcount?word=a", "", false),
            ("GET /wordcount?word=a", right, true),
            ("GET /wordcount?word=a", right, true),
            ("GET /cache/a?ns=x", right, true),
            ("PUT /cache/a?ns=b2", right, true),
            ("PUT /cache/a?ns=a", right, false),
            ("PUT /cache/a?ns=b&n%73=a", right, false),
            ("PUT /cache/a", right, false),
            ("POST /counter/a/increment", right, false),
            ("GET /wordcount?word=a", "Authorization: Bearer onE\r\n", false),
            ("GET /wordcount?word=a", "Authorization: Bearer one1\r\n", false),
            ("GET /wordcount?word=a", &format!("{right}{right}"), false),
            ("GET /metrics", right, false),
            ("POST /update", right, false),
        ] {
            assert_eq!(admits(request, lines), admitted, "{request} {lines}");
        }
        write(folder.path(), "two", r#"{"role":"read"}"#);
        crate::base::reload::ReloadablePart::reload(&*state.access).expect("it is sound");
        assert!(
            !remembered_admits(&mut remembered, &state, "one") && remembered_admits(&mut remembered, &state, "two")
        );
    }

    fn remembered_admits(remembered: &mut RememberedUsers, state: &AppState, token: &str) -> bool {
        remembered.find(format!("Bearer {token}").as_bytes(), state).is_some()
    }

    #[test]
    fn every_begin_has_its_row_and_none_is_shared_with_nodes() {
        assert_eq!(FAST_ROUTES.len(), 11);
        for fast in FAST_ROUTES.iter() {
            assert!(matches!(fast.route.access, route_access::RouteAccess::Open | route_access::RouteAccess::Role(..)));
        }
    }
}
