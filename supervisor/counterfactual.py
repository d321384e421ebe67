"""What another policy would have made of the past: the log of a machine, lived again.

An estimate, since nobody knows what the machine would have done under another load. Its
crashes come again at the same moments: in the mode in which they came and in every heavier
one always, in a lighter one with the ratio of the learnt rates of crashes; and in a mode
heavier than that of the log there are more of them, at the difference of the rates. Where
the log says nothing of a moment (the machine was down), the rates hold alone. They are learnt
from the log around that moment, as far as the mode was tried near to it. Time
in which nothing was to train, because a person paused or stopped it, is left out. Other
requests are not made again.

Both the policy of the log and the other one are lived again, through the real decision code
(`supervisor.simulation`), with the same luck, and compared with each other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec

from supervisor.core import ledger as learnt
from supervisor.core.events import Event
from supervisor.core.facts import Facts, StabilityLimits
from supervisor.core.replay import logged_decision, replay
from supervisor.errors import SupervisorError
from supervisor.simulation.life import Life, Supervised, live
from supervisor.simulation.worlds import World, luck

STRIKE_H = 1 / 3600
"""a crash of the log lies in wait for so long"""
CERTAIN_PER_H = 1e9
"""the hazard of its mode meanwhile"""
GRID_H = 1.0
"""how often the rates of crashes may change, at least"""
NEAR_H = 6.0
"""what lies so far away counts by half"""
CHECKPOINT_H = 90 / 3600
START_H = 30 / 3600
HOURS_MAX = 10 * 8766.0
DOWN_H = 0.1
"""what is supposed where the log has no crash to tell"""


class TooLittle(SupervisorError):
    """A log that cannot be lived again."""

    exit_code = 2

    def __init__(self, why: str) -> None:
        super().__init__(f"this log cannot be lived again: {why}")


class Piece(msgspec.Struct, frozen=True):
    """A part of the past."""

    from_h: float
    to_h: float
    rung: int | None
    """of the mode that trained; None: the machine was down"""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What a log tells of a machine. Hours count from its first line, without pauses."""

    ladder: tuple[str, ...]
    promised: tuple[float, ...]
    work: tuple[float, ...]
    """kept work per hour of each mode, as it was learnt; the lowest makes 1"""
    pieces: tuple[Piece, ...]
    crashes: tuple[tuple[float, int], ...]
    """when, and in which rung"""
    down_h: float
    """how long the machine was away at each, on average"""
    start_h: float
    """from the end of such a time until trainers stepped"""

    @property
    def hours(self) -> float:
        """How long it was."""
        return self.pieces[-1].to_h

    @property
    def trained_h(self) -> tuple[float, ...]:
        """Hours in each mode."""
        return tuple(
            math.fsum(piece.to_h - piece.from_h for piece in self.pieces if piece.rung == rung)
            for rung in range(len(self.ladder))
        )

    @property
    def rates(self) -> tuple[float, ...]:
        """Crashes per hour of each mode; what is believed of one that never trained is a guess."""
        crashes = [sum(rung == one for _, rung in self.crashes) for one in range(len(self.ladder))]
        return tuple(
            (learnt.RATE_SHAPE + count) / (learnt.RATE_HOURS + hours)
            for count, hours in zip(crashes, self.trained_h, strict=True)
        )


class Lived(msgspec.Struct, frozen=True, kw_only=True):
    """A policy in that past, on average over some lives."""

    policy: str
    hours: tuple[float, ...]
    """in each mode"""
    crashes: float
    work: float
    """kept, in hours of the lowest mode's"""


class Counterfactual(msgspec.Struct, frozen=True, kw_only=True):
    """What another policy would have made of a log, as far as that can be estimated."""

    hours: float
    ladder: tuple[str, ...]
    recorded_hours: tuple[float, ...]
    recorded_crashes: int
    logged: Lived
    """the policy of the log, lived again"""
    other: Lived
    lives: int
    parts_h: float | None
    """when the two first want different modes, in the life in which they soonest do; None: never"""
    parts_to: tuple[str, str] | None
    """what each wants then"""
    work_ratio: float
    """of the other policy to that of the log"""
    work_ratio_low: float
    work_ratio_high: float
    """with 95 %; as far as chance goes, not the supposition"""


def past(lines: Iterable[Mapping[str, Any]]) -> Past:
    """The past that a decision log tells.

    Raises:
        TooLittle: there is no decision in it, or no time.
    """
    return _Reading().over(lines)


def relived(
    past: Past,
    logged: StabilityLimits,
    other: StabilityLimits,
    lives: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Counterfactual:
    """Live the past again under two policies, with the same luck.

    Args:
        past: what happened.
        logged: the settings of the policy that decided then.
        other: those of another one.
        lives: how often; the more, the less is chance.
        progress: is told how many lives are lived, of how many.
    """
    pairs: list[tuple[Life, Life]] = []
    for world in _worlds(past, lives):
        pairs.append(
            (live(world, Supervised(world, logged)), live(world, Supervised(world, other)))
        )
        progress(len(pairs), lives)
    one, two = (
        _mean(limits, each)
        for limits, each in zip((logged, other), zip(*pairs, strict=True), strict=True)
    )
    partings = [parting for pair in pairs if (parting := _parting(*pair, past.ladder)) is not None]
    parts_h, parts_to = min(partings, default=(None, None))
    gains = [b.work - a.work for a, b in pairs]
    error = 1.96 * statistics.stdev(gains) / math.sqrt(lives) if lives > 1 else 0.0
    ratio = two.work / one.work if one.work else 1.0
    spread = error / one.work if one.work else 0.0
    return Counterfactual(
        hours=past.hours,
        ladder=past.ladder,
        recorded_hours=past.trained_h,
        recorded_crashes=len(past.crashes),
        logged=one,
        other=two,
        lives=lives,
        parts_h=parts_h,
        parts_to=parts_to,
        work_ratio=ratio,
        work_ratio_low=ratio - spread,
        work_ratio_high=ratio + spread,
    )


def _mean(limits: StabilityLimits, lives: tuple[Life, ...]) -> Lived:
    return Lived(
        policy=limits.name,
        hours=tuple(map(statistics.fmean, zip(*(life.hours for life in lives), strict=True))),
        crashes=statistics.fmean(life.crashes for life in lives),
        work=statistics.fmean(life.work for life in lives),
    )


def _parting(one: Life, two: Life, ladder: tuple[str, ...]) -> tuple[float, tuple[str, str]] | None:
    """When two lives first train in different modes, and in which; None: never."""
    first, second = 0, 0
    while first < len(one.stretches) and second < len(two.stretches):
        a, b = one.stretches[first], two.stretches[second]
        together = max(a.from_h, b.from_h) < min(a.to_h, b.to_h)
        if together and a.mode is not None and b.mode is not None and a.mode != b.mode:
            return max(a.from_h, b.from_h), (ladder[a.mode], ladder[b.mode])
        if a.to_h <= b.to_h:
            first += 1
        else:
            second += 1
    return None


def _worlds(past: Past, lives: int) -> Iterator[World]:
    """The past as a machine, once for each life; which crashes come to a lighter mode is luck."""
    edges = {piece.from_h for piece in past.pieces} | {at_h for at_h, _ in past.crashes}
    edges |= {at_h + STRIKE_H for at_h, _ in past.crashes}
    edges |= {GRID_H * number for number in range(math.ceil(past.hours / GRID_H))}
    begins_h = [0.0, *sorted(edge for edge in edges if 0 < edge < past.hours)]
    rungs = _rungs(past, begins_h)
    rates = _local_rates(past, begins_h, rungs)
    calm = [_more_than_logged(each, rung) for each, rung in zip(rates, rungs, strict=True)]
    places = {begin_h: place for place, begin_h in enumerate(begins_h)}
    for number in range(lives):
        chance = luck("otherwise", number)
        hazards = list(calm)
        for at_h, rung in past.crashes:
            if (place := places.get(at_h)) is None:
                continue
            lightest = _lightest_hit(rung, rates[place], chance.random())
            hazards[place] = tuple(
                CERTAIN_PER_H if other >= lightest else hazard
                for other, hazard in enumerate(calm[place])
            )
        yield World(
            family="past",
            seed=f"otherwise {number}",
            work=past.work,
            nominal=past.promised,
            modes=past.ladder,
            hazards=tuple(hazards),
            edges_h=tuple(begins_h[1:]),
            downtime_h=past.down_h,
            start_h=past.start_h,
            checkpoint_h=CHECKPOINT_H,
            days=past.hours / 24,
        )


def _rungs(past: Past, begins_h: list[float]) -> list[int | None]:
    """What trained from each of these hours on."""
    pieces = iter(past.pieces)
    piece = next(pieces)
    found = []
    for begin_h in begins_h:
        while piece.to_h <= begin_h:
            piece = next(pieces)
        found.append(piece.rung)
    return found


def _local_rates(
    past: Past, begins_h: list[float], rungs: list[int | None]
) -> list[tuple[float, ...]]:
    """Crashes per hour of each mode around each of these hours.

    What happened before and after counts for the less the further away it is; where nothing
    is near, the mean of the whole past does.
    """
    hours = [end_h - begin_h for begin_h, end_h in pairwise([*begins_h, past.hours])]
    struck = dict(past.crashes)
    means = past.rates
    near = [[[learnt.RATE_HOURS * mean, learnt.RATE_HOURS] for mean in means] for _ in hours]
    for forwards in (True, False):
        seen = [[0.0, 0.0] for _ in past.ladder]
        for place in range(len(hours)) if forwards else reversed(range(len(hours))):
            fade = 0.5 ** (hours[place] / NEAR_H)
            for mode, (crashes, spent_h) in enumerate(seen):
                near[place][mode][0] += crashes
                near[place][mode][1] += spent_h
                seen[mode] = [crashes * fade, spent_h * fade]
            for rung, crash, lasted_h in (
                (rungs[place], 0.0, hours[place]),
                (struck.get(begins_h[place]), 1.0, 0.0),
            ):
                if rung is None:
                    continue
                for known in (seen[rung], near[place][rung])[: 1 + forwards]:
                    known[0] += crash
                    known[1] += lasted_h
    return [tuple(crashes / spent_h for crashes, spent_h in modes) for modes in near]


def _more_than_logged(rates: tuple[float, ...], rung: int | None) -> tuple[float, ...]:
    """Crashes per hour of each mode beside those of the log, in which `rung` trained."""
    if rung is None:
        return rates
    return tuple(
        max(0.0, rate - rates[rung]) if other > rung else 0.0 for other, rate in enumerate(rates)
    )


def _lightest_hit(rung: int, rates: tuple[float, ...], chance: float) -> int:
    """The lightest mode that a crash comes to which came to `rung`."""
    for lighter in range(rung):
        if chance < rates[lighter] / rates[rung]:
            return lighter
    return rung


class _Reading:
    """A log on its way to a past."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._crashes: list[tuple[float, int]] = []
        self._down_h: list[float] = []
        self._facts: Facts | None = None
        self._mode: str | None = None
        self._resting = False
        self._left_out_s = 0.0
        self._seen_s: float | None = None
        self._boots: list[tuple[float, bool]] = []
        """boots that are not placed yet: how long the machine was away is told after them"""

    def over(self, lines: Iterable[Mapping[str, Any]]) -> Past:
        """Read all lines."""
        known = list(lines)
        for line in known:  # modes are named by the newest ladder
            logged = logged_decision(line)
            if logged is not None:
                self._facts = logged.facts
                self._mode = self._mode or logged.facts.goal.mode
        if self._facts is None:
            raise TooLittle("it holds no decision")
        for line in known:
            now_s = line.get("now_s")
            if isinstance(now_s, int | float) and math.isfinite(now_s):
                self._read(line, float(now_s))
        if not self._pieces or self._pieces[-1].to_h <= 0:
            raise TooLittle("no time passes in it, or its lines do not tell when")
        if self._pieces[-1].to_h > HOURS_MAX:
            raise TooLittle("it claims to last for more than ten years")
        terms, ledger = self._facts.terms, replay(known).ledger
        speeds = learnt.speeds(ledger, terms)
        down_h = statistics.fmean(self._down_h) if self._down_h else DOWN_H
        start_h = START_H
        if ledger.costs_s:  # what a crash costs, without downtime and lost work
            start_h = statistics.fmean(ledger.costs_s) / 3600 - down_h - CHECKPOINT_H / 2
        return Past(
            ladder=terms.ladder,
            promised=tuple(speed / terms.speeds[0] for speed in terms.speeds),
            work=tuple(speed / speeds[0] for speed in speeds),
            pieces=tuple(self._pieces),
            crashes=tuple(sorted(self._crashes)),
            down_h=down_h,
            start_h=min(max(start_h, START_H), 1.0),
        )

    def _read(self, line: Mapping[str, Any], now_s: float) -> None:
        event, evidence = line.get("event"), line.get("evidence")
        evidence = evidence if isinstance(evidence, dict) else {}
        if self._seen_s is None:
            self._seen_s = now_s
            self._left_out_s = now_s
        if event == Event.BOOT_RECORDED:
            self._boots.append((now_s, evidence.get("crash") is True))
            return
        if event == Event.SUPERVISOR_STARTED:
            down_s = evidence.get("down_s", 0.0)
            self._start(now_s, max(0.0, down_s) if isinstance(down_s, int | float) else 0.0)
        self._pass(now_s, self._mode)
        decision = line.get("decision")
        goal = decision.get("goal") if isinstance(decision, dict) else None
        if isinstance(goal, dict) and isinstance(goal.get("mode"), str):
            self._mode = goal["mode"]
            self._resting = goal.get("paused") is True or bool(goal.get("pauses"))
        elif event == Event.MODE_CHANGED and isinstance(line.get("new"), str):
            self._mode = line["new"]

    def _start(self, now_s: float, down_s: float) -> None:
        """The supervisor is back; where the machine was down meanwhile, tell when."""
        boots, self._boots = self._boots, []
        self._pass(now_s - down_s, self._mode)
        if not boots:  # its trainers may have trained on
            return
        for up_s, crash in boots:
            began_s = self._seen_s or 0.0
            if crash and not self._resting:
                rung = self._rung(self._mode) or 0
                self._crashes.append((self._hour(began_s), rung))
                self._pass(max(up_s, began_s), None)
                self._down_h.append(max(0.0, up_s - began_s) / 3600)
            else:
                self._leave_out(max(up_s, began_s))
        self._pass(now_s, None)

    def _pass(self, until_s: float, mode: str | None) -> None:
        began_s = self._seen_s or 0.0
        if until_s <= began_s:
            return
        if self._resting:
            self._leave_out(until_s)
            return
        self._pieces.append(Piece(self._hour(began_s), self._hour(until_s), self._rung(mode)))
        self._seen_s = until_s

    def _leave_out(self, until_s: float) -> None:
        self._left_out_s += until_s - (self._seen_s or 0.0)
        self._seen_s = until_s

    def _hour(self, at_s: float) -> float:
        return (at_s - self._left_out_s) / 3600

    def _rung(self, mode: str | None) -> int | None:
        ladder = self._facts.ladder if self._facts is not None else ()
        return None if mode is None else ladder.index(mode) if mode in ladder else 0
