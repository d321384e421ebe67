"""How a report looks on a terminal or in a pipe: plain text, in colour where that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from supervisor.core.explain import Explanation, Input, KnownMode
from supervisor.core.goodput import NOT_DEMANDED, SHARES, Goodput, RunGoodput, Times
from supervisor.core.moments import span, stamp, when
from supervisor.foretold import Ends
from supervisor.report import (
    AgainReport,
    BootReport,
    GuardReport,
    LedgerReport,
    QuietReport,
    Report,
    RunReport,
)
from supervisor.terminal import columns, paint, printable

if TYPE_CHECKING:  # a command loads what it needs itself: the daemon never pays for these
    from supervisor.core.hours import Hour, Spread
    from supervisor.core.recorded import MadeAgain
    from supervisor.core.replay import Replayed
    from supervisor.counterfactual import Counterfactual
    from trainers.contract import Brought, History

BOOTS_SHOWN = 5
GPU_SHOWN = len("GPU-12345678")
"""letters of a UUID that tell a GPU from others of the machine"""
"""the newest, of those that are known"""
VALUE_MAX = 200
"""letters of a value of a log that are shown"""
WHY_NOT_MAX = 90
"""letters of the reason why a source is not used"""
MODE_TITLES = (
    "mode", "hours", "crashes", "per hour", "between", "pays for", "speed", "measured",
    "failures", "next try", "bad spells",
)  # fmt: skip
LEDGER_NOTES = (
    "hours and crashes fade with time; pays for: so many crashes an hour, and it still brings",
    "more than the mode below; speed: times as fast as that, measured in so many hours of",
    "training; failures: tries that failed and are not made good",
)
GOODPUT_TITLES = ("run", "goodput", "demanded", "kept", "lost", "attempts", "deaths")
STATUS_COLOURS = {
    "running": "green",
    "done": "blue",
    "failed": "red",
    "blocked": "red",
    "quarantined": "yellow",
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
    bounds = ", ".join(report.bounds) or "none"
    rows = [("state", paint(text, "red")) for text in report.trouble]
    rows += [
        ("mode", f"{paint(report.mode, 'bold')} since {when(report.mode_since)}"),
        ("", f"{span(report.mode_running_s)} of running, {span(report.stable_s)} of it stable"),
        *learnt(report),
        ("next", report.next.why),
        ("bounds", paint(bounds, "yellow") if report.bounds else bounds),
        ("crashes", f"{report.crashes_last_hour} in the last hour, {report.crashes_total} in all"),
        ("boots", f"{report.boots_total} since {when(report.history_since)}"),
        *_quiet(report.quiet),
        *_guard(report.guard),
        ("daemon", paint(who, "green" if up else "red") + f", policy {report.policy}"),
        *([("page", report.page)] if report.page else []),
        *([("jobs", f"taken in at {report.api}")] if report.api else []),
        ("home", report.home),
        ("campaign", campaign(report)),
        *([("", _ends(report.campaign.ends))] if report.campaign.ends else []),
        *_again(report.again),
    ]
    return f"{labelled(rows)}\n\n{runs(report)}\n\n{_boots(report)}"


def _quiet(known: QuietReport | None) -> list[tuple[str, str]]:
    """The block of the quiet hours."""
    if known is None:
        return []
    words = known.words if known.why != "off" else "off, as [quiet_hours] has it"
    if known.why == "outside" and known.closes is not None:
        words += f", and then until {when(known.closes)}"
    lines = [printable(words)]
    if known.lifted_until is not None:
        lines.append(f"a person trains in any hour until {when(known.lifted_until)}")
    if known.analysed is None:
        analysed = "no analysis is known"
    else:
        age = span(86_400 * max(0.0, known.age_days or 0.0))
        analysed = f"analysed {when(known.analysed)}, {age} ago"
    if known.next_analysis is not None:
        due = when(known.next_analysis)
        if known.late or known.analysed is None:
            due = "now, and tried each hour until one succeeds"
        analysed += f"; the next is due {due}"
    lines.append(analysed)
    if known.late:
        lines.append(paint("the analysis is late: `supervisor decisions` says why", "yellow"))
    lines += [f"timer {timer.command}: {printable(timer.words)}" for timer in known.timers]
    if (refused := known.last_refusal) is not None:
        lines.append(f"refused last {when(refused.at)}: {_short(refused.why)}")
    for one in known.sources:
        why = _short(one.why_not or "")
        lines.append(f"{one.name}: {'used' if one.used else 'not used'}{why and f', {why}'}")
    return [("" if number else "quiet", line) for number, line in enumerate(lines)]


def _short(text: str) -> str:
    """A reason that leaves room for others; the whole of it is for programs."""
    shown = printable(text)
    return shown if len(shown) <= WHY_NOT_MAX else f"{shown[:WHY_NOT_MAX]}..."


def _again(known: AgainReport | None) -> list[tuple[str, str]]:
    """The lines of the generations."""
    if known is None:
        return []
    words = printable(known.words)
    lines = [paint(words, "yellow") if known.late else words]
    kept = [
        f"generation {one.number}, {one.done} of {len(one.runs)} done"
        for one in known.earlier
        if not one.leaves
    ]
    leaving = [f"generation {one.number}" for one in known.earlier if one.leaves]
    told = [f"kept: {', '.join(kept)}"] if kept else []
    told += [f"being removed: {', '.join(leaving)}"] if leaving else []
    lines += ["; ".join(told)] if told else []
    return [("" if number else "again", line) for number, line in enumerate(lines)]


def _guard(known: GuardReport | None) -> list[tuple[str, str]]:
    """The line of the guard."""
    if known is None:
        return []
    since = "" if known.since is None else f", since {when(known.since)}"
    return [("guard", f"{printable(known.words)}{since}")]


def runs(report: Report, *, waits: bool = False) -> str:
    """The queue as a table.

    Args:
        report: what is true now.
        waits: say of each run that waits why it does.
    """
    titles = ["run", "status", "step", "of", "rate", "score", "saved", "left", "restarts"]
    rows = [run_row(run) for run in report.runs]
    if any(run.gpus is not None and (run.gpus_own or len(run.gpus) != 1) for run in report.runs):
        titles.append("gpus")
        rows = [(*row, _gpus(run)) for row, run in zip(rows, report.runs, strict=True)]
    head, *table = in_columns(titles, rows)
    lines = [head]
    for run, line in zip(report.runs, table, strict=True):
        colour = STATUS_COLOURS.get(run.status)
        if colour:
            line = line.replace(run.status, paint(run.status, colour), 1)  # noqa: PLW2901 - painted
        lines.append(line)
        trains = run.status in ("running", "starting")
        why = (None if trains else run.reason) or (run.waits if waits else None)
        if why:
            lines.append(paint(f"  {printable(why)}", "dim"))
        if run.ends is not None and run.ends.at is not None:
            lines.append(paint(f"  {_ends(run.ends)}", "dim"))
    return "\n".join(lines)


def checkpoints(called: str, known: History) -> str:
    """The checkpoints of a run as a table, the oldest first; below each why it lies aside."""
    if not known.checkpoints:
        return f"{called} has no checkpoint yet"
    yes = "verified" if known.verified else "yes"
    titles = ("checkpoint", "saved", "which", "score", "size", "whole")
    rows = [
        (
            one.checkpoint,
            "-" if one.saved_at is None else when(stamp(one.saved_at)),
            ", ".join(mark for mark in ("newest", "best") if getattr(one, mark)),
            "-" if one.score is None else f"{one.score.name} {count(one.score.value)}",
            f"{count(one.size_bytes)}B",
            {True: yes, False: "no", None: "unknown"}[one.whole],
        )
        for one in known.checkpoints
    ]
    head, *table = in_columns(titles, rows, left=3)
    lines = [head]
    for one, line in zip(known.checkpoints, table, strict=True):
        lines.append(line if one.whole is not False else paint(line, "red"))
        lines += [paint(f"  {printable(one.reason)}", "dim")] if one.reason else []
    return "\n".join(lines)


def brought(called: str, path: str, known: Brought) -> str:
    """What became of a checkpoint from elsewhere."""
    score = "" if known.score is None else f", {known.score.name} {count(known.score.value)}"
    size = f"{known.files} files, {count(known.size_bytes)}B"
    said = f"{path} is checkpoint {known.step} of {called}: {size}{score}"
    return "\n".join([said, *(f"note: {remark}" for remark in known.remarks)])


def findings(results: Sequence[Finding]) -> str:
    """The findings of `doctor`."""
    colours = {"well": "green", "note": "yellow", "bad": "red"}
    return "\n".join(
        f"{paint(f'{one.verdict:<5}', colours[one.verdict])} {one.what:<11} {one.result}"
        for one in results
    )


def goodput(measured: Goodput) -> str:
    """The whole of `goodput`."""
    if not measured.demanded_s:
        return "nothing has been demanded yet"
    total = f"{paint(percent(measured.goodput), 'bold')} of {brief(measured.demanded_s)}"
    rows = [("goodput", f"{total} of training demanded, since {when(measured.since or 'unknown')}")]
    rows += [
        (
            share,
            f"{percent(spent_s / measured.demanded_s):>7} {brief(spent_s):>8}  {SHARES[share]}",
        )
        for share, spent_s in measured.spent_s.items()
        if spent_s
    ]
    idle = [
        f"{brief(seconds)} {NOT_DEMANDED[why]}"
        for why, seconds in measured.not_demanded_s.items()
        if seconds >= 1
    ]
    rows += [
        ("not demanded", ", ".join(idle) or "never"),
        ("work", f"{count(measured.steps_kept)} steps kept, {count(measured.steps_lost)} lost"),
        ("ends", f"{measured.deaths} of trainers, {measured.crashes} crashes of the machine"),
        ("starts", took(measured.start, "to the first new step")),
        ("stops", took(measured.stop, "until the trainer was gone")),
        ("detection", took(measured.detection, "where a hang or a death had to be noticed")),
        ("checkpoints", took(measured.checkpoint_stall, "of standing still")),
    ]
    table = in_columns(GOODPUT_TITLES, [goodput_row(run) for run in measured.runs])
    return "\n".join([labelled(rows, width=15), "", *table])


def samples(known: Sequence[Hour]) -> str:
    """The whole of `samples`: a line for each hour."""
    if not known:
        return "there are no samples of that time"
    titles = ("hour", "sampled", "cpu %", "own %", "memory %", "gpu %", "gpu memory %", "trained")
    rows = [
        (
            when(one.hour)[:16],
            f"{one.sampled_min:.0f} min",
            _spread(one.cpu_percent),
            _spread(one.cpu_own_percent),
            _spread(one.memory_percent),
            _spread(one.gpu_percent),
            _spread(one.gpu_memory_percent),
            ", ".join(one.trained) or "nothing",
        )
        for one in known
    ]
    return "\n".join([*in_columns(titles, rows, left=1), "", "hours in UTC; mean/highest"])


def explanation(one: Explanation) -> str:
    """The whole of `why`."""
    moved = f"{one.old} -> {one.new}" if one.old != one.new else f"stays in {one.new}"
    which = f"{one.seq} of the log" if one.seq else "not in the log: what the present asks for"
    rows = [
        ("decision", which),
        ("when", f"{when(one.time)}, boot {one.boot[:8]}"),
        ("mode", paint(moved, "bold")),
        ("rule", one.rule),
        ("why", one.reason),
        ("next", one.next),
    ]
    asked = [(each.name, quantity(each), each.note) for each in one.inputs]
    rules = [
        (paint(verdict.rule, "bold") if verdict.decides else verdict.rule, verdict.why)
        for verdict in one.rules
    ]
    parts = [
        labelled(rows),
        "",
        *in_columns(("input", "value", ""), asked, left=3),
        "",
        *in_columns(("rule", "why it does not apply"), rules),
    ]
    if one.before is not None:
        parts += ["", paint(f"the decision before: supervisor why {one.before}", "dim")]
    return "\n".join(parts)


def ledger(known: LedgerReport) -> str:
    """The whole of `ledger`."""
    rows = [
        (
            "policy",
            known.policy + ("" if known.policy == "ledger" else ", which asks none of this"),
        ),
        ("a crash", price(known)),
        ("budget", budget(known) or f"nothing is staked in {known.mode}, the lowest mode"),
        ("saving", interval(known)),
    ]
    table = in_columns(MODE_TITLES, [mode_row(known, one) for one in known.modes], left=1)
    notes = (paint(note, "dim") for note in LEDGER_NOTES)
    return "\n".join([labelled(rows), "", *table, "", *notes])


def replayed(result: Replayed, turns: MadeAgain) -> str:
    """The whole of `replay`, but for what other settings would have done.

    Args:
        result: of the decisions.
        turns: of whole turns, as far as they were written down.
    """
    rows = [
        ("lines", count(result.lines)),
        ("decisions", f"{result.decisions} decided again"),
        ("ledger", f"{result.entries} entries booked again, {result.ledgers} times compared"),
    ]
    if result.older:
        rows.append(
            ("older", f"{result.older} of an older version, compared on goal and rule alone")
        )
    if result.others:
        rows.append(("others", f"{result.others} by the rules of another version, left alone"))
    if result.gaps:
        rows.append(("gaps", f"{result.gaps}: lines or a state were lost, the ledger taken over"))
    if result.unreadable:
        rows.append(("damaged", f"{result.unreadable} lines cannot be read"))
    if turns.turns or turns.gaps or turns.unreadable:
        lost = turns.gaps + turns.unreadable
        others = f", {lost} cannot be" if lost else ""
        rows.append(("turns", f"{turns.turns} made again{others}"))
    if turns.first is not None:
        verdict = (
            f"{paint(f'{turns.differences} turns come out otherwise', 'red')}, the first is "
            f"{turns.first}"
        )
    elif result.first is None:
        verdict = "nothing was decided in this log yet"
        if result.others:
            verdict = "nothing in this log was decided by the rules of this version"
        if result.decisions:
            verdict = paint("the log and this program agree in everything", "green")
    else:
        first = result.first
        verdict = (
            f"{paint(f'{result.differences} differences', 'red')}, the first in line {first.seq}: "
            f"{first.field}\n  logged {_brief_value(first.logged)}"
            f"\n  now    {_brief_value(first.now)}"
        )
    return f"{labelled(rows)}\n\n{verdict}"


def counterfactual(lived: Counterfactual, logged: str, asked: str) -> str:
    """What other settings would have made of a log.

    Args:
        lived: the estimate.
        logged: what the decisions of the log would have been instead, in a sentence.
        asked: what was asked for.
    """
    parting = "the two never want different modes"
    if lived.parts_h is not None and lived.parts_to is not None:
        one, two = lived.parts_to
        parting = (
            f"they part after {span(3600 * lived.parts_h)} at the soonest: "
            f"{one} as it was set, {two} as asked"
        )
    lives = "1 life" if lived.lives == 1 else f"{lived.lives} lives"
    chance = f"{lived.work_ratio_low:.3f} to {lived.work_ratio_high:.3f}"
    rows = [
        ("asked", asked),
        ("decisions", logged),
        ("lived", f"{lives} of the {span(3600 * lived.hours)} of this log; {parting}"),
        ("work", f"{lived.work_ratio:.3f} times as much ({chance} by chance)"),
    ]
    columns = (
        (lived.recorded_hours, lived.recorded_crashes, None),
        (lived.logged.hours, lived.logged.crashes, lived.logged.work),
        (lived.other.hours, lived.other.crashes, lived.other.work),
    )
    cells = [
        (f"hours in {mode}", *(f"{hours[rung]:.1f}" for hours, _, _ in columns))
        for rung, mode in enumerate(lived.ladder)
    ]
    cells += [
        ("crashes", *(f"{crashes:.1f}" for _, crashes, _ in columns)),
        (
            f"work, in hours of {lived.ladder[0]}",
            *("-" if work is None else f"{work:.1f}" for _, _, work in columns),
        ),
    ]
    table = in_columns(("", "recorded", "as it was set", "as asked"), cells, left=1)
    note = (
        "an estimate: the crashes of the log come again in the mode in which they came and in",
        "heavier ones; elsewhere the learnt rates of crashes decide, by chance. Requests of a",
        "person are not made again.",
    )
    return "\n".join([labelled(rows), "", *table, "", *(paint(line, "dim") for line in note)])


def count(value: float | None) -> str:
    """A number in at most about four digits."""
    if value is None:
        return "-"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if unit != 'k' else 1e3):.4g}{unit}"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:g}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"


def _ends(known: Ends) -> str:
    """In which windows work ends."""
    return f"{'when it ends is' if known.at is None else 'ends'} {printable(known.words)}"


def _boots(report: Report) -> str:
    """The newest boots as a table, the newest last."""
    titles = ("boot", "recorded", "came", "mode", "lived", "trained")
    rows = [_boot_row(boot) for boot in report.boots[-BOOTS_SHOWN:]]
    return "\n".join(in_columns(titles, rows, left=4))


def _boot_row(boot: BootReport) -> tuple[str, ...]:
    came = "after a crash" if boot.crash else "as planned"
    lived = "-" if boot.lived_s is None else span(boot.lived_s)
    if boot.lived_s == 0:
        lived = "never seen"  # how long it was nobody knows, so 0 s would be untrue
    return (
        str(boot.seq),
        when(boot.recorded),
        "first known" if boot.seq == 1 else came,
        boot.mode,
        f"{lived}, lasts" if boot.lasts else lived,
        "-" if boot.trained_s is None else span(boot.trained_s),
    )


def run_row(run: RunReport) -> tuple[str, ...]:
    """Name, status, step, target, rate, score, age of the checkpoint, time left, restarts."""
    reached = run.episodes if run.target_unit == "episodes" else run.step
    share = "" if run.progress is None else f" ({100 * run.progress:.1f} %)"
    target = count(run.target) + {"episodes": " ep"}.get(run.target_unit or "", "")
    return (
        run.called,
        run.status,
        f"{count(reached)}{share}",
        target,
        f"{count(run.steps_per_s)}/s" if run.steps_per_s else "-",
        count(run.score.value if run.score else None),
        f"{span(run.checkpoint_age_s)} ago" if run.checkpoint_age_s is not None else "-",
        "-" if run.eta_s is None else span(run.eta_s),
        str(run.restarts),
    )


def _gpus(run: RunReport) -> str:
    """The GPUs of a run, as `nvidia-smi -L` begins to tell them; shared ones by their number."""
    if run.gpus is None:
        return "-"
    if not run.gpus:
        return "none"
    if not run.gpus_own:
        return f"shares {len(run.gpus)}"
    return " ".join(card[:GPU_SHOWN] for card in run.gpus)


def labelled(rows: Sequence[tuple[str, str]], width: int = 9) -> str:
    """Lines, each behind its label."""
    return "\n".join(f"{paint(f'{name:<{width}}', 'dim')} {text}" for name, text in rows)


def in_columns(titles: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 2) -> list[str]:
    """A table, line by line; so many of its columns begin flush, the others end so."""
    table = [titles, *rows]
    widths = [max(columns(row[column]) for row in table) for column in range(len(titles))]
    lines = []
    for row in table:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            room = " " * (width - columns(cell))
            cells.append(cell + room if column < left else room + cell)
        lines.append("  ".join(cells).rstrip())
    return [paint(lines[0], "dim"), *lines[1:]]


def learnt(report: Report) -> list[tuple[str, str]]:
    """What the policy knows of the present mode and the next, in two lines."""
    known = report.ledger
    if known is None or known.policy != "ledger":
        return []
    rung = next((i for i, one in enumerate(known.modes) if one.mode == known.mode), 0)
    parts = [
        _worth(one, below.mode) for below, one in pairwise(known.modes[max(0, rung - 1) : rung + 2])
    ]
    left = budget(known)
    rows = [("ledger", f"a crash costs {price(known)}" + (f"; budget {left}" if left else ""))]
    return rows + [("", part) for part in parts]


def _worth(one: KnownMode, below: str) -> str:
    source = "measured" if one.compared_h else "promised"
    failures = f"; {one.level} {'failure' if one.level == 1 else 'failures'} to be made good"
    return (
        f"{one.mode} is {one.speed_ratio or 1:.2f} times as fast as {below} ({source}); "
        f"{one.crashes_per_h:.2f} crashes/h ({one.crashes_per_h_low:.2f} to "
        f"{one.crashes_per_h_high:.2f}), pays for {_pays(one)}" + (failures if one.level else "")
    )


def _pays(one: KnownMode) -> str:
    """How many crashes an hour the mode is worth."""
    if one.break_even_per_h is None:
        return "-"
    return f"{one.break_even_per_h:.2f}" if one.break_even_per_h > 0 else "none"


def price(known: LedgerReport) -> str:
    """What a crash costs, and how that is known."""
    source = f"measured on {known.crashes_priced}" if known.crashes_priced else "none measured yet"
    return f"{known.crash_price_min:.3g} min of work, {source}"


def budget(known: LedgerReport) -> str:
    """The crashes that the mode may still cost; empty in the lowest, where nothing is staked."""
    if known.budget is None or known.budget_max is None:
        return ""
    trial = ", on probation" if known.probation else ""
    left = f"{known.budget:.2f}" if known.budget >= 0 else "none"
    return f"{left} of {known.budget_max:g} crashes{trial}"


def interval(known: LedgerReport) -> str:
    """How often trainers save."""
    most = f"{known.checkpoint_interval_max_s:.3g} s at most"
    if known.checkpoint_interval_s is None:
        return f"every {most}; no trainer lives"
    return f"every {known.checkpoint_interval_s:.3g} s, {most}"


def mode_row(known: LedgerReport, one: KnownMode) -> tuple[str, ...]:
    """A mode as the ledger knows it, in the order of `MODE_TITLES`."""
    here, cools = one.mode == known.mode, one.cool_down_left_s
    spells = f"{one.recoveries}" + (f", {brief(3600 * one.bad_hours)}" if one.recoveries else "")
    return (
        one.mode,
        _faded(one.hours),
        _faded(one.crashes),
        f"{one.crashes_per_h:.2f}",
        f"{one.crashes_per_h_low:.2f} to {one.crashes_per_h_high:.2f}",
        _pays(one),
        "-" if one.speed_ratio is None else f"{one.speed_ratio:.2f}",
        "-" if one.speed_ratio is None else _compared(one.compared_h),
        str(one.level),
        "here" if here else f"in {brief(cools)}" if cools else "any time",
        f"{spells} and one that lasts" if one.bad else spells,
    )


def _compared(hours: float) -> str:
    return brief(3600 * hours) if hours else "promised"


def _faded(amount: float) -> str:
    """What has nearly faded away is none."""
    return f"{amount:.3g}" if amount >= 0.005 else "0"


def quantity(each: Input) -> str:
    """The value of an input, with its unit."""
    if isinstance(each.value, str):
        return each.value
    if each.unit == "s":
        return brief(each.value)
    number = f"{each.value:.0f}" if each.value == int(each.value) else f"{each.value:.2f}"
    return f"{number} {each.unit}".strip()


def _brief_value(value: object) -> str:
    text = str(value)
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}..."


def goodput_row(run: RunGoodput) -> tuple[str, ...]:
    """Where the time of a run went, in the order of `GOODPUT_TITLES`."""
    return (
        run.run,
        percent(run.goodput),
        brief(run.demanded_s),
        f"{count(run.steps_kept)} steps",
        f"{count(run.steps_lost)} steps",
        str(run.attempts),
        str(run.deaths),
    )


def percent(share: float | None) -> str:
    """A share of 1, to a tenth of a percent."""
    return "unknown" if share is None else f"{100 * share:.1f} %"


def took(times: Times, what: str) -> str:
    """How often something took how long; `what` says what it was."""
    if times.mean_s is None:
        return "none known"
    most = "" if times.max_s is None else f", at most {brief(times.max_s)}"
    return f"{count(times.count)}, on average {brief(times.mean_s)}{most} {what}"


def _spread(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.mean:.0f}/{spread.highest:.0f}"


def brief(seconds: float) -> str:
    """A duration, with one digit more where it is short."""
    return f"{seconds:.2g} s" if seconds < 9.5 else span(seconds)


def campaign(report: Report) -> str:
    """How far the campaign is, what is left of it, and what it costs."""
    campaign = report.campaign
    parts = [f"{campaign.done} of {campaign.runs} done" if campaign.runs else "no runs"]
    parts += [f"{campaign.failed} failed"] if campaign.failed else []
    parts += [f"{count(campaign.steps_per_s)} steps/s"] if campaign.steps_per_s else []
    parts += [f"{span(campaign.eta_s)} left at this rate"] if campaign.eta_s else []
    if campaign.cost_so_far is not None:
        to_come = "unknown" if campaign.cost_to_come is None else f"{campaign.cost_to_come:g}"
        parts.append(f"cost {campaign.cost_so_far:g} so far, {to_come} to come")
    return ", ".join(parts)
