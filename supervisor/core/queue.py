"""What is asked for and in which order: the campaign of the settings, then what was submitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from modes import Ladder, Mode
from state.records import Asked, Ends, Left, Memory, Origin, Run
from supervisor.core.cards import Hand
from supervisor.core.machine import RUN_LIFE
from trainers.contract import START, Rewind, Share, Spec

ENDED = ("done", "failed", "cancelled")
"""states that need no slot any more"""
COUNT_MAX = 10**18 - 1
"""of a target: what the name of a checkpoint has room for"""
SILENT_MAX_S = 31_536_000.0
"""a year: no setting lets a trainer be silent for longer"""
AT_REST = ("queued", *ENDED)
"""states in which nothing of a run lives, as far as is known"""


def enrol(
    runs: tuple[Run, ...], campaign: tuple[Run, ...], left: Mapping[str, Left]
) -> tuple[Run, ...]:
    """The queue that follows `campaign`, keeping what is known of the runs in it.

    A run that left the campaign leaves the queue once nothing of it lives; its
    folder stays. Another target, option or seed takes effect at once: a trainer saves, and starts
    again under it. A run that had ended is given another chance by it. What was submitted stays,
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
        if (run.is_job and run.withdrawn) or (not run.is_job and lives_perhaps(run))
    ]
    submitted = [run for run in others if run.is_job and not run.withdrawn]
    return (*queue, *submitted, *leaving)


def lives_perhaps(run: Run) -> bool:
    """Whether something of it may live, as far as is known."""
    return run.status in ("running", "stopping", "blocked")


def submitted(runs: tuple[Run, ...]) -> list[Run]:
    """Those of the queue that do not come from the settings: they stand at its end."""
    found: list[Run] = []
    for run in reversed(runs):
        if run.is_job:
            found.append(run)
        elif not run.withdrawn:
            break
    return found


def called(runs: Iterable[Run]) -> dict[str, str]:
    """What to call each run so that it is told from all others: by id, its name or the id again."""
    runs = tuple(runs)
    named = Counter(run.name for run in runs)
    return {run.id: run.name if named[run.name] == 1 else run.id for run in runs}


def label(run: Run) -> str:
    """What `campaign.runs` calls a run: its id without the trainer, and without its generation."""
    known = run.id.removeprefix(f"{run.asked.trainer}-")
    return known.removesuffix(f"-g{run.asked.generation}") if run.asked.generation > 1 else known


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


def going_back(run: Run, to: Rewind) -> Run | str:
    """The run as it is once a person wants it to go on from that checkpoint; or why not.

    Whatever it was at, its deaths are forgotten: they were on another way. What lives is stopped,
    and has saved before anything of it is set beside.
    """
    if not run.local:
        return f"{run.name} trains elsewhere: only who trains it there knows its checkpoints"
    if run.withdrawn:
        return f"{run.name} is withdrawn"
    if run.ending is not None:
        return f"{run.name} is about to end: {run.reason}"
    event = _CHANCES.get(run.status)
    lives = lives_perhaps(run)
    run = _forgiven(run) if not lives else _forgiven(run).but(reason=run.reason)
    return run.but(
        status=RUN_LIFE.after(run.status, event) if event else run.status,
        rewind=to,
        stale=True,
        step=run.progress.step if lives else to.step,
        episodes=run.progress.episodes if lives or to.checkpoint != START else 0,
    )


def _forgiven(run: Run) -> Run:
    """The run, with nothing of its deaths known."""
    return run.but(
        reason=None,
        retry_s=None,
        ending=None,
        failed_by=None,
        failures=0,
        own_failures=0,
        died_step=None,
        died_there=0,
        failed_loads=0,
        withheld=(),
        dies_everywhere=False,
    )


def retry(run: Run) -> Run | str:
    """The run as it is once a person wants it tried again, its deaths forgotten; or why not."""
    by_its_word = run.status == "done" and run.reason is not None  # and short of its target
    if run.status in _NO_RETRY and not by_its_word:
        return f"{run.name} {_NO_RETRY[run.status]}"
    event = _CHANCES.get(run.status)
    return _forgiven(run).but(status=RUN_LIFE.after(run.status, event) if event else run.status)


_CHANCES = {"failed": "mend", "quarantined": "retry", "cancelled": "mend", "done": "extend"}
"""status: the event that gives a run another chance"""
_NO_RETRY = {
    "done": "has reached its target; with a higher one it goes on",
    "running": "has not ended: there is nothing to try again",
    "stopping": "is being stopped, and starts again by itself",
    "queued": "waits for a slot already",
    "blocked": "has processes that cannot be ended; it goes on by itself once they are gone",
}


def share(mode: Mode, trainer: str, cores: int) -> Share:
    """What `mode` gives each run of that trainer: unless it says otherwise, slots share the cores.

    Args:
        mode: the mode.
        trainer: its name.
        cores: of the processor.
    """
    threads = mode.threads or max(1, cores // mode.slots)
    return Share(threads=threads, load=mode.load_of(trainer))


def shares(ladder: Ladder, trainer: str, cores: int) -> tuple[Share, ...]:
    """All that the modes give runs of that trainer, each once."""
    found: list[Share] = []
    for mode in ladder:
        one = share(mode, trainer, cores)
        found += [] if one in found else [one]
    return tuple(found)


def spec(
    run: Run,
    mode: Mode,
    *,
    cores: int,
    checkpoint_interval_s: float,
    grace_s: float,
    hand: Hand = Hand(),  # noqa: B008 - it is frozen
) -> Spec:
    """What the trainer of `run` is asked to do in `mode`, on these GPUs."""
    given = share(mode, run.asked.trainer, cores)
    return Spec(
        run=run.id,
        trainer=run.asked.trainer,
        name=run.name,
        mode=mode.name,
        threads=given.threads,
        gpus=hand.cards,
        gpus_own=hand.own,
        load=given.load,
        target=run.asked.target,
        seed=run.asked.seed,
        checkpoint_interval_s=checkpoint_interval_s,
        grace_s=grace_s,
        options=run.asked.options,
        withheld=run.faults.withheld,
        rewind=run.rewind,
        begin_from=run.asked.begin_from,
    )


def refusal(asked: Asked, ladder: Ladder) -> str | None:
    """Why no trainer could ever be asked for that; None: one can."""
    try:
        run = Run(asked=asked)
        wanted = spec(run, ladder.safest, cores=1, checkpoint_interval_s=1.0, grace_s=1.0)
        msgspec.convert(msgspec.to_builtins(wanted), Spec)
    except (msgspec.ValidationError, ValueError) as error:
        return str(error)
    if asked.target is not None and asked.target.count > COUNT_MAX:
        return f"no target is beyond {COUNT_MAX}"
    if asked.silent_max_s is not None and not 0 < asked.silent_max_s <= SILENT_MAX_S:
        return f"silent_max_s is a number of seconds up to {SILENT_MAX_S:g}"
    return None


def all_ended(runs: Iterable[Run]) -> bool:
    """Nothing is left to train."""
    return all(run.status in ENDED for run in runs)


def ends(memory: Memory) -> Ends:
    """How everything has ended that has: in the queue and out of it."""
    counted = Counter(map(_end_of, memory.runs))
    here = Ends(**{kind: count for kind, count in counted.items() if kind})
    for gone in memory.ends.values():
        here = here.and_(gone)
    return here


def ends_of(memory: Memory, origin: Origin) -> Ends:
    """How everything of that origin has ended that has."""
    here = tuple(run for run in memory.runs if run.asked.origin == origin)
    known = {origin: memory.ends[origin]} if origin in memory.ends else {}
    return ends(msgspec.structs.replace(memory, runs=here, ends=known))


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
    other = task(before) != task(asked)
    known = known.but(asked=asked, stale=known.attempt.stale or other)
    event = _CHANCES.get(known.status) if other else None
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
        failed_by=None,
    )


def task(asked: Asked) -> tuple[object, ...]:
    """What a trainer hears of what is asked for."""
    return asked.trainer, asked.name, asked.seed, asked.target, asked.options
