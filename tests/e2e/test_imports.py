"""Our packages have general names: others of the same names, found first, break nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.programs import WAY_IN
from testkit.machine import Machine
from testkit.patience import PATIENCE_S

OURS = ("modes", "state", "supervisor", "trainers")
WRONG = "raise SystemExit('the wrong module was imported')\n"
COMMANDS = (
    "show-state", "get-mode", "decisions", "why", "check-config", "doctor", "force-scale-up",
)  # fmt: skip


@pytest.fixture(params=["packages", "modules", "folders"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that holds other things by the names of our packages."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    for name in OURS:
        if request.param == "modules":
            (place / f"{name}.py").write_text(WRONG)
            continue
        (place / name).mkdir()
        if request.param == "packages":
            (place / name / "__init__.py").write_text(WRONG)
    return place


def imports(elsewhere: Path, *program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that finds these other things first, in PYTHONPATH and where it stands."""
    path = f":{elsewhere}"  # the empty entry is the working folder
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    return subprocess.run(
        program,
        env={**environment, "PYTHONPATH": path},
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_every_command_works_beside_other_packages_of_our_names(
    machine: Machine, elsewhere: Path
) -> None:
    """A folder of modes, as the pages have people make one, is the commonest of them."""
    way_in = (sys.executable, str(WAY_IN), "supervisor.cli", "--home", str(machine.home))
    for command in COMMANDS:
        answer = imports(elsewhere, *way_in, command)
        assert answer.returncode == 0, (command, answer.stderr)


def test_trainers_and_helpers_start_beside_other_packages_of_our_names(
    machine: Machine, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that stands there, and all that it starts, are of ours."""
    monkeypatch.chdir(elsewhere)
    machine.configure((machine.home / "supervisor.toml").read_text() + "[warm]\ntrainers=['drill']")
    machine.extra = {"PYTHONPATH": f":{elsewhere}"}
    daemon = subprocess.Popen(
        [sys.executable, str(WAY_IN), "supervisor.cli", "run"],
        env=machine.environment(),
        stdout=machine.screen.open("a"),
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    machine.daemons.append(daemon)
    machine.until_steps("A", 20)
    assert machine.events("warm.lost") == []
    assert machine.stop(daemon) == 0


def test_a_trainer_imports_what_people_put_on_its_path(tmp_path: Path) -> None:
    """Only our own four names are ours: any other comes from PYTHONPATH, as everywhere."""
    (tmp_path / "mine.py").write_text("import theirs, trainers\ndef main():\n    print(theirs.A)\n")
    (tmp_path / "theirs.py").write_text("A = 'theirs'\n")
    answer = imports(tmp_path, sys.executable, "-P", str(WAY_IN), "mine")
    assert (answer.returncode, answer.stdout) == (0, "theirs\n"), answer.stderr


def test_apprise_is_loaded_by_an_errand_alone() -> None:
    """Neither by the daemon nor by what checks addresses: it is as heavy as all the rest."""
    code = (
        "import sys, supervisor.assembly, supervisor.doctor, supervisor.recipients\n"
        "import supervisor.cli, supervisor.errand\n"
        "print([name for name in ('apprise', 'requests', 'urllib.request') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert answer.stdout == "[]\n"


def test_the_module_is_the_command(machine: Machine, tmp_path: Path) -> None:
    """`python -m supervisor` beside other modes and trainers; Python itself looks for that name."""
    for name in ("modes", "state", "trainers"):
        (tmp_path / f"{name}.py").write_text(WRONG)
    command = (sys.executable, "-m", "supervisor", "--home", str(machine.home), "get-mode")
    answer = imports(tmp_path, *command)
    assert (answer.returncode, answer.stdout) == (0, "light\n"), answer.stderr
