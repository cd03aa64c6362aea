"""The rows that are measured by load: each says what runs, what is asked of it, and which figures are to be reached."""

import argparse
import contextlib
import resource
import subprocess

from . import load, servers, tools
from .figures import Goal

WARM_UP_SECONDS = 1.0
DISTINCT_WORDS = 1_000
RATE = ("rate", "requests a second", 0)
CPU = ("cpu_us", "server CPU µs each", 2)
CLIENT = ("client_cpu_us", "client CPU µs each", 2)
P50, P99 = ("p50_us", "p50 µs", 0), ("p99_us", "p99 µs", 0)


# In front of the name of a subject that `--against` measures beside its namesake.
AGAINST = "against "


def contestants(options):
    """The programs to measure: what stands in front of the names of their subjects, and the options with the program."""
    yield "", options
    if options.against:
        yield AGAINST, argparse.Namespace(**{**vars(options), "memdb": options.against})


class Row:
    """A row of the results: subjects that are measured in turn, round by round."""

    key = title = about = ""
    # Field, heading, digits.
    columns = [RATE, CPU, CLIENT, P50, P99]
    # What the plot shows, one below the other.
    plotted = [RATE, CPU]
    goals = []
    titles = {}

    def __init__(self, options):
        self.options = options

    def memdb(self, stack, directory, options):
        """Name -> what measures it for so many seconds, of the program in the options; servers go into the stack."""
        raise NotImplementedError

    def others(self, stack, directory):
        """The same of what memdb is compared with."""
        return {}

    def subjects(self, stack, directory):
        """All of them, in the order of the titles, a subject of another memdb behind its namesake."""
        found = {} if self.options.no_others else self.others(stack, directory)
        for prefix, options in contestants(self.options):
            made = self.memdb(stack, directory / (prefix.strip() or "memdb"), options)
            found |= {prefix + name: measure for name, measure in made.items()}
        return {name: found[name] for title in self.titles for name in (title, AGAINST + title) if name in found}

    def run(self, directory):
        """Name -> figures, one for each round."""
        with contextlib.ExitStack() as stack:
            subjects = self.subjects(stack, directory)
            for measure in subjects.values():
                measure(min(WARM_UP_SECONDS, self.options.seconds))
            return self.rounds({name: lambda of=measure: of(self.options.seconds) for name, measure in subjects.items()})

    def rounds(self, subjects):
        """Each subject once a round, every second round backwards: none is always behind the same one."""
        figures = {name: [] for name in subjects}
        for number in range(self.options.rounds):
            for name in list(subjects)[:: -1 if number % 2 else 1]:
                figures[name].append(subjects[name]())
                field, unit, digits = self.plotted[0]
                said = f"{figures[name][-1][field]:,.{digits}f} {unit}"
                tools.say(f"row {self.key}, round {number + 1}: {name}: {said}")
        return figures


def memdb_alone(stack, directory, options, *arguments):
    return stack.enter_context(servers.Memdb(directory / "leader", options, *arguments))


def memdb_pair(stack, directory, options):
    leader = memdb_alone(stack, directory, options)
    return leader, stack.enter_context(servers.MemdbReplica(directory / "replica", options, leader))


def redis_pair(stack, directory):
    master = stack.enter_context(servers.Redis(directory / "redis"))
    return master, stack.enter_context(servers.Redis(directory / "redis-replica", append=None, master=master))


class Reads(Row):
    """Rows 1 and 2."""

    depth = 1
    titles = {
        "memdb": "**memdb** `GET /wordcount?word=`",
        "nginx": "nginx `return 200`, a body as long, two workers",
        "ceiling": "`perf/ceiling`: the smallest loop that answers constant bytes",
        "warp": "`warp::serve`, the same route by ordinary filters",
        "wrk": "nginx again, asked by wrk: what our client adds",
    }

    def memdb(self, stack, directory, options):
        memdb = memdb_alone(stack, directory, options)
        load.fill(memdb, DISTINCT_WORDS)
        return {"memdb": self.of(memdb)}

    def others(self, stack, directory):
        nginx = stack.enter_context(servers.Nginx(directory / "nginx"))
        ceiling = stack.enter_context(servers.Ceiling(directory / "ceiling"))
        subjects = {"nginx": self.of(nginx), "ceiling": self.of(ceiling)}
        if self.depth == 1:
            subjects["warp"] = self.of(stack.enter_context(servers.Warp(directory / "warp", DISTINCT_WORDS)))
            subjects["wrk"] = lambda seconds: wrk(nginx, seconds)
        return subjects

    def of(self, server):
        arguments = ["--work", "read:1", "--depth", self.depth, "--distinct", DISTINCT_WORDS]
        return lambda seconds: load.run("closed", server, *arguments, "--seconds", seconds)


def wrk(server, seconds, headers=()):
    """wrk's own figures, for those who know it: it sends one and the same request."""
    before, length = server.cpu_seconds(), max(round(seconds), 1)
    command = ["wrk", "-t2", "-c64", f"-d{length}s", "--latency"]
    command += [*(part for header in headers for part in ("-H", header)), server.url("/wordcount?word=aaaaa")]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    if "Non-2xx" in text:
        tools.give_up(f"{server.name} refused reads: {text}")
    printed = text.split()
    cpu, after = server.cpu_seconds() - before, resource.getrusage(resource.RUSAGE_CHILDREN)
    client = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    requests = int(printed[printed.index("requests") - 1])
    found = {"rate": requests / length, "cpu_us": cpu * 1e6 / requests, "client_cpu_us": client * 1e6 / requests}
    for share in ("50%", "99%"):
        text = printed[printed.index(share) + 1]
        unit = {"us": 1.0, "ms": 1e3, "s": 1e6}
        name = next(name for name in ("us", "ms", "s") if text.endswith(name))
        found[f"p{share[:-1]}_us"] = float(text.removesuffix(name)) * unit[name]
    return found


class OneDeep(Reads):
    key, title = "1", "Reads, one at a time"
    about = (
        "64 connections, each sends its next request when it has the answer to the last; a thousand words by Zipf's law. "
        "nginx answering a constant is what a very good server allows before any work is done."
    )
    goals = [
        Goal("rate against nginx", "memdb", "rate", least=1.0, stretch=1.1, against="nginx"),
        Goal("server CPU against the ceiling", "memdb", "cpu_us", most=1.1, stretch=1.03, against="ceiling"),
        Goal("server CPU against warp's serve", "memdb", "cpu_us", most=0.8, stretch=0.7, against="warp"),
    ]


class SixteenDeep(Reads):
    key, title, depth = "2", "Reads, sixteen at once", 16
    about = "As row 1, but a connection sends sixteen requests in one write, and the next when it has all sixteen answers."
    goals = [
        Goal("rate", "memdb", "rate", least=1_500_000, stretch=2_000_000, unit="a second", digits=0),
        Goal("rate against nginx", "memdb", "rate", least=6, stretch=8, against="nginx"),
    ]


class Posts(Row):
    """Rows 3 and 4: acknowledged by one replica."""

    words = 1
    columns = [RATE, ("cpu_us", "CPU of both servers µs each", 1), CLIENT, P50, P99, ("missed", "not acknowledged", 0)]
    plotted = [RATE, columns[1], P50]

    def work(self, connections):
        return ["--work", f"post:{self.words}", "--distinct", DISTINCT_WORDS, "--connections", connections]

    def memdb(self, stack, directory, options):
        leader, replica = memdb_pair(stack, directory, options)
        return {f"memdb {number}": self.posts(leader, replica, self.work(number)) for number in self.connections}

    def others(self, stack, directory):
        master, follower = redis_pair(stack, directory)
        return {f"redis {number}": self.increments(master, follower, self.work(number)) for number in self.connections}

    def posts(self, leader, replica, work):
        arguments = [*work, "--path", "/post"]
        run = lambda seconds: load.run("closed", leader, *arguments, "--seconds", seconds, followers=[replica])
        return lambda seconds: load.checked(leader, lambda: run(seconds))

    def increments(self, master, follower, work):
        arguments = [*work, "--wait", 1]
        return lambda seconds: load.run("closed", master, *arguments, "--seconds", seconds, followers=[follower])


class OneWordPosts(Posts):
    key, title, connections = "3", "Posts of one word, acknowledged by one replica", [64, 1]
    about = "memdb over HTTP at its default level; Redis `INCR` and `WAIT 1 0` in one write, its file synced every second."
    titles = {
        "memdb 64": "**memdb** `POST /post`, 64 connections",
        "redis 64": "Redis `INCR` + `WAIT 1 0`, 64 connections",
        "memdb 1": "**memdb**, one connection",
        "redis 1": "Redis, one connection",
    }
    goals = [
        Goal("rate at 64 connections", "memdb 64", "rate", least=1.2, stretch=1.6, against="redis 64"),
        Goal("p50 at one connection", "memdb 1", "p50_us", most=2.0, stretch=1.3, against="redis 1"),
    ]


class TenWordPosts(Posts):
    key, title, words, connections = "4", "Posts of ten words, acknowledged by one replica", 10, [64]
    about = "Redis: an `HINCRBY` for each distinct word and `WAIT 1 0`, all in one write; others may see such a post half done."
    titles = {"memdb 64": "**memdb** `POST /post`", "redis 64": "Redis `HINCRBY` of each word + `WAIT 1 0`"}
    goals = [Goal("rate", "memdb 64", "rate", least=3.0, stretch=4.5, against="redis 64")]


class Bulk(Row):
    """Rows 5 and 6."""

    columns = [
        ("words_rate", "words a second", 0),
        ("cpu_ns_word", "server CPU ns a word", 1),
        ("client_cpu_us", "client CPU µs a request", 0),
        P50,
        P99,
    ]
    plotted = columns[:2]
    connections = 8

    def work(self, work):
        return ["--work", work, *load.BULK_WORDS, "--connections", self.connections, "--path", load.BULK_PATH]

    def blocks(self, leader, followers):
        run = lambda seconds: load.run(
            "closed", leader, *self.work(load.BULK_WORK), "--seconds", seconds, followers=followers
        )
        return lambda seconds: load.checked(leader, lambda: run(seconds))


class BulkReplicated(Bulk):
    key, title = "5", "Text in bulk, with one replica"
    about = (
        "Texts of 1,000 words, a million distinct by Zipf's law with exponent 1.07, until the replica has all of them. Redis "
        "at its best: 150 texts are added up on the client beforehand, which costs it nothing here, and go as one pipeline of "
        "`HINCRBY`."
    )
    titles = {"memdb": f"**memdb** `POST {load.BULK_PATH}`", "redis": "Redis, added up on the client, pipelined `HINCRBY`"}
    goals = [Goal("words a second", "memdb", "words_rate", least=10, stretch=20, against="redis")]

    def memdb(self, stack, directory, options):
        leader, replica = memdb_pair(stack, directory, options)
        return {"memdb": self.blocks(leader, [replica])}

    def others(self, stack, directory):
        master, follower = redis_pair(stack, directory)
        work = self.work(load.BULK_WORK_REDIS)
        return {"redis": lambda seconds: load.run("closed", master, *work, "--seconds", seconds, followers=[follower])}


class BulkAlone(Bulk):
    key, title = "6", "Text in bulk, one leader alone"
    about = "As row 5, without a replica."
    titles = {"memdb": f"**memdb** `POST {load.BULK_PATH}`"}
    goals = [Goal("words a second", "memdb", "words_rate", least=30, stretch=45, scale=1e-6, unit="M words/s", digits=1)]

    def memdb(self, stack, directory, options):
        return {"memdb": self.blocks(memdb_alone(stack, directory, options), [])}


class Visible(Row):
    key, title = "9", "From a post until it is seen at a replica"
    about = (
        "1,000 posts of ten words a second over 8 connections, whatever the server does; one reader asks without pause, and a "
        "post is seen when the answer that shows it has been read: the reader's own round trip is part of it. Redis without `WAIT`."
    )
    columns = [P50, P99, ("max_us", "max µs", 0), ("poll_us", "one look takes µs", 0), ("late", "posts late", 0)]
    plotted = [P50, P99]
    titles = {
        "memdb": "**memdb**, read at the replica",
        "leader": "**memdb**, read at the leader itself: what the reader adds",
        "redis": "Redis, read at the replica",
    }
    goals = [
        Goal("median", "memdb", "p50_us", most=300, stretch=150, unit="µs", digits=0),
        Goal("p99", "memdb", "p99_us", most=1_000, stretch=500, unit="µs", digits=0),
    ]

    def memdb(self, stack, directory, options):
        leader, replica = memdb_pair(stack, directory, options)
        return {
            "memdb": self.of(leader, replica, "--path", "/post"),
            "leader": self.of(leader, leader, "--path", "/post?ack=leader"),
        }

    def others(self, stack, directory):
        return {"redis": self.of(*redis_pair(stack, directory))}

    def of(self, server, read, *arguments):
        arguments = ["--to", server.address(), "--read", read.address(), *server.speech, *arguments]
        return lambda seconds: load.call("visible", *arguments, "--rate", 1_000, "--seconds", seconds)


class OnDisk(Row):
    key, title = "10", "Posts of one word that are synced before they are answered"
    about = "64 connections; memdb's level `disk` beside Redis with `appendfsync always`, on the same disk."
    plotted = [RATE, P99]
    titles = {"memdb": "**memdb** `POST /post?ack=disk`", "redis": "Redis `INCR`, `appendfsync always`"}
    goals = [
        Goal("rate", "memdb", "rate", least=80_000, unit="a second", digits=0),
        Goal("p99", "memdb", "p99_us", most=2.0, scale=1e-3, unit="ms"),
    ]

    def work(self, *more):
        return ["--work", "post:1", "--distinct", DISTINCT_WORDS, "--path", "/post?ack=disk", *more]

    def memdb(self, stack, directory, options):
        memdb = memdb_alone(stack, directory, options)
        run = lambda seconds: load.run("closed", memdb, *self.work("--seconds", seconds))
        return {"memdb": lambda seconds: load.checked(memdb, lambda: run(seconds))}

    def others(self, stack, directory):
        redis = stack.enter_context(servers.Redis(directory / "redis", append="always"))
        return {"redis": lambda seconds: load.run("closed", redis, *self.work("--seconds", seconds))}
