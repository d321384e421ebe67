"""The only place that reads a clock."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

from supervisor.core.moments import Moment

LOCALTIME = Path("/etc/localtime")
ZONES = Path("/usr/share/zoneinfo")
RULES = b"TZif"
"""how the file of a zone begins; other files lie there, too"""


class Clock(Protocol):
    """Whatever can say what time it is."""

    def read(self) -> Moment:
        """The present moment."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self._boot_id = boot_id()

    def read(self) -> Moment:
        """The present moment."""
        return Moment(
            wall=time.time(),  # noqa: TID251 - this is the one place
            monotonic_s=time.monotonic(),
            boottime_s=time.clock_gettime(time.CLOCK_BOOTTIME),
            boot_id=self._boot_id,
        )


def pause(seconds: float) -> None:
    """Let time pass, for commands that look again and again; the daemon sleeps in `Watch`."""
    time.sleep(seconds)


def zone_name() -> str:
    """The zone of the clock on the wall of this machine."""
    said = os.environ.get("TZ", "").removeprefix(":")
    try:
        link = str(LOCALTIME.readlink())
    except OSError:
        link = ""
    for path in (said if said.startswith("/") else str(ZONES / said), link):
        name = path.partition("zoneinfo/")[2]
        if _is_zone(name):
            return name
    return "UTC"


def _is_zone(name: str) -> bool:
    """Whether a calendar finds the rules of a zone by that name."""
    if not {"", ".", ".."}.isdisjoint(name.split("/")):
        return False
    try:
        with (ZONES / name).open("rb") as rules:
            return rules.read(len(RULES)) == RULES
    except OSError:
        return False


def boot_id() -> str:
    """The identity of this boot, without dashes.

    systemd passes it as `BOOT_ID=%b`: inside a container or a hardened unit the
    file may be hidden or be another machine's.
    """
    told = os.environ.get("BOOT_ID")
    text = told or Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return text.strip().replace("-", "").lower()
