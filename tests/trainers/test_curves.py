"""What TensorBoard shows of a run, and what it loads: one curve, and nothing that is packed."""

import zipfile

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainers.atari import learner as atari_learner
from trainers.contract import RunFolder


class Life:
    """As much of a session as a curve needs."""

    def __init__(self, run, step):
        self.folder = RunFolder(run)
        self.step = step


def write(run, began, steps):
    """A life that goes on from step `began`, and writes until it is killed: nothing is closed."""
    curve = atari_learner._TensorBoard(Life(run, began))
    for step in steps:
        values = {"rollout/return_mean": float(step), "hidden": 1.0}
        curve.write(values, {"rollout/return_mean": (), "hidden": ("tensorboard",)}, step)
    return curve


def curve_of(run):
    """The curve as TensorBoard reads it."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["rollout/return_mean"]
    return [(event.step, event.value) for event in events.Scalars("rollout/return_mean")]


def test_all_lives_make_one_curve(tmp_path):
    """Steps that a kill has cost are shown as they were made again, and none runs back."""
    for began, steps in (
        (0, range(100, 501, 100)),
        (300, range(350, 451, 50)),
        (450, range(500, 601, 50)),
    ):
        write(tmp_path, began, steps)
    whole = [100, 200, 300, 350, 400, 450, 500, 550, 600]
    assert curve_of(tmp_path) == [(step, float(step)) for step in whole]


def test_a_run_that_begins_anew_shows_its_new_curve(tmp_path):
    """All checkpoints are lost: what was shown was never reached."""
    write(tmp_path, 0, range(100, 501, 100))
    write(tmp_path, 0, range(150, 451, 150))
    assert [step for step, _ in curve_of(tmp_path)] == [150, 300, 450]


def test_what_torch_saves_is_loaded_and_what_is_packed_is_not(tmp_path):
    """A few kilobytes of a zip archive can hold gigabytes, which torch would unpack."""
    path = tmp_path / "state.pt"
    torch.save({"weights": torch.zeros(100_000)}, path)
    atari_learner._refuse_packed(path)
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in whole.infolist():
            packed.writestr(part.filename, whole.read(part))
    with pytest.raises(ValueError, match="packed"):
        atari_learner._refuse_packed(bomb)
    bomb.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not what torch saves"):
        atari_learner._refuse_packed(bomb)
