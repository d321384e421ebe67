"""What the job store answers, alike on SQLite and PostgreSQL."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from state.jobs.records import (
    Ending,
    Foretold,
    Model,
    NewJob,
    Once,
    Page,
    Patch,
    Refusal,
    Replayed,
    Schedule,
    Seen,
    Which,
)
from state.jobs.transaction import Transaction


def a_job(tenant="acme-corp", **fields):
    config = {"algorithm": "lgbm", "target": "load"}
    return NewJob(**{"tenant_id": tenant, "config": config, "model_type": "forecast", **fields})


def running(attempt=1, **fields):
    return Seen(status="RUNNING", attempt=attempt, **fields)


@pytest.fixture
def job(store):
    return store.create(a_job())


@pytest.fixture
def claimed(store, job):
    return store.claim(job.job_id, "home-a")


def test_a_job_is_told_as_it_was_asked_for(store, reopened):
    """Everything that was said, and that nothing has become of it yet."""
    asked = a_job(
        priority="high",
        metadata={"owner": "me", "größe": [1, 2.5, None, True]},
        trainer="tabular",
        model_name="load",
        max_attempts=2,
    )
    job = reopened().create(asked)
    found = store.get(job.job_id)
    assert found == job
    assert (found.asked.config, found.asked.metadata) == (asked.config, asked.metadata)
    assert (found.asked.priority, found.asked.trainer) == ("high", "tabular")
    assert (found.became.status, found.became.attempt, found.became.progress) == ("PENDING", 0, 0)
    assert (found.claim, found.model, found.parent_id) == (None, None, None)
    assert found.asked.revision == found.version == 1


def test_anothers_job_is_none(store, job):
    """Nobody can tell it from one that never was."""
    assert store.get(job.job_id, tenant="other") is None
    gone = Refusal(why="not_found")
    assert store.patch(job.job_id, Patch(priority="low"), tenant="other") == gone
    assert store.cancel(job.job_id, tenant="other") == gone
    assert store.retry(job.job_id, tenant="other") == gone
    assert store.find(Which(tenant_id="other")) == Page(jobs=(), total=0, next=None)
    assert store.find(Which(tenant_id="other"), after=job.job_id) == gone
    assert store.get(job.job_id, tenant="acme-corp") == job


def test_jobs_are_listed_newest_first_and_filtered(store):
    """Each filter alone, and two of them together."""
    jobs = [
        store.create(a_job(tenant, priority=priority, model_type=kind))
        for tenant, priority, kind in (
            ("a", "high", "forecast"),
            ("a", "low", "anomaly"),
            ("b", "high", "anomaly"),
        )
    ]
    store.cancel(jobs[0].job_id)

    def listed(**which):
        return [jobs.index(store_job) for store_job in known(store.find(Which(**which)).jobs)]

    def known(found):
        return [next(one for one in jobs if one.job_id == job.job_id) for job in found]

    assert listed() == [2, 1, 0]
    assert listed(tenant_id="a") == [1, 0]
    assert listed(priority=("high",)) == [2, 0]
    assert listed(priority=("high", "low")) == [2, 1, 0]
    assert listed(model_type="anomaly", tenant_id="a") == [1]
    assert listed(status=("CANCELLED",)) == [0]
    assert listed(status=("CANCELLED", "PENDING")) == [2, 1, 0]
    assert listed(created_after=jobs[1].created_at) == [2]
    assert listed(created_before=jobs[1].created_at) == [0]
    assert listed(created_after=-1e300, created_before=1e300) == [2, 1, 0]


def test_a_cursor_passes_over_nothing_while_jobs_arrive(store):
    """Pages do: what arrives moves all others by one."""
    jobs = [store.create(a_job()).job_id for _ in range(7)]
    seen, after = [], None
    while True:
        page = store.find(Which(), limit=3, after=after)
        seen += [job.job_id for job in page.jobs]
        store.create(a_job())
        if (after := page.next) is None:
            break
    assert seen == jobs[::-1]
    numbered = store.find(Which(), limit=4, page=2)
    assert (len(numbered.jobs), numbered.total) == (4, 10)
    assert store.find(Which(), limit=50, page=10**30).jobs == ()


def test_what_is_asked_changes_by_revision(store, job):
    """Who has seen an older one is told so, and changes nothing."""
    changed = store.patch(job.job_id, Patch(priority="critical", metadata={"a": 1}), revision=1)
    assert (changed.asked.priority, changed.asked.metadata) == ("critical", {"a": 1})
    assert changed.asked.revision == 2
    refused = store.patch(job.job_id, Patch(priority="low"), revision=1)
    assert refused == Refusal(why="changed_meanwhile", job=changed)
    assert store.cancel(job.job_id, revision=1).why == "changed_meanwhile"
    assert store.patch(job.job_id, Patch(priority="critical")) == changed
    assert store.patch(job.job_id, Patch(paused=True)).asked.paused
    assert store.patch(job.job_id, Patch(schedule=Schedule(cron="0 2 * * 0"))).why == "no_schedule"


def test_of_an_ended_job_only_the_metadata_change(store, job):
    """Its priority is a thing of the past."""
    store.cancel(job.job_id)
    assert store.patch(job.job_id, Patch(priority="low")).why == "has_ended"
    assert store.patch(job.job_id, Patch(metadata={"note": "x"})).asked.metadata == {"note": "x"}


def test_what_nobody_has_ends_at_once(store, job):
    """And again: it is the same."""
    ended = store.cancel(job.job_id)
    assert ended.became.status == "CANCELLED"
    assert ended.became.finished_at is not None
    assert store.cancel(job.job_id) == ended
    assert store.claim(job.job_id, "home-a") is None


def test_what_a_home_has_ends_once_it_is_saved(store, claimed):
    """Until then it is told that this is wanted."""
    asked = store.cancel(claimed.job_id)
    assert (asked.became.status, asked.asked.cancel_wanted) == ("PENDING", True)
    assert store.cancel(claimed.job_id) == asked
    token = claimed.claim.token
    assert store.mirror(claimed.job_id, token, running()).asked.cancel_wanted
    ended = store.finish(claimed.job_id, token, Ending(status="CANCELLED"))
    assert ended.became.status == "CANCELLED"


def test_a_job_that_is_given_back_while_it_should_end_has_ended(store, claimed):
    """Nobody would be left who could end it."""
    store.cancel(claimed.job_id)
    assert store.release(claimed.job_id, claimed.claim.token).became.status == "CANCELLED"


def test_a_claim_is_had_once(store, job):
    """Whoever comes second gets nothing, and whoever looks sees who has it."""
    assert [one.job_id for one in store.candidates()] == [job.job_id]
    claimed = store.claim(job.job_id, "home-a")
    assert claimed.claim.home == "home-a"
    assert store.claim(job.job_id, "home-b") is None
    assert store.candidates() == ()
    assert store.claimed("home-a") == (claimed,)
    assert store.claimed("home-b") == ()


@pytest.mark.parametrize("change", [Patch(paused=True), None])
def test_who_is_paused_or_a_schedule_is_no_candidate(store, change):
    """Neither is claimed by name."""
    schedule = Schedule(cron="0 2 * * 0") if change is None else None
    job = store.create(a_job(schedule=schedule))
    if change is not None:
        store.patch(job.job_id, change)
    assert store.candidates() == ()
    assert store.claim(job.job_id, "home-a") is None


def test_a_flood_does_not_hide_who_else_waits(store):
    """Of each tenant and class only the first few are candidates."""
    flood = [store.create(a_job("flood")).job_id for _ in range(6)]
    store.create(a_job("flood", priority="high"))
    quiet = store.create(a_job("quiet"))
    found = store.candidates(each=2)
    assert [one.job_id for one in found if one.tenant_id == "flood"][:2] == flood[:2]
    assert len(found) == 4
    assert quiet.job_id in {one.job_id for one in found}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_no_row_is_read_of_those_that_wait_behind_the_first(store):
    """Who is next and what tenants have is asked every second, however many wait."""
    asked = []

    def note(connection, cursor, statement, values, context, many):
        asked.append((statement, values))

    sa.event.listen(store._database._engine, "before_cursor_execute", note)
    store.candidates()
    store.tenants()
    store.tenants("acme-corp")
    with store._database.reading() as connection:
        for statement, values in asked[:]:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            for *_, step in plan:
                if " jobs" in step:
                    assert re.search(r"COVERING|priority=|\(job_id=", step), (statement, step)


def test_what_a_home_sees_is_told(store, claimed):
    """From the first step to the model, with each attempt and what was measured."""
    job_id, token = claimed.job_id, claimed.claim.token
    first = store.mirror(
        job_id, token, running(current_step="training", progress=40, history=((10, {"loss": 2}),))
    )
    assert (first.became.status, first.became.progress) == ("RUNNING", 40)
    assert first.became.started_at is not None
    waiting = store.mirror(
        job_id,
        token,
        Seen(
            status="PENDING",
            attempt=1,
            progress=40,
            next_attempt_in_s=60,
            error={"error": "DataLoadError"},
        ),
    )
    assert waiting.became.next_attempt_at == pytest.approx(waiting.became.as_of + 60)
    assert waiting.became.error == {"error": "DataLoadError"}
    again = store.mirror(job_id, token, running(2, progress=5, metrics={"mae": 12.5}))
    assert (again.became.progress, again.became.metrics) == (5, {"mae": 12.5})
    assert again.became.error is None
    ended = store.finish(
        job_id, token, Ending(status="COMPLETED", metrics={"mae": 3.0}, model=Model(sha256="ab"))
    )
    assert (ended.became.status, ended.became.progress) == ("COMPLETED", 100)
    assert (ended.model.version, ended.model.sha256, ended.model.metrics) == (1, "ab", {"mae": 3.0})
    outcomes = [(one.number, one.outcome, one.error) for one in store.attempts(job_id)]
    assert outcomes == [(1, "failed", {"error": "DataLoadError"}), (2, "COMPLETED", None)]
    assert [(point.step, point.metrics) for point in store.history(job_id)] == [(10, {"loss": 2})]
    kinds = [event.kind for event in store.events(0, job_id=job_id)]
    assert kinds == ["state", "state", "step", "state", "step", "state", "step", "metric", "state"]


def test_progress_never_goes_back_within_an_attempt_nor_is_over_too_early(store, claimed):
    """A hundred percent is for what is COMPLETED; what is no number is no progress."""
    job_id, token = claimed.job_id, claimed.claim.token

    def after(attempt, progress):
        return store.mirror(job_id, token, running(attempt, progress=progress)).became.progress

    assert [after(1, 30), after(1, 20), after(1, float("nan")), after(1, 100)] == [30, 30, 30, 99]
    assert [after(2, 10), after(2, -5)] == [10, 10]


def test_only_what_changes_makes_a_new_version(store, claimed):
    """That it was confirmed is told all the same."""
    job_id, token = claimed.job_id, claimed.claim.token
    first = store.mirror(job_id, token, running(progress=10, used_s=1, age_s=50))
    second = store.mirror(job_id, token, running(progress=10, used_s=2, age_s=10))
    assert second.version == first.version
    assert second.became.as_of > first.became.as_of
    late = store.mirror(job_id, token, running(progress=10, used_s=2, age_s=1000))
    assert late.became.as_of == second.became.as_of
    assert store.mirror(job_id, token, running(progress=11)).version == first.version + 1


def test_what_was_waited_since_the_look_makes_no_job_younger(store, claimed):
    """It is as old as it was seen to be, however long the store was locked or away meanwhile."""
    looked_at = store.now()[0] - 60.0
    job = store.mirror(claimed.job_id, claimed.claim.token, running(age_s=5.0), looked_at=looked_at)
    assert job.became.as_of == pytest.approx(looked_at - 5.0, abs=1e-3)


def test_an_attempt_that_nobody_saw_begin_is_told_with_its_end(store, claimed):
    """Of a job that fails and is done between two looks: it had two, and the second counts."""
    job_id, token = claimed.job_id, claimed.claim.token
    job = store.finish(job_id, token, Ending(status="COMPLETED", attempt=2, trained_s=1e6))
    assert job.became.attempt == 2
    assert job.became.started_at == claimed.claim.claimed_at
    assert [(one.number, one.outcome) for one in store.attempts(job_id)] == [(2, "COMPLETED")]


def test_a_late_worker_is_fenced(store, claimed):
    """Whoever's claim is over writes nothing more, and the one who has it now does."""
    job_id, old = claimed.job_id, claimed.claim.token
    store.mirror(job_id, old, running(progress=80))
    taken = store.take_over(job_id, old, "home-b")
    assert (taken.claim.home, taken.became.status, taken.became.progress) == (
        "home-b",
        "PENDING",
        0,
    )
    done = Ending(status="COMPLETED", model=Model(sha256="late"))
    assert store.mirror(job_id, old, running(progress=90)) is None
    assert store.finish(job_id, old, done) is None
    assert store.release(job_id, old) is None
    assert store.take_over(job_id, old, "home-c") is None
    assert store.get(job_id) == taken
    assert store.models() == ()
    ended = store.finish(job_id, taken.claim.token, Ending(status="FAILED"))
    assert ended.became.status == "FAILED"


def test_a_job_ends_once(store, claimed):
    """Said again, or otherwise, it stays as it ended."""
    job_id, token = claimed.job_id, claimed.claim.token
    done = Ending(status="COMPLETED", model=Model(sha256="ab"), metrics={"mae": 1})
    ended = store.finish(job_id, token, done)
    assert store.finish(job_id, token, done) == ended
    assert store.finish(job_id, token, Ending(status="FAILED")) == ended
    assert store.mirror(job_id, token, running()) is None
    assert store.cancel(job_id).why == store.retry(job_id).why == "has_ended"
    assert len(store.models()) == 1


def test_a_retry_begins_anew_and_fences_who_had_it(store, claimed):
    """The same job, another claim."""
    job_id, token = claimed.job_id, claimed.claim.token
    store.mirror(job_id, token, running(3, progress=70, history=((1, {"loss": 1}),)))
    assert store.retry(job_id).why == "has_not_ended"
    store.finish(job_id, token, Ending(status="FAILED", error={"error": "DataLoadError"}))
    again = store.retry(job_id)
    became = again.became
    assert (became.status, became.attempt, became.progress) == ("PENDING", 0, 0)
    assert (became.error, became.started_at, became.finished_at) == (None, None, None)
    assert store.history(job_id) == ()
    assert store.finish(job_id, token, Ending(status="COMPLETED")) is None
    assert store.claim(job_id, "home-b").claim.token != token


def test_a_request_is_done_once(store, reopened):
    """The same key is the same answer, also of another process; another body is refused."""
    once = Once(tenant_id="a", route="POST /jobs", key="k\0\ud800", body_sha256="1")
    first = store.create(a_job(), once=once, answer=lambda job: f"made {job.job_id}")
    said = reopened().create(a_job(), once=once, answer=lambda job: "again")
    assert said == Replayed(answer=f"made {first.job_id}")
    other = Once(tenant_id="a", route="POST /jobs", key="k\0\ud800", body_sha256="2")
    assert store.create(a_job(), once=other) == Refusal(why="key_of_another")
    elsewhere = Once(tenant_id="b", route="POST /jobs", key="k\0\ud800", body_sha256="2")
    assert store.create(a_job("b"), once=elsewhere).asked.tenant_id == "b"
    assert store.find(Which()).total == 2


def test_a_retry_is_done_once(store, job):
    """Sent again, it is no conflict."""
    store.cancel(job.job_id)
    once = Once(tenant_id="a", route=f"POST /jobs/{job.job_id}/retry", key="k", body_sha256="1")
    tried = store.retry(job.job_id, once=once, answer=lambda one: one.became.status)
    assert tried.became.status == "PENDING"
    assert store.retry(job.job_id, once=once) == Replayed(answer="PENDING")


def test_a_schedule_fires_once_for_an_instant(store):
    """Each firing is a job, also one that does not start."""
    parent = store.create(a_job(schedule=Schedule(cron="0 2 * * 0", timezone="Europe/Berlin")))
    assert store.schedules() == ((parent, None),)
    first = store.fire(parent.job_id, 1000)
    assert store.fire(parent.job_id, 1000) is None
    assert (first.parent_id, first.asked.schedule) == (parent.job_id, None)
    assert first.asked.config == parent.asked.config
    overlapping = store.fire(parent.job_id, 2000)
    assert overlapping.became.status == "CANCELLED"
    assert overlapping.became.error["details"] == {"job_id": first.job_id}
    store.cancel(first.job_id)
    refused = store.fire(parent.job_id, 3000, cannot={"error": "QuotaExceeded"})
    assert refused.became.error == {"error": "QuotaExceeded"}
    assert store.fire(parent.job_id, 4000).became.status == "PENDING"
    ((_, newest),) = store.schedules()
    assert newest == 4000
    children = store.find(Which(parent_id=parent.job_id))
    assert children.total == 4


def test_what_is_asked_together_is_done_together(store, monkeypatch):
    """A schedule that ends has its other change, too, or goes on as it was."""
    parent = store.create(a_job(schedule=Schedule(cron="0 2 * * 0")))
    both = Patch(metadata={"why": "enough"}, schedule=None)
    tell = Transaction.tell

    def breaks(doing, job_id, tenant_id, told):
        if told[0] == "state":
            raise RuntimeError
        return tell(doing, job_id, tenant_id, told)

    with monkeypatch.context() as broken:
        broken.setattr(Transaction, "tell", breaks)
        with pytest.raises(RuntimeError):
            store.patch(parent.job_id, both)
    assert store.get(parent.job_id) == parent
    ended = store.patch(parent.job_id, both)
    assert (ended.became.status, ended.asked.metadata) == ("CANCELLED", {"why": "enough"})
    assert store.patch(parent.job_id, both) == ended
    single = store.create(a_job())
    assert store.patch(single.job_id, Patch(schedule=None)) == single


def test_a_schedule_that_is_changed_begins_from_then_on(store):
    """What the old one has missed is not made up for; paused or cancelled, it is none."""
    parent = store.create(a_job(schedule=Schedule(cron="0 2 * * 0")))
    changed = store.patch(parent.job_id, Patch(schedule=Schedule(cron="0 3 * * 0")))
    assert changed.asked.schedule.cron == "0 3 * * 0"
    assert changed.asked.schedule.since_at > parent.asked.schedule.since_at
    store.patch(parent.job_id, Patch(paused=True))
    assert store.schedules() == ()
    store.cancel(parent.job_id)
    assert store.fire(parent.job_id, 1).why == "has_ended"
    assert store.fire(store.create(a_job()).job_id, 1).why == "no_schedule"
    assert store.fire("nonsense", 1).why == "not_found"


def test_what_tenants_use_is_counted(store, job, claimed):
    """Each second once, however often it is told, and over a change of claims."""
    job_id, token = job.job_id, claimed.claim.token
    store.create(a_job("quiet"))
    for used_s in (10.0, 10.0, 25.0, float("nan")):
        store.mirror(job_id, token, running(used_s=used_s, kept_bytes=7))
    token = store.take_over(job_id, token, "home-b").claim.token
    store.mirror(job_id, token, running(used_s=5.0, kept_bytes=7))
    (acme,) = store.tenants("acme-corp")
    assert (acme.jobs, acme.claimed, acme.kept_bytes) == ({"RUNNING": 1}, 1, 7)
    assert sum(used_s for _, used_s in acme.hours) == 30
    assert acme.claimed_at is not None
    assert acme.waiting_since_at is None
    quiet = store.tenants()[1]
    assert (quiet.tenant_id, quiet.jobs, quiet.claimed_at) == ("quiet", {"PENDING": 1}, None)
    assert quiet.waiting_since_at is not None


def test_models_have_versions_and_who_is_served_stays(store):
    """Where nothing of a job is kept any more, all that is known of it and its model stays."""
    jobs = []
    for number in range(3):
        job = store.create(a_job(model_name="load"))
        claim = store.claim(job.job_id, "home-a").claim
        seen = Seen(status="RUNNING", attempt=1, progress=5.0, history=((1, {"loss": 1.0}),))
        store.mirror(job.job_id, claim.token, seen)
        model = Model(sha256=str(number), size_bytes=5)
        ending = Ending(status="COMPLETED", model=model, metrics={"mae": 1.0}, kept_bytes=7)
        jobs.append(store.finish(job.job_id, claim.token, ending))
    living = store.create(a_job())
    assert [one.version for one in store.models("acme-corp", "load")] == [3, 2, 1]
    assert store.models("acme-corp", "other") == store.models("other") == ()
    assert store.serve("acme-corp", "load", 2, "site")
    assert not store.serve("acme-corp", "load", 9, "site")
    assert [job.job_id for job in store.kept("home-a")] == [job.job_id for job in jobs]
    ids = [*(job.job_id for job in jobs), living.job_id, "nonsense"]
    assert [store.keep(job_id, "home-b", 0) for job_id in ids[:3]] == [False] * 3
    noted = [store.keep(job_id, "home-a", 0) for job_id in ids]
    assert noted == [True, False, True, False, False]
    assert [one.job_id for one in store.kept("home-a")] == [jobs[1].job_id]
    told = [(one.version, one.kept, one.served_by) for one in store.models()]
    assert told == [(3, False, None), (2, True, "site"), (1, False, None)]
    gone = store.get(jobs[0].job_id)
    assert gone.version == jobs[0].version + 1
    assert (gone.became.kept_bytes, gone.became.metrics) == (0, {"mae": 1.0})
    assert gone.model.sha256 == "0"
    assert store.attempts(gone.job_id)
    assert store.history(gone.job_id) == ()
    assert {one.kind for one in store.events(0, job_id=gone.job_id)} == {"state"}
    assert store.history(jobs[1].job_id)
    (usage,) = store.tenants("acme-corp")
    assert usage.kept_bytes == 7


def test_what_a_home_has_of_a_job_is_noted_once_it_has_ended(store, job):
    """Nothing of it is forgotten while something is there; one that is tried again is let be."""
    claim = store.claim(job.job_id, "home-a").claim
    assert not store.keep(job.job_id, "home-a", 5)
    store.finish(job.job_id, claim.token, Ending(status="FAILED", kept_bytes=9))
    assert store.keep(job.job_id, "home-a", 5)
    assert store.get(job.job_id).became.kept_bytes == 5
    store.retry(job.job_id)
    assert not store.keep(job.job_id, "home-a", 0)
    claim = store.claim(job.job_id, "home-a").claim
    ended = store.finish(job.job_id, claim.token, Ending(status="CANCELLED"))
    assert ended.became.kept_bytes == 5  # nobody has measured it


def test_events_are_numbered_without_gaps(store, job):
    """Whoever comes back goes on behind the last that it has seen."""
    store.patch(job.job_id, Patch(priority="low"))
    other = store.create(a_job("other"))
    store.cancel(job.job_id)
    told = store.events(0)
    assert [event.sequence for event in told] == [1, 2, 3, 4]
    assert [event.kind for event in told] == ["state", "asked", "state", "state"]
    assert told[1].content == {"priority": "low"}
    assert store.events(2, job_id=job.job_id) == (told[3],)
    assert store.events(0, tenant="other") == (told[2],)
    assert store.events(0, limit=2) == told[:2]
    assert (job.number, other.number) == (1, 3)


def foretold(job, at, eta_s=10.0):
    return Foretold(
        job_id=job.job_id,
        tenant_id=job.asked.tenant_id,
        at=at,
        eta_s=eta_s,
        eta_p90_s=2 * eta_s,
        plain_p90_s=1.5 * eta_s,
    )


def start(store, job, **seen):
    claim = store.claim(job.job_id, "home-a").claim
    store.mirror(job.job_id, claim.token, running(**seen))
    return claim.token


def test_what_a_job_was_told_first_stands_beside_when_it_started(store, job):
    """A second word and a second attempt change neither; who has not started is not told of."""
    at = store.now().at - 100
    assert not store.candidates()[0].foretold
    store.foretell([foretold(job, at)])
    store.foretell([foretold(job, at + 50, eta_s=99.0)])
    assert store.candidates()[0].foretold
    assert store.foretold(9) == ()
    token = start(store, job, age_s=40.0)
    (found,) = store.foretold(9)
    assert (found.job_id, found.tenant_id, found.at) == (job.job_id, "acme-corp", at)
    assert (found.eta_s, found.eta_p90_s, found.plain_p90_s) == (10, 20, 15)
    assert found.waited_s == pytest.approx(60, abs=30)
    store.mirror(job.job_id, token, running(attempt=2))
    store.finish(job.job_id, token, Ending(status="FAILED", attempt=2))
    store.retry(job.job_id)
    store.foretell([foretold(job, at + 99)])
    start(store, job)
    assert store.foretold(9) == (found,)


def test_an_attempt_that_nobody_saw_begin_starts_a_job_too(store, job):
    store.foretell([foretold(job, store.now().at - 100)])
    claim = store.claim(job.job_id, "home-a").claim
    store.finish(job.job_id, claim.token, Ending(status="COMPLETED", attempt=1))
    assert len(store.foretold(9)) == 1


def test_a_job_that_ends_before_it_starts_was_told_nothing_that_could_come_true(store, job):
    store.foretell([foretold(job, store.now().at - 100)])
    claim = store.claim(job.job_id, "home-a").claim
    store.finish(job.job_id, claim.token, Ending(status="CANCELLED"))
    assert store.foretold(9) == ()


@pytest.mark.parametrize(
    "ask",
    [
        lambda store, job_id: store.patch(job_id, Patch(priority="low")),
        lambda store, job_id: store.patch(job_id, Patch(paused=True)),
        lambda store, job_id: (store.cancel(job_id), store.retry(job_id)),
    ],
)
def test_who_asks_for_a_job_otherwise_has_it_told_anew(store, job, ask):
    """What was foretold was foretold of something else, which nobody waits for any more."""
    at = store.now().at - 100
    store.foretell([foretold(job, at)])
    ask(store, job.job_id)
    store.patch(job.job_id, Patch(paused=False))
    assert not store.candidates()[0].foretold
    store.foretell([foretold(job, at + 50)])
    start(store, job)
    assert [one.at for one in store.foretold(9)] == [at + 50]
    store.patch(job.job_id, Patch(priority="high"))
    assert len(store.foretold(9)) == 1


def test_nothing_is_foretold_of_a_job_that_does_not_wait(store, job):
    """A look may be old when it is written down: the job has started since, and starts but once."""
    token = start(store, job)
    store.foretell([foretold(job, store.now().at)])
    store.mirror(job.job_id, token, running(attempt=2))
    assert store.foretold(9) == ()


def test_the_newest_starts_of_a_tenant_are_told(store):
    """Whatever the order in which it was foretold."""
    jobs = [store.create(a_job(tenant)) for tenant in ("a", "b", "a", "a")]
    store.foretell([foretold(job, store.now().at - 100) for job in jobs])
    for place, age_s in ((1, 10.0), (2, 30.0), (0, 20.0)):
        start(store, jobs[place], age_s=age_s)
    ids = [job.job_id for job in jobs]
    assert [one.job_id for one in store.foretold(2)] == [ids[1], ids[0]]
    assert [one.job_id for one in store.foretold(9, tenant="a")] == [ids[0], ids[2]]
    assert store.foretold(9, tenant="c") == ()
