//! The examples in the help of the verbs for entries.

pub const CACHE: &str = "\
EXAMPLES
  memdb cache put session/17 --value alice --ttl 60
  memdb cache get session/17
  memdb cache touch session/17 --ttl 60
  memdb cache del session/17
  memdb cache list session/

Any node takes writes, and passes them to the leader. `memdb cache VERB --help` shows more of each.

Exits 0, 1 if it fails or there is no such entry, 2 on wrong usage.";

pub const CACHE_PUT: &str = "\
EXAMPLES
  memdb cache put greeting --value hello
  memdb cache put session/17 --value alice --ttl 60
  memdb cache put logo.png logo.png --content-type image/png
  date | memdb cache put now --ttl 0.5
  memdb cache put lock --value me --ttl 30 --if-absent

A value has up to 1 MiB (the node's --max-value-bytes) and may be empty. It is there until it expires, is deleted, or has \
to make room: when values fill the leader's memory for them, those go that expire next, then those that were written \
longest ago.

Exits 0, 1 if it fails or a condition does not hold, 2 on wrong usage.";

pub const CACHE_GET: &str = "\
EXAMPLES
  memdb cache get greeting
  memdb cache get logo.png > logo.png
  memdb cache get session/17 --server http://127.0.0.1:8081 --json

The bytes as they were stored, with nothing added. A terminal is shown plain text only.

Exits 0, 1 if there is no such entry or the node does not answer, 2 on wrong usage.";

pub const CACHE_TOUCH: &str = "\
EXAMPLES
  memdb cache touch session/17 --ttl 60
  memdb cache touch session/17 session/18 --ttl 0
  memdb cache touch lock --ttl 30 --if-match \"$etag\"

The time is counted from now, whatever was left; 0 is for ever. Values, media types and ETags stay.

Exits 0, 1 if it fails, there is no such entry or a condition does not hold, 2 on wrong usage.";

pub const CACHE_DEL: &str = "\
EXAMPLES
  memdb cache del greeting
  memdb cache del session/17 session/18
  memdb cache del lock --if-match \"$etag\"

Exits 0, also where there was nothing to delete, 1 if it fails or a condition does not hold, 2 on wrong usage.";

pub const CACHE_LIST: &str = "\
EXAMPLES
  memdb cache list
  memdb cache list session/ -n 1000
  memdb cache list --json | jq -r .key

In the node's own order, which is none of the keys. What is there from the first page to the last is listed once.

Exits 0, 1 if the node does not answer, 2 on wrong usage.";

pub const POSTS: &str = "\
EXAMPLES
  memdb posts put 17 article.txt
  memdb posts put 18 --value 'hello world' --ttl 3600
  memdb posts get 17
  memdb posts touch 17 --ttl 3600
  memdb posts del 17
  memdb posts list

The words of a post are counted while it is there: `memdb get hello`. A post that is replaced, deleted or expires gives \
them back. `memdb posts VERB --help` shows more of each.

Exits 0, 1 if it fails or there is no such post, 2 on wrong usage.";

pub const POSTS_PUT: &str = "\
EXAMPLES
  memdb posts put 17 article.txt
  memdb posts put 17 article-corrected.txt
  memdb posts put 18 --value 'hello world' --ttl 3600 --ns last-hour
  memdb posts put 19 post.json
  memdb posts put 20 photo.jpg --content-type image/jpeg --no-count

What is counted: plain text whole; of a JSON object the members title, content and text. An equal post counts nothing again. \
Replacing one counts the difference in one step: no reader sees half of it.

Exits 0, 1 if it fails or a condition does not hold, 2 on wrong usage.";

pub const POSTS_GET: &str = "\
EXAMPLES
  memdb posts get 17
  memdb posts get 17 --server http://127.0.0.1:8081
  memdb posts get 17 --json

The bytes as they were stored, with nothing added. A terminal is shown plain text only.

Exits 0, 1 if there is no such post or the node does not answer, 2 on wrong usage.";

pub const POSTS_TOUCH: &str = "\
EXAMPLES
  memdb posts touch 18 --ttl 3600 --ns last-hour
  memdb posts touch 17 18 --ttl 0

The time is counted from now, whatever was left; 0 is for ever. Posts and counts stay as they are.

Exits 0, 1 if it fails, there is no such post or a condition does not hold, 2 on wrong usage.";

pub const POSTS_DEL: &str = "\
EXAMPLES
  memdb posts del 17
  memdb posts del 17 18 --ns last-hour

A post whose words are not in the counts any more, because somebody lowered them by hand, is refused (409 below-zero).

Exits 0, also where there was nothing to delete, 1 if it fails or a condition does not hold, 2 on wrong usage.";

pub const POSTS_LIST: &str = "\
EXAMPLES
  memdb posts list
  memdb posts list article- -n 1000
  memdb posts list --ns last-hour --json | jq -r .key

In the node's own order, which is none of the ids. What is there from the first page to the last is listed once.

Exits 0, 1 if the node does not answer, 2 on wrong usage.";

pub const STATS: &str = "\
EXAMPLES
  memdb stats
  memdb stats --server http://127.0.0.1:8081
  memdb stats --json | jq .hits

Reads (gets, hits, misses) are added up over all nodes that answered, and shown for each. Every node holds the same entries, so \
entries, bytes, expired and evicted are those of the leader, if it answered. Reads, expired and evicted count since a process \
began. A node that does not answer within 200 ms is listed as silent.

Exits 0, 1 if the node does not answer, 2 on wrong usage.";
