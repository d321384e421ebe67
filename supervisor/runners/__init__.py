"""How a run runs: every file here is one way to turn a spec into a living trainer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from state.records import Process, Run
from supervisor.core.recovery import Observation
from supervisor.errors import SupervisorError
from trainers.contract import Spec


class StartFailed(SupervisorError):
    """A trainer could not be brought to life; the next look reports it as the run's exit."""


class Runner(Protocol):
    """A place where trainers live. Every call may be made twice without harm."""

    @property
    def exits(self) -> tuple[int, ...]:
        """Handles that become readable when a trainer ends."""
        ...

    def look(self, runs: Iterable[Run]) -> dict[str, Observation]:
        """What lives of each of `runs`, and of any other of which something lives."""
        ...

    def start(self, spec: Spec, *, nice: int, attempt: int, boot: int) -> Process:
        """Bring the trainer of `spec` to life.

        Args:
            spec: what it is asked to do.
            nice: its niceness.
            attempt: which one of the run this is, as its output says.
            boot: of the machine, which one of those that are known, likewise.

        Raises:
            StartFailed: it did not come to life.
        """
        ...

    def keep_warm(self, specs: Sequence[Spec], *, memory_max_mib: float) -> tuple[str, ...]:
        """Be ready to start such runs at once, if this place can.

        Args:
            specs: runs that may have to be started, the likeliest first; none: be ready for none.
            memory_max_mib: what each of the processes that are kept for that may take.

        Returns:
            What went wrong with it since the last call; trainers start all the same.
        """
        ...

    def stop(self, run_id: str, *, dump: bool) -> None:
        """Ask the run's trainer to save and leave; with `dump`, for its stacks before."""
        ...

    def kill(self, run_id: str) -> None:
        """End every process of the run at once."""
        ...

    def freeze(self, run_id: str) -> None:
        """Have every process of the run stand still where it is."""
        ...

    def thaw(self, run_id: str) -> None:
        """Have what stands still go on, also what another daemon has frozen."""
        ...

    def kept(self) -> tuple[str, ...]:
        """The ids of the runs of which anything is kept here, or was perhaps."""
        ...

    def remove(self, run_id: str) -> str | None:
        """Remove all that is kept of a run; why something of it is still there, in words."""
        ...
