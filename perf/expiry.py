#!/usr/bin/env python3
"""Lets entries and posts expire under load, and looks whether anything of them is left.

    cargo build --release && perf/expiry.py target/release/memdb --entries 1000000 --posts 1000000
    perf/expiry.py target/release/memdb --entries 1000000 --posts 0 --at-once

A leader and two replicas run on loopback. Entries and posts get a time to live of 1 to --longest seconds, or, with
--at-once, all expire in one second. One client posts a small text every few milliseconds all the while, and its waits
are printed. At the end every node must hold what it held at the start, to the digest.
"""

import argparse
import http.client
import json
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time

from local_nodes import get, resident_kib, wait_until

PIPELINED = 500
BEGIN = b"HTTP/1.1 "


def send_all(port, requests):
    """Sends requests over one connection, some hundred at once, and checks that each is answered by a 2xx."""
    connection = socket.create_connection(("127.0.0.1", port))
    pending = []

    def flush():
        if not pending:
            return
        connection.sendall(b"".join(pending))
        seen, taken = b"", 0
        while taken < len(pending):
            piece = connection.recv(1 << 20)
            if not piece:
                raise SystemExit("the server has closed the connection")
            # A head may be cut: what is carried over is shorter than what is looked for, so nothing counts twice.
            seen = seen[-(len(BEGIN) - 1) :] + piece
            taken += seen.count(BEGIN)
            if b"HTTP/1.1 4" in seen or b"HTTP/1.1 5" in seen:
                at = seen.index(BEGIN)
                raise SystemExit(seen[at : at + 400].decode(errors="replace"))
        pending.clear()

    for request in requests:
        pending.append(request)
        if len(pending) == PIPELINED:
            flush()
    flush()
    connection.close()


def request(method, target, body, content_type):
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Prober(threading.Thread):
    """Posts one word again and again, and keeps how long each answer took."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.waits, self.stopping = port, [], False

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.stopping:
            begun = time.monotonic()
            connection.request("POST", "/post?ack=leader", b"probe", {"Content-Type": "text/plain"})
            connection.getresponse().read()
            self.waits.append(time.monotonic() - begun)
            time.sleep(0.002)

    def report(self):
        waits, self.waits = sorted(self.waits), []
        if not waits:
            return "no post"
        at = lambda part: waits[min(len(waits) - 1, int(len(waits) * part))] * 1e3
        return f"{len(waits)} posts beside, p50 {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms, longest {waits[-1] * 1e3:.2f} ms"


class Load:
    """The requests of one round, with the times at which they expire."""

    def __init__(self, arguments, draw, vocabulary):
        self.arguments, self.draw, self.vocabulary = arguments, draw, vocabulary
        self.end, self.last = time.monotonic() + arguments.longest, 0.0

    def ttl(self):
        now = time.monotonic()
        if self.arguments.at_once:
            left = max(self.end - now, 0.001) + self.draw.random()
        else:
            left = self.draw.uniform(1, self.arguments.longest)
        self.last = max(self.last, now + left)
        return round(left, 3)

    def entries(self):
        for first in range(0, self.arguments.entries, 1_000):
            keys = range(first, min(first + 1_000, self.arguments.entries))
            value = "v" * self.arguments.value_bytes
            many = [{"key": f"key-{key}", "value": value, "ttl": self.ttl()} for key in keys]
            yield request("POST", "/cache", json.dumps({"entries": many}).encode(), "application/json")

    def posts(self):
        for number in range(self.arguments.posts):
            text = " ".join(self.draw.choices(self.vocabulary, k=10)).encode()
            yield request("PUT", f"/posts/{number}?ttl={self.ttl()}", text, "text/plain")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("memdb")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--longest", type=float, default=60, help="the longest time to live, in seconds")
    parser.add_argument("--at-once", action="store_true", help="all expire in one second")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--ports", type=int, default=18_331, help="the first of three")
    arguments = parser.parse_args()
    draw = random.Random(7)
    ports = [arguments.ports + at for at in range(3)]
    vocabulary = [f"word{number}" for number in range(10_000)]
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        log = (directory / "log").open("w")
        start = lambda *more: subprocess.Popen([arguments.memdb, *more], stdout=log, stderr=log)
        budget = ["--entry-memory", str(8 << 30)]
        nodes = [start("leader", "--port", str(ports[0]), "--data-dir", str(directory / "a"), *budget)]
        try:
            wait_until("the leader", lambda: get(ports[0], "/status")["ready"], 600)
            for port in ports[1:]:
                nodes.append(start("replica", "--leader", f"http://127.0.0.1:{ports[0]}", "--port", str(port), *budget))
            wait_until("the replicas", lambda: all(get(port, "/status")["ready"] for port in ports), 600)
            send_all(ports[0], [request("POST", "/post", " ".join(vocabulary).encode(), "text/plain")])
            before = get(ports[0], "/sync")
            prober = Prober(ports[0])
            prober.start()
            # What a node keeps anyway (records for replicas, buffers) is filled in the first round: the second one
            # tells whether more stays with every round.
            sizes = [[resident_kib(node) / 1024 for node in nodes]]
            for number in range(arguments.rounds):
                begun = time.monotonic()
                load = Load(arguments, draw, vocabulary)
                for request_of_many in load.entries():
                    send_all_once(ports[0], request_of_many)
                send_all(ports[0], load.posts())
                written = time.monotonic() - begun
                sizes.append([resident_kib(node) / 1024 for node in nodes])
                print(
                    f"round {number + 1}: {arguments.entries} entries and {arguments.posts} posts written in "
                    f"{written:.1f} s: {prober.report()}",
                    flush=True,
                )
                if arguments.at_once:
                    time.sleep(max(load.end - time.monotonic(), 0))
                    prober.waits.clear()
                stats = lambda port: get(port, "/stats?scope=node")
                wait_until("all have expired", lambda: all(stats(port)["entries"] == 0 for port in ports), 600)
                late = time.monotonic() - load.last
                print(f"none is left {late:+.2f} s behind the last expiry: {prober.report()}", flush=True)
                time.sleep(3)
                sizes.append([resident_kib(node) / 1024 for node in nodes])
            prober.stopping = True
            prober.join()
            faults = []
            for port in ports:
                after = get(port, "/sync")
                after.pop("probe", None)
                if after != before:
                    wrong = [word for word in before.keys() | after.keys() if before.get(word, 0) != after.get(word, 0)]
                    faults.append(f"port {port}: {len(wrong)} counts differ from the start, such as {wrong[0]}")
            digests = {get(port, "/status")["digest"] for port in ports}
            if len(digests) != 1:
                faults.append(f"the nodes differ: {digests}")
            rounds = "".join(f" full | empty after round {number + 1} |" for number in range(arguments.rounds))
            print(f"| node, MB resident | at the start |{rounds}\n|{'---|' * (2 + 2 * arguments.rounds)}")
            for name, figures in zip(("leader", "replica", "replica"), zip(*sizes)):
                print(f"| {name} | " + " | ".join(f"{mb:.0f}" for mb in figures) + " |")
            print("\n".join(faults) or "every count is as it was at the start, and all nodes are equal")
            return 1 if faults else 0
        finally:
            for node in nodes:
                node.terminate()
            for node in nodes:
                node.wait()


KEPT = {}


def send_all_once(port, one):
    """Sends one request over a kept connection."""
    connection = KEPT.get(port)
    if connection is None:
        connection = KEPT[port] = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    head, body = one.split(b"\r\n\r\n", 1)
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
    connection.request(method, target, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise SystemExit(text.decode(errors="replace"))


if __name__ == "__main__":
    sys.exit(main())
