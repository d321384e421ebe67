"""Rows of the tables as values, and values as what stands in the rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from state.jobs import tables
from state.jobs.records import (
    Asked,
    AttemptRow,
    Became,
    Candidate,
    Claim,
    Event,
    Foretold,
    Job,
    Json,
    ModelVersion,
    Point,
    Schedule,
)

T = TypeVar("T", bound=msgspec.Struct)

_LEFT: dict[str, sa.ColumnElement[Any]] = {
    **{str(column.name): column for column in tables.models.c},
    "kept": tables.jobs.c.kept_bytes > 0,
}
_MODEL = {f"left_{name}": _LEFT[name] for name in ModelVersion.__struct_fields__}
_SCHEDULE = [tables.schedules.c[name] for name in Schedule.__struct_fields__]
JOBS = sa.select(
    tables.jobs,
    *_SCHEDULE,
    *(column.label(name) for name, column in _MODEL.items()),
    tables.now_s().label("read_at"),
).select_from(
    tables.jobs.outerjoin(
        tables.schedules, tables.schedules.c.job_id == tables.jobs.c.job_id
    ).outerjoin(tables.models, tables.models.c.job_id == tables.jobs.c.job_id)
)
"""jobs, with their schedules, the models that they have left, and the time"""
JOB = JOBS.where(tables.jobs.c.job_id == sa.bindparam("job_id"))
"""one of them; made once, since SQLAlchemy takes longer to put it together than SQLite to run it"""
LOCKED = JOB.with_for_update(of=tables.jobs)
"""the same, which nobody else changes until the end of the transaction"""

MODELS = sa.select(
    *(_LEFT[name].label(name) for name in ModelVersion.__struct_fields__)
).select_from(tables.models.join(tables.jobs, tables.jobs.c.job_id == tables.models.c.job_id))
"""models, with whether their files are there"""


def names(kind: type[msgspec.Struct], *but: str) -> list[str]:
    """The fields of a record, but for some."""
    return [name for name in kind.__struct_fields__ if name not in but]


_JOB = names(Job, "asked", "became", "claim", "model")
_ASKED = names(Asked, "schedule")
_TEXTS = ("config", "metadata", "metrics", "error", "content")
"""columns that hold JSON"""


def job(row: sa.RowMapping) -> Job:
    """A row of `JOBS`."""
    found = dict(row)  # to look into a row itself takes ten times as long
    claim = None if found["token"] is None else _record(found, Claim)
    model = None
    if found["left_version"] is not None:
        of_model = {name: found[f"left_{name}"] for name in ModelVersion.__struct_fields__}
        model = ModelVersion(**_decoded(of_model))
    schedule = None if found["cron"] is None else _record(found, Schedule)
    asked = _decoded({name: found[name] for name in _ASKED})
    return Job(
        **{name: found[name] for name in _JOB},
        asked=Asked(**asked, schedule=schedule),
        became=_record(found, Became),
        claim=claim,
        model=model,
    )


def attempt(row: sa.RowMapping) -> AttemptRow:
    """A row of `attempts`."""
    return _record(row, AttemptRow)


def event(row: sa.RowMapping) -> Event:
    """A row of `events`."""
    return _record(row, Event)


def point(row: sa.RowMapping) -> Point:
    """A row of `metrics`."""
    return _record(row, Point)


def model(row: sa.RowMapping) -> ModelVersion:
    """A row of `MODELS`."""
    return _record(row, ModelVersion)


def candidate(row: sa.RowMapping) -> Candidate:
    """A row that has its columns."""
    return _record(row, Candidate)


def foretold(row: sa.RowMapping) -> Foretold:
    """A row of `foretold`."""
    return _record(row, Foretold)


def encoded(value: Json) -> str:
    """JSON of what a person has asked for, which is stored as it is or not at all.

    Raises:
        Unstorable: it is no JSON that everybody could read again.
    """
    try:
        # Not msgspec's own form, which has no numbers beyond 64 bits.
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except UnicodeEncodeError:
        raise tables.Unstorable("half of a surrogate pair") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise tables.Unstorable(f"what is no JSON ({error})") from None
    return text


def as_said(value: Json | None) -> str | None:
    """JSON of what a program has said, with what no JSON can hold left out or replaced."""
    return None if value is None else encoded(_plain(value))


def line_said(value: str | None) -> str | None:
    """A line that a program may have said, with what no store can hold replaced."""
    return None if value is None else str(_plain(value)).replace("\0", "?")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return str(value).encode("utf-8", "replace").decode()


def _record(row: Mapping[Any, Any], kind: type[T]) -> T:
    return kind(**_decoded({name: row[name] for name in kind.__struct_fields__}))


def _decoded(fields: dict[str, Any]) -> dict[str, Any]:
    for name in _TEXTS:
        if fields.get(name) is not None:
            fields[name] = json.loads(fields[name])
    return fields
