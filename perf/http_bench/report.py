"""Tables in Markdown, and their place between markers in the results file."""

import datetime
import platform
import re
import shlex
import statistics
import subprocess
import sys

from . import tools

# What issue 2 asks for.
LEAST_READS, LEAST_POSTS = 85_000, 80_000

TITLES = {
    "read memdb": "**memdb** `GET /wordcount?word=`",
    "read nginx": "nginx `return 200`, a body as long",
    "read Redis": "Redis `GET`, not pipelined",
    "post memdb": "**memdb** `POST /post`, ten words, level `leader`",
    "post nginx": "nginx `return 202`, which throws the text away",
    "post Redis": "Redis ten `HINCRBY` in one pipeline, file synced every second",
}


def http_table(figures, connections):
    lines = [
        f"| {connections} connections, loopback, load on the same cores | a second | server CPU µs each | p50 µs | p99 µs |",
        "|---|---|---|---|---|",
    ]
    for name, rounds in figures.items():
        columns = [spread([getattr(one, field) for one in rounds], digits) for field, digits in FIELDS]
        lines.append(f"| {TITLES[name]} | {' | '.join(columns)} |")
    reads, posts = (statistics.median(one.rate for one in figures[name]) for name in ("read memdb", "post memdb"))
    lines += [
        "",
        f"Asked for: {LEAST_READS:,} reads a second ({verdict(reads, LEAST_READS)}), "
        f"{LEAST_POSTS:,} posts a second ({verdict(posts, LEAST_POSTS)}). "
        f"{len(figures['read memdb'])} interleaved rounds: median (least to greatest). After each round of posts the sum "
        "of all counts was held against the answers. wrk has two threads, redis-benchmark one; nginx two workers.",
        "",
    ]
    return "\n".join(lines)


FIELDS = [("rate", 0), ("server_cpu_us", 2), ("p50_us", 0), ("p99_us", 0)]


def spread(values, digits):
    median, least, greatest = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({least} to {greatest})"


def verdict(value, least):
    return "reached" if value >= least else f"**not reached**: {value:,.0f}"


def stamp(root, load_before):
    """When, where, with what."""
    commit = output(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"])
    if output(["git", "-C", str(root), "status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock"]):
        commit += " and changes not committed"
    versions = [
        output(["rustc", "--version"]),
        output(["nginx", "-v"]).removeprefix("nginx version: ").replace("/", " "),
        "Redis " + found(r"v=(\S+)", output(["redis-server", "--version"])),
        "wrk " + found(r"wrk (\S+)", output(["wrk", "-v"])),
    ]
    now = datetime.datetime.now(datetime.timezone.utc)
    command = shlex.join(["perf/bench", *sys.argv[1:]])
    machine = f"{cpu_model()}, {len(cpus())} CPUs, {memory_gib()} GiB, Linux {platform.release()}, load average {load_before:.1f} before"
    return f"{now:%Y-%m-%d %H:%M} UTC, commit {commit}, `{command}`. {machine}; {'; '.join(versions)}.\n"


def output(command):
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return finished.stdout.strip()


def found(pattern, text):
    match = re.search(pattern, text)
    return match.group(1) if match else "of an unknown version"


def cpu_model():
    with open("/proc/cpuinfo") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def cpus():
    with open("/proc/cpuinfo") as lines:
        return [line for line in lines if line.startswith("processor")]


def memory_gib():
    with open("/proc/meminfo") as lines:
        return int(lines.readline().split()[1]) // (1 << 20)


def write_between_markers(path, name, text):
    """Replaces what stands between the markers of this part; the rest of the file is somebody's prose."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- end of bench:{name} -->"
    old = path.read_text()
    if old.count(begin) != 1 or old.count(end) != 1:
        tools.give_up(f"{path} must hold {begin} and {end} once each")
    head, _, rest = old.partition(begin)
    tail = rest.partition(end)[2]
    path.write_text(f"{head}{begin}\n{text.strip()}\n{end}{tail}")
