# `make demo` shows the whole path on a synthetic machine; `make test` is what CI runs.
# Overridable: PYTHON (interpreter that makes .venv), PIP_FLAGS, DATA (real
# recordings for the demo, in place of synthetic ones), DEMO (arguments of `auscult demo`),
# FAULTS and SOAK (arguments of the campaign and the soak, see docs/notes/faults.md), ATTACK (of pytest), BENCH (those of
# the benchmarks: `--only agent bank`).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?= --no-compile
DATA =
DEMO ?=
PLANT_DATA ?=
# Many tests wait (for a broker, a microphone, a time-out), so more run at once than there are cores.
PARALLEL ?= -n 3 --dist loadfile
FAULTS ?=
ATTACK ?=
SOAK ?=
FUZZ ?=
BENCH ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq $(PIP_FLAGS)
MADE := $(VENV)/.made
TRAIN := $(VENV)/.installed-train
DEV := $(VENV)/.installed-dev
SYSTEM := $(VENV)/.system-packages
BROWSER := $(VENV)/.browser
HOME_ASSISTANT := .home-assistant
# What fixes the environment: when one of these changes, it is installed anew.
LOCKED := pyproject.toml constraints.txt $(wildcard packaging/requirements-*.txt)
# Every package is held against the digests in packaging/ (hash-checking mode of pip); then auscult itself is
# installed without its dependencies. A PyTorch of your own source (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL: a CPU
# build, a mirror's) is taken from there as it is, and that is said.
HASHED := --require-hashes --no-build-isolation
OWN_TORCH := $(PIP_FIND_LINKS)$(PIP_EXTRA_INDEX_URL)

# What a PyTorch of your own source has to be.
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)
# Not needed to run auscult: the tests listen through a virtual microphone and a
# second broker, and boot a systemd.
SYSTEM_PACKAGES := mosquitto mosquitto-clients libportaudio2 pulseaudio pulseaudio-utils libasound2-plugins systemd-container ffmpeg openssl prometheus
# For the slow tests that install auscult on a bare Debian, as a package and as a container.
INSTALL_PACKAGES := debootstrap slirp4netns debhelper dpkg-dev python3-venv lintian buildah

.PHONY: help venv wheel demo demo-plant docs site test test-all test-faults test-attack test-fuzz test-soak home-assistant bench check-device lint format lock deb check-python clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

check-python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed. Install Python 3.10 or newer, or name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$$($(PYTHON) --version) is too old: auscult needs 3.10 or newer. Name a newer one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks the venv module. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }

$(MADE): | check-python
	@test -x $(BIN)/python || { echo "Making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@touch $@

TAKE_TORCH = echo 'PyTorch comes from your own source (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL), without a digest' && $(PIP) --no-deps $(TORCH)
# $(call install,KINDS,EXTRA): the requirements of these kinds, then auscult.
define install
	@$(PIP) --require-hashes -r packaging/requirements-build.txt
	@$(if $(OWN_TORCH),$(TAKE_TORCH))
	@$(PIP) $(HASHED) $(foreach kind,$(1) $(if $(OWN_TORCH),,torch),-r packaging/requirements-$(kind).txt)
	@$(PIP) --no-deps --no-build-isolation -e .
endef

$(TRAIN): $(LOCKED) $(MADE) | check-python
	@echo "Installing auscult with its training packages into $(VENV) (packaging/requirements-*.txt; the largest is PyTorch)"
	$(call install,agent train)
	@touch $@

$(DEV): $(LOCKED) $(MADE) | check-python
	@echo "Installing auscult with its development packages into $(VENV) (packaging/requirements-*.txt)"
	$(call install,agent train plant dev)
	@touch $@ $(TRAIN)

# As root with apt-get, fetch what is missing; anywhere else the tests that need it skip and say so.
$(SYSTEM): $(MADE)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { PATH="$$PATH:/usr/sbin" command -v mosquitto && command -v mosquitto_sub && command -v ffmpeg && command -v openssl && command -v pulseaudio && command -v pactl && command -v systemd-nspawn && command -v promtool; } >/dev/null; then \
	  echo "Installing system packages for the tests: $(SYSTEM_PACKAGES)"; \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(SYSTEM_PACKAGES); } >/dev/null 2>&1 \
	  || echo "They could not be installed: tests that need them will be skipped." >&2; \
	fi
	@touch $@

# Only the slow tests look at the device's page.
$(BROWSER): $(SYSTEM)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v chromium && command -v chromedriver; } >/dev/null; then \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium chromium-driver >/dev/null 2>&1 \
	  || echo "No Chromium could be installed: the page will not be tested in a browser." >&2; \
	fi
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { PATH="$$PATH:/usr/sbin" command -v debootstrap && command -v slirp4netns && command -v dh && command -v lintian && command -v buildah; } >/dev/null; then \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(INSTALL_PACKAGES) >/dev/null 2>&1 \
	  || echo "Not installed: $(INSTALL_PACKAGES). Installing on a bare Debian will not be tested." >&2; \
	fi
	@touch $@

venv: $(TRAIN) ## Make .venv with auscult and its training packages

demo: $(TRAIN) ## Synthesize a machine, train, export, listen, raise the alarm, report (about 3 minutes)
	@$(BIN)/auscult demo $(if $(DATA),--data "$(DATA)") $(DEMO)

# PLANT_DATA: three of NAME=FOLDER with real recordings (each folder with normal/), in place of made sound.
demo-plant: $(DEV) $(SYSTEM) ## Learn three machines, roll out, kill a device, put a bad bundle back (5 minutes)
	@rm -rf auscult-plant-demo
	@PATH="$$PATH:/usr/sbin" $(BIN)/auscult plant demo $(foreach one,$(PLANT_DATA),--machine "$(one)") $(DEMO)

lint: $(DEV) ## Style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(DEV) ## Let ruff format and mend what it can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

docs: $(DEV) ## Write the generated pages of docs/ anew
	@$(BIN)/python -m tools

site: $(DEV) ## Build docs/ as a web site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "site/index.html"

test: lint $(SYSTEM) ## What CI runs: lint, then every test that takes seconds
	PATH="$$PATH:/usr/sbin" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not attack" $(PARALLEL)

test-all: lint $(BROWSER) ## The same, with the tests that take minutes
	PATH="$$PATH:/usr/sbin" $(BIN)/python -m pytest

home-assistant: $(HOME_ASSISTANT)/.installed ## Home Assistant's own core, which tests/system/test_home_assistant.py runs (Python 3.13; 500 MB)

# In an environment of its own: it wants another Python, and other versions, than auscult.
$(HOME_ASSISTANT)/.installed:
	@command -v python3.13 >/dev/null || { echo "Home Assistant needs Python 3.13" >&2; exit 1; }
	@python3.13 -m venv $(HOME_ASSISTANT)
	@$(HOME_ASSISTANT)/bin/python -m pip --disable-pip-version-check install -qq homeassistant==2025.1.4 paho-mqtt==1.6.1
	@touch $@

test-faults: $(DEV) $(SYSTEM) ## Broker outages, kill -9, unplugging, full disk, clock, damage: nothing may be lost (10 minutes)
	PATH="$$PATH:/usr/sbin" PYTHONPATH=tests $(BIN)/python -m faults.campaign $(FAULTS)

test-attack: $(DEV) $(SYSTEM) ## Signing, commands, page, delivery attacked on a running agent: every line must hold (10 minutes)
	PATH="$$PATH:/usr/sbin" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m attack -p no:cacheprovider -q tests/attack $(ATTACK)

test-fuzz: $(DEV) ## Fuzz every parser that outsiders reach, a minute each (FUZZ: --seconds, targets); goes on where it was
	@$(PIP) $(HASHED) $(foreach kind,agent train plant dev fuzz,-r packaging/requirements-$(kind).txt)
	@$(BIN)/python -m tests.faults.fuzz --state fuzz-state $(FUZZ)

test-soak: $(DEV) $(SYSTEM) ## 7 days of windows as fast as possible: nothing may grow (20 minutes or so)
	PATH="$$PATH:/usr/sbin" PYTHONPATH=tests $(BIN)/python -m faults.soak $(SOAK)

bench: $(DEV) ## Measure what everything costs, in a quick form: a table, and JSON named by the commit (10 minutes)
	@$(BIN)/python benchmarks $(BENCH)

check-device: $(TRAIN) ## Do the agent's packages exist for a Jetson (Python 3.10, aarch64)?
	@into=$$(mktemp -d) && $(BIN)/python -c 'import tomllib, re; print("\n".join(d for d in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]))' > "$$into/needs.txt" \
	  && $(BIN)/python -m pip --disable-pip-version-check download -qq --only-binary=:all: --python-version 3.10 --implementation cp \
	    $(foreach glibc,17 27 28 34 35,--platform manylinux_2_$(glibc)_aarch64) --platform manylinux2014_aarch64 \
	    -c constraints.txt -r "$$into/needs.txt" -d "$$into/wheels" \
	  && ls "$$into/wheels" && rm -rf "$$into"

lock: $(MADE) ## Choose all versions anew: constraints.txt, packaging/requirements-*.txt
	@$(PIP) uv
	@$(BIN)/python -m tools.lock

wheel: $(DEV) ## A wheel in dist/, and the bill of materials of what it needs on a device (CycloneDX)
	@$(PIP) $(HASHED) $(foreach kind,agent train plant dev release,-r packaging/requirements-$(kind).txt)
	@rm -rf dist && $(BIN)/python -m pip wheel -qq --no-deps --no-build-isolation -w dist .
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
	  -o dist/auscult.cdx.json packaging/requirements-agent.txt
	@ls dist

deb: ## A package for the Debian or Ubuntu this runs on, in dist/ (docs/guide/installing.md)
	@packaging/deb/build.sh

clean: ## Remove what was made here, .venv included
	rm -rf $(VENV) auscult-demo auscult-plant-demo build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
