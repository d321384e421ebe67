"""A service of the machine, with an account of its own."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from supervisor.host.home import SERVICE, SYSTEM_HOME, UNITS, Home, own_home
from supervisor.host.install.steps import (
    CannotInstall,
    Plan,
    Step,
    remove,
    run,
    succeeds,
    tuned,
    write,
)
from supervisor.host.install.units import (
    BOOT_SERVICE,
    NOTE_BOOT,
    check_name,
    shipped,
    started,
    stopped,
    systemd_runs,
    unit_file,
)
from supervisor.programs import ROOT

SETTINGS = Path("/etc/training-supervisor/supervisor.toml")
ACCOUNT = Path("/etc/sysusers.d/training-supervisor.conf")
HIDDEN = tuple(Path(path) for path in ("/home", "/root", "/run/user"))
"""what the unit's ProtectHome=tmpfs empties"""
LOCATION = """\
# What the service runs from lies in a home, which it does not see otherwise.
[Service]
BindReadOnlyPaths={}
"""
FIRST_SETTINGS = """\
# Settings of the training supervisor. Every key is optional, and a change is taken over at once.
# `supervisor check-config` checks them.
"""


def plan(home: Path) -> Plan:
    """How to make it a service of the machine."""
    units = (UNITS / SERVICE, UNITS / BOOT_SERVICE)
    location = UNITS / f"{SERVICE}.d/10-location.conf"
    limits = location.with_name("50-limits.conf")
    link = SYSTEM_HOME / "supervisor.toml"

    def steps() -> tuple[Step, ...]:
        if os.geteuid() != 0:
            raise CannotInstall("a service of the machine needs root: sudo, or take another kind")
        if not systemd_runs():
            raise CannotInstall("systemd does not run this machine: take --cron or --profile")
        if home != SYSTEM_HOME:
            raise CannotInstall(f"the service of the machine has its home at {SYSTEM_HOME}")
        if Home(own_home()).holder() is not None:
            raise CannotInstall(
                f"a supervisor runs on {own_home()}, and two would compete: "
                f"supervisor --home {own_home()} stop"
            )
        hidden = [str(place) for place in _places() if _is_hidden(place)]
        files = [write(unit, unit_file(unit.name)) for unit in units]
        binds = LOCATION.format(" ".join(hidden))
        files.append(write(location, binds) if hidden else remove(location))
        account = "training-supervisor"
        return (
            write(ACCOUNT, shipped("training-supervisor.conf")),
            run("systemd-sysusers", str(ACCOUNT), unless=lambda: succeeds("id", account)),
            run(
                *("install", "-d", "-m", "0750", "-o", account, "-g", account, str(SYSTEM_HOME)),
                unless=SYSTEM_HOME.is_dir,
            ),
            write(SETTINGS, FIRST_SETTINGS, keep=True),
            # -T: whatever the account has put there meanwhile, nothing is made inside it.
            run("ln", "-sT", str(SETTINGS), str(link), unless=lambda: os.path.lexists(link)),
            write(NOTE_BOOT, shipped("note-boot"), executable=True),
            write(limits, shipped("limits.conf"), keep=True),
            *files,
            tuned(home),
            *started(("systemctl",), changed=not all(step.is_done() for step in files)),
        )

    return Plan(
        kind="system",
        home=home,
        is_installed=units[0].exists,
        steps=steps,
        undo=lambda: (
            stopped(("systemctl",)),
            remove(limits, only=shipped("limits.conf")),
            *(remove(path) for path in (location, *units, NOTE_BOOT, ACCOUNT)),
            run("systemctl", "daemon-reload"),
        ),
        after=(
            f"settings: {SETTINGS}; home: {SYSTEM_HOME}; look with `supervisor show-state` and "
            "`journalctl -u training-supervisor`"
        ),
        kept=(
            "kept: runs, settings, limits that you have set, and the account; to remove what is in "
            f"the first two, and the account, too: rm -r {SYSTEM_HOME} "
            f"{SETTINGS.parent}; userdel training-supervisor"
        ),
        settings=SETTINGS,
    )


def _places() -> tuple[Path, ...]:
    """The folders that the supervisor runs from.

    Raises:
        CannotInstall: the account of the service could not read one of them.
    """
    folders = (Path(sys.prefix), ROOT, Path(sys.base_prefix).resolve())
    for folder in folders:
        if any(folder.is_relative_to(place) for place in ("/tmp", "/var/tmp")):  # noqa: S108
            raise CannotInstall(
                f"{folder} lies where a boot may empty it, and where the service sees nothing: "
                "install into /opt/training-supervisor"
            )
    outer = [one for one in dict.fromkeys(folders) if not any(p in folders for p in one.parents)]
    for folder in folders:
        check_name(folder)
        for part in (folder, *folder.parents):
            # Above what is bound into a hidden folder, the service sees no folder of ours.
            seen = not _is_hidden(part) or any(part.is_relative_to(place) for place in outer)
            if seen and part not in HIDDEN and part.stat().st_mode & 0o005 != 0o005:
                raise CannotInstall(
                    f"the service has an account of its own, which may not read {part}: "
                    f"chmod o+rx {shlex.quote(str(part))}, or install into /opt/training-supervisor"
                )
    return tuple(outer)


def _is_hidden(place: Path) -> bool:
    return any(place.is_relative_to(hidden) for hidden in HIDDEN)
