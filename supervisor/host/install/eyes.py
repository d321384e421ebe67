"""What the service of the machine sees, may read and may write to, told without starting it.

The unit and its drop-ins say what is hidden, what is shown all the same, and where may be written;
the rights of the account are in the files. All of it can be looked at by whoever may look.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
import struct
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from supervisor.host.home import SERVICE, SYSTEM_HOME, UNITS
from supervisor.host.install.units import shipped
from supervisor.host.owner import steps
from supervisor.programs import ROOT
from trainers.contract import Need

HIDDEN = tuple(Path(path) for path in ("/home", "/root", "/run/user"))
"""what ProtectHome= empties"""
PRIVATE = tuple(Path(path) for path in ("/tmp", "/var/tmp"))  # noqa: S108
"""what PrivateTmp= has another of"""
OF_THE_KERNEL = tuple(Path(path) for path in ("/dev", "/proc", "/sys"))
"""what ProtectSystem=strict leaves as it is"""
RUNS_FROM = (Path(sys.prefix), ROOT, Path(sys.base_prefix).resolve())
"""the folders that the supervisor runs from, which its service is shown wherever they lie"""
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""where systemd has a service look for programs"""
READ, WRITE, ENTER = 4, 2, 1
"""rights to a folder; to enter a file is to run it"""
RIGHTS = {"run": ENTER, "read": READ, "enter": READ | ENTER, "named": READ}
"""what the account needs of what lies at the end of the path"""
INSTALL = "supervisor install --system"
ACL = "system.posix_acl_access"
USER, GROUP_OBJ, GROUP, MASK = 2, 4, 8, 16  # <linux/posix_acl.h>


class Trouble(NamedTuple):
    """Something that a run needs and the service would not have."""

    text: str
    sure: bool
    """whether the run cannot work; else only who has written the word knows"""


class Eyes(NamedTuple):
    """What a service has, by its unit and its account."""

    home: Path = SYSTEM_HOME
    account: str = "training-supervisor"
    hidden: tuple[Path, ...] = HIDDEN
    private: tuple[Path, ...] = PRIVATE
    shown: tuple[Path, ...] = ()
    """what it sees although it is hidden"""
    writable: tuple[Path, ...] = ()
    strict: bool = True
    """whether it writes to its home and what is writable alone"""

    def with_places(self, shown: Iterable[Path] = (), writable: Iterable[Path] = ()) -> Eyes:
        """The same with further places, and with those that its places are links to.

        A mount shows under the link's name what the link leads to.
        """

        def real(places: Iterable[Path]) -> tuple[Path, ...]:
            return tuple(dict.fromkeys(one for place in places for one in (place, place.resolve())))

        writable = tuple(writable)
        return self._replace(
            shown=real((*self.shown, *shown, *writable)),
            writable=real((*self.writable, *writable)),
        )

    def sees(self, path: Path) -> bool:
        """Whether anything of this machine is there for it, whoever may read that."""
        if is_within(path, self.private):
            return False
        return not is_within(path, self.hidden) or is_within(path, self.shown)

    def writes(self, path: Path) -> bool:
        """Whether the unit lets it write there, whatever the rights."""
        places = (self.home, *self.writable, *self.private, *OF_THE_KERNEL)
        return not self.strict or is_within(path, places)

    def may(self, status: os.stat_result, path: Path, wanted: int) -> bool:
        """Whether its account has those rights to a file or folder, by its mode and its ACL."""
        user, groups = _ids(self.account)
        if status.st_uid == user:
            return status.st_mode >> 6 & wanted == wanted
        rights = _acl(path)
        if rights is None:
            bits = status.st_mode >> (3 if status.st_gid in groups else 0)
            return bits & wanted == wanted
        mask = rights[MASK].get(0, 7)
        if user in rights[USER]:
            return rights[USER][user] & mask & wanted == wanted
        named = {**rights[GROUP], status.st_gid: rights[GROUP_OBJ].get(0, 0)}
        of_groups = [bits & mask for group, bits in named.items() if group in groups]
        if of_groups:
            return any(bits & wanted == wanted for bits in of_groups)
        return status.st_mode & wanted == wanted

    def closed(self, path: Path, wanted: int) -> Path | None:
        """The first on the way to a place that its account has not the rights to; None: it has.

        Above what is shown in a hidden folder, the service sees no folder of ours.
        """
        last: tuple[Path, os.stat_result] | None = None
        try:
            for here, status, rest in steps(path):
                if stat.S_ISLNK(status.st_mode):
                    continue
                last = Path(here), status
                if rest and self._is_ours(Path(here)) and not self.may(status, Path(here), ENTER):
                    return Path(here)
        except OSError:
            return None  # it is not there, or whoever asks may not look
        if last is not None and self._is_ours(last[0]) and not self.may(last[1], last[0], wanted):
            return last[0]
        return None

    def _is_ours(self, path: Path) -> bool:
        """Whether the service meets this very folder, and not one that systemd makes for it."""
        return self.sees(path) and path not in self.hidden

    def lost(self, path: Path) -> Path | None:
        """The first name of a place, along its links, that it does not see; None: it sees it."""
        if not self.sees(path):
            return path
        try:
            for here, _, rest in steps(path):
                if not self.sees(name := Path(here, *rest)):
                    return name
        except OSError:
            return None
        return None


def of_service() -> Eyes:
    """The eyes of the service as it is installed; as it is shipped, where it is not.

    What was changed with `systemctl edit` counts, too.
    """
    unit = UNITS / SERVICE
    drop_ins = sorted((UNITS / f"{SERVICE}.d").glob("*.conf"), key=lambda path: path.name)
    files = [unit, *drop_ins] if unit.exists() else []
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    texts = texts or [shipped(SERVICE)]
    return of_unit(texts).with_places(() if unit.exists() else RUNS_FROM)


def of_unit(texts: Iterable[str]) -> Eyes:
    """The eyes of a service by the text of its unit and of its drop-ins, in their order."""
    said: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        for line in text.splitlines():
            key, equals, value = line.strip().partition("=")
            if equals and not value.strip():
                said[key].clear()  # so systemd has it
            elif equals and key[:1] not in "#;":
                said[key] += value.split()

    def last(key: str) -> str:
        return (said[key] or [""])[-1]

    def places(*keys: str) -> tuple[Path, ...]:
        named = (one.lstrip("-+").partition(":")[0] for key in keys for one in said[key])
        return tuple(dict.fromkeys(map(Path, named)))

    yes = ("yes", "true", "on", "1")
    return Eyes(
        account=last("User") or "root",
        hidden=HIDDEN if last("ProtectHome") in ("tmpfs", *yes) else (),
        private=PRIVATE if last("PrivateTmp") in yes else (),
        shown=places("BindReadOnlyPaths", "BindPaths"),
        writable=places("BindPaths", "ReadWritePaths"),
        strict=last("ProtectSystem") == "strict",
    )


def troubles(eyes: Eyes, needs: Iterable[Need]) -> Iterator[tuple[Need, Trouble]]:
    """What of the needs the service would not have, each with the command that mends it.

    One command shows all that lies in one folder, so all of them are looked at together.
    """
    all_needs = tuple(dict.fromkeys(needs))
    kept = [need for need in all_needs if not is_within(Path(need.path), (eyes.home,))]
    lost = [(need, name) for need in kept if (name := eyes.lost(Path(need.path))) is not None]
    folders = {_folder(need, name) for need, name in lost if not is_within(name, eyes.private)}
    writes = {Path(need.within) for need in kept if need.use == "write"}
    for need in kept:
        text = _trouble(eyes, need, folders, writes)
        if text is not None:
            yield need, Trouble(f"{need.path} ({need.what}): {text}", need.use != "named")


def is_within(path: Path, places: Iterable[Path]) -> bool:
    """Whether it is one of the places, or lies below one."""
    return any(path.is_relative_to(place) for place in places)


def _trouble(eyes: Eyes, need: Need, folders: set[Path], writes: set[Path]) -> str | None:
    if "/" not in need.path:
        return f"there is none in the PATH of the service, {SEARCHED}: write its whole path"
    path = Path(need.path)
    name = eyes.lost(path)
    leads = "" if name in (None, path) else f", which leads to {name},"
    if name is not None and is_within(name, eyes.private):
        return (
            f"the service has a {_above(name, eyes.private)} of its own{leads}: move it elsewhere"
        )
    if name is not None:
        folder = _outermost(_folder(need, name), folders)
        if need.use == "write" or _outermost(folder, folders | writes) in writes:
            folder = _outermost(Path(need.within), writes)
            return f"the service does not see it{leads}: {_command('--writable', folder)}"
        or_writable = "; --writable instead of --bind if it writes there" * (need.use == "named")
        return f"the service does not see it{leads}: {_command('--bind', folder)}{or_writable}"
    if need.use == "write":
        return _unwritable(eyes, path)
    if need.use == "named" and not os.access(path, os.F_OK, follow_symlinks=False):
        # It may be what the program will write, or no path at all.
        made_in = path.parent
        if not eyes.writes(path) and os.access(made_in, os.F_OK) and made_in != Path("/"):
            return f"if it writes there, it cannot: {_command('--writable', made_in)}"
        return None
    closed = eyes.closed(path, RIGHTS[need.use])
    if closed is None:
        return None
    return f"{eyes.account}, the account of the service, may not read {closed}: {_opened(closed)}"


def _unwritable(eyes: Eyes, folder: Path) -> str | None:
    """Why the service could not write to a folder that it sees."""
    if not eyes.writes(folder):
        return f"the service cannot write there: {_command('--writable', folder)}"
    closed = eyes.closed(folder, READ | WRITE | ENTER)
    return None if closed is None else not_theirs(eyes, folder, closed)


def not_theirs(eyes: Eyes, folder: Path, closed: Path) -> str:
    """What to say of a writable folder to which the account has no rights."""
    if closed != folder:
        return f"{eyes.account}, the account of the service, may not enter {closed}: " + _opened(
            closed
        )
    shown = shlex.quote(str(folder))
    return (
        f"{eyes.account}, the account of the service, may not write there: "
        f"chgrp -R {eyes.account} {shown} && chmod -R g+rwX {shown}"
    )


def _opened(closed: Path) -> str:
    return f"chmod o+rX {shlex.quote(str(closed))}"


def _command(flag: str, folder: Path) -> str:
    place = shlex.quote(str(folder))
    made = "" if os.access(folder, os.F_OK) or flag == "--bind" else f"mkdir -p {place} && "
    return f"{made}{INSTALL} {flag} {place} (or take install --user)"


def _folder(need: Need, name: Path) -> Path:
    """What to show, so that this name of a need is seen."""
    within = Path(need.within)
    return within if name.is_relative_to(within) else name.parent


def _outermost(folder: Path, folders: Iterable[Path]) -> Path:
    above = [one for one in folders if folder.is_relative_to(one)]
    return min(above, key=lambda one: len(one.parts), default=folder)


def _above(path: Path, places: Iterable[Path]) -> Path:
    return next(place for place in places if path.is_relative_to(place))


def _ids(account: str) -> tuple[int, frozenset[int]]:
    """The number of an account and its groups; of one that is not there yet, nobody's."""
    try:
        entry = pwd.getpwnam(account)
    except KeyError:
        return -1, frozenset()
    return entry.pw_uid, frozenset(os.getgrouplist(account, entry.pw_gid))


def _acl(path: Path) -> dict[int, dict[int, int]] | None:
    """The rights that an ACL gives, by kind and by number; None: there is none."""
    try:
        raw = os.getxattr(path, ACL)
    except OSError:
        return None
    rights: dict[int, dict[int, int]] = defaultdict(dict)
    for kind, bits, number in struct.iter_unpack("<HHI", raw[4:]):
        rights[kind][number if kind in (USER, GROUP) else 0] = bits
    return rights
