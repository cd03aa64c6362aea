//! Every bound, with its unit and its reason.
//!
//! A server is only as predictable as the largest thing it accepts: each queue, table, body and name has a
//! bound here, and the asserts at the end keep the bounds consistent with each other. Bounds a user may change are
//! defaults of `config/table.rs`; the others are part of the formats.

/// Longest word in bytes. A stored word keeps its length less one in a byte.
pub const MAX_WORD_BYTES: usize = 256;
/// Longest namespace name in bytes.
pub const MAX_NAMESPACE_BYTES: usize = 64;
/// Longest name of a node in bytes.
pub const MAX_NODE_NAME_BYTES: usize = 64;
/// The namespace used when a request names none.
pub const DEFAULT_NAMESPACE: &str = "words";
/// Namespaces in one database. Each costs a few hundred KB once it holds a thousand words.
pub const MAX_NAMESPACES: usize = 1_024;
/// Namespaces with series of their own in `/metrics`, those with most words: a scrape stays small whatever clients
/// name.
pub const NAMESPACES_IN_METRICS: usize = 100;
/// Longest idempotency key or stream name in bytes: room for a UUID and a path.
pub const MAX_KEY_BYTES: usize = 255;
/// Longest key of an entry in bytes.
pub const MAX_ENTRY_KEY_BYTES: usize = 512;
/// Longest media type of an entry in bytes.
pub const MAX_CONTENT_TYPE_BYTES: usize = 127;
/// Default bound of one value in bytes (`--max-value-bytes`).
pub const DEFAULT_MAX_VALUE_BYTES: usize = 1 << 20;
/// The most a user may raise the bound of values to: a post that takes another's place must fit one record.
pub const LARGEST_MAX_VALUE_BYTES: usize = 8 << 20;
/// Largest claim of a text that is not kept, in bytes, for the longest text: its words folded, and with each of them,
/// of which there is at most one for two bytes of text, three bytes.
pub const MAX_CLAIM_BYTES: usize = 13 * LARGEST_MAX_VALUE_BYTES;
/// Values of up to so many bytes have no hash stored beside them: working it out takes less than reading it.
pub const SHORT_VALUE_BYTES: usize = 64;
/// Values of so many bytes and more are stored compressed, …
pub const COMPRESSED_VALUE_BYTES: usize = 4 << 10;
/// … if that saves so many hundredths of them at least (decision 20).
pub const LEAST_SAVED_PERCENT: usize = 25;
/// The level of zstd that values are compressed at.
pub const VALUE_ZSTD_LEVEL: i32 = 1;
/// Entries written, read or listed by one request, at most.
pub const MAX_ENTRIES_PER_REQUEST: usize = 1_000;
/// Bytes of all values that one request writes or reads, at most: it holds no more memory than a large text does.
pub const MAX_ENTRIES_BYTES: usize = 8 << 20;
/// Largest body that writes many entries, in bytes: JSON has room for their values in Base64.
pub const MAX_ENTRIES_BODY_BYTES: usize = 2 * MAX_ENTRIES_BYTES;
/// Entries of a page if a request says nothing.
pub const DEFAULT_PAGE_ENTRIES: usize = 100;
/// Patience for the other nodes' part of `/stats`, in milliseconds: a node that is silent for longer is listed as that.
pub const STATS_PATIENCE_MS: u64 = 200;
/// Entries that one record takes away because their time has come: each takes a microsecond or two, so that a write
/// that comes meanwhile waits a fraction of a millisecond. With 250 the longest wait was twice as long, and
/// the entries went no sooner.
pub const EXPIRED_PER_RECORD: usize = 100;
/// Pause of the Writer's thread behind such a record, in microseconds: a thread that has left a part of its share of a
/// core gets one at once when a write comes.
pub const EXPIRY_PAUSE_US: u64 = 100;
/// Words, in bytes, that such a record takes back, about: as many as are counted in a millisecond.
pub const EXPIRED_BYTES_PER_RECORD: usize = 64 << 10;
/// Entries that one record evicts before it is closed: whoever looks for more in it has to pass these over.
pub const EVICTIONS_PER_RECORD: usize = 128;
/// Collections of entries in one database, of all kinds: four for each namespace.
pub const MAX_COLLECTIONS: usize = 4 * MAX_NAMESPACES;
/// Collections that a store holds, whoever has written its files: those that clients make, and as many again of marks
/// of removals, which a leader makes beyond that bound.
pub const MOST_COLLECTIONS: usize = 2 * MAX_COLLECTIONS;
/// Longest time to live in milliseconds: a hundred years of logged time, which no sum of two times overflows.
pub const MAX_TTL_MS: u64 = 100 * 366 * 24 * 60 * 60 * 1_000;
/// The namespace of what waits for counters, which no client can name.
pub const QUEUES_NAMESPACE: &str = "~counters/queues";
/// Bytes of a counter's key; with its queue and its tick in front it is a word.
pub const MAX_COUNTER_KEY_BYTES: usize = MAX_WORD_BYTES - 16;
/// Milliseconds of the window by which the rate of a counter's key is limited.
pub const KEY_WINDOW_MS: u64 = 10_000;
/// Milliseconds in which increments of one key wait as one amount; ages are told to the hundredth of a second.
pub const QUEUE_TICK_MS: u64 = 10;
/// Milliseconds in which increments of one key leave their window together: a key has at most a hundred such amounts.
pub const WINDOW_TICK_MS: u64 = 100;
/// Amounts in the windows of all keys; beyond it increments are refused. Of keys of 16 bytes with one amount each, they
/// take 160 MB: some 310 bytes each, which are part of the memory for words and counts.
pub const MAX_KEY_WINDOWS: usize = 1 << 19;
/// Lines in a second that the node's log has about increments that were set aside, some 100 bytes each: a burst fills
/// no disk. Those beyond it are told of by their number.
pub const SIDELINED_LINES_PER_SECOND: u64 = 10_000;
/// … of which so many may wait to be written, each for a key.
pub const SIDELINED_LINES_WAITING: usize = 4_096;
/// Steps of the workers that one record takes: writes that come meanwhile wait for no more.
pub const QUEUE_STEPS_PER_RECORD: usize = 1_000;
/// Idempotency keys remembered by default. Each costs about 150 bytes with its key.
pub const DEFAULT_MAX_KEYS: usize = 1_000_000;
/// Default time for which a key is remembered, in milliseconds of logged time.
pub const DEFAULT_KEY_AGE_MS: u64 = 10 * 60 * 1_000;
/// Producer streams remembered by default: one entry each, however many posts they carried.
pub const DEFAULT_MAX_STREAMS: usize = 65_536;
/// Default time for which an idle stream is remembered, in milliseconds of logged time.
pub const DEFAULT_STREAM_AGE_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Lead of the wall clock over the last record that a starting leader still believes, in milliseconds: a restart, and a
/// machine that boots, take no longer. Beyond that the clock is more likely wrong than right, or the node was away for
/// long, and then nobody is hurt by a key that is remembered longer.
pub const MAX_BELIEVED_LEAP_MS: u64 = 5 * 60 * 1_000;

/// Default bound of one text in bytes (`--max-body-bytes`).
pub const DEFAULT_MAX_BODY_BYTES: usize = 1 << 20;
/// The most a user may raise the text bound to: one text must fit one record.
pub const LARGEST_MAX_BODY_BYTES: usize = 16 << 20;
/// Lines of a bulk body that are counted together and become one record, in bytes, unless a single line is longer:
/// enough that most words come again, few enough that a record is written in some fifteen milliseconds.
pub const BULK_BLOCK_BYTES: usize = 8 << 20;
/// The most a block may have: one that ends in the longest line.
pub const MAX_BLOCK_BYTES: usize = LARGEST_MAX_BODY_BYTES + BULK_BLOCK_BYTES;
/// Blocks of bulk bodies that are counted or wait for the Writer, of all requests together. A body whose next block
/// finds no room is not read on.
pub const BULK_BLOCKS: usize = 4;
/// The most bytes of a block's tally that is kept for the next block.
pub const BULK_TALLY_BYTES: usize = 64 << 20;
/// Tallies of posts that a serving thread keeps for the next posts, …
pub const TALLIES_KEPT: usize = 256;
/// … each of at most so many bytes.
pub const TALLY_KEPT_BYTES: usize = 16 << 10;
/// Streams of batches that an import sends beside each other. The numbers of batches depend on it, so another number
/// makes another import of the same file.
pub const IMPORT_STREAMS: usize = 4;
/// Words of a batch of an import: some milliseconds of work.
pub const IMPORT_BATCH_WORDS: usize = 10_000;
/// A batch of an import takes no more words once its JSON has so many bytes: a quarter of a body's usual bound.
pub const IMPORT_BATCH_BYTES: usize = 256 << 10;
/// Entries of a batch of an import, …
pub const IMPORT_BATCH_ENTRIES: usize = 500;
/// … and bytes of their JSON, unless a single one is larger: a quarter of the bound of such a body.
pub const IMPORT_BATCH_ENTRY_BYTES: usize = 4 << 20;
/// Batches of an import that are cut ahead of each stream.
pub const IMPORT_BATCHES_AHEAD: usize = 2;
/// The largest count, either side of zero, that amounts given by hand (`/update`) take a word to. Text, which counts
/// word by word, goes on to the 64-bit range: from here it would take 2^62 words to come to its end.
pub const MAX_GIVEN_COUNT: i64 = 1 << 62;
/// The most that `words` in an answer says, so that whoever reads it has room for it in a signed 64-bit integer.
pub const MAX_WORDS_TOLD: u64 = i64::MAX as u64;
/// A compressed body may become so many times as large, …
pub const MAX_DECODED_RATIO: u64 = 200;
/// … as far as it becomes larger than this, in bytes: text of a few lines again and again is smaller …
pub const RATIO_FREE_BYTES: u64 = 16 << 20;
/// … and no larger than this in all, in bytes: a day of counting. What is larger is sent as it is, or in parts.
pub const MAX_DECODED_BYTES: u64 = 1 << 40;
/// Largest window of a zstd frame, as a power of two in bytes: as RFC 9659 bounds it for HTTP.
pub const ZSTD_WINDOW_LOG: u32 = 23;
/// Answers shorter than this, in bytes, are sent uncompressed: they fit a packet either way.
pub const SMALLEST_ENCODED_BYTES: usize = 1 << 10;
/// Streamed answers that each serving thread compresses at once: an encoder has up to 1 MiB. One more is sent as it is.
pub const ENCODED_AT_ONCE: usize = 32;
/// Words named in one read, all answered at one position.
pub const MAX_WORDS_PER_READ: usize = 1_000;
/// Largest body that names words to be read, in bytes: as many as may be, each as long as a word, each byte in an
/// escape of six.
pub const MAX_WORDS_BODY_BYTES: usize = 2 << 20;
/// The largest counts of each namespace that are at hand: `/top` gives so many, and `/watch`, without looking at every
/// word.
pub const MAX_TOP: usize = 1_000;
/// The most words one answer of `/top` gives: some 3 MB of JSON. Who wants more asks for the next page.
pub const MAX_RANKING: usize = 100_000;
/// Counts that may change while `/top` looks at every word: they are read once more under one guard, some 200 µs …
pub const RANKING_CHANGES: usize = 32_768;
/// … and where more have changed, it looks again, so often in all.
pub const RANKING_TRIES: usize = 3;
/// After that a namespace of up to so many words is read under one guard, for which a record waits some 3 ms; a larger
/// one is answered 503 `ranking-busy`.
pub const RANKED_UNDER_GUARD: u64 = 1 << 18;
/// Memory of answers of `/top` beyond the words at hand that clients have not taken yet, in bytes: the largest has some
/// 30 MB.
pub const RANKING_BYTES: usize = 128 << 20;
/// The longest time that a change waits to be sent to a watcher (`every=`), in milliseconds, if the watcher says none:
/// as quick as people see.
pub const DEFAULT_WATCH_MS: u64 = 100;
/// The least of it, in milliseconds: a watcher looks at most a hundred times a second.
pub const LEAST_WATCH_MS: u64 = 10;
/// The most of it, in milliseconds.
pub const MOST_WATCH_MS: u64 = 60_000;
/// Interval at which it is looked for all watchers of a serving thread whether anything has been applied, in
/// milliseconds.
pub const MOVEMENT_CHECK_MS: u64 = 10;
/// Interval at which a watcher hears that its stream is open, in milliseconds: proxies close silent ones after 30 s.
pub const WATCH_HEARTBEAT_MS: u64 = 15_000;
/// Pause after which a browser comes again when its stream has ended, in milliseconds.
pub const WATCH_RETRY_MS: u64 = 1_000;
/// Time for which a watcher that comes again waits for the position that it has, in milliseconds: a node that has
/// fallen back is seldom further behind. Then it begins anew with what is there.
pub const WATCH_PATIENCE_MS: u64 = 10_000;
/// Values of entries of up to so many bytes are in the events of watchers, …
pub const WATCHED_VALUE_BYTES: usize = 1 << 10;
/// … as far as those of one event have at most so many bytes together: an event is memory that a slow client holds.
pub const WATCHED_VALUES_BYTES: usize = 64 << 10;
/// The largest counts of a namespace are ranked for all watchers together, and anew after so many milliseconds at the
/// earliest: ranking takes up to a millisecond.
pub const RANKING_AGE_MS: u64 = 50;
/// Rankings kept for watchers; the one that was made longest ago goes first.
pub const RANKINGS_KEPT: usize = 64;

/// Batches that wait for the Writer (`--queue`). Full is 429.
pub const DEFAULT_QUEUE_BATCHES: usize = 4_096;
/// Reads that wait for a position at once: each is woken by every record.
pub const MAX_WAITING_READS: usize = 4_096;
/// Writes that a follower passes on at once: each may take a connection of the leader. One more waits …
pub const FORWARDED_AT_ONCE: usize = 256;
/// … so long for another to end, in milliseconds, and is refused then.
pub const FORWARD_PATIENCE_MS: u64 = 1_000;
/// Values that a leader fetches from the origin at once: each has a connection, and a value of bounded size.
pub const ORIGIN_FETCHES_AT_ONCE: usize = 256;
/// Reads that wait for such values at once, of all keys: a task and a connection each.
pub const ORIGIN_WAITING_READS: usize = 16_384;
/// Reads through to an origin that a follower passes on at once. One more waits as long as a write does.
pub const ORIGIN_READS_FORWARDED: usize = 128;
/// Stale values that a follower has its leader fetch at once behind answers; others wait for the next read of them.
pub const ORIGIN_REVALIDATIONS: usize = 64;
/// Bytes of values that are being fetched, of all keys: one more byte is 503, and its fetch is given up.
pub const ORIGIN_FETCHED_BYTES: usize = 64 << 20;
/// Failed fetches that are remembered, of which the oldest goes first, …
pub const ORIGIN_FAILURES_KEPT: usize = 10_000;
/// … and for so long, in milliseconds: an origin that is down is asked once a second for a key, however many ask here.
pub const ORIGIN_FAILURE_MS: u64 = 1_000;
/// Longest `--origin-timeout` in milliseconds: a forwarder waits five seconds for the leader's answer.
pub const MAX_ORIGIN_TIMEOUT_MS: u64 = 4_000;
/// Longest URL that is fetched from an origin, in bytes: the longest key with each byte in an escape, and as much
/// again.
pub const MAX_ORIGIN_URL_BYTES: usize = 4 << 10;
/// Time that a forwarded write waits for a leader from its first failure on, in milliseconds: a leader that was killed
/// is replaced within some 1.5 s.
pub const FORWARD_WAIT_MS: u64 = 3_000;
/// Bytes of the bodies of forwarded writes that wait for a leader: as much as waits for a Writer.
pub const FORWARD_WAIT_BYTES: usize = 64 << 20;
/// Reads that a follower without data has other nodes answer at once: it is to come up, and no proxy. …
pub const FALLBACK_READS: usize = 64;
/// … of how many nodes it asks for one read, one after the other …
pub const FALLBACK_NODES: usize = 3;
/// … and for how long, until an answer begins, in milliseconds: with the second that one waits for a position.
pub const FALLBACK_MS: u64 = 1_500;
/// Text bytes that wait for the Writer, so that few large texts are bounded as many small ones are.
pub const DEFAULT_QUEUE_BYTES: usize = 64 << 20;
/// Batches merged into one record: a bound on how long one answer waits for its neighbours.
pub const MAX_BATCHES_PER_RECORD: usize = 1_024;
/// A group is closed once its words and keys, encoded, would pass this many bytes.
pub const GROUP_BYTES: usize = 8 << 20;
/// Largest payload of a record in bytes. Decoding never allocates for more.
pub const MAX_RECORD_PAYLOAD_BYTES: usize = 448 << 20;
/// Largest payload of a block of a snapshot in bytes: a record whole, with room for the walk's own.
pub const MAX_SNAPSHOT_BLOCK_BYTES: usize = 2 * MAX_RECORD_PAYLOAD_BYTES;

/// A log segment is finished once it has this many bytes.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;
/// Interval at which a node checks that the files it writes are still there, in milliseconds: a loss is noticed within
/// a second.
pub const FILE_CHECK_MS: u64 = 500;
/// Snapshots kept: if the newest is damaged, the one before and the log give the same state.
pub const SNAPSHOTS_KEPT: usize = 2;
/// A snapshot is taken every second only while it takes less time than this, in milliseconds …
pub const QUICK_SNAPSHOT_MS: u64 = 100;
/// … and is smaller than this, in bytes. Otherwise the synced log stands in until it has outgrown the snapshot.
pub const QUICK_SNAPSHOT_BYTES: u64 = 8 << 20;
/// Entries the snapshot walk reads under one read guard: some microseconds in which the Writer may have to wait.
pub const WALK_ENTRIES: usize = 256;
/// So many words before its turn what a word needs is fetched into the cache: far enough that it has come, and few
/// enough that it is still there.
pub const WORDS_AHEAD: usize = 32;
/// Log bytes the snapshot copies in one step.
pub const COPY_BYTES: usize = 256 << 10;

/// Past epochs kept in the MANIFEST, one a start.
pub const EPOCHS_REMEMBERED: usize = 4_096;
/// Replicas kept in the MANIFEST.
pub const MAX_REPLICAS: usize = 64;
/// Names a node is told that it has (`--allowed-host`): each request may be compared with all of them.
pub const MAX_ALLOWED_HOSTS: usize = 64;
/// Origins whose pages may read and write (`--cors-origin`): each request of a page may be compared with all of them.
pub const MAX_CORS_ORIGINS: usize = 64;
/// Largest file of certificates or of a key, in bytes: all authorities of a system have some 250 KiB.
pub const MAX_TLS_FILE_BYTES: u64 = 1 << 20;
/// TLS handshakes under way at once: an honest client's takes milliseconds. Beyond it the one that has waited longest
/// is broken off.
pub const MAX_TLS_HANDSHAKES: usize = 512;
/// Longest URL of a node, in bytes: the MANIFEST has room for all of them.
pub const MAX_URL_BYTES: usize = 512;
/// Largest valid epoch: each start takes the next one, and a promotion one of the next million.
pub const MAX_EPOCH: u64 = 1 << 62;
/// Largest MANIFEST in bytes.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;

/// Bytes of records kept in memory for replicas that are connected.
pub const FEED_BYTES: usize = 32 << 20;
/// As [`FEED_BYTES`], on a leader that no replica follows: whoever comes reads the log first.
pub const IDLE_FEED_BYTES: usize = 1 << 20;
/// Bytes of records in one offer to a replica; one record may be larger.
pub const OFFER_BYTES: usize = 512 << 10;
/// An offer to a replica of at most so many bytes is applied by the serving thread that has read it, which answers
/// nobody else meanwhile: some microseconds for each hundred bytes.
pub const OFFER_AT_ONCE_BYTES: usize = 16 << 10;
/// Largest append request that a leader reads, in bytes: it is asked where it stands, or for a promise, and takes no
/// records. The head names at most all nodes of the cluster.
pub const MAX_QUESTION_BYTES: usize = 1 << 20;
/// Largest body between nodes in bytes: the largest record, and the head of the offer.
pub const MAX_OFFER_BYTES: usize = MAX_RECORD_PAYLOAD_BYTES + (1 << 20);
/// Largest part of a backup that is a stream, in bytes: a record.
pub const MAX_BACKUP_PART_BYTES: usize = MAX_OFFER_BYTES;
/// A replica hears from its leader at least so often, in milliseconds.
pub const HEARTBEAT_MS: u64 = 250;
/// A replica that has not answered for so long is not waited for, in milliseconds.
pub const EXCHANGE_TIMEOUT_MS: u64 = 1_000;
/// Least rate of an offer on its way, in bytes per millisecond: its time-out grows with its size.
pub const LEAST_BYTES_PER_MS: u64 = 4_000;
/// Longest time a write may wait for a replica, in milliseconds: whoever has passed it on waits for the answer.
pub const MAX_ACK_TIMEOUT_MS: u64 = 4_000;
/// Addresses and users whose wrong secrets and passwords are remembered; the one that was silent longest goes first, …
pub const MAX_GUESSERS: usize = 1_024;
/// … and for so long after the last of them, in milliseconds.
pub const GUESS_MEMORY_MS: u64 = 60_000;
/// Secrets of such an address that are looked at at once, and passwords of any.
pub const GUESSES_AT_ONCE: usize = 8;
/// Delay of the first wrong secret of an address, in milliseconds; each further one takes twice as long …
pub const GUESS_DELAY_MS: u64 = 25;
/// … up to this: eight guesses a second.
pub const GUESS_DELAY_MAX_MS: u64 = 1_000;
/// Time that a secret of such an address waits for its turn, in milliseconds.
pub const GUESS_PATIENCE_MS: u64 = 3_000;
/// Users in a users file: a node keeps all of them.
pub const MAX_USERS: usize = 10_000;
/// Tokens of one user: a name for each program is enough.
pub const MAX_TOKENS_PER_USER: usize = 64;
/// Largest users file, in bytes: room for all users with some tokens each.
pub const MAX_USERS_FILE_BYTES: u64 = 16 << 20;
/// Passwords that were right and are remembered, so that their slow hash is made once; the one not seen longest goes.
pub const MAX_VERIFIED_PASSWORDS: usize = 1_024;
/// Passwords that are hashed at once: 19 MiB and some 20 ms of a processor each.
pub const PASSWORDS_AT_ONCE: usize = 2;
/// Time that a password waits for others to be hashed, in milliseconds: some 300 of them.
pub const PASSWORD_PATIENCE_MS: u64 = 3_000;
/// Authorization headers that a serving thread remembers as right: of more, each costs a look-up.
pub const REMEMBERED_HEADERS: usize = 8;
/// Lines a second of the audit log; of more, only the number is told.
pub const AUDIT_LINES_PER_SECOND: u64 = 100;
/// Lines a second that the node's log has about slow requests; of more, as behind a disk that hangs, only the number is
/// told.
pub const SLOW_LINES_PER_SECOND: u64 = 10;
/// The first pause after an exchange that failed is random below this, in milliseconds; it doubles …
pub const RETRY_MIN_MS: u64 = 50;
/// … up to this.
pub const RETRY_MAX_MS: u64 = 5_000;
/// A follower that has not heard from its leader for so long announces itself, in milliseconds …
pub const SILENCE_MS: u64 = 1_000;
/// … and again so often until it does, in milliseconds.
pub const ANNOUNCE_MS: u64 = 500;
/// A node that led last, and hears of no leader, asks all others whether it may lead again, after so many milliseconds
/// and up to twice as many: longer than a promotion takes that does not break off.
pub const RESUME_LEAD_MS: u64 = 2_000;

/// `/top` candidates a namespace keeps before it raises its threshold.
pub const TOP_CANDIDATES: usize = 8_192;
/// Candidates kept when the threshold is raised.
pub const TOP_CANDIDATES_KEPT: usize = 4_096;

// What one text can hold must fit a record. Folding makes a text up to 11 times as long (U+FDFA: 3 bytes become 33),
// and each word, of which there is at most one for two bytes of text, takes up to 12 bytes besides (length and count).
const _: () =
    assert!(LARGEST_MAX_BODY_BYTES * 11 + LARGEST_MAX_BODY_BYTES / 2 * 12 + GROUP_BYTES <= MAX_RECORD_PAYLOAD_BYTES);
const _: () = assert!(MAX_BLOCK_BYTES * 11 + MAX_BLOCK_BYTES / 2 * 12 + GROUP_BYTES <= MAX_RECORD_PAYLOAD_BYTES);
// The words of two posts, one of which takes the other's place, and a value.
const _: () = assert!((2 * (11 + 6) + 1) * LARGEST_MAX_VALUE_BYTES + GROUP_BYTES <= MAX_RECORD_PAYLOAD_BYTES);
// The words of a text that is not kept, and its claim.
const _: () = assert!((11 + 6) * LARGEST_MAX_VALUE_BYTES + MAX_CLAIM_BYTES + GROUP_BYTES <= MAX_RECORD_PAYLOAD_BYTES);
const _: () = assert!(DEFAULT_MAX_VALUE_BYTES <= LARGEST_MAX_VALUE_BYTES);
const _: () = assert!(LARGEST_MAX_VALUE_BYTES <= MAX_ENTRIES_BYTES);
const _: () = assert!(DEFAULT_PAGE_ENTRIES <= MAX_ENTRIES_PER_REQUEST);
const _: () = assert!(DEFAULT_MAX_BODY_BYTES <= LARGEST_MAX_BODY_BYTES && BULK_BLOCK_BYTES <= LARGEST_MAX_BODY_BYTES);
const _: () = assert!(DEFAULT_MAX_BODY_BYTES <= DEFAULT_QUEUE_BYTES);
// A last word, each byte in an escape of six, and its amount.
const _: () = assert!(IMPORT_BATCH_BYTES + 6 * MAX_WORD_BYTES + 32 <= DEFAULT_MAX_BODY_BYTES);
const _: () = assert!(IMPORT_BATCH_ENTRIES <= MAX_ENTRIES_PER_REQUEST);
const _: () = assert!(IMPORT_BATCH_ENTRY_BYTES < MAX_ENTRIES_BODY_BYTES);
const _: () = assert!(MAX_WORDS_PER_READ * (6 * MAX_WORD_BYTES + 8) < MAX_WORDS_BODY_BYTES);
// A wall clock that is wrong takes no more than half of its age from a key, over one start.
const _: () = assert!(2 * MAX_BELIEVED_LEAP_MS <= DEFAULT_KEY_AGE_MS);
const _: () = assert!(MAX_WORD_BYTES <= u8::MAX as usize + 1);
const _: () = assert!(MAX_NAMESPACE_BYTES < MAX_KEY_BYTES);
const _: () = assert!(MAX_TOP <= TOP_CANDIDATES_KEPT && TOP_CANDIDATES_KEPT < TOP_CANDIDATES);
const _: () = assert!(2 * LARGEST_MAX_VALUE_BYTES <= ORIGIN_FETCHED_BYTES);
const _: () = assert!(2 * ORIGIN_READS_FORWARDED <= FORWARDED_AT_ONCE); // writes go on beside them
const _: () = assert!(SNAPSHOTS_KEPT >= 2);
const _: () = assert!(MAX_GIVEN_COUNT <= i64::MAX / 2 + 1); // as much room again is left for text
const _: () = assert!(OFFER_BYTES <= FEED_BYTES && OFFER_BYTES < MAX_OFFER_BYTES);
const _: () = assert!(OFFER_AT_ONCE_BYTES < OFFER_BYTES);
const _: () = assert!(2 * HEARTBEAT_MS < SILENCE_MS && 2 * HEARTBEAT_MS < EXCHANGE_TIMEOUT_MS);
const _: () = assert!(LEAST_WATCH_MS <= DEFAULT_WATCH_MS && DEFAULT_WATCH_MS <= MOST_WATCH_MS);
const _: () = assert!(WATCHED_VALUE_BYTES < COMPRESSED_VALUE_BYTES); // none has to be decompressed
const _: () = assert!(EPOCHS_REMEMBERED * 16 + MAX_REPLICAS * 512 < MAX_MANIFEST_BYTES);
