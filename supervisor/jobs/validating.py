"""What `POST /validate` answers, and `supervisor jobs validate`: a request as its trainer sees it.

First the configuration is judged as for a job, then the trainer looks at the rows; what that says
is put into the words of the API here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from state.jobs.records import Job, Which
from supervisor.core.eta import Lasted, lasted
from supervisor.jobs.asked import Prepared, place_of
from supervisor.jobs.contract import ALIASES, Training, ValidateAnswer, Warned
from supervisor.jobs.errors import (
    ConfigValidationError,
    DataLoadError,
    JobError,
    Problem,
)
from supervisor.jobs.judging import tells_of_rows
from supervisor.jobs.mirror import in_words_of_the_tenant
from supervisor.jobs.reading import problem
from supervisor.jobs.rows import Unread
from trainers.contract import Name, Rows, Spec, Unfit

SIZE, ROUNDS = "training_data_size", "training_rounds"
"""of their metrics: rows that were learnt from, and how often these were gone through"""

UNKNOWN = {"seconds": None, "seconds_p90": None, "jobs": 0}
"""how long it takes, where no job like it was measured"""


class Seen(NamedTuple):
    """A request that can work, and what its trainer says of its rows."""

    prepared: Prepared
    rows: Rows | Unfit | Unread | None
    """None: it tells nothing of them"""
    lasted: Lasted | None
    """how long others like it took"""


def to_look_at(prepared: Prepared) -> Spec | None:
    """Of what a trainer is to look at the rows; None: it tells nothing of them."""
    return prepared.spec if tells_of_rows(prepared.spec.trainer) else None


def measurable(tenant: Name | None) -> Which:
    """Jobs that have told how long they took, of one tenant; None: of all, for the operator.

    To anybody else the times of others would tell what these do.
    """
    return Which(tenant_id=tenant, status=("COMPLETED",))


def measured(request: Training, rows: Rows, jobs: Iterable[Job]) -> Lasted | None:
    """How long jobs took that learnt in the same way about as much; None: there are none.

    Args:
        request: what is asked for.
        rows: what it would learn from.
        jobs: that are COMPLETED, the newest first.
    """
    learns = request.trainer if request.config is None else request.config.learns
    took_s = []
    for job in jobs:
        work, became = _work(job), job.became
        if work is None or _learnt(job) != learns:
            continue
        if became.started_at is not None and became.finished_at is not None:
            took_s.append((work, became.finished_at - became.started_at))
    return lasted(took_s[::-1], float(rows.train_rows * rows.rounds))


def refused(error: JobError) -> ValidateAnswer:
    """What is answered where a request can never work."""
    problems = error.problems if isinstance(error, ConfigValidationError) else ()
    return ValidateAnswer(valid=False, errors=problems, refusal=error.body)


def answered(request: Training, tenant: str, seen: Seen) -> ValidateAnswer:
    """What is answered where the configuration can work.

    Args:
        request: what is asked for.
        tenant: for whom.
        seen: what came of it.
    """
    prepared, rows = seen.prepared, seen.rows
    said = _Words(request, prepared)
    if isinstance(rows, Unfit):
        return _unfit(rows, said, tenant, prepared)
    resolved, warnings = dict(prepared.resolved), list(prepared.warnings)
    memory_bytes = None
    if isinstance(rows, Unread):
        memory_bytes = rows.memory_bytes
        line = said.line(f"The configuration is well, and its rows were not looked at: {rows.why}")
        warnings.append(Warned(field=said.field("data"), code="rows_not_read", message=line))
    elif rows is not None:
        memory_bytes = rows.memory_bytes
        resolved["rows"] = rows.told
        warnings += [
            Warned(field=said.field(one.option), code=one.code, message=said.line(one.line))
            for one in rows.remarks
        ]
    if rows is not None:
        took = UNKNOWN if seen.lasted is None else seen.lasted._asdict()
        resolved["estimate"] = {"memory_bytes": memory_bytes, **took}
    return ValidateAnswer(valid=True, warnings=tuple(warnings), resolved=resolved)


def _unfit(rows: Unfit, said: _Words, tenant: str, prepared: Prepared) -> ValidateAnswer:
    """What is answered where nothing can be learnt from the rows."""
    details = rows.details
    if rows.error == DataLoadError.error:
        reason = said.line(str(details.get("reason", rows.line)))
        error: JobError = DataLoadError(reason, tenant)
        found = said.problem("data", reason)
    else:
        what = said.line(str(details.get("error", rows.line)))
        found = said.problem(str(details.get("field", "data")), what)
        error = ConfigValidationError([found])
    return ValidateAnswer(
        valid=False, errors=(found,), warnings=prepared.warnings, refusal=error.body
    )


class _Words:
    """The words of the one who asks, for options and for the table."""

    def __init__(self, request: Training, prepared: Prepared) -> None:
        self._config, self._asked = request.config, prepared.asked

    def problem(self, option: str, error: str) -> Problem:
        return problem(place_of(self._config, option), error)

    def field(self, option: str) -> str:
        return self.problem(option, "").field

    def line(self, line: str) -> str:
        """A line that names a table as the request does."""
        return in_words_of_the_tenant(line, self._asked)


def _work(job: Job) -> float | None:
    """How much a job has learnt: rows by rounds."""
    metrics = job.became.metrics or {}
    size, rounds = metrics.get(SIZE), metrics.get(ROUNDS)
    if not isinstance(size, int | float) or not isinstance(rounds, int | float):
        return None
    return float(size) * float(rounds)


def _learnt(job: Job) -> str | None:
    """By what it has learnt: an algorithm, or else a trainer."""
    config = job.asked.config.get("config")
    if not isinstance(config, dict):
        return job.asked.trainer
    named = str(config.get("algorithm"))
    return ALIASES.get(named, named)
