"""A trainer of the user's own, in a folder beside the settings, under a real supervisor."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from testkit.machine import Machine
from trainers.contract import ANY_RUN

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-trainer.md"
SETTINGS = """\
trainers_dir = "own"

[campaign]
trainer = "pi"
runs = ["circle"]
target = { steps = 1_000_000_000 }
options = { points_per_update = 2_000 }

[checkpoints]
interval_s = 0.2

[policy]
tick_s = 0.5

[warm]
trainers = []
"""


def pi() -> str:
    """The worked example of the page."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def as_a_module(folder: Path) -> None:
    (folder / "pi.py").write_text(pi())


def as_a_package(folder: Path) -> None:
    """Its first file says what it is, and has the rest from another."""
    (folder / "pi").mkdir()
    (folder / "pi/__init__.py").write_text(
        '"""Estimates pi in several files."""\nUNIT = "points"\n'
        "from .draw import Options, evaluate, train\n"
    )
    (folder / "pi/draw.py").write_text(pi())


@pytest.fixture
def folder(machine: Machine) -> Path:
    """The folder of the settings; it is no part of anything that is installed."""
    folder = machine.home / "own"
    folder.mkdir()
    machine.configure(SETTINGS)
    return folder


def beat(machine: Machine) -> dict[str, Any]:
    return machine.heartbeat("circle", "pi")


def until_saved(machine: Machine, beyond: int = 0) -> dict[str, Any]:
    """Wait for a checkpoint that has more steps; the heartbeat that told of it."""
    machine.until(lambda: (beat(machine).get("checkpoint_step") or 0) > beyond, "it saves")
    return beat(machine)


def parent(machine: Machine) -> int | None:
    return next((pid for pid, run in machine.trainers().items() if run == ANY_RUN), None)


@pytest.mark.parametrize("write", [as_a_module, as_a_package])
def test_it_trains_dies_and_goes_on(machine: Machine, folder: Path, write: Any) -> None:
    """Also after a daemon that was killed, and as what commands ask about it."""
    write(folder)
    assert machine("check-config").returncode == 0
    daemon = machine.start()
    first = until_saved(machine)
    os.kill(first["pid"], signal.SIGKILL)
    machine.until(lambda: beat(machine).get("pid") not in (None, first["pid"]), "another life")
    second = until_saved(machine, first["checkpoint_step"])
    assert second["began"]["step"] >= first["checkpoint_step"]

    # A daemon that dies leaves its trainer to the next one, which starts it again as well.
    daemon.kill()
    daemon.wait()
    daemon = machine.start()
    os.kill(second["pid"], signal.SIGKILL)
    machine.until(lambda: beat(machine).get("pid") not in (None, second["pid"]), "a third life")
    third = until_saved(machine, second["checkpoint_step"])
    assert third["began"]["step"] >= second["checkpoint_step"]

    played = machine("evaluate", "circle", "-e", "1", "--json")
    assert played.returncode == 0, played.stderr
    assert 3 < json.loads(played.stdout)["returns"][0] < 3.3
    tuned = machine("tune", "--once")
    assert tuned.returncode == 0, tuned.stderr
    assert machine.stop(daemon) == 0
    assert machine.events("run.failed") == []


def test_it_is_kept_warm_and_its_changed_code_is_what_starts_next(
    machine: Machine, folder: Path
) -> None:
    """A warm parent has the folder, and does not outlive a change in it."""
    warm = "\ndef warm_up(specs):\n    yield\n"
    (folder / "pi.py").write_text(pi() + warm)
    machine.configure(SETTINGS.replace("trainers = []", 'trainers = ["pi"]'))
    machine.start()
    machine.until(lambda: parent(machine), "a warm parent")
    first = parent(machine)
    (folder / "part.py").write_text("")
    machine.until(lambda: parent(machine) != first, "it is ended")
    assert machine.events("warm.lost") == []


def test_another_folder_holds_from_the_next_start_on(machine: Machine, folder: Path) -> None:
    """What lives is left alone; what starts comes from the folder that is named then."""
    as_a_module(folder)
    machine.start()
    first = until_saved(machine)
    other = machine.home / "other"
    other.mkdir()
    (other / "pi.py").write_text(pi().replace('{"pi": 4 *', '{"tau": 8 *'))
    machine.configure(SETTINGS.replace('"own"', '"other"'))
    machine.until(lambda: machine.events("settings.changed"), "the settings are taken over")
    assert beat(machine)["pid"] == first["pid"]
    os.kill(first["pid"], signal.SIGKILL)
    metrics = machine.home / "runs/pi-circle/metrics.jsonl"
    machine.until(lambda: '"tau"' in metrics.read_text(), "the other one trains")


def test_the_commands_tell_which_trainers_there_are(machine: Machine, folder: Path) -> None:
    """All of them, one with its options, and the nearest where there is none."""
    as_a_module(folder)
    (folder / "bad.py").write_text("def train(:\n")
    listed = machine("trainers")
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"^pi +points +trainers_dir +Estimates pi", listed.stdout, re.MULTILINE)
    assert re.search(rf"{folder}/bad\.py, line 1: SyntaxError", listed.stdout)
    told = json.loads(machine("trainers", "pi", "--json").stdout)
    assert [option["name"] for option in told["options"]] == ["points_per_update"]
    assert "a whole number above 0" in machine("trainers", "pi").stdout
    unknown = machine("trainers", "pii")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "did you mean 'pi'?" in unknown.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("points_per_update", "points_per_updte"), "did you mean 'points_per_update'?"),
        (('trainer = "pi"', 'trainer = "pii"'), "did you mean 'pi'?"),
        (('"own"', '"nowhere"'), "trainers_dir = 'nowhere': No such file or directory"),
        (('"own"', '"supervisor.toml"'), "trainers_dir = 'supervisor.toml': Not a directory"),
        (('"own"', '"~nobody-there"'), "trainers_dir = '~nobody-there': there is no such user"),
        (('"own"', '"a\\u0000b"'), "no path can hold a NUL"),
        (("[warm]\ntrainers = []", '[warm]\ntrainers = ["po"]'), "there is no trainer 'po'"),
    ],
)
def test_what_is_wrong_is_told_before_the_start(
    machine: Machine, folder: Path, change: tuple[str, str], said: str
) -> None:
    """One line, and exit code 78."""
    as_a_module(folder)
    machine.configure(SETTINGS.replace(*change))
    answer = machine("check-config")
    assert answer.returncode == 78
    assert said in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_folder_that_vanishes_ends_no_run_for_good(machine: Machine, folder: Path) -> None:
    """The last good settings hold, the run waits, and goes on once the folder is there again."""
    as_a_module(folder)
    daemon = machine.start()
    first = until_saved(machine)
    assert machine.stop(daemon) == 0
    away = folder.rename(machine.home / "away")
    machine.start()
    machine.until(lambda: machine.events("run.died"), "it cannot start")
    assert "trainers_dir" in machine.events("run.died")[-1]["reason"]
    assert machine.events("run.failed") == []
    away.rename(folder)
    assert machine("retry", "circle").returncode == 0
    until_saved(machine, first["checkpoint_step"])


def test_a_package_that_is_installed_brings_a_trainer(machine: Machine, tmp_path: Path) -> None:
    """Its entry point is all that this needs."""
    site = tmp_path / "site"
    (site / "circles-1.0.dist-info").mkdir(parents=True)
    (site / "circles-1.0.dist-info/METADATA").write_text("Name: circles\nVersion: 1.0\n")
    (site / "circles-1.0.dist-info/entry_points.txt").write_text(
        "[training_supervisor.trainers]\npi = circles.pi\n"
    )
    (site / "circles").mkdir()
    (site / "circles/__init__.py").write_text("")
    (site / "circles/pi.py").write_text(pi())
    machine.extra = {"PYTHONPATH": str(site)}
    machine.configure(SETTINGS.replace('trainers_dir = "own"\n', ""))
    assert re.search(r"^pi +points +circles ", machine("trainers").stdout, re.MULTILINE)
    machine.start()
    first = until_saved(machine)
    os.kill(first["pid"], signal.SIGKILL)
    machine.until(lambda: beat(machine).get("pid") not in (None, first["pid"]), "another life")
    until_saved(machine, first["checkpoint_step"])
