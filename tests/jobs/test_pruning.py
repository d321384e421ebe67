"""Which jobs may go, and that a folder goes with its row or neither, whoever is killed between."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from state.jobs.records import Asked, Became, Job, ModelVersion
from supervisor.core.job_settings import Jobs, JobTenant
from supervisor.jobs.pruning import (
    DAY_S,
    GIB,
    PRUNED,
    AlreadyPruning,
    Superfluous,
    prune,
    superfluous,
)
from trainers import durable

NOW = 1_000 * DAY_S


class Killed(BaseException):
    """The end of a process at that place."""


def a_job(number: int, *, days: float = 0.0, gib: float = 0.0, status: str = "FAILED") -> Job:
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
        updated_at=at, asked=asked, became=became, claim=None, model=None, read_at=at,
    )  # fmt: skip


def a_model(job: Job, version: int, served_by: str | None = None) -> ModelVersion:
    return ModelVersion(
        tenant_id="a", name="m", version=version, job_id=job.job_id, sha256="", size_bytes=0,
        metrics=None, created_at=0.0, served_by=served_by,
    )  # fmt: skip


def going(jobs: list[Job], asked: Jobs, models: tuple[ModelVersion, ...] = ()) -> list[int]:
    return [one.job.number for one in superfluous(jobs, models, asked, NOW)]


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


class World:
    """A home with the folders of runs, and a store that may lose what it was told."""

    def __init__(self, home: Path, jobs: list[Job]) -> None:
        self.home, self.runs = home, home / "runs"
        self.rows = {job.job_id for job in jobs}
        self.refused: set[str] = set()
        self.dies: str | None = None
        for job in jobs:
            (self.runs / job.job_id).mkdir(parents=True)
            (self.runs / job.job_id / "model").write_bytes(b"learnt")

    def forget(self, job_ids):
        if self.dies == "before":
            raise Killed
        gone = {job_id for job_id in job_ids if job_id not in self.refused}
        self.rows -= gone
        if self.dies == "after":
            raise Killed
        return gone

    def prune(self, jobs: list[Job]) -> list[str]:
        chosen = [Superfluous(job, "") for job in jobs]
        done = prune(
            self.home, self.runs, chosen, is_there=self.rows.__contains__, forget=self.forget
        )
        return [one.job.job_id for one in done]

    @property
    def folders(self) -> set[str]:
        return {path.name for path in self.runs.iterdir()}


@pytest.mark.parametrize("dies", [None, "before", "after"])
def test_a_folder_goes_with_its_row_or_neither(tmp_path, dies):
    """Whoever is killed in between: the next pruning settles it."""
    jobs = [a_job(1), a_job(2), a_job(3)]
    world = World(tmp_path, jobs)
    world.refused = {jobs[1].job_id}
    world.dies = dies
    try:
        world.prune(jobs[:2])
    except Killed:
        world.dies = None
        world.prune([])
    assert world.folders == world.rows
    assert world.rows == {job.job_id for job in (jobs if dies == "before" else jobs[1:])}
    assert (world.runs / jobs[1].job_id / "model").read_bytes() == b"learnt"


def test_a_folder_in_which_something_lives_stays(tmp_path):
    """So does its row."""
    job = a_job(1)
    world = World(tmp_path, [job])
    lock = durable.hold(world.runs / job.job_id)
    try:
        assert world.prune([job]) == []
    finally:
        lock.release()
    assert world.folders == world.rows == {job.job_id}


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
