"""A table, under a real supervisor: the page, and what becomes of its run when machines die."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from testkit.machine import Machine
from testkit.tables import demand, write

PAGE = Path(__file__).parents[2] / "docs/how-to/forecast-a-table.md"
BEGIN, HALF_HOUR = np.datetime64("2000-06-05T00:00:00", "ns"), np.timedelta64(1800, "s")
MORE = """
[policy]
tick_s = 0.5

[warm]
trainers = []
"""


@pytest.fixture
def machine(machine: Machine) -> Machine:
    """A machine with the table of the page, and a later one."""
    load = demand()
    time = BEGIN + np.arange(len(load)) * HALF_HOUR
    write(machine.home / "demand.csv", {"time": time, "load": load})
    write(machine.home / "week.csv", {"time": time[-700:], "load": load[-700:]})
    return machine


def block(language: str) -> str:
    """The first block of that language on the page."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def until_done(machine: Machine, label: str) -> Path:
    """Wait until a run is done; its folder."""
    machine.until(
        lambda: machine.heartbeat(label, "tabular").get("status") == "done", f"{label} is done"
    )
    return machine.home / "runs" / f"tabular-{label}"


def test_the_run_of_the_page_says_what_the_page_says(machine: Machine) -> None:
    """It is worse than repeating last week, and forecasts the day after a table."""
    machine.configure(block("toml") + MORE)
    checked = machine("check-config")
    assert (checked.returncode, checked.stderr) == (0, "")
    machine.start()
    run = until_done(machine, "demand")
    metrics = json.loads((run / "metrics.json").read_bytes())
    assert metrics["best_baseline"] == "seasonal_naive_336"
    assert metrics["warning"].startswith("no better than repeating last week: ")
    assert metrics["warning"] in PAGE.read_text(encoding="utf-8")
    printed = machine("predict", "demand", "-i", str(machine.home / "week.csv"))
    assert printed.returncode == 0, printed.stderr
    assert "\n".join(printed.stdout.splitlines()[:3]) in PAGE.read_text(encoding="utf-8")
    assert len(printed.stdout.splitlines()) == 1 + 76


def test_a_run_that_dies_with_its_machine_leaves_what_one_leaves_that_lives(
    machine: Machine,
) -> None:
    """Its trainer is killed, then everything at once; the model of the other is the same file."""
    long = block("toml").replace(
        "early_stopping_rounds = 50", "hyperparameters = { n_estimators = 600 }"
    )
    run = '[run.{}]\nname = "demand"\n'
    settings = long.replace('"demand"]', '"mortal"]') + run.format("mortal")
    machine.configure(f"{settings}\n[checkpoints]\ninterval_s = 0.1\n{MORE}")
    machine.start()

    def until_saved(beyond: int) -> int:
        def step() -> int:
            return int(machine.heartbeat("mortal", "tabular").get("checkpoint_step") or 0)

        machine.until(lambda: step() > beyond, "it is kept")
        return step()

    saved = until_saved(0)
    os.kill(machine.heartbeat("mortal", "tabular")["pid"], signal.SIGKILL)
    until_saved(saved)
    machine.reboot()
    machine.start()
    mortal = until_done(machine, "mortal")
    assert machine.events("run.died")
    settings = (
        long.replace('"demand"]', '"mortal", "alive"]') + run.format("mortal") + run.format("alive")
    )
    machine.configure(f"{settings}\n{MORE}")
    alive = until_done(machine, "alive")
    assert (mortal / "model.txt").read_bytes() == (alive / "model.txt").read_bytes()
