# make demo | test | check | format | clean.  PYTHON names the interpreter that .venv is made from (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_FLAGS ?=
DEMO_DB ?= demo.db

# Without an NVIDIA driver the CPU builds of torch and triton are taken, first and by exact version: torch's own
# requirements would otherwise bring gigabytes of CUDA libraries. pip's own configuration says where they are found.
CONSTRAINTS := $(shell if [ -e /proc/driver/nvidia/version ] || [ -e /dev/nvidiactl ] || [ -e /dev/dxg ]; then :; else echo constraints/cpu.txt; fi)

.PHONY: help demo test gpu-test check format docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up .venv where it is missing, then search for a faster rms_norm (under 3 minutes on 2 cores)"
	@echo "make test    set up .venv where it is missing, then run every test that this machine can run"
	@echo "make check   ruff, ruff format, mypy --strict, import-linter"
	@echo "make format  let ruff rewrite the code · make docs: write docs/cli.md again · make clean: remove .venv and caches"

$(STAMP): pyproject.toml constraints/cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(if $(CONSTRAINTS),$(BIN)/pip install -q -r $(CONSTRAINTS))
	$(BIN)/pip install -q $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/kernelgrove run rms_norm --model rules --seed 1 --budget-time 140s --db $(DEMO_DB)

# Two at a time: a file of tests stays in one process.
test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile $(PYTEST_FLAGS)

gpu-test: $(STAMP)
	$(BIN)/pytest -m gpu $(PYTEST_FLAGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python docs/make_cli.py > docs/cli.md
	$(BIN)/python docs/make_exploits.py > docs/exploits.md

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
