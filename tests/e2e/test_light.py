"""What the daemon does not carry around with it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from testkit.machine import Machine
from testkit.patience import PATIENCE_S

HEAVY = {
    "_hashlib",  # OpenSSL
    "asyncio",
    "concurrent",
    "email",
    "gymnasium",
    "http",
    "multiprocessing",
    "numpy",
    "pynvml",
    "rich",
    "ssl",
    "stable_baselines3",
    "structlog",
    "tensorboard",
    "torch",
}
LIFE = """\
import json, sys
from supervisor.cli import main
code = main(["run", "--plain"])
print(json.dumps(sorted(sys.modules)))
sys.exit(code)
"""


def test_the_daemon_stays_light(machine: Machine) -> None:
    """A whole life of a daemon, with a trainer started and stopped, loads nothing heavy."""
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
    assert {"tinydb", "transitions", "watchdog", "psutil"} <= loaded
    assert not loaded & HEAVY
