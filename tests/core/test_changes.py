"""Whoever changes what is to be trained is told, run by run, what becomes of it."""

import msgspec
import pytest

from state.records import Asked, Left, Run
from supervisor.core import changes
from supervisor.core.history import first_day
from supervisor.core.queue import enrol
from testkit.builders import a_ladder
from testkit.fakes import FakeClock
from trainers.contract import Target


def asked(label, **fields):
    usual = {"trainer": "drill", "name": label, "seed": 1, "options": {"rate": 1, "data": "a"}}
    return Asked(**{"id": f"drill-{label}", **usual, **fields})


def a_run(label, step=500, status="running", **fields):
    return Run(asked=asked(label, **fields), status=status).but(step=step)


def memory():
    return first_day(FakeClock().read(), a_ladder())


def told(before, campaign, left=None):
    """The lines about a campaign that takes the place of these runs."""
    left = left or {}
    runs = enrol(tuple(before), tuple(Run(asked=one) for one in campaign), left)
    old = msgspec.structs.replace(memory(), runs=tuple(before), campaign=1)
    new = msgspec.structs.replace(old, runs=runs, campaign=2)
    after = changes.tell(old, new, left)
    return [(line.get("run"), line["reason"]) for line in after.outbox[len(old.outbox) :]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"options": {"rate": 2, "data": "a"}}, "options.rate 1 → 2"),
        ({"options": {"rate": 1}}, "options.data a → unset"),
        ({"target": Target(unit="epochs", count=5)}, "target unset → 5 epochs"),
        ({"seed": 2, "name": "b"}, "name a → b; seed 1 → 2"),
    ],
)
def test_each_change_is_told_with_the_old_and_the_new_value(change, said):
    (line,) = told([a_run("a")], [asked("a", **change)])
    assert line == ("drill-a", f"{said}: it saves, and goes on under that from step 500 or so")


def test_values_of_the_environment_are_told_to_nobody():
    """The log is kept, and may be posted elsewhere; people put keys and passwords there."""
    before = {"env": {"KEY": "hush", "OLD": "hush", "SAME": "hush"}}
    after = {"env": {"KEY": "quiet", "NEW": "quiet", "SAME": "hush"}}
    ((_, reason),) = told([a_run("a", options=before)], [asked("a", options=after)])
    assert reason.startswith(
        "options.env.KEY set → another value; options.env.NEW unset → set; "
        "options.env.OLD set → unset: it saves"
    )
    assert told([a_run("a", options={"env": "A-v0"})], [asked("a", options={"env": "B-v0"})])[0][
        1
    ].startswith("options.env A-v0 → B-v0")


def test_what_no_trainer_hears_of_stops_nothing():
    (line,) = told([a_run("a")], [asked("a", rank="high")])
    assert line == ("drill-a", "rank low → high: it goes on from step 500")


def test_those_that_come_go_and_move_are_told():
    lines = told([a_run("a"), a_run("b", 0, "queued"), a_run("c", 7, "waiting")],
                 [asked("c"), asked("a"), asked("d", seed=3)])  # fmt: skip
    assert lines == [
        ("drill-b", "it is no longer asked for, at step 0: its folder is kept"),
        ("drill-d", "it joins the campaign"),
        (None, "another order: c, a, d"),
    ]


def test_a_run_that_looks_renamed_is_named_with_what_to_write():
    lines = told([a_run("a")], [asked("b")])
    assert 'was = "a" in [run.b] keeps what that has learnt' in dict(lines)["drill-b"]


def test_one_that_had_ended_and_left_is_changed_and_has_not_joined():
    ended = a_run("a", status="done")
    left = {"drill-a": Left(run=ended, at=0.0, epoch=1)}
    (line,) = told([], [asked("a", seed=2)], left)
    assert line == ("drill-a", "seed 1 → 2: it goes on from step 500")


def test_the_same_campaign_and_the_first_day_tell_nothing():
    assert told([a_run("a")], [asked("a")]) == []
    fresh = memory()
    new = msgspec.structs.replace(fresh, runs=(a_run("a"),), campaign=2)
    assert changes.tell(fresh, new, {}) == new


def test_of_a_very_long_campaign_so_many_are_told():
    lines = told([a_run(f"r{i}", status="queued") for i in range(100)],
                 [asked(f"r{i}", seed=2) for i in range(100)])  # fmt: skip
    assert len(lines) == changes.LINES_MAX + 1
    assert lines[-1] == (None, "and 80 more runs are asked for otherwise")
