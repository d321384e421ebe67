"""What a person asks is granted, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from state import requests
from state.records import Goal
from state.requests import AboutTheMode
from supervisor.core import pauses
from supervisor.core.facts import Decision, Facts
from supervisor.core.machine import mode_after
from supervisor.core.moments import stamp, when


def answer(facts: Facts, asked: AboutTheMode) -> Decision:
    """What becomes of a request. The goal's mode has to be on the ladder."""
    return ANSWERS[type(asked)](facts, asked)


def _scale_up(facts: Facts, asked: AboutTheMode) -> Decision:
    if facts.goal.pinned:
        return _refuse(facts, asked, f"{facts.goal.mode} is pinned; `unpin` first")
    if facts.rung + 1 == len(facts.ladder):
        return _refuse(facts, asked, f"{facts.goal.mode} is already the highest mode")
    if facts.rung >= facts.top:
        return _refuse(facts, asked, _is_forbidden(facts))
    upper = mode_after(facts.ladder, facts.goal.mode, "climb")
    return _grant(facts, asked, mode=upper, idle_until_s=None)


def _scale_down(facts: Facts, asked: AboutTheMode) -> Decision:
    if facts.goal.pinned:
        return _refuse(facts, asked, f"{facts.goal.mode} is pinned; `unpin` first")
    if facts.rung == 0:
        return _refuse(facts, asked, f"{facts.goal.mode} is already the lowest mode")
    lower = mode_after(facts.ladder, facts.goal.mode, "fall_back")
    return _grant(facts, asked, mode=lower, idle_until_s=None)


def _pin(facts: Facts, asked: requests.Pin) -> Decision:
    if asked.mode not in facts.ladder:
        return _refuse(facts, asked, _no_such_mode(facts, asked))
    if facts.ladder.index(asked.mode) > facts.top:
        return _refuse(facts, asked, _is_forbidden(facts))
    target = mode_after(facts.ladder, facts.goal.mode, f"pin_{asked.mode}")
    return _grant(facts, asked, mode=target, pinned=True, idle_until_s=None)


def _unpin(facts: Facts, asked: AboutTheMode) -> Decision:
    if not facts.goal.pinned:
        return _refuse(facts, asked, "no mode is pinned")
    return _grant(facts, asked, pinned=False, idle_until_s=None)


def _forbid(facts: Facts, asked: requests.Forbid) -> Decision:
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


def _allow(facts: Facts, asked: requests.Allow) -> Decision:
    if asked.mode != facts.goal.forbidden:
        known = facts.goal.forbidden or "no mode"
        return _refuse(facts, asked, f"{asked.mode} is not forbidden; {known} is")
    return _grant(facts, asked, forbidden=None)


def _pause(facts: Facts, asked: AboutTheMode) -> Decision:
    if "person" in facts.goal.pauses:
        return _refuse(facts, asked, "already paused")
    return _grant(facts, asked, pauses=("person", *facts.goal.pauses), idle_until_s=None)


def _resume(facts: Facts, asked: AboutTheMode) -> Decision:
    """What a person has paused, and idling, are lifted; others lift their own pauses."""
    goal = facts.goal
    others = tuple(owner for owner in pauses.holding(goal) if owner != "person")
    if "person" not in goal.pauses and goal.idle_until_s is None:
        if not others:
            return _refuse(facts, asked, "nothing is paused")
        why = f"paused by {pauses.who(others)}, not by a person; {pauses.lifted(others)}"
        return _refuse(facts, asked, why)
    left = tuple(owner for owner in goal.pauses if owner != "person")
    return _still_held(_grant(facts, asked, pauses=left, idle_until_s=None))


def _train_now(facts: Facts, asked: requests.TrainNow) -> Decision:
    """The quiet hours are lifted for a while; the guard never is."""
    if facts.quiet is None or facts.quiet.why == "off":
        none = "no quiet hours are set" if facts.quiet is None else facts.quiet.words
        return _refuse(facts, asked, f"{none}: it trains in any hour as it is")
    until_at = facts.at + asked.for_s
    left = tuple(owner for owner in facts.goal.pauses if owner != "quiet_hours")
    granted = _grant(facts, asked, pauses=left, any_hour_until_at=until_at)
    told = f"{granted.reason}, until {when(stamp(until_at))}"
    return _still_held(msgspec.structs.replace(granted, reason=told))


def _still_held(granted: Decision) -> Decision:
    """The same, which says who else keeps training from going on, and what lifts that."""
    owners = pauses.holding(granted.goal)
    if not owners:
        return granted
    told = f"{granted.reason}; still paused by {pauses.who(owners)}; {pauses.lifted(owners)}"
    return msgspec.structs.replace(granted, reason=told)


def _reset(facts: Facts, asked: AboutTheMode) -> Decision:
    """History and holds go, the safest mode comes; the caller forgets the rest."""
    decision = _grant(facts, asked)
    return msgspec.structs.replace(decision, goal=Goal(mode=facts.ladder[0]))


def _grant(facts: Facts, asked: AboutTheMode, **goal: Any) -> Decision:
    """What is asked: the goal with these of its fields replaced."""
    return Decision(
        goal=msgspec.structs.replace(facts.goal, **goal),
        rule="request",
        reason=f"{asked.asker} asked: {asked.words}",
        evidence={"request": asked.id, "kind": asked.kind},
    )


def _refuse(facts: Facts, asked: AboutTheMode, why: str) -> Decision:
    return Decision(
        goal=facts.goal,
        rule="request",
        reason=why,
        evidence={"request": asked.id, "kind": asked.kind},
        refused=True,
    )


def _no_such_mode(facts: Facts, asked: requests.OfAMode) -> str:
    return f"there is no mode {asked.mode!r}; the modes are {', '.join(facts.ladder)}"


def _is_forbidden(facts: Facts) -> str:
    lowest = facts.goal.forbidden
    return f"{lowest} and all above it are forbidden; `allow {lowest}` first"


ANSWERS: dict[type[Any], Callable[[Facts, Any], Decision]] = {
    requests.ScaleUp: _scale_up,
    requests.ScaleDown: _scale_down,
    requests.Pin: _pin,
    requests.Unpin: _unpin,
    requests.Forbid: _forbid,
    requests.Allow: _allow,
    requests.Pause: _pause,
    requests.Resume: _resume,
    requests.TrainNow: _train_now,
    requests.Reset: _reset,
}
"""kind of request: what answers it"""
