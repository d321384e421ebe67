"""What becomes of the runs when somebody changes what is to be trained, told run by run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from state.records import Asked, Left, Memory, Run
from supervisor.core import queue, told
from supervisor.core.events import Event

LINES_MAX = 20
"""of one change; of more runs their number is told"""
NAMES_MAX = 8
"""of one line"""
VALUE_MAX_CHARS = 60
ENVIRONMENT = "env"
"""the option whose table is of variables of the environment"""
NOT_TOLD = (
    *("id", "trainer", "origin", "revision", "token", "options", "target"),
    *("generation", "begin_from"),
)
"""fields that say nothing to a person, or are told in their own way"""


class _Line(NamedTuple):
    run: str | None
    reason: str
    evidence: dict[str, Any]


def tell(before: Memory, after: Memory, left: Mapping[str, Left]) -> Memory:
    """The memory `after` the queue has begun to follow another campaign, with lines that say so.

    On the first day, and where it follows the same one, there is nothing to tell.

    Args:
        before: with the queue as it was.
        after: with every run that it has now.
        left: the runs that had left the queue before, as far as is known.
    """
    if before.campaign in (0, after.campaign):
        return after
    ended = {run_id: one.run for run_id, one in left.items() if one.epoch >= before.epoch}
    lines = [*_lines(_asked_for(before.runs), _asked_for(after.runs), ended)]
    memory = after
    for line in lines[:LINES_MAX]:
        memory = _written(memory, line)
    if len(lines) > LINES_MAX:
        more = f"and {len(lines) - LINES_MAX} more runs are asked for otherwise"
        memory = _written(memory, _Line(None, more, {}))
    return memory


def _written(memory: Memory, line: _Line) -> Memory:
    return told.write(
        memory,
        Event.RUN_CHANGED,
        rule="settings",
        reason=line.reason,
        run=line.run,
        evidence=line.evidence or None,
    )


def _asked_for(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs that the settings name, by their ids, in their order."""
    return {run.id: run for run in runs if not run.is_job and not run.withdrawn}


def _lines(
    before: dict[str, Run], after: dict[str, Run], ended: Mapping[str, Run]
) -> Iterator[_Line]:
    gone = [run for run_id, run in before.items() if run_id not in after]
    for run in gone:
        how = "it is saved and stopped, and " if queue.lives_perhaps(run) else ""
        reason = f"it is no longer asked for, at step {run.progress.step}: {how}its folder is kept"
        yield _Line(run.id, reason, {"left_at_step": run.progress.step})
    for run_id, run in after.items():
        known = before.get(run_id) or ended.get(run_id)
        if known is None:
            yield _Line(run_id, f"it joins the campaign{_perhaps_renamed(run, gone)}", {})
        elif differences := _differences(known.asked, run.asked):
            what = "; ".join(
                f"{key} {_shown(old)} → {_shown(new)}" for key, (old, new) in differences.items()
            )
            yield _Line(run_id, f"{what}: {_consequence(run)}", {"changed": differences})
    order = [run_id for run_id in after if run_id in before]
    if order != [run_id for run_id in before if run_id in after]:
        called = list(queue.called(after.values()).values())
        more = f" and {len(called) - NAMES_MAX} more" if len(called) > NAMES_MAX else ""
        names = ", ".join(called[:NAMES_MAX])
        yield _Line(None, f"another order: {names}{more}", {"order": list(after)})


def _perhaps_renamed(run: Run, gone: Sequence[Run]) -> str:
    """Nobody can tell a run under another label from another run but who has changed it."""

    def work(asked: Asked) -> tuple[object, ...]:
        return asked.trainer, asked.seed, asked.target, asked.options

    was = next((one for one in gone if work(one.asked) == work(run.asked)), None)
    if was is None or was.progress.step == 0:
        return ""
    label, old = queue.label(run), queue.label(was)
    return (
        f"; if it is {old} under another name, which has left at step {was.progress.step}: "
        f'was = "{old}" in [run.{label}] keeps what that has learnt'
    )


def _differences(old: Asked, new: Asked) -> dict[str, tuple[Any, Any]]:
    """What is asked for otherwise: by its key in the settings, how it was and how it is."""
    if old == new:
        return {}
    found = {
        key: (msgspec.to_builtins(getattr(old, key)), msgspec.to_builtins(getattr(new, key)))
        for key in Asked.__struct_fields__
        if key not in NOT_TOLD and getattr(old, key) != getattr(new, key)
    }
    if old.target != new.target:
        found["target"] = (_target(old), _target(new))
    for key in sorted(old.options.keys() | new.options.keys()):
        was, now = old.options.get(key), new.options.get(key)
        if was == now:
            continue
        if key == ENVIRONMENT and any(isinstance(it, dict) for it in (was, now)):
            found |= _in_secret(f"options.{key}", was, now)
        else:
            found[f"options.{key}"] = was, now
    return found


def _in_secret(where: str, was: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """Which variables are others, but not their values, some of which are keys and passwords."""
    before, after = (it if isinstance(it, dict) else {} for it in (was, now))
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            found[f"{where}.{name}"] = "set", None
        elif name not in before:
            found[f"{where}.{name}"] = None, "set"
        elif before[name] != after[name]:
            found[f"{where}.{name}"] = "set", "another value"
    return found


def _target(asked: Asked) -> str | None:
    return None if asked.target is None else f"{asked.target.count} {asked.target.unit}"


def _consequence(run: Run) -> str:
    """What follows for the run as it is now; it has been judged by nobody yet."""
    if run.attempt.stale and queue.lives_perhaps(run):
        return f"it saves, and goes on under that from step {run.progress.step} or so"
    if run.status in queue.ENDED:
        return f"it has ended: {run.status}"
    if run.progress.step == 0:
        return "it has not begun"
    return f"it goes on from step {run.progress.step}"


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= VALUE_MAX_CHARS else f"{text[:VALUE_MAX_CHARS]}..."
