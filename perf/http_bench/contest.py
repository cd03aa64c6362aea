"""The contest: what each server is asked, how it is measured, and whether memdb counted right meanwhile."""

import csv
import dataclasses
import io
import json
import pathlib
import random
import string
import subprocess
import sys

from . import tools

DISTINCT_WORDS = 1_000
TEXTS = 1_000
WORDS_PER_TEXT = 10
WARM_UP_SECONDS = 1.0
LOAD_THREADS = 2
SCRIPT = pathlib.Path(__file__).with_name("requests.lua")


@dataclasses.dataclass
class Figures:
    """One measurement."""

    rate: float
    server_cpu_us: float
    p50_us: float
    p99_us: float
    requests: int


class Texts:
    """The words that are read and the texts that are posted, by Zipf's law, the same in every run."""

    def __init__(self, directory):
        source = random.Random(1)
        letters = string.ascii_lowercase
        made = ("".join(source.choices(letters, k=source.randint(5, 16))) for _ in range(2 * DISTINCT_WORDS))
        self.words = list(dict.fromkeys(made))[:DISTINCT_WORDS]
        weights = [1 / rank for rank in range(1, DISTINCT_WORDS + 1)]
        self.texts = [" ".join(source.choices(self.words, weights, k=WORDS_PER_TEXT)) for _ in range(TEXTS)]
        read = source.choices(self.words, weights, k=TEXTS)
        self.reads_file, self.posts_file = directory / "reads", directory / "posts"
        self.reads_file.write_text("".join(f"/wordcount?word={word}\n" for word in read))
        self.posts_file.write_text("".join(f"{text}\n" for text in self.texts))


class Contest:
    """All measurements of all servers, in turn."""

    def __init__(self, options, texts, nginx, redis, memdb):
        self.options, self.texts = options, texts
        self.nginx, self.redis, self.memdb = nginx, redis, memdb
        self.redis_rates = {}

    def run(self):
        """Name of each measurement -> its figures, one for each round."""
        self.memdb.post(" ".join(self.texts.words))
        self.fill_redis()
        entries = {
            "read memdb": lambda seconds: self.wrk(self.memdb, seconds),
            "read nginx": lambda seconds: self.wrk(self.nginx, seconds),
            "read Redis": lambda seconds: self.redis_benchmark("read", seconds, 1, "GET", "__rand_int__"),
            "post memdb": self.post_and_check,
            "post nginx": lambda seconds: self.wrk(self.nginx, seconds, "/post"),
            "post Redis": lambda seconds: self.redis_benchmark(
                "post", seconds, WORDS_PER_TEXT, "HINCRBY", "words", "__rand_int__", "1"
            ),
        }
        figures = {name: [] for name in entries}
        for measure in entries.values():
            measure(WARM_UP_SECONDS)
        for number in range(self.options.rounds):
            print(f"perf/bench: round {number + 1} of {self.options.rounds}", file=sys.stderr)
            for name, measure in entries.items():
                figures[name].append(measure(self.options.seconds))
                print(f"  {name}: {figures[name][-1].rate:,.0f}/s", file=sys.stderr)
        return figures

    def fill_redis(self):
        """Every key that will be asked for, as the benchmark spells it."""
        with subprocess.Popen(["redis-cli", "-p", str(self.redis.port)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as client:
            client.communicate("".join(f"SET {n:012} {n}\nHSET words {n:012} 1\n" for n in range(DISTINCT_WORDS)).encode())

    def wrk(self, server, seconds, post_path=None):
        command = ["wrk", f"-t{LOAD_THREADS}", f"-c{self.options.connections}", f"-d{seconds_of(seconds)}"]
        command += ["-s", str(SCRIPT), server.url(), "--"]
        command += [str(self.texts.posts_file), post_path] if post_path else [str(self.texts.reads_file)]
        before = server.cpu_seconds()
        finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        cpu = server.cpu_seconds() - before
        line = next((line for line in finished.stdout.splitlines() if line.startswith("RESULT ")), None)
        if line is None:
            tools.give_up(f"wrk failed:\n{finished.stdout}")
        seen = json.loads(line.removeprefix("RESULT "))
        if seen["broken"] or seen["refused"] or not seen["requests"]:
            tools.give_up(f"{server.name} did not answer every request well: {seen}")
        rate = seen["requests"] / seen["seconds"]
        return Figures(rate, cpu * 1e6 / seen["requests"], seen["p50_us"], seen["p99_us"], seen["requests"])

    def post_and_check(self, seconds):
        """Posts, then holds the counts against the answers: requests still under way at the end may count or not."""
        before = self.memdb.total()
        figures = self.wrk(self.memdb, seconds, "/post?ack=leader")
        counted = self.memdb.total() - before
        most = (figures.requests + self.options.connections) * WORDS_PER_TEXT
        if not figures.requests * WORDS_PER_TEXT <= counted <= most:
            tools.give_up(f"{figures.requests} posts of {WORDS_PER_TEXT} words were answered, but {counted} words counted")
        return figures

    def redis_benchmark(self, kind, seconds, pipeline, *command):
        """`redis-benchmark` knows no duration: the number of requests comes from the last rate seen."""
        rate = self.redis_rates.get(kind, 50_000)
        requests = max(int(rate * seconds) * pipeline, 1_000)
        arguments = ["-p", str(self.redis.port), "-c", str(self.options.connections), "-n", str(requests)]
        arguments += ["-P", str(pipeline), "-r", str(DISTINCT_WORDS), "--csv", *command]
        before = self.redis.cpu_seconds()
        finished = subprocess.run(["redis-benchmark", *arguments], capture_output=True, text=True)
        cpu = self.redis.cpu_seconds() - before
        rows = list(csv.DictReader(io.StringIO(finished.stdout)))
        if finished.returncode != 0 or len(rows) != 1:
            tools.give_up(f"redis-benchmark failed:\n{finished.stdout}{finished.stderr}")
        row, posts = rows[0], requests // pipeline
        self.redis_rates[kind] = rate = float(row["rps"]) / pipeline
        return Figures(rate, cpu * 1e6 / posts, float(row["p50_latency_ms"]) * 1e3, float(row["p99_latency_ms"]) * 1e3, posts)


def seconds_of(seconds):
    """wrk takes whole seconds only."""
    return f"{max(round(seconds), 1)}s"
