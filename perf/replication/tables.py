"""The tables of this part, in Markdown."""

from http_bench.report import spread

# What issue 3 asks for.
LEAST_POSTS = {"memdb-1": 50_000, "memdb-3": 35_000}
VISIBLE_P50_MS, VISIBLE_P99_MS = 1, 5

TITLES = {
    "memdb-0": "**memdb** leader alone, level `leader`",
    "memdb-1": "**memdb** with one replica, level `replica`",
    "memdb-3": "**memdb** with three replicas, level `replica`",
    "redis-wait": "Redis with one replica, ten `ZINCRBY` in one pipeline, then `WAIT 1 1000`",
    "redis-transaction-wait": "Redis with one replica, the ten in `MULTI`/`EXEC`, then `WAIT 1 1000`",
    "redis": "Redis with one replica, ten `ZINCRBY` in one pipeline, no `WAIT`",
}
READ_AT = {
    "memdb-0": "**memdb**, read at the leader itself: what the reader's round trip adds",
    "memdb-1": "**memdb**, read at the one replica",
    "memdb-3": "**memdb**, read at one of three replicas",
    "redis": "Redis, read at the replica, no `WAIT`",
}
CLUSTERS = {name: TITLES[name].partition(",")[0] for name in ("memdb-0", "memdb-1", "memdb-3")} | {"redis": "Redis"}


def of(loads, visible, costs, options):
    return "\n".join([*posts(loads, options), "", *seen(visible, options), "", *processes(costs), ""])


def posts(loads, options):
    yield "| posts of ten words, loopback, load and all servers on the same cores | connections | asked for | a second | CPU of all servers, µs each | p50 µs | p99 µs | not acknowledged |"
    yield "|---|---|---|---|---|---|---|---|"
    for (name, connections), rounds in sorted(loads.items(), key=lambda item: (list(TITLES).index(item[0][0]), item[0][1])):
        columns = [spread([one[field] for one in rounds], digits) for field, digits in FIELDS]
        asked = f"{LEAST_POSTS[name]:,}" if name in LEAST_POSTS else ""
        missed = sum(one["answered"] - one["acknowledged"] for one in rounds)
        missed = f"{missed:,} of {sum(one['answered'] for one in rounds):,}" if name not in UNACKNOWLEDGED else ""
        yield f"| {TITLES[name]} | {connections} | {asked} | {' | '.join(columns)} | {missed} |"
    yield ""
    yield (
        f"{options.rounds} interleaved rounds of {options.seconds:g} s: median (least to greatest). The same client on two "
        "threads drives both: a connection sends its next post when the last is answered. After each measurement the sum "
        "of all counts was held against the answers, on every server. All replicas are "
        + ("with files." if options.replica_files else "without files.")
    )


FIELDS = [("rate", 0), ("cpu_us", 1), ("p50_us", 0), ("p99_us", 0)]
# These do not wait for a replica.
UNACKNOWLEDGED = {"memdb-0", "redis"}


def seen(visible, options):
    yield "| from sending a post until a reader sees it | p50 ms | p99 ms | max ms | one look takes ms |"
    yield "|---|---|---|---|---|"
    for name, rounds in visible.items():
        columns = [spread([one[field] / 1e3 for one in rounds], 2) for field in ("p50_us", "p99_us", "max_us", "poll_us")]
        yield f"| {READ_AT[name]} | {' | '.join(columns)} |"
    late = sum(one["late"] for rounds in visible.values() for one in rounds)
    yield ""
    yield (
        f"Asked for: p50 at most {VISIBLE_P50_MS} ms, p99 at most {VISIBLE_P99_MS} ms. {options.visible_rate:,} posts a second for "
        f"{options.visible_seconds:g} s in each round, kept whatever the server does, over 8 connections; one reader asks "
        "without pause, and a post is seen when the answer that shows it has been read. "
        f"Posts due while their connection waited for an answer, timed from when they were due: {late:,}."
    )


def processes(costs):
    yield "| process | descriptors before, after | resident MiB before, after |"
    yield "|---|---|---|"
    for cluster, process, before, after in costs:
        memory = f"{before.resident_mib:.0f}, {after.resident_mib:.0f}"
        yield f"| {CLUSTERS[cluster]}: {process} | {before.descriptors}, {after.descriptors} | {memory} |"
