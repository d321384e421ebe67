"""Timers that learn usage, beside the service, where somebody asks for them; and how they did.

They start nothing but our own commands, which open connections that the supervisor does not. What
trains, and when, is the supervisor's affair alone.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from supervisor.core.moments import stamp, when
from supervisor.host.install.steps import Step, decoded, remove, run, write
from supervisor.host.install.units import Units, as_wanted, of_home, unit, unit_file

COMMANDS = ("analyze-usage", "sample-usage")
"""each has a timer"""
PERSISTENT = "analyze-usage"
"""the one that makes up for what it has missed, for which systemd keeps a mark"""
ENDS = {
    "analyze-usage": {75: "and could claim nothing", 78: "and found nobody to ask"},
    "sample-usage": {75: "and was not answered", 78: "and found nobody to ask"},
}
"""what their exit codes mean that are no failures"""
LOOK_MAX_S = 2.0
"""how long systemd may take to tell of them"""
TOLD = (
    "Id", "ActiveState", "SubState", "Result", "LastTriggerUSec", "NextElapseUSecRealtime",
    "ExecMainStartTimestamp", "ExecMainStatus",
)  # fmt: skip
"""what it is asked"""


class Timer(NamedTuple):
    """A timer that is installed, as far as it can be known; an unknown is None."""

    command: str
    enabled: bool
    """whether each boot starts it"""
    runs: bool | None = None
    """whether it waits for its next instant"""
    last_at: float | None = None
    """when its command began last"""
    result: str | None = None
    """how that ended: `success`, or systemd's word for what was wrong; `running`, `again`: it goes
    on, or has failed and is tried again"""
    exit_code: int | None = None
    next_at: float | None = None
    of_user: bool = False
    """whether it is one of a user's systemd"""

    @property
    def words(self) -> str:
        """For a person."""
        if not self.enabled or self.runs is False:
            verb = "start" if self.enabled else "enable --now"
            sudo = "systemctl --user" if self.of_user else "sudo systemctl"
            stands = "enabled, and stands still" if self.enabled else "not enabled"
            told = f"{stands}: {sudo} {verb} {unit(self.command, 'timer')}"
        elif self.runs is None:
            return "enabled; systemd does not tell when it ran, nor when it runs next"
        elif self.next_at is None:
            told = "enabled, and nobody knows when it runs next"
        else:
            told = f"enabled, runs next {when(stamp(self.next_at))}"
        if self.last_at is None:  # one that stands still is forgotten by systemd
            return f"{told}; it has not run since the boot" if self.runs else told
        how = f", {self._end}" if self._end else ""
        return f"{told}; it ran last {when(stamp(self.last_at))}{how}"

    @property
    def _end(self) -> str:
        if self.result is None:
            return ""  # that was before the boot
        if self.result == "success":
            known = {0: "well", **ENDS[self.command]}
            return known.get(self.exit_code or 0, f"with exit code {self.exit_code}")
        words = {"running": "and runs still", "again": "and failed; it is tried again each hour"}
        return words.get(self.result, f"and failed ({self.result})")


def settled(units: Units, wanted: bool | None, location: str = "") -> tuple[Step, ...]:
    """The timers as somebody wants them.

    Args:
        units: where.
        wanted: whether they are to be there; None: as they are, but in the files of this version.
        location: a drop-in for their services, by which they see what they run from.
    """
    there = COMMANDS if wanted else _installed(units)
    if not there:
        return ()
    if wanted is False:
        return (*taken(units), run(*units.manager, "daemon-reload"))
    user = "user/" if units.of_user else ""
    files = [
        write(units.file(command, kind), unit_file(f"{user}{unit(command, kind)}", units.home))
        for command in there
        for kind in ("service", "timer")
    ]
    if not units.of_user:
        places = [units.location(command) for command in there]
        files += [write(one, location) if location else remove(one) for one in places]
    # A timer alone starts nothing but what is due by it. One that a person has stopped stays so.
    return as_wanted(units, files, [unit(command, "timer") for command in there], wanted=wanted)


def taken(units: Units) -> tuple[Step, ...]:
    """No timers, and nothing of them: what one has missed counts for none that comes later."""
    there = _installed(units)
    if not there:
        return ()
    stop = [unit(command, kind) for command in there for kind in ("timer", "service")]
    timers = [unit(command, "timer") for command in there]
    forget = [run(*units.manager, "clean", "--what=state", unit(PERSISTENT, "timer"))]
    return (
        run(*units.manager, "disable", *timers),
        run(*units.manager, "stop", *stop),
        *(forget if PERSISTENT in there else ()),
        *(remove(units.file(command, kind)) for command in there for kind in ("timer", "service")),
        *(remove(units.location(command)) for command in there if not units.of_user),
    )


def look(home: Path, max_s: float = LOOK_MAX_S) -> tuple[Timer, ...]:
    """What is known of the timers of a home; none where none are installed by systemd.

    Args:
        home: whose.
        max_s: how long systemd may take; after that it is unknown what only that knows.
    """
    units = of_home(home)
    there = _installed(units)
    if not there:
        return ()
    said = _asked(units, there, max_s)
    return tuple(_timer(units, command, said) for command in there)


def _installed(units: Units) -> tuple[str, ...]:
    """The commands whose timers are there, for this home."""
    return tuple(one for one in COMMANDS if units.have(one, "timer"))


def _timer(units: Units, command: str, said: dict[str, dict[str, str]]) -> Timer:
    link = units.folder / "timers.target.wants" / unit(command, "timer")
    enabled = link.is_symlink() or link.exists()
    timer, service = (said.get(unit(command, kind), {}) for kind in ("timer", "service"))
    began_at = _moment(service.get("ExecMainStartTimestamp"))
    result: str | None = None
    if began_at is not None:
        result = service.get("Result")
        if service.get("ActiveState") == "activating":
            waits = service.get("SubState", "").startswith("auto-restart")  # perhaps -queued
            result = "again" if waits else "running"
    return Timer(
        command=command,
        enabled=enabled,
        runs=timer["ActiveState"] == "active" if "ActiveState" in timer else None,
        last_at=began_at if began_at is not None else _moment(timer.get("LastTriggerUSec")),
        result=result,
        exit_code=int(service["ExecMainStatus"])
        if began_at is not None and result != "running"
        else None,
        next_at=_moment(timer.get("NextElapseUSecRealtime")),
        of_user=units.of_user,
    )


def _asked(units: Units, commands: tuple[str, ...], max_s: float) -> dict[str, dict[str, str]]:
    """What systemd tells of each unit, by its name; nothing where it does not answer in time."""
    names = [unit(command, kind) for command in commands for kind in ("timer", "service")]
    ask = [*units.manager, "show", f"--property={','.join(TOLD)}", "--no-pager", *names]
    try:
        asked = subprocess.run(
            ask,
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if asked.returncode != 0:
        return {}
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in decoded(asked.stdout).split("\n\n")
    ]
    return {block["Id"]: block for block in blocks if "Id" in block}


def _moment(told: str | None) -> float | None:
    """A moment as systemd tells it in UTC; None: there is none."""
    text = (told or "").replace(" UTC", " +0000")
    try:
        return dt.datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S %z").timestamp()
    except ValueError:
        return None
