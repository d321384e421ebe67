"""Many boots in a row: nothing is miscounted, and nothing grows."""

from __future__ import annotations

import random

from testkit.boot_lab import SETTINGS, Machine
from testkit.series import sample_of_a_series

BOOTS, SEED = sample_of_a_series(12)
KINDS = ("reboot", "power off", "power cut", "daemon killed before the cut", "cut before it trains")
# Boots that die young are what this is about: nothing shall idle because of them.
POLICY = "\n[policy]\nidle_after = 99\n"


def test_boots_of_all_kinds(machine: Machine) -> None:
    """Planned ends and crashes of every kind, in a random order, are counted exactly."""
    machine.configure(SETTINGS + POLICY)
    draw = random.Random(SEED)  # noqa: S311 - the order of a test, always the same
    kinds = [draw.choice(KINDS) for _ in range(BOOTS - 1)]
    for kind in kinds:
        noted = machine.boots_noted
        machine.power_on()
        machine.until(lambda n=noted: machine.boots_noted > n, "the boot is noted")
        if kind != "cut before it trains":
            machine.until_steps("drill-A")
        match kind:
            case "reboot":
                machine.shut_down("reboot")
            case "power off":
                machine.shut_down("poweroff")
            case "daemon killed before the cut":
                machine.kill(machine.daemon)
                machine.power_cut()
            case _:
                machine.power_cut()
    machine.boot()
    machine.until_steps("drill-A")
    machine.until_steps("drill-B")

    state = machine.state()
    crashes = sum(kind not in ("reboot", "power off") for kind in kinds)
    assert (state["boots_total"], state["crashes_total"]) == (BOOTS, crashes), kinds
    assert len(machine.trainers()) == 2
    lives = [line for line in machine.events("run.started") if line["run"] == "drill-A"]
    steps = [line["evidence"]["step"] for line in lives]
    assert steps == sorted(steps)

    assert len(list(machine.home.iterdir())) < 20
    assert list((machine.home / "inbox").iterdir()) == []
    assert len(list((machine.home / "runs/drill-A/checkpoints").iterdir())) < 10
    assert (machine.home / "state.json").stat().st_size < 20_000
    assert machine.boots_noted == 1
