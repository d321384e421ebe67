"""Asking the daemon from outside: leave a wish, wait for the decision, tell it."""

from __future__ import annotations

import errno

import msgspec

from state.inbox import Inbox
from state.records import Wish, WishKind
from state.store import Store
from supervisor.clock import Moment, pause
from supervisor.core import history, policy
from supervisor.errors import SupervisorError
from supervisor.home import Home
from supervisor.journal import Journal, tail
from supervisor.report import present
from supervisor.settings import Config

WAIT_S = 30.0
LOOK_S = 0.05


class NoRoom(SupervisorError):
    """A wish that the disk does not take."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, home: Home) -> None:
        holder = home.holder()
        stop = (holder.stop_command if holder else None) or "supervisor stop"
        now = f"to stop all training without it: {stop}" if holder else "nothing trains meanwhile"
        super().__init__(
            f"the disk of {home.path} is full, so the wish cannot be written: make room, and ask "
            f"again (old runs in {home.runs} are yours to delete); {now}"
        )


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a wish."""

    reason: str
    decided: bool = True
    refused: bool = False
    waited_s: float = 0.0


def ask(
    home: Home, config: Config, moment: Moment, kind: WishKind, mode: str | None, by: str
) -> Answer:
    """Leave a wish for the supervisor of `home`, and wait for its decision if it is up.

    Raises:
        NotYours: the home is another user's.
        HomeUnusable: nothing can be written there.
    """
    up = home.holder() is not None
    if not up:
        refusal = _foreseen_refusal(home, config, moment, kind, mode, by)
        if refusal is not None:
            return Answer(reason=refusal, refused=True)
    home.make()
    wish = _put(home, kind, mode, by, moment)
    if not up:
        return Answer(
            reason="the supervisor is not running; the wish waits for its next start",
            decided=False,
        )
    waited_s = 0.0
    while waited_s < WAIT_S and home.holder() is not None:
        for line in tail(home.decisions, 50):
            if line.get("wish") == wish.id:
                if line["event"] == "wish.refused":
                    return Answer(reason=line["reason"], refused=True)
                return Answer(reason=f"{line['new']}: {line['reason']}")
        pause(LOOK_S)
        waited_s += LOOK_S
    if waited_s < WAIT_S:
        return Answer(reason="the supervisor went down; the wish waits for it", decided=False)
    return Answer(reason="no answer", decided=False, waited_s=waited_s)


def _put(home: Home, kind: WishKind, mode: str | None, by: str, moment: Moment) -> Wish:
    try:
        return Inbox(home.inbox).put(kind, mode=mode, by=by, at=moment.wall)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoRoom(home) from error


def reset_now(home: Home, config: Config, moment: Moment) -> str:
    """Forget all history of a home that no supervisor holds; one sentence about it.

    Raises:
        AlreadyRunning: a supervisor holds it after all.
    """
    home.make()
    with home.taken(moment):
        store, journal = Store(home.state), Journal(home)
        known, _ = store.load()
        backup = store.back_up(f"state.before-reset-{int(moment.wall)}.json")
        queued = config.settings.queue()
        memory = known or history.first_day(moment, config.ladder, queued)
        memory = history.forgotten(memory, moment, config.ladder, queued)
        kept = f"; the old state is in {backup.name}" if backup else ""
        memory = history.write(
            # Nothing trains: a reboot from here on is no crash.
            msgspec.structs.replace(
                memory, clean_stop=True, decisions=max(memory.decisions, journal.last)
            ),
            "mode.changed" if known and known.goal.mode != memory.goal.mode else "wish.granted",
            rule="wish",
            reason=f"reset while the supervisor was down{kept}",
            evidence={"kind": "reset"},
            old=known.goal.mode if known else None,
            new=memory.goal.mode,
        )
        store.save(memory)
        journal.deliver(memory.outbox)
        inbox = Inbox(home.inbox)
        for wish in inbox.pending()[0]:  # asked for before the reset: forgotten with the rest
            inbox.remove(wish)
    return f"back to the first day in {memory.goal.mode}{kept}"


def _foreseen_refusal(
    home: Home, config: Config, moment: Moment, kind: WishKind, mode: str | None, by: str
) -> str | None:
    """Why the wish would be refused as things stand; None if it may be granted."""
    memory = present(home, config, moment)
    waiting, _ = Inbox(home.inbox).pending()
    asked = Wish(id="foreseen", kind=kind, mode=mode, by=by, asked_at=moment.wall)
    decision = None
    for wish in (*waiting, asked):
        facts = history.facts(memory, config.ladder, config.settings.policy, wish=wish)
        decision = policy.decide(facts)
        memory = history.enact(memory, decision)
    return decision.reason if decision is not None and decision.refused else None
