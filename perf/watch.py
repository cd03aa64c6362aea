#!/usr/bin/env python3
"""Measures what watchers cost: the rate of posts with and without them, and how soon each has the final value.

    cargo build --release --example bench-load && cargo build --release
    perf/watch.py target/release/memdb target/release/examples/bench-load --watchers 10000

One leader runs on loopback, with room for the connections. In each round bench-load posts as fast as it can, or
at --rate, three times, in turns: with no watcher, with watchers of words that nobody writes (they look, and are sent
nothing), and with watchers of the words that are written. Each watcher is a connection of its own and watches one word. After the last
post it is noted when each of them has the final count. The watchers and bench-load take part in the same processors.
"""

import argparse
import json
import pathlib
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from local_nodes import get, resident_kib, wait_until


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


class Watchers(threading.Thread):
    """Connections that each watch one word, and when each had which count last."""

    def __init__(self, port, words, number, every):
        super().__init__(daemon=True)
        self.poll, self.sockets, self.stopping = select.epoll(), {}, False
        self.words, self.counts, self.times, self.events = {}, {}, {}, 0
        for at in range(number):
            word = words[at % len(words)]
            connection = socket.create_connection(("127.0.0.1", port))
            query = urllib.parse.urlencode({"word": word, "every": every})
            connection.sendall(f"GET /watch?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            connection.setblocking(False)
            self.sockets[connection.fileno()] = connection
            self.words[connection.fileno()] = word
            self.poll.register(connection.fileno(), select.EPOLLIN)
            if at % 64 == 0:
                self.read(0)
        self.start()

    def read(self, patience):
        for number, _ in self.poll.poll(patience):
            text = self.sockets[number].recv(1 << 16)
            now = time.monotonic()
            if not text:
                raise SystemExit("the server has closed a watcher")
            at = text.rfind(b"data: {")
            if at >= 0:
                self.events += text.count(b"data: {")
                self.counts[number] = int(text[text.rindex(b":", at) + 1 : text.index(b"}", at)])
                self.times[number] = now

    def run(self):
        while not self.stopping:
            self.read(0.05)

    def close(self):
        self.stopping = True
        self.join()
        for connection in self.sockets.values():
            connection.close()


def post_load(arguments, port):
    """Posts at a rate, or as fast as it goes; gives the figures of bench-load."""
    kind = ["open", "--rate", str(arguments.rate)] if arguments.rate else ["closed", "--threads", "1"]
    command = [arguments.bench_load, *kind, "--to", f"127.0.0.1:{port}", "--work", f"post:{arguments.words_each}"]
    command += ["--distinct", "100", "--seconds", str(arguments.seconds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measured(arguments, port, leader, words, is_written):
    """One run of posts beside watchers of these words."""
    before_kib = resident_kib(leader)
    watchers = Watchers(port, words, arguments.watchers if words else 0, arguments.every)
    wait_until("all watchers have their first value", lambda: len(watchers.counts) == len(watchers.sockets), 120)
    run = {"kib_each": (resident_kib(leader) - before_kib) / max(len(watchers.sockets), 1)}
    cpu, events, own = cpu_seconds(leader.pid), watchers.events, time.process_time()
    load = post_load(arguments, port)
    ended = time.monotonic()
    run["rate"] = load["in_time"] / load["seconds"]
    run["p50_us"], run["p99_us"] = load["p50_us"], load["p99_us"]
    run["server_cpu_us"] = (cpu_seconds(leader.pid) - cpu) / load["answered"] * 1e6
    run["events"] = (watchers.events - events) / (load["seconds"] + load["drained"])
    run["watcher_cpu"] = (time.process_time() - own) / (load["seconds"] + load["drained"])
    if words and is_written:
        final = {}
        for first in range(0, len(words), 100):
            query = urllib.parse.urlencode([("word", word) for word in words[first : first + 100]])
            final |= get(port, f"/wordcount?{query}")
        is_final = lambda: all(watchers.counts[at] == final[word] for at, word in watchers.words.items())
        wait_until("every watcher has the final count", is_final, 30)
        late = sorted(max(watchers.times[at] - ended, 0) for at in watchers.sockets)
        run["late_p50"], run["late_max"] = late[len(late) // 2], late[-1]
    watchers.close()
    # A watcher that has gone is noticed when it is written to: a stop of the node would do too.
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("memdb")
    parser.add_argument("bench_load")
    parser.add_argument("--watchers", type=int, default=10_000)
    parser.add_argument("--every", default="1s")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, help="posts a second; without it, as many as go")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--words-each", type=int, default=1)
    parser.add_argument("--port", type=int, default=18_341)
    arguments = parser.parse_args()
    runs = {"none": [], "of other words": [], "of the words written": []}
    for number in range(arguments.rounds):
        for kind, figures in runs.items():
            with tempfile.TemporaryDirectory() as directory:
                command = [arguments.memdb, "leader", "--port", str(arguments.port), "--data-dir", directory]
                # Beside those of the watchers, connections for whoever posts and asks.
                room = arguments.watchers + 1_000
                command = ["sh", "-c", f'ulimit -n {room + 100}; exec "$0" "$@"', *command]
                command += ["--max-connections", str(room), "--max-watchers", str(arguments.watchers), "--log", "warn"]
                with open(pathlib.Path(directory) / "log", "w") as log:
                    leader = subprocess.Popen(command, stdout=log, stderr=log)
                try:
                    wait_until("the leader", lambda: get(arguments.port, "/status")["ready"], 120)
                    post_load(argparse.Namespace(**{**vars(arguments), "seconds": 1}), arguments.port)
                    written = [one["word"] for one in get(arguments.port, "/top?n=100")]
                    others = [f"nobody-writes-{at}" for at in range(100)]
                    words = {"none": [], "of other words": others, "of the words written": written}[kind]
                    figures.append(measured(arguments, arguments.port, leader, words, words == written))
                    print(f"round {number + 1}, watchers {kind}: {figures[-1]}", file=sys.stderr, flush=True)
                finally:
                    leader.terminate()
                    leader.wait()
    print("| watchers | posts/s | ratio to none | p50, p99 | server CPU a post | events/s | memory a watcher | final value |")
    print("|---|---|---|---|---|---|---|---|")
    median = lambda figures, name: statistics.median(run[name] for run in figures)
    for kind, figures in runs.items():
        ratios = [run["rate"] / none["rate"] for run, none in zip(figures, runs["none"])]
        late = "" if "late_max" not in figures[0] else (
            f"p50 {median(figures, 'late_p50'):.2f} s, all within {max(run['late_max'] for run in figures):.2f} s"
        )
        ratio = "" if kind == "none" else f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        memory = "" if kind == "none" else f"{median(figures, 'kib_each'):.1f} KiB"
        print(
            f"| {kind} | {median(figures, 'rate'):,.0f} | {ratio} | {median(figures, 'p50_us') / 1e3:.2f} ms, "
            f"{median(figures, 'p99_us') / 1e3:.2f} ms | {median(figures, 'server_cpu_us'):.1f} µs "
            f"| {median(figures, 'events'):,.0f} | {memory} | {late} |"
        )


if __name__ == "__main__":
    sys.exit(main())
