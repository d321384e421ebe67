"""Which folders of jobs may go, and that each goes or stays whole, whoever is killed between."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import msgspec
import pytest

from state.jobs.records import Asked, Became, Claim, Job, ModelVersion
from supervisor.core.job_settings import Jobs, JobTenant
from supervisor.jobs.pruning import (
    DAY_S,
    GIB,
    PRUNED,
    AlreadyPruning,
    Folder,
    Superfluous,
    prune,
    superfluous,
    to_thin,
)
from trainers import durable

NOW = 1_000 * DAY_S
HERE, THERE = "home-a", "home-b"


class Killed(BaseException):
    """The end of a process at that place."""


def a_job(
    number: int,
    *,
    days: float = 0.0,
    gib: float = 0.0,
    status: str = "FAILED",
    home: str = HERE,
) -> Job:
    """One that has ended so many days ago."""
    at = NOW - days * DAY_S
    asked = Asked(
        tenant_id="a", model_type=None, trainer="drill", model_name="m", config={}, metadata={},
        priority="normal", max_attempts=4, schedule=None, paused=False, cancel_wanted=False,
        revision=1,
    )  # fmt: skip
    became = Became(
        status=status, attempt=1, next_attempt_at=None, progress=0, current_step=None,
        metrics=None, error=None, paused_reason=None, used_s=0, kept_bytes=int(gib * GIB),
        started_at=at, finished_at=at, as_of=at, changes=1,
    )  # fmt: skip
    return Job(
        job_id=str(uuid.UUID(int=number)), number=number, parent_id=None, created_at=at,
        updated_at=at, asked=asked, became=became,
        claim=Claim(token=f"of {home}", home=home, claimed_at=at), model=None, read_at=at,
    )  # fmt: skip


def a_model(job: Job, version: int, served_by: str | None = None) -> ModelVersion:
    return ModelVersion(
        tenant_id="a", name="m", version=version, job_id=job.job_id, sha256="", size_bytes=0,
        metrics=None, created_at=0.0, served_by=served_by, kept=True,
    )  # fmt: skip


def a_folder(
    job: Job, *, known: bool = True, days: float = 0.0, token: str | None = None, checkpoints=2
) -> Folder:
    """The folder of a job, which was last heard of so many days ago."""
    size_bytes = job.became.kept_bytes
    return Folder(
        job.job_id, size_bytes, NOW - days * DAY_S, checkpoints, job if known else None, token
    )


def going(jobs: list[Job], asked: Jobs, models: tuple[ModelVersion, ...] = ()) -> list[int]:
    folders = [a_folder(job) for job in jobs]
    return numbers(superfluous(folders, models, asked, home=HERE, now_at=NOW))


def numbers(found: tuple[Superfluous, ...]) -> list[int]:
    return [uuid.UUID(one.folder.job_id).int for one in found]


def test_what_has_ended_long_ago_goes_the_oldest_first():
    """And what lives never does."""
    jobs = [
        a_job(1, days=29),
        a_job(2, days=31),
        a_job(3, days=400),
        a_job(4, days=99, status="RUNNING"),
    ]
    assert going(jobs, Jobs()) == [3, 2]
    assert going(jobs, Jobs(keep_days=0)) == [3, 2, 1]


def test_what_takes_too_much_makes_room_the_oldest_first():
    """As few as are enough; what takes nothing gives nothing."""
    jobs = [
        a_job(1, days=1, gib=2),
        a_job(2, days=2, gib=2),
        a_job(3, days=3, gib=2),
        a_job(4, days=9),
    ]
    assert going(jobs, Jobs(keep_gib=6.5)) == []
    assert going(jobs, Jobs(keep_gib=3)) == [3, 2]


def test_models_that_are_kept_stay_however_old():
    """Without `keep` all of them; one that is served stays with it, too."""
    jobs = [a_job(number, days=100, gib=2, status="COMPLETED") for number in range(1, 5)]
    models = tuple(a_model(job, job.number) for job in jobs)
    assert going(jobs, Jobs(keep_gib=1), models) == []
    two = Jobs(tenants={"a": JobTenant(keep=2)})
    assert going(jobs, two, models) == [1, 2]
    served = (a_model(jobs[0], 1, served_by="shop"), *models[1:])
    assert going(jobs, two, served) == [2]


@pytest.mark.parametrize(
    ("status", "known", "token", "goes"),
    [
        ("RUNNING", True, f"of {HERE}", True),  # taken over, and trained there
        ("COMPLETED", True, f"of {HERE}", True),  # taken over, and done there
        ("COMPLETED", True, f"of {THERE}", False),  # this home has done it, and was moved since
        ("PENDING", True, f"of {THERE}", True),  # a copy of a home, of whose run the other goes on
        ("COMPLETED", True, None, False),  # nobody remembers what this is
        ("FAILED", False, "any", True),  # the store was restored from before it
        ("FAILED", False, None, False),  # somebody else's, perhaps
    ],
)
def test_what_a_home_has_of_jobs_that_are_not_its_own_goes_when_it_is_old(
    status, known, token, goes
):
    """By when its trainer was last heard there, and only where it is known to be of no use."""
    job = a_job(1, status=status, home=THERE)
    models = (a_model(job, 1),)
    for days, gone in ((29, False), (31, goes)):
        folder = a_folder(job, known=known, days=days, token=token)
        found = superfluous([folder], models, Jobs(), home=HERE, now_at=NOW)
        assert bool(found) == gone
        assert not gone or "was last written to" in found[0].why


def test_only_jobs_whose_model_is_durable_lose_checkpoints():
    """All that a retry needs stays with those that are not COMPLETED."""
    done, failed = a_job(1, status="COMPLETED"), a_job(2)
    left = msgspec.structs.replace(done, model=a_model(done, 1))
    folders = [a_folder(one, checkpoints=3) for one in (done, left, failed)]
    assert to_thin([*folders, a_folder(left)]) == (folders[1],)


class World:
    """A home with the folders of runs, and a store that may be told what is kept no more."""

    def __init__(self, home: Path, jobs: list[Job]) -> None:
        self.home, self.runs = home, home / "runs"
        self.kept = {job.job_id for job in jobs}
        self.refused: set[str] = set()
        self.dies: str | None = None
        for job in jobs:
            (self.runs / job.job_id).mkdir(parents=True)
            (self.runs / job.job_id / "model").write_bytes(b"learnt")

    def may_go(self, job_id: str) -> bool:
        if self.dies == "before":
            raise Killed
        if job_id in self.refused:
            return False
        self.kept.discard(job_id)
        if self.dies == "after":
            raise Killed
        return True

    def prune(self, jobs: list[Job]) -> list[str]:
        chosen = [Superfluous(a_folder(job), "") for job in jobs]
        done = prune(self.home, self.runs, chosen, may_go=self.may_go)
        return [one.folder.job_id for one in done]

    @property
    def folders(self) -> set[str]:
        return {path.name for path in self.runs.iterdir()}

    @property
    def aside(self) -> list[str]:
        return [path.name for path in (self.home / PRUNED).iterdir() if path.name != durable.LOCK]


@pytest.mark.parametrize("dies", [None, "before", "after", "removing"])
def test_a_folder_goes_wholly_or_stays_whole(tmp_path, monkeypatch, dies):
    """Whoever is killed in between: the next pruning does the rest."""
    jobs = [a_job(1), a_job(2), a_job(3)]
    world = World(tmp_path, jobs)
    world.refused = {jobs[1].job_id}
    world.dies = dies

    def die(folder: Path) -> None:
        (folder / "model").unlink()
        raise Killed

    with monkeypatch.context() as patched:
        if dies == "removing":
            patched.setattr(shutil, "rmtree", die)
        try:
            world.prune(jobs[:2])
        except Killed:
            world.dies = None
    world.prune(jobs[1:2])
    assert world.folders == world.kept == {job.job_id for job in jobs[1:]}
    assert world.aside == []
    assert (world.runs / jobs[1].job_id / "model").read_bytes() == b"learnt"


def test_a_job_that_is_tried_again_after_a_kill_has_its_folder_back(tmp_path):
    """As long as it is whole, and the job has not begun anew without it."""
    jobs = [a_job(1), a_job(2)]
    world = World(tmp_path, jobs)
    world.dies = "before"
    for job in jobs:
        with pytest.raises(Killed):
            prune(world.home, world.runs, [Superfluous(a_folder(job), "")], may_go=world.may_go)
        shutil.move(tmp_path / PRUNED / job.job_id, tmp_path / job.job_id)
    for job in jobs:
        shutil.move(tmp_path / job.job_id, tmp_path / PRUNED / job.job_id)
    world.dies, world.refused = None, {job.job_id for job in jobs}
    (world.runs / jobs[1].job_id).mkdir()
    world.prune([])
    assert (world.runs / jobs[0].job_id / "model").read_bytes() == b"learnt"
    assert list((world.runs / jobs[1].job_id).iterdir()) == []
    assert world.aside == []


def test_a_folder_in_which_something_lives_stays(tmp_path):
    """Nothing is noted of it, either."""
    job = a_job(1)
    world = World(tmp_path, [job])
    lock = durable.hold(world.runs / job.job_id)
    try:
        assert world.prune([job]) == []
    finally:
        lock.release()
    assert world.folders == world.kept == {job.job_id}


def test_two_do_not_clear_away_at_once(tmp_path):
    """The second one says so."""
    world = World(tmp_path, [a_job(1)])
    world.prune([])
    lock = durable.hold(tmp_path / PRUNED)
    try:
        with pytest.raises(AlreadyPruning):
            world.prune([])
    finally:
        lock.release()
