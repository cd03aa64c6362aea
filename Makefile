# The verbs of this repository; CI calls the same ones. `make` alone lists them.

# Where start-servers listens (the leader; its followers on the ports behind it) and keeps its files.
PORT ?= 8080
RUN_DIR ?= run
LOCAL_RUN_DIR ?= run-local
# What run-perf and run-perf-local-replicas send to.
LEADER ?= http://127.0.0.1:$(PORT)
PORTS_BEHIND = $(foreach n,$(1),http://127.0.0.1:$(shell expr $(PORT) + $(n)))
PERF_OPTIONS ?=
# The simulation: how many histories from which seed on, or for how many minutes; or the one to replay, and its steps.
SEEDS ?=
FROM ?=
MINUTES ?=
SEED ?=
STEPS ?=
SIM = $(foreach name,SEEDS FROM MINUTES SEED STEPS,$(if $($(name)),MEMDB_SIM_$(name)=$($(name))))
# The long runs on real processes: how many, and how much.
RUNS ?=
POSTS ?=
# 1: the nodes of these runs have TLS and users.
GUARDED ?=
ifneq ($(GUARDED),)
export MEMDB_TESTS_GUARDED := $(GUARDED)
endif
# How long the soak, or the fuzzer for each target, runs, in seconds; which targets.
TIME ?=
TARGETS ?=
# Which part of all mutants, or a file with the diff whose mutants are tried.
SHARD ?= 0/32
DIFF ?=
# How many times a thread is made to give way in one order of the models of `make interleavings`.
PREEMPTIONS ?= 3
# How many requests for each operation `make openapi` sends.
EXAMPLES ?= 100
# How much `make import-proof` imports, several times.
MEGABYTES ?= 100
# Which rows `make bench` measures, and how: `perf/bench --help`.
BENCH_OPTIONS ?=
# How much text the demo counts.
DEMO_MEGABYTES ?= 24

.DEFAULT_GOAL := help
.PHONY: help build check test sim sim-fast sim-cluster sim-cluster-fast lint demo interleavings crash replica-starts crash-cluster soak flood hostile bench expiry watchers clean perf
.PHONY: fuzz mutants coverage openapi import-proof proof budget
.PHONY: run-perf run-perf-local-replicas docker-check
.PHONY: start-servers stop-servers start-servers-local-replicas stop-servers-local-replicas

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-30s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./target/release/memdb
	cargo build --release --bins

check: ## compile everything, run nothing
	cargo check --all-targets

test: ## run all tests
	@scripts/test

sim: ## run the simulation: SEEDS=20000 FROM=0 for many histories, or MINUTES=60; SEED=17 STEPS=90 to replay one
	$(SIM) cargo test --test simulation -- --nocapture one_node::$(if $(SEED)$(MINUTES)$(FROM),histories_hold)

sim-fast: ## the same, optimised throughout: for many histories (10000 in CI)
	$(SIM) cargo test --release --test simulation -- --nocapture one_node::histories_hold

sim-cluster: ## the same of a cluster: four machines, leaders, replicas and the network between them
	$(SIM) cargo test --test simulation -- --nocapture cluster::$(if $(SEED)$(MINUTES)$(FROM),histories_hold)

sim-cluster-fast: ## the same, optimised throughout
	$(SIM) cargo test --release --test simulation -- --nocapture cluster::histories_hold

interleavings: ## readers beside the Writer in all orders that the memory model allows, with PREEMPTIONS (3) forced switches; minutes
	LOOM_MAX_PREEMPTIONS=$(PREEMPTIONS) cargo test --test interleavings -- --nocapture --skip data::

crash: ## kill and freeze real nodes RUNS (200) times under load, at random and at failpoints; nothing lost or doubled
	$(if $(RUNS),MEMDB_CRASH_RUNS=$(RUNS)) cargo test --release --test process -- --ignored --nocapture crash::
	$(if $(RUNS),MEMDB_CRASH_RUNS=$(RUNS)) cargo test --release --test process -- --ignored --nocapture --exact faults::storms::crash faults::promotions::promotions_under_load

replica-starts: ## start a replica RUNS (300) times while posts arrive; each time all must be equal, nothing lost or doubled
	$(if $(RUNS),MEMDB_STARTS=$(RUNS)) cargo test --release --test process -- --ignored --nocapture --exact faults::repair::replica_starts

crash-cluster: ## kill leader, replicas, local replica RUNS (200) times under load; nothing acknowledged lost or doubled
	$(if $(RUNS),MEMDB_CRASH_RUNS=$(RUNS)) cargo test --release --test process -- --ignored --nocapture --exact faults::crashes::crash_cluster

soak: ## run a cluster under load and churn for TIME (3600) seconds; nothing lost, and what each process uses is flat
	$(if $(TIME),MEMDB_SOAK_SECONDS=$(TIME)) cargo test --release --test process -- --ignored --nocapture --exact faults::soak::soak_under_churn

flood: ## send POSTS (1000000) posts over a leader and three replicas, one of which hangs for a while; what each uses
	$(if $(POSTS),MEMDB_FLOOD_POSTS=$(POSTS)) cargo test --release --test process -- --ignored --nocapture --exact faults::flood::flood_of_posts

fuzz: ## fuzz all that reads bytes, guided by coverage: TIME (60) seconds for each of TARGETS (all)
	@TIME=$(TIME) TARGETS='$(TARGETS)' SEED=$(SEED) scripts/fuzz

mutants: ## change the program in small ways and see whether the tests notice: SHARD=0/32, or DIFF=FILE; needs cargo-mutants
	MEMDB_SIM_SEEDS=300 cargo mutants $(if $(DIFF),--in-diff $(DIFF),--shard $(SHARD))

coverage: ## line coverage of the core, by directory
	@scripts/coverage

hostile: ## 10,000 connections of each bad kind against a leader: what they cost, and that others are served
	cargo test --release --test process -- --ignored --nocapture hostile::

openapi: build ## ask a node by its own description: no answer that it does not tell of; tools from PyPI; EXAMPLES=200
	EXAMPLES=$(EXAMPLES) scripts/openapi $${CARGO_TARGET_DIR:-target}/release/memdb

import-proof: build ## import MEGABYTES (100), stopped and killed in the middle; exact counts, the same digest out and in again
	scripts/import-proof $${CARGO_TARGET_DIR:-target}/release/memdb $(MEGABYTES)

proof: ## all the long runs, one after the other: some hours; what each finds is in target/proof
	@scripts/proof

bench: ## measure beside nginx, Redis and DuckDB, about an hour; writes perf/RESULTS.md; BENCH_OPTIONS='--only 3,4 --quick'
	@perf/bench $(BENCH_OPTIONS)

expiry: ## let a million entries and a million posts expire under load; OPTIONS='--entries 1000000 --posts 0 --at-once'
	cargo build --release
	perf/expiry.py $${CARGO_TARGET_DIR:-target}/release/memdb $(OPTIONS)

watchers: ## 10,000 watchers beside as many posts as go: the rate, memory, and when each has the final value; OPTIONS='--rounds 3'
	cargo build --release --example bench-load
	cargo build --release
	perf/watch.py $${CARGO_TARGET_DIR:-target}/release/memdb $${CARGO_TARGET_DIR:-target}/release/examples/bench-load $(OPTIONS)

budget: ## where the time of a read and of a post goes, and how it grows: the tables of docs/performance.md; needs perf
	@perf/budget
	@perf/growth --no-build

lint: ## formatting, clippy, dependencies
	@scripts/lint

demo: build ## count some tens of MB of text, and check every count independently
	@DEMO_MEGABYTES=$(DEMO_MEGABYTES) examples/demo/run

docker-check: build ## check that memdb takes the command lines of examples/docker; needs Python 3
	@examples/docker/check

start-servers: build ## start a leader on port PORT (8080) and three replicas behind it, data in RUN_DIR (run)
	@PORT=$(PORT) RUN_DIR=$(RUN_DIR) scripts/servers start

stop-servers: ## stop what start-servers started
	@RUN_DIR=$(RUN_DIR) scripts/servers stop

start-servers-local-replicas: build ## start a leader and two local replicas on its files, in LOCAL_RUN_DIR (run-local)
	@PORT=$(PORT) RUN_DIR=$(LOCAL_RUN_DIR) scripts/servers start-local

stop-servers-local-replicas: ## stop what start-servers-local-replicas started
	@RUN_DIR=$(LOCAL_RUN_DIR) scripts/servers stop-local

perf: build ## build ./bin/perf, which loads a cluster and compares every word on every replica
	@mkdir -p bin
	install $${CARGO_TARGET_DIR:-target}/release/perf bin/perf

run-perf: perf ## run it against start-servers, or against LEADER=URL REPLICAS='URL URL'; PERF_OPTIONS='--posts 5000'
	@PERF_OPTIONS='$(PERF_OPTIONS)' scripts/run-perf start-servers $(LEADER) $(or $(REPLICAS),$(call PORTS_BEHIND,1 2 3))

run-perf-local-replicas: perf ## the same against start-servers-local-replicas
	@PERF_OPTIONS='$(PERF_OPTIONS)' scripts/run-perf start-servers-local-replicas $(LEADER) \
		$(or $(REPLICAS),$(call PORTS_BEHIND,1 2))

clean: ## remove everything that was built; the data of start-servers stays
	cargo clean
	rm -rf bin
	@for dir in $(RUN_DIR) $(LOCAL_RUN_DIR); do if [ -d $$dir ]; then echo "Data of servers is still in $$dir."; fi; done
