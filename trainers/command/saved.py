"""What a program saves: seen once it is whole, kept by us, and handed back.

A file is whole once nobody has it open for writing and it has been quiet for a moment. Then it is
cloned where the disk can do that, and copied by the kernel otherwise, beside the training; if it
was the same afterwards, the clone is moved into a checkpoint, which is complete or absent. So a
program that saves over its own file tears nothing that is kept. What was there before the program
was started may be torn by whatever has ended the last one, and is never taken.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import re
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from trainers import durable, said
from trainers.checkpoint import FILES_MAX, MANIFEST, MANIFEST_SUM, Checkpoint
from trainers.command.progress import Saved, Teller
from trainers.contract import Score
from trainers.session import Session

STATE = "command.json"
"""the file of a checkpoint that is ours"""
LOOK_S, IDLE_LOOK_S = 0.25, 0.5
"""between two looks at what is there: while something waits to be taken, and while nothing does"""
FILE_QUIET_S, FOLDER_QUIET_S = 0.4, 1.0
"""for how long nothing of it may have changed; in a folder another file may follow"""
PATIENCE_S = 5.0
"""a single file that is never quiet is taken after so long, in a moment in which nobody writes"""
UNSEEN_S = 600.0
"""after which it is told that nothing was saved, or that it is never quiet"""
SHARE = 9
"""of the time that taking one has taken, for which no other is taken"""
PROC = Path("/proc")


_NUMBER = re.compile(r"\d+")

Stamp = tuple[tuple[str, int, int, int], ...]
"""of each file: where it lies below, its inode, size and time of change"""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint of a program says of itself: the content of `command.json`."""

    counts: str
    """what its step counts: seconds, or what the program told"""
    path: str | None = None
    """what the program has saved, where it lay: below the home, which may be moved, or anywhere;
    None: it goes on by itself"""
    folder: bool = False
    """whether that was a folder"""
    files: dict[str, str] = {}
    """each file here, by its name, and where it lay below `path`"""


class _Sight(NamedTuple):
    """Something that was saved, as it was first seen, with a step that it holds for sure."""

    stamp: Stamp
    since_s: float
    step: int
    score: Score | None
    closed: bool = False
    """whether nobody had it open for writing while the program lived"""
    open_now: bool = True
    """whether somebody has"""
    told: bool = False
    """whether the program has said that it is whole"""


class _Changed(Exception):
    """What was taken is not what it was when that began."""


def kept(checkpoint: Path) -> Kept:
    """What a checkpoint says of itself."""
    return msgspec.json.decode(durable.read(checkpoint / STATE), type=Kept)


def state(counts: str) -> list[tuple[str, bytes]]:
    """The files of a checkpoint of a program that goes on by itself."""
    return [(STATE, msgspec.json.encode(Kept(counts=counts)))]


def handed_back(checkpoint: Path, kept: Kept, place: Path) -> Path | None:
    """What the program had saved, in the folder `place`, which is made anew.

    A clone: a program may save over what it goes on from.
    """
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    if kept.path is None:
        return None
    durable.make_folder(place)
    whole = place / Path(kept.path).name
    if kept.folder:
        durable.make_folder(whole)
    for name, below in kept.files.items():
        target = whole / below if kept.folder else whole
        target.parent.mkdir(parents=True, exist_ok=True)
        durable.clone(checkpoint / name, target)
    return whole


def put_back(session: Session, checkpoint: Checkpoint, kept: Kept) -> Path | None:
    """Put what is kept where the program will look for it itself, if anything else lies there.

    Where that is; None: nothing is kept.

    What lies in the place was not seen to be whole, or is later than that: then it is set aside
    under a name that begins with a dot.
    """
    if kept.path is None:
        return None
    path = _place(session, kept.path)
    if _is_as_kept(path, checkpoint, kept):
        return path
    if os.path.lexists(path):
        why = "is not gone on from" if session.rewound else "was not whole, or not seen to be"
        session.notice(f"{_set_aside(path)} {why}: an older one is back")
    place = path.with_name(f".{path.name}.back")
    whole = handed_back(checkpoint.path, kept, place)
    assert whole is not None  # noqa: S101 - it has a path
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.rename(path)
    place.rmdir()
    return path


def set_aside_later(session: Session, pattern: str, kept: Kept) -> None:
    """Set what comes after what is kept aside: the program would go on from it by itself.

    Whatever has ended the program may have torn it: nobody has seen it whole.
    """
    if kept.path is None:
        return
    path = _place(session, kept.path)
    for other in there(session, pattern):
        if other != path and _order(other) > _order(path):
            why = "is later" if session.rewound else "was not seen to be whole"
            session.notice(f"{_set_aside(other)} {why}: {path.name} is gone on from")


def set_aside_all(session: Session, pattern: str) -> None:
    """Set aside whatever the program has saved, for a run that begins anew: it looks by itself."""
    asides = [_set_aside(path) for path in sorted(there(session, pattern))]
    if asides:
        more = f" and {len(asides) - 1} more" if len(asides) > 1 else ""
        session.notice(f"{asides[0]}{more}: set aside, for the run begins anew")


def there(session: Session, pattern: str) -> dict[Path, Stamp]:
    """All that looks like something saved, and how it is."""
    found: dict[Path, Stamp] = {}
    for name in glob.glob(pattern, recursive=True):  # noqa: PTH207 - that of Path knows no dots
        try:
            stamp = stamp_of(name)
            found[_path(name)] = stamp
        except _TooMany:
            session.notice(f"{name} is not kept: it has more than {FILES_MAX - 1} files")
        except (OSError, _Changed, UnicodeEncodeError):
            continue
    return found


_path = lru_cache(FILES_MAX)(Path)
"""the same names are looked at again and again, and to take one apart takes longest"""


class _TooMany(_Changed):
    """A folder has more files than a checkpoint."""


class Saves:
    """Watches what a program saves, and takes what is whole.

    Args:
        session: of the run.
        pattern: of names, a whole path.
        teller: knows what a step is, and how good the run is.
        links: hard links will do.
    """

    def __init__(self, session: Session, pattern: str, teller: Teller, *, links: bool) -> None:
        self._session = session
        self._pattern = pattern
        self._teller = teller
        self._links = links
        self._staging = session.folder.path / "taken"
        shutil.rmtree(self._staging, ignore_errors=True)
        durable.make_folder(self._staging)
        self._known = there(session, pattern)
        """what was taken, or is not to be"""
        self._began, self._began_s = session.step, time.monotonic()
        self._unseen = not self._known
        """whether nothing was ever there, and that was not told yet"""
        self._restless = False
        """whether it was told that something is never quiet"""
        self._watched: dict[Path, _Sight] = {}
        self._taker = futures.ThreadPoolExecutor(1)
        self._taking: tuple[Path, _Sight, futures.Future[list[tuple[str, bytes | Path]]]] | None
        self._taking = None
        self._taken = 0
        self._fresh_s = time.monotonic()
        """since when something fresh waits to be taken"""
        self._clone_s = self._rests_until_s = self._looked_s = 0.0
        self._step_before = session.step
        """at the last look: what is new since holds as much"""

    def look(self, lives: Callable[[], bool]) -> None:
        """Take what is whole by now, if it is time; what takes long is done beside.

        Args:
            lives: whether the program does, whose death closes what it was writing.
        """
        now_s = time.monotonic()
        if self._taking is not None and self._taking[2].done():
            self._keep(wait=False)
        if now_s - self._looked_s < (LOOK_S if self._watched else IDLE_LOOK_S):
            return
        self._looked_s = now_s
        fresh = self._fresh()
        if now_s - self._began_s >= UNSEEN_S:
            self._tell_unseen()
        if fresh and now_s - self._fresh_s >= UNSEEN_S:
            self._tell_restless(fresh[0][0])
        if not fresh:
            self._fresh_s = now_s
        self._watched = {path: self._seen(path, stamp, lives) for path, stamp in fresh}
        self._step_before = self._session.step
        if self._taking is not None or now_s < self._rests_until_s:
            return
        for path, seen in self._watched.items():
            if self._is_ripe(path, seen, now_s):
                self._take(path, seen)
                return

    def _seen(self, path: Path, stamp: Stamp, lives: Callable[[], bool]) -> _Sight:
        """What is known of something that was saved, after one more look at it."""
        seen = self._watched.get(path)
        if seen is None or seen.stamp != stamp:
            seen = self._sight(path, stamp, self._step_before)
        open_now = _is_written(path, stamp)
        closed = seen.closed or (not open_now and lives())
        return seen._replace(closed=closed, open_now=open_now)

    def _is_ripe(self, path: Path, seen: _Sight, now_s: float) -> bool:
        """Whether it is whole."""
        alone = path.is_file()
        quiet = now_s - seen.since_s >= (FILE_QUIET_S if alone else FOLDER_QUIET_S)
        restless = alone and now_s - self._fresh_s >= PATIENCE_S
        return seen.told or (seen.closed and not seen.open_now and (quiet or restless))

    def told(self, said: Saved) -> None:
        """Note that the program has said of something that it is whole, with what is reached now.

        Its word holds for what was not changed since.
        """
        where = os.path.realpath(said.saved)
        for path, stamp in self._fresh():
            unchanged = max(time for *_, time in stamp) <= said.at * 1e9
            if unchanged and os.path.realpath(path) == where:
                sight = self._sight(path, stamp, self._session.step)
                self._watched[path] = sight._replace(closed=True, told=True)

    def last(self, *, left: bool) -> None:
        """Take the last one, now that nothing of the program lives.

        Args:
            left: it has left of its own accord, and so has written what it was writing; otherwise a
                file is taken that was seen closed as it is.
        """
        if self._taking is not None:
            futures.wait([self._taking[2]])
            self._keep(wait=True)
        fresh = self._fresh()
        if self._session.step > self._began:
            self._tell_unseen()
        for path, stamp in fresh:
            seen = self._watched.get(path)
            known = seen is not None and seen.stamp == stamp
            if seen is None or not known:
                if not left:
                    continue
                seen = self._sight(path, stamp, self._session.step)
            elif not (left or seen.told or (seen.closed and path.is_file())):
                continue
            self._take(path, seen)
            assert self._taking is not None  # noqa: S101 - it was just taken
            futures.wait([self._taking[2]])
            self._keep(wait=True)
            break
        self._taker.shutdown()
        self._session.settle()  # what is being written is still moved from here
        shutil.rmtree(self._staging, ignore_errors=True)

    def _fresh(self) -> list[tuple[Path, Stamp]]:
        """What this program has saved since the last that was taken, the newest first."""
        now = there(self._session, self._pattern)
        self._unseen &= not now
        self._known = {path: stamp for path, stamp in self._known.items() if path in now}
        fresh = [it for it in now.items() if self._known.get(it[0]) != it[1]]
        if all(_NUMBER.search(path.name) for path, _ in fresh):
            return sorted(fresh, key=lambda it: _order(it[0]), reverse=True)
        return sorted(fresh, key=lambda it: max(time for *_, time in it[1]), reverse=True)

    def _tell_unseen(self) -> None:
        """Say, once, that the program saves nothing, or elsewhere."""
        if self._unseen:
            self._session.notice(
                f"nothing was saved that checkpoints names, {self._pattern}: see where the program "
                "saves, for a death costs all that it has learnt"
            )
            self._unseen = False

    def _tell_restless(self, path: Path) -> None:
        """Say, once, that something is never whole as far as anybody can see."""
        if not self._restless:
            self._restless = True
            self._session.notice(
                f"{path} is not kept, for it is never quiet: have the program save into a new "
                "folder, or a new file, each time, or say when it has saved"
            )

    def _sight(self, path: Path, stamp: Stamp, least: int) -> _Sight:
        """Something that is seen for the first time.

        Args:
            path: of it.
            stamp: as it is.
            least: a step that it holds for sure. Between that and the present one its name may know
                better.
        """
        step = self._session.step
        named = [number for number in _order(path) if least <= number <= step]
        reached = max(named, default=least)
        return _Sight(stamp, time.monotonic(), reached, self._teller.score)

    def _take(self, path: Path, seen: _Sight) -> None:
        self._taken += 1
        self._fresh_s = time.monotonic()
        # Each has a place of its own: the one before may not be in its checkpoint yet.
        place = self._staging / str(self._taken)
        self._taking = path, seen, self._taker.submit(self._staged, path, seen.stamp, place)

    def _staged(self, path: Path, stamp: Stamp, place: Path) -> list[tuple[str, bytes | Path]]:
        """The files of a checkpoint; done in a thread beside."""
        began_s = time.monotonic()
        durable.make_folder(place)
        folder = path.is_dir()
        names = named(path, [below for below, *_ in stamp])
        staged: list[tuple[str, bytes | Path]] = []
        for name, below in names.items():
            source = path / below if folder else path
            durable.clone(source, place / name, link=self._links)
            staged.append((name, place / name))
        if stamp_of(path) != stamp:
            raise _Changed
        self._clone_s = time.monotonic() - began_s
        home = _home(self._session)
        lay = str(path.relative_to(home) if path.is_relative_to(home) else path)
        kept = Kept(counts=self._teller.counts, path=lay, folder=folder, files=names)
        return [*staged, (STATE, msgspec.json.encode(kept))]  # what a program has saved comes first

    def _keep(self, *, wait: bool) -> None:
        assert self._taking is not None  # noqa: S101 - the caller has seen to it
        path, seen, taking = self._taking
        self._taking = None
        try:
            files = taking.result()
        except (_Changed, FileNotFoundError):
            return  # it is saved anew, or was pruned: the next look sees
        except OSError as error:
            self._session.disk_failed("a checkpoint", error)
            self._rests_until_s = time.monotonic() + self._session.spec.checkpoint_interval_s
            return
        # What the program has saved before that is of no more use.
        fresh = self._fresh()
        place = next((place for place, it in enumerate(fresh) if it[0] == path), len(fresh))
        self._known |= {**dict(fresh[place:]), path: seen.stamp}
        self._session.save(files, step=seen.step, score=seen.score, wait=wait, replace=True)
        before = self._session.checkpoint
        took_s = self._clone_s + (before.manifest.write_s if before is not None else 0.0)
        most_s = self._session.spec.checkpoint_interval_s
        self._rests_until_s = time.monotonic() + min(SHARE * took_s, most_s)


def named(path: Path, files: Iterable[str]) -> dict[str, str]:
    """What each file is called in a checkpoint, and where it lies below `path`."""
    folder = path.is_dir()
    names: dict[str, str] = {}
    for number, below in enumerate(files):
        name = Path(below).name if folder else path.name
        if folder or name in (STATE, MANIFEST, MANIFEST_SUM) or not said.is_file_name(name):
            plain = "".join(letter for letter in name[-100:] if letter.isprintable())
            name = f"{number:03d}-{plain.encode('utf-8', 'replace').decode()}"
        names[name] = below
    return names


def stamp_of(path: Path | str) -> Stamp:
    """By what it is known whether anything of a file, or of a folder, was changed.

    Raises:
        _Changed: it is nothing that can be kept: empty, a link, or too many files.
        OSError: it is gone, or cannot be seen.
        UnicodeEncodeError: it has a name that nobody can write down.
    """
    str(path).encode()
    status = os.lstat(path)
    if stat.S_ISREG(status.st_mode) and status.st_size > 0:
        return ((".", status.st_ino, status.st_size, status.st_mtime_ns),)
    if not stat.S_ISDIR(status.st_mode):
        raise _Changed
    files = sorted(islice(_below(path, ""), FILES_MAX))
    if len(files) >= FILES_MAX:
        raise _TooMany
    if not files:
        raise _Changed
    return tuple(files)


def _below(folder: Path | str, prefix: str) -> Iterator[tuple[str, int, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            name = f"{prefix}{entry.name}"
            if stat.S_ISDIR(status.st_mode):
                yield from _below(entry.path, f"{name}/")
            elif stat.S_ISREG(status.st_mode):
                name.encode()
                yield name, status.st_ino, status.st_size, status.st_mtime_ns


def _is_written(path: Path, stamp: Stamp) -> bool:
    """Whether somebody has a file of it open for writing."""
    folder = path.is_dir()
    return any(_is_open(path / below if folder else path) for below, *_ in stamp)


def _is_open(path: Path) -> bool:
    """Whether somebody has a file open for writing.

    The system grants a lease for reading on a file that nobody writes to. Whoever opens it in the
    moment until that is given back waits for it, and the signal that tells us is one that is
    ignored unless somebody wants it.
    """
    try:
        with durable.open_regular(path) as file:
            handle = file.fileno()
            fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
            try:
                fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            except BlockingIOError:
                return True
            except OSError:
                return _is_open_somewhere(os.fstat(handle))
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return True  # it is gone, or cannot be read: in any case not to be taken
    return False


def _is_open_somewhere(status: os.stat_result) -> bool:
    """The same where there are no leases, from what the system tells of processes."""
    for handle in PROC.glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.path.samestat(handle.stat(), status):
                flags = (handle.parents[1] / "fdinfo" / handle.name).read_text(encoding="ascii")
                mode = int(flags.partition("flags:")[2].split()[0], 8) & os.O_ACCMODE
                if mode != os.O_RDONLY:
                    return True
    return False


def _is_as_kept(path: Path, checkpoint: Checkpoint, kept: Kept) -> bool:
    """Whether exactly what is kept lies where the program has saved it."""
    try:
        there = {below: size for below, _, size, _ in stamp_of(path)}
        for name, below in kept.files.items():
            expected = checkpoint.manifest.files[name]
            if there.pop(below, None) != expected.size_bytes:
                return False
            with durable.open_regular(path / below if kept.folder else path) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected.sha256:
                    return False
    except (OSError, _Changed):
        return False
    return not there


def _home(session: Session) -> Path:
    """The home that the run is in."""
    return session.folder.path.parent.parent


def _place(session: Session, lay: str) -> Path:
    """Where the program of this run looks for what lay there; another run may have saved it."""
    path, runs = _home(session) / lay, session.folder.path.parent
    if path.is_relative_to(runs) and len(parts := path.relative_to(runs).parts) > 1:
        return session.folder.path.joinpath(*parts[1:])
    return path


def _order(path: Path) -> tuple[int, ...]:
    """Which of several is the newest, by the numbers in its name."""
    return tuple(int(number) for number in _NUMBER.findall(path.name))


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f".{path.name}.aside")
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    path.replace(aside)
    return aside
