"""Many machines under several policies: what each kept of what the oracle kept.

Every policy lives in the same worlds with the same luck, so differences are taken world
by world. Equal worlds give an equal table, however many processes share the work.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import msgspec

from supervisor.core.facts import StabilityLimits
from supervisor.simulation.families import FAMILIES, draw
from supervisor.simulation.life import live
from supervisor.simulation.rivals import FIXED, LEDGER, ORACLE, POLICIES
from supervisor.simulation.worlds import World

CHUNK = 4
"""worlds that a process is given at once"""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One policy in one world."""

    family: str
    policy: str
    work: float
    """kept work, 1 = the oracle's"""
    first: float
    """the same of the first three days"""
    crashes_per_day: float


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A mean, and where it lies with 95 % certainty; None: there are too few worlds to tell."""

    mean: float
    low: float | None
    high: float | None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One policy in all worlds. Work is a share of the oracle's."""

    mean: float
    low: float
    """the 5th percentile of all worlds"""
    worst_family: str
    worst: float
    """the mean of that family"""
    crashes_per_day: float
    first: float
    """mean of the first three days"""
    families: dict[str, float]
    """the mean of each family"""
    family_lows: dict[str, float]
    """the 5th percentile of each family"""
    family_crashes: dict[str, float]
    """crashes a day in each family"""
    against_fixed: Interval | None = None
    """how much more is kept than by `fixed`, world by world"""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All policies in all worlds."""

    worlds: int
    days: float
    """length of the longest life"""
    scores: dict[str, Score]


def families(seed: int, count: int, names: Iterable[str] = FAMILIES) -> tuple[World, ...]:
    """`count` worlds of each family."""
    return tuple(draw(name, seed, index) for name in names for index in range(count))


def compare(
    worlds: Sequence[World],
    *,
    policies: Sequence[str] = tuple(POLICIES),
    limits: StabilityLimits | None = None,
    processes: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Table:
    """Let every policy lead every world, and sum up.

    Args:
        worlds: the machines; their `family` groups them.
        policies: names from `POLICIES`. The oracle lives in any case: it is the measure.
        limits: the settings of `ledger` and `fixed`; None: the defaults.
        processes: how many share the work.
        progress: is told how many worlds are done, of how many.
    """
    asked = partial(_outcomes, policies=policies, limits=limits or StabilityLimits())
    done: list[Outcome] = []
    for number, outcomes in enumerate(_mapped(asked, worlds, processes), 1):
        done += outcomes
        progress(number, len(worlds))
    return summed(done, days=max(world.days for world in worlds))


def _mapped(
    asked: Callable[[World], list[Outcome]], worlds: Sequence[World], processes: int
) -> Iterator[list[Outcome]]:
    if processes == 1:
        yield from map(asked, worlds)
        return
    # A fork needs no import and no main module; the command has no threads that it could upset.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(asked, worlds, chunksize=CHUNK)


def _outcomes(world: World, policies: Sequence[str], limits: StabilityLimits) -> list[Outcome]:
    """Every policy in one world."""
    best = live(world, POLICIES[ORACLE](world, limits))
    outcomes = []
    for policy in policies:
        life = best if policy == ORACLE else live(world, POLICIES[policy](world, limits))
        outcomes.append(
            Outcome(
                family=world.family,
                policy=policy,
                work=_share(life.work, best.work),
                first=_share(life.first_work, best.first_work),
                crashes_per_day=life.crashes / world.days,
            )
        )
    return outcomes


def _share(work: float, best: float) -> float:
    """Of what could be kept; where that is nothing, nothing was missed."""
    return work / best if best else 1.0


def summed(outcomes: Sequence[Outcome], *, days: float) -> Table:
    """The table of what came of every world, given world by world."""
    policies = list(dict.fromkeys(outcome.policy for outcome in outcomes))
    by_policy = {
        policy: [outcome for outcome in outcomes if outcome.policy == policy] for policy in policies
    }
    fixed = by_policy.get(FIXED)
    return Table(
        worlds=len(by_policy[policies[0]]),
        days=days,
        scores={policy: _score(mine, fixed) for policy, mine in by_policy.items()},
    )


def _score(mine: Sequence[Outcome], fixed: Sequence[Outcome] | None) -> Score:
    work = _of_families(mine, lambda outcome: outcome.work, statistics.fmean)
    crashes = _of_families(mine, lambda outcome: outcome.crashes_per_day, statistics.fmean)
    worst = min(work, key=work.__getitem__)
    return Score(
        mean=statistics.fmean(outcome.work for outcome in mine),
        low=percentile([outcome.work for outcome in mine], 0.05),
        worst_family=worst,
        worst=work[worst],
        crashes_per_day=statistics.fmean(outcome.crashes_per_day for outcome in mine),
        first=statistics.fmean(outcome.first for outcome in mine),
        families=work,
        family_lows=_of_families(
            mine, lambda outcome: outcome.work, lambda values: percentile(values, 0.05)
        ),
        family_crashes=crashes,
        against_fixed=None if fixed is None else _difference(mine, fixed),
    )


def _of_families(
    outcomes: Sequence[Outcome],
    value: Callable[[Outcome], float],
    summary: Callable[[Sequence[float]], float],
) -> dict[str, float]:
    """What sums up each family."""
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        values.setdefault(outcome.family, []).append(value(outcome))
    return {family: summary(one) for family, one in values.items()}


def _difference(mine: Sequence[Outcome], fixed: Sequence[Outcome]) -> Interval:
    """The mean paired difference, its error taken within the families, which are no chance."""
    gains: dict[str, list[float]] = {}
    for one, other in zip(mine, fixed, strict=True):
        gains.setdefault(one.family, []).append(one.work - other.work)
    mean = statistics.fmean(gain for family in gains.values() for gain in family)
    if any(len(family) < 2 for family in gains.values()):
        return Interval(mean=mean, low=None, high=None)
    total = sum(len(family) for family in gains.values())
    variance = sum(len(family) * statistics.variance(family) for family in gains.values())
    error = 1.96 * math.sqrt(variance) / total
    return Interval(mean=mean, low=mean - error, high=mean + error)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of all lies, interpolated between its neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def text(table: Table) -> str:
    """The table for a terminal."""
    fixed = table.scores.get(FIXED)
    heads = ("policy", "work", "5 %", "first 3 d", "crashes/d", "of fixed", "vs fixed", "worst")
    rows = [heads]
    for policy, score in table.scores.items():
        gain = score.against_fixed
        against = "-" if gain is None or policy == FIXED else f"{100 * gain.mean:+.1f}"
        if gain is not None and gain.low is not None and against != "-":
            against += f" ±{50 * ((gain.high or 0) - gain.low):.1f}"
        worst = f"{score.worst:.3f} {score.worst_family}"
        rows.append(
            (
                policy,
                f"{score.mean:.3f}",
                f"{score.low:.3f}",
                f"{score.first:.3f}",
                f"{score.crashes_per_day:.1f}",
                _part(score.crashes_per_day, fixed.crashes_per_day if fixed else None),
                against,
                worst,
            )
        )
    head = (
        f"{_count(table.worlds, 'machine')}, {_count(table.days, 'day')} each. "
        "Work kept, 1 = the oracle; vs fixed in points, with 95 %."
    )
    by_family = [("work, its 5 %", *table.scores)]
    by_crashes = [("crashes/d, of fixed", *table.scores)]
    for family in next(iter(table.scores.values())).families:
        work, crashes = [family], [family]
        for score in table.scores.values():
            often = score.family_crashes[family]
            part = _part(often, fixed.family_crashes[family] if fixed else None)
            work.append(f"{score.families[family]:.3f} {score.family_lows[family]:.3f}")
            crashes.append(f"{often:.1f} {part:>4}")
        by_family.append(tuple(work))
        by_crashes.append(tuple(crashes))
    parts = [head, _aligned(rows, words=(0, 7)), _aligned(by_family), _aligned(by_crashes)]
    if LEDGER in table.scores and fixed is not None:
        parts.append(_below(table.scores[LEDGER], fixed))
    return "\n\n".join(parts)


def _part(crashes: float, of_fixed: float | None) -> str:
    """How many times those of `fixed` these crashes are."""
    return f"{crashes / of_fixed:.2f}" if of_fixed else "-"


def _below(ledger: Score, fixed: Score) -> str:
    """In which families `ledger` is below `fixed`, as far as is printed."""
    found = [
        f"{family}, {what}: {ours[family]:.3f} < {theirs[family]:.3f}"
        for family in ledger.families
        for what, ours, theirs in (
            ("mean", ledger.families, fixed.families),
            ("5 %", ledger.family_lows, fixed.family_lows),
        )
        if round(ours[family], 3) < round(theirs[family], 3)
    ]
    if not found:
        return f"{LEDGER} is nowhere below {FIXED}."
    return "\n".join([f"{LEDGER} is below {FIXED}:", *(f"  {one}" for one in found)])


def _aligned(rows: Sequence[Sequence[str]], words: Collection[int] = (0,)) -> str:
    """Rows as columns: those of words to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}" if number == 1 else f"{number:g} {what}s"
