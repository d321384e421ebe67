"""The jobs of a place as a person with its account reaches them: at the store, without a server.

What is handed in is judged by the code that judges what the API is sent. What cannot be done ends
in one line, whether the store or a request is the cause.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from state.jobs import database
from state.jobs.database import NotMigrated, StoreError
from state.jobs.records import Job, ModelVersion, Page, Patch, Refusal, Which
from state.jobs.store import JobStore
from state.jobs.tables import Unstorable
from state.records import Left, Memory, Rank, Run
from supervisor.core.eta import MEASURED_MAX
from supervisor.core.fairness import Quota
from supervisor.core.job_settings import Jobs
from supervisor.core.moments import span, stamp
from supervisor.core.settings import Settings
from supervisor.errors import SupervisorError
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.jobs import validating
from supervisor.jobs.asked import Prepared, asked_of
from supervisor.jobs.at_home import AtHome, HomeAway, size_of
from supervisor.jobs.contract import JobRequest, ValidateAnswer, Waiting, Warned
from supervisor.jobs.errors import Busy, ConfigValidationError, Forbidden, ResourceError
from supervisor.jobs.following import FROM, THE_STORE, foreign
from supervisor.jobs.left import NotAsLeft, checked, files_left
from supervisor.jobs.line import Line
from supervisor.jobs.pruning import ID, Folder, Superfluous, prune, superfluous, to_thin
from supervisor.jobs.reading import converted, read
from supervisor.jobs.rows import Look
from supervisor.jobs.settings import quotas_of, store_url, tenant_of
from supervisor.jobs.taking import new_job, see_quota
from supervisor.jobs.telling import next_at
from supervisor.programs import program
from trainers import durable
from trainers.contract import SUMS, Rows, RunFolder

BACKUPS = "backups"
"""the folder of a home in which backups lie that nobody has named another place for"""
BACKUP = "jobs-*.backup"
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


class Unusable(SupervisorError):
    """The store, or what is to be written to it, as its own error says."""

    def __init__(self, error: StoreError | Unstorable) -> None:
        self.exit_code = error.exit_code
        super().__init__(str(error))


class NoJobs(SupervisorError):
    """Nobody has submitted anything here yet."""

    exit_code = 2

    def __init__(self, shown: str) -> None:
        super().__init__(
            f"there are no jobs yet: {shown} is made with the first one, by "
            "`supervisor jobs submit FILE`"
        )


class TakesNone(SupervisorError):
    """The settings want no jobs here."""

    exit_code = 78  # EX_CONFIG

    def __init__(self) -> None:
        super().__init__("no jobs are taken in here: [jobs] has enabled = false")


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


class NotHere(SupervisorError):
    """What is asked for is not in this home, or not yet.

    Args:
        job: whose it is.
        what: is asked for, in words.
        own: the id of this home; None: it has none yet.
    """

    exit_code = 2

    def __init__(self, job: Job, what: str, own: str | None) -> None:
        if job.claim is None:
            where = "no home has the job" if job.ended else "no home has the job yet"
        elif job.claim.home != own:
            where = f"the home {job.claim.home} has it"
        elif job.became.started_at is None:
            where = "the job has not begun; `supervisor jobs why` tells what it waits for"
        else:
            where = "somebody has removed it"
        super().__init__(f"{what} of job {job.job_id} is not here: {where}")


class NothingLeft(SupervisorError):
    """A job has left no files that tell by their hashes whether they are whole."""

    exit_code = 2

    def __init__(self, job: Job, folder: Path) -> None:
        super().__init__(
            f"job {job.job_id} has left no {SUMS}, by which a copy could be checked: all that it "
            f"has is in {folder}"
        )


class ClearedAway(SupervisorError):
    """Nothing is kept of what a job has left."""

    exit_code = 2

    def __init__(self, job: Job) -> None:
        super().__init__(
            f"what job {job.job_id} has left was cleared away, since the settings keep it no "
            "longer: hand it in again to train it anew"
        )


class NotNow(SupervisorError):
    """A home does not tell which of its runs are over."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, why: str) -> None:
        super().__init__(f"nothing is cleared away: {why}")


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


class Standing(NamedTuple):
    """How the store is."""

    shown: str
    jobs: int
    backup_at: float | None
    """when the newest backup of the home was made; None: there is none"""


class Coming(NamedTuple):
    """A schedule, and when it comes."""

    job: Job
    fired_at: int | None
    """the newest instant at which it has fired; None: it has not yet"""
    next_at: float | None
    """the next one; None: it comes no more"""


class Clearing(NamedTuple):
    """What is cleared away."""

    going: tuple[Superfluous, ...]
    """folders"""
    thinning: tuple[Folder, ...]
    """folders whose checkpoints go, but for the newest and the best"""


class Desk:
    """Where jobs of a place are handed in and asked about; a context manager.

    Args:
        jobs: the settings.
        home: the folder of the home.
        here: the folder that a relative path of the settings begins at.
        environment: of this process, which may hold the password of the store.

    Raises:
        NoSecret: the password of the store is not where the settings say.
        Unusable: the address of the store is none.
    """

    def __init__(self, jobs: Jobs, home: Path, here: Path, environment: dict[str, str]) -> None:
        self._jobs, self._home, self._here = jobs, home, here
        self._at_home = AtHome(Home(home))
        with told():
            self._url = store_url(jobs, home, here, environment)
        self._opened: JobStore | None = None

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()

    @property
    def stale_s(self) -> float:
        """After so long without news a job that runs is told to be stale."""
        return self._jobs.stale_s

    # The store itself.

    def migrate(self) -> str | None:
        """Make the store, or bring it up to this version; which revision it had before."""
        from state.jobs import migrations  # noqa: PLC0415 - alembic is heavy, and rarely needed

        with told():
            before = migrations.revision(self._url)
            migrations.migrate(self._url)
        return before

    @property
    def shown(self) -> str:
        """Where the store is, without a password."""
        with told(), contextlib.closing(database.Database(self._url)) as one:
            return one.shown

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
        own, runs = memory.home.id if memory.home else "", self._at_home.home.runs

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
            names = [path.name for path in self._at_home.home.runs.iterdir()]
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
                _folder(self._at_home.home.run(job_id), job, tokens.get(job_id))
                for job_id, job in jobs.items()
            )
        return own, ()

    def _memory(self) -> Memory:
        try:
            return self._at_home.memory()
        except HomeAway as error:
            raise NotNow(str(error)) from None

    def _left(self, memory: Memory, ids: Collection[str]) -> dict[str, Left]:
        try:
            return self._at_home.left(memory, ids)
        except HomeAway as error:
            raise NotNow(str(error)) from None

    # What is asked.

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
            quota = quotas_of(self._jobs).get(request.tenant_id, Quota())
            for usage in self._store.tenants(request.tenant_id):
                see_quota(usage, quota, now_at=now_at, next_start_at=None)
            taken = self._store.create(new_job(request, prepared))
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
            page = self.find(validating.COMPLETED, MEASURED_MAX)
            lasted = validating.measured(request, rows, page.jobs)
        seen = validating.Seen(prepared, rows, lasted)
        return validating.answered(request, request.tenant_id, seen)

    def cancel(self, word: str) -> Job:
        """End a job for good: at once where no home has it, else once its home has saved it."""
        return self._done(word, "cancelled", self._store.cancel)

    def retry(self, word: str) -> Job:
        """Try a job again that has FAILED or was CANCELLED, from its first attempt on."""
        return self._done(word, "retried", self._store.retry)

    def prefer(self, word: str, priority: Rank) -> Job:
        """Have a job in another class of priority."""
        asked = Patch(priority=priority)
        act = "put in another class"
        return self._done(word, act, lambda job_id: self._store.patch(job_id, asked))

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
        if job.claim.home == self._own_home():
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
        try:
            memory = self._at_home.memory()
        except HomeAway:
            return ()
        with told():
            return foreign(memory.runs, self._store.now().origin)

    def take_over(self, job: Job) -> Job:
        """Have this home begin a job anew that another home has; that one may write nothing more.

        Raises:
            NoHome: this home does not know which one it is.
            NotForsaken: it has changed hands meanwhile.
        """
        own = self._own_home()
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

    def why(self, word: str, home: Home, settings: Settings) -> Waiting:
        """Why a job waits, and where it stands."""
        job = self.job(word)
        with told():
            return Line(self._store, lambda: settings, home, SystemClock()).waiting(job)

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

    def missing(self, job: Job, what: str) -> ClearedAway | NotHere:
        """Why something of a job is not in this home."""
        if job.ended and job.became.started_at is not None and not job.became.kept_bytes:
            return ClearedAway(job)
        return NotHere(job, what, self._own_home())

    def fetch(self, job: Job, folder: Path, target: Path) -> tuple[str, ...]:
        """Copy what a finished job has left, checked by its hashes, whole or not at all; the names.

        Args:
            job: a job that is COMPLETED.
            folder: of its run.
            target: a folder that is not there yet.

        Raises:
            NotSo: it is not.
            ClearedAway: nothing is kept of it.
            NotHere: its folder lies in another home.
            NothingLeft: it has left no files that can be checked.
            Spoilt: one of them is not what it was.
            Occupied: something is at the target.
        """
        if job.became.status != "COMPLETED":
            raise NotSo(job, "fetched")
        if not folder.is_dir():
            raise self.missing(job, "the folder")
        if target.exists() or target.is_symlink():
            raise Occupied(target)
        try:
            files = files_left(RunFolder(folder))
        except NotAsLeft as error:
            raise Spoilt(folder, str(error)) from None
        if not files:
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
            raise Spoilt(folder, str(error)) from None
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return (*(one.name for one in files), SUMS)

    def _judged(self, request: JobRequest, now_at: float) -> Prepared:
        """A request as the daemon would be asked for it.

        Raises:
            JobError: it can never work, or its tenant may not ask for it.
        """
        who = tenant_of(self._jobs, request.tenant_id, self._home, self._here)
        return asked_of(request, tenant=who, now_at=now_at)

    @property
    def _is_made(self) -> bool:
        """Whether there is a store, as far as a look at the home tells."""
        return self._jobs.database_url is not None or (self._home / database.FILE).exists()

    @property
    def _store(self) -> JobStore:
        if self._opened is None:
            with told():
                try:
                    self._opened = JobStore(self._url)
                except NotMigrated as error:
                    if error.revision is None:
                        raise NoJobs(error.shown) from None
                    raise
        return self._opened

    def _own_home(self) -> str | None:
        """By which name this home claims jobs; None: it has none yet."""
        try:
            memory = self._at_home.memory()
        except HomeAway:
            return None
        return None if memory.home is None else memory.home.id

    def _done(self, word: str, act: str, ask: Callable[[str], Any]) -> Job:
        job = self.job(word)
        with told():
            became = ask(job.job_id)
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


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What the store raises in here, as what ends a command in one line."""
    try:
        yield
    except (StoreError, Unstorable) as error:
        raise Unusable(error) from error


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
