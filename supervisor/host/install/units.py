"""Unit files as they are shipped, made those of this machine, and what systemd is told of them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from supervisor.host.home import SERVICE, SYSTEM_HOME, UNITS, expanded
from supervisor.host.install.steps import CannotInstall, Step, run, succeeds
from supervisor.programs import ROOT

BOOT_SERVICE = "training-supervisor-boot.service"
NOTE_BOOT = Path("/usr/local/lib/training-supervisor/note-boot")
COMMAND = "/opt/training-supervisor/bin/supervisor"
"""the command as the unit files have it; the real one takes its place"""


class Units(NamedTuple):
    """Where one kind of installation has its units."""

    folder: Path
    manager: tuple[str, ...]
    home: Path

    @property
    def of_user(self) -> bool:
        """Whether they are a user's."""
        return self.folder != UNITS

    def file(self, command: str, kind: str) -> Path:
        """The unit of that kind: `timer` or `service`."""
        return self.folder / unit(command, kind)

    def location(self, command: str) -> Path:
        """The drop-in by which a service sees what it runs from."""
        return self.folder / f"{unit(command, 'service')}.d/10-location.conf"

    def have(self, command: str, kind: str) -> bool:
        """Whether that unit is there, for this home."""
        if not self.file(command, kind).exists():
            return False
        if not self.of_user:
            return self.home == SYSTEM_HOME
        try:
            text = self.file(command, "service").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return True
        return f" --home {self.home} " in text


def unit(command: str, kind: str) -> str:
    """The name of a unit beside our own two."""
    return f"training-supervisor-{command}.{kind}"


def of_home(home: Path) -> Units:
    """The units that would be those of a home."""
    if home == SYSTEM_HOME:
        return of_machine()
    folder = expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "systemd/user"
    return Units(folder, ("systemctl", "--user"), home)


def of_machine() -> Units:
    """Those of the service of the machine."""
    return Units(UNITS, ("systemctl",), SYSTEM_HOME)


def as_wanted(
    units: Units, files: Sequence[Step], names: Sequence[str], *, wanted: bool | None
) -> tuple[Step, ...]:
    """Units as they stand in their files; where they are wanted, enabled and running, too."""

    def runs() -> bool:
        return not changed and all(
            succeeds(*units.manager, verb, "--quiet", name)
            for name in names
            for verb in (("is-enabled", "is-active") if wanted else ())
        )

    changed = not all(step.is_done() for step in files)
    steps = [*files, run(*units.manager, "daemon-reload", unless=runs)]
    if wanted:
        steps.append(run(*units.manager, "enable", *names, unless=runs))
    verb = "restart" if wanted else "try-restart"
    return (*steps, run(*units.manager, verb, *names, unless=runs))


def systemd_runs() -> bool:
    """Whether systemd runs this machine, as sd_booted(3) defines it."""
    return Path("/run/systemd/system").is_dir()


def shipped(name: str) -> str:
    """A file of `systemd/`: of the checkout, or where the package has put it."""
    checkout = ROOT / "systemd" / name
    packaged = Path(sys.prefix) / "share/training-supervisor/systemd" / name
    return (checkout if checkout.exists() else packaged).read_text(encoding="utf-8")


def unit_file(name: str, home: Path = SYSTEM_HOME, note_boot: Path = NOTE_BOOT) -> str:
    """A unit file for this installation.

    Raises:
        CannotInstall: it cannot name what it has to name.
    """
    command = Path(sys.prefix) / "bin/supervisor"
    for path in (command, home):
        check_name(path)
    text = shipped(name).replace(COMMAND, str(command))
    return text.replace(str(NOTE_BOOT), str(note_boot)).replace(str(SYSTEM_HOME), str(home))


def check_name(path: Path) -> None:
    """Whether a unit file can name `path` as it is.

    Raises:
        CannotInstall: it holds a letter that means something there.
    """
    if not re.fullmatch(r"[A-Za-z0-9._/@+-]+", str(path)):
        raise CannotInstall(
            f"a unit file cannot name {path}: use a path of letters, digits and . _ / @ + -"
        )


def started(manager: tuple[str, ...], *, changed: bool) -> tuple[Step, ...]:
    """Both units enabled, running, and as they now stand in their files."""
    units = (SERVICE, BOOT_SERVICE)

    def runs() -> bool:
        return not changed and all(
            succeeds(*manager, verb, "--quiet", unit)
            for unit in units
            for verb in ("is-enabled", "is-active")
        )

    return (
        run(*manager, "daemon-reload", unless=runs),
        run(*manager, "enable", *units, unless=runs),
        # Training goes on across a restart.
        run(*manager, "restart", SERVICE, unless=runs),
    )


def stopped(manager: tuple[str, ...]) -> Step:
    """Both units disabled, and stopped."""
    return run(*manager, "disable", "--now", SERVICE, BOOT_SERVICE)
