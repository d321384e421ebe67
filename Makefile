# These do everything on a fresh machine: `make run`, beside it `make job`, and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := atari,sb3,live,completion,jobs
JOB_EXTRAS := $(EXTRAS),tabular
TEST_EXTRAS := $(EXTRAS),notify,tables,tabular,direction,neural,postgresql,usage,dev
SOURCES := supervised.py training_supervisor.py modes state supervisor trainers testkit tests docs benchmarks
# What tests of real boots, disks, cron, shells, shims, databases and browsers need; without them, these are skipped, and say so.
DEBIAN := systemd-container dbus libpam-systemd cron zsh fish e2fsprogs xfsprogs gcc libc6-dev \
	vim-tiny mariadb-server postgresql chromium

.PHONY: run job test lint format clean set-up set-up-for-job set-up-for-tests debian FORCE

run: set-up
	-@$(BIN)/supervisor tune --once
	@exec $(BIN)/supervisor run --serve

# A first job, while `make run` goes on in another terminal.
job: set-up-for-job
	@exec $(BIN)/python docs/first_job.py

# Three processes, for two cores: in two of them, tests of real processes, disks and boots take turns,
# and mostly wait (tests/conftest.py).
test: lint
	$(BIN)/python -m pytest -n 3 --durations=20

lint: set-up-for-tests
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: set-up-for-tests
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf $(VENV) *.egg-info build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Two at once would spoil each other's work: the second waits, and finds everything done.
set-up:
	@flock -o Makefile $(MAKE) --no-print-directory $(VENV)/run

set-up-for-job:
	@flock -o Makefile $(MAKE) --no-print-directory $(VENV)/job

set-up-for-tests:
	@flock -o Makefile $(MAKE) --no-print-directory $(VENV)/test debian

# A file in $(VENV) says that a part of the set-up has ended once. Whether all of it still holds,
# only a look can tell: the Python below may be gone, or another one than before, the checkout may
# have been moved or copied, packages may be missing.
define LOOK
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

venv, python = Path.cwd() / sys.argv[1], sys.argv[2]
extras = [*sys.argv[3].split(","), *["dev"] * (venv / "test").exists()]
extras += ["tabular"] * (venv / "job").exists()
if Path(sys.prefix) != venv or f"{venv}/bin/python" not in (venv / "bin/supervisor").read_text():
    sys.exit("it was made in another place")
needs = distribution("training-supervisor").requires or ()
if Path(find_spec("supervisor").origin).parents[1] != venv.parent:  # found, and not run
    sys.exit("it runs another checkout")
if python not in ("", f"{sys.base_prefix} {sys.version}"):
    sys.exit(f"it is of another Python, {sys.base_prefix}")
for line in needs:
    wanted = Requirement(line)
    if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
        if (has := distribution(wanted.name).version) not in wanted.specifier:
            sys.exit(f"it has {wanted.name} {has}, and needs {wanted.specifier}")
endef
export LOOK
# A Python that was named is the one that is wanted; else the one that is there will do.
NAMED = $(if $(filter file,$(origin PYTHON)),,$$($(PYTHON) -c 'import sys; print(sys.base_prefix, sys.version)'))
IT_HOLDS = $(BIN)/python -I -c "$$LOOK" $(VENV) "$(NAMED)" $(EXTRAS)

$(VENV)/python: FORCE
	@trouble=; \
	if [ -e $(VENV)/cut-off ]; then trouble='an installation was cut off'; \
	elif [ -e $@ ]; then trouble=$$($(IT_HOLDS) 2>&1) && exit; fi; \
	[ -z "$$trouble" ] || echo "$(VENV) is made anew: $$(echo "$$trouble" | tail -n 1)" >&2; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or later is needed: make PYTHON=/path/to/python3.11 run' >&2; exit 1; }; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { echo 'Python cannot make a venv yet; as root: apt-get install python3-venv' >&2; exit 1; }; \
	$(PYTHON) -m venv --clear $(VENV) && touch $@

# What is cut off in here begins from nothing the next time. So does what fails, unless all that was
# there before still holds, as it does where the network is away.
define install
	@touch $(VENV)/cut-off
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(1)]' \
		|| { $(IT_HOLDS) 2>/dev/null && rm $(VENV)/cut-off; exit 1; }
	@sync
	@touch $@
	@rm $(VENV)/cut-off
endef

$(VENV)/run: $(VENV)/python pyproject.toml constraints.txt
	@echo 'Setting up: a few minutes, once.'
	$(call install,$(EXTRAS))

$(VENV)/job: $(VENV)/run
	@echo 'Setting up what learns tables: a minute, once.'
	$(call install,$(JOB_EXTRAS))

$(VENV)/test: $(VENV)/run
	$(call install,$(TEST_EXTRAS))

# Only root on Debian can install packages, and only the tests want these.
debian:
	@if dpkg -s $(DEBIAN) >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Installing Debian packages for the tests: $(DEBIAN)'; \
		{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
			apt-get -qq install -y --no-install-recommends $(DEBIAN) >/dev/null; } \
			|| echo 'They could not be installed: some tests will be skipped.' >&2; \
	else echo 'Some tests will be skipped; as root: apt-get install $(DEBIAN)' >&2; fi
