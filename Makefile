# Two commands do everything on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := modes state supervisor trainers tests docs benchmarks
# What tests of real boots, disks and shims need; without them, these are skipped, and say so.
DEBIAN := systemd-container dbus libpam-systemd e2fsprogs xfsprogs gcc libc6-dev vim-tiny

.PHONY: run test lint format clean

run: $(VENV)/run
	-@$(BIN)/supervisor tune --once
	@exec $(BIN)/supervisor run

test: $(VENV)/test $(VENV)/debian lint
	$(BIN)/python -m pytest

lint: $(VENV)/test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/test
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf $(VENV) *.egg-info build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/python: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or later is needed: make PYTHON=/path/to/python3.11 run' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { echo 'Python cannot make a venv yet; as root: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run: $(VENV)/python pyproject.toml constraints.txt
	@echo 'Setting up: a few minutes, once.'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[atari,live,completion]'
	@touch $@

$(VENV)/test: $(VENV)/run
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[atari,live,completion,dev]'
	@touch $@

# Only root on Debian can install packages, and only the tests want these.
$(VENV)/debian: $(VENV)/python
	@if dpkg -s $(DEBIAN) >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Installing Debian packages for the tests: $(DEBIAN)'; \
		{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
			apt-get -qq install -y --no-install-recommends $(DEBIAN) >/dev/null; } \
			|| echo 'They could not be installed: some tests will be skipped.' >&2; \
	else echo 'Some tests will be skipped; as root: apt-get install $(DEBIAN)' >&2; fi
	@touch $@
