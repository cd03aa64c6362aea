//! The table of routes, and the warp filter that is made from it.
//!
//! A row says of a method and a path under which label it is counted, which parameters it knows, what it does and how
//! it is called (for `GET /docs`), and who answers it. What a path does not take is answered from the table too: 404
//! with all that there is, 405 with `Allow`.

use super::{
    access, bulk, counters,
    entries::{cache, through},
    export, help, namespaces,
    node_request::NodeRequest,
    nodes,
    openapi::{self, RequestBody, SuccessAnswer},
    operations, posts,
    query::RouteParameters,
    ranking, reads,
    request::{BodyStream, RouteRequest},
    route::{Route, RouteAnswer, RouteLabel},
    route_access::RouteAccess,
    secret_throttle::ConnectionPeer,
    state::AppState,
    stats, watch, writes,
};
use crate::api::error::{ApiError, ErrorKind};
use bytes::Buf;
use futures::{FutureExt, StreamExt};
use http::{HeaderMap, Method};
use std::{convert::Infallible, sync::Arc};
use warp::{Filter, filters::BoxedFilter, path::FullPath, reply::Response};

/// All routes, in the order in which people are told of them.
pub(super) const ROUTES: &[Route] = &[
    Route::post("/post", RouteLabel::Post, RouteParameters::POST_TEXT, RouteAccess::WRITE, |request| {
        writes::post(request).boxed()
    })
    .takes_body(RequestBody::TEXT)
    .gives(SuccessAnswer::POSTED)
    .does("counts the words of a text: a form field text, JSON {\"text\":...}, or text/plain")
    .example("-d 'text=hello world' ", "/post"),
    Route::post("/bulk", RouteLabel::BulkRequest, RouteParameters::ADD, RouteAccess::WRITE, |request| {
        bulk::bulk(request).boxed()
    })
    .takes_body(RequestBody::LINES)
    .gives(SuccessAnswer::BULK_RECEIPT)
    .does("counts a text a line, plain or NDJSON, a body of any length")
    .example("-T book.txt -X POST -H 'Content-Type: text/plain' ", "/bulk")
    .takes_compressed(),
    Route::post("/update", RouteLabel::Update, RouteParameters::ADD, RouteAccess::WRITE_OR_NODE, |request| {
        update(request).boxed()
    })
    .takes_body(RequestBody::AMOUNTS)
    .gives(SuccessAnswer::RECEIPT)
    .does("adds amounts to counts")
    .example("-d '{\"hello\":5,\"world\":-1}' -H 'Content-Type: application/json' ", "/update"),
    Route::get("/wordcount", RouteLabel::Wordcount, RouteParameters::WORDCOUNT, RouteAccess::READ, |request| {
        reads::wordcount(request).boxed()
    })
    .requires(&["word"])
    .gives(SuccessAnswer::COUNTS)
    .does("counts of words, all at one position (POST takes {\"words\":[...]})")
    .example("", "/wordcount?word=hello&word=world"),
    Route::post("/wordcount", RouteLabel::Wordcount, RouteParameters::WORDCOUNT, RouteAccess::READ, |request| {
        reads::posted_wordcount(request).boxed()
    })
    .takes_body(RequestBody::WORDS)
    .gives(SuccessAnswer::POSTED_COUNTS)
    .does("the same of words that are named in a JSON object")
    .example("-d '{\"words\":[\"hello\"]}' -H 'Content-Type: application/json' ", "/wordcount")
    .only_reads(),
    Route::get("/top", RouteLabel::Top, RouteParameters::TOP, RouteAccess::READ, |request| {
        ranking::top(request).boxed()
    })
    .gives(SuccessAnswer::RANKING)
    .does("the largest counts, of all words or of those with a ?prefix=, in pages (?after=)")
    .example("", "/top?n=10&prefix=hel"),
    Route::get("/watch", RouteLabel::Watch, RouteParameters::WATCH, RouteAccess::READ, |request| {
        watch::watch(request).boxed()
    })
    .gives(SuccessAnswer::EVENTS)
    .does("what changes of counts, entries (?key=) or the largest counts (?top=), as server-sent events")
    .example("-N ", "/watch?word=hello&word=world&every=1s"),
    Route::get("/sync", RouteLabel::Sync, RouteParameters::SYNC, RouteAccess::READ_OR_NODE, |request| {
        sync(request).boxed()
    })
    .gives(SuccessAnswer::COUNTS)
    .does("every word with its count, streamed")
    .example("", "/sync"),
    Route::get("/export", RouteLabel::Export, RouteParameters::EXPORT, RouteAccess::READ_ALL, |request| {
        export::export(request).boxed()
    })
    .gives(SuccessAnswer::EXPORT)
    .does("counts and entries as NDJSON (?format=), counts as csv, tsv or json, streamed")
    .example("", "/export?format=csv&ns=words"),
    Route::post("/sync", RouteLabel::Sync, RouteParameters::NONE, RouteAccess::NODES, |request| {
        nodes::announce(request).boxed()
    })
    .does("a follower announces itself to its leader"),
    Route::delete("/wordcount", RouteLabel::Wordcount, RouteParameters::REMOVE_WORDS, RouteAccess::WRITE, |request| {
        writes::remove_words(request).boxed()
    })
    .requires(&["word"])
    .gives(SuccessAnswer::RECEIPT)
    .does("takes words away")
    .example("-X DELETE ", "/wordcount?word=hello"),
    Route::get("/ns", RouteLabel::Namespace, RouteParameters::NONE, RouteAccess::READ_ALL, |request| {
        namespaces::list(request).boxed()
    })
    .gives(SuccessAnswer::NAMESPACES)
    .does("the namespaces, with what each holds")
    .example("", "/ns"),
    Route::delete("/ns/{name}", RouteLabel::Namespace, RouteParameters::ACK, RouteAccess::ADMIN_OF_PATH, |request| {
        writes::drop_namespace(request).boxed()
    })
    .gives(SuccessAnswer::RECEIPT)
    .does("takes a namespace away")
    .example("-X DELETE ", "/ns/titles"),
    Route::put("/cache/{*key}", RouteLabel::Cache, RouteParameters::PUT_ENTRY, RouteAccess::WRITE, |request| {
        cache::put(request).boxed()
    })
    .takes_body(RequestBody::VALUE)
    .gives(SuccessAnswer::ENTRY_RECEIPT)
    .does("stores a value, with ?ttl=SECONDS for a time")
    .example("-X PUT --data-binary @logo.png -H 'Content-Type: image/png' ", "/cache/logo?ttl=60"),
    Route::get("/cache/{*key}", RouteLabel::Cache, RouteParameters::CACHE_ENTRY, RouteAccess::READ, |request| {
        cache::get(request).boxed()
    })
    .gives(SuccessAnswer::FETCHED_VALUE)
    .does("the value as it came; with ?through=1 the leader fetches what is not there from the origin")
    .example("", "/cache/logo"),
    Route::patch("/cache/{*key}", RouteLabel::Cache, RouteParameters::PUT_ENTRY, RouteAccess::WRITE, |request| {
        cache::set_expiry(request).boxed()
    })
    .requires(&["ttl"])
    .gives(SuccessAnswer::CHANGED_ENTRY)
    .does("gives an entry another time to live, 0 for ever, and leaves its value")
    .example("-X PATCH ", "/cache/logo?ttl=60"),
    Route::delete("/cache/{*key}", RouteLabel::Cache, RouteParameters::CHANGE_ENTRIES, RouteAccess::WRITE, |request| {
        cache::remove(request).boxed()
    })
    .gives(SuccessAnswer::ENTRY_DELETE)
    .does("takes an entry away")
    .example("-X DELETE ", "/cache/logo"),
    Route::post("/cache", RouteLabel::Cache, RouteParameters::CHANGE_ENTRIES, RouteAccess::WRITE, |request| {
        cache::put_many(request).boxed()
    })
    .takes_body(RequestBody::ENTRIES)
    .gives(SuccessAnswer::MANY_RECEIPT)
    .does("stores many values at once")
    .example(
        "-d '{\"entries\":[{\"key\":\"a\",\"value\":\"text\",\"ttl\":60}]}' -H 'Content-Type: application/json' ",
        "/cache",
    ),
    Route::get("/cache", RouteLabel::Cache, RouteParameters::ENTRIES, RouteAccess::READ, |request| {
        cache::list(request).boxed()
    })
    .gives(SuccessAnswer::ENTRY_LIST)
    .does("many entries at one position (?key=a&key=b), or pages of keys (?prefix=)")
    .example("", "/cache?prefix=user/&limit=100"),
    Route::get("/data/{*id}", RouteLabel::Data, RouteParameters::NONE, RouteAccess::READ_DATA, |request| {
        through::data(request).boxed()
    })
    .gives(SuccessAnswer::FETCHED_VALUE)
    .does("the value of an id, which the leader fetches from the origin (--origin) once for all who ask")
    .example("", "/data/17"),
    Route::post("/create", RouteLabel::Create, RouteParameters::STORE_POST, RouteAccess::WRITE, |request| {
        posts::post_create(request).boxed()
    })
    .takes_body(RequestBody::DOCUMENT)
    .gives(SuccessAnswer::CREATED_POST)
    .does("stores a JSON document under its id, and counts title and content")
    .example("-d '{\"id\":\"1\",\"title\":\"Hello\",\"content\":\"world\",\"author\":\"Ann\"}' ", "/create"),
    Route::get("/post", RouteLabel::Post, RouteParameters::READ_POST, RouteAccess::READ, |request| {
        posts::get(request).boxed()
    })
    .requires(&["id"])
    .gives(SuccessAnswer::TIMED_POST)
    .does("a stored post as it came")
    .example("", "/post?id=1"),
    Route::put("/posts/{*id}", RouteLabel::Posts, RouteParameters::STORE_POST, RouteAccess::WRITE, |request| {
        posts::put_post(request).boxed()
    })
    .takes_body(RequestBody::POST)
    .gives(SuccessAnswer::POST_RECEIPT)
    .does("stores a post and counts its words, until it goes")
    .example("-X PUT -d 'hello world' -H 'Content-Type: text/plain' ", "/posts/2?ttl=3600"),
    Route::get("/posts/{*id}", RouteLabel::Posts, RouteParameters::ENTRY, RouteAccess::READ, |request| {
        posts::get_by_path(request).boxed()
    })
    .gives(SuccessAnswer::POST)
    .does("the same as GET /post")
    .example("", "/posts/2"),
    Route::patch("/posts/{*id}", RouteLabel::Posts, RouteParameters::PUT_ENTRY, RouteAccess::WRITE, |request| {
        posts::set_expiry(request).boxed()
    })
    .requires(&["ttl"])
    .gives(SuccessAnswer::CHANGED_POST)
    .does("gives a post another time to live, 0 for ever, and leaves its words")
    .example("-X PATCH ", "/posts/2?ttl=3600"),
    Route::delete("/posts/{*id}", RouteLabel::Posts, RouteParameters::CHANGE_ENTRIES, RouteAccess::WRITE, |request| {
        posts::remove(request).boxed()
    })
    .gives(SuccessAnswer::POST_DELETE)
    .does("takes a post away, and its words back")
    .example("-X DELETE ", "/posts/2"),
    Route::get("/posts", RouteLabel::Posts, RouteParameters::POSTS, RouteAccess::READ, |request| {
        posts::list(request).boxed()
    })
    .gives(SuccessAnswer::POST_LIST)
    .does("pages of the ids of posts")
    .example("", "/posts?limit=100"),
    Route::post(
        "/counter/{*key}/increment",
        RouteLabel::Counter,
        RouteParameters::ACK,
        RouteAccess::WRITE_COUNTERS,
        |request| counters::increment(request).boxed(),
    )
    .gives(SuccessAnswer::INCREMENT)
    .does("has an increment of a counter wait for a worker, within the rate of its key")
    .example("-X POST ", "/counter/visits/increment"),
    Route::get("/counter/{*key}", RouteLabel::Counter, RouteParameters::NONE, RouteAccess::READ_COUNTERS, |request| {
        counters::get(request).boxed()
    })
    .gives(SuccessAnswer::COUNTER)
    .does("the value of a counter")
    .example("", "/counter/visits"),
    Route::delete(
        "/counter/{*key}",
        RouteLabel::Counter,
        RouteParameters::ACK,
        RouteAccess::WRITE_COUNTERS,
        |request| counters::remove(request).boxed(),
    )
    .gives(SuccessAnswer::COUNTER_DELETE)
    .does("takes a counter away, and what waits for it")
    .example("-X DELETE ", "/counter/visits"),
    Route::get("/store/{*key}", RouteLabel::Counter, RouteParameters::NONE, RouteAccess::READ_COUNTERS, |request| {
        counters::get(request).boxed()
    })
    .gives(SuccessAnswer::COUNTER)
    .does("the same as GET /counter")
    .example("", "/store/visits"),
    Route::get("/health", RouteLabel::Health, RouteParameters::NONE, RouteAccess::Open, |request| {
        plain(&request, |_| Ok(operations::health()))
    })
    .gives(SuccessAnswer::HEALTH)
    .does("answers as long as the process runs")
    .example("", "/health"),
    Route::get("/health/live", RouteLabel::Health, RouteParameters::NONE, RouteAccess::Open, |request| {
        plain(&request, |_| Ok(operations::live()))
    })
    .gives(SuccessAnswer::HEALTH)
    .does("the same")
    .example("", "/health/live"),
    Route::get("/health/ready", RouteLabel::Health, RouteParameters::NONE, RouteAccess::Open, |request| {
        plain(&request, operations::ready)
    })
    .gives(SuccessAnswer::HEALTH)
    .does("200 where current data is served, else 503 and why")
    .example("", "/health/ready"),
    Route::get("/health/leader", RouteLabel::Health, RouteParameters::NONE, RouteAccess::Open, |request| {
        plain(&request, operations::leading)
    })
    .gives(SuccessAnswer::HEALTH)
    .does("200 where writes are taken, else 503 and why")
    .example("", "/health/leader"),
    Route::get("/status", RouteLabel::Operations, RouteParameters::NONE, RouteAccess::READ_ALL, |request| {
        plain(&request, |state| Ok(operations::status(state)))
    })
    .gives(SuccessAnswer::STATUS)
    .does("what the node is, for people")
    .example("", "/status"),
    Route::get("/stats", RouteLabel::Operations, RouteParameters::STATS, RouteAccess::READ_ALL, |request| {
        stats::stats(request).boxed()
    })
    .gives(SuccessAnswer::STATS)
    .does("numbers of entries, of all nodes that answer or of this one (?scope=node)")
    .example("", "/stats"),
    Route::get("/metrics", RouteLabel::Operations, RouteParameters::NONE, RouteAccess::Metrics, |request| {
        plain(&request, |state| Ok(operations::metrics(state)))
    })
    .gives(SuccessAnswer::TEXT)
    .does("numbers for Prometheus")
    .example("", "/metrics"),
    Route::post("/promote", RouteLabel::Other, RouteParameters::PROMOTE, RouteAccess::ADMIN, |request| {
        nodes::promote(request).boxed()
    })
    .gives(SuccessAnswer::PROMOTION)
    .does("makes this replica the leader (memdb promote does it)")
    .example("-X POST ", "/promote"),
    Route::get("/openapi.json", RouteLabel::Other, RouteParameters::NONE, RouteAccess::Open, |request| {
        plain(&request, |_| Ok(openapi::answer(ROUTES)))
    })
    .gives(SuccessAnswer::OPENAPI)
    .does("this interface in OpenAPI 3.1, for programs")
    .example("", "/openapi.json"),
    Route::get("/docs", RouteLabel::Other, RouteParameters::NONE, RouteAccess::Open, |request| {
        std::future::ready(help::docs(&request, ROUTES)).boxed()
    })
    .gives(SuccessAnswer::PAGE)
    .does("this, as a page for a browser or as text")
    .example("", "/docs"),
];

/// The rows of a path.
fn at(path: &str) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |route| route.is_at(path))
}

/// Returns whether some method of a path takes compressed bodies: with another, the answer is that the method is wrong.
pub(super) fn takes_compressed(path: &str) -> bool {
    at(path).any(|route| route.takes_compressed)
}

/// Returns the label that requests to a path are counted under, and the route that takes this method there.
pub(super) fn find(method: &Method, path: &str) -> (RouteLabel, Option<&'static Route>) {
    let mut label = RouteLabel::Other;
    for route in at(path) {
        if route.takes(method) {
            return (route.label, Some(route));
        }
        label = route.label;
    }
    (label, None)
}

/// The answer where no route takes a request.
fn not_routed(path: &str) -> ApiError {
    let allowed: Vec<&str> = at(path).map(|route| route.method().allowed()).collect();
    match allowed.is_empty() {
        true => ApiError::new(ErrorKind::NotFound, help::not_found(ROUTES)),
        false => ApiError::method_not_allowed(allowed.join(", ")),
    }
}

/// All routes, and the answer to everything that is none.
pub(super) fn routes(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let state = Arc::clone(state);
    warp::method()
        .and(warp::path::full())
        .and(query())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional())
        .and(warp::body::stream().map(body_stream))
        .then(move |method: Method, path: FullPath, query, headers: HeaderMap, client: Option<ConnectionPeer>, body| {
            let answering = match find(&method, path.as_str()).1 {
                None => Err(not_routed(path.as_str())),
                Some(route) => {
                    let (state, parameters) = (Arc::clone(&state), route.parameters);
                    let client = client.unwrap_or_else(ConnectionPeer::unknown);
                    let name = route.name_in(path.as_str()).unwrap_or_default().to_owned();
                    let request = RouteRequest {
                        state,
                        method,
                        path,
                        name,
                        query,
                        parameters,
                        headers,
                        client,
                        principal: None,
                        body,
                    };
                    Ok(access::answer(route, request))
                }
            };
            async move {
                let answer = match answering {
                    Ok(answering) => answering.await,
                    Err(problem) => Err(problem),
                };
                answer.unwrap_or_else(ApiError::into_response)
            }
        })
        .boxed()
}

/// The text after the `?`, or none.
fn query() -> impl Filter<Extract = (String,), Error = Infallible> + Copy {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

fn body_stream<B: Buf>(body: impl futures::Stream<Item = Result<B, warp::Error>> + Send + 'static) -> BodyStream {
    body.map(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining()))).boxed()
}

/// Answers a route that takes no parameters, and waits for nothing.
fn plain(request: &RouteRequest, answer: fn(&AppState) -> Result<Response, ApiError>) -> RouteAnswer {
    let answer = request.parse_query().and_then(|_| answer(&request.state));
    std::future::ready(answer).boxed()
}

/// `POST /update`: a client's amounts, or what nodes send each other there.
async fn update(request: RouteRequest) -> Result<Response, ApiError> {
    request.forwarded()?;
    let (headers, shown) = (request.write_headers()?, request.credentials()?);
    let content_length = headers.content_length.as_deref();
    if request.of_node() == Some(NodeRequest::Offer) {
        nodes::append(&request.state, &request.query, &shown, content_length, request.body).await
    } else if request.state.service.look_at_role().shard.follows_files() && content_length == Some("0") {
        nodes::notice(&request.state, &request.query, &shown).await
    } else {
        writes::update(request).await
    }
}

/// `GET /sync`: every word with its count, or what nodes fetch from each other there.
async fn sync(request: RouteRequest) -> Result<Response, ApiError> {
    let headers = request.read_headers()?;
    request.header("accept")?;
    let shown = request.credentials()?;
    match request.of_node() {
        Some(NodeRequest::Snapshot) => nodes::snapshot(&request.state, &request.query, &shown).await,
        Some(NodeRequest::Records) => nodes::records(&request.state, &request.query, &shown).await,
        Some(NodeRequest::Offer) | None => reads::sync(request, headers).await,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::route::ROUTE_LABELS, *};

    #[test]
    fn a_path_is_found_with_one_slash_behind_it_and_a_name_is_one_segment() {
        for (path, label, method, found) in [
            ("/post", RouteLabel::Post, Method::POST, true),
            ("/post/", RouteLabel::Post, Method::POST, true),
            ("/post", RouteLabel::Post, Method::GET, true),
            ("/post//", RouteLabel::Other, Method::POST, false),
            ("//post", RouteLabel::Other, Method::POST, false),
            ("post", RouteLabel::Other, Method::POST, false),
            ("/Post", RouteLabel::Other, Method::POST, false),
            ("/posts", RouteLabel::Posts, Method::POST, false),
            ("/posts/a", RouteLabel::Posts, Method::PUT, true),
            ("/posts/a/b/", RouteLabel::Posts, Method::DELETE, true),
            ("/posts/", RouteLabel::Posts, Method::GET, true),
            ("/cache", RouteLabel::Cache, Method::POST, true),
            ("/cache/a", RouteLabel::Cache, Method::PUT, true),
            ("/cache/a//b%2F/", RouteLabel::Cache, Method::GET, true),
            ("/cache//", RouteLabel::Cache, Method::HEAD, true),
            ("/cache/a", RouteLabel::Cache, Method::POST, false),
            ("/cache/a/b", RouteLabel::Cache, Method::PATCH, true),
            ("/cache", RouteLabel::Cache, Method::PATCH, false),
            ("/posts/a", RouteLabel::Posts, Method::PATCH, true),
            ("/cachet", RouteLabel::Other, Method::GET, false),
            ("/", RouteLabel::Other, Method::GET, false),
            ("*", RouteLabel::Other, Method::OPTIONS, false),
            ("", RouteLabel::Other, Method::GET, false),
            ("/wordcount", RouteLabel::Wordcount, Method::HEAD, true),
            ("/health/ready/", RouteLabel::Health, Method::GET, true),
            ("/health/none", RouteLabel::Other, Method::GET, false),
            ("/ns/a", RouteLabel::Namespace, Method::DELETE, true),
            ("/ns/%2e", RouteLabel::Namespace, Method::DELETE, true),
            ("/ns/a/", RouteLabel::Namespace, Method::DELETE, true),
            ("/ns/a/b", RouteLabel::Other, Method::DELETE, false),
            ("/ns/", RouteLabel::Namespace, Method::DELETE, false),
            ("/ns//", RouteLabel::Other, Method::DELETE, false),
        ] {
            let (counted, route) = find(&method, path);
            assert_eq!((counted, route.is_some()), (label, found), "{method} {path}");
        }
    }

    #[test]
    fn rows_of_a_path_have_one_label_and_each_label_has_its_name() {
        assert_eq!(ROUTE_LABELS.len(), RouteLabel::Other as usize + 1);
        for (at, route) in ROUTES.iter().enumerate() {
            assert!(!route.summary.is_empty(), "{route}");
            let same = ROUTES[..at].iter().filter(|other| other.to_string() == route.to_string()).count();
            assert_eq!(same, 0, "{route} is there twice");
        }
        for (route, name) in [(RouteLabel::Namespace, "ns"), (RouteLabel::Sync, "sync"), (RouteLabel::Other, "other")] {
            assert_eq!(ROUTE_LABELS[route as usize], name);
        }
        // Whoever asks for a path that is none is told all that clients may ask for.
        let listed = help::not_found(ROUTES);
        for route in ROUTES.iter().map(Route::to_string).filter(|route| route != "POST /sync") {
            assert!(listed.contains(&route), "{route}");
        }
        let allowed = |path| at(path).map(|route| route.method().allowed()).collect::<Vec<_>>().join(", ");
        assert_eq!(allowed("/wordcount"), "GET, HEAD, POST, DELETE");
        assert_eq!(allowed("/sync"), "GET, HEAD, POST");
    }
}
