"""Who gets the slots: a campaign in its order, filled up from the front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from heapq import nsmallest
from typing import get_args

import msgspec

from modes import Ladder, Mode
from state.records import Goal, Rank, Run
from supervisor.clock import span
from supervisor.core.machine import RUN_LIFE
from trainers.contract import Load, Spec

ENDED = ("done", "failed")
"""states that need no slot any more"""
WITHOUT_CLAIM = (*ENDED, "held", "blocked")
"""states in which a run asks for no slot"""
RANKS = get_args(Rank)
"""classes of priority, the highest first"""
AT_REST = ("queued", *ENDED)
"""states in which nothing of a run lives, as far as is known"""


def enrol(runs: tuple[Run, ...], campaign: tuple[Run, ...]) -> tuple[Run, ...]:
    """The queue that follows `campaign`, keeping what is known of the runs in it.

    A run that left the campaign leaves the queue once nothing of it lives; its
    folder stays. A changed target takes effect at once, another option at the next
    start, and either gives a run that had ended another chance.
    """
    known = {run.id: run for run in runs}
    wanted = {run.id for run in campaign}
    queue = tuple(_renewed(known.get(run.id), run) for run in campaign)
    leaving = tuple(
        run.but(withdrawn=True)
        for run in runs
        if run.id not in wanted and run.status in ("running", "stopping", "blocked")
    )
    return queue + leaving


def assign(runs: tuple[Run, ...], mode: Mode) -> tuple[str, ...]:
    """The ids of the runs that shall have the slots of `mode`, in the order of their claim.

    The higher rank comes first; within one those that the mode prefers, by id or by name, then the
    queue in its order. A run that has ended, is held, blocked or withdrawn has no claim.
    """
    claims = [run for run in runs if run.status not in WITHOUT_CLAIM and not run.withdrawn]
    return tuple(run.id for run in _first(claims, mode))


def waiting(
    runs: tuple[Run, ...], goal: Goal, mode: Mode | None, *, now_s: float
) -> dict[str, str]:
    """Why each open run that does not train waits: id -> the reason, in words.

    Args:
        runs: the queue.
        goal: what is wanted.
        mode: that of the goal; None: it is unknown at this moment.
        now_s: the present, on the timeline.
    """
    claims = () if mode is None else assign(runs, mode)
    holders = [run for run in runs if run.id in claims]
    names = called(runs)
    found: dict[str, str] = {}
    for run in runs:
        if run.status in (*ENDED, "running", "stopping"):
            continue
        left_s = None if run.retry_s is None else max(0.0, run.retry_s - now_s)
        if run.withdrawn:
            why = "nobody asks for it any more"
        elif run.status == "blocked":
            why = "processes of it cannot be ended"
        elif not goal.trains:
            why = "nothing trains now: " + ("paused" if goal.paused else "the machine is left idle")
        elif run.status == "held":
            why = "it died again and again at the same step"
            why += "" if left_s is None else f": tried again in {span(left_s)}"
        elif mode is None:
            why = "which mode it may train in is not known, since the settings cannot be read"
        elif run.id not in claims:
            why = _passed_over(run, holders, names)
        elif left_s:
            why = f"after a death: it starts again in {span(left_s)}"
        else:
            why = "it has a slot, and starts as soon as nothing is in its way"
        found[run.id] = why
    return found


def _passed_over(run: Run, holders: list[Run], names: Mapping[str, str]) -> str:
    """Why others have the slots."""
    who = ", ".join(names[holder.id] for holder in holders) or "nobody"
    higher = sum(RANKS.index(holder.asked.rank) < RANKS.index(run.asked.rank) for holder in holders)
    if not higher:
        return f"the slots are with {who}, whose turn is before it"
    return f"the slots are with {who}, of which {higher} rank above {run.asked.rank}"


def near(runs: tuple[Run, ...], ladder: Ladder, also: Collection[str] = ()) -> tuple[int, ...]:
    """The places of the runs that one look may be about; all others are as they were.

    Those of which something may live or is waited for, and of those at rest as many as could
    start now in any mode, whatever becomes of the others.

    Args:
        runs: the queue.
        ladder: the modes that may become the goal.
        also: ids of further runs.
    """
    queued = [run for run in runs if run.status == "queued"]
    next_ones = {run.id for mode in ladder for run in _first(queued, mode)}.union(also)
    return tuple(
        place for place, run in enumerate(runs) if run.status not in AT_REST or run.id in next_ones
    )


def _first(runs: list[Run], mode: Mode) -> list[Run]:
    """As many of `runs` as `mode` has slots, the strongest claims first."""
    if not mode.prefer and len({run.asked.rank for run in runs}) < 2:
        return runs[: mode.slots]  # all alike, and a queue may be very long
    order = {name: place for place, name in enumerate(mode.prefer)}

    def claim(run: Run) -> tuple[int, int]:
        """What is smaller goes first; equal claims go in the order of the queue."""
        place = order.get(run.id, order.get(run.name, len(order)))
        return RANKS.index(run.asked.rank), place

    return nsmallest(mode.slots, runs, key=claim)


def called(runs: Iterable[Run]) -> dict[str, str]:
    """What to call each run so that it is told from all others: by id, its name or the id again."""
    runs = tuple(runs)
    named = Counter(run.name for run in runs)
    return {run.id: run.name if named[run.name] == 1 else run.id for run in runs}


def label(run: Run) -> str:
    """What `campaign.runs` calls a run: its id without the trainer."""
    return run.id.removeprefix(f"{run.asked.trainer}-")


def wanted(runs: tuple[Run, ...], mode: Mode) -> tuple[str, ...]:
    """The ids of the runs whose training is wanted, in the order of the queue.

    Those that shall have a slot, and as many of the held and blocked ones as there are slots
    left: nobody wants them to wait.
    """
    assigned = assign(runs, mode)
    waiting = [run.id for run in runs if run.status in ("held", "blocked") and not run.withdrawn]
    chosen = {*assigned, *waiting[: mode.slots - len(assigned)]}
    return tuple(run.id for run in runs if run.id in chosen)


def retry(run: Run) -> Run | str:
    """The run as it is once a person wants it tried again, its deaths forgotten; or why not."""
    by_its_word = run.status == "done" and run.reason is not None  # and short of its target
    if run.status in _NO_RETRY and not by_its_word:
        return f"{run.name} {_NO_RETRY[run.status]}"
    event = {"failed": "mend", "held": "retry", "done": "extend"}.get(run.status)
    return run.but(
        status=RUN_LIFE.after(run.status, event) if event else run.status,
        reason=None,
        retry_s=None,
        failures=0,
        died_step=None,
        died_there=0,
        failed_loads=0,
        withheld=(),
        dies_everywhere=False,
    )


_NO_RETRY = {
    "done": "has reached its target; with a higher one it goes on",
    "running": "has not ended: there is nothing to try again",
    "stopping": "is being stopped, and starts again by itself",
    "queued": "waits for a slot already",
    "blocked": "has processes that cannot be ended; it goes on by itself once they are gone",
}


def load(mode: Mode, cores: int) -> Load:
    """What `mode` lays upon each trainer: slots times threads are the cores."""
    return Load(threads=max(1, cores // mode.slots), batch_size=mode.batch_size)


def loads(ladder: Ladder, cores: int) -> tuple[Load, ...]:
    """All loads that the modes lay upon trainers, each once."""
    return tuple(dict.fromkeys(load(mode, cores) for mode in ladder))


def spec(run: Run, mode: Mode, *, cores: int, checkpoint_interval_s: float) -> Spec:
    """What the trainer of `run` is asked to do in `mode`."""
    target = run.asked.target
    return Spec(
        run=run.id,
        trainer=run.asked.trainer,
        name=run.name,
        mode=mode.name,
        n_envs=mode.n_envs,
        batch_size=mode.batch_size,
        threads=load(mode, cores).threads,
        target_steps=target.count if target and target.unit == "steps" else None,
        target_episodes=target.count if target and target.unit == "episodes" else None,
        seed=run.asked.seed,
        checkpoint_interval_s=checkpoint_interval_s,
        options=run.asked.options,
        withheld=run.faults.withheld,
    )


def all_ended(runs: tuple[Run, ...]) -> bool:
    """Nothing is left to train."""
    return all(run.status in ENDED for run in runs)


def _renewed(known: Run | None, wanted: Run) -> Run:
    if known is None:
        return wanted
    if known.withdrawn:
        known = known.but(withdrawn=False)
    # How patient one is with a run changes nothing about what it does.
    before = msgspec.structs.replace(known.asked, silent_max_s=wanted.asked.silent_max_s)
    known = known.but(asked=before)
    if before == wanted.asked:
        return known
    moved = before.target != wanted.asked.target
    known = known.but(asked=wanted.asked, stale=known.attempt.stale or moved)
    event = {"failed": "mend", "held": "mend", "done": "extend"}.get(known.status)
    if event is None:
        return known
    return known.but(
        status=RUN_LIFE.after(known.status, event), reason=None, died_there=0, retry_s=None
    )
