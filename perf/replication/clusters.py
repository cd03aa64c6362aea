"""The clusters that are compared: a server that takes posts, and those that follow it."""

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import time
import urllib.request

from http_bench import servers, tools

# A cluster that does not settle in this time is broken, not slow.
SETTLE_SECONDS = 60


@dataclasses.dataclass
class Cost:
    """What a process holds at one moment."""

    descriptors: int
    resident_mib: float

    @classmethod
    def of(cls, server):
        process = pathlib.Path(f"/proc/{server.process.pid}")
        resident = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS:"))
        return cls(len(list((process / "fd").iterdir())), int(resident.split()[1]) / 1024)


class MemdbLeader(servers.Memdb):
    name = "memdb leader"


class MemdbReplica(servers.Memdb):
    name = "memdb replica"

    def __init__(self, directory, program, leader, with_files):
        super().__init__(directory, program, [])
        self.leader, self.with_files = leader, with_files

    def command(self):
        command = [str(self.program), "replica", "--port", str(self.port), "--leader", self.leader.url()]
        command += ["--advertise", self.url()]
        return command + (["--data-dir", str(self.directory / "data")] if self.with_files else [])


class RedisMaster(servers.Redis):
    """Its file is synced every second, as memdb's log is at level `leader` and `replica`."""

    name = "Redis master"
    # A replica that cannot follow a flood must catch up, not be cut off and begin again.
    SETTINGS = ["--client-output-buffer-limit", "replica 0 0 0", "--repl-diskless-sync-delay", "0"]

    def command(self):
        return [*super().command(), *self.SETTINGS]


class RedisReplica(RedisMaster):
    name = "Redis replica"

    def __init__(self, directory, master, with_files):
        super().__init__(directory)
        self.master, self.with_files = master, with_files

    def command(self):
        files = [] if self.with_files else ["--appendonly", "no"]
        return [*super().command(), *files, "--replicaof", "127.0.0.1", str(self.master.port)]

    def ready(self):
        return super().ready() and "master_link_status:up" in redis_cli(self, "INFO", "replication")


def redis_cli(server, *command):
    finished = subprocess.run(["redis-cli", "-p", str(server.port), *command], stdout=subprocess.PIPE, text=True, check=True)
    return finished.stdout


class Cluster:
    """Servers that run until the `with` block ends; the first takes posts."""

    def __init__(self, directory, options):
        self.directory, self.options = directory, options

    def servers(self):
        """Each server, made when those before it are ready."""
        raise NotImplementedError

    def totals(self):
        """For each server, the sum of its counts and how many words it has."""
        raise NotImplementedError

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.running = []
            for server in self.servers():
                self.running.append(stack.enter_context(server))
            self.settle()
            self.before = [Cost.of(server) for server in self.running]
            self.exit = stack.pop_all().close
        return self

    def __exit__(self, *_):
        self.exit()

    @property
    def leader(self):
        return self.running[0]

    @property
    def last(self):
        """The server that readers ask: a replica, if there is one."""
        return self.running[-1]

    def cpu_seconds(self):
        return sum(server.cpu_seconds() for server in self.running)

    def settle(self):
        """Waits until all servers hold the same, and gives the sum of the counts."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while len(totals := set(self.totals())) > 1:
            if time.monotonic() > deadline:
                tools.give_up(f"{self.leader.name} and those that follow it differ after {SETTLE_SECONDS} s: {totals}")
            time.sleep(0.05)
        return totals.pop()[0]


class Memdb(Cluster):
    speech = ["--speak", "http"]

    def __init__(self, directory, options, replicas, arguments=()):
        super().__init__(directory, options)
        self.replicas, self.arguments = replicas, list(arguments)

    def servers(self):
        leader = MemdbLeader(self.directory / "leader", self.options.memdb, self.arguments)
        yield leader
        for number in range(self.replicas):
            directory = self.directory / f"replica-{number + 1}"
            yield MemdbReplica(directory, self.options.memdb, leader, self.options.replica_files)

    def totals(self):
        for server in self.running:
            with urllib.request.urlopen(server.url("/sync"), timeout=SETTLE_SECONDS) as answer:
                counts = json.load(answer)
            yield sum(counts.values()), len(counts)


class Redis(Cluster):
    speech = ["--speak", "resp"]

    def servers(self):
        master = RedisMaster(self.directory / "master")
        yield master
        yield RedisReplica(self.directory / "replica", master, self.options.replica_files)

    def totals(self):
        for server in self.running:
            scores = redis_cli(server, "ZRANGE", "words", "0", "-1", "WITHSCORES").split()[1::2]
            yield sum(int(score) for score in scores), len(scores)
