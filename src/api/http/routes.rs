//! Every route, as a warp filter.
//!
//! A path is matched before its methods, so a path that matches knows which methods it takes: the 405 with
//! `Allow`. The two busiest paths come first.

use super::{
    bulk,
    coding::ContentCoding,
    form,
    forward::{self, ForwardedWrite},
    headers::DedupHeaders,
    help,
    nodes::{self, ShownSecret},
    operations,
    problem::{Problem, ProblemKind},
    query::{QueryString, RouteParameters, is_dots},
    reads,
    secret_throttle::ConnectionPeer,
    state::AppState,
    writes,
};
use crate::client::FORWARDED;
use http::{HeaderMap, header};
use std::{convert::Infallible, sync::Arc};
use warp::{
    Filter, Rejection,
    filters::BoxedFilter,
    reject::{InvalidHeader, Reject},
    reply::Response,
};

/// All routes, and the answer to everything that is none.
pub(super) fn routes(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let unmatched = warp::any().and_then(|| async { Err::<Response, _>(warp::reject::not_found()) });
    wordcount(state)
        .or(post(state))
        .unify()
        .or(update(state))
        .unify()
        .or(bulk(state))
        .unify()
        .or(top(state))
        .unify()
        .or(sync(state))
        .unify()
        .or(namespace(state))
        .unify()
        .or(promote(state))
        .unify()
        .or(operations(state))
        .unify()
        .or(unmatched)
        .unify()
        .recover(told)
        .unify()
        .boxed()
}

fn wordcount(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let (reading, asking, removing) = (Arc::clone(state), Arc::clone(state), Arc::clone(state));
    let read = reads_only().and(query()).and(read_heads()).then(move |query, heads| {
        let state = Arc::clone(&reading);
        async move { answer(reads::wordcount(state, query, heads).await) }
    });
    let ask = warp::post().and(query()).and(read_heads()).and(body_heads()).and(warp::body::stream());
    let ask = ask.then(move |query, heads, content, body| {
        let state = Arc::clone(&asking);
        async move { answer(reads::posted_wordcount(state, query, heads, content, body).await) }
    });
    let remove = warp::delete().and(sent()).and(query()).and(naming()).then(
        move |sent: ForwardedWrite, query: String, naming| {
            let state = Arc::clone(&removing);
            async move {
                answer(match state.forward() {
                    Some(leader) => forward::bodiless(&state, leader, sent, &query, naming).await,
                    None => writes::remove_words(state, query, naming, sent.forwarded).await,
                })
            }
        },
    );
    let allow = refuse("GET, HEAD, POST, DELETE");
    at("wordcount").and(read.or(ask).unify().or(remove).unify().or(allow).unify()).boxed()
}

fn post(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let state = Arc::clone(state);
    let write = warp::post().and(sent()).and(query()).and(write_heads()).and(warp::body::stream()).then(
        move |sent: ForwardedWrite, query: String, heads, body| {
            let state = Arc::clone(&state);
            async move {
                answer(match state.forward() {
                    Some(leader) => forward::write(&state, leader, sent, &query, heads, body).await,
                    None => writes::post(state, query, heads, sent.forwarded, body).await,
                })
            }
        },
    );
    at("post").and(write.or(refuse("POST")).unify()).boxed()
}

fn update(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let state = Arc::clone(state);
    let asked = warp::post().and(sent()).and(query()).and(write_heads()).and(shown());
    let write = asked.and(warp::body::stream()).then(
        move |sent: ForwardedWrite, query: String, heads: writes::WriteHeaders, shown: ShownSecret, body| {
            let state = Arc::clone(&state);
            async move {
                answer(if nodes::is_offer(heads.content_type.as_deref()) {
                    nodes::offer(state, query, shown, heads.content_length, body).await
                } else if state.follows_files() && heads.content_length.as_deref() == Some("0") {
                    nodes::notice(&state, &query, &shown).await
                } else if let Some(leader) = state.forward() {
                    forward::write(&state, leader, sent, &query, heads, body).await
                } else {
                    writes::update(state, query, heads, sent.forwarded, body).await
                })
            }
        },
    );
    at("update").and(write.or(refuse("POST")).unify()).boxed()
}

fn bulk(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let state = Arc::clone(state);
    let encoding = warp::header::optional("content-encoding");
    let write = warp::post().and(query()).and(write_heads()).and(encoding).and(warp::body::stream()).then(
        move |query: String, heads, encoding, body| {
            let state = Arc::clone(&state);
            async move {
                answer(match state.forward() {
                    Some(leader) => Err(forward::not_passed_on(leader)),
                    None => bulk::bulk(state, query, heads, encoding, body).await,
                })
            }
        },
    );
    at("bulk").and(write.or(refuse("POST")).unify()).boxed()
}

fn top(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let state = Arc::clone(state);
    let read = reads_only().and(query()).and(read_heads()).and(wanted_coding()).then(move |query, heads, coding| {
        let state = Arc::clone(&state);
        async move { answer(reads::top(state, query, heads, coding).await) }
    });
    at("top").and(read.or(refuse("GET, HEAD")).unify()).boxed()
}

fn sync(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let (reading, announcing) = (Arc::clone(state), Arc::clone(state));
    let accept = warp::header::optional("accept");
    let asked = reads_only().and(query()).and(read_heads()).and(wanted_coding());
    let read = asked.and(accept).and(shown()).then(
        move |query: String, heads, coding, accept: Option<String>, shown: ShownSecret| {
            let state = Arc::clone(&reading);
            async move {
                answer(match nodes::fetch(&state, &query, accept.as_deref(), &shown).await {
                    Some(fetched) => fetched,
                    None => reads::sync(state, query, heads, coding).await,
                })
            }
        },
    );
    let content_type = warp::header::optional("content-type");
    let announce = warp::post().and(query()).and(shown()).and(content_type).and(warp::body::stream()).then(
        move |query, shown, content_type, body| {
            let state = Arc::clone(&announcing);
            async move { answer(nodes::announce(state, query, shown, content_type, body).await) }
        },
    );
    at("sync").and(read.or(announce).unify().or(refuse("GET, HEAD, POST")).unify()).boxed()
}

fn namespace(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let state = Arc::clone(state);
    let named = warp::path("ns").and(warp::path::param::<String>()).and(warp::path::end());
    let asked = named.and(warp::delete().and(sent())).and(query()).and(naming());
    let remove = asked.then(move |name: String, sent: ForwardedWrite, query: String, naming| {
        let state = Arc::clone(&state);
        async move {
            answer(match state.forward() {
                Some(_)
                    if form::decode(name.as_bytes(), ProblemKind::InvalidParameter)
                        .is_ok_and(|name| is_dots(&name)) =>
                {
                    let detail = "a path of dots cannot be passed on: send it to the leader itself, as it is";
                    Err(Problem::new(ProblemKind::InvalidParameter, detail))
                }
                Some(leader) => forward::bodiless(&state, leader, sent, &query, naming).await,
                None => writes::drop_namespace(state, name, query, naming, sent.forwarded).await,
            })
        }
    });
    remove.or(named.map(drop).untuple_one().and(refuse("DELETE"))).unify().boxed()
}

fn promote(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let state = Arc::clone(state);
    let origin = warp::header::optional("origin");
    let asked = warp::post().and(shown()).and(origin).and(query()).then(move |shown, origin, query| {
        let state = Arc::clone(&state);
        async move { answer(nodes::promote(state, shown, origin, query).await) }
    });
    at("promote").and(asked.or(refuse("POST")).unify()).boxed()
}

fn operations(state: &Arc<AppState>) -> BoxedFilter<(Response,)> {
    let (ready, leading) = (Arc::clone(state), Arc::clone(state));
    let (numbers, status) = (Arc::clone(state), Arc::clone(state));
    let below = |name: &'static str| warp::path("health").and(at(name));
    let asked = || reads_only().and(query());
    at("health")
        .and(asked().map(|query| bare(query, || Ok(operations::health()))).or(refuse("GET, HEAD")).unify())
        .or(below("live")
            .and(asked().map(|query| bare(query, || Ok(operations::live()))).or(refuse("GET, HEAD")).unify()))
        .unify()
        .or(below("ready")
            .and(asked().map(move |query| bare(query, || operations::ready(&ready))).or(refuse("GET, HEAD")).unify()))
        .unify()
        .or(below("leader").and(
            asked().map(move |query| bare(query, || operations::leading(&leading))).or(refuse("GET, HEAD")).unify(),
        ))
        .unify()
        .or(at("docs").and(asked().map(|query| bare(query, || Ok(help::docs()))).or(refuse("GET, HEAD")).unify()))
        .unify()
        .or(at("metrics").and(
            asked().map(move |query| bare(query, || Ok(operations::metrics(&numbers)))).or(refuse("GET, HEAD")).unify(),
        ))
        .unify()
        .or(at("status").and(
            asked().map(move |query| bare(query, || Ok(operations::status(&status)))).or(refuse("GET, HEAD")).unify(),
        ))
        .unify()
        .boxed()
}

/// The answer of a route that takes no parameters.
#[allow(clippy::needless_pass_by_value, reason = "it is what a filter gives")]
fn bare(query: String, of_route: impl FnOnce() -> Result<Response, Problem>) -> Response {
    answer(QueryString::parse(&query, RouteParameters::NONE).and_then(|_| of_route()))
}

/// The last segment of a path.
fn at(name: &'static str) -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::path(name).and(warp::path::end())
}

/// `HEAD` is `GET` whose body is left out, in `front`.
fn reads_only() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::get().or(warp::head()).unify()
}

/// The text after the `?`, or none.
fn query() -> impl Filter<Extract = (String,), Error = Infallible> + Copy {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// The coding that `Accept-Encoding` asks for.
fn wanted_coding() -> impl Filter<Extract = (Option<ContentCoding>,), Error = Infallible> + Copy {
    warp::header::headers_cloned().map(|fields: HeaderMap| {
        ContentCoding::wanted(fields.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()))
    })
}

fn read_heads() -> impl Filter<Extract = (reads::ReadHeaders,), Error = Rejection> + Copy {
    warp::header::optional("memdb-min-position")
        .and(warp::header::optional("if-none-match"))
        .map(|min_position, if_none_match| reads::ReadHeaders { min_position, if_none_match })
}

/// Extracts the parts of a write that are needed to pass it on.
fn sent() -> impl Filter<Extract = (ForwardedWrite,), Error = Rejection> + Copy {
    warp::method()
        .and(warp::path::full())
        .and(warp::header::optional(FORWARDED))
        .map(|method, path, forwarded| ForwardedWrite { method, path, forwarded })
}

/// Extracts the credentials that nodes show each other.
fn shown() -> impl Filter<Extract = (ShownSecret,), Error = Rejection> + Copy {
    warp::header::optional("authorization").and(warp::ext::optional::<ConnectionPeer>()).map(
        |authorization, client: Option<ConnectionPeer>| ShownSecret {
            authorization,
            client: client.unwrap_or_else(ConnectionPeer::unknown),
        },
    )
}

fn naming() -> impl Filter<Extract = (DedupHeaders,), Error = Rejection> + Copy {
    warp::header::optional("idempotency-key")
        .and(warp::header::optional("memdb-stream"))
        .and(warp::header::optional("memdb-stream-seq"))
        .map(|key, stream, stream_sequence| DedupHeaders { key, stream, stream_sequence })
}

fn write_heads() -> impl Filter<Extract = (writes::WriteHeaders,), Error = Rejection> + Copy {
    naming()
        .and(warp::header::optional("content-type"))
        .and(warp::header::optional("content-length"))
        .map(|naming, content_type, content_length| writes::WriteHeaders { naming, content_type, content_length })
}

fn body_heads() -> impl Filter<Extract = (reads::ReadBodyHeaders,), Error = Rejection> + Copy {
    warp::header::optional("content-type")
        .and(warp::header::optional("content-length"))
        .map(|content_type, content_length| reads::ReadBodyHeaders { content_type, content_length })
}

fn answer(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(Problem::into_response)
}

/// Raised only where the path matched: the path is there, its methods are these.
#[derive(Debug)]
struct OtherMethods(&'static str);

impl Reject for OtherMethods {}

fn refuse(allow: &'static str) -> impl Filter<Extract = (Response,), Error = Rejection> + Copy {
    warp::any().and_then(move || async move { Err(warp::reject::custom(OtherMethods(allow))) })
}

/// A header that cannot be read was found by a route whose path and method matched, so it is told first.
async fn told(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = if let Some(invalid) = rejection.find::<InvalidHeader>() {
        Problem::new(
            ProblemKind::InvalidHeader,
            format!("{} holds other than visible ASCII characters", invalid.name()),
        )
    } else if let Some(OtherMethods(allow)) = rejection.find() {
        Problem::method_not_allowed(allow)
    } else {
        Problem::new(ProblemKind::NotFound, help::not_found())
    };
    Ok(problem.into_response())
}
