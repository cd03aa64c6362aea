//! In front of every route: who asks, and whether they may. Without users everybody may.

use super::{
    headers, read_fallback,
    request::RouteRequest,
    route::{Route, RouteAnswer},
    route_access::{self, NamespaceSource},
    secret_throttle::ConnectionPeer,
    state::AppState,
};
use crate::api::{
    auth::{AccessRole, AuditEvent, Credential, HasherTimeout, Principal},
    error::{ApiError, ErrorKind},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::FutureExt;
use http::{HeaderMap, header};
use secrecy::zeroize::Zeroizing;
use std::sync::Arc;

/// Credentials as a request shows them.
pub(super) enum ShownCredentials<'a> {
    /// `Bearer`.
    Token(&'a [u8]),
    /// `Basic`: the name of a user, and a password.
    Password(UserPassword),
}

/// The name of a user, and a password, which is overwritten when it is dropped.
pub(super) struct UserPassword {
    decoded: Zeroizing<Vec<u8>>,
    /// Bytes of the name, which a colon follows.
    name_bytes: usize,
}

impl UserPassword {
    fn of(encoded: &[u8]) -> Option<Self> {
        let decoded = Zeroizing::new(STANDARD.decode(encoded).ok()?);
        let name_bytes = memchr::memchr(b':', &decoded)?;
        std::str::from_utf8(&decoded[..name_bytes]).ok()?;
        Some(Self { decoded, name_bytes })
    }

    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(&self.decoded[..self.name_bytes]).unwrap_or_default()
    }

    pub(super) fn password(&self) -> &[u8] {
        &self.decoded[self.name_bytes + 1..]
    }
}

impl<'a> ShownCredentials<'a> {
    /// Reads the value of `Authorization`.
    pub(super) fn of(value: &'a [u8]) -> Option<Self> {
        let space = memchr::memchr(b' ', value)?;
        let (scheme, rest) = (&value[..space], value[space..].trim_ascii());
        if rest.is_empty() || rest.contains(&b' ') {
            return None;
        }
        if scheme.eq_ignore_ascii_case(b"Bearer") {
            return Some(Self::Token(rest));
        }
        scheme.eq_ignore_ascii_case(b"Basic").then(|| UserPassword::of(rest).map(Self::Password))?
    }
}

/// Finds who shows a header, if that can be told at once: a token, or a password that was right before.
pub(super) fn known(state: &AppState, shown: &ShownCredentials<'_>) -> Option<Arc<Principal>> {
    match shown {
        ShownCredentials::Token(token) => state.access.of_token(token, state.now_ms()),
        ShownCredentials::Password(user) => state.access.of_known_password(user.name(), user.password()),
    }
}

/// Answers a request by its route, if whoever sends it may have it answered.
pub(super) fn answer(route: &'static Route, request: RouteRequest) -> RouteAnswer {
    let state = Arc::clone(&request.state);
    let needed = route.access.needed(state.access.metrics_are_open(), || request.of_node().is_some());
    let Some(needed) = needed else { return read_fallback::answer(route, request) };
    if !state.access.is_on() {
        // What is for all namespaces is decided by the cluster's secret, once the route is asked (`nodes.rs`).
        if state.access.audit.is_on() && is_administrative(needed) && needed.1 != NamespaceSource::All {
            note(&request, route, RequestUser::Nobody, needed, "allowed");
        }
        return read_fallback::answer(route, request);
    }
    let shown = match single(&request.headers) {
        Ok(Some(value)) => value.to_owned(),
        Ok(None) => {
            let problem = unauthenticated("this request has none");
            return refused(&request, route, RequestUser::Nobody, needed, ("missing", problem));
        }
        Err(problem) => return refused(&request, route, RequestUser::Nobody, needed, ("malformed", problem)),
    };
    let Some(credentials) = ShownCredentials::of(shown.as_bytes()) else {
        let problem =
            unauthenticated("Authorization is neither Bearer with a token nor Basic with a user and a password");
        return refused(&request, route, RequestUser::Nobody, needed, ("malformed", problem));
    };
    if let Some(principal) = known(&state, &credentials) {
        return decided(route, request, principal, needed);
    }
    async move {
        let Some(credentials) = ShownCredentials::of(shown.as_bytes()) else { return Err(wrong()) };
        let found = verified(&state, &request.client, &credentials).await;
        let claimed = match &credentials {
            ShownCredentials::Password(user) => RequestUser::Claimed(user.name()),
            ShownCredentials::Token(_) => RequestUser::Nobody,
        };
        let refusal = match found {
            Ok(Some(principal)) => {
                return decided(route, request, principal, needed).await;
            }
            Ok(None) => ("wrong", wrong()),
            Err(problem) => ("throttled", problem),
        };
        refused(&request, route, claimed, needed, refusal).await
    }
    .boxed()
}

async fn verified(
    state: &AppState,
    client: &ConnectionPeer,
    shown: &ShownCredentials<'_>,
) -> Result<Option<Arc<Principal>>, ApiError> {
    match shown {
        ShownCredentials::Token(_) => state.guesses.token(client, known(state, shown)).await,
        ShownCredentials::Password(user) => {
            let check = async {
                let source = (client.address(), state.guesses.has_failed(client));
                state.access.of_password(user.name(), user.password(), source).await.transpose()
            };
            // One that had no turn is not wrong: it costs its address nothing.
            let found = state.guesses.password(client, user.name(), check).await?;
            found.transpose().map_err(|HasherTimeout| {
                let detail = "too many passwords wait to be checked; come again, or use a token, which does not wait";
                ApiError::new(ErrorKind::TooManyPasswords, detail)
            })
        }
    }
}

/// Answers by the route, or refuses, now that it is known who asks.
fn decided(
    route: &'static Route,
    mut request: RouteRequest,
    principal: Arc<Principal>,
    needed: (AccessRole, NamespaceSource),
) -> RouteAnswer {
    if let Err(wanting) = route_access::check(&principal, needed, &request.name, &request.query) {
        let namespace = match wanting.namespace {
            Some(name) => format!("namespace {:?}", &*name),
            None => "all namespaces".to_owned(),
        };
        let detail = format!(
            "this needs the role {} for {namespace}; the user {} has {}",
            wanting.role,
            principal.name(),
            principal.rights()
        );
        let problem = ApiError::new(ErrorKind::Forbidden, detail);
        return refused(&request, route, RequestUser::Proved(&principal), needed, ("forbidden", problem));
    }
    if is_administrative(needed) {
        note(&request, route, RequestUser::Proved(&principal), needed, "allowed");
    }
    request.principal = Some(principal);
    read_fallback::answer(route, request)
}

/// The value of `Authorization`, of which there may be one.
fn single(fields: &HeaderMap) -> Result<Option<&http::HeaderValue>, ApiError> {
    let mut values = fields.get_all(header::AUTHORIZATION).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(ApiError::new(ErrorKind::InvalidHeader, "authorization is sent twice")),
    }
}

fn unauthenticated(why: &str) -> ApiError {
    let detail = format!("send a token (Authorization: Bearer TOKEN) or a user and a password (Basic): {why}");
    ApiError::new(ErrorKind::Unauthenticated, detail)
}

/// One answer for everything that is not right, so that it does not tell what there is.
fn wrong() -> ApiError {
    unauthenticated("there is no such token, or user with this password, or it has expired")
}

/// Returns whether a request is written into the audit log also where it is allowed.
fn is_administrative((role, source): (AccessRole, NamespaceSource)) -> bool {
    // Announcements come twice a second; records and snapshots are what a node takes away.
    role == AccessRole::Admin || (role == AccessRole::Replicate && source == NamespaceSource::All)
}

/// The user that a request is from, as far as it is known.
#[derive(Clone, Copy)]
enum RequestUser<'a> {
    Nobody,
    Claimed(&'a str),
    Proved(&'a Principal),
}

/// Refuses a request, for a reason that is counted.
fn refused(
    request: &RouteRequest,
    route: &'static Route,
    who: RequestUser<'_>,
    needed: (AccessRole, NamespaceSource),
    (reason, problem): (&'static str, ApiError),
) -> RouteAnswer {
    request.state.service.metrics.protection.credentials_refused(reason);
    note(request, route, who, needed, problem.kind().slug());
    std::future::ready(Err(problem)).boxed()
}

fn note(
    request: &RouteRequest,
    route: &'static Route,
    who: RequestUser<'_>,
    (role, source): (AccessRole, NamespaceSource),
    decision: &str,
) {
    let audit = &request.state.access.audit;
    if !audit.is_on() {
        return;
    }
    let (user, token) = match who {
        RequestUser::Nobody => (None, None),
        RequestUser::Claimed(name) => (Some(name), None),
        RequestUser::Proved(principal) => match principal.credential() {
            // Nodes offer records many times a second; what they fetch whole is told.
            Credential::ClusterSecret if role == AccessRole::Replicate && !is_full_sync(request) => return,
            Credential::Token { name, .. } => (Some(principal.name()), Some(&**name)),
            Credential::ClusterSecret | Credential::Password(_) => (Some(principal.name()), None),
        },
    };
    let namespace = source.find(&request.name, &request.query);
    audit.note(&AuditEvent {
        unix_ms: request.state.now_ms(),
        address: Some(request.client.address()),
        user: user.map(headers::shortened),
        token,
        route: &route.to_string(),
        namespace: namespace.as_deref().map(headers::shortened),
        decision,
    });
}

fn is_full_sync(request: &RouteRequest) -> bool {
    request.method == http::Method::GET
}

/// Ends once the user of a long answer has lost the right to it.
pub(super) fn until_revoked(request: &RouteRequest, namespace: String) -> impl Future<Output = ()> + Send + 'static {
    let (state, principal) = (Arc::clone(&request.state), request.principal.clone());
    async move {
        let Some(principal) = principal else { return std::future::pending().await };
        let now_ms = || state.now_ms();
        state.access.until_revoked(&principal, AccessRole::Read, Some(&namespace), now_ms).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_of_one_scheme_and_whole() {
        let basic = |text: &[u8]| format!("Basic {}", STANDARD.encode(text));
        let name_of = |value: &str| match ShownCredentials::of(value.as_bytes()) {
            Some(ShownCredentials::Password(user)) => Some((user.name().to_owned(), user.password().to_vec())),
            Some(ShownCredentials::Token(token)) => Some((String::new(), token.to_vec())),
            None => None,
        };
        let of = |name: &str, secret: &[u8]| Some((name.to_owned(), secret.to_vec()));
        assert_eq!(name_of(&basic(b"ann:a:b")), of("ann", b"a:b"));
        assert_eq!(name_of(&basic(b"ann:")), of("ann", b""));
        assert_eq!(name_of(&basic(b":x")), of("", b"x"));
        assert_eq!(name_of("bearer  abc "), of("", b"abc"));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Basic",
            "Basic !",
            "Basic YQ",
            "Digest a",
            "abc",
            &basic(b"no colon"),
            &basic(b"\xff:x"),
            &format!("Bearer a, {}", basic(b"a:b")),
        ] {
            assert_eq!(name_of(bad), None, "{bad}");
        }
    }
}
