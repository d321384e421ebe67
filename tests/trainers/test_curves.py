"""What TensorBoard shows of a run, as its own reader reads it: one curve over all attempts."""

import errno
import os
import signal
import subprocess
import sys

import msgspec
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainer_lives import names_in, write_spec

from trainers import durable, sinks
from trainers.contract import EXIT_DONE, TRAINERS_DIR, Heartbeat

TEN_LINES = """
import time

def train(session):
    while not session.target_reached:
        session.progress(session.step + 1)
        session.log({"loss": 1 / session.step})
        if session.step % 7 == 0:
            session.save({"weights": b""})
        time.sleep(0.005)
    session.save({"weights": b""})
"""


@pytest.fixture
def attempt(tmp_path):
    """Attempts that go on from a step, and log until they are killed: nothing is closed."""

    def log(began, steps, values=None, at=86_400.0, file_only=()):
        curves = sinks.Curves(tmp_path / "tensorboard", began)
        for step in steps:
            values_ = {"return_mean": float(step)} if values is None else values
            curves.write(sinks.Line(step, at, {"step": step}, values_, file_only))

    return log


def curves_of(run):
    """Every curve as TensorBoard reads it: its points, in their order."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def steps_of(run):
    """The steps of the only curve."""
    (curve,) = curves_of(run).values()
    return [step for step, _ in curve]


def steps_logged(run):
    """The steps of the lines of metrics, as they were written."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True) if metrics.exists() else []
    return [msgspec.json.decode(line)["step"] for line in lines if line.endswith(b"\n")]


def test_whoever_logs_has_a_curve_and_a_kill_doubles_nothing(
    make_run, start, tmp_path, monkeypatch
):
    """A trainer of ten lines is killed twice between two checkpoints; each step is there once."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/plain.py").write_text(TEN_LINES)
    monkeypatch.setenv(TRAINERS_DIR, str(tmp_path / "mine"))
    run = make_run(trainer="plain", target_steps=1_000_000_000)
    for _ in range(2):
        life = start(run, "plain")
        began = len(steps_logged(run))
        life.wait_for(
            lambda began=began: (there := steps_logged(run)[began + 20 :]) and there[-1] % 7 > 2
        )
        life.signal(signal.SIGKILL)
        life.end()
    reached = max(steps_of(run)) + 10
    write_spec(run, trainer="plain", target_steps=reached)
    assert start(run, "plain").end()[0] == EXIT_DONE
    curve = curves_of(run)["loss"]
    assert [step for step, _ in curve] == list(range(1, reached + 1))
    assert all(value == pytest.approx(1 / step) for step, value in curve)
    assert len(names_in(run / "tensorboard")) == 3


def test_all_attempts_make_one_curve(attempt, tmp_path):
    """Steps that a kill has cost are shown as they were made again, and none runs back."""
    attempt(0, range(100, 501, 100))
    attempt(300, range(350, 451, 50))
    attempt(450, range(500, 601, 50))
    whole = [100, 200, 300, 350, 400, 450, 500, 550, 600]
    assert curves_of(tmp_path) == {"return_mean": [(step, float(step)) for step in whole]}


def test_a_run_that_begins_anew_shows_its_new_curve(attempt, tmp_path):
    """All checkpoints are lost: what was shown was never reached."""
    attempt(0, range(100, 501, 100))
    attempt(0, range(150, 451, 150))
    assert steps_of(tmp_path) == [150, 300, 450]


def test_what_is_measured_again_where_an_attempt_begins_is_there_once(attempt, tmp_path):
    """As in the metrics, where the later of two lines of one step counts."""
    attempt(0, [0, 10, 20, 30])
    attempt(20, [20, 40])
    assert steps_of(tmp_path) == [0, 10, 20, 40]
    attempt(0, [0])
    assert steps_of(tmp_path) == [0]


def test_a_clock_that_was_set_back_turns_no_curve(attempt, tmp_path):
    """Files are read in the order of their names, which is that of the attempts all the same."""
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard/events.out.tfevents.1700000000.box.12.0").touch()
    (tmp_path / "tensorboard/notes.txt").touch()
    for began, at in ((0, 1_800_000_000.0), (20, 3.0), (20, 1_800_000_000.5)):
        attempt(began, [began + 10, began + 20, began + 30], at=at)
    assert steps_of(tmp_path) == [10, 20, 30, 40, 50]


def test_a_file_that_a_power_cut_has_torn_hides_no_other(attempt, tmp_path):
    """What is left of it is shown, and the attempt after it whole."""
    attempt(0, range(10, 101, 10))
    (torn,) = (tmp_path / "tensorboard").iterdir()
    content = torn.read_bytes()
    for rest in (content[:-7], content[:-30] + bytes(30), content + bytes(4096)):
        torn.write_bytes(rest)
        attempt(50, [60, 70, 80])
        assert steps_of(tmp_path) == [10, 20, 30, 40, 50, 60, 70, 80]


def test_what_is_no_point_of_a_curve_is_left_out(attempt, tmp_path):
    """Unknown, or too large for TensorBoard's numbers, or not meant to be one."""
    values = {"known": -2.5, "count": 2**62, "none": None, "huge": 1e300, "hidden": 1.0}
    attempt(0, [7, 10**18 - 1], values, file_only=["hidden"])
    curves = curves_of(tmp_path)
    assert curves.keys() == {"known", "count"}
    assert curves["known"] == [(7, -2.5), (10**18 - 1, -2.5)]
    assert curves["count"][0] == (7, float(2**62))


def test_nothing_to_show_makes_no_file(attempt, tmp_path):
    """A trainer that measures nothing yet has no folder of curves."""
    attempt(0, [1], {"loss": None})
    assert not names_in(tmp_path)


def test_a_curve_may_have_any_name_that_a_metric_has(open_session):
    """Those of other languages, with signs of all kinds, and long ones."""
    session = open_session()
    names = ["train/loss", "Größe [m²]", "a b:c\\d\"e'", "测", "x" * 200, "../../up"]
    session.progress(3)
    session.log(dict.fromkeys(names, 1.5))
    assert curves_of(session.folder.path) == {name: [(3, 1.5)] for name in names}


def test_a_long_curve_grows_ever_more_slowly(attempt, tmp_path, monkeypatch):
    """However often a trainer logs, the disk is not filled; each attempt shows where it began."""
    monkeypatch.setattr(sinks, "CURVES_THIN_BYTES", 10_000)
    attempt(0, range(1, 10_001))
    size = sum(path.stat().st_size for path in (tmp_path / "tensorboard").iterdir())
    assert 50_000 < size < 70_000
    steps = steps_of(tmp_path)
    assert steps[:100] == list(range(1, 101))
    assert steps[-1] > 9900
    attempt(10_000, range(10_001, 10_010))
    assert steps_of(tmp_path)[-1] == 10_001


def test_of_several_kinds_of_lines_each_is_thinned_for_itself(tmp_path, monkeypatch):
    """A trainer that logs its loss and its score in turn shows both to the end."""
    monkeypatch.setattr(sinks, "CURVES_THIN_BYTES", 10_000)
    curves = sinks.Curves(tmp_path / "tensorboard", 0)
    for step in range(1, 2001):
        for name in ("loss", "score"):
            curves.write(sinks.Line(step, 86_400.0, {"step": step}, {name: float(step)}, ()))
    told = curves_of(tmp_path)
    assert [curve[-1][0] > 1900 for curve in (told["loss"], told["score"])] == [True, True]


def in_the_way(folder):
    folder.write_text("not a folder")


def linked(folder):
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to("elsewhere")


@pytest.mark.parametrize("damage", [in_the_way, linked])
def test_where_no_curve_can_be_kept_the_training_goes_on(open_session, damage):
    """It is told once; the metrics are kept, and nothing is written through a link."""
    session = open_session()
    damage(session.folder.tensorboard)
    for step in range(1, 4):
        session.progress(step)
        session.log({"loss": 0.5})
    assert len(session.folder.metrics.read_bytes().splitlines()) == 3
    beat = msgspec.json.decode(session.folder.heartbeat.read_bytes(), type=Heartbeat)
    assert beat.notices == ("the curves of TensorBoard are not kept: tensorboard is not a folder",)
    assert session.folder.tensorboard.is_symlink() or session.folder.tensorboard.is_file()


def test_a_folder_that_somebody_removes_is_made_again(open_session):
    """From there on there is a curve, and every step of it once."""
    session = open_session()
    for step in range(1, 7):
        session.progress(step)
        session.log({"loss": 0.5})
        if step == 3:
            (path,) = session.folder.tensorboard.iterdir()
            path.unlink()
            session.folder.tensorboard.rmdir()
    assert steps_of(session.folder.path) == [4, 5, 6]


def test_a_disk_that_is_full_for_a_while_leaves_a_gap(open_session, monkeypatch):
    """What it took of a point is taken back; the curve goes on when there is room again."""
    session = open_session()
    write, room = os.write, sys.maxsize

    def limited(handle, content):
        if write(handle, content[:room]) == len(content):
            return len(content)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step, room in ((1, 10), (2, sys.maxsize), (3, 20), (4, 0), (5, sys.maxsize)):  # noqa: B007
        session.progress(step)
        with monkeypatch.context() as patch:
            patch.setattr(durable.os, "write", limited)
            session.log({"loss": 0.5})
    assert steps_of(session.folder.path) == [2, 5]


def test_a_light_trainer_stays_light(make_run):
    """It has its curves, and imports neither TensorBoard nor anything numeric for them."""
    run = make_run(target_steps=150)
    code = (
        "import sys; from pathlib import Path; from trainers import attempt\n"
        "assert attempt.run(Path(sys.argv[1]), 'drill') == 0\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run], capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.splitlines()[-1].split())
    assert not {"torch", "tensorboard", "numpy", "google"} & imported
    assert curves_of(run).keys() == {"return_mean", "loss"}
