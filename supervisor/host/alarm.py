"""Ends a nap as soon as something on this machine waits for a processor, where the kernel does it.

Whoever may use more than others (CAP_SYS_RESOURCE) is told within a tenth of a second. For all
others the kernel looks once in two seconds, so that they hear of it a second later than that on
average. Kernels before 6.4 tell them nothing, and some tell nobody.
"""

from __future__ import annotations

import os
from pathlib import Path

STALLS = Path("/proc/pressure/cpu")
WAYS = (b"some 150000 1000000\0", b"some 300000 2000000\0")
"""microseconds of waiting in a window of so many; the second is open to everybody"""
SHARE = 15.0
"""percent of the window, in both"""


class Alarm:
    """Rings where tasks wait for a processor, ours included: so it says when to look, never why.

    Args:
        stalls: where the kernel tells of them.
    """

    def __init__(self, stalls: Path = STALLS) -> None:
        self._stalls = stalls
        self._handle: int | None = None

    @property
    def handles(self) -> tuple[int, ...]:
        """Has an urgent event (POLLPRI) when it rings; none while it is not set, or cannot be."""
        return () if self._handle is None else (self._handle,)

    def set(self) -> float | None:
        """Have it ring from now on; within how many seconds the kernel does so, None: never."""
        self.clear()
        for way in WAYS:
            try:
                handle = os.open(self._stalls, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                return None
            try:
                os.write(handle, way)
            except OSError:
                os.close(handle)
                continue
            self._handle = handle
            return 0.1 if way is WAYS[0] else 2.0
        return None

    def clear(self) -> None:
        """It rings no more; what it holds of the kernel is given back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
