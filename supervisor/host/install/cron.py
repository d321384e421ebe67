"""Lines in the crontab of one user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from supervisor.host.install.lines import (
    BEGIN,
    END,
    RUN,
    SERVE,
    begin,
    serve_now,
    serves,
    start_now,
    stop_now,
    unless_running,
    with_lines,
    without_ours,
)
from supervisor.host.install.serving import ended, see_packages
from supervisor.host.install.steps import (
    Beside,
    CannotInstall,
    Plan,
    Step,
    decoded,
    kept,
    our_command,
    run,
    text_of,
    tuned,
)

COMMENT = "#"
TIMES = {"analyze-usage": "0 3 * * 0", "sample-usage": "*/5 * * * *"}
"""when cron has usage learnt, where nobody has said otherwise"""


def plan(home: Path, beside: Beside) -> Plan:
    """How to have cron start it at boot, and every five minutes where it does not run.

    Args:
        home: where state, runs and logs shall lie.
        beside: what it is to do beside.
    """
    now = _crontab()

    def starts(words: str) -> list[str]:
        line = f"{unless_running(home, words)} {begin(home, words)} >/dev/null"
        line = line.replace("%", r"\%")  # a bare one ends a line of a crontab
        return [f"@reboot {line}", f"*/5 * * * * {line}"]

    def edit(wanted: str) -> Step:
        # An empty table would be one all the same.
        how = "-" if wanted else "-r"
        return run("crontab", how, unless=lambda: _crontab() == wanted, given=wanted)

    def steps() -> tuple[Step, ...]:
        if shutil.which("crontab") is None:
            raise CannotInstall("there is no cron here (no `crontab`): take --profile")
        if now is None:
            raise CannotInstall(
                "your crontab cannot be read (look with `crontab -l`): take --profile"
            )
        see_packages(wanted=beside.api)
        serve = serves(now) if beside.api is None else beside.api
        times = {} if beside.usage is False else _times(now)
        if beside.usage:  # also what a person has made a comment of
            times = TIMES | {which: at.lstrip(f"{COMMENT} \t") for which, at in times.items()}
        learn = [f"{at} {_learns(which, home)}" for which, at in times.items()]
        lines = (*starts(RUN), *(starts(SERVE) if serve else ()), *learn)
        table = with_lines(without_ours(now)[0], *lines)
        of_api = [serve_now(home)] if serve else [ended(home)] if serves(now) else []
        return (edit(table), tuned(home), start_now(home), *of_api)

    return Plan(
        kind="cron",
        home=home,
        is_installed=lambda: now is not None and BEGIN in now,
        steps=steps,
        undo=lambda: (edit(without_ours(now or "")[0]), ended(home), stop_now(home)),
        after=f"home: {home}; cron starts it at boot, and within five minutes if it was killed",
        kept=kept(home),
    )


def _learns(command: str, home: Path) -> str:
    """What has usage learnt, and goes behind all else."""
    line = f"nice -n 19 {our_command(home)} {command} --timer >/dev/null 2>&1"
    return line.replace("%", r"\%")


def _times(table: str) -> dict[str, str]:
    """When cron has usage learnt by now, by the command: a person may have chosen other times.

    Or have made a comment of a line, which begins with # then, and stays one.
    """
    found = {}
    within = False
    for line in table.splitlines():
        within = line.startswith(BEGIN) or (within and line.rstrip() != END)
        for command in TIMES:
            at = re.match(r"(?:#\s*)?(?:@\w+|[^\s#]+(?:\s+\S+){4})", line)
            if within and f" {command} --timer" in line and at is not None:
                found[command] = at[0]
    return found


def serves_api(home: Path) -> bool:
    """Whether cron starts the API of a home."""
    table = _crontab() or ""
    return serves(table) and f"{_home_words(home)} {SERVE} 2>" in table


def learns(home: Path) -> dict[str, str]:
    """When cron has usage learnt for a home, by the command."""
    table = _crontab() or ""
    return {
        which: at
        for which, at in _times(table).items()
        if f"{_home_words(home)} {which} --timer" in table and not at.startswith(COMMENT)
    }


def _home_words(home: Path) -> str:
    """What stands in each line of a home."""
    return our_command(home).replace("%", r"\%")


def cron_runs() -> bool:
    """Whether a cron daemon runs on this machine."""
    names = []
    for entry in Path("/proc").glob("[0-9]*/comm"):
        try:
            names.append(text_of(entry).strip())
        except OSError:
            continue
    return any(name in ("cron", "crond", "fcron", "busybox-crond") for name in names)


def _crontab() -> str | None:
    """The table of this user, which may be empty; None: it cannot be read."""
    if shutil.which("crontab") is None:
        return ""
    environment = {**os.environ, "LC_ALL": "C"}
    listed = subprocess.run(["crontab", "-l"], capture_output=True, check=False, env=environment)
    if listed.returncode == 0:
        return decoded(listed.stdout)
    said = decoded(listed.stderr).lower()
    return "" if "no crontab" in said or "no such file" in said else None
