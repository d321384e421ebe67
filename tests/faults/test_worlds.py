"""The worlds that these tests live in."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from testkit import worlds
from testkit.machine import Machine
from testkit.processes import is_held
from testkit.worlds import a_disk


def test_a_world_whose_tests_were_killed_leaves_nothing(machine: Machine, tmp_path: Path) -> None:
    """After `kill -9` of the tests no process, no mount and no loop device of them is left.

    Not even of those that a frozen disk holds, which nobody can kill before it is thawed.
    """
    if not worlds.can_be_made():
        pytest.skip("NOT TESTED: a world of its own; this needs root and new namespaces")
    machine.screen.touch()
    ear, mouth = os.pipe()
    mark = f"{4711.0 + os.getppid()}"  # an argument by which its process is found

    def body() -> None:
        disk = a_disk(tmp_path / "disk")
        subprocess.run(["setsid", "--fork", "sleep", mark], check=True)
        with disk.frozen():
            writer = os.fork()
            if writer == 0:
                (disk.path / "file").touch()
            machine.until(lambda: is_held(writer), "it cannot be killed")
            os.write(mouth, b"!")
            signal.pause()

    def living() -> list[Path]:
        found = []
        for words in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found += [words] if mark.encode() in words.read_bytes() else []
            except OSError:
                continue  # it has just ended
        return found

    def loops() -> str:
        image = tmp_path / "disk.image"
        return subprocess.check_output(["losetup", "--associated", image], text=True)

    tests = os.fork()
    if tests == 0:
        worlds.live(body, str)
        os._exit(0)
    os.close(mouth)
    assert os.read(ear, 1) == b"!"
    assert living()
    assert loops()
    os.kill(tests, signal.SIGKILL)
    os.waitpid(tests, 0)
    machine.until(lambda: not living(), "nobody lives")
    machine.until(lambda: not loops(), "the disk is gone")
