"""Somebody changes their mind in mid-campaign, again and again, and what was learnt is kept."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from testkit.machine import Machine
from testkit.patience import PATIENCE_S
from testkit.processes import mains
from testkit.series import sample_of_a_series

KEEPER = '''
"""Counts, and goes on from its own kind of checkpoint alone."""

import time
from pathlib import Path

import msgspec

from trainers.contract import BadSpec
from trainers.session import options_of


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "oak"
    pause_s: float = 0.02


def fits(spec, checkpoint: Path):
    kind = (checkpoint / "kind").read_text()
    if kind != options_of(spec, Options).kind:
        raise BadSpec(f"checkpoint {checkpoint.name} is of {kind}")


def train(session):
    options = options_of(session.spec, Options)
    if session.checkpoint:
        fits(session.spec, session.checkpoint.path)
    while not (session.target_reached or session.stop_requested):
        time.sleep(options.pause_s)
        session.progress(session.step + 1)
        if session.checkpoint_due():
            session.save({"kind": options.kind.encode()})
    if session.step:
        session.save({"kind": options.kind.encode()})
'''
HEAD = """\
trainers_dir = "own"

[checkpoints]
interval_s = 0.3

[warm]
trainers = []

[campaign]
trainer = "keeper"
"""


class Mind:
    """What somebody wants trained, and how they change it."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self.machine = machine
        self.chance = random.Random(seed)  # noqa: S311 - changes that can be made again
        self.named = 0
        self.runs: dict[str, dict[str, Any]] = {}
        for _ in range(3):
            self.runs[self._fresh()] = self._run()
        (machine.home / "own").mkdir()
        (machine.home / "own/keeper.py").write_text(KEEPER)
        self.write()

    def _fresh(self) -> str:
        self.named += 1
        return f"r{self.named}"

    def _run(self) -> dict[str, Any]:
        return {"target": 1_000_000, "seed": 1, "kind": "oak", "pause_s": 0.02, "was": None}

    def write(self) -> None:
        text = [HEAD, f"runs = {list(self.runs)!r}\n"]
        for label, run in self.runs.items():
            text.append(f"[run.{label}]\ntarget = {{ steps = {run['target']} }}")
            text.append(f"seed = {run['seed']}")
            text += [f'was = "{run["was"]}"'] if run["was"] else []
            text.append(f"[run.{label}.options]")
            text.append(f'kind = "{run["kind"]}"\npause_s = {run["pause_s"]}\n')
        self.machine.configure("\n".join(text))

    def id_of(self, label: str) -> str:
        return f"keeper-{self.runs[label]['was'] or label}"

    def any(self, *, learnt: bool = False) -> str:
        """One of the runs; if so wished, one that has learnt something."""
        labels = [one for one in self.runs if not learnt or self.saved(self.id_of(one))]
        return self.chance.choice(labels)

    def saved(self, run: str) -> int:
        """The newest step that is kept of a run."""
        folder = self.machine.home / "runs" / run / "checkpoints"
        steps = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
        return max(steps, default=0)

    # The changes: which runs are told of, and what is said of each

    def target(self) -> dict[str, str]:
        label = self.any()
        self.runs[label]["target"] += 1000
        return {self.id_of(label): "target"}

    def option(self) -> dict[str, str]:
        label = self.any()
        self.runs[label]["pause_s"] = round(self.chance.uniform(0.01, 0.04), 5)
        return {self.id_of(label): "options.pause_s"}

    def seed(self) -> dict[str, str]:
        label = self.any()
        self.runs[label]["seed"] += 1
        return {self.id_of(label): "seed"}

    def add(self) -> dict[str, str]:
        label = self._fresh()
        self.runs = {label: self._run(), **self.runs}
        return {f"keeper-{label}": "joins the campaign"}

    def remove(self) -> dict[str, str]:
        if len(self.runs) < 2:
            return self.add()
        label = self.any()
        run = self.id_of(label)
        del self.runs[label]
        return {run: "no longer asked for"}

    def rename(self) -> dict[str, str]:
        label, fresh = self.any(), self._fresh()
        run = self.id_of(label)
        renamed = {**self.runs[label], "was": run.removeprefix("keeper-")}
        self.runs = {
            fresh if one == label else one: renamed if one == label else self.runs[one]
            for one in self.runs
        }
        return {run: f"name {label} → {fresh}"}

    def reorder(self) -> dict[str, str]:
        if len(self.runs) < 2:
            return self.add()
        first, *others = self.runs
        self.runs = {label: self.runs[label] for label in (*others, first)}
        return {"": "another order"}


WELL = (Mind.target, Mind.option, Mind.seed, Mind.add, Mind.remove, Mind.rename, Mind.reorder)


@pytest.fixture
def mind(machine: Machine) -> Mind:
    _, seed = sample_of_a_series(8)
    return Mind(machine, seed)


def until_it_went_on(mind: Mind, kept: dict[str, int]) -> None:
    """Wait until the first run of the queue has kept more than that."""
    first = mind.id_of(next(iter(mind.runs)))
    mind.machine.until(lambda: mind.saved(first) > kept.get(first, 0), "the first run goes on")


def test_whoever_changes_their_mind_loses_nothing(mind: Mind) -> None:
    """Each change is told run by run; what is kept of any run never becomes less."""
    count, _ = sample_of_a_series(8)
    machine = mind.machine
    machine.start()
    machine.until(lambda: mind.saved(mind.id_of(next(iter(mind.runs)))), "something is kept")
    kept: dict[str, int] = {}
    for _ in range(count):
        names = {mind.id_of(label) for label in mind.runs}
        before = len(machine.events("run.changed"))
        expected = mind.chance.choice(WELL)(mind)
        mind.write()
        machine.until(lambda at=before: len(machine.events("run.changed")) > at, "it is told")
        until_it_went_on(mind, kept)
        told = machine.events("run.changed")[before:]
        assert {line.get("run", ""): line["reason"] for line in told}.keys() == expected.keys()
        for line in told:
            assert expected[line.get("run", "")] in line["reason"]
        for run in names | kept.keys():
            now = mind.saved(run)
            assert now >= kept.get(run, 0)
            kept[run] = now
    assert machine.events("settings.refused") == []
    assert machine.events("run.failed") == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        pytest.param("kind", "elm", "is of oak", id="what it has learnt does not fit"),
        pytest.param("pause_s", '"soon"', "pause_s", id="an option is wrong"),
    ],
)
def test_what_cannot_go_on_is_refused_before_anything_stops(
    mind: Mind, key: str, value: str, said: str
) -> None:
    """The same trainers train on, and over a reboot, too, the last good settings stay."""
    machine = mind.machine
    machine.start()
    label = next(iter(mind.runs))
    machine.until(lambda: mind.saved(mind.id_of(label)), "something is kept")
    before, good = mains(machine.home / "runs"), dict(mind.runs[label])
    mind.runs[label][key] = value
    mind.write()
    machine.until(lambda: machine.events("settings.refused"), "the refusal")
    (line,) = machine.events("settings.refused")
    assert said in line["reason"]
    assert "the last good settings stay in force" in line["reason"]
    assert mains(machine.home / "runs") == before
    checked = machine("check-config", "--changed")
    assert checked.returncode == 78
    assert said in checked.stderr
    machine.reboot()
    machine.start()
    machine.until(lambda: len(machine.events("settings.refused")) > 1, "it is told again")
    known = mind.saved(mind.id_of(label))
    machine.until(lambda: mind.saved(mind.id_of(label)) > known, "it trains on as before")
    mind.runs[label] = {**good, "target": 2_000_000}
    mind.write()
    machine.until(lambda: machine.events("run.changed"), "mended settings are taken over")
    assert machine.events("run.failed") == []


def test_a_campaign_is_not_over_while_more_is_on_trial(mind: Mind) -> None:
    """What ends with its campaign waits for what its trainers say of the change."""
    machine, label = mind.machine, next(iter(mind.runs))
    slow = machine.home / "slow"
    wait = f"    if Path({str(slow)!r}).exists(): time.sleep(4)\n"
    (machine.home / "own/keeper.py").write_text(f"{KEEPER}def check(spec):\n{wait}")
    mind.runs = {label: {**mind.runs[label], "target": 100}}
    mind.write()
    daemon = machine.launch(machine.command("run", "--until-done"))
    machine.until(lambda: mind.saved(mind.id_of(label)), "something is kept")
    slow.touch()
    mind.runs["late"] = {**mind.runs[label], "target": 5}
    mind.write()
    assert daemon.wait(PATIENCE_S) == 0
    assert [line["run"] for line in machine.events("run.done")] == [
        mind.id_of(label), "keeper-late",
    ]  # fmt: skip


def test_what_trains_goes_before_what_is_on_trial(mind: Mind) -> None:
    """Hundreds of runs may be asked about beside it."""
    machine, nice = mind.machine, mind.machine.home / "nice"
    check = f"import os\ndef check(spec): open({str(nice)!r}, 'a').write(str(os.nice(0)) + ' ')\n"
    (machine.home / "own/keeper.py").write_text(KEEPER + check)
    assert machine("check-config").returncode == machine("check-config", "--changed").returncode
    asked = nice.read_text().split()
    assert asked[0] == str(os.nice(0))
    assert asked[-1] == str(os.nice(0) + 10)


def test_a_run_that_is_to_begin_anew_may_do_so_under_any_options(mind: Mind) -> None:
    """What it is not to go on from need not fit, though nothing has gone back by then.

    It cannot go back to that any more, which is told before anything stops for it.
    """
    machine = mind.machine
    machine.start()
    label = next(iter(mind.runs))
    machine.until(lambda: mind.saved(mind.id_of(label)), "something is kept")
    assert machine("pause").returncode == 0
    machine.until(lambda: not mains(machine.home / "runs"), "nothing trains")
    assert machine("rewind", label, "0").returncode == 0
    mind.runs[label]["kind"] = "elm"
    mind.write()
    machine.until(lambda: machine.events("run.changed"), "the change is in force")
    assert machine("resume").returncode == 0
    kind = machine.home / "runs" / mind.id_of(label) / "checkpoints"
    machine.until(
        lambda: any(one.read_text() == "elm" for one in kind.glob("[0-9]*/kind")), "it begins anew"
    )
    assert machine.events("settings.refused") == machine.events("run.failed") == []
    (beside, *_) = kind.glob("beside-*")
    before = mains(machine.home / "runs")
    back = machine("rewind", label, beside.name)
    assert back.returncode == 78
    assert "is of oak" in back.stderr
    assert mains(machine.home / "runs") == before


def test_a_run_under_another_label_is_not_guessed_to_be_the_same(mind: Mind) -> None:
    """It begins, and the line says what to write where it was meant to be the old one."""
    machine = mind.machine
    machine.start()
    label = next(iter(mind.runs))
    machine.until(lambda: mind.saved(mind.id_of(label)), "something is kept")
    mind.runs = {f"{label}x" if one == label else one: run for one, run in mind.runs.items()}
    mind.write()
    machine.until(lambda: len(machine.events("run.changed")) == 2, "the change is told")
    joined = next(line for line in machine.events("run.changed") if line["run"].endswith("x"))
    assert f'was = "{label}" in [run.{label}x] keeps what that has learnt' in joined["reason"]
    mind.runs[f"{label}x"]["was"] = label
    mind.write()
    machine.until(lambda: len(machine.events("settings.changed")) == 2, "it is said to be the same")
    step = mind.saved(f"keeper-{label}")
    machine.until(lambda: mind.saved(f"keeper-{label}") > step, "the old one goes on")
    assert machine.run(f"{label}x")["id"] == f"keeper-{label}"
