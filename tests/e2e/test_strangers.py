"""Limits of an account: a service whose group it is not in, and no further process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.machine import SETTINGS, Machine
from testkit.patience import PATIENCE_S

NOBODY = 65531
"""no test of another folder has processes of it: its limits hold for all that it has anywhere"""
RIGHTS = "-all,+dac_override"
AS_NOBODY = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    # To read this checkout and this Python, wherever they lie; it lifts no limit.
    f"--inh-caps={RIGHTS}", f"--ambient-caps={RIGHTS}", f"--bounding-set={RIGHTS}",
)  # fmt: skip
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="NOT TESTED: limits of a real account, which takes root and setpriv",
)
NO_INOTIFY = """\
import ctypes, os, sys
while ctypes.CDLL(None).inotify_init1(0) >= 0:
    pass
os.execv(sys.argv[1], sys.argv[1:])
"""
STRANGER = """\
import os, sys
from pathlib import Path
from supervisor import context
from supervisor.host import home
home.UNITS = Path(sys.argv[1]) / "units"
home.SYSTEM_HOME = context.SYSTEM_HOME = Path(sys.argv[1]) / "service"
os.access = lambda path, _mode: path != home.SYSTEM_HOME
from supervisor.cli import main
sys.exit(main(sys.argv[2:]))
"""


class Stranger:
    """Somebody on a machine with a service, whose home they may not enter."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "units").mkdir()
        (place / "units/training-supervisor.service").touch()

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", STRANGER, str(self.place), *words],
            env={"HOME": str(self.place), "PATH": os.environ["PATH"], "BOOT_ID": "b" * 32},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )


@pytest.mark.parametrize(
    "words", [("show-state",), ("get-mode",), ("decisions",), ("pause",), ("reset", "--yes")]
)
def test_a_stranger_hears_of_the_service(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Instead of an empty home of their own: where the service is, and how to get in."""
    answer = Stranger(tmp_path)(*words)
    assert (answer.returncode, answer.stdout) == (73, "")
    assert answer.stderr.count("\n") == 1
    assert str(tmp_path / "service") in answer.stderr
    assert "sudo" in answer.stderr
    assert not (tmp_path / ".local").exists()


def test_a_stranger_may_have_a_home_of_their_own(tmp_path: Path) -> None:
    """A home that holds a state is shown, and which one it is is said; a named one is meant."""
    stranger = Stranger(tmp_path)
    own = tmp_path / ".local/share/training-supervisor"
    assert stranger("--home", str(own), "reset", "--yes").stderr == ""
    answer = stranger("get-mode")
    assert (answer.returncode, answer.stdout) == (0, "light\n")
    assert answer.stderr.count("\n") == 1
    assert f"your own home, {own}" in answer.stderr
    assert stranger("--home", str(own), "get-mode").stderr == ""
    assert stranger("completion", "bash").stderr == ""


@pytest.fixture
def crowded() -> Iterator[Machine]:
    """The home of an account that may have a few processes and no more."""
    place = Path(tempfile.mkdtemp())  # where another account comes in
    place.chmod(0o755)
    machine = Machine(place / "home")
    machine.configure(SETTINGS.replace('["A", "B", "C", "D", "E"]', '["A", "B"]'))
    shutil.chown(machine.home, NOBODY, NOBODY)
    yield machine
    machine.crash()
    shutil.rmtree(place)


@needs_root
@pytest.mark.parametrize(
    "words", [("doctor",), ("check-config",), ("tune",), ("simulate", "--jobs", "2", "--days", "1")]
)
def test_a_command_that_gets_no_process_says_so(crowded: Machine, words: tuple[str, ...]) -> None:
    """One line, whatever it was that could not be started; what needs nothing works."""
    answer = subprocess.run(
        [*AS_NOBODY, "prlimit", "--nproc=1", sys.executable, "-m", "supervisor", *words],
        env=crowded.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert answer.returncode == 75, answer.stderr
    *_, said = answer.stderr.splitlines()
    assert "ulimit -u" in said
    assert "Traceback" not in answer.stderr


@needs_root
def test_a_supervisor_that_can_watch_no_file_goes_on(crowded: Machine) -> None:
    """With all inotify instances of its account in use, it trains, and says what is missing."""
    daemon = crowded.start(*AS_NOBODY, sys.executable, "-c", NO_INOTIFY)
    crowded.until_steps("A")
    crowded.until(lambda: crowded.events("watch.lost"), "it says so")
    assert "inotify" in crowded.events("watch.lost")[0]["reason"]
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(PATIENCE_S) == 0
    assert len(crowded.events("watch.lost")) == 1


@needs_root
def test_a_supervisor_that_gets_no_process_goes_on(crowded: Machine) -> None:
    """Each run tells that its trainer could not be started; with the limit raised they train."""
    crowded.configure(
        (crowded.home / "supervisor.toml").read_text() + "[recovery]\nbackoff_max_s = 1\n"
    )
    daemon = crowded.start(*AS_NOBODY, "prlimit", "--nproc=1:100")
    for run in ("drill-A", "drill-B"):
        crowded.until(
            lambda run=run: [line for line in crowded.events("run.died") if line["run"] == run],
            f"{run} could not be started",
        )
    assert "temporarily unavailable" in crowded.events("run.died")[0]["reason"]
    subprocess.run([*AS_NOBODY, "prlimit", f"--pid={daemon.pid}", "--nproc=100"], check=True)
    crowded.until_steps("A")
    crowded.until_steps("B")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(PATIENCE_S) == 0
