"""Bringing everything to rest from outside: the supervisor, or what one left behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Collection

import msgspec

from state.records import Asked, Memory, Run
from state.store import Store
from supervisor.core import history, queue
from supervisor.core.moments import Moment
from supervisor.core.reconcile import Kill, Stop, Thaw, grace_s
from supervisor.core.recovery import Observation, RecoveryLimits
from supervisor.core.seen import Machine, Rules, Seen
from supervisor.core.turn import turn
from supervisor.errors import SupervisorError
from supervisor.host.clock import Clock, pause
from supervisor.host.home import Holder, Home
from supervisor.journal import Journal
from supervisor.runners.local import LocalRunner

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


def stop(home: Home, clock: Clock, rules: Rules) -> str:
    """Save and stop every run of `home`, and its supervisor; one sentence about it.

    Args:
        home: of which.
        clock: tells the time.
        rules: what is in force, as far as it can be read.

    Raises:
        KeptBySystemd: it would be started again.
        Unproven: it cannot be found.
        StillStopping: something still lives; it goes on stopping.
    """
    holder = home.holder()
    limits = rules.settings.recovery
    begun = clock.read()
    patience_s = _patience_s(_observations(home, begun), limits)
    if holder is not None and holder.pid:
        if holder.stop_command:
            raise KeptBySystemd(holder.stop_command)
        _ask(home, holder, patience_s + limits.kill_s + PATIENCE_S)
    left = _end_left(home, clock, rules, patience_s)
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


def _end_left(home: Home, clock: Clock, rules: Rules, patience_s: float) -> int:
    """Save and stop what lives of any run while no supervisor does; how many runs that were."""
    if not home.path.is_dir():
        return 0
    begun = clock.read()
    with home.taken(begun):
        store, journal = Store(home.state), Journal(home)
        known, _ = store.load()
        memory = known or history.first_day(begun, rules.ladder)
        runner = LocalRunner(home.runs, begun.boot_id)
        # Also what the memory has lost: its main process is in its heartbeat.
        lost = runner.look(_alive_perhaps(memory)).keys() - {run.id for run in memory.runs}
        memory = msgspec.structs.replace(
            memory,
            runs=(*memory.runs, *(_lost(run_id) for run_id in sorted(lost))),
            decisions=max(memory.decisions, journal.last),
        )
        wait_s = patience_s + rules.settings.recovery.kill_s
        seen = _look(memory, runner, clock, rules)
        left = living = _living(seen)
        while living:
            decided = turn(memory, seen)
            memory = decided.memory
            for action in decided.actions:
                match action:
                    case Stop(run=run, dump=dump):
                        runner.stop(run, dump=dump)
                    case Kill(run=run):
                        runner.kill(run)
                    case Thaw(run=run):
                        runner.thaw(run)
            if seen.moment.monotonic_s - begun.monotonic_s > wait_s:
                raise StillStopping(", ".join(sorted(living)))
            pause(LOOK_S)
            seen = _look(memory, runner, clock, rules)
            living = _living(seen)
        if left and known is not None:
            memory = turn(memory, seen).memory
            store.save(memory)
            journal.deliver(memory.outbox)
        return len(left)


def _look(memory: Memory, runner: LocalRunner, clock: Clock, rules: Rules) -> Seen:
    return Seen(
        moment=clock.read(),
        rules=rules,
        machine=Machine(cores=1, parts={}),
        observations=runner.look(_alive_perhaps(memory)),
        leaving="stop",
    )


def _alive_perhaps(memory: Memory) -> list[Run]:
    """The runs of which something may live; of any other the look finds what does."""
    return [run for run in memory.runs if run.status not in queue.AT_REST]


def _living(seen: Seen) -> set[str]:
    """The runs of which something lives."""
    observations = (seen.observations or {}).items()
    return {run for run, observed in observations if observed.process or observed.leftovers}


def _lost(run_id: str) -> Run:
    """A run of which nothing but its folder is left."""
    return Run(asked=Asked(id=run_id, trainer="", name=run_id, seed=0), withdrawn=True)


def _observations(home: Home, now: Moment) -> Collection[Observation]:
    """What lives of any run of the home, known or not."""
    if not home.runs.is_dir():
        return ()
    observations = LocalRunner(home.runs, now.boot_id).look(())
    return [
        observed for observed in observations.values() if observed.process or observed.leftovers
    ]


def _patience_s(observations: Collection[Observation], limits: RecoveryLimits) -> float:
    """The longest grace that any run of the home needs."""
    return max((grace_s(observed, limits) for observed in observations), default=limits.grace_s)
