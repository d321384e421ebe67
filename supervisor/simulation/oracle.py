"""The policy that knows every hazard, but not the luck: what could be had at best.

Backward induction over the known future, with the price of every change of mode and the
choice to train nothing. What a hazard depends on decides the state of the induction: the
time of a weather, the wear since the boot, or how far crashes have stirred the machine.
The latter two have no calendar, so the best mean gain per hour is found for them, by
renewal-reward: that gain at which a cycle is worth exactly nothing (Dinkelbach 1967).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from state.records import Kept
from supervisor.simulation.life import HEARTBEAT_S, Choice
from supervisor.simulation.worlds import GRID_H, STIR_MAX, WEAR_CELLS, World

CALM_H = 0.5
"""steps of a world without weather: nothing changes but the end comes nearer"""
STIR_CELLS = 48
STIR_POWER = 2.0
"""cells lie closer together where the machine is calmer"""
STIR_LEAST = 0.01
"""less stir than this is none"""
PLANS_MAX = 30
LOOK_LEAST_H = 1e-3
"""a look must come later than the last one"""


def oracle(world: World) -> Oracle:
    """The best policy for a world whose hazards are known."""
    if world.stirs:
        return _Stirred(world)
    if world.wears:
        return _Worn(world)
    return _Foreseen(world)


class Oracle(ABC):
    """A pilot that has nothing to learn."""

    expected: float
    """the work that it expects to keep in its life, before luck decides"""

    def begin(self) -> Choice:
        """The best mode to begin with."""
        return self._up(0.0, None)

    def look(self, at_h: float, _kept: Kept) -> Choice:
        """The best mode from the present one."""
        return self._next(at_h)

    def boot(self, seen_h: float, at_h: float, _kept: Kept) -> Choice:
        """The best mode after a crash."""
        return self._up(at_h, seen_h)

    def step(self, _at_h: float) -> None:  # noqa: B027 - whoever foresees it need not hear it
        """It has foreseen it."""

    def pay(self, _cost_h: float) -> None:
        """It knows."""
        return

    @abstractmethod
    def _up(self, at_h: float, seen_h: float | None) -> Choice:
        """What is best at a boot; None: at the first one."""

    @abstractmethod
    def _next(self, at_h: float) -> Choice:
        """What is best while trainers step, or while they rest."""


class _Run(NamedTuple):
    """What is to be expected of running in a mode for a while, at a constant hazard."""

    crash: float
    """probability of a crash"""
    hours: float
    """expected hours until it or until the end"""
    work: float
    """expected kept work"""


def _expect(rate: float, work: float, hours: float, checkpoint_h: float) -> _Run:
    """What `hours` bring at `rate` crashes an hour; infinite hours run until the crash."""
    if rate == 0:
        return _Run(0.0, hours, work * hours)
    crash = -math.expm1(-rate * hours)
    ran_h = crash / rate
    # A crash loses X mod tau of an exponential X: 1/rate - tau / (exp(rate tau) - 1).
    lost_h = 1 / rate - checkpoint_h / math.expm1(rate * checkpoint_h)
    return _Run(crash, ran_h, work * max(0.0, ran_h - crash * lost_h))


class _Foreseen(Oracle):
    """Hazards that are known functions of the time."""

    def __init__(self, world: World) -> None:
        self._step_h = GRID_H if world.edges_h or world.kinds else CALM_H
        self._steps = math.ceil(world.days * 24 / self._step_h)
        self._idle = self._mode = world.rungs
        self._best, self.expected = self._plan(world)
        self._until = self._changes()

    def _up(self, at_h: float, seen_h: float | None) -> Choice:  # noqa: ARG002 - all boots are alike
        self._mode = self._idle
        return self._next(at_h)

    def _next(self, at_h: float) -> Choice:
        step = min(self._steps - 1, round(at_h / self._step_h))
        mode = self._mode = self._best[step][self._mode]
        until_h = self._until[step][mode] * self._step_h
        return Choice(None if mode == self._idle else mode, until_h)

    def _changes(self) -> list[list[int]]:
        """For each step and mode: the next step at which the mode is left."""
        modes = len(self._best[0])
        later = [self._steps + 1] * modes
        until: list[list[int]] = []
        for step in reversed(range(self._steps)):
            until.append(later)
            later = [step if self._best[step][m] != m else later[m] for m in range(modes)]
        return until[::-1]

    def _plan(self, world: World) -> tuple[list[list[int]], float]:
        """For each step the best mode: from each mode, and last from idling or a boot.

        And the work to be expected from the first step on.
        """
        step_h, rungs = self._step_h, world.rungs
        start, switch = world.start_h / step_h, world.switch_h / step_h
        # What stepping in each mode is worth, what idling is, and a boot: from the last step on.
        values: list[list[float]] = [[0.0] for _ in range(rungs + 2)]
        boots = values[-1]
        best: list[list[int]] = []
        was: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        runs: list[_Run] = []
        gain = 0.0
        for step in reversed(range(self._steps)):
            middle_h = (step + 0.5) * step_h
            if (now := (world.at(middle_h), world.kind(middle_h).work)) != was:
                was = now
                runs = [
                    _expect(rate, work, step_h, world.checkpoint_h)
                    for rate, work in zip(*now, strict=True)
                ]
                gain = max(_gain(run, world) for run in runs)
            stay = []
            for run, later in zip(runs, values, strict=False):
                crashed_h = run.crash and (run.hours - (1 - run.crash) * step_h) / run.crash
                up = (crashed_h + world.downtime_h) / step_h
                # Within this very step the value of a boot falls by the gain of its best mode.
                value = boots[-1] + gain * step_h * (1 - up) if up < 1 else _ahead(boots, up)
                stay.append(run.work + (1 - run.crash) * later[-1] + run.crash * value)
            stay.append(values[rungs][-1])
            chosen = self._chosen(stay, values, switch)
            for mode, worth in enumerate(chosen.worth):
                values[mode].append(worth)
            begun = [_ahead(values[mode], 1 + start) for mode in range(rungs)]
            first = max(range(rungs), key=begun.__getitem__)
            boot = rungs if stay[rungs] > begun[first] else first
            best.append([*chosen.mode, boot])
            values[rungs].append(max(stay[rungs], begun[first]))
            boots.append(values[rungs][-1])
        return best[::-1], boots[-1]

    @staticmethod
    def _chosen(stay: list[float], values: list[list[float]], switch: float) -> _Chosen:
        """The best of staying, changing and idling, from each mode in which trainers step."""
        idle = len(stay) - 1
        moved = [_on_the_way(stay[mode], values[mode], switch) for mode in range(idle)]
        other = max(range(idle), key=moved.__getitem__)
        modes, worth = [], []
        for mode in range(idle):
            best, to = (stay[mode], mode) if stay[mode] >= moved[other] else (moved[other], other)
            modes.append(idle if stay[idle] > best else to)
            worth.append(max(stay[idle], best))
        return _Chosen(modes, worth)


class _Chosen(NamedTuple):
    """For each mode in which trainers step: what to do, and what that is worth."""

    mode: list[int]
    worth: list[float]


def _gain(run: _Run, world: World) -> float:
    """Kept work per hour of the clock, if a mode is kept whatever happens."""
    return run.work / (run.hours + run.crash * (world.downtime_h + world.start_h))


def _ahead(values: list[float], steps: float) -> float:
    """The value so many steps before the newest entry, which is that of the step after now."""
    whole = int(steps)
    index = len(values) - whole
    if index <= 0:
        return 0.0
    return values[index] + (values[index - 1] - values[index]) * (steps - whole)


def _on_the_way(now: float, values: list[float], steps: float) -> float:
    """The value so many steps ahead, given that of now."""
    return now + (values[-1] - now) * steps if steps < 1 else _ahead(values, steps)


def _root(worth: Callable[[float], float], high: float) -> float:
    """The gain at which a cycle is worth nothing; its worth falls as the gain grows."""
    low = 0.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if worth(middle) > 0 else (low, middle)
    return low


class _Worn(Oracle):
    """Hazards that grow with the wear since the boot."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._mode = 0
        self._wear = 0.0
        self._since_h = 0.0
        """since when it has been wearing in the present mode"""
        gain = _root(lambda gain: self._plan(gain)[1], max(world.work))
        self._best, _ = self._plan(gain)
        self.expected = gain * world.days * 24

    def _up(self, at_h: float, seen_h: float | None) -> Choice:  # noqa: ARG002 - a boot heals all
        self._wear = 0.0
        return self._go(at_h + self._world.start_h, self._best[0][self._world.rungs])

    def _next(self, at_h: float) -> Choice:
        self._wear += max(0.0, at_h - self._since_h) * self._world.wears[self._mode]
        mode = self._best[self._cell()][self._mode]
        pause_h = self._world.switch_h if mode != self._mode else 0.0
        return self._go(at_h + pause_h, mode)

    def _cell(self) -> int:
        return min(WEAR_CELLS - 1, int(self._wear / self._world.wear_h * 8 + 1e-6))

    def _go(self, from_h: float, mode: int) -> Choice:
        """Train in `mode` until the first cell in which another one is better."""
        self._mode, self._since_h = mode, from_h
        cell = self._cell()
        left = next((j for j in range(cell + 1, WEAR_CELLS) if self._best[j][mode] != mode), None)
        if left is None:
            return Choice(mode, math.inf)
        worn = left / 8 * self._world.wear_h - self._wear
        return Choice(mode, from_h + worn / self._world.wears[mode])

    def _plan(self, gain: float) -> tuple[list[list[int]], float]:
        """Best mode in each cell (from each mode, last after a boot), and a cycle's worth."""
        world, modes = self._world, range(self._world.rungs)
        crash_cost = gain * (world.downtime_h + world.start_h)
        switch_cost = gain * world.switch_h
        after = [0.0 for _ in modes]
        best: list[list[int]] = []
        begun = 0.0
        for cell in reversed(range(WEAR_CELLS)):
            stay = []
            for mode in modes:
                wear = world.wears[mode]
                hours = world.wear_h / 8 / wear if cell < WEAR_CELLS - 1 else math.inf
                rate = world.hazards[0][mode] * world.wear_factor(cell)
                run = _expect(rate, world.work[mode], hours, world.checkpoint_h)
                kept = run.work - gain * run.hours - run.crash * crash_cost
                stay.append(kept + (1 - run.crash) * after[mode])
            other = max(modes, key=stay.__getitem__)
            begun = stay[other]
            choices = [m if stay[m] >= begun - switch_cost else other for m in modes]
            best.append([*choices, other])
            after = [max(stay[mode], begun - switch_cost) for mode in modes]
        return best[::-1], begun


class _Stirred(Oracle):
    """Hazards that each crash raises, and that calm down again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._levels = [
            STIR_LEAST + (STIR_MAX - STIR_LEAST) * (cell / (STIR_CELLS - 1)) ** STIR_POWER
            for cell in range(STIR_CELLS)
        ]
        self._runs = [self._expected(cell) for cell in range(STIR_CELLS)]
        self._places = [self._upset(cell) for cell in range(STIR_CELLS)]
        self._best, gain = self._plan()
        self.expected = gain * world.days * 24
        self._mode = world.rungs
        self._stir = 0.0
        self._known_h = 0.0

    def _up(self, at_h: float, seen_h: float | None) -> Choice:
        if seen_h is None:
            self._stir, self._known_h = 0.0, at_h
        else:
            # It went down within a minute after it had been seen.
            self._calm(min(at_h, seen_h + HEARTBEAT_S / 7200))
            self._stir = min(STIR_MAX, self._stir + 1)
        self._mode = self._world.rungs
        return self._next(at_h)

    def _next(self, at_h: float) -> Choice:
        self._calm(at_h)
        rungs, cell = self._world.rungs, round(_place(self._stir))
        mode = self._mode = self._best[cell][self._mode]
        left = next((j for j in reversed(range(cell)) if self._best[j][mode] != mode), None)
        until_h = math.inf
        if left is not None:
            calm_h = self._world.stir_h * math.log(self._stir / self._levels[left])
            until_h = at_h + max(calm_h, LOOK_LEAST_H)
        return Choice(None if mode == rungs else mode, until_h)

    def _calm(self, at_h: float) -> None:
        self._stir *= math.exp((self._known_h - at_h) / self._world.stir_h)
        self._known_h = at_h

    def _calm_h(self, cell: int) -> float:
        """How long a cell takes to calm down to the one below."""
        return self._world.stir_h * math.log(self._levels[cell] / self._levels[cell - 1])

    def _level(self, cell: int) -> float:
        """The stir in the middle of that way; none in the lowest cell."""
        return math.sqrt(self._levels[cell] * self._levels[cell - 1]) if cell else 0.0

    def _expected(self, cell: int) -> list[_Run]:
        """What each mode brings while a cell calms down to the one below."""
        world, level = self._world, self._level(cell)
        # The lowest cell is left by a crash alone.
        hours = self._calm_h(cell) if cell else math.inf
        return [
            _expect(rate + stir * level, work, hours, world.checkpoint_h)
            for rate, stir, work in zip(world.hazards[0], world.stirs, world.work, strict=True)
        ]

    def _upset(self, cell: int) -> tuple[int, float]:
        """Where a crash in a cell leads, once the machine is up: a cell, and how far to the next.

        The lowest cell is calm, and calm machines are upset by one crash.
        """
        stir = min(STIR_MAX, self._level(cell) + 1)
        place = _place(stir * math.exp(-self._world.downtime_h / self._world.stir_h))
        low = min(STIR_CELLS - 2, int(place))
        return low, place - low

    def _plan(self) -> tuple[list[list[int]], float]:
        """Best mode in each cell, from each mode and from rest, and the gain per hour of that.

        Howard's policy iteration: each plan is valued exactly, and mended where that shows
        something better, until nothing is.
        """
        best = [[*range(self._world.rungs), 0] for _ in range(STIR_CELLS)]
        for _ in range(PLANS_MAX):
            better, gain = self._improved(best)
            if better == best:
                break
            best = better
        return best, gain

    def _improved(self, best: list[list[int]]) -> tuple[list[list[int]], float]:
        """What is best in each cell if `best` is done afterwards, and the gain of `best`.

        A value is a list of factors: of the gain per hour, of the value of the boot after a
        crash in each cell, and a constant. Setting the value of rest on a calm machine to 0
        leaves one unknown for each equation.
        """
        world, rungs = self._world, self._world.rungs
        cells = range(STIR_CELLS)
        entry_h = [world.switch_h] * rungs + [world.start_h]
        stays: list[list[_Form]] = []
        values: list[list[_Form]] = []
        for cell in cells:
            stay = [
                _form(run.work, -run.hours, cell, run.crash, values[-1][mode] if cell else None)
                for mode, run in enumerate(self._runs[cell])
            ]
            below = values[-1][rungs] if cell else None
            stay.append(_form(0.0, -self._calm_h(cell) if cell else 0.0, cell, 0.0, below))
            stays.append(stay)
            values.append(
                [
                    stay[to] if to in (mode, rungs) else _paid(stay[to], entry_h[mode])
                    for mode, to in enumerate(best[cell])
                ]
            )
        rows = []
        for cell, (low, part) in enumerate(self._places):
            rest = zip(values[low][rungs], values[low + 1][rungs], strict=True)
            row = _paid([(1 - part) * a + part * b for a, b in rest], world.downtime_h)
            row[1 + cell] -= 1
            rows.append(row)
        known = _solved([*rows, values[0][rungs]])
        better: list[list[int]] = []
        for cell in cells:
            worth = [sum(a * b for a, b in zip(form, known, strict=True)) for form in stays[cell]]
            if not cell:
                worth[rungs] = -math.inf  # a calm machine does not become any calmer
            better.append(
                [
                    max(
                        range(rungs + 1),
                        key=lambda to: (
                            worth[to] - (to not in (mode, rungs)) * known[0] * entry_h[mode]
                        ),
                    )
                    for mode in range(rungs + 1)
                ]
            )
        return better, known[0]


def _place(stir: float) -> float:
    """Where a stir lies among the cells."""
    above = max(0.0, stir - STIR_LEAST) / (STIR_MAX - STIR_LEAST)
    return float((STIR_CELLS - 1) * above ** (1 / STIR_POWER))


_Form = list[float]
"""factors of the gain, of the value of the boot after a crash in each cell, and of 1"""


def _form(work: float, gain: float, cell: int, crash: float, later: _Form | None) -> _Form:
    """A value: `work` and `gain` at once, a boot with probability `crash`, else `later`."""
    form = [0.0] * (STIR_CELLS + 2) if later is None else [(1 - crash) * x for x in later]
    form[0] += gain
    form[1 + cell] += crash
    form[-1] += work
    return form


def _paid(form: _Form, hours: float) -> _Form:
    """A value after hours in which nothing is gained."""
    return [form[0] - hours, *form[1:]]


def _solved(rows: list[_Form]) -> _Form:
    """The unknowns, and 1, for which every row is worth 0 (Gauss, largest pivot first)."""
    rows = [list(row) for row in rows]
    size = len(rows)
    for i in range(size):
        pivot = max(range(i, size), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        head = rows[i]
        for k in range(i + 1, size):
            factor = rows[k][i] / head[i]
            if factor:
                rows[k] = [a - factor * b for a, b in zip(rows[k], head, strict=True)]
    known = [0.0] * size + [1.0]
    for i in reversed(range(size)):
        known[i] = (
            -sum(a * b for a, b in zip(rows[i][i + 1 :], known[i + 1 :], strict=True)) / rows[i][i]
        )
    return known
