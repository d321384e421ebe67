"""Histories of usage that a test makes up: players as a function of the hour, and what follows."""

import datetime as dt
from statistics import fmean
from typing import NamedTuple

from supervisor.core.quiet_hours import QuietHours, UsageSource
from supervisor.usage.analysis import History, analyse
from supervisor.usage.grid import Point, Series, quantile
from supervisor.usage.sources import Told
from testkit.game_servers import GameServer

MONDAY = dt.datetime(2026, 1, 5, tzinfo=dt.UTC).timestamp()
NOW = MONDAY + 30 * 86_400


def told(counted=False, begin=MONDAY, end=NOW, **columns):
    """What a source tells: a function of the hour of the week, by metric."""
    numbers = range(int((end - begin) // 3600))
    every = []
    for metric, of in columns.items():
        values = [(begin + 3600 * n, of(int((begin - MONDAY) // 3600) + n)) for n in numbers]
        points = tuple(Point(at, float(value)) for at, value in values if value is not None)
        every.append(Series(metric=metric, counted=counted, points=points))
    rows = max(len(one.points) for one in every)
    return Told(series=tuple(every), rows=rows, begin=begin, end=end)


def source(kind="loginlog", **more):
    return UsageSource(kind=kind, url=None if kind == "machine" else "mariadb://u@h/d", **more)


def asked(sources=None, **keys):
    return QuietHours(zone="UTC", sources=sources or {"game": source()}, **keys)


def look(of_hour, *, now=NOW, before=None, trained=(), zone="UTC", more=None, **keys):
    """An analysis of players that are a function of the number of the hour."""
    settings = asked(**keys)
    known = {"game": told(players=of_hour, end=now), **(more or {})}
    return analyse(
        settings, History(told=known, now=now, zone=zone, before=before, trained=trained)
    )


def by_week(quiet, low=1.0, high=50.0):
    """Players who are few in these hours of the week, and many in all others."""
    return lambda number: low if number % 168 in quiet else high


def starts(found):
    """In which hours of the week the windows of an analysis begin, best first."""
    return [24 * one.start_weekday + one.start_hour for one in found.windows.windows]


def of_server(server, weeks, *, counted=False, **keys):
    """An analysis of so many weeks of a made-up server, and the number of the hour when it ends."""
    until = 168 * weeks + 60
    end = MONDAY + 3600 * until
    seen = server.logins if counted else server.online
    known = told(players=lambda number: seen[number], counted=counted, end=end)
    kind = "loginlog" if counted else "online"
    settings = asked({"game": source(kind)}, history_days=7 * weeks + 2, **keys)
    return analyse(settings, History(told={"game": known}, now=end, zone="UTC")), until


class Figures(NamedTuple):
    """How windows of many servers did in the week after."""

    mean: float
    """players of ordinary weeks in our windows, as a multiple of those in the best"""
    p95: float
    first_mean: float
    """the same of the first window alone"""
    first_p95: float
    fixed: float
    """that of Sunday 03:00"""
    kept: float
    """the share of promises that were"""
    promised: float


def measured(seeds, weeks=4, *, counted=False):
    """Analyse servers of these seeds, and look at the week after."""
    ours, first, fixed, kept, promised = [], [], [], [], []
    for seed in seeds:
        server = GameServer(seed, weeks=weeks + 2)
        found, until = of_server(server, weeks, counted=counted)
        seen = server.logins if counted else server.online

        def hours(start, of, until=until):
            at = until + (start - until) % 168
            known = [one for one in of[at : at + 8] if one is not None]
            return sum(known) / len(known) if len(known) >= 6 else None

        usual = [hours(start, server.expected) for start in range(168)]
        best = []
        for start in sorted(range(168), key=usual.__getitem__):
            if all(min((start - one) % 168, (one - start) % 168) >= 8 for one in best):
                best.append(start)
        chosen = starts(found)
        best = best[: len(chosen)]
        ours.append(sum(usual[one] for one in chosen) / sum(usual[one] for one in best))
        first.append(usual[chosen[0]] / usual[best[0]])
        fixed.append(usual[6 * 24 + 3] / usual[best[0]])
        for window, start in zip(found.windows.windows, chosen, strict=True):
            came = hours(start, seen)
            if came is not None:
                kept.append(came <= window.players_high)
                promised.append(window.promise.at_least)
    return Figures(
        fmean(ours),
        quantile(ours, 0.95),
        fmean(first),
        quantile(first, 0.95),
        fmean(fixed),
        fmean(kept),
        fmean(promised),
    )
