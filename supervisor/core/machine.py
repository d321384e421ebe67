"""The tables of the two state machines, as data, and the little mechanism over them.

The ladder of modes
    One state per mode. `climb` and `fall_back` move by one rung; a person's
    `pin` moves to any rung. Leaving an unknown mode is only possible to the
    safest one, and is no event of this machine: see `policy.unknown_mode`.

The life of a run
    queued    waits for a slot
    running   has a slot; its trainer is wanted and, as far as is known, lives
    stopping  its trainer has been asked to save and leave
    waiting   its trainer died; the next start comes after a backoff
    quarantined  it died at the same step again and again; others get its slot for a while
    blocked   its processes cannot be ended; nothing new starts beside them
    done      the target is reached
    failed    its spec can never work, and a person must mend it; or it was given up
    cancelled whoever asked for it wants it no more

Both are driven by the `transitions` library without callbacks: an exception in
an `after` callback would leave the new state standing, and `queued=True` would
answer True for a refused event. A machine here answers one question, "what
follows this state on this event?", and everything with a consequence is decided
outside.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any, NamedTuple

from transitions import Machine, MachineError

from supervisor.errors import SupervisorError


class Move(NamedTuple):
    """One row of a table: on `event`, `source` becomes `target`."""

    event: str
    source: str
    target: str


LIFE: tuple[Move, ...] = (
    Move("start", "queued", "running"),
    Move("start", "waiting", "running"),
    Move("finish", "running", "done"),
    Move("finish", "stopping", "done"),
    Move("refuse", "running", "failed"),
    Move("refuse", "stopping", "failed"),
    Move("stop", "running", "stopping"),
    Move("leave", "stopping", "queued"),
    Move("die", "running", "waiting"),
    Move("die", "stopping", "waiting"),
    Move("quarantine", "running", "quarantined"),
    Move("quarantine", "stopping", "quarantined"),
    Move("retry", "quarantined", "queued"),
    Move("jam", "stopping", "blocked"),
    Move("jam", "queued", "blocked"),
    Move("jam", "waiting", "blocked"),
    Move("jam", "quarantined", "blocked"),
    # Freed again, these are started once more, and end at once as they had ended.
    Move("jam", "done", "blocked"),
    Move("jam", "failed", "blocked"),
    Move("jam", "cancelled", "blocked"),
    Move("clear", "blocked", "queued"),
    # The machine went down, or the start never happened: nobody's fault.
    Move("lose", "running", "queued"),
    Move("lose", "stopping", "queued"),
    Move("lose", "waiting", "queued"),
    # Its retries are used up, or its time; or whoever asked for it wants it no more.
    *(
        Move(event, source, target)
        for event, target in (("give_up", "failed"), ("cancel", "cancelled"))
        for source in ("queued", "running", "stopping", "waiting", "quarantined")
    ),
    # The settings changed: what could never work may work now.
    Move("mend", "failed", "queued"),
    Move("mend", "quarantined", "queued"),
    Move("mend", "cancelled", "queued"),
    Move("extend", "done", "queued"),
)


def ladder_moves(names: tuple[str, ...]) -> tuple[Move, ...]:
    """The table of a ladder, given the names of its modes, safest first."""
    rungs = list(itertools.pairwise(names))
    return (
        *(Move("climb", lower, upper) for lower, upper in rungs),
        *(Move("fall_back", upper, lower) for lower, upper in rungs),
        *(Move(f"pin_{target}", source, target) for source in names for target in names),
    )


class IllegalMove(SupervisorError):
    """An event that the table does not allow in this state: a bug, never bad luck."""

    def __init__(self, event: str, state: str) -> None:
        super().__init__(f"{event!r} is not possible in state {state!r}")


class StateMachine:
    """A table of moves that answers what follows what."""

    def __init__(self, moves: tuple[Move, ...], states: tuple[str, ...] = ()) -> None:
        self.moves = moves
        self.states = states or tuple(dict.fromkeys(s for move in moves for s in move[1:]))
        self._machine = Machine(
            model=None,
            states=list(self.states),
            transitions=[
                {"trigger": move.event, "source": move.source, "dest": move.target}
                for move in moves
            ],
            initial=self.states[0],
            auto_transitions=False,
            queued=False,
        )

    def after(self, state: str, event: str) -> str:
        """The state that follows `state` on `event`.

        Raises:
            IllegalMove: the table has no such row, or no such state. The library
                itself would take an unknown initial state for a dead end in silence.
        """
        if state not in self.states:
            raise IllegalMove(event, state)
        cursor = _Cursor()
        self._machine.add_model(cursor, initial=state)
        try:
            cursor.trigger(event)
        except (MachineError, AttributeError) as error:
            raise IllegalMove(event, state) from error
        finally:
            self._machine.remove_model(cursor)
        return str(cursor.state)

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram, for the documentation."""
        arrows: dict[tuple[str, str], list[str]] = {}
        for move in self.moves:
            if move.source != move.target:
                arrows.setdefault((move.source, move.target), []).append(move.event)
        lines = ["stateDiagram-v2", f"    [*] --> {self.states[0]}"]
        lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in arrows.items()]
        return "\n".join(lines)


class _Cursor:
    """The model that the library moves; it gains `state` and `trigger` from `add_model`."""

    state: Any
    trigger: Any


RUN_LIFE = StateMachine(LIFE)
"""the life of every run"""


def mode_after(ladder: tuple[str, ...], mode: str, event: str) -> str:
    """The mode that follows `mode` on `event`: the table of `ladder_moves`, asked.

    Raises:
        IllegalMove: there is no such rung.
    """
    return _ladder_machine(ladder).after(mode, event)


@lru_cache(maxsize=8)
def _ladder_machine(ladder: tuple[str, ...]) -> StateMachine:
    """Building one takes far longer than asking it, and a simulation asks often."""
    return StateMachine(ladder_moves(ladder), ladder)
