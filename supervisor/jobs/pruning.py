"""What goes of the folders of jobs that have ended, and why; the rows of the store stay for good.

A job that is COMPLETED needs two checkpoints, the newest and the best, once its model is durable.
Its folder, and so the model, stays until newer versions are enough for its tenant. Other folders
stay for `keep_days`, or as long as all of them take no more than `keep_gib`.

A folder is moved aside first, then the store notes that nothing is kept, then it is removed.
Whoever is killed in between leaves a folder aside, and the next pruning does the rest. One whose
job is tried again, or whose model is served, goes back instead, as long as it is whole.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from state.jobs.records import Job, ModelVersion
from supervisor.core.job_settings import Jobs
from supervisor.core.moments import span
from supervisor.errors import SupervisorError
from supervisor.jobs.settings import GIB
from trainers import durable

DAY_S = 86_400.0
PRUNED = "pruned"
"""the folder of a home in which folders of runs lie while they go"""
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
GOING = ".going"
"""how the name of a folder ends that goes back no more, since it may not be whole"""
NEEDED = 2
"""checkpoints of a run that goes on no more: the newest and the best"""


class AlreadyPruning(SupervisorError):
    """Somebody else clears away in this home."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, home: Path) -> None:
        super().__init__(f"somebody else clears away in {home} at this moment")


class Folder(NamedTuple):
    """The folder of a run that a dispatcher has submitted, and that is in the queue no more."""

    job_id: str
    size_bytes: int
    written_at: float
    """wall time at which its trainer was last heard"""
    checkpoints: int
    """that its trainer has kept"""
    job: Job | None
    """None: the store has no such job"""
    token: str | None
    """of the claim under which this home has last trained it; None: nobody remembers"""


class Superfluous(NamedTuple):
    """A folder that may go."""

    folder: Folder
    why: str


def superfluous(
    folders: Iterable[Folder],
    models: Iterable[ModelVersion],
    asked: Jobs,
    *,
    home: str,
    now_at: float,
) -> tuple[Superfluous, ...]:
    """Which folders may go, the oldest first.

    Args:
        folders: all that there are in a home.
        models: all of the store.
        asked: the settings.
        home: the id of that home.
        now_at: wall time.
    """
    lasting, beyond = _of_models(models, asked)
    found: dict[str, Superfluous] = {}
    free: list[tuple[float, Folder]] = []
    for one in folders:
        job = one.job
        left = _left_behind(one, home)
        if left is None and (job is None or not job.ended or one.job_id in lasting):
            continue
        ended_at = one.written_at if left or job is None else _ended_at(job)
        age_s = now_at - ended_at
        free.append((ended_at, one))
        if left is None and one.job_id in beyond:
            found[one.job_id] = Superfluous(one, beyond[one.job_id])
        elif age_s > asked.keep_days * DAY_S:
            ago = f"{span(age_s)} ago, and keep_days is {asked.keep_days:g}"
            why = f"it has ended {ago}" if left is None else f"{left}; it was last written to {ago}"
            found[one.job_id] = Superfluous(one, why)
    free.sort(key=lambda pair: (pair[0], pair[1].job_id))
    if asked.keep_gib is not None:
        rest = sum(one.size_bytes for _, one in free if one.job_id not in found)
        for _, one in free:
            if rest <= asked.keep_gib * GIB:
                break
            if one.job_id not in found and one.size_bytes:
                rest -= one.size_bytes
                why = f"folders take more than the {asked.keep_gib:g} GiB of keep_gib"
                found[one.job_id] = Superfluous(one, why)
    return tuple(found[one.job_id] for _, one in free if one.job_id in found)


def to_thin(folders: Iterable[Folder]) -> tuple[Folder, ...]:
    """Which folders have more checkpoints than their jobs need, now that these are COMPLETED."""
    return tuple(
        one
        for one in folders
        if one.checkpoints > NEEDED
        and one.job is not None
        and one.job.became.status == "COMPLETED"
        and one.job.model is not None
    )


def prune(
    home: Path,
    runs: Path,
    chosen: Sequence[Superfluous],
    *,
    may_go: Callable[[str], bool],
) -> tuple[Superfluous, ...]:
    """Clear folders away; those that were.

    Args:
        home: the folder of the home.
        runs: that of its runs.
        chosen: which folders.
        may_go: notes that nothing is kept of a job; False: it is to be kept all the same.

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
        for path in sorted(aside.iterdir()):  # whoever was killed has left these
            if path.suffix == GOING:
                shutil.rmtree(path)
            elif ID.fullmatch(path.name):
                _remove(path, runs, may_go)
        return tuple(
            one
            for one in chosen
            if _set_aside(runs / one.folder.job_id, aside)
            and _remove(aside / one.folder.job_id, runs, may_go)
        )
    finally:
        lock.release()


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


def _left_behind(one: Folder, home: str) -> str | None:
    """Why a folder is nobody's any more, in words; None: it is its job's, or nobody knows."""
    job = one.job
    if one.token is None:
        return None
    if job is None:
        return "the store has no such job"
    if job.claim is None or job.claim.home == home:
        return None
    if not job.ended or job.claim.token != one.token:
        return f"the home {job.claim.home} has its job"
    return None  # this home has ended it, and was moved or copied since


def _ended_at(job: Job) -> float:
    return job.became.finished_at or job.updated_at


def _set_aside(folder: Path, aside: Path) -> bool:
    """Move the folder of a run aside; whether it could be."""
    try:
        lock = durable.hold(folder)
    except (BlockingIOError, FileNotFoundError):  # something of it lives still, or it is gone
        return False
    try:
        folder.rename(aside / folder.name)
    finally:
        lock.release()
    durable.sync_folder(aside)
    durable.sync_folder(folder.parent)
    return True


def _remove(folder: Path, runs: Path, may_go: Callable[[str], bool]) -> bool:
    """Remove a folder that lies aside, or put it back where it is to be kept."""
    back = runs / folder.name
    if may_go(folder.name) or back.exists():
        shutil.rmtree(folder.rename(folder.with_suffix(GOING)))
        return True
    folder.rename(back)
    durable.sync_folder(runs)
    durable.sync_folder(folder.parent)
    return False
