"""Turns written down as they are made, and made again: what was thought once is thought again.

A record holds all that its turn depended on but the memory, of which it holds checksums. The
memory itself stands in the first record of each file, and after each start of a supervisor.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from modes import Ladder, Mode
from state.records import LOG_VERSION, Memory
from supervisor.core.moments import stamp
from supervisor.core.seen import Seen, Turn
from supervisor.core.settings import Notify
from supervisor.core.turn import turn


class RecordedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn: what it depended on, and what came of it."""

    version: int = LOG_VERSION
    began: Memory | None = None
    """the memory; None: as the turn before has left it, but for what was delivered meanwhile"""
    before: int
    """a checksum of it"""
    lines: int
    """of that memory's outbox that had not been delivered"""
    answers: int
    left: int = 0
    """likewise of its answers, and of the runs that had left"""
    seen: Seen
    memory: int
    """a checksum of what the memory was afterwards"""
    actions: int
    """a checksum of what was to be done"""
    due_s: float | None
    """None: never"""


class MadeAgain(msgspec.Struct, frozen=True, kw_only=True):
    """What came of making recorded turns again."""

    turns: int = 0
    gaps: int = 0
    """records that could not be followed, since those before them are missing"""
    unreadable: int = 0
    differences: int = 0
    first: str | None = None
    """where the first difference is, in words"""


def record(memory: Memory, seen: Seen, came: Turn, *, whole: bool) -> bytes:
    """The record of a turn, as one line of JSON.

    Args:
        memory: before the turn.
        seen: what it was made from.
        came: what came of it.
        whole: write the memory down, too.
    """
    # No turn depends on who is told elsewhere, and an address may hold a password.
    settings = msgspec.structs.replace(seen.rules.settings, notify=Notify())
    seen = msgspec.structs.replace(seen, rules=seen.rules._replace(settings=settings))
    return msgspec.json.encode(
        RecordedTurn(
            began=memory if whole else None,
            before=_checksum(memory),
            lines=len(memory.outbox),
            answers=len(memory.answers),
            left=len(memory.left),
            seen=seen,
            **_outcome(came),
        ),
        enc_hook=_plain,
    )


def make_again(lines: Iterable[Mapping[str, Any]]) -> MadeAgain:
    """Make every recorded turn again, and compare what comes of it."""
    memory: Memory | None = None
    turns = gaps = unreadable = differences = 0
    first: str | None = None
    for number, line in enumerate(lines, 1):
        try:
            # Another version thinks otherwise, and says it in other words.
            same = line.get("version", LOG_VERSION) == LOG_VERSION
            recorded = msgspec.convert(line, RecordedTurn, dec_hook=_made) if same else None
        except msgspec.ValidationError:
            recorded = None
        if recorded is None:
            unreadable, memory = unreadable + 1, None
            continue
        memory = recorded.began or _delivered(memory, recorded)
        if memory is None or _checksum(memory) != recorded.before:
            gaps, memory = gaps + 1, None
            continue
        came, turns = turn(memory, recorded.seen), turns + 1
        memory = came.memory
        now = _outcome(came)
        differs = [part for part, value in now.items() if value != getattr(recorded, part)]
        if differs:
            differences += 1
            at = stamp(recorded.seen.moment.wall)
            first = first or f"turn {number}, of {at}: {' and '.join(differs)}"
            memory = None  # each later one would differ as well
    return MadeAgain(
        turns=turns, gaps=gaps, unreadable=unreadable, differences=differences, first=first
    )


def _outcome(came: Turn) -> dict[str, Any]:
    return {
        "memory": _checksum(came.memory),
        "actions": zlib.crc32(msgspec.json.encode((came.before_save, came.actions))),
        "due_s": came.due_s if came.due_s < float("inf") else None,
    }


def _checksum(memory: Memory) -> int:
    """Of the memory as a file would bring it back: a whole number may be a fraction there."""
    there = msgspec.json.encode(memory)
    return zlib.crc32(msgspec.json.encode(msgspec.json.decode(there, type=Memory)))


def _delivered(memory: Memory | None, recorded: RecordedTurn) -> Memory | None:
    """The memory once all but so many of its lines, answers and runs were delivered."""
    if memory is None:
        return None
    return msgspec.structs.replace(
        memory,
        outbox=memory.outbox[len(memory.outbox) - recorded.lines :],
        answers=memory.answers[len(memory.answers) - recorded.answers :],
        left=memory.left[len(memory.left) - recorded.left :],
    )


# For all other kinds of values these two say that there is nothing to do, as msgspec wants it said.


def _plain(value: Any) -> Any:
    """A ladder as what it is made of."""
    if isinstance(value, Ladder):
        return value.modes
    raise NotImplementedError(type(value))


def _made(kind: type, value: Any) -> Any:
    if kind is Ladder:
        return Ladder(msgspec.convert(value, tuple[Mode, ...]))
    raise NotImplementedError(kind)
