#!/usr/bin/env python3
"""Gathers text that is on this machine into one file: the same text each time.

Licences and copyright files of Debian, then the documentation of the crates in cargo's registry: Markdown files, and
the doc comments of Rust files.
"""

import argparse
import os
import sys
from pathlib import Path

# A line over memdb's limit for a post would be cut into several, which the count does not mind; but a stretch of that
# length without white space cannot be posted.
LONGEST_LINE = 1 << 20


def files(root, wanted):
    """The files under `root` whose name is `wanted`, in the order of their names, each once."""
    for directory, below, names in os.walk(root):
        below.sort()
        for name in sorted(names):
            path = Path(directory, name)
            if wanted(name) and path.is_file() and not path.is_symlink():
                yield path


def doc_comments(text):
    """The text of `///` and `//!` lines."""
    for line in text.split(b"\n"):
        line = line.strip()
        if line.startswith((b"///", b"//!")):
            yield line[3:].strip()


def sources():
    """Name and lines of each source, best ones first."""
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    registry = cargo / "registry" / "src"
    for root, wanted in [
        ("/usr/share/common-licenses", lambda name: True),
        ("/usr/share/doc", lambda name: name == "copyright"),
        (registry, lambda name: name.endswith(".md")),
    ]:
        for path in files(root, wanted):
            yield path, path.read_bytes().split(b"\n")
    for path in files(registry, lambda name: name.endswith(".rs")):
        yield path, doc_comments(path.read_bytes())


def usable(line):
    if len(line) > LONGEST_LINE:
        return False
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=24, help="stop once this much is gathered")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    most = int(arguments.megabytes * 1e6)
    used, left_out, written = 0, 0, 0
    with arguments.out.open("wb") as out:
        for _, lines in sources():
            used += 1
            for line in lines:
                if usable(line):
                    written += out.write(line + b"\n")
                else:
                    left_out += 1
            if written >= most:
                break
    if written == 0:
        sys.exit("gather: found no text under /usr/share or in cargo's registry")
    print(f"   {written / 1e6:.1f} MB from {used:,} files; {left_out} lines left out (not UTF-8, or too long)")


if __name__ == "__main__":
    main()
