"""Values of the core with everything said that a test does not care about."""

import datetime as dt

import msgspec

from modes import Ladder, Mode
from state.records import Asked, Goal, ModeLedger, Process, Run, Timeline
from state.requests import request
from supervisor.core.facts import Facts, StabilityLimits, Terms
from supervisor.core.recovery import Exit, Observation, alive_s
from trainers.contract import Heartbeat, Spec, Target

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
TRAINERS = ("atari", "command", "direction", "drill", "neural", "sb3", "tabular")
"""those of ours, as the registry finds them"""
MIDNIGHT = dt.datetime(2026, 1, 5, tzinfo=dt.UTC).timestamp()
"""the wall time at which the days of these tests begin"""
RUNGS = ("light", "medium", "heavy", "extreme", "absurd")


def a_mode(name="light", rung=0, **fields):
    """A mode of two slots and the smallest load."""
    return Mode(**{"name": name, "rung": rung, "slots": 2, **fields})


def a_ladder(rungs=2):
    """A ladder with the given number of rungs, each with one slot more than the last."""
    return Ladder(
        tuple(a_mode(name, rung, slots=rung + 1) for rung, name in enumerate(RUNGS[:rungs]))
    )


def a_run(run_id="drill-a", **fields):
    """A queued run that wants a thousand steps."""
    name = run_id.partition("-")[2] or run_id
    given = {"trainer": "drill", "name": name, "seed": 1, "target": steps(1000), **fields}
    asked = {field: given.pop(field) for field in Asked.__struct_fields__ if field in given}
    return Run(asked=Asked(id=run_id, **asked)).but(**given)


def steps(count):
    """A target of so many steps."""
    return Target(unit="steps", count=count)


def asked(run, **fields):
    """The run once something else was asked of it."""
    return run.but(asked=msgspec.structs.replace(run.asked, **fields))


def a_process(pid=100, boot_id="boot-1"):
    """A process by its identity."""
    return Process(boot_id=boot_id, pid=pid, start_ticks=pid)


def a_heartbeat(**fields):
    """What a trainer says that is running, at step 10, moving at this moment."""
    given = {
        "run": "drill-a",
        "pid": 100,
        "mode": "light",
        "status": "running",
        "step": 10,
        "episodes": 1,
        "written_at": MIDNIGHT,
        "progress_at_s": 1000.0,
        "longest_gap_s": 1.0,
    }
    return Heartbeat(**{**given, **fields})


def an_observation(*, alive=True, heartbeat=None, leftovers=0, last_line=None, **ended):
    """One look at a run, at `a_time()`: alive, or gone with the exit that the keywords tell."""
    return Observation(
        process=a_process() if alive else None,
        exit=Exit(**ended) if ended else None,
        leftovers=leftovers,
        heartbeat=heartbeat,
        alive_s=alive_s(heartbeat, 1000.0),
        last_line=last_line,
    )


def a_time(now_s=1000.0, boot_id="boot-1", monotonic_s=None):
    """A place on the timeline, with the monotonic clock at the same number."""
    monotonic_s = now_s if monotonic_s is None else monotonic_s
    return Timeline(
        now_s=now_s,
        seen_at=MIDNIGHT,
        boot_id=boot_id,
        monotonic_s=monotonic_s,
        boottime_s=monotonic_s,
    )


def a_request(kind, mode=None, request_id="request-1"):
    """What ada asks."""
    for_s = 3600.0 if kind == "train_now" else None
    return request(kind, mode=mode, for_s=for_s, id=request_id, by="ada", asked_at=MIDNIGHT)


def a_mode_ledger(**fields):
    """A mode that has failed once and of which everything that fades is known."""
    return ModeLedger(**{"level": 1, "last_hours": 2.0, **fields})


def some_facts(mode="light", *, rungs=2, pinned=False, pauses=(), **fields):
    """Facts of a mode that was entered long ago, an hour and a bit into the timeline."""
    given = {
        "now_s": 10_000.0,
        "at": MIDNIGHT,
        "boot_id": "boot-1",
        "ladder": RUNGS[:rungs],
        "goal": Goal(mode=mode, pinned=pinned, pauses=pauses),
        "stable_s": 0.0,
        "crashes_s": (),
        "cool_downs": {},
        "limits": StabilityLimits(),
        "work_left": True,
    }
    return Facts(**{**given, **fields})


def a_spec():
    """What a drill is asked to do that counts for long."""
    return Spec(
        run="drill-a",
        trainer="drill",
        name="a",
        mode="light",
        threads=1,
        target=steps(1_000_000),
    )


def some_terms(*speeds, rungs=2, **limits):
    """A ladder whose modes promise these speeds, or each twice the one below, and limits."""
    speeds = speeds or tuple(2.0**rung for rung in range(rungs))
    return Terms(RUNGS[: len(speeds)], speeds, StabilityLimits(**limits))
