# Everything there is to run. Needs Python 3.11 or newer; `make` alone lists it.

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  := $(VENV)/.bench
UV     := $(shell command -v uv 2>/dev/null)
NEW    := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python3.14; do \
                      $$p -Ic '$(NEW)' 2>/dev/null && { echo $$p; break; }; done)
ARGS   ?=

# Whether .venv can be used: a Python that was removed leaves a link to nowhere, one that was upgraded finds no packages.
WHOLE  := import os, sys, sysconfig; sys.exit(not os.path.isdir(sysconfig.get_path("purelib")))
IS_WHOLE = $(BIN)/python -Ic '$(WHOLE)' 2>/dev/null

# Settings of this shell that would make pip install elsewhere; which index it asks stays as it is.
OWN_PIP = unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON; PIP_USER=0 $(BIN)/python -Im pip

COMPOSE = docker compose version >/dev/null 2>&1 || { \
              echo "Docker with Compose 2.24 or newer is needed: https://docs.docker.com/compose/install/" >&2; exit 2; }
COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 \
              --generate-hashes --no-annotate --no-emit-index-url --quiet

.PHONY: help setup demo up down logs test pythons test-compose matrix registries chaos soak bench bench-quick check lint format \
        table lock

help:  ## list the targets (this is the default)
	@echo 'make TARGET [ARGS="…"]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'For example: make demo ARGS="--broker memory", make test ARGS="-k outbox"'

setup: $(STAMP)  ## make .venv from locks/dev.lock (done by itself where it is needed)

demo: $(STAMP)  ## run the whole application on this machine and watch events travel
	@$(BIN)/python -m demo $(ARGS)

up:  ## the same in containers, with MySQL, a real broker and a mailbox: BROKER=nats (needs Docker)
	@$(COMPOSE)
	@docker compose up --build --wait --remove-orphans $(ARGS)
	@docker compose ps --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'

down:  ## stop the containers; ARGS=-v forgets their data, too (of the BROKER that is named)
	@$(COMPOSE)
	@docker compose down --remove-orphans $(ARGS)

logs:  ## follow what every container says
	@$(COMPOSE)
	@docker compose logs --follow $(ARGS)

test: $(STAMP)  ## run every test that needs no containers
	@$(BIN)/python -m pytest $(ARGS)

pythons: $(STAMP)  ## run the unit tests on every Python from 3.11 on that is found (installs the lock once for each)
	@$(BIN)/python -m tests.pythons $(ARGS)

test-compose: $(STAMP)  ## run the containers for real with each broker whose image is here or can be pulled (needs Docker)
	@$(BIN)/python -m pytest -n0 -m compose tests/compose $(ARGS)

matrix: $(STAMP)  ## crash at every point × every broker × both databases (some minutes)
	@$(BIN)/python -m pytest -m "matrix or not matrix" tests/chaos/test_crashes.py $(ARGS)

registries: $(STAMP)  ## the http broker's whole contract on each registry, plain and over TLS (some minutes)
	@$(BIN)/python -m pytest -m "matrix or not matrix" tests/contract/test_http.py $(ARGS)

chaos: $(STAMP)  ## break everything at random and lose nothing: BROKER= DATABASE= DELIVERY= SEED= SECONDS=
	@$(BIN)/python -m tests.chaos.run $(if $(BROKER),--broker $(BROKER)) $(if $(DATABASE),--database $(DATABASE)) \
	    $(if $(DELIVERY),--delivery $(DELIVERY)) $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

soak: $(STAMP)  ## register COUNT=20000 people and see that nothing grows
	@$(BIN)/python -m tests.chaos.soak $(if $(COUNT),--count $(COUNT)) $(ARGS)

bench: $(PEERS)  ## how fast is it, beside raw clients and peers (twenty minutes; installs those peers once)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(PEERS)  ## the same in under a minute: fewer brokers and questions
	@$(BIN)/python -m benchmarks --quick $(ARGS)

check: lint test  ## everything that must be green before a commit: lint and test

lint: $(STAMP)  ## format, lint, types and import contracts, nothing changed
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP)  ## format the code, and repair what ruff can repair
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

table: $(STAMP)  ## write the table of promises into the README anew
	@$(BIN)/python -m broker promises --into README.md

lock:  ## write the locks anew from pyproject.toml: of the tools, of the image, of the benchmarks (needs uv)
	@$(COMPILE) --all-extras --group dev --output-file locks/dev.lock
	@$(COMPILE) --all-extras --constraint locks/dev.lock --output-file locks/run.lock
	@uv pip compile --group bench --constraint locks/dev.lock --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-emit-index-url --quiet --output-file locks/bench.lock

# --- the environment ---------------------------------------------------------------------------------------

$(PEERS): $(STAMP) locks/bench.lock
	@echo "Installing locks/bench.lock into $(VENV), once: what the benchmarks measure beside, and their chart"
ifneq ($(UV),)
	@$(UV) pip install --quiet --python $(BIN)/python -r locks/bench.lock
else
	@$(OWN_PIP) install --quiet --disable-pip-version-check -r locks/bench.lock
endif
	@touch $@

ifneq ($(shell test ! -e $(STAMP) || $(IS_WHOLE) || echo broken),)
.PHONY: $(STAMP)
endif

$(STAMP): locks/dev.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none is on the PATH. \
	Install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 2; }
	@test ! -e $(VENV) || $(IS_WHOLE) || { rm -rf $(VENV); \
	    echo "The Python that $(VENV) was made with is gone, or is another version now: $(VENV) is made anew"; }
	@echo "Installing locks/dev.lock into $(VENV), once: a minute or so ($$($(PYTHON) -V), $(if $(UV),uv,pip))"
ifneq ($(UV),)
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip sync --quiet --python $(BIN)/python locks/dev.lock
	@touch $@
else
	@$(PYTHON) -Ic 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make environments. \
	On Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@$(PYTHON) -Im venv $(VENV)
	@rm -f $@.new
	@{ $(OWN_PIP) install --disable-pip-version-check -r locks/dev.lock && touch $@.new; } \
	    | awk '/^Collecting/ { printf "."; fflush() } END { print "" }'
	@mv $@.new $@
endif
