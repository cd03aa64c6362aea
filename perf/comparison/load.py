"""Calls `bench-load`, the one client of all servers, and adds what the servers spent meanwhile."""

import json
import subprocess

from . import servers, tools

# How text in bulk goes to memdb: the path, and how many texts of how many words a request has: about a block.
BULK_PATH = "/bulk?ack=leader"
BULK_WORK = "bulk:735:1000"
# The same for Redis: texts are added up on the client, as many as one would, and go as one pipeline.
BULK_WORK_REDIS = "bulk:150:1000"
# A million distinct words.
BULK_WORDS = ["--distinct", 1_000_000, "--exponent", 1.07]


def call(kind, *arguments):
    command = [tools.example("bench-load"), kind, *arguments]
    finished = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if finished.returncode != 0:
        tools.give_up(f"bench-load failed ({finished.returncode}): {' '.join(map(str, command))}")
    return json.loads(finished.stdout)


def run(kind, server, *arguments, followers=()):
    """A measurement: rates, times, and the processor time of the server and of those that follow it, until all have all."""
    everyone = [server, *followers]
    before = [one.cpu_seconds() for one in everyone]
    figures = call(kind, "--to", server.address(), *server.speech, *arguments)
    settled = sum(servers.settle(server, follower) for follower in followers)
    cpus = [one.cpu_seconds() - cpu for one, cpu in zip(everyone, before)]
    answered = figures["answered"]
    if not answered:
        tools.give_up(f"{server.name} answered nothing")
    words = answered * figures["words_each"]
    return {
        **figures,
        "rate": figures["in_time"] / figures["seconds"],
        "words_rate": words / (figures["drained"] + settled),
        "cpu_us": sum(cpus) * 1e6 / answered,
        "leader_cpu_us": cpus[0] * 1e6 / answered,
        "cpu_ns_word": sum(cpus) * 1e9 / words if words else 0.0,
        "client_cpu_us": figures["client_cpu"] * 1e6 / answered,
        "missed": answered - figures["acknowledged"],
    }


def fill(server, words, *arguments):
    """Puts the words into the server, each once."""
    return call("fill", "--to", server.address(), *server.speech, "--distinct", words, *arguments)["seconds"]


def checked(memdb, measure):
    """A measurement of posts to memdb, and whether every word of every answered post was counted."""
    before = memdb.metric("memdb_words_total")
    figures = measure()
    counted, sent = memdb.metric("memdb_words_total") - before, figures["answered"] * figures["words_each"]
    if counted != sent:
        tools.give_up(f"{sent} words were answered, but {counted:.0f} counted")
    return figures
