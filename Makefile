# Bare `make` prints this help. Everything rests on `make setup`; what a run writes goes under build/.

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.ready
LOCK    := requirements/dev.txt
# torch, vLLM and transformers have an environment of their own: docs/vllm-environment.md says what pip must see for it.
VLLM_VENV  := .venv-vllm
VLLM_BIN   := $(VLLM_VENV)/bin
VLLM_LOCK  := requirements/vllm.txt
VLLM_TESTS := tests/vllm tests/unit/appliance/engine/test_vllm_sampling.py
LOCK_TOOLS := build/lock-tools
KERNELS := setup.py appliance/engine/fixed/kernels_build.py $(wildcard appliance/engine/fixed/kernels/*.[ch] appliance/engine/sampling/*.[ch])
# Which tests an environment without more than `make setup` has, and which of them are quick (docs/testing.md).
HERE     := not vm and not image and not vllm and not torch and not node
NEWCOMER := $(HERE) and not browser and not full
FUZZ_SECONDS ?= 10
PAIRS   ?= 200000
PROFILE ?= release
ENGINE  ?= fixed
CELLS   ?= 1
SIZES   ?= 19M 160M
DEMO    := $(if $(filter torch vllm,$(ENGINE)),$(VLLM_VENV),$(VENV))

.DEFAULT_GOAL := help
.PHONY: $(shell awk -F ':' '/^[a-z-]+:.*\#\# / {print $$1}' $(MAKEFILE_LIST))

help: ## Print this help
	@echo "Anchorhold: a sealed VM beside a blockchain replica. What make can do:"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Start with \`make demo\`, then \`make test\`."

setup: $(STAMP) ## Make .venv with the anchorhold command and everything locked in requirements/

$(STAMP): $(LOCK) pyproject.toml $(KERNELS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VLLM_VENV)/.fetched: $(VLLM_LOCK)
	$(PYTHON) -m venv --clear $(VLLM_VENV)
	$(VLLM_BIN)/pip install --quiet --disable-pip-version-check --log $(VLLM_VENV)/fetching.log \
		--no-deps --require-hashes -r $(VLLM_LOCK)
	@touch $@

$(VLLM_VENV)/.ready: $(VLLM_VENV)/.fetched pyproject.toml $(KERNELS)
	$(VLLM_BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VLLM_VENV)/.peers: requirements/peers-build.txt requirements/peers.txt $(VLLM_VENV)/.ready
	$(VLLM_BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/peers-build.txt
	$(VLLM_BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --require-hashes -r requirements/peers.txt
	@touch $@

demo: $(DEMO)/.ready ## Run the whole path on this machine; ENGINE=scripted, fixed (the default), torch or vllm
	$(DEMO)/bin/anchorhold demo --engine $(ENGINE)

image: setup ## Make the sealed image of locked inputs, PROFILE=release (the default) or dev, below build/image/
	$(BIN)/anchorhold image build --profile $(PROFILE) $(if $(CONFIG),--config $(CONFIG))
	$(BIN)/anchorhold image check build/image/$(PROFILE)

up: setup ## A local Internet Computer with all of the product on it, until Ctrl-C; ENGINE=fixed or scripted, CELLS=1
	$(BIN)/anchorhold devnet up --engine $(ENGINE) --cells $(CELLS)

demo-governance: setup ## Propose a release, vote, release its key, follow a receipt back, withdraw it
	$(BIN)/python -m devnet.demo.governance

test: setup ## What a change must pass: linters, types, every test that needs no more than `make setup`; T=PATH runs some
ifdef T
	$(BIN)/python -m pytest -m "$(NEWCOMER)" $(if $(wildcard $(firstword $(subst ::, ,$(T)))),$(T),-k "$(T)")
else
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -n auto --dist worksteal --ignore tests/vllm -m "$(NEWCOMER)"
endif

test-all: setup ## What `make test` leaves out: full samples, booted machines, image, vLLM, canisters, browser, fuzzers
	ANCHORHOLD_FULL=1 $(BIN)/python -m pytest -n auto --dist worksteal --ignore tests/vllm -m "(sized or full or browser) and $(HERE)"
	@if $(MAKE) --no-print-directory $(VLLM_VENV)/.fetched; then $(MAKE) --no-print-directory vllm; \
		elif grep -qs "DO NOT MATCH THE HASHES" $(VLLM_VENV)/fetching.log; then exit 1; \
		elif [ "$${ANCHORHOLD_REQUIRE_ALL:-0}" != 0 ]; then exit 1; \
		else echo "vllm: unavailable here; its tests, and the demo with it, are skipped"; fi
	@$(BIN)/anchorhold image kernel || echo "kernel: unavailable here; the tests of the sealed machine say that they skip"
	@$(BIN)/python -m image_build.boot.vm_tools || echo "vm-tools: unavailable here; the tests of a booted guest say that they skip"
	$(BIN)/python -m pytest -m vm tests/vm tests/attack
	@$(BIN)/anchorhold image build || echo "image: unavailable here; the test of a whole image says that it skips"
	$(BIN)/python -m pytest -m image tests/image
	$(MAKE) --no-print-directory gateway-check
	$(MAKE) --no-print-directory fuzz

vllm: $(VLLM_VENV)/.ready ## Make .venv-vllm with torch and vLLM for the CPU, locked, and run what needs them
	$(VLLM_BIN)/python -m pytest -m vllm $(VLLM_TESTS)
	$(VLLM_BIN)/python -m pytest -n auto -m torch

test-cells: setup ## Thirteen cells, 200 sealed prompts, kills and cuts in between: one set of bytes
	ANCHORHOLD_CELLS=13 ANCHORHOLD_PROMPTS=200 $(BIN)/python -m pytest tests/e2e/test_cells_agree.py

test-vm: setup vm-tools kernel ## Boot a guest and speak with it over AF_VSOCK; fails where it cannot
	ANCHORHOLD_REQUIRE_ALL=1 $(BIN)/python -m pytest -m vm tests/vm

test-image: setup image ## Build a release twice, by two who share nothing, and hold it to its rules; fails where it cannot
	ANCHORHOLD_REQUIRE_ALL=1 $(BIN)/python -m pytest -m image tests/image

kernel: setup ## Have the guest kernel: built once for its inputs, kept in ~/.cache (eight minutes of processor time)
	$(BIN)/anchorhold image kernel

kernel-again: setup ## Build the guest kernel anew and hold it against the digest that is stated in image_build/kernel/
	$(BIN)/anchorhold image kernel --again

vm-tools: setup ## Fetch and unpack what boots that guest: locked Debian packages, no root, nothing installed
	$(BIN)/python -m image_build.boot.vm_tools

attack: setup ## Try every attack on what runs here, a line each; PROVE=1: each without its defence; NAMES="order broker"
	@$(BIN)/python -m image_build.boot.vm_tools || echo "vm-tools: unavailable here; attacks on the booted machine say that they were not tried"
	@$(BIN)/anchorhold image kernel || echo "kernel: unavailable here; the same"
	$(BIN)/python -m tests.attack $(if $(PROVE),--prove) $(NAMES)

check: setup ## Linters, formatter and types alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

pairs: setup ## Generated requests and answers through a cell, PAIRS of them (default 200000): each ends in a receipt
	$(BIN)/python -m tests.text_pairs --pairs $(PAIRS)

fuzz: setup ## Coverage-guided fuzzing of every parser, FUZZ_SECONDS each (default 10)
	$(BIN)/python -m tests.fuzz.drive --seconds $(FUZZ_SECONDS)

bench: setup ## Every benchmark, as ratios side by side (figures: docs/benchmarks/)
	$(BIN)/python -m bench

peers: setup $(VLLM_VENV)/.peers ## The engine beside vLLM, transformers and llama.cpp (needs a C++ compiler); SIZES="19M 160M"
	$(BIN)/python -m bench.engine --peers $(CURDIR)/$(VLLM_BIN)/python --sizes $(SIZES)

gateway: ## Compile both canisters (needs node); changes gateway.wasm, governance.wasm and their digests
	cd gateway && npm ci --no-audit --no-fund --loglevel=error && node build.mjs && node examples/build.mjs
	cd governance && node build.mjs

gateway-check: setup ## Prove that both checked-in canisters are what their sources compile to; what needs Node
	cd gateway && npm ci --no-audit --no-fund --loglevel=error && node build.mjs --check && node examples/build.mjs --check
	cd governance && npm ci --no-audit --no-fund --loglevel=error && node build.mjs --check
	ANCHORHOLD_REQUIRE_ALL=1 $(BIN)/python -m pytest -q -p no:xdist --ignore tests/vllm -m node

little-model: $(VLLM_VENV)/.ready ## Make the little model anew (some minutes) and compare every byte with what is checked in
	$(VLLM_BIN)/python -m devnet.little_model --check

$(LOCK_TOOLS)/.ready: requirements/lock-tools.txt
	$(PYTHON) -m venv --clear $(LOCK_TOOLS)
	$(LOCK_TOOLS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock-tools.txt
	@touch $@

locks: $(LOCK_TOOLS)/.ready ## Resolve requirements/*.txt anew from pyproject.toml, with Python 3.11
	requirements/lock.sh $(CURDIR)/$(LOCK_TOOLS)/bin

clean: ## Remove what was built, the environment included
	rm -rf build $(VENV) $(VLLM_VENV) *.egg-info gateway/node_modules governance/node_modules tests/clients/node_modules
