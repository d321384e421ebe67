"""Where jobs stand in the line, and until when, in the words of the API."""

from __future__ import annotations

import pytest

from state.jobs.database import StoreTrouble
from state.jobs.records import Ending, Foretold, NewJob, Seen
from supervisor.core.settings import Settings
from supervisor.host.clock import SystemClock
from supervisor.jobs.line import Line
from supervisor.jobs.remembered import Remembered

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.fixture
def line(store, place):
    return Line(store, Settings, Remembered(place), SystemClock())


def submitted(store, count=1):
    return [store.create(NewJob(tenant_id="a", config={}, trainer="tabular")) for _ in range(count)]


def trained(store, job, age_s=60):
    token = store.claim(job.job_id, "home-a").claim.token
    store.mirror(job.job_id, token, Seen(status="RUNNING", attempt=1, age_s=age_s))
    return token


@pytest.fixture
def measured(store):
    """One job took a minute, and another one holds the slot."""
    done, runs = submitted(store, 2)
    store.finish(done.job_id, trained(store, done), Ending(status="COMPLETED"))
    trained(store, runs)


def waited(store, waited_s, count, eta_p90_s):
    """Jobs that have started so long after they were told how long it takes."""
    for job in submitted(store, count):
        told = Foretold(
            job_id=job.job_id,
            tenant_id="a",
            at=store.now().at - waited_s,
            eta_s=eta_p90_s / 2,
            eta_p90_s=eta_p90_s,
            plain_p90_s=eta_p90_s,
        )
        store.foretell([told])
        store.finish(job.job_id, trained(store, job, age_s=0), Ending(status="CANCELLED"))


def test_nothing_is_foretold_where_nothing_was_measured(store, line):
    """A place is told, and no time is made up."""
    first, second = submitted(store, 2)
    trained(store, first)
    told = line.place(second)
    assert (told.position, told.eta_s, told.eta_p90_s) == (1, None, None)
    assert line.place(store.get(first.job_id)) is None


def test_who_stands_farther_back_starts_later(store, line):
    """At every place, those between the ones that are computed too; nine of ten wait longer."""
    done, runs, *waiting = submitted(store, 32)
    store.finish(done.job_id, trained(store, done), Ending(status="COMPLETED"))
    trained(store, runs)
    told = [line.place(job) for job in waiting]
    assert [one.position for one in told] == list(range(1, 31))
    etas = [one.eta_s for one in told]
    assert etas == sorted(etas)
    assert 600 < etas[-1] < 6000
    assert all(one.eta_p90_s >= one.eta_s for one in told)


def test_who_has_just_come_is_behind_all_others(store, line):
    """Until the next look at the line says it better."""
    first = submitted(store)[0]
    assert line.place(first).position == 1
    assert line.place(submitted(store)[0]).position == 2


def test_what_a_job_is_told_first_is_written_down(store, line, measured, place):
    """Of all in the line, whoever of them has asked; what others are told later changes nothing."""
    waiting = submitted(store, 3)
    told = [line.place(job) for job in waiting]
    later = Line(store, Settings, Remembered(place), SystemClock())
    later.place(waiting[0])
    for job in waiting:
        trained(store, job, age_s=0)
    found = store.foretold(9)[::-1]
    assert [one.job_id for one in found] == [job.job_id for job in waiting]
    assert [(one.eta_s, one.eta_p90_s) for one in found] == [
        (one.eta_s, one.eta_p90_s) for one in told
    ]
    assert all(0 < one.plain_p90_s < one.eta_p90_s for one in found)
    assert all(0 <= one.waited_s < 600 for one in found)


def test_no_time_is_no_promise(store, line):
    """Where nothing was measured, or nothing hinders a job, there is nothing to score."""
    first, second = submitted(store, 2)
    assert line.place(first).eta_s == 0
    assert line.place(second).eta_s is None
    for job in (first, second):
        trained(store, job)
    assert store.foretold(9) == ()


def test_whoever_asks_is_answered_though_nothing_can_be_written(store, line, measured, monkeypatch):
    def full(told):
        raise StoreTrouble(store.shown, "the disk is full")

    monkeypatch.setattr(store, "foretell", full)
    assert line.place(submitted(store)[0]).eta_s > 0


def test_how_late_jobs_were_is_learnt_from_the_store(store, place, measured):
    """Three times as late as they were told, nine of ten: so the next one is told three times."""
    waited(store, 300.0, 20, eta_p90_s=100.0)
    job = submitted(store)[0]
    line = Line(store, Settings, Remembered(place), SystemClock())
    told = line.place(job)
    trained(store, job, age_s=0)
    newest, *_ = store.foretold(1)
    assert told.eta_p90_s == newest.eta_p90_s
    assert newest.eta_p90_s == pytest.approx(3 * newest.plain_p90_s, rel=0.2)
