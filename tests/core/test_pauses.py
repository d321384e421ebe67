"""Where nothing trains, each place that says so says who keeps it from training."""

import msgspec
import pytest

from supervisor import report, screen
from supervisor.config import Config
from supervisor.core import explain
from supervisor.core.guard import Pressure, Verdict
from testkit.place import Place

SETTINGS = """\
[campaign]
trainer = "drill"
runs = ["a"]
target.steps = 1000000
[guard]
[quiet_hours]
on_unknown = "train"
"""
BUSY = Verdict(answer="freeze", cause="cpu", pressure=Pressure(cpu_other=91.0))
FULL = Verdict(answer="evict", cause="memory", pressure=Pressure(memory_other=96.0))
HELD = Verdict()
FREE = Verdict(answer="free", cause="calm", pressure=Pressure(cpu_other=2.0))
QUIET = SETTINGS.replace('"train"', '"wait"')
WHOSE = {
    "person": "a person",
    "guard": "the guard, since the machine is needed",
    "quiet_hours": "the quiet hours",
}


@pytest.fixture
def place(tmp_path):
    """A home whose run trains, though no analysis is known."""
    home = tmp_path / "home"
    home.mkdir()
    place = Place(home, SETTINGS)
    place.sentry.answer = FREE
    place.settle(4)
    assert place.training() == ["a"]
    return place


def pause(place, owner):
    """Have its owner pause."""
    if owner == "person":
        place.put("pause")
    elif owner == "guard":
        place.sentry.answer = FULL
    else:
        place.home.settings.write_text(QUIET)
    place.settle(4)
    assert place.training() == []


def told(place):
    """What a report would tell; the daemon of a test holds no lock."""
    config = Config(place.home.settings)
    found = report.report(place.home, config, place.clock.read())
    facts = report.facts(place.home, config, place.clock.read())
    return found, {one.name: one.value for one in explain.explained_now(facts).inputs}


@pytest.mark.parametrize("owner", WHOSE)
def test_the_owner_of_a_pause_is_named(place, owner, monkeypatch):
    """In the event, the queue, the bounds, the account of time, and to whoever asks systemd."""
    pause(place, owner)
    why = f"nothing trains now: paused by {WHOSE[owner]}"
    (stopped,) = place.lines("run.stopped")
    assert stopped["reason"] == f"stopped: {why}"
    assert place.daemon.status == f"light: paused by {WHOSE[owner]}"
    monkeypatch.setattr(type(place.home), "holder", lambda _: msgspec.defstruct("Up", ["pid"])(1))
    found, inputs = told(place)
    assert found.runs[0].waits == why
    assert why in screen.runs(found, waits=True)
    assert f"paused by {WHOSE[owner]}" in found.next.why
    bounds = "pause" if owner == "person" else f"pause of {owner}"
    assert found.bounds == (bounds,)
    assert inputs["bounds"] == bounds
    rule = "pause" if owner == "person" else owner
    assert place.lines("slots.assigned")[-1]["rule"] == rule
    place.clock.advance(600.0)
    place.settle(2)
    lost = report.goodput(place.home, Config(place.home.settings), place.clock.read())
    assert lost.not_demanded_s[rule] > 600


def test_what_stands_still_or_may_not_start_names_the_guard(place, monkeypatch):
    """It is running all the same, so the queue says it of a run that runs, too."""
    monkeypatch.setattr(type(place.home), "holder", lambda _: msgspec.defstruct("Up", ["pid"])(1))
    monkeypatch.setattr(report, "is_alive", lambda *_: True)
    assert told(place)[0].runs[0].waits is None
    place.sentry.answer = BUSY
    place.settle(2)
    found, _ = told(place)
    assert found.runs[0].waits == f"it stands still by {WHOSE['guard']}"
    assert found.runs[0].waits in screen.runs(found, waits=True)
    assert place.lines("slots.assigned")[-1]["rule"] == "guard"
    pause(place, "guard")
    place.sentry.answer = HELD
    place.settle(2)
    assert told(place)[0].runs[0].waits.endswith(f"nothing starts now by {WHOSE['guard']}")


@pytest.mark.parametrize(
    ("owners", "still", "reason"),
    [
        (("person",), False, "asked: resume"),
        (
            ("person", "quiet_hours"),
            False,
            (
                "asked: resume; still paused by the quiet hours; "
                "`supervisor train-now` lifts the quiet hours"
            ),
        ),
        (
            ("person",),
            True,
            (
                "asked: resume; still paused by the guard, since the machine is needed; "
                "the guard ends its pause by itself"
            ),
        ),
        (
            ("quiet_hours",),
            False,
            (
                "paused by the quiet hours, not by a person; "
                "`supervisor train-now` lifts the quiet hours"
            ),
        ),
        (
            (),
            True,
            (
                "paused by the guard, since the machine is needed, not by a person; "
                "the guard ends its pause by itself"
            ),
        ),
        ((), False, "nothing is paused"),
    ],
)
def test_resume_says_what_it_lifts_and_what_lifts_the_rest(place, owners, still, reason):
    for owner in owners:
        pause(place, owner)
    if still:
        place.sentry.answer = BUSY
        place.look()
    answer = place.ask("resume")
    assert answer.reason.endswith(reason)
    assert answer.refused == ("person" not in owners)


def test_train_now_lifts_no_pause_of_a_person(place):
    pause(place, "quiet_hours")
    place.put("pause")
    place.look()
    answer = place.ask("train_now", for_s=3600.0)
    assert answer.reason.endswith(
        "; still paused by a person; `supervisor resume` lifts what a person has paused"
    )
