"""The lab itself: whatever becomes of the tests, this machine is as it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from testkit.boot_lab import Lab, leftovers
from testkit.patience import until

ALIVE = """
import sys, time
sys.path[:0] = sys.argv[1:]
from testkit.boot_lab import Lab
lab = Lab()
machine = lab.machine()
machine.boot()
print(lab.folder.name, flush=True)
time.sleep(1e6)  # until it is killed
"""


def test_a_lab_whose_tests_were_killed_leaves_nothing(lab: Lab) -> None:
    """After `kill -9` of the test process no process, mount, cgroup or folder of it is left."""
    command = [sys.executable, "-c", ALIVE, str(Path(__file__).parents[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        name = tests.stdout.readline().strip()
        assert leftovers(name)
        tests.send_signal(signal.SIGKILL)
    until(lambda: not leftovers(name), f"nothing is left of {name}")
