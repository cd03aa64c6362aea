"""Small things the parts share: missing programs, free ports, waiting, giving up."""

import os
import shutil
import socket
import subprocess
import sys
import time


def give_up(message):
    sys.exit(f"perf/bench: {message}")


def need(programs):
    """Makes sure that each program is there; installs the Debian package of what is missing."""
    missing = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        give_up(f"missing programs; as root: {' '.join(command)}")
    print(f"perf/bench: installing {', '.join(missing)}", file=sys.stderr)
    subprocess.run(["apt-get", "update"], check=True, stdout=subprocess.DEVNULL)
    # A package must not start a service of its own on a port that somebody uses.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, process, seconds=60):
    """Waits until the condition holds, while the process lives."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            give_up(f"{what} ended at its start with {process.returncode}")
        if time.monotonic() > deadline:
            give_up(f"{what} is not ready after {seconds} s")
        time.sleep(0.02)
