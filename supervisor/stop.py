"""Bringing everything to rest from outside: the supervisor, or what one left behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal

import msgspec

from state.records import Memory, Run
from state.store import Store
from supervisor.clock import Clock, pause
from supervisor.core import history
from supervisor.core.reconcile import grace_s
from supervisor.core.recovery import Life, RecoveryLimits, ask_to_stop, judge
from supervisor.errors import SupervisorError
from supervisor.home import Holder, Home
from supervisor.journal import Journal
from supervisor.runners.local import LocalRunner, read_heartbeat
from trainers.contract import RunFolder

LOOK_S = 0.1
PATIENCE_S = 30.0
"""for the supervisor itself to leave, beyond what its trainers may take"""


class KeptBySystemd(SupervisorError):
    """A supervisor that systemd would start again at once."""

    exit_code = 2

    def __init__(self, stop_command: str) -> None:
        super().__init__(f"systemd keeps it running; stop it with: {stop_command}")


class Unproven(SupervisorError):
    """The home names a process that is not proven to be its supervisor; it is not touched."""

    def __init__(self, home: Home, pid: int, doubt: str) -> None:
        super().__init__(
            f"a supervisor holds {home.path}, and the process that is named there (pid {pid}) is "
            f"none: it {doubt}; it was not touched. Find the supervisor, and send it SIGTERM"
        )


class StillStopping(SupervisorError):
    """Not everything has ended in time."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} has not ended in time; look with `show-state`, or try again")


def stop(home: Home, clock: Clock, limits: RecoveryLimits) -> str:
    """Save and stop every run of `home`, and its supervisor; one sentence about it.

    Raises:
        KeptBySystemd: it would be started again.
        Unproven: it cannot be found.
        StillStopping: something still lives; it goes on stopping.
    """
    holder = home.holder()
    patience_s = _patience_s(home, limits)
    if holder is not None and holder.pid:
        if holder.stop_command:
            raise KeptBySystemd(holder.stop_command)
        _ask(home, holder, patience_s + limits.kill_s + PATIENCE_S)
    left = _end_left(home, clock, limits, patience_s)
    if holder is not None:
        return "every run is saved and stopped, and so is the supervisor"
    if not left:
        return "no supervisor was running, and it had left no run"
    runs = "1 run that it had left was" if left == 1 else f"{left} runs that it had left were"
    return f"no supervisor was running; {runs} stopped"


def _ask(home: Home, holder: Holder, wait_s: float) -> None:
    """Ask the supervisor to stop, and wait until it is gone.

    A home is its owner's, who can write any pid into it: nothing is signalled without proof.
    """
    try:
        handle = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return
    try:
        doubt = home.doubt(holder, handle)
        if doubt is not None and home.holder() is not None:
            raise Unproven(home, holder.pid, doubt)
        if doubt is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(wait_s * 1000):
            raise StillStopping(f"the supervisor (pid {holder.pid})")
    finally:
        os.close(handle)


def _end_left(home: Home, clock: Clock, limits: RecoveryLimits, patience_s: float) -> int:
    """Save and stop what lives of any run while no supervisor does; how many runs that were."""
    if not home.path.is_dir():
        return 0
    moment = clock.read()
    with home.taken(moment):
        store = Store(home.state)
        memory, _ = store.load()
        runner = LocalRunner(home.runs, moment.boot_id)
        runs = {run.id: run for run in memory.runs} if memory is not None else {}
        # Also what the memory has lost: its main process is in its heartbeat.
        for folder in home.runs.glob("*/"):
            lost = Run(id=folder.name, trainer="", name=folder.name, seed=0)
            runs.setdefault(folder.name, lost)

        ends: dict[str, Life] = {}

        def living() -> set[str]:
            lives = runner.look(runs.values())
            ends.update({run: life for run, life in lives.items() if life.exit is not None})
            return {run for run, life in lives.items() if life.process or life.leftovers}

        left = alive = living()
        begun_s = clock.read().monotonic_s
        for run in sorted(alive):
            runner.stop(run, dump=False)
        while alive := living():
            waited_s = clock.read().monotonic_s - begun_s
            if waited_s > patience_s + limits.kill_s:
                raise StillStopping(", ".join(sorted(alive)))
            # A worker without its main process has nothing to save.
            mains = {name for name in alive if runner.holds(name)}
            for run in sorted(alive if waited_s > patience_s else alive - mains):
                runner.kill(run)
            pause(LOOK_S)
        if left and memory is not None:
            memory = history.pass_time(memory, clock.read())
            _write_down(store, Journal(home), _ended(memory, ends, limits), sorted(left))
        return len(left)


def _ended(memory: Memory, ends: dict[str, Life], limits: RecoveryLimits) -> Memory:
    """The memory once its runs have ended in these ways, on request."""
    runs, now = [], memory.timeline
    for believed in memory.runs:
        run = believed
        if run.id in ends and run.status in ("running", "stopping"):
            if run.status == "running":
                run = ask_to_stop(run, now.now_s, "asked to stop")
            run, notes = judge(run, ends[run.id], now, limits)
            for note in notes:
                memory = history.write(
                    memory,
                    note.event,
                    rule=note.rule,
                    reason=note.reason,
                    run=note.run,
                    evidence=note.evidence or None,
                )
        runs.append(run)
    return msgspec.structs.replace(memory, runs=tuple(runs))


def _patience_s(home: Home, limits: RecoveryLimits) -> float:
    """The longest grace that any run of the home needs."""
    folders = home.runs.glob("*/")
    lives = [Life(heartbeat=read_heartbeat(RunFolder(folder))) for folder in folders]
    return max((grace_s(life, limits) for life in lives), default=limits.grace_s)


def _write_down(store: Store, journal: Journal, memory: Memory, left: list[str]) -> None:
    memory = msgspec.structs.replace(
        memory,
        clean_stop=True,
        running=False,
        wanted=(),
        decisions=max(memory.decisions, journal.last),
    )
    memory = history.write(
        memory, "slots.assigned", rule="stop", reason="to train now: nothing", runs=()
    )
    memory = history.write(
        memory,
        "supervisor.stopped",
        rule="stop",
        reason=f"no supervisor was running; saved and stopped what it had left: {', '.join(left)}",
    )
    store.save(memory)
    journal.deliver(memory.outbox)
