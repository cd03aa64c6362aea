"""The servers that are compared: each starts in its own directory on its own port, and ends with its `with` block."""

import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import urllib.request

from . import tools

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
NGINX_WORKERS = 2


class Server:
    """A process on a free port of loopback."""

    name = ""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.port = tools.free_port()

    def command(self):
        raise NotImplementedError

    def ready(self):
        raise NotImplementedError

    def __enter__(self):
        with open(self.directory / "output.log", "wb") as output:
            self.process = subprocess.Popen(self.command(), stdout=output, stderr=output)
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
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu_seconds(self):
        """User and system time of the process and its children so far."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sum(cpu_seconds(pid) for pid in [self.process.pid, *children])

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Nginx(Server):
    """`return 200`: what this machine's loopback and a very good HTTP server allow."""

    name = "nginx"
    # As long as a count's answer, and as a post's.
    READ_BODY = '{"aaaaaabbbb":1234}'
    POST_BODY = '{"words":10,"distinct":10,"left_out":0,"acks":1,"position":"1-123456"}'

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
                    location /post {{ return 202 '{self.POST_BODY}'; }}
                }}
            }}""")
        return ["nginx", "-c", f"{self.directory}/nginx.conf", "-e", f"{self.directory}/error.log"]

    def ready(self):
        return answers(self.port)


class Redis(Server):
    """One hash of counts, its append-only file synced every second: what memdb's level `leader` promises."""

    name = "Redis"

    def command(self):
        settings = {"port": self.port, "bind": "127.0.0.1", "dir": self.directory, "save": "", "appendonly": "yes"}
        settings["appendfsync"] = "everysec"
        return ["redis-server", *(str(part) for name, value in settings.items() for part in (f"--{name}", value))]

    def ready(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Memdb(Server):
    """The leader, with an empty directory."""

    name = "memdb"

    def __init__(self, directory, program, arguments):
        super().__init__(directory)
        self.program, self.arguments = program, arguments
        if not pathlib.Path(program).exists():
            tools.give_up(f"{program} is not there: `make build`")

    def command(self):
        data = self.directory / "data"
        return [str(self.program), "leader", "--port", str(self.port), "--data-dir", str(data), *self.arguments]

    def ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def post(self, text):
        head = {"Content-Type": "text/plain"}
        request = urllib.request.Request(self.url("/post?ack=leader"), data=text.encode(), headers=head)
        with urllib.request.urlopen(request, timeout=30) as answer:
            if answer.status != 202:
                tools.give_up(f"memdb answered a post {answer.status}")

    def total(self):
        """All counts together."""
        with urllib.request.urlopen(self.url("/sync"), timeout=60) as answer:
            return sum(json.load(answer).values())
