//! The vocabulary in which a row of the table of routes says what it takes and what it gives.

/// The group of an operation, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api::http) enum OperationGroup {
    Words,
    Entries,
    Posts,
    Counters,
    Operations,
}

impl OperationGroup {
    /// All groups, in the order in which people are told of them.
    pub(in crate::api::http) const ALL: [Self; 5] =
        [Self::Words, Self::Entries, Self::Posts, Self::Counters, Self::Operations];

    /// The tag of its operations.
    pub(in crate::api::http) const fn name(self) -> &'static str {
        match self {
            OperationGroup::Words => "words",
            OperationGroup::Entries => "entries",
            OperationGroup::Posts => "posts",
            OperationGroup::Counters => "counters",
            OperationGroup::Operations => "operations",
        }
    }
}

/// The headers that an operation reads, beside those of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestHeaders {
    None,
    /// Those of a read of counts or entries.
    Read,
    /// Those of a read that has no tag.
    ReadUntagged,
    /// Those of a write.
    Write,
    /// Those of a write that has no place in a stream of writes.
    WholeStream,
    /// Those of a write of one entry, which may depend on what is there.
    EntryWrite,
}

impl RequestHeaders {
    pub(super) const fn names(self) -> &'static [&'static str] {
        match self {
            RequestHeaders::None => &[],
            RequestHeaders::Read => &["Memdb-Min-Position", "If-None-Match"],
            RequestHeaders::ReadUntagged => &["Memdb-Min-Position"],
            RequestHeaders::Write => &["Idempotency-Key", "Memdb-Stream", "Memdb-Stream-Seq"],
            RequestHeaders::WholeStream => &["Memdb-Stream"],
            RequestHeaders::EntryWrite => {
                &["Idempotency-Key", "Memdb-Stream", "Memdb-Stream-Seq", "If-Match", "If-None-Match"]
            }
        }
    }
}

/// The body of a request: media types, each with the name of its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api::http) struct RequestBody {
    pub(super) is_required: bool,
    pub(super) media: &'static [(&'static str, &'static str)],
}

impl RequestBody {
    pub(in crate::api::http) const NONE: Self = Self { is_required: false, media: &[] };
    /// A text, in one of four ways.
    pub(in crate::api::http) const TEXT: Self = Self {
        is_required: true,
        media: &[
            ("application/x-www-form-urlencoded", "TextForm"),
            ("multipart/form-data", "TextForm"),
            ("application/json", "PostedText"),
            ("text/plain", "Text"),
        ],
    };
    /// A text a line.
    pub(in crate::api::http) const LINES: Self =
        Self { is_required: false, media: &[("text/plain", "Text"), ("application/x-ndjson", "Text")] };
    /// Words with amounts.
    pub(in crate::api::http) const AMOUNTS: Self =
        Self { is_required: true, media: &[("application/json", "Amounts")] };
    /// A list of words.
    pub(in crate::api::http) const WORDS: Self = Self { is_required: true, media: &[("application/json", "Words")] };
    /// Bytes of any type.
    pub(in crate::api::http) const VALUE: Self = Self { is_required: false, media: &[("*/*", "Value")] };
    /// Many entries.
    pub(in crate::api::http) const ENTRIES: Self =
        Self { is_required: true, media: &[("application/json", "NewEntries")] };
    /// A JSON object with an `id`.
    pub(in crate::api::http) const DOCUMENT: Self =
        Self { is_required: true, media: &[("application/json", "Document")] };
    /// A document whose id is in the path.
    pub(in crate::api::http) const POST: Self =
        Self { is_required: true, media: &[("text/plain", "Text"), ("application/json", "Document")] };
}

/// The answer of an operation that has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api::http) struct SuccessAnswer {
    pub(super) group: OperationGroup,
    pub(super) status: u16,
    /// The media types, each with the name of its schema.
    pub(super) media: &'static [(&'static str, &'static str)],
    /// Headers of the answer that matter to clients.
    pub(super) headers: &'static [&'static str],
    pub(super) reads: RequestHeaders,
    /// Statuses of problems that are an ordinary outcome of this operation.
    pub(super) problems: &'static [u16],
}

const JSON: &str = "application/json";
const OF_READ: &[&str] = &["Memdb-Position", "Memdb-Lag", "ETag"];
const OF_WRITE: &[&str] = &["Memdb-Position", "Memdb-Acks", "Memdb-Replayed"];
const OF_RATED_WRITE: &[&str] = &["Memdb-Position", "Memdb-Acks", "Memdb-Replayed", "RateLimit", "RateLimit-Policy"];
const OF_ENTRY: &[&str] = &["Memdb-Position", "Memdb-Lag", "ETag", "Memdb-Stale"];

impl SuccessAnswer {
    const fn new(group: OperationGroup, status: u16, media: &'static [(&'static str, &'static str)]) -> Self {
        Self { group, status, media, headers: &[], reads: RequestHeaders::None, problems: &[] }
    }

    const fn read(self) -> Self {
        Self { headers: OF_READ, reads: RequestHeaders::Read, problems: &[410], ..self }
    }

    const fn write(self) -> Self {
        Self { headers: OF_WRITE, reads: RequestHeaders::Write, problems: &[409, 422, 504], ..self }
    }

    const fn entry_write(self) -> Self {
        Self { headers: OF_WRITE, reads: RequestHeaders::EntryWrite, problems: &[409, 412, 422, 504], ..self }
    }

    const fn refused_as(self, problems: &'static [u16]) -> Self {
        Self { problems, ..self }
    }

    /// A write of counts.
    pub(in crate::api::http) const RECEIPT: Self = Self::new(OperationGroup::Words, 202, &[(JSON, "Receipt")]).write();
    /// A text that is counted, within the rate of posts if there is one.
    pub(in crate::api::http) const POSTED: Self = Self {
        headers: OF_RATED_WRITE,
        problems: &[409, 422, 429, 504],
        ..Self::new(OperationGroup::Words, 202, &[(JSON, "Receipt")]).write()
    };
    /// A body of lines.
    pub(in crate::api::http) const BULK_RECEIPT: Self = Self {
        reads: RequestHeaders::WholeStream,
        ..Self::new(OperationGroup::Words, 202, &[(JSON, "BulkReceipt")]).write()
    };
    /// Counts of words.
    pub(in crate::api::http) const COUNTS: Self = Self::new(OperationGroup::Words, 200, &[(JSON, "Counts")]).read();
    /// Counts of words that a body has named.
    pub(in crate::api::http) const POSTED_COUNTS: Self = Self { reads: RequestHeaders::ReadUntagged, ..Self::COUNTS };
    /// The largest counts.
    pub(in crate::api::http) const RANKING: Self = Self {
        headers: &["Memdb-Position", "Memdb-Lag", "ETag", "Memdb-Next"],
        ..Self::new(OperationGroup::Words, 200, &[(JSON, "Ranking")]).read()
    };
    /// The namespaces.
    pub(in crate::api::http) const NAMESPACES: Self =
        Self::new(OperationGroup::Words, 200, &[(JSON, "Namespaces")]).read();
    /// Counts and entries.
    pub(in crate::api::http) const EXPORT: Self = Self {
        headers: &["Memdb-Position", "Memdb-Lag"],
        reads: RequestHeaders::ReadUntagged,
        ..Self::new(
            OperationGroup::Words,
            200,
            &[
                ("application/x-ndjson", "Text"),
                ("text/csv", "Text"),
                ("text/tab-separated-values", "Text"),
                (JSON, "Export"),
            ],
        )
        .read()
    };
    /// Server-sent events.
    pub(in crate::api::http) const EVENTS: Self =
        Self::new(OperationGroup::Words, 200, &[("text/event-stream", "Events")]).refused_as(&[406, 410]);
    /// A value.
    pub(in crate::api::http) const VALUE: Self = Self {
        headers: OF_ENTRY,
        problems: &[404, 410],
        ..Self::new(OperationGroup::Entries, 200, &[("*/*", "Value")]).read()
    };
    /// A value that may come from the origin.
    pub(in crate::api::http) const FETCHED_VALUE: Self = Self { problems: &[404, 410, 502, 504], ..Self::VALUE };
    /// A stored post.
    pub(in crate::api::http) const POST: Self = Self { group: OperationGroup::Posts, ..Self::VALUE };
    /// A stored post, with the time that the read took.
    pub(in crate::api::http) const TIMED_POST: Self =
        Self { headers: &["Memdb-Position", "Memdb-Lag", "ETag", "X-Response-Time"], ..Self::POST };
    /// A write of an entry.
    pub(in crate::api::http) const ENTRY_RECEIPT: Self =
        Self::new(OperationGroup::Entries, 200, &[(JSON, "EntryReceipt")]).entry_write();
    /// A change of an entry that has to be there.
    pub(in crate::api::http) const CHANGED_ENTRY: Self = Self::ENTRY_RECEIPT.refused_as(&[404, 409, 412, 422, 504]);
    /// An entry that was taken away.
    pub(in crate::api::http) const ENTRY_DELETE: Self =
        Self::new(OperationGroup::Entries, 200, &[(JSON, "DeleteReceipt")]).entry_write();
    /// Many entries.
    pub(in crate::api::http) const MANY_RECEIPT: Self =
        Self::new(OperationGroup::Entries, 200, &[(JSON, "ManyReceipt")]).write();
    /// Entries that were named, or a page of keys.
    pub(in crate::api::http) const ENTRY_LIST: Self = Self {
        reads: RequestHeaders::ReadUntagged,
        ..Self::new(OperationGroup::Entries, 200, &[(JSON, "EntryList")]).read()
    };
    /// A post.
    pub(in crate::api::http) const POST_RECEIPT: Self =
        Self::new(OperationGroup::Posts, 200, &[(JSON, "PostReceipt")]).entry_write();
    /// A document that was created.
    pub(in crate::api::http) const CREATED_POST: Self =
        Self { media: &[(JSON, "CreateReceipt")], ..Self::POST_RECEIPT };
    /// A change of a post that has to be there.
    pub(in crate::api::http) const CHANGED_POST: Self =
        Self { media: &[(JSON, "PostChange")], group: OperationGroup::Posts, ..Self::CHANGED_ENTRY };
    /// A post that was taken away.
    pub(in crate::api::http) const POST_DELETE: Self = Self { group: OperationGroup::Posts, ..Self::ENTRY_DELETE };
    /// A page of ids.
    pub(in crate::api::http) const POST_LIST: Self = Self {
        reads: RequestHeaders::ReadUntagged,
        ..Self::new(OperationGroup::Posts, 200, &[(JSON, "PostList")]).read()
    };
    /// An increment that waits.
    pub(in crate::api::http) const INCREMENT: Self = Self {
        headers: OF_RATED_WRITE,
        problems: &[409, 422, 429, 504],
        ..Self::new(OperationGroup::Counters, 202, &[(JSON, "CounterReceipt")]).write()
    };
    /// The value of a counter.
    pub(in crate::api::http) const COUNTER: Self =
        Self::new(OperationGroup::Counters, 200, &[(JSON, "CounterValue")]).read();
    /// A counter that was taken away.
    pub(in crate::api::http) const COUNTER_DELETE: Self =
        Self::new(OperationGroup::Counters, 200, &[(JSON, "CounterDelete")]).write();
    /// The health of a node.
    pub(in crate::api::http) const HEALTH: Self =
        Self::new(OperationGroup::Operations, 200, &[(JSON, "Health")]).refused_as(&[503]);
    /// The state of a node.
    pub(in crate::api::http) const STATUS: Self = Self::new(OperationGroup::Operations, 200, &[(JSON, "Status")]);
    /// Numbers of entries.
    pub(in crate::api::http) const STATS: Self =
        Self::new(OperationGroup::Operations, 200, &[(JSON, "Stats")]).refused_as(&[503]);
    /// Text for a person, or for Prometheus.
    pub(in crate::api::http) const TEXT: Self = Self::new(OperationGroup::Operations, 200, &[("text/plain", "Text")]);
    /// This description.
    pub(in crate::api::http) const OPENAPI: Self = Self::new(OperationGroup::Operations, 200, &[(JSON, "OpenApi")]);
    /// A page for a person.
    pub(in crate::api::http) const PAGE: Self =
        Self::new(OperationGroup::Operations, 200, &[("text/html", "Text"), ("text/plain", "Text")]);
    /// A promotion that has begun.
    pub(in crate::api::http) const PROMOTION: Self =
        Self::new(OperationGroup::Operations, 200, &[(JSON, "Promotion")]).refused_as(&[403, 409, 503]);

    /// The group of the operation.
    pub(in crate::api::http) const fn group(self) -> OperationGroup {
        self.group
    }
}
