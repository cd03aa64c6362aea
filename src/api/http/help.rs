//! The routes as this node tells them: `GET /docs`, and what an answer 404 names.
//!
//! `docs/http-api.md` says everything; this is for whoever has nothing but the node. A browser gets a page, everybody
//! else plain text.

use super::{
    openapi::OperationGroup,
    request::RouteRequest,
    route::{Example, Route},
};
use crate::api::error::ApiError;
use http::{HeaderValue, header};
use std::fmt::Write;
use warp::reply::Response;

/// What holds for all routes.
const FOR_ALL: &str = "Writes, GET /wordcount, /top and /sync take ?ns=NAME, a namespace. Writes take ?ack=leader, \
                       disk, replica or replica+disk,\nand with Idempotency-Key: ANY-TEXT they count once, however often \
                       they are sent. Reads wait for a write with\nMemdb-Min-Position, the Memdb-Position of its answer. \
                       HEAD is taken wherever GET is. What is wrong is\napplication/problem+json and says what to do.\n";

/// The page has its style within itself, and asks nobody for anything.
const PAGE_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'");

/// `GET /docs`.
pub(super) fn docs(request: &RouteRequest, routes: &[Route]) -> Result<Response, ApiError> {
    request.parse_query()?;
    let is_browser = request.header_list("accept")?.is_some_and(|accept| accept.contains("text/html"));
    let (media, text) = match is_browser {
        true => ("text/html; charset=utf-8", page(routes)),
        false => ("text/plain; charset=utf-8", text(routes)),
    };
    let mut response = Response::new(text.into());
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    fields.insert(header::VARY, HeaderValue::from_static("accept"));
    if is_browser {
        fields.insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    }
    Ok(response)
}

fn text(routes: &[Route]) -> String {
    let mut text = format!("memdb {}: counts words\n\n", env!("CARGO_PKG_VERSION"));
    for route in routes {
        let Some(example) = &route.example else { continue };
        writeln!(text, "{route:19} {}\n    {}", route.summary, call(example)).expect("a String takes all");
    }
    text.push('\n');
    text.push_str(FOR_ALL);
    text
}

fn page(routes: &[Route]) -> String {
    let mut page = include_str!("help/page.html").to_owned();
    let version = env!("CARGO_PKG_VERSION");
    write!(page, "<h1>memdb {version}</h1>\n<p>counts words. <a href=\"openapi.json\">OpenAPI</a></p>\n<nav>")
        .expect("a String takes all");
    for group in OperationGroup::ALL.map(OperationGroup::name) {
        write!(page, "<a href=\"#{group}\">{group}</a>").expect("a String takes all");
    }
    writeln!(page, "</nav>\n<p>{}</p>", escaped(FOR_ALL)).expect("a String takes all");
    for group in OperationGroup::ALL {
        writeln!(page, "<h2 id=\"{0}\">{0}</h2>", group.name()).expect("a String takes all");
        let is_of_group = |route: &&Route| route.gives.is_some_and(|answer| answer.group() == group);
        for route in routes.iter().filter(is_of_group) {
            let Some(example) = &route.example else { continue };
            let names: Vec<&str> = route.parameters.names().collect();
            let parameters = match names.is_empty() {
                true => String::new(),
                false => format!("<p>Parameters: <code>{}</code></p>\n", names.join("</code>, <code>")),
            };
            writeln!(
                page,
                "<h3>{}</h3>\n<p>{}</p>\n{parameters}<pre><code>{}</code></pre>",
                escaped(&route.to_string()),
                escaped(route.summary),
                escaped(&call(example))
            )
            .expect("a String takes all");
        }
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// The call of a route.
fn call(Example { options, target }: &Example) -> String {
    format!("curl {options}'http://127.0.0.1:8080{target}'")
}

/// A text as HTML shows it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Lists the routes, for a request whose path is none of them.
pub(super) fn not_found(routes: &[Route]) -> String {
    let names: Vec<_> = routes.iter().filter(|route| route.example.is_some()).map(Route::to_string).collect();
    format!("there is no such path here; the routes are {}; GET /docs tells what each does", names.join(", "))
}
