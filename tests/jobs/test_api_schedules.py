"""Schedules that come in by the API, on nights that are an hour shorter or longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest

from supervisor.core.job_settings import Jobs
from supervisor.web.app import application
from supervisor.web.service import Service
from testkit.api import TOKENS
from testkit.dispatched import Dispatched

JOBS = "/ai/training/jobs"
JOB = {"tenant_id": "acme-corp", "trainer": "drill", "target": {"steps": 300}}
QUARTER_S = 900.0
DAY = timedelta(days=1)

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""the store makes no difference here"""


class Calendar:
    """A place whose clock is moved, and the API over its store.

    Args:
        place: with a dispatcher that looks when it is told to.
        api: a client.
    """

    def __init__(self, place, api):
        self._place, self._api = place, api

    def hand_in(self, cron, zone="UTC", **more):
        """A job that comes again; its id."""
        body = {**JOB, "schedule": cron, "schedule_timezone": zone, **more}
        answer = self._api.post(JOBS, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["job_id"]

    def look_at(self, moment):
        """The dispatcher looks at that moment."""
        clock = self._place.clock
        clock.set_wall(moment.timestamp())
        self._place.dispatcher.step()

    def fired(self, job_id):
        """Firings, the oldest first."""
        listed = self._api.get(JOBS, params={"parent_id": job_id, "page_size": 200})
        return listed.json()["jobs"][::-1]

    def count(self, job_id):
        """How many have started, and train or wait."""
        asked = {"parent_id": job_id, "status": "PENDING", "page_size": 1}
        return self._api.get(JOBS, params=asked).json()["total"]

    def refused(self, cron, zone):
        """What is answered to one that can never come."""
        body = {**JOB, "schedule": cron, "schedule_timezone": zone}
        answer = self._api.post(JOBS, json=body)
        assert answer.status_code == 422
        assert self._api.get(JOBS).json()["total"] == 0
        return answer.json()

    def end(self, job_id):
        assert self._api.delete(f"{JOBS}/{job_id}").status_code == 200


@pytest.fixture
def calendar(home, url, doors):
    place = Dispatched(home / "box", url)
    place.fall()  # nobody trains: what comes stays, and is counted
    service = Service(place.store, Jobs(), place.home, place.clock, environment=TOKENS)
    app = application(service)
    with doors.behind(app) as address, httpx.Client(base_url=address, timeout=60) as api:
        yield Calendar(place, api)
    place.close()


NIGHTS = [
    ("Europe/Berlin", "30 2 * * *", "2027-03-28", "03:00"),
    ("Europe/Berlin", "30 2 * * *", "2027-10-31", "02:30"),
    ("America/New_York", "30 2 * * *", "2027-03-14", "03:00"),
    ("America/New_York", "30 1 * * *", "2027-11-07", "01:30"),
    ("Australia/Lord_Howe", "15 2 * * *", "2027-10-03", "02:30"),
    ("Australia/Lord_Howe", "45 1 * * *", "2027-04-04", "01:45"),
]
"""zone, schedule, the night in which clocks are set, and when it comes then"""


@pytest.mark.parametrize(("zone", "cron", "night", "first"), NIGHTS)
def test_a_schedule_comes_once_a_night_whatever_clocks_do(calendar, zone, cron, night, first):
    """In the night of the change, and in the next one; by the clock on the wall."""
    here = ZoneInfo(zone)
    changes = datetime.fromisoformat(night).replace(tzinfo=here)
    assert changes.utcoffset() != (changes + DAY).utcoffset()
    job_id = calendar.hand_in(cron, zone, overlap="allow", catch_up="none")
    for midnight in (changes, changes + DAY):
        calendar.look_at(midnight)
        before, came = calendar.count(job_id), []
        for quarter in range(1, 18):
            at = midnight.timestamp() + quarter * QUARTER_S
            calendar.look_at(datetime.fromtimestamp(at, here))
            if calendar.count(job_id) > before + len(came):
                came.append(datetime.fromtimestamp(at, here))
        assert [one.date() for one in came] == [midnight.date()]
        if midnight is changes:
            assert came[0].strftime("%H:%M") == first


def test_sunday_is_0_and_7(calendar):
    """The guide's own schedule, by either number; on no other day."""
    sunday = datetime(2027, 1, 3, 2, tzinfo=UTC)
    for cron in ("0 2 * * 0", "0 2 * * 7"):
        job_id = calendar.hand_in(cron, overlap="allow", catch_up="none")
        calendar.look_at(sunday - timedelta(minutes=1))
        counts = [calendar.count(job_id)]
        for day in range(8):
            calendar.look_at(sunday + day * DAY)
            counts.append(calendar.count(job_id))
        assert counts == [0, 1, 1, 1, 1, 1, 1, 1, 2]
        calendar.end(job_id)


def test_after_a_time_off_the_newest_firing_is_made_up_for_and_the_others_are_told(calendar):
    """Once, however often is looked; each of those that were missed says when it was due."""
    begun = datetime(2027, 5, 1, tzinfo=UTC)
    job_id = calendar.hand_in("0 2 * * *", overlap="allow")
    calendar.look_at(begun)
    before = len(calendar.fired(job_id))
    for minute in range(3):
        calendar.look_at(begun + 5 * DAY + timedelta(minutes=minute))
    *missed, newest = calendar.fired(job_id)[before:]
    assert newest["status"] == "PENDING"
    assert {one["error"]["error"] for one in missed} == {"Conflict"}
    due = [one["error"]["details"]["due"][:10] for one in missed]
    assert due == [f"2027-05-0{day}" for day in range(1, 5)]


def test_while_a_firing_waits_or_trains_the_next_one_is_told_and_does_not_start(calendar):
    """As is the default; once that one has ended the next one starts again."""
    begun = datetime(2027, 6, 1, 0, 30, tzinfo=UTC)
    job_id = calendar.hand_in("30 * * * *", catch_up="none")
    calendar.look_at(begun - timedelta(minutes=10))
    before = len(calendar.fired(job_id))
    for hour in (0, 1):
        calendar.look_at(begun + timedelta(hours=hour))
    first, second = calendar.fired(job_id)[before:]
    assert first["status"] == "PENDING"
    assert (second["status"], second["error"]["error"]) == ("CANCELLED", "Conflict")
    calendar.end(first["job_id"])
    calendar.look_at(begun + timedelta(hours=2))
    assert calendar.fired(job_id)[-1]["status"] == "PENDING"


def test_a_schedule_that_never_comes_is_refused(calendar):
    """With what it must be, and nothing is there of it."""
    for cron, zone, field in (
        ("0 0 30 2 *", "UTC", "schedule"),
        ("0 0 31 4,6,9,11 *", "UTC", "schedule"),
        ("0 25 * * *", "UTC", "schedule"),
        ("@reboot", "UTC", "schedule"),
        ("0 2 * * 0", "Europe/Atlantis", "schedule_timezone"),
    ):
        said = calendar.refused(cron, zone)
        assert said["details"]["field"] == field
        assert said["details"]["error"].startswith("Must be a ")
