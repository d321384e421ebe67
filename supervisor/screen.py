"""How a report looks on a terminal or in a pipe: plain text, in colour where that is wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Protocol

from supervisor.clock import span
from supervisor.core.goodput import SHARES, UNWANTED, Goodput, RunGoodput, Times
from supervisor.report import Report, RunReport

COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}
STATUS_COLOURS = {
    "running": "green",
    "done": "blue",
    "failed": "red",
    "blocked": "red",
    "held": "yellow",
    "waiting": "yellow",
    "stopping": "yellow",
    "starting": "yellow",
    "down": "red",
}


class Finding(Protocol):
    """One result of an examination."""

    @property
    def verdict(self) -> str:
        """`well`, `note` or `bad`."""
        ...

    @property
    def what(self) -> str:
        """What was looked at."""
        ...

    @property
    def result(self) -> str:
        """What was found, and what to do about it."""
        ...


def state(report: Report) -> str:
    """The whole of `show-state`."""
    who = f"running, pid {report.daemon.pid}" if report.daemon.pid else report.daemon.state
    up = report.daemon.state == "running"
    holds = ", ".join(report.holds) or "none"
    rows = [("state", paint(text, "red")) for text in report.trouble]
    rows += [
        ("mode", f"{paint(report.mode, 'bold')} since {when(report.mode_since)}"),
        ("", f"{span(report.mode_running_s)} of running, {span(report.stable_s)} of it stable"),
        ("next", report.next.why),
        ("holds", paint(holds, "yellow") if report.holds else holds),
        ("crashes", f"{report.crashes_last_hour} in the last hour, {report.crashes_total} in all"),
        ("boots", f"{report.boots_total} since {when(report.history_since)}"),
        ("daemon", paint(who, "green" if up else "red") + f", policy {report.policy}"),
        ("home", report.home),
        ("campaign", _campaign(report)),
    ]
    head = "\n".join(f"{paint(f'{name:<9}', 'dim')} {text}" for name, text in rows)
    return f"{head}\n\n{runs(report)}"


def runs(report: Report) -> str:
    """The queue as a table."""
    titles = ("run", "status", "step", "of", "rate", "return", "saved", "left", "restarts")
    cells = [_row(run) for run in report.runs]
    table = [titles, *cells]
    widths = [max(len(row[column]) for row in table) for column in range(len(titles))]
    lines = [paint(_aligned(titles, widths), "dim")]
    for run, row in zip(report.runs, cells, strict=True):
        line = _aligned(row, widths)
        colour = STATUS_COLOURS.get(run.status)
        if colour:
            line = line.replace(run.status, paint(run.status, colour), 1)
        lines.append(line)
        if run.reason and run.status not in ("running", "starting", "done"):
            lines.append(paint(f"  {run.reason}", "dim"))
    return "\n".join(lines)


def findings(results: Sequence[Finding]) -> str:
    """The findings of `doctor`."""
    colours = {"well": "green", "note": "yellow", "bad": "red"}
    return "\n".join(
        f"{paint(f'{one.verdict:<5}', colours[one.verdict])} {one.what:<11} {one.result}"
        for one in results
    )


def goodput(measured: Goodput) -> str:
    """The whole of `goodput`."""
    if not measured.wanted_s:
        return "nothing has been wanted yet"
    total = f"{paint(_percent(measured.goodput), 'bold')} of {_brief(measured.wanted_s)}"
    rows = [("goodput", f"{total} of training wanted, since {when(measured.since or 'unknown')}")]
    rows += [
        (share, f"{_percent(spent_s / measured.wanted_s):>7} {_brief(spent_s):>8}  {SHARES[share]}")
        for share, spent_s in measured.spent_s.items()
        if spent_s
    ]
    unwanted = [
        f"{_brief(seconds)} {UNWANTED[why]}"
        for why, seconds in measured.unwanted_s.items()
        if seconds >= 1
    ]
    rows += [
        ("not wanted", ", ".join(unwanted) or "never"),
        ("work", f"{count(measured.steps_kept)} steps kept, {count(measured.steps_lost)} lost"),
        ("ends", f"{measured.deaths} of trainers, {measured.crashes} crashes of the machine"),
        ("starts", _took(measured.start, "to the first new step")),
        ("stops", _took(measured.stop, "until the trainer was gone")),
        ("detection", _took(measured.detection, "where a hang or a death had to be noticed")),
        ("checkpoints", _took(measured.checkpoint_stall, "of standing still")),
    ]
    head = "\n".join(f"{paint(f'{name:<15}', 'dim')} {text}" for name, text in rows)
    titles = ("run", "goodput", "wanted", "kept", "lost", "lives", "deaths")
    table = [titles, *map(_goodput_row, measured.runs)]
    widths = [max(len(row[column]) for row in table) for column in range(len(titles))]
    lines = [_aligned(row, widths) for row in table]
    return "\n".join([head, "", paint(lines[0], "dim"), *lines[1:]])


def count(value: float | None) -> str:
    """A number in at most about four digits."""
    if value is None:
        return "-"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if unit != 'k' else 1e3):.4g}{unit}"
    return f"{value:g}" if abs(value) >= 1000 or value == int(value) else f"{value:.1f}"


def when(stamp: str) -> str:
    """A wall time for a person."""
    return f"{stamp[:10]} {stamp[11:19]} UTC" if len(stamp) > 19 else stamp


def paint(text: str, colour: str) -> str:
    """`text` in that colour, if a person looks at a terminal and has not set NO_COLOR."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


def _row(run: RunReport) -> tuple[str, ...]:
    reached = run.step if run.target_unit == "steps" else run.episodes
    return (
        run.name,
        run.status,
        f"{count(reached)} ({100 * run.progress:.1f} %)",
        count(run.target) + ("" if run.target_unit == "steps" else " ep"),
        f"{count(run.steps_per_s)}/s" if run.steps_per_s else "-",
        count(run.return_mean),
        f"{span(run.checkpoint_age_s)} ago" if run.checkpoint_age_s is not None else "-",
        "-" if run.eta_s is None else span(run.eta_s),
        str(run.restarts),
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    left, right = row[:2], row[2:]
    cells = [cell.ljust(width) for cell, width in zip(left, widths[:2], strict=True)]
    cells += [cell.rjust(width) for cell, width in zip(right, widths[2:], strict=True)]
    return "  ".join(cells).rstrip()


def _goodput_row(run: RunGoodput) -> tuple[str, ...]:
    return (
        run.run,
        _percent(run.goodput),
        _brief(run.wanted_s),
        f"{count(run.steps_kept)} steps",
        f"{count(run.steps_lost)} steps",
        str(run.lives),
        str(run.deaths),
    )


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"


def _took(times: Times, what: str) -> str:
    if times.mean_s is None:
        return "none known"
    most = "" if times.max_s is None else f", at most {_brief(times.max_s)}"
    return f"{count(times.count)}, on average {_brief(times.mean_s)}{most} {what}"


def _brief(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 9.5 else span(seconds)


def _campaign(report: Report) -> str:
    campaign = report.campaign
    parts = [f"{campaign.done} of {campaign.runs} done"]
    parts += [f"{campaign.failed} failed"] if campaign.failed else []
    parts += [f"{count(campaign.steps_per_s)} steps/s"] if campaign.steps_per_s else []
    parts += [f"{span(campaign.eta_s)} left at this rate"] if campaign.eta_s else []
    if campaign.cost_so_far is not None:
        to_come = "unknown" if campaign.cost_to_come is None else f"{campaign.cost_to_come:g}"
        parts.append(f"cost {campaign.cost_so_far:g} so far, {to_come} to come")
    return ", ".join(parts)
