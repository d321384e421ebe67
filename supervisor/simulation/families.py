"""The kinds of machines that the simulator knows. Each draws from ranges that a rented or ageing
machine may well have.

`FAMILIES` are those that the policy was judged by from the first. `HARD` ones were written down
before anything was tuned on them, and are counted apart, so that both tables stay what they are.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

import msgspec

from supervisor.core.guard import Guard
from supervisor.simulation.others import at_random, players
from supervisor.simulation.worlds import DAYS, GRID_H, HOURS, Kind, World, luck

WORKDAYS = 5
"""of a week, from its first day, a Monday"""


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
"""the kinds of machines that a policy is judged by, by their names"""


# The hard ones.


def supercritical(rng: random.Random) -> World:
    """Each crash draws more than one other after it, until the machine rests."""
    world = machine(rng, "supercritical", rho=_log(rng, 1.4, 3.0), downtime_min=(2, 10))
    light, medium = _log(rng, 1 / 720, 1 / 48), _log(rng, 0.02, 0.3)
    stir = rng.uniform(4, 14)
    return msgspec.structs.replace(
        _with(world, light, medium),
        stirs=(stir * rng.uniform(0.02, 0.15), stir),
        stir_h=rng.uniform(15, 60) / 60,
    )


def dies_young(rng: random.Random) -> World:
    """Medium dies within minutes of its start until somebody has repaired it, days later."""
    world = machine(rng, "dies young", rho=_log(rng, 1.4, 3.0), downtime_min=(2, 20))
    light, good = _log(rng, 1 / 720, 1 / 48), _log(rng, 0.01, 0.1)
    pieces, now_h = [], 0.0
    while now_h < HOURS:
        broken_h = now_h + rng.expovariate(1 / rng.uniform(48, 240))
        now_h = broken_h + rng.uniform(1, 10) * 24
        bad = max(_log(rng, 10, 60), _unbearable(rng, world, light))
        pieces += [(broken_h, light, good), (now_h, light, bad)]
    return _weather(world, pieces)


def slow_starts(rng: random.Random) -> World:
    """Each start takes minutes, and medium crashes about as often as it is worth."""
    world = machine(rng, "slow starts", rho=_log(rng, 1.4, 3.0), downtime_min=(2, 20))
    world = msgspec.structs.replace(
        world, start_h=rng.uniform(60, 180) / 3600, switch_h=rng.uniform(60, 180) / 3600
    )
    light = _log(rng, 1 / 100, 1)
    return _with(world, light, max(light, _balanced(world, light, _log(rng, 0.8, 1.5))))


def office_hours(rng: random.Random) -> World:
    """From Monday to Friday medium is unbearable while people work, and light is not calm."""
    world = machine(rng, "office hours", rho=_log(rng, 1.4, 3.0), downtime_min=(3, 30))
    light, good = _log(rng, 1 / 720, 1 / 48), _log(rng, 0.01, 0.1)
    busy = light * _log(rng, 1, 20)
    bad = _unbearable(rng, world, busy)
    begin_h, lasts_h = rng.uniform(7, 10), rng.uniform(7, 11)
    pieces = []
    for day in range(int(DAYS) + 1):
        begins_h = day * 24 + begin_h
        pieces.append((begins_h, light, good))
        if day % 7 < WORKDAYS:
            pieces.append((begins_h + lasts_h, busy, bad))
    return _weather(world, pieces)


def foreign_load(rng: random.Random) -> World:
    """Others need the machine, and training makes way; medium is good or bad as anywhere."""
    world = machine(rng, "foreign load", rho=_log(rng, 1.4, 3.0), downtime_min=(3, 30))
    light = _log(rng, 1 / 720, 1 / 24)
    others = rng.choice((at_random, players))(rng, HOURS)
    world = msgspec.structs.replace(world, others=others, guard=Guard())
    return _with(world, light, max(light, _balanced(world, light, _log(rng, 0.5, 2.0))))


def mixed_units(rng: random.Random) -> World:
    """Runs that count in units of their own take turns, and medium speeds each up otherwise."""
    world = machine(rng, "mixed units", rho=_log(rng, 1.4, 2.5), downtime_min=(3, 30))
    kinds = tuple(
        Kind(name=name, steps=_log(rng, 1, 1e6), work=(1.0, world.work[1] * rng.uniform(0.7, 1.3)))
        for name in ("games", "rounds", "rows")[: rng.randint(2, 3)]
    )
    turn_h = GRID_H * rng.randint(10, 240)
    light = _log(rng, 1 / 720, 1 / 24)
    return msgspec.structs.replace(
        _with(world, light, max(light, _balanced(world, light, _log(rng, 0.6, 2.0)))),
        kinds=kinds,
        turn_h=turn_h,
    )


HARD: dict[str, Callable[[random.Random], World]] = {
    "supercritical": supercritical,
    "dies young": dies_young,
    "slow starts": slow_starts,
    "office hours": office_hours,
    "foreign load": foreign_load,
    "mixed units": mixed_units,
}
"""kinds that are less kind, by their names"""


def draw(family: str, seed: int, index: int) -> World:
    """World number `index` of a family; always the same one."""
    return (FAMILIES | HARD)[family](luck(seed, family, index))
