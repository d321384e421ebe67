"""A short campaign of chaos, and proof that its witness would notice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from state.store import Store
from supervisor.core import history
from supervisor.core.moments import Moment
from supervisor.host.home import Home
from testkit.benchmarks import benchmark
from testkit.builders import a_heartbeat, a_ladder, a_run
from testkit.processes import Process

CHAOS = Path(__file__).parents[2] / "benchmarks/chaos.py"
MOMENT = Moment(wall=0.0, monotonic_s=0.0, boottime_s=0.0, boot_id="b" * 32)


def test_a_short_campaign_of_chaos_breaks_nothing(tmp_path: Path) -> None:
    """Whatever is done to it, it comes back, and leaves nobody."""
    command = [sys.executable, str(CHAOS), "--trainer", "drill", "--keep", str(tmp_path)]
    command += ["--faults", "12", "--mean-between-s", "1.2", "--seed", "6"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"
    faults = re.search(r"^(\d+) faults", answer.stdout, re.MULTILINE)
    assert faults, answer.stdout
    assert int(faults[1]) == 12
    assert "all that must hold did" in answer.stdout
    assert re.search(r"^goodput +\d+\.\d %", answer.stdout, re.MULTILINE)
    for left_out in re.findall("LEFT OUT: (.*)", answer.stdout):
        pytest.skip(f"NOT TESTED: {left_out}")


@pytest.fixture
def looking() -> ModuleType:
    """What looks on while there is chaos."""
    return benchmark("chaos_witness")


@pytest.fixture
def quiet(tmp_path: Path) -> Any:
    """A machine on which two runs of one mode train, as far as the witness can tell."""
    home = Home(tmp_path / "home")
    home.make()
    runs = (a_run("drill-a", status="running"), a_run("drill-b", status="running"))
    memory = history.first_day(MOMENT, a_ladder(), runs)
    demanded = tuple(run.id for run in runs)
    Store(home.state).save(msgspec.structs.replace(memory, demanded=demanded))
    machine = SimpleNamespace(
        files=home,
        living=[
            Process(pid, pid, run, parent=1, trains=True) for pid, run in enumerate(demanded, 100)
        ],
        daemon_lives=True,
        daemon_fell=None,
        boot=MOMENT.boot_id,
        boots=1,
        crashes=0,
        answer=json.dumps({"boots_total": 1, "crashes_total": 0}),
    )
    machine.mains = lambda: machine.living
    machine.ask = lambda *_: subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"print({machine.answer!r}); raise SystemExit({machine.answer!r} == '')",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    for run in demanded:
        folder = home.run(run)
        (folder.checkpoints / "7").mkdir(parents=True)
        folder.spec.write_text(json.dumps({"mode": "light"}))
        beat = a_heartbeat(run=run, checkpoint_step=7)
        folder.heartbeat.write_bytes(msgspec.json.encode(beat))
    log(machine, 1)
    return machine


def log(machine: Any, seq: int) -> None:
    line = {"seq": seq, "event": "supervisor.started", "boot": machine.boot}
    with machine.files.decisions.open("a") as lines:
        lines.write(json.dumps(line) + "\n")


def another_main(machine: Any) -> None:
    machine.living.append(replace(machine.living[0], pid=200))


def another_mode(machine: Any) -> None:
    machine.files.run("drill-b").spec.write_text(json.dumps({"mode": "medium"}))


def a_stranger(machine: Any) -> None:
    machine.living.append(replace(machine.living[0], run="drill-z"))


def nobody_demanded(machine: Any) -> None:
    memory, _ = Store(machine.files.state).load()
    assert memory
    Store(machine.files.state).save(msgspec.structs.replace(memory, demanded=()))


def a_lost_checkpoint(machine: Any) -> None:
    (machine.files.run("drill-a").checkpoints / "7").rename(machine.files.path / "elsewhere")


def a_gap(machine: Any) -> None:
    log(machine, 3)


def a_double(machine: Any) -> None:
    log(machine, 1)


def a_boot_too_many(machine: Any) -> None:
    machine.boots += 1


def an_unreadable_state(machine: Any) -> None:
    machine.answer = ""


def a_fall(machine: Any) -> None:
    machine.daemon_fell = 78


def nothing(_machine: Any) -> None:
    pass


def looked_at(machine: Any, looking: ModuleType, break_it: Any) -> None:
    """Look twice, with something happening in between, until `show-state` has answered."""
    witness = looking.Witness(machine)
    witness.look()
    witness.expect_nothing()
    break_it(machine)
    asked = witness.asked
    witness._asked_at_s = 0.0
    while witness.asked == asked:
        witness.look()


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (another_main, "two trainers of one run"),
        (another_mode, "two modes"),
        (a_stranger, "not in the campaign"),
        (nobody_demanded, "without being demanded"),
        (a_lost_checkpoint, "checkpoint 7 is gone"),
        (a_gap, "line 3 of the log follows line 1"),
        (a_double, "line 1 of the log follows line 1"),
        (a_boot_too_many, "boots and crashes"),
        (an_unreadable_state, "show-state ended with"),
        (a_fall, "fell, with 78"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_witness_notices(
    quiet: Any, looking: ModuleType, monkeypatch: pytest.MonkeyPatch, break_it: Any, told: str
) -> None:
    """Each thing that must hold is missed when it does not."""
    monkeypatch.setattr(looking, "STRAY_S", 0.0)
    with pytest.raises(looking.Broken, match=told):
        looked_at(quiet, looking, break_it)


def test_the_witness_is_content_where_nothing_is_wrong(quiet: Any, looking: ModuleType) -> None:
    """It does not cry wolf."""
    looked_at(quiet, looking, nothing)
