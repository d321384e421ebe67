"""Who gets the slots: the campaign in its order and what was submitted, class by class.

Runs elsewhere (`Asked.place`) load another machine: they take no slot here, and whatever is asked
about slots is not asked about them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from heapq import nsmallest
from typing import NamedTuple, get_args

import msgspec

from modes import Ladder, Mode
from state.records import Asked, Ends, Goal, Left, Memory, Origin, Rank, Run, Timeline
from supervisor.clock import span, stamp
from supervisor.core.machine import RUN_LIFE
from trainers.contract import Load, Spec

ENDED = ("done", "failed", "cancelled")
"""states that need no slot any more"""
WITHOUT_CLAIM = (*ENDED, "held", "blocked")
"""states in which a run asks for no slot"""
RANKS = get_args(Rank)
"""classes of priority, the highest first"""
AT_REST = ("queued", *ENDED)
"""states in which nothing of a run lives, as far as is known"""
LEAVING_MAX = 8
"""runs that have ended and are looked at once more together, before they leave the queue"""


class Sharing(NamedTuple):
    """How the campaign and what was submitted share the slots."""

    slots_min: int = 0
    """slots that the campaign has whatever is submitted"""
    campaign_min_s: float = 0.0
    """how long a living trainer of the campaign is safe from a higher class"""
    jobs_min_s: float = 600.0
    """the same of what was submitted"""

    def min_run_s(self, origin: Origin) -> float:
        """How long a living trainer keeps its slot, whoever comes."""
        return self.campaign_min_s if origin == "campaign" else self.jobs_min_s


def enrol(
    runs: tuple[Run, ...], campaign: tuple[Run, ...], left: Mapping[str, Left]
) -> tuple[Run, ...]:
    """The queue that follows `campaign`, keeping what is known of the runs in it.

    A run that left the campaign leaves the queue once nothing of it lives; its
    folder stays. A changed target takes effect at once, another option at the next
    start, and either gives a run that had ended another chance. What was submitted stays,
    behind the campaign, until it is withdrawn.

    Args:
        runs: the queue before.
        campaign: the runs that the settings name, as they stand on the first day.
        left: how those of them were that have left the queue since they had ended.
    """
    known = {run_id: one.run for run_id, one in left.items()} | {run.id: run for run in runs}
    wanted = {run.id for run in campaign}
    queue = [_renewed(known.get(run.id), run) for run in campaign]
    in_it = {run.id for run in runs}
    queue = [run for run in queue if run.id in in_it or run.status not in ENDED]
    others = [run for run in runs if run.id not in wanted]
    leaving = [
        run if run.withdrawn else run.but(withdrawn=True)
        for run in others
        if (run.asked.origin == "job" and run.withdrawn)
        or (run.asked.origin == "campaign" and lives_perhaps(run))
    ]
    submitted = [run for run in others if run.asked.origin == "job" and not run.withdrawn]
    return (*queue, *submitted, *leaving)


def lives_perhaps(run: Run) -> bool:
    """Whether something of it may live, as far as is known."""
    return run.status in ("running", "stopping", "blocked")


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
    first of all from the one that loses least by it, and from none that has just begun.

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
    if not mode.prefer and len(ranks) < 2 and _all_of_the_campaign(claims):
        return claims[: mode.slots]  # all alike, and a queue may be very long
    preferred = {name: place for place, name in enumerate(mode.prefer)}
    living = {run.id for run in claims if _trains_in(run, mode)}
    highest = min((RANKS.index(rank) for rank in ranks), default=0)
    with_jobs = {run.asked.rank for run in claims if run.id in living and _is_job(run)}

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
        return nsmallest(mode.slots, claims, key=claim)
    in_order = sorted(claims, key=claim)
    safe = [run for run in in_order if not claim(run)[0]][: mode.slots]
    rest = [run for run in in_order if claim(run)[0]]
    missing = min(sharing.slots_min, mode.slots) - sum(not _is_job(run) for run in safe)
    kept = [run for run in rest if not _is_job(run)][: max(0, missing)]
    chosen = [*safe, *kept, *(run for run in rest if run not in kept)][: mode.slots]
    return sorted(chosen, key=claim)


def _is_job(run: Run) -> bool:
    return run.asked.origin == "job"


def _all_of_the_campaign(claims: list[Run]) -> bool:
    return not claims or not any(map(_is_job, claims))


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


def submitted(runs: tuple[Run, ...]) -> list[Run]:
    """Those of the queue that do not come from the settings: they stand at its end."""
    found: list[Run] = []
    for run in reversed(runs):
        if _is_job(run):
            found.append(run)
        elif not run.withdrawn:
            break
    return found


def waiting(
    runs: tuple[Run, ...],
    goal: Goal,
    mode: Mode | None,
    now: Timeline,
    sharing: Sharing = Sharing(),  # noqa: B008 - it is frozen
) -> dict[str, str]:
    """Why each open run that does not train waits: id -> the reason, in words.

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
        run.id: _bars_itself(run, now) or _is_barred(run, goal, mode, holders, names, now)
        for run in runs
        if run.status not in (*ENDED, "running", "stopping")
    }


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
) -> str:
    """What else keeps it from training, or is about to let it."""
    left_s = None if run.retry_s is None else max(0.0, run.retry_s - now.now_s)
    if not goal.trains and (run.local or "person" in goal.pauses):
        return "nothing trains now: " + ("paused" if goal.paused else "the machine is left idle")
    if run.status == "held":
        again = "" if left_s is None else f": tried again in {span(left_s)}"
        return f"it died again and again at the same step{again}"
    if mode is None:
        return "which mode it may train in is not known, since the settings cannot be read"
    if run.local and run not in holders:
        return _passed_over(run, holders, names)
    if left_s:
        return f"after a death: it starts again in {span(left_s)}"
    what = "a slot" if run.local else f"a place, {run.asked.place}"
    return f"it has {what}, and starts as soon as nothing is in its way"


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
    places: list[int] = []
    ready: list[Run] = []
    where: dict[str, int] = {}
    leaving = 0
    for place, run in enumerate(runs):
        if run.status == "queued":
            if run.local and has_claim(run, at):
                ready.append(run)
                where[run.id] = place
            special = not run.local or run.ending or run.withdrawn or _is_over(run, at)
            if special or run.id in also:
                places.append(place)
        elif run.status not in ENDED or run.id in also:
            places.append(place)
        elif leaving < LEAVING_MAX:
            leaving += 1
            places.append(place)
    campaign = [run for run in ready if not _is_job(run)] if sharing.slots_min else []
    for mode in ladder:
        next_ones = _first(ready, mode, now, sharing, {})
        next_ones += _first(campaign, mode, now, sharing, {})
        places += [where[run.id] for run in next_ones]
    return tuple(sorted(set(places)))


def _is_over(run: Run, at: float) -> bool:
    """Whether its deadline has passed."""
    return run.asked.deadline_at is not None and run.asked.deadline_at <= at


def called(runs: Iterable[Run]) -> dict[str, str]:
    """What to call each run so that it is told from all others: by id, its name or the id again."""
    runs = tuple(runs)
    named = Counter(run.name for run in runs)
    return {run.id: run.name if named[run.name] == 1 else run.id for run in runs}


def label(run: Run) -> str:
    """What `campaign.runs` calls a run: its id without the trainer."""
    return run.id.removeprefix(f"{run.asked.trainer}-")


def wanted(runs: tuple[Run, ...], assigned: tuple[str, ...], mode: Mode) -> tuple[str, ...]:
    """The ids of the runs whose training is wanted here, in the order of the queue.

    Those that shall have a slot, and as many of the held and blocked ones as there are slots
    left: nobody wants them to wait.
    """
    waiting = [
        run.id
        for run in runs
        if run.status in ("held", "blocked") and run.local and not (run.withdrawn or run.ending)
    ]
    chosen = {*assigned, *waiting[: mode.slots - len(assigned)]}
    return tuple(run.id for run in runs if run.id in chosen)


def placed(runs: tuple[Run, ...], run: Run, campaign: tuple[Run, ...]) -> tuple[Run, ...]:
    """The queue with `run` in it, in its place: where the campaign names it, or at its end."""
    order = {one.id: place for place, one in enumerate(campaign)}
    behind = len(order)

    def turn(one: Run) -> tuple[int, bool]:
        return order.get(one.id, behind), one.withdrawn

    if any(one.id == run.id and one.withdrawn == run.withdrawn for one in runs):
        return tuple(run if one.id == run.id else one for one in runs)
    others = tuple(one for one in runs if one.id != run.id)
    ahead = sum(turn(one) <= turn(run) for one in others)
    return (*others[:ahead], run, *others[ahead:])


def retry(run: Run) -> Run | str:
    """The run as it is once a person wants it tried again, its deaths forgotten; or why not."""
    by_its_word = run.status == "done" and run.reason is not None  # and short of its target
    if run.status in _NO_RETRY and not by_its_word:
        return f"{run.name} {_NO_RETRY[run.status]}"
    event = _CHANCES.get(run.status)
    return run.but(
        status=RUN_LIFE.after(run.status, event) if event else run.status,
        reason=None,
        retry_s=None,
        ending=None,
        failures=0,
        own_failures=0,
        died_step=None,
        died_there=0,
        failed_loads=0,
        withheld=(),
        dies_everywhere=False,
    )


_CHANCES = {"failed": "mend", "held": "retry", "cancelled": "mend", "done": "extend"}
"""status: the event that gives a run another chance"""
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


def refusal(asked: Asked, ladder: Ladder) -> str | None:
    """Why no trainer could ever be asked for that; None: one can."""
    try:
        wanted = spec(Run(asked=asked), ladder.safest, cores=1, checkpoint_interval_s=1.0)
        msgspec.convert(msgspec.to_builtins(wanted), Spec)
    except (msgspec.ValidationError, ValueError) as error:
        return str(error)
    if asked.target is None or asked.target.unit not in ("steps", "episodes"):
        return "a target of steps or episodes is needed"
    return None


def all_ended(runs: Iterable[Run]) -> bool:
    """Nothing is left to train."""
    return all(run.status in ENDED for run in runs)


def work_left(runs: Iterable[Run], at: float) -> bool:
    """Whether anything is left to train on this machine, at that wall time."""
    return any(
        run.local and run.status not in ENDED and not run.asked.suspended and _is_due(run, at)
        for run in runs
    )


def ends(memory: Memory) -> Ends:
    """How everything has ended that has: in the queue and out of it."""
    counted = Counter(map(_end_of, memory.runs))
    here = Ends(**{kind: count for kind, count in counted.items() if kind})
    for gone in memory.ends.values():
        here = here.and_(gone)
    return here


def counted(known: Ends | None, run: Run, by: int) -> Ends:
    """The count with one such run more, or less."""
    kind, known = _end_of(run), known or Ends()
    if kind is None:
        return known
    return msgspec.structs.replace(known, **{kind: max(0, getattr(known, kind) + by)})


def _end_of(run: Run) -> str | None:
    """The field of `Ends` that counts a run."""
    if run.status not in ENDED or run.withdrawn:
        return None
    if run.status == "done":
        return "reached" if run.reason is None else "short"
    return run.status


def _renewed(known: Run | None, wanted: Run) -> Run:
    """The run of the campaign as it is once it is asked for in these words."""
    if known is None:
        return wanted
    if known.withdrawn:
        known = known.but(withdrawn=False)
    return amended(known, wanted.asked)


def amended(known: Run, asked: Asked) -> Run:
    """The run as it is once `asked` is what is asked for.

    Where its trainer is asked for something else, one that had ended gets another chance.
    """
    before = known.asked
    if before == asked:
        return known
    moved = before.target != asked.target
    known = known.but(asked=asked, stale=known.attempt.stale or moved)
    event = _CHANCES.get(known.status) if _task(before) != _task(asked) else None
    if event is None:
        return known
    event = "mend" if event == "retry" else event
    return known.but(
        status=RUN_LIFE.after(known.status, event),
        reason=None,
        died_there=0,
        own_failures=0,
        retry_s=None,
        ending=None,
    )


def _task(asked: Asked) -> tuple[object, ...]:
    """What a trainer hears of what is asked for."""
    return asked.trainer, asked.name, asked.seed, asked.target, asked.options
