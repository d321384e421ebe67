"""When to climb and when to fall back: the rule called `fixed`.

A rule is a function from facts to a decision, or to None where it has nothing to
say. They are asked in the order of `RULES`; the first answer counts. To add a
rule, write the function and put it in its place there.

Times are compared on the timeline alone (`state.records.Timeline`): no rule
misfires because a clock was set.
"""

from __future__ import annotations

from collections.abc import Callable

from state.records import Goal, Wish
from supervisor.clock import span
from supervisor.core.facts import Decision, Facts, Forecast
from supervisor.core.machine import StateMachine, ladder_moves

NAME = "fixed"
"""how the policy is called in the log and in show-state"""

Rule = Callable[[Facts], Decision | None]


def decide(facts: Facts) -> Decision:
    """The one decision for these facts. Equal facts give equal decisions."""
    for rule in RULES:
        decision = rule(facts)
        if decision is not None:
            return decision
    return _stay(facts, "stay", forecast(facts).why)


def unknown_mode(facts: Facts) -> Decision | None:
    """The goal's mode is no longer on the ladder: its file was removed or renamed."""
    if facts.goal.mode in facts.ladder:
        return None
    goal = Goal(mode=facts.ladder[0], paused=facts.goal.paused)
    reason = f"{facts.goal.mode} is no longer a mode; {goal.mode} is the safest"
    return Decision(goal=goal, rule="unknown_mode", reason=reason)


def wish(facts: Facts) -> Decision | None:
    """A person's word is granted, or refused with the reason."""
    if facts.wish is None:
        return None
    return _ANSWERS[facts.wish.kind](facts, facts.wish)


def held_by_person(facts: Facts) -> Decision | None:
    """While a person pins or pauses, nothing moves by itself."""
    if facts.goal.paused:
        return _stay(facts, "paused", forecast(facts).why)
    if facts.goal.pinned:
        return _stay(facts, "pinned", forecast(facts).why)
    return None


def reboot_storm(facts: Facts) -> Decision | None:
    """More crashes than forgiven within the window of this visit: one rung down."""
    crashes, limits = len(facts.recent_crashes_s), facts.limits
    if crashes <= limits.crashes_max or facts.rung == 0:
        return None
    mode = _moved(facts, "fall_back")
    return Decision(
        goal=Goal(mode=mode),
        rule="reboot_storm",
        reason=(
            f"{crashes} crashes in {facts.goal.mode} within {span(limits.window_min * 60)}, "
            f"{limits.crashes_max} are forgiven: back to {mode}; "
            f"{facts.goal.mode} again in {span(limits.cool_down_min * 60)} at the earliest"
        ),
        evidence={
            "crashes": crashes,
            "crashes_max": limits.crashes_max,
            "window_min": limits.window_min,
        },
        cool_down_s=limits.cool_down_min * 60,
    )


def boot_loop(facts: Facts) -> Decision | None:
    """The machine dies even in the lowest mode: leave it idle, so that a person can log in."""
    until_s, mode = facts.idle_until_s, facts.goal.mode
    if until_s is not None and until_s != facts.goal.idle_until_s:
        return Decision(
            goal=Goal(mode=mode, idle_until_s=until_s),
            rule="boot_loop",
            reason=(
                f"{facts.short_boots} boots in a row died within "
                f"{span(facts.limits.short_boot_min * 60)} of training: nothing trains for "
                f"{span(until_s - facts.now_s)}; `resume` trains now"
            ),
            evidence={"short_boots": facts.short_boots, "idle_after": facts.limits.idle_after},
        )
    if until_s is not None:
        return _stay(facts, "boot_loop", forecast(facts).why)
    if facts.goal.idle_until_s is not None:
        reason = f"no longer idle: {mode} is tried again"
        return Decision(goal=Goal(mode=mode), rule="idle_over", reason=reason)
    return None


def stable(facts: Facts) -> Decision | None:
    """Stable for long enough and the next rung has cooled down: one rung up."""
    if facts.rung + 1 == len(facts.ladder) or not facts.work_left:
        return None
    upper = _moved(facts, "climb")
    if facts.stable_s < facts.limits.stable_min * 60 or facts.cool_down_left_s(upper) > 0:
        return None
    return Decision(
        goal=Goal(mode=upper),
        rule="stable",
        reason=f"{span(facts.stable_s)} stable in {facts.goal.mode}: up to {upper}",
        evidence={"stable_s": round(facts.stable_s, 1), "stable_min": facts.limits.stable_min},
    )


RULES: tuple[Rule, ...] = (unknown_mode, wish, held_by_person, reboot_storm, boot_loop, stable)
"""asked in this order; the first that answers decides"""


def forecast(facts: Facts) -> Forecast:
    """What comes next, when and why, if no crash and no wish comes first."""
    mode = facts.goal.mode
    if mode not in facts.ladder:
        return Forecast(action="stay", in_s=0.0, why=f"{mode} is no longer a mode")
    if facts.goal.paused:
        return Forecast(action="rest", in_s=None, why="paused by a person; `resume` goes on")
    if not facts.work_left:
        return Forecast(action="rest", in_s=None, why="every run has ended")
    if facts.goal.idle_until_s is not None:
        in_s = max(0.0, facts.goal.idle_until_s - facts.now_s)
        why = f"the machine dies as soon as it trains: idle, {mode} in {span(in_s)}"
        return Forecast(action="rest", in_s=in_s, why=why)
    if facts.goal.pinned:
        return Forecast(action="stay", in_s=None, why=f"{mode} is pinned; `unpin` frees it")
    if facts.rung + 1 == len(facts.ladder):
        return Forecast(action="stay", in_s=None, why=f"{mode} is the highest mode")
    upper = facts.ladder[facts.rung + 1]
    stable_left_s = max(0.0, facts.limits.stable_min * 60 - facts.stable_s)
    cool_down_left_s = facts.cool_down_left_s(upper)
    in_s = max(stable_left_s, cool_down_left_s)
    why = f"{upper} in {span(in_s)}, if no crash"
    if cool_down_left_s > stable_left_s:
        why += f" ({upper} is cooling down)"
    return Forecast(action="climb", in_s=in_s, why=why)


def _scale_up(facts: Facts, asked: Wish) -> Decision:
    if facts.goal.pinned:
        return _refuse(facts, asked, f"{facts.goal.mode} is pinned; `unpin` first")
    if facts.rung + 1 == len(facts.ladder):
        return _refuse(facts, asked, f"{facts.goal.mode} is already the highest mode")
    return _grant(Goal(mode=_moved(facts, "climb"), paused=facts.goal.paused), asked)


def _scale_down(facts: Facts, asked: Wish) -> Decision:
    if facts.goal.pinned:
        return _refuse(facts, asked, f"{facts.goal.mode} is pinned; `unpin` first")
    if facts.rung == 0:
        return _refuse(facts, asked, f"{facts.goal.mode} is already the lowest mode")
    return _grant(Goal(mode=_moved(facts, "fall_back"), paused=facts.goal.paused), asked)


def _pin(facts: Facts, asked: Wish) -> Decision:
    if asked.mode not in facts.ladder:
        known = ", ".join(facts.ladder)
        return _refuse(facts, asked, f"there is no mode {asked.mode!r}; the modes are {known}")
    target = _moved(facts, f"pin_{asked.mode}")
    return _grant(Goal(mode=target, pinned=True, paused=facts.goal.paused), asked)


def _unpin(facts: Facts, asked: Wish) -> Decision:
    if not facts.goal.pinned:
        return _refuse(facts, asked, "no mode is pinned")
    return _grant(Goal(mode=facts.goal.mode, paused=facts.goal.paused), asked)


def _pause(facts: Facts, asked: Wish) -> Decision:
    if facts.goal.paused:
        return _refuse(facts, asked, "already paused")
    return _grant(Goal(mode=facts.goal.mode, pinned=facts.goal.pinned, paused=True), asked)


def _resume(facts: Facts, asked: Wish) -> Decision:
    if facts.goal.trains:
        return _refuse(facts, asked, "nothing is paused")
    return _grant(Goal(mode=facts.goal.mode, pinned=facts.goal.pinned), asked)


def _reset(facts: Facts, asked: Wish) -> Decision:
    """History and holds go, the safest mode comes; the caller forgets the rest."""
    return _grant(Goal(mode=facts.ladder[0]), asked)


_ANSWERS: dict[str, Callable[[Facts, Wish], Decision]] = {
    "scale_up": _scale_up,
    "scale_down": _scale_down,
    "pin": _pin,
    "unpin": _unpin,
    "pause": _pause,
    "resume": _resume,
    "reset": _reset,
}


def _grant(goal: Goal, asked: Wish) -> Decision:
    wanted = asked.kind.replace("_", " ")
    if asked.mode:
        wanted += f" {asked.mode}"
    return Decision(
        goal=goal,
        rule="wish",
        reason=f"{asked.by} asked: {wanted}",
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


def _stay(facts: Facts, rule: str, why: str) -> Decision:
    return Decision(goal=facts.goal, rule=rule, reason=why)


def _moved(facts: Facts, event: str) -> str:
    return StateMachine(ladder_moves(facts.ladder), facts.ladder).after(facts.goal.mode, event)
