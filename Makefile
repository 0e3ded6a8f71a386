# The verbs of this project. Each makes what it needs in .venv; `make` alone lists them.
# Needs make and a Python >= 3.11 with venv. Choose another with: make PYTHON=/path/to/python test

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

# The newest interpreter that can make a virtual environment and has SQLite.
PROBE := import sys, venv, ensurepip, sqlite3; sys.exit(sys.version_info < (3, 11))
FIND_PYTHON = for python in python3.15 python3.14 python3.13 python3.12 python3.11 python3 python; do \
	if "$$python" -c '$(PROBE)' >/dev/null 2>&1; then echo "$$python"; break; fi; done

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint types docs bench clean

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 16

demo: $(VENV)/.demo  ## watch the cache at work on real data, in under a minute
	@$(BIN)/python -m examples.demo $(ARGS)

test: $(VENV)/.test  ## the whole suite: SQLite, an embedded Valkey server, random order, strict
	$(BIN)/python -m pytest $(ARGS)

test-all: $(VENV)/.nox  ## all versions, databases and servers that this machine has, and one table
	@rm -rf .nox/results .nox/report.json; mkdir -p .nox
	@$(BIN)/nox --report .nox/report.json -- $(ARGS) || true
	@$(BIN)/python -m tests.matrix_table .nox/report.json .nox/results

lint: $(VENV)/.lint  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.types  ## mypy, strict: the package, and code of users with its plugin
	$(BIN)/mypy $(ARGS)
	$(BIN)/python -m tests.typing.run

docs: $(VENV)/.docs  ## the documentation, warnings are errors: docs/_build/html/index.html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html $(ARGS)

bench: $(VENV)/.demo  ## time it beside its peers, some minutes (ARGS=--help)
	$(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove what the verbs made
	rm -rf $(VENV) .nox build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.base:
	@python="$(PYTHON)"; [ -n "$$python" ] || python="$$($(FIND_PYTHON))"; \
	if [ -z "$$python" ]; then \
		echo "No Python >= 3.11 with venv and sqlite3 was found. Install one" \
			"(Debian: apt install python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version) (once)"; \
	"$$python" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade "pip>=25.1"
	@touch $@

# One stamp for each dependency group; a changed pyproject.toml installs again.
$(VENV)/.demo $(VENV)/.test $(VENV)/.lint $(VENV)/.types $(VENV)/.docs $(VENV)/.nox: $(VENV)/.%: $(VENV)/.base pyproject.toml
	@echo "Installing the package and what 'make $*' needs"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable . --group $*
	@touch $@
