"""What the kernel is asked to tell of a folder."""

import contextlib
import errno
import os
import re
import signal
from pathlib import Path

import pytest

from supervisor.host.watch import REQUESTS, SETTINGS, Watch
from testkit.patience import PATIENCE_S

# From <sys/inotify.h>.
MODIFY, CLOSE_WRITE, CLOSE_NOWRITE, OPEN, MOVED_TO, DELETE = 0x2, 0x8, 0x10, 0x20, 0x80, 0x200


@pytest.fixture
def watch():
    """A watch at work; afterwards signals mean what they did."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    handlers = {number: signal.getsignal(number) for number in numbers}
    watch = Watch()
    watch.begin()
    yield watch
    watch.end()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def masks():
    """The events of every inotify watch of this process."""
    found = []
    for path in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of this very listing is gone
            found += re.findall(r"^inotify .*\bmask:(\w+)", path.read_text(), re.MULTILINE)
    return [int(mask, 16) for mask in found]


@pytest.mark.parametrize(
    ("interest", "asked"),
    [(REQUESTS, CLOSE_WRITE | MOVED_TO), (SETTINGS, CLOSE_WRITE | MOVED_TO | DELETE)],
    ids=["requests", "settings"],
)
def test_readers_and_growing_logs_wake_nobody(watch, tmp_path, interest, asked):
    """Whoever reads the home, and every line of a log in it, costs the daemon nothing."""
    before = len(masks())
    watch.files({tmp_path: interest})
    (mask,) = masks()[before:]
    assert mask & asked == asked
    assert not mask & (OPEN | CLOSE_NOWRITE | MODIFY)


@pytest.mark.parametrize("how", ["written", "moved", "removed"])
def test_settings_that_change_in_any_way_wake(watch, tmp_path, how):
    """Written in place, moved over the old file as editors do, or removed."""
    path, other = tmp_path / "supervisor.toml", tmp_path / "4913"
    path.write_text("")
    watch.files({tmp_path: SETTINGS})
    if how == "written":
        path.write_text("tick_s = 1")
    elif how == "moved":
        other.write_text("tick_s = 1")
        other.replace(path)
    else:
        path.unlink()
    assert watch.sleep(PATIENCE_S, ()) == "settings"


def test_what_ends_and_what_answers_are_told_apart(watch):
    """An answer may be worth no look; the end of a trainer always is."""
    (ended, ends), (answered, answers) = os.pipe(), os.pipe()
    try:
        os.write(answers, b"!")
        assert watch.sleep(PATIENCE_S, (ended,), (answered,)) == "answer"
        os.write(ends, b"!")
        assert watch.sleep(PATIENCE_S, (ended,), (answered,)) == "answer+exit"
        os.read(answered, 1)
        assert watch.sleep(PATIENCE_S, (ended,), (answered,)) == "exit"
    finally:
        for handle in (ended, ends, answered, answers):
            os.close(handle)


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "no more instances"), RuntimeError("can't start new thread")]
)
def test_files_that_cannot_be_watched_cost_a_sentence(watch, tmp_path, monkeypatch, error):
    """The daemon looks regularly all the same; with room again they wake it as ever."""

    def none_left():
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("supervisor.host.watch.Observer", none_left)
        assert not watch.files({tmp_path: REQUESTS})
        assert watch.trouble in str(error)
        assert watch.sleep(0.0, ()) == "time"
    assert watch.files({tmp_path: REQUESTS})
    assert watch.trouble is None
    (tmp_path / "a.json").touch()
    assert watch.sleep(PATIENCE_S, ()) == "request"


def test_tries_that_failed_leave_nothing_behind(watch, tmp_path, monkeypatch):
    """However often a folder could not be watched, one change in it wakes once."""
    with monkeypatch.context() as patch:

        def fail(*arguments):
            raise OSError(errno.ENOSPC, "inotify watch limit reached")

        patch.setattr("watchdog.observers.inotify.InotifyEmitter.on_thread_start", fail)
        for _ in range(3):
            assert not watch.files({tmp_path: REQUESTS})
        assert watch.trouble
    assert watch.files({tmp_path: REQUESTS})
    assert watch.trouble is None
    (handlers,) = watch._observer._handlers.values()
    assert len(handlers) == 1
