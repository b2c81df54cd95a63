# The interface to everything: `make help`. What each target does stands in scripts/<target>.sh.
# Variables work before and after the command: `FEED=sim make run`, `make run FEED=sim`.
# make itself ends with 2 whatever a script ends with; scripts/<target>.sh, called directly, gives its own exit code.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: run test servers pause status logs down clean bench chaos-ingest chaos-averages chaos-sink help

export SERVERS FEED CONSOLES FOR FAULTS EVERY SEED

run: ## build, fetch and start everything, wait for the first averages, leave it running (SERVERS=docker|native FEED=live|sim CONSOLES=off)
	@scripts/run.sh

test: ## every test, on a machine with nothing running; what it starts it stops
	@scripts/test.sh

servers: ## start only the servers (Kafka, registry, Connect, Postgres, Zipkin) and wait until they are healthy
	@scripts/servers.sh

pause: ## stop only the feed and wait until aggregator and connectors have caught up; `make run` goes on
	@scripts/pause.sh

status: ## show what is running and whether it is healthy (exit 1 if not)
	@scripts/status.sh

logs: ## follow the logs of everything that runs
	@scripts/logs.sh

down: ## stop everything, keep the data
	@scripts/down.sh

clean: ## stop everything, delete all data
	@scripts/clean.sh

bench: ## the benchmarks, those beside the code and those over real servers, printing ratios
	@scripts/bench.sh

chaos-ingest: ## faults of the exchange, the network, Kafka and the raw producer, for as long as asked (FOR=10m)
	@scripts/chaos.sh ingest

chaos-averages: ## faults of Kafka and of the aggregators, likewise
	@scripts/chaos.sh averages

chaos-sink: ## faults of Connect, Postgres, the registry and Kafka, likewise
	@scripts/chaos.sh sink

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
