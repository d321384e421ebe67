"""Files that a power cut leaves whole: the old content or the new, never a mixture.

The recipe is the only one that POSIX file systems honour: write a new file in
the same folder, fsync it, rename it over the old one, fsync the folder.

Every way of touching a file has its one opener here: `read` and `open_regular`
for what is there, `fill` for what is new, `open_log` for what grows. None of
them follows a link, waits for anybody (as opening a named pipe does), or takes
anything but a regular file, and whatever the umask, what they make can be
written by its owner alone. Readers read no more than they were told to, of a
line neither. So a hostile file in a folder costs an error and not the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Iterator
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import BinaryIO

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # from <fcntl.h> and <linux/fs.h>

READ_MAX_BYTES = 16 * 1024 * 1024
"""no file of ours that is read whole is larger; a larger one is damaged or hostile"""
LINE_MAX_BYTES = 4 * 1024 * 1024
"""no line of ours is longer"""
FILE_MODE = 0o644
FOLDER_MODE = 0o755
"""both less the umask: nobody but the owner ever writes"""
NOT_REGULAR = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV)
"""what opening says of a link, a folder, a socket, and a device that is none"""

LOCK = "lock"
"""the file in a folder by which its owner holds it"""
LOCK_ATTEMPTS = 10
"""how often a lock file that is exchanged while it is taken is tried again"""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""what a disk says that takes nothing new"""
PROC = Path("/proc")
PIECE_BYTES = 2**26
"""of a file that the kernel copies at once"""
UNSUPPORTED = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)
"""what a system says that cannot copy between two files by itself"""
UMASK = "TRAINING_SUPERVISOR_UMASK"
"""environment variable: the umask that programs of the user's are started with, in octal"""


class UnreadableFile(OSError):
    """A file that exists and cannot be taken as ours: a link, a folder, or far too large."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.filename = str(path)
        self.strerror = why

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def close_to_others() -> None:
    """Let nobody else write to what we make, whoever of ours makes it.

    The umask that was there is remembered for programs that are the user's own.
    """
    usual = os.umask(0)
    os.umask(usual | 0o022)
    os.environ.setdefault(UMASK, f"{usual:03o}")


def write(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace the content of `path` at once, or leave it as it was.

    With `sync` the new content has reached the disk on return. Without it, a
    power cut may leave the old content or an empty file: right only for what
    is written every few seconds and may be missing, such as a heartbeat.

    Raises:
        OSError: the disk is full or read-only; `path` is as it was.
    """
    fresh = path.with_name(f".{path.name}.new")  # one name, so that killed writers leave one
    fill(fresh, content, sync=sync)
    try:
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def fill(path: Path, content: bytes | memoryview, *, sync: bool = True) -> None:
    """Write the first half of the recipe: a file that nobody reads before it is renamed.

    It is a new one: what a killed writer has left there, or somebody else has put there, is
    removed and never written into. With `sync` its content has reached the disk on return; its
    name may not have.

    Raises:
        OSError: the disk is full or read-only, or a folder with something in it lies there; there
            is no such file then.
    """
    _clear(path)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(handle, view) :]
            if sync:
                os.fsync(handle)
        finally:
            os.close(handle)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def clone(source: Path, target: Path, *, link: bool = False) -> None:
    """A file with the content of another, which no later change of that one reaches.

    The kernel shares the blocks of the two where the file system knows how, and copies otherwise.

    Raises:
        OSError: the disk is full or failing, or `source` is no regular file; no `target` is left.
    """
    if link:
        with contextlib.suppress(OSError):
            os.link(source, target, follow_symlinks=False)
            return
    fill(target, b"", sync=False)
    try:
        with (
            open_regular(source) as old,
            open_regular(target, writable=True) as new,
        ):
            _copy(old.fileno(), new.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _copy(old: int, new: int) -> None:
    try:
        while os.copy_file_range(old, new, PIECE_BYTES):
            pass
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        while os.sendfile(new, old, None, PIECE_BYTES):
            pass


def _clear(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        path.rmdir()  # an empty one is nobody's loss


def read(path: Path, max_bytes: int = READ_MAX_BYTES, *, follow: bool = False) -> bytes:
    """The whole content of a regular file of at most `max_bytes`.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableFile: it is a symlink (unless `follow`), no regular file, or larger.
        OSError: the disk or the rights forbid it; that says nothing about the content.
    """
    with open_regular(path, follow=follow) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise UnreadableFile(path, f"larger than {max_bytes} bytes")
        return file.read(max_bytes)


def open_regular(
    path: Path, *, follow: bool = False, writable: bool = False
) -> BufferedReader | BufferedRandom:
    """A regular file, opened for reading, or for changing it in place.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableFile: it is a symlink (unless `follow`), or no regular file.
        OSError: the disk or the rights forbid it.
    """
    flags = os.O_RDWR if writable else os.O_RDONLY
    handle = _opened(path, flags if follow else flags | os.O_NOFOLLOW)
    return os.fdopen(handle, "r+b") if writable else os.fdopen(handle, "rb")


def open_log(path: Path) -> int:
    """A handle that appends to a regular file, made where there is none.

    Raises:
        UnreadableFile: it is a symlink, or no regular file.
        OSError: the disk or the rights forbid it.
    """
    return _opened(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW)


def _opened(path: Path, flags: int) -> int:
    try:
        # O_NONBLOCK: opening a FIFO that somebody left here must not hang us.
        handle = os.open(path, flags | os.O_NONBLOCK, FILE_MODE)
    except OSError as error:
        if error.errno in NOT_REGULAR:
            raise UnreadableFile(path, "not a regular file") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnreadableFile(path, "not a regular file")
    os.set_blocking(handle, True)  # a child that inherits it may mind
    return handle


def lines(file: BinaryIO) -> Iterator[bytes]:
    """Each line from here on, without its end; one that is too long is passed over."""
    while raw := file.readline(LINE_MAX_BYTES):
        if raw.endswith(b"\n") or len(raw) < LINE_MAX_BYTES:
            yield raw.removesuffix(b"\n")
            continue
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(LINE_MAX_BYTES)


def all_lines(path: Path) -> Iterator[bytes]:
    """Each line of a log and its older files, oldest first, without its end.

    Raises:
        UnreadableFile: the log is no regular file.
        OSError: the disk or the rights forbid it.
    """
    files: dict[tuple[int, int], BinaryIO] = {}
    for file in generations(path):  # newest first: a rotation meanwhile shows one twice, hides none
        files.setdefault(identity(file), file)
    for log in reversed(files.values()):
        with log:
            yield from lines(log)


def generations(path: Path) -> Iterator[BinaryIO]:
    """A log and its older files, newest first, up to the first that is missing or no file.

    Raises:
        UnreadableFile: the log is no regular file.
        OSError: the disk or the rights forbid it.
    """
    for age in itertools.count():
        try:
            yield open_regular(path.with_name(f"{path.name}.{age}") if age else path)
        except FileNotFoundError:
            if age:  # otherwise it was rotated a moment ago
                return
        except UnreadableFile:
            if not age:
                raise
            return


def identity(file: BinaryIO) -> tuple[int, int]:
    """What tells an open file from every other, whatever it is called by now."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def append(path: Path, line: bytes, *, max_bytes: int, kept: int = 1, sync: bool = False) -> None:
    """Append a line to a log that never grows beyond `max_bytes` and `kept` older files.

    A line that a power cut left torn is ended first, so that it spoils no other.
    Older files are called `NAME.1` (the newest), `NAME.2` and so on.

    Raises:
        OSError: the disk is full or read-only, or the log is no regular file, or something is in
            the way of the older ones; at most this line is missing.
    """
    handle = open_log(path)
    try:
        size = os.fstat(handle).st_size
        if size >= 2 * max_bytes:  # the last try to rotate it has failed, and so will the next
            _rotate(path, kept)
            return append(path, line, max_bytes=max_bytes, kept=kept, sync=sync)
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        add(handle, (b"\n" if torn else b"") + line + b"\n", size, sync=sync)
    finally:
        os.close(handle)
    if size + len(line) >= max_bytes:
        with contextlib.suppress(OSError):  # the line is there; the next one tries again
            _rotate(path, kept)
    return None


def add(handle: int, content: bytes, size: int, *, sync: bool = False) -> None:
    """Write `content` behind the `size` bytes of an open log, or leave the log as it was.

    Raises:
        OSError: the disk is full or read-only.
    """
    try:
        if os.write(handle, content) < len(content):  # the disk took what it had room for
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if sync:
            os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)  # whoever writes it again must not find it there
        raise


def _rotate(path: Path, kept: int) -> None:
    for age in range(kept, 0, -1):
        older = path.with_name(f"{path.name}.{age}")
        newer = path.with_name(f"{path.name}.{age - 1}") if age > 1 else path
        if os.path.lexists(newer):
            newer.replace(older)


def make_folder(path: Path) -> None:
    """A folder that only its owner writes to, made where there is none, with those above it.

    Raises:
        UnreadableFile: something else lies there, or a link.
        OSError: the disk or the rights forbid it.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=FOLDER_MODE, parents=True)
    if not is_folder(path):
        raise UnreadableFile(path, "not a folder")


def is_folder(path: Path) -> bool:
    """Whether a folder lies there, and no link to one.

    Raises:
        FileNotFoundError: nothing lies there.
    """
    return stat.S_ISDIR(path.lstat().st_mode)


class Lock:
    """A folder that is this process's alone, until it lets go or ends, however that ends.

    A `flock` needs no more than the right to read, so any account could take one on a folder that
    it may look at. So the lock is on a file in it that its owner alone can open. Who deletes that
    file opens no door: the holder has a lock on the folder, too, and of that one a process of the
    same account is believed and a stranger's is not.
    """

    def __init__(self, folder: Path, place: int, file: int | None) -> None:
        self._folder = folder
        self._place = place
        self._file = file
        """None: the disk is full or read-only, and the folder alone is locked"""

    def lasts(self) -> bool:
        """Whether what is held still lies at its path; a lock file that is gone is made anew.

        It does not once somebody has moved or removed the folder: another process could
        hold what lies there now.
        """
        try:
            if not os.path.samestat(os.fstat(self._place), self._folder.stat()):
                return False
            there = _look(self._place)
            if self._file is None or there is None or not _is_one(self._file, there):
                file = _lock_file(self._place)
                if self._file is not None:
                    os.close(self._file)
                self._file = file
            _is_free(self._place, fcntl.LOCK_EX)  # a stranger may have let go of it
        except OSError as error:
            return error.errno in NO_ROOM
        return True

    def release(self) -> None:
        """Let go of it."""
        if self._file is not None:
            os.close(self._file)
        os.close(self._place)


def hold(folder: Path) -> Lock:
    """Take `folder` for this process alone.

    Raises:
        BlockingIOError: another process of this account holds it.
        OSError: it cannot be opened, or something that is no file lies where its lock belongs.
    """
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    lock = Lock(folder, place, None)
    try:
        try:
            lock = Lock(folder, place, _lock_file(place))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            # Better the lock that a stranger could keep from us than none.
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Held by one of ours, the lock file was deleted under that one.
        if not _is_free(place, fcntl.LOCK_EX) and _is_locked_by_us(place):
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
    except BaseException:
        lock.release()
        raise
    return lock


def is_held(folder: Path) -> bool:
    """Whether a process of this account holds `folder`; whoever looks holds it for a moment, too.

    Raises:
        PermissionError: the folder is another account's: only that one can tell.
        OSError: it cannot be looked at.
    """
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(FileNotFoundError):
            file = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
            try:
                if not _is_free(file) and (_is_private(file) or _is_locked_by_us(file)):
                    return True
            finally:
                os.close(file)
        return not _is_free(place) and _is_locked_by_us(place)
    finally:
        os.close(place)


def has_locked(pid: int, status: os.stat_result) -> bool:
    """Whether that process, of this account, has a lock on the file or folder of that identity."""
    try:
        handles = os.listdir(PROC / f"{pid}/fd")  # noqa: PTH208 - numbers
    except OSError:
        return False
    for handle in handles:
        with contextlib.suppress(OSError):  # it was closed meanwhile
            # Not by the inode that `fdinfo` tells: some file systems have two for one file.
            if os.path.samestat((PROC / f"{pid}/fd/{handle}").stat(), status):
                said = (PROC / f"{pid}/fdinfo/{handle}").read_bytes()
                if b"FLOCK" in said and b" WRITE " in said:
                    return True
    return False


def account_of(pid: int) -> int | None:
    """The account that has started a process: its real uid. None where no such process is seen."""
    try:
        status = (PROC / str(pid) / "status").read_bytes()
    except OSError:
        return None
    # The effective one is that of a program that is setuid, whoever has started it.
    return next(
        (int(line.split()[1]) for line in status.splitlines() if line.startswith(b"Uid:")), None
    )


def _lock_file(place: int) -> int:
    """The locked lock file of a folder; what another account could have opened is replaced.

    Raises:
        BlockingIOError: another process of this account has locked it.
        OSError: it cannot be made.
    """
    # To be read: a lock that is there can be had on a read-only disk, too.
    flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    for _ in range(LOCK_ATTEMPTS):
        try:
            file = os.open(LOCK, flags, 0o600, dir_fd=place)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES):
                raise
            os.unlink(LOCK, dir_fd=place)  # a link, a socket, or another account's
            continue
        try:
            private = _is_private(file)
            if not _is_free(file, fcntl.LOCK_EX) and (private or _is_locked_by_us(file)):
                raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
            there = _look(place)
            if there is not None and _is_one(file, there):
                if private:
                    return file
                os.unlink(LOCK, dir_fd=place)
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    raise BlockingIOError(errno.EWOULDBLOCK, "its lock file is exchanged all the time")


def _look(place: int) -> os.stat_result | None:
    try:
        return os.stat(LOCK, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_one(handle: int, status: os.stat_result) -> bool:
    return os.path.samestat(os.fstat(handle), status)


def _is_private(handle: int) -> bool:
    """Whether a file is of the kind that no other account can open."""
    status = os.fstat(handle)
    regular = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077
    return regular and status.st_uid == os.geteuid()


def _is_free(handle: int, kind: int = fcntl.LOCK_SH) -> bool:
    """Whether a lock could be taken; it is."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked_by_us(handle: int) -> bool:
    """Whether a process of this account has locked what is open there."""
    status, me = os.fstat(handle), os.geteuid()
    pids = (int(name) for name in os.listdir(PROC) if name.isdigit())  # noqa: PTH208 - numbers
    return any(account_of(pid) == me and has_locked(pid, status) for pid in pids)


def exchange(one: Path, other: Path) -> bool:
    """Have two folders, or files, change their names at once; False: this system cannot.

    Raises:
        OSError: the disk is failing; both are where they were.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
    if libc.renameat2(*names, RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EXDEV):
        return False
    raise OSError(number, os.strerror(number), str(one))


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: what was created, renamed or removed there."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
