"""Made-up game servers: who plays when, over weeks, with holidays, outages and growth."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

HOURS = 168


class Day(NamedTuple):
    """The shape of a day: where its peaks lie, how high and wide they are."""

    peaks: tuple[tuple[float, float, float], ...]
    floor: float

    def at(self, hour: float) -> float:
        """How busy it is, from the floor up."""
        busy = self.floor
        for peak, height, width in self.peaks:
            away = min(abs(hour - peak), 24 - abs(hour - peak))
            busy += height * math.exp(-0.5 * (away / width) ** 2)
        return busy


class GameServer:
    """One server, from its seed alone.

    Args:
        seed: everything follows from it.
        weeks: how many there are.
    """

    def __init__(self, seed: int, weeks: int) -> None:
        chance = random.Random(f"server {seed}")  # noqa: S311 - no secret
        self.size = math.exp(chance.uniform(math.log(20), math.log(400)))
        """players at an ordinary evening"""
        growth = chance.choice((0.0, 0.0, chance.uniform(-0.03, 0.04)))
        evening = chance.gauss(20, 2.5) % 24
        peaks = [(evening, 1.0, chance.uniform(2.2, 4))]
        if chance.random() < 0.4:  # players from another part of the world
            peaks.append(((evening + chance.uniform(5, 12)) % 24, chance.uniform(0.2, 0.8), 3.0))
        work = Day(tuple(peaks), chance.uniform(0.04, 0.2))
        later = chance.uniform(0, 2)
        free = Day(
            tuple(((at + later) % 24, 1.25 * high, 1.3 * wide) for at, high, wide in peaks),
            work.floor * chance.uniform(1, 1.6),
        )
        tilt = [chance.uniform(0.95, 1.05) for _ in range(7)]
        event = (chance.randrange(7), chance.randrange(17, 23)) if chance.random() < 0.5 else None
        self.expected: list[float] = []
        """players at each hour of ordinary weeks that do not grow, with nothing left to chance"""
        self.online: list[float | None] = []
        """players at each hour, on average of twelve looks; None in an outage"""
        self.logins: list[int] = []
        mood = 0.0
        holidays = {chance.randrange(7 * weeks) for _ in range(weeks // 5)}
        outages = self._outages(chance, weeks)
        for week in range(weeks):
            level = self.size * (1 + growth) ** week * math.exp(chance.gauss(0, 0.05))
            for weekday in range(7):
                holiday = 7 * week + weekday in holidays
                shape = free if weekday >= 5 or holiday else work
                mood = 0.5 * mood + chance.gauss(0, 0.04)
                for hour in range(24):
                    special = 1.4 if event == (weekday, hour) else 1.0
                    busy = level * tilt[weekday] * special * shape.at(hour)
                    usual = free if weekday >= 5 else work
                    self.expected.append(self.size * tilt[weekday] * special * usual.at(hour))
                    lived = busy * math.exp(mood + chance.gauss(0, 0.05))
                    away = len(self.online) in outages
                    count = _poisson(chance, 3 * lived) / 3  # players stay: looks resemble
                    self.online.append(None if away else count)
                    self.logins.append(0 if away else _poisson(chance, 0.8 * lived))

    @staticmethod
    def _outages(chance: random.Random, weeks: int) -> set[int]:
        found: set[int] = set()
        for _ in range(weeks // 3):
            begin = chance.randrange(HOURS * weeks)
            found |= set(range(begin, begin + chance.randrange(2, 20)))
        return found


def _poisson(chance: random.Random, mean: float) -> int:
    """How many of rare things happen."""
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count
