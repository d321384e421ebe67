"""What is asked of one run: another try, going back, or joining, changing, leaving, ending.

A run that does not come from the settings is its origin's alone. The origin's claim on this home
has a token: what is asked twice with one token is done once, whatever became of the run meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from modes import Ladder
from state.records import Asked, Faults, Run
from state.requests import AboutARun, Amend, Cancel, GoBack, Submit, TryAgain, Withdraw
from supervisor.core import queue
from trainers.contract import Rewind

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


def heed(request: AboutARun, known: Run | None, submitted: int, ladder: Ladder) -> Heeded | str:
    """What becomes of the run; or why nothing does.

    Args:
        request: what is asked.
        known: the run as it is, in the queue or as it left it.
        submitted: how many such runs are in the queue.
        ladder: the modes in force.
    """
    if isinstance(request, Submit):
        return _submit(request, known, submitted, ladder)
    if known is None:
        return f"there is no run {request.run!r}"
    if isinstance(request, TryAgain):
        again = queue.retry(known)
        was = f"{known.status}: {known.reason}" if known.reason else known.status
        return again if isinstance(again, str) else Heeded(again, f"retry {known.name} ({was})")
    if isinstance(request, GoBack):
        return _go_back(request, known)
    if not known.is_job:
        return f"{request.run} comes from the settings, and is changed or taken out there"
    token = request.asked.token if isinstance(request, Amend) else request.token
    if token is not None and token != known.asked.token:
        return f"{request.run} was submitted with another token"
    match request:
        case Amend():
            return _amend(request, known, ladder)
        case Withdraw():
            return _withdraw(request, known)
        case Cancel():
            return _cancel(request, known)


def _go_back(request: GoBack, known: Run) -> Heeded | str:
    to = Rewind(id=request.id, checkpoint=request.checkpoint)
    back = queue.going_back(known, to)
    if isinstance(back, str):
        return back
    then = "; it is saved and stopped before" if queue.lives_perhaps(known) else ""
    return Heeded(back, f"rewind {known.name} to {to.place} ({known.status}){then}")


def _submit(request: Submit, known: Run | None, submitted: int, ladder: Ladder) -> Heeded | str:
    asked = msgspec.structs.replace(request.asked, origin="job")
    has_left = known is not None and (known.withdrawn or known.status in queue.ENDED)
    if known is not None and not known.is_job:
        return f"{asked.id} is a run of the campaign"
    if known is not None and known.asked.token == asked.token:
        if known.withdrawn:
            return f"{asked.id} was withdrawn; a new token submits it again"
        return Heeded(known, f"{request.words}; it is known already: {known.status}")
    if known is not None and not has_left:
        return f"{asked.id} is in the queue already, with another token"
    if submitted >= SUBMITTED_MAX:
        return f"{submitted} submitted runs wait here already: try again when some have ended"
    trouble = queue.refusal(asked, ladder)
    if trouble is not None:
        return f"{asked.id} can never train: {trouble}"
    if known is None:
        return Heeded(Run(asked=asked), request.words)
    # Its folder is there, with what was saved: only what its deaths have shown is forgotten.
    again = Run(
        asked=asked,
        attempt=known.attempt,
        progress=known.progress,
        faults=Faults(),
        rewind=known.rewind,
    )
    return Heeded(again, f"{request.words}; it goes on from step {known.progress.step}")


def _amend(request: Amend, known: Run, ladder: Ladder) -> Heeded | str:
    asked = msgspec.structs.replace(request.asked, origin="job")
    if asked == known.asked:
        return Heeded(known, f"{request.words}; it is so already")
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
    return Heeded(queue.amended(known, asked), request.words)


def _differs(asked: Asked, known: Asked, part: str) -> bool:
    return bool(getattr(asked, part) != getattr(known, part))


def _withdraw(request: Withdraw, known: Run) -> Heeded:
    if known.withdrawn:
        return Heeded(known, f"{request.words}; it is withdrawn already")
    if known.status in queue.ENDED:
        return Heeded(known, f"{request.words}; it has ended already: {known.status}")
    return Heeded(known.but(withdrawn=True), request.words)


def _cancel(request: Cancel, known: Run) -> Heeded | str:
    if known.status == "cancelled" or known.ending == "cancel":
        return Heeded(known, f"{request.words}; it is cancelled already")
    if known.withdrawn or known.status in queue.ENDED:
        how = "withdrawn" if known.withdrawn else known.status
        return f"{known.id} has left the queue: {how}"
    reason = f"{request.asker} asked: {request.words}"
    return Heeded(known.but(ending="cancel", failed_by=None, reason=reason), request.words)
