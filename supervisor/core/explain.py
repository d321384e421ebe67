"""What a decision was made from, laid out for a person: learnt numbers, inputs, rules.

Everything here follows from `Facts` alone, so a line of the log explains itself as well as
the present does.
"""

from __future__ import annotations

import math

import msgspec

from state.records import Goal
from supervisor.core import ledger as learnt
from supervisor.core import policy
from supervisor.core.facts import Decision, Facts
from supervisor.core.guard import measures
from supervisor.core.moments import span, stamp
from supervisor.core.replay import LoggedDecision

OTHER_RULES = "it was decided by the rules of another version of this program"


class KnownMode(msgspec.Struct, frozen=True, kw_only=True):
    """What has been learnt about one mode."""

    mode: str
    hours: float
    """of running in it, fading"""
    crashes: float
    """in these, fading likewise"""
    crashes_per_h: float
    crashes_per_h_low: float
    """one in ten that it is lower"""
    crashes_per_h_high: float
    """one in five that it is higher"""
    aftershocks_per_h: float
    """the same rate in the first hour of running after a crash"""
    break_even_per_h: float | None
    """crashes an hour at which it brings no more than the mode below; None for the lowest"""
    steps_per_h: dict[str, float]
    """kind of run: its steps in an hour of training with every slot at it; each in its own unit"""
    speed_ratio: float | None
    """how many times as fast as the mode below it trains; None for the lowest"""
    compared_h: float
    """hours of training that this was measured in; 0: it is what the mode promises"""
    level: int
    """failed visits that no success has walked back; from some on, more are not counted"""
    cool_down_left_s: float
    """how long it is not tried again"""
    bad: bool
    """a bad spell lasts"""
    recoveries: int
    """bad spells that are over"""
    bad_hours: float
    """how long these were, in all"""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy `ledger` has learnt, whether or not it decides."""

    crash_price_min: float
    """what a crash costs, in minutes of work"""
    crashes_priced: int
    """of how many crashes the price was measured"""
    budget: float | None
    """crashes that the mode may still cost; None in the lowest, where nothing is staked"""
    budget_max: float | None
    probation: bool
    """the mode has failed before and was entered a short while ago"""
    modes: tuple[KnownMode, ...]


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a decision was made from."""

    name: str
    value: float | str
    unit: str = ""
    note: str = ""
    """what it is to be compared with"""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule said."""

    rule: str
    decides: bool
    """it applies, and no rule before it does"""
    why: str
    """why it does not apply, or what became of it"""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One decision with everything that it was made from."""

    seq: int | None
    """its number in the log; None: it was made just now, and nobody acts on it"""
    time: str
    boot: str
    old: str
    """the mode before it"""
    new: str
    rule: str
    reason: str
    next: str
    """what was to come next, and what would change its mind"""
    inputs: tuple[Input, ...]
    rules: tuple[Verdict, ...]
    before: int | None = None
    """the number of the decision before it"""


def explained(logged: LoggedDecision, before: int | None) -> Explanation:
    """A decision of the log, explained from the facts that stand with it.

    Args:
        logged: the decision.
        before: the number of the one before it, if there is one.
    """
    facts = logged.facts
    ours = not logged.other_rules
    return Explanation(
        seq=logged.seq,
        time=logged.time,
        boot=logged.boot,
        old=facts.goal.mode,
        new=logged.goal.mode,
        rule=logged.rule,
        reason=logged.reason,
        next=_next(facts, policy.decide(facts)) if ours else "unknown: " + OTHER_RULES,
        inputs=inputs(facts) if ours else _plain_inputs(facts),
        rules=verdicts(facts) if ours else (),
        before=before,
    )


def explained_now(facts: Facts) -> Explanation:
    """What would be decided with these facts, explained."""
    decision = policy.decide(facts)
    return Explanation(
        seq=None,
        time=stamp(facts.at),
        boot=facts.boot_id,
        old=facts.goal.mode,
        new=decision.goal.mode,
        rule=decision.rule,
        reason=decision.reason,
        next=_next(facts, decision),
        inputs=inputs(facts),
        rules=verdicts(facts),
    )


def known(facts: Facts) -> Known:
    """What has been learnt, as numbers; a goal that is no longer a mode stakes nothing."""
    ledger, terms, limits = facts.ledger, facts.terms, facts.limits
    goal = facts.goal.mode
    staked = goal in facts.ladder[1:]
    cap = learnt.budget_cap(ledger, terms, goal, facts.running_s)
    budget = cap if ledger.budget is None else ledger.budget
    return Known(
        crash_price_min=60 * learnt.price_h(ledger, limits),
        crashes_priced=len(ledger.costs_s),
        budget=budget if staked else None,
        budget_max=cap if staked else None,
        probation=staked and learnt.on_probation(ledger, terms, goal, facts.running_s),
        modes=tuple(_known_mode(facts, rung) for rung in range(len(facts.ladder))),
    )


def inputs(facts: Facts) -> tuple[Input, ...]:
    """Everything that can have mattered, in the order in which a person would ask."""
    found = list(_plain_inputs(facts))
    if facts.limits.name == "ledger":
        found += _learnt_inputs(facts)
    found += _pressure_inputs(facts)
    found += _guard_inputs(facts)
    if not facts.work_left:
        found.append(Input(name="work", value="none left", note="every run has ended"))
    return tuple(found)


def _plain_inputs(facts: Facts) -> tuple[Input, ...]:
    """What nobody had to learn."""
    goal, limits = facts.goal, facts.limits
    found = [
        Input(name="policy", value=limits.name, note="strict" if limits.strict else ""),
        Input(name="mode", value=goal.mode, note=f"of {', '.join(facts.ladder)}"),
        Input(name="bounds", value=", ".join(bounds(facts.goal)) or "none"),
    ]
    if facts.request is not None:
        asked = facts.request.words
        found.append(Input(name="request", value=asked, note=f"of {facts.request.asker}"))
    found += [
        Input(name="running", value=facts.running_s, unit="s", note=f"in {goal.mode}"),
        Input(
            name="stable",
            value=facts.stable_s,
            unit="s",
            note=f"{span(limits.stable_min * 60)} are needed to climb",
        ),
        Input(name="crashes", value=facts.crashes, note="of this visit"),
        Input(
            name="crashes",
            value=len(facts.recent_crashes_s),
            note=f"of these within {span(limits.window_min * 60)}; "
            f"{limits.crashes_max} are forgiven",
        ),
        Input(
            name="short boots",
            value=facts.short_boots,
            note=f"in a row; {limits.idle_after} are too many",
        ),
    ]
    found += [
        Input(name=f"{mode} cools down", value=facts.cool_down_left_s(mode), unit="s", note="more")
        for mode in facts.cool_downs
        if mode != goal.mode and facts.cool_down_left_s(mode)
    ]
    if facts.forced:
        note = "what comes of it is not held against the mode"
        found.append(Input(name="asked for", value="by a person", note=note))
    return tuple(found)


def verdicts(facts: Facts) -> tuple[Verdict, ...]:
    """What each rule of the policy said, in the order in which they are asked."""
    if facts.goal.mode not in facts.ladder:  # the other rules ask for its place
        return (Verdict(rule="unknown_mode", decides=True, why="decides"),)
    why_not = dict(policy.rejected(facts))
    found: list[Verdict] = []
    first = ""
    for rule in policy.RULES[facts.limits.name]:
        name = rule.__name__
        if name in why_not:
            found.append(Verdict(rule=name, decides=False, why=why_not[name]))
        elif not first:
            first = name
            found.append(Verdict(rule=name, decides=True, why="decides"))
        else:
            why = f"would have its own say, but {first} is asked before"
            found.append(Verdict(rule=name, decides=False, why=why))
    return tuple(found)


def bounds(goal: Goal) -> tuple[str, ...]:
    """What keeps the policy from doing as it would: a person in the words of the commands."""
    found = [f"pin {goal.mode}"] if goal.pinned else []
    found += [f"forbid {goal.forbidden}"] if goal.forbidden else []
    found += ["pause" if owner == "person" else f"pause of {owner}" for owner in goal.pauses]
    return (*found, "idle") if goal.idle_until_s is not None else tuple(found)


def _next(facts: Facts, decision: Decision) -> str:
    """What comes after a decision if nothing happens, and which crashes would undo it."""
    goal = decision.goal
    after = msgspec.structs.replace(
        facts, goal=goal, request=None, ledger=decision.ledger or facts.ledger
    )
    if goal.mode != facts.goal.mode:
        cool_downs = {mode: until for mode, until in facts.cool_downs.items() if mode != goal.mode}
        if decision.cool_down_s is not None:
            cool_downs[facts.goal.mode] = facts.now_s + decision.cool_down_s
        after = msgspec.structs.replace(
            after, stable_s=0.0, running_s=0.0, crashes_s=(), crashes_total=0, cool_downs=cool_downs
        )
    coming = policy.forecast(after).why
    if not after.rung or goal.pinned or not goal.trains:
        return coming
    limits = after.limits
    if limits.name == "fixed":
        most = f"{limits.crashes_max} crashes within {span(limits.window_min * 60)}"
        return f"{coming}; {most} are forgiven"
    budget, worth = known(after).budget or 0.0, known(after).modes[after.rung].break_even_per_h
    count = max(0, math.floor(budget))
    bears = f"{count} {'crash' if count == 1 else 'crashes'} in quick succession"
    for_long = f"{worth:.2f} an hour" if worth is not None and worth > 0 else "none"
    return f"{coming}; its budget bears {bears}, {for_long} for long"


def _known_mode(facts: Facts, rung: int) -> KnownMode:
    ledger, terms, mode = facts.ledger, facts.terms, facts.ladder[rung]
    one = ledger.modes.get(mode, learnt.NOTHING)
    rate = learnt.rate(one)
    return KnownMode(
        mode=mode,
        hours=one.hours,
        crashes=one.crashes,
        crashes_per_h=rate.mean_per_h,
        crashes_per_h_low=rate.low_per_h,
        crashes_per_h_high=rate.high_per_h,
        aftershocks_per_h=learnt.aftershock_rate(one).mean_per_h,
        break_even_per_h=learnt.break_even_per_h(ledger, terms, rung) if rung else None,
        steps_per_h={
            kind: kept.steps / kept.hours for kind, kept in one.work.items() if kept.hours
        },
        speed_ratio=learnt.ratio(ledger, terms, rung) if rung else None,
        compared_h=learnt.compared_h(ledger, terms, rung) if rung else 0.0,
        level=one.level,
        cool_down_left_s=facts.cool_down_left_s(mode),
        bad=one.bad_since_s is not None,
        recoveries=one.recoveries,
        bad_hours=one.bad_hours,
    )


def _learnt_inputs(facts: Facts) -> list[Input]:
    whole = known(facts)
    measured = f"measured on {whole.crashes_priced}" if whole.crashes_priced else "none measured"
    found = [Input(name="price of a crash", value=whole.crash_price_min, unit="min", note=measured)]
    if whole.budget is not None:
        trial = ", on probation" if whole.probation else ""
        note = f"at most {whole.budget_max:g}{trial}"
        left = whole.budget if whole.budget >= 0 else "used up"
        found.append(Input(name="budget", value=left, unit="crashes", note=note))
    rung = facts.ladder.index(facts.goal.mode) if facts.goal.mode in facts.ladder else 0
    for each in whole.modes[rung : rung + 2]:
        bounds = f"{each.crashes_per_h_low:.2f} to {each.crashes_per_h_high:.2f}"
        found.append(
            Input(name=f"{each.mode} rate", value=each.crashes_per_h, unit="crashes/h", note=bounds)
        )
        if each.break_even_per_h is None or each.speed_ratio is None:
            continue
        if each.crashes:
            note = "in the first hour after a crash"
            unit = "crashes/h"
            name = f"{each.mode} shaken"
            found.append(Input(name=name, value=each.aftershocks_per_h, unit=unit, note=note))
        below = facts.ladder[facts.ladder.index(each.mode) - 1]
        found += [
            Input(
                name=f"{each.mode} breaks even",
                value=each.break_even_per_h,
                unit="crashes/h",
                note=f"at more crashes it brings less than {below}",
            )
            if each.break_even_per_h > 0
            else Input(
                name=f"{each.mode} breaks even",
                value="never",
                note=f"it brings less than {below} even without a crash",
            ),
            Input(
                name=f"{each.mode} speed",
                value=each.speed_ratio,
                unit="times",
                note=f"as fast as {below}; "
                + ("measured" if each.compared_h else "promised, nothing is measured in both yet"),
            ),
            Input(name=f"{each.mode} failures", value=each.level, note="to be made good"),
        ]
    one = facts.known
    if rung and (one.level or one.bad_since_s is not None):
        note = "given" if facts.proved else "of running in one visit walk a failure back"
        found.append(Input(name="proof", value=facts.limits.stable_min * 60, unit="s", note=note))
    if facts.out_of_memory:
        found.append(Input(name="memory", value="too little", note="right after the climb"))
    if facts.away:
        found.append(Input(name="away", value="a day or more", note="nothing has trained since"))
    return found


def _guard_inputs(facts: Facts) -> list[Input]:
    """What others do, at the sample that made the guard's answer; what is not known is left out."""
    if facts.pressure is None or facts.guard is None:
        return []
    return [
        Input(name=name, value=value, unit=unit, note=note)
        for name, value, unit, note in measures(facts.pressure.pressure, facts.guard)
    ]


def _pressure_inputs(facts: Facts) -> list[Input]:
    if facts.readings is None:
        return []
    found = []
    for gpu in facts.readings.gpus:
        name = f"GPU {gpu.index}"
        if gpu.memory_used_mib is not None and gpu.memory_total_mib:
            share = 100 * gpu.memory_used_mib / gpu.memory_total_mib
            note = f"of its memory in use; {100 * facts.limits.gpu_memory_max:g} % veto a climb"
            found.append(Input(name=name, value=share, unit="%", note=note))
        if gpu.temperature_c is not None:
            limit_c = gpu.temperature_limit_c
            note = "its limit is unknown"
            if limit_c is not None:
                note = f"above {limit_c - facts.limits.gpu_margin_c:g} °C a climb is vetoed"
            found.append(Input(name=name, value=gpu.temperature_c, unit="°C", note=note))
        if gpu.xids:
            codes = ", ".join(map(str, gpu.xids))
            found.append(Input(name=name, value=f"Xid {codes}", note="vetoes a climb"))
        if gpu.ecc_uncorrected:
            note = "memory errors beyond repair; they veto a climb"
            found.append(Input(name=name, value=gpu.ecc_uncorrected, note=note))
    return found
