"""The home: where everything lies that the supervisor keeps, and who holds it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from state.archive import ARCHIVE
from state.records import Place
from supervisor.core.moments import Moment
from supervisor.errors import SupervisorError
from supervisor.host.clock import boot_id, pause
from supervisor.host.owner import NotYours, owned
from supervisor.host.process import start_ticks
from trainers import durable
from trainers.contract import RunFolder
from trainers.durable import account_of

SYSTEM_HOME = Path("/var/lib/training-supervisor")
"""the home of the supervisor that the whole machine has"""
SERVICE = "training-supervisor.service"
"""our unit, wherever systemd starts us"""
UNITS = Path("/etc/systemd/system")
STOP_COMMANDS = tuple(
    f"systemctl {whose}stop {SERVICE.removesuffix('.service')}" for whose in ("", "--user ")
)
"""how to stop the service of the machine, and that of a user"""
LOCK_ATTEMPTS = 5
LOCK_RETRY_S = 0.05
HOLDER_MAX_BYTES = 65536
OUR_NAMES = (b"supervisor", b"supervisor.cli")
"""one of them stands in the command line of a supervisor"""
CLOSED = 0o700
"""mode of a home that we make"""
OTHERS, WRITABLE = 0o007, 0o022
"""rights of accounts that are neither owner nor group, and the right to write of both"""


def default_home() -> Path:
    """The home that is meant where none is named.

    That of the machine's service where it is installed and may be looked at, else the user's.
    """
    installed = (UNITS / SERVICE).exists()
    return SYSTEM_HOME if installed and not service_is_hidden() else own_home()


def service_is_hidden() -> bool:
    """Whether the machine has a service whose home this user may not look at."""
    return (UNITS / SERVICE).exists() and not os.access(SYSTEM_HOME, os.R_OK | os.X_OK)


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


MACHINE_ID = Path("/etc/machine-id")


def machine_id() -> str | None:
    """What tells this machine from every other; None: it has nothing of that kind."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return MACHINE_ID.read_text(encoding="ascii").strip() or None
    return None


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


class HomeUnusable(SupervisorError):
    """The home cannot be made or entered."""

    exit_code = 73  # EX_CANTCREAT

    def __init__(self, home: Path, error: OSError) -> None:
        there = os.fsdecode(error.filename or "")
        where = f"{there.removeprefix(f'{home}/')}: " if there.startswith(f"{home}/") else ""
        super().__init__(
            f"the home {home} cannot be used: {where}{error.strerror or error}; "
            "choose another with --home or SUPERVISOR_HOME"
        )


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the home: the content of `daemon.json`, true only while the lock is held."""

    pid: int
    boot_id: str
    start_ticks: int | None = None
    """when that process started, in clock ticks since the boot; None: an older version tells not"""
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
        self.answers = self.path / "answers"
        self.boot_notes = self.path / "boots.jsonl"
        self.runs = self.path / "runs"
        self.decisions = self.path / "decisions.jsonl"
        self.monitor = self.path / "monitor.jsonl"
        self.turns = self.path / "turns.jsonl"
        self.samples = self.path / "samples"
        self.settings = self.path / "supervisor.toml"
        self.last_settings = self.path / "settings.last.json"
        self.tuning = self.path / "tuning.json"
        self.told = self.path / "told.json"
        self.windows = self.path / "windows.json"
        self.usage = self.path / "usage"
        self.api = self.path / "api"
        self.dispatcher = self.path / "dispatcher"
        self._holder = self.path / "daemon.json"
        self._files = (
            *(
                self.state,
                self.state.with_name(ARCHIVE),
                self.decisions,
                self.monitor,
                self.boot_notes,
                self.settings,
            ),
            *(self.last_settings, self.tuning, self.told, self._holder, self.path / durable.LOCK),
        )

    @property
    def place(self) -> Place:
        """Where its folder lies on this machine.

        Raises:
            OSError: it is gone.
        """
        status = self.path.stat()
        return Place(machine_id=machine_id(), device=status.st_dev, inode=status.st_ino)

    def run(self, run_id: str) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.runs / run_id)

    def make(self) -> None:
        """Create the home where it is missing, for its owner alone.

        Raises:
            NotYours: it is another account's.
            HomeUnusable: it cannot be created or written to, or a folder lies in it where a
                file belongs.
        """
        try:
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):  # somebody else was as quick
                    self.path.mkdir(mode=CLOSED)
            self._check_owner()
            for folder in (self.inbox, self.answers, self.runs):
                # What else lies there is told by whoever misses the folder: all the rest goes on.
                with contextlib.suppress(durable.UnreadableFile):
                    durable.make_folder(folder)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise OSError(errno.EROFS, "it cannot be written to")
            for file in self._files:
                if file.is_dir() and not file.is_symlink():
                    raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        except OSError as error:
            raise HomeUnusable(self.path, error) from error

    def close_to_others(self) -> str | None:
        """Take from everybody but the owner what an older version or a lax umask has granted.

        Nobody else writes to anything here. Nobody else looks either, but for the group of a home
        that was closed to all others already, as that of the service is.

        Returns what was wrong, or None.

        Raises:
            HomeUnusable: it cannot be mended, for it is another account's.
        """
        try:
            mode = stat.S_IMODE(self.path.stat().st_mode)
            known = (self.inbox, self.answers, self.runs)
            places = [place for place in known if place.is_dir()]
            lax = [place for place in places if place.stat().st_mode & WRITABLE]
            if not lax and not mode & (OTHERS | WRITABLE):
                return None
            closed = CLOSED if mode & OTHERS else mode & ~WRITABLE
            self.path.chmod(closed)
            for place in places:
                _forbid_writing(place)
        except OSError as error:
            raise HomeUnusable(self.path, error) from error
        return (
            f"other accounts could look into the home or write to it (mode {mode:04o}): "
            f"it has mode {closed:04o} now, and nobody else can"
        )

    @contextmanager
    def taken(self, moment: Moment) -> Iterator[durable.Lock]:
        """Be the one supervisor of this home.

        Raises:
            AlreadyRunning: another one lives.
            NotYours: the home is another user's.
            HomeUnusable: it cannot be locked.
        """
        lock = self._lock()
        me = Holder(
            pid=os.getpid(),
            boot_id=moment.boot_id,
            start_ticks=start_ticks(os.getpid()),
            started_at=moment.wall,
            stop_command=_stop_command(),
        )
        try:
            with contextlib.suppress(OSError):  # a full disk: the lock counts, not who holds it
                self._holder.unlink(missing_ok=True)  # it may be a stranger by now
                durable.write(self._holder, msgspec.json.encode(me), sync=False)
            yield lock
        finally:
            lock.release()

    def _lock(self) -> durable.Lock:
        try:
            self._check_owner()
            # Whoever merely looks whether it is held holds it for a moment, too.
            for _ in range(LOCK_ATTEMPTS):
                with contextlib.suppress(BlockingIOError):
                    return durable.hold(self.path)
                pause(LOCK_RETRY_S)
        except OSError as error:
            raise HomeUnusable(self.path, error) from error
        holder = self.holder()
        raise AlreadyRunning(self.path, holder.pid if holder else None)

    def _check_owner(self) -> None:
        """Whether the home is ours.

        Raises:
            NotYours: it is not, or root alone does not decide what lies there.
        """
        owner = self.path.stat().st_uid
        if owner == os.geteuid() == 0:
            owner = owned(self.path, itself=False).owner
        if owner != os.geteuid():
            raise NotYours(self.path, owner)

    def holder(self) -> Holder | None:
        """The supervisor that runs on this home now; None where none does.

        Its owner asks the lock. Whoever may only look, as the group of the service, believes what
        the owner's supervisor has left there, if the process that it names lives.
        """
        said = self._said()
        try:
            if not durable.is_held(self.path):
                return None
        except PermissionError:
            return said if said is not None and self._observations(said) else None
        except OSError:
            return None
        return said or Holder(pid=0, boot_id="", started_at=0.0)

    def doubt(self, holder: Holder, handle: int) -> str | None:
        """Why a process is not proven to be the supervisor of this home; None: it is.

        Args:
            holder: what the home says of it.
            handle: a pidfd of that pid: what is found holds as long as that process lives.
        """
        pid = holder.pid
        locks = [self.path / durable.LOCK, self.path]  # the latter: one of an older version
        doubts = (
            (account_of(pid) != self.path.stat().st_uid, "is another account's"),
            (holder.start_ticks not in (None, start_ticks(pid)), "started at another time"),
            (not _runs_supervisor(pid), "runs something else"),
            (not any(_has_locked(pid, place) for place in locks), "does not hold its lock"),
            (_ended(handle), "has ended"),
        )
        return next((doubt for found, doubt in doubts if found), None)

    def _said(self) -> Holder | None:
        """What is left here of who holds it; None where that is nothing of this boot."""
        try:
            holder = msgspec.json.decode(durable.read(self._holder, HOLDER_MAX_BYTES), type=Holder)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if holder.boot_id != boot_id() or holder.pid <= 0:
            return None
        # A person is told to type it: no other word of the home's owner gets there.
        known = holder.stop_command in STOP_COMMANDS
        return holder if known else msgspec.structs.replace(holder, stop_command=None)

    def _observations(self, holder: Holder) -> bool:
        if account_of(holder.pid) != self.path.stat().st_uid:
            return False
        ticks = start_ticks(holder.pid)
        return ticks is not None and holder.start_ticks in (None, ticks)


def _forbid_writing(place: Path) -> None:
    """Take the right to write from all but the owner, of everything in a folder."""
    for folder, _, files in os.walk(place):
        for name in (".", *files):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with contextlib.suppress(OSError):  # a link, or it has gone meanwhile
                handle = os.open(f"{folder}/{name}", flags)
                try:
                    mode = stat.S_IMODE(os.fstat(handle).st_mode)
                    if mode & WRITABLE:
                        os.fchmod(handle, mode & ~WRITABLE)
                finally:
                    os.close(handle)


def _runs_supervisor(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.rpartition(b"/")[2] in OUR_NAMES for word in words[:8])


def _has_locked(pid: int, place: Path) -> bool:
    try:
        return durable.has_locked(pid, place.lstat())
    except FileNotFoundError:
        return False


def _ended(handle: int) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def _stop_command() -> str | None:
    """How to stop the service that this process is, if it is one."""
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").split()
    except OSError:
        return None
    ours = next((group for group in groups if group.endswith(f"/{SERVICE}")), None)
    if ours is None:
        return None
    return STOP_COMMANDS[1 if "/user@" in ours else 0]
