"""When the campaign is due again, as a new generation, and which earlier ones are kept; pure.

The instant of a calendar is the earliest moment: a generation that is not done by then is finished
first, and when the new one really trains is for pauses and quiet hours to say. For one instant a
generation begins at most once, whatever is done to the clock; an instant that was slept through,
or passed while another generation was trained, makes one due as soon as there is a look.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from state.records import Generation, Generations, Memory, Run
from supervisor.core import queue, told
from supervisor.core.campaign import Campaign
from supervisor.core.events import Event
from supervisor.core.moments import stamp
from supervisor.core.seen import Removed, Rules

if TYPE_CHECKING:
    from supervisor.core.calendar import Calendar

FIRED_KEPT = 32
"""instants that are remembered one by one; none before the oldest of so many is due any more"""
SET_BACK_KEPT = 4
"""how many times that the clock was set back are remembered until they are made up for"""
BEGINS = {"scratch": "from scratch", "best": "with the best checkpoints of the one before"}
"""`again_from`, in words"""
NEXT_LOOK_S = 1.0
"""how soon to remove the next folder, or to begin what has waited for the last run"""
NAMES_MAX = 8
"""of one line"""
LATER = re.compile(r"(?P<run>.+)-g(?P<number>[1-9][0-9]{0,4})")
"""an id of a run of a later generation"""


def runs_of(campaign: tuple[Run, ...], known: Generations | None) -> tuple[Run, ...]:
    """The runs that the settings name, as they are asked for in the present generation.

    Those of the first one have the ids of old. A later one has runs of its own, in folders of their
    own, so that nothing of an earlier one is ever gone on with or written over.
    """
    if known is None or known.number == 1:
        return campaign
    return tuple(
        run.but(
            asked=msgspec.structs.replace(
                run.asked,
                id=id_in(run.id, known.number),
                generation=known.number,
                begin_from=id_in(run.id, known.earlier[-1].number) if known.best else None,
            )
        )
        for run in campaign
    )


def id_in(run_id: str, generation: int) -> str:
    """The id of a run of the settings in that generation."""
    return run_id if generation == 1 else f"{run_id}-g{generation}"


def scheduled(known: Generations | None, asked: Campaign, zone: str, at: float) -> Generations:
    """The generations with the instant at which the next one is due.

    Args:
        known: as they were.
        asked: the settings, with a calendar.
        zone: in which it is read where it names none.
        at: wall time, in seconds since 1970.
    """
    calendar = _calendar(asked.again or "", zone)
    known, said = known or Generations(), f"{calendar.cron} {calendar.zone.key}"
    if known.calendar != said:  # what another one has said is forgotten
        return _heeded(msgspec.structs.replace(known, calendar=said, set_back=()), calendar, at)
    passed = [one for one in known.set_back if one[0] <= at]
    if passed:
        # The clock is right again: it was set back for a while, in which no instant has passed.
        since_at, next_at = passed[0]
        ahead = known.set_back[: -len(passed)]
        known = msgspec.structs.replace(known, since_at=since_at, next_at=next_at, set_back=ahead)
        if next_at in known.fired_at:
            return _heeded(known, calendar, at)
    if known.since_at <= at:
        return known
    # The clock was set back. What has not fired yet is due at its time: one that was wrong for once
    # must not silence it for years.
    ahead = (*known.set_back, (known.since_at, known.next_at))[:SET_BACK_KEPT]
    return _heeded(msgspec.structs.replace(known, set_back=ahead), calendar, at)


def _heeded(known: Generations, calendar: Calendar, at: float) -> Generations:
    """The generations whose calendar is heeded up to a moment."""
    fired = known.fired_at
    after = max(at, fired[0]) if len(fired) == FIRED_KEPT else at
    next_at = calendar.after(after)
    while next_at is not None and next_at in fired:
        next_at = calendar.after(next_at)
    return msgspec.structs.replace(known, since_at=at, next_at=next_at)


@lru_cache(maxsize=4)
def _calendar(text: str, zone: str) -> Calendar:
    from supervisor.core import calendar  # noqa: PLC0415 - loads zones, and only where they matter

    return calendar.Calendar(text, zone)


def instants(asked: Campaign, zone: str, at: float, count: int) -> tuple[float, ...]:
    """The next instants of the calendar of the settings, after a moment."""
    found: list[float] = []
    after: float | None = at
    while asked.again is not None and after is not None and len(found) < count:
        after = _calendar(asked.again, zone).after(after)
        found += [] if after is None else [after]
    return tuple(found)


def in_words(at: float, asked: Campaign, zone: str) -> str:
    """A moment by the clock on the wall that the calendar goes by."""
    calendar = _calendar(asked.again or "", zone)
    try:
        local = dt.datetime.fromtimestamp(at, calendar.zone)
    except (OverflowError, ValueError, OSError):
        return "at no time that a calendar has"
    return f"{local:%a %Y-%m-%d %H:%M} {calendar.zone.key}"


def found_again(memory: Memory, rules: Rules, folders: Sequence[str]) -> Memory:
    """A memory of a first day in a home where folders tell of later generations.

    The newest of them is gone on with: a new one must not be taken for it.
    """
    number = _newest(rules, folders)
    if number == 1:
        return memory
    return msgspec.structs.replace(memory, generations=Generations(number=number))


def _newest(rules: Rules, ids: Iterable[str]) -> int:
    """The highest generation of the campaign that those ids tell of; 1: of none but the first.

    What the settings name is what a person calls so.
    """
    first = {run.id for run in rules.campaign}
    found = (LATER.fullmatch(run_id) for run_id in ids if run_id not in first)
    return max((int(one["number"]) for one in found if one and one["run"] in first), default=1)


def told_to_a_person(
    known: Generations, asked: Campaign, zone: str, memory: Memory, rules: Rules
) -> str:
    """Which generation this is, and when the next is due, in words."""
    this = f"generation {known.number}"
    if asked.again is None:
        return f"{this}; campaign.again is not set: it is the last"
    if known.next_at is None:
        return f"{this}; never due again"
    due, at = in_words(known.next_at, asked, zone), memory.timeline.seen_at
    if not is_due(known, at):
        return f"{this}; the next is due {due}"
    over = is_over(memory, rules)
    then = "it begins at the next look" if over else f"{this} is not done: it is finished first"
    return f"generation {known.number + 1} is due since {due}; {then}"


def is_due(known: Generations, at: float) -> bool:
    """Whether the next generation is due at that wall time."""
    return known.next_at is not None and known.next_at <= at


def is_over(memory: Memory, rules: Rules) -> bool:
    """Whether every run of the present generation has ended, and left the queue for good.

    What was submitted belongs to none.
    """
    follows = memory.campaign == rules.revision and bool(rules.campaign)
    return follows and all(run.is_job for run in memory.runs)


def heed(memory: Memory, rules: Rules, zone: str, folders: Sequence[str]) -> Memory:
    """The memory after a look at the calendar: perhaps with a new generation.

    Its queue follows the campaign afresh once it is enrolled.

    Args:
        memory: whose queue follows the campaign.
        rules: what is in force.
        zone: that of the machine.
        folders: names of those of runs, where a generation may begin.
    """
    asked, known, at = rules.settings.campaign, memory.generations, memory.timeline.seen_at
    if asked.again is None:
        return memory if known is None or known.calendar is None else _called_off(memory, known)
    now = scheduled(known, asked, zone, at)
    if now != known:
        fresh = known is None or known.calendar != now.calendar
        memory = msgspec.structs.replace(memory, generations=now)
        if fresh:
            memory = _told_when(memory, now, asked, zone)
    if not is_due(now, at):
        return memory
    if is_over(memory, rules):
        return _begun(memory, now, rules, zone, folders)
    if now.late_at == now.next_at:
        return memory
    memory = msgspec.structs.replace(
        memory, generations=msgspec.structs.replace(now, late_at=now.next_at)
    )
    left = [run for run in memory.runs if not run.is_job]
    return told.write(
        memory,
        Event.GENERATION_LATE,
        rule="again",
        reason=(
            f"generation {now.number + 1} is due since {in_words(now.next_at or 0.0, asked, zone)},"
            f" and generation {now.number} is not done: it is finished first; {_names(left)}"
        ),
        evidence={"generation": now.number + 1, "left": len(left)},
    )


def _called_off(memory: Memory, known: Generations) -> Memory:
    """Nobody wants the campaign again: the generation that there is stays the present one."""
    known = msgspec.structs.replace(known, calendar=None, next_at=None, late_at=None)
    memory = msgspec.structs.replace(memory, generations=known)
    reason = f"campaign.again is set no more: generation {known.number} is the last"
    return told.write(memory, Event.GENERATION_SCHEDULED, rule="again", reason=reason)


def _told_when(memory: Memory, now: Generations, asked: Campaign, zone: str) -> Memory:
    due = "never again" if now.next_at is None else in_words(now.next_at, asked, zone)
    return told.write(
        memory,
        Event.GENERATION_SCHEDULED,
        rule="again",
        reason=f"campaign.again = {asked.again!r}: generation {now.number + 1} is due {due}",
        evidence={"generation": now.number + 1, "calendar": now.calendar},
    )


def _begun(
    memory: Memory, now: Generations, rules: Rules, zone: str, folders: Sequence[str]
) -> Memory:
    """The memory in which the next generation is the present one."""
    asked, at = rules.settings.campaign, memory.timeline.seen_at
    # What bears such a name already is somebody else's: it is neither gone on with nor removed.
    taken = _newest(rules, (*folders, *(run.id for run in memory.runs)))
    if not (now.ended or memory.resting):  # what was submitted goes on
        memory = told.end_of_campaign(memory)
    instant = now.next_at or at
    came = queue.ends_of(memory, "campaign")
    over = Generation(
        number=now.number,
        runs=tuple(run.id for run in runs_of(rules.campaign, now)),
        ended_at=at,
        done=came.reached + came.short,
    )
    after = Generations(
        number=max(now.number, taken) + 1,
        best=asked.again_from == "best",
        due_at=instant,
        calendar=now.calendar,
        set_back=now.set_back,
        fired_at=tuple(sorted((*now.fired_at, instant)))[-FIRED_KEPT:],
        earlier=(*now.earlier, over),
    )
    after = _heeded(after, _calendar(asked.again or "", zone), at)
    # A queue that follows no campaign yet follows this one from the first day of its runs on.
    memory = msgspec.structs.replace(memory, generations=after, campaign=0)
    fresh = runs_of(rules.campaign, after)
    source = BEGINS["best" if after.best else "scratch"]
    next_one = ""
    if after.next_at is not None:
        next_one = f"; the next is due {in_words(after.next_at, asked, zone)}"
    return told.write(
        memory,
        Event.GENERATION_BEGUN,
        rule="again",
        reason=(
            f"generation {after.number}, due {in_words(instant, asked, zone)}, begins {source}: "
            f"{_names(fresh)}{next_one}"
        ),
        evidence={"generation": after.number, "due": stamp(instant), "runs": len(fresh)},
    )


def dropped(memory: Memory, asked: Campaign) -> Memory:
    """The memory in which earlier generations that are too many are to be removed.

    Those are whole generations, which have ended, the oldest first. The newest in which anything
    was done stays in any case: the present one has yet to show that it comes to an end.
    """
    known = memory.generations
    if known is None:
        return memory
    kept = [one for one in known.earlier if not one.dropped]
    surplus = kept[: max(0, len(kept) - asked.kept_generations)]
    last_done = max((one.number for one in kept if one.done), default=None)
    leaving = {one.number for one in surplus if one.number != last_done}
    if not leaving:
        return memory
    earlier = tuple(
        msgspec.structs.replace(one, dropped=True) if one.number in leaving else one
        for one in known.earlier
    )
    memory = _with_earlier(memory, earlier)
    for one in surplus:
        if one.number in leaving:
            memory = told.write(
                memory,
                Event.GENERATION_DROPPED,
                rule="kept_generations",
                reason=(
                    f"generation {one.number} makes room, since kept_generations is "
                    f"{asked.kept_generations}: the folders of its runs are removed, "
                    f"{_listed(one.runs)}"
                ),
                evidence={"generation": one.number, "runs": len(one.runs)},
            )
    return memory


def to_remove(memory: Memory) -> str | None:
    """The run whose folder is to be removed next; None: there is none.

    One at a time: the daemon has other things to look after, too.
    """
    known = memory.generations
    leaving = () if known is None else [one for one in known.earlier if one.dropped]
    # What cannot be removed must not keep what can.
    leaving = sorted(leaving, key=lambda one: one.stuck is not None)
    return leaving[0].runs[0] if leaving else None


def due_in_s(memory: Memory, rules: Rules) -> float:
    """Seconds until there is something to do about generations."""
    known = memory.generations
    if known is None:
        return math.inf
    if any(one.dropped and one.stuck is None for one in known.earlier):
        return NEXT_LOOK_S
    in_s = math.inf if known.next_at is None else known.next_at - memory.timeline.seen_at
    if in_s > 0:
        return in_s
    return NEXT_LOOK_S if is_over(memory, rules) else math.inf  # else it waits for a run


def removed(memory: Memory, outcome: Removed) -> Memory:
    """The memory after a folder was removed, or could not be."""
    known = memory.generations
    whose = (
        None
        if known is None
        else next((one for one in known.earlier if one.dropped and outcome.run in one.runs), None)
    )
    if known is None or whose is None:
        return memory
    rest = tuple(run for run in whose.runs if run != outcome.run)
    if outcome.refused is not None:  # it is tried again after the others
        after = msgspec.structs.replace(whose, runs=(*rest, outcome.run), stuck=outcome.refused)
        memory = _replaced(memory, known, whose, after)
        if whose.stuck is not None:
            return memory
        reason = (
            f"{outcome.run} of generation {whose.number} cannot be removed: {outcome.refused}; "
            "it is tried again"
        )
        evidence = {"generation": whose.number}
        return told.write(
            memory, Event.GENERATION_STUCK, rule="disk", reason=reason, run=outcome.run,
            evidence=evidence,
        )  # fmt: skip
    if rest:
        after = msgspec.structs.replace(whose, runs=rest)
        return _replaced(memory, known, whose, after)
    memory = _with_earlier(memory, tuple(one for one in known.earlier if one is not whose))
    reason = f"nothing is left of generation {whose.number} but its lines in the log"
    evidence = {"generation": whose.number}
    return told.write(
        memory, Event.GENERATION_REMOVED, rule="kept_generations", reason=reason, evidence=evidence
    )


def _replaced(memory: Memory, known: Generations, before: Generation, after: Generation) -> Memory:
    return _with_earlier(memory, tuple(after if one is before else one for one in known.earlier))


def _with_earlier(memory: Memory, earlier: tuple[Generation, ...]) -> Memory:
    known = memory.generations or Generations()
    known = msgspec.structs.replace(known, earlier=earlier)
    return msgspec.structs.replace(memory, generations=known)


def generation_of(run: Run, memory: Memory) -> int | None:
    """The earlier generation that a run belongs to; None: it is of the present one, or of none."""
    known = memory.generations
    present = 1 if known is None else known.number
    return None if run.is_job or run.asked.generation == present else run.asked.generation


def _names(runs: Sequence[Run]) -> str:
    return _listed(tuple(queue.called(runs).values()))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more
