"""Checkpoints that are written beside the training."""

import errno
import os
import threading

import msgspec
import pytest
from trainer_lives import PATIENCE_S, write_spec

from trainers.attempt import read_spec
from trainers.contract import EXIT_DONE, Heartbeat, RunFolder
from trainers.session import Session


class Slow:
    """Files that take until they are let go."""

    def __init__(self, error=None):
        self._go = threading.Event()
        self._error = error

    def __iter__(self):
        yield "first.bin", b"weights"
        assert self._go.wait(PATIENCE_S)
        if self._error:
            raise self._error
        yield "second.bin", b"games"

    def let_go(self):
        self._go.set()


@pytest.fixture
def clock():
    return iter(range(1000, 10**9))


@pytest.fixture
def session(tmp_path, clock):
    """A session with one checkpoint, and a clock that moves whenever it is read."""
    run = tmp_path / "run"
    run.mkdir()
    write_spec(run, checkpoint_interval_s=1.0, target_steps=1000)
    folder = RunFolder(run)
    session = Session(folder, read_spec(folder), monotonic_s=lambda: float(next(clock)))
    session.progress(1)
    session.save([("first.bin", b"weights")])
    return session


def beat_of(session):
    return msgspec.json.decode(session.folder.heartbeat.read_bytes(), type=Heartbeat)


def until_settled(session):
    session._writing.exception(PATIENCE_S)


def test_training_goes_on_while_a_checkpoint_is_written(session):
    """Nothing counts as saved before it is on the disk; then the next heartbeat says so."""
    slow = Slow()
    session.progress(2)
    assert session.checkpoint_due()
    assert not session.save(slow, wait=False)
    session.progress(3)
    assert not session.checkpoint_due()
    beat = beat_of(session)
    assert (beat.step, beat.checkpoint_step, beat.checkpoints) == (3, 1, 1)
    slow.let_go()
    until_settled(session)
    session.progress(4)
    beat = beat_of(session)
    assert (beat.step, beat.checkpoint_step, beat.checkpoints) == (4, 2, 2)
    assert session.checkpoint_due()


def test_a_disk_that_is_slower_than_the_interval_is_told_once(session, clock):
    """Training goes on beside it, and a person hears why a crash would lose more."""
    slow = Slow()
    session.progress(2)
    session.save(slow, wait=False)
    assert not session.checkpoint_due()
    assert not beat_of(session).notices
    for _ in range(20):
        next(clock)
    for step in (3, 4):
        assert not session.checkpoint_due()
        session.progress(step)
    (notice,) = beat_of(session).notices
    assert notice.startswith("the disk is slow")
    slow.let_go()
    until_settled(session)
    session.progress(5)
    assert beat_of(session).checkpoint_step == 2


def test_a_disk_that_fails_beside_the_training_costs_a_notice(session):
    """The error of the thread is told by the session, and the next try comes an interval later."""
    slow = Slow(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    session.progress(2)
    session.save(slow, wait=False)
    slow.let_go()
    until_settled(session)
    session.progress(3)
    beat = beat_of(session)
    assert (beat.checkpoint_step, beat.status) == (1, "running")
    assert "No space left" in beat.notices[-1]
    assert session.save([("first.bin", b"weights")])
    assert "can be written to again" in beat_of(session).notices[-1]


def test_the_end_waits_for_what_is_being_written(session):
    """A run whose last checkpoint is in the thread is done when that is on the disk."""
    slow = Slow()
    session.progress(1000)
    session.save(slow, wait=False)
    threading.Timer(0.05, slow.let_go).start()
    assert session.finish() == EXIT_DONE
    assert beat_of(session).checkpoint_step == 1000


def test_the_next_checkpoint_waits_for_the_one_before(session):
    """Two checkpoints are never written at once, and both are kept."""
    slow = Slow()
    session.progress(2)
    session.save(slow, wait=False)
    session.progress(3)
    threading.Timer(0.05, slow.let_go).start()
    assert session.save([("first.bin", b"weights")])
    steps = {path.name for path in session.folder.checkpoints.iterdir()}
    assert steps == {"1", "2", "3"}


def test_a_bug_in_the_thread_ends_the_training(session):
    """What is no failure of the disk is not passed over."""
    slow = Slow(ZeroDivisionError())
    session.save(slow, step=2, wait=False)
    slow.let_go()
    until_settled(session)
    with pytest.raises(ZeroDivisionError):
        session.progress(3)
