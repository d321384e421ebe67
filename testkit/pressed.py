"""A real supervisor that is told what others do here, and at which of its effects to die.

`python -m testkit.pressed run` is `supervisor run`, but for this: each sample of the guard shows
what the orders say, and a blow falls just before or just after an effect of the supervisor, counted
from the sample, or from the start, at which the orders first asked for it. Effects are saves, log
lines, what is written of who stands still, and signals.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

ORDERS, DONE = "PRESSED_ORDERS", "PRESSED_DONE"
"""variables that name the files"""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be."""

    cpu_other: float = 0.0
    memory_other: float = 0.0
    blow: int = 0
    """its number; 0: none"""
    at: int = 0
    """the effect before or after which it falls, counted from 1"""
    starting: bool = False
    """it is meant for a supervisor that begins, and not for one that samples"""
    hits: Literal["supervisor", "trainers", "all"] = "supervisor"


class Blow(msgspec.Struct, frozen=True, kw_only=True):
    """One that has fallen."""

    number: int
    where: str
    """the effect"""


def read(path: Path) -> Orders:
    """The orders in force."""
    return msgspec.json.decode(path.read_bytes(), type=Orders)


def write(path: Path, orders: Orders) -> None:
    """Put orders in force."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(orders))
    fresh.replace(path)


def fallen(path: Path) -> Blow | None:
    """The blow that has fallen last."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Blow)
    except FileNotFoundError:
        return None


class Fate:
    """Counts effects, and strikes."""

    def __init__(self) -> None:
        self._orders, self._done = Path(os.environ[ORDERS]), Path(os.environ[DONE])
        self._armed: Orders | None = None
        self._left = 0
        self._last = 0
        orders = self.orders()
        if orders.starting:
            self._arm(orders)
        else:
            self._last = orders.blow

    def orders(self) -> Orders:
        return read(self._orders)

    def sample(self) -> Orders:
        """The orders, which may ask for a blow from now on."""
        orders = self.orders()
        if orders.blow != self._last and not orders.starting:
            self._arm(orders)
        return orders

    def _arm(self, orders: Orders) -> None:
        self._armed, self._left, self._last = orders, orders.at, orders.blow

    def around(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """The same act, with a moment before and a moment after it."""

        def watched(*words: Any, **named: Any) -> Any:
            what = f"{name} {_number(words)}".strip()
            self._passes(f"before {what}")
            came = act(*words, **named)
            self._passes(f"after {what}")
            return came

        return watched

    def _passes(self, where: str) -> None:
        if self._armed is None:
            return
        self._left -= 1
        if self._left > 0:
            return
        orders, self._armed = self._armed, None
        if orders.hits != "supervisor":
            _kill_trainers(Path(os.environ["SUPERVISOR_HOME"]) / "runs", whole=orders.hits == "all")
        fresh = self._done.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(Blow(number=orders.blow, where=where)))
        fresh.replace(self._done)
        if orders.hits != "trainers":
            os.kill(os.getpid(), signal.SIGKILL)


def _number(words: tuple[Any, ...]) -> str:
    """Which signal it is, where it is one."""
    return next((word.name for word in words if isinstance(word, signal.Signals)), "")


def _kill_trainers(runs: Path, *, whole: bool) -> None:
    """Kill the main processes, or everything that is marked."""
    from testkit.processes import mains, processes  # noqa: PLC0415 - not before our packages

    for one in processes(runs) if whole else mains(runs):
        os.kill(one.pid, signal.SIGKILL)


def main() -> int:
    """Be the supervisor."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from state.store import Store  # noqa: PLC0415 - found from here on only
    from supervisor import journal, sentry  # noqa: PLC0415 - as above
    from supervisor.cli import main as command  # noqa: PLC0415 - as above
    from supervisor.core.guard import Pressure  # noqa: PLC0415 - as above
    from supervisor.runners import local  # noqa: PLC0415 - as above

    fate = Fate()

    def pressure(*_: object) -> Pressure:
        orders = fate.sample()
        return Pressure(cpu_other=orders.cpu_other, memory_other=orders.memory_other)

    parts: tuple[tuple[Any, str, str], ...] = (
        (Store, "save", "the save"),
        (journal.Journal, "deliver", "the log"),
        (local, "_write", "stood.json"),
        (local, "_send", "signal"),
    )
    for whose, attribute, name in parts:
        setattr(whose, attribute, fate.around(name, getattr(whose, attribute)))
    sentry.pressure.pressure = pressure  # type: ignore[assignment]
    return command()


if __name__ == "__main__":
    sys.exit(main())
