"""One machine for some weeks under one policy, from event to event.

An event is a crash, or the moment at which the policy wants to look again. Between
two events nothing is calculated, so a month takes milliseconds.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import msgspec

from modes import Ladder, Mode
from state.records import Asked, Kept, Memory, Run
from supervisor.core import decisions, history, policy
from supervisor.core.calendar import opening, zone_of
from supervisor.core.facts import Decision, Facts, StabilityLimits
from supervisor.core.moments import Moment
from supervisor.core.quiet_hours import Quiet
from supervisor.simulation.others import Sentinel
from supervisor.simulation.worlds import Fate, Kind, World

FIRST_H = 72.0
"""the first three days are told apart: what a new user sees"""
HEARTBEAT_S = 60.0
"""a dead machine was last seen alive at most this long before"""
BOOT_S = 20.0
"""uptime at which the supervisor decides; a part of the downtime"""
HAIR_S = 0.001
"""how much later than due a look is, so that no rounding makes it too early"""
UTC = zone_of("UTC")
BEGAN_AT = 1_767_571_200.0
"""the wall time at which every life begins: a midnight"""


class Choice(NamedTuple):
    """What a policy wants until it is asked again."""

    mode: int | None
    """None: nothing shall train"""
    until_h: float
    """when it wants to look again, if no crash comes before"""
    still: bool = False
    """trainers stand still where they are, and go on at once"""


class Pilot(Protocol):
    """A policy at work on one machine."""

    def begin(self) -> Choice:
        """The machine has just been set up."""
        ...

    def look(self, at_h: float, kept: Kept) -> Choice:
        """The time of the last choice has come; so much has been kept since the last call."""
        ...

    def boot(self, seen_h: float, at_h: float, kept: Kept) -> Choice:
        """The machine went down, alive last at `seen_h`, and is up at `at_h`."""
        ...

    def step(self, at_h: float) -> None:
        """Trainers make their first step after a boot or a move."""
        ...

    def pay(self, cost_h: float) -> None:
        """Trainers step again after a crash that cost so much time."""
        ...


class Stretch(NamedTuple):
    """A part of a life in which one thing happened."""

    from_h: float
    to_h: float
    mode: int | None
    """None: the machine was down, or idle by intent"""
    work: float
    """kept work"""


class Life(msgspec.Struct, frozen=True):
    """What became of one machine."""

    days: float
    work: float
    """kept work, in what the lightest mode keeps in an hour"""
    crashes: int
    hours: tuple[float, ...]
    """running hours in each mode"""
    first_work: float
    """kept work of the first three days"""
    crashes_h: tuple[float, ...] = ()
    """when the machine went down"""
    stretches: tuple[Stretch, ...] = ()
    """the life in its order"""


def live(world: World, pilot: Pilot) -> Life:
    """Let `pilot` lead the machine of `world` through its days."""
    fate, end_h = Fate(world), world.days * 24
    stretches: list[Stretch] = []
    crashes_h: list[float] = []
    debt_h = 0.0
    """the cost of a crash that the pilot has not been told yet"""
    choice, pause_h = pilot.begin(), world.start_h
    while fate.now_h < end_h:
        mode = choice.mode
        if mode is None:
            begin_h = fate.now_h
            fate.rest(min(max(choice.until_h, begin_h), end_h))
            stretches.append(Stretch(begin_h, fate.now_h, None, 0.0))
            pause_h = 0.0 if choice.still else world.start_h
            choice = pilot.look(fate.now_h, Kept())
            continue
        fate.rest(min(fate.now_h + pause_h, end_h))
        pilot.step(fate.now_h)
        if debt_h:
            pilot.pay(debt_h + pause_h)
            debt_h = 0.0
        stepped_h = looked_h = fate.now_h
        told_h, kind = 0.0, world.kind(stepped_h)
        rate, turn_h = kind.work[mode], min(end_h, world.turns_h(stepped_h))
        crashed = fate.run(mode, min(choice.until_h, turn_h))
        while not crashed and fate.now_h < end_h:
            ran_h, turns = fate.now_h - stepped_h, fate.now_h == turn_h
            # Whoever makes room for another kind saves.
            safe_h = ran_h if turns else ran_h - ran_h % world.checkpoint_h
            choice = pilot.look(fate.now_h, _kept(kind, mode, safe_h - told_h))
            told_h, looked_h = safe_h, fate.now_h
            if choice.mode != mode or turns:
                break
            crashed = fate.run(mode, min(choice.until_h, turn_h))
        ran_h = fate.now_h - stepped_h
        lost_h = ran_h % world.checkpoint_h if crashed else 0.0
        stretches.append(Stretch(stepped_h, fate.now_h, mode, rate * (ran_h - lost_h)))
        pause_h = world.switch_h if choice.mode not in (None, mode) else 0.0
        if crashed:
            crashes_h.append(fate.now_h)
            off_h = fate.crash()
            seen_h = max(looked_h, fate.now_h - ran_h % (HEARTBEAT_S / 3600))
            up_h = fate.now_h + off_h
            fate.rest(up_h)
            debt_h, pause_h = off_h + lost_h, world.start_h
            if up_h < end_h:
                choice = pilot.boot(seen_h, up_h, _kept(kind, mode, ran_h - lost_h - told_h))
    return Life(
        days=world.days,
        work=sum(stretch.work for stretch in stretches),
        crashes=len(crashes_h),
        hours=tuple(
            sum(part.to_h - part.from_h for part in stretches if part.mode == mode)
            for mode in range(world.rungs)
        ),
        first_work=sum(_work_before(stretch, FIRST_H) for stretch in stretches),
        crashes_h=tuple(crashes_h),
        stretches=tuple(stretches),
    )


def _kept(kind: Kind, mode: int, hours: float) -> Kept:
    return Kept(steps=kind.steps * kind.work[mode] * hours, hours=hours)


def _work_before(stretch: Stretch, hour: float) -> float:
    """The part of the work of a stretch that was done before that hour."""
    if stretch.to_h <= hour:
        return stretch.work
    if stretch.from_h >= hour:
        return 0.0
    return stretch.work * (hour - stretch.from_h) / (stretch.to_h - stretch.from_h)


class Supervised:
    """The real decision code, led through its real history."""

    def __init__(self, world: World, limits: StabilityLimits) -> None:
        self._limits = limits
        self._ladder = ladder(world)
        self._boots = 1
        self._booted_h = 0.0
        self._world = world
        self._sentinel = self._watched(0.0)
        self._hours: Quiet | None = None
        self._lives = False
        """trainers do, whether or not they stand still"""
        self._told_h = 0.0
        """up to when it knows what was kept"""
        run = Run(asked=Asked(id="simulated-a", trainer="simulated", name="a", seed=1))
        memory = history.first_day(self._moment(0.0), self._ladder, (run,))
        self.memory: Memory = history.starting(msgspec.structs.replace(memory, full=True))

    def begin(self) -> Choice:
        """The machine has just been set up."""
        return self._decide(0.0)

    def look(self, at_h: float, kept: Kept) -> Choice:
        """Let time pass, and decide."""
        self._pass(at_h, kept)
        return self._decide(at_h)

    def boot(self, seen_h: float, at_h: float, kept: Kept) -> Choice:
        """Write down the crash, and decide before any trainer starts."""
        self._pass(seen_h, kept)
        self._boots += 1
        self._booted_h = at_h
        self._sentinel, self._lives = self._watched(at_h), False
        self.memory, _ = history.record_boot(
            self.memory, self._moment(at_h), self._ladder, self._limits
        )
        self.memory = history.starting(self.memory)
        return self._decide(at_h)

    def step(self, at_h: float) -> None:
        """From now on it is running time."""
        memory = history.pass_time(self.memory, self._moment(at_h))
        self.memory = history.stepping(memory, 0.0)

    def pay(self, cost_h: float) -> None:
        """Tell what the last crash has cost."""
        self.memory = history.record_cost(self.memory, self._ladder, self._limits, cost_h * 3600)

    def _pass(self, at_h: float, kept: Kept) -> None:
        memory = history.pass_time(self.memory, self._moment(at_h))
        kind = self._world.kind(self._told_h).name
        self.memory = record_work(memory, memory.goal.mode, kept, kind)
        self._told_h = at_h

    def _decide(self, at_h: float) -> Choice:
        """Decide until nothing more follows, then let the trainers live that are wanted."""
        for facts, decision, acts in policy.in_turn(self._facts, self._amended):
            if acts:
                moves = decision.goal.mode != facts.goal.mode
                memory = decisions.enact(self.memory, decision)
                self.memory = history.starting(memory) if moves else memory
        goal = self.memory.goal
        self._lives = goal.trains and (self._lives or goal.still is None)
        runs = self._lives and not goal.frozen
        # Nobody reads the log of a simulation: its entries end here.
        self.memory = msgspec.structs.replace(self.memory, running=runs, bookings=())
        wait_s = policy.wake_in_s(facts)
        until_h = math.inf if wait_s is None else at_h + (wait_s + HAIR_S) / 3600
        until_h = min(until_h, self._others_change_h(at_h) + HAIR_S / 3600)
        return Choice(facts.rung if runs else None, until_h, still=self._lives and not runs)

    def _others_change_h(self, at_h: float) -> float:
        """When the guard wants something else, or a window opens or closes."""
        changes_h = math.inf if self._sentinel is None else self._sentinel.changes_h
        quiet = self._quiet()
        if quiet is None or quiet.changes_at is None:
            return changes_h
        return min(changes_h, at_h + (quiet.changes_at - self.memory.timeline.seen_at) / 3600)

    def _watched(self, began_h: float) -> Sentinel | None:
        world = self._world
        return None if world.guard is None else Sentinel(world.others, world.guard, began_h)

    def _quiet(self) -> Quiet | None:
        """Whether a window is open; None: none is waited for."""
        at, known = self.memory.timeline.seen_at, self._hours
        if self._world.windows and (known is None or at >= (known.changes_at or at)):
            found = opening(self._world.windows, UTC, at)
            opens_at, closes_at = (found.opens_at, found.closes_at) if found else (None, None)
            inside = opens_at is not None and opens_at <= at
            self._hours = Quiet(
                open=inside,
                why="window" if inside else "outside",
                opens_at=opens_at,
                closes_at=closes_at,
            )
        return self._hours

    def _facts(self) -> Facts:
        sentinel, at_s = self._sentinel, self.memory.timeline.seen_at - BEGAN_AT
        return decisions.facts(
            self.memory,
            self._ladder,
            self._limits,
            guard=self._world.guard,
            pressure=None if sentinel is None else sentinel.verdict(at_s / 3600),
            quiet=self._quiet(),
        )

    def _amended(self, decision: Decision) -> Decision:
        """The decision as it shall count; for those who vary the rule."""
        return decision

    def _moment(self, at_h: float) -> Moment:
        uptime_s = BOOT_S + (at_h - self._booted_h) * 3600
        return Moment(
            wall=BEGAN_AT + at_h * 3600,
            monotonic_s=uptime_s,
            boottime_s=uptime_s,
            boot_id=f"{self._boots:032x}",
        )


def record_work(memory: Memory, mode: str, kept: Kept, kind: str = "") -> Memory:
    """The memory with so much more kept in `mode`, of a kind of run."""
    if not kept.steps:
        return memory
    there = memory.stretch.work.get(mode, {})
    before = there.get(kind, Kept())
    both = Kept(steps=before.steps + kept.steps, hours=before.hours + kept.hours)
    work = {**memory.stretch.work, mode: {**there, kind: both}}
    stretch = msgspec.structs.replace(memory.stretch, work=work)
    return msgspec.structs.replace(memory, stretch=stretch)


def ladder(world: World) -> Ladder:
    """The modes of a world, as files would tell them: the promise stands in the slots."""
    return Ladder(
        tuple(
            Mode(name=name, rung=rung, slots=round(100 * promised))
            for rung, (name, promised) in enumerate(zip(world.names, world.promised, strict=True))
        )
    )
