#!/usr/bin/env python3
"""Counts the words of a text independently of memdb, and compares every count of a server with it."""

import json
import re
import sys
import time
import urllib.request
from collections import Counter

# A word is what stands between white space as Unicode's property White_Space has it (the whitespace analyzer, and Go's
# strings.Fields). Python's own str.split also splits at U+001C to U+001F.
WORD = re.compile("[^\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
MAX_WORD_BYTES = 256


def count(path):
    """The words of a file with their counts; lines that are not UTF-8 and words that are too long do not count."""
    counts = Counter()
    with open(path, "rb") as text:
        for line in text:
            try:
                words = WORD.findall(line.decode("utf-8"))
            except UnicodeDecodeError:
                continue
            counts.update(words)
    long = [word for word in counts if len(word) > MAX_WORD_BYTES // 4 and len(word.encode()) > MAX_WORD_BYTES]
    for word in long:
        del counts[word]
    return counts


def once(pairs):
    """An object whose members are all named differently: a word listed twice would hide a count."""
    found = dict(pairs)
    if len(found) != len(pairs):
        sys.exit(f"verify: /sync lists {len(pairs) - len(found)} words twice")
    return found


def main():
    path, url = sys.argv[1:]
    begun = time.monotonic()
    expected = count(path)
    print(f"   counted in Python in {time.monotonic() - begun:.1f} s")
    with urllib.request.urlopen(f"{url}/sync", timeout=60) as answer:
        actual = json.load(answer, object_pairs_hook=once)
    wrong = sorted(word for word in expected.keys() | actual.keys() if expected.get(word, 0) != actual.get(word, 0))
    for word in wrong[:20]:
        print(f"   {word!r}: counted {expected.get(word, 0)}, memdb says {actual.get(word, 0)}")
    if wrong:
        sys.exit(f"verify: {len(wrong):,} of {len(expected):,} words differ")
    print(f"   {len(expected):,} distinct words, {sum(expected.values()):,} total: all equal")


if __name__ == "__main__":
    main()
