"""Row 22: reads over TLS with a token, beside the same reads in plain text and nginx with TLS. wrk asks all three."""

import subprocess

from . import rows, servers


def certificate(directory, program):
    """A certificate for 127.0.0.1, which all servers show, and its key."""
    subprocess.run([program, "certificate", directory], check=True, stdout=subprocess.DEVNULL)
    return directory / "node.pem", directory / "node-key.pem"


def token_of_reader(directory, program):
    """A users file with one user, who may read, and the header that shows a token of that user."""
    users = directory / "users.json"
    user = lambda *words: subprocess.run(
        [program, "user", *words, "--users", users], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout
    user("add", "reader", "--role", "read", "--no-password")
    return users, f"Authorization: Bearer {user('token', 'reader', '--name', 'bench').split()[-1]}"


class NginxTls(servers.Nginx):
    """The same constant over TLS, with the same certificate."""

    name = "nginx with TLS"

    def __init__(self, directory, identity):
        super().__init__(directory)
        self.identity = identity

    def command(self):
        command, (shown, key) = super().command(), self.identity
        place, plain = self.directory / "nginx.conf", f"listen 127.0.0.1:{self.port};"
        tls = f"listen 127.0.0.1:{self.port} ssl; ssl_certificate {shown}; ssl_certificate_key {key};"
        place.write_text(place.read_text().replace(plain, tls + " ssl_protocols TLSv1.3;"))
        return command

    def url(self, path=""):
        return f"https://{self.address()}{path}"


class MemdbTls(servers.Memdb):
    """A leader with a certificate."""

    name = "memdb leader with TLS"

    def ready(self):
        return servers.answers(self.port)

    def url(self, path=""):
        return f"https://{self.address()}{path}"


class ReadsOverTls(rows.Row):
    key, title = "22", "Reads over TLS with a bearer token"
    about = (
        "64 kept connections of wrk with a bearer token, one and the same word, TLS 1.3 with AES-256-GCM and a P-256 "
        "certificate; handshakes are few and long over. memdb checks the token at each read, over TLS and in plain text; "
        "nginx gets the header too, and looks at nothing. wrk has more work over TLS than any of the servers, so the "
        "rate is the client's as well."
    )
    titles = {
        "tls": "**memdb** `GET /wordcount?word=` over TLS, with a token",
        "plain": "**memdb**, the same in plain text",
        "nginx": "nginx `return 200` over TLS, a body as long, two workers",
    }
    goals = [
        rows.Goal("rate against nginx with TLS", "tls", "rate", least=1.0, stretch=1.3, against="nginx"),
        rows.Goal("server CPU against plain text", "tls", "cpu_us", most=1.15, stretch=1.1, against="plain"),
    ]

    def memdb(self, stack, directory, options):
        directory.mkdir(parents=True, exist_ok=True)
        shown, key = certificate(directory / "certs", options.memdb)
        users, header = token_of_reader(directory, options.memdb)
        asks = lambda server: lambda seconds: rows.wrk(server, seconds, [header])
        plain = rows.memdb_alone(stack, directory, options, "--users", users)
        arguments = ["--users", users, "--tls-cert", shown, "--tls-key", key]
        tls = stack.enter_context(MemdbTls(directory / "protected", options, *arguments))
        return {"tls": asks(tls), "plain": asks(plain)}

    def others(self, stack, directory):
        identity = certificate(directory / "certs", self.options.memdb)
        nginx = stack.enter_context(NginxTls(directory / "nginx", identity))
        header = f"Authorization: Bearer memdb_{'x' * 43}"
        return {"nginx": lambda seconds: rows.wrk(nginx, seconds, [header])}
