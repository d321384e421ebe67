"""How long a job waits until it starts, from how long others like it took; pure.

A hundred lives of the queue are gone through: each job takes as long as one that was measured,
and each kind a little longer or shorter than measured, since a few measurements tell little. The
numbers that this needs are always the same, so equal facts give equal answers.
"""

from __future__ import annotations

import functools
import heapq
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from statistics import NormalDist, fmean, median, pstdev
from typing import NamedTuple

SCENARIOS = 100
SIMULATED_MAX = 50
"""jobs ahead that are gone through one by one; of more the sum is nearly normal"""
MEASURED_MIN = 5
"""of a kind; where there are fewer, all of its trainer count, and then all"""
MEASURED_MAX = 200
"""the newest"""
ALIKE = 2.0
"""times as much work at most"""
P90 = 0.9
LATENESS_MIN, LATENESS_MAX = 20, 100
"""jobs that a correction is learnt from, the newest"""
LATE = 1.25
"""what it is before: others come that nobody foresees, in made-up days by so much"""
LATE_MAX = 4.0
"""what it is at most: later is who waits while nothing trains, as where a machine is off"""
NORMAL = NormalDist()
SHORTEST_S = 0.001


class Kind(NamedTuple):
    """Jobs that take about as long as each other."""

    trainer: str
    """with its algorithm, where it has several"""
    size: int
    """of the work, in powers of two; see `size_of`"""


class Eta(NamedTuple):
    """How long it takes until a job starts."""

    position: int
    """1: it is the next"""
    eta_s: float
    """as likely sooner as later"""
    eta_p90_s: float
    """in nine of ten cases it has started by then"""
    plain_p90_s: float
    """the same before what was told to others is learnt from: by this lateness is counted"""


def size_of(work: float) -> int:
    """The size of so much work, such as rows by rounds: jobs within a factor of two are alike."""
    return 0 if work < 1 else int(math.log2(work)) + 1


class Lasted(NamedTuple):
    """How long jobs took that are alike."""

    seconds: float
    """half of them took no longer"""
    seconds_p90: float
    """nine of ten took no longer"""
    jobs: int
    """how many were measured"""


def lasted(took_s: Sequence[tuple[float, float]], work: float) -> Lasted | None:
    """How long so much work took; None: nothing like it was measured.

    Args:
        took_s: the work of each job that was measured, and its seconds; the newest last.
        work: in the same unit, such as rows by rounds; jobs within a factor of two are alike.
    """
    alike = sorted(
        took for its, took in took_s[-MEASURED_MAX:] if work / ALIKE <= its <= work * ALIKE
    )
    if not alike:
        return None
    last = math.ceil(P90 * len(alike)) - 1
    return Lasted(seconds=median(alike), seconds_p90=alike[last], jobs=len(alike))


class Measured:
    """How long jobs took, by their kinds.

    Args:
        took_s: seconds that each job of a kind has held a slot, the newest last.
    """

    def __init__(self, took_s: Mapping[Kind, Sequence[float]]) -> None:
        self._took_s = took_s
        self._known: dict[Kind, _Durations | None] = {}

    def of(self, kind: Kind) -> _Durations | None:
        """Durations of that kind, or of what is most like it; None: nothing was measured."""
        if kind not in self._known:
            self._known[kind] = self._find(kind)
        return self._known[kind]

    def _find(self, kind: Kind) -> _Durations | None:
        same = list(self._took_s.get(kind, ()))
        alike = [
            it for one, took in self._took_s.items() if one.trainer == kind.trainer for it in took
        ]
        everything = [it for took in self._took_s.values() for it in took]
        for found in (same, alike):
            if len(found) >= MEASURED_MIN:
                return _Durations(found[-MEASURED_MAX:])
        return _Durations(everything[-MEASURED_MAX:]) if everything else None


def until_start(
    ahead: Sequence[Kind],
    running: Sequence[tuple[Kind, float]],
    slots: int,
    measured: Measured,
    *,
    between: float = 0.0,
    lateness: Sequence[float] = (),
) -> Eta | None:
    """When a job starts that has these before it; None: nothing like them was measured.

    Args:
        ahead: those that wait before it.
        running: those that hold a slot, and for how many seconds they have.
        slots: how many there are.
        measured: how long others took.
        between: how many more may come before it; as many of them do as not.
        lateness: of jobs that have started: how long they waited, by the `plain_p90_s` that they
            were told; the newest last.
    """
    position = len(ahead) + 1
    if len(running) + len(ahead) < slots:
        return Eta(position, 0.0, 0.0, 0.0)
    kinds = {*ahead, *(kind for kind, _ in running)}
    known = {kind: measured.of(kind) for kind in kinds}
    durations = {kind: found for kind, found in known.items() if found is not None}
    if len(durations) < len(kinds):
        return None
    others = list(islice(cycle(ahead or [kind for kind, _ in running]), math.ceil(between)))
    drawn = len(durations) + len(running) + min(len(ahead) + len(others), SIMULATED_MAX) + 1
    chance = iter(_chances(2 ** (SCENARIOS * drawn).bit_length()))
    starts = []
    for scenario in range(SCENARIOS):
        come = [*ahead, *others[: round(len(others) * (scenario + 0.5) / SCENARIOS)]]
        near, far = come[:SIMULATED_MAX], Counter(come[SIMULATED_MAX:])
        shift = {kind: found.shift(next(chance)) for kind, found in durations.items()}
        free = [shift[kind] * durations[kind].left(for_s, next(chance)) for kind, for_s in running]
        free += [0.0] * (slots - len(free))
        heapq.heapify(free)
        for kind in near:
            took = shift[kind] * durations[kind].draw(next(chance))
            heapq.heapreplace(free, free[0] + took)
        start = free[0]
        if far:
            means = (n * shift[kind] * durations[kind].mean_s for kind, n in far.items())
            squares = (n * durations[kind].spread_s ** 2 for kind, n in far.items())
            mean, spread = sum(means) / slots, math.sqrt(sum(squares)) / slots
            start = sum(free) / len(free) + mean + spread * NORMAL.inv_cdf(next(chance))
        starts.append(max(0.0, start))
    starts.sort()
    p90_s = starts[math.ceil(P90 * SCENARIOS) - 1]
    return Eta(position, starts[SCENARIOS // 2], p90_s * _correction(lateness), p90_s)


def _correction(lateness: Sequence[float]) -> float:
    """By how much nine of ten were late at most: what no scenario knows of is learnt from these."""
    newest = sorted(lateness[-LATENESS_MAX:])
    rank = math.ceil(P90 * (len(newest) + 1))
    if not LATENESS_MIN <= len(newest) >= rank:
        return LATE
    return min(newest[rank - 1], LATE_MAX)


class _Durations:
    """What was measured of one kind."""

    def __init__(self, took_s: Sequence[float]) -> None:
        self._took_s = sorted(max(SHORTEST_S, it) for it in took_s)
        self.mean_s = fmean(self._took_s)
        self.spread_s = pstdev(self._took_s)
        logs = [math.log(it) for it in self._took_s]
        # Of one or two measurements nobody knows how much others differ: by half, say.
        known = pstdev(logs) if len(logs) >= MEASURED_MIN else max(0.5, pstdev(logs))
        self._unsure = known / math.sqrt(len(logs))

    def draw(self, chance: float) -> float:
        """How long one takes."""
        return self._took_s[int(chance * len(self._took_s))]

    def left(self, for_s: float, chance: float) -> float:
        """How long one still takes that has gone on for so long."""
        first = bisect_right(self._took_s, for_s)
        longer = len(self._took_s) - first
        if not longer:
            # Longer than any: that it is half done is as good a guess as any other.
            return for_s * chance / (1 - chance)
        return self._took_s[first + int(chance * longer)] - for_s

    def shift(self, chance: float) -> float:
        """How much longer all of them may take than was measured, as a factor."""
        return math.exp(self._unsure * NORMAL.inv_cdf(chance))


@functools.lru_cache(maxsize=4)
def _chances(count: int) -> tuple[float, ...]:
    """Numbers between 0 and 1, evenly spread and always the same: splitmix64."""
    state, mask = 0, 2**64 - 1
    found = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        mixed = state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        mixed ^= mixed >> 31
        found.append((mixed + 0.5) / 2**64)
    return tuple(found)
