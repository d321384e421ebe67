"""A service of the machine, with an account of its own."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import NamedTuple

from supervisor.host.home import SERVICE, SYSTEM_HOME, UNITS, Home, expanded, own_home
from supervisor.host.install import eyes, serving, timers
from supervisor.host.install.eyes import (
    ENTER,
    HIDDEN,
    PRIVATE,
    READ,
    RUNS_FROM,
    WRITE,
    Eyes,
    is_within,
)
from supervisor.host.install.steps import (
    Beside,
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
    of_machine,
    shipped,
    started,
    stopped,
    systemd_runs,
    unit_file,
)

SETTINGS = Path("/etc/training-supervisor/supervisor.toml")
ACCOUNT = Path("/etc/sysusers.d/training-supervisor.conf")
LOCATION = """\
# What the service runs from lies in a home, which it does not see otherwise.
[Service]
BindReadOnlyPaths={}
"""
PLACES = """\
# What the service sees and writes to beside its home. `supervisor install --system` adds to it with
# --bind and --writable. To take something away, delete its line, and then:
#   systemctl daemon-reload && systemctl restart training-supervisor
# What is missing when the service starts is passed over.
[Unit]
# It may lie on the disk of another machine.
After=remote-fs.target
[Service]
{}"""
FIRST_SETTINGS = """\
# Settings of the training supervisor. Every key is optional, and a change is taken over at once.
# `supervisor check-config` checks them.
"""


class Asked(NamedTuple):
    """What the service is to see and to write to beside its home."""

    bind: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()


def plan(home: Path, asked: Asked, beside: Beside) -> Plan:
    """How to make it a service of the machine."""
    units = (UNITS / SERVICE, UNITS / BOOT_SERVICE)
    location = UNITS / f"{SERVICE}.d/10-location.conf"
    places = location.with_name("20-places.conf")
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
        own = Home(own_home()).settings
        if own.exists() and not SETTINGS.exists():
            # It would train what nobody has named, in any hour, beside whatever the machine is for.
            raise CannotInstall(
                f"the service reads {SETTINGS}, which is not there, and your settings are in "
                f"{own}: install -D -m 644 {own} {SETTINGS}; or, if they are not meant, move them"
            )
        serving.see_packages(wanted=beside.api)
        hidden = [str(place) for place in _hidden_folders()]
        files = [write(unit, unit_file(unit.name)) for unit in units]
        binds = LOCATION.format(" ".join(hidden))
        files.append(write(location, binds) if hidden else remove(location))
        if any(asked):
            files.append(write(places, _with_places(places, asked)))
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
            *timers.settled(of_machine(), beside.usage, binds if hidden else ""),
            *serving.settled(
                of_machine(),
                beside.api,
                binds if hidden else "",
                places=any(asked) or places.exists(),
            ),
        )

    return Plan(
        kind="system",
        home=home,
        is_installed=units[0].exists,
        steps=steps,
        undo=lambda: (
            *timers.taken(of_machine()),
            *serving.taken(of_machine()),
            stopped(("systemctl",)),
            remove(limits, only=shipped("limits.conf")),
            *(remove(path) for path in (location, places, *units, NOTE_BOOT, ACCOUNT)),
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


def seeing(asked: Asked) -> Eyes:
    """What the service will see once it is installed so.

    Raises:
        CannotInstall: something that was asked for cannot be.
    """
    known = eyes.of_service()
    bind, writable = (tuple(map(_place, named)) for named in asked)
    return known.with_places((*_hidden_folders(), *bind), writable)


def unwritable(asked: Asked) -> tuple[str, ...]:
    """What is asked to be writable, and to which the account of the service has no rights."""
    seen = seeing(asked)
    wanted = READ | WRITE | ENTER
    closed = ((place, seen.closed(place, wanted)) for place in map(_place, asked.writable))
    return tuple(
        f"{place}: {eyes.not_theirs(seen, place, there)}"
        for place, there in closed
        if there is not None
    )


def _with_places(file: Path, asked: Asked) -> str:
    """The drop-in with what stands in it, and what is asked for.

    Raises:
        CannotInstall: something that was asked for cannot be.
    """
    known = eyes.of_unit([file.read_text(encoding="utf-8")] if file.exists() else [])
    keys = dict.fromkeys(known.shown, "BindReadOnlyPaths")
    keys |= {place: _key_to_write(place) for place in known.writable}
    keys |= dict.fromkeys(map(_place, asked.bind), "BindReadOnlyPaths")
    keys |= {place: _key_to_write(place) for place in map(_place, asked.writable)}
    return PLACES.format("".join(f"{key}=-{place}\n" for place, key in keys.items()))


def _key_to_write(place: Path) -> str:
    return "BindPaths" if is_within(place, HIDDEN) else "ReadWritePaths"


def _place(named: str) -> Path:
    """A place that somebody wants the service to have.

    Raises:
        CannotInstall: it cannot have that one.
    """
    place = Path(os.path.abspath(expanded(named)))  # noqa: PTH100 - without `..`, and with links
    check_name(place)
    if is_within(place, PRIVATE):
        why = "the service has another folder of that name, and a boot may empty it"
    elif any(one.is_relative_to(place) for one in (*HIDDEN, SYSTEM_HOME)):
        why = "name a folder that holds only what it needs"
    elif place.is_relative_to(SYSTEM_HOME):
        why = "that is its home, which it has anyway"
    elif not place.exists():
        why = "there is no such place"
    else:
        return place
    raise CannotInstall(f"{place} cannot be shown to the service: {why}")


def _hidden_folders() -> tuple[Path, ...]:
    """The folders that the supervisor runs from, as far as the service must be shown them.

    Raises:
        CannotInstall: the account of the service could not read one of them.
    """
    for folder in RUNS_FROM:
        if is_within(folder, PRIVATE):
            raise CannotInstall(
                f"{folder} lies where a boot may empty it, and where the service sees nothing: "
                "install into /opt/training-supervisor"
            )
        check_name(folder)
    service = Eyes(shown=RUNS_FROM)
    for folder in RUNS_FROM:
        for part in (folder, *folder.parents):
            if (closed := service.closed(part, READ | ENTER)) is not None:
                raise CannotInstall(
                    "the service has an account of its own, which may not read "
                    f"{closed}: chmod o+rx {shlex.quote(str(closed))}, or install into "
                    "/opt/training-supervisor"
                )
    hidden = [one for one in dict.fromkeys(RUNS_FROM) if is_within(one, HIDDEN)]
    return tuple(one for one in hidden if not any(above in hidden for above in one.parents))
