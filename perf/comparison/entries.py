"""The rows of entries: values under keys and documents, over HTTP, beside Redis with the same values."""

import contextlib
import shutil

from . import load, servers
from .figures import Goal
from .rows import CLIENT, CPU, P50, P99, RATE, Row, memdb_alone, memdb_pair

KEYS = 1_000
# Values of both sizes that are asked for.
SIZES = {"1k": 1_024, "20": 20}
# In front of a key: a value of a cache, and a document.
CACHE, POST = "/cache/", "/post?id="
# Of row 20: enough that what a process takes anyway is little beside them.
MANY_KEYS = 500_000


def drawn(*arguments):
    """Keys as words are drawn: by Zipf's law."""
    return ["--distinct", KEYS, *arguments]


def fill(server, size, keys=KEYS, path=CACHE):
    return load.fill(server, keys, "--work", f"put:{size}", "--path", path)


def redis_alone(stack, directory):
    return stack.enter_context(servers.Redis(directory / "redis"))


class Puts(Row):
    key, title = "15", "Values put under keys"
    about = (
        "64 connections, one request at a time; a thousand keys of 16 bytes by Zipf's law, so that most values are replaced. "
        "One server alone; its file is written and synced every second."
    )
    titles = {
        "memdb-1k": "**memdb** `PUT /cache/{key}`, 1 KiB",
        "redis-1k": "Redis `SET`, 1 KiB",
        "memdb-20": "**memdb** `PUT /cache/{key}`, 20 bytes",
        "redis-20": "Redis `SET`, 20 bytes",
    }
    goals = [
        Goal("rate at 1 KiB against Redis", "memdb-1k", "rate", least=0.5, stretch=1.0, against="redis-1k"),
        Goal("rate at 20 bytes against Redis", "memdb-20", "rate", least=0.5, stretch=1.0, against="redis-20"),
    ]

    def memdb(self, stack, directory, options):
        return self.both("memdb", memdb_alone(stack, directory, options))

    def others(self, stack, directory):
        return self.both("redis", redis_alone(stack, directory))

    def both(self, name, server):
        work = lambda size: drawn("--work", f"put:{size}", "--path", CACHE)
        run = lambda size, seconds: load.run("closed", server, *work(size), "--seconds", seconds)
        return {f"{name}-{size}": lambda seconds, of=size: run(SIZES[of], seconds) for size in SIZES}


class Gets(Row):
    """Rows 16 and 17."""

    depth = 1
    titles = {
        "post": "**memdb** `GET /post?id=`, 1 KiB",
        "unchanged": "**memdb** the same with `If-None-Match`: 304",
        "words": "**memdb** `GET /wordcount?word=`, for comparison",
        "cache-1k": "**memdb** `GET /cache/{key}`, 1 KiB",
        "redis-1k": "Redis `GET`, 1 KiB",
        "cache-20": "**memdb** `GET /cache/{key}`, 20 bytes",
        "redis-20": "Redis `GET`, 20 bytes",
    }

    def memdb(self, stack, directory, options):
        # A server for each size: they have the same keys.
        large, small = (memdb_alone(stack, directory / size, options) for size in SIZES)
        fill(large, SIZES["1k"])
        fill(large, SIZES["1k"], path="/posts/")
        load.fill(large, KEYS)
        fill(small, SIZES["20"])
        return {
            "post": self.of(large, "entry", POST),
            "unchanged": self.of(large, f"unchanged:{SIZES['1k']}", POST),
            "words": self.of(large, "read:1"),
            "cache-1k": self.of(large, "entry", CACHE),
            "cache-20": self.of(small, "entry", CACHE),
        }

    def others(self, stack, directory):
        found = {}
        for size in SIZES:
            redis = redis_alone(stack, directory / size)
            fill(redis, SIZES[size])
            found[f"redis-{size}"] = self.of(redis, "entry")
        return found

    def of(self, server, work, path=CACHE):
        arguments = drawn("--work", work, "--path", path, "--depth", self.depth)
        return lambda seconds: load.run("closed", server, *arguments, "--seconds", seconds)


class OneGet(Gets):
    key, title = "16", "Values read, one at a time"
    about = "64 connections, each asks for one of a thousand keys by Zipf's law when it has the last."
    goals = [
        Goal("rate of documents of 1 KiB", "post", "rate", least=95_000, unit="a second", digits=0),
        Goal("CPU of a document against that of a count", "post", "cpu_us", most=1.1, against="words"),
        Goal("CPU of a 304 against that of the document", "unchanged", "cpu_us", most=1.0, against="post"),
        Goal("rate of values of 1 KiB against Redis", "cache-1k", "rate", least=1.0, against="redis-1k"),
        Goal("rate of values of 20 bytes against Redis", "cache-20", "rate", least=1.0, against="redis-20"),
    ]


class SixteenGets(Gets):
    key, title, depth = "17", "Values read, sixteen at once", 16
    about = "As row 16, but a connection sends sixteen requests in one write, and the next when it has all sixteen answers."
    goals = [
        Goal("rate of documents of 1 KiB", "post", "rate", least=1_000_000, unit="a second", digits=0),
        Goal("rate of 304s against that of documents", "unchanged", "rate", least=1.0, against="post"),
        Goal("rate of values of 20 bytes against Redis", "cache-20", "rate", least=1.0, against="redis-20"),
    ]


class Creates(Row):
    key, title = "18", "Documents created"
    about = "64 connections, each document under an id of its own, of ten words; Redis `SET` of the same documents."
    columns = [RATE, ("cpu_us", "CPU of all servers µs each", 2), CLIENT, P50, P99]
    titles = {
        "counted": "**memdb** `POST /create`, its words counted, one replica",
        "uncounted": "**memdb** `POST /create?count=false`, one replica",
        "alone": "**memdb** `POST /create`, its words counted, no replica",
        "redis": "Redis `SET`, no replica",
    }
    goals = [
        Goal("rate, counted", "counted", "rate", least=50_000, unit="a second", digits=0),
        Goal("rate, not counted", "uncounted", "rate", least=50_000, unit="a second", digits=0),
    ]

    def memdb(self, stack, directory, options):
        leader, replica = memdb_pair(stack, directory / "pair", options)
        alone = memdb_alone(stack, directory / "alone", options)
        return {
            "counted": self.of(leader, "/create", followers=[replica]),
            "uncounted": self.of(leader, "/create?count=false", followers=[replica]),
            "alone": self.of(alone, "/create"),
        }

    def others(self, stack, directory):
        return {"redis": self.of(redis_alone(stack, directory), "/")}

    def of(self, server, path, followers=()):
        work = drawn("--work", "create:10", "--path", path)
        return lambda seconds: load.run("closed", server, *work, "--seconds", seconds, followers=followers)


class Created(Row):
    key, title = "19", "From a create until three replicas show it"
    about = (
        "200 documents of ten words a second over 2 connections. Whoever has sent one asks each replica for it until it is "
        "there, one after the other: the time is until the last of the three shows it, with the asking. Of more who ask "
        "without pause, two cores leave nothing for the servers."
    )
    columns = [P50, P99, ("max_us", "max µs", 0), ("poll_us", "one look takes µs", 0), ("late", "posts late", 0)]
    plotted = [P50, P99]
    titles = {"counted": "**memdb** `POST /create`", "uncounted": "**memdb** `POST /create?count=false`"}
    goals = [
        Goal("median", "counted", "p50_us", most=300, unit="µs", digits=0),
        Goal("p99", "counted", "p99_us", most=1_000, unit="µs", digits=0),
    ]

    def memdb(self, stack, directory, options):
        leader = memdb_alone(stack, directory, options)
        replica = lambda number: servers.MemdbReplica(directory / f"replica-{number}", options, leader)
        replicas = [stack.enter_context(replica(number)) for number in range(3)]
        return {
            "counted": self.of(leader, replicas, "/create"),
            "uncounted": self.of(leader, replicas, "/create?count=false"),
        }

    def of(self, leader, replicas, path):
        reads = [part for replica in replicas for part in ("--read", replica.address())]
        arguments = drawn("--to", leader.address(), *reads, "--path", path, "--rate", 200, "--connections", 2)
        return lambda seconds: load.call("created", *arguments, "--seconds", seconds)


class EntryMemory(Row):
    key, title = "20", "Memory of an entry"
    about = (
        f"Resident bytes of the whole process, less those before, for each of {MANY_KEYS:,} keys of 16 bytes. What memdb keeps "
        "of its newest records for replicas is part of it."
    )
    columns = [("bytes", "bytes an entry", 0), ("fill", "s to fill it, one connection", 1)]
    plotted = columns[:1]
    titles = {
        "memdb-1k": "**memdb**, values of 1 KiB",
        "redis-1k": "Redis, values of 1 KiB",
        "memdb-20": "**memdb**, values of 20 bytes",
        "redis-20": "Redis, values of 20 bytes",
    }
    goals = [
        Goal("values of 1 KiB against Redis", "memdb-1k", "bytes", most=1.0, against="redis-1k"),
        Goal("values of 20 bytes against Redis", "memdb-20", "bytes", most=1.0, against="redis-20"),
    ]

    def memdb(self, stack, directory, options):
        start = lambda at: servers.Memdb(at, options, "--entry-memory", 4 << 30)
        return self.both("memdb", directory, start)

    def others(self, stack, directory):
        return self.both("redis", directory / "redis", servers.Redis)

    def both(self, name, directory, start):
        return {f"{name}-{size}": lambda _, of=size: self.filled(directory / of, start, SIZES[of]) for size in SIZES}

    def run(self, directory):
        with contextlib.ExitStack() as stack:
            subjects = self.subjects(stack, directory)
            # There is nothing to warm up.
            return self.rounds({name: lambda of=measure: of(0) for name, measure in subjects.items()})

    def filled(self, directory, start, size):
        """Of a server of its own, so that nothing freed before is counted as free."""
        try:
            with start(directory) as server:
                before = server.resident_bytes()
                seconds = fill(server, size, MANY_KEYS)
                return {"bytes": (server.resident_bytes() - before) / MANY_KEYS, "fill": seconds}
        finally:
            shutil.rmtree(directory)


ROWS = [Puts, OneGet, SixteenGets, Creates, Created, EntryMemory]
