"""The rows with ten million words: one leader, filled once a round, goes through all of them, and Redis beside it."""

import contextlib
import re
import shutil
import threading
import time

from . import load, servers, tools
from .figures import Goal
from .rows import AGAINST, contestants

READS = ["--work", "read:1"]
POSTS = ["--work", "post:10", "--path", "/post?ack=leader", "--connections", 8]
# Posts a second beside a snapshot: those whose longest pause is looked for, and those that only give it a reason.
POSTS_A_SECOND, REASON_A_SECOND = 1_000, 20
TOP = ["--work", "get", "--path", "/top?n=100"]
ONE_CONNECTION = ["--connections", 1, "--threads", 1]


class Part:
    """A row that is a part of the round through all."""

    key = title = about = ""
    columns, goals, titles = [], [], {}

    def __init__(self, options):
        self.options = options


class Memory(Part):
    key, title = "8", "Memory"
    about = "Resident bytes of the whole process for each distinct word, which has 10.8 bytes of text; each with the count 1."
    columns = [("bytes", "bytes a word", 1), ("fill", "s to fill it, one connection", 1)]
    plotted = columns[:1]
    titles = {
        "memdb": "**memdb** leader, filled",
        "restarted": "**memdb** leader, started on its files",
        "replica": "**memdb** replica, after a full sync",
        "redis": "Redis, a hash, filled",
        "redis-replica": "Redis replica, after a full sync",
    }
    goals = [
        Goal("leader", "memdb", "bytes", most=40, stretch=32, unit="bytes", digits=1),
        Goal("replica", "replica", "bytes", most=40, stretch=32, unit="bytes", digits=1),
        Goal("leader against Redis", "memdb", "bytes", most=1.0, against="redis"),
    ]


class Tail(Part):
    key, title = "11", "The tail of reads beside a snapshot"
    about = (
        "Reads at half the rate that 64 connections reached just before, timed from when each was due, with a few posts beside "
        "them; in one phase a snapshot of all words is written, in the next none."
    )
    columns = [
        ("rate", "requests a second", 0),
        ("p50_us", "p50 µs", 0),
        ("p99_us", "p99 µs", 0),
        ("p999_us", "p99.9 µs", 0),
        ("max_us", "max µs", 0),
    ]
    plotted = [columns[3]]
    titles = {"on": "**memdb**, while a snapshot is written", "off": "**memdb**, while none is"}
    goals = [Goal("p99.9 with a snapshot against without", "on", "p999_us", most=1.5, stretch=1.15, against="off")]


class Restart(Part):
    key, title = "12", "Restart, and full sync of a replica"
    about = (
        "From the start of the process until it serves, the files in the page cache. Redis: `DEBUG RELOAD NOSAVE` of the running "
        "server, and a start on its `dump.rdb`. Redis' replicas sync without a disk."
    )
    columns = [("seconds", "wall s", 2), ("cpu", "its CPU s", 2)]
    plotted = columns
    titles = {
        "memdb": "**memdb** leader, after a clean stop",
        "redis": "Redis `DEBUG RELOAD NOSAVE`",
        "redis-start": "Redis, started on `dump.rdb`",
        "replica": "**memdb** replica, full sync",
        "redis-replica": "Redis replica, full sync",
    }
    goals = [
        Goal("restart against Redis' reload", "memdb", "seconds", most=0.2, against="redis"),
        Goal("restart", "memdb", "seconds", most=1.2, stretch=0.5, unit="s"),
        Goal("full sync", "replica", "seconds", most=3.0, stretch=1.0, unit="s"),
    ]


class Snapshot(Part):
    key, title = "13", "A full snapshot"
    about = (
        "memdb writes it on a thread of its own while 1,000 posts of ten words a second go on, timed from when each was due; the "
        "second row has the same posts without a snapshot. Redis' `SAVE` stops everything for as long as it takes."
    )
    columns = [
        ("seconds", "wall s", 2),
        ("cpu", "CPU s", 2),
        ("bytes", "MB", 0),
        ("pause", "longest post ms", 2),
        ("p999", "p99.9 of posts ms", 2),
    ]
    plotted = [columns[0], columns[1], columns[3]]
    titles = {"memdb": "**memdb**", "without": "**memdb**, no snapshot", "redis": "Redis `SAVE`"}
    goals = [
        Goal("wall time against SAVE", "memdb", "seconds", most=0.25, against="redis"),
        Goal("CPU", "memdb", "cpu", most=1.0, stretch=0.5, unit="s"),
        Goal("longest pause of a post", "memdb", "pause", most=5.0, stretch=1.0, unit="ms"),
    ]


class Top(Part):
    key, title = "14", "The largest hundred counts"
    about = "One connection, one request at a time; every word has the same count, the worst case."
    columns = [("p50_us", "p50 µs", 0), ("p99_us", "p99 µs", 0), ("cpu_us", "server CPU µs each", 2)]
    plotted = columns[:1]
    titles = {"memdb": "**memdb** `GET /top?n=100`", "read": "**memdb** `GET /wordcount` of one word"}
    goals = [Goal("p50 against a single read", "memdb", "p50_us", most=2.0, against="read")]


PARTS = [Memory, Tail, Restart, Snapshot, Top]


class Large:
    """All of them, round by round."""

    def __init__(self, options):
        self.options = options

    def run(self, directory):
        """Key of each row -> name -> figures, one for each round."""
        names = lambda part: (name for title in part.titles for name in (title, AGAINST + title))
        self.figures = {part.key: {name: [] for name in names(part)} for part in PARTS}
        for number in range(self.options.large_rounds):
            # Every second round backwards: none is always behind the same one.
            for prefix, options in list(contestants(self.options))[:: -1 if number % 2 else 1]:
                at = directory / f"round-{number + 1}"
                Round(options, prefix, self.figures).memdb(at)
                shutil.rmtree(at)
            if not self.options.no_others:
                Round(self.options, "", self.figures).redis(at)
                shutil.rmtree(at)
        return {key: {name: rounds for name, rounds in of.items() if rounds} for key, of in self.figures.items()}


class Round:
    """One round of one program; the names of its figures have the prefix."""

    def __init__(self, options, prefix, figures):
        self.options, self.words = options, options.large_words
        self.prefix, self.figures = prefix, figures

    def note(self, part, name, **figures):
        name = self.prefix + name
        self.figures[part.key][name].append(figures)
        said = ", ".join(f"{field} {value:,.3g}" for field, value in figures.items() if value is not None)
        tools.say(f"row {part.key}, {self.words:,} words, {name}: {said}")

    def of_words(self, server):
        return server.resident_bytes() / self.words

    def memdb(self, at):
        with servers.Memdb(at / "leader", self.options, "--backup-interval-ms", "0") as leader:
            took = load.fill(leader, self.words)
            self.note(Memory, "memdb", bytes=self.of_words(leader), fill=took)
        with self.started(at) as leader:
            self.snapshot(leader)
            self.top(leader)
            half = self.read(leader, "closed", "--connections", 64)["rate"] / 2
        with servers.Memdb(at / "leader", self.options) as leader:
            self.tail(leader, half)
            self.sync(at, leader)

    @contextlib.contextmanager
    def started(self, at):
        begun = time.monotonic()
        with servers.Memdb(at / "leader", self.options) as leader:
            self.note(Restart, "memdb", seconds=time.monotonic() - begun, cpu=leader.cpu_seconds())
            self.note(Memory, "restarted", bytes=self.of_words(leader), fill=None)
            yield leader

    def read(self, leader, kind, *arguments):
        arguments = [*READS, "--distinct", self.words, *arguments, "--seconds", self.options.seconds]
        return load.run(kind, leader, *arguments)

    def posts(self, leader, rate):
        """Posts beside something else."""
        arguments = [*POSTS, "--distinct", self.words, "--rate", rate, "--seconds", self.options.seconds]
        return load.run("open", leader, *arguments)

    def snapshot(self, leader):
        """The first change after a start is followed by a snapshot, within a second."""
        before, cpu = leader.metric("memdb_snapshot_seconds_sum"), leader.cpu_seconds_of("memdb-snapshot")
        posts = self.posts(leader, POSTS_A_SECOND)
        self.snapshot_published(leader, 1)
        seconds = leader.metric("memdb_snapshot_seconds_sum") - before
        cpu = leader.cpu_seconds_of("memdb-snapshot") - cpu
        size = leader.metric("memdb_snapshot_bytes") / 1e6
        pause = {"pause": posts["max_us"] / 1e3, "p999": posts["p999_us"] / 1e3}
        self.note(Snapshot, "memdb", seconds=seconds, cpu=cpu, bytes=size, **pause)
        posts = self.posts(leader, POSTS_A_SECOND)
        none = {"seconds": 0.0, "cpu": 0.0, "bytes": 0.0}
        self.note(Snapshot, "without", **none, pause=posts["max_us"] / 1e3, p999=posts["p999_us"] / 1e3)

    def snapshot_published(self, leader, number):
        deadline = time.monotonic() + servers.SETTLE_SECONDS
        while leader.metric("memdb_snapshots_total") < number:
            if time.monotonic() > deadline:
                tools.give_up(f"no snapshot after {servers.SETTLE_SECONDS} s")
            time.sleep(0.05)

    def top(self, leader):
        asked = [*TOP, *ONE_CONNECTION, "--seconds", self.options.seconds / 2]
        of = lambda figures: {field: figures[field] for field, *_ in Top.columns}
        self.note(Top, "memdb", **of(load.run("closed", leader, *asked)))
        self.note(Top, "read", **of(self.read(leader, "closed", *ONE_CONNECTION)))

    def tail(self, leader, rate):
        for name in ("on", "off"):
            beside = threading.Thread(target=self.posts, args=(leader, REASON_A_SECOND))
            beside.start()
            figures = self.read(leader, "open", "--rate", rate)
            beside.join()
            self.snapshot_published(leader, 1)
            self.note(Tail, name, **{field: figures[field] for field, *_ in Tail.columns})

    def sync(self, at, leader):
        begun, replica = time.monotonic(), servers.MemdbReplica(at / "replica", self.options, leader)
        with replica:
            self.note(Restart, "replica", seconds=time.monotonic() - begun, cpu=replica.cpu_seconds())
            self.note(Memory, "replica", bytes=self.of_words(replica), fill=None)

    def redis(self, at):
        with servers.Redis(at / "redis", append=None) as redis:
            took = load.fill(redis, self.words)
            self.note(Memory, "redis", bytes=self.of_words(redis), fill=took)
            seconds, cpu = self.timed(redis, "SAVE")
            size = (redis.directory / "dump.rdb").stat().st_size / 1e6
            self.note(Snapshot, "redis", seconds=seconds, cpu=cpu, bytes=size, pause=seconds * 1e3, p999=None)
            seconds, cpu = self.timed(redis, "DEBUG", "RELOAD", "NOSAVE")
            self.note(Restart, "redis", seconds=seconds, cpu=cpu)
            begun, replica = time.monotonic(), servers.Redis(at / "redis-replica", append=None, master=redis)
            with replica:
                self.note(Restart, "redis-replica", seconds=time.monotonic() - begun, cpu=replica.cpu_seconds())
                self.note(Memory, "redis-replica", bytes=self.of_words(replica), fill=None)
        begun = time.monotonic()
        with servers.Redis(at / "redis", append=None) as redis:
            self.note(Restart, "redis-start", seconds=time.monotonic() - begun, cpu=redis.cpu_seconds())

    def timed(self, redis, *command):
        begun, cpu = time.monotonic(), redis.cpu_seconds()
        said = redis.ask(*command)
        if not re.match("OK", said):
            tools.give_up(f"Redis answered {command} with {said}")
        return time.monotonic() - begun, redis.cpu_seconds() - cpu
