//! The routes as this node tells them: `GET /docs`, and what an answer 404 names.
//!
//! `docs/http-api.md` says everything; this is for whoever has nothing but the node.

use super::route::{Example, Route};
use http::{HeaderValue, header};
use std::fmt::Write;
use warp::reply::Response;

/// `GET /docs`.
pub(super) fn docs(routes: &[Route]) -> Response {
    let mut text = format!("memdb {}: counts words\n\n", env!("CARGO_PKG_VERSION"));
    for route in routes {
        let Some(Example { options, target }) = &route.example else { continue };
        writeln!(text, "{route:19} {}\n    curl {options}'http://127.0.0.1:8080{target}'", route.summary)
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
pub(super) fn not_found(routes: &[Route]) -> String {
    let names: Vec<_> = routes.iter().filter(|route| route.example.is_some()).map(Route::to_string).collect();
    format!("there is no such path here; the routes are {}; GET /docs tells what each does", names.join(", "))
}
