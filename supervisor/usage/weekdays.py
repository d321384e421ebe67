"""What weekdays that are alike tell of each other; pure.

Four Mondays are few. But people who play on Mondays play much the same on Tuesdays, so that what is
known of a weekday's hours is known from other weekdays, too, once they are brought to its level.
How much another counts follows from the history alone: as much as its own where the two differ by
no more than chance, and the less the further they differ beyond it. That is empirical Bayes, each
weekday weighing as its precision; docs/decisions/0062-weekdays-that-are-alike.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from supervisor.core.calendar import WEEK_H
from supervisor.usage.grid import quantile

DAY_H = 24
NORMAL = 1.4826
"""standard deviations in a median distance from the median"""


class Share(NamedTuple):
    """What one weekday counts in the place of another."""

    weekday: int
    weight: float
    level: float
    """what brings it to the level of the other"""


Shares = tuple[tuple[Share, ...], ...]
"""of each weekday, from Monday on"""


def alike(week: Sequence[float | None], known: Sequence[Sequence[float]]) -> Shares:
    """How much each weekday counts for each.

    Args:
        week: one number for each hour of the week; None: nobody knows.
        known: all that was seen of each, week by week.
    """
    # Square roots of counts scatter alike, whether they are large or small.
    chance = [_scatter([math.sqrt(value) for value in one]) for one in known if len(one) > 1]
    noise = quantile(chance, 0.5) if chance else 0.0
    return tuple(
        tuple(_shares(week, weekday, noise)) if noise > 0 else (Share(weekday, 1.0, 1.0),)
        for weekday in range(WEEK_H // DAY_H)
    )


def blended(week: Sequence[float | None], shares: Shares) -> list[float | None]:
    """Each known number of a week with what the same hour of other weekdays tells of it."""
    found: list[float | None] = []
    for slot, own in enumerate(week):
        weekday, hour = divmod(slot, DAY_H)
        parts = [
            (share.weight, share.level * value)
            for share in shares[weekday]
            if (value := week[DAY_H * share.weekday + hour]) is not None
        ]
        told = sum(weight * value for weight, value in parts)
        found.append(None if own is None else told / sum(weight for weight, _ in parts))
    return found


def _scatter(values: Sequence[float]) -> float:
    """The variance of what is usual among them, as most of them tell: one festival is no chance."""
    usual = quantile(values, 0.5)
    apart = quantile([abs(value - usual) for value in values], 0.5)
    return (NORMAL * apart) ** 2 / len(values)


def _shares(week: Sequence[float | None], weekday: int, noise: float) -> list[Share]:
    """Of one weekday; its own share is the largest."""
    found = [Share(weekday, 1.0, 1.0)]
    for other in range(WEEK_H // DAY_H):
        pairs = [
            (mine, theirs)
            for mine, theirs in zip(_day(week, weekday), _day(week, other), strict=True)
            if mine is not None and theirs is not None
        ]
        total = sum(theirs for _, theirs in pairs)
        if other != weekday and total > 0:
            level = sum(mine for mine, _ in pairs) / total
            apart = fmean(
                (math.sqrt(mine) - math.sqrt(level * theirs)) ** 2 for mine, theirs in pairs
            )
            found.append(Share(other, noise / (noise + max(0.0, apart - 2 * noise)), level))
    return found


def _day(week: Sequence[float | None], weekday: int) -> Sequence[float | None]:
    return week[DAY_H * weekday : DAY_H * (weekday + 1)]
