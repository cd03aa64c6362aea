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
import urllib.request

PIPELINED = 500
BEGIN = b"HTTP/1.1 "


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return json.load(answer)


def wait_until(what, holds, seconds=600):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            pass
        time.sleep(0.02)
    raise SystemExit(f"it never came: {what}")


def resident_mb(process):
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("memdb")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--longest", type=float, default=60, help="the longest time to live, in seconds")
    parser.add_argument("--at-once", action="store_true", help="all expire in one second")
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
            wait_until("the leader", lambda: get(ports[0], "/status")["ready"])
            for port in ports[1:]:
                nodes.append(start("replica", "--leader", f"http://127.0.0.1:{ports[0]}", "--port", str(port), *budget))
            wait_until("the replicas", lambda: all(get(port, "/status")["ready"] for port in ports))
            send_all(ports[0], [request("POST", "/post", " ".join(vocabulary).encode(), "text/plain")])
            before = get(ports[0], "/sync")
            at_start = [resident_mb(node) for node in nodes]
            prober = Prober(ports[0])
            prober.start()
            begun = time.monotonic()
            end = begun + arguments.longest

            last = [0.0]

            def ttl():
                now = time.monotonic()
                if arguments.at_once:
                    left = round(max(end - now, 0.001) + draw.random(), 3)
                else:
                    left = round(draw.uniform(1, arguments.longest), 3)
                last[0] = max(last[0], now + left)
                return left

            def entries():
                for first in range(0, arguments.entries, 1_000):
                    keys = range(first, min(first + 1_000, arguments.entries))
                    value = "v" * arguments.value_bytes
                    many = [{"key": f"key-{key}", "value": value, "ttl": ttl()} for key in keys]
                    yield request("POST", "/cache", json.dumps({"entries": many}).encode(), "application/json")

            def posts():
                for number in range(arguments.posts):
                    text = " ".join(draw.choices(vocabulary, k=10)).encode()
                    yield request("PUT", f"/posts/{number}?ttl={ttl()}", text, "text/plain")

            for request_of_many in entries():
                send_all_once(ports[0], request_of_many)
            send_all(ports[0], posts())
            written = time.monotonic() - begun
            most = [resident_mb(node) for node in nodes]
            print(f"{arguments.entries} entries and {arguments.posts} posts written in {written:.1f} s: {prober.report()}")
            if arguments.at_once:
                time.sleep(max(end - time.monotonic(), 0))
                prober.waits.clear()
            stats = lambda port: get(port, "/stats?scope=node")
            wait_until("all have expired", lambda: all(stats(port)["entries"] == 0 for port in ports))
            late = time.monotonic() - last[0]
            print(f"none is left {late:+.2f} s behind the last expiry: {prober.report()}")
            prober.stopping = True
            prober.join()
            time.sleep(2)
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
            print("| node | MB at the start | most | at the end |\n|---|---|---|---|")
            for name, *figures in zip(("leader", "replica", "replica"), at_start, most, map(resident_mb, nodes)):
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
