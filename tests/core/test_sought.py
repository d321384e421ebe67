"""Which lines of the log are those that somebody asks for."""

import time

import pytest

from supervisor.core.moments import since, stamp, wall, when
from supervisor.core.sought import LOGGED, NOUNS, Sought, chosen
from testkit.builders import DAY_S, HOUR_S, MIDNIGHT

DIED = {"event": "run.died", "run": "drill-A", "time": stamp(MIDNIGHT)}
ASSIGNED = {"event": "slots.assigned", "runs": ["drill-A", "drill-B"], "time": stamp(MIDNIGHT)}


@pytest.fixture
def far_east(monkeypatch):
    """A person who lives nine hours ahead of UTC."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_an_event_is_meant_by_its_name_and_many_by_their_noun():
    """`run` is short for whatever happens to a run, and only for that."""
    assert chosen(["mode.changed"]) == ("mode.changed",)
    assert chosen(["run"]) == tuple(event for event in LOGGED if event.startswith("run."))
    assert chosen(["crash", "Crash.Priced", "mode.changed"]) == ("crash.priced", "mode.changed")
    assert set(chosen(NOUNS)) == set(chosen(LOGGED)) == set(LOGGED)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("mode.change", "did you mean 'mode.changed'?"),
        ("runs", "did you mean 'run'?"),
        ("run.", "did you mean 'run"),
        ("", "they begin with boot, campaign"),
        ("xyzzy", "they begin with boot, campaign"),
    ],
)
def test_an_event_that_is_none_is_guessed(said, expected):
    """A name that no line will ever have is a mistake, and nothing to wait for."""
    with pytest.raises(ValueError, match=f"there is no event '{said}'; ") as refusal:
        chosen(["mode.changed", said])
    assert expected in str(refusal.value)


def test_a_line_is_about_each_run_that_it_names():
    """The run may stand alone in a line or among others; an event of nobody is about none."""
    asked = Sought(run="drill-A")
    assert asked.takes(DIED)
    assert asked.takes(ASSIGNED)
    assert not Sought(run="drill-B").takes(DIED)
    assert not asked.takes({"event": "mode.changed", "time": stamp(MIDNIGHT)})


def test_all_that_is_asked_for_must_hold():
    """An event of a run since a time is all three at once; who asks for nothing gets everything."""
    everything = Sought()
    assert not everything.narrows
    assert everything.takes(DIED)
    both = Sought(events=("run.died",), run="drill-A", since_at=MIDNIGHT)
    assert both.narrows
    assert both.takes(DIED)
    assert not both.takes({**DIED, "event": "run.done"})
    assert not both.takes({**DIED, "run": "drill-B"})
    assert not both.takes({**DIED, "time": stamp(MIDNIGHT - 0.001)})


@pytest.mark.parametrize(
    "value", [None, 7, [], {}, ["drill-A"], {"drill-A": 1}, "unknown", "9" * 99]
)
@pytest.mark.parametrize("field", ["event", "run", "runs", "time"])
def test_a_damaged_line_is_none_that_was_asked_for(field, value):
    """A line may hold anything anywhere; nobody who looks for something else is disturbed by it."""
    asked = Sought(events=("run.died",), run="drill-A", since_at=MIDNIGHT)
    if field == "runs":
        assert asked.takes({**DIED, field: value})
    else:
        assert not asked.takes({**DIED, field: value})


@pytest.mark.parametrize(
    ("age", "age_s"),
    [("90s", 90), ("15min", 900), ("6h", 6 * HOUR_S), ("2d", 2 * DAY_S), (" 1.5 h ", 5400)],
)
def test_an_age_counts_back_from_now(age, age_s):
    """An age has one unit, as the durations in every answer have."""
    assert since(age, MIDNIGHT) == MIDNIGHT - age_s


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-05T00:00:00Z", "2026-01-05 00:00+00:00", "2026-01-05T09:00:00+09:00",
        "2026-01-05T09:00", "2026-01-05 09:00:00",
    ],
)  # fmt: skip
def test_a_time_is_of_the_zone_that_it_names_and_else_local(far_east, text):
    """Nine in the morning of a person far in the east is midnight in UTC."""
    assert since(text, 0.0) == MIDNIGHT


def test_a_day_begins_where_the_person_lives(far_east):
    """A date alone is the midnight of whoever says it."""
    assert since("2026-01-05", 0.0) == MIDNIGHT - 9 * HOUR_S


@pytest.mark.parametrize("moment", [MIDNIGHT, MIDNIGHT + 0.25, 0.0])
def test_a_time_that_was_printed_can_be_said(far_east, moment):
    """Whoever copies a time from a line, or from its JSON, means that time."""
    assert wall(stamp(moment)) == moment
    assert since(when(stamp(moment)), 9.0) == int(moment)


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "5m", "90", "h", "-6h", "1e3s", "6h30min", "12:00", "٣s", "9" * 400 + "d",
        "2026-02-30", "2026-13-01", "0001-01-01T00:00", "99999-01-01", "2026-01-05T25:00Z",
        "\0", "2026-01-05 00:00 CET",
    ],
)  # fmt: skip
def test_what_is_no_time_is_told_in_one_line(far_east, text):
    """A mistake is answered with how it is said."""
    with pytest.raises(ValueError, match="nor an age such as 90s, 15min, 6h or 2d") as refusal:
        since(text, MIDNIGHT)
    assert "\n" not in str(refusal.value)
