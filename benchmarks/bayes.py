"""A rival that believes in machines: an exact filter over a grid of them, and plans to act by.

The state of a machine is hidden: it is well or ill. Each machine of the grid says how often it
crashes in either state, in a mode and in the modes below, how fast one state turns into the
other, and how likely a crash makes ill. The belief holds the probability of each machine in each
state, and all that is seen moves it by Bayes' rule: running without a crash, a crash, a time in
which nothing trained. In between it moves by the exponential of a generator less the rates of
crashes, which is exact (Markov-modulated Poisson processes: Fischer and Meier-Hellstern 1993).

What to do is chosen among plans: train in the mode until it has crashed n times, then below it
for R hours on average, and so on for ever. Such a plan is a finite-state controller, so its value
is linear in the belief, and for each machine it follows from linear equations (Hansen 1998). The
best plan that begins in the mode is compared with the best that begins below it, again at each
look. A trial is so worth what it brings where it goes well, less what it costs where it is ended
by a crash: the value of information, as far as these plans make use of it.

It needs numpy, which is why it stands here and not in the simulator.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from state.records import Kept
from supervisor.simulation.life import Choice
from supervisor.simulation.worlds import World

HORIZON_H = 120.0
"""work so far ahead counts 1/e of what it counts now"""
REDRAWN_H = 60 * 24.0
"""for how long a machine is the one that it is, on average: then any may take its place"""
LOOK_PART, LOOK_H = 0.15, (0.1, 2.0)
"""it looks again after this part of the time since the last crash or move, within these bounds"""
CRASHES = (1, 3)
"""after how many crashes plans go below"""
RESTS_H = (0.3, 1.0, 4.0, 24.0, math.inf)
"""for how long, on average"""
COST_STEP = 1.1
"""plans are made for costs of a crash that are powers of this"""

Array = NDArray[np.float64]


class Machine(NamedTuple):
    """One that this one may be. Rates are per hour, those of crashes per running hour."""

    below: tuple[float, float]
    """crashes in the modes below: when well, when ill"""
    within: tuple[float, float]
    """crashes in the mode"""
    falls_ill: float = 0.0
    recovers: float = 0.0
    kicked: float = 0.0
    """probability that a crash makes ill"""

    @property
    def ill(self) -> float:
        """How likely it is ill before anything is known."""
        return self.falls_ill / (self.falls_ill + self.recovers) if self.falls_ill else 0.0


def grid() -> dict[Machine, float]:
    """The machines, and how likely each is at first.

    Half are steady: they crash at one rate for ever. Of each half all are as likely.
    """
    steady = [
        Machine((share * rate + 0.003,) * 2, (rate, rate))
        for rate in (0.01 * 1.75**step for step in range(16))
        for share in (0.0, 0.15, 0.7)
    ]
    turning = [
        Machine(
            (share * well + 0.003, share * ill + 0.003), (well, ill), falls_ill, 1 / ill_h, kicked
        )
        for well, ill, ill_h, (falls_ill, kicked), share in itertools.product(
            (0.03, 0.12, 0.5),
            (2.0, 6.0, 20.0, 50.0),
            (0.5, 2.0, 8.0, 30.0, 150.0),
            ((1 / 10, 0.0), (1 / 40, 0.0), (1 / 150, 0.0), (0.0, 0.8)),
            (0.0, 0.1, 0.8),
        )
    ]
    return {
        **dict.fromkeys(steady, 0.5 / len(steady)),
        **dict.fromkeys(turning, 0.5 / len(turning)),
    }


class Machines:
    """A grid as arrays: the first index is the machine, all others are states."""

    def __init__(self, likely: dict[Machine, float]) -> None:
        self.rates = {
            True: np.array([machine.within for machine in likely]),
            False: np.array([machine.below for machine in likely]),
            None: np.zeros((len(likely), 2)),
        }
        """crashes per hour in the mode, below it, and where nothing trains"""
        self.turns = np.array(
            [
                ((-machine.falls_ill, machine.falls_ill), (machine.recovers, -machine.recovers))
                for machine in likely
            ]
        )
        """the generator of the states"""
        self.kicks = np.array([((1 - one.kicked, one.kicked), (0.0, 1.0)) for one in likely])
        """which state a crash leads to"""
        ill = np.array([machine.ill for machine in likely])
        weights = np.array(list(likely.values()))
        self.prior = (weights * np.array([1 - ill, ill])).T
        self.plans = lru_cache(maxsize=64)(self._plans)
        """what each plan brings for a cost of a crash: see `_plans`"""

    def passage(self, hours: float, *, within: bool | None) -> Array:
        """How likely each state leads to each in so many hours, and no crash comes.

        exp(A t) of a matrix with the eigenvalues m + d and m - d, m half its trace, is
        exp(m t) (cosh(d t) + (A - m) sinh(d t) / d).
        """
        matrix = self.turns - _diagonal(self.rates[within])
        middle = np.trace(matrix, axis1=1, axis2=2) / 2
        apart = np.hypot(
            (matrix[:, 0, 0] - matrix[:, 1, 1]) / 2, np.sqrt(matrix[:, 0, 1] * matrix[:, 1, 0])
        )
        slow, fast = np.exp((middle + apart) * hours), np.exp((middle - apart) * hours)
        odd = np.where(apart > 0, (slow - fast) / np.where(apart > 0, 2 * apart, 1), hours * slow)
        even = (slow + fast) / 2 - odd * middle
        return odd[:, None, None] * matrix + even[:, None, None] * np.eye(2)

    def _plans(self, cost_h: float) -> Array:
        """What plans bring if a crash costs so many hours: hours of running, discounted.

        With Q the generator, L the rates of a mode, H the horizon and e the rate at which it is left,
        G = (1/H + e + L - Q)^-1 is the discounted time in each state, and X = G L D its crashes, after
        which D is the way through the kick and the downtime. So in the mode, left after n crashes, and
        below it, left after R hours, with speeds v and u:
        V = (1 + X + ... + X^(n-1)) G v + X^n W,  W = (1 - X')^-1 G' (u + V / R).

        Returns:
            indexed by where it begins (0: below, 1: in the mode), by plan, by where the hours are
            run, by machine and state.
        """
        down = self.kicks @ self.passage(cost_h, within=None) * math.exp(-cost_h / HORIZON_H)

        def spent(within: bool, leaves: float) -> tuple[Array, Array]:
            rates = _diagonal(self.rates[within])
            time = np.linalg.inv((1 / HORIZON_H + leaves) * np.eye(2) + rates - self.turns)
            return time, time @ rates @ down

        time, crash = spent(within=True, leaves=0.0)
        visit = time.sum(axis=2)
        ever = _apply(_sum_of_powers(crash), visit)
        none = np.zeros_like(ever)
        begins: tuple[list[Array], list[Array]] = ([], [])
        for count, rest_h in itertools.product(CRASHES, RESTS_H):
            stays, through = visit, crash
            for _ in range(count - 1):
                stays, through = visit + _apply(crash, stays), crash @ through
            time, again = spent(within=False, leaves=1 / rest_h)
            rests = _sum_of_powers(again) @ time
            cycle = _sum_of_powers(rests @ through / rest_h)
            below = np.array(
                [_apply(cycle, rests.sum(axis=2)), _apply(cycle @ rests / rest_h, stays)]
            )
            begins[0].append(below)
            begins[1].append(
                np.array([_apply(through, below[0]), stays + _apply(through, below[1])])
            )
        # To stay whatever comes is a plan, too; below it is that of an endless rest.
        begins[0].append(begins[0][RESTS_H.index(math.inf)])
        begins[1].append(np.array([none, ever]))
        return np.array(begins)


def _diagonal(rates: Array) -> Array:
    return rates[:, :, None] * np.eye(2)


def _apply(matrix: Array, values: Array) -> Array:
    return np.einsum("nst,nt->ns", matrix, values)


def _sum_of_powers(matrix: Array) -> Array:
    return np.linalg.inv(np.eye(2) - matrix)


class Belief:
    """How likely each machine is in each state; what is seen moves it."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self.weights = machines.prior
        """indexed by machine and state; their sum is 1"""

    @property
    def ill(self) -> float:
        """How likely the machine is ill."""
        return float(self.weights[:, 1].sum())

    def passes(self, hours: float, *, within: bool | None) -> None:
        """Time passes without a crash, in the mode or below it; None: nothing trains."""
        moved = np.einsum("ns,nst->nt", self.weights, self._machines.passage(hours, within=within))
        new = -math.expm1(-hours / REDRAWN_H)
        self.weights = moved * ((1 - new) / moved.sum()) + new * self._machines.prior

    def crashes(self, *, within: bool) -> None:
        """It goes down, in the mode or below it."""
        hit = self.weights * self._machines.rates[within]
        moved = np.einsum("ns,nst->nt", hit, self._machines.kicks)
        self.weights = moved / moved.sum()

    def worth(self, below: float, within: float, cost_h: float) -> tuple[float, float]:
        """The discounted work of the best plan that begins below the mode, and in it.

        Args:
            below: what a running hour below the mode brings.
            within: what one in the mode brings.
            cost_h: what a crash costs.
        """
        hours = np.einsum("bphns,ns->bph", self._machines.plans(cost_h), self.weights)
        best = (hours @ np.array([below, within])).max(axis=1)
        return float(best[0]), float(best[1])


class Bayes:
    """The belief at work on a machine: it trains where the best plan begins.

    Each mode but the lightest has a belief of its own. Below it lies the best that can be had
    without it. The speeds of modes and the cost of a crash are means of what was measured.
    """

    def __init__(self, world: World, machines: Machines) -> None:
        self._world = world
        self._beliefs = [Belief(machines) for _ in range(world.rungs - 1)]
        self._work = [0.25 * speed for speed in world.promised]
        self._worked_h = [0.25] * world.rungs
        self._cost_h, self._costs = 1 / 3, 1
        self._mode = 0
        self._now_h = self._since_h = 0.0

    def begin(self) -> Choice:
        """What seems best before anything is known."""
        return self._best()

    def look(self, at_h: float, kept: Kept) -> Choice:
        """Learn that it ran, and choose again."""
        self._learn(at_h, kept, kept.hours, crashed=False)
        return self._best()

    def boot(self, seen_h: float, at_h: float, kept: Kept) -> Choice:  # noqa: ARG002 - by what is kept
        """Learn that it crashed, half a checkpoint after what is kept, and choose again."""
        self._learn(at_h, kept, kept.hours + self._world.checkpoint_h / 2, crashed=True)
        return self._best()

    def step(self, at_h: float) -> None:
        """What is kept tells it."""

    def pay(self, cost_h: float) -> None:
        """Learn what a crash costs."""
        self._costs += 1
        self._cost_h += (cost_h - self._cost_h) / self._costs

    def _learn(self, at_h: float, kept: Kept, ran_h: float, *, crashed: bool) -> None:
        # It is told what a step of each kind is worth, as the bandit is.
        self._work[self._mode] += kept.steps / self._world.kind(self._now_h).steps
        self._worked_h[self._mode] += kept.hours
        for mode, belief in enumerate(self._beliefs, 1):
            # What a heavier mode bears is no word on this one.
            within = self._mode == mode if self._mode <= mode else None
            belief.passes(ran_h, within=within)
            if crashed and within is not None:
                belief.crashes(within=within)
            belief.passes(max(0.0, at_h - self._now_h - ran_h), within=None)
        self._now_h = at_h
        if crashed:
            self._since_h = at_h

    def _best(self) -> Choice:
        cost_h = COST_STEP ** round(math.log(self._cost_h, COST_STEP))
        speeds = [work / hours for work, hours in zip(self._work, self._worked_h, strict=True)]
        best, below = 0, speeds[0]
        for mode, belief in enumerate(self._beliefs, 1):
            stays, climbs = belief.worth(below, speeds[mode], cost_h)
            move = self._world.switch_h * below
            if climbs - move * (self._mode < mode) > stays - move * (self._mode >= mode):
                best = mode
            below = max(stays, climbs) / HORIZON_H
        if best != self._mode:
            self._mode, self._since_h = best, self._now_h
        ahead_h = min(max(LOOK_PART * (self._now_h - self._since_h), LOOK_H[0]), LOOK_H[1])
        return Choice(best, self._now_h + ahead_h)
