"""The parts of `perf/bench`: servers to compare, load to put on them, rows of figures, tables and plots."""
