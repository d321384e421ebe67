"""An analysis as plain text: sources, the week as a map, windows, and what they are worth."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from state.windows import QuietWindow, SourceReport
from supervisor.core.calendar import DAYS, WEEK_H
from supervisor.core.quiet_hours import Quiet, QuietHours
from supervisor.terminal import paint, printable
from supervisor.usage.analysis import Analysis, Compared, called

SHADES = " .:-=+*#%@"
"""from nothing to the busiest hour"""
COLOURS = ("blue", "cyan", "green", "green", "yellow", "yellow", "yellow", "red", "red", "red")
UNKNOWN = "?"
WAYS = {"ours": "these windows", "fixed": "always {fixed}", "seed": 'formula "seed"'}


def text(asked: QuietHours, analysis: Analysis, zone: str) -> str:
    """All of it."""
    parts = [_sources(analysis.sources, zone)] if analysis.sources else []
    if analysis.week:
        parts.append(_map(analysis))
    if analysis.windows is not None:
        parts += [
            _windows(analysis.windows.windows, analysis.windows.zone),
            _worth(asked, analysis),
        ]
    if analysis.notes:
        parts.append("\n".join(f"note: {printable(note)}" for note in analysis.notes))
    if analysis.trouble is not None:
        parts.append(f"no window: {printable(analysis.trouble)}")
    return "\n\n".join(parts)


def now_line(found: Quiet, zone: str, stays_from: float | None = None) -> str:
    """Whether quiet hours would let training start now, with their numbers.

    Args:
        found: what they say.
        zone: of the clock on the wall.
        stays_from: when the analysis was made that stays in force; None: this one is new.
    """
    stays = "" if stays_from is None else f", as was found on {_moment(stays_from, zone)}"
    opens, closes = (
        None if at is None else _moment(at, zone) for at in (found.opens_at, found.closes_at)
    )
    if found.why == "off":
        return "quiet_hours: off"
    if found.why == "window":
        return f"quiet_hours: a window is open until {closes}{stays}"
    if found.why == "outside":
        return f"quiet_hours: outside, the next window is {opens} to {closes}{stays}"
    rest = "train" if found.open else "wait"
    return f"quiet_hours: unknown ({printable(found.trouble)}), and on_unknown is {rest}"


def level(value: float | None, scale: Sequence[float]) -> int | None:
    """Which of ten shades an hour has; None where nobody knows."""
    if value is None or not scale:
        return None
    top = max(scale)
    return 0 if top <= 0 else min(9, int(10 * value / top))


def _sources(reports: Sequence[SourceReport], zone: str) -> str:
    rows = [("source", "rows", "from", "to", "hours missing", "used", "")]
    rows += [
        (
            one.name,
            str(one.rows),
            _moment(one.begin, zone),
            _moment(one.end, zone),
            "-" if one.hours_missing is None else str(one.hours_missing),
            "yes" if one.used else "no",
            printable(one.why_not or ""),
        )
        for one in reports
    ]
    return _table(rows, left=(0, 2, 3, 5, 6))


def _map(analysis: Analysis) -> str:
    """168 hours, each a shade, and the number of the window that it lies in."""
    known = [value for value in analysis.week if value is not None]
    owner: dict[int, int] = {}
    for number, window in enumerate(analysis.windows.windows if analysis.windows else (), 1):
        begin = 24 * window.start_weekday + window.start_hour
        for hour in range(window.hours):
            owner.setdefault((begin + hour) % WEEK_H, number)
    lines = ["     " + "".join(f"{hour:<6d}" for hour in range(0, 24, 3)).rstrip()]
    for weekday, day in enumerate(DAYS):
        cells = []
        for hour in range(24):
            slot = 24 * weekday + hour
            shade = level(analysis.week[slot], known)
            letter = UNKNOWN if shade is None else SHADES[shade]
            cell = f"{letter}{str(owner[slot])[-1] if slot in owner else letter}"
            cells.append(cell if shade is None else paint(cell, COLOURS[shade]))
        lines.append(f"{day.capitalize()}  {''.join(cells)}".rstrip())
    legend = f"from nothing to the busiest hour: '{SHADES}'; digits are the windows below"
    return "\n".join([*lines, legend])


def _windows(windows: Sequence[QuietWindow], zone: str) -> str:
    rows = [("window", "begins", "hours", "score", "players", "at most", "kept", "at least")]
    for number, one in enumerate(windows, 1):
        promise = one.promise
        rows.append(
            (
                str(number),
                called(24 * one.start_weekday + one.start_hour),
                str(one.hours),
                f"{one.score:.3f}",
                _number(one.players_mean),
                _number(one.players_high),
                f"{promise.kept} of {promise.of}",
                f"{promise.at_least:.2f}",
            )
        )
    what = (
        f"wall time in {zone}. players: on average. at most: what is promised of the next week.\n"
        "kept: in how many judged weeks that held. at least: in which share of weeks it will."
    )
    return f"{_table(rows, left=(1,))}\n{what}"


def _worth(asked: QuietHours, analysis: Analysis) -> str:
    rows = [("in weeks held out", "weeks", "median", "95 %")]
    fixed = called(24 * asked.preferred_day + asked.preferred_start_hour)
    for key, name in WAYS.items():
        one = analysis.compared.get(key) or Compared(weeks=0, regret_median=None, regret_p95=None)
        rows.append(
            (
                name.format(fixed=fixed),
                str(one.weeks),
                _number(one.regret_median, 2),
                _number(one.regret_p95, 2),
            )
        )
    what = "players disturbed, as a multiple of the best window of that very week"
    kept = None if analysis.windows is None else analysis.windows.backtest.promise_kept
    if kept is not None:
        what += f"; what was promised was kept in {100 * kept:.0f} % of them"
    return f"{_table(rows, left=(0,))}\n{what}"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _moment(at: float | None, zone: str) -> str:
    if at is None:
        return "-"
    return dt.datetime.fromtimestamp(at, ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M")


def _table(rows: Sequence[tuple[str, ...]], left: Sequence[int]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
