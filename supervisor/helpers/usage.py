"""Analyses usage in the daemon's place, which opens no connection: a child of `supervisor.helper`.

It writes windows.json itself, and tells only what came of it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from state.windows import known
from supervisor.core.quiet_hours import QuietHours, refresh_at
from supervisor.helper import serve
from trainers.contract import NewerFile


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon asks."""

    asked: QuietHours
    zone: str
    """of the clock on the wall"""
    now: float
    """wall time"""
    windows: str
    """paths: the file that is written, the folders of our own samples of players and of the
    machine, the decision log, and where relative paths of password files begin"""
    samples: str
    machine: str
    decisions: str
    here: str
    machine_id: str | None
    """which machine this is"""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What the child answers; the first time only that it is there."""

    written: bool = False
    """whether there are new windows"""
    trouble: str | None = None
    """why not"""
    notes: tuple[str, ...] = ()
    """what a person has to know"""
    busy: bool = False
    """whether somebody else analyses at this moment, or just has, so that nothing was done"""


def answer(request: Request) -> Reply:
    """Analyse once."""
    from supervisor.usage import refresh  # noqa: PLC0415 - the daemon knows our values alone

    where = refresh.Where(
        windows=Path(request.windows),
        samples=Path(request.samples),
        machine=Path(request.machine),
        machine_id=request.machine_id,
        decisions=Path(request.decisions),
        here=Path(request.here),
    )
    try:
        with refresh.alone(where):
            newest, _ = known(where.windows)
            if refresh_at(request.asked, newest, None) > request.now:
                return Reply(busy=True)
            analysis = refresh.examine(request.asked, request.zone, where, request.now)
            written = refresh.keep(where, analysis)
    except BlockingIOError:
        return Reply(busy=True)
    except OSError as error:
        return Reply(trouble=error.strerror or str(error))
    except NewerFile as error:
        return Reply(trouble=str(error))
    troubles = tuple(
        f"{one.name}: {one.why_not}" for one in analysis.sources if one.why_not and not one.used
    )
    return Reply(written=written, trouble=analysis.trouble, notes=(*troubles, *analysis.notes))


def main() -> None:
    """Serve the daemon until it goes."""
    serve(Request, lambda: (Reply(), answer))
