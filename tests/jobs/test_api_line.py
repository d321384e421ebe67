"""Where jobs stand in the line, and until when, in the words of the API."""

from __future__ import annotations

import pytest

from state.jobs.records import Ending, NewJob, Seen
from supervisor.core.job_settings import Jobs
from supervisor.host.clock import SystemClock
from supervisor.web.line import Line
from supervisor.web.service import Service

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.fixture
def line(store, place):
    return Line(Service(store, Jobs(), place, SystemClock(), here=place.path, environment={}))


def submitted(store, count=1):
    return [store.create(NewJob(tenant_id="a", config={}, trainer="tabular")) for _ in range(count)]


def trained(store, job):
    token = store.claim(job.job_id, "home-a").claim.token
    store.mirror(job.job_id, token, Seen(status="RUNNING", attempt=1, age_s=60))
    return token


def test_who_waits_for_room_on_the_disk_hears_both_numbers(store, place):
    """And what tells how to make room."""
    settings = Jobs(min_free_gib=1_000_000)
    line = Line(Service(store, settings, place, SystemClock(), here=place.path, environment={}))
    (why,) = line.why(submitted(store)[0])
    assert (why.cause, why.bound) == ("disk", 1_000_000)
    assert 0 < why.value < 1_000_000
    assert "min_free_gib is 1e+06; supervisor jobs prune --dry-run" in why.message


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
