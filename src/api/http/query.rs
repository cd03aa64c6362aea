//! The parameters after the `?`, checked.
//!
//! Each route has a table of the parameters it knows. Another one is refused, since who sends it means something by it
//! (`?namespace=a` would count in `words`); only names that begin with `_` are let through, for caches and the like.

use super::form;
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        service::no_word,
    },
    base::{limits, names},
    engine::leader::AckLevel,
};
use std::borrow::Cow;

/// The parameters a route knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteParameters(&'static [QueryParameter]);

impl RouteParameters {
    /// Health, metrics, status, and what nodes send each other.
    pub(super) const NONE: Self = Self(&[]);
    /// `GET` and `POST /wordcount`.
    pub(super) const WORDCOUNT: Self = Self(&[QueryParameter::Word, QueryParameter::Namespace]);
    /// `DELETE /wordcount`.
    pub(super) const REMOVE_WORDS: Self = Self(&[QueryParameter::Word, QueryParameter::Namespace, QueryParameter::Ack]);
    /// `POST /post`, `/update` and `/bulk`.
    pub(super) const ADD: Self = Self(&[QueryParameter::Namespace, QueryParameter::Ack]);
    /// Writes whose path says what they are about: `DELETE /ns/{name}`, and those of counters.
    pub(super) const ACK: Self = Self(&[QueryParameter::Ack]);
    /// `GET /top`.
    pub(super) const TOP: Self =
        Self(&[QueryParameter::N, QueryParameter::Namespace, QueryParameter::Prefix, QueryParameter::After]);
    /// `GET /sync`.
    pub(super) const SYNC: Self = Self(&[QueryParameter::Namespace]);
    /// `GET /export`.
    pub(super) const EXPORT: Self = Self(&[QueryParameter::Format, QueryParameter::Namespace]);
    /// `GET /sync` for records.
    pub(super) const RECORDS: Self = Self(&[QueryParameter::After]);
    /// `POST /promote`.
    pub(super) const PROMOTE: Self = Self(&[QueryParameter::Force]);
    /// `POST /post`.
    pub(super) const POST_TEXT: Self =
        Self(&[QueryParameter::Namespace, QueryParameter::Ack, QueryParameter::Ttl, QueryParameter::Store]);
    /// `GET /cache/{key}`.
    pub(super) const CACHE_ENTRY: Self = Self(&[QueryParameter::Namespace, QueryParameter::Through]);
    /// `GET /posts/{id}`.
    pub(super) const ENTRY: Self = Self(&[QueryParameter::Namespace]);
    /// `PUT` and `PATCH /cache/{key}`, `PATCH /posts/{id}`.
    pub(super) const PUT_ENTRY: Self = Self(&[QueryParameter::Namespace, QueryParameter::Ttl, QueryParameter::Ack]);
    /// `DELETE /cache/{key}` and `/posts/{id}`, and `POST /cache`.
    pub(super) const CHANGE_ENTRIES: Self = Self(&[QueryParameter::Namespace, QueryParameter::Ack]);
    /// `GET /cache`.
    pub(super) const ENTRIES: Self = Self(&[
        QueryParameter::Key,
        QueryParameter::Prefix,
        QueryParameter::After,
        QueryParameter::Limit,
        QueryParameter::Namespace,
    ]);
    /// `PUT /posts/{id}` and `POST /create`.
    pub(super) const STORE_POST: Self =
        Self(&[QueryParameter::Namespace, QueryParameter::Ttl, QueryParameter::Count, QueryParameter::Ack]);
    /// `GET /post`.
    pub(super) const READ_POST: Self = Self(&[QueryParameter::Id, QueryParameter::Namespace]);
    /// `GET /posts`.
    pub(super) const POSTS: Self =
        Self(&[QueryParameter::Prefix, QueryParameter::After, QueryParameter::Limit, QueryParameter::Namespace]);

    /// `GET /watch`.
    pub(super) const WATCH: Self = Self(&[
        QueryParameter::Word,
        QueryParameter::Key,
        QueryParameter::Top,
        QueryParameter::Namespace,
        QueryParameter::Every,
        QueryParameter::LastEventId,
    ]);
    /// `GET /stats`.
    pub(super) const STATS: Self = Self(&[QueryParameter::Scope]);

    /// Gives the names of the parameters.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|parameter| parameter.name())
    }

    fn find(self, name: &str) -> Option<QueryParameter> {
        self.0.iter().copied().find(|parameter| parameter.name() == name)
    }
}

/// A parameter that some route knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryParameter {
    Word,
    Namespace,
    Ack,
    N,
    After,
    Force,
    Ttl,
    Count,
    Store,
    Key,
    Id,
    Prefix,
    Limit,
    Scope,
    Top,
    Every,
    LastEventId,
    Through,
    Format,
}

impl QueryParameter {
    const fn name(self) -> &'static str {
        match self {
            QueryParameter::Word => "word",
            QueryParameter::Namespace => "ns",
            QueryParameter::Ack => "ack",
            QueryParameter::N => "n",
            QueryParameter::After => "after",
            QueryParameter::Force => "force",
            QueryParameter::Ttl => "ttl",
            QueryParameter::Count => "count",
            QueryParameter::Store => "store",
            QueryParameter::Key => "key",
            QueryParameter::Id => "id",
            QueryParameter::Prefix => "prefix",
            QueryParameter::Limit => "limit",
            QueryParameter::Scope => "scope",
            QueryParameter::Top => "top",
            QueryParameter::Every => "every",
            QueryParameter::LastEventId => "last_event_id",
            QueryParameter::Through => "through",
            QueryParameter::Format => "format",
        }
    }

    /// Names that other systems use for the same parameter.
    const fn other_names(self) -> &'static [&'static str] {
        match self {
            QueryParameter::Word => &["w", "q", "query", "term", "token", "key"],
            QueryParameter::Namespace => &["namespace", "name", "database", "db", "table", "collection"],
            QueryParameter::Ack => &["level", "durability", "consistency", "wait"],
            QueryParameter::N => &["limit", "count", "size", "top", "max", "number", "num", "k"],
            QueryParameter::Ttl => {
                &["expires", "expires_in", "expire", "expiry", "ex", "lifetime", "max_age", "seconds"]
            }
            QueryParameter::Key => &["keys", "k", "name", "id"],
            QueryParameter::Id => &["key", "post", "post_id"],
            QueryParameter::Limit => &["n", "size", "max", "page_size", "count"],
            QueryParameter::Prefix => &["begins", "starts_with", "match", "pattern"],
            QueryParameter::After => &["cursor", "from", "start_after", "next"],
            QueryParameter::Count => &["counted", "index"],
            QueryParameter::Store => &["keep", "save"],
            QueryParameter::Top => &["n", "limit", "largest", "number"],
            QueryParameter::Every => &["interval", "tick", "ms", "period", "rate"],
            QueryParameter::LastEventId => &["lasteventid", "last-event-id", "after", "since", "position"],
            QueryParameter::Through => &["read_through", "readthrough", "origin", "fetch", "load"],
            QueryParameter::Format => &["type", "as", "output", "fmt", "accept"],
            QueryParameter::Force | QueryParameter::Scope => &[],
        }
    }

    /// Rates the similarity of a name, from 0 to 1.
    fn nearness(self, name: &str) -> f64 {
        let nearness = |known: &str| strsim::jaro_winkler(known, name);
        self.other_names().iter().copied().map(nearness).fold(nearness(self.name()), f64::max)
    }
}

/// The parsed query of a request.
#[derive(Debug)]
pub(super) struct QueryString<'a> {
    /// `ns=`, or the default namespace.
    pub(super) namespace: Cow<'a, str>,
    /// True if `ns=` was sent.
    pub(super) names_namespace: bool,
    /// Every `word=`, as sent, in order, each once.
    pub(super) words: Vec<Cow<'a, str>>,
    /// `ack=`.
    pub(super) ack: Option<AckLevel>,
    /// `n=`.
    pub(super) n: Option<Cow<'a, str>>,
    /// `after=`.
    pub(super) after: Option<Cow<'a, str>>,
    /// `force=`.
    pub(super) force: Option<Cow<'a, str>>,
    /// `format=`.
    pub(super) format: Option<Cow<'a, str>>,
    /// The parameters of entries.
    pub(super) entries: EntryParameters<'a>,
    /// The parameters of `/watch`.
    pub(super) watch: WatchParameters<'a>,
}

/// The parameters that only `/watch` knows, as they were sent.
#[derive(Debug, Default)]
pub(super) struct WatchParameters<'a> {
    /// `top=`.
    pub(super) top: Option<Cow<'a, str>>,
    /// `every=`.
    pub(super) every: Option<Cow<'a, str>>,
    /// `last_event_id=`.
    pub(super) last_event_id: Option<Cow<'a, str>>,
}

/// The parameters that only routes of entries know, as they were sent: `api/http/entries/` reads them.
#[derive(Debug, Default)]
pub(super) struct EntryParameters<'a> {
    /// `ttl=`.
    pub(super) ttl: Option<Cow<'a, str>>,
    /// `count=`.
    pub(super) count: Option<Cow<'a, str>>,
    /// `store=`.
    pub(super) store: Option<Cow<'a, str>>,
    /// Every `key=`, in order.
    pub(super) keys: Vec<Cow<'a, str>>,
    /// `id=`.
    pub(super) id: Option<Cow<'a, str>>,
    /// `prefix=`.
    pub(super) prefix: Option<Cow<'a, str>>,
    /// `limit=`.
    pub(super) limit: Option<Cow<'a, str>>,
    /// `scope=`.
    pub(super) scope: Option<Cow<'a, str>>,
    /// `through=`.
    pub(super) through: Option<Cow<'a, str>>,
}

impl<'a> QueryString<'a> {
    /// Reads the text after the `?`, of a route that knows these parameters.
    pub(super) fn parse(text: &'a str, known: RouteParameters) -> Result<Self, ApiError> {
        let (mut namespace, mut ack, mut n, mut after, mut force, mut format) = (None, None, None, None, None, None);
        let (mut words, mut entries, mut watch) = (Vec::new(), EntryParameters::default(), WatchParameters::default());
        for (name, value) in form::pairs(text.as_bytes()) {
            let name = form::decode(name, ErrorKind::InvalidParameter)?;
            let value = form::decode(value, ErrorKind::InvalidParameter);
            let value = value.map_err(|problem| problem.about(format_args!("parameter `{}`", shown(&name))))?;
            if name.starts_with('_') {
                continue;
            }
            let slot = match known.find(&name).ok_or_else(|| unknown(&name, known))? {
                QueryParameter::Word => {
                    words.push(value);
                    if words.len() > limits::MAX_WORDS_PER_READ {
                        return Err(too_many_words());
                    }
                    continue;
                }
                QueryParameter::Namespace => &mut namespace,
                QueryParameter::Ack => &mut ack,
                QueryParameter::N => &mut n,
                QueryParameter::After => &mut after,
                QueryParameter::Force => &mut force,
                QueryParameter::Key => {
                    entries.keys.push(value);
                    if entries.keys.len() > limits::MAX_ENTRIES_PER_REQUEST {
                        return Err(too_many_keys());
                    }
                    continue;
                }
                QueryParameter::Ttl => &mut entries.ttl,
                QueryParameter::Count => &mut entries.count,
                QueryParameter::Store => &mut entries.store,
                QueryParameter::Id => &mut entries.id,
                QueryParameter::Prefix => &mut entries.prefix,
                QueryParameter::Limit => &mut entries.limit,
                QueryParameter::Scope => &mut entries.scope,
                QueryParameter::Top => &mut watch.top,
                QueryParameter::Every => &mut watch.every,
                QueryParameter::LastEventId => &mut watch.last_event_id,
                QueryParameter::Through => &mut entries.through,
                QueryParameter::Format => &mut format,
            };
            if slot.replace(value).is_some() {
                return Err(invalid(format!("{name} is given twice")));
            }
        }
        let names_namespace = namespace.is_some();
        let namespace = namespace.unwrap_or(Cow::Borrowed(limits::DEFAULT_NAMESPACE));
        check_namespace(&namespace)?;
        let ack = ack.as_deref().map(ack_level).transpose()?;
        Ok(Self { namespace, names_namespace, words, ack, n, after, force, format, entries, watch })
    }

    /// Reads the text after the `?` of a request that adds to a namespace.
    pub(super) fn of_addition(text: &'a str, known: RouteParameters) -> Result<Self, ApiError> {
        let query = Self::parse(text, known)?;
        check_can_be_named(&query.namespace)?;
        Ok(query)
    }

    /// The words, of which there must be at least one and no empty one.
    pub(super) fn named_words(&self) -> Result<&[Cow<'a, str>], ApiError> {
        if self.words.is_empty() || self.words.iter().any(|word| word.is_empty()) {
            return Err(no_word(ErrorKind::InvalidParameter));
        }
        Ok(&self.words)
    }

    /// Gives the number of words that `/top` returns.
    pub(super) fn top(&self) -> Result<usize, ApiError> {
        self.n.as_deref().map_or(Ok(10), |n| number_of_words("n", n, limits::MAX_RANKING))
    }
}

/// Reads the number of the largest counts that are wanted.
pub(super) fn number_of_words(name: &str, given: &str, most: usize) -> Result<usize, ApiError> {
    match given.parse::<usize>() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(invalid(format!("{name} is a whole number from 1 to {most}"))),
    }
}

/// Reads a parameter that says yes or no; `default` where it was not sent. A name without a value says yes.
pub(super) fn switch(name: &str, given: Option<&str>, default: bool) -> Result<bool, ApiError> {
    match given {
        None => Ok(default),
        Some("true" | "1" | "") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(_) => Err(invalid(format!("{name}= takes true or false"))),
    }
}

/// Refuses a name that no namespace can have.
pub(super) fn check_namespace(name: &str) -> Result<(), ApiError> {
    names::check_namespace(name).map_err(invalid)
}

/// Refuses the names that no path can hold.
pub(super) fn check_can_be_named(namespace: &str) -> Result<(), ApiError> {
    names::check_can_be_named(namespace).map_err(invalid)
}

/// The target of a request: its path, and its query if there is one.
pub(super) fn target(path: impl Into<String>, query: &str) -> String {
    let path = path.into();
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

/// Refuses a parameter, and says which one was meant.
fn unknown(name: &str, known: RouteParameters) -> ApiError {
    if name.is_empty() {
        return invalid("a parameter has no name in front of its =");
    }
    let shown = shown(name);
    if known.0.is_empty() {
        return invalid(format!("unknown parameter `{shown}`: this route takes none"));
    }
    let lower = shown.to_lowercase();
    let nearness = known.0.iter().map(|parameter| (parameter.nearness(&lower), parameter.name()));
    let nearest = nearness.max_by(|one, other| one.0.total_cmp(&other.0)).filter(|nearest| nearest.0 >= NEAR);
    let meant = nearest.map_or(String::new(), |(_, name)| format!("did you mean `{name}`? "));
    let all: Vec<String> = known.0.iter().map(|parameter| format!("`{}`", parameter.name())).collect();
    invalid(format!("unknown parameter `{shown}`: {meant}this route takes {}", all.join(", ")))
}

/// Names less alike than this are not taken for each other: most typing errors are above, most other words below.
const NEAR: f64 = 0.6;

/// The start of a parameter's name, for a message.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

fn ack_level(name: &str) -> Result<AckLevel, ApiError> {
    name.parse().map_err(|error| invalid(format!("ack: {error}")))
}

pub(super) fn too_many_words() -> ApiError {
    invalid(format!("at most {} words in one request; send several requests", limits::MAX_WORDS_PER_READ))
}

fn too_many_keys() -> ApiError {
    invalid(format!("at most {} keys in one request; send several requests", limits::MAX_ENTRIES_PER_REQUEST))
}

pub(super) fn invalid(detail: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorKind::InvalidParameter, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All parameters at once, as no route has them.
    const ALL: RouteParameters = RouteParameters(&[
        QueryParameter::Word,
        QueryParameter::Namespace,
        QueryParameter::Ack,
        QueryParameter::N,
        QueryParameter::After,
        QueryParameter::Force,
    ]);

    fn parse(text: &str) -> Result<QueryString<'_>, ApiError> {
        QueryString::parse(text, ALL)
    }

    #[test]
    fn known_parameters_are_read_and_those_that_begin_with_an_underscore_are_let_through() {
        let query =
            parse("word=a+b&word=%E5%8C%97&ns=my-ns&_=1&ack=disk&n=5&_x&_x=2&%5fy&after=1-2&force").expect("sound");
        assert_eq!(query.named_words().expect("two words"), ["a b", "北"]);
        assert_eq!((&*query.namespace, query.ack, query.top().expect("in range")), ("my-ns", Some(AckLevel::Disk), 5));
        assert_eq!((query.after.as_deref(), query.force.as_deref()), (Some("1-2"), Some("")));
        for levels in ["ack=replica+disk", "ack=replica%2Bdisk"] {
            assert_eq!(parse(levels).expect("sound").ack, Some(AckLevel::ReplicaDisk));
        }
        let query = QueryString::parse("", RouteParameters::NONE).expect("sound");
        assert_eq!((&*query.namespace, query.ack, query.top().expect("default")), ("words", None, 10));
        assert!(query.named_words().is_err());
    }

    #[test]
    fn an_unknown_parameter_is_refused_and_the_nearest_known_one_named() {
        let long = "x".repeat(10_000);
        for (text, known, said) in [
            (
                "namespace=a",
                RouteParameters::ADD,
                "unknown parameter `namespace`: did you mean `ns`? this route takes `ns`, `ack`",
            ),
            ("NS=a", RouteParameters::SYNC, "did you mean `ns`?"),
            ("nss=a", RouteParameters::SYNC, "did you mean `ns`?"),
            ("limit=3", RouteParameters::TOP, "did you mean `n`?"),
            ("count=3", RouteParameters::TOP, "did you mean `n`?"),
            ("words=a", RouteParameters::WORDCOUNT, "did you mean `word`?"),
            ("wrod=a", RouteParameters::WORDCOUNT, "did you mean `word`?"),
            ("q=a", RouteParameters::WORDCOUNT, "did you mean `word`?"),
            ("acks=disk", RouteParameters::ADD, "did you mean `ack`?"),
            ("forced", RouteParameters::PROMOTE, "did you mean `force`?"),
            ("ack=disk", RouteParameters::WORDCOUNT, "unknown parameter `ack`: this route takes `word`, `ns`"),
            ("n%73x=a", RouteParameters::SYNC, "unknown parameter `nsx`"),
            ("verbose", RouteParameters::NONE, "unknown parameter `verbose`: this route takes none"),
            ("=a", RouteParameters::SYNC, "has no name"),
            ("=", RouteParameters::NONE, "has no name"),
            ("ns=a%2", RouteParameters::SYNC, "parameter `ns`: the % at byte 1"),
            ("_=%zz", RouteParameters::SYNC, "parameter `_`: the % at byte 0"),
            (&long, RouteParameters::SYNC, "unknown parameter `xxx"),
        ] {
            let problem = QueryString::parse(text, known).expect_err(text);
            assert_eq!(problem.status().as_u16(), 400);
            let body: serde_json::Value = serde_json::from_slice(&problem.body()).expect("JSON");
            let detail = body["detail"].as_str().expect("a text");
            assert!(detail.contains(said) && detail.len() < 300, "{text}: {detail}");
        }
    }

    #[test]
    fn a_query_that_makes_no_sense_is_refused() {
        let many = "word=a&".repeat(limits::MAX_WORDS_PER_READ + 1);
        let long = format!("ns={}", "a".repeat(65));
        for bad in [
            "ns=",
            "ns=A",
            "ns=a/b",
            "ns=%00",
            "ns=a&ns=a",
            &long,
            "ack=all",
            "ack=",
            "ack=leader&ack=disk",
            "word=%zz",
            "word=%ff",
            "n=1&n=2",
            &many,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in ["n=0", "n=100001", "n=-1", "n=ten", "n=", "n=18446744073709551616"] {
            assert!(parse(bad).expect("not wrong yet").top().is_err(), "{bad}");
        }
        assert!(parse("word=a&word=").expect("not wrong yet").named_words().is_err());
        assert!(parse(&many["word=a&".len()..]).is_ok());
    }
}
