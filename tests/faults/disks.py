"""Real file systems on loop devices, with a power switch and everything else that disks do."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import worlds

FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2  # nothing more reaches the disk, not even the journal
FIFREEZE = 0xC0045877

OPTIONS = {
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
    """

    def __init__(self, place: Path, kind: str) -> None:
        self.path = place
        self._kind = kind
        self._image = place.with_suffix(".image")
        place.mkdir()
        with self._image.open("wb") as image:
            image.truncate(SMALLEST_MIB[kind] * 2**20)
        _do(f"mkfs.{kind}", "-q", str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mount it, which replays what its journal holds."""
        options = f"loop,{OPTIONS[self._kind]}"
        _do("mount", "-t", self._kind, "-o", options, str(self._image), str(self.path))

    def unmount(self) -> None:
        """Unmount it, which writes everything down, unless the power was cut."""
        _do("umount", str(self.path))

    def cut_power(self) -> None:
        """From this moment on nothing reaches the disk, as after a power cut."""
        self._control(FS_IOC_SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))

    def come_back(self) -> None:
        """The power is back, and nobody uses the disk yet."""
        self.unmount()
        self.mount()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Whoever writes to it stands still, and cannot even be killed."""
        self._control(FIFREEZE, 0)
        try:
            yield
        finally:
            worlds.thaw(self.path)

    def fail(self) -> None:
        """It finds itself broken, and allows no more writing."""
        (self._controls / "trigger_fs_error").write_text("x")

    @property
    def _controls(self) -> Path:
        device = self.path.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        return Path("/sys/fs/ext4") / name

    def _control(self, request: int, argument: bytes | int) -> None:
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(handle, request, argument)
        finally:
            os.close(handle)


def a_disk(place: Path, kind: str = "ext4") -> Disk:
    """A disk, or a test that says loudly that it had none."""
    if not worlds.can_be_made():
        pytest.skip("NOT TESTED: a disk of its own; this needs root and new namespaces")
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"NOT TESTED: {kind}; there is no mkfs.{kind} here")
    try:
        return Disk(place, kind)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"NOT TESTED: a disk of its own; {error.stderr.strip()}")


def a_tiny_disk(place: Path) -> Path:
    """A disk of two megabytes."""
    if not worlds.can_be_made():
        pytest.skip("NOT TESTED: a full disk; this needs root and new namespaces")
    place.mkdir()
    _do("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place))
    return place


def in_memory(place: Path) -> Path:
    """The folder, with memory laid over it where possible: for what no disk has a part in."""
    if worlds.can_be_made():
        _do("mount", "-t", "tmpfs", "tmpfs", str(place))
    return place


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
