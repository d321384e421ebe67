"""Which lines of the decision log somebody asks for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from state.renames import today
from supervisor.core.events import LOGGED
from supervisor.core.moments import wall

NOUNS = tuple(dict.fromkeys(event.partition(".")[0] for event in LOGGED))
"""what stands before the dot of some event: each is short for all events of that thing"""


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What a line must be to be shown: all that is said here."""

    events: tuple[str, ...] | None = None
    """full names of events, of which it is one; None: any"""
    run: str | None = None
    """the id of a run that it is about, alone or among others; None: any or none"""
    since_at: float | None = None
    """wall time, seconds since 1970, at or after which it was written; None: whenever"""

    @property
    def narrows(self) -> bool:
        """Whether anything is asked for at all."""
        return (self.events, self.run, self.since_at) != (None, None, None)

    def takes(self, line: Mapping[str, Any]) -> bool:
        """Whether `line` is one that is asked for. It may hold anything, as a damaged log does."""
        if self.events is not None and line.get("event") not in self.events:
            return False
        if self.run is not None and not _is_about(line, self.run):
            return False
        return self.since_at is None or _is_since(line.get("time"), self.since_at)


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """The events that are meant by names: full ones, or the part before the dot for all of those.

    Raises:
        ValueError: there is no such event; the message says which was meant, perhaps.
    """
    found: list[str] = []
    for said in names:
        name = today("event", said.lower())
        meant = [event for event in LOGGED if name in (event, event.partition(".")[0])]
        if not meant:
            close = difflib.get_close_matches(name, (*LOGGED, *NOUNS), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"they begin with {', '.join(NOUNS)}"
            raise ValueError(f"there is no event {said!r}; {hint}")
        found += meant
    return tuple(dict.fromkeys(found))


def _is_about(line: Mapping[str, Any], run: str) -> bool:
    """Whether a line is about that run; `slots.assigned` is about several."""
    several = line.get("runs")
    return line.get("run") == run or (isinstance(several, list) and run in several)


def _is_since(time: object, since_at: float) -> bool:
    """Whether a line's time is known, and is no earlier."""
    try:
        return isinstance(time, str) and wall(time) >= since_at
    except ValueError:
        return False
