"""The part `replication` of `perf/bench`: clusters to compare, the load on them, the tables."""
