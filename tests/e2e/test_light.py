"""What the daemon does not carry around with it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from testkit.machine import Machine
from testkit.patience import PATIENCE_S

THIRD_PARTIES = {"msgspec", "psutil", "six", "tinydb", "transitions", "watchdog"}
"""all that the daemon may import that is neither Python's nor ours; six comes with transitions"""
PERHAPS = {"typing_extensions"}
"""msgspec takes it where something else has brought it"""
HEAVY = {
    "_hashlib",  # OpenSSL
    "asyncio",
    "concurrent",
    "email",
    "http",
    "multiprocessing",
    "ssl",
}
"""of Python's own"""
OURS = {"modes", "state", "supervisor", "trainers", "training_supervisor"}
LIFE = """\
import json, sys
before = set(sys.modules)
from supervisor.cli import main
code = main(["run", "--plain"])
print(json.dumps(sorted(set(sys.modules) - before)))
sys.exit(code)
"""


def test_the_daemon_stays_light(machine: Machine) -> None:
    """From its start to its end, with a trainer in between, it loads what it may and no more."""
    daemon = subprocess.Popen(
        [sys.executable, "-c", LIFE],
        env=machine.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    machine.daemons.append(daemon)
    machine.until_steps("A")
    daemon.send_signal(signal.SIGTERM)
    said, _ = daemon.communicate(timeout=PATIENCE_S)
    assert daemon.returncode == 0
    loaded = {name.partition(".")[0] for name in json.loads(said.splitlines()[-1])}
    assert loaded - sys.stdlib_module_names - OURS - PERHAPS == THIRD_PARTIES
    assert not loaded & HEAVY


ONE = """\
import json, sys
from supervisor.cli import main
code = main(sys.argv[1:])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
sys.exit(code)
"""
OF_JOBS = {"alembic", "anyio", "psycopg", "sqlalchemy", "starlette", "uvicorn"}
"""what the job store and its API bring with them"""


@pytest.mark.parametrize("words", [("show-state",), ("runs",), ("get-mode",), ("jobs",)])
def test_a_command_about_no_job_imports_nothing_of_jobs(
    machine: Machine, words: tuple[str, ...]
) -> None:
    """Whoever asks for the state waits for no database."""
    said = subprocess.run(
        [sys.executable, "-c", ONE, *words],
        env=machine.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert not set(json.loads(said.stdout.splitlines()[-1])) & OF_JOBS


def test_the_api_stays_light() -> None:
    """What makes tables and what analyses them is imported by processes that end again."""
    code = "import sys, supervisor.serving; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    loaded = {name.partition(".")[0] for name in said.stdout.split()}
    assert not loaded & {"alembic", "mako", "numpy", "pandas", "psycopg", "pyarrow", "torch"}
