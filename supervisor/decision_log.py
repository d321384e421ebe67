"""The decision log, read afterwards: one decision, the settings it was made with, every line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from supervisor import journal
from supervisor.core.facts import StabilityLimits
from supervisor.core.replay import LoggedDecision, logged_decision
from supervisor.errors import SupervisorError
from trainers import durable

NEWEST_LINES = 200
"""of the log are read first for its newest decision"""


class NoDecision(SupervisorError):
    """A number that no decision of the log has."""

    exit_code = 2

    def __init__(self, seq: int, event: str | None, near: tuple[int, ...]) -> None:
        what = f"line {seq} of the log ({event}) is no decision" if event else f"no line {seq}"
        others = " and ".join(map(str, near))
        nearest = "decision is" if len(near) == 1 else "decisions are"
        hint = f"; the nearest {nearest} {others}" if near else "; there is no decision in it"
        super().__init__(f"{what}{hint}" if event else f"the log has {what}{hint}")


class NoLog(SupervisorError):
    """A file that is no decision log."""

    exit_code = 2

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")


@contextlib.contextmanager
def sensible(path: Path) -> Iterator[None]:
    """Turn what facts cause that no supervisor has written into one sentence.

    Raises:
        NoLog: there are such facts in the log.
    """
    try:
        yield
    except (ArithmeticError, LookupError, ValueError) as error:
        raise NoLog(path, f"holds facts that no supervisor writes ({error})") from error


def newest(path: Path) -> tuple[LoggedDecision, int | None] | None:
    """The newest decision of a log, and the number of the one before; None where there is none."""
    for lines in (journal.known(path, journal.tail(path, NEWEST_LINES)), journal.read(path)):
        found = [logged for line in lines if (logged := logged_decision(line)) is not None]
        if found:
            return found[-1], found[-2].seq if len(found) > 1 else None
    return None


def numbered(path: Path, seq: int) -> tuple[LoggedDecision, int | None]:
    """The decision that has that number, and the number of the one before.

    Raises:
        NoDecision: there is no such line, or it is no decision.
    """
    event, before, after = None, None, None
    for line in journal.read(path):
        there = line.get("seq")
        if there == seq:
            if (logged := logged_decision(line)) is not None:
                return logged, before
            event = str(line.get("event", "?"))
        elif isinstance(there, int) and isinstance(line.get("facts"), dict):
            if there > seq:
                after = there
                break
            before = there
    raise NoDecision(seq, event, tuple(near for near in (before, after) if near is not None))


def limits(path: Path) -> StabilityLimits:
    """The settings of the policy with which the newest decision was made.

    Raises:
        NoLog: it holds no decision.
    """
    found = newest(path)
    if found is None:
        raise NoLog(path, "holds no decision yet")
    return found[0].facts.limits


def lines(path: Path) -> Iterable[journal.Line]:
    """Every line of a log that somebody named.

    Raises:
        NoLog: it cannot be read, or holds no line of a log.
    """
    try:
        durable.open_regular(path, follow=True).close()
    except durable.UnreadableFile as error:
        raise NoLog(path, "is no file") from error
    except OSError as error:
        raise NoLog(path, (error.strerror or str(error)).lower()) from error
    found = journal.read(path.resolve())
    if not any("seq" in line for line in found):
        raise NoLog(path, "holds no line of a decision log")
    return journal.read(path.resolve())
