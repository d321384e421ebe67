"""Real file systems on loop devices, with a power switch and everything else that disks do."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from testkit.patience import until
from trainers import durable

FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2  # nothing more reaches the disk, not even the journal
FIFREEZE = 0xC0045877
FITHAW = 0xC0045878

MADE_WITH = {"ext4": ("-m", "0"), "xfs": ()}
"""what is full for others is full for root, too"""
STRICT = {
    # The defaults of ext4 hide a missing fsync for a while: it commits every few seconds, and
    # writes what is about to be renamed.
    "ext4": "commit=600,noauto_da_alloc,errors=remount-ro",
    "xfs": "defaults",
}
SMALLEST_MIB = {"ext4": 16, "xfs": 300}


class Disk:
    """A file system of its own.

    Args:
        place: where it is mounted; its image lies beside it.
        kind: the file system.
        size_mib: its size; by default the smallest that there can be.
        forgiving: mounted as most machines have it, whatever a program has not asked for.
    """

    def __init__(
        self,
        place: Path,
        kind: str = "ext4",
        size_mib: int | None = None,
        *,
        forgiving: bool = False,
    ) -> None:
        self.path = place
        self._kind = kind
        self._options = f"loop,{'defaults' if forgiving else STRICT[kind]}"
        self._image = place.with_suffix(".image")
        place.mkdir()
        with self._image.open("wb") as image:
            image.truncate((size_mib or SMALLEST_MIB[kind]) * 2**20)
        _do(f"mkfs.{kind}", "-q", *MADE_WITH[kind], str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mount it, which replays what its journal holds."""
        _do("mount", "-t", self._kind, "-o", self._options, str(self._image), str(self.path))

    def unmount(self) -> None:
        """Unmount it, which writes everything down, unless the power was cut."""
        _do("umount", str(self.path))

    def cut_power(self) -> None:
        """From this moment on nothing reaches the disk, as after a power cut."""
        _control(self.path, FS_IOC_SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))

    def come_back(self) -> None:
        """The power is back, as soon as nobody uses the disk any more."""
        until(self._let_go, "the disk can be unmounted", look_s=0.03)
        self.mount()

    def fill(self) -> None:
        """Leave no room for anything more."""
        with self._filler.open("ab") as filler, contextlib.suppress(OSError):
            size = 2**20
            while size:
                try:
                    os.posix_fallocate(filler.fileno(), os.fstat(filler.fileno()).st_size, size)
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Take away what fills it."""
        self._filler.unlink(missing_ok=True)
        durable.sync_folder(self.path)

    @property
    def full(self) -> bool:
        """Whether it has been filled."""
        return self._filler.exists()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Whoever writes to it stands still, and cannot even be killed."""
        _control(self.path, FIFREEZE, 0)
        try:
            yield
        finally:
            thaw(self.path)

    def fail(self) -> None:
        """It finds itself broken, and allows no more writing."""
        (self._controls / "trigger_fs_error").write_text("x")

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    @property
    def _controls(self) -> Path:
        device = self.path.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        return Path("/sys/fs/ext4") / name

    def _let_go(self) -> bool:
        try:
            self.unmount()
        except subprocess.CalledProcessError:
            return False
        return True


def thaw(mount: Path) -> None:
    """Let a frozen file system go on.

    Raises:
        OSError: it is not frozen.
    """
    _control(mount, FITHAW, 0)


def _control(mount: Path, request: int, argument: bytes | int) -> None:
    handle = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(handle, request, argument)
    finally:
        os.close(handle)


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
