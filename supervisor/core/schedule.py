"""Which firings of a schedule are due, and what becomes of each; pure.

A schedule is looked at again and again. What lies between two looks is due, once: whoever looks
keeps how far it has looked, and the store lets one instant of a schedule be taken once.

* A look that comes on time finds at most the newest instant, which is `on_time`.
* What came while nobody looked is *missed*. `catch_up` says what is made up for: nothing, the
  newest one, or each.
* While the last firing has not ended, another is *skipped* where overlaps are forbidden.
* Each is told, whether it starts or not: a week of nothing must not look like a week of success.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from supervisor.core.calendar import TEXT_MAX, BadCalendar, Calendar

CatchUp = Literal["none", "once", "all"]
Overlap = Literal["forbid", "allow"]
FIELDS = 5
"""of cron"""
LATE_S = 300.0
"""how late a look may come, and what it finds counts as on time"""
TOLD_MAX = 100
"""missed firings that are told one by one, the newest"""
STRIDES_S = (7_200.0, 86_400.0, 8 * 86_400.0, 64 * 86_400.0, 512 * 86_400.0, 16_384 * 86_400.0)
"""how far back is looked for those, at first"""

Became = Literal["on_time", "caught_up", "missed", "skipped"]


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """One instant of a schedule that has come."""

    at: float
    """wall time, in seconds since 1970; a schedule has each once"""
    became: Became

    @property
    def starts(self) -> bool:
        """Whether a job begins."""
        return self.became in ("on_time", "caught_up")


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What a look has found."""

    firings: tuple[Firing, ...]
    """the oldest first"""
    more: bool
    """there were others before them, so many that they are told by this alone"""
    until_at: float
    """how far has been looked: where the next look begins"""
    next_at: float | None
    """when the next one is due; None: never"""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a job comes again.

    Raises:
        BadCalendar: the text is no cron, the zone is none, or it never comes.
    """

    cron: str
    """five fields; Sunday is 0 and 7"""
    zone: str = "UTC"
    """of the clock on the wall; daylight saving as in `supervisor.core.calendar`"""
    catch_up: CatchUp = "once"
    overlap: Overlap = "forbid"

    def __post_init__(self) -> None:
        shown = repr(self.cron[:TEXT_MAX])
        if len(self.cron.split()) != FIELDS:
            raise BadCalendar(f"{shown} is not the five fields of cron")
        try:
            self._calendar()
        except BadCalendar as error:
            raise BadCalendar(f"{shown}: {error.__cause__ or error}") from error

    def next_after(self, at: float) -> float | None:
        """The first instant after a moment; None: there is none."""
        return self._calendar().after(at)

    def look(self, since_at: float, now_at: float, *, unfinished: bool) -> Looked:
        """What has become due since the last look.

        Args:
            since_at: how far was looked last, or when the schedule was made.
            now_at: wall time. Where the clock was set back, nothing is due until it has caught up.
            unfinished: the job of an earlier firing has not ended.
        """
        calendar = self._calendar()
        if now_at <= since_at:
            return Looked(
                firings=(), more=False, until_at=since_at, next_at=calendar.after(since_at)
            )
        instants, more = _newest(calendar, since_at, now_at)
        firings = self._become(instants, now_at, unfinished=unfinished)
        return Looked(firings=firings, more=more, until_at=now_at, next_at=calendar.after(now_at))

    def _calendar(self) -> Calendar:
        return Calendar(self.cron, self.zone)

    def _become(
        self, instants: list[float], now_at: float, *, unfinished: bool
    ) -> tuple[Firing, ...]:
        found: list[Firing] = []
        for at in instants:
            newest = at == instants[-1]
            if newest and now_at - at <= LATE_S:
                became: Became = "on_time"
            elif self.catch_up == "all" or (self.catch_up == "once" and newest):
                became = "caught_up"
            else:
                became = "missed"
            if became != "missed" and self.overlap == "forbid":
                if unfinished:
                    became = "skipped"
                unfinished = True
            found.append(Firing(at=at, became=became))
        return tuple(found)


def _newest(calendar: Calendar, since_at: float, now_at: float) -> tuple[list[float], bool]:
    """The newest instants of a stretch, and whether there are more.

    After a long time off a schedule of every minute has half a million, of which nobody wants more
    than the newest: so it is looked for them from the end.
    """
    found: list[float] = []
    for stride_s in STRIDES_S:
        begin = max(since_at, now_at - stride_s)
        found, at = [], calendar.after(begin)
        while at is not None and at <= now_at:
            found.append(at)
            at = calendar.after(at)
        if begin == since_at:
            return found[-TOLD_MAX:], len(found) > TOLD_MAX
        if len(found) > TOLD_MAX:
            break
    return found[-TOLD_MAX:], True
