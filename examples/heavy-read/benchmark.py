"""The measurements of run_benchmark.sh, which says what can be set."""

import importlib.machinery
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from multiprocessing import Pool
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "perf")]
from comparison import plots  # noqa: E402
from nodes import wait_for  # noqa: E402

# The script `check` has the processes; it has no name that could be imported.
loader = importlib.machinery.SourceFileLoader("check", str(HERE / "check"))
check = importlib.util.module_from_spec(importlib.util.spec_from_loader("check", loader))
loader.exec_module(check)


def setting(name, default):
    return type(default)(os.environ.get(name, default))


POSTS = setting("POSTS", 1_000_000)
POST_BYTES = setting("POST_BYTES", 300)
READ_BYTES = setting("READ_BYTES", 1_000)
SECONDS_EACH = setting("SECONDS_EACH", 5)
ROUNDS = setting("ROUNDS", 3)
CONNECTIONS = setting("CONNECTIONS", 64)
PROBES = setting("PROBES", 2_000)
CREATES = setting("CREATES", 20_000)
REPORT_DIR = Path(os.environ.get("REPORT_DIR", HERE / "report")).resolve()
# What the system that this example is laid out after says of itself, for a million posts on one reader.
THEIR_MEGABYTES = 500

CLIENTS = 8
AT_ONCE = 32  # requests that a loading connection sends before it reads their answers


def words(number, count):
    """Some words that depend on the number: 5,000 different ones in all."""
    return " ".join(f"word{(number * 7919 + at * 104729) % 5000}" for at in range(count))


def post(number, length):
    """A post of about so many bytes, with an id of its own."""
    head = {"id": f"p{number}", "title": words(number, 3), "content": "", "author": f"author{number % 100}"}
    left = max(0, length - len(json.dumps(head)))
    head["content"] = words(number + 1, left // 9 + 1)[:left].strip()
    return json.dumps(head).encode()


def creation(body, query=""):
    return (
        f"POST /create{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def reading(id, headers=""):
    return f"GET /post?id={id} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode()


class Connection:
    """A kept connection that reads whole answers."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def ask(self, request, answers=1):
        """Sends, and gives status and size of each answer, head included."""
        self.socket.sendall(request)
        return [self.answer() for _ in range(answers)]

    def answer(self):
        while True:
            end = self.received.find(b"\r\n\r\n")
            if end >= 0:
                break
            self.more()
        head = self.received[: end + 4]
        status = int(head[9:12])
        found = re.search(rb"content-length: (\d+)", head, re.I)
        length = len(head) + (int(found[1]) if found and status != 304 else 0)
        while len(self.received) < length:
            self.more()
        self.received = self.received[length:]
        return status, length

    def more(self):
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise ConnectionError("the server closed the connection")
        self.received += piece


def load(part):
    """Creates posts in a process of its own. A refusal for want of room in the queue is tried again."""
    port, first, count = part
    connection, at = Connection(port), first
    while at < first + count:
        numbers = list(range(at, min(at + AT_ONCE, first + count)))
        while numbers:
            answers = connection.ask(b"".join(creation(post(n, POST_BYTES)) for n in numbers), len(numbers))
            refused = [n for n, (status, _) in zip(numbers, answers) if status in (429, 503)]
            wrong = [status for status, _ in answers if status not in (200, 429, 503)]
            if wrong:
                raise RuntimeError(f"a creation was answered {wrong[0]}")
            numbers = refused
        at += AT_ONCE
    return count


def create_all(port, first, count):
    """Creates so many posts from eight clients; the seconds it took."""
    each = -(-count // CLIENTS)
    parts = [(port, first + at, min(each, count - at)) for at in range(0, count, each)]
    begun = time.monotonic()
    with Pool(CLIENTS) as pool:
        done = sum(pool.map(load, parts))
    assert done == count
    return time.monotonic() - begun


def throughput(port, path, headers=()):
    """Answers a second of one round, and milliseconds within which 99 of 100 came (0: not measured)."""
    wrk = shutil.which("wrk")
    url = f"http://127.0.0.1:{port}{path}"
    if wrk:
        named = [argument for header in headers for argument in ("-H", header)]
        command = [wrk, "--latency", "-t", "2", "-c", str(CONNECTIONS), "-d", f"{SECONDS_EACH}s", *named, url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if re.search(r"Non-2xx or 3xx responses: [1-9]|Socket errors", said):
            sys.exit(f"run_benchmark: {url}: {said}")
        late, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()
        return float(re.search(r"Requests/sec:\s*([\d.]+)", said)[1]), float(late) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{''.join(one + chr(13) + chr(10) for one in headers)}\r\n"
    with Pool(2) as pool:
        return sum(pool.map(python_reads, [(port, request.encode(), CONNECTIONS // 2)] * 2)) / SECONDS_EACH, 0.0


def python_reads(part):
    port, request, count = part
    connections = [Connection(port) for _ in range(count)]
    deadline, answers = time.monotonic() + SECONDS_EACH, 0
    while time.monotonic() < deadline:
        for one in connections:
            one.socket.sendall(request)
        for one in connections:
            one.answer()
        answers += count
    return answers


def propagation(writer, readers):
    """Milliseconds from sending a creation until a reader shows the post: for each reader, and for the last of them."""
    sender, connections = Connection(writer), [Connection(port) for port in readers]
    single, last = [], []
    for number in range(PROBES):
        id, waiting = f"probe{number}", list(connections)
        body, asked = json.dumps({"id": id, "title": "a probe", "content": words(number, 10)}).encode(), reading(id)
        begun = time.perf_counter()
        sender.socket.sendall(creation(body))
        while waiting:
            for one in waiting[:]:
                (status, _), = one.ask(asked)
                if status == 200:
                    single.append((time.perf_counter() - begun) * 1e3)
                    waiting.remove(one)
                elif time.perf_counter() - begun > 10:
                    sys.exit(f"run_benchmark: a reader does not show {id} after ten seconds")
        last.append(single[-1])
        status, _ = sender.answer()
        assert status == 200, status
    return {"each": sorted(single), "last": sorted(last)}


def quantile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))]


def resident_bytes(port):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
    return float(re.search(r"^process_resident_memory_bytes ([\d.e+]+)", text, re.M)[1])


def wait_level(writer, readers):
    """Until all nodes stand at one position."""
    def position(port):
        return json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=30))["position"]
    wait_for("one position on all nodes", lambda: len({position(port) for port in [writer, *readers]}) == 1)


def plot(name, title, values, unit, digits):
    parts = [plots.text(16, 26, title, 16, weight="bold"), *plots.panel(values, unit, digits, plots.HEAD)]
    height = plots.HEAD + len(values) * (plots.BAR + plots.GAP) + plots.FOOT
    (REPORT_DIR / f"{name}.svg").write_text(plots.document(parts, height))


def measure(cluster):
    writer, gateway = cluster.writer, cluster.gateway
    readers = list(cluster.readers)
    found = {"empty": resident_bytes(readers[0])}

    one = Connection(writer)
    body = post(0, READ_BYTES)
    assert one.ask(creation(body))[0][0] == 200
    wait_level(writer, readers)
    path = "/post?id=p0"
    asked = urllib.request.urlopen(f"http://127.0.0.1:{readers[0]}{path}", timeout=30)
    etag = asked.headers["ETag"]
    direct = Connection(readers[0])
    (status, found["bytes_200"]), = direct.ask(reading("p0"))
    assert status == 200, status
    (status, found["bytes_304"]), = direct.ask(reading("p0", f"If-None-Match: {etag}\r\n"))
    assert status == 304, status

    print("throughput", flush=True)
    same = [f"If-None-Match: {etag}"]
    kinds = {"direct": (readers[0], ()), "gateway": (gateway, ()), "direct_304": (readers[0], same), "gateway_304": (gateway, same)}
    for name in kinds:
        found[name], found[f"{name}_p99_ms"] = [], []
    for _ in range(ROUNDS):
        for name, (port, headers) in kinds.items():
            rate, late = throughput(port, path, headers)
            found[name].append(rate)
            found[f"{name}_p99_ms"].append(late)
    print("propagation", flush=True)
    found["propagation"] = propagation(writer, readers)
    print("creates", flush=True)
    found["creates"] = CREATES / create_all(writer, 1, CREATES)
    print(f"{POSTS:,} posts", flush=True)
    wait_level(writer, readers)
    more = max(0, POSTS - CREATES)
    if more:
        found["loaded_a_second"] = more / create_all(writer, 1 + CREATES, more)
    wait_level(writer, readers)
    found["posts"] = CREATES + more + PROBES + 1
    found["full"] = [resident_bytes(port) for port in readers]
    return found


def report(found):
    REPORT_DIR.mkdir(parents=True, exist_ok=True)
    (REPORT_DIR / "results.json").write_text(json.dumps(found | {"propagation": None}, indent=2) + "\n")
    client = "wrk" if shutil.which("wrk") else "a client in Python"
    plot("throughput", f"Reads of one post a second, {CONNECTIONS} connections", {
        "**memdb**, a reader": found["direct"], "**memdb**, through the gateway": found["gateway"],
        "**memdb**, a reader, 304": found["direct_304"], "**memdb**, through the gateway, 304": found["gateway_304"],
    }, "reads a second", 0)
    each, last = found["propagation"]["each"], found["propagation"]["last"]
    plot("propagation", "From sending a creation until readers show the post", {
        "a reader, p50": [quantile(each, 0.5)], "a reader, p99": [quantile(each, 0.99)],
        "the last reader, p50": [quantile(last, 0.5)], "the last reader, p99": [quantile(last, 0.99)],
    }, "milliseconds", 2)
    grown = [(full - found["empty"]) / 1e6 for full in found["full"]]
    scaled = [value * 1e6 / found["posts"] for value in grown]
    plot("memory", "Memory of a reader for a million posts", {
        f"**memdb**, {POST_BYTES} B a post": scaled, "the other system, as it says": [THEIR_MEGABYTES],
    }, "MB", 0)
    saved = 1 - found["bytes_304"] / found["bytes_200"]
    plot("bandwidth", "Bytes of an answer, head included", {
        "200": [found["bytes_200"]], "304": [found["bytes_304"]],
    }, "bytes", 0)
    middle = {name: statistics.median(found[name]) for name in ("direct", "gateway", "direct_304", "gateway_304")}
    late = {name: statistics.median(found[f"{name}_p99_ms"]) for name in middle}
    within = {name: f", 99 of 100 within {late[name]:.2f} ms" if late[name] else "" for name in middle}
    lines = [
        "# heavy-read, measured", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores shared by all processes and the client;",
        f"{check.READERS} readers. Throughput by {client}, {ROUNDS} rounds of {SECONDS_EACH} s; the median is shown.", "",
        "| | |", "|---|---|",
        f"| reads a second, {READ_BYTES} B, a reader directly | {middle['direct']:,.0f}{within['direct']} |",
        f"| through the gateway | {middle['gateway']:,.0f}{within['gateway']} |",
        f"| unchanged (304), a reader directly | {middle['direct_304']:,.0f} |",
        f"| unchanged (304), through the gateway | {middle['gateway_304']:,.0f} |",
        f"| creates a second, {CLIENTS} clients with {AT_ONCE} under way each, words counted, level `replica`; they are Python, and share the cores | {found['creates']:,.0f} |",
        f"| created until a reader shows it, p50, p99 | {quantile(each, 0.5):.2f} ms, {quantile(each, 0.99):.2f} ms |",
        f"| created until the last reader shows it, p50, p99 | {quantile(last, 0.5):.2f} ms, {quantile(last, 0.99):.2f} ms |",
        f"| memory of a reader for {found['posts']:,} posts | {statistics.median(grown):,.0f} MB |",
        f"| for a million | {statistics.median(scaled):,.0f} MB (the other system: {THEIR_MEGABYTES} MB) |",
        f"| bytes of an answer, 200 and 304 | {found['bytes_200']}, {found['bytes_304']}: a 304 saves {saved:.0%} |",
        f"| that is, at the measured rate of 304s | {middle['direct_304'] * (found['bytes_200'] - found['bytes_304']) / 1e6:,.0f} MB a second |",
        "",
        f"Propagation is of {PROBES:,} posts, timed by one client that asks all readers in turn: its own round trips, some",
        "0.05 ms each, are part of every figure.", "",
        *(f"![{name}]({name}.svg)\n" for name in ("throughput", "propagation", "memory", "bandwidth")),
    ]
    (REPORT_DIR / "report.md").write_text("\n".join(lines))


def main():
    # A million posts shall be there to be read: none is refused for want of memory.
    os.environ.setdefault("MEMDB_ENTRY_MEMORY", f"{max(256, POSTS * (POST_BYTES + 200) * 2 >> 20)}MiB")
    with tempfile.TemporaryDirectory(prefix="heavy-read.") as directory, check.Cluster(directory) as cluster:
        cluster.run("start")
        found = measure(cluster)
    report(found)
    print((REPORT_DIR / "report.md").read_text())
    print(f"written to {REPORT_DIR}/report.md")


if __name__ == "__main__":
    main()
