"""Files that a power cut leaves whole: the old content or the new, never a mixture.

The recipe is the only one that POSIX file systems honour: write a new file in
the same folder, fsync it, rename it over the old one, fsync the folder.
Readers never follow a symlink and never read more than they were told to, so a
hostile file in a folder costs an error and not the machine.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from io import BufferedRandom, BufferedReader
from pathlib import Path

READ_MAX_BYTES = 16 * 1024 * 1024
"""no file of ours that is read whole is larger; a larger one is damaged or hostile"""


class UnreadableFile(OSError):
    """A file that exists and cannot be taken as ours: a link, a folder, or far too large."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")


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


def fill(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write the first half of the recipe: a file that nobody reads before it is renamed.

    With `sync` its content has reached the disk on return; its name may not have.

    Raises:
        OSError: the disk is full or read-only; there is no such file then.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
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
    # O_NONBLOCK: opening a FIFO that somebody left here must not hang us.
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise UnreadableFile(path, "not a regular file") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnreadableFile(path, "not a regular file")
    return os.fdopen(handle, "r+b") if writable else os.fdopen(handle, "rb")


def append(path: Path, line: bytes, *, max_bytes: int, kept: int = 1, sync: bool = False) -> None:
    """Append a line to a log that never grows beyond `max_bytes` and `kept` older files.

    A line that a power cut left torn is ended first, so that it spoils no other.
    Older files are called `NAME.1` (the newest), `NAME.2` and so on.

    Raises:
        OSError: the disk is full or read-only; at most this line is missing.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        content = (b"\n" if torn else b"") + line + b"\n"
        try:
            if os.write(handle, content) < len(content):  # the disk took what it had room for
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)  # whoever writes it again must not find it there
            raise
    finally:
        os.close(handle)
    if size + len(line) >= max_bytes:
        with contextlib.suppress(OSError):  # the line is there; the next one tries again
            _rotate(path, kept)


def _rotate(path: Path, kept: int) -> None:
    for age in range(kept, 0, -1):
        older = path.with_name(f"{path.name}.{age}")
        newer = path.with_name(f"{path.name}.{age - 1}") if age > 1 else path
        if newer.exists():
            newer.replace(older)


def hold(folder: Path, *, shared: bool = False) -> int:
    """Lock `folder` for this process and return the handle that holds the lock.

    With `shared`, others may hold it too, if they share it.

    The lock is on the folder itself: there is no lock file that somebody could
    delete. It ends with the process, however that ends.

    Raises:
        BlockingIOError: another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: what was created, renamed or removed there."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
