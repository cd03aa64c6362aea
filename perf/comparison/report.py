"""Tables in Markdown, and their places between markers in the results file."""

import datetime
import os
import platform
import re
import shlex
import subprocess
import sys

from . import tools
from .figures import ratio, spread
from .rows import AGAINST

# Figures of which more is better; of all others, less is.
MORE_IS_BETTER = ("rate", "words_rate")


def row_table(row, figures, stamp):
    """The part of one row: figures, what was asked, when and with what."""
    lines = [row.about, "", "| | " + " | ".join(heading for _, heading, _ in row.columns) + " |"]
    lines.append("|---|" + "---|" * len(row.columns))
    for name, rounds in figures.items():
        cells = [cell(rounds, field, digits) for field, _, digits in row.columns]
        lines.append(f"| {row.titles[name]} | {' | '.join(cells)} |")
    lines += ["", "| asked for | at least (stretch) | measured | |", "|---|---|---|---|"]
    for goal in row.goals:
        found = goal.of(figures)
        cells = (goal.said(found), goal.verdict(found[0])) if found else ("skipped", "")
        lines.append(f"| {goal.what} | {goal.asked()} | {cells[0]} | {cells[1]} |")
    rounds = max(len(rounds) for rounds in figures.values())
    lines += ["", f"![{row.title}](plots/row-{row.key}.svg)", "", f"{rounds} interleaved rounds. {stamp}"]
    return "\n".join(lines)


def cell(rounds, field, digits):
    values = [one[field] for one in rounds if one[field] is not None]
    return spread(values, digits) if values else ""


def summary(rows, saved):
    """All goals in one table, from the figures of each row's last run."""
    lines = ["| row | what | at least (stretch) | measured | |", "|---|---|---|---|---|"]
    for row in rows:
        if row.key not in saved:
            lines += [f"| {row.key} | {goal.what} | {goal.asked()} | not measured yet | |" for goal in row.goals]
            continue
        for goal in row.goals:
            found = goal.of(saved[row.key]["figures"])
            cells = (goal.said(found), goal.verdict(found[0])) if found else ("skipped", "")
            lines.append(f"| {row.key}: {row.title} | {goal.what} | {goal.asked()} | {cells[0]} | {cells[1]} |")
    return "\n".join([*lines, "", "![Each figure against what was asked for](plots/summary.svg)"])


def apart(figures):
    """The figures of this memdb and of what it is compared with, and those of the other memdb under the same names."""
    other = {name.removeprefix(AGAINST): rounds for name, rounds in figures.items() if name.startswith(AGAINST)}
    return {name: rounds for name, rounds in figures.items() if not name.startswith(AGAINST)}, other


def against_table(measured, program):
    """Each figure of each subject, of this memdb and of the other program: row, figures of this, and of the other."""
    lines = [
        f"This memdb over `{program}`, a ratio for each round: their geometric mean with its 95 % interval, which of twenty",
        "figures that are the same leaves one out. *better*, *worse*: the interval lies on one side of 1.",
        "",
        "| row | subject | figure | this | other | this / other | |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {"": 0, "better": 0, "worse": 0}
    for row, this, other in measured:
        for name in other:
            for field, heading, digits in row.columns:
                pairs = [(one[field], two[field]) for one, two in zip(this[name], other[name])]
                ratios = [one / two for one, two in pairs if one and two]
                if ratios:
                    middle, low, high = ratio(ratios)
                    said = verdict(field, low, high) if len(ratios) > 1 else ""
                    found[said] += 1
                    figures = f"{cell(this[name], field, digits)} | {cell(other[name], field, digits)}"
                    times = f"{middle:.3f} ({low:.3f} to {high:.3f})" if len(ratios) > 1 else f"{middle:.3f}"
                    lines.append(f"| {row.key} | {row.titles[name]} | {heading} | {figures} | {times} | {said} |")
    total = sum(found.values())
    return "\n".join([*lines, "", f"Of {total} figures {found['better']} are better and {found['worse']} worse."])


def verdict(field, low, high):
    if low <= 1.0 <= high:
        return ""
    return "better" if (low > 1.0) == (field in MORE_IS_BETTER) else "worse"


def stamp(load_before):
    """When, where, with what."""
    commit = output(["git", "-C", str(tools.ROOT), "rev-parse", "--short=12", "HEAD"])
    if output(["git", "-C", str(tools.ROOT), "status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock"]):
        commit += " and changes not committed"
    versions = [
        output(["rustc", "--version"]),
        output(["nginx", "-v"]).removeprefix("nginx version: ").replace("/", " "),
        "Redis " + found(r"v=(\S+)", output(["redis-server", "--version"])),
        "wrk " + found(r"wrk (\S+)", output(["wrk", "-v"])),
    ]
    now = datetime.datetime.now(datetime.timezone.utc)
    command = shlex.join([f"perf/{os.path.basename(sys.argv[0])}", *sys.argv[1:]])
    memory = found(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read())
    machine = f"{cpu_model()}, {os.cpu_count()} CPUs, {int(memory) >> 20} GiB, Linux {platform.release()}"
    machine += f", load average {load_before:.1f} before"
    return f"{now:%Y-%m-%d %H:%M} UTC, commit {commit}, `{command}`. {machine}; {'; '.join(versions)}."


def load_average():
    return os.getloadavg()[0]


def output(command):
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return finished.stdout.strip()


def found(pattern, text):
    match = re.search(pattern, text)
    return match.group(1) if match else "of an unknown version"


def cpu_model():
    return found(r"model name\s*: (.*)", open("/proc/cpuinfo").read())


def write_between_markers(path, name, text):
    """Replaces what stands between the markers of this part; the rest of the file is somebody's prose."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- end of bench:{name} -->"
    old = path.read_text()
    if old.count(begin) != 1 or old.count(end) != 1:
        tools.give_up(f"{path} must hold {begin} and {end} once each")
    head, _, rest = old.partition(begin)
    tail = rest.partition(end)[2]
    path.write_text(f"{head}{begin}\n{text.strip()}\n{end}{tail}")
