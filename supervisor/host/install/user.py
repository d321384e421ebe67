"""A service of one user, who need not be logged in."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from supervisor.host.home import SERVICE
from supervisor.host.install import serving, timers
from supervisor.host.install.steps import (
    Beside,
    CannotInstall,
    Plan,
    Step,
    kept,
    remove,
    run,
    succeeds,
    tuned,
    write,
)
from supervisor.host.install.units import (
    BOOT_SERVICE,
    of_home,
    shipped,
    started,
    stopped,
    unit_file,
)


def plan(home: Path, beside: Beside) -> Plan:
    """How to make it a service of this user."""
    units = of_home(home)
    folder, manager, _ = units
    note_boot = home / "note-boot"

    def steps() -> tuple[Step, ...]:
        if not succeeds(*manager, "show", "--property=Version"):
            raise CannotInstall(
                "no systemd of this user can be reached: log in as that user, not with su or sudo; "
                "or take --cron or --profile"
            )
        serving.see_packages(wanted=beside.api)
        files = [
            write(folder / unit, unit_file(f"user/{unit}", home, note_boot))
            for unit in (SERVICE, BOOT_SERVICE)
        ]
        name = pwd.getpwuid(os.getuid()).pw_name
        lingering = Path("/var/lib/systemd/linger") / name
        return (
            write(note_boot, shipped("note-boot"), executable=True),
            *files,
            run("loginctl", "enable-linger", name, unless=lingering.exists),
            tuned(home),
            *started(manager, changed=not all(step.is_done() for step in files)),
            *timers.settled(units, beside.usage),
            *serving.settled(units, beside.api),
        )

    return Plan(
        kind="user",
        home=home,
        is_installed=(folder / SERVICE).exists,
        steps=steps,
        undo=lambda: (
            *timers.taken(units),
            *serving.taken(units),
            stopped(manager),
            *(remove(path) for path in (folder / SERVICE, folder / BOOT_SERVICE, note_boot)),
            run(*manager, "daemon-reload"),
        ),
        after=f"home: {home}; look with `supervisor show-state`",
        kept=f"{kept(home)}; loginctl disable-linger",
    )
