#!/usr/bin/env python3
"""Times `memdb promote` of a replica with many words: until it is answered, and until the first write is accepted.

    cargo build --release && perf/promotion.py target/release/memdb --words 10000000 --rounds 5

A leader and a replica with files run on loopback. Each round promotes whichever of the two follows. A second
connection reads all the while: printed are the longest wait between two answers, and how many connections were closed.
"""

import argparse
import http.client
import json
import pathlib
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request


def status(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=30) as answer:
            return json.load(answer)
    except (OSError, http.client.HTTPException, ValueError):
        return {}


def wait_for(what, port, role, seconds=600):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = status(port)
        if now.get("role") == role and now.get("ready"):
            return now
        time.sleep(0.05)
    raise SystemExit(f"{what} never came: {status(port)}")


def write(port, key):
    """Posts until it counts; a client repeats under its key."""
    while True:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/post?ack=leader", data=b"w1", method="POST")
        request.add_header("Content-Type", "text/plain")
        request.add_header("Idempotency-Key", key)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                if answer.status == 202:
                    return
        except (OSError, http.client.HTTPException):
            time.sleep(0.001)


class Reader(threading.Thread):
    """Reads one word again and again over a connection that is kept as long as the server keeps it."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.longest, self.closed, self.refused, self.stopping = port, 0.0, 0, 0, False

    def run(self):
        connection, last = None, time.monotonic()
        while not self.stopping:
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
                connection.request("GET", "/wordcount?word=w1")
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    now = time.monotonic()
                    self.longest, last = max(self.longest, now - last), now
                else:
                    self.refused += 1
            except (OSError, http.client.HTTPException):
                self.closed += 1
                connection = None
            time.sleep(0.0005)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("memdb")
    parser.add_argument("--words", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ports", type=int, default=18_231, help="the first of two")
    arguments = parser.parse_args()
    memdb, ports = arguments.memdb, [arguments.ports, arguments.ports + 1]
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        text = directory / "words.txt"
        with text.open("w") as out:
            for at in range(0, arguments.words, 1_000):
                out.write(" ".join(f"w{word}" for word in range(at, min(at + 1_000, arguments.words))) + "\n")
        log = (directory / "log").open("w")
        start = lambda *more: subprocess.Popen([memdb, *more], stdout=log, stderr=log)
        leader = start("leader", "--port", str(ports[0]), "--data-dir", str(directory / "a"))
        nodes = [leader]
        try:
            wait_for("the leader", ports[0], "leader")
            server = f"http://127.0.0.1:{ports[0]}"
            subprocess.run([memdb, "post", str(text), "--server", server], check=True, stdout=log)
            follows = ["--leader", f"http://127.0.0.1:{ports[0]}"]
            nodes.append(start("replica", *follows, "--port", str(ports[1]), "--data-dir", str(directory / "b")))
            wait_for("the replica", ports[1], "replica")
            time.sleep(5)  # snapshots that are under way end, as they have in a cluster that runs
            print(f"{status(ports[0])['words']} words, {memdb}")
            print("| answered ms | exchanges ms | first write ms | longest wait of a reader ms | closed | refused |")
            print("|---|---|---|---|---|---|")
            firsts, answers = [], []
            for number in range(arguments.rounds):
                port = ports[1 - number % 2]
                reader = Reader(port)
                reader.start()
                time.sleep(0.2)
                begun = time.monotonic()
                request = urllib.request.Request(f"http://127.0.0.1:{port}/promote", data=b"", method="POST")
                urllib.request.urlopen(request, timeout=120).read()
                promised = time.monotonic() - begun
                first = []

                def post(key=f"round {number}", port=port, first=first, begun=begun):
                    write(port, key)
                    first.append(time.monotonic() - begun)

                writer = threading.Thread(target=post)
                writer.start()
                while not (status(port).get("role") == "leader"):
                    time.sleep(0.005)
                answered = time.monotonic() - begun
                writer.join()
                time.sleep(0.2)
                reader.stopping = True
                reader.join()
                answers.append(answered - promised)
                firsts.append(first[0])
                row = [answered, promised, first[0], reader.longest]
                cells = " | ".join(f"{value * 1e3:.1f}" for value in row)
                print(f"| {cells} | {reader.closed} | {reader.refused} |", flush=True)
                for other, role in ((port, "leader"), (ports[0] + ports[1] - port, "replica")):
                    wait_for("the next round", other, role)
                time.sleep(3)
            beyond, first = statistics.median(answers), statistics.median(firsts)
            print(f"median: leads {beyond * 1e3:.1f} ms after the exchanges, first write after {first * 1e3:.1f} ms")
        finally:
            for node in nodes:
                node.terminate()
            for node in nodes:
                node.wait()


if __name__ == "__main__":
    main()
