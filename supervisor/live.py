"""The live view: what `show-state` and `decisions` say, redrawn as it changes.

It reads the home and is no part of the daemon's process: closing it, or its
crash, costs no training. `supervisor run` on a terminal is this view with a
daemon beside it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from types import FrameType

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from supervisor.core.moments import span, when
from supervisor.host.clock import pause
from supervisor.host.home import Home
from supervisor.journal import human, tail
from supervisor.report import Report
from supervisor.screen import STATUS_COLOURS, count
from supervisor.terminal import printable

REDRAW_S = 1.0
DECISIONS_SHOWN = 8


class _Stopped:
    """Whether somebody pressed Ctrl-C, or the terminal went away."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, self)

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Remember it."""
        self.asked = True


def view(home: Home, look: Callable[[], Report]) -> int:
    """Show what happens in `home` until Ctrl-C."""
    stopped = _Stopped()
    with Live(console=_console(), auto_refresh=False, screen=True) as live:
        while not stopped.asked:
            live.update(picture(home, look(), "Ctrl-C leaves the view"), refresh=True)
            pause(REDRAW_S)
    return 0


def run_with_view(home: Home, command: list[str], look: Callable[[], Report]) -> int:
    """Start the daemon as a process of its own, show what it does, stop it on Ctrl-C."""
    stopped = _Stopped()
    home.make()
    with tempfile.TemporaryFile() as errors:
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the view, which asks the daemon
        )
        asked = False
        with Live(console=_console(), auto_refresh=False, screen=True) as live:
            while daemon.poll() is None:
                if stopped.asked and not asked:
                    asked = True
                    daemon.terminate()
                foot = "saving every run..." if asked else "Ctrl-C saves every run and stops"
                live.update(picture(home, look(), foot), refresh=True)
                pause(REDRAW_S / 5 if asked else REDRAW_S)
        _console().print(picture(home, look(), "stopped"))
        errors.seek(0)
        sys.stderr.write(errors.read().decode(errors="replace"))
    return daemon.returncode


def _console() -> Console:
    """The terminal itself, whose cursor is moved; what others have written goes through `_text`."""
    return Console(file=sys.__stdout__)


def picture(home: Home, report: Report, foot: str) -> Panel:
    """All of the view."""
    return Panel(
        Group(_head(report), Text(), _runs(report), Text(), _decisions(home)),
        title=_text(report.mode, "bold"),
        subtitle=foot,
        border_style="green" if report.daemon.state == "running" else "red",
    )


def _head(report: Report) -> Table:
    campaign = report.campaign
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    running, stable = span(report.mode_running_s), span(report.stable_s)
    table.add_row("since", f"{when(report.mode_since)}, {running} of running, {stable} stable")
    table.add_row("next", _text(report.next.why))
    if report.bounds:
        table.add_row("bounds", _text(", ".join(report.bounds), "yellow"))
    crashes = f"{report.crashes_last_hour} in the last hour, {report.crashes_total} in all"
    table.add_row("crashes", crashes)
    rate = f"{count(campaign.steps_per_s)} steps/s" if campaign.steps_per_s else "no rate yet"
    left = f", {span(campaign.eta_s)} left at this rate" if campaign.eta_s else ""
    if report.api:
        table.add_row("jobs", f"taken in at {report.api}")
    if campaign.runs:
        table.add_row("campaign", f"{campaign.done} of {campaign.runs} done, {rate}{left}")
    return table


def _runs(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for title in ("run", "status", "progress", "", "rate", "score", "saved", "left"):
        table.add_column(title, ratio=1 if title == "progress" else None, no_wrap=True)
    for run in report.runs:
        age_s = run.checkpoint_age_s
        table.add_row(
            _text(run.called),
            Text(run.status, style=STATUS_COLOURS.get(run.status, "dim")),
            ProgressBar(total=1.0, completed=run.progress or 0.0),
            "-" if run.progress is None else f"{100 * run.progress:.1f} %",
            f"{count(run.steps_per_s)}/s" if run.steps_per_s else "-",
            count(run.score.value if run.score else None),
            "-" if age_s is None else f"{span(age_s)} ago",
            "-" if run.eta_s is None else span(run.eta_s),
        )
    return table


def _decisions(home: Home) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="blue", no_wrap=True)
    table.add_column()
    for line in tail(home.decisions, DECISIONS_SHOWN):
        told = human(line)
        told["time"] = told["time"].partition(" ")[2]  # the newest few: the day would take the room
        table.add_row(*(_text(text) for text in told.values()))
    return table


def _text(text: str, style: str = "") -> Text:
    """What somebody else may have written: without markup, and without codes of a terminal."""
    return Text(printable(text), style)
