# The verbs of this repository; CI calls the same ones. `make` alone lists them.

# Where start-servers listens and keeps its files.
PORT ?= 8080
RUN_DIR ?= run
# The simulation: how many histories, or the one to replay.
SEEDS ?=
SEED ?=
# How much text the demo counts.
DEMO_MEGABYTES ?= 24

.DEFAULT_GOAL := help
.PHONY: help build check test sim lint demo start-servers stop-servers crash bench clean

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./target/release/memdb
	cargo build --release --bins

check: ## compile everything, run nothing
	cargo check --all-targets

test: ## run all tests
	@scripts/test

sim: ## run the simulation: SEEDS=20000 for many histories, SEED=17 to replay one
	$(if $(SEEDS),MEMDB_SIM_SEEDS=$(SEEDS)) $(if $(SEED),MEMDB_SIM_SEED=$(SEED)) cargo test --test simulation -- --nocapture

crash: ## kill the real process at RUNS (200) random moments under load, and check that nothing is lost or doubled
	$(if $(RUNS),MEMDB_CRASH_RUNS=$(RUNS)) cargo test --release --test crash -- --ignored --nocapture

bench: build ## measure beside nginx and Redis, some 20 minutes; writes perf/RESULTS.md
	@perf/bench

lint: ## formatting, clippy, dependencies
	@scripts/lint

demo: build ## count some tens of MB of text, and check every count independently
	@DEMO_MEGABYTES=$(DEMO_MEGABYTES) examples/demo/run

start-servers: build ## start a leader on port PORT (8080), data in RUN_DIR (run)
	@PORT=$(PORT) RUN_DIR=$(RUN_DIR) scripts/servers start

stop-servers: ## stop what start-servers started
	@RUN_DIR=$(RUN_DIR) scripts/servers stop

clean: ## remove everything that was built; the data of start-servers stays
	cargo clean
	rm -rf bin
	@if [ -d $(RUN_DIR) ]; then echo "The data of start-servers is still in $(RUN_DIR)."; fi
