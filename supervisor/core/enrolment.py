"""Who is in the queue: whoever the campaign names, or was submitted, and has not left it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from state.records import Ends, Left, Memory, Run
from state.requests import AboutARun, Request
from supervisor.core import again, queue, slots
from supervisor.core.seen import Rules


def sought(memory: Memory, rules: Rules, requests: tuple[Request, ...] = ()) -> frozenset[str]:
    """Ids of runs in no queue that the next turn may be about: they may have left it."""
    named = [request.run for request in requests if isinstance(request, AboutARun)]
    if memory.campaign != rules.revision:
        named += [run.id for run in again.runs_of(rules.campaign, memory.generations)]
    return frozenset(named) - {run.id for run in memory.runs} if named else frozenset()


def watched(
    memory: Memory, rules: Rules, left: Mapping[str, Left] | None = None
) -> tuple[Run, ...]:
    """The runs that the next turn may be about, and that have to be looked at for it.

    Args:
        memory: as the turn before has left it.
        rules: what is in force.
        left: as in `Seen`.
    """
    memory = enrolled(memory, rules, left)
    runs = memory.runs
    sharing = slots.on_machine(rules.sharing, memory)
    places = slots.near(runs, rules.ladder, memory.timeline, sharing)
    return tuple(runs[place] for place in places)


def enrolled(memory: Memory, rules: Rules, left: Mapping[str, Left] | None) -> Memory:
    """The memory whose queue follows the campaign."""
    if memory.campaign == rules.revision:
        leaves = bool(memory.runs) and memory.runs[-1].withdrawn
        if not leaves:
            return memory
        # Those of this campaign that have ended have left before, and are not asked for anew.
        here = {run.id for run in memory.runs}
        asked = again.runs_of(rules.campaign, memory.generations)
        campaign = tuple(run for run in asked if run.id in here)
        return msgspec.structs.replace(memory, runs=queue.enrol(memory.runs, campaign, {}))
    known = {
        run_id: one
        for run_id, one in departed(memory, left).items()
        if one.epoch >= memory.epoch and not one.run.is_job
    }
    campaign = again.runs_of(rules.campaign, memory.generations)
    runs = queue.enrol(memory.runs, campaign, known)
    in_it = {run.id for run in runs}
    over = Ends()
    for run in campaign:
        if run.id not in in_it:
            over = queue.counted(over, known[run.id].run, +1)
    ends = memory.ends | {"campaign": over}
    return msgspec.structs.replace(memory, runs=runs, campaign=rules.revision, ends=ends)


def departed(memory: Memory, left: Mapping[str, Left] | None) -> dict[str, Left]:
    """The runs that have left the queue, as far as is known here."""
    return {**(left or {}), **{one.run.id: one for one in memory.left}}


def counted(memory: Memory, run: Run, by: int) -> Memory:
    """The memory that counts one run more, or less, among those that have left."""
    origin = run.asked.origin
    ends = memory.ends | {origin: queue.counted(memory.ends.get(origin), run, by)}
    return msgspec.structs.replace(memory, ends=ends)
