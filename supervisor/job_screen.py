"""How jobs look on a terminal or in a pipe: plain text, in colour where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from state.jobs.records import AttemptRow, Job, ModelVersion, Page
from supervisor.core.moments import span, stamp, when
from supervisor.jobs.contract import Queue, ValidateAnswer, Waiting
from supervisor.jobs.desk import Coming
from supervisor.jobs.telling import is_stale
from supervisor.screen import count, in_columns, labelled
from supervisor.terminal import paint, printable

COLOURS = {"RUNNING": "green", "COMPLETED": "blue", "FAILED": "red", "CANCELLED": "yellow"}
SHA_SHOWN = 12
"""digits of a hash that tell it from others"""
NUMBERS_MAX = 8
"""metrics of a job that are shown; `--json` has all"""


def jobs(page: Page, stale_s: float) -> str:
    """Jobs as a table, newest first; below it how many more there are."""
    titles = ("job", "status", "for", "what", "priority", "progress", "age")
    rows = [_row(job, stale_s) for job in page.jobs]
    first, *lines = in_columns(titles, rows, left=5)
    painted = []
    for job, line in zip(page.jobs, lines, strict=True):
        status = job.became.status
        colour = COLOURS.get(status)
        painted.append(line.replace(status, paint(status, colour), 1) if colour else line)
        painted += [paint(f"  {why}", "dim") for why in _whys(job)]
    more = page.total - len(page.jobs)
    rest = [paint(f"and {more} older ones: -n {page.total} shows all", "dim")] if more else []
    return "\n".join([first, *painted, *rest])


def job(one: Job, attempts: Sequence[AttemptRow], stale_s: float) -> str:
    """All that is known of a job that people ask for."""
    became, status = one.became, _status(one, stale_s)
    rows = [
        ("job", paint(one.job_id, "bold")),
        ("status", paint(status, COLOURS.get(became.status, "bold"))),
        *[("", why) for why in _whys(one)],
        ("what", f"{_what(one)}, by the trainer {printable(one.asked.trainer)}"),
        ("for", f"{one.asked.tenant_id}, priority {one.asked.priority}"),
        ("progress", _progress(one)),
        ("attempt", f"{became.attempt} of {one.asked.max_attempts}"),
        ("submitted", _when(one.created_at)),
        *[("started", _when(at)) for at in _there(became.started_at)],
        *[("finished", _when(at)) for at in _there(became.finished_at)],
        *_claimed(one),
        *[("metrics", text) for text in _metrics(one)],
        *_model(one),
        *_kept(one),
        *[("attempt", _attempt(each)) for each in attempts[-5:]],
    ]
    return labelled(rows)


def waiting(one: Waiting) -> str:
    """Why a job waits: a reason a line, and where it stands."""
    lines = [printable(reason.message) for reason in one.reasons]
    for place, reason in enumerate(one.reasons):
        if reason.until_at is not None:
            lines[place] += f" (until {_when(reason.until_at.timestamp())})"
    if one.queue is not None:
        lines.append(_place(one.queue))
    return "\n".join(lines or [f"it does not wait: it is {one.status}"])


def _place(queue: Queue) -> str:
    if queue.eta_s is None or queue.eta_p90_s is None:
        return f"place {queue.position} in the line"
    soon, late = span(queue.eta_s), span(queue.eta_p90_s)
    return f"place {queue.position} in the line: starts in {soon}, in nine of ten cases in {late}"


def validated(found: ValidateAnswer) -> str:
    """What would become of a job."""
    resolved = found.resolved or {}
    verdict = paint("can be trained", "green") if found.valid else paint("cannot work", "red")
    refusal = found.refusal
    alone = refusal is not None and not found.errors
    return labelled(
        [
            ("job", verdict),
            *[("error", printable(f"{one.field}: {one.error}")) for one in found.errors],
            *([("error", _error(msgspec.to_builtins(refusal)))] if alone else []),
            *[("warning", printable(f"{one.field}: {one.message}")) for one in found.warnings],
            *_rows_told(resolved.get("rows")),
            *_estimate(resolved.get("estimate")),
        ]
    )


def _rows_told(rows: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if rows is None:
        return
    apart = f", {rows['step']} apart" if rows["step"] else ""
    yield "rows", f"{rows['rows']:,} from {rows['from']} to {rows['to']}{apart}"
    parts = [f"{name} {part['rows']:,}" for name, part in rows["split"].items()]
    yield "split", f"{', '.join(parts)}; {rows['usable_rows']:,} have all features"


def _estimate(found: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if found is None:
        return
    if found["memory_bytes"] is not None:
        yield "memory", f"about {count(found['memory_bytes'])}B"
    if found["jobs"]:
        median, p90 = span(found["seconds"]), span(found["seconds_p90"])
        jobs = f"{found['jobs']} job{'s' if found['jobs'] > 1 else ''}"
        yield "takes", f"about {median}, nine of ten within {p90}: measured of {jobs} like it"


def schedules(coming: Sequence[Coming], now_at: float) -> str:
    """Schedules as a table."""
    titles = ("job", "for", "what", "cron", "zone", "last fired", "next")
    rows = []
    for one in coming:
        schedule = one.job.asked.schedule
        if schedule is None:
            continue
        last = "never" if one.fired_at is None else _when(one.fired_at)
        due = "never" if one.next_at is None else _when(one.next_at)
        if one.next_at is not None:
            due += f", in {span(max(0.0, one.next_at - now_at))}"
        what, cron = _what(one.job), printable(schedule.cron)
        rows.append((one.job.job_id, one.job.asked.tenant_id, what, cron,
                     printable(schedule.timezone), last, due))  # fmt: skip
    return "\n".join(in_columns(titles, rows, left=7))


def models(found: Sequence[ModelVersion]) -> str:
    """Models as a table."""
    titles = (
        *("model", "version", "for", "job", "hash", "size"),
        *("made", "kept", "served by", "metrics"),
    )
    rows = [
        (
            printable(one.name),
            str(one.version),
            one.tenant_id,
            one.job_id,
            one.sha256[:SHA_SHOWN],
            f"{count(one.size_bytes)}B",
            _when(one.created_at),
            "yes" if one.kept else "no",
            printable(one.served_by or "-"),
            ", ".join(_numbers(one.metrics or {})[:3]) or "-",
        )
        for one in found
    ]
    return "\n".join(in_columns(titles, rows, left=10))


def _row(one: Job, stale_s: float) -> tuple[str, ...]:
    return (
        one.job_id,
        _status(one, stale_s),
        one.asked.tenant_id,
        _what(one),
        one.asked.priority,
        _progress(one),
        span(max(0.0, one.read_at - one.created_at)),
    )


def _status(one: Job, stale_s: float) -> str:
    if one.asked.schedule is not None and not one.ended:
        return "scheduled"
    stale = " (stale)" if is_stale(one, stale_s) else ""
    return f"{one.became.status}{stale}"


def _whys(one: Job) -> Iterator[str]:
    """What keeps it, or has ended it."""
    became = one.became
    if one.ended:
        if became.error is not None:
            yield _error(became.error)
        return
    if one.asked.cancel_wanted:
        yield "is to be cancelled: its home saves it first"
    if one.asked.paused:
        yield "paused by a person"
    elif became.paused_reason is not None:
        yield f"paused: {printable(became.paused_reason)}"
    if became.next_attempt_at is not None:
        due = span(max(0.0, became.next_attempt_at - one.read_at))
        yield f"attempt {became.attempt + 1} begins in {due}"
    if became.error is not None:
        yield f"the last attempt: {_error(became.error)}"


def _error(said: dict[str, object]) -> str:
    """The error of a job in a line: what it says, and the reason among its details."""
    details = said.get("details")
    reason = details.get("reason") or details.get("error") if isinstance(details, dict) else None
    text = f"{said.get('error', 'Unknown')}: {said.get('message', said)}"
    return printable(f"{text}: {reason}" if reason else text)


def _what(one: Job) -> str:
    return printable(one.asked.model_name or one.asked.trainer or "-")


def _progress(one: Job) -> str:
    step = "" if one.became.current_step is None else f" {printable(one.became.current_step)}"
    return f"{one.became.progress:.0f} %{'' if one.ended else step}"


def _claimed(one: Job) -> Iterator[tuple[str, str]]:
    if one.claim is None:
        return
    seen = ""
    if not one.ended and one.became.as_of is not None:
        seen = f", seen {span(max(0.0, one.read_at - one.became.as_of))} ago"
    yield "home", f"{printable(one.claim.home)}{seen}"


def _metrics(one: Job) -> Iterator[str]:
    found = _numbers(one.became.metrics or {})
    if found:
        yield ", ".join(found[:NUMBERS_MAX])


def _numbers(metrics: dict[str, object]) -> list[str]:
    return [
        f"{printable(name)} {value:.4g}"
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _model(one: Job) -> Iterator[tuple[str, str]]:
    if one.model is not None:
        sha, size = one.model.sha256[:SHA_SHOWN], count(one.model.size_bytes)
        yield "model", f"{printable(one.model.name)} version {one.model.version}, {size}B, {sha}"


def _kept(one: Job) -> Iterator[tuple[str, str]]:
    """What its folder takes, once it has ended."""
    if one.ended and one.became.started_at is not None:
        size = one.became.kept_bytes
        yield "kept", f"{count(size)}B" if size else "nothing: its folder was cleared away"


def _attempt(each: AttemptRow) -> str:
    ended = "" if each.ended_at is None else f" after {span(each.ended_at - each.started_at)}"
    became = printable(each.outcome or "still at it")
    why = "" if each.error is None else f": {_error(each.error)}"
    return f"{each.number} began {_when(each.started_at)}: {became}{ended}{why}"


def _there(at: float | None) -> tuple[float, ...]:
    return () if at is None else (at,)


def _when(at: float) -> str:
    return when(stamp(at))
