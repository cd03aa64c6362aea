"""The servers that are compared: each starts in its own directory on its own port, and ends with its `with` block."""

import http.client
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

from . import tools

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
NGINX_WORKERS = 2
# A cluster that does not settle in this time is broken, not slow.
SETTLE_SECONDS = 120
LOOK_SECONDS = 0.01


class Server:
    """A process on a free port of loopback."""

    name = ""
    # What `bench-load` speaks to it.
    speech = ["--speak", "http"]

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = tools.free_port()

    def command(self):
        raise NotImplementedError

    def ready(self):
        return answers(self.port)

    def __enter__(self):
        with open(self.directory / "output.log", "ab") as output:
            self.process = subprocess.Popen([str(part) for part in self.command()], stdout=output, stderr=output)
        try:
            tools.wait_for(self.name, self.ready, self.process)
        except SystemExit:
            print((self.directory / "output.log").read_text(errors="replace"), file=sys.stderr)
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu_seconds(self):
        """User and system time of the process and its children so far."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sum(cpu_seconds(f"/proc/{pid}/stat") for pid in [self.process.pid, *children])

    def cpu_seconds_of(self, thread):
        """User and system time so far of the threads with this name."""
        return self.cpu_by_thread().get(thread, 0.0)

    def cpu_by_thread(self):
        """User and system time so far by the name of threads, those that are numbered together."""
        spent = {}
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            name = re.sub(r"-\d+", "", (task / "comm").read_text().strip())
            spent[name] = spent.get(name, 0.0) + cpu_seconds(task / "stat")
        return spent

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def address(self):
        return f"127.0.0.1:{self.port}"

    def url(self, path=""):
        return f"http://{self.address()}{path}"


def cpu_seconds(stat):
    fields = pathlib.Path(stat).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def settle(leader, follower):
    """Waits until the follower has all that the leader has; gives the seconds it took."""
    begun = time.monotonic()
    while (here := follower.reached()) != (there := leader.reached()):
        if time.monotonic() - begun > SETTLE_SECONDS:
            tools.give_up(f"{follower.name} is at {here}, {leader.name} at {there}, after {SETTLE_SECONDS} s")
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - begun


class Nginx(Server):
    """`return 200`: what this machine's loopback and a very good HTTP server allow."""

    name = "nginx"
    # As long as a count's answer.
    READ_BODY = '{"aaaaaabbbb":1234}'

    def command(self):
        (self.directory / "nginx.conf").write_text(f"""
            daemon off;
            pid {self.directory}/pid;
            error_log {self.directory}/error.log;
            worker_processes {NGINX_WORKERS};
            events {{ worker_connections 1024; }}
            http {{
                access_log off;
                keepalive_requests 1000000000;
                client_body_temp_path {self.directory}/body;
                proxy_temp_path {self.directory}/proxy;
                fastcgi_temp_path {self.directory}/fastcgi;
                uwsgi_temp_path {self.directory}/uwsgi;
                scgi_temp_path {self.directory}/scgi;
                default_type application/json;
                server {{
                    listen 127.0.0.1:{self.port};
                    location /wordcount {{ return 200 '{self.READ_BODY}'; }}
                }}
            }}""")
        return ["nginx", "-c", f"{self.directory}/nginx.conf", "-e", f"{self.directory}/error.log"]


class Printing(Server):
    """A program of `perf/` that chooses its port and prints it."""

    def __init__(self, directory, program, *arguments):
        super().__init__(directory)
        self.program, self.arguments = tools.example(program), arguments

    def command(self):
        return [self.program, *self.arguments]

    def ready(self):
        printed = (self.directory / "output.log").read_text().split()
        self.port = int(printed[0]) if printed else self.port
        return bool(printed) and answers(self.port)


class Ceiling(Printing):
    """The smallest loop that answers constant bytes, as many as memdb's answer has."""

    name = "perf/ceiling"

    def __init__(self, directory):
        super().__init__(directory, "bench-ceiling", len(Nginx.READ_BODY))


class Warp(Printing):
    """The same read by `warp::serve` and ordinary filters."""

    name = "warp's own serve"

    def __init__(self, directory, words):
        super().__init__(directory, "bench-warp", words)


class Redis(Server):
    """Its append-only file is synced every second, as memdb's log is at level `leader` and `replica`."""

    name = "Redis"
    speech = ["--speak", "resp"]
    # A replica that cannot follow a flood must catch up, not be cut off and begin again.
    SETTINGS = {
        "bind": "127.0.0.1",
        "save": "",
        "enable-debug-command": "yes",
        "client-output-buffer-limit": "replica 0 0 0",
        "repl-diskless-sync-delay": "0",
    }

    def __init__(self, directory, append="everysec", master=None):
        super().__init__(directory)
        self.append, self.master = append, master

    def command(self):
        settings = {"port": self.port, "dir": self.directory, **self.SETTINGS}
        settings |= {"appendonly": "yes", "appendfsync": self.append} if self.append else {"appendonly": "no"}
        command = ["redis-server", *(part for name, value in settings.items() for part in (f"--{name}", value))]
        return command + (["--replicaof", "127.0.0.1", self.master.port] if self.master else [])

    def ready(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
                connection.sendall(b"PING\r\n")
                if not connection.recv(16).startswith(b"+PONG"):
                    return False
        except OSError:
            return False
        return not self.master or "master_link_status:up" in self.ask("INFO", "replication")

    def ask(self, *command):
        command = ["redis-cli", "-p", str(self.port), *command]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

    def reached(self):
        """How far its stream of commands is."""
        field = "slave_repl_offset" if self.master else "master_repl_offset"
        return int(re.search(rf"{field}:(\d+)", self.ask("INFO", "replication"))[1])


class Memdb(Server):
    """A leader."""

    name = "memdb leader"

    def __init__(self, directory, options, *arguments):
        super().__init__(directory)
        self.program, self.arguments = options.memdb, arguments

    def command(self):
        return [self.program, "leader", "--port", self.port, "--data-dir", self.directory / "data", *self.arguments]

    def ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def metric(self, name):
        """A number of `/metrics`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def reached(self):
        return self.metric("memdb_position")


class MemdbReplica(Memdb):
    """It keeps everything in memory only, as Redis' replicas here."""

    name = "memdb replica"

    def __init__(self, directory, options, leader):
        super().__init__(directory, options)
        self.leader = leader

    def command(self):
        return [self.program, "replica", "--port", self.port, "--leader", self.leader.url(), "--advertise", self.url()]
