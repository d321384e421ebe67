"""What a run that is done has left is said once, with hashes of what is really there."""

import hashlib

import pytest
from test_checkpoint import save

from trainers import left
from trainers.checkpoint import Checkpoints
from trainers.contract import RunFolder


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


@pytest.fixture
def checkpoints(run):
    return Checkpoints(run.checkpoints)


def told(run, checkpoints):
    left.tell(run, checkpoints)
    return [line.split("  ") for line in run.sums.read_text().splitlines()]


def test_without_files_of_its_own_a_run_leaves_its_best_checkpoint(run, checkpoints):
    """In the order in which they were saved; each time anew, for it may have gone on."""
    save(checkpoints, 1, score=9.0, content=b"best")
    save(checkpoints, 2, score=1.0)
    (sha256, name), (_, second) = told(run, checkpoints)
    assert (name, second) == ("checkpoints/1/a.bin", "checkpoints/1/b.bin")
    assert sha256 == hashlib.sha256((run.path / name).read_bytes()).hexdigest()
    save(checkpoints, 3, score=10.0)
    assert told(run, checkpoints)[0][1] == "checkpoints/3/a.bin"


def test_what_is_damaged_is_not_left(run, checkpoints):
    """All that is named was read before."""
    (save(checkpoints, 1, score=9.0).path / "a.bin").write_bytes(b"bent")
    save(checkpoints, 2, score=1.0)
    assert told(run, checkpoints)[0][1] == "checkpoints/2/a.bin"


def test_what_a_trainer_says_itself_stands(run, checkpoints):
    """It knows better what it was trained for."""
    save(checkpoints, 1)
    run.sums.write_text(f"{'a' * 64}  model.txt\n")
    assert told(run, checkpoints) == [["a" * 64, "model.txt"]]
