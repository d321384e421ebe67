"""Between store and daemon: what is asked gets there, what becomes of it comes back, once."""

from __future__ import annotations

import json

import msgspec
import pytest

from state.jobs.records import Patch
from supervisor.core.recovery import Exit
from supervisor.jobs.asked import RETRY
from supervisor.jobs.at_home import AlreadyDispatching, AtHome
from supervisor.jobs.contract import JobRequest
from supervisor.jobs.reading import read
from testkit.dispatched import BOX, Dispatched, a_job
from testkit.fakes import Plan
from testkit.job_requests import whole
from trainers.contract import EXIT_BAD_SPEC, TRAINERS_DIR

CRASHES = Plan(ends_s=20.0, learns_s=60.0)


@pytest.fixture
def place(home, url):
    place = Dispatched(home / "box", url)
    yield place
    place.close()


def test_a_job_is_trained_and_ends_completed_with_its_metrics(place):
    """From the row to the daemon, and back, with its progress on the way."""
    job_id = place.submit(steps=600)
    job = place.until(job_id, "RUNNING")
    assert (job.became.attempt, job.claim is not None) == (1, True)
    seen = []
    while not (job := place.store.get(job_id)).ended:
        seen.append(job.became.progress)
        place.turn()
    assert job.became.status == "COMPLETED"
    assert job.became.progress == 100.0
    assert job.became.metrics["step"] == 600
    assert seen == sorted(seen)
    assert 0 < max(seen) < 100
    assert place.ends(job_id) == ["COMPLETED"]


def test_a_failure_is_tried_again_after_1_2_and_4_minutes_and_then_it_has_failed(place):
    """Between the attempts a job is PENDING and says when; the last failure is told with it."""
    place.plans["drill"] = CRASHES
    job_id = place.submit()
    waits = {}
    while not (job := place.store.get(job_id)).ended:
        became = job.became
        if became.next_attempt_at is not None:
            assert became.status == "PENDING"
            assert became.error["error"] == "TrainingError"
            left_s = became.next_attempt_at - became.as_of
            waits[became.attempt] = max(waits.get(became.attempt, 0.0), left_s)
        place.turn(after_s=1.0)
    assert [round(waits[attempt], -1) for attempt in (1, 2, 3)] == [60, 120, 240]
    assert (job.became.status, job.became.attempt) == ("FAILED", 4)
    assert job.became.error["details"]["attempts"] == 4
    assert [one.outcome for one in place.store.attempts(job_id)][:3] == ["failed"] * 3
    assert place.ends(job_id) == ["FAILED"]


def late(place):
    """What the log has told of jobs that wait: how often too long, and how often no more."""
    return len(place.lines("jobs.late")), len(place.lines("jobs.eased"))


def test_jobs_that_wait_for_too_long_are_told_once_and_so_is_the_end_of_that(place):
    """In the log of the home, whoever dies meanwhile; not at every look, nor for each of them."""
    place.ask("pause")
    jobs = [place.submit(steps=10) for _ in range(4)]
    place.turn(2, after_s=11 * 3600.0)
    assert late(place) == (0, 0)
    place.dispatch()
    place.turn(2, after_s=2 * 3600.0)
    (line,) = place.lines("jobs.late")
    assert line["reason"].startswith(f"job {jobs[0]} has waited for ")
    place.dispatch()
    place.turn(4, after_s=3600.0)
    assert late(place) == (1, 0)
    place.ask("resume")
    for job_id in jobs:
        place.until(job_id, "COMPLETED")
    place.turn(15)
    assert late(place) == (1, 1)


def test_a_daemon_that_is_away_is_asked_once_to_tell_of_jobs_that_wait(place):
    """What it finds in the inbox when it is back is no pile."""
    place.submit(steps=10)
    place.fall()
    place.turn(20, after_s=2 * 3600.0)
    assert [one.kind for one in place.inbox.pending()[0]] == ["jobs_wait"]
    place.rise()
    place.turn(2)
    assert late(place)[0] == 1


def test_a_home_that_wants_no_jobs_tells_of_none_that_wait(home, url):
    """They are of others."""
    place = Dispatched(home / "box", url, settings=f"{BOX}[jobs]\nenabled = false\n")
    place.submit(steps=10)
    place.turn(4, after_s=10 * 3600.0)
    assert late(place) == (0, 0)
    place.close()


def test_what_can_never_work_fails_at_once(place):
    """Without a retry, be it the trainer that says so, or what looks at the request."""
    place.plans["drill"] = Plan(ends_s=5.0, end=Exit(code=EXIT_BAD_SPEC))
    refused = place.submit()
    unknown = place.submit(config={"trainer": "drill", "options": {"stepss": 1}})
    for job_id in (refused, unknown):
        job = place.until(job_id, "FAILED", turns=12)
        assert job.became.error["error"] == "ConfigValidationError"
    assert job.became.error["details"]["field"] == "options.stepss"


def test_a_crash_of_the_machine_is_no_attempt(place):
    """The job goes on from its checkpoint, and is where it was."""
    job_id = place.submit(steps=3000)
    place.until(job_id, "RUNNING")
    place.turn(30)
    place.host.power_off()
    place.clock.reboot(off_s=300.0)
    place.begin()
    job = place.until(job_id, "COMPLETED")
    assert job.became.attempt == 1
    assert place.ends(job_id) == ["COMPLETED"]


def test_who_goes_before_costs_no_attempt(home, url):
    """A job of a higher class gets the slot; the other one is PENDING, and goes on later."""
    place = Dispatched(home / "box", url, settings=f"{BOX}[jobs]\nmin_run_s = 0\n")
    first = [place.submit(steps=5000), place.submit(steps=5000)]
    for job_id in first:
        place.until(job_id, "RUNNING")
    place.turn(10)
    second = place.submit(steps=300, priority="critical")
    place.until(second, "RUNNING")
    statuses = [place.store.get(job_id).became.status for job_id in first]
    assert sorted(statuses) == ["PENDING", "RUNNING"]
    place.until(second, "COMPLETED")
    for job_id in first:
        job = place.until(job_id, "COMPLETED")
        assert (job.became.attempt, place.ends(job_id)) == (1, ["COMPLETED"])
    place.close()


WEIGHTS = {"big": 3.0, "flooder": 1.0, "small": 1.0}
TENANTS = "".join(f"[jobs.tenants.{name}]\nweight = {it}\n" for name, it in WEIGHTS.items())


def test_tenants_get_their_shares_of_the_time_that_is_trained(home, url):
    """By weight, within 5 %, of jobs that last for seconds, though one sends all of its at once."""
    place = Dispatched(home / "box", url, settings=f"{BOX}{TENANTS}")
    for _ in range(40):
        place.submit(tenant="flooder", steps=100)

    def count(status):
        return {one.tenant_id: one.jobs.get(status, 0) for one in place.store.tenants()}

    while sum(count("COMPLETED").values()) < 60:
        for name in ("big", "small"):
            for _ in range(6 - count("PENDING").get(name, 0)):
                place.submit(tenant=name, steps=100)
        place.turn(4)
    used_s = {one.tenant_id: sum(it for _, it in one.hours) for one in place.store.tenants()}
    total_s, parts = sum(used_s.values()), sum(WEIGHTS.values())
    for name, weight in WEIGHTS.items():
        assert used_s[name] / total_s == pytest.approx(weight / parts, abs=0.05), used_s
    place.close()


def test_who_loses_its_slot_loses_what_it_has_not_saved_and_no_more(home, url):
    """It has `min_run_s` first, saves when it is asked to leave, and goes on from there."""
    place = Dispatched(home / "box", url, settings=f"{BOX}[jobs]\nmin_run_s = 120\n")
    low = [place.submit(steps=6000, priority="low") for _ in range(8)]
    while len(first := [it for it in low if place.store.get(it).became.status == "RUNNING"]) < 2:
        place.turn()  # whichever of them: they were asked for in the same moment
    critical = place.submit(steps=300, priority="critical")
    place.turn(10)
    assert place.store.get(critical).became.status == "PENDING"
    place.until(critical, "RUNNING")
    (lost,) = [it for it in first if place.store.get(it).became.status == "PENDING"]
    saved = place.host.folders[lost].step
    assert saved >= 120 * 9  # ten a second
    place.until(critical, "COMPLETED")
    place.until(lost, "RUNNING")
    assert (
        next(it for it in place.daemon.memory.runs if it.id == lost).attempt.started_step == saved
    )
    job = place.until(lost, "COMPLETED")
    assert (job.became.attempt, place.ends(lost)) == (1, ["COMPLETED"])
    place.close()


def test_priority_and_pause_reach_a_run_that_is_there_already(place):
    """Each by an amendment; the daemon itself does what follows."""
    job_id = place.submit(steps=100_000)
    place.until(job_id, "RUNNING")
    place.store.patch(job_id, Patch(priority="critical"))
    place.turn(2)
    assert place.run().asked.rank == "critical"
    place.store.patch(job_id, Patch(priority="low"))
    place.turn(2)
    assert place.run().asked.rank == "low"
    place.store.patch(job_id, Patch(paused=True))
    place.until(job_id, "PENDING")
    assert place.training() == []
    place.store.patch(job_id, Patch(paused=False))
    place.until(job_id, "RUNNING")


def test_a_job_that_is_cancelled_ends_once_it_has_saved_and_stopped(place):
    """And one that nobody has begun yet ends at once."""
    job_id = place.submit(steps=100_000)
    place.until(job_id, "RUNNING")
    place.turn(5)
    waits = [place.submit() for _ in range(10)]
    assert place.store.cancel(waits[-1]).became.status == "CANCELLED"
    assert place.store.cancel(job_id).became.status == "RUNNING"
    place.until(job_id, "CANCELLED", turns=6)
    assert place.host.folders[job_id].step > 0
    assert place.ends(job_id) == ["CANCELLED"]


def test_a_job_that_is_retried_has_its_attempts_again_and_goes_on(place):
    """A new claim, with what was saved under the old one."""
    place.plans["drill"] = CRASHES
    job_id = place.submit(max_attempts=1)
    old = place.until(job_id, "FAILED")
    place.plans.clear()
    place.store.retry(job_id)
    job = place.until(job_id, "COMPLETED")
    assert job.claim.token != old.claim.token
    assert job.became.attempt == 1
    assert place.ends(job_id) == ["FAILED", "COMPLETED"]


def test_the_queue_of_the_daemon_stays_short(place):
    """A few more than it has slots: whose turn it is is decided as late as can be."""
    jobs = [place.submit(tenant=f"tenant-{number % 2}", steps=100_000) for number in range(20)]
    place.turn(4)
    claimed = [job for job in map(place.store.get, jobs) if job.claim is not None]
    assert len(claimed) == len(place.queue()) == 4
    assert {job.asked.tenant_id for job in claimed} == {"tenant-0", "tenant-1"}


def test_a_quota_holds_back_what_is_over_it(home, url):
    """Others get what one may not have."""
    quota = "[jobs.tenants.tenant-0]\nconcurrent = 1\n"
    place = Dispatched(home / "box", url, settings=BOX + quota)
    for number in range(6):
        place.submit(tenant=f"tenant-{number % 2}", steps=100_000)
    place.turn(4)
    jobs = place.store.claimed(place.daemon.memory.home.id)
    assert sorted(job.asked.tenant_id for job in jobs) == ["tenant-0", *3 * ["tenant-1"]]
    place.close()


@pytest.mark.parametrize("setting", ["enabled = false", "min_free_gib = 1000000"])
def test_where_no_job_is_to_be_trained_they_wait(home, url, setting):
    """Not taken in here, or with too little room on the disk: they fail in no case."""
    place = Dispatched(home / "box", url, settings=f"{BOX}[jobs]\n{setting}\n")
    job_id = place.submit()
    place.turn(5)
    job = place.store.get(job_id)
    assert (job.became.status, job.claim) == ("PENDING", None)
    place.close()


def test_jobs_wait_while_the_disk_has_too_little_room(home, url, monkeypatch):
    """They are taken once there is more; both are said once, with numbers."""
    place = Dispatched(home / "box", url, settings=f"{BOX}[jobs]\nmin_free_gib = 2\n")
    free_gib = [1.5]
    monkeypatch.setattr(AtHome, "free_bytes", property(lambda _: free_gib[0] * 2**30))
    job_id = place.submit()
    place.turn(5)
    assert place.store.get(job_id).claim is None
    free_gib[0] = 2.5
    place.until(job_id, "COMPLETED")
    (short, enough) = [line for line in place.said if "min_free_gib" in line]
    assert short.startswith("1.50 GiB of the disk are free, and min_free_gib is 2: jobs wait")
    assert enough.startswith("2.50 GiB")
    place.close()


def test_without_a_daemon_no_job_is_taken(place):
    """A machine on which nothing trains must not keep a job from all others."""
    place.fall()
    job_id = place.submit()
    place.turn(5)
    assert place.store.get(job_id).claim is None
    place.rise()
    place.until(job_id, "COMPLETED")


def test_a_daemon_that_is_away_loses_no_job_that_it_has(place):
    """What is asked waits in the inbox, and is asked once."""
    job_id = place.submit(steps=100_000)
    place.until(job_id, "RUNNING")
    place.fall()
    place.store.cancel(job_id)
    place.turn(30)
    assert len(list(place.home.inbox.glob("*.json"))) == 1
    assert place.store.get(job_id).became.status == "RUNNING"
    place.rise()
    place.until(job_id, "CANCELLED")


@pytest.mark.parametrize("beside", [False, True])
def test_settings_that_are_refused_are_told_once(place, beside):
    """By the API where one is beside it; what was good before stays in force."""
    place.dispatch(beside=beside)
    job_id = place.submit()
    place.home.settings.write_text(f"{BOX}[jobs]\nenabled = 'never'\n")
    place.turn(5)
    told = [line for line in place.said if "the settings of before stay in force" in line]
    assert len(told) == (0 if beside else 1)
    assert all("enabled" in line for line in told)
    assert place.store.get(job_id).claim is not None


def test_a_home_has_one_dispatcher(place):
    """A second one ends with one line, and whoever comes after the first has ended is alone."""
    first = AtHome(place.home).hold()
    with pytest.raises(AlreadyDispatching, match="one is enough"):
        AtHome(place.home).hold()
    first.release()
    AtHome(place.home).hold().release()


def test_who_has_waited_for_long_in_the_daemon_rises_by_a_class(place):
    """A third of the longest wait makes one class, as before a job is submitted."""
    for _ in range(2):
        place.submit(steps=10_000_000, priority="critical")
    place.turn(3)
    low = place.submit(priority="low")
    place.turn(3)
    assert {run.asked.rank for run in place.daemon.memory.runs} == {"critical", "low"}
    ranks = []
    for _ in range(3):
        place.clock.advance(8 * 3600)
        place.turn(2)
        ranks += [run.asked.rank for run in place.daemon.memory.runs if run.id == low]
    assert ranks == ["normal", "high", "critical"]
    assert place.store.get(low).asked.priority == "low"


def test_a_job_that_is_too_large_for_a_request_says_so(place):
    """It fails instead of being asked for ever."""
    job_id = place.submit(
        config={"trainer": "command", "options": {"command": ["true", "x" * 100_000]}}
    )
    place.turn(3)
    job = place.store.get(job_id)
    assert job.became.status == "FAILED"
    assert a_job().tenant_id == job.asked.tenant_id


def test_a_trainer_of_the_users_own_is_found_where_the_settings_say(home, url, monkeypatch):
    """By whoever may have programs started; the same job of anybody else fails at once."""
    monkeypatch.setenv(TRAINERS_DIR, "/of/somebody/else")
    mine = "[jobs.tenants.trusted]\nprograms = true\n"
    (home / "mine").mkdir()
    (home / "mine" / "counts.py").write_text("def train(session):\n    pass\n")
    settings = f'trainers_dir = "{home}/mine"\n{BOX}{mine}'
    place = Dispatched(home / "box", url, settings=settings)
    config = {"trainer": "counts", "target": {"steps": 100}}
    trusted, other = (place.submit(tenant=who, config=config) for who in ("trusted", "other"))
    assert place.until(other, "FAILED").became.error["error"] == "Forbidden"
    place.until(trusted, "COMPLETED")
    place.close()


def test_four_homes_share_one_store(home, url):
    """Each job is trained by one of them, and each of them has some."""
    places = [Dispatched(home / f"box-{number}", url) for number in range(4)]
    jobs = [places[0].submit(tenant=f"tenant-{number % 3}", steps=500) for number in range(24)]
    store = places[0].store
    for _ in range(200):
        for place in places:
            place.turn()
        if all(store.get(job_id).ended for job_id in jobs):
            break
    assert [places[0].ends(job_id) for job_id in jobs] == [["COMPLETED"]] * 24
    assert len({store.get(job_id).claim.home for job_id in jobs}) == 4
    assert all(len(store.attempts(job_id)) == 1 for job_id in jobs)
    for place in places:
        place.close()


def test_what_the_api_has_kept_of_a_request_is_what_the_daemon_is_asked_for(place):
    """The whole body, read again where it is trained: its table lies in that home."""
    request = read(json.dumps(whole()).encode(), JobRequest)
    job_id = place.submit(
        tenant=request.tenant_id, config=msgspec.to_builtins(request), model_type=request.kind
    )
    place.until(job_id, "RUNNING")
    asked = place.run().asked
    assert (asked.trainer, asked.tenant, asked.rank) == ("tabular", request.tenant_id, "normal")
    assert asked.options["data"].startswith(f"{place.home.path}/tables/{request.tenant_id}/")
    assert asked.labels["algorithm"] == request.config.learns
    assert asked.retry == RETRY
