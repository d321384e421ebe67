"""One run tried again, and answers that whoever asked finds by the id of the request."""

import msgspec
import pytest

from state.inbox import AT_ONCE, Inbox
from state.store import Store
from supervisor.core import queue
from supervisor.core.recovery import Exit
from supervisor.core.turn import DUE_MIN_S
from supervisor.journal import tail
from testkit.builders import a_run
from testkit.fakes import Plan
from testkit.place import Place
from trainers.contract import EXIT_BAD_SPEC

SETTINGS = '[campaign]\ntrainer = "drill"\ntarget.steps = 1000000\nruns = ["A", "B"]\n'
FAILS = Plan(ends_s=1.0, end=Exit(code=EXIT_BAD_SPEC))


@pytest.fixture
def failed(tmp_path):
    """A home whose first run has failed for a cause that is gone now."""
    place = Place(tmp_path, SETTINGS, {"A": FAILS})
    place.look()
    assert place.run().status == "failed"
    place.plans.clear()
    return place


def test_a_failed_run_is_tried_again(failed):
    """It has left the queue; it is back at once, and starts as soon as a look has covered it."""
    failed.look()
    assert failed.run().id == "drill-B"
    request = failed.put("retry", run="drill-A")
    assert failed.look() == DUE_MIN_S
    failed.look(DUE_MIN_S)
    assert failed.run().status == "running"
    answer = failed.answer(request)
    assert (answer.refused, answer.mode) == (False, None)
    assert "asked: retry A (failed: it cannot work" in answer.reason
    failed.look(30.0)
    assert failed.run().progress.step > 0


def test_a_retry_that_was_asked_before_a_start_is_honoured_at_it(failed):
    """With the supervisor down the request waits."""
    while not failed.daemon.leave():
        failed.clock.advance(1.0)
    failed.put("retry", run="drill-A")
    failed.begin()
    failed.look(DUE_MIN_S)
    assert failed.run().status == "running"


@pytest.mark.parametrize(
    ("run", "why"), [("drill-B", "nothing to try again"), ("drill-C", "no run 'drill-C'")]
)
def test_a_retry_that_makes_no_sense_is_refused(failed, run, why):
    """The reason is the answer, and nothing changes."""
    request = failed.put("retry", run=run)
    failed.look()
    answer = failed.answer(request)
    assert answer.refused
    assert why in answer.reason


@pytest.mark.parametrize("status", ["failed", "quarantined", "waiting"])
def test_deaths_are_forgotten(status):
    """The next life begins as the first one did, without a backoff."""
    run = a_run(
        status=status, reason="died", retry_s=9e9, failures=7, died_step=5, died_there=4, restarts=7
    )
    again = queue.retry(run)
    assert again == a_run(status="waiting" if status == "waiting" else "queued", restarts=7)


@pytest.mark.parametrize("status", ["done", "running", "stopping", "queued", "blocked"])
def test_a_run_that_has_not_ended_badly_is_left_alone(status):
    """Every refusal names the run."""
    assert queue.retry(a_run(status=status)).startswith("a ")


def test_every_one_of_many_is_answered(failed):
    """More than one look takes up: the first asker hears as well as the last."""
    requests = []
    for at in range(AT_ONCE + 20):
        failed.clock.advance(0.001)  # requests of one moment are in no order
        requests.append(failed.put("pause" if at % 2 else "resume"))
    failed.look()
    failed.look()
    answers = [failed.answer(request) for request in requests]
    assert [answer.request for answer in answers] == requests
    assert answers[0].refused
    assert not answers[1].refused


def test_what_is_no_request_is_answered_too(failed):
    """Whoever put it there under a name of a request hears that it is none."""
    (failed.home.inbox / "request-9.json").write_text('{"kind": "fly"}')
    failed.look()
    answer = failed.answer("request-9")
    assert answer.refused
    assert "no request" in answer.reason


def test_an_answer_that_a_power_cut_took_comes_at_the_next_start(failed):
    """It is delivered from the saved memory, as the line of the log is, and that only once."""
    request = failed.put("pause")
    failed.look()
    saved = failed.daemon.memory
    (line,) = [line for line in tail(failed.home.decisions, 20) if line.get("request") == request]
    # The power failed after the save: neither was the outbox emptied nor the answer there.
    undelivered = {"outbox": (line,), "answers": (failed.answer(request),)}
    Store(failed.home.state).save(msgspec.structs.replace(saved, **undelivered))
    (failed.home.answers / f"{request}.json").unlink()
    failed.begin()
    assert failed.answer(request).line == line["seq"]
    told = [line for line in tail(failed.home.decisions, 50) if line.get("request") == request]
    assert told == [line]


def test_a_request_whose_answer_is_lost_is_answered_all_the_same(failed, monkeypatch):
    """The inbox could not be emptied, and nobody knows the answer any more: it is in the log."""
    monkeypatch.setattr(Inbox, "remove", lambda *_: None)
    request = failed.put("pause")
    failed.look()
    (failed.home.answers / f"{request}.json").unlink()
    failed.look()
    assert "answered before" in failed.answer(request).reason
    assert failed.daemon.memory.goal.paused
