# The two commands of the README. `make up ARGS="--port 9000"` passes options on to `docfleet up`.
# PYTHON chooses the interpreter that .venv is made with: make up PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
ARGS ?=
# Most tests wait for servers, so more run side by side than there are cores; make test ARGS=-n0 runs one after the other.
SIDE_BY_SIDE := -n 3 --durations=10

.PHONY: up test

up: $(VENV)/installed-local
	@exec $(VENV)/bin/docfleet up $(ARGS)

test: $(VENV)/installed-test
	@echo "make test: system packages that tests use" && .ci/system-packages
	@echo "make test: ruff" && $(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check --quiet .
	@echo "make test: mypy" && $(VENV)/bin/mypy
	@echo "make test: import-linter" && $(VENV)/bin/lint-imports
	@echo "make test: pytest" && $(VENV)/bin/pytest $(SIDE_BY_SIDE) $(ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "docfleet needs Python 3.11 or newer as $(PYTHON); name another with: make PYTHON=python3.12" >&2; exit 2; }
	@echo "make: creating $(VENV)" && $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 2; }

# Editable, so that the code that runs is the code that stands here; made again when the dependencies change.
$(VENV)/installed-%: pyproject.toml | $(VENV)/bin/python
	@echo "make: installing docfleet[$*] into $(VENV) (the first time this fetches PyTorch: some minutes)"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
