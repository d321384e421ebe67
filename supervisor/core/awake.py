"""The first thought of a supervisor that has just come to life: what this boot is, and the past."""

from __future__ import annotations

import msgspec

from state.records import LEDGER_VERSION, Boot, BootNote, HomeId, Memory, Place
from supervisor.core import again, history, measure, queue, told
from supervisor.core.events import Event
from supervisor.core.moments import Moment
from supervisor.core.recovery import Observation
from supervisor.core.seen import Rules
from supervisor.core.turn import heard, heartbeats


class Awakening(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor finds that has just come to life."""

    moment: Moment
    rules: Rules
    memory: Memory | None
    """as it was saved; None: there is none"""
    damaged: tuple[str, ...] = ()
    """what was wrong with newer ones"""
    lines: int = 0
    """how many lines the log has"""
    notes: tuple[BootNote, ...] = ()
    """what earlier boots have said of themselves"""
    unreadable: str | None = None
    """why that cannot be read"""
    lax: str | None = None
    """what others could do in the home, until it was closed to them just now"""
    newer: str | None = None
    """why the settings in force are not kept"""
    dated: tuple[str, ...] = ()
    """what of them is written in an old form"""
    observations: dict[str, Observation] = {}
    """as in `Seen`"""
    place: Place | None = None
    """where the home lies"""
    kept: tuple[str, ...] = ()
    """names of the folders of runs, where there is no memory"""
    fresh_id: str = ""
    """a random id, for a home that needs one"""


def awake(found: Awakening) -> Memory:
    """The memory of a supervisor that has just come to life: this boot stands in it, once."""
    rules, moment, notes = found.rules, found.moment, found.notes
    known = found.memory or history.first_day(
        history.noted(notes[0]) if notes else moment, rules.ladder
    )
    known = again.found_again(known, rules, found.kept)
    # Lines may have reached the log of a supervisor whose state could not be saved.
    ahead = max(0, found.lines - known.decisions)
    memory = msgspec.structs.replace(known, decisions=known.decisions + ahead)
    if found.damaged:
        reason = "; ".join(found.damaged)
        memory = told.write(memory, Event.STATE_DAMAGED, rule="seal", reason=reason)
    if ahead:
        reason = f"the state is {ahead} lines older than the log: what these tell is forgotten"
        memory = told.write(memory, Event.STATE_LAGGED, rule="log", reason=reason)
    if found.lax:
        memory = told.write(memory, Event.HOME_CLOSED, rule="rights", reason=found.lax)
    memory = _with_our_ledger(_at_home(memory, found))
    said = heartbeats(found.observations)
    memory = measure.last_words(memory, said)
    memory = heard(memory, said, rules)
    # From there on nobody has seen anything run.
    memory = msgspec.structs.replace(memory, running=False)
    if found.newer is not None:
        memory = told.write(memory, Event.SETTINGS_UNKEPT, rule="version", reason=found.newer)
    for notice in found.dated:
        memory = told.write(memory, Event.SETTINGS_DATED, rule="settings", reason=notice)
    if found.unreadable:
        memory = told.write(memory, Event.BOOT_UNREADABLE, rule="notes", reason=found.unreadable)
    if found.memory is None:
        memory = _with_boot(memory, memory.boots[0], "is the first that is known")
    memory, missed = history.record_missed(memory, notes, rules.ladder, rules.limits)
    for boot in missed:
        memory = _with_boot(memory, boot, f"{_ended(boot)}; no supervisor came to life in it")
    memory, this_boot = history.record_boot(memory, moment, rules.ladder, rules.limits)
    if this_boot is not None:
        memory = history.starting(_with_boot(memory, this_boot, _ended(this_boot)))
    left = not (memory.resting and queue.all_ended(memory.runs))
    return told.write(
        memory,
        Event.SUPERVISOR_STARTED,
        rule="start",
        reason=f"going on in {memory.goal.mode}" if left else "every run has ended: resting",
        evidence={"down_s": round(memory.timeline.now_s - known.timeline.now_s, 3)},
    )


def _at_home(memory: Memory, found: Awakening) -> Memory:
    """The memory of a home that knows which one it is: what lies elsewhere now is another one."""
    known, place = memory.home, found.place
    if place is None or (known is not None and known.place == place):
        return memory
    memory = msgspec.structs.replace(memory, home=HomeId(id=found.fresh_id, place=place))
    if known is None:
        return memory
    what = {
        "another machine": known.place.machine_id != place.machine_id,
        "another disk": known.place.device != place.device,
        "another folder": known.place.inode != place.inode,
    }
    where = " and ".join(name for name, differs in what.items() if differs)
    reason = f"this home lies in {where} than before, as a copy does: it has a new id"
    return told.write(memory, Event.HOME_RENEWED, rule="place", reason=reason)


def _with_our_ledger(memory: Memory) -> Memory:
    """The memory with a ledger that is begun anew if this version cannot go on with it."""
    version = memory.ledger.version
    if version == LEDGER_VERSION:
        return memory
    found = f"the ledger has version {version}, this program keeps version {LEDGER_VERSION}"
    found = found if version else "the state holds no ledger that this program can read"
    reason = f"{found}: what the modes are worth is learnt anew"
    return told.write(history.relearn(memory), Event.LEDGER_BEGUN, rule="version", reason=reason)


def _with_boot(memory: Memory, boot: Boot, how: str) -> Memory:
    return told.write(
        memory,
        Event.BOOT_RECORDED,
        rule="boot",
        reason=f"boot {boot.seq} {how}",
        evidence={"boot": boot.seq, "crash": boot.crash, "mode": boot.mode},
    )


def _ended(boot: Boot) -> str:
    """How the boot before this one ended."""
    return "after a crash" if boot.crash else "as planned"
