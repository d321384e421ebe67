"""What became of a run, in the words of the API: progress, steps, metrics, errors, endings."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from state.jobs.records import Asked as JobAsked
from state.jobs.records import Became, Job, Model
from state.records import Asked, Attempt, Faults, Retry, Run
from supervisor.host.home import Home
from supervisor.jobs.at_home import AtHome
from supervisor.jobs.mirror import STEPS, Found, ending_of, failure_of, last_of, seen_of, used_s
from testkit.dispatched import Dispatched
from trainers.contract import Heartbeat, Mark, Score, Target
from trainers.tables import errors
from trainers.tables.learning.learner import STEPS as TOLD

NOW_AT = 1_800_000_000.0


def a_job(model_type=None, **became):
    """A job that has not been seen yet, but for what is said."""
    fresh = {
        "status": "PENDING", "attempt": 0, "next_attempt_at": None, "progress": 0.0,
        "current_step": None, "metrics": None, "error": None, "paused_reason": None,
        "used_s": 0.0, "kept_bytes": 0, "started_at": None, "finished_at": None, "as_of": None,
        "changes": 0,
    }  # fmt: skip
    asked = JobAsked(
        tenant_id="acme-corp", model_type=model_type, trainer="tabular", model_name="load",
        config={}, metadata={}, priority="normal", max_attempts=4, schedule=None, paused=False,
        cancel_wanted=False, revision=1,
    )  # fmt: skip
    return Job(
        job_id="550e8400-e29b-41d4-a716-446655440000", number=1, parent_id=None,
        created_at=NOW_AT, updated_at=NOW_AT, asked=asked, became=Became(**fresh | became),
        claim=None, model=None,
    )  # fmt: skip


def a_run(status="running", *, failed=0, **asked):
    given = {
        "id": "a", "trainer": "drill", "name": "a", "seed": 1, "origin": "job", "retry": Retry(),
        "target": Target(unit="steps", count=1000),
    }  # fmt: skip
    return Run(asked=Asked(**given | asked), status=status, faults=Faults(own_failures=failed))


def said(**fields):
    given = {
        "run": "a", "pid": 1, "mode": "light", "status": "running", "step": 250, "episodes": 2,
        "written_at": NOW_AT, "progress_at_s": 1.0, "longest_gap_s": 1.0,
    }  # fmt: skip
    return Heartbeat(**given | fields)


def test_progress_and_step_are_what_a_trainer_of_tables_says_of_them():
    """By its lines of metrics, of which the newest counts that says any."""
    assert tuple(TOLD) == STEPS
    lines = (
        {"step": 3, "pipeline_step": 2, "progress_percent": 12.5},
        {"step": 9, "pipeline_step": 3, "progress_percent": 40.0, "validation_rmse": 1.5},
        {"step": 9, "of another": "kind"},
    )
    seen = seen_of(a_job("forecast"), Found(run=a_run(), lines=lines, beat=said()))
    assert (seen.current_step, seen.progress) == ("training", 40.0)
    assert seen.history == ((9, {"validation_rmse": 1.5}),)
    assert seen.metrics is None


def test_others_are_as_far_as_their_step_is_of_the_target():
    """And are as good as their score, which is told while they train."""
    beat = said(score=Score(name="return_mean", value=7.0), loss=0.5)
    seen = seen_of(a_job(), Found(run=a_run(), beat=beat))
    assert (seen.status, seen.attempt) == ("RUNNING", 1)
    assert (seen.progress, seen.current_step) == (25.0, "training")
    assert seen.metrics == {"return_mean": 7.0, "loss": 0.5}


@pytest.mark.parametrize("status", ["queued", "waiting", "quarantined"])
def test_what_does_not_train_is_pending(status):
    """Between two attempts with the time of the next one, else with the attempt that it had."""
    found = Found(run=a_run(status, failed=2), retry_in_s=120.0)
    seen = seen_of(a_job(attempt=2), found)
    assert (seen.status, seen.attempt) == ("PENDING", 2)
    assert seen.next_attempt_in_s == (None if status == "queued" else 120.0)


def test_a_death_that_is_not_its_own_fault_uses_no_attempt():
    """It says what it waits for, and has no error that counts."""
    run = a_run("waiting", failed=0).but(reason="killed by signal 9")
    seen = seen_of(a_job(attempt=1), Found(run=run, retry_in_s=5.0))
    assert (seen.attempt, seen.next_attempt_in_s) == (1, None)
    assert seen.paused_reason == "killed by signal 9"


def test_attempts_never_count_backwards():
    """A long success forgives the failures before it, and makes nothing undone."""
    assert seen_of(a_job(attempt=3), Found(run=a_run(failed=0))).attempt == 3


@pytest.mark.parametrize(
    ("error", "name", "details"),
    [
        (
            errors.DataLoadError("there is no table a"),
            "DataLoadError",
            {"reason": "there is no table a", "tenant_id": "acme-corp"},
        ),
        (
            errors.ConfigValidationError("validation_split", "Must be between 0.0 and 1.0"),
            "ConfigValidationError",
            {"field": "validation_split", "error": "Must be between 0.0 and 1.0"},
        ),
        (
            errors.ResourceError("40 GiB are needed"),
            "ResourceError",
            {"reason": "40 GiB are needed", "tenant_id": "acme-corp"},
        ),
    ],
)
def test_what_a_trainer_refuses_is_told_by_the_name_that_it_has(error, name, details):
    """In the words of the document, as the body of an error."""
    beat = said(status="failed", error=str(error))
    body = failure_of(a_job("forecast"), Found(run=a_run("failed"), beat=beat))
    assert (body["error"], body["message"]) == (name, type(error).message)
    assert body["details"] == details


def test_other_failures_are_told_by_what_they_are():
    """Memory, a deadline, too long a time, and a failure after which no attempt is left."""
    out = said(status="failed", error="no memory", out_of_memory=True)
    used_up = Found(run=a_run("failed", failed=4), beat=out)
    assert failure_of(a_job(), used_up)["error"] == "ResourceError"
    crashed = Found(run=a_run("failed", failed=4), beat=said(status="failed", error="boom"))
    assert failure_of(a_job(), crashed)["error"] == "TrainingError"
    late = a_run("failed", deadline_at=NOW_AT).but(reason="given up: its deadline has passed")
    assert failure_of(a_job(), Found(run=late, beat=said()))["error"] == "DeadlineExceeded"
    long = said(reached=Mark(step=9, trained_s=60.0))
    assert failure_of(a_job(), Found(run=a_run("failed", max_s=60.0), beat=long))["error"] == (
        "DeadlineExceeded"
    )


def test_what_was_used_counts_from_the_claim_on():
    """Training of an earlier claim is not charged twice."""
    run = a_run(labels={"trained_before_s": "40.000"})
    beat = said(reached=Mark(step=9, trained_s=100.0))
    assert used_s(Found(run=run, beat=beat, threads=2)) == 120.0
    assert used_s(Found(run=a_run(labels={"trained_before_s": "x"}), beat=None)) == 0.0


def test_a_run_that_has_not_ended_has_no_ending():
    """And each end has its word."""
    assert ending_of(a_job(), Found(run=a_run("stopping"))) is None
    ends = [
        ending_of(a_job(), Found(run=a_run(status))) for status in ("done", "failed", "cancelled")
    ]
    assert [one.status for one in ends] == ["COMPLETED", "FAILED", "CANCELLED"]


@pytest.mark.parametrize(
    ("status", "failed", "was", "attempt"),
    [
        ("done", 0, {}, 1),
        ("done", 1, {"status": "RUNNING", "attempt": 1}, 2),
        ("failed", 0, {}, 1),
        ("failed", 4, {"status": "RUNNING", "attempt": 4}, 4),
        ("failed", 2, {"attempt": 2}, None),
        ("cancelled", 0, {}, None),
    ],
)
def test_what_ends_between_two_looks_has_run(status, failed, was, attempt):
    """Its last step and attempt are told; who only waits when it is given up has not run again."""
    run = a_run(status, failed=failed).but(attempt=Attempt(number=1))
    lines = ({"step": 9, "pipeline_step": 5, "progress_percent": 100.0},)
    last = last_of(a_job("forecast", **was), Found(run=run, lines=lines))
    if attempt is None:
        assert last is None
    else:
        told = (last.status, last.attempt, last.current_step)
        assert told == ("RUNNING", attempt, "registration")
    assert last_of(a_job(**was), Found(run=a_run(status, failed=failed))) is None


def test_an_error_names_a_table_as_its_tenant_does():
    """And not where it lies on this machine."""
    place, name = "/home/me/tables/acme/sales/load", "sales/load"
    run = a_run("failed", options={"data": place}, labels={"table": name})
    failed = said(status="failed", error=str(errors.DataLoadError(f"Table not found: {place}")))
    told = failure_of(a_job("forecast"), Found(run=run, beat=failed))
    assert told["details"]["reason"] == "Table not found: sales/load"


def leave(folder, content=b"a model", told=None):
    """What a trainer of tables leaves, and what it says of it."""
    folder.mkdir(parents=True)
    (folder / "model.txt").write_bytes(content)
    (folder / "metrics.json").write_bytes(msgspec.json.encode({"rmse": 1.5}))
    files = {"model.txt": told or content, "metrics.json": (folder / "metrics.json").read_bytes()}
    sums = "".join(f"{hashlib.sha256(it).hexdigest()}  {name}\n" for name, it in files.items())
    (folder / "SHA256SUMS").write_text(sums)


def test_a_model_is_registered_once_its_files_are_what_their_hashes_say(home, url):
    """With the metrics that were written beside it, as the next version of its name."""
    place = Dispatched(home / "box", url)
    jobs = [place.submit(steps=100, model_name="load") for _ in range(3)]
    for job_id, told in zip(jobs, (None, b"another", None), strict=True):
        leave(place.home.run(job_id).path, told=told)
    ends = ("COMPLETED", "FAILED", "COMPLETED")
    first, _, job = (place.until(*pair) for pair in zip(jobs, ends, strict=True))
    assert {(one.model.name, one.model.version) for one in (first, job)} == {
        ("load", 1),
        ("load", 2),
    }
    assert job.model.sha256 == hashlib.sha256(b"a model").hexdigest()
    assert job.became.metrics == {"rmse": 1.5}
    assert job.became.kept_bytes > 0
    spoilt = place.store.get(jobs[1]).became.error
    assert "model.txt is not what was written" in spoilt["details"]["reason"]
    place.close()


def test_a_run_that_leaves_no_files_has_no_model(tmp_path):
    """What was trained by a program is where that has put it."""
    home = Home(tmp_path)
    home.make()
    assert AtHome(home).trained_s("nobody") == 0.0
    assert ending_of(a_job(), Found(run=a_run("done"))).model is None
    assert Model(sha256="a").size_bytes == 0
