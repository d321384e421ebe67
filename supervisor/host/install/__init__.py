"""Putting the supervisor where it starts at boot, and taking it away again.

Four kinds, for what a machine has: a service of the machine, a service of one
user, cron, or the login profile. Each is a plan of steps that can be shown
before anything is done, and every step knows whether it is done already:
installing twice changes nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from supervisor.host.home import SYSTEM_HOME, own_home
from supervisor.host.install import cron, profile, system, user
from supervisor.host.install.steps import Beside, Kind, Plan, Step, encoded
from supervisor.host.install.system import Asked, seeing, unwritable
from supervisor.host.install.units import systemd_runs
from supervisor.host.owner import NotYours, owned

__all__ = ["Asked", "Beside", "best_kind", "carry_out", "installed", "plan", "seeing", "unwritable"]

NOTHING = Asked()
"""beside what every service sees"""
AS_IT_IS = Beside()


def best_kind() -> tuple[Kind, str]:
    """The best kind that this machine has, and why it is the best."""
    if systemd_runs():
        if os.geteuid() == 0:
            return "system", "systemd runs this machine, and you are root"
        return "user", "systemd runs this machine, and you are not root"
    if shutil.which("crontab") and cron.cron_runs():
        return "cron", "there is cron, and no systemd"
    return "profile", "there is neither systemd nor cron"


def plan(kind: Kind, home: Path | None, asked: Asked = NOTHING, beside: Beside = AS_IT_IS) -> Plan:
    """How to install that kind here, and how to take it away.

    Args:
        kind: where it starts.
        home: where state, runs and logs shall lie; None: where that kind has them.
        asked: what a service of the machine is to see beside its home.
        beside: what is to stand beside it.

    Raises:
        NotYours: root would write into the home of another account.
    """
    if kind == "system":
        return system.plan(home or SYSTEM_HOME, asked, beside)
    own = home or own_home()
    if os.geteuid() == 0 and (owner := owned(own).owner) != 0:
        raise NotYours(own, owner)
    own = own.resolve()
    return {"user": user.plan, "cron": cron.plan, "profile": profile.plan}[kind](own, beside)


def carry_out(steps: tuple[Step, ...], *, dry_run: bool) -> Iterator[str]:
    """Do what is not done yet; a line about each step.

    Raises:
        CannotInstall: a step failed; those before it are done.
    """
    for step in steps:
        if step.is_done():
            yield f"already: {step.text}"
        elif dry_run:
            yield f"would {step.text}"
            shown = encoded(step.details).decode(errors="replace")
            yield from (f"    {line}" for line in shown.splitlines())
        else:
            step.do()
            yield f"done: {step.text}"


def installed(home: Path | None) -> tuple[Plan, ...]:
    """The kinds that are installed here, as far as this user can change them."""
    plans = (plan(kind, home) for kind in get_args(Kind))
    return tuple(one for one in plans if one.is_installed())
