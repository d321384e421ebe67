"""A run's checkpoints, as a person lists them under a real supervisor."""

from __future__ import annotations

import json
from typing import Any

from testkit.machine import Machine


def checkpoints(machine: Machine, *more: str) -> list[dict[str, Any]]:
    answer = machine("checkpoints", "A", "--json", *more)
    assert (answer.returncode, answer.stderr) == (0, "")
    known: list[dict[str, Any]] = json.loads(answer.stdout)["checkpoints"]
    return known


def saved(machine: Machine, count: int) -> None:
    machine.until(lambda: len(checkpoints(machine)) >= count, f"{count} are saved")


def test_the_checkpoints_of_a_run_are_listed(machine: Machine) -> None:
    """Before its first start, and while it trains."""
    none = machine("checkpoints", "A")
    assert (none.returncode, none.stdout) == (0, "A has no checkpoint yet\n")
    assert checkpoints(machine) == []
    machine.start()
    saved(machine, 2)
    *_, newest = checkpoints(machine, "--verify")
    assert newest["newest"]
    assert newest["whole"]
    assert newest["saved_at"].endswith("Z")
    table = machine("checkpoints", "a").stdout.splitlines()
    assert table[0].split() == ["checkpoint", "saved", "which", "score", "size", "whole"]
    assert " UTC  newest, best  return_mean " in table[-1]
    nobody = machine("checkpoints", "nobody")
    assert nobody.returncode == 2
