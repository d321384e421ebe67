"""When to climb and when to fall back: the policies `ledger` and `fixed`.

A rule is a function from facts to a decision, or to a sentence that says why it does not
apply. A policy is a tuple of rules, asked in its order; the first decision counts. To add
a rule, write the function and put it in its place in `RULES`.

Times are compared on the timeline alone (`state.records.Timeline`): no rule
misfires because a clock was set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import msgspec

from state.records import Goal
from supervisor.core import answers, pauses
from supervisor.core import ledger as learnt
from supervisor.core.facts import Decision, Evidence, Facts, Forecast
from supervisor.core.guard import ACTS, in_words
from supervisor.core.machine import mode_after
from supervisor.core.moments import span

AFTERSHOCKS_KNOWN = 2
"""aftershocks from which their rate counts as known"""
BREATHER_MIN_S = 60.0
"""no breather is as short as the two moves that it takes"""
UNTRIED_HOURS = 0.5
"""running time after which a mode is known well enough to judge the one above by it"""

GPUS_AWAITED_MAX_S = 60.0
"""longest wait of a climb for an answer of the GPUs, whose driver may take that long to start"""
AWAITED = "awaited"
"""the rule of a decision that waits for an answer which is under way"""

WhyNot = Callable[[], str]
"""why a rule does not apply, said only when somebody asks"""

Rule = Callable[[Facts], Decision | WhyNot]


def decide(facts: Facts) -> Decision:
    """The one decision for these facts. Equal facts give equal decisions."""
    for rule in RULES[facts.limits.name]:
        decision = rule(facts)
        if isinstance(decision, Decision):
            if acts(facts, decision):
                return msgspec.structs.replace(decision, ledger=learnt.after(facts, decision))
            return decision
    return _stay(facts, "stay", "no rule calls for a change")


def acts(facts: Facts, decision: Decision) -> bool:
    """Whether anything is different once `decision` is enacted."""
    return decision.goal != facts.goal or decision.outcome == "proved"


def in_turn(
    facts: Callable[[], Facts], amended: Callable[[Decision], Decision] = lambda decision: decision
) -> Iterator[tuple[Facts, Decision, bool]]:
    """Decide until nothing more follows: the facts, the decision, and whether it acts.

    A fall-back may be followed by idling. Whoever asks makes a decision that acts the goal before
    asking for the next one; the last one does not act.

    Args:
        facts: what is true by then.
        amended: the decision as it shall count, for those who vary the rules.
    """
    follows = True
    while follows:
        known = facts()
        decision = amended(decide(known))
        follows = acts(known, decision)
        yield known, decision, follows


def rejected(facts: Facts) -> tuple[tuple[str, str], ...]:
    """Every rule that does not apply now, and why. The goal's mode has to be on the ladder."""
    answers = [(rule.__name__, rule(facts)) for rule in RULES[facts.limits.name]]
    return tuple((name, why()) for name, why in answers if not isinstance(why, Decision))


# Rules of both policies


def unknown_mode(facts: Facts) -> Decision | WhyNot:
    """The goal's mode is no longer on the ladder: its file was removed or renamed."""
    if facts.goal.mode in facts.ladder:
        return lambda: f"{facts.goal.mode} is on the ladder"
    goal = Goal(
        mode=facts.ladder[0],
        pauses=facts.goal.pauses,
        forbidden=facts.goal.forbidden,
        still=facts.goal.still,
        any_hour_until_at=facts.goal.any_hour_until_at,
    )
    reason = f"{facts.goal.mode} is no longer a mode; {goal.mode} is the safest"
    return Decision(goal=goal, rule="unknown_mode", reason=reason)


def request(facts: Facts) -> Decision | WhyNot:
    """A person's word is granted, or refused with the reason."""
    if facts.request is None:
        return lambda: "nobody asks for anything"
    return answers.answer(facts, facts.request)


def guarded(facts: Facts) -> Decision | WhyNot:
    """The machine's real work comes first: training stands still, leaves, and goes on again."""
    goal, verdict = facts.goal, facts.pressure
    others = tuple(owner for owner in goal.pauses if owner != "guard")
    if verdict is None or facts.guard is None:
        free = msgspec.structs.replace(goal, pauses=others, still=None)
        if free == goal:
            unseen = "no guard is set" if facts.guard is None else "the guard has not looked yet"
            return lambda: unseen
        return Decision(goal=free, rule="guard", reason="no guard is set any more")
    pauses = ("guard", *others) if verdict.answer == "evict" else others
    still: Literal["starts", "frozen"] | None = None
    if verdict.answer in ("hold", "freeze"):
        still = "starts" if verdict.answer == "hold" else "frozen"
    if set(pauses) == set(goal.pauses) and still == goal.still:
        words = verdict, facts.guard
        return lambda: in_words(*words)
    wanted = msgspec.structs.replace(goal, pauses=pauses, still=still)
    why = in_words(verdict, facts.guard)
    seen = verdict.pressure
    evidence: Evidence = {
        "answer": verdict.answer,
        "cause": verdict.cause,
        "cpu_other": seen.cpu_other,
        "memory_other": seen.memory_other,
        **{f"gpu_memory_other_mib.{gpu}": mib for gpu, mib in seen.gpu_memory_other_mib.items()},
        "psi_cpu": seen.psi_cpu,
        "psi_memory": seen.psi_memory,
        **{f"psi_cpu.{group}": percent for group, percent in seen.psi_cpu_protected.items()},
        **{f"psi_memory.{group}": percent for group, percent in seen.psi_memory_protected.items()},
        "service_latency_p95_ms": seen.service_latency_p95_ms,
    }
    reason = f"{ACTS[verdict.answer]}: {why}"
    return Decision(goal=wanted, rule="guard", reason=reason, evidence=evidence)


def quiet_hours(facts: Facts) -> Decision | WhyNot:
    """Training waits for the hours in which it disturbs nobody, and has left before they end."""
    goal, quiet, until_at = facts.goal, facts.quiet, facts.goal.any_hour_until_at
    others = tuple(owner for owner in goal.pauses if owner != "quiet_hours")
    lifted = quiet is not None and until_at is not None and facts.at < until_at
    if quiet is None or lifted:
        trains = True
        why = "no quiet hours are set" if quiet is None else "a person wants it in any hour"
    else:
        trains, why = quiet.open, quiet.words
    pauses = others if trains else (*others, "quiet_hours")
    wanted = msgspec.structs.replace(
        goal,
        pauses=goal.pauses if set(pauses) == set(goal.pauses) else pauses,
        any_hour_until_at=until_at if lifted else None,
    )
    if wanted == goal:
        return lambda: why
    does = "training goes on" if trains else "training saves and waits"
    evidence: Evidence = (
        {} if quiet is None else {"quiet": quiet.why, "changes_at": quiet.changes_at}
    )
    return Decision(goal=wanted, rule="quiet_hours", reason=f"{does}: {why}", evidence=evidence)


def bounded_by_person(facts: Facts) -> Decision | WhyNot:
    """While a person pins or pauses, or training stands still, nothing moves by itself."""
    if facts.goal.paused:
        return _stay(facts, "paused", f"paused by {pauses.who(facts.goal.pauses)}")
    if facts.goal.frozen:
        return _stay(facts, "frozen", f"it stands still by {pauses.OWNERS['guard']}")
    if facts.goal.pinned:
        return _stay(facts, "pinned", f"{facts.goal.mode} is pinned by a person")
    return lambda: "no person pins or pauses"


def forbidden(facts: Facts) -> Decision | WhyNot:
    """A person has forbidden the goal's mode: down to the heaviest that is allowed."""
    asked = facts.goal.forbidden
    if asked is not None and asked not in facts.ladder:
        goal = msgspec.structs.replace(facts.goal, forbidden=None)
        reason = f"{asked}, which a person has forbidden, is no longer a mode: nothing is forbidden"
        return Decision(goal=goal, rule="forbidden", reason=reason)
    if facts.rung <= facts.top:
        return lambda: f"{asked or 'no mode'} is forbidden"
    mode = facts.ladder[facts.top]
    goal = msgspec.structs.replace(facts.goal, mode=mode, idle_until_s=None)
    reason = f"{asked} is forbidden by a person: down to {mode}"
    return Decision(goal=goal, rule="forbidden", reason=reason)


def reboot_storm(facts: Facts) -> Decision | WhyNot:
    """More crashes than forgiven within the window of this visit: one rung down.

    With `ledger`, a mode that is worth its crashes all the same, which come evenly, may stay,
    unless `strict`.
    """
    crashes, limits = len(facts.recent_crashes_s), facts.limits
    window = span(limits.window_min * 60)
    if crashes <= limits.crashes_max or facts.rung == 0:
        return lambda: (
            _lowest(facts)
            or f"{_crashes(crashes)} within {window}, {limits.crashes_max} are forgiven"
        )
    ground = ""
    if limits.name == "ledger":
        high = learnt.rate(facts.known).high_per_h
        if not limits.strict and _bears(facts, high):
            return lambda: (
                f"{_crashes(crashes)} within {window}, but by its record it has at most "
                f"{high:.2f} an hour, and it pays for {_worth_per_h(facts):.2f}"
            )
        ground = "`strict` bears no more" if limits.strict else _no_bearing(facts, high)
    return _fall_back(
        facts,
        "reboot_storm",
        f"{_crashes(crashes)} in {facts.goal.mode} within {window}, "
        f"{limits.crashes_max} are forgiven",
        ground,
        crashes=crashes,
        crashes_max=limits.crashes_max,
        window_min=limits.window_min,
    )


def boot_loop(facts: Facts) -> Decision | WhyNot:
    """The machine dies even in the lowest mode: leave it idle, so that a person can log in."""
    until_s, mode = facts.idle_until_s, facts.goal.mode
    if until_s is not None and until_s != facts.goal.idle_until_s:
        return Decision(
            goal=msgspec.structs.replace(facts.goal, idle_until_s=until_s),
            rule="boot_loop",
            reason=(
                f"{facts.short_boots} boots in a row died within "
                f"{span(facts.limits.short_boot_min * 60)} of training: nothing trains for "
                f"{span(until_s - facts.now_s)}; `resume` trains now"
            ),
            evidence={"short_boots": facts.short_boots, "idle_after": facts.limits.idle_after},
        )
    if until_s is not None:
        return _stay(facts, "boot_loop", "idle: the machine dies as soon as it trains")
    if facts.goal.idle_until_s is not None:
        reason = f"no longer idle: {mode} is tried again"
        goal = msgspec.structs.replace(facts.goal, idle_until_s=None)
        return Decision(goal=goal, rule="idle_over", reason=reason)
    return lambda: (
        f"{facts.short_boots} boots in a row died at once, {facts.limits.idle_after} are too many"
    )


def stable(facts: Facts) -> Decision | WhyNot:
    """Stable for long enough and the next rung has cooled down: one rung up.

    With `ledger`, a mode that is never calm for so long is left after a day of running, too:
    what the rung above bears is asked once in a while, whatever this one does.
    """
    blocked = _no_climb(facts)
    if blocked is not None:
        return lambda: blocked
    upper = facts.ladder[facts.rung + 1]
    needed_s = facts.limits.stable_min * 60
    cool_s = facts.cool_down_left_s(upper)
    if _climb_in_s(facts) > 0:
        return lambda: (
            f"{upper} is left alone for {span(cool_s)} more"
            if cool_s > 0
            else f"{span(facts.stable_s)} stable, {span(needed_s)} are needed"
        )
    calm = f"{span(facts.stable_s)} stable in {facts.goal.mode}"
    if facts.stable_s < needed_s:
        calm = f"{span(facts.running_s)} in {facts.goal.mode} without {span(needed_s)} of calm"
    return _climb(
        facts,
        "stable",
        calm,
        stable_s=round(facts.stable_s, 1),
        stable_min=facts.limits.stable_min,
    )


# Rules of `ledger` alone


def no_gpus(facts: Facts) -> Decision | WhyNot:
    """No run can have the GPUs that the mode gives it: down to the next that needs fewer."""
    mode = facts.goal.mode
    if (lack := _lacks_gpus(facts, mode)) is None:
        return lambda: f"there are GPUs enough for {mode}"
    if facts.readings is None or facts.readings.gpu_awaited_s is not None:
        return lambda: "which GPUs there are is being asked for"
    lower = [name for name in facts.ladder[: facts.rung] if _lacks_gpus(facts, name) is None]
    if not lower:
        return lambda: f"{lack}, and no lower mode needs fewer"
    goal = msgspec.structs.replace(facts.goal, mode=lower[-1], idle_until_s=None)
    return Decision(goal=goal, rule="no_gpus", reason=f"{lack}: down to {lower[-1]}")


def _lacks_gpus(facts: Facts, mode: str) -> str | None:
    """What that mode is short of, so that nothing could train in it; None: nothing."""
    need, known = facts.gpus_needed.get(mode, 0), facts.gpus
    if need <= (known or 0):
        return None
    there = "none is known here" if known is None else f"this home has {known}"
    return f"{mode} gives each run {need} GPU{'s' * (need > 1)} for itself, and {there}"


def absence(facts: Facts) -> Decision | WhyNot:
    """The machine was down for a day or more: what it bears now is unknown, so begin low."""
    if not facts.away or facts.rung == 0:
        return lambda: _lowest(facts) or "the machine was not away for a day"
    goal = msgspec.structs.replace(facts.goal, mode=facts.ladder[0])
    reason = f"the machine was down for a day or more: begins again in {goal.mode}"
    return Decision(goal=goal, rule="absence", reason=reason)


def out_of_memory(facts: Facts) -> Decision | WhyNot:
    """A trainer ran out of memory right after the climb: the mode does not fit."""
    if not facts.out_of_memory or facts.rung == 0:
        return lambda: _lowest(facts) or "no trainer ran out of memory right after the climb"
    return _fall_back(
        facts, "out_of_memory", f"{facts.goal.mode} does not fit: a trainer ran out of memory"
    )


def worse_than_worth(facts: Facts) -> Decision | WhyNot:
    """A crash in a mode that is known to crash more often than it is worth: leave at the first.

    Known by its rate, where it has failed before; or by how often one crash is soon followed
    by another, where crashes come in bursts.
    """
    if facts.rung == 0 or not facts.crashes_s:
        return lambda: _lowest(facts) or f"no crash in this visit of {facts.goal.mode}"
    known = facts.known
    shaken = facts.stable_s < learnt.SHAKEN_S and known.aftershocks >= AFTERSHOCKS_KNOWN
    if not known.level and not shaken:
        return lambda: f"{facts.goal.mode} has not failed before, nor does it crash in bursts"
    trial = learnt.on_probation(facts.ledger, facts.terms, facts.goal.mode, facts.running_s)
    if trial and learnt.long_trial(known):
        return lambda: (
            f"after {known.in_row} failures in a row this trial may cost more, "
            f"to see whether {facts.goal.mode} grows calm"
        )
    bound = facts.limits.worse_factor * _worth_per_h(facts)
    usual, soon = learnt.rate(known).mean_per_h, learnt.aftershock_rate(known).mean_per_h
    if known.level and usual > bound:
        why = f"{facts.goal.mode} crashes again, as it does {usual:.1f} times an hour"
        return _fall_back(facts, "worse_than_worth", why, _pays(facts))
    if shaken and soon > bound:
        why = f"soon after a crash {facts.goal.mode} crashes {soon:.1f} times an hour"
        return _fall_back(facts, "worse_than_worth", why, _pays(facts))
    return lambda: (
        f"it crashes {usual:.2f} times an hour, soon after a crash {soon:.2f} times; "
        f"clearly more than it pays for would be {bound:.2f}"
    )


def budget_spent(facts: Facts) -> Decision | WhyNot:
    """The mode has crashed more often than what it brings can pay for.

    Where a long record says that it is worth its crashes, which come evenly, a run of bad luck
    may cost as much again.
    """
    budget, limits = facts.ledger.budget, facts.limits
    if facts.rung == 0 or budget is None or budget >= 0:
        left = limits.budget_max if budget is None else budget
        return lambda: _lowest(facts) or f"its budget bears {left:.2f} crashes more"
    high = learnt.aftershock_rate(facts.known).high_per_h
    if budget > -limits.budget_max and _bears(facts, high):
        return lambda: (
            f"its budget is used up, but by its record it has at most {high:.2f} crashes an hour "
            f"soon after another one, and it pays for {_worth_per_h(facts):.2f}"
        )
    return _fall_back(
        facts,
        "budget_spent",
        f"{_lately(facts)} are more than {facts.goal.mode} pays for",
        _pays(facts),
    )


def breather(facts: Facts) -> Decision | WhyNot:
    """Crashes draw others after them: the mode below goes on until that is over, where it pays.

    Nothing is held against the mode, whose visit goes on afterwards.
    """
    if facts.rung == 0 or not facts.crashes_s or facts.stable_s:
        return lambda: _lowest(facts) or f"{facts.goal.mode} has not crashed just now"
    if learnt.on_probation(facts.ledger, facts.terms, facts.goal.mode, facts.running_s):
        return lambda: f"{facts.goal.mode} is on probation, and has to bear its crashes"
    left_s = 3600 * learnt.breather_h(facts) - (facts.now_s - facts.crashes_s[-1])
    if left_s < BREATHER_MIN_S:
        return lambda: (
            f"to wait after a crash would bring {facts.goal.mode} no more work, as far as is known"
        )
    mode, below = facts.goal.mode, facts.ladder[facts.rung - 1]
    return Decision(
        goal=msgspec.structs.replace(facts.goal, mode=below, idle_until_s=None),
        rule="breather",
        reason=f"a crash of {mode} draws others after it: {below} for {span(left_s)}, then {mode}",
        evidence={**numbers(facts), "breather_min": round(left_s / 60, 1)},
        outcome="breather",
        cool_down_s=left_s,
    )


def breather_over(facts: Facts) -> Decision | WhyNot:
    """The breather after a crash is over, and no crash has come meanwhile: the mode goes on."""
    blocked = _no_climb(facts)
    if blocked is not None or not _has_breather(facts):
        return lambda: blocked or f"{facts.goal.mode} is no breather"
    left_s = facts.cool_down_left_s(facts.ladder[facts.rung + 1])
    if left_s > 0:
        return lambda: f"it lasts for {span(left_s)} more"
    return _climb(facts, "breather_over", "no crash since", outcome="breather_over")


def not_faster(facts: Facts) -> Decision | WhyNot:
    """Measured for long enough, the mode brings nothing over the one below."""
    limits = facts.limits
    if facts.rung == 0 or facts.running_s < _trial_s(facts):
        return lambda: (
            _lowest(facts)
            or (f"tried for {span(facts.running_s)}, {span(_trial_s(facts))} are needed")
        )
    worth = _worth_per_h(facts)
    if worth >= limits.worthless_per_h:
        return lambda: f"it pays for {worth:.2f} crashes an hour"
    faster = learnt.ratio(facts.ledger, facts.terms, facts.rung)
    below = facts.ladder[facts.rung - 1]
    return _fall_back(
        facts,
        "not_faster",
        f"{facts.goal.mode} trains only {faster:.2f} times as fast as {below}",
        worthless=True,
    )


def proved(facts: Facts) -> Decision | WhyNot:
    """The mode has lasted: one failure of the past is walked back, the bad spell is over."""
    if not _has_to_prove(facts):
        return lambda: _lowest(facts) or "it has nothing to prove"
    needed_s = facts.limits.stable_min * 60
    if facts.running_s < needed_s:
        return lambda: f"it has lasted for {span(facts.running_s)}, {span(needed_s)} are a proof"
    level = max(0, facts.known.level - 1)
    return Decision(
        goal=facts.goal,
        rule="proved",
        reason=(
            f"{facts.goal.mode} has lasted for {span(facts.running_s)}: its bad spell is over, "
            + (f"{_failures(level)} to be made good" if level else "nothing is held against it")
        ),
        evidence=numbers(facts),
        outcome="proved",
    )


def exonerated(facts: Facts) -> Decision | WhyNot:
    """The lower mode crashes as well: the upper one is not the cause, and brings more.

    A mode that was never tried is taken to crash `heavier_factor` times as often as this one:
    where the machine is never calm for an hour, waiting for calm would be for ever.
    """
    blocked = _no_climb(facts)
    if blocked is not None:
        return lambda: blocked
    limits, upper = facts.limits, facts.ladder[facts.rung + 1]
    known = facts.ledger.modes.get(upper, learnt.NOTHING)
    crashes, running_h = facts.crashes, facts.running_s / 3600
    if crashes < limits.exonerated_after:
        return lambda: (
            f"{_crashes(crashes)} in {facts.goal.mode}, {limits.exonerated_after} are needed"
        )
    untried = not known.last_hours
    if untried and (running_h < UNTRIED_HOURS or facts.cool_down_left_s(upper) > 0):
        return lambda: f"{upper} was never tried, and {facts.goal.mode} only for a moment"
    if not untried and not known.level and facts.running_s < limits.stable_min * 60:
        return lambda: f"{upper} has not failed"  # it is due after an hour, calm or not
    price_h = learnt.price_h(facts.ledger, limits)
    faster = learnt.ratio(facts.ledger, facts.terms, facts.rung + 1)
    here = learnt.net(1.0, crashes, running_h, price_h)
    if untried:
        above = learnt.net(faster, crashes, running_h, price_h * limits.heavier_factor)
    else:
        above = learnt.net(faster, known.last_crashes, known.last_hours, price_h)
    if above <= limits.exonerated_factor * here:
        return lambda: (
            f"{upper} should keep {above / here:.2f} times the work of {facts.goal.mode}, "
            f"more than {limits.exonerated_factor:g} times is needed"
        )
    return _climb(
        facts,
        "exonerated",
        f"{facts.goal.mode} crashes as well ({_crashes(crashes)} in {span(facts.running_s)}), "
        f"and {upper} should keep {above / here:.1f} times as much work",
        outcome="exonerated",
    )


RULES: dict[str, tuple[Rule, ...]] = {
    "fixed": (
        unknown_mode,
        request,
        guarded,
        quiet_hours,
        bounded_by_person,
        forbidden,
        no_gpus,
        reboot_storm,
        boot_loop,
        stable,
    ),
    "ledger": (
        unknown_mode,
        request,
        guarded,
        quiet_hours,
        bounded_by_person,
        forbidden,
        no_gpus,
        absence,
        out_of_memory,
        worse_than_worth,
        budget_spent,
        reboot_storm,
        breather,
        breather_over,
        not_faster,
        boot_loop,
        proved,
        exonerated,
        stable,
    ),
}
"""policy: its rules, asked in this order; the first that decides is followed"""


def forecast(facts: Facts) -> Forecast:
    """What comes next, when and why, if no crash and no request comes first."""
    mode = facts.goal.mode
    if mode not in facts.ladder:
        return Forecast(action="stay", in_s=0.0, why=f"{mode} is no longer a mode")
    if (rest := _rest(facts)) is not None:
        return rest
    if facts.goal.pinned:
        return Forecast(action="stay", in_s=None, why=f"{mode} is pinned; `unpin` frees it")
    if facts.rung + 1 == len(facts.ladder):
        return Forecast(action="stay", in_s=None, why=f"{mode} is the highest mode")
    upper = facts.ladder[facts.rung + 1]
    if facts.rung >= facts.top:
        why = f"{upper} is forbidden; `allow {facts.goal.forbidden}` frees it"
        return Forecast(action="stay", in_s=None, why=why)
    in_s = _climb_in_s(facts)
    why = f"{upper} in {span(in_s)}, if no crash"
    if _has_breather(facts):
        why += f" ({upper} has a breather after one)"
    elif facts.cool_down_left_s(upper) >= in_s > 0:
        why += f" ({upper} is cooling down)"
    pressure = _against(facts, upper)
    if in_s == 0 and pressure is not None:
        why = f"{upper}, but {pressure.words}"
    return Forecast(action="climb", in_s=in_s, why=why)


def _rest(facts: Facts) -> Forecast | None:
    """Why nothing trains, and until when; None: it does."""
    goal = facts.goal
    if goal.paused:
        lifted = "`resume` goes on" if "person" in goal.pauses else "it goes on by itself"
        if "person" in goal.pauses and len(goal.pauses) > 1:
            lifted = f"`resume` lifts what {pauses.OWNERS['person']} has paused, and no more"
        why = f"paused by {pauses.who(goal.pauses)}; {lifted}"
        if "guard" in goal.pauses:
            why = f"{why}: {_pressure_in_words(facts)}"
        if "quiet_hours" in goal.pauses and facts.quiet is not None:
            why = f"{why}: {facts.quiet.words}"
        return Forecast(action="rest", in_s=None, why=why)
    if goal.frozen:
        why = f"training stands still, and goes on by itself: {_pressure_in_words(facts)}"
        return Forecast(action="rest", in_s=None, why=why)
    if not facts.work_left:
        return Forecast(action="rest", in_s=None, why="every run has ended")
    if goal.still == "starts":
        why = f"nothing new starts yet, and then by itself: {_pressure_in_words(facts)}"
        return Forecast(action="rest", in_s=None, why=why)
    if goal.idle_until_s is not None:
        in_s = max(0.0, goal.idle_until_s - facts.now_s)
        why = f"the machine dies as soon as it trains: idle, {goal.mode} in {span(in_s)}"
        return Forecast(action="rest", in_s=in_s, why=why)
    return None


def _pressure_in_words(facts: Facts) -> str:
    if facts.pressure is None or facts.guard is None:
        return pauses.OWNERS["guard"]
    return in_words(facts.pressure, facts.guard)


def wake_in_s(facts: Facts) -> float | None:
    """Seconds until a rule may decide by the passing of time alone, while trainers run."""
    if facts.goal.idle_until_s is not None:
        return max(0.0, facts.goal.idle_until_s - facts.now_s)
    goal = facts.goal
    if goal.mode not in facts.ladder or goal.paused or goal.pinned or goal.frozen:
        return None
    due_s = [_climb_in_s(facts)] if facts.work_left and facts.rung < facts.top else []
    if facts.limits.name == "ledger" and facts.rung:
        due_s.append(_trial_s(facts) - facts.running_s)
        if _has_to_prove(facts):
            due_s.append(facts.limits.stable_min * 60 - facts.running_s)
    return min((seconds for seconds in due_s if seconds > 0), default=None)


def numbers(facts: Facts) -> Evidence:
    """What the policy knows of the goal's mode and the one above, for people."""
    known: Evidence = {"running_h": round(facts.running_s / 3600, 2)}
    if facts.limits.name == "fixed" or facts.goal.mode not in facts.ladder:
        return known
    ledger, terms, limits = facts.ledger, facts.terms, facts.limits
    known["crash_price_min"] = round(60 * learnt.price_h(ledger, limits), 2)
    for role, rung in (("", facts.rung), ("next_", facts.rung + 1)):
        if not 0 < rung < len(facts.ladder):
            continue
        mode = ledger.modes.get(facts.ladder[rung], learnt.NOTHING)
        rate = learnt.rate(mode)
        known |= {
            f"{role}crashes_per_h": round(rate.mean_per_h, 3),
            f"{role}crashes_per_h_high": round(rate.high_per_h, 3),
            f"{role}break_even_per_h": round(learnt.break_even_per_h(ledger, terms, rung), 3),
            f"{role}speed_ratio": round(learnt.ratio(ledger, terms, rung), 3),
            f"{role}level": mode.level,
        }
    if facts.rung:
        probation = learnt.on_probation(ledger, terms, facts.goal.mode, facts.running_s)
        known |= {
            "crashes_of_visit": facts.crashes,
            "budget": None if ledger.budget is None else round(ledger.budget, 3),
            "probation": probation,
        }
    return known


def _climb_in_s(facts: Facts) -> float:
    """How long until the next rung may be tried, if no crash comes first."""
    if _has_breather(facts):
        return facts.cool_down_left_s(facts.ladder[facts.rung + 1])
    limits = facts.limits
    wait_s = limits.stable_min * 60 - facts.stable_s
    if limits.name == "ledger":
        wait_s = min(wait_s, limits.cool_down_max_h * 3600 - facts.running_s)
    return max(0.0, wait_s, facts.cool_down_left_s(facts.ladder[facts.rung + 1]))


def _has_breather(facts: Facts) -> bool:
    """Whether the mode above has a breather, which a crash of this one ends."""
    return facts.breather and not facts.crashes_s


def _worth_per_h(facts: Facts) -> float:
    """How many crashes an hour the goal's mode is worth."""
    return learnt.break_even_per_h(facts.ledger, facts.terms, facts.rung)


def _bears(facts: Facts, crashes_per_h: float) -> bool:
    """Whether so many crashes are fewer than the goal's mode is worth, and they come evenly."""
    return crashes_per_h < _worth_per_h(facts) and learnt.crashes_evenly(facts.known)


def _has_to_prove(facts: Facts) -> bool:
    """Whether the mode has failed before, and this visit has not yet shown that this is over."""
    if facts.rung == 0 or facts.proved:
        return False
    return facts.known.level > 0 or facts.known.bad_since_s is not None


def _trial_s(facts: Facts) -> float:
    """For how long the mode has to run before its speed is judged; less where that is known."""
    limits = facts.limits
    known_h = learnt.compared_h(facts.ledger, facts.terms, facts.rung) - facts.running_s / 3600
    return 3600 * max(limits.trial_h - max(0.0, known_h), min(limits.retrial_h, limits.trial_h))


def _no_climb(facts: Facts) -> str | None:
    """Why the next rung is out of the question; None where it is a matter of time."""
    if facts.rung + 1 == len(facts.ladder):
        return f"{facts.goal.mode} is the highest mode"
    if facts.rung >= facts.top:
        return f"{facts.goal.forbidden} is forbidden by a person"
    return None if facts.work_left else "every run has ended"


def _awaits_gpus(facts: Facts) -> bool:
    """Whether more is about to be known of the GPUs than these facts have."""
    awaited_s = facts.readings.gpu_awaited_s if facts.readings is not None else None
    return awaited_s is not None and awaited_s < GPUS_AWAITED_MAX_S


class Pressure(NamedTuple):
    """What speaks against a heavier load."""

    kind: Literal["driver", "heat", "memory", "memory_errors", "no_gpus", "xid"]
    words: str
    """for people"""
    gpu: int | None = None
    """its index; None: that is in the words alone"""


def _pressure(facts: Facts) -> Pressure | None:
    """What speaks against a heavier load at this moment, if anything does."""
    limits = facts.limits
    for gpu in facts.readings.gpus if facts.readings is not None else ():
        used, total = gpu.memory_used_mib, gpu.memory_total_mib
        if used is not None and total and used > limits.gpu_memory_max * total:
            words = f"GPU {gpu.index} has {100 * used / total:.0f} % of its memory in use"
            return Pressure("memory", words, gpu.index)
        heat_c, most_c = gpu.temperature_c, gpu.temperature_limit_c
        if heat_c is not None and most_c is not None and heat_c > most_c - limits.gpu_margin_c:
            words = f"GPU {gpu.index} has {heat_c:.0f} °C and slows itself down at {most_c:.0f} °C"
            return Pressure("heat", words, gpu.index)
        if gpu.xids and gpu.trouble is not None:
            return Pressure("xid", gpu.trouble, gpu.index)
        if gpu.ecc_uncorrected:
            words = f"GPU {gpu.index} has had {gpu.ecc_uncorrected} memory errors beyond repair"
            return Pressure("memory_errors", words, gpu.index)
    return None if facts.gpu_error is None else Pressure("driver", facts.gpu_error)


def _against(facts: Facts, upper: str) -> Pressure | None:
    """What keeps that mode from being tried."""
    if (lack := _lacks_gpus(facts, upper)) is not None:
        return Pressure("no_gpus", lack)
    return _pressure(facts) if facts.limits.name == "ledger" else None


def _climb(
    facts: Facts,
    rule: str,
    why: str,
    *,
    outcome: Literal["exonerated", "breather_over"] | None = None,
    **more: float | int | str | None,
) -> Decision:
    """One rung up, unless the machine is under pressure."""
    upper = mode_after(facts.ladder, facts.goal.mode, "climb")
    ledger, limits = facts.ledger, facts.limits
    if limits.name == "ledger" and _awaits_gpus(facts):
        reason = f"{upper} would be next ({why}), once the GPUs have answered"
        return Decision(goal=facts.goal, rule=AWAITED, reason=reason)
    if (pressure := _against(facts, upper)) is not None:
        reason = f"{upper} would be next ({why}), but {pressure.words}"
        return Decision(
            goal=facts.goal,
            rule="pressure",
            reason=reason,
            evidence={"pressure": pressure.kind, "gpu": pressure.gpu},
            outcome="vetoed",
        )
    reason = f"{why}: up to {upper}"
    if limits.name == "ledger":
        worth = learnt.break_even_per_h(ledger, facts.terms, facts.rung + 1)
        faster = learnt.ratio(ledger, facts.terms, facts.rung + 1)
        level = ledger.modes.get(upper, learnt.NOTHING).level - (outcome == "exonerated")
        known_then = ledger.modes.get(upper, learnt.NOTHING)
        after = msgspec.structs.replace(known_then, level=level)
        entered = msgspec.structs.replace(ledger, modes={**ledger.modes, upper: after})
        budget = learnt.budget_cap(entered, facts.terms, upper, 0.0)
        trial = f", on probation for {span(limits.stable_min * 60)}" if level > 0 else ""
        known = "is" if learnt.compared(ledger, facts.terms, facts.rung + 1) else "should be"
        brings = f"which {known} {faster:.2f} times as fast"
        brings += f" and pays for {worth:.2f} crashes an hour"
        if worth <= 0:
            brings = f"to see whether it is still only {faster:.2f} times as fast"
        reason += f", {brings}; its budget bears {budget:.2g}{trial}"
    return Decision(
        goal=msgspec.structs.replace(facts.goal, mode=upper),
        rule=rule,
        reason=reason,
        evidence={**numbers(facts), **more},
        outcome=outcome,
    )


def _fall_back(
    facts: Facts,
    rule: str,
    why: str,
    ground: str = "",
    *,
    worthless: bool = False,
    **more: float | int | str | None,
) -> Decision:
    """One rung down, and the mode that is left cools down, unless a person had asked for it."""
    limits = facts.limits
    mode = mode_after(facts.ladder, facts.goal.mode, "fall_back")
    goal = msgspec.structs.replace(facts.goal, mode=mode, idle_until_s=None)
    reason = f"{why}: back to {mode}" + (f"; {ground}" if ground else "")
    if facts.forced:
        told = "a person had asked for it, so this is not held against it"
        evidence = {**numbers(facts), **more, "forced": True}
        return Decision(goal=goal, rule=rule, reason=f"{reason}; {told}", evidence=evidence)
    wait_s = limits.cool_down_min * 60
    if limits.name == "ledger":
        wait_s = learnt.cool_down_h(facts, worthless=worthless) * 3600
    return Decision(
        goal=goal,
        rule=rule,
        reason=f"{reason}; {facts.goal.mode} again in {span(wait_s)} at the earliest",
        evidence={**numbers(facts), **more, "cool_down_min": round(wait_s / 60, 1)},
        outcome="failed",
        cool_down_s=wait_s,
    )


def _pays(facts: Facts) -> str:
    """How many crashes the goal's mode is worth, in words."""
    mode, below, worth = facts.goal.mode, facts.ladder[facts.rung - 1], _worth_per_h(facts)
    if worth <= 0:
        return f"{mode} brings less than {below} even without a crash"
    return f"{mode} pays for {worth:.2f} crashes an hour of running"


def _no_bearing(facts: Facts, high_per_h: float) -> str:
    """Why the goal's mode does not sit a storm of crashes out."""
    known, worth = facts.known, _worth_per_h(facts)
    if high_per_h >= worth:
        most = f"; it may have {high_per_h:.2f}" if worth > 0 else ""
        return _pays(facts) + most
    if learnt.bursts(known):
        soon = learnt.aftershock_rate(known).mean_per_h
        return (
            f"a crash draws others after it there ({soon:.1f} an hour soon after one), "
            "and leaving ends that"
        )
    return "how often it crashes is not known for long enough to sit this out"


def _lately(facts: Facts) -> str:
    """The crashes that have used the budget up: as many as it bears at most, and one."""
    count, listed_s = facts.crashes, facts.crashes_s
    cap = learnt.budget_cap(facts.ledger, facts.terms, facts.goal.mode, facts.running_s)
    newest = math.floor(cap) + 1
    whole = f"{_crashes(count)} in {span(facts.running_s)} of running"
    if facts.running_s < 1:
        return f"{_crashes(count)} before any step was made"
    if count > newest and newest < len(listed_s):
        return f"{whole}, the newest {newest} within {span(facts.now_s - listed_s[-newest])},"
    within_s = facts.now_s - listed_s[0] if listed_s else 0.0
    if 1 < count == len(listed_s) and within_s < facts.running_s:
        return f"{_crashes(count)} within {span(within_s)}"  # long calm before says nothing
    return whole


def _lowest(facts: Facts) -> str | None:
    return f"{facts.goal.mode} is the lowest mode" if facts.rung == 0 else None


def _crashes(count: int) -> str:
    return "1 crash" if count == 1 else f"{count} crashes"


def _failures(level: int) -> str:
    """How many failures are held against a mode, in words."""
    return "1 failure has still" if level == 1 else f"{level} failures have still"


def _stay(facts: Facts, rule: str, why: str) -> Decision:
    return Decision(goal=facts.goal, rule=rule, reason=why)
