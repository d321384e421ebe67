"""A wall clock that can be set without setting that of the machine."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

EVERYWHERE = "etc/clock-offset"
"""below the root of a machine that preloads the library, and names no other file"""


def compiler() -> str | None:
    """What can build the library."""
    return shutil.which("cc") or shutil.which("gcc")


def build(library: Path) -> Path:
    """Build the library that shows the false time to whoever preloads it."""
    source = Path(__file__).with_suffix(".c")
    command = [compiler() or "cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return library


class FalseClock:
    """The false clock of all programs that read one file. It is right until it is set.

    Args:
        library: what these preload.
        offset: the file.
    """

    def __init__(self, library: Path, offset: Path) -> None:
        self._library, self._offset = library, offset
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to believe in it."""
        return {"LD_PRELOAD": str(self._library), "FALSE_CLOCK": str(self._offset)}

    def set(self, step_s: int) -> None:
        """Set it to the true time and `step_s` seconds more; seen at once by all that runs."""
        new = self._offset.with_name(f"{self._offset.name}.new")
        new.write_text(f"{step_s}\n")
        new.chmod(0o644)
        new.replace(self._offset)
        self._step_s = step_s

    @property
    def now(self) -> float:
        """What it shows, in seconds since 1970."""
        return time.clock_gettime(time.CLOCK_REALTIME) + self._step_s

    def put_to(self, at: float) -> None:
        """Have it show that time, within half a second."""
        self.set(round(at - time.clock_gettime(time.CLOCK_REALTIME)))

    def forget(self) -> None:
        """Be a machine without a battery: it boots in 1970."""
        self.set(-int(time.clock_gettime(time.CLOCK_REALTIME)))
