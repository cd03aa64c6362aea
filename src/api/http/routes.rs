//! Every route, as a warp filter.
//!
//! A path is matched before its methods, so a path that matches knows which methods it takes: the 405 with
//! `Allow`. The two busiest paths come first.

use super::{
    Api, Role,
    body::Uploads,
    bulk,
    coding::{Coding, ENCODED_AT_ONCE},
    form,
    forward::{self, Sent},
    guesses::{Client, Guesses},
    headers::Naming,
    help,
    nodes::{self, Shown},
    operations,
    problem::{Kind, Problem},
    query::{Parameters, Query, is_dots},
    reads,
    settings::HttpSettings,
    writes,
};
use crate::{
    client::{FORWARDED, Forward},
    leader::Leader,
    tally::Pool,
    view::Current,
};
use http::{HeaderMap, header};
use std::{convert::Infallible, sync::Arc};
use tokio::{sync::Semaphore, time::Instant};
use warp::{
    Filter, Rejection,
    filters::BoxedFilter,
    reject::{InvalidHeader, Reject},
    reply::Response,
};

/// What the routes answer from. Each serving thread has one of its own, so that counting its holders stays local.
pub(super) struct Site {
    pub(super) api: Api,
    pub(super) settings: HttpSettings,
    pub(super) uploads: Arc<Uploads>,
    /// As `uploads`, for what other nodes send.
    pub(super) offers: Arc<Uploads>,
    /// Where blocks of bulk bodies are counted.
    pub(super) bulk_room: Arc<bulk::Room>,
    /// Tallies of posts: what is made for each and freed by the Writer, on another core, costs more than the counting.
    pub(super) tallies: Arc<Pool>,
    /// Who has shown wrong cluster secrets, to any of the threads.
    pub(super) guesses: Arc<Guesses>,
    pub(super) started: Instant,
    /// A permit for each answer in pieces that is encoded.
    pub(super) encoders: Arc<Semaphore>,
}

/// As many answers as may be encoded at once.
pub(super) fn encoders() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ENCODED_AT_ONCE))
}

impl Site {
    /// What there is to read.
    pub(super) fn current(&self) -> Result<Arc<Current>, Problem> {
        arc_swap::Guard::into_inner(self.api.view.current()).ok_or_else(nothing_to_read)
    }

    /// Whether this is a local replica.
    pub(super) fn follows_files(&self) -> bool {
        matches!(self.api.role, Role::LocalReplica { .. })
    }

    /// The way to the leader, on a follower.
    pub(super) fn forward(&self) -> Option<&Forward> {
        match &self.api.role {
            Role::Leader { .. } => None,
            Role::Replica { forward, .. } | Role::LocalReplica { forward, .. } => Some(forward),
        }
    }

    /// On a follower: the database that its leader leads, if that is known and another than this node's.
    pub(super) fn other_database(&self) -> Option<u128> {
        self.forward()?.other_database()
    }

    /// Whether this node serves current data, and passes writes on if it is a follower.
    pub(super) fn is_ready(&self) -> bool {
        self.api.view.is_ready() && self.other_database().is_none()
    }

    /// The way to the Writer, on a leader.
    pub(super) fn leader(&self) -> Result<&Leader, Problem> {
        match &self.api.role {
            Role::Leader { leader, .. } => Ok(leader),
            _ => Err(Problem::new(Kind::Internal, "a write was not forwarded")),
        }
    }
}

/// A follower that has nothing, or nothing that is right.
pub(super) fn nothing_to_read() -> Problem {
    Problem::new(Kind::NotReady, "this node has not received the counts of its leader yet; ask again, or another node")
}

/// All routes, and the answer to everything that is none.
pub(super) fn routes(site: &Arc<Site>) -> BoxedFilter<(Response,)> {
    let unmatched = warp::any().and_then(|| async { Err::<Response, _>(warp::reject::not_found()) });
    wordcount(site)
        .or(post(site))
        .unify()
        .or(update(site))
        .unify()
        .or(bulk(site))
        .unify()
        .or(top(site))
        .unify()
        .or(sync(site))
        .unify()
        .or(namespace(site))
        .unify()
        .or(promote(site))
        .unify()
        .or(operations(site))
        .unify()
        .or(unmatched)
        .unify()
        .recover(told)
        .unify()
        .boxed()
}

fn wordcount(site: &Arc<Site>) -> BoxedFilter<(Response,)> {
    let (reading, asking, removing) = (Arc::clone(site), Arc::clone(site), Arc::clone(site));
    let read = reads_only().and(query()).and(read_heads()).then(move |query, heads| {
        let site = Arc::clone(&reading);
        async move { answer(reads::wordcount(site, query, heads).await) }
    });
    let ask = warp::post().and(query()).and(read_heads()).and(body_heads()).and(warp::body::stream());
    let ask = ask.then(move |query, heads, content, body| {
        let site = Arc::clone(&asking);
        async move { answer(reads::posted_wordcount(site, query, heads, content, body).await) }
    });
    let remove =
        warp::delete().and(sent()).and(query()).and(naming()).then(move |sent: Sent, query: String, naming| {
            let site = Arc::clone(&removing);
            async move {
                answer(match site.forward() {
                    Some(leader) => forward::bodiless(&site, leader, sent, &query, naming).await,
                    None => writes::remove_words(site, query, naming, sent.forwarded).await,
                })
            }
        });
    let allow = refuse("GET, HEAD, POST, DELETE");
    at("wordcount").and(read.or(ask).unify().or(remove).unify().or(allow).unify()).boxed()
}

fn post(site: &Arc<Site>) -> BoxedFilter<(Response,)> {
    let site = Arc::clone(site);
    let write = warp::post().and(sent()).and(query()).and(write_heads()).and(warp::body::stream()).then(
        move |sent: Sent, query: String, heads, body| {
            let site = Arc::clone(&site);
            async move {
                answer(match site.forward() {
                    Some(leader) => forward::write(&site, leader, sent, &query, heads, body).await,
                    None => writes::post(site, query, heads, sent.forwarded, body).await,
                })
            }
        },
    );
    at("post").and(write.or(refuse("POST")).unify()).boxed()
}

fn update(site: &Arc<Site>) -> BoxedFilter<(Response,)> {
    let site = Arc::clone(site);
    let asked = warp::post().and(sent()).and(query()).and(write_heads()).and(shown());
    let write = asked.and(warp::body::stream()).then(
        move |sent: Sent, query: String, heads: writes::Heads, shown: Shown, body| {
            let site = Arc::clone(&site);
            async move {
                answer(if nodes::is_offer(heads.content_type.as_deref()) {
                    nodes::offer(site, query, shown, heads.content_length, body).await
                } else if site.follows_files() && heads.content_length.as_deref() == Some("0") {
                    nodes::notice(&site, &query, &shown).await
                } else if let Some(leader) = site.forward() {
                    forward::write(&site, leader, sent, &query, heads, body).await
                } else {
                    writes::update(site, query, heads, sent.forwarded, body).await
                })
            }
        },
    );
    at("update").and(write.or(refuse("POST")).unify()).boxed()
}

fn bulk(site: &Arc<Site>) -> BoxedFilter<(Response,)> {
    let site = Arc::clone(site);
    let encoding = warp::header::optional("content-encoding");
    let write = warp::post().and(query()).and(write_heads()).and(encoding).and(warp::body::stream()).then(
        move |query: String, heads, encoding, body| {
            let site = Arc::clone(&site);
            async move {
                answer(match site.forward() {
                    Some(leader) => Err(forward::not_passed_on(leader)),
                    None => bulk::bulk(site, query, heads, encoding, body).await,
                })
            }
        },
    );
    at("bulk").and(write.or(refuse("POST")).unify()).boxed()
}

fn top(site: &Arc<Site>) -> BoxedFilter<(Response,)> {
    let site = Arc::clone(site);
    let read = reads_only().and(query()).and(read_heads()).and(wanted_coding()).then(move |query, heads, coding| {
        let site = Arc::clone(&site);
        async move { answer(reads::top(site, query, heads, coding).await) }
    });
    at("top").and(read.or(refuse("GET, HEAD")).unify()).boxed()
}

fn sync(site: &Arc<Site>) -> BoxedFilter<(Response,)> {
    let (reading, announcing) = (Arc::clone(site), Arc::clone(site));
    let accept = warp::header::optional("accept");
    let asked = reads_only().and(query()).and(read_heads()).and(wanted_coding());
    let read = asked.and(accept).and(shown()).then(
        move |query: String, heads, coding, accept: Option<String>, shown: Shown| {
            let site = Arc::clone(&reading);
            async move {
                answer(match nodes::fetch(&site, &query, accept.as_deref(), &shown).await {
                    Some(fetched) => fetched,
                    None => reads::sync(site, query, heads, coding).await,
                })
            }
        },
    );
    let content_type = warp::header::optional("content-type");
    let announce = warp::post().and(query()).and(shown()).and(content_type).and(warp::body::stream()).then(
        move |query, shown, content_type, body| {
            let site = Arc::clone(&announcing);
            async move { answer(nodes::announce(site, query, shown, content_type, body).await) }
        },
    );
    at("sync").and(read.or(announce).unify().or(refuse("GET, HEAD, POST")).unify()).boxed()
}

fn namespace(site: &Arc<Site>) -> BoxedFilter<(Response,)> {
    let site = Arc::clone(site);
    let named = warp::path("ns").and(warp::path::param::<String>()).and(warp::path::end());
    let asked = named.and(warp::delete().and(sent())).and(query()).and(naming());
    let remove = asked.then(move |name: String, sent: Sent, query: String, naming| {
        let site = Arc::clone(&site);
        async move {
            answer(match site.forward() {
                Some(_) if form::decode(name.as_bytes(), Kind::InvalidParameter).is_ok_and(|name| is_dots(&name)) => {
                    let detail = "a path of dots cannot be passed on: send it to the leader itself, as it is";
                    Err(Problem::new(Kind::InvalidParameter, detail))
                }
                Some(leader) => forward::bodiless(&site, leader, sent, &query, naming).await,
                None => writes::drop_namespace(site, name, query, naming, sent.forwarded).await,
            })
        }
    });
    remove.or(named.map(drop).untuple_one().and(refuse("DELETE"))).unify().boxed()
}

fn promote(site: &Arc<Site>) -> BoxedFilter<(Response,)> {
    let site = Arc::clone(site);
    let origin = warp::header::optional("origin");
    let asked = warp::post().and(shown()).and(origin).and(query()).then(move |shown, origin, query| {
        let site = Arc::clone(&site);
        async move { answer(nodes::promote(site, shown, origin, query).await) }
    });
    at("promote").and(asked.or(refuse("POST")).unify()).boxed()
}

fn operations(site: &Arc<Site>) -> BoxedFilter<(Response,)> {
    let (ready, leading) = (Arc::clone(site), Arc::clone(site));
    let (numbers, status) = (Arc::clone(site), Arc::clone(site));
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
    answer(Query::parse(&query, Parameters::NONE).and_then(|_| of_route()))
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
fn wanted_coding() -> impl Filter<Extract = (Option<Coding>,), Error = Infallible> + Copy {
    warp::header::headers_cloned().map(|fields: HeaderMap| {
        Coding::wanted(fields.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()))
    })
}

fn read_heads() -> impl Filter<Extract = (reads::Heads,), Error = Rejection> + Copy {
    warp::header::optional("memdb-min-position")
        .and(warp::header::optional("if-none-match"))
        .map(|min_position, if_none_match| reads::Heads { min_position, if_none_match })
}

/// What a write was sent as, should it have to be passed on.
fn sent() -> impl Filter<Extract = (Sent,), Error = Rejection> + Copy {
    warp::method().and(warp::path::full()).and(warp::header::optional(FORWARDED)).map(|method, path, forwarded| Sent {
        method,
        path,
        forwarded,
    })
}

/// What nodes show each other.
fn shown() -> impl Filter<Extract = (Shown,), Error = Rejection> + Copy {
    warp::header::optional("authorization").and(warp::ext::optional::<Client>()).map(
        |authorization, client: Option<Client>| Shown { authorization, client: client.unwrap_or_else(Client::unknown) },
    )
}

fn naming() -> impl Filter<Extract = (Naming,), Error = Rejection> + Copy {
    warp::header::optional("idempotency-key")
        .and(warp::header::optional("memdb-stream"))
        .and(warp::header::optional("memdb-stream-seq"))
        .map(|key, stream, stream_sequence| Naming { key, stream, stream_sequence })
}

fn write_heads() -> impl Filter<Extract = (writes::Heads,), Error = Rejection> + Copy {
    naming()
        .and(warp::header::optional("content-type"))
        .and(warp::header::optional("content-length"))
        .map(|naming, content_type, content_length| writes::Heads { naming, content_type, content_length })
}

fn body_heads() -> impl Filter<Extract = (reads::BodyHeads,), Error = Rejection> + Copy {
    warp::header::optional("content-type")
        .and(warp::header::optional("content-length"))
        .map(|content_type, content_length| reads::BodyHeads { content_type, content_length })
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
        Problem::new(Kind::InvalidHeader, format!("{} holds other than visible ASCII characters", invalid.name()))
    } else if let Some(OtherMethods(allow)) = rejection.find() {
        Problem::method_not_allowed(allow)
    } else {
        Problem::new(Kind::NotFound, help::not_found())
    };
    Ok(problem.into_response())
}
