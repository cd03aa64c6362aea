"""Row 7: the words of a file are counted, by `memdb post` into an empty leader and by what else one would use."""

import contextlib
import os
import resource
import subprocess
import sys
import time

from . import load, servers, tools
from .figures import Goal
from .rows import Row, contestants

# The text: a million distinct words by Zipf's law.
WORDS = ["--distinct", 1_000_000, "--exponent", 1.07]
# Lines into words at blanks, then the counts of all of them, to a file.
DUCKDB = """
import duckdb, sys
source, out = sys.argv[1:3]
lines = f"read_csv('{source}', columns={{'line': 'VARCHAR'}}, header=false, delim='\\x01', quote='', escape='', auto_detect=false)"
words = f"SELECT unnest(string_split(line, ' ')) AS word FROM {lines}"
duckdb.sql(f"COPY (SELECT word, count(*) AS n FROM ({words}) GROUP BY word) TO '{out}' (DELIMITER ' ', HEADER false)")
"""


class File(Row):
    key, title = "7", "Counting a file"
    about = (
        "Lines of ten words, a million distinct; a word is what stands between blanks, for all three. Wall time until every "
        "count is there: in memdb, in a file of DuckDB's, or behind `sort | uniq -c` with `LC_ALL=C`. The file is in the page cache."
    )
    columns = [
        ("seconds", "wall s", 2),
        ("words_rate", "words a second", 0),
        ("cpu", "CPU of all processes s", 2),
    ]
    plotted = [columns[0], columns[2]]
    titles = {
        "memdb": "**memdb** `memdb post` into an empty leader",
        "duckdb": "DuckDB `GROUP BY`",
        "sort": "`tr ' ' '\\n' \\| sort \\| uniq -c`",
    }
    goals = [
        Goal("wall time of DuckDB against it", "duckdb", "seconds", least=2, stretch=3, against="memdb"),
        Goal("wall time of `sort` and `uniq -c` against it", "sort", "seconds", least=10, stretch=20, against="memdb", digits=1),
    ]

    def run(self, directory):
        text, out = directory / "text", directory / "counts"
        self.words = load.call("file", "--out", text, "--bytes", self.options.file_bytes, *WORDS)["words"]
        text.read_bytes()
        subjects = {}
        for prefix, options in contestants(self.options):
            subjects[f"{prefix}memdb"] = lambda options=options: self.posted(directory, text, options)
        if not self.options.no_others:
            subjects |= self.others(directory, text, out)
        figures = self.rounds(subjects)
        distinct = {one["distinct"] for rounds in figures.values() for one in rounds}
        if len(distinct) != 1:
            tools.give_up(f"row 7: they do not find the same number of words: {distinct}")
        return figures

    def others(self, directory, text, out):
        command = f"tr ' ' '\\n' < '{text}' | sort | uniq -c > '{out}'"
        sort = {"sort": lambda: self.other(["sh", "-c", command], out)}
        python = duckdb(directory)
        if not python:
            tools.say("row 7: SKIPPED DuckDB: `pip install duckdb` does not work here")
            return sort
        version = subprocess.run([python, "-c", "import duckdb; print(duckdb.__version__)"], capture_output=True, text=True)
        self.titles = {**self.titles, "duckdb": f"DuckDB {version.stdout.strip()} `GROUP BY`"}
        return {"duckdb": lambda: self.other([python, "-c", DUCKDB, str(text), str(out)], out), **sort}

    def posted(self, directory, text, options):
        with contextlib.ExitStack() as stack:
            # Each round into an empty one.
            self.leaders = getattr(self, "leaders", 0) + 1
            leader = servers.Memdb(directory / f"leader-{self.leaders}", options, "--analyzer", "whitespace")
            stack.enter_context(leader)
            command = [options.memdb, "post", "--leader", leader.url(), str(text)]
            before = leader.cpu_seconds()
            figures = self.timed(command)
            figures["cpu"] += leader.cpu_seconds() - before
            counted = leader.metric("memdb_words_total")
            if counted != self.words:
                tools.give_up(f"row 7: the file has {self.words} words, but {counted:.0f} were counted")
            return {**figures, "distinct": int(leader.metric("memdb_words_distinct"))}

    def other(self, command, out):
        figures = self.timed(command)
        with open(out, "rb") as lines:
            distinct = sum(1 for _ in lines)
        out.unlink()
        return {**figures, "distinct": distinct}

    def timed(self, command):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        finished = subprocess.run(command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True)
        seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        if finished.returncode != 0:
            tools.give_up(f"{command[0]} failed ({finished.returncode}): {finished.stderr[-2_000:]}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"seconds": seconds, "words_rate": self.words / seconds, "cpu": cpu}


def duckdb(directory):
    """A Python that has DuckDB: this one, or one made beside the build, once."""
    made = tools.TARGET / "bench-duckdb"
    steps = [[sys.executable, "-m", "venv", made], [made / "bin/pip", "install", "--quiet", "duckdb"]]
    works = lambda *command: subprocess.run(command, capture_output=True, cwd=directory).returncode == 0
    if works(sys.executable, "-c", "import duckdb"):
        return sys.executable
    if (made / "bin/python").exists() or all(works(*step) for step in steps):
        python = str(made / "bin/python")
        return python if works(python, "-c", "import duckdb") else None
    return None
