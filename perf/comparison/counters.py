"""The row of counters: increments that wait in queues, beside Redis' own."""

import json
import time
import urllib.request

from . import load, rows, servers, tools
from .figures import Goal

# Through the same queues, but none of them is ever full, and no key has too many.
LIMITS = ("--max-queue-size", "--spillover-queue-size", "--max-key-rate")
LIMITS_OFF = [part for name in LIMITS for part in (name, "none")]
# Workers that have not caught up in this time are broken, not slow.
COUNTED_SECONDS = 60


class Increments(rows.Posts):
    key, title, connections = "21", "Increments of counters, acknowledged by one replica", [64]
    about = (
        "64 connections, one request at a time; a thousand keys by Zipf's law. memdb queues each increment, its limits off, "
        "and a worker counts it: both are part of the CPU, and after each measurement the counters must have all that was "
        "answered. Redis `INCR` and `WAIT 1 0` in one write, its file synced every second."
    )
    titles = {"memdb 64": "**memdb** `POST /counter/{key}/increment`", "redis 64": "Redis `INCR` + `WAIT 1 0`"}
    goals = [Goal("rate", "memdb 64", "rate", least=50_000, unit="a second", digits=0)]

    def work(self, connections):
        keys = ["--distinct", rows.DISTINCT_WORDS]
        return ["--work", "increment", "--path", "/counter/", *keys, "--connections", connections]

    def memdb(self, stack, directory, options):
        leader = rows.memdb_alone(stack, directory, options, *LIMITS_OFF)
        replica = stack.enter_context(servers.MemdbReplica(directory / "replica", options, leader))
        work = self.work(64)
        run = lambda seconds: load.run("closed", leader, *work, "--seconds", seconds, followers=[replica])
        return {"memdb 64": lambda seconds: counted(leader, replica, lambda: run(seconds))}


def total(server):
    """The sum of all counters."""
    with urllib.request.urlopen(server.url("/sync?ns=counters"), timeout=COUNTED_SECONDS) as answer:
        return sum(json.load(answer).values())


def counted(leader, replica, measure):
    """A measurement of increments, and whether every one that was answered is counted, once, on both nodes."""
    before = total(leader)
    figures = measure()
    wanted, deadline = before + figures["answered"], time.monotonic() + COUNTED_SECONDS
    while (found := [total(leader), total(replica)]) != [wanted, wanted]:
        if time.monotonic() > deadline:
            tools.give_up(f"{wanted - before} increments were answered, but {[sum - before for sum in found]} counted")
        time.sleep(servers.LOOK_SECONDS)
    return figures


ROWS = [Increments]
