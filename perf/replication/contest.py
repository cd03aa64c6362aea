"""What each cluster is asked, in turn, and whether all of it was counted everywhere."""

import contextlib
import json
import pathlib
import subprocess
import sys

from http_bench import tools
from http_bench.contest import WORDS_PER_TEXT, Texts

from . import clusters

WARM_UP_SECONDS = 1.0
# The cluster, and what is sent to it.
LOADS = {
    "memdb-0": ("memdb-0", []),
    "memdb-1": ("memdb-1", []),
    "memdb-3": ("memdb-3", []),
    "redis-wait": ("redis", ["--wait", "1"]),
    "redis-transaction-wait": ("redis", ["--wait", "1", "--transaction", "yes"]),
    "redis": ("redis", []),
}
# Where the posts of these are looked for: at the last of the cluster.
VISIBLE = ["memdb-0", "memdb-1", "memdb-3", "redis"]
CLUSTERS = ["memdb-0", "memdb-1", "memdb-3", "redis"]


class Contest:
    """All measurements of all clusters, in turn."""

    def __init__(self, options, program):
        self.options, self.program = options, program

    def run(self, directory):
        """Load and visibility: name -> figures, one for each round; and each process with its cost before and after."""
        directory = pathlib.Path(directory)
        self.texts = Texts(directory)
        made = {
            "memdb-0": lambda at: clusters.Memdb(at, self.options, 0, ["--ack", "leader"]),
            "memdb-1": lambda at: clusters.Memdb(at, self.options, 1),
            "memdb-3": lambda at: clusters.Memdb(at, self.options, 3),
            "redis": lambda at: clusters.Redis(at, self.options),
        }
        with contextlib.ExitStack() as stack:
            # All of them run all the time: idle ones cost next to nothing, and none has a fresher start than another.
            running = {name: stack.enter_context(made[name](directory / name)) for name in self.options.clusters}
            loads, visible = self.rounds(running)
            costs = [
                (name, server.name, before, clusters.Cost.of(server))
                for name, cluster in running.items()
                for server, before in zip(cluster.running, cluster.before)
            ]
        return loads, visible, costs

    def rounds(self, running):
        loads, visible = {}, {}
        for number in range(self.options.rounds + 1):
            warm_up = number == 0
            print("perf/bench: " + ("warm-up" if warm_up else f"round {number} of {self.options.rounds}"), file=sys.stderr)
            for connections in self.options.replication_connections:
                for name, (cluster, arguments) in LOADS.items():
                    if cluster in running:
                        seconds = WARM_UP_SECONDS if warm_up else self.options.seconds
                        figures = self.load(running[cluster], connections, seconds, arguments)
                        print(f"  {name}, {connections} connections: {figures['rate']:,.0f}/s", file=sys.stderr)
                        if not warm_up:
                            loads.setdefault((name, connections), []).append(figures)
            for name in [] if warm_up else VISIBLE:
                if name in running:
                    figures = self.visible(running[name])
                    print(f"  {name}, visible: p50 {figures['p50_us']:,.0f} µs, p99 {figures['p99_us']:,.0f} µs", file=sys.stderr)
                    visible.setdefault(name, []).append(figures)
        return loads, visible

    def load(self, cluster, connections, seconds, arguments):
        before = cluster.settle()
        cpu = cluster.cpu_seconds()
        figures = self.call("load", cluster, "--connections", connections, "--seconds", seconds, *arguments)
        self.check(cluster, before, figures["answered"])
        # With what it took to bring the replicas to the end.
        cpu = cluster.cpu_seconds() - cpu
        return {**figures, "rate": figures["posts"] / figures["seconds"], "cpu_us": cpu * 1e6 / figures["answered"]}

    def visible(self, cluster):
        before = cluster.settle()
        read = f"127.0.0.1:{cluster.last.port}"
        seconds, rate = self.options.visible_seconds, self.options.visible_rate
        figures = self.call("visible", cluster, "--read", read, "--rate", rate, "--seconds", seconds)
        self.check(cluster, before, figures["posts"])
        return figures

    def call(self, kind, cluster, *arguments):
        to, texts = f"127.0.0.1:{cluster.leader.port}", self.texts.posts_file
        command = [self.program, kind, "--to", to, "--texts", texts, *cluster.speech, *arguments]
        finished = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        if finished.returncode != 0:
            tools.give_up(f"bench-replication failed ({finished.returncode})")
        return json.loads(finished.stdout)

    def check(self, cluster, before, answered):
        """Every post is answered before a measurement ends: so the sum of the counts is known, on every server."""
        counted = cluster.settle() - before
        if counted != answered * WORDS_PER_TEXT:
            tools.give_up(f"{answered} posts of {WORDS_PER_TEXT} words were answered, but {counted} words counted")
