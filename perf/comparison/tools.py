"""Small things the parts share: missing programs, free ports, waiting, giving up."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# From which Debian package each program comes.
PACKAGES = {
    "nginx": "nginx",
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "redis-benchmark": "redis-tools",
    "wrk": "wrk",
}


class GiveUp(SystemExit):
    """A row cannot be measured; the others may be."""


def give_up(message):
    raise GiveUp(f"perf/bench: {message}")


def say(message):
    print(f"perf/bench: {message}", file=sys.stderr, flush=True)


def example(name):
    """A program of `perf/`, built."""
    return TARGET / "release/examples" / name


def need():
    """Makes sure that each program is there; installs the Debian package of what is missing, or names it."""
    missing = sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        give_up(f"missing programs; as root: {' '.join(command)}")
    say(f"installing {', '.join(missing)}")
    subprocess.run(["apt-get", "update"], check=True, stdout=subprocess.DEVNULL)
    # A package must not start a service of its own on a port that somebody uses.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def build(profile="release"):
    """The program by itself: the examples have the switches for tests (Cargo.toml), and it must not."""
    cargo = ["cargo", "build", "--release"]
    names = ("bench-load", "bench-ceiling", "bench-warp")
    subprocess.run([*cargo, *(part for name in names for part in ("--example", name))], cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "--profile", profile, "--bin", "memdb"], cwd=ROOT, check=True)


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, process, seconds=300):
    """Waits until the condition holds, while the process lives."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            give_up(f"{what} ended at its start with {process.returncode}")
        if time.monotonic() > deadline:
            give_up(f"{what} is not ready after {seconds} s")
        time.sleep(0.005)
