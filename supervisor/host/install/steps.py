"""What an installation is made of: a plan of steps, each of which knows whether it is done."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from supervisor.errors import SupervisorError
from supervisor.host.home import Home
from trainers import durable

Kind = Literal["system", "user", "cron", "profile"]


class Beside(NamedTuple):
    """What stands beside the supervisor; True: it is to, False: it is not to, None: as it is."""

    usage: bool | None = None
    """what has usage learnt"""
    api: bool | None = None
    """what takes jobs in"""


class CannotInstall(SupervisorError):
    """This kind of installation is not possible here."""

    exit_code = 2


class Step(NamedTuple):
    """Something to do that is done once."""

    text: str
    """in the imperative"""
    is_done: Callable[[], bool]
    do: Callable[[], None]
    details: str = ""
    """what a person wants to see before it is done"""


class Plan(NamedTuple):
    """One kind of installation on this machine."""

    kind: Kind
    home: Path
    is_installed: Callable[[], bool]
    steps: Callable[[], tuple[Step, ...]]
    """Raises CannotInstall where the machine lacks what the kind needs."""
    undo: Callable[[], tuple[Step, ...]]
    after: str
    """what to know once it is installed"""
    kept: str
    """what taking it away leaves, and how to remove that"""
    settings: Path | None = None
    """the settings that it will read; None: those of the home"""


def our_command(home: Path) -> str:
    """The command `supervisor` on that home, as a shell takes it."""
    command = Path(sys.prefix) / "bin/supervisor"
    return f"{shlex.quote(str(command))} --home {shlex.quote(str(home))}"


def kept(home: Path) -> str:
    """What taking it away leaves where everything of ours lies in the home."""
    return f"kept: the runs; to remove them, too: rm -r {shlex.quote(str(home))}"


def tuned(home: Path) -> Step:
    """The first start's trials, while somebody looks on: they are a load, and may fail."""
    command = (*shlex.split(our_command(home)), "tune", "--once")

    def do() -> None:
        # What goes wrong is said by the command; training starts all the same.
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)

    def is_done() -> bool:
        return Home(home).tuning.exists() or is_held(home)

    return Step("try which way of calculating is quickest", is_done, do, shlex.join(command))


def is_held(home: Path) -> bool:
    """Whether a supervisor holds that home, as far as can be seen."""
    try:
        return durable.is_held(home)
    except OSError:
        return False


def write(path: Path, content: str, *, executable: bool = False, keep: bool = False) -> Step:
    """A file with this content; with `keep`, whatever a person has made of it is left alone."""

    def is_done() -> bool:
        if keep and path.exists():
            return True
        try:
            return text_of(path) == content
        except (FileNotFoundError, NotADirectoryError):
            return False

    def do() -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path.resolve(), encoded(content), executable=executable)
        except OSError as error:
            leads = f" leads to {path.resolve()}, which" if path.is_symlink() else ""
            raise CannotInstall(f"{path}{leads} cannot be written: {error.strerror}") from error

    return Step(f"write {path}", is_done, do, content)


def _replace(path: Path, content: bytes, *, executable: bool) -> None:
    """Give a file other content at once; whose it is, and who may read it, stays.

    Raises:
        OSError: it cannot be written, or cannot be given back to its owner; it is as it was.
    """
    fresh = path.with_name(f".{path.name}.training-supervisor-{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    before = path.stat() if path.exists() else None
    # Nobody reads it before it has the rights of the other.
    handle = os.open(fresh, flags, 0o600 if before else 0o644)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if before is not None:
                new = os.fstat(handle)
                if (new.st_uid, new.st_gid) != (before.st_uid, before.st_gid):
                    os.fchown(handle, before.st_uid, before.st_gid)
                os.fchmod(handle, stat.S_IMODE(before.st_mode))
            if executable:
                os.fchmod(handle, 0o755)
            os.fsync(handle)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    durable.sync_folder(path.parent)


def remove(path: Path, only: str | None = None) -> Step:
    """No such file; with `only`, one with another content is left alone."""

    def is_done() -> bool:
        return not path.exists() or only not in (None, text_of(path))

    def do() -> None:
        path.unlink()
        if path.parent.name.startswith("training-supervisor") and not any(path.parent.iterdir()):
            path.parent.rmdir()

    return Step(f"remove {path}", is_done, do)


def run(*command: str, unless: Callable[[], bool] = lambda: False, given: str = "") -> Step:
    """A command that was run; `given` is what it reads."""

    def do() -> None:
        try:
            done = subprocess.run(command, input=encoded(given), capture_output=True, check=False)
        except OSError as error:
            raise CannotInstall(f"{command[0]}: {error.strerror}") from error
        if done.returncode != 0:
            said = decoded(done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
            raise CannotInstall(f"`{shlex.join(command)}` failed: {said}")

    return Step(f"run {shlex.join(command)}", unless, do, given)


def succeeds(*command: str) -> bool:
    """Whether a command can be run, and says yes."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def text_of(path: Path) -> str:
    """The content of a file, as `decoded` has it."""
    return decoded(path.read_bytes())


def decoded(raw: bytes) -> str:
    """Text that `encoded` makes the same bytes of: a person's own lines have any encoding."""
    return raw.decode(errors="surrogateescape")


def encoded(text: str) -> bytes:
    """The bytes that `decoded` has made this text of."""
    return text.encode(errors="surrogateescape")
