"""When something is due by the clock on the wall, and when a stretch of the week is open; pure.

What a person writes is read once, into a `Calendar`. What it says is computed from wall time in the
zone that it names, so that nothing here depends on a timer that was asleep.

* An hour that a spring night skips: what was due in it is due at its end. A window that would open
  in it opens at its end.
* An hour that an autumn night has twice: what is due at a time of day is due once, in the first of
  the two. What comes several times an hour comes in both.
* No instant is given twice: `after` is always later than what it was given.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Iterator
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WEEK_H = 168
WORDS = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
}
"""as systemd has them"""
LINE = re.compile(r"(?:(?P<days>[a-z][a-z.,-]*) )?(?P<hour>\d{1,2}):(?P<minute>\d{2})", re.ASCII)
TEXT_MAX = 200
FORM = "a line such as `Sun 03:00`, `Mon..Fri 02:30` or `daily`, or the five fields of cron"


class BadCalendar(ValueError):
    """A text is no calendar; the message says what would be one."""


class Calendar:
    """What is due again and again.

    Args:
        text: `Sun 03:00`, `Mon..Fri,Sun 22:30`, `04:15`, hourly, daily, weekly, monthly, or the
            five fields of cron; perhaps with a zone after it.
        zone: in which it is read where it names none.

    Raises:
        BadCalendar: it is none of these, or never comes.
    """

    def __init__(self, text: str, zone: str = "UTC") -> None:
        words = text.split() if len(text) <= TEXT_MAX else []
        named = words and (words[-1] == "UTC" or ("/" in words[-1] and words[-1][0].isalpha()))
        self.zone = zone_of(words.pop() if named else zone)
        self.cron = _cron(" ".join(words).lower(), text)
        """its five fields"""
        try:
            CronSim(self.cron, dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
        except (CronSimError, ValueError) as error:
            raise BadCalendar(f"{text[:TEXT_MAX]!r} is no calendar ({error}): {FORM}") from error
        if self.after(0.0) is None:
            raise BadCalendar(f"{text!r} never comes")

    def after(self, at: float) -> float | None:
        """The first time after a moment, both in seconds since 1970; None: there is none."""
        try:
            # From the second before on: what is due at once must not be passed over for a fraction.
            begin = dt.datetime.fromtimestamp(math.floor(at), self.zone)
            for due in CronSim(self.cron, begin):
                found = due.timestamp()
                # In the second of two equal hours the library tells of the first.
                if found > at:
                    return found
        except (OverflowError, ValueError, OSError):  # beyond the years that a calendar has
            pass
        return None


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of every week. It begins by the clock on the wall, and lasts real hours."""

    start_weekday: Annotated[int, msgspec.Meta(ge=0, le=6)]
    """0 is Monday"""
    start_hour: Annotated[int, msgspec.Meta(ge=0, le=23)]
    hours: Annotated[int, msgspec.Meta(ge=1, le=WEEK_H)]


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """When a window, or several that follow each other without a pause, is open."""

    opens_at: float
    closes_at: float


def opening(windows: Iterable[Window], zone: ZoneInfo, at: float) -> Opening | None:
    """The opening that a moment lies in, or else the next one; None: there is no window.

    Args:
        windows: of the week; they may overlap.
        zone: of the clock on the wall.
        at: in seconds since 1970.
    """
    found: Opening | None = None
    for one in _openings(tuple(windows), zone, at):
        if found is None:
            found = one if one.closes_at > at else None
        elif one.opens_at <= found.closes_at:
            closes_at = max(found.closes_at, one.closes_at)
            found = Opening(opens_at=found.opens_at, closes_at=closes_at)
        else:
            break
    return found


def zone_of(name: str) -> ZoneInfo:
    """The zone of a name such as `Europe/Berlin`.

    Raises:
        BadCalendar: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise BadCalendar(f"there is no time zone {name[:TEXT_MAX]!r}") from None


def _openings(windows: tuple[Window, ...], zone: ZoneInfo, at: float) -> Iterator[Opening]:
    """All openings of the weeks around a moment, in order."""
    today = dt.datetime.fromtimestamp(at, zone).date()
    monday = today - dt.timedelta(days=today.weekday())
    found = []
    for week in (-2, -1, 0, 1, 2, 3):
        for window in windows:
            day = monday + dt.timedelta(days=7 * week + window.start_weekday)
            opens_at = _instant(dt.datetime.combine(day, dt.time(window.start_hour)), zone)
            found.append(Opening(opens_at=opens_at, closes_at=opens_at + 3600 * window.hours))
    yield from sorted(found, key=lambda one: one.opens_at)


def _instant(local: dt.datetime, zone: ZoneInfo) -> float:
    """When the clock on the wall shows this first; where it skips it: what it skips to."""
    before = local.replace(tzinfo=zone, fold=0).astimezone(dt.UTC)
    if before.astimezone(zone).replace(tzinfo=None) == local:
        return before.timestamp()
    # In a gap, fold tells by which of the two offsets it is read; the gap ends between them.
    low = local.replace(tzinfo=zone, fold=1).timestamp()
    high = before.timestamp()
    while high - low > 1:
        middle = (low + high) // 2
        shown = dt.datetime.fromtimestamp(middle, zone).replace(tzinfo=None)
        low, high = (low, middle) if shown >= local else (middle, high)
    return high


def _cron(line: str, text: str) -> str:
    """The five fields of cron that a line means."""
    if line in WORDS:
        return WORDS[line]
    match = LINE.fullmatch(line)
    if match is None:
        if len(line.split()) == 5:
            return line
        raise BadCalendar(f"{text[:TEXT_MAX]!r} is no calendar: {FORM}")
    days = "*" if match["days"] is None else ",".join(_days(match["days"], text))
    return f"{int(match['minute'])} {int(match['hour'])} * * {days}"


def _days(words: str, text: str) -> list[str]:
    """Numbers of days as cron has them, 1 is Monday."""
    found: list[str] = []
    for part in words.split(","):
        first, *last = re.split(r"\.\.|-", part)
        ends = [day for day in (first, *last) if day[:3] in DAYS and _is_day(day)]
        if len(ends) != 1 + len(last) or len(last) > 1:
            raise BadCalendar(f"{part!r} in {text[:TEXT_MAX]!r} is no day: {FORM}")
        begin, end = DAYS.index(first[:3]), DAYS.index(ends[-1][:3])
        found += [str((begin + step) % 7 + 1) for step in range((end - begin) % 7 + 1)]
    return found


def _is_day(word: str) -> bool:
    """Whether it is a day's name, whole or its first three letters."""
    long = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return word in DAYS or word in long
