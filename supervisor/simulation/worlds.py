"""Machines that crash by themselves: what each of their modes brings, and when it dies.

A world is a frozen value. All times are hours. Work is measured in what the lightest
mode keeps in one running hour. While nothing trains, nothing crashes.

Luck belongs to the world, never to the policy: a life meets the same row of Exp(1)
thresholds whatever it does. The machine goes down when the hazard that it has gathered
since its last crash reaches the next threshold, which is exact for every hazard that is
constant by pieces (time change of a Poisson process). So two policies in one world
differ by their choices and by little else.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from supervisor.core.calendar import Window
from supervisor.core.guard import Guard
from supervisor.simulation.others import Spell

DAYS = 30.0
"""how long a life lasts, and how far a drawn world's weather is known"""
HOURS = DAYS * 24
GRID_H = 0.2
"""all weather of the families changes on this grid, so that the oracle's steps meet it"""
STIR_MAX = 8.0
"""a machine cannot be more upset than by this many crashes at once"""
WEAR_CELLS = 48
"""pieces of constant wear, each an eighth of `wear_h` long; the last goes on for ever"""
DOWNTIME_LEAST_H = 1 / 120
MINE = "my machine"
"""the family of worlds drawn from an installation's own ledger"""
MODES = ("light", "medium", "heavy", "extreme", "absurd")


class Strike(NamedTuple):
    """A crash at a known moment, as real traces tell them."""

    at_h: float
    off_h: float
    """how long the machine was away then; 0: unknown, as long as the world's downtimes"""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a run trains, where runs of several kinds take turns."""

    name: str
    steps: float
    """of its own, in the work of an hour in the lightest mode"""
    work: tuple[float, ...]
    """kept work per running hour in each mode, the lightest first"""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """One machine: what its modes bring, what a crash costs, and when it goes down."""

    family: str
    seed: str
    """of its luck"""
    work: tuple[float, ...]
    """kept work per running hour in each mode, the lightest first"""
    hazards: tuple[tuple[float, ...], ...]
    """crashes per running hour: for each piece of time, one for each mode"""
    edges_h: tuple[float, ...] = ()
    """where one piece of time ends and the next begins"""
    modes: tuple[str, ...] = ()
    """their names; empty: those of `MODES`"""
    nominal: tuple[float, ...] = ()
    """what the modes promise of `work`; empty: just what they keep"""
    downtime_h: float = 0.1
    """mean time from a crash until the supervisor decides again"""
    downtime_spread: float = 0.3
    """standard deviation of the logarithm of the downtime"""
    start_h: float = 0.01
    """from the decision after a boot until trainers step"""
    switch_h: float = 0.02
    """from the decision for another mode until trainers step in it"""
    checkpoint_h: float = 0.025
    """work since the last checkpoint is lost in a crash"""
    stirs: tuple[float, ...] = ()
    """crashes per running hour that each crash adds in each mode, at first"""
    stir_h: float = 1.0
    """after this time a crash stirs 1/e of what it did"""
    wears: tuple[float, ...] = ()
    """hours of wear in each running hour of each mode; a boot heals them"""
    wear_h: float = 1.0
    """wear that doubles the hazard"""
    wear_power: float = 2.0
    strikes: tuple[Strike, ...] = ()
    struck: int = 0
    """the lightest mode that strikes hit"""
    others: tuple[Spell, ...] = ()
    """when others need the machine"""
    guard: Guard | None = None
    """the limits within which training makes way for them; None: it does not"""
    kinds: tuple[Kind, ...] = ()
    """of the runs, which take turns; none: all bring what `work` says"""
    turn_h: float = DAYS * 24
    """how long each turn is, on the grid"""
    windows: tuple[Window, ...] = ()
    """the stretches of the week in which training may go on, in UTC; none: always"""
    days: float = DAYS

    @property
    def rungs(self) -> int:
        """How many modes there are."""
        return len(self.work)

    @property
    def names(self) -> tuple[str, ...]:
        """The modes, lightest first."""
        return self.modes or MODES[: self.rungs]

    @property
    def promised(self) -> tuple[float, ...]:
        """What the modes promise of `work`."""
        return self.nominal or self.work

    @property
    def crash_cost_h(self) -> float:
        """The mean cost of a crash: downtime, start-up, and half a checkpoint interval."""
        return self.downtime_h + self.start_h + self.checkpoint_h / 2

    def kind(self, hour: float) -> Kind:
        """What trains at that time."""
        if not self.kinds:
            return Kind(name="", steps=1.0, work=self.work)
        return self.kinds[self._turn(hour) % len(self.kinds)]

    def turns_h(self, hour: float) -> float:
        """When another kind has its turn; infinite: never."""
        return (self._turn(hour) + 1) * self.turn_h if len(self.kinds) > 1 else math.inf

    def _turn(self, hour: float) -> int:
        return math.floor(hour / self.turn_h + 1e-9)

    def at(self, hour: float) -> tuple[float, ...]:
        """The hazard of each mode at that time, without stir and wear."""
        return self.hazards[bisect_right(self.edges_h, hour)]

    def wear_factor(self, cell: int) -> float:
        """What wear multiplies the hazard with, in the middle of a piece of constant wear."""
        return float(1 + ((cell + 0.5) / 8) ** self.wear_power) if self.wears else 1.0


def constant(
    work: tuple[float, ...], hazards: tuple[float, ...], seed: str = "1", **fields: object
) -> World:
    """A world in which nothing ever changes: there are closed forms for it."""
    given = {"family": "constant", "seed": seed, "work": work, "hazards": (hazards,), **fields}
    return msgspec.convert(given, World)


def luck(*names: object) -> random.Random:
    """A source of random numbers that is the same for the same names, everywhere."""
    return random.Random("/".join(map(str, names)))  # noqa: S311 - it shall be foretold


class Fate:
    """One life's way through its world's luck: where it is, and when it goes down next."""

    def __init__(self, world: World) -> None:
        self.now_h = 0.0
        self._world = world
        self._thresholds = luck(world.seed, "thresholds")
        self._downtimes = luck(world.seed, "downtimes")
        self._left = self._thresholds.expovariate(1.0)
        self._edges = (*world.edges_h, math.inf)
        self._piece = 0
        self._strikes = (*world.strikes, Strike(math.inf, 0.0))
        self._strike = 0
        self._stir = 0.0
        self._wear = 0.0

    def rest(self, until_h: float) -> None:
        """Let time pass in which nothing trains."""
        if self._stir:
            self._stir *= math.exp((self.now_h - until_h) / self._world.stir_h)
        self.now_h = until_h

    def run(self, mode: int, until_h: float) -> bool:
        """Train in `mode` until then or until the machine goes down; whether it did."""
        world = self._world
        while self.now_h < until_h:
            while self._edges[self._piece] <= self.now_h:
                self._piece += 1
            strike_h = self._strike_h(mode)
            end_h = min(until_h, self._edges[self._piece], strike_h)
            rate = world.hazards[self._piece][mode]
            if world.wears:
                cell = min(WEAR_CELLS - 1, int(self._wear / world.wear_h * 8 + 1e-9))
                rate *= world.wear_factor(cell)
                if cell < WEAR_CELLS - 1:
                    worn_h = ((cell + 1) / 8 * world.wear_h - self._wear) / world.wears[mode]
                    end_h = min(end_h, self.now_h + worn_h)
            span_h = end_h - self.now_h
            stir = world.stirs[mode] * self._stir if self._stir else 0.0
            gathered = rate * span_h + stir * world.stir_h * -math.expm1(-span_h / world.stir_h)
            if gathered >= self._left:
                span_h = min(span_h, _reached_h(self._left, rate, stir, world.stir_h))
                self._pass(mode, self.now_h + span_h)
                return True
            self._left -= gathered
            self._pass(mode, end_h)
            if end_h == strike_h:
                return True
        return False

    def crash(self) -> float:
        """Go down; for how long, in hours."""
        strike = self._strikes[self._strike]
        world = self._world
        spread = world.downtime_spread
        # The mean of a lognormal variable is exp(mu + sigma^2 / 2).
        off_h = world.downtime_h * math.exp(self._downtimes.gauss(-(spread**2) / 2, spread))
        if strike.at_h == self.now_h:
            self._strike += 1
            off_h = strike.off_h or off_h
        else:
            self._left = self._thresholds.expovariate(1.0)
        if world.stirs:
            self._stir = min(STIR_MAX, self._stir + 1)
        self._wear = 0.0
        return off_h

    def _pass(self, mode: int, end_h: float) -> None:
        if self._world.wears:
            self._wear += (end_h - self.now_h) * self._world.wears[mode]
        self.rest(end_h)

    def _strike_h(self, mode: int) -> float:
        """When the next strike comes; those of the past found nothing training."""
        while self._strikes[self._strike].at_h < self.now_h:
            self._strike += 1
        return self._strikes[self._strike].at_h if mode >= self._world.struck else math.inf


def _reached_h(wanted: float, rate: float, stir: float, stir_h: float) -> float:
    """When rate * t + stir * stir_h * (1 - exp(-t / stir_h)) is `wanted`, by Newton's method.

    The function is concave and grows, so from the left every step stays on the left.
    """
    if not stir:
        return wanted / rate
    time_h = 0.0
    for _ in range(50):
        gone = -math.expm1(-time_h / stir_h)
        missing = wanted - rate * time_h - stir * stir_h * gone
        step_h = missing / (rate + stir * (1 - gone))
        time_h += step_h
        if abs(step_h) < 1e-9:
            break
    return time_h


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What an installation has learnt about one of its modes."""

    mode: str
    crashes: float
    hours: float
    """of running, in which it crashed so often"""
    work_per_h: float
    """kept work per running hour, in any unit, or what is expected of it"""


def likely(
    measured: Sequence[Measured], *, crash_cost_h: float, seed: int, count: int
) -> tuple[World, ...]:
    """Machines that this one may be, by what its ledger knows: hazards from their posterior.

    Crashes are Poisson, and before any the rate is taken for Gamma(0.5, 0.25 h); so after n
    in T hours it is Gamma(0.5 + n, 0.25 h + T). Speeds and the cost of a crash are as measured.
    """
    return tuple(_likely(measured, crash_cost_h, luck(seed, MINE, index)) for index in range(count))


def _likely(measured: Sequence[Measured], crash_cost_h: float, rng: random.Random) -> World:
    unit = measured[0].work_per_h
    world = World(
        family=MINE,
        seed=f"{rng.getrandbits(64):x}",
        work=tuple(one.work_per_h / unit for one in measured),
        hazards=(
            tuple(rng.gammavariate(0.5 + one.crashes, 1 / (0.25 + one.hours)) for one in measured),
        ),
        modes=tuple(one.mode for one in measured),
    )
    downtime_h = crash_cost_h - world.start_h - world.checkpoint_h / 2
    return msgspec.structs.replace(world, downtime_h=max(downtime_h, DOWNTIME_LEAST_H))
