"""What is kept of a place's jobs: backups of the store, and folders until they are cleared away."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from state.jobs.records import Job, Page, Which
from state.records import Left, Memory
from supervisor.core.moments import stamp
from supervisor.errors import SupervisorError
from supervisor.jobs.at_home import size_of
from supervisor.jobs.following import FROM, THE_STORE
from supervisor.jobs.opened import Opened, told
from supervisor.jobs.pruning import ID, Folder, Superfluous, prune, superfluous, to_thin
from supervisor.jobs.remembered import HomeAway
from supervisor.programs import program
from trainers import durable
from trainers.contract import RunFolder

BACKUPS = "backups"
"""the folder of a home in which backups lie that nobody has named another place for"""
BACKUP = "jobs-*.backup"


class NotNow(SupervisorError):
    """A home does not tell which of its runs are over."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, why: str) -> None:
        super().__init__(f"nothing is cleared away: {why}")


class Standing(NamedTuple):
    """How the store is."""

    shown: str
    jobs: int
    backup_at: float | None
    """when the newest backup of the home was made; None: there is none"""


class Clearing(NamedTuple):
    """What is cleared away."""

    going: tuple[Superfluous, ...]
    """folders"""
    thinning: tuple[Folder, ...]
    """folders whose checkpoints go, but for the newest and the best"""


class Keeping(Opened):
    """Where what is kept of a place's jobs is seen to."""

    def back_up(self, path: Path | None, now_at: float) -> Path:
        """Write down all of the store; where.

        Args:
            path: a file that is not there yet; None: one in the home, named by the moment.
            now_at: wall time.
        """
        from state.jobs import backup  # noqa: PLC0415 - as above

        if path is None:
            folder = self._home / BACKUPS
            durable.make_folder(folder)
            name = stamp(now_at)[:19].replace(":", "")
            path = folder / f"jobs-{name}Z.backup"
        with told():
            backup.back_up(self._url, path)
        return path

    def restore(self, path: Path) -> None:
        """Put a backup in the place of all that the store holds; one that is missing is made."""
        from state.jobs import backup  # noqa: PLC0415 - as above

        self.migrate()
        with told():
            backup.restore(self._url, path)

    def standing(self) -> Standing:
        """How the store is, as far as looking tells."""
        with told():
            page = self._store.find(Which(), limit=1)
            there = self._store.shown
        total = page.total if isinstance(page, Page) else 0
        made = [path.stat().st_mtime for path in (self._home / BACKUPS).glob(BACKUP)]
        return Standing(there, total, max(made, default=None))

    def clearing(self, now_at: float) -> Clearing:
        """What the settings keep no longer in this home; nothing is changed.

        Raises:
            NotNow: this home does not tell which runs are over.
        """
        home, folders = self._folders()
        with told():
            models = self._store.models()
        going = superfluous(folders, models, self._jobs, home=home, now_at=now_at)
        gone = {one.folder.job_id for one in going}
        staying = tuple(one for one in folders if one.job_id not in gone)
        return Clearing(going, to_thin(staying))

    def clear(self, found: Clearing) -> Clearing:
        """Clear it away, and note what is kept of each job; what has gone.

        Raises:
            AlreadyPruning: somebody else does.
            NotNow: this home does not tell which runs are over.
            OSError: the disk or the rights forbid it.
        """
        memory = self._memory()
        own, runs = memory.home.id if memory.home else "", self._remembered.home.runs

        def may_go(job_id: str) -> bool:
            job = self._store.get(job_id)
            if job is None or (job.claim is not None and job.claim.home != own):
                return True
            return self._store.keep(job_id, own, 0)

        with told():
            gone = prune(self._home, runs, found.going, may_go=may_go)
            thinned = tuple(one for one in found.thinning if _thin(runs / one.job_id, one))
            queued = {run.id for run in memory.runs}
            for job in self._store.kept(own):
                if job.job_id not in queued:
                    size_bytes = size_of(runs / job.job_id)
                    if size_bytes != job.became.kept_bytes:
                        self._store.keep(job.job_id, own, size_bytes)
        return Clearing(gone, thinned)

    def _folders(self) -> tuple[str, tuple[Folder, ...]]:
        """The id of this home, and its folders of runs that a dispatcher has submitted."""
        memory = self._memory()
        own = memory.home.id if memory.home else ""
        queued = {run.id for run in memory.runs}
        with contextlib.suppress(FileNotFoundError):
            names = [path.name for path in self._remembered.home.runs.iterdir()]
            ids = sorted(name for name in names if ID.fullmatch(name) and name not in queued)
            with told():
                jobs = {job_id: self._store.get(job_id) for job_id in ids}
            # Of its own jobs the store knows all; of others the archive says which were its.
            strangers = {
                job_id
                for job_id, job in jobs.items()
                if job is None or (job.claim is not None and job.claim.home != own)
            }
            tokens = {
                run_id: one.run.asked.token
                for run_id, one in self._left(memory, strangers).items()
                if one.run.asked.labels.get(FROM) == THE_STORE
            }
            return own, tuple(
                _folder(self._remembered.home.run(job_id), job, tokens.get(job_id))
                for job_id, job in jobs.items()
            )
        return own, ()

    def _memory(self) -> Memory:
        try:
            return self._remembered.memory()
        except HomeAway as error:
            raise NotNow(str(error)) from None

    def _left(self, memory: Memory, ids: Collection[str]) -> dict[str, Left]:
        try:
            return self._remembered.left(memory, ids)
        except HomeAway as error:
            raise NotNow(str(error)) from None


def _folder(folder: RunFolder, job: Job | None, token: str | None) -> Folder:
    """What is known of the folder of a run that is over."""
    heard = folder.heartbeat if folder.heartbeat.exists() else folder.path
    kept: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        kept = [path.name for path in folder.checkpoints.iterdir() if path.is_dir()]
    return Folder(
        job_id=folder.path.name,
        size_bytes=size_of(folder.path),
        written_at=heard.stat().st_mtime,
        checkpoints=sum(not name.startswith("beside-") for name in kept),
        job=job,
        token=token,
    )


def _thin(run: Path, one: Folder) -> bool:
    """Have a process of the trainers, which alone know checkpoints, remove those that go."""
    trainer = (one.job.asked.trainer if one.job is not None else None) or "any"
    command = [*program("trainers.__main__"), trainer, "--run", str(run), "--thin"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    return done.returncode == 0
