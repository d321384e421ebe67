"""One number for each hour: how busy the machine was; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from supervisor.core.calendar import WEEK_H
from supervisor.core.quiet_hours import METRICS, Metric
from supervisor.usage.grid import Grid, Hour, Values, quantile

BUSY = 0.95
"""the quantile by which each metric is measured"""


class Scored(NamedTuple):
    """Hours with their scores."""

    values: Values
    used: tuple[Metric, ...]
    """metrics that count"""
    dropped: Mapping[Metric, str]
    """those that do not, and why"""


def robust(grid: Grid, weights: Mapping[Metric, float]) -> Scored:
    """`sum(w * x / q95) / sum(w)` over the metrics that are there.

    What is not known of an hour, as its load while we trained, is taken from the same hour of other
    weeks. An hour of which nobody knows the players has no score where they are counted at all.
    """
    dropped: dict[Metric, str] = {}
    scales: dict[Metric, float] = {}
    for metric in METRICS:
        known = [value for value in grid.values.get(metric, ()) if value is not None]
        if not weights[metric]:
            dropped[metric] = "its weight is 0"
        elif not known:
            dropped[metric] = "no source tells it"
        elif (scale := quantile(known, BUSY) or max(known)) > 0:
            scales[metric] = scale
        elif metric == "players":  # where nobody ever plays, every hour is quiet
            scales[metric] = 1.0
        else:
            dropped[metric] = "it is always 0"
    columns = {
        metric: grid.values[metric]
        if metric == "players"
        else completed(grid.values[metric], grid.hours)
        for metric in scales
    }
    values: Values = []
    for number in range(len(grid.hours)):
        there = {metric: column[number] for metric, column in columns.items()}
        parts = [(weights[m], x / scales[m]) for m, x in there.items() if x is not None]
        lost = not parts or ("players" in there and there["players"] is None)
        total = sum(weight for weight, _ in parts)
        values.append(None if lost else sum(weight * share for weight, share in parts) / total)
    return Scored(values, tuple(scales), dropped)


def seed(grid: Grid, weights: Mapping[Metric, float]) -> Scored:
    """The document's score of an hour: raw units, each metric by its weight."""
    used = tuple(metric for metric in METRICS if grid.values.get(metric))
    values: Values = []
    for number in range(len(grid.hours)):
        there = {metric: grid.values[metric][number] for metric in used}
        if all(value is None for value in there.values()):
            values.append(None)
        else:
            values.append(sum(weights[metric] * (value or 0.0) for metric, value in there.items()))
    dropped: dict[Metric, str] = dict.fromkeys(
        (metric for metric in METRICS if metric not in used), "no source tells it"
    )
    return Scored(values, used, dropped)


def by_slot(values: Values, hours: Sequence[Hour]) -> list[list[float]]:
    """What is known of each hour of the week."""
    found: list[list[float]] = [[] for _ in range(WEEK_H)]
    for hour, value in zip(hours, values, strict=True):
        if value is not None:
            found[hour.slot].append(value)
    return found


def completed(values: Values, hours: Sequence[Hour]) -> Values:
    """With what is unknown taken from the same hour of other weeks, where they know it."""
    usual = [quantile(one, 0.5) if one else None for one in by_slot(values, hours)]
    return [
        usual[hour.slot] if value is None else value
        for hour, value in zip(hours, values, strict=True)
    ]


def week_of(values: Values, hours: Sequence[Hour]) -> list[float | None]:
    """The mean of each hour of the week."""
    return [fmean(one) if one else None for one in by_slot(values, hours)]
