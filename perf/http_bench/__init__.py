"""The parts of `perf/bench`: servers to compare, load to put on them, tables to write."""
