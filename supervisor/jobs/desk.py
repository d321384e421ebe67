"""The jobs of a place as a person with its account reaches them: at the store, without a server.

What is handed in is judged by the code that judges what the API is sent. What cannot be done ends
in one line, whether the store or a request is the cause.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from state.jobs.records import Job, ModelVersion, Page, Patch, Refusal, Which
from state.records import Rank, Run
from supervisor.core.eta import MEASURED_MAX
from supervisor.core.moments import span
from supervisor.core.settings import Settings
from supervisor.errors import SupervisorError
from supervisor.host.clock import SystemClock
from supervisor.jobs import validating
from supervisor.jobs.asked import Prepared, asked_of
from supervisor.jobs.contract import JobRequest, ValidateAnswer, Waiting, Warned
from supervisor.jobs.errors import (
    Busy,
    ConfigValidationError,
    Forbidden,
    JobError,
    ResourceError,
)
from supervisor.jobs.following import foreign
from supervisor.jobs.left import NotAsLeft, checked, files_left
from supervisor.jobs.line import Line
from supervisor.jobs.opened import Opened, TakesNone, told
from supervisor.jobs.reading import converted, read
from supervisor.jobs.rows import Look
from supervisor.jobs.settings import quotas_of, tenant_of
from supervisor.jobs.taking import Taking, new_job
from supervisor.jobs.telling import next_at
from trainers import durable
from trainers.contract import SUMS, Rows, RunFolder

HINTS = {
    ("cancelled", ""): ": it has ended by itself",
    (
        "retried",
        "",
    ): ": that is for jobs that FAILED or were CANCELLED; `jobs cancel` ends this one",
    ("retried", "COMPLETED"): ": hand it in again to train another model",
    ("put in another class", ""): ": it has ended; `jobs retry` has it wait again",
    ("put in another class", "COMPLETED"): ": it has ended",
    ("fetched", ""): ": `supervisor jobs logs -f` waits for its end",
    ("fetched", "FAILED"): ": `supervisor jobs logs` tells why; `jobs retry` tries it again",
    ("fetched", "CANCELLED"): ": `jobs retry` tries it again",
}
"""what to do where a job is not as it must be, by what was asked and what the job is"""


class NoSuchJob(SupervisorError):
    """An id that no job has."""

    exit_code = 2

    def __init__(self, word: str) -> None:
        super().__init__(
            f"there is no job {word[:80]!r}: `supervisor jobs list` tells which there are"
        )


class NotSo(SupervisorError):
    """What is asked for does not go together with what has become of the job."""

    exit_code = 2

    def __init__(self, job: Job, act: str) -> None:
        status = job.became.status
        hint = HINTS.get((act, status)) or HINTS.get((act, ""), "")
        super().__init__(f"job {job.job_id} is {status} and cannot be {act}{hint}")


class SeveralJobs(SupervisorError):
    """A beginning that the ids of several jobs have."""

    exit_code = 2

    def __init__(self, word: str) -> None:
        super().__init__(f"several jobs have ids that begin with {word}: say more of it")


class NothingLeft(SupervisorError):
    """A job has left no files that tell by their hashes whether they are whole."""

    exit_code = 2

    def __init__(self, job: Job, folder: Path) -> None:
        super().__init__(
            f"job {job.job_id} has left no {SUMS}, by which a copy could be checked: all that it "
            f"has is in {folder}"
        )


class Spoilt(SupervisorError):
    """A file is not what its job has left."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"{folder}: {why}: nothing was fetched; `supervisor jobs retry` trains it anew"
        )


class NoHome(SupervisorError):
    """A home that could not say which one it is."""

    exit_code = 2

    def __init__(self, home: Path) -> None:
        super().__init__(f"no supervisor has lived in {home} yet: `supervisor run` makes it a home")


class NotForsaken(SupervisorError):
    """A job that no other home may take."""

    exit_code = 2

    def __init__(self, job: Job, why: str) -> None:
        super().__init__(f"job {job.job_id} is not taken over: {why}")


class Occupied(SupervisorError):
    """Something is where files are to be written."""

    exit_code = 2

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is there already: name another folder")


class Submitted(NamedTuple):
    """A job that was taken in."""

    job: Job
    warnings: tuple[Warned, ...]


class Coming(NamedTuple):
    """A schedule, and when it comes."""

    job: Job
    fired_at: int | None
    """the newest instant at which it has fired; None: it has not yet"""
    next_at: float | None
    """the next one; None: it comes no more"""


class Desk(Opened):
    """Where jobs of a place are handed in and asked about."""

    @property
    def stale_s(self) -> float:
        """After so long without news a job that runs is told to be stale."""
        return self._jobs.stale_s

    def submit(self, content: bytes, tenant: str | None, now_at: float) -> Submitted:
        """Take a job in, durably; the first one makes the store of a home.

        Args:
            content: the body of `POST /jobs`.
            tenant: for whom, whatever the body says; None: as it says.
            now_at: wall time.

        Raises:
            TakesNone: the settings want none.
            JobError: it can never work, or its tenant may not ask for it, or has enough.
        """
        if not self._jobs.enabled:
            raise TakesNone
        request = _request(content, tenant)
        prepared = self._judged(request, now_at)
        if not self._is_made:
            self.migrate()
        with told():
            taken = self._taking.create(new_job(request, prepared), now_at=now_at)
        if not isinstance(taken, Job):
            raise AssertionError("only a request with a key can be replayed or refused")
        return Submitted(taken, prepared.warnings)

    def validate(self, content: bytes, tenant: str | None, now_at: float) -> ValidateAnswer:
        """What would become of a job: as `submit`, and its rows are looked at; nothing is kept.

        Raises:
            Busy: the trainer has not answered in time.
        """
        try:
            request = _request(content, tenant)
            prepared = self._judged(request, now_at)
        except Busy:
            raise
        except (ConfigValidationError, Forbidden, ResourceError) as error:
            return validating.refused(error)
        spec, rows, lasted = validating.to_look_at(prepared), None, None
        if spec is not None:
            with Look(spec, self._home) as look:
                rows = look.wait()
        if isinstance(rows, Rows) and self._is_made:
            page = self.find(validating.measurable(None), MEASURED_MAX)
            lasted = validating.measured(request, rows, page.jobs)
        seen = validating.Seen(prepared, rows, lasted)
        return validating.answered(request, request.tenant_id, seen)

    def cancel(self, word: str) -> Job:
        """End a job for good: at once where no home has it, else once its home has saved it."""
        return self._done(word, "cancelled", lambda job: self._store.cancel(job.job_id))

    def retry(self, word: str, now_at: float) -> Job:
        """Try a job again that has FAILED or was CANCELLED, from its first attempt on.

        Raises:
            QuotaExceeded: its tenant has as many that wait as it may have.
        """
        return self._done(word, "retried", partial(self._taking.retry, now_at=now_at))

    def prefer(self, word: str, priority: Rank) -> Job:
        """Have a job in another class of priority."""
        asked = Patch(priority=priority)
        act = "put in another class"
        return self._done(word, act, lambda job: self._store.patch(job.job_id, asked))

    def forsaken(self, word: str) -> Job:
        """A job that another home has, and of which that tells nothing.

        Raises:
            NotForsaken: it is none.
        """
        job = self.job(word)
        if job.ended:
            raise NotForsaken(job, f"it is {job.became.status}")
        if job.claim is None:
            raise NotForsaken(job, "no home has it, and the next that has room begins it")
        if job.claim.home == self._remembered.id:
            raise NotForsaken(job, "this home has it")
        if job.silent_s <= self._jobs.stale_s:
            raise NotForsaken(
                job,
                f"its home {job.claim.home} told of it {span(job.silent_s)} ago; to have it "
                "begun anew elsewhere all the same, `jobs cancel` and then `jobs retry`",
            )
        return job

    def foreign(self) -> tuple[Run, ...]:
        """Runs of this home that are from another job store, for which the dispatcher waits."""
        memory = self._remembered.memory_if_known()
        if memory is None:
            return ()
        with told():
            return foreign(memory.runs, self._store.now().origin)

    def take_over(self, job: Job) -> Job:
        """Have this home begin a job anew that another home has; that one may write nothing more.

        Raises:
            NoHome: this home does not know which one it is.
            NotForsaken: it has changed hands meanwhile.
        """
        own = self._remembered.id
        if own is None:
            raise NoHome(self._home)
        if job.claim is None:
            raise AssertionError("only a job that a home has is taken over")
        with told():
            taken = self._store.take_over(job.job_id, job.claim.token, own)
        if taken is None:
            raise NotForsaken(job, "it has changed hands meanwhile")
        return taken

    # What is told.

    def job(self, word: str) -> Job:
        """The job of that id, or of the one id that begins so.

        Raises:
            NoSuchJob: there is none.
            SeveralJobs: there are several.
        """
        with told():
            found = self._store.called(word)
            if len(found) > 1:
                raise SeveralJobs(word)
            job = self._store.get(found[0]) if found else None
        if job is None:
            raise NoSuchJob(word)
        return job

    def why(self, word: str, settings: Settings) -> Waiting:
        """Why a job waits, and where it stands."""
        job = self.job(word)
        with told():
            line = Line(self._store, lambda: settings, self._remembered, SystemClock())
            return line.waiting(job)

    def find(self, which: Which, limit: int) -> Page:
        """Jobs, newest first."""
        with told():
            page = self._store.find(which, limit=limit)
        if isinstance(page, Refusal):
            raise AssertionError("only a cursor can be refused")
        return page

    def attempts(self, job: Job) -> tuple[Any, ...]:
        """All attempts at a job, in their order."""
        with told():
            return self._store.attempts(job.job_id)

    def has_ended(self, job_id: str) -> bool:
        """Whether a job has ended, or is there no more."""
        with told():
            job = self._store.get(job_id)
        return job is None or job.ended

    def models(self, tenant: str | None, name: str | None) -> tuple[ModelVersion, ...]:
        """The models that jobs have left, the newest of each name first."""
        with told():
            return self._store.models(tenant, name)

    def schedules(self, now_at: float) -> tuple[Coming, ...]:
        """The schedules that are in force, each with its next instant."""
        with told():
            found = self._store.schedules()
        return tuple(Coming(job, fired_at, next_at(job, now_at)) for job, fired_at in found)

    def missing(self, job: Job, what: str) -> JobError:
        """Why something of a job, such as its `lines`, is not in this home."""
        return self._remembered.missing(job, what)

    def fetch(self, job: Job, folder: Path, target: Path) -> tuple[str, ...]:
        """Copy what a finished job has left, checked by its hashes, whole or not at all; the names.

        Args:
            job: a job that is COMPLETED.
            folder: of its run.
            target: a folder that is not there yet.

        Raises:
            NotSo: it is not.
            ClearedAway: nothing is kept of it.
            Elsewhere: its folder lies in another home.
            NothingLeft: it has left no files that can be checked.
            Spoilt: one of them is not what it was.
            Occupied: something is at the target.
        """
        if job.became.status != "COMPLETED":
            raise NotSo(job, "fetched")
        self._see_folder(job, folder)
        if target.exists() or target.is_symlink():
            raise Occupied(target)
        try:
            files = files_left(RunFolder(folder))
        except NotAsLeft as error:
            raise Spoilt(folder, str(error)) from None
        if not files:
            self._see_folder(job, folder)
            raise NothingLeft(job, folder)
        if job.model is not None and files[0].sha256 != job.model.sha256:
            raise Spoilt(folder, f"{files[0].name} is another model than the job has left")
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            for one in files:
                with (fresh / one.name).open("xb") as new:
                    checked(one, new.write)
            lines = (f"{one.sha256}  {one.name}\n" for one in files)
            durable.write(fresh / SUMS, "".join(lines).encode())
            fresh.chmod(0o755)
            fresh.rename(target)
            durable.sync_folder(target.parent)
        except NotAsLeft as error:
            self._see_folder(job, folder)
            raise Spoilt(folder, str(error)) from None
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return (*(one.name for one in files), SUMS)

    def _see_folder(self, job: Job, folder: Path) -> None:
        """See that the folder of a job is here, which may have gone since the job was read."""
        if not folder.is_dir():
            raise self.missing(self.job(job.job_id), "files")

    def _judged(self, request: JobRequest, now_at: float) -> Prepared:
        """A request as the daemon would be asked for it.

        Raises:
            JobError: it can never work, or its tenant may not ask for it.
        """
        who = tenant_of(self._jobs, request.tenant_id, self._home, self._here)
        return asked_of(request, tenant=who, now_at=now_at)

    @property
    def _taking(self) -> Taking:
        return Taking(self._store, lambda: quotas_of(self._jobs))

    def _done(self, word: str, act: str, ask: Callable[[Job], Any]) -> Job:
        job = self.job(word)
        with told():
            became = ask(job)
        if isinstance(became, Job):
            return became
        if became.why == "not_found":
            raise NoSuchJob(word)
        raise NotSo(became.job or job, act)


def _request(content: bytes, tenant: str | None) -> JobRequest:
    """The body of `POST /jobs`, for a tenant whatever it says.

    Raises:
        ConfigValidationError: it is none.
    """
    if tenant is None:
        return read(content, JobRequest)
    return converted(read(content, dict[str, Any]) | {"tenant_id": tenant}, JobRequest)
