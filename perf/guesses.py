#!/usr/bin/env python3
"""Measures what wrong passwords cost others: the times of reads with a token, beside a thousand wrong passwords a second.

    cargo build --release
    perf/guesses.py target/release/memdb

One leader with users runs on loopback, and reads with a token come at a steady rate over a few connections; the time of
each counts from when it was due. In each round they are measured beside nothing, beside as many good requests as there
will be bad ones (what those cost as requests), beside wrong passwords from one address, and beside wrong passwords from
many. Each of these requests comes on a connection of its own. A user whose password is right logs in meanwhile, from
another address, for the first time in that round. All clients take part in the same processors.
"""

import argparse
import base64
import json
import multiprocessing
import os
import pathlib
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from local_nodes import wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from comparison.servers import cpu_seconds  # noqa: E402: found by the line above
from comparison.tools import free_port  # noqa: E402

PASSWORD = "correct horse battery staple"
READERS = 4
LOGIN_PATIENCE = 30


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def request(path, credentials):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {credentials}\r\n\r\n".encode()


def sleep_until(due):
    rest = due - time.monotonic()
    if rest > 0:
        time.sleep(rest)


def reads(port, token, rate, seconds, result):
    """Reads with a token at a rate, each timed from when it was due."""
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(READERS)]
    asked = request("/wordcount?word=a", f"Bearer {token}")
    begin, times = time.monotonic() + 0.1, []
    for number in range(int(rate * seconds)):
        due = begin + number / rate
        sleep_until(due)
        connection = connections[number % READERS]
        connection.sendall(asked)
        if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
            raise SystemExit("a read was refused")
        times.append(time.monotonic() - due)
    result.put(sorted(times))


def flood(port, addresses, credentials, rate, seconds, result):
    """Requests at a rate from these addresses in turn, each on a connection of its own; gives the answers by status."""
    poll, waiting, answers, begin = select.epoll(), {}, {}, time.monotonic()
    end, number = begin + seconds, 0
    while (now := time.monotonic()) < end:
        while number < (now - begin) * rate:
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.bind((addresses[number % len(addresses)], 0))
            connection.connect(("127.0.0.1", port))
            connection.sendall(request("/wordcount?word=a", credentials(number)))
            waiting[connection.fileno()] = connection
            poll.register(connection.fileno(), select.EPOLLIN)
            number += 1
        for at, _ in poll.poll(0.002):
            connection = waiting.pop(at)
            try:
                status = connection.recv(4096)[9:12].decode() or "closed"
            except OSError:
                status = "reset"
            answers[status] = answers.get(status, 0) + 1
            connection.close()
    for connection in waiting.values():
        connection.close()
    result.put({"sent": number, **answers, "not answered": len(waiting)})


def log_in(port, user):
    """A right password from elsewhere, and the seconds until its answer: infinitely many if it is refused, or never looked at."""
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), source_address=("127.9.9.9", 0)) as connection:
        connection.settimeout(LOGIN_PATIENCE)
        connection.sendall(request("/wordcount?word=a", basic(user, PASSWORD)))
        try:
            is_in = connection.recv(4096).startswith(b"HTTP/1.1 200")
        except TimeoutError:
            is_in = False
    return time.monotonic() - begin if is_in else float("inf")


def measured(arguments, server, port, token, user, crowd):
    """One run: the reads beside a crowd, and a login."""
    result, others = multiprocessing.Queue(), multiprocessing.Queue()
    reader = multiprocessing.Process(target=reads, args=(port, token, arguments.reads, arguments.seconds, result))
    crowded = crowd and multiprocessing.Process(target=flood, args=(port, *crowd, arguments.rate, arguments.seconds + 1, others))
    cpu = cpu_seconds(f"/proc/{server.pid}/stat")
    if crowded:
        crowded.start()
        time.sleep(0.5)
    reader.start()
    time.sleep(arguments.seconds * 0.8)
    login = log_in(port, user)
    times = result.get()
    reader.join()
    answered = others.get() if crowded else {}
    at = lambda share: times[int(len(times) * share)] * 1e3
    cpu = (cpu_seconds(f"/proc/{server.pid}/stat") - cpu) / (arguments.seconds + 1)
    return {"p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "login": login * 1e3, "cores": cpu, "answers": answered}


def run(arguments, runs, directory):
    users = directory / "users.json"
    memdb = lambda *words, **more: subprocess.run(
        [arguments.memdb, "user", *words, "--users", users], check=True, capture_output=True, text=True, **more
    ).stdout
    names = [f"ann{number}" for number in range(arguments.rounds * 4)]
    for name in names:
        memdb("add", name, "--role", "read", "--password-file", "-", input=PASSWORD + "\n")
    memdb("add", "bob", "--role", "read", "--no-password")
    token = memdb("token", "bob", "--name", "reads").strip().splitlines()[-1]
    port = free_port()
    command = [arguments.memdb, "leader", "--port", str(port), "--data-dir", directory / "data", "--users", users]
    with open(directory / "log", "w") as log:
        server = subprocess.Popen(command + ["--log", "error", "--max-connections", "10000"], stdout=log, stderr=log)
    try:
        wait_until("the leader", lambda: socket.create_connection(("127.0.0.1", port)).close() or True, 60)
        one, many = ["127.0.0.2"], [f"127.1.{number // 250}.{1 + number % 250}" for number in range(arguments.addresses)]
        good = (many, lambda number: f"Bearer {token}")
        wrong = lambda number: basic(f"ann{number % 4}", f"wrong{number}")
        crowds = {"nothing": None, "good requests": good, "wrong, one address": (one, wrong), "wrong, many": (many, wrong)}
        for number in range(arguments.rounds):
            for kind in list(crowds)[:: -1 if number % 2 else 1]:
                found = measured(arguments, server, port, token, names.pop(), crowds[kind])
                runs.setdefault(kind, []).append(found)
                print(f"round {number + 1}, beside {kind}: {json.dumps(found)}", file=sys.stderr, flush=True)
                time.sleep(arguments.rest)  # until the last wrong ones have had their turn
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("memdb")
    parser.add_argument("--rate", type=int, default=1_000, help="requests a second of the crowd")
    parser.add_argument("--reads", type=int, default=500, help="reads a second")
    parser.add_argument("--addresses", type=int, default=200, help="addresses of the crowd that has many")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rest", type=float, default=4.0)
    arguments = parser.parse_args()
    arguments.memdb = pathlib.Path(arguments.memdb).resolve()
    runs = {}
    with tempfile.TemporaryDirectory() as directory:
        run(arguments, runs, pathlib.Path(directory))
    print(f"load average {os.getloadavg()[0]:.1f}\n")
    print("| beside | p50 ms | p99 ms | to quiet, p99 | p99.9 ms | a login ms | server's processors |\n|---|---|---|---|---|---|---|")
    for kind, found in runs.items():
        median = lambda name: statistics.median(one[name] for one in found)
        times = [one["p99"] / quiet["p99"] for one, quiet in zip(found, runs["nothing"])]
        ratio = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        figures = " | ".join(f"{median(name):.2f}" for name in ("p999", "login", "cores"))
        print(f"| {kind} | {median('p50'):.2f} | {median('p99'):.2f} | {ratio} | {figures} |")


if __name__ == "__main__":
    main()
