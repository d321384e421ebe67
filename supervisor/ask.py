"""Asking the daemon from outside: leave a request, wait for the decision, tell it."""

from __future__ import annotations

import contextlib
import errno
from typing import Any

import msgspec

from state.inbox import Inbox
from state.records import Left
from state.requests import Request, request
from state.store import Store
from supervisor.config import Config
from supervisor.core import again, history, told
from supervisor.core.enrolment import sought
from supervisor.core.events import Event
from supervisor.core.moments import Moment
from supervisor.core.seen import Machine, Seen
from supervisor.core.turn import turn
from supervisor.errors import SupervisorError
from supervisor.host.clock import pause
from supervisor.host.home import Home
from supervisor.journal import Journal
from supervisor.report import present
from supervisor.runners.local import LocalRunner

WAIT_S = 30.0
LOOK_S = 0.05
LOST_S = 5.0
"""an answer comes before its request is taken away; after this long without one there is none"""


class NoRoom(SupervisorError):
    """A request that the disk does not take."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, home: Home) -> None:
        holder = home.holder()
        stop = (holder.stop_command if holder else None) or "supervisor stop"
        now = f"to stop all training without it: {stop}" if holder else "nothing trains meanwhile"
        super().__init__(
            f"the disk of {home.path} is full, so the request cannot be written: make room, and "
            f"ask again (old runs in {home.runs} are yours to delete); {now}"
        )


class AnswerLost(SupervisorError):
    """A request that was taken up, and nobody could write down what became of it."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self) -> None:
        super().__init__(
            "the supervisor has taken the request up, and its answer is lost; what became of it "
            "stands in `supervisor decisions`"
        )


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request, as far as is known here."""

    reason: str
    decided: bool = True
    refused: bool = False
    waited_s: float = 0.0


def ask(
    home: Home,
    config: Config,
    moment: Moment,
    kind: str,
    *,
    by: str,
    **fields: Any,
) -> Outcome:
    """Leave a request for the supervisor of `home`, and wait for its decision if it is up.

    Args:
        home: of the supervisor.
        config: what is in force there.
        moment: now.
        kind: what is asked.
        by: who asks.
        fields: what such a request says beside that.

    Raises:
        NotYours: the home is another user's.
        HomeUnusable: nothing can be written there.
        AnswerLost: it was taken up, and nobody knows more.
    """
    asked = request(kind, id="foreseen", by=by, asked_at=moment.wall, **fields)
    up = home.holder() is not None
    if not up:
        refusal = _foreseen_refusal(home, config, moment, asked)
        if refusal is not None:
            return Outcome(reason=refusal, refused=True)
    home.make()
    waiting = _put(home, kind, by, moment, fields)
    if not up:
        return Outcome(
            reason="the supervisor is not running; the request waits for its next start",
            decided=False,
        )
    inbox = Inbox(home.inbox)
    waited_s = lost_s = 0.0
    while waited_s < WAIT_S:
        # In this order: who has gone since may have answered before.
        lives, waits = home.holder() is not None, inbox.holds(waiting)
        answer = inbox.answers.read(waiting.id)
        if answer is not None:
            reason = f"{answer.mode}: {answer.reason}" if answer.mode else answer.reason
            return Outcome(
                reason=answer.reason if answer.refused else reason, refused=answer.refused
            )
        if not lives and waits:
            return Outcome(
                reason="the supervisor went down; the request waits for it", decided=False
            )
        lost_s = 0.0 if waits else lost_s + LOOK_S
        if lost_s > LOST_S:
            raise AnswerLost
        pause(LOOK_S)
        waited_s += LOOK_S
    return Outcome(reason="no answer", decided=False, waited_s=waited_s)


def _put(home: Home, kind: str, by: str, moment: Moment, fields: dict[str, Any]) -> Request:
    try:
        return Inbox(home.inbox).put(kind, by=by, at=moment.wall, **fields)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoRoom(home) from error


def reset_now(home: Home, config: Config, moment: Moment) -> str:
    """Forget all history of a home that no supervisor holds; one sentence about it.

    What one has left standing still goes on: whoever begins anew knows nothing of it.

    Raises:
        AlreadyRunning: a supervisor holds it after all.
    """
    home.make()
    with home.taken(moment):
        runner = LocalRunner(home.runs, moment.boot_id)
        for run_id in runner.look(()):
            runner.thaw(run_id)
        store, journal = Store(home.state), Journal(home)
        known, _ = store.load()
        backup = store.back_up(f"state.before-reset-{int(moment.wall)}.json")
        queued = again.runs_of(config.campaign, None if known is None else known.generations)
        memory = known or history.first_day(moment, config.ladder, queued)
        memory = history.forgotten(memory, moment, config.ladder, queued)
        kept = f"; the old state is in {backup.name}" if backup else ""
        moved = known is not None and known.goal.mode != memory.goal.mode
        memory = told.write(
            # Nothing trains: a reboot from here on is no crash.
            msgspec.structs.replace(
                memory, clean_stop=True, decisions=max(memory.decisions, journal.last)
            ),
            Event.MODE_CHANGED if moved else Event.REQUEST_GRANTED,
            rule="request",
            reason=f"reset while the supervisor was down{kept}",
            evidence={"kind": "reset"},
            old=known.goal.mode if known else None,
            new=memory.goal.mode,
        )
        store.save(memory)
        journal.deliver(memory.outbox)
        inbox = Inbox(home.inbox)
        for request in inbox.pending()[0]:  # asked for before the reset: forgotten with the rest
            inbox.remove(request)
    return f"back to the first day in {memory.goal.mode}{kept}"


def _foreseen_refusal(home: Home, config: Config, moment: Moment, asked: Request) -> str | None:
    """Why the request would be refused as things stand; None if it may be granted."""
    memory = present(home, config, moment)
    waiting, _ = Inbox(home.inbox).pending()
    requests = (*waiting, asked)
    left: dict[str, Left] | None = None
    with contextlib.suppress(OSError):
        left = Store(home.state).archive.find(sought(memory, config.rules, requests))
    seen = Seen(
        moment=moment,
        rules=config.rules,
        machine=Machine(cores=1, parts={}),
        observations={},
        left=left,
        requests=requests,
    )
    answers = turn(memory, seen).memory.answers
    return next((one.reason for one in answers if one.request == asked.id and one.refused), None)
