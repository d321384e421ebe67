"""Whose home it is. Root never acts in the home of another account with root's rights.

Whoever owns a folder may exchange what lies in it at any moment, between two
looks of ours, for a link to somewhere else. No care with links makes root safe
there; what its owner may not do, nobody does there. So root becomes the owner
first, for good, and only then looks at anything in the home.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from supervisor.errors import SupervisorError
from supervisor.programs import ROOT

LINKS_MAX = 40
"""on one way, as the kernel has it"""
KEPT = (
    *("PATH", "LANG", "LANGUAGE", "TERM", "COLORTERM", "NO_COLOR", "TZ", "COLUMNS", "LINES"),
    *("SUPERVISOR_HOME", "SUPERVISOR_CONFIG", "BOOT_ID", "CUDA_VISIBLE_DEVICES", "PYTHONPATH"),
)
"""of root's environment, which is nobody else's business; and what begins with `LC_`"""
CLONE_NEWNS = 0x20000  # from <linux/sched.h>
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18  # <linux/mount.h>


class NotYours(SupervisorError):
    """A home of another account: what we wrote there, its supervisor could not use."""

    exit_code = 73  # EX_CANTCREAT

    def __init__(self, home: Path, owner: int) -> None:
        name = account(owner)
        super().__init__(
            f"the home {home} belongs to {name}: do this as that user "
            f"(sudo -u {name} ...), or choose another with --home"
        )


class Exchangeable(SupervisorError):
    """A folder of root's on the way to the home, in which anybody may exchange the home."""

    exit_code = 73  # EX_CANTCREAT

    def __init__(self, home: Path, folder: Path) -> None:
        super().__init__(
            f"others may exchange the home {home} for one of theirs, for they may write to "
            f"{folder}: take that away (chmod go-w {folder}), or choose another with --home"
        )


class ProgramHidden(SupervisorError):
    """The owner of the home may not read what we run from."""

    exit_code = 73  # EX_CANTCREAT

    def __init__(self, owner: int, folder: Path) -> None:
        super().__init__(
            f"the home belongs to {account(owner)}, who may not read what this runs from, in "
            f"{folder}: install it into /opt/training-supervisor, or chmod o+x {folder}"
        )


class BeyondTheOwner(SupervisorError):
    """A file that root has named, and that the owner of the home may not use."""

    exit_code = 73  # EX_CANTCREAT

    def __init__(self, path: Path) -> None:
        name = account(os.geteuid())
        super().__init__(
            f"the home belongs to {name}, with whose rights this is done, and {name} has none to "
            f"{path.absolute()}: name a place of that account's"
        )


class Owned(NamedTuple):
    """The first account beside root that could change where a path leads."""

    owner: int
    """its uid; 0: nobody beside root could"""
    path: Path
    """the same place, without the links of root's on the way"""
    first: Path
    """what on the way is the first that is that account's"""


def account(uid: int) -> str:
    """What an account is called."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def owned(path: Path, *, itself: bool = True) -> Owned:
    """Whose the place is that `path` leads to, whether or not something lies there yet.

    Each folder and each link on the way is its owner's to exchange, and what lies in a folder is
    in the hands of all who may write to it, but where it is sticky, as `/tmp` is.

    Args:
        path: as it was named; it may be relative, and hold links and `..`.
        itself: whether the last folder, too, must be one that nobody else writes to.

    Raises:
        Exchangeable: others may write to a folder of root's on the way.
        OSError: the way cannot be gone.
    """
    way = steps(path)
    try:
        for here, status, rest in way:
            if status.st_uid != 0:
                return Owned(status.st_uid, Path(here, *rest), Path(here))
            writers = stat.S_IWOTH | (stat.S_IWGRP if status.st_gid else 0)
            loose = stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_ISVTX
            if loose and status.st_mode & writers and (rest or itself):
                raise Exchangeable(path, Path(here))
    except FileNotFoundError:
        pass  # root would make it, where only root can
    return Owned(0, path, path)


def become(owner: int, place: Path, shown: Sequence[Path] = ()) -> None:
    """Give up root's rights for those of another account, for good.

    The environment becomes that account's, too. Where it may not get to `place`, or to what this
    program runs from, mostly because that lies in root's home, the process gets a view of the
    files in which these are to be seen, and nothing else there: as the unit of the service does.

    Args:
        owner: the account, by its number.
        place: what it is about.
        shown: further folders that it is to see where the machine lets us, and that it may enter.

    Raises:
        ProgramHidden: it could not go on as that account.
        OSError: this process has lost the right to become another.
    """
    try:
        entry = pwd.getpwuid(owner)
        name, group, home = entry.pw_name, entry.pw_gid, entry.pw_dir
    except KeyError:
        name, group, home = "", owner, "/"
    needed = {str(place), sys.prefix, sys.base_prefix, *sys.path, str(ROOT)}
    try:
        _show(owner, {*needed, *(str(one) for one in shown if _can_be_shown(one, owner))})
    except ProgramHidden:
        _show(owner, needed)
    if name:
        os.initgroups(name, group)
    else:
        os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(owner, owner, owner)
    for variable in list(os.environ):
        if variable not in KEPT and not variable.startswith("LC_"):
            del os.environ[variable]
    os.environ.update(HOME=home, USER=account(owner), LOGNAME=account(owner))


def steps(path: Path) -> Iterator[tuple[str, os.stat_result, list[str]]]:
    """Each folder and link on the way of a path: where it lies, what it is, and what is left.

    Raises:
        OSError: the way ends.
    """
    here, links = "/", 0
    left = [*reversed((Path.cwd() / path).parts[1:])]
    yield here, os.lstat(here), left[::-1]
    while left:
        part = left.pop()
        if part == "..":
            here = os.path.dirname(here)  # noqa: PTH120 - of a place without links
            continue
        there = f"{here.rstrip('/')}/{part}"
        status = os.lstat(there)
        yield there, status, left[::-1]
        if not stat.S_ISLNK(status.st_mode):
            here = there
            continue
        links += 1
        if links > LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), there)
        target = Path(os.readlink(there))  # noqa: PTH115 - a string
        here = "/" if target.is_absolute() else here
        left += reversed(target.parts[1:] if target.is_absolute() else target.parts)


# What is needed, seen by another account


class _Place(NamedTuple):
    """A folder that is needed, below one that an account may not enter."""

    hidden: str
    """the folder that it may not enter"""
    links: dict[str, str]
    """links on the way from there, and where they lead"""
    folder: str


def _show(owner: int, folders: set[str]) -> None:
    """Have this process and its children see these folders, also where the owner may not enter.

    Raises:
        ProgramHidden: the machine does not let us.
    """
    places = [place for folder in folders if folder and (place := _hidden(Path(folder), owner))]
    places.sort(key=lambda place: place.folder.count("/"))
    handles: list[int] = []
    try:
        if places and _libc().unshare(CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "unshare")
        if places:
            _mount(None, "/", None, MS_REC | MS_PRIVATE)
        handles = [
            os.open(place.folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW) for place in places
        ]
        for hidden in dict.fromkeys(place.hidden for place in places):
            _mount("tmpfs", hidden, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0711,size=1m")
        for place, handle in zip(places, handles, strict=True):
            for link, target in place.links.items():
                Path(link).parent.mkdir(parents=True, exist_ok=True)
                if not os.path.lexists(link):
                    Path(link).symlink_to(target)
            Path(place.folder).mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{handle}", place.folder, None, MS_BIND | MS_REC)
    except OSError as error:
        raise ProgramHidden(owner, Path(places[0].hidden)) from error
    finally:
        for handle in handles:
            os.close(handle)


def _hidden(folder: Path, owner: int) -> _Place | None:
    """How a folder is hidden from an account; None where it is not."""
    hidden, links, last = None, {}, ""
    try:
        for here, status, _ in steps(folder):
            if stat.S_ISLNK(status.st_mode):
                if status.st_uid != 0:
                    return None  # whoever owns it decides where it leads
                links[here] = os.readlink(here)  # noqa: PTH115 - a string
                continue
            last = here
            if not stat.S_ISDIR(status.st_mode):
                return None
            if hidden is None and not status.st_mode & stat.S_IXOTH and status.st_uid != owner:
                hidden = here
    except OSError:
        return None  # it is on the path, and does not exist
    if hidden is None:
        return None
    if last == hidden:
        raise ProgramHidden(owner, Path(hidden))
    below = {link: target for link, target in links.items() if link.startswith(f"{hidden}/")}
    return _Place(hidden, below, last)


def _can_be_shown(folder: Path, owner: int) -> bool:
    """Whether it is not itself the folder that an account may not enter, as far as all may."""
    try:
        _hidden(folder, owner)
    except ProgramHidden:
        return False
    return True


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str = ""
) -> None:
    words = (word and os.fsencode(word) for word in (source, target, kind))
    source_, target_, kind_ = words
    if _libc().mount(source_, target_, kind_, ctypes.c_ulong(flags), os.fsencode(options) or None):
        raise OSError(ctypes.get_errno(), "mount")
