#!/usr/bin/env bash
# Measures heavy-read on ports of its own, and writes REPORT_DIR/report.md (./report) with plots and the raw figures.
#
#   POSTS=1000000       posts that readers hold when their memory is measured
#   POST_BYTES=300      bytes of each of these, about; the post that reads ask for has READ_BYTES=1000
#   SECONDS_EACH=5      seconds of each measurement of throughput; ROUNDS=3 of them
#   CONNECTIONS=64      connections that read at once
#   PROBES=2000         posts whose way to all readers is timed
#   CREATES=20000       posts that 8 clients create
#   READERS=3
#
# Throughput is measured with wrk, where that is installed (apt-get install wrk), else with Python, which takes most of
# the processor itself: its figures are those of the client. The report says which it was.
set -euo pipefail
cd "$(dirname "$0")"
command -v python3 >/dev/null || { echo "run_benchmark: python3 is needed" >&2; exit 1; }
exec python3 benchmark.py "$@"
