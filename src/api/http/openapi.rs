//! `GET /openapi.json`: the interface in [OpenAPI 3.1](https://spec.openapis.org/oas/v3.1.0), made from the table of
//! routes.
//!
//! A row says what it takes and gives in the words of `openapi/operation.rs`; `parts.json` has what these words mean:
//! parameters, headers and schemas. A row without them is between nodes, and not described.

mod operation;

pub(super) use operation::{OperationGroup, RequestBody, SuccessAnswer};

use super::route::Route;
use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};
use std::sync::{LazyLock, OnceLock};
use warp::reply::Response;

/// The parts from which operations are put together.
static PARTS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("openapi/parts.json")).expect("a test has read the parts"));

/// Statuses of problems that any request may meet: its form, its credentials, its client's share, the state of the
/// node.
const OF_ANY_REQUEST: [u16; 16] = [400, 401, 403, 405, 408, 413, 414, 415, 417, 421, 429, 431, 500, 503, 505, 507];

/// The answer of `GET /openapi.json`.
pub(super) fn answer(routes: &'static [Route]) -> Response {
    // The routes do not change: they are described once.
    static BODY: OnceLock<Bytes> = OnceLock::new();
    let body = BODY.get_or_init(|| format!("{}\n", document(routes)).into());
    let mut response = Response::new(body.clone().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The description of these routes.
fn document(routes: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let Some(success) = &route.gives else { continue };
        let path = paths.entry(route.path().replace("{*", "{")).or_insert_with(|| json!({}));
        path[route.method().name().to_ascii_lowercase()] = operation(route, success);
    }
    let mut info = PARTS["info"].clone();
    info["version"] = env!("CARGO_PKG_VERSION").into();
    json!({
        "openapi": "3.1.0",
        "info": info,
        "servers": [{ "url": "/" }],
        "tags": PARTS["tags"],
        // A node without users asks for no credentials.
        "security": [{}, { "token": [] }, { "password": [] }],
        "paths": paths,
        "components": components(),
    })
}

fn components() -> Value {
    let mut components = PARTS["components"].clone();
    components["responses"] = json!({
        "Problem": {
            "description": "A problem, whose `detail` says what to do.",
            "content": { "application/problem+json": { "schema": schema("Problem") } },
        },
        "Unchanged": { "description": "The client has this answer.", "headers": headers(&["ETag", "Memdb-Position"]) },
    });
    components
}

/// The description of one row.
fn operation(route: &Route, success: &SuccessAnswer) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [success.group.name()],
        "parameters": parameters(route, success),
        "responses": responses(success),
    });
    let body = route.body;
    if !body.media.is_empty() {
        operation["requestBody"] = json!({ "required": body.is_required, "content": content(body.media) });
    }
    operation
}

/// The name of an operation for programs: `post_counter_key_increment`.
fn operation_id(route: &Route) -> String {
    let words = route.path().split(|one: char| !one.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(route.method().name().to_ascii_lowercase())
        .chain(words.map(str::to_owned))
        .collect::<Vec<_>>()
        .join("_")
}

fn parameters(route: &Route, success: &SuccessAnswer) -> Vec<Value> {
    let path = route.path().split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let in_path = path.map(|(name, _)| parameter("path", name.trim_start_matches('*'), true));
    let in_query =
        route.parameters.names().map(|name| parameter("query", name, route.required_parameters.contains(&name)));
    let in_headers = success.reads.names().iter().map(|name| parameter("header", name, false));
    in_path.into_iter().chain(in_query).chain(in_headers).collect()
}

fn parameter(place: &str, name: &str, is_required: bool) -> Value {
    let mut parameter = PARTS[place][name].clone();
    parameter["name"] = name.into();
    parameter["in"] = place.into();
    parameter["required"] = is_required.into();
    parameter
}

fn responses(success: &SuccessAnswer) -> Value {
    let description =
        success.media.iter().find_map(|(_, name)| PARTS["components"]["schemas"][name]["description"].as_str());
    let mut answer = json!({ "description": description.unwrap_or("Done."), "content": content(success.media) });
    if !success.headers.is_empty() {
        answer["headers"] = headers(success.headers);
    }
    let mut responses = Map::from_iter([(success.status.to_string(), answer)]);
    if success.reads == operation::RequestHeaders::Read {
        responses.insert("304".to_owned(), json!({ "$ref": "#/components/responses/Unchanged" }));
    }
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    let named = success.problems.iter().chain(&OF_ANY_REQUEST).map(u16::to_string);
    responses.extend(named.map(|status| (status, problem.clone())));
    responses.into()
}

/// Media types, each with a reference to its schema.
fn content(media: &[(&str, &str)]) -> Value {
    let content = media.iter().map(|(media, name)| ((*media).to_owned(), json!({ "schema": schema(name) })));
    Map::from_iter(content).into()
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn headers(names: &[&str]) -> Value {
    let references =
        names.iter().map(|name| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") })));
    Map::from_iter(references).into()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{route::RouteMethod, routes::ROUTES},
        *,
    };

    /// Each reference of a document.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_for_clients_is_described_and_every_reference_leads_somewhere() {
        let document = document(ROUTES);
        for route in ROUTES {
            let path = route.path().replace("{*", "{");
            let operation = &document["paths"][&path][route.method().name().to_ascii_lowercase()];
            assert_eq!(operation.is_object(), route.to_string() != "POST /sync", "{route}");
            if !operation.is_object() {
                continue;
            }
            for parameter in operation["parameters"].as_array().expect("a list") {
                assert!(parameter["schema"].is_object(), "{route}: {parameter}");
            }
            assert!(
                route.body.media.is_empty() || [RouteMethod::Post, RouteMethod::Put].contains(&route.method()),
                "{route}"
            );
            for name in route.required_parameters {
                assert!(route.parameters.names().any(|known| known == *name), "{route} does not know {name}");
            }
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100);
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("they are in this document");
            assert!(document.pointer(pointer).is_some_and(Value::is_object), "{reference}");
        }
    }

    #[test]
    fn no_part_is_without_use_and_no_operation_has_the_name_of_another() {
        let document = document(ROUTES);
        let text = document["paths"].to_string() + &document["components"].to_string();
        for name in PARTS["components"]["schemas"].as_object().expect("schemas").keys() {
            assert!(text.contains(&format!("\"#/components/schemas/{name}\"")), "{name}");
        }
        for (place, name) in ["query", "path", "header"]
            .into_iter()
            .flat_map(|place| PARTS[place].as_object().expect("parts").keys().map(move |name| (place, name)))
        {
            assert!(text.contains(&format!("\"in\":\"{place}\",\"name\":\"{name}\"")), "{place} {name}");
        }
        let mut names: Vec<String> = ROUTES.iter().map(operation_id).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), ROUTES.len());
    }
}
