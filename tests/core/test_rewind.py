"""A run goes on from where a person wants it to, whatever it was at."""

import pytest

from supervisor.core import queue
from supervisor.core.goodput import measure
from supervisor.core.recovery import Exit
from supervisor.journal import read
from testkit.builders import a_run
from testkit.fakes import Plan
from testkit.place import Place, a_job
from trainers.contract import EXIT_BAD_SPEC, START, Rewind

SETTINGS = '[campaign]\ntrainer = "drill"\ntarget.steps = 2000\nruns = ["A", "B"]\n'
FAILS = Plan(ends_s=1.0, end=Exit(code=EXIT_BAD_SPEC))
BACK = Rewind(id="1", checkpoint="300")


@pytest.fixture
def place(tmp_path):
    """A home whose runs train."""
    place = Place(tmp_path, SETTINGS)
    place.settle(looks=14)
    assert place.run("A").progress.step > 400
    return place


def until(place, condition, looks=100):
    """Look, and look again until it holds."""
    for _ in range(looks):
        place.look(1.0)
        if condition():
            return
    raise AssertionError(place.run("A"))


def test_a_run_that_trains_is_saved_first_and_begins_there(place):
    """It is stopped, not killed; what it has made by then is kept; the other trains on."""
    answer = place.ask("rewind", run="drill-A", checkpoint="300")
    assert not answer.refused
    said = "asked: rewind A to checkpoint 300 (running); it is saved and stopped before"
    assert answer.reason.endswith(said)
    until(place, lambda: place.run("A").status == "running" and place.run("A").rewind is None)
    (stopped,) = place.lines("run.stopped", "drill-A")
    assert stopped["reason"] == "stopped: it shall go on from checkpoint 300"
    started = place.lines("run.started", "drill-A")[-1]
    assert started["reason"] == "in light, from step 300"
    assert 300 <= place.run("A").progress.step < 500
    assert len(place.lines("run.started", "drill-B")) == 1
    until(place, lambda: place.run("A").status == "done", looks=300)
    assert len(place.lines("run.started", "drill-A")) == 2


def test_a_run_that_is_done_is_in_the_queue_again(place):
    """From the archive, where that is where it is; an answer of the log tells who wanted it."""
    until(place, lambda: "A" not in place.queue(), looks=300)
    place.ask("rewind", run="drill-A", checkpoint=START)
    until(place, lambda: place.run("A").status == "running")
    assert place.lines("run.started", "drill-A")[-1]["reason"].endswith("from step 0")
    (granted,) = place.lines("request.granted", "drill-A")
    assert granted["reason"].endswith("asked: rewind A to its start (done)")
    assert granted["evidence"]["kind"] == "rewind"


def test_a_run_that_reaches_its_target_while_it_is_stopped_goes_back_all_the_same(place):
    """Its end was on the way that it is not to go on."""
    until(place, lambda: place.run("A").progress.step > 1985, looks=300)
    place.ask("rewind", run="drill-A", checkpoint="300")
    until(place, lambda: place.run("A").status == "running" and place.run("A").rewind is None)
    assert 300 <= place.run("A").progress.step < 500


def test_one_that_dies_instead_goes_back_at_its_next_start(place):
    """Whatever ends it."""
    place.put("rewind", run="drill-A", checkpoint="300")
    (trainer,) = [process for process in place.host.mains() if process.spec.name == "A"]
    trainer.killed_s = 0.0
    until(place, lambda: place.run("A").status == "running" and place.run("A").rewind is None)
    assert 300 <= place.run("A").progress.step < 500


def test_a_run_that_has_failed_is_tried_from_there(tmp_path):
    """As with a retry, its deaths are forgotten."""
    place = Place(tmp_path, SETTINGS, {"A": FAILS})
    place.look()
    place.plans.clear()
    place.ask("rewind", run="drill-A", checkpoint="300")
    until(place, lambda: place.run("A").progress.step > 300)


@pytest.mark.parametrize("restart", [False, True])
def test_it_is_asked_for_until_an_attempt_is_known_to_have_begun_there(place, restart):
    """The power fails before, at the start, or after it: it is done once."""
    place.put("rewind", run="drill-A", checkpoint="300")
    if restart:
        place.look()
    place.host.power_off()
    place.clock.reboot(off_s=30.0)
    place.begin()
    until(place, lambda: place.run("A").status == "running" and place.run("A").rewind is None)
    assert 300 <= place.run("A").progress.step < 500
    place.settle(looks=20)
    place.host.power_off()
    place.clock.reboot(off_s=30.0)
    place.begin()
    until(place, lambda: place.run("A").progress.step > 400)
    assert place.lines("run.started", "drill-A")[-1]["evidence"]["step"] > 300


def test_the_same_work_is_booked_again(place):
    """It takes the same time again; a death further back is one on another way."""
    place.put("rewind", run="drill-A", checkpoint="300")
    until(place, lambda: place.run("A").status == "running" and place.run("A").rewind is None)
    until(place, lambda: place.run("A").progress.booked is not None)
    assert place.run("A").progress.booked.step < 500
    assert place.run("A").faults.died_step is None


def test_what_lies_beside_is_kept_work(place):
    """It is a person's wish, and no loss: checkpoints hold all that was made on either way."""
    until(place, lambda: place.run("A").status == "done", looks=300)
    for checkpoint in ("300", START):
        place.put("rewind", run="drill-A", checkpoint=checkpoint)
        until(place, lambda: place.run("A").status == "running")
        until(place, lambda: place.run("A").status == "done", looks=300)
    (told,) = [one for one in measure(read(place.home.decisions)).runs if one.run == "drill-A"]
    assert (told.steps_kept, told.steps_lost) == (2000 + 1700 + 2000, 0)


def test_twice_is_to_the_last(place):
    """Before the first was done; each has an id of its own."""
    place.put("rewind", run="drill-A", checkpoint="300")
    place.clock.advance(0.01)
    place.ask("rewind", run="drill-A", checkpoint="100")
    until(place, lambda: place.run("A").status == "running" and place.run("A").rewind is None)
    assert 100 <= place.run("A").progress.step < 300
    assert len(place.lines("run.started", "drill-A")) == 2


def test_what_makes_no_sense_is_refused(place):
    """With the reason, and nothing is stopped."""
    assert "no run 'drill-X'" in place.ask("rewind", run="drill-X", checkpoint="1").reason
    place.ask("submit", asked=a_job(place="rented"))
    assert "trains elsewhere" in place.ask("rewind", run="job-job", checkpoint="1").reason
    (place.home.inbox / "x.json").write_text(
        '{"kind": "rewind", "id": "x", "by": "ada", "asked_at": 0, "run": "drill-A", '
        '"checkpoint": "../../etc"}'
    )
    place.look()
    assert "no request" in place.answer("x").reason
    place.settle(looks=3)
    assert place.lines("run.stopped") == []


@pytest.mark.parametrize(
    ("status", "after"),
    [
        ("queued", "queued"), ("waiting", "waiting"), ("quarantined", "queued"),
        ("done", "queued"), ("failed", "queued"), ("cancelled", "queued"), ("running", "running"),
        ("stopping", "stopping"), ("blocked", "blocked"),
    ],
)  # fmt: skip
def test_whatever_it_was_at_its_deaths_are_forgotten(status, after):
    """They were on another way; a checkpoint that was withheld is no longer named."""
    run = a_run(
        status=status, reason="died", failures=7, died_step=5, died_there=4, withheld=(200,), step=9
    )
    back = queue.going_back(run, BACK)
    assert (back.status, back.rewind, back.attempt.stale) == (after, BACK, True)
    assert (back.faults.died_there, back.faults.withheld, back.retry_s) == (0, (), None)
    lives = status in ("running", "stopping", "blocked")
    assert back.progress.step == (9 if lives else 300)


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"withdrawn": True}, "withdrawn"), ({"ending": "cancel", "reason": "asked"}, "about to end")],
)
def test_what_is_about_to_leave_is_left_alone(fields, why):
    """It would come back by another request than the one by which it leaves."""
    assert why in queue.going_back(a_run(status="running", **fields), BACK)
