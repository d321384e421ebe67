"""Who gets the slots: class by class, the campaign in its order and then what was submitted.

Runs elsewhere (`Asked.place`) load another machine: they take no slot here, and whatever is asked
about slots is not asked about them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from heapq import nsmallest
from typing import NamedTuple, get_args

from modes import Ladder, Mode
from state.records import Goal, Memory, Origin, Rank, Run, Timeline
from supervisor.core import cards
from supervisor.core.cards import Cards
from supervisor.core.moments import span, stamp
from supervisor.core.pauses import OWNERS, nothing_trains
from supervisor.core.queue import ENDED, called

WITHOUT_CLAIM = (*ENDED, "quarantined", "blocked")
"""states in which a run asks for no slot"""
RANKS = get_args(Rank)
"""classes of priority, the highest first"""
LEAVING_MAX = 8
"""runs that have ended and are looked at once more together, before they leave the queue"""


class Sharing(NamedTuple):
    """How the campaign and what was submitted share the slots, and the GPUs."""

    slots_min: int = 0
    """slots that the campaign has whatever is submitted"""
    campaign_min_s: float = 0.0
    """how long a living trainer of the campaign is safe from a higher class"""
    jobs_min_s: float = 600.0
    """the same of what was submitted"""
    gpus: Cards | None = None
    """those of this home; None: there are none, or which there are is not known"""
    gpus_named: bool = False
    """the settings say which these are"""

    def min_run_s(self, origin: Origin) -> float:
        """How long a living trainer keeps its slot, whoever comes."""
        return self.campaign_min_s if origin == "campaign" else self.jobs_min_s


def on_machine(sharing: Sharing, memory: Memory) -> Sharing:
    """The same with the GPUs as the machine calls them, once it has told."""
    return sharing if memory.gpus is None else sharing._replace(gpus=memory.gpus)


def has_claim(run: Run, at: float) -> bool:
    """Whether a run asks for a slot, or for its place elsewhere, at that wall time."""
    asked = run.asked
    return (
        run.status not in WITHOUT_CLAIM
        and not run.withdrawn
        and run.ending is None
        and not asked.suspended
        and _is_due(run, at)
    )


def _is_due(run: Run, at: float) -> bool:
    return run.asked.not_before_at is None or run.asked.not_before_at <= at


def assign(
    runs: Iterable[Run],
    mode: Mode,
    now: Timeline,
    sharing: Sharing = Sharing(),  # noqa: B008 - it is frozen
    unsaved_s: Mapping[str, float] | None = None,
) -> tuple[str, ...]:
    """The ids of the runs that shall have the slots of `mode`, in the order of their claim.

    The higher class comes first, then within a class those that the mode prefers, by id or by
    name, then the queue in its order. Only a class takes a slot from a trainer of another run:
    first of all from the one that loses least by it, and from none that has just begun. Whoever
    needs more GPUs for itself than are left waits, and the next one has the slot.

    Args:
        runs: the queue, or all of it that may have a slot.
        mode: whose slots.
        now: the present.
        sharing: what the campaign and what was submitted leave to each other.
        unsaved_s: run id -> training of its living trainer that no checkpoint holds.
    """
    claims = [run for run in runs if run.local and has_claim(run, now.seen_at)]
    return tuple(run.id for run in _first(claims, mode, now, sharing, unsaved_s or {}))


def elsewhere(runs: Iterable[Run], at: float) -> tuple[str, ...]:
    """The ids of the runs that shall train elsewhere: all that may, at that wall time."""
    return tuple(run.id for run in runs if not run.local and has_claim(run, at))


def _first(
    claims: list[Run],
    mode: Mode,
    now: Timeline,
    sharing: Sharing,
    unsaved_s: Mapping[str, float],
) -> list[Run]:
    """As many of `claims` as `mode` has slots, the strongest first."""
    ranks = {run.asked.rank for run in claims}
    if not mode.prefer and len(ranks) < 2 and not any(run.is_job for run in claims):
        if mode.gpus:  # where cards have become fewer, who trains keeps its own
            claims = sorted(claims, key=lambda run: not _trains_in(run, mode))
        return cards.fitting(claims, mode, sharing.gpus)  # all alike: a queue may be very long
    preferred = {name: place for place, name in enumerate(mode.prefer)}
    living = {run.id for run in claims if _trains_in(run, mode)}
    highest = min((RANKS.index(rank) for rank in ranks), default=0)
    with_jobs = {run.asked.rank for run in claims if run.id in living and run.is_job}

    def claim(run: Run) -> tuple[bool, int, bool, float, int]:
        """What is smaller goes first; equal claims go in the order of the queue."""
        rank = RANKS.index(run.asked.rank)
        lives = run.id in living
        lived_s = now.now_s - (run.attempt.started_s or 0.0)
        # Where the slots of a class are not its queue's alone to order, who has one keeps it.
        keeps = lives and (rank > highest or run.asked.rank in with_jobs)
        return (
            not (lives and lived_s < sharing.min_run_s(run.asked.origin)),
            rank,
            not keeps,
            -unsaved_s.get(run.id, 0.0) if keeps else 0.0,
            preferred.get(run.id, preferred.get(run.name, len(preferred))),
        )

    if not sharing.slots_min:
        if mode.gpus is None and not any(run.asked.gpus for run in claims):
            return nsmallest(mode.slots, claims, key=claim)
        return cards.fitting(sorted(claims, key=claim), mode, sharing.gpus)
    in_order = sorted(claims, key=claim)
    safe = [run for run in in_order if not claim(run)[0]][: mode.slots]
    rest = [run for run in in_order if claim(run)[0]]
    missing = min(sharing.slots_min, mode.slots) - sum(not run.is_job for run in safe)
    kept = [run for run in rest if not run.is_job][: max(0, missing)]
    order = [*safe, *kept, *(run for run in rest if run not in kept)]
    return sorted(cards.fitting(order, mode, sharing.gpus), key=claim)


def _trains_in(run: Run, mode: Mode) -> bool:
    """Whether it has a slot of that mode already, as far as is known."""
    attempt = run.attempt
    return run.status == "running" and attempt.mode == mode.name and not attempt.stale


def appointment_in_s(
    runs: Iterable[Run], mode: Mode, now: Timeline, sharing: Sharing
) -> float | None:
    """Seconds until the clock alone may change who has a claim, or a slot; None: never."""
    moments: list[float] = []
    safe: list[tuple[int, float]] = []
    highest = len(RANKS)
    for run in runs:
        asked = run.asked
        if run.status in ENDED:
            continue
        if asked.not_before_at is not None and asked.not_before_at > now.seen_at:
            moments.append(asked.not_before_at - now.seen_at)
        if asked.deadline_at is not None and run.ending is None:
            moments.append(max(0.0, asked.deadline_at - now.seen_at))
        if not run.local or not has_claim(run, now.seen_at):
            continue
        rank = RANKS.index(asked.rank)
        if not _trains_in(run, mode):
            highest = min(highest, rank)
        elif run.attempt.started_s is not None:
            left_s = run.attempt.started_s + sharing.min_run_s(asked.origin) - now.now_s
            safe += [(rank, left_s)] if left_s > 0 else []
    moments += [left_s for rank, left_s in safe if rank > highest]
    return min(moments, default=None)


def waiting(
    runs: tuple[Run, ...],
    goal: Goal,
    mode: Mode | None,
    now: Timeline,
    sharing: Sharing = Sharing(),  # noqa: B008 - it is frozen
) -> dict[str, str]:
    """Why each open run that does not train waits or stands still: id -> the reason, in words.

    Args:
        runs: the queue.
        goal: what is wanted.
        mode: that of the goal; None: it is unknown at this moment.
        now: the present.
        sharing: what the campaign and what was submitted leave to each other.
    """
    claims = () if mode is None else assign(runs, mode, now, sharing)
    holders = [run for run in runs if run.id in claims]
    names = called(runs)
    return {
        run.id: _bars_itself(run, now)
        or _is_barred(run, goal, mode, holders, names, now, sharing.gpus)
        for run in runs
        if run.status not in (*ENDED, "running", "stopping")
    } | {
        run.id: f"it stands still by {OWNERS['guard']}"
        for run in runs
        if run.status == "running" and run.attempt.frozen_s is not None
    }


def why_not(run: Run, runs: Iterable[Run], assigned: Collection[str], goal: Goal) -> str:
    """Why a run that trains shall not any more, in words."""
    if run.ending is not None and run.reason:
        return run.reason
    if run.withdrawn or run.asked.suspended:
        return "whoever asked for it wants it to stop"
    if not goal.trains:
        return nothing_trains(goal)
    holders = [one for one in runs if one.id in assigned]
    return _passed_over(run, holders, called((*holders, run)))


def _bars_itself(run: Run, now: Timeline) -> str | None:
    """What about a run keeps it from training, whoever has the slots."""
    not_before_at = run.asked.not_before_at
    if run.withdrawn:
        return "nobody asks for it any more"
    if run.status == "blocked":
        return "processes of it cannot be ended"
    if run.ending is not None:
        return "it is about to end"
    if run.asked.suspended:
        return "whoever asked for it wants it to wait"
    if not_before_at is not None and not_before_at > now.seen_at:
        return f"it is asked for from {stamp(not_before_at)} on"
    return None


def _is_barred(
    run: Run,
    goal: Goal,
    mode: Mode | None,
    holders: list[Run],
    names: Mapping[str, str],
    now: Timeline,
    gpus: Cards | None,
) -> str:
    """What else keeps it from training, or is about to let it."""
    left_s = None if run.retry_s is None else max(0.0, run.retry_s - now.now_s)
    if not goal.trains and (run.local or "person" in goal.pauses):
        return nothing_trains(goal)
    if run.status == "quarantined":
        again = "" if left_s is None else f": tried again in {span(left_s)}"
        return f"it died again and again at the same step{again}"
    if mode is None:
        return "which mode it may train in is not known, since the settings cannot be read"
    if run.local and run not in holders:
        return _lacks_gpus(run, mode, holders, gpus) or _passed_over(run, holders, names)
    if left_s:
        return f"after a death: it starts again in {span(left_s)}"
    if goal.still and run.local:
        return f"it has a slot, and nothing starts now by {OWNERS['guard']}"
    what = "a slot" if run.local else f"a place, {run.asked.place}"
    return f"it has {what}, and starts as soon as nothing is in its way"


def _lacks_gpus(run: Run, mode: Mode, holders: list[Run], gpus: Cards | None) -> str | None:
    """Why it has no slot, where it is for want of a GPU; None: that is not why."""
    need = cards.needed(run, mode)
    never = need is not None and gpus is not None and need > len(gpus)
    if need == 0 or (len(holders) == mode.slots and not never):
        return None
    if need is None:
        return "no GPU is left to share"
    there = "which there are is not known" if gpus is None else f"this home has {len(gpus)}"
    held = "" if never or gpus is None else ", which others hold"
    return f"it needs {need} GPU{'s' * (need > 1)} for itself; {there}{held}"


def _passed_over(run: Run, holders: list[Run], names: Mapping[str, str]) -> str:
    """Why others have the slots."""
    who = ", ".join(names[holder.id] for holder in holders) or "nobody"
    higher = sum(RANKS.index(holder.asked.rank) < RANKS.index(run.asked.rank) for holder in holders)
    if not higher:
        return f"the slots are with {who}, whose turn is before it"
    return f"the slots are with {who}, of which {higher} rank above {run.asked.rank}"


def near(
    runs: tuple[Run, ...],
    ladder: Ladder,
    now: Timeline,
    sharing: Sharing = Sharing(),  # noqa: B008 - it is frozen
    also: Collection[str] = (),
) -> tuple[int, ...]:
    """The places of the runs that one look may be about; all others are as they were.

    Those of which something may live or is waited for, those that are about to leave the queue,
    and of those at rest as many as could start now in any mode, whatever becomes of the others.

    Args:
        runs: the queue.
        ladder: the modes that may become the goal.
        now: the present.
        sharing: what the campaign and what was submitted leave to each other.
        also: ids of further runs.
    """
    at = now.seen_at
    favourites = {name for mode in ladder for name in mode.prefer}
    most = max(mode.slots for mode in ladder)
    room: dict[tuple[Rank, int], int] = {}
    places: list[int] = []
    ready: list[Run] = []
    where: dict[str, int] = {}
    leaving = 0
    for place, run in enumerate(runs):  # thousands, at every look: what is cheap is asked first
        asked = run.asked
        if run.status != "queued":
            over = run.status in ENDED and asked.id not in also
            leaving += over
            if not over or leaving <= LEAVING_MAX:
                places.append(place)
            continue
        if asked.id in also or (asked.origin == "job" and _is_minded(run, at)):
            places.append(place)
        if asked.origin == "job" and not (run.local and has_claim(run, at)):
            continue
        kind = asked.rank, asked.gpus
        left = room.get(kind, most)
        if left or asked.name in favourites or asked.id in favourites:
            room[kind] = max(0, left - 1)
            ready.append(run)
            where[asked.id] = place
    if any(gpus for _, gpus in room) or any(mode.gpus for mode in ladder):
        # Whoever needs GPUs may be passed over, and another one of these have the slot.
        places += where.values()
    campaign = [run for run in ready if not run.is_job] if sharing.slots_min else []
    for mode in ladder:
        next_ones = _first(ready, mode, now, sharing, {})
        next_ones += _first(campaign, mode, now, sharing, {})
        places += [where[run.id] for run in next_ones]
    return tuple(sorted(set(places)))


def _is_minded(run: Run, at: float) -> bool:
    """Whether a job that waits has to be looked at, though it may have no slot."""
    return not run.local or run.ending is not None or run.withdrawn or _is_over(run, at)


def _is_over(run: Run, at: float) -> bool:
    """Whether its deadline has passed."""
    return run.asked.deadline_at is not None and run.asked.deadline_at <= at


def demanded(runs: tuple[Run, ...], assigned: tuple[str, ...], mode: Mode) -> tuple[str, ...]:
    """The ids of the runs whose training is demanded here, in the order of the queue.

    Those that shall have a slot, and as many of the quarantined and blocked ones as there are slots
    left: nobody wants them to wait.
    """
    waiting = [
        run.id
        for run in runs
        if run.status in ("quarantined", "blocked")
        and run.local
        and not (run.withdrawn or run.ending)
    ]
    chosen = {*assigned, *waiting[: mode.slots - len(assigned)]}
    return tuple(run.id for run in runs if run.id in chosen)


def work_left(runs: Iterable[Run], at: float) -> bool:
    """Whether anything is left to train on this machine, at that wall time."""
    return any(
        run.local and run.status not in ENDED and not run.asked.suspended and _is_due(run, at)
        for run in runs
    )
