# make lab       three real hosts, rolled out by site.yml, links cut under a steady stream
# make lab-down  remove all of it
# make test      everything that CI runs, some slow tests every third day
# make check     its quick part: lint, types, unit tests
# make deb       the package, in dist/
# make bench     ropeway beside a bare link, wireguard-go and OpenVPN; BENCH=--help lists its options

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

BIN := build/venv/bin
# Only root can make machines, bridges and namespaces.
ROOT := $(if $(filter-out 0,$(shell id -u)),sudo env PATH="$$PATH" PYTHONDONTWRITEBYTECODE=1,)
LAB := $(ROOT) $(BIN)/python -m tests.lab
# The package has these inside; whatever runs from the checkout has them in its environment.
VENDORED := pip install --quiet --disable-pip-version-check --no-deps \
	-r .config/requirements/vendored.txt
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider
say = @printf '\n== %s\n' "$(1)"

.PHONY: lab lab-down test check lint types unit deb bench prerequisites
.PHONY: test-alone-all test-aside test-machines test-system test-package test-fleet test-lab test-molecule

lab: prerequisites deb
	$(call say,three hosts and their LANs)
	@$(LAB) up
	$(call say,rolling out with site.yml)
	@$(LAB) deploy
	$(call say,cutting links)
	@$(LAB) demo

lab-down:
	@if [ -x $(BIN)/python ]; then $(LAB) down; else $(ROOT) python3 -m tests.lab down; fi

prerequisites:
	@.config/install-prerequisites python deb lab

# ansible-core 2.19 needs Python 3.11 or later on the controller; the agent needs only 3.8.
build/venv/ready: .config/requirements/dev.txt .config/requirements/unit.txt \
		.config/requirements/vendored.txt
	@.config/install-prerequisites python
	$(call say,tools in build/venv)
	@for python in python3 python3.11 python3.12 python3.13; do \
		if $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
		then $$python -m venv --clear build/venv && exit; fi; \
	done; \
	echo "The tools need Python 3.11 or later with its venv module; install python3.11-venv." >&2; \
	exit 1
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r .config/requirements/dev.txt
	@$(BIN)/python -m $(VENDORED)
	@touch $@

lab deb bench check lint types unit test-alone-all test-aside test-machines test-system test-package test-fleet test-lab test-molecule: build/venv/ready

lint: prerequisites
	$(call say,lint)
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --no-cache --check .
	@$(BIN)/yamllint -c .config/yamllint --strict .
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint -q --offline

types:
	$(call say,types)
	@$(BIN)/mypy --no-incremental --cache-dir /dev/null

unit:
	$(call say,unit tests)
	@$(BIN)/python -m tests.interpreters --ends

check: lint types unit

deb: prerequisites
	$(call say,package)
	@agent/build-deb

test-system: prerequisites
	@.config/install-prerequisites system
	@.config/install-prerequisites monitor || \
		echo "NOT TESTED: the exporter beside Prometheus and Chromium, which are not to be had here"
	@$(MAKE) --no-print-directory build/venv/calls || \
		echo "NOT TESTED: a WebRTC call, as aiortc is not to be had here"
	$(call say,system tests in network namespaces)
	@$(ROOT) $(PYTEST) -n $$(nproc) -m "not alone" --in-turn tests/system
	$(call say,those that measure load and time)
	@$(ROOT) $(PYTEST) -m alone --in-turn tests/system

# Those too that take turns in `make test`: each of them runs there every third day.
test-alone-all: prerequisites
	@.config/install-prerequisites system
	$(call say,all tests that measure load and time)
	@$(ROOT) $(PYTEST) -m "alone or rotates" tests/system

test-package: prerequisites deb
	@.config/install-prerequisites capture
	$(call say,package tests)
	@$(ROOT) $(PYTEST) -n 2 --dist loadfile tests/package

test-fleet: prerequisites deb
	$(call say,fleet tests)
	@$(ROOT) $(PYTEST) tests/fleet

test-lab: prerequisites deb
	$(call say,the lab)
	@$(ROOT) $(PYTEST) tests/lab

# Three Debian releases, a change that cuts a host off, and the way back.
test-molecule: prerequisites deb
	$(call say,the roles on three releases)
	@$(ROOT) env PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test

# All with machines of their own, one after the other.
test-machines: prerequisites deb
	@.config/install-prerequisites capture
	$(call say,the roles on three releases)
	@$(ROOT) env PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test
	$(call say,package tests)
	@$(ROOT) $(PYTEST) -n 2 --dist loadfile tests/package

# Tests that mostly compute: run while machines boot and wait.
test-aside: prerequisites deb
	$(call say,unit tests on another interpreter each day)
	@nice $(BIN)/python -m tests.interpreters --in-turn
	$(call say,fleet tests)
	@$(ROOT) nice $(PYTEST) tests/fleet

test: prerequisites
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory deb
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=line test-machines test-aside
	@$(MAKE) --no-print-directory test-system
	@$(MAKE) --no-print-directory test-lab
	$(call say,all tests passed)

# What the WebRTC call of a system test and of tests.emulator is made with.
build/venv/calls: .config/requirements/calls.txt build/venv/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Libraries that draw the result; nothing else needs them.
build/venv/bench: .config/requirements/bench.txt build/venv/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# The agents run on the system's own Python, as the package does, with libraries from PyPI.
build/venv-agent/ready: pyproject.toml .config/requirements/vendored.txt
	@/usr/bin/python3 -m venv --clear build/venv-agent
	@build/venv-agent/bin/python -m pip install --quiet --disable-pip-version-check \
		cryptography jsonschema PyYAML
	@build/venv-agent/bin/python -m $(VENDORED)
	@touch $@

bench: prerequisites build/venv/bench build/venv-agent/ready
	@.config/install-prerequisites bench
	$(call say,benchmark)
	@$(ROOT) $(BIN)/python -m tests.bench $(BENCH)
