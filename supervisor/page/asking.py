"""The buttons: what each asks for, what that will do, and what became of it.

A button asks nothing itself. It leads to a page that says what will happen; what is sent from there
goes into the inbox like a command, and the daemon answers it by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, get_args

from state.inbox import Inbox
from state.records import Rank
from supervisor.core.moments import span
from supervisor.errors import SupervisorError
from supervisor.host.clock import Clock
from supervisor.host.home import Home
from supervisor.page.look import Look
from supervisor.page.queue import Jobs
from supervisor.report import RunReport
from trainers.contract import NAME

BY = "the page"
"""who asks, as the log has it"""
HOURS = ("1", "2", "4", "8", "24")
"""for which quiet hours may be lifted by a button"""
CLASSES: tuple[Rank, ...] = get_args(Rank)
"""of a job"""
LIVES = ("running", "starting", "stopping")


class Unaskable(SupervisorError):
    """Nothing of that kind can be asked, or not of that."""


class Asked(NamedTuple):
    """What a page asks a person before anything is done."""

    kind: str
    title: str
    consequence: str
    """what will happen, in a sentence"""
    fields: dict[str, str]
    """what goes with it"""


class Answered(NamedTuple):
    """What became of it."""

    sentence: str
    state: str
    """`granted`, `refused` or `waits`"""
    line: int | None = None
    """of the decision log, which tells it"""


class Asking:
    """What may be asked by buttons; its methods may block.

    Args:
        home: of the daemon that is asked.
        clock: of this machine.
        jobs: whoever takes jobs in; None: nobody does.
    """

    def __init__(self, home: Home, clock: Clock, jobs: Jobs | None) -> None:
        self._home, self._clock, self._jobs = home, clock, jobs
        self._inbox = Inbox(home.inbox)

    def asked(self, kind: str, fields: Mapping[str, str], look: Look) -> Asked:
        """What will happen, before it is asked for.

        Raises:
            Unaskable: there is no such button, or it goes without something, or with too much.
        """
        found = KINDS.get(kind)
        if found is None or (kind in OF_JOBS and self._jobs is None):
            raise Unaskable(f"there is no button {kind[:40]!r}")
        given = {name: fields.get(name, "") for name in found.fields}
        for name, value in given.items():
            if value not in found.fields[name](look):
                raise Unaskable(f"{kind}: {name} is {value[:80]!r}, of which nobody knows here")
        title, consequence = found.says(look, given)
        return Asked(kind, title, consequence, given)

    def put(self, asked: Asked) -> str | Answered:
        """Ask for it; the id of the request, or what became of it at once.

        Raises:
            OSError: the inbox cannot be written to.
            SupervisorError: the job store does not serve.
        """
        if asked.kind in OF_JOBS and self._jobs is not None:
            job = asked.fields["job"]
            if asked.kind == "cancel":
                return Answered(self._jobs.cancel(job), "granted")
            rank = next(one for one in CLASSES if one == asked.fields["priority"])
            return Answered(self._jobs.prioritise(job, rank), "granted")
        more: dict[str, str | float] = dict(asked.fields)
        if "hours" in more:
            more = {"for_s": float(more["hours"]) * 3600}
        return self._inbox.put(asked.kind, by=BY, at=self._clock.read().wall, **more).id

    def answered(self, request: str) -> Answered | None:
        """What became of a request; None: there is none of that id, or it was forgotten."""
        # In this order: who has gone since may have answered before.
        lives = self._home.holder() is not None
        waits = NAME.fullmatch(request) and (self._home.inbox / f"{request}.json").exists()
        answer = self._inbox.answers.read(request)
        if answer is not None:
            state = "refused" if answer.refused else "granted"
            told = f"{answer.mode}: {answer.reason}" if answer.mode else answer.reason
            return Answered(told if state == "granted" else answer.reason, state, answer.line)
        if not waits:
            return None
        if not lives:
            return Answered("the supervisor is not running; it waits for the next start", "waits")
        return Answered("the supervisor has not answered yet", "waits")


class _Kind(NamedTuple):
    says: Callable[[Look, Mapping[str, str]], tuple[str, str]]
    fields: Mapping[str, Callable[[Look], tuple[str, ...]]] = {}
    """name of what goes with it: which values are known"""


def _saves(look: Look) -> str:
    """What it takes to save what trains."""
    living = sum(run.status in LIVES for run in look.report.runs)
    if not living:
        return "nothing trains at this moment"
    runs = "1 run" if living == 1 else f"{living} runs"
    stop_s = look.goodput.stop.mean_s
    takes = "" if stop_s is None else f", which takes about {span(stop_s)}"
    return f"{runs} will be saved and stopped{takes}"


def _named(look: Look, run: str) -> RunReport:
    return next(one for one in look.report.runs if one.id == run)


def _modes(look: Look) -> tuple[str, ...]:
    ledger = look.report.ledger
    return () if ledger is None else tuple(mode.mode for mode in ledger.modes)


def _runs(look: Look) -> tuple[str, ...]:
    return tuple(run.id for run in look.report.runs)


def _jobs(look: Look) -> tuple[str, ...]:
    return () if look.queue is None else tuple(job.id for job in look.queue.jobs)


def _pause(look: Look, _: Mapping[str, str]) -> tuple[str, str]:
    return "Pause", f"{_saves(look)}; nothing trains until somebody resumes"


def _resume(look: Look, _: Mapping[str, str]) -> tuple[str, str]:
    return (
        "Resume",
        f"training goes on in {look.report.mode}, unless the guard or quiet hours say no",
    )


def _scale(direction: str) -> Callable[[Look, Mapping[str, str]], tuple[str, str]]:
    def says(look: Look, _: Mapping[str, str]) -> tuple[str, str]:
        modes, here = _modes(look), look.report.mode
        place = modes.index(here) + (1 if direction == "up" else -1) if here in modes else -1
        if not 0 <= place < len(modes):
            return f"Scale {direction}", f"there is no mode {direction} from {here}: it is refused"
        return (
            f"Scale {direction} to {modes[place]}",
            f"{_saves(look)}, and goes on in {modes[place]} at once; the policy goes on from there",
        )

    return says


def _pin(look: Look, fields: Mapping[str, str]) -> tuple[str, str]:
    mode = fields["mode"]
    moves = (
        "it stays as it is" if mode == look.report.mode else f"{_saves(look)}, and goes on in it"
    )
    return f"Pin {mode}", f"{moves}; neither crashes nor stable hours change the mode until `unpin`"


def _unpin(_: Look, __: Mapping[str, str]) -> tuple[str, str]:
    return "Unpin", "the policy chooses the mode again"


def _retry(look: Look, fields: Mapping[str, str]) -> tuple[str, str]:
    name = _named(look, fields["run"]).called
    return f"Try {name} again", "its deaths are forgotten; it goes on from its newest checkpoint"


def _train_now(_: Look, fields: Mapping[str, str]) -> tuple[str, str]:
    hours = fields["hours"]
    consequence = f"for {hours} h quiet hours keep nothing from training, also where it disturbs"
    return f"Train now for {hours} h", f"{consequence}; the guard still may"


def _cancel(look: Look, fields: Mapping[str, str]) -> tuple[str, str]:
    job = _job_named(look, fields["job"])
    return f"Cancel {job}", "it ends for good; what it has learnt is saved first where it trains"


def _priority(look: Look, fields: Mapping[str, str]) -> tuple[str, str]:
    job = _job_named(look, fields["job"])
    return f"{job}: {fields['priority']}", "it takes its place in that class at once"


def _job_named(look: Look, job: str) -> str:
    known = () if look.queue is None else look.queue.jobs
    return next(f"{one.name} of {one.tenant}" for one in known if one.id == job)


KINDS: Mapping[str, _Kind] = {
    "pause": _Kind(_pause),
    "resume": _Kind(_resume),
    "scale_up": _Kind(_scale("up")),
    "scale_down": _Kind(_scale("down")),
    "pin": _Kind(_pin, {"mode": _modes}),
    "unpin": _Kind(_unpin),
    "retry": _Kind(_retry, {"run": _runs}),
    "train_now": _Kind(_train_now, {"hours": lambda _: HOURS}),
    "cancel": _Kind(_cancel, {"job": _jobs}),
    "priority": _Kind(_priority, {"job": _jobs, "priority": lambda _: CLASSES}),
}
"""every button"""
OF_JOBS = frozenset({"cancel", "priority"})
"""those that ask whoever takes jobs in, and not the daemon"""
