"""The home: where everything lies that the supervisor keeps, and who holds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from supervisor.clock import Moment
from supervisor.errors import SupervisorError
from trainers import durable
from trainers.contract import RunFolder


class AlreadyRunning(SupervisorError):
    """Another supervisor holds this home."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, home: Path, pid: int | None) -> None:
        who = f" (pid {pid})" if pid else ""
        super().__init__(f"a supervisor{who} already runs on {home}; look with `show-state`")


class HomeUnusable(SupervisorError):
    """The home cannot be made or entered."""

    exit_code = 73  # EX_CANTCREAT

    def __init__(self, home: Path, error: OSError) -> None:
        super().__init__(
            f"the home {home} cannot be used: {error.strerror}; "
            "choose another with --home or SUPERVISOR_HOME"
        )


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the home: the content of `daemon.json`, true only while the lock is held."""

    pid: int
    boot_id: str
    started_at: float


class Home:
    """The paths below one home.

    Args:
        path: the home's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.state = self.path / "state.json"
        self.inbox = self.path / "inbox"
        self.runs = self.path / "runs"
        self.decisions = self.path / "decisions.jsonl"
        self.monitor = self.path / "monitor.jsonl"
        self.settings = self.path / "supervisor.toml"
        self._holder = self.path / "daemon.json"

    def run(self, run_id: str) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.runs / run_id)

    def make(self) -> None:
        """Create the home where it is missing.

        Raises:
            HomeUnusable: it cannot be created or written to.
        """
        try:
            for folder in (self.path, self.inbox, self.runs):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HomeUnusable(self.path, error) from error

    @contextmanager
    def taken(self, moment: Moment) -> Iterator[None]:
        """Be the one supervisor of this home.

        Raises:
            AlreadyRunning: another one lives.
        """
        try:
            handle = durable.hold(self.path)
        except BlockingIOError as error:
            holder = self.holder()
            raise AlreadyRunning(self.path, holder.pid if holder else None) from error
        me = Holder(pid=os.getpid(), boot_id=moment.boot_id, started_at=moment.wall)
        try:
            durable.write(self._holder, msgspec.json.encode(me), sync=False)
            yield
        finally:
            os.close(handle)

    def holder(self) -> Holder | None:
        """The supervisor that runs on this home now; None where none does."""
        try:
            os.close(durable.hold(self.path))
        except BlockingIOError:
            pass
        except OSError:
            return None
        else:
            return None
        try:
            return msgspec.json.decode(durable.read(self._holder), type=Holder)
        except (OSError, msgspec.MsgspecError):
            return Holder(pid=0, boot_id="", started_at=0.0)
