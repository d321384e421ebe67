"""When we trained ourselves, as the decision log tells: what made the processor busy then; pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from state.renames import today
from supervisor.core.events import Event
from supervisor.core.goodput import ENDS
from supervisor.core.moments import wall
from supervisor.usage.grid import Span

BEGINS = (Event.RUN_STARTED, Event.RUN_ADOPTED)


class _Line(msgspec.Struct, frozen=True):
    event: str = ""
    time: str = ""
    run: str | None = None


def trained(lines: Iterable[bytes], now: float) -> tuple[Span, ...]:
    """The spans in which at least one run had a trainer.

    Args:
        lines: of the decision log, in order.
        now: wall time: what trains still has trained until then.
    """
    living: set[str] = set()
    begun = 0.0
    spans: list[Span] = []
    for raw in lines:
        try:
            line = msgspec.json.decode(raw, type=_Line)
            at = wall(line.time)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            continue
        event = today("event", line.event)
        were = bool(living)
        if event in BEGINS and line.run is not None:
            living.add(line.run)
        elif event in ENDS and line.run is not None:
            living.discard(line.run)
        if living and not were:
            begun = at
        elif were and not living:
            spans.append(Span(begun, at))
    if living:
        spans.append(Span(begun, now))
    return tuple(spans)
