"""Starts the processes of an example on ports of its own, for its `check` and its benchmark."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = (ROOT / os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
MEMDB = TARGET / "release" / "memdb"
PATIENCE = 20  # seconds for what takes a moment


def free_ports(count):
    """The first of so many ports in a row that are free at the moment."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
        others = []
        try:
            for other in range(port, port + count):
                others.append(socket.socket())
                others[-1].bind(("127.0.0.1", other))
            return port
        except (OSError, OverflowError):
            continue
        finally:
            for one in others:
                one.close()


class Nodes:
    """The processes that a script starts and stops, and the environment that tells it where."""

    def __init__(self, script, environment):
        if not MEMDB.exists():
            sys.exit(f"{MEMDB} is not there: `make build`")
        self.script = script
        self.environment = dict(os.environ, CARGO_TARGET_DIR=str(TARGET), **environment)

    def run(self, verb):
        ended = subprocess.run([self.script, verb], env=self.environment, capture_output=True, text=True, timeout=300)
        if ended.returncode != 0:
            sys.exit(f"{self.script.name} {verb} failed:\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.run("stop")


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        return answer.read()


def wait_for(what, holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within {PATIENCE} s")
        time.sleep(0.02)
