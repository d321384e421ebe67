"""What is cleared away of jobs that have ended, and how: a folder goes with its row, or neither.

Models that are kept go never by age: whoever serves one, and the newest versions, stay. A power cut
between a folder and its row is settled by the next pruning.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from state.jobs.records import Job, ModelVersion
from supervisor.core.job_settings import Jobs
from supervisor.core.moments import span
from supervisor.errors import SupervisorError
from trainers import durable

DAY_S = 86_400.0
GIB = 1024**3
PRUNED = "pruned"
"""the folder of a home in which folders of runs lie while their rows go"""
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class AlreadyPruning(SupervisorError):
    """Somebody else clears away in this home."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, home: Path) -> None:
        super().__init__(f"somebody else clears away in {home} at this moment")


class Superfluous(NamedTuple):
    """A job that may go."""

    job: Job
    why: str


def superfluous(
    jobs: Iterable[Job], models: Iterable[ModelVersion], asked: Jobs, now_at: float
) -> tuple[Superfluous, ...]:
    """Which jobs may go, the oldest first.

    Args:
        jobs: all that have ended.
        models: all that there are.
        asked: the settings.
        now_at: wall time.
    """
    lasting, beyond = _of_models(models, asked)
    found: dict[str, Superfluous] = {}
    free = sorted(
        (job for job in jobs if job.ended and job.job_id not in lasting),
        key=lambda job: (job.became.finished_at or job.updated_at, job.number),
    )
    for job in free:
        age_s = now_at - (job.became.finished_at or job.updated_at)
        if job.job_id in beyond:
            found[job.job_id] = Superfluous(job, beyond[job.job_id])
        elif age_s > asked.keep_days * DAY_S:
            why = f"it has ended {span(age_s)} ago, and keep_days is {asked.keep_days:g}"
            found[job.job_id] = Superfluous(job, why)
    if asked.keep_gib is not None:
        left = sum(job.became.kept_bytes for job in free if job.job_id not in found)
        for job in free:
            if left <= asked.keep_gib * GIB:
                break
            if job.job_id not in found and job.became.kept_bytes:
                left -= job.became.kept_bytes
                why = f"folders take more than the {asked.keep_gib:g} GiB of keep_gib"
                found[job.job_id] = Superfluous(job, why)
    return tuple(found[job.job_id] for job in free if job.job_id in found)


def prune(
    home: Path,
    runs: Path,
    chosen: Sequence[Superfluous],
    *,
    is_there: Callable[[str], bool],
    forget: Callable[[Collection[str]], Collection[str]],
) -> tuple[Superfluous, ...]:
    """Clear jobs away, folders and rows; those that were.

    Args:
        home: the folder of the home.
        runs: that of its runs.
        chosen: which jobs.
        is_there: whether the store has a job.
        forget: takes jobs from the store; those that it took.

    Raises:
        AlreadyPruning: somebody else does.
        OSError: the disk or the rights forbid it.
    """
    aside = home / PRUNED
    durable.make_folder(aside)
    try:
        lock = durable.hold(aside)
    except BlockingIOError:
        raise AlreadyPruning(home) from None
    try:
        _settle(aside, runs, is_there)
        moved = [one for one in chosen if _set_aside(runs / one.job.job_id, aside)]
        gone = frozenset(forget([one.job.job_id for one in moved]))
        _settle(aside, runs, lambda job_id: job_id not in gone)
    finally:
        lock.release()
    return tuple(one for one in moved if one.job.job_id in gone)


def _of_models(
    models: Iterable[ModelVersion], asked: Jobs
) -> tuple[frozenset[str], dict[str, str]]:
    """The jobs whose models stay, and why those of the others go."""
    lasting, beyond = [], {}
    seen: dict[tuple[str, str], int] = {}
    for one in sorted(models, key=lambda model: -model.version):
        newer = seen.get((one.tenant_id, one.name), 0)
        seen[one.tenant_id, one.name] = newer + 1
        tenant = asked.tenants.get(one.tenant_id)
        keep = None if tenant is None else tenant.keep
        if one.served_by is not None or keep is None or newer < keep:
            lasting.append(one.job_id)
        else:
            beyond[one.job_id] = (
                f"version {one.version} of {one.name} is older than the {keep} that are kept"
            )
    return frozenset(lasting), beyond


def _set_aside(folder: Path, aside: Path) -> bool:
    """Move the folder of a run aside, if there is one; whether its row may go."""
    try:
        if durable.is_held(folder):  # something of it lives still
            return False
        folder.rename(aside / folder.name)
    except FileNotFoundError:
        return True
    durable.sync_folder(aside)
    durable.sync_folder(folder.parent)
    return True


def _settle(aside: Path, runs: Path, is_there: Callable[[str], bool]) -> None:
    """Remove what lies aside, but for folders whose rows are there: these go back."""
    for folder in _aside(aside):
        if not is_there(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
        elif not (runs / folder.name).exists():
            folder.rename(runs / folder.name)


def _aside(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from [path for path in sorted(folder.iterdir()) if ID.fullmatch(path.name)]
