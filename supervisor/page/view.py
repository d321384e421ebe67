"""What each part of the page says, from one look: templates only loop and branch over it.

Pure. Numbers and words are those of `supervisor.screen`, so that the page never says otherwise
than `show-state`. Nothing here is safe to be shown as it is: names and reasons may have been
written by anybody, and `rendering` escapes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

from markupsafe import Markup

from state.records import PauseOwner
from state.samples import GpuSample, Sample
from supervisor.core import pauses
from supervisor.core.events import Event
from supervisor.core.explain import Explanation
from supervisor.core.goodput import NOT_DEMANDED, SHARES, Goodput
from supervisor.core.moments import span, stamp, wall, when
from supervisor.core.queue import ENDED
from supervisor.core.slots import RANKS
from supervisor.journal import Line, human
from supervisor.page import pictures
from supervisor.page.curves import Curves
from supervisor.page.lately import Drawn
from supervisor.page.look import Look
from supervisor.page.past import HAPPENED, Mark
from supervisor.page.queue import JobReport, Queue, QueuedJob, Share
from supervisor.report import LedgerReport, RunReport
from supervisor.screen import (
    brief,
    budget,
    campaign,
    count,
    goodput_row,
    interval,
    learnt,
    mode_row,
    percent,
    price,
    quantity,
    run_row,
    took,
)

NOT_KNOWN = "-"
"""how `show-state` tells that there is nothing to tell"""
WAITS = "queued"
"""the status of a run whose turn is to come"""
DAY_S, HOUR_S = 86_400.0, 3600.0
MOVE_S = 600.0
"""for so long after a change of the mode it is told that the machine is on its way there"""
MARKS_SHOWN = 50
"""of what happened to a run, the newest"""
STILLS_MAX = 8
"""curves of a run that are drawn for whoever runs no scripts"""
LOOKS_MISSED = 2
"""so many looks of the daemon may be missing before there is no news"""

Tone = Literal["well", "wait", "rest", "done", "warn", "bad"]
"""how something stands: as it should, on its way, at rest, at its end, to be seen to, broken"""

SIGNS: dict[Tone, str] = {
    "well": "●",
    "wait": "◐",
    "rest": "❚❚",
    "done": "✓",
    "warn": "▲",
    "bad": "■",
}
"""the same as a shape, for whoever sees no colours"""

TONES: dict[str, Tone] = {
    "running": "well",
    "starting": "wait",
    "stopping": "wait",
    "waiting": "wait",
    "queued": "rest",
    "cancelled": "rest",
    "done": "done",
    "quarantined": "warn",
    "failed": "bad",
    "blocked": "bad",
    "down": "bad",
}
"""status of a run: its tone"""


class Verdict(NamedTuple):
    """The one sentence at the top."""

    tone: Tone
    said: str
    more: str = ""
    """why, or what to do; empty: nothing is to be done"""


class Row(NamedTuple):
    """A label, and what is true of it."""

    label: str
    text: str


class Fact(NamedTuple):
    """A number of a run."""

    key: str
    """what it is, whatever its trainer calls it"""
    label: str
    text: str


class Card(NamedTuple):
    """One run that has not ended, or that has."""

    run: RunReport
    tone: Tone
    reached: str
    """how far it is"""
    of: str
    """its target"""
    facts: tuple[Fact, ...]
    """rate, score, saved, left, restarts"""
    why: str
    """why it does not train; empty: it does"""
    ends: str


class Told(NamedTuple):
    """A line of the decision log."""

    seq: str
    at: str
    """as the log has it"""
    day: str
    time: str
    event: str
    meaning: str
    subject: str
    reason: str
    tone: Tone


# ------------------------------------------------------------------------------- the verdict


def verdict(look: Look) -> Verdict:
    """Must somebody get up? The first of these that is true."""
    for said in (_damaged, _away, _silent, _over, _held, _nothing):
        found = said(look)
        if found is not None:
            return found
    return _at_work(look)


def _damaged(look: Look) -> Verdict | None:
    trouble = look.report.trouble
    if not trouble:
        return None
    more = "what stands below may be older, or a first day"
    return Verdict("bad", f"The state is damaged: {'; '.join(trouble)}", more)


def _away(look: Look) -> Verdict | None:
    """Nobody supervises."""
    report = look.report
    if report.daemon.state == "running":
        return None
    start = "`supervisor run` starts it"
    if report.home_id is None and not look.lines:
        return Verdict("rest", "No supervisor has lived here yet", start)
    last = _newest(look, Event.SUPERVISOR_STOPPED, Event.SUPERVISOR_STARTED)
    asked = last is not None and last["event"] == Event.SUPERVISOR_STOPPED
    ago = f" {span(_age_s(look, last))} ago" if last is not None and asked else ""
    if report.campaign.runs and all(run.status in ENDED for run in report.runs):
        return Verdict("done", f"{_done(look)}; the supervisor was stopped{ago}")
    if asked:
        return Verdict("rest", f"Stopped as asked{ago}; nothing trains", start)
    gone = "The supervisor is gone without a word; nobody looks after training"
    return Verdict("bad", gone, start)


def news_at(look: Look) -> float | None:
    """The wall time at which the supervisor was heard of last; None: it never was."""
    sampled_at = None if look.sample is None else look.sample.at
    known = [at for at in (look.looked_at, sampled_at) if at is not None]
    return max([*known, *(_at(line) for line in look.lines[-1:])], default=None)


def _silent(look: Look) -> Verdict | None:
    """It lives, but has not been heard of for longer than it may be silent."""
    heard_at = news_at(look)
    if heard_at is None or (silent_s := look.at - heard_at) < LOOKS_MISSED * look.tick_s:
        return None
    return Verdict(
        "bad",
        f"No news for {span(silent_s)}",
        f"the supervisor lives, pid {look.report.daemon.pid}, but looks at nothing: "
        "`supervisor doctor` tells why",
    )


def _over(look: Look) -> Verdict | None:
    report = look.report
    if not report.campaign.runs or any(run.status not in ENDED for run in report.runs):
        return None
    failed = report.campaign.failed
    return Verdict("warn" if failed else "done", f"{_done(look)}; {_crashes(look)}")


def _held(look: Look) -> Verdict | None:
    """Somebody or something keeps training from going on."""
    goal, report = look.report.goal, look.report
    owners: tuple[PauseOwner, ...] = tuple(goal.get("pauses", ()))
    if owners:
        return Verdict(
            "rest",
            f"Paused by {pauses.who(owners)}; {_crashes(look)}",
            "; ".join([pauses.lifted(owners), *_reasons(look, owners)]),
        )
    if goal.get("idle_until_s") is not None:
        return Verdict("bad", "Left idle: this machine dies as soon as it trains", report.next.why)
    if goal.get("still") == "frozen":
        words = report.guard.words if report.guard is not None else ""
        return Verdict("rest", f"Standing still for the guard; {_crashes(look)}", words)
    return None


def _reasons(look: Look, owners: tuple[PauseOwner, ...]) -> Iterator[str]:
    """What the owners of a pause say themselves."""
    if "guard" in owners and look.report.guard is not None:
        yield look.report.guard.words
    if "quiet_hours" in owners and look.report.quiet is not None:
        yield look.report.quiet.words


def _nothing(look: Look) -> Verdict | None:
    runs = look.report.runs
    if any(run.status not in ENDED for run in runs):
        return None
    why = "every job has ended" if runs else "there is no run, and no job"
    return Verdict("rest", f"Nothing to train: {why}", look.report.next.why)


def _at_work(look: Look) -> Verdict:
    report = look.report
    demanded = [run for run in report.runs if run.status not in ENDED and run.waits is None]
    running = sum(run.status == "running" for run in demanded)
    move = _move(look) if running < len(demanded) else None
    doing = move or ("Training" if running else "Starting" if demanded else "Waiting")
    parts = [doing, report.mode]
    parts += [f"{running} of {len(demanded)} running"] if demanded else []
    if report.campaign.eta_s:
        parts.append(f"{span(report.campaign.eta_s)} left")
    said = [", ".join(parts)]
    kinds = Counter(run.status for run in report.runs)
    kinds["failed"] = report.campaign.failed  # a job that has failed wakes nobody up
    ill = ("quarantined", "failed", "blocked")
    said += [f"{kinds[kind]} {kind}" for kind in ill if kinds[kind]]
    said.append(_crashes(look))
    tone: Tone = "well" if running and running == len(demanded) else "wait"
    if report.crashes_last_hour or kinds["quarantined"] or kinds["failed"]:
        tone = "warn"
    if kinds["blocked"]:
        tone = "bad"
    gravest = next((kind for kind in reversed(ill) if kinds[kind]), None)
    broken = [run for run in report.runs if run.status == gravest and run.reason]
    more = f"{broken[0].called}: {broken[0].reason}" if broken else ""
    if not demanded:
        more = more or next((run.waits for run in report.runs if run.waits), "")
    return Verdict(tone, "; ".join(said), more)


def _move(look: Look) -> str | None:
    """What the machine is about where its mode has just changed."""
    line = _newest(look, Event.MODE_CHANGED)
    known = look.report.ledger
    if line is None or known is None or _age_s(look, line) > MOVE_S:
        return None
    ladder = [one.mode for one in known.modes]
    old, new = line.get("old"), line.get("new")
    if old not in ladder or new not in ladder:
        return None
    return "Climbing" if ladder.index(new) > ladder.index(old) else "Climbing down"


def _done(look: Look) -> str:
    known = look.report.campaign
    failed = f", {known.failed} failed" if known.failed else ""
    return f"Done: {known.done} of {known.runs} runs{failed}"


def _crashes(look: Look) -> str:
    """The crashes of a day, and how long ago the newest is where that matters now."""
    ages_s = [look.at - wall(boot.recorded) for boot in look.report.boots if boot.crash]
    ages_s = [age_s for age_s in ages_s if age_s <= DAY_S]
    if not ages_s:
        return "no crash in 24 h"
    newest_s = min(ages_s)
    newest = f", {'the newest ' if len(ages_s) > 1 else ''}{span(max(0.0, newest_s))} ago"
    crashes = f"{len(ages_s)} {'crash' if len(ages_s) == 1 else 'crashes'} in 24 h"
    return crashes + (newest if newest_s < HOUR_S else "")


# --------------------------------------------------------------------------- what comes next


def coming(look: Look) -> list[Row]:
    """What comes next, what bounds it, and what this machine has taught."""
    report = look.report
    running, stable = span(report.mode_running_s), span(report.stable_s)
    rows = [
        Row("next", report.next.why),
        Row("mode", f"{report.mode} since {when(report.mode_since)}"),
        Row("", f"{running} of running, {stable} of it stable"),
        Row("bounds", ", ".join(report.bounds) or "none"),
    ]
    rows += [Row(*row) for row in learnt(report)]
    if report.quiet is not None:
        rows.append(Row("quiet", report.quiet.words))
        if report.quiet.lifted_until is not None:
            until = when(report.quiet.lifted_until)
            rows.append(Row("", f"a person trains in any hour until {until}"))
        if report.quiet.late:
            rows.append(Row("", "the analysis of usage is late: the decisions say why"))
    if report.guard is not None:
        rows.append(Row("guard", report.guard.words))
    if report.campaign.ends is not None:
        known = report.campaign.ends
        rows.append(Row("ends", f"{'not known: ' if known.at is None else ''}{known.words}"))
    if report.again is not None:
        rows.append(Row("again", report.again.words))
    return rows


# ---------------------------------------------------------------------------------- the runs


def cards(look: Look) -> list[Card]:
    """The runs that train, or should, in the order of the queue."""
    return [card(run) for run in look.report.runs if run.status not in (*ENDED, WAITS)]


def waiting(look: Look) -> list[Card]:
    """Those whose turn is to come."""
    return [card(run) for run in look.report.runs if run.status == WAITS]


def ended(look: Look) -> list[Card]:
    """Those that have."""
    return [card(run) for run in look.report.runs if run.status in ENDED]


def card(run: RunReport) -> Card:
    """One run, in the words of `show-state`."""
    _, _, reached, of, rate, score, saved, left, restarts = run_row(run)
    trains = run.status in ("running", "starting")
    facts = (
        Fact("rate", "rate", rate),
        Fact("score", run.score.name if run.score else "score", score),
        Fact("saved", "saved", saved),
        Fact("left", "left", left),
        Fact("restarts", "restarts", restarts),
        Fact("loss", "loss", count(run.loss)),
    )
    return Card(
        run=run,
        tone=TONES.get(run.status, "rest"),
        reached=reached,
        of=of,
        facts=tuple(fact for fact in facts if fact.text != NOT_KNOWN),
        why=((None if trains else run.reason) or run.waits) or "",
        ends="" if run.ends is None or run.ends.at is None else f"ends {run.ends.words}",
    )


# --------------------------------------------------------------------------------- the queue


def queued(queue: Queue) -> str:
    """How many jobs run and wait, and for how long the oldest has waited."""
    return f"{queue.running} running, {queue.waiting} waiting"


def share_of(share: Share, queue: Queue) -> float:
    """Which share of the queue a tenant has, 0 to 1."""
    return (share.running + share.waiting) / max(1, queue.running + queue.waiting)


def has(share: Share) -> str:
    """What a tenant has of the queue, and had of the machine today."""
    return (
        f"{share.running} running, {share.waiting} waiting; "
        f"{share.cpu_hours_today:.1f} CPU-hours today"
    )


def starts(job: QueuedJob) -> str:
    """When a job starts: as likely sooner as later, and in nine of ten cases; empty: not known."""
    if job.eta_s is None or job.eta_p90_s is None:
        return ""
    return f"starts in {span(job.eta_s)}, in nine of ten cases in {span(job.eta_p90_s)}"


def job_rows(job: JobReport) -> list[Row]:
    """All that is known of a job."""
    rows = [Row("why", why) for why in (*job.waits, *filter(None, [job.error]))]
    rows += [
        Row("trainer", job.trainer),
        Row("for", f"{job.tenant}, priority {job.priority}"),
        Row("progress", "-" if job.progress is None else percent(job.progress)),
        Row("submitted", when(stamp(job.submitted_at))),
    ]
    times = (("started", job.started_at), ("finished", job.finished_at))
    rows += [Row(what, when(stamp(at))) for what, at in times if at is not None]
    return [*rows, *_measured(job.metrics)]


def _measured(metrics: Mapping[str, object]) -> Iterator[Row]:
    """What a job has measured; of a table of tables, such as baselines, a row for each of these."""
    for name, value in metrics.items():
        if isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values()):
            yield from (Row(f"{name} {key}", _words(one)) for key, one in value.items())
        elif value is not None:
            yield Row(name, _words(value))


def _words(value: object, depth: int = 2) -> str:
    """A value of JSON; what lies deep in it is left out."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return count(value)
    if isinstance(value, Mapping | list) and not depth:
        return "..."
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(one, depth - 1)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_words(one, depth - 1) for one in value)
    return NOT_KNOWN if value is None else str(value)


# ------------------------------------------------------------------------------- the machine


class Gauge(NamedTuple):
    """One thing that was measured of the machine."""

    name: str
    now: str
    more: str
    shown: tuple[Drawn, ...]
    """how it was lately; of a part of it, too, where the settings have limits for that"""


def gauges(look: Look) -> list[Gauge]:
    """What was measured last; what cannot be measured here is left out."""
    newest = look.sample
    if newest is None:
        return []
    days = f"days left: {look.lately.disk.words}"
    told = [
        ("processors", _cpu(newest), "", ("cpu_percent", "cpu_other_percent")),
        ("memory", _memory(newest), "", ("memory_percent", "memory_other_percent")),
        ("temperature", _number(newest.cpu_temperature_c, "°C"), "", ("cpu_temperature_c",)),
        ("disk", _disk(newest), days, ("disk_free_mib",)),
    ]
    for number, gpu in enumerate(newest.gpus):
        name = "GPU" if len(newest.gpus) == 1 else f"GPU {number}"
        parts = ("utilization_percent", "memory_percent", "memory_other_mib")
        told.append((name, _gpu(gpu), "", tuple(f"gpu{number}_{part}" for part in parts)))
    return [
        Gauge(name, now, more, tuple(_drawn(look, parts))) for name, now, more, parts in told if now
    ]


def _drawn(look: Look, parts: Sequence[str]) -> Iterator[Drawn]:
    for place, part in enumerate(parts):
        drawn = look.lately.gauges.get(part)
        if drawn is not None and (place == 0 or drawn.words):
            yield drawn


def _cpu(sample: Sample) -> str:
    whole = _number(sample.cpu_percent, "%")
    own = _number(sample.cpu_own_percent, "%")
    return f"{whole}, {own} of it ours" if whole and own else whole


def _memory(sample: Sample) -> str:
    total, free = sample.memory_total_mib, sample.memory_available_mib
    if total is None or free is None:
        return ""
    return f"{_gib(total - free)} of {_gib(total)} GiB"


def _disk(newest: Sample) -> str:
    return "" if newest.disk_free_mib is None else f"{_gib(newest.disk_free_mib)} GiB free"


def _gpu(gpu: GpuSample) -> str:
    parts = [
        _number(gpu.utilization_percent, "%"),
        _number(gpu.temperature_c, "°C"),
        _number(gpu.power_w, "W"),
    ]
    if gpu.memory_used_mib is not None and gpu.memory_total_mib is not None:
        parts.append(f"{_gib(gpu.memory_used_mib)} of {_gib(gpu.memory_total_mib)} GiB")
    if gpu.xid:
        parts.append(f"error {gpu.xid:.0f} of the driver")
    return ", ".join(part for part in parts if part)


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.0f} {unit}"


def _gib(mib: float) -> str:
    return f"{mib / 1024:.1f}"


# ---------------------------------------------------------------------------- what it costs


def costs(look: Look) -> list[Row]:
    """Hours, money, crashes and goodput."""
    report, spent = look.report, look.goodput
    rows = [Row("campaign", campaign(report))]
    if spent.demanded_s:
        rows.append(Row("goodput", goodput_words(spent)))
        kept, lost = count(spent.steps_kept), count(spent.steps_lost)
        rows.append(Row("work", f"{kept} steps kept, {lost} lost"))
    if report.ledger is not None:
        rows.append(Row("a crash", price(report.ledger)))
        rows.append(Row("today", _crashes_cost(look, report.ledger)))
        rows.append(Row("saving", interval(report.ledger)))
    if look.cost_per_hour is not None:
        rows.append(Row("an hour", f"{look.cost_per_hour:g}"))
    return rows


def _crashes_cost(look: Look, known: LedgerReport) -> str:
    crashes = sum(
        boot.crash and look.at - wall(boot.recorded) <= DAY_S for boot in look.report.boots
    )
    if not crashes:
        return "no crash in 24 h, which cost nothing"
    lost_min = crashes * known.crash_price_min
    money = ""
    if look.cost_per_hour is not None:
        money = f", {look.cost_per_hour * lost_min / 60:.2f} in money"
    return f"{_crashes(look)}: about {span(60 * lost_min)} of work{money}"


def goodput_words(spent: Goodput) -> str:
    """The share of the time that became training."""
    return f"{percent(spent.goodput)} of {brief(spent.demanded_s)} of training demanded"


def goodput_rows(spent: Goodput) -> list[Row]:
    """The rest of `supervisor goodput`."""
    idle = [
        f"{brief(seconds)} {NOT_DEMANDED[why]}"
        for why, seconds in spent.not_demanded_s.items()
        if seconds >= 1
    ]
    return [
        Row("not demanded", ", ".join(idle) or "never"),
        Row("work", f"{count(spent.steps_kept)} steps kept, {count(spent.steps_lost)} lost"),
        Row("ends", f"{spent.deaths} of trainers, {spent.crashes} crashes of the machine"),
        Row("starts", took(spent.start, "to the first new step")),
        Row("stops", took(spent.stop, "until the trainer was gone")),
        Row("detection", took(spent.detection, "where a hang or a death had to be noticed")),
        Row("checkpoints", took(spent.checkpoint_stall, "of standing still")),
    ]


def share_rows(spent: Goodput) -> list[tuple[str, ...]]:
    """Where the time went in which training was demanded, in the order of `SHARE_TITLES`."""
    return [
        (share, percent(spent_s / spent.demanded_s), brief(spent_s), SHARES[share])
        for share, spent_s in spent.spent_s.items()
        if spent_s
    ]


# ------------------------------------------------------------------------- pages of their own

PRIORITIES = RANKS
SHARE_TITLES = ("where it went", "share", "time", "which is")
INPUT_TITLES = ("input", "value", "note")


def input_rows(one: Explanation) -> list[tuple[str, ...]]:
    """What a decision was made from, in the order of `INPUT_TITLES`."""
    return [(each.name, quantity(each), each.note) for each in one.inputs]


def evidence(line: Line) -> list[Row]:
    """What a line was written for that is no decision."""
    known = line.get("evidence")
    if not isinstance(known, dict):
        return []
    return [
        Row(name.replace("_", " "), count(value) if _is_number(value) else str(value))
        for name, value in known.items()
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def ledger_rows(known: LedgerReport) -> list[Row]:
    """What stands above the table of modes."""
    asked = known.policy + ("" if known.policy == "ledger" else ", which asks none of this")
    return [
        Row("policy", asked),
        Row("a crash", price(known)),
        Row("budget", budget(known) or f"nothing is staked in {known.mode}, the lowest mode"),
        Row("saving", interval(known)),
    ]


def mode_rows(known: LedgerReport) -> list[tuple[str, ...]]:
    """Each mode, in the order of `screen.MODE_TITLES`."""
    return [mode_row(known, one) for one in known.modes]


def goodput_runs(spent: Goodput) -> list[tuple[str, ...]]:
    """Each run, in the order of `screen.GOODPUT_TITLES`."""
    return [goodput_row(run) for run in spent.runs]


class Happened(NamedTuple):
    """Something that happened to a run."""

    seq: int
    when: str
    what: str
    step: str
    words: str


def happened(marks: Sequence[Mark]) -> list[Happened]:
    """What happened to a run, the newest first."""
    return [
        Happened(
            seq=one.seq,
            when=when(stamp(one.at)),
            what=HAPPENED[one.what],
            step="" if one.step is None else f"step {count(one.step)}",
            words=one.words,
        )
        for one in marks[: -MARKS_SHOWN - 1 : -1]
    ]


def stills(known: Curves, marks: Sequence[Mark]) -> list[Markup]:
    """The curves of a run for whoever runs no scripts."""
    drawn = []
    for curve in known.curves[:STILLS_MAX]:
        shown = {curve.name: curve.points}
        draw = partial(pictures.chart, shown, called=curve.name, by=known.by, marks=marks)
        drawn.append(pictures.for_both(draw))
    return drawn


def ledger_picture(known: LedgerReport) -> Markup:
    """Crashes an hour in each mode with their bounds, and how many it pays for."""
    return pictures.for_both(partial(pictures.ledger, known.modes, mode=known.mode))


def goodput_picture(spent: Goodput) -> Markup:
    """Where the time went."""
    return pictures.for_both(partial(pictures.goodput, spent))


def run_rows(run: RunReport) -> list[Row]:
    """What a card of a run leaves out."""
    rows = [
        Row("id", run.id),
        Row("trainer", run.trainer),
        Row("priority", run.rank),
        Row("newest checkpoint", count(run.checkpoint_step)),
    ]
    if run.gpus is not None:
        rows.append(Row("GPUs", ", ".join(run.gpus) or "none"))
    if run.ends is not None:
        rows.append(Row("ends", run.ends.words))
    return rows


# ----------------------------------------------------------------------------- the decisions

EVENT_TONES: dict[str, Tone] = {
    Event.CAMPAIGN_DONE: "done",
    Event.MODE_PROVED: "done",
    Event.MODE_CHANGED: "wait",
    Event.RUN_DONE: "done",
    Event.RUN_DIED: "warn",
    Event.RUN_HUNG: "warn",
    Event.RUN_LOST: "warn",
    Event.RUN_QUARANTINED: "warn",
    Event.RUN_FAILED: "bad",
    Event.RUN_BLOCKED: "bad",
    Event.REQUEST_REFUSED: "warn",
    Event.STATE_DAMAGED: "bad",
    Event.STATE_UNSAVED: "bad",
}
"""events that stand out among the others, as a boot does after a crash"""
MEANINGS = {str(event): event.meaning for event in Event}


def told(line: Line) -> Told:
    """A line of the log, as `supervisor decisions` tells it."""
    known = human(line)
    day, _, time = known["time"].partition(" ")
    event = known["event"]
    found = line.get("evidence")
    crash = event == Event.BOOT_RECORDED and isinstance(found, dict) and found.get("crash") is True
    return Told(
        seq=known["seq"].strip(),
        at=str(line.get("time", "")),
        day=day,
        time=time.removesuffix(" UTC"),
        event=event,
        meaning=MEANINGS.get(event, ""),
        subject=known["subject"],
        reason=known["reason"],
        tone="warn" if crash else EVENT_TONES.get(event, "rest"),
    )


def by_day(lines: Sequence[Line]) -> dict[str, list[Told]]:
    """Lines of the log day by day, the newest first, from lines of which the oldest comes first."""
    days: dict[str, list[Told]] = {}
    for line in reversed(lines):
        one = told(line)
        days.setdefault(one.day, []).append(one)
    return days


def older(asked: Mapping[str, str], lines: Sequence[Line]) -> dict[str, str]:
    """What is to be asked for the lines before these."""
    return {**asked, "before": str(lines[0].get("seq", ""))}


def _newest(look: Look, *events: Event) -> Line | None:
    """The newest line of one of these events, as far as the look reaches."""
    return next((line for line in reversed(look.lines) if line.get("event") in events), None)


def _at(line: Mapping[str, object]) -> float:
    try:
        return wall(str(line.get("time", "")))
    except ValueError:  # no line of ours
        return 0.0


def _age_s(look: Look, line: Mapping[str, object]) -> float:
    return max(0.0, look.at - _at(line))
