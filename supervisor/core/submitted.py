"""What is asked of one run: another try, or joining, changing, leaving, ending.

A run that does not come from the settings is its origin's alone. The origin's claim on this home
has a token: what is asked twice with one token is done once, whatever became of the run meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from modes import Ladder
from state.records import Asked, Faults, Run
from state.requests import AboutAJob, Amend, Cancel, Submit, TryAgain, Withdraw
from supervisor.core import queue

SUBMITTED_MAX = 500
"""such runs in the queue at once: whoever submits keeps a longer list, and the state stays small"""
FIXED = ("trainer", "name", "place", "tenant", "token")
"""what no amendment changes: another one of these is another run"""


class Heeded(NamedTuple):
    """What is asked, done."""

    run: Run
    """as it is from now on"""
    what: str
    """what that was, in words"""


def heed(
    wish: TryAgain | AboutAJob, known: Run | None, submitted: int, ladder: Ladder
) -> Heeded | str:
    """What becomes of the run; or why nothing does.

    Args:
        wish: what is asked.
        known: the run as it is, in the queue or as it left it.
        submitted: how many such runs are in the queue.
        ladder: the modes in force.
    """
    if isinstance(wish, Submit):
        return _submit(wish, known, submitted, ladder)
    if known is None:
        return f"there is no run {wish.run!r}"
    if isinstance(wish, TryAgain):
        again = queue.retry(known)
        was = f"{known.status}: {known.reason}" if known.reason else known.status
        return again if isinstance(again, str) else Heeded(again, f"retry {known.name} ({was})")
    if not known.is_job:
        return f"{wish.run} comes from the settings, and is changed or taken out there"
    token = wish.asked.token if isinstance(wish, Amend) else wish.token
    if token is not None and token != known.asked.token:
        return f"{wish.run} was submitted with another token"
    match wish:
        case Amend():
            return _amend(wish, known, ladder)
        case Withdraw():
            return _withdraw(wish, known)
        case Cancel():
            return _cancel(wish, known)


def _submit(wish: Submit, known: Run | None, submitted: int, ladder: Ladder) -> Heeded | str:
    asked = msgspec.structs.replace(wish.asked, origin="job")
    has_left = known is not None and (known.withdrawn or known.status in queue.ENDED)
    if known is not None and not known.is_job:
        return f"{asked.id} is a run of the campaign"
    if known is not None and known.asked.token == asked.token:
        if known.withdrawn:
            return f"{asked.id} was withdrawn; a new token submits it again"
        return Heeded(known, f"{wish.wanted}; it is known already: {known.status}")
    if known is not None and not has_left:
        return f"{asked.id} is in the queue already, with another token"
    if submitted >= SUBMITTED_MAX:
        return f"{submitted} submitted runs wait here already: try again when some have ended"
    trouble = queue.refusal(asked, ladder)
    if trouble is not None:
        return f"{asked.id} can never train: {trouble}"
    if known is None:
        return Heeded(Run(asked=asked), wish.wanted)
    # Its folder is there, with what was saved: only what its deaths have shown is forgotten.
    again = Run(asked=asked, attempt=known.attempt, progress=known.progress, faults=Faults())
    return Heeded(again, f"{wish.wanted}; it goes on from step {known.progress.step}")


def _amend(wish: Amend, known: Run, ladder: Ladder) -> Heeded | str:
    asked = msgspec.structs.replace(wish.asked, origin="job")
    if asked == known.asked:
        return Heeded(known, f"{wish.wanted}; it is so already")
    if known.withdrawn:
        return f"{asked.id} was withdrawn"
    if asked.revision <= known.asked.revision:
        return f"{asked.id} has revision {known.asked.revision} already"
    other = next((part for part in FIXED if _differs(asked, known.asked, part)), None)
    if other is not None:
        return f"{asked.id} keeps its {other}: another one is another run"
    trouble = queue.refusal(asked, ladder)
    if trouble is not None:
        return f"{asked.id} could never train: {trouble}"
    return Heeded(queue.amended(known, asked), wish.wanted)


def _differs(asked: Asked, known: Asked, part: str) -> bool:
    return bool(getattr(asked, part) != getattr(known, part))


def _withdraw(wish: Withdraw, known: Run) -> Heeded:
    if known.withdrawn:
        return Heeded(known, f"{wish.wanted}; it is withdrawn already")
    if known.status in queue.ENDED:
        return Heeded(known, f"{wish.wanted}; it has ended already: {known.status}")
    return Heeded(known.but(withdrawn=True), wish.wanted)


def _cancel(wish: Cancel, known: Run) -> Heeded | str:
    if known.status == "cancelled" or known.ending == "cancel":
        return Heeded(known, f"{wish.wanted}; it is cancelled already")
    if known.withdrawn or known.status in queue.ENDED:
        how = "withdrawn" if known.withdrawn else known.status
        return f"{known.id} has left the queue: {how}"
    reason = f"{wish.asker} asked: {wish.wanted}"
    return Heeded(known.but(ending="cancel", reason=reason), wish.wanted)
