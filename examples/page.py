"""Runs the commands of a page against running servers, and compares what they print. For the `check` of each example.

As tests/docs/commands.rs reads the documents: every fenced block marked `sh` is run line by line, a comment `# → text`
below a command is what it prints, `name=$(command)` sets a variable for those behind it, and blocks marked `sh no-run`
are left out. In what is printed, `…` stands for anything.
"""

import os
import re
import subprocess

PATIENCE = 120  # seconds for one command

# In a document, a request that is answered by an error is a mistake, unless its page says `curl -s`.
CURL = 'curl() { case "$1" in -s) shift; command curl -sS "$@";; *) command curl -sS --fail-with-body "$@";; esac; }\n'


def commands(text):
    """Line number, command, and what it must print or None."""
    found, fence = [], None
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped.startswith("```"):
            fence = stripped[3:].strip() if fence is None else None
        elif fence == "sh" and stripped:
            if stripped.startswith("# → "):
                before = found[-1][2]
                found[-1][2] = stripped[4:] if before is None else f"{before}\n{stripped[4:]}"
            elif found and found[-1][1].endswith("\\"):
                found[-1][1] += "\n" + line
            elif not stripped.startswith("#"):
                found.append([number, line, None])
    return found


def matches(printed, expected):
    pattern = ".*?".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, printed, re.S) is not None


def run(path, ports, path_of_memdb, environment=None):
    """Runs a page; `ports` has the port for each port of the page. Returns how many ran, and the faults."""
    variables, faults = dict(os.environ, **(environment or {})), []
    variables["PATH"] = f"{path_of_memdb.parent}:{variables['PATH']}"
    listed = commands(path.read_text())
    for number, command, expected in listed:
        here = re.sub(r"\b(127\.0\.0\.1|localhost):(\d+)", lambda found: f"127.0.0.1:{ports.get(found[2], found[2])}", command)
        name = re.match(r"([a-z_]+)=\$\(", here)
        script = CURL + here + (f'\nprintf %s "${name[1]}"' if name else "")
        try:
            ended = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True,
                                   env=variables, cwd=path.parent, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            faults.append(f"{path.name}:{number}: {command}\n  not within {PATIENCE} s")
            continue
        printed = ended.stdout.strip()
        if name:
            variables[name[1]] = printed
        if ended.returncode != 0:
            faults.append(f"{path.name}:{number}: {command}\n  failed: {printed}{ended.stderr}")
        elif expected is not None and not matches(printed, expected):
            faults.append(f"{path.name}:{number}: {command}\n  printed: {printed}\n  and not: {expected}")
    return len(listed), faults
