"""The policies that are compared: ours, the oracle, and what else one might think of."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from state.records import Kept
from supervisor.core.facts import Decision, StabilityLimits
from supervisor.core.guard import Guard
from supervisor.simulation.life import HAIR_S, Choice, Pilot, Supervised, live
from supervisor.simulation.oracle import oracle
from supervisor.simulation.others import Sentinel
from supervisor.simulation.worlds import World, luck

HALF_LIFE_H = 24.0
"""how fast the bandit forgets crashes and hours"""
LOOK_H = 1.0
"""how often the bandit thinks again without a crash"""
DAY_S = 24 * 3600.0


class Only:
    """One mode, whatever happens."""

    def __init__(self, mode: int) -> None:
        self._choice = Choice(mode, math.inf)

    def begin(self) -> Choice:
        """The mode."""
        return self._choice

    def look(self, at_h: float, kept: Kept) -> Choice:  # noqa: ARG002 - it does not learn
        """The mode."""
        return self._choice

    def boot(self, seen_h: float, at_h: float, kept: Kept) -> Choice:  # noqa: ARG002 - as above
        """The mode."""
        return self._choice

    def step(self, at_h: float) -> None:
        """Whenever it is."""

    def pay(self, cost_h: float) -> None:
        """Whatever it costs."""


class BackOff(Supervised):
    """The rule `fixed`, with a cool-down that doubles with each failure, up to a day.

    A mode that lasts as long as its last cool-down has made good what it failed.
    """

    def __init__(self, world: World, limits: StabilityLimits) -> None:
        super().__init__(world, limits)
        self._cool_downs: dict[str, float] = {}

    def _amended(self, decision: Decision) -> Decision:
        if decision.cool_down_s is None:
            return decision
        mode, visit = self.memory.goal.mode, self.memory.visit
        last_s = self._cool_downs.get(mode, 0.0)
        cool_down_s = decision.cool_down_s
        if visit.running_s < last_s:
            cool_down_s = min(DAY_S, 2 * last_s)
        self._cool_downs[mode] = cool_down_s
        return msgspec.structs.replace(decision, cool_down_s=cool_down_s)


class Thompson:
    """A discounted Thompson bandit: a rate drawn for each mode, the best of the draws is taken.

    Crashes are Poisson with a Gamma(0.5 + n, 0.25 + T) rate, both forgotten by half
    every day (Thompson 1933; discounting: Raj & Kalyani 2017).
    """

    def __init__(self, world: World) -> None:
        self._world, modes = world, world.rungs
        self._rng = luck(world.seed, "thompson")
        self._crashes = [0.0] * modes
        self._hours = [0.0] * modes
        self._work = [0.25 * rate for rate in world.promised]
        self._worked_h = [0.25] * modes
        self._cost_h, self._costs = 1 / 3, 1
        self._mode = 0
        self._now_h = 0.0

    def begin(self) -> Choice:
        """The lightest mode, for lack of knowledge."""
        return Choice(0, LOOK_H)

    def look(self, at_h: float, kept: Kept) -> Choice:
        """Draw again."""
        self._learn(at_h, at_h, kept)
        return self._draw()

    def boot(self, seen_h: float, at_h: float, kept: Kept) -> Choice:
        """Count the crash and draw again."""
        self._learn(seen_h, at_h, kept)
        self._crashes[self._mode] += 1
        return self._draw()

    def step(self, at_h: float) -> None:
        """Its hours begin with the decision."""

    def pay(self, cost_h: float) -> None:
        """Learn what a crash costs."""
        self._costs += 1
        self._cost_h += (cost_h - self._cost_h) / self._costs

    def _learn(self, ran_h: float, at_h: float, kept: Kept) -> None:
        known = 0.5 ** ((at_h - self._now_h) / HALF_LIFE_H)
        self._crashes = [known * crashes for crashes in self._crashes]
        self._hours = [known * hours for hours in self._hours]
        ran_h = max(0.0, ran_h - self._now_h)
        self._hours[self._mode] += ran_h
        self._worked_h[self._mode] += ran_h
        # It is told what a step of each kind is worth, which ours has to find out.
        self._work[self._mode] += kept.steps / self._world.kind(self._now_h).steps
        self._now_h = at_h

    def _draw(self) -> Choice:
        worth = []
        for crashes, hours, work, worked_h in zip(
            self._crashes, self._hours, self._work, self._worked_h, strict=True
        ):
            rate = self._rng.gammavariate(0.5 + crashes, 1 / (0.25 + hours))
            worth.append(work / worked_h / (1 + rate * self._cost_h))
        self._mode = max(range(len(worth)), key=worth.__getitem__)
        return Choice(self._mode, self._now_h + LOOK_H)


class MakingWay:
    """A pilot whose trainers make way for others as ours do, where a machine has a guard.

    Else whoever goes on beside others would keep more than ours may.
    """

    def __init__(self, pilot: Pilot, world: World, limits: Guard) -> None:
        self._pilot, self._world, self._limits = pilot, world, limits
        self._sentinel = Sentinel(world.others, limits, 0.0)
        self._lives = False

    def begin(self) -> Choice:
        """As the pilot wants, if others let it."""
        return self._heeding(0.0, self._pilot.begin())

    def look(self, at_h: float, kept: Kept) -> Choice:
        """As the pilot wants, who is asked whenever others begin or end."""
        return self._heeding(at_h, self._pilot.look(at_h, kept))

    def boot(self, seen_h: float, at_h: float, kept: Kept) -> Choice:
        """Nothing lives, and nothing is known of others."""
        self._sentinel, self._lives = Sentinel(self._world.others, self._limits, at_h), False
        return self._heeding(at_h, self._pilot.boot(seen_h, at_h, kept))

    def step(self, at_h: float) -> None:
        """Tell the pilot."""
        self._pilot.step(at_h)

    def pay(self, cost_h: float) -> None:
        """Tell the pilot."""
        self._pilot.pay(cost_h)

    def _heeding(self, at_h: float, choice: Choice) -> Choice:
        answer = self._sentinel.verdict(at_h).answer
        until_h = min(choice.until_h, self._sentinel.changes_h + HAIR_S / 3600)
        self._lives = answer == "free" or (self._lives and answer != "evict")
        if answer == "free" or (answer == "hold" and self._lives):
            return choice._replace(until_h=until_h)
        return Choice(None, self._sentinel.changes_h + HAIR_S / 3600, still=self._lives)


def making_way(world: World, pilot: Pilot) -> Pilot:
    """The pilot, which makes way for others where the machine has a guard."""
    return pilot if world.guard is None else MakingWay(pilot, world, world.guard)


def best(world: World) -> Pilot:
    """The measure of all others: the oracle.

    Nobody knows the hazards behind a real trace, and who knew its very moments could dodge
    each crash. There the best single mode in hindsight is the measure, so one may beat it.
    """
    if not world.strikes:
        return making_way(world, oracle(world))
    modes = range(world.rungs)
    return Only(max(modes, key=lambda mode: live(world, Only(mode)).work))


ORACLE = "oracle"
FIXED = "fixed"
LEDGER = "ledger"

POLICIES: dict[str, Callable[[World, StabilityLimits], Pilot]] = {
    "light only": lambda world, _limits: making_way(world, Only(0)),
    "heaviest only": lambda world, _limits: making_way(world, Only(world.rungs - 1)),
    FIXED: lambda world, limits: Supervised(world, _named(limits, "fixed")),
    "fixed, back-off": lambda world, limits: BackOff(world, _named(limits, "fixed")),
    "bandit": lambda world, _limits: making_way(world, Thompson(world)),
    LEDGER: lambda world, limits: Supervised(world, _named(limits, "ledger")),
    ORACLE: lambda world, _limits: best(world),
}
"""every policy by its name, each at work on one machine; those of ours heed the limits.
Programs that compare may add their own."""


def _named(limits: StabilityLimits, name: str) -> StabilityLimits:
    return msgspec.structs.replace(limits, name=name)
