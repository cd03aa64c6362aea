//! The routes as this node tells them: `GET /docs`, and what an answer 404 names.
//!
//! `docs/http-api.md` says everything; this is for whoever has nothing but the node.

use http::{HeaderValue, header};
use std::fmt::Write;
use warp::reply::Response;

/// One route, for people.
struct Route {
    /// Its methods and its path.
    name: &'static str,
    does: &'static str,
    /// The arguments of curl around the address: options before it, and its path.
    options: &'static str,
    path: &'static str,
}

const ROUTES: &[Route] = &[
    Route {
        name: "POST /post",
        does: "counts the words of a text: a form field text, JSON {\"text\":...}, or text/plain",
        options: "-d 'text=hello world' ",
        path: "/post",
    },
    Route {
        name: "POST /bulk",
        does: "counts a text a line, plain or NDJSON, a body of any length",
        options: "-T book.txt -X POST -H 'Content-Type: text/plain' ",
        path: "/bulk",
    },
    Route {
        name: "POST /update",
        does: "adds amounts to counts",
        options: "-d '{\"hello\":5,\"world\":-1}' -H 'Content-Type: application/json' ",
        path: "/update",
    },
    Route {
        name: "GET /wordcount",
        does: "counts of words, all at one position (POST takes {\"words\":[...]})",
        options: "",
        path: "/wordcount?word=hello&word=world",
    },
    Route { name: "GET /top", does: "the largest counts", options: "", path: "/top?n=10" },
    Route { name: "GET /sync", does: "every word with its count, streamed", options: "", path: "/sync" },
    Route { name: "DELETE /wordcount", does: "takes words away", options: "-X DELETE ", path: "/wordcount?word=hello" },
    Route { name: "DELETE /ns/NAME", does: "takes a namespace away", options: "-X DELETE ", path: "/ns/titles" },
    Route { name: "GET /health", does: "answers as long as the process runs", options: "", path: "/health" },
    Route { name: "GET /health/live", does: "the same", options: "", path: "/health/live" },
    Route {
        name: "GET /health/ready",
        does: "200 where current data is served, else 503 and why",
        options: "",
        path: "/health/ready",
    },
    Route {
        name: "GET /health/leader",
        does: "200 where writes are taken, else 503 and why",
        options: "",
        path: "/health/leader",
    },
    Route { name: "GET /status", does: "what the node is, for people", options: "", path: "/status" },
    Route { name: "GET /metrics", does: "numbers for Prometheus", options: "", path: "/metrics" },
    Route {
        name: "POST /promote",
        does: "makes this replica the leader (memdb promote does it)",
        options: "-X POST ",
        path: "/promote",
    },
    Route { name: "GET /docs", does: "this", options: "", path: "/docs" },
];

/// `GET /docs`.
pub(super) fn docs() -> Response {
    let mut text = format!("memdb {}: counts words\n\n", env!("CARGO_PKG_VERSION"));
    for Route { name, does, options, path } in ROUTES {
        writeln!(text, "{name:19} {does}\n    curl {options}'http://127.0.0.1:8080{path}'")
            .expect("a String takes all");
    }
    text.push_str(
        "\nWrites, GET /wordcount, /top and /sync take ?ns=NAME, a namespace. Writes take ?ack=leader, disk, replica or \
         replica+disk,\nand with Idempotency-Key: ANY-TEXT they count once, however often they are sent. Reads wait for a write with\n\
         Memdb-Min-Position, the Memdb-Position of its answer. HEAD is taken wherever GET is. What is wrong is\n\
         application/problem+json and says what to do.\n",
    );
    let mut response = Response::new(text.into());
    let media = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

/// Lists the routes, for a request whose path is none of them.
pub(super) fn not_found() -> String {
    let names: Vec<_> = ROUTES.iter().map(|route| route.name).collect();
    format!("there is no such path here; the routes are {}; GET /docs tells what each does", names.join(", "))
}
