//! Each row of the table of routes as a request, for the test that tries every one of them as every user.

use super::{
    openapi::RequestBody,
    route::{Route, RouteMethod},
    route_access::{NamespaceSource, RouteAccess},
    routes::ROUTES,
};
use crate::{
    api::auth::AccessRole,
    replication::{HELLO_TYPE, RECORDS_TYPE, SNAPSHOT_TYPE},
};

/// A request, and the right that it needs.
#[derive(Clone, Debug)]
pub struct AccessCase {
    /// The row of the table: `GET /cache/KEY`.
    pub route: String,
    /// The method.
    pub method: &'static str,
    /// The path, and the query behind it.
    pub target: String,
    /// A header by which nodes make it theirs, or one that does not.
    pub header: Option<(&'static str, &'static str)>,
    /// The role, and the namespace that it must be for; none: all. None at all if everybody may.
    pub needs: Option<(AccessRole, Option<String>)>,
    /// True if the fast path may answer it.
    pub only_reads: bool,
}

/// The requests of all rows, of this namespace where a request names one. `metrics_are_open`: as the node has it.
pub fn all(namespace: &str, metrics_are_open: bool) -> Vec<AccessCase> {
    let mut cases = Vec::new();
    for route in ROUTES {
        cases.push(case(route, namespace, metrics_are_open, None, false));
        if matches!(route.access, RouteAccess::RoleOrNode(..)) {
            let of_bodies = [("content-type", RECORDS_TYPE)];
            let of_answers = [("accept", SNAPSHOT_TYPE), ("accept", RECORDS_TYPE)];
            // The other one of the two headers makes nobody a node.
            let (of_node, of_client): (&[_], &[_]) = match route.method() {
                RouteMethod::Get => (&of_answers, &of_bodies),
                _ => (&of_bodies, &of_answers),
            };
            let with = |header: &_, is_of_node| case(route, namespace, metrics_are_open, Some(*header), is_of_node);
            cases.extend(of_node.iter().map(|header| with(header, true)));
            cases.extend(of_client.iter().map(|header| with(header, false)));
        }
    }
    cases
}

fn case(
    route: &Route,
    namespace: &str,
    metrics_are_open: bool,
    header: Option<(&'static str, &'static str)>,
    is_of_node: bool,
) -> AccessCase {
    let needed = route.access.needed(metrics_are_open, || is_of_node);
    let (begin, rest) = route.path().split_once('{').unwrap_or((route.path(), ""));
    let tail = rest.split_once('}').map_or("", |(_, tail)| tail);
    let name = match needed {
        _ if rest.is_empty() => "",
        Some((_, NamespaceSource::Path)) => namespace,
        _ => "a",
    };
    let mut query: Vec<String> = route.required_parameters.iter().map(|name| format!("{name}=1")).collect();
    if route.parameters.names().any(|name| name == "ns") {
        query.push(format!("ns={namespace}"));
    }
    if route.label == super::route::RouteLabel::Watch {
        query.push("word=a".to_owned());
    }
    let target = super::query::target(format!("{begin}{name}{tail}"), &query.join("&"));
    let needs = needed.map(|(role, source)| {
        let (name, query) = (name.to_owned(), query.join("&"));
        (role, source.find(&name, &query).map(|found| found.into_owned()))
    });
    let header = header.or_else(|| {
        // Announcements are told by their path alone, and refused without their type.
        let is_announcement = route.path() == "/sync" && route.method() == RouteMethod::Post;
        let is_json = || route.body != RequestBody::NONE && route.body != RequestBody::VALUE;
        match is_announcement {
            true => Some(("content-type", HELLO_TYPE)),
            false => is_json().then_some(("content-type", "application/json")),
        }
    });
    let only_reads = route.only_reads || route.method() == RouteMethod::Get;
    AccessCase { route: route.to_string(), method: route.method().name(), target, header, needs, only_reads }
}

/// The right that each row needs, as documents tell it: the route, the role, and the namespace.
pub fn rights() -> Vec<[String; 3]> {
    let told = |route: &Route| {
        let of = |role: AccessRole, source: NamespaceSource| {
            let namespace = match source {
                NamespaceSource::Query => "`ns=`".to_owned(),
                NamespaceSource::Path => "`NAME`".to_owned(),
                NamespaceSource::Fixed(name) => format!("`{name}`"),
                NamespaceSource::All => "all".to_owned(),
            };
            (format!("`{role}`"), namespace)
        };
        let (role, namespace) = match route.access {
            RouteAccess::Open => ("none".to_owned(), String::new()),
            RouteAccess::Metrics => ("`read`, none with `--metrics-open`".to_owned(), "all".to_owned()),
            RouteAccess::Role(role, source) => of(role, source),
            RouteAccess::RoleOrNode(role, source) => {
                let (role, namespace) = of(role, source);
                (format!("{role}; between nodes `replicate`"), format!("{namespace}; all"))
            }
        };
        [format!("`{route}`"), role, namespace]
    };
    ROUTES.iter().map(told).collect()
}
