"""All checkpoints of a run are told, wherever they lie."""

import shutil

import msgspec
import pytest
from trainer_lives import write_spec

from trainers import history
from trainers.checkpoint import Checkpoints, Manifest
from trainers.contract import History, Score
from trainers.history import listed


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has not trained yet."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_spec(folder)
    return folder


def save(run, step, *, score=None, content=b"weights"):
    manifest = Manifest(
        run="run",
        trainer="drill",
        mode="light",
        step=step,
        episodes=step // 10,
        score=None if score is None else Score(name="return_mean", value=float(score)),
        saved_at=float(step),
    )
    return Checkpoints(run / "checkpoints").save(manifest, [("a.bin", content), ("b.bin", b"")])


def told(run, *, verified=False):
    return {one.checkpoint: one for one in listed(run, verified=verified).checkpoints}


def test_each_is_told_with_what_it_says_of_itself(run):
    """Which is the newest, and which the best."""
    for step, score in ((100, 1), (200, 9), (300, 4)):
        save(run, step, score=score)
    known = told(run)
    assert list(known) == ["100", "200", "300"]
    assert [name for name, one in known.items() if one.newest] == ["300"]
    assert [name for name, one in known.items() if one.best] == ["200"]
    one = known["200"]
    assert (one.step, one.episodes, one.saved_at, one.mode) == (200, 20, 200.0, "light")
    assert (one.score.value, one.size_bytes, one.whole, one.reason) == (9.0, 7, True, None)


def test_a_run_without_any_has_none(run):
    """Neither a missing folder nor what a killed write has left is a checkpoint."""
    assert told(run) == {}
    save(run, 100)
    (run / "checkpoints" / ".200.7.new").mkdir()
    (run / "checkpoints" / "notes.txt").write_text("mine")
    assert list(told(run)) == ["100"]


def test_one_that_is_pruned_meanwhile_is_not_told(run, monkeypatch):
    """In whichever moment that is."""
    look = history._size_bytes
    save(run, 100)

    def pruned(path):
        (path / "a.bin").unlink()
        known = look(path)
        shutil.rmtree(path)
        return known + look(path)

    monkeypatch.setattr(history, "_size_bytes", pruned)
    assert told(run) == {}


def test_what_lies_aside_is_told_with_the_reason(run):
    """Damaged ones and those that were withheld are neither the newest nor the best."""
    save(run, 100, score=1)
    save(run, 200, score=5)
    checkpoints = Checkpoints(run / "checkpoints")
    checkpoints.withhold([200])
    path = save(run, 150, score=9).path
    path.rename(path.with_name("damaged-150"))
    known = told(run)
    assert list(known) == ["100", "damaged-150", "withheld-200"]
    assert known["100"].newest
    assert known["100"].best
    assert (known["withheld-200"].aside, known["withheld-200"].whole) == ("withheld", True)
    assert "died" in known["withheld-200"].reason
    assert (known["damaged-150"].aside, known["damaged-150"].whole) == ("damaged", False)


def test_a_changed_byte_is_found_by_whoever_reads_all(run):
    """A look at sizes cannot see it; a file that is shorter it sees."""
    save(run, 100)
    path = save(run, 200).path
    (path / "a.bin").write_bytes(b"WEIGHTS")
    assert told(run)["200"].whole
    seen = told(run, verified=True)
    assert not seen["200"].whole
    assert "checksum" in seen["200"].reason
    assert seen["100"].newest
    (path / "a.bin").write_bytes(b"short")
    seen = told(run)
    assert "5 bytes instead of 7" in seen["200"].reason
    assert seen["100"].newest


def test_one_of_a_newer_version_is_neither_whole_nor_damaged(run):
    """Only that version knows."""
    save(run, 100)
    path = save(run, 200).path
    (path / "manifest.json").write_text('{"version": 9}')
    one = told(run)["200"]
    assert one.whole is None
    assert "newer version" in one.reason


def test_it_is_told_as_json(run, start):
    """A process of its own tells it, for the supervisor."""
    save(run, 100)
    code, said, errors = start(run, "drill", "--checkpoints", "--verify").end()
    assert (code, errors) == (0, "")
    known = msgspec.json.decode(said, type=History)
    assert known.verified
    assert [one.checkpoint for one in known.checkpoints] == ["100"]
