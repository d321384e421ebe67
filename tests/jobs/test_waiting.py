"""Why a job waits: each reason is told where its cause is true, with its number, and not before."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from state.jobs.records import NewJob, Patch, Schedule, Seen
from state.records import Goal, HomeId, Memory, Place, Timeline, Visit
from state.store import Store
from state.windows import Backtest, Promise, QuietWindow, Windows, write
from supervisor.core.job_settings import Jobs, JobTenant
from supervisor.core.quiet_hours import QuietHours
from supervisor.core.settings import Settings
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.jobs.line import Line
from supervisor.jobs.remembered import Remembered
from testkit.job_requests import silence, whole

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


def lives(home, own="here", **goal):
    """A supervisor has lived in a home, and wants that."""
    status = home.path.stat()
    now = SystemClock().read()
    memory = Memory(
        home=HomeId(
            id=own, place=Place(machine_id=None, device=status.st_dev, inode=status.st_ino)
        ),
        began_at=1.0,
        timeline=Timeline(seen_at=now.wall, boot_id="b" * 32, monotonic_s=1.0, boottime_s=1.0),
        goal=Goal(mode="light", **goal),
        visit=Visit(entered_s=0.0, entered_at=1.0),
    )
    Store(home.state).save(memory)


@pytest.fixture
def why(store, place):
    """Why a job waits where the settings are these: cause: reason."""
    lives(place)

    def told(job, home=place, **settings):
        line = Line(store, lambda: Settings(**settings), Remembered(home), SystemClock())
        found = line.waiting(store.get(job.job_id)).reasons
        assert len({one.cause for one in found}) == len(found)
        return {one.cause: one for one in found}

    return told


def submitted(store, tenant="acme-corp", **fields):
    given = {"tenant_id": tenant, "config": whole() | {"tenant_id": tenant}, "trainer": "tabular"}
    return store.create(NewJob(**given | fields))


def trained(store, job, home="here", **seen):
    token = store.claim(job.job_id, home).claim.token
    store.mirror(job.job_id, token, Seen(**{"status": "RUNNING", "attempt": 1} | seen))
    return token


def test_where_nothing_else_is_so_the_line_alone_is_waited_for(store, why):
    """And what has ended, or trains and is told of, waits for nothing."""
    job = submitted(store)
    assert set(why(job)) == {"room"}
    trained(store, job)
    assert why(job) == {}
    other = submitted(store)
    store.cancel(other.job_id)
    assert why(other) == {}


def test_a_machine_without_a_supervisor_trains_nothing(store, why, home):
    """The command that starts one is told."""
    away = Home(home / "away")
    away.make()
    reason = why(submitted(store), home=away)["no_supervisor"]
    assert f"supervisor --home {away.path} run" in reason.message


@pytest.mark.parametrize("owner", ["person", "guard", "quiet_hours"])
def test_who_has_paused_the_machine_is_told_and_what_lifts_it(store, place, why, owner):
    """Each its own pause; there is no word of room, which a paused machine has or has not."""
    job = submitted(store)
    assert f"paused_by_{owner}" not in why(job)
    lives(place, pauses=(owner,))
    told = why(job)
    assert "room" not in told
    words = {"person": "supervisor resume", "guard": "by itself", "quiet_hours": "train-now"}
    assert words[owner] in told[f"paused_by_{owner}"].message


def test_the_guard_holds_what_would_start(store, place, why):
    """Though it has paused nothing."""
    job = submitted(store)
    lives(place, still="starts")
    assert "paused_by_guard" in why(job)


def test_quiet_hours_say_when_they_end(store, place, why):
    """By the windows of the newest analysis."""
    now = SystemClock().read().wall
    opens = datetime.fromtimestamp(now + 6 * 3600, UTC)
    one = QuietWindow(
        start_weekday=opens.weekday(), start_hour=opens.hour, hours=2, score=0.0,
        players_mean=None, players_high=None,
        promise=Promise(weeks_choosing=3, weeks_judging=4, kept=4, of=4, at_least=0.8),
    )  # fmt: skip
    write(place.windows, Windows(
        made_at=now, zone="UTC", sources=(), weeks=4, metrics_used=("players",),
        formula="robust", windows=(one,), next=None,
        backtest=Backtest(weeks=4, regret_median=None, regret_p95=None, promise_kept=None),
    ))  # fmt: skip
    job = submitted(store)
    lives(place, pauses=("quiet_hours",))
    told = why(job, quiet_hours=QuietHours(zone="UTC"))["paused_by_quiet_hours"]
    assert told.until_at == opens.replace(minute=0, second=0, microsecond=0)


def test_a_machine_that_is_left_idle_says_until_when(store, place, why):
    """It dies as soon as it trains."""
    job = submitted(store)
    lives(place, idle_until_s=600.0)
    left_s = why(job)["idle"].until_at.timestamp() - SystemClock().read().wall
    assert 0 < left_s <= 600


def test_a_full_disk_keeps_jobs_waiting(store, why):
    """With what is free, and what has to be."""
    told = why(submitted(store), jobs=Jobs(min_free_gib=1_000_000))["disk"]
    assert 0 < told.value < told.bound == 1_000_000


def test_a_home_may_want_no_jobs(store, why):
    """As its settings say."""
    assert "disabled" in why(submitted(store), jobs=Jobs(enabled=False))


def test_a_quota_holds_a_job_with_its_numbers(store, why):
    """Of jobs at once, and of hours of the day."""
    trained(store, submitted(store), used_s=7200.0)
    tenants = {"acme-corp": JobTenant(concurrent=1, cpu_hours_a_day=1.5)}
    told = why(submitted(store), jobs=Jobs(tenants=tenants))
    assert (told["concurrent"].value, told["concurrent"].bound) == (1, 1)
    assert (told["cpu_hours"].value, told["cpu_hours"].bound) == (2, 1.5)
    assert told["cpu_hours"].until_at is not None


def test_others_go_first_by_class_by_share_and_of_the_same_tenant(store, why):
    """How many do, and what the tenant has had."""
    trained(store, submitted(store), used_s=3600.0)
    submitted(store, "umbrella", priority="critical")
    submitted(store)
    told = why(submitted(store))
    assert (told["rank"].value, told["own"].value) == (1, 1)
    assert (told["share"].value, told["share"].bound) == (1.0, 0.5)


def test_who_has_waited_for_long_has_risen(store, why):
    """By a class after each third of the longest wait."""
    job = submitted(store, priority="low")
    assert "aged" not in why(job)
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE jobs SET created_at = created_at - 60000")
    assert why(job)["aged"].value == 2


def test_a_job_that_somebody_has_paused_waits_for_them(store, why):
    """For nothing else."""
    job = submitted(store)
    store.patch(job.job_id, Patch(paused=True))
    assert set(why(job)) == {"paused"}


def test_between_two_attempts_the_time_of_the_next_is_told(store, why):
    """And once that is over, who has the job."""
    job = submitted(store)
    token = trained(store, job, status="PENDING", next_attempt_in_s=60)
    left_s = why(job)["retry"].until_at.timestamp() - SystemClock().read().wall
    assert 50 < left_s <= 61
    store.mirror(job.job_id, token, Seen(status="PENDING", attempt=1, paused_reason="mud"))
    told = why(job)
    assert set(told) == {"handed_over"}
    assert "mud" in told["handed_over"].message


def test_a_paused_home_is_the_reason_for_what_it_has_claimed(store, place, why):
    """And not for what another home has."""
    own, other = submitted(store), submitted(store)
    trained(store, own, status="PENDING")
    trained(store, other, "far", status="PENDING")
    lives(place, pauses=("person",))
    assert set(why(own)) == {"paused_by_person", "handed_over"}
    assert set(why(other)) == {"handed_over"}


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_home_that_is_silent_is_told_with_since_when(store, why, status):
    """And how another one takes the job, or when it does so by itself."""
    job = submitted(store)
    trained(store, job, "far", status=status)
    assert "silent" not in why(job)
    silence(store, job.job_id, 7200.0)
    told = why(job, jobs=Jobs(take_over_after_h=12.0))["silent"]
    assert 7200 <= told.value < 7300
    assert told.bound == 120
    assert f"supervisor jobs take-over {job.job_id}" in told.message
    left_s = told.until_at.timestamp() - SystemClock().read().wall
    assert 9.8 * 3600 < left_s < 10.1 * 3600
    assert why(job)["silent"].until_at is None


def test_what_is_to_be_cancelled_is_saved_first(store, why):
    """Its home has it until then."""
    job = submitted(store)
    trained(store, job)
    store.cancel(job.job_id)
    assert set(why(job)) == {"cancelling"}


def test_a_deadline_is_told_with_its_moment(store, why):
    """From then on the job is given up."""
    config = whole(deadline="2999-01-01T00:00:00Z") | {"tenant_id": "acme-corp"}
    told = why(submitted(store, config=config))["deadline"]
    assert told.until_at == datetime(2999, 1, 1, tzinfo=UTC)


def test_a_schedule_waits_for_its_instant_and_for_its_last_job(store, why):
    """While that has not ended, a firing is skipped, unless both may train at once."""
    schedule = Schedule(cron="0 2 * * *")
    one = submitted(store, schedule=schedule)
    assert set(why(one)) == {"schedule"}
    assert why(one)["schedule"].until_at is not None
    store.fire(one.job_id, 7)
    assert set(why(one)) == {"schedule", "overlap"}
    other = submitted(store, schedule=msgspec.structs.replace(schedule, overlap="allow"))
    store.fire(other.job_id, 7)
    assert set(why(other)) == {"schedule"}
