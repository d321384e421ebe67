"""What happened to a home, as values: the same however often, and however late, it is read."""

import json
import math
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.samples import GpuSample, Ring, Sample
from state.store import Store
from supervisor import journal
from supervisor.core import history
from supervisor.core.facts import StabilityLimits
from supervisor.core.goodput import Line, measure
from supervisor.core.guard import Guard
from supervisor.core.moments import stamp, wall
from supervisor.host.home import Home
from supervisor.page import curves
from supervisor.page.curves import Metrics
from supervisor.page.kept import Kept
from supervisor.page.lines import Lines
from supervisor.page.machine import Lived, Machine, known_limits
from supervisor.page.past import Past
from supervisor.page.trace import Trace, kept
from testkit.builders import HOUR_S
from testkit.simulated_life import SimulatedLife
from testkit.written_life import WrittenLife
from trainers import durable
from trainers.contract import NewerFile, RunFolder

DAY_S = 86_400.0
BOOT = "ab" * 16


@st.composite
def long_curves(draw):
    """Points at random places, some of them unknown, many more than are drawn."""
    luck = draw(st.randoms(use_true_random=False))
    count = draw(st.integers(1, 300))
    width = draw(st.sampled_from((1.0, 1e6)))
    xs = sorted(luck.uniform(0, width) for _ in range(count))
    unknown = draw(st.sampled_from((0.0, 0.3, 0.95)))
    ys = [math.nan if luck.random() < unknown else luck.uniform(-9, 9) for _ in xs]
    return xs, ys


@given(curve=long_curves(), parts=st.integers(1, 40))
def test_of_each_part_of_a_curve_the_lowest_and_the_highest_point_stay(curve, parts):
    """At most two a part, and both ends: a spike of a single point is seen at any width."""
    xs, ys = curve
    places = kept(xs, ys, parts)
    assert places == sorted(set(places))
    assert len(places) <= 2 * parts + 2
    assert {0, len(xs) - 1} <= set(places)
    width = (xs[-1] - xs[0]) / parts
    for part in range(parts):
        # A point may lie on an edge to the last digit: it belongs to the part that begins there.
        edges = [xs[0] + number * width for number in (part, part + 1)]
        inside = [
            place
            for place, x in enumerate(xs)
            if edges[0] <= x < edges[1] or (part == parts - 1 and x >= edges[1])
        ]
        there = [ys[place] for place in inside if place in places]
        values = [ys[place] for place in inside if not math.isnan(ys[place])]
        if values:
            assert min(values) in there
            assert max(values) in there
        elif inside:
            assert there, "a gap as wide as this is drawn as one"


@given(luck=st.randoms(use_true_random=False), limit=st.integers(16, 200))
def test_a_trace_of_any_length_takes_no_more_room_and_keeps_its_extremes(luck, limit):
    ys = [luck.uniform(-9, 9) for _ in range(luck.randint(1, 600))]
    trace = Trace(limit)
    for x, y in enumerate(ys):
        trace.add(x, y)
    assert len(trace) <= limit
    points = trace.points(10_000)
    assert min(points.y) == min(ys)
    assert max(points.y) == max(ys)
    assert (points.x[-1], points.y[-1]) == (len(ys) - 1, ys[-1])
    assert list(points.x) == sorted(points.x)


def test_what_is_made_again_takes_the_place_of_what_was_there():
    """Points at an earlier place end those behind it: a curve never doubles back."""
    trace = Trace()
    for x in (1, 2, 3, 4):
        trace.add(x, float(x), at=10.0 * x)
    trace.add(2, 20.0, at=50.0)
    assert trace.points(100).x == (1, 2)
    assert trace.points(100).y == (1, 20.0)
    assert trace.points(100, by_time=True).x == (10.0, 50.0)


def test_what_a_wrong_clock_said_is_moved_to_the_moment_that_came_after_it():
    trace = Trace()
    for step, at in ((1, 100.0), (2, 9e9), (3, 120.0)):
        trace.add(step, float(step), at=at)
    assert trace.points(100, by_time=True).x == (100.0, 120.0, 120.0)


# Logs.


def test_each_line_of_a_log_is_told_once_through_any_rotation(tmp_path):
    log, told = tmp_path / "log", []
    lines = Lines(log, most_bytes=10**6)
    for number in range(300):
        durable.append(log, b"%d" % number, max_bytes=200, kept=3)
        if number % 7 == 0:
            told += lines.fresh()
    told += lines.fresh()
    assert told == [b"%d" % number for number in range(300)]
    assert list(lines.fresh()) == []


def test_a_line_is_told_when_its_end_is_written(tmp_path):
    log = tmp_path / "log"
    lines = Lines(log, most_bytes=10**6)
    assert list(lines.fresh()) == []
    log.write_bytes(b"one\ntw")
    assert list(lines.fresh()) == [b"one"]
    log.write_bytes(b"one\ntwo\n")
    assert list(lines.fresh()) == [b"two"]


def test_of_too_much_the_newest_lines_are_told_and_of_a_long_line_nothing(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"%03d\n" % number for number in range(100)))
    lines = Lines(log, most_bytes=10)
    assert list(lines.fresh()) == [b"098", b"099"]
    assert lines.left_out
    log.write_bytes(b"x" * 5000 + b"\nshort\n")
    assert list(Lines(log, most_bytes=10**6, line_bytes=100).fresh()) == [b"short"]


def test_what_is_no_file_has_no_lines(tmp_path):
    """A pipe is not waited for, and a link not followed."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "real").write_bytes(b"secret\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("pipe", "link", "missing"):
        assert list(Lines(tmp_path / name, most_bytes=10**6).fresh()) == []


# Metrics of a run.


def a_run_with(tmp_path, *lines):
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    with (folder / "metrics.jsonl").open("ab") as file:
        for line in lines:
            file.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
    metrics = Metrics(RunFolder(folder))
    metrics.refresh()
    return metrics


def measured(step, at=None, **values):
    return {"step": step, "at": 1e9 + (step if at is None else at), "mode": "light", **values}


def test_a_run_has_one_curve_over_all_its_attempts(tmp_path):
    """Steps 3 and 4 were lost with a crash, and made again."""
    first = [measured(step, loss=1.0) for step in (1, 2, 3, 4)]
    again = [measured(step, at=10 + step, loss=2.0) for step in (3, 4, 5)]
    (curve,) = a_run_with(tmp_path, *first, *again).curves("step", 100).curves
    assert curve.name == "loss"
    assert curve.points.x == (1, 2, 3, 4, 5)
    assert curve.points.y == (1.0, 1.0, 2.0, 2.0, 2.0)
    (timed,) = a_run_with(tmp_path).curves("time", 100).curves
    assert list(timed.points.x) == sorted(timed.points.x)
    assert timed.points.y == curve.points.y


def test_what_was_lost_of_a_metric_is_gone_before_it_is_measured_again(tmp_path):
    """An evaluation at step 4 is lost with that step, though only the loss is told since."""
    first = [measured(2, score=1.0), measured(4, score=2.0), measured(5, loss=1.0)]
    metrics = a_run_with(tmp_path, *first, measured(3, loss=2.0))
    found = {one.name: one.points for one in metrics.curves("step", 100).curves}
    assert found["score"].x == (2,)
    assert found["loss"].x == (3,)


def test_metrics_that_come_at_other_steps_are_curves_of_their_own(tmp_path):
    """An evaluation at a step that has been measured already takes nothing away."""
    told = [measured(5, loss=1.0), measured(5, score=7.0), measured(6, loss=0.5)]
    found = {one.name: one.points for one in a_run_with(tmp_path, *told).curves("step", 9).curves}
    assert found["loss"].x == (5, 6)
    assert found["score"].x == (5,)


def test_what_is_not_finite_is_a_gap_and_what_is_no_number_is_nothing(tmp_path):
    huge = b'{"step": 4, "at": 1.0, "loss": 1e999}\n'
    lines = (
        measured(1, loss=1.0, word="x", flag=True, nested=[1, {"a": 2}]),
        measured(2, loss=None),
        measured(3, loss=10**400),
        b'{"step": 3, "at": 1.0, "loss": NaN}\n',
        huge,
        b"\xff\xfe{}\n",
        b"[" * 5000 + b"\n",
        b'{"step": "5", "at": 1.0, "loss": 3.0}\n',
        b'{"step": -5, "at": 1.0, "loss": 3.0}\n',
        b'{"step": true, "at": 1.0, "loss": 3.0}\n',
        measured(7, loss=2.0),
        b'{"step": 8, "at": 1.0, "lo',
    )
    (curve,) = a_run_with(tmp_path, *lines).curves("step", 100).curves
    assert curve.name == "loss"
    assert curve.points.x == (1, 2, 7)
    assert curve.points.y == (1.0, None, 2.0)


def test_thousands_of_metrics_have_as_many_curves_as_there_is_room_for(tmp_path):
    line = measured(1, **{f"m{number}": 1.0 for number in range(3000)}, **{"n" * 300: 1.0})
    found = a_run_with(tmp_path, line).curves("step", 100)
    assert len(found.curves) == curves.METRICS_MAX
    assert found.left_out == curves.OTHERS_MAX
    assert found.whole


def test_one_metric_alone_takes_no_room_for_others(tmp_path):
    """A page of many runs shows one curve of each."""
    a_run_with(tmp_path, *(measured(step, loss=1.0, score=step) for step in (1, 2)))
    metrics = Metrics(RunFolder(tmp_path / "run"), only="score")
    metrics.refresh()
    (curve,) = metrics.curves("step", 100).curves
    assert (curve.name, curve.points.y) == ("score", (1.0, 2.0))
    assert metrics.lately("loss", 0, 2e9, 100) is None


def test_metrics_are_read_on_where_they_were_read_last(tmp_path):
    metrics = a_run_with(tmp_path, measured(1, loss=1.0))
    a_run_with(tmp_path, measured(2, loss=2.0))
    metrics.refresh()
    metrics.refresh()
    assert metrics.curves("step", 100).curves[0].points.x == (1, 2)
    assert metrics.lately("loss", 1e9 + 2, 1e9 + 9, 100).y == (2.0,)
    assert metrics.lately("no such metric", 0, 2e9, 100) is None


# The log.


def a_past(life, folder):
    life.save(folder)
    past = Past(Home(folder))
    past.refresh()
    return past


def seen(life, past, *, since=None, up=True, **more):
    until = life.clock.read().wall
    memory = life.memory if isinstance(life, WrittenLife) else life
    return past.ribbon(since, until, memory=memory, up=up, **more)


def spans(bands, life):
    """What and from which minute to which, counted from the begin of a life."""
    began = wall(life.lines[0]["time"])
    return [
        (one.what, round((one.begin - began) / 60), round((one.end - began) / 60)) for one in bands
    ]


def lines_of(life, event):
    return [line["seq"] for line in life.lines if line["event"] == event]


def test_the_ribbon_tells_modes_crashes_and_downtime_with_their_lines(tmp_path):
    """A crash stands where the machine went down, and leads to the line that has counted it."""
    life = WrittenLife().train(hours=3).crash(off_s=600).train(hours=1)
    past = a_past(life, tmp_path)
    shown = seen(life, past)
    assert spans(shown.downs, life) == [("crash", 180, 190)]
    (tick,) = shown.ticks
    assert tick.crash
    assert tick.at == pytest.approx(shown.downs[0].begin, abs=1)
    assert tick.seq == lines_of(life, "boot.recorded")[1]
    assert shown.downs[0].seq == lines_of(life, "supervisor.started")[1]
    climbed = lines_of(life, "mode.changed")[0]
    assert [one.what for one in shown.modes[:2]] == ["light", "medium"]
    assert shown.modes[0].seq is None
    assert shown.modes[1].seq == climbed
    assert shown.ladder == ("light", "medium")
    assert spans(shown.modes, life) == [("light", 0, 60), ("medium", 60, 180), ("medium", 190, 250)]


def test_samples_show_for_how_long_somebody_was_there(tmp_path):
    """The state is saved now and then; a sample after that is a later sign of life."""
    life = WrittenLife().train(hours=3)
    began = wall(life.lines[0]["time"])
    life.crash(off_s=600)
    lived = [Lived(begin=began, end=began + 3 * HOUR_S + 120)]
    shown = seen(life, a_past(life, tmp_path), lived=lived)
    assert spans(shown.downs, life) == [("crash", 182, 190)]
    assert shown.ticks[0].at == pytest.approx(began + 3 * HOUR_S + 120, abs=1)


def test_a_suspended_machine_is_told_from_one_that_was_down(tmp_path):
    life = WrittenLife().train(hours=3)
    began = wall(life.lines[0]["time"])
    lived = [
        Lived(begin=began, end=began + 3600),
        Lived(begin=began + 7200, end=began + 9000, slept=True),
    ]
    shown = seen(life, a_past(life, tmp_path), lived=lived)
    assert spans(shown.downs, life) == [("asleep", 60, 120)]


def test_pauses_are_told_by_their_owner(tmp_path):
    life = WrittenLife().train(hours=1)
    life.request("pause")
    life.train(hours=2)
    life.request("resume")
    life.train(hours=1)
    shown = seen(life, a_past(life, tmp_path))
    assert spans(shown.pauses, life) == [("person", 60, 180)]
    assert shown.pauses[0].seq is not None


def test_a_stop_is_planned_until_somebody_starts_it(tmp_path):
    life = WrittenLife().train(hours=1)
    life._write("supervisor.stopped", rule="signal")
    past = a_past(life, tmp_path)
    life.clock.advance(2 * HOUR_S)
    shown = seen(life, past, up=False)
    assert spans(shown.downs, life) == [("planned", 60, 180)]
    assert spans(shown.modes, life)[-1][2] == 60


def away(life, seconds):
    """Time goes by, and nobody writes anything."""
    life.clock.advance(seconds)
    life.memory = history.pass_time(life.memory, life.clock.read())


def test_a_stop_lasts_until_the_next_start(tmp_path):
    life = WrittenLife().train(hours=1)
    life._write("supervisor.stopped", rule="signal")
    away(life, 2 * HOUR_S)
    life._write("supervisor.started", rule="start", evidence={"down_s": 60.0})
    life.train(hours=1)
    shown = seen(life, a_past(life, tmp_path))
    assert spans(shown.downs, life) == [("planned", 60, 180)]
    assert not shown.ticks, "the machine was not booted"


def test_a_line_shows_that_somebody_was_there_though_the_state_is_older(tmp_path):
    """So much time is missing in the state, and the log tells of an hour of it."""
    life = WrittenLife().train(hours=1)
    life._write("settings.changed", rule="settings")
    away(life, 600)
    life._write("supervisor.started", rule="start", evidence={"down_s": HOUR_S + 600})
    shown = seen(life, a_past(life, tmp_path))
    assert spans(shown.downs, life) == [("supervisor", 60, 70)]


def test_without_a_supervisor_nothing_is_told_to_run(tmp_path):
    life = WrittenLife().train(hours=1)
    past = a_past(life, tmp_path)
    life.clock.advance(HOUR_S)
    shown = seen(life, past, up=False)
    assert spans(shown.downs, life) == [("supervisor", 60, 120)]


def test_what_no_line_tells_is_unknown(tmp_path):
    """Before the first line, and where some are missing: no mode is guessed."""
    life = WrittenLife().train(hours=2).crash(off_s=600).train(hours=3).crash(off_s=600)
    life.train(hours=2)
    whole = list(life.lines)
    lost = whole[4:7]
    life.lines = whole[:4] + whole[7:]
    past = a_past(life, tmp_path)
    shown = seen(life, past, since=wall(whole[0]["time"]) - HOUR_S)
    unknown = [one for one in shown.downs if one.what == "unknown"]
    assert unknown[0].begin == shown.since
    assert unknown[0].end == pytest.approx(wall(whole[0]["time"]), abs=1)
    assert unknown[1].begin == pytest.approx(wall(whole[3]["time"]), abs=1)
    assert unknown[1].end == pytest.approx(wall(whole[7]["time"]), abs=1)
    assert lost
    for mode in shown.modes:
        assert mode.end <= unknown[1].begin or mode.begin >= unknown[1].end


def test_a_machine_that_was_away_for_days_was_away_for_days(tmp_path):
    """The timeline books one of them at most, and so does goodput; the clock tells the others."""
    life = WrittenLife()
    life._write("slots.assigned", rule="queue", runs=["drill-a"])
    life.train(hours=3).crash(off_s=3 * DAY_S)
    shown = seen(life, a_past(life, tmp_path))
    (gone,) = shown.downs
    assert gone.what == "crash"
    assert gone.end - gone.begin == pytest.approx(3 * DAY_S, abs=60)
    assert shown.ticks[0].at == gone.begin
    demanded_s = sum(share.demanded_s for share in shown.shares)
    assert demanded_s == pytest.approx(3 * HOUR_S + DAY_S, abs=60)


def test_an_empty_home_knows_nothing(tmp_path):
    past = Past(Home(tmp_path))
    past.refresh()
    shown = past.ribbon(1e9, 1e9 + DAY_S, memory=WrittenLife().memory, up=False)
    assert [(one.what, one.begin, one.end) for one in shown.downs] == [
        ("unknown", 1e9, 1e9 + DAY_S)
    ]
    assert shown.modes == shown.ticks == ()
    assert shown.goodput is None


def test_boots_that_the_log_has_forgotten_are_remembered(tmp_path):
    """Of a log whose older files are gone, the memory still has its boots; no line is known."""
    life = WrittenLife().train(hours=2).crash(off_s=600).train(hours=30).crash(off_s=600)
    life.train(hours=1)
    second = lines_of(life, "boot.recorded")[2]
    life.lines = [line for line in life.lines if line["seq"] >= second]
    shown = seen(life, a_past(life, tmp_path))
    assert [(tick.crash, tick.seq) for tick in shown.ticks] == [(True, None), (True, second)]
    assert shown.since == shown.ticks[0].at


@pytest.mark.parametrize("off_s", [-40 * DAY_S, 3 * HOUR_S, 900 * DAY_S])
def test_a_clock_that_was_wrong_for_a_while_moves_nothing(tmp_path, off_s):
    """Within a boot the timeline tells how long ago something was, whatever the clock said."""
    life = WrittenLife().train(hours=3).crash(off_s=600).train(hours=3)
    right = seen(life, a_past(life, tmp_path / "right"))
    for line in life.lines[2:-2]:
        line["time"] = stamp(wall(line["time"]) + off_s)
    wrong = seen(life, a_past(life, tmp_path / "wrong"))
    for kind in ("modes", "downs"):
        for one, other in zip(getattr(right, kind), getattr(wrong, kind), strict=True):
            assert (one.what, one.seq) == (other.what, other.seq)
            assert one.begin == pytest.approx(other.begin, abs=1)
            assert one.end == pytest.approx(other.end, abs=1)


def test_a_line_of_a_newer_version_is_refused_by_name(tmp_path):
    life = WrittenLife().train(hours=1)
    life.lines[-1]["version"] = 99
    life.save(tmp_path)
    with pytest.raises(NewerFile, match="version 99"):
        Past(Home(tmp_path)).refresh()


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_a_log_read_as_it_grows_tells_the_same_as_one_read_at_once(cuts):
    life = WrittenLife().train(hours=4).crash().train(hours=2).crash().train(hours=5)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        at_once = a_past(life, home.path)
        content = home.decisions.read_bytes().splitlines(keepends=True)
        home.decisions.write_bytes(b"")
        piecewise = Past(home)
        places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
        for begin, end in pairwise(places):
            with home.decisions.open("ab") as log:
                log.write(b"".join(content[begin:end]))
            piecewise.refresh()
        assert seen(life, piecewise) == seen(life, at_once)
        assert piecewise.goodput() == at_once.goodput()


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_what_is_kept_part_by_part_is_the_goodput_of_the_log(seed, tmp_path, monkeypatch):
    """In lives in which everything happens at random, and no line is lost."""
    life = SimulatedLife(seed, tmp_path, monkeypatch)
    for _ in range(120):
        life.event()
    lines = list(journal.read(life.home.decisions))
    past = Past(life.home)
    past.refresh()
    memory = Store(life.home.state).peek()[0]
    shown = past.ribbon(None, wall(lines[-1]["time"]), memory=memory, up=True)
    whole = measure(lines)
    assert past.goodput() == whole
    assert whole.demanded_s > 0
    demanded_s = sum(share.demanded_s for share in shown.shares)
    assert demanded_s == pytest.approx(whole.demanded_s, abs=1)
    assert sum(share.kept_s for share in shown.shares) == pytest.approx(
        whole.spent_s["kept"], rel=0.01, abs=2
    )
    assert sum(tick.crash for tick in shown.ticks) == whole.crashes


def a_line(life, event, **fields):
    life._write(event, rule=fields.pop("rule", "slot"), run="drill-a", **fields)


def test_what_happens_to_a_run_is_marked_at_its_step(tmp_path):
    """A crash where it had come to, a move where it goes on; the first start is none of these."""
    life = WrittenLife()
    a_line(life, "run.started", evidence={"step": 0, "mode": "light"})
    life.train(hours=1)
    life.crash(off_s=600)
    a_line(life, "run.lost", rule="boot", evidence={"step": 70}, reason="it went down")
    a_line(life, "run.started", evidence={"step": 60, "mode": "light"})
    a_line(life, "run.died", rule="exit", evidence={"step": 75})
    a_line(life, "run.started", evidence={"step": 72, "mode": "light"})
    a_line(life, "run.stopped", rule="asked", evidence={"step": 90})
    a_line(life, "run.started", evidence={"step": 90, "mode": "medium"})
    past = a_past(life, tmp_path)
    marks = past.marks("drill-a")
    assert [(mark.what, mark.step) for mark in marks] == [
        ("crash", 70),
        ("start", 60),
        ("death", 75),
        ("start", 72),
        ("move", 90),
    ]
    assert marks[0].words == "it went down"
    assert marks[0].at == pytest.approx(seen(life, past).ticks[0].at, abs=1)
    assert past.marks("nobody") == ()


def test_what_is_kept_lies_after_the_start_and_before_what_was_lost():
    """An attempt of 100 s: 10 to begin with, 50 that a checkpoint holds, and 40 that none does."""
    told = Kept()
    told.read(Line(event="slots.assigned", now_s=0.0, runs=("a",)), 0.0)
    told.read(Line(event="run.started", now_s=0.0, run="a"), 0.0)
    lived = {"start_s": 10.0, "began_step": 0, "began_trained_s": 0.0, "step": 9, "trained_s": 90.0}
    saved = {"checkpoint_step": 5, "checkpoint_trained_s": 50.0}
    told.read(Line(event="run.died", now_s=100.0, run="a", evidence=lived | saved), 100.0)
    shares = told.shares(0.0, 120.0, 12)
    assert [round(share.kept_s, 3) for share in shares] == [0, *[10] * 5, *[0] * 6]
    assert [round(share.demanded_s, 3) for share in shares] == [10] * 12, "it waits at the end"
    assert shares[0].goodput == 0
    # The next attempt shows that another checkpoint held more.
    told.read(Line(event="run.started", now_s=100.0, run="a"), 100.0)
    later = {"began_step": 7, "began_trained_s": 70.0, "step": 7, "trained_s": 70.0}
    told.read(Line(event="run.died", now_s=120.0, run="a", evidence=later), 120.0)
    assert sum(share.kept_s for share in told.shares(0.0, 120.0, 12)) == pytest.approx(70.0)


def test_what_a_person_goes_back_from_is_no_loss():
    """An attempt on another way begins before what was kept: that lies beside, and counts."""
    told = Kept()
    told.read(Line(event="run.started", now_s=0.0, run="a"), 0.0)
    first = {"began_step": 0, "began_trained_s": 0.0, "step": 9, "trained_s": 90.0}
    first |= {"checkpoint_step": 9, "checkpoint_trained_s": 90.0}
    told.read(Line(event="run.stopped", now_s=100.0, run="a", evidence=first), 100.0)
    asked = Line(event="request.granted", now_s=100.0, run="a", evidence={"kind": "rewind"})
    told.read(asked, 100.0)
    for at in (100.0, 200.0):
        told.read(Line(event="run.started", now_s=at, run="a"), at)
        again = {"began_step": 2, "began_trained_s": 20.0, "step": 5, "trained_s": 50.0}
        told.read(Line(event="run.died", now_s=at + 100, run="a", evidence=again), at + 100)
    (share,) = told.shares(0.0, 300.0, 1)
    assert share.kept_s == pytest.approx(90.0)


def test_what_lives_now_is_kept_as_far_as_it_has_said():
    told = Kept()
    told.read(Line(event="run.started", now_s=0.0, run="a"), 0.0)
    unknown = told.shares(0.0, 100.0, 1)[0]
    assert (unknown.unknown_s, unknown.goodput) == (100.0, None)
    lived = {"began_step": 0, "began_trained_s": 5.0, "step": 9, "trained_s": 105.0}
    saved = {"checkpoint_step": 5, "checkpoint_trained_s": 85.0}
    (share,) = told.shares(0.0, 100.0, 1, [{"run": "a", "evidence": lived | saved}])
    assert share.kept_s == pytest.approx(80.0)
    assert told.shares(0.0, 100.0, 1)[0].unknown_s == 100.0, "to tell it ends nothing"


# Samples.


def a_sample(at, **fields):
    given = {"monotonic_s": at - 1e9, "boottime_s": at - 1e9, "boot_id": BOOT, "covers_s": 60.0}
    return Sample(at=at, **(given | fields))


def a_machine(folder, *taken, now=None):
    ring = Ring(folder, machine=None, max_bytes=2**26)
    for one in taken:
        ring.write(one)
    ring.close()
    machine = Machine(folder, None)
    machine.refresh(taken[-1].at if now is None else now)
    return machine


def test_the_machine_is_told_with_others_apart_and_with_its_limits(tmp_path):
    gpu = GpuSample(utilization_percent=80.0, memory_used_mib=10.0, memory_total_mib=40.0)
    one = a_sample(
        1e9,
        cpu_percent=90.0,
        cpu_own_percent=60.0,
        memory_total_mib=1000.0,
        memory_available_mib=400.0,
        memory_own_mib=200.0,
        gpus=(gpu,),
    )
    limits = known_limits(StabilityLimits(), Guard())
    found = {gauge.name: gauge for gauge in a_machine(tmp_path, one).gauges(0, 2e9, 100, limits)}
    assert found["cpu_other_percent"].last == 30.0
    assert found["memory_percent"].last == 60.0
    assert found["memory_other_percent"].last == 50.0
    assert found["gpu0_memory_percent"].last == 25.0
    assert [limit.value for limit in found["cpu_other_percent"].limits] == [30.0, 80.0]
    assert [limit.value for limit in found["gpu0_memory_percent"].limits] == [92.0]
    assert "cpu_temperature_c" not in found, "what nobody has measured is not told"


def test_without_samples_for_a_while_a_curve_has_a_gap(tmp_path):
    before = [a_sample(1e9 + 60 * minute, cpu_percent=10.0) for minute in range(30)]
    after = [a_sample(1e9 + 7200 + 60 * minute, cpu_percent=20.0) for minute in range(30)]
    machine = a_machine(tmp_path, *before, *after)
    (gauge,) = machine.gauges(0, 2e9, 30)
    assert gauge.points.y.count(None) == 1
    assert [(one.begin, one.end) for one in machine.lived] == [
        (before[0].at - 60, before[-1].at),
        (after[0].at - 60, after[-1].at),
    ]
    assert not machine.lived[1].slept


def test_a_clock_that_stood_still_while_time_went_on_shows_a_suspend(tmp_path):
    awake = a_sample(1e9)
    later = a_sample(1e9 + 7200, monotonic_s=30.0)
    assert a_machine(tmp_path, awake, later).lived[1].slept


@pytest.mark.parametrize(
    ("free_mib", "days"),
    [
        (lambda hour: 10_000 - 100 * hour, pytest.approx(7700 / 2400, rel=0.02)),
        (
            lambda hour: 10_000 - 100 * hour + (5000 if hour == 11 else 0),
            pytest.approx(3.2, rel=0.1),
        ),
        (lambda hour: 10_000 + 100 * hour, None),
        (lambda hour: 10_000 + (500 if hour % 2 else -500), None),
        (lambda hour: 10_000, None),
    ],
)
def test_the_disk_is_told_to_fill_where_it_does_so_steadily(tmp_path, free_mib, days):
    taken = [a_sample(1e9 + HOUR_S * hour, disk_free_mib=free_mib(hour)) for hour in range(24)]
    left = a_machine(tmp_path, *taken).disk_left()
    assert left.days == days
    assert left.words


def test_of_a_few_hours_nobody_can_tell_when_the_disk_is_full(tmp_path):
    taken = [a_sample(1e9 + HOUR_S * hour, disk_free_mib=100 - hour) for hour in range(4)]
    left = a_machine(tmp_path, *taken).disk_left()
    assert left.days is None
    assert "not known" in left.words
    assert Machine(tmp_path / "none", None).disk_left().days is None


def test_samples_are_read_on_and_those_of_long_ago_forgotten(tmp_path):
    first = a_sample(1e9, cpu_percent=1.0)
    machine = a_machine(tmp_path, first)
    ring = Ring(tmp_path, machine=None, max_bytes=2**26)
    ring.write(a_sample(1e9 + 60, cpu_percent=2.0))
    ring.close()
    machine.refresh(1e9 + 60)
    assert machine.gauges(0, 2e9, 9)[0].points.y == (1.0, 2.0)
    machine.refresh(1e9 + 3 * DAY_S + 30)
    assert machine.gauges(0, 2e9, 9)[0].points.y == (2.0,)
