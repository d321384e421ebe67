"""How a memory of an older version becomes one of the next, as plain values.

A home is migrated by being loaded: nothing is written before the first save, and the generation
before stays beside it as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from state.renames import in_words_of_today

Row = dict[str, Any]

REFUSALS = ("wish.refused", "wish.unreadable")
"""events of version 1 that told of a wish that was not granted"""


def _asked_apart(row: Row) -> Row:
    """2: what was asked for stands apart from what became of it, and answers in the memory."""
    return row | {
        "schema": 2,
        "goal": pauses_with_owners(row["goal"]),
        "runs": [_run_apart(run) for run in row.get("runs", ())],
        "answers": [_answer(line) for line in row.get("outbox", ()) if "wish" in line],
    }


def pauses_with_owners(goal: Row) -> Row:
    """A goal of version 1, in which nobody but a person could pause."""
    if "paused" not in goal:
        return goal
    rest = {key: value for key, value in goal.items() if key != "paused"}
    return rest | {"pauses": ["person"] if goal["paused"] else []}


def _run_apart(flat: Row) -> Row:
    def part(*names: str) -> Row:
        return {name: flat[name] for name in names if name in flat}

    asked = part("id", "trainer", "name", "seed", "options", "silent_max_s")
    for unit in ("steps", "episodes"):
        if flat.get(f"target_{unit}") is not None:
            asked["target"] = {"unit": unit, "count": flat[f"target_{unit}"]}
    attempt = part(
        "process", "mode", "started_s", "started_monotonic_s", "started_step", "notices_seen"
    )
    attempt |= part("stale", "hung", "stop_asked_s", "kill_asked_s", "memory_held_s")
    if attempt:
        attempt["number"] = flat.get("restarts", 0) + 1
    faults = part("restarts", "failures", "deaths_per_h", "deaths_s", "died_step", "died_there")
    return part("status", "reason", "retry_s", "withdrawn") | {
        "asked": asked,
        "attempt": attempt,
        "progress": part("step", "episodes", "booked"),
        "faults": faults | part("failed_loads", "withheld", "dies_everywhere"),
    }


def _answer(line: Row) -> Row:
    """What a line that was not delivered yet would have answered."""
    return {
        "wish": line["wish"],
        "refused": line["event"] in REFUSALS,
        "reason": line["reason"],
        "mode": line.get("new"),
        "line": line["seq"],
    }


def _renamed(row: Row) -> Row:
    """3: the words of `state.renames`."""
    return in_words_of_today(row) | {"schema": 3}


def _made_way_for(row: Row) -> Row:
    """4: a goal may want training to stand still, and pauses may be of others than a person.

    A memory of version 3 stays as it is; but a program of that version would lift none of these.
    """
    return row | {"schema": 4}


def _came_again(row: Row) -> Row:
    """5: a campaign may be begun again, as a new generation with runs of its own.

    A memory of version 4 stays as it is; but a program of that version would take the runs of the
    first generation for those that are asked for.
    """
    return row | {"schema": 5}


MIGRATIONS: dict[int, Callable[[Row], Row]] = {
    1: _asked_apart,
    2: _renamed,
    3: _made_way_for,
    4: _came_again,
}
"""version: how a memory of that version becomes one of the next"""
