"""Goodput as a person asks for it, of a real supervisor with real processes."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from testkit.machine import SETTINGS, Machine


def goodput(machine: Machine) -> dict[str, Any]:
    answer = machine("goodput", "--json")
    assert answer.returncode == 0, answer.stderr
    measured: dict[str, Any] = json.loads(answer.stdout)
    return measured


def newest_checkpoint(machine: Machine, run: str) -> int:
    folder = machine.home / "runs" / run / "checkpoints"
    return max((int(path.name) for path in folder.glob("[0-9]*")), default=0)


def until_lives(machine: Machine, count: int) -> None:
    machine.until(lambda: len(machine.events("run.started")) == count, f"life {count} begins")


def test_lost_steps_are_those_between_heartbeat_and_checkpoint(machine: Machine) -> None:
    """A kill costs exactly the steps that the dead trainer's newest checkpoint did not hold."""
    quick = "[recovery]\nbackoff_first_s = 0.1\nbackoff_max_s = 0.1\n"
    machine.configure(SETTINGS.replace('"A", "B", "C", "D", "E"', '"A"') + quick)
    daemon = machine.start()
    lost = 0
    for life in range(1, 4):
        machine.until_steps("A", lost + 1)
        machine.until(lambda: newest_checkpoint(machine, "drill-A"), "a checkpoint")
        pid = machine.run("A")["pid"]
        os.kill(pid, signal.SIGSTOP)  # it stands still while it is looked at
        lost += machine.heartbeat("A")["step"] - newest_checkpoint(machine, "drill-A")
        os.kill(pid, signal.SIGKILL)
        until_lives(machine, life + 1)
    machine.until(lambda: machine.heartbeat("A").get("status") == "running", "it trains")
    assert goodput(machine)["steps_lost"] == lost
    assert machine.stop(daemon) == 0
    measured = goodput(machine)
    assert (measured["steps_lost"], measured["deaths"], measured["attempts"]) == (lost, 3, 4)
    assert measured["steps_kept"] == newest_checkpoint(machine, "drill-A")
    assert sum(measured["spent_s"].values()) == pytest.approx(measured["demanded_s"])
    assert 0 < measured["goodput"] < 1
    assert measured["spent_s"]["unknown"] < 0.1 * measured["demanded_s"]


def test_the_figures_go_on_through_crashes_pauses_and_stops(machine: Machine) -> None:
    """Every way in which training was not done has its share, and a person can read it."""
    machine.start()
    machine.until_steps("A", 100)
    machine.reboot()
    daemon = machine.start()
    machine.until_steps("A", 200)
    assert machine("pause").returncode == 0
    machine.until(lambda: not machine.trainers(), "all have left")
    assert machine("resume").returncode == 0
    machine.until(lambda: len(machine.trainers()) == 2, "both are back")
    assert machine.stop(daemon) == 0
    measured = goodput(machine)
    assert measured["crashes"] == 1
    assert measured["spent_s"]["machine_down"] > 0
    assert measured["not_demanded_s"]["pause"] > 0
    assert measured["not_demanded_s"]["stop"] > 0
    assert measured["stop"]["count"] == 4
    text = machine("goodput").stdout
    assert "crashes of the machine" in text
    assert "drill-A" in text


def test_with_nothing_told_nothing_is_claimed(machine: Machine) -> None:
    """Before the first start there is no figure, and that is said."""
    assert goodput(machine)["goodput"] is None
    assert "nothing has been demanded yet" in machine("goodput").stdout
