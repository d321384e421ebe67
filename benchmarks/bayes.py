"""A rival that believes in machines: an exact filter over a grid of them, and plans to act by.

The state of a machine is hidden: it is well or ill. Each machine of the grid says how often it
crashes in either state, in a mode and in the modes below, how fast one state turns into the
other, and how likely a crash makes ill. The belief holds the probability of each machine in each
state, and all that is seen moves it by Bayes' rule: running without a crash, a crash, a time in
which nothing trained. In between it moves by the exponential of a generator less the rates of
crashes, which is exact (Markov-modulated Poisson processes: Fischer and Meier-Hellstern 1993).

What to do is chosen by looking ahead once: train in the mode, or below it, for a while, and then
follow the best plan for what has been seen in it. A plan is to train in the mode until it has
crashed n times, then below it for R hours on average or until a crash, and so on for ever. Such
plans are finite-state controllers, so what they are worth is linear in the belief, and follows
for each machine from linear equations (Hansen 1998); the look ahead is a backup of value iteration
at one belief (Pineau, Gordon and Thrun 2003). So a trial is worth what may come of it, less what it
costs if a crash ends it: the value of information, as far as one look and these plans use it.

It needs numpy, which is why it stands here and not in the simulator.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from state.records import Kept
from supervisor.simulation.life import Choice
from supervisor.simulation.worlds import World

HORIZON_H = 120.0
"""work so far ahead counts 1/e of what it counts now"""
FORGET_H, FORGET_CRASHES = 30 * 24.0, 100.0
"""what was seen so long or so many crashes ago counts 1/e: none of the grid is the true machine"""
LOOK_PART, LOOK_H = 0.2, (0.1, 3.0)
"""it looks again after this part of the time since the last crash or move, within these bounds"""
CRASHES = (1, 3)
"""after how many crashes plans go below"""
RESTS_H = (0.3, 1.0, 4.0, 24.0, math.inf)
"""for how long, on average"""
TRIALS_H = (0.25, 1.0, 4.0)
"""for how long it may try before it goes by the best plan for what it has seen"""
COST_STEP = 1.1
"""plans are made for costs of a crash that are powers of this"""
TINY = 1e-300
"""no machine is less likely than this, so that it can come back"""

LIKELY = (0.2, 0.3, 0.5)
"""at first: machines that do not change, fall ill by themselves, or are made ill by crashes"""
STEADY = tuple(0.01 * 2.0**step for step in range(13))
"""crashes an hour of machines that do not change"""
SHARES = (0.0, 0.12, 0.8)
"""of the crashes in the mode, how many come below it, too; beside `BELOW` that always come"""
BELOW = 0.003
WELL, ILL = (0.03, 0.3), (1.5, 4.0, 10.0, 25.0, 60.0)
"""crashes an hour of others, in either state"""
FALLS_ILL, ILL_H = (1 / 10, 1 / 40, 1 / 150), (0.5, 2.0, 8.0, 30.0, 150.0)
"""of those that fall ill by themselves: how often an hour, and for how long"""
KICKED, UPSET_H = (0.5, 1.0), (0.25, 0.7, 2.0, 6.0)
"""of those that a crash makes ill: how likely, and for how long"""

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
    """The machines, and how likely each is at first: as all others of its kind."""
    steady = [
        Machine((share * rate + BELOW,) * 2, (rate, rate))
        for rate, share in itertools.product(STEADY, SHARES)
    ]
    spells = [
        *((falls_ill, 1 / ill_h, 0.0) for falls_ill, ill_h in itertools.product(FALLS_ILL, ILL_H)),
        *((0.0, 1 / ill_h, kicked) for kicked, ill_h in itertools.product(KICKED, UPSET_H)),
    ]
    turning, kicked = [], []
    for well, ill, share, spell in itertools.product(WELL, ILL, SHARES, spells):
        one = Machine((share * well + BELOW, share * ill + BELOW), (well, ill), *spell)
        (kicked if one.kicked else turning).append(one)
    kinds = zip((steady, turning, kicked), LIKELY, strict=True)
    return {one: likely / len(kind) for kind, likely in kinds for one in kind}


class Machines:
    """A grid as arrays: the first index is the machine, all others are states."""

    def __init__(self, likely: dict[Machine, float]) -> None:
        self.rates = {
            True: np.array([machine.within for machine in likely]),
            False: np.array([machine.below for machine in likely]),
            None: np.zeros((len(likely), 2)),
        }
        """crashes per hour in the mode, below it, and where nothing trains"""
        self.turns = {within: self._turns(likely, within) for within in self.rates}
        """the generator of the states, by what trains"""
        self.kicks = np.array([((1 - one.kicked, one.kicked), (0.0, 1.0)) for one in likely])
        """which state a crash leads to"""
        ill = np.array([machine.ill for machine in likely])
        weights = np.array(list(likely.values()))
        self.prior = (weights * np.array([1 - ill, ill])).T
        self.ahead = lru_cache(maxsize=64)(self._ahead)
        """what lies ahead, for a cost of a crash: see `_ahead`"""

    def _turns(self, likely: dict[Machine, float], within: bool | None) -> Array:
        """How fast each state turns into the other.

        Where crashes make ill, each begins the illness anew, so that it passes only where none
        comes for so long: of those that n crashes are expected in, exp(-n) do.
        """
        rows = []
        for machine, (_, often) in zip(likely, self.rates[within], strict=True):
            falls, recovers = machine.falls_ill, machine.recovers
            if machine.kicked:
                recovers *= math.exp(-often / recovers)
            rows.append(((-falls, falls), (recovers, -recovers)))
        return np.array(rows)

    def passage(self, hours: float, *, within: bool | None) -> Array:
        """How likely each state leads to each in so many hours, and no crash comes.

        exp(A t) of a matrix with the eigenvalues m + d and m - d, m half its trace, is
        exp(m t) (cosh(d t) + (A - m) sinh(d t) / d).
        """
        matrix = self.turns[within] - _diagonal(self.rates[within])
        middle = np.trace(matrix, axis1=1, axis2=2) / 2
        apart = np.hypot(
            (matrix[:, 0, 0] - matrix[:, 1, 1]) / 2, np.sqrt(matrix[:, 0, 1] * matrix[:, 1, 0])
        )
        slow, fast = np.exp((middle + apart) * hours), np.exp((middle - apart) * hours)
        odd = np.where(apart > 0, (slow - fast) / np.where(apart > 0, 2 * apart, 1), hours * slow)
        even = (slow + fast) / 2 - odd * middle
        return odd[:, None, None] * matrix + even[:, None, None] * np.eye(2)

    def _ahead(self, cost_h: float) -> Ahead:
        """What plans bring if a crash costs so many hours, and what is seen until then.

        With Q the generator, L the rates of a mode, H the horizon and e the rate at which it is
        left, G = (1/H + e + L - Q)^-1 is the discounted time in each state, and X = G L D its
        crashes, after which D is the way through the kick and the downtime. So in the mode, left
        after n crashes, and below it, left after R hours, with speeds v and u:
        V = (1 + X + ... + X^(n-1)) G v + X^n W,  W = (1 - X')^-1 G' (u + V / R).
        Or below it is left at a crash: W = G' u + X' V. Of all that the first T hours bring,
        S = exp((Q - L - 1/H) T) is without a crash, and (1 - S) X with one.
        """
        down = self.kicks @ self.passage(cost_h, within=None) * math.exp(-cost_h / HORIZON_H)

        def spent(within: bool, leaves: float = 0.0) -> tuple[Array, Array]:
            rates = _diagonal(self.rates[within])
            time = np.linalg.inv((1 / HORIZON_H + leaves) * np.eye(2) + rates - self.turns[within])
            return time, time @ rates @ down

        time, crash = spent(within=True)
        visit = time.sum(axis=2)
        ever = _apply(_sum_of_powers(crash), visit)
        values = [np.array([np.zeros_like(ever), ever])]
        for count, rest_h in itertools.product(CRASHES, (*RESTS_H, None)):
            stays, through = visit, crash
            for _ in range(count - 1):
                stays, through = visit + _apply(crash, stays), crash @ through
            if rest_h is None:
                rests, back = spent(within=False)
            else:
                time, again = spent(within=False, leaves=1 / rest_h)
                rests = _sum_of_powers(again) @ time
                back = rests / rest_h
            cycle = _sum_of_powers(back @ through)
            below = np.array([_apply(cycle, rests.sum(axis=2)), _apply(cycle @ back, stays)])
            values += [below, np.array([_apply(through, one) for one in below])]
            values[-1][1] += stays
        times, seen = [], []
        for within, hours in itertools.product((False, True), TRIALS_H):
            time, crash = spent(within=within)
            calm = self.passage(hours, within=within) * math.exp(-hours / HORIZON_H)
            times.append(((np.eye(2) - calm) @ time).sum(axis=2))
            seen.append([calm, (np.eye(2) - calm) @ crash])
        return Ahead(np.array(values), np.array(times), np.array(seen))


class Ahead(NamedTuple):
    """What lies ahead. Hours are of running, discounted; the last two indices machine and state."""

    values: Array
    """what plans bring: indexed by plan, and by where the hours are run, below or in the mode"""
    times: Array
    """what trials bring: indexed by trial, those below the mode first"""
    seen: Array
    """how likely each state leads to each, discounted: by trial, and without a crash or with"""


def _diagonal(rates: Array) -> Array:
    return rates[:, :, None] * np.eye(2)


def _moved(weights: Array, ways: Array) -> Array:
    """Where states lead; written out, since machines are many and states are two."""
    return weights[:, :1] * ways[..., 0, :] + weights[:, 1:] * ways[..., 1, :]


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
        moved = _moved(self.weights, self._machines.passage(hours, within=within))
        self._hold(moved, hours / FORGET_H)

    def crashes(self, *, within: bool) -> None:
        """It goes down, in the mode or below it."""
        hit = self.weights * self._machines.rates[within]
        self._hold(_moved(hit, self._machines.kicks), 1 / FORGET_CRASHES)

    def _hold(self, weights: Array, forgets: float) -> None:
        """Be sure of machines by so much less, and of the state of each as it was seen.

        Weights to a power less than 1: the power steady model (Smith 1979).
        """
        machines = np.maximum(weights.sum(axis=1, keepdims=True), TINY)
        first = self._machines.prior.sum(axis=1, keepdims=True)
        kept = weights * (first / machines) ** -math.expm1(-forgets)
        self.weights = kept / kept.sum()

    def worth(self, below: float, within: float, cost_h: float) -> tuple[float, float]:
        """What the best trial below the mode is worth, and the best one in it: discounted work.

        Args:
            below: what a running hour below the mode brings.
            within: what one in the mode brings.
            cost_h: what a crash costs.
        """
        ahead, speeds, size = self._machines.ahead(cost_h), (below, within), self.weights.size
        seen = _moved(self.weights, ahead.seen)
        hours = seen.reshape(-1, size) @ ahead.values.reshape(-1, size).T
        after = (hours.reshape(-1, 2, len(ahead.values), 2) @ speeds).max(axis=2).sum(axis=1)
        first = ahead.times.reshape(-1, size) @ self.weights.reshape(size)
        trials = first * np.repeat(speeds, len(TRIALS_H)) + after
        stays, climbs = trials.reshape(2, -1).max(axis=1)
        return float(stays), float(climbs)


class Bayes:
    """The belief at work on a machine: it trains where that is worth most.

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
        self._learn(at_h, kept, crashed=False)
        return self._best()

    def boot(self, seen_h: float, at_h: float, kept: Kept) -> Choice:  # noqa: ARG002 - see `_learn`
        """Learn that it crashed, and choose again."""
        self._learn(at_h, kept, crashed=True)
        return self._best()

    def step(self, at_h: float) -> None:
        """What is kept tells it."""

    def pay(self, cost_h: float) -> None:
        """Learn what a crash costs."""
        self._costs += 1
        self._cost_h += (cost_h - self._cost_h) / self._costs

    def _learn(self, at_h: float, kept: Kept, *, crashed: bool) -> None:
        # Of running only the hours count that are kept. Those that a crash loses are in its cost.
        # It is told what a step of each kind is worth, as the bandit is.
        self._work[self._mode] += kept.steps / self._world.kind(self._now_h).steps
        self._worked_h[self._mode] += kept.hours
        for mode, belief in enumerate(self._beliefs, 1):
            # What a heavier mode bears is no word on this one.
            within = self._mode == mode if self._mode <= mode else None
            belief.passes(kept.hours, within=within)
            if crashed and within is not None:
                belief.crashes(within=within)
            belief.passes(max(0.0, at_h - self._now_h - kept.hours), within=None)
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
