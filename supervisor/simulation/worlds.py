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
from collections.abc import Callable, Iterable, Sequence
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


# The families. Each draws from ranges that a rented or ageing machine may well have.


def _log(rng: random.Random, low: float, high: float) -> float:
    """A number whose logarithm is uniform: every order of magnitude is as likely."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def machine(
    rng: random.Random,
    family: str,
    *,
    rho: float = 0.0,
    downtime_min: tuple[float, float] = (1, 40),
) -> World:
    """What has nothing to do with the hazards: speeds, and what a crash costs."""
    return World(
        family=family,
        seed=f"{rng.getrandbits(64):x}",
        work=(1.0, rho or _log(rng, 1.2, 3.5)),
        hazards=((0.0, 0.0),),
        downtime_h=_log(rng, *downtime_min) / 60,
        downtime_spread=rng.uniform(0.1, 0.6),
        start_h=rng.uniform(5, 60) / 3600,
        switch_h=rng.uniform(10, 120) / 3600,
        checkpoint_h=rng.uniform(30, 90) / 3600,
    )


def _with(world: World, light: float, medium: float) -> World:
    """The world with these hazards for ever."""
    return msgspec.structs.replace(world, hazards=((light, medium),))


def _weather(world: World, pieces: Iterable[tuple[float, float, float]]) -> World:
    """The world with pieces (end in hours, hazard in light, in medium), put on the grid.

    The last one counts for ever; what lies after a life does not matter.
    """
    edges = [0.0]
    hazards: list[tuple[float, float]] = []
    for end_h, light, medium in pieces:
        edge = round(end_h / GRID_H) * GRID_H
        if edge > edges[-1] and edges[-1] < HOURS - GRID_H / 2:
            edges.append(edge)
            hazards.append((light, medium))
    return msgspec.structs.replace(world, edges_h=tuple(edges[1:-1]), hazards=tuple(hazards))


def _balanced(world: World, light: float, gain: float) -> float:
    """The hazard at which medium keeps `gain` times as much as light in an hour of the clock."""
    pause_h = world.downtime_h + world.start_h
    kept_light = (1 - light * world.checkpoint_h / 2) / (1 + light * pause_h)
    wanted = gain * kept_light / world.work[1]
    return (1 - wanted) / (world.checkpoint_h / 2 + wanted * pause_h)


def _unbearable(rng: random.Random, world: World, light: float) -> float:
    """A hazard at which medium keeps clearly less than light does."""
    return _balanced(world, light, 1.0) * _log(rng, 1.5, 6)


def calm(rng: random.Random) -> World:
    """Hardly ever down, in either mode."""
    world = machine(rng, "calm")
    light = _log(rng, 1 / 720, 1 / 100)
    return _with(world, light, light * _log(rng, 1, 5))


def marginal(rng: random.Random) -> World:
    """Medium crashes about as often as it is worth."""
    world = machine(rng, "marginal", rho=_log(rng, 1.4, 3.0), downtime_min=(4, 40))
    light = _log(rng, 1 / 720, 1 / 24)
    return _with(world, light, _balanced(world, light, _log(rng, 0.8, 1.25)))


def costly(rng: random.Random) -> World:
    """A reboot takes so long that four of them hardly fit into an hour."""
    world = machine(rng, "costly", rho=_log(rng, 1.2, 2.5), downtime_min=(20, 40))
    return _with(world, _log(rng, 1 / 720, 1 / 48), _log(rng, 0.3, 6))


def hopeless(rng: random.Random) -> World:
    """Medium dies within minutes, always."""
    world = machine(rng, "hopeless", downtime_min=(3, 40))
    light = _log(rng, 1 / 720, 1 / 24)
    return _with(world, light, max(_log(rng, 6, 20), _unbearable(rng, world, light)))


def boot_loop(rng: random.Random) -> World:
    """Medium dies before the first look at it."""
    world = machine(rng, "boot loop", downtime_min=(2, 20))
    light = _log(rng, 1 / 720, 1 / 24)
    return _with(world, light, max(_log(rng, 20, 60), _unbearable(rng, world, light)))


def drift(rng: random.Random) -> World:
    """Over the month medium goes from good to bad, or from bad to good."""
    world = machine(rng, "drift", rho=_log(rng, 1.4, 3.0), downtime_min=(3, 30))
    light, good = _log(rng, 1 / 720, 1 / 48), _log(rng, 0.01, 0.1)
    bad = _unbearable(rng, world, light)
    first, last = (good, bad) if rng.random() < 0.5 else (bad, good)
    step_h = 6.0
    steps = int(HOURS / step_h)
    return _weather(
        world,
        [
            ((i + 1) * step_h, light, first * (last / first) ** ((i + 0.5) / steps))
            for i in range(steps)
        ],
    )


def change_points(rng: random.Random) -> World:
    """A few times in the month medium turns bad, or good again, from one hour to the next."""
    world = machine(rng, "change points", rho=_log(rng, 1.4, 3.0), downtime_min=(3, 30))
    light = _log(rng, 1 / 720, 1 / 48)
    at_h = sorted(rng.uniform(12, HOURS - 12) for _ in range(rng.randint(2, 6)))
    bad = rng.random() < 0.5
    pieces = []
    for end_h in (*at_h, HOURS):
        hazard = _unbearable(rng, world, light) if bad else _log(rng, 0.01, 0.2)
        pieces.append((end_h, light, hazard))
        bad = not bad
    return _weather(world, pieces)


def common_storms(rng: random.Random) -> World:
    """Several times a week everything crashes, whatever the mode."""
    world = machine(rng, "common storms", rho=_log(rng, 1.4, 3.0), downtime_min=(2, 20))
    light, storm = _log(rng, 1 / 720, 1 / 100), _log(rng, 2, 10)
    medium = light * _log(rng, 1, 5)
    pieces, now_h = [], 0.0
    while now_h < HOURS:
        begin_h = now_h + rng.expovariate(1 / rng.uniform(8, 36))
        now_h = begin_h + rng.uniform(1, 8)
        worse = rng.uniform(1.0, 1.3)
        pieces += [(begin_h, light, medium), (now_h, storm, storm * worse)]
    return _weather(world, pieces)


def medium_bursts(rng: random.Random) -> World:
    """Every few days medium is unbearable for some hours; light never notices."""
    world = machine(rng, "medium bursts", rho=_log(rng, 1.4, 3.0), downtime_min=(3, 30))
    light, good = _log(rng, 1 / 720, 1 / 48), _log(rng, 0.01, 0.1)
    burst = _unbearable(rng, world, light)
    every_h, lasts_h = rng.uniform(12, 72), rng.uniform(1, 12)
    pieces, now_h = [], 0.0
    while now_h < HOURS:
        begin_h = now_h + rng.expovariate(1 / every_h)
        now_h = begin_h + lasts_h * rng.uniform(0.5, 1.5)
        pieces += [(begin_h, light, good), (now_h, light, burst)]
    return _weather(world, pieces)


def time_of_day(rng: random.Random) -> World:
    """Medium is unbearable at the same hours of every day."""
    world = machine(rng, "time of day", rho=_log(rng, 1.4, 3.0), downtime_min=(3, 30))
    light, good = _log(rng, 1 / 720, 1 / 48), _log(rng, 0.01, 0.1)
    bad = _unbearable(rng, world, light)
    begin_h, lasts_h = rng.uniform(1, 23), rng.uniform(4, 12)
    pieces = []
    for day in range(-1, int(DAYS) + 1):
        turns_h = day * 24 + begin_h
        pieces += [(turns_h, light, good), (turns_h + lasts_h, light, bad)]
    return _weather(world, pieces)


def self_exciting(rng: random.Random) -> World:
    """Each crash makes the next one likelier for some hours, above all in medium.

    A Hawkes process: the intensity jumps at each event and decays exponentially
    (Hawkes 1971), here at most `STIR_MAX` jumps high.
    """
    world = machine(rng, "self-exciting", rho=_log(rng, 1.4, 3.0), downtime_min=(4, 40))
    light, medium = _log(rng, 1 / 720, 1 / 48), _log(rng, 0.02, 0.3)
    stir_h, children = _log(rng, 0.5, 6), rng.uniform(0.5, 2.5)
    stir = children / stir_h
    return msgspec.structs.replace(
        _with(world, light, medium), stirs=(stir * rng.uniform(0.02, 0.25), stir), stir_h=stir_h
    )


def wear_out(rng: random.Random) -> World:
    """The longer it has run, the likelier it goes down; a boot, or a service, makes it new."""
    world = machine(rng, "wear-out", rho=_log(rng, 1.4, 3.0), downtime_min=(3, 40))
    light, medium = _log(rng, 1 / 720, 1 / 48), _log(rng, 0.02, 0.5)
    if rng.random() < 0.6:
        return msgspec.structs.replace(
            _with(world, light, medium),
            wears=(rng.uniform(0.1, 1.0), 1.0),
            wear_h=_log(rng, 1, 24),
            wear_power=rng.uniform(1, 3),
        )
    bad = _unbearable(rng, world, light)
    every_h, step_h = rng.uniform(3, 10) * 24, 2.0
    pieces = []
    for i in range(int(HOURS / step_h)):
        age = (i * step_h % every_h) / every_h
        pieces.append(((i + 1) * step_h, light, medium * (bad / medium) ** age))
    return _weather(world, pieces)


def no_gain(rng: random.Random) -> World:
    """Medium promises much, is no faster, and crashes more."""
    world = machine(rng, "no gain", rho=rng.uniform(0.85, 1.0))
    light = _log(rng, 1 / 720, 1 / 48)
    promised = (1.0, _log(rng, 1.5, 3.5))
    return msgspec.structs.replace(_with(world, light, _log(rng, 0.05, 1.5)), nominal=promised)


def both_unstable(rng: random.Random) -> World:
    """Light crashes a lot, and medium not much more."""
    world = machine(rng, "both unstable", rho=_log(rng, 1.3, 3.0), downtime_min=(1, 15))
    light = _log(rng, 0.5, 5)
    return _with(world, light, light * _log(rng, 1, 2))


def three_rungs(rng: random.Random) -> World:
    """A third mode, heavier still: each of the upper two may be good or bad."""
    world = machine(rng, "three rungs", rho=_log(rng, 1.3, 2.5), downtime_min=(3, 30))
    light = _log(rng, 1 / 720, 1 / 48)
    medium = _log(rng, 0.01, 0.3) if rng.random() < 0.7 else _log(rng, 3, 15)
    heavy = max(medium, _log(rng, 0.02, 0.5) if rng.random() < 0.5 else _log(rng, 3, 20))
    return msgspec.structs.replace(
        world,
        work=(*world.work, world.work[1] * _log(rng, 1.2, 2.0)),
        hazards=((light, medium, heavy),),
    )


FAMILIES: dict[str, Callable[[random.Random], World]] = {
    "calm": calm,
    "marginal": marginal,
    "costly": costly,
    "hopeless": hopeless,
    "boot loop": boot_loop,
    "drift": drift,
    "change points": change_points,
    "common storms": common_storms,
    "medium bursts": medium_bursts,
    "time of day": time_of_day,
    "self-exciting": self_exciting,
    "wear-out": wear_out,
    "no gain": no_gain,
    "both unstable": both_unstable,
    "three rungs": three_rungs,
}
"""every kind of machine, by its name"""


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


def draw(family: str, seed: int, index: int) -> World:
    """World number `index` of a family; always the same one."""
    return FAMILIES[family](luck(seed, family, index))
