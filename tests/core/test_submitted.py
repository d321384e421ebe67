"""Runs that no settings name: they join, change, wait, leave and end as is asked of them."""

import math

import pytest

from state.archive import Archive
from state.records import Retry
from state.store import Store
from supervisor import screen
from supervisor.ask import ask
from supervisor.config import Config
from supervisor.core.recovery import Exit
from supervisor.core.submitted import SUBMITTED_MAX
from supervisor.host.clock import SystemClock
from supervisor.report import report
from testkit.fakes import Plan
from testkit.place import Place, a_job, but
from trainers.contract import EXIT_BAD_SPEC

BOX = '[campaign]\nruns = []\ntrainer = "drill"\n'
CAMPAIGN = '[campaign]\ntrainer = "drill"\ntarget.steps = 1000000\nruns = ["A"]\n'
ANOTHER = "another token"
CRASHES = Plan(ends_s=20.0)
KILLED = Plan(ends_s=20.0, end=Exit(signal=9))
UNSEEN = Plan(ends_s=20.0, end=Exit())


@pytest.fixture
def box(tmp_path):
    """A home that trains nothing but what is submitted, one run at a time."""
    return Place(tmp_path, BOX)


@pytest.fixture
def place(tmp_path):
    """A home whose campaign has one long run."""
    place = Place(tmp_path, CAMPAIGN)
    place.ask("pin", mode="light")
    return place


# Joining


def test_what_is_submitted_trains_where_no_settings_name_anything(box):
    """It starts at the next look after the request; nobody has to have heard of it before."""
    assert box.training() == []
    answer = box.ask("submit", asked=a_job())
    assert (answer.refused, "submit job-job" in answer.reason) == (False, True)
    box.look()
    assert box.training() == ["job"]


def test_an_empty_campaign_is_never_done(box):
    """It is a place for jobs, which waits for the next one; the end of a job is not the end."""
    box.ask("submit", asked=a_job(steps=100))
    box.settle()
    assert box.run("job").status == "done"
    assert not box.daemon.memory.resting
    assert box.lines("campaign.done") == []


def test_a_campaign_is_done_once_what_was_submitted_has_ended_too(tmp_path):
    """Whoever waits until all is done waits for the jobs as well, and hears of both."""
    place = Place(tmp_path, CAMPAIGN.replace("1000000", "100"))
    place.ask("submit", asked=a_job(steps=3000))
    place.settle(6)
    assert place.run("A").status == "done"
    assert not place.daemon.memory.resting
    place.settle(100)
    assert place.daemon.memory.resting
    (line,) = place.lines("campaign.done")
    assert line["reason"].startswith("2 of 2 runs have reached their target")


@pytest.mark.parametrize(
    ("settings", "runs", "words"), [(CAMPAIGN, 1, "0 of 1 done"), (BOX, 0, "no runs")]
)
def test_the_count_of_the_campaign_is_without_jobs(tmp_path, settings, runs, words):
    """Neither one that is done and gone nor one that trains is one of its runs."""
    place = Place(tmp_path, settings)
    place.ask("submit", asked=a_job(steps=100))
    place.settle(30)
    place.ask("submit", asked=a_job("other"))
    place.look()
    found = report(place.home, Config(place.home.settings), place.clock.read())
    told = {run.id: run.status for run in found.runs}
    assert (told["job-job"], "job-other" in told) == ("done", True)
    assert (found.campaign.runs, found.campaign.done) == (runs, 0)
    assert words in screen.state(found)


def test_what_is_asked_twice_with_one_token_is_one_run(box):
    """A request may be repeated, since its answer may have been lost; even long after the end."""
    for _ in range(2):
        assert not box.ask("submit", asked=a_job(steps=100)).refused
    assert box.queue() == ["job"]
    box.settle(20)
    assert box.queue() == []
    again = box.ask("submit", asked=a_job(steps=100))
    assert (again.refused, "known already: done" in again.reason) == (False, True)
    box.settle()
    assert box.queue() == []
    assert len(box.lines("run.started")) == 1


def test_a_second_claim_waits_until_the_first_is_over(box):
    """Another token is another claim; a run that has ended goes on from where it was saved."""
    box.ask("submit", asked=a_job(steps=100))
    second = a_job(steps=5000, token=ANOTHER)
    assert "with another token" in box.ask("submit", asked=second).reason
    box.settle(20)
    answer = box.ask("submit", asked=second)
    assert (answer.refused, "from step 100" in answer.reason) == (False, True)
    box.settle(8)
    assert box.run("job").progress.step > 100
    assert [line["evidence"]["step"] for line in box.lines("run.started")] == [0, 100]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (a_job(id="no id"), "can never train"),
        (a_job(seed=-1), "can never train"),
        (a_job(name="a/b"), "can never train"),
        (a_job(name="a\x1b[2J"), "can never train"),
        (a_job(trainer="../drill"), "can never train"),
        (a_job(steps=10**400), "no target is beyond"),
        (a_job(silent_max_s=-1.0), "silent_max_s"),
        (a_job(silent_max_s=1e300), "silent_max_s"),
        (a_job(id="drill-A"), "is a run of the campaign"),
    ],
)
def test_what_no_trainer_could_be_asked_for_is_refused_at_once(place, asked, why):
    """Not after an hour in the queue."""
    answer = place.ask("submit", asked=asked)
    assert answer.refused
    assert why in answer.reason
    assert place.queue() == ["A"]


def test_the_queue_of_what_was_submitted_has_an_end(box):
    """Whoever floods it is told so; what is in it trains."""
    for at in range(SUBMITTED_MAX + 1):
        box.clock.advance(0.001)
        box.put("submit", asked=a_job(f"j{at}"))
    box.settle(8)
    assert len(box.queue()) == SUBMITTED_MAX
    refused = box.lines("request.refused")
    assert len(refused) == 1
    assert "try again when some have ended" in refused[0]["reason"]


def test_submitted_runs_outlive_what_is_forgotten_and_edited(place):
    """A reset forgets the machine's history and an edit the campaign's runs; jobs are neither."""
    place.ask("submit", asked=a_job())
    place.ask("reset")
    assert place.queue() == ["A", "job"]
    place.home.settings.write_text(CAMPAIGN.replace('"A"', '"B", "C"'))
    place.settle(4)
    assert place.queue() == ["B", "C", "job"]


def test_a_job_that_waits_after_a_death_does_not_wait_for_the_time_before_a_reset(box):
    """The timeline begins anew, and a moment on the old one would be hours away."""
    box.plans["job"] = None  # no more processes
    box.settle(60, 60.0)
    box.ask("submit", asked=a_job())
    while box.run("job").status != "waiting":
        box.look(0.3)
    box.ask("reset")
    del box.plans["job"]
    box.settle(4)
    assert box.run("job").status == "running"
    assert box.run("job").faults.own_failures == 0


# Changing


def test_an_amendment_replaces_what_is_asked_as_a_whole(box):
    """A further target takes effect at once: saved, stopped, and on from there."""
    box.ask("submit", asked=a_job(labels={"for": "ada"}))
    box.settle(4)
    assert not box.ask("amend", asked=a_job(steps=500, revision=1)).refused
    box.settle(30)
    run = box.run("job")
    assert (run.asked.target.count, run.asked.labels, run.asked.revision) == (500, {}, 1)
    assert run.status == "done"


def test_an_amendment_keeps_the_place_in_the_queue(box):
    """Who has waited longest is next, whatever was changed about it."""
    for name in ("one", "two", "three"):
        box.ask("submit", asked=a_job(name))
    box.ask("amend", asked=a_job("two", revision=1, labels={"new": "yes"}))
    assert box.queue() == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (a_job(steps=7, revision=2), "has revision 2 already"),
        (a_job(revision=1), "has revision 2 already"),
        (a_job(revision=3, trainer="atari"), "keeps its trainer"),
        (a_job(revision=3, place="moon"), "keeps its place"),
        (a_job(revision=3, token=ANOTHER), "with another token"),
        (a_job(revision=3, seed=-1), "could never train"),
        (a_job("nobody", revision=1), "there is no run"),
        (but(a_job(revision=1), id="drill-A"), "comes from the settings"),
    ],
)
def test_an_amendment_that_makes_no_sense_changes_nothing(place, asked, why):
    """Each refusal says what is in its way."""
    place.ask("submit", asked=a_job())
    place.ask("amend", asked=a_job(revision=2))
    before = place.run("job")
    answer = place.ask("amend", asked=asked)
    assert answer.refused
    assert why in answer.reason
    assert place.run("job").asked == before.asked


def test_what_became_of_a_run_never_edits_what_was_asked(box):
    """Whatever it lives through, the origin finds what it has asked for."""
    asked = a_job(steps=2000)
    box.plans["job"] = CRASHES
    box.ask("submit", asked=asked)
    box.settle(60, after_s=30.0)
    assert box.run("job").asked == asked


# Waiting


def test_a_suspended_run_is_saved_and_waits(box):
    """Its slot goes to the next; once it is wanted again it goes on from there."""
    box.ask("submit", asked=a_job())
    box.ask("submit", asked=a_job("next"))
    box.settle(4)
    assert "job" in box.training()
    box.ask("amend", asked=a_job(revision=1, suspended=True))
    box.settle(4)
    assert box.run("job").status == "queued"
    assert box.training() == ["next"]
    saved = box.host.folders["job-job"].step
    assert saved > 0
    box.ask("cancel", run="job-next")
    box.ask("amend", asked=a_job(revision=2))
    box.settle(4)
    assert box.training() == ["job"]
    assert box.run("job").progress.step >= saved


def test_a_run_waits_until_its_time(box):
    """The supervisor wakes at that moment, without anything else happening."""
    due_s = 200.0
    at = box.clock.read().wall + due_s
    box.ask("submit", asked=a_job(not_before_at=at))
    wait_s = box.look(0.0)
    assert box.training() == []
    assert wait_s <= due_s
    box.look(wait_s + 0.01)
    box.look(0.1)
    assert box.training() == ["job"]


def test_who_loses_its_slot_hears_to_whom(place):
    """The line that tells the stop names who ranks above it, or whose request it was."""
    place.ask("submit", asked=a_job(rank="high"))
    place.ask("submit", asked=a_job("other", rank="normal"))
    place.settle(4)
    (line,) = place.lines("run.stopped", "drill-A")
    assert line["reason"] == "stopped: the slots are with job, other, of which 2 rank above low"
    place.ask("amend", asked=a_job(rank="high", revision=1, suspended=True))
    place.settle(4)
    (line,) = place.lines("run.stopped", "job-job")
    assert "wants it to stop" in line["reason"]
    place.ask("pause")
    place.settle(4)
    assert place.lines("run.stopped", "drill-A")[-1]["reason"].endswith("paused by a person")


# Leaving and ending


@pytest.mark.parametrize("kind", ["withdraw", "cancel"])
@pytest.mark.parametrize("lives", [True, False])
def test_who_submitted_a_run_may_end_it(box, kind, lives):
    """Saved where it lives; it has left the queue then, and the archive tells how."""
    box.ask("submit", asked=a_job())
    box.settle(4)
    if not lives:
        box.ask("pause")
        box.settle(4)
    assert not box.ask(kind, run="job-job", token=a_job().token).refused
    box.settle(4)
    assert box.queue() == box.training() == []
    left = Archive(box.home.state.with_name("archive.jsonl")).find()["job-job"]
    ended = {"withdraw": ("queued", True), "cancel": ("cancelled", False)}
    assert (left.run.status, left.run.withdrawn) == ended[kind]
    assert box.host.folders["job-job"].step > 0
    events = [line["event"] for line in box.lines("run.cancelled")]
    assert len(events) == (kind == "cancel")


def test_a_run_that_dies_is_ended_as_it_was_asked(box):
    """It crashes while it is asked to save: that is no reason to start it again."""
    box.plans["job"] = Plan(stops_s=math.inf, workers=1)
    box.ask("submit", asked=a_job())
    box.settle(2)
    box.ask("cancel", run="job-job")
    box.settle(60, after_s=10.0)
    assert box.run("job").status == "cancelled"
    assert box.host.processes() == []
    assert len(box.lines("run.started")) == 1


def test_cancelling_is_asked_for_twice_without_harm_and_too_late_in_vain(box):
    """What has ended otherwise stays so."""
    box.ask("submit", asked=a_job())
    box.ask("cancel", run="job-job")
    box.settle(4)
    assert "cancelled already" in box.ask("cancel", run="job-job").reason
    box.ask("submit", asked=a_job("short", steps=100))
    box.settle(20)
    assert "left the queue: done" in box.ask("cancel", run="job-short").reason


@pytest.mark.parametrize("kind", ["withdraw", "cancel"])
def test_nobody_ends_what_is_not_his(place, kind):
    """The campaign is the settings' alone, and a stranger's token fits no run."""
    place.ask("submit", asked=a_job())
    assert "comes from the settings" in place.ask(kind, run="drill-A").reason
    assert "another token" in place.ask(kind, run="job-job", token=ANOTHER).reason
    assert "there is no run" in place.ask(kind, run="job-x").reason
    assert place.queue() == ["A", "job"]


def test_a_withdrawn_run_comes_back_with_a_new_token_alone(box):
    """A late copy of an old request does not bring back what was taken away."""
    box.ask("submit", asked=a_job())
    box.ask("withdraw", run="job-job")
    box.settle(4)
    assert "was withdrawn" in box.ask("submit", asked=a_job()).reason
    assert not box.ask("submit", asked=a_job(token=ANOTHER)).refused
    assert box.queue() == ["job"]


# Giving up


def test_retries_are_counted_and_spaced(box):
    """Three more tries after 60, 120 and 240 s, and then it has failed, and says why."""
    box.plans["job"] = CRASHES
    box.ask("submit", asked=a_job(retry=Retry()))
    box.settle(200)
    run = box.run("job")
    assert run.status == "failed"
    assert run.reason.endswith("it has failed 4 times in a row")
    waits = [line["reason"].rpartition(" in ")[2] for line in box.lines("run.died")]
    assert waits == ["60 s", "2 min", "4 min"]
    assert len(box.lines("run.started")) == 4
    (line,) = box.lines("run.failed")
    assert line["rule"] == "give_up"


@pytest.mark.parametrize("plan", [KILLED, UNSEEN])
def test_what_is_nobodys_fault_uses_up_no_retry(box, plan):
    """Kills from outside, ends that nobody saw, a crash of the machine and a pause may come as
    often as they like.
    """
    box.plans["job"] = plan
    box.ask("submit", asked=a_job(retry=Retry(retries=0)))
    box.settle(60)
    box.host.power_off()
    box.clock.reboot()
    box.begin()
    box.ask("pause")
    box.ask("resume")
    box.settle(60, after_s=60.0)
    assert len(box.lines("run.started")) > 3
    assert box.run("job").status in ("running", "waiting")
    assert box.run("job").faults.own_failures == 0


def test_training_that_lasts_and_is_saved_starts_the_count_afresh(box):
    """A run that fails once an hour is no hopeless one."""
    box.plans["job"] = Plan(ends_s=3600.0)
    box.ask("submit", asked=a_job(steps=10**9, retry=Retry(retries=1)))
    box.settle(500, after_s=60.0)
    assert len(box.lines("run.died")) > 4
    assert box.run("job").status in ("running", "waiting")


def test_training_that_saves_nothing_does_not(box):
    """It lives for an hour and leaves nothing: it would be tried for ever."""
    box.plans["job"] = Plan(learns_s=3580.0, ends_s=3590.0)
    box.ask("submit", asked=a_job(retry=Retry(retries=1), silent_max_s=9000.0))
    box.settle(400, after_s=60.0)
    assert (box.run("job").status, box.run("job").failed_by) == ("failed", "retries")
    assert len(box.lines("run.started")) == 2


def test_a_run_without_retries_of_its_own_is_tried_for_ever(box):
    """With rests: others get its slot meanwhile."""
    box.plans["job"] = CRASHES
    box.ask("submit", asked=a_job())
    box.settle(400, after_s=60.0)
    assert box.run("job").status in ("running", "waiting", "quarantined", "queued")
    assert len(box.lines("run.started")) > 10


@pytest.mark.parametrize("lives", [True, False])
def test_a_run_is_given_up_at_its_deadline(box, lives):
    """Saved first; the supervisor wakes for it, also where it only waits."""
    at = box.clock.read().wall + 100.0
    box.ask("submit", asked=a_job(deadline_at=at))
    box.settle(4)
    if not lives:
        box.ask("pause")
        box.settle(4)
    for _ in range(40):
        box.look(min(box.look(0.0), box.host.next_end_s()) + 0.01)
        if box.run("job").status == "failed":
            break
    assert box.clock.read().wall < at + 30
    assert "deadline" in box.run("job").reason
    assert box.run("job").failed_by == "deadline"
    assert box.host.folders["job-job"].step > 0


def test_a_run_trains_for_no_longer_than_it_may(box):
    """Counted over all attempts, and only while it trains."""
    box.plans["job"] = Plan(ends_s=200.0, end=Exit(signal=9))
    box.ask("submit", asked=a_job(max_s=300.0))
    box.settle(200)
    run = box.run("job")
    assert (run.status, "may for no longer" in run.reason) == ("failed", True)
    assert run.failed_by == "max_s"
    assert 2900 <= run.progress.step <= 3300  # ten a second
    assert len(box.lines("run.started")) > 1


def test_a_failed_job_is_tried_again_when_somebody_asks(box):
    """Also from the archive, with its deaths forgotten."""
    box.plans["job"] = Plan(ends_s=1.0, end=Exit(code=EXIT_BAD_SPEC))
    box.ask("submit", asked=a_job(retry=Retry()))
    box.settle(4)
    assert (box.run("job").status, box.queue()) == ("failed", [])
    assert box.run("job").failed_by == "bad_spec"
    box.plans.clear()
    assert not box.ask("retry", run="job-job").refused
    box.settle(2)
    assert box.training() == ["job"]
    assert box.run("job").failed_by is None


# The archive


def test_what_leaves_the_queue_survives_a_power_cut(box):
    """It is saved with the queue that it has left, and written down at the next start."""
    box.ask("submit", asked=a_job(steps=100))
    box.settle(20)
    archive = box.home.state.with_name("archive.jsonl")
    (left,) = Archive(archive).find().values()
    saved = Store(box.home.state).load()[0]
    Store(box.home.state).save(type(saved)(**_fields(saved) | {"left": (left,)}))
    archive.unlink()
    box.begin()
    assert Archive(archive).find() == {"job-job": left}


def _fields(memory):
    return {name: getattr(memory, name) for name in memory.__struct_fields__}


def test_nothing_is_submitted_while_nobody_can_tell_what_has_ended(box):
    """A job that has ended must not begin anew because a disk cannot be read."""
    box.ask("submit", asked=a_job(steps=100))
    box.settle(20)
    archive = box.home.state.with_name("archive.jsonl")
    archive.rename(archive.with_name("away"))
    archive.symlink_to("away")
    answer = box.ask("submit", asked=a_job(steps=100))
    assert (answer.refused, "cannot be read" in answer.reason) == (True, True)
    assert box.queue() == []


def test_a_campaign_that_is_edited_does_not_begin_anew_what_has_ended(tmp_path):
    """The settings name it still: it is looked up, and stays at its end."""
    place = Place(tmp_path, CAMPAIGN.replace("1000000", "100"))
    place.settle(20)
    assert (place.run("A").status, place.queue()) == ("done", [])
    place.home.settings.write_text(CAMPAIGN.replace("1000000", "100").replace('"A"', '"A", "B"'))
    place.settle(20)
    assert len(place.lines("run.started", "drill-A")) == 1
    assert place.lines("campaign.done")[-1]["reason"].startswith("2 of 2 runs")
    place.home.settings.write_text(CAMPAIGN.replace("1000000", "200").replace('"A"', '"A", "B"'))
    place.settle(2)
    assert place.queue() == ["A", "B"]


def test_a_refusal_is_foreseen_while_nothing_runs(box):
    """Also where it follows from what has left the queue long ago."""
    box.ask("submit", asked=a_job(steps=100))
    box.settle(20)
    while not box.daemon.leave():
        box.clock.advance(1.0)
    moment = SystemClock().read()
    outcome = ask(box.home, box.daemon._config, moment, "cancel", by="ada", run="job-job")
    assert (outcome.refused, "has left the queue: done" in outcome.reason) == (True, True)
