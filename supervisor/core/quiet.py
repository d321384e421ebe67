"""Whether training disturbs nobody now, by the windows of the week that were learnt; pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from supervisor.core.calendar import BadCalendar, Window, opening, zone_of
from supervisor.core.moments import span, stamp, when

DAY_S = 86_400.0


class Windows(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of the quiet hours, as the last analysis has left it."""

    windows: tuple[Window, ...] = ()
    zone: str = "UTC"
    made_at: float | None = None
    """wall time of the analysis; None: there was none"""
    trouble: str | None = None
    """why there is no window: one line"""


class Quiet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether it is quiet now, and until when that is so."""

    answer: Literal["open", "closed", "unknown"]
    """training disturbs nobody; it would; nobody knows"""
    until_at: float | None = None
    """wall time of the next change; None: none is known"""
    trouble: str | None = None
    """why it is not known"""

    @property
    def words(self) -> str:
        """For a person."""
        until = "" if self.until_at is None else when(stamp(self.until_at))
        match self.answer:
            case "open":
                return f"a quiet window, until {until}"
            case "closed":
                return f"no quiet window before {until}"
            case _:
                return f"the quiet hours are not known: {self.trouble}"


def look(known: Windows, *, at: float, reserve_s: float, max_age_days: float) -> Quiet:
    """Whether a moment lies in a window, with time enough left to save and leave.

    Args:
        known: the windows.
        at: the moment, in wall time.
        reserve_s: what saving and leaving takes: so much earlier a window counts as closed.
        max_age_days: windows of an older analysis are not known any more.
    """
    if known.trouble is not None or known.made_at is None:
        return Quiet(answer="unknown", trouble=known.trouble or "nothing was analysed yet")
    # A clock that was set back makes no analysis young for ever.
    if abs(at - known.made_at) > max_age_days * DAY_S:
        age = span(abs(at - known.made_at))
        return Quiet(answer="unknown", trouble=f"the analysis is {age} old")
    try:
        zone = zone_of(known.zone)
    except BadCalendar as error:
        return Quiet(answer="unknown", trouble=str(error))
    found = opening(known.windows, zone, at)
    if found is None:
        return Quiet(answer="unknown", trouble="no hours are quiet enough")
    closes_at = found.closes_at - reserve_s
    if found.opens_at <= at < closes_at:
        return Quiet(answer="open", until_at=closes_at)
    if at < found.opens_at:
        return Quiet(answer="closed", until_at=found.opens_at)
    # Within the reserve the next opening counts: it may begin as this one ends.
    later = opening(known.windows, zone, found.closes_at + 1.0)
    if later is None:
        return Quiet(answer="unknown", trouble="no hours are quiet enough")
    return Quiet(answer="closed", until_at=max(later.opens_at, found.closes_at))
