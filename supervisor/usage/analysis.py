"""A whole analysis: which of what the sources tell counts, the windows, and their worth; pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from state.windows import (
    Backtest,
    NextWindow,
    Promise,
    QuietWindow,
    SourceReport,
    Windows,
)
from supervisor.core import calendar
from supervisor.core.calendar import DAYS, WEEK_H
from supervisor.core.quiet_hours import DAY_S, Kind, Metric, QuietHours
from supervisor.usage import scores
from supervisor.usage.grid import (
    HOUR_S,
    Grid,
    Hour,
    Series,
    Span,
    filled,
    hours,
    quantile,
    without,
)
from supervisor.usage.sources import Told
from supervisor.usage.windows import (
    FLOOR,
    Tested,
    Weeks,
    backtest,
    documented,
    judge,
    quietest,
)

BEST_FIRST: tuple[Kind, ...] = ("online", "query", "loginlog", "last_login", "health", "machine")
"""of two kinds that tell the same, the earlier one counts"""
LOADED: tuple[Metric, ...] = ("cpu", "memory")
"""what our own training makes look busy, where it is not told apart"""
WEEKS_MIN = 2
"""one chooses, and one judges"""
WORST = 0.95
BIASED = "biased: it holds the last login of each account only"


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What an analysis is made of."""

    told: Mapping[str, Told | str]
    """by the name of a source what it tells, or why it tells nothing"""
    now: float
    zone: str
    """of the clock on the wall"""
    trained: tuple[Span, ...] = ()
    """when we trained ourselves"""
    before: Windows | None = None
    """the analysis before this one, whose promises may have been broken"""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What a way of choosing came to in weeks that were held out."""

    weeks: int
    regret_median: float | None
    regret_p95: float | None


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an analysis."""

    sources: tuple[SourceReport, ...]
    windows: Windows | None = None
    """None: nothing can be claimed"""
    trouble: str | None = None
    """why not"""
    notes: tuple[str, ...] = ()
    """what a person has to know"""
    week: tuple[float | None, ...] = ()
    """the mean score of each hour of the week"""
    compared: dict[str, Compared] = {}
    """windows of ours, the fixed one and those of the document's formula"""


def analyse(asked: QuietHours, history: History) -> Analysis:
    """Find the windows of the week, or say why there are none."""
    zone = ZoneInfo(history.zone)
    all_hours = hours(zone, history.now - asked.history_days * DAY_S, history.now)
    picked = _pick(asked, history.told, all_hours)
    if picked.trouble is not None:
        return Analysis(sources=picked.reports, trouble=picked.trouble)
    grid = filled(all_hours, picked.series, _every(history.told))
    return _found(asked, history, grid, picked)


class _Picked(NamedTuple):
    """What of the sources counts."""

    series: tuple[Series, ...]
    reports: tuple[SourceReport, ...]
    trouble: str | None
    mixed: frozenset[Metric]
    """metrics in which our own training counts, too"""


def _every(told: Mapping[str, Told | str]) -> list[Series]:
    return [one for source in told.values() if isinstance(source, Told) for one in source.series]


def _pick(asked: QuietHours, told: Mapping[str, Told | str], all_hours: Sequence[Hour]) -> _Picked:
    """The best source of each metric, and why others do not count."""
    every = _every(told)
    taken: dict[Metric, str] = {}
    series: list[Series] = []
    reports: dict[str, SourceReport] = {}
    scarce: list[str] = []
    for name in sorted(asked.sources, key=lambda one: BEST_FIRST.index(asked.sources[one].kind)):
        said = told[name]
        if isinstance(said, str):
            reports[name] = _report(name, None, None, used=False, why_not=said)
            continue
        why_not = "it tells nothing"
        used = False
        missing: int | None = None
        for one in said.series:
            alone = filled(all_hours, (one,), every)
            missing = alone.missing(one.metric) if missing is None else missing
            weeks = Weeks(all_hours, alone.values[one.metric], asked.window_hours).covered()
            points = said.rows if one.counted else len(one.points)
            if one.metric in taken:
                why = f"{taken[one.metric]} tells {one.metric} better"
            elif points < asked.min_data_points:
                why = f"{points} samples, and min_data_points is {asked.min_data_points}"
            elif one.metric == "players" and len(weeks) < WEEKS_MIN:
                why = f"whole weeks that are known: {len(weeks)}, and {WEEKS_MIN} are needed"
            else:
                taken[one.metric] = name
                series.append(one)
                used = True
                continue
            why_not = why
            if one.metric == "players" and "players" not in taken:
                scarce.append(f"{name}: {why}")
        biased = BIASED if asked.sources[name].kind == "last_login" else None
        reports[name] = _report(name, said, missing, used=used, why_not=biased if used else why_not)
    return _Picked(
        tuple(series),
        tuple(reports[name] for name in asked.sources),
        _why_nothing(asked, reports, taken, scarce),
        frozenset(
            metric
            for metric, name in taken.items()
            if metric in LOADED and asked.sources[name].kind != "machine"
        ),
    )


def _why_nothing(
    asked: QuietHours,
    reports: Mapping[str, SourceReport],
    taken: Mapping[Metric, str],
    scarce: Sequence[str],
) -> str | None:
    """Why nothing can be claimed; None: it can."""
    if not asked.sources:
        return "there are no sources: add [quiet_hours.sources.NAME] to the settings"
    tell_players = [
        name
        for name, source in asked.sources.items()
        if (source.metric or "players") == "players" and source.kind not in ("health", "machine")
    ]
    if "players" not in taken and tell_players:
        if scarce:
            return f"too little is known of the players ({'; '.join(scarce)})"
        why = "; ".join(f"{name}: {reports[name].why_not}" for name in tell_players)
        return f"nobody tells of the players ({why})"
    if not taken:
        why = "; ".join(f"{name}: {one.why_not}" for name, one in reports.items())
        return f"no source tells enough ({why})"
    return None


def _report(
    name: str, told: Told | None, missing: int | None, *, used: bool, why_not: str | None
) -> SourceReport:
    return SourceReport(
        name=name,
        rows=told.rows if told else 0,
        begin=told.begin if told else None,
        end=told.end if told else None,
        hours_missing=missing,
        used=used,
        why_not=why_not,
    )


def _found(asked: QuietHours, history: History, grid: Grid, picked: _Picked) -> Analysis:
    """The windows, where enough is known."""
    reports = picked.reports
    length, count = asked.window_hours, asked.top_n_windows
    raw = scores.seed(grid, asked.weights)
    masked = {
        metric: without(values, grid.hours, history.trained) if metric in picked.mixed else values
        for metric, values in grid.values.items()
    }
    scored = scores.robust(Grid(grid.hours, masked), asked.weights)
    weeks = Weeks(grid.hours, scored.values, length)
    players = grid.values.get("players")
    busy = weeks if players is None else Weeks(grid.hours, players, length)
    covered = busy.covered()
    if not scored.used:
        why = "; ".join(f"{metric}: {one}" for metric, one in scored.dropped.items())
        return Analysis(sources=reports, trouble=f"nothing counts ({why})")
    if len(covered) < WEEKS_MIN:
        trouble = f"whole weeks that are known: {len(covered)}, and {WEEKS_MIN} are needed"
        return Analysis(sources=reports, trouble=trouble)

    preferred = 24 * asked.preferred_day + asked.preferred_start_hour
    ours = quietest(weeks, count, preferred)
    seed = documented(grid, raw.values, length, count)
    if asked.formula == "robust":
        of, choose, slots = scored, ours, ours(covered)
        values = weeks.values(covered)
        worth = {slot: values[slot] or 0.0 for slot in slots}
    else:
        of, choose, slots = raw, seed, seed(range(weeks.count + 2))  # days beyond whole weeks, too
        means = scores.week_of(raw.values, grid.hours)
        worth = {
            slot: sum(means[slot + n] or 0.0 for n in range(length)) / length for slot in slots
        }

    windows: list[QuietWindow] = []
    notes: list[str] = []
    for rank, slot in enumerate(slots):
        judged = judge(busy, choose, rank, covered, -1)
        broken = () if players is None else _broken(busy, slot, covered, history.before)
        notes += [_told_of(slot, one, judged.high) for one in broken]
        seen = (*(one.mean for one in broken), *((judged.high,) if judged.high is not None else ()))
        judging = len(judged.means)
        windows.append(
            QuietWindow(
                start_weekday=slot // 24,
                start_hour=slot % 24,
                hours=length,
                score=worth[slot],
                players_mean=fmean(judged.means) if players and judging else None,
                players_high=max(seen) if players and seen else None,
                promise=Promise(
                    weeks_choosing=len(covered) - 1,
                    weeks_judging=judging,
                    kept=max(0, judging - len(broken)),
                    of=judging,
                    at_least=judging / (judging + 1),
                ),
            )
        )
    windows.sort(key=lambda one: one.score)
    known = [value for value in players or scored.values if value is not None]
    floor = FLOOR * quantile(known, scores.BUSY) if known else 0.0
    tested = {
        "ours": backtest(busy, choose, covered, floor),
        "fixed": backtest(busy, lambda _: [preferred], covered, floor),
        "seed": backtest(busy, seed, covered, floor),
    }
    return Analysis(
        sources=reports,
        windows=Windows(
            made_at=history.now,
            zone=history.zone,
            sources=reports,
            weeks=len(covered),
            metrics_used=of.used,
            formula=asked.formula,
            windows=tuple(windows),
            backtest=_backtest(tested["ours"]),
            next=_next(windows, history),
        ),
        notes=(*notes, *_notes(of, history, picked, masked=asked.formula == "robust")),
        week=tuple(scores.week_of(of.values, grid.hours)),
        compared={name: _compared(one) for name, one in tested.items()},
    )


class _Broken(NamedTuple):
    """A promise that was not kept."""

    opened_at: float
    promised: float
    mean: float


def _broken(
    busy: Weeks, slot: int, weeks: Sequence[int], before: Windows | None
) -> tuple[_Broken, ...]:
    """What the analysis before has promised of about this window, and was not kept since."""
    found: list[_Broken] = []
    for old in () if before is None else before.windows:
        begin = 24 * old.start_weekday + old.start_hour
        away = min((slot - begin) % WEEK_H, (begin - slot) % WEEK_H)
        high, alike = old.players_high, old.hours == busy.length and 2 * away <= old.hours
        if before is not None and high is not None and alike:
            found += [
                _Broken(stay.opens_at, high, stay.mean)
                for stay in busy.of(begin, weeks)
                if stay.opens_at >= before.made_at and stay.mean > high
            ]
    return tuple(found)


def _told_of(slot: int, broken: _Broken, high: float | None) -> str:
    now = max(broken.mean, high or 0.0)
    day = dt.datetime.fromtimestamp(broken.opened_at, dt.UTC).date()
    return (
        f"the promise of {called(slot)} was broken on {day}: {broken.mean:.1f} players, and "
        f"{broken.promised:.1f} were promised; it is wider now: {now:.1f}"
    )


def called(slot: int) -> str:
    """An hour of the week, for a person."""
    return f"{DAYS[slot // 24].capitalize()} {slot % 24:02d}:00"


def _notes(of: scores.Scored, history: History, picked: _Picked, *, masked: bool) -> list[str]:
    notes = [f"{metric} does not count: {why}" for metric, why in of.dropped.items()]
    if "players" not in of.used:
        notes.append("nobody counts players: windows are when the machine is idle")
    elif any(one.counted for one in picked.series if one.metric == "players"):
        notes.append("players are counted as logins an hour: too few samples yet say who is online")
    if masked and history.trained and picked.mixed & set(of.used):
        trained_h = sum(span.end - span.begin for span in history.trained) / HOUR_S
        notes.append(f"processor and memory do not count in {trained_h:.0f} h in which we trained")
    return notes


def _backtest(tested: Tested) -> Backtest:
    regrets = tested.regrets
    return Backtest(
        weeks=len(regrets),
        regret_median=median(regrets) if regrets else None,
        regret_p95=quantile(regrets, WORST) if regrets else None,
        promise_kept=sum(tested.kept) / len(tested.kept) if tested.kept else None,
    )


def _compared(tested: Tested) -> Compared:
    of = _backtest(tested)
    return Compared(weeks=of.weeks, regret_median=of.regret_median, regret_p95=of.regret_p95)


def _next(windows: Sequence[QuietWindow], history: History) -> NextWindow | None:
    stretches = [
        calendar.Window(start_weekday=one.start_weekday, start_hour=one.start_hour, hours=one.hours)
        for one in windows
    ]
    found = calendar.opening(stretches, ZoneInfo(history.zone), history.now)
    return None if found is None else NextWindow(opens=found.opens_at, closes=found.closes_at)
