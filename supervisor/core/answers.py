"""What a person asks is granted, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from state.records import Goal, Wish
from supervisor.core.facts import Decision, Facts
from supervisor.core.machine import mode_after


def answer(facts: Facts, asked: Wish) -> Decision:
    """What becomes of a wish. The goal's mode has to be on the ladder."""
    return _ANSWERS[asked.kind](facts, asked)


def _scale_up(facts: Facts, asked: Wish) -> Decision:
    if facts.goal.pinned:
        return _refuse(facts, asked, f"{facts.goal.mode} is pinned; `unpin` first")
    if facts.rung + 1 == len(facts.ladder):
        return _refuse(facts, asked, f"{facts.goal.mode} is already the highest mode")
    if facts.rung >= facts.top:
        return _refuse(facts, asked, _is_forbidden(facts))
    upper = mode_after(facts.ladder, facts.goal.mode, "climb")
    return _grant(facts, asked, mode=upper, idle_until_s=None)


def _scale_down(facts: Facts, asked: Wish) -> Decision:
    if facts.goal.pinned:
        return _refuse(facts, asked, f"{facts.goal.mode} is pinned; `unpin` first")
    if facts.rung == 0:
        return _refuse(facts, asked, f"{facts.goal.mode} is already the lowest mode")
    lower = mode_after(facts.ladder, facts.goal.mode, "fall_back")
    return _grant(facts, asked, mode=lower, idle_until_s=None)


def _pin(facts: Facts, asked: Wish) -> Decision:
    if asked.mode not in facts.ladder:
        return _refuse(facts, asked, _no_such_mode(facts, asked))
    if facts.ladder.index(asked.mode) > facts.top:
        return _refuse(facts, asked, _is_forbidden(facts))
    target = mode_after(facts.ladder, facts.goal.mode, f"pin_{asked.mode}")
    return _grant(facts, asked, mode=target, pinned=True, idle_until_s=None)


def _unpin(facts: Facts, asked: Wish) -> Decision:
    if not facts.goal.pinned:
        return _refuse(facts, asked, "no mode is pinned")
    return _grant(facts, asked, pinned=False, idle_until_s=None)


def _forbid(facts: Facts, asked: Wish) -> Decision:
    if asked.mode not in facts.ladder:
        return _refuse(facts, asked, _no_such_mode(facts, asked))
    rung = facts.ladder.index(asked.mode)
    if rung == 0:
        return _refuse(facts, asked, f"{asked.mode} is the lowest mode; `pause` stops training")
    if rung > facts.top:
        return _refuse(facts, asked, _is_forbidden(facts))
    if facts.goal.pinned and facts.rung >= rung:
        return _refuse(facts, asked, f"{facts.goal.mode} is pinned; `unpin` first")
    mode = facts.ladder[min(facts.rung, rung - 1)]
    return _grant(facts, asked, mode=mode, forbidden=asked.mode, idle_until_s=None)


def _allow(facts: Facts, asked: Wish) -> Decision:
    if asked.mode != facts.goal.forbidden:
        known = facts.goal.forbidden or "no mode"
        return _refuse(facts, asked, f"{asked.mode} is not forbidden; {known} is")
    return _grant(facts, asked, forbidden=None)


def _pause(facts: Facts, asked: Wish) -> Decision:
    if facts.goal.paused:
        return _refuse(facts, asked, "already paused")
    return _grant(facts, asked, paused=True, idle_until_s=None)


def _resume(facts: Facts, asked: Wish) -> Decision:
    if facts.goal.trains:
        return _refuse(facts, asked, "nothing is paused")
    return _grant(facts, asked, paused=False, idle_until_s=None)


def _reset(facts: Facts, asked: Wish) -> Decision:
    """History and holds go, the safest mode comes; the caller forgets the rest."""
    decision = _grant(facts, asked)
    return msgspec.structs.replace(decision, goal=Goal(mode=facts.ladder[0]))


def _retry(facts: Facts, asked: Wish) -> Decision:
    """No goal follows from it: the daemon asks the queue, see `queue.retry`."""
    return _refuse(facts, asked, "to try a run again is no matter of the mode")


_ANSWERS: dict[str, Callable[[Facts, Wish], Decision]] = {
    "scale_up": _scale_up,
    "scale_down": _scale_down,
    "pin": _pin,
    "unpin": _unpin,
    "forbid": _forbid,
    "allow": _allow,
    "pause": _pause,
    "resume": _resume,
    "reset": _reset,
    "retry": _retry,
}


def _grant(facts: Facts, asked: Wish, **goal: Any) -> Decision:
    """What is asked: the goal with these of its fields replaced."""
    wanted = asked.kind.replace("_", " ")
    if asked.mode:
        wanted += f" {asked.mode}"
    return Decision(
        goal=msgspec.structs.replace(facts.goal, **goal),
        rule="wish",
        reason=f"{asked.asker} asked: {wanted}",
        evidence={"wish": asked.id, "kind": asked.kind},
    )


def _refuse(facts: Facts, asked: Wish, why: str) -> Decision:
    return Decision(
        goal=facts.goal,
        rule="wish",
        reason=why,
        evidence={"wish": asked.id, "kind": asked.kind},
        refused=True,
    )


def _no_such_mode(facts: Facts, asked: Wish) -> str:
    return f"there is no mode {asked.mode!r}; the modes are {', '.join(facts.ladder)}"


def _is_forbidden(facts: Facts) -> str:
    lowest = facts.goal.forbidden
    return f"{lowest} and all above it are forbidden; `allow {lowest}` first"
