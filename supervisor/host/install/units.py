"""Unit files as they are shipped, made those of this machine, and what systemd is told of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from supervisor.host.home import SERVICE, SYSTEM_HOME
from supervisor.host.install.steps import CannotInstall, Step, run, succeeds
from supervisor.programs import ROOT

BOOT_SERVICE = "training-supervisor-boot.service"
NOTE_BOOT = Path("/usr/local/lib/training-supervisor/note-boot")
COMMAND = "/opt/training-supervisor/bin/supervisor"
"""the command as the unit files have it; the real one takes its place"""


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
