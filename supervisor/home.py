"""The home: where everything lies that the supervisor keeps, and who holds it."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from supervisor.clock import Moment, boot_id, pause
from supervisor.errors import SupervisorError
from trainers import durable
from trainers.contract import RunFolder

SYSTEM_HOME = Path("/var/lib/training-supervisor")
"""the home of the supervisor that the whole machine has"""
SERVICE = "training-supervisor.service"
"""our unit, wherever systemd starts us"""
UNITS = Path("/etc/systemd/system")
LOCK_ATTEMPTS = 3
LOCK_RETRY_S = 0.05


def default_home() -> Path:
    """The home that is meant where none is named.

    That of the machine's service where it is installed and may be looked at, else the user's.
    """
    if (UNITS / SERVICE).exists() and os.access(SYSTEM_HOME, os.R_OK | os.X_OK):
        return SYSTEM_HOME
    return own_home()


def own_home() -> Path:
    """The home of a supervisor that is this user's own."""
    return expanded(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "training-supervisor"


def expanded(named: str) -> Path:
    """A path that a person named, which may begin with `~` or `~somebody`.

    Raises:
        NobodysHome: there is no such user, or this one has no folder.
    """
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        raise NobodysHome(named) from error


class AlreadyRunning(SupervisorError):
    """Another supervisor holds this home."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, home: Path, pid: int | None) -> None:
        who = f" (pid {pid})" if pid else ""
        super().__init__(f"a supervisor{who} already runs on {home}; look with `show-state`")


class BadPath(SupervisorError):
    """A path that no log and no terminal can show."""

    exit_code = 2

    def __init__(self, path: Path) -> None:
        super().__init__(f"the path {str(path)!a} is not UTF-8; choose another with --home")


class NobodysHome(SupervisorError):
    """A path below the folder of a user whom the machine does not know."""

    exit_code = 2

    def __init__(self, named: str) -> None:
        super().__init__(
            f"{named!a}: nobody knows whose folder that is; say it in full, or set HOME"
        )


class HomeLost(SupervisorError):
    """The home was moved or removed under a running supervisor."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"the home {home} was moved or removed; every run was ended")


class NotYours(SupervisorError):
    """A home of another user: what we wrote there, that user's supervisor could not use."""

    exit_code = 73  # EX_CANTCREAT

    def __init__(self, home: Path, owner: int) -> None:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        super().__init__(
            f"the home {home} belongs to {name}: do this as that user "
            f"(sudo -u {name} ...), or choose another with --home"
        )


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
    stop_command: str | None = None
    """how to stop it, where it is a service that would be started again"""


class Home:
    """The paths below one home.

    Args:
        path: the home's folder.

    Raises:
        BadPath: it is not UTF-8.
        HomeUnusable: something is there that cannot be entered.
    """

    def __init__(self, path: Path) -> None:
        # One home has one path: trainers are found again by it.
        self.path = path.resolve()
        try:
            str(self.path).encode()
        except UnicodeEncodeError as error:
            raise BadPath(self.path) from error
        try:
            os.stat(f"{self.path}/.")  # noqa: PTH116 - Path drops the dot that only a folder has
        except FileNotFoundError:
            pass
        except OSError as error:
            raise HomeUnusable(self.path, error) from error
        self.state = self.path / "state.json"
        self.inbox = self.path / "inbox"
        self.boot_notes = self.path / "boots.jsonl"
        self.runs = self.path / "runs"
        self.decisions = self.path / "decisions.jsonl"
        self.monitor = self.path / "monitor.jsonl"
        self.settings = self.path / "supervisor.toml"
        self.last_settings = self.path / "settings.last.json"
        self.tuning = self.path / "tuning.json"
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
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in (self.inbox, self.runs):
                missing = not folder.is_dir()
                folder.mkdir(exist_ok=True)
                if missing:
                    self._give_to_owner(folder)
        except OSError as error:
            raise HomeUnusable(self.path, error) from error

    @contextmanager
    def taken(self, moment: Moment) -> Iterator[int]:
        """Be the one supervisor of this home; gives the handle of the lock.

        Raises:
            AlreadyRunning: another one lives.
            NotYours: the home is another user's.
        """
        handle = self._lock()
        me = Holder(
            pid=os.getpid(),
            boot_id=moment.boot_id,
            started_at=moment.wall,
            stop_command=_stop_command(),
        )
        try:
            owner = os.fstat(handle).st_uid
            if owner != os.geteuid():
                raise NotYours(self.path, owner)
            self._holder.unlink(missing_ok=True)  # it names another one, who may be a stranger now
            with contextlib.suppress(OSError):  # a full disk: the lock counts, not who holds it
                durable.write(self._holder, msgspec.json.encode(me), sync=False)
            yield handle
        finally:
            os.close(handle)

    def is_held_by(self, handle: int) -> bool:
        """Whether the lock that `taken` gave is still that of this home.

        It is not once somebody has moved or removed the home: another supervisor
        could then take what lies at its path now.
        """
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except OSError:
            return False

    def _give_to_owner(self, folder: Path) -> None:
        """Root may make a folder for a wish; the supervisor of that home must own it."""
        home = self.path.stat()
        if os.geteuid() == 0 and home.st_uid != 0:
            os.chown(folder, home.st_uid, home.st_gid)

    def _lock(self) -> int:
        # Whoever merely looks whether it is held holds it for a moment, too.
        for _ in range(LOCK_ATTEMPTS):
            try:
                return durable.hold(self.path)
            except BlockingIOError:
                pause(LOCK_RETRY_S)
        holder = self.holder()
        raise AlreadyRunning(self.path, holder.pid if holder else None)

    def holder(self) -> Holder | None:
        """The supervisor that runs on this home now; None where none does."""
        try:
            os.close(durable.hold(self.path, shared=True))
        except BlockingIOError:
            pass
        except OSError:
            return None
        else:
            return None
        unknown = Holder(pid=0, boot_id="", started_at=0.0)
        try:
            holder = msgspec.json.decode(durable.read(self._holder), type=Holder)
        except (OSError, msgspec.MsgspecError):
            return unknown
        return holder if holder.boot_id == boot_id() else unknown


def _stop_command() -> str | None:
    """How to stop the service that this process is, if it is one."""
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").split()
    except OSError:
        return None
    ours = next((group for group in groups if group.endswith(f"/{SERVICE}")), None)
    if ours is None:
        return None
    user = "--user " if "/user@" in ours else ""
    return f"systemctl {user}stop {SERVICE.removesuffix('.service')}"
